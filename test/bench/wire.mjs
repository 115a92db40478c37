// Bytes on the wire for a 20-byte reading, beside Mosquitto in the same run: TCP payload, both ways, counted by a proxy between
// one client and the broker. node test/bench/wire.mjs [--json], from the project's root; needs Debian's mosquitto and a built project.
// Mosquitto runs twice: told to have our limit on a packet (who has one must say so in a version 5 CONNACK), and as it comes,
// without any limit. A row's figure does not depend on time or load.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import mqttPacket from 'mqtt-packet'

const PACKET_BYTES_MAX = 2 * 1024 * 1024 // our limits.mqttPacketBytesMax
const TOPIC = 'home/kitchen/sensor1' // 20 bytes
const READING = '{"t":21.5,"h":40.12}' // 20 bytes
const STEADY_MESSAGES = 10
const PATIENCE_MS = 10_000

/** Counts what passes between a client and the broker behind it, both ways. */
class CountingProxy {
  bytes = 0
  port = 0

  /** @param {number} target the broker's port */
  static async before(target) {
    const proxy = new CountingProxy()
    const server = createServer({ allowHalfOpen: true, noDelay: true }, near => {
      const far = connect({ port: target, host: '127.0.0.1', noDelay: true, allowHalfOpen: true })
      for (const [from, to] of [
        [near, far],
        [far, near]
      ]) {
        from.on('data', chunk => {
          proxy.bytes += chunk.length
          to.write(chunk)
        })
        from.on('end', () => to.end())
        from.on('error', () => to.destroy())
      }
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    server.unref()
    proxy.port = /** @type {import('node:net').AddressInfo} */ (server.address()).port
    return proxy
  }
}

/** A client that says exactly what it is told, and acknowledges as the specification asks. */
class Client {
  /** @param {number} port @param {4 | 5} version */
  constructor(port, version) {
    this.version = version
    this.packetId = 0
    this.arrived = []
    this.wake = () => undefined
    this.socket = connect({ port, host: '127.0.0.1', noDelay: true })
    this.closed = once(this.socket, 'close')
    const parser = mqttPacket.parser({ protocolVersion: version })
    parser.on('packet', packet => {
      this.arrived.push(packet)
      this.wake()
    })
    this.socket.on('data', chunk => parser.parse(chunk))
  }

  send(packet) {
    this.socket.write(mqttPacket.generate(packet, { protocolVersion: this.version }))
  }

  /** The next packet; it must be of this kind. */
  async next(cmd) {
    const timer = setTimeout(() => this.socket.destroy(new Error(`no ${cmd} came`)), PATIENCE_MS)
    while (this.arrived.length === 0) {
      await Promise.race([
        new Promise(resolve => (this.wake = resolve)),
        this.closed.then(() => Promise.reject(new Error(`closed before ${cmd}`)))
      ])
    }
    clearTimeout(timer)
    const packet = this.arrived.shift()
    if (packet.cmd !== cmd) throw new Error(`${packet.cmd} came instead of ${cmd}`)
    return packet
  }

  /** @param {string} clientId @param {boolean} clean @param {number} [expiry] version 5: seconds that the session outlasts it */
  async connect(clientId, clean, expiry = 0) {
    const properties =
      this.version === 5 && expiry > 0 ? { sessionExpiryInterval: expiry } : undefined
    this.send({
      cmd: 'connect',
      protocolId: 'MQTT',
      protocolVersion: this.version,
      clientId,
      clean,
      keepalive: 60,
      properties
    })
    const connack = await this.next('connack')
    if ((connack.returnCode ?? connack.reasonCode) !== 0) throw new Error('refused')
    return connack
  }

  async publish(qos, retain = false, payload = READING) {
    const messageId = qos > 0 ? ++this.packetId : undefined
    this.send({ cmd: 'publish', topic: TOPIC, payload, qos, retain, dup: false, messageId })
    if (qos === 1) await this.next('puback')
    if (qos !== 2) return
    await this.next('pubrec')
    this.send({ cmd: 'pubrel', messageId })
    await this.next('pubcomp')
  }

  async receive(qos) {
    const { messageId, qos: got } = await this.next('publish')
    if (got !== qos) throw new Error(`QoS ${got} came instead of ${qos}`)
    if (qos === 1) this.send({ cmd: 'puback', messageId })
    if (qos !== 2) return
    this.send({ cmd: 'pubrec', messageId })
    await this.next('pubrel')
    this.send({ cmd: 'pubcomp', messageId })
  }

  async subscribe(qos, subscriptionIdentifier) {
    const properties = subscriptionIdentifier === undefined ? undefined : { subscriptionIdentifier }
    this.send({
      cmd: 'subscribe',
      messageId: ++this.packetId,
      subscriptions: [{ topic: TOPIC, qos }],
      properties
    })
    await this.next('suback')
  }

  async unsubscribe() {
    this.send({ cmd: 'unsubscribe', messageId: ++this.packetId, unsubscriptions: [TOPIC] })
    await this.next('unsuback')
  }

  /** All that was sent has been handled, and all that it caused on this connection has come. */
  async ping() {
    this.send({ cmd: 'pingreq' })
    await this.next('pingresp')
  }

  async disconnect() {
    this.send({ cmd: 'disconnect' })
    this.socket.end()
    await this.closed
  }
}

/** One broker under test: its proxy, and clients beside the proxy for what is not counted. */
class Side {
  /** @param {string} name @param {number} port @param {CountingProxy} proxy */
  constructor(name, port, proxy) {
    this.name = name
    this.port = port
    this.proxy = proxy
  }

  counted(version) {
    return new Client(this.proxy.port, version)
  }

  uncounted() {
    return new Client(this.port, 4)
  }

  /** Bytes that `work` moved. */
  async count(work) {
    const before = this.proxy.bytes
    await work()
    return this.proxy.bytes - before
  }

  async withSubscriber(qos, work) {
    const subscriber = this.uncounted()
    await subscriber.connect('other', true)
    await subscriber.subscribe(qos)
    const result = await work(subscriber)
    await subscriber.disconnect()
    return result
  }

  /** Ends a session that a row left behind. */
  async forget(clientId, version) {
    const client = new Client(this.port, version)
    await client.connect(clientId, true)
    await client.disconnect()
  }
}

/** Connect, publish one, disconnect. */
async function fresh(side, version, qos, clientId, clean) {
  const bytes = await side.count(async () => {
    const client = side.counted(version)
    await client.connect(clientId, clean, clean ? 0 : 3600)
    await client.publish(qos)
    await client.disconnect()
  })
  if (!clean) await side.forget(clientId, version)
  return bytes
}

/** A lasting session comes back, takes the one message that waits and goes. */
async function resume(side, version, qos) {
  const before = new Client(side.port, version)
  await before.connect('reader-1', false, 3600)
  await before.subscribe(qos)
  await before.disconnect()
  const publisher = side.uncounted()
  await publisher.connect('other', true)
  await publisher.publish(qos)
  await publisher.disconnect()
  const bytes = await side.count(async () => {
    const client = side.counted(version)
    await client.connect('reader-1', false, 3600)
    await client.receive(qos)
    await client.disconnect()
  })
  await side.forget('reader-1', version)
  return bytes
}

/** Per message, as publisher, connected all the time; somebody subscribes, or nobody. */
async function publishing(side, version, qos, hasSubscriber) {
  const work = async () => {
    const client = side.counted(version)
    await client.connect('sensor-1', true)
    const bytes = await side.count(async () => {
      for (let i = 0; i < STEADY_MESSAGES; i++) await client.publish(qos)
      // QoS 0 has no answer: the ping's shows that all went through the proxy.
      if (qos === 0) await client.ping()
    })
    await client.disconnect()
    return (bytes - (qos === 0 ? 4 : 0)) / STEADY_MESSAGES
  }
  return hasSubscriber ? await side.withSubscriber(0, work) : await work()
}

/** Per message, as subscriber, connected all the time. */
async function receiving(side, version, qos, subscriptionIdentifier) {
  const client = side.counted(version)
  await client.connect('reader-1', true)
  await client.subscribe(qos, subscriptionIdentifier)
  const publisher = side.uncounted()
  await publisher.connect('other', true)
  const bytes = await side.count(async () => {
    for (let i = 0; i < STEADY_MESSAGES; i++) {
      await publisher.publish(qos)
      await client.receive(qos)
    }
    await client.ping()
  })
  await publisher.disconnect()
  await client.disconnect()
  return (bytes - 4) / STEADY_MESSAGES
}

/** What is done now and then, connected all the time. */
async function connected(side, version, work) {
  const client = side.counted(version)
  await client.connect('sensor-1', true)
  const bytes = await side.count(() => work(client))
  await client.disconnect()
  return bytes
}

async function retained(side, version) {
  const publisher = side.uncounted()
  await publisher.connect('other', true)
  await publisher.publish(1, true)
  const bytes = await connected(side, version, async client => {
    await client.subscribe(1)
    await client.receive(1)
    await client.ping()
  })
  await publisher.publish(1, true, '')
  await publisher.disconnect()
  return bytes
}

/** The whole life of a connection that another one with its client id ends. */
async function takenOver(side, version) {
  return await side.count(async () => {
    const first = side.counted(version)
    await first.connect('sensor-1', true)
    const second = new Client(side.port, version)
    await second.connect('sensor-1', true)
    await first.closed
    await second.disconnect()
  })
}

/** @returns {[string, (side: Side) => Promise<number>][]} */
function scenarios() {
  const rows = []
  for (const version of /** @type {const} */ ([4, 5])) {
    const name = version === 4 ? '3.1.1' : '5'
    const add = (text, run) => rows.push([`${name} ${text}`, run])
    for (const qos of [0, 1, 2]) {
      add(`fresh, clean, publish one, QoS ${qos}`, side =>
        fresh(side, version, qos, 'sensor-1', true)
      )
      add(`fresh, lasting session, publish one, QoS ${qos}`, side =>
        fresh(side, version, qos, 'sensor-1', false)
      )
      add(`fresh, client id from the broker, publish one, QoS ${qos}`, side =>
        fresh(side, version, qos, '', true)
      )
    }
    for (const qos of [1, 2])
      add(`fresh, resume and receive one, QoS ${qos}`, side => resume(side, version, qos))
    add('fresh, ended by a takeover', side => takenOver(side, version))
    for (const qos of [0, 1, 2]) {
      add(`steady, publish, QoS ${qos}`, side => publishing(side, version, qos, true))
      if (qos > 0)
        add(`steady, publish for nobody, QoS ${qos}`, side => publishing(side, version, qos, false))
      add(`steady, receive, QoS ${qos}`, side => receiving(side, version, qos))
      if (version === 5)
        add(`steady, receive with subscription id, QoS ${qos}`, side =>
          receiving(side, version, qos, 7)
        )
    }
    add('ping', side => connected(side, version, client => client.ping()))
    add('subscribe', side => connected(side, version, client => client.subscribe(1)))
    add('subscribe and receive a retained message and ping', side => retained(side, version))
    add('unsubscribe from what was not subscribed', side =>
      connected(side, version, client => client.unsubscribe())
    )
  }
  return rows
}

const children = []

/** Starts a program and waits until `port` of it is known and open. */
function run(command, words) {
  const child = spawn(command, words, { stdio: ['ignore', 'pipe', 'pipe'] })
  children.push(child)
  child.stderr.resume()
  return child
}

async function motemq(folder) {
  const child = run(process.execPath, [
    'bin/motemq.js',
    'start',
    '--data',
    join(folder, 'data'),
    '--listen',
    'mqtt://127.0.0.1:0'
  ])
  let text = ''
  for await (const chunk of child.stdout) {
    text += chunk
    const found = /"ready".*mqtt:\/\/127\.0\.0\.1:(\d+)|mqtt:\/\/127\.0\.0\.1:(\d+).*"ready"/.exec(
      text
    )
    if (found === null) continue
    child.stdout.resume()
    return Number(found[1] ?? found[2])
  }
  throw new Error(`Motemq did not start: ${text}`)
}

async function mosquitto(folder, more) {
  const free = createServer().listen(0, '127.0.0.1')
  await once(free, 'listening')
  const { port } = /** @type {import('node:net').AddressInfo} */ (free.address())
  free.close()
  await once(free, 'close')
  const config = join(folder, `mosquitto-${port}.conf`)
  writeFileSync(config, `listener ${port} 127.0.0.1\nallow_anonymous true\n${more}`)
  const program = (process.env.PATH ?? '')
    .split(':')
    .concat('/usr/sbin')
    .map(part => join(part, 'mosquitto'))
    .find(exists)
  if (program === undefined) throw new Error('no mosquitto here')
  run(program, ['-c', config])
  for (let i = 0; i < 100; i++) {
    const socket = connect({ port, host: '127.0.0.1' })
    const isUp = await new Promise(resolve =>
      socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
    )
    socket.destroy()
    if (isUp) return port
    await new Promise(resolve => setTimeout(resolve, 50))
  }
  throw new Error('mosquitto did not start')
}

function exists(file) {
  try {
    accessSync(file)
    return true
  } catch {
    return false
  }
}

async function measure(folder) {
  const ports = {
    motemq: await motemq(folder),
    mosquitto: await mosquitto(folder, `max_packet_size ${PACKET_BYTES_MAX}\n`),
    unlimited: await mosquitto(folder, '')
  }
  const sides = []
  for (const [name, port] of Object.entries(ports))
    sides.push(new Side(name, port, await CountingProxy.before(port)))
  const rows = []
  for (const [name, work] of scenarios()) {
    const row = { name }
    for (const side of sides) row[side.name] = await work(side)
    rows.push(row)
  }
  return rows
}

const folder = mkdtempSync(join(tmpdir(), 'motemq-wire-'))
try {
  const rows = await measure(folder)
  if (process.argv.includes('--json')) process.stdout.write(`${JSON.stringify(rows)}\n`)
  else {
    process.stdout.write(
      '| bytes, both ways | Motemq | Mosquitto, same packet limit | Mosquitto without a limit |\n|---|---|---|---|\n'
    )
    for (const row of rows)
      process.stdout.write(
        `| ${row.name} | ${row.motemq} | ${row.mosquitto} | ${row.unlimited} |\n`
      )
    const over = rows.filter(row => row.motemq > row.mosquitto)
    process.stdout.write(
      `\n${rows.length} rows, ${over.length} above Mosquitto's${over.map(row => `\n  ${row.name}`).join('')}\n`
    )
  }
} finally {
  for (const child of children) child.kill()
  await Promise.all(
    children.map(
      child => child.exitCode === null && child.signalCode === null && once(child, 'exit')
    )
  )
  rmSync(folder, { recursive: true, force: true })
}
