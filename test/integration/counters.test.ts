/**
 * Honest counters: what was sent is what was delivered, what waits and what was dropped and counted, exactly. Judged
 * without a kill, where nothing is unknown.
 */
import type { Socket } from 'node:net'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { checkHistory, describeViolations } from '../support/checker.ts'
import { History, messageId, readStamp, stampPayload } from '../support/history.ts'
import { type Metrics, readMetrics } from '../support/metrics.ts'
import { Program } from '../support/program.ts'
import { seededRandom } from '../support/random.ts'
import { type Inbound, RawClient } from '../support/raw-client.ts'
import { Workload } from '../support/workload.ts'
import { openAmqp } from '../support/workload-amqp.ts'

const COUNT = 6_000
/** More in all than the kernel buffers for a peer that does not read. */
const BYTES = 3_000

let program: Program

beforeEach(async () => {
  program = await Program.start()
})

afterEach(async () => {
  await program.remove()
})

async function connected(clientId: string): Promise<RawClient> {
  const client = new RawClient({ clientId, version: 4, clean: true })
  await client.connect(program.port('mqtt'))
  return client
}

/** Publishes `COUNT` messages of QoS 0, and waits until the broker has read them all. */
async function flood(history: History): Promise<void> {
  const publisher = await connected('flood')
  for (let seq = 0; seq < COUNT; seq++) {
    const id = messageId('flood', seq)
    history.record({ f: 'pub', type: 'invoke', proc: 'flood', flow: 'flood', seq, id, qos: 0 })
    publisher.publish('flood', stampPayload(history.run, 'flood', 'flood', seq, BYTES), { qos: 0 })
  }
  const read = new Promise<void>(resolve => {
    publisher.onPong = resolve
  })
  publisher.ping()
  await read
  await publisher.end()
}

/** The metrics when the broker has counted what a vanished connection left in its buffer. */
async function afterClose(): Promise<Metrics> {
  const lost = async () => dropped(await readMetrics(program), 'closed')
  await expect.poll(lost, { timeout: 10_000 }).toBeGreaterThan(0)
  return await readMetrics(program)
}

function dropped(metrics: Metrics, ...reasons: string[]): number {
  return reasons.reduce((sum, reason) => sum + metrics.sum('messages_dropped_total', { reason }), 0)
}

it('counts every message of the mixed load once in and once out, and no drops', async () => {
  const history = new History('counters')
  const workload = new Workload(history, seededRandom(1))
  await workload.connect({ mqtt: program.port('mqtt'), amqp: program.port('amqp') }, true)
  workload.start()
  await new Promise(resolve => setTimeout(resolve, 600))
  await workload.drain()
  const metrics = await readMetrics(program)
  const owners = [
    'session-one',
    'session-two',
    'session-two-v3',
    'sleeper',
    'load.topic',
    'load.direct'
  ]
  for (const proc of owners) {
    history.record({ f: 'count', type: 'info', proc, value: 0 })
    history.record({ f: 'waiting', type: 'info', proc, value: 0 })
  }
  await workload.end()
  expect(describeViolations(checkHistory(history.events).violations)).toBe('')
  const { events } = history
  const sets = events.filter(({ f, type }) => f === 'set' && type === 'invoke').length
  expect(metrics.sum('messages_received_total')).toBe(workload.count + sets)
  const received = events.filter(({ f }) => f === 'recv').length
  expect(metrics.sum('messages_sent_total')).toBe(received + workload.retainedRead)
  expect(dropped(metrics, 'queue_full', 'closed', 'slow_consumer', 'damaged', 'memory')).toBe(0)
  expect(metrics.sum('messages_ready')).toBe(0)
  expect(metrics.sum('messages_unacked')).toBe(0)
})

it('counts what it drops for a subscriber that does not read, and delivers the rest', async () => {
  const history = new History('slow')
  const slow = await connected('slow')
  history.record({ f: 'sub', type: 'invoke', proc: 'slow', flow: 'flood', qos: 0 })
  let received = 0
  slow.onMessage = ({ payload, dup }: Inbound) => {
    const { flow, seq, intact } = readStamp(payload)
    received++
    const id = messageId(flow, seq)
    history.record({ f: 'recv', type: 'ok', proc: 'slow', flow, seq, id, dup, intact })
  }
  await slow.subscribe('flood', 0)
  history.record({ f: 'sub', type: 'ok', proc: 'slow', flow: 'flood', qos: 0 })
  slow.pause()
  await flood(history)
  slow.resume()
  await expect
    .poll(async () => received + dropped(await readMetrics(program), 'slow_consumer'), {
      timeout: 10_000
    })
    .toBe(COUNT)
  const metrics = await readMetrics(program)
  const value = dropped(metrics, 'slow_consumer')
  expect(value).toBeGreaterThan(0)
  history.record({ f: 'count', type: 'info', proc: 'slow', value })
  expect(describeViolations(checkHistory(history.events).violations)).toBe('')
  expect(metrics.sum('messages_sent_total')).toBe(received)
  await slow.end()
})

it('counts what lay in its buffer when a subscriber vanished', async () => {
  const history = new History('vanish')
  const slow = await connected('vanish')
  await slow.subscribe('flood', 0)
  slow.pause()
  await flood(history)
  slow.destroy()
  const total = (metrics: Metrics) =>
    metrics.sum('messages_sent_total') + dropped(metrics, 'closed', 'slow_consumer')
  expect(total(await afterClose())).toBe(COUNT)
})

it('counts what lay in its buffer when a consumer without acknowledgements vanished', async () => {
  const connection = await openAmqp(program.port('amqp'))
  const channel = await connection.createChannel()
  await channel.assertQueue('unacked', { durable: false })
  await channel.bindQueue('unacked', 'amq.topic', 'flood')
  await channel.consume('unacked', () => undefined, { noAck: true })
  const { stream } = connection.connection as unknown as { stream: Socket }
  // amqplib reads when the stream says that it can: a paused stream would still be read.
  stream.removeAllListeners('readable')
  stream.pause()
  await flood(new History('no-ack'))
  stream.destroy()
  const total = (metrics: Metrics) =>
    metrics.sum('messages_sent_total') +
    dropped(metrics, 'closed', 'slow_consumer') +
    metrics.sum('messages_ready')
  expect(total(await afterClose())).toBe(COUNT)
})

it('counts what a bounded queue pushes out at its head, and keeps its newest', async () => {
  const connection = await openAmqp(program.port('amqp'))
  const channel = await connection.createConfirmChannel()
  await channel.assertQueue('small', { durable: true, maxLength: 10 })
  for (let number = 0; number < 50; number++) {
    channel.sendToQueue('small', Buffer.from(String(number)), { persistent: true })
  }
  await channel.waitForConfirms()
  expect((await channel.checkQueue('small')).messageCount).toBe(10)
  expect(dropped(await readMetrics(program), 'queue_full')).toBe(40)
  const oldest = await channel.get('small', { noAck: true })
  expect(oldest && String(oldest.content)).toBe('40')
  await connection.close()
})
