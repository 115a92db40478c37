/**
 * A long backlog in one durable queue: memory while it grows, the rate at its end, a crash and the start behind it, and
 * the drain in order over AMQP; then the same with a lasting MQTT session.
 * From the project's root: node test/bench/backlog.mjs [messages] [messages of the session]
 * Needs Linux, a built project, and 3 GB of disk where the folder of temporary files is (or in $MOTEMQ_BENCH_DIR).
 */
import { createRequire } from 'node:module'
import { Broker, count, MB, met, pause, restingRss, table, until } from './broker.mjs'
import { AmqpConsumer } from './amqp.mjs'
import { MqttClient, NumberedPublisher } from './mqtt.mjs'

const MESSAGES = Number(process.argv[2] ?? 5_000_000)
const SESSION_MESSAGES = Number(process.argv[3] ?? 1_000_000)
const PAYLOAD_BYTES = 100
const WINDOW = 2_000
const PREFETCH = 1_000
const PIECES = 5
/** Node itself, and what the broker may add: journal.md §6. */
const MEMORY_GOAL = 140 * MB
/** Spare segments, and what the checkpoints that are kept still need. */
const KEPT_DISK_BYTES = 300 * MB

const require = createRequire(import.meta.url)
const head = name => [name, 'figure', 'goal', 'met']

/** A row whose figure is to be at most `goal`. */
const atMost = (name, value, unit, goal, digits = 1) => [
  name,
  `${value.toFixed(digits)} ${unit}`,
  `${goal} ${unit}`,
  met(value <= goal)
]

/** Publishes all in pieces of a million or so; returns the first and the last piece's rate and CPU. */
async function publish(broker, topic, messages) {
  const rows = [['published with QoS 1', 'messages/s', 'CPU µs a message', 'MB']]
  const client = await new MqttClient(broker.ports['mqtt']).open('publisher')
  const publisher = new NumberedPublisher(client, topic, PAYLOAD_BYTES, WINDOW)
  const pieces = []
  for (let piece = 1; piece <= PIECES; piece++) {
    const total = Math.round((messages / PIECES) * piece)
    const share = total - publisher.sent
    const cpu = broker.cpu()
    const began = performance.now()
    await publisher.upTo(total)
    const rate = (share / (performance.now() - began)) * 1_000
    const us = ((broker.cpu() - cpu) / share) * 1e6
    pieces.push({ rate, us })
    rows.push([`up to ${count(total)}`, count(rate), us.toFixed(2), (broker.rss() / MB).toFixed(1)])
  }
  await client.close()
  table(rows)
  process.stdout.write('\n')
  return { first: pieces[0], last: pieces[PIECES - 1] }
}

/** Counts what comes in order, from `next` on. */
class InOrder {
  constructor(next) {
    this.next = next
    this.wrong = 0
  }

  take(number) {
    if (number === this.next) this.next++
    else this.wrong++
  }
}

/** Runs `drain`; returns the row's rate, CPU and memory. */
async function measured(broker, name, messages, drain) {
  broker.forgetPeak()
  const cpu = broker.cpu()
  const began = performance.now()
  await drain()
  const rate = (messages / (performance.now() - began)) * 1_000
  const us = ((broker.cpu() - cpu) / messages) * 1e6
  return [name, count(rate), us.toFixed(2), (broker.peak() / MB).toFixed(1), rate]
}

async function drainWithAmqplib(broker, order, upTo) {
  const amqplib = require('amqplib')
  const connection = await amqplib.connect(`amqp://127.0.0.1:${broker.ports['amqp']}`)
  const channel = await connection.createChannel()
  await channel.prefetch(PREFETCH)
  await new Promise(resolve => {
    void channel.consume('backlog', message => {
      // What the channel still holds at its end goes back to the queue.
      if (message === null || order.next >= upTo) return
      order.take(message.content.readUInt32BE(0))
      channel.ack(message)
      if (order.next >= upTo || order.wrong > 0) resolve(undefined)
    })
  })
  // Behind its acknowledgements: the connection's own frames may overtake them.
  await channel.close()
  await connection.close()
}

async function drainRaw(broker, order, upTo) {
  const consumer = await new AmqpConsumer(broker.ports['amqp']).open()
  consumer.onMessage = body => order.take(body.readUInt32BE(0))
  await consumer.consume('backlog', PREFETCH)
  await until(() => order.next >= upTo || order.wrong > 0, 'the drain', 600_000)
  // The last acknowledgements are on their way.
  await until(async () => (await broker.metric('motemq_messages_unacked')) === 0, 'the last acks')
  consumer.close()
}

async function restart(broker, rows, name) {
  await broker.stop('SIGKILL')
  await broker.start()
  rows.push(atMost(`ready after kill -9, ${name}`, broker.readyMs / 1_000, 's', 15, 2))
  rows.push(
    atMost(`memory after it, ${name}`, (await restingRss(broker)) / MB, 'MB', MEMORY_GOAL / MB)
  )
  return broker.metric('motemq_messages_ready')
}

