/**
 * Memory: the idle broker, idle connections, and lasting sessions with waiting messages, over a crash and a stop.
 * From the project's root: node test/bench/memory.mjs [connections] [sessions]
 * Needs Linux and a built project; twice as many open files as connections. MB is 1,048,576 bytes.
 */
import { Broker, count, MB, met, restingRss, table, until } from './broker.mjs'
import { MqttClient, openClients, publishPacket } from './mqtt.mjs'

const CONNECTIONS = Number(process.argv[2] ?? 10_000)
const SESSIONS = Number(process.argv[3] ?? 10_000)
const MESSAGES = 10
const PAYLOAD_BYTES = 100
const WINDOW = 1_000

async function idle() {
  const broker = await new Broker().start()
  const rss = await restingRss(broker)
  broker.cleanUp()
  return rss
}

/** What one idle connection costs, bytes. */
async function connection(version, withSubscription) {
  const broker = await new Broker().start()
  const before = await restingRss(broker)
  const subscribe = (client, i) => client.subscribe([`sensors/${i}/set`], 0, version)
  const options = { version, isClean: true, keepalive: 60 }
  const after = withSubscription ? subscribe : undefined
  const clients = await openClients(broker.ports['mqtt'], CONNECTIONS, 'client-', options, after)
  const rss = await restingRss(broker)
  for (const client of clients) client.socket.destroy()
  broker.cleanUp()
  return (rss - before) / CONNECTIONS
}

async function connections() {
  const rows = [[`${count(CONNECTIONS)} idle connections`, 'KiB each', 'goal', 'met']]
  for (const version of [4, 5]) {
    for (const withSubscription of [false, true]) {
      const name = version === 4 ? 'MQTT 3.1.1, clean session' : 'MQTT 5, clean start'
      const kib = (await connection(version, withSubscription)) / 1_024
      const row = [withSubscription ? `${name}, one subscription` : name, kib.toFixed(1)]
      rows.push(withSubscription ? [...row, '', ''] : [...row, '9.0', met(kib <= 9)])
    }
  }
  table(rows)
}

async function fill(port) {
  const options = { isClean: false }
  await openClients(port, SESSIONS, 'session-', options, async (client, i) => {
    await client.subscribe([`session/${i}`], 1)
    await client.close()
  })
  const publisher = await new MqttClient(port).open('publisher')
  const total = SESSIONS * MESSAGES
  for (let sent = 0; sent < total; ) {
    const end = Math.min(total, sent + WINDOW)
    for (; sent < end; sent++) {
      const payload = Buffer.alloc(PAYLOAD_BYTES)
      payload.writeUInt32BE(sent)
      const { bytes, idAt } = publishPacket(`session/${sent % SESSIONS}`, payload, 1)
      bytes.writeUInt16BE((sent % 65_535) + 1, idAt)
      publisher.write(bytes)
    }
    await until(() => publisher.acknowledged >= end, 'PUBACKs')
  }
  await publisher.close()
}

/** Every session takes its messages: how many came, each once and in order. */
async function drain(port) {
  let good = 0
  const options = { isClean: false }
  for (let at = 0; at < SESSIONS; at += 250) {
    const some = Array.from({ length: Math.min(250, SESSIONS - at) }, async (_, n) => {
      const client = new MqttClient(port)
      let expected = at + n
      client.onPublish = (buffer, _start, end) => {
        if (buffer.readUInt32BE(end - PAYLOAD_BYTES) === expected) good++
        expected += SESSIONS
      }
      await client.open(`session-${at + n}`, options)
      if (!client.sessionPresent) return
      await until(() => client.received >= MESSAGES, `messages of session ${at + n}`)
      await client.close()
    })
    await Promise.all(some)
  }
  return good
}

async function sessions(idleRss) {
  const broker = await new Broker().start()
  const total = SESSIONS * MESSAGES
  const above = rss => (rss - idleRss) / MB
  const rows = [
    [
      `${count(SESSIONS)} sessions with ${MESSAGES} messages of ${PAYLOAD_BYTES} bytes`,
      'figure',
      'goal',
      'met'
    ]
  ]
  const memory = (name, value) =>
    rows.push([name, `${value.toFixed(1)} MB`, '60.0 MB', met(value <= 60)])
  await fill(broker.ports['mqtt'])
  memory('memory above idle, filled', above(await restingRss(broker)))
  for (const signal of /** @type {const} */ (['SIGKILL', 'SIGTERM'])) {
    await broker.stop(signal)
    await broker.start()
    const seconds = broker.readyMs / 1_000
    rows.push([
      `ready again after ${signal}`,
      `${seconds.toFixed(2)} s`,
      '5.00 s',
      met(seconds <= 5)
    ])
    memory(`memory above idle after ${signal}`, above(await restingRss(broker)))
  }
  const delivered = await drain(broker.ports['mqtt'])
  rows.push([
    'delivered, once and in order',
    count(delivered),
    count(total),
    met(delivered === total)
  ])
  const left = await broker.metric('motemq_messages_ready')
  rows.push(['waiting then', count(left), '0', met(left === 0)])
  broker.cleanUp()
  table(rows)
}

const idleRss = await idle()
table([
  ['idle', 'figure', 'goal', 'met'],
  ['memory (RSS)', `${(idleRss / MB).toFixed(1)} MB`, '65.0 MB', met(idleRss <= 65 * MB)]
])
process.stdout.write('\n')
if (CONNECTIONS > 0) {
  await connections()
  process.stdout.write('\n')
}
if (SESSIONS > 0) await sessions(idleRss)
