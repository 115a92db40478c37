/**
 * Growth: what a message costs the broker with 10, 100, 1,000 and 10,000 subscriptions, clients and queues, the load
 * being the same: 20 publishers, 1,000 messages under way, 64 bytes, topics in rotation.
 * From the project's root: node test/bench/growth.mjs [seconds a cell] [part of a row's name]
 * Needs Linux and a built project. CPU is that of all threads of the broker.
 */
import { Broker, met, pause, printRow, until } from './broker.mjs'
import { openClients, publishPacket } from './mqtt.mjs'

const SECONDS = Number(process.argv[2] ?? 2)
const WANTED = process.argv[3] ?? ''
const SIZES = [10, 100, 1_000, 10_000]
const PUBLISHERS = 20
const WINDOW = 1_000
const PAYLOAD_BYTES = 64
/** Deliveries before the measurement: the code is compiled, the routes are known. */
const WARM = 200_000
const HOLDERS = 10
/** More than the routes that the broker remembers. */
const MANY_TOPICS = 20_000
/** So few that no entry of a queue has to go to the disk. */
const QUEUED_MAX = 450_000
const GROWTH_GOAL = 1.3

const range = length => Array.from({ length }, (_, i) => i)

/** Publishes in rotation while fewer than the window are under way. */
class Load {
  constructor(publishers, topics, qos, matches) {
    this.publishers = publishers
    this.packets = topics.map(topic => publishPacket(topic, Buffer.alloc(PAYLOAD_BYTES), qos))
    this.qos = qos
    this.matches = matches
    this.window = Math.max(PUBLISHERS, Math.round(WINDOW / Math.max(1, matches)))
    this.sent = 0
    this.received = 0
    this.max = Number.POSITIVE_INFINITY
    this.isScheduled = false
    for (const publisher of publishers) publisher.onRead = () => this.schedule()
  }

  addReceiver(client) {
    client.onPublish = () => {
      this.received++
    }
    client.onRead = () => this.schedule()
  }

  get done() {
    let done = Number.POSITIVE_INFINITY
    if (this.matches > 0) done = this.received / this.matches
    if (this.qos > 0) {
      done = Math.min(
        done,
        this.publishers.reduce((sum, one) => sum + one.acknowledged, 0)
      )
    }
    return done
  }

  schedule() {
    if (this.isScheduled) return
    this.isScheduled = true
    setImmediate(() => {
      this.isScheduled = false
      this.pump()
    })
  }

  pump() {
    const free = Math.min(this.window - (this.sent - this.done), this.max - this.sent)
    if (free < PUBLISHERS || (free < this.window / 4 && this.sent + free < this.max)) return
    const share = Math.floor(free / PUBLISHERS)
    for (const publisher of this.publishers) {
      const parts = []
      for (let i = 0; i < share; i++) {
        const { bytes, idAt } = this.packets[this.sent % this.packets.length]
        if (this.qos > 0) {
          const own = Buffer.from(bytes)
          own.writeUInt16BE((this.sent % 65_535) + 1, idAt)
          parts.push(own)
        } else parts.push(bytes)
        this.sent++
      }
      publisher.write(Buffer.concat(parts))
    }
  }

  stop() {
    this.max = 0
  }
}

/** N filters, held by some clients. */
async function holders(broker, filters, qos) {
  const clients = await openClients(broker.ports['mqtt'], HOLDERS, 'holder-')
  for (let i = 0; i < HOLDERS; i++) {
    const own = filters.filter((_, at) => at % HOLDERS === i)
    await clients[i].subscribe(own, qos)
  }
  return clients
}

const oneEach = (broker, n, filterOf) =>
  openClients(broker.ports['mqtt'], n, 'client-', undefined, (client, i) =>
    client.subscribe([filterOf(i)])
  )

const held = (name, filterOf, topics, more = {}) => ({
  name,
  topics,
  open: (broker, n) => holders(broker, range(n).map(filterOf), more.qos ?? 0),
  ...more
})
const many = topicOf => n => range(MANY_TOPICS).map(i => topicOf(i % n, i))
const each = topicOf => n => range(n).map(i => topicOf(i))