async function emptyAndSmall(broker, rows, fullBytes) {
  // Acknowledgements wait for nobody: they are written and synced a second later.
  await pause(1_500)
  const left = await broker.metric('motemq_messages_ready')
  rows.push(['waiting at the end', count(left), '0', met(left === 0)])
  // Segments are given back by the checkpoints that no longer need them.
  const goal = Math.max(fullBytes / 4, KEPT_DISK_BYTES)
  for (let i = 0; i < 40 && broker.diskBytes() > goal; i++) await pause(250)
  const name = `disk then (full: ${(fullBytes / MB).toFixed(0)} MB)`
  rows.push(atMost(name, broker.diskBytes() / MB, 'MB', Math.round(goal / MB), 0))
  const again = await restart(broker, rows, 'empty')
  rows.push(['waiting after it', count(again), '0', met(again === 0)])
}

async function queue() {
  const config = 'queues:\n  - name: backlog\n    bindings: ["backlog"]\n'
  const broker = await new Broker(config).start()
  broker.forgetPeak()
  const { first, last } = await publish(broker, 'backlog', MESSAGES)
  const rows = [head(`${count(MESSAGES)} × ${PAYLOAD_BYTES} bytes in a durable queue`)]
  rows.push(atMost('memory, the highest', broker.peak() / MB, 'MB', MEMORY_GOAL / MB))
  rows.push(atMost('memory at rest', (await restingRss(broker)) / MB, 'MB', MEMORY_GOAL / MB))
  const percent = (last.rate / first.rate) * 100
  rows.push([
    'rate of the last piece beside the first',
    `${percent.toFixed(0)} %`,
    '80 %',
    met(percent >= 80)
  ])
  rows.push([
    'CPU of the last piece beside the first',
    `${((last.us / first.us) * 100).toFixed(0)} %`,
    '',
    ''
  ])
  const fullBytes = broker.diskBytes()
  const ready = await restart(broker, rows, 'full')
  rows.push(['waiting after it', count(ready), count(MESSAGES), met(ready === MESSAGES)])

  const order = new InOrder(0)
  const some = Math.round(MESSAGES / PIECES)
  const drains = [['drained, each acknowledged', 'messages/s', 'CPU µs a message', 'highest MB']]
  drains.push(
    await measured(broker, `the first ${count(some)} by amqplib`, some, () =>
      drainWithAmqplib(broker, order, some)
    )
  )
  const rest = MESSAGES - order.next
  drains.push(
    await measured(broker, 'the rest by a plain socket', rest, () =>
      drainRaw(broker, order, MESSAGES)
    )
  )
  const rate = drains[2][4]
  rows.push([
    'drained in order',
    count(order.next),
    count(MESSAGES),
    met(order.wrong === 0 && order.next === MESSAGES)
  ])
  rows.push(['drained a second (plain socket)', count(rate), '50,000', met(rate >= 50_000)])
  const peak = Math.max(Number(drains[1][3]), Number(drains[2][3]))
  rows.push(atMost('memory while draining, the highest', peak, 'MB', MEMORY_GOAL / MB))
  await emptyAndSmall(broker, rows, fullBytes)
  broker.cleanUp()
  table(drains.map(row => row.slice(0, 4)))
  process.stdout.write('\n')
  table(rows)
}

async function session() {
  const config = `limits:\n  sessionMessagesMax: ${SESSION_MESSAGES + 1_000}\n  sessionBytesMax: 1 GiB\n`
  const broker = await new Broker(config).start()
  const subscriber = await new MqttClient(broker.ports['mqtt']).open('reader', { isClean: false })
  await subscriber.subscribe(['backlog'], 1)
  await subscriber.close()
  broker.forgetPeak()
  await publish(broker, 'backlog', SESSION_MESSAGES)
  const rows = [head(`${count(SESSION_MESSAGES)} × ${PAYLOAD_BYTES} bytes in an offline session`)]
  rows.push(atMost('memory, the highest', broker.peak() / MB, 'MB', MEMORY_GOAL / MB))
  const fullBytes = broker.diskBytes()
  await restart(broker, rows, 'full')
  const order = new InOrder(0)
  const drains = [['drained, each acknowledged', 'messages/s', 'CPU µs a message', 'highest MB']]
  drains.push(
    await measured(broker, 'by one MQTT subscriber', SESSION_MESSAGES, async () => {
      const reader = new MqttClient(broker.ports['mqtt'])
      reader.onPublish = (buffer, _start, end) =>
        order.take(buffer.readUInt32BE(end - PAYLOAD_BYTES))
      await reader.open('reader', { isClean: false })
      await until(() => order.next >= SESSION_MESSAGES || order.wrong > 0, 'the drain', 300_000)
      await until(
        async () => (await broker.metric('motemq_messages_unacked')) === 0,
        'the last PUBACKs'
      )
      await reader.close()
    })
  )
  rows.push([
    'drained in order',
    count(order.next),
    count(SESSION_MESSAGES),
    met(order.wrong === 0 && order.next === SESSION_MESSAGES)
  ])
  rows.push(['drained a second', count(drains[1][4]), '50,000', met(drains[1][4] >= 50_000)])
  rows.push(
    atMost('memory while draining, the highest', Number(drains[1][3]), 'MB', MEMORY_GOAL / MB)
  )
  await emptyAndSmall(broker, rows, fullBytes)
  broker.cleanUp()
  table(drains.map(row => row.slice(0, 4)))
  process.stdout.write('\n')
  table(rows)
}

if (MESSAGES > 0) await queue()
if (MESSAGES > 0 && SESSION_MESSAGES > 0) process.stdout.write('\n')
if (SESSION_MESSAGES > 0) await session()
