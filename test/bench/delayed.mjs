/**
 * Delayed messages: what a million of them take in memory, how late what is due leaves while they wait, a crash and
 * the start behind it, and many that are due at once.
 * From the project's root: node test/bench/delayed.mjs [messages]
 * Needs Linux, a built project, and 1 GB of disk where the folder of temporary files is (or in $MOTEMQ_BENCH_DIR).
 */
import { createRequire } from 'node:module'
import { Broker, count, MB, met, pause, restingRss, table, until } from './broker.mjs'

const MESSAGES = Number(process.argv[2] ?? 1_000_000)
const PROBES = 2_000
const AT_ONCE = 100_000
const PAYLOAD = Buffer.alloc(100, 0x78)
const WINDOW = 2_000
const HOUR = 3_600_000
const YEAR = 365 * 24 * HOUR

const require = createRequire(import.meta.url)
const amqplib = require('amqplib')

const rows = [
  [
    `${count(MESSAGES)} × ${PAYLOAD.length} bytes, delays of an hour to a year`,
    'figure',
    'goal',
    'met'
  ]
]
const atMost = (name, value, unit, goal, digits = 1) =>
  rows.push([name, `${value.toFixed(digits)} ${unit}`, `${goal} ${unit}`, met(value <= goal)])

const broker = await new Broker('').start()

async function open() {
  const connection = await amqplib.connect(`amqp://127.0.0.1:${broker.ports['amqp']}`)
  return { connection, channel: await connection.createConfirmChannel() }
}

/** Publishes `total` with persistent delivery; `delayOf(i)` says how long each waits. */
async function publish(channel, total, delayOf) {
  let open = 0
  let wake = null
  for (let i = 0; i < total; i++) {
    if (open >= WINDOW) await new Promise(resolve => (wake = resolve))
    open++
    const headers = { 'x-delay': delayOf(i) }
    channel.publish('later', 'k', PAYLOAD, { headers, persistent: true }, error => {
      if (error) throw error
      open--
      wake?.()
      wake = null
    })
  }
  await channel.waitForConfirms()
}

const delayedCount = () => broker.metric('motemq_exchange_messages_delayed')

let { connection, channel } = await open()
await channel.assertExchange('later', 'x-delayed-message', {
  durable: true,
  arguments: { 'x-delayed-type': 'direct' }
})
await channel.assertQueue('due', { durable: true })
await channel.bindQueue('due', 'later', 'k')
// Caches and buffers have their size before anything is compared.
await publish(channel, 20_000, () => HOUR)
const before = await restingRss(broker)

const began = performance.now()
const cpu = broker.cpu()
await publish(channel, MESSAGES, () => HOUR + Math.floor(Math.random() * YEAR))
const rate = (MESSAGES / (performance.now() - began)) * 1_000
rows.push(['taken a second, confirmed', count(rate), '', ''])
rows.push(['CPU µs each', (((broker.cpu() - cpu) / MESSAGES) * 1e6).toFixed(2), '', ''])
atMost('memory that they add', ((await restingRss(broker)) - before) / MB, 'MB', 60)

/** Random delays around a second: how late each is beside what its publisher asked for. */
async function probe(name) {
  const late = []
  const { consumerTag } = await channel.consume('due', message => {
    late.push(performance.now() - Number(message.content.toString()))
    channel.ack(message)
  })
  for (let i = 0; i < PROBES; i++) {
    const delay = 200 + Math.floor(Math.random() * 2_000)
    const body = Buffer.from(String(performance.now() + delay))
    channel.publish('later', 'k', body, { headers: { 'x-delay': delay }, persistent: true })
    if (i % 10 === 9) await pause(10)
  }
  await until(() => late.length === PROBES, 'what is due')
  await channel.cancel(consumerTag)
  late.sort((a, b) => a - b)
  rows.push([`${name}: late by, median`, `${late[PROBES / 2].toFixed(1)} ms`, '', ''])
  atMost(`${name}: late by, 99 %`, late[Math.floor(PROBES * 0.99)], 'ms', 50)
  rows.push([`${name}: late by, most`, `${late[PROBES - 1].toFixed(1)} ms`, '', ''])
}

await probe('while they wait')

await connection.close()
await broker.stop('SIGKILL')
await broker.start()
const kept = await delayedCount()
rows.push([
  'waiting after kill -9',
  count(kept),
  count(MESSAGES + 20_000),
  met(kept === MESSAGES + 20_000)
])
atMost('ready again', broker.readyMs / 1_000, 's', 15, 2)
atMost('memory then', (await restingRss(broker)) / MB, 'MB', 160)
;({ connection, channel } = await open())
// Acknowledgements of the last moments before the kill may be lost: what they ended has come back.
await channel.purgeQueue('due')
await probe('just after the start')
await probe('after the start')

// All due in one millisecond, or nearly.
const due = Date.now() + 20_000
await publish(channel, AT_ONCE, () => due - Date.now())
const left = due - Date.now()
let got = 0
let first = 0
const { consumerTag } = await channel.consume('due', message => {
  if (got++ === 0) first = performance.now()
  channel.ack(message)
})
await pause(Math.max(0, left - 200))
await until(() => got >= AT_ONCE, 'all of them')
rows.push([
  `${count(AT_ONCE)} due at once: delivered a second`,
  count((AT_ONCE / (performance.now() - first)) * 1_000),
  '',
  ''
])
await channel.cancel(consumerTag)
await connection.close()
await broker.stop()
broker.cleanUp()
table(rows)