const exactTopics = each(i => `g/${i}/v`)
const exact = more => name => held(name, i => `g/${i}/v`, exactTopics, { isExact: true, ...more })

/** `matches`: deliveries a message. `isExact`: the goal is for it. */
const ROWS = [
  exact({})('subscriptions: exact, QoS 0'),
  exact({ qos: 1 })('subscriptions: exact, QoS 1'),
  exact({ config: 'limits:\n  routeCacheMax: 0\n' })('subscriptions: exact, no route remembered'),
  held(
    'subscriptions: g/+/N',
    i => `g/+/${i}`,
    each(i => `g/x/${i}`)
  ),
  held(
    'subscriptions: g/N/#, 6 levels',
    i => `g/${i}/#`,
    each(i => `g/${i}/a/b/c/d`)
  ),
  held(
    'subscriptions: g/N/+, 20,000 topics',
    i => `g/${i}/+`,
    many((j, i) => `g/${j}/${i}`)
  ),
  held(
    'subscriptions: g/N/#, 20,000 topics',
    i => `g/${i}/#`,
    many((j, i) => `g/${j}/a/b/${i}`)
  ),
  {
    name: 'clients: N there, 10 addressed',
    topics: () => range(10).map(i => `g/${i}/v`),
    open: (broker, n) => oneEach(broker, n, i => `g/${i}/v`),
    isExact: true
  },
  {
    name: 'clients: N there, all in turn',
    topics: exactTopics,
    open: (broker, n) => oneEach(broker, n, i => `g/${i}/v`)
  },
  {
    name: 'matches: g/+/v of N clients, a delivery',
    topics: () => ['g/x/v'],
    open: (broker, n) => oneEach(broker, n, () => 'g/+/v'),
    matches: n => n
  },
  {
    name: 'queues: durable, one key each, QoS 1',
    topics: exactTopics,
    open: async () => [],
    config: n =>
      `queues:\n${range(n)
        .map(i => `  - { name: q${i}, bindings: ["g/${i}/v"] }\n`)
        .join('')}`,
    matches: () => 0,
    qos: 1,
    max: QUEUED_MAX,
    isExact: true
  }
]

/** CPU µs of the broker for a message, or for a delivery where a message has several. */
async function cell(row, n) {
  const config = typeof row.config === 'function' ? row.config(n) : (row.config ?? '')
  const broker = await new Broker(config).start()
  const receivers = await row.open(broker, n)
  const publishers = await openClients(broker.ports['mqtt'], PUBLISHERS, 'publisher-')
  const matches = row.matches === undefined ? 1 : row.matches(n)
  const load = new Load(publishers, row.topics(n), row.qos ?? 0, matches)
  for (const receiver of receivers) load.addReceiver(receiver)
  load.max = row.max ?? load.max
  load.schedule()
  const warm = WARM / Math.max(1, matches)
  await until(() => load.done >= warm, `${row.name}, ${n}: the first messages`)
  const cpu = broker.cpu()
  const done = load.done
  const end = performance.now() + SECONDS * 1_000
  while (performance.now() < end && load.done < load.max) await pause(5)
  const messages = load.done - done
  const us = ((broker.cpu() - cpu) / messages / Math.max(1, matches)) * 1e6
  load.stop()
  broker.cleanUp()
  for (const client of [...receivers, ...publishers]) client.socket.destroy()
  return us
}

const chosen = ROWS.filter(({ name }) => name.includes(WANTED))
const widths = [Math.max(...chosen.map(({ name }) => name.length)), 7, 7, 7, 7, 11, 4, 3]
const columns = SIZES.map(n => n.toLocaleString('en-US'))
printRow(['CPU µs a message with N =', ...columns, '10,000 : 10', 'goal', 'met'], widths)
for (const row of chosen) {
  const cells = []
  for (const n of SIZES) cells.push(await cell(row, n))
  const ratio = cells[cells.length - 1] / cells[0]
  const goal = row.isExact ? ['1.30', met(ratio <= GROWTH_GOAL)] : ['', '']
  printRow([row.name, ...cells.map(us => us.toFixed(2)), ratio.toFixed(2), ...goal], widths)
}
