/**
 * Clients that read as slowly, or as well, as they are told: `node readers.mjs OPTIONS`, one JSON object. Commands come
 * as lines: `slow` (one byte a second), `read` (all there is), `report` (answered with a line of JSON), `end`.
 *
 * Payloads are swarm.c's: 32 bits of publisher, 64 bits of its sequence at offset 8. MQTT 3.1.1; of AMQP each client consumes from a queue of its
 * own, without prefetch, and acknowledges. What is read is acknowledged at once.
 */
import { connect } from 'node:net'
import { createInterface } from 'node:readline'
import amqplib from 'amqplib'

/**
 * @typedef {object} Options
 * @property {'mqtt' | 'amqp'} protocol
 * @property {number} clients
 * @property {string} prefix of client ids and queues
 * @property {string} filter an MQTT filter; of AMQP a binding key of amq.topic
 * @property {0 | 1} qos
 * @property {boolean} clean
 * @property {number} keepaliveSeconds
 * @property {number} queueBytesMax of AMQP: x-max-length-bytes
 * @property {number} port
 */

/** @type {Options} */
const options = JSON.parse(process.argv[2] ?? '{}')
const SLOW_MS = 1_000
const SEQUENCES_MAX = 2_000_000

/** What one client got. */
class Got {
  received = 0
  duplicates = 0
  /** Came for the first time, and behind a later one. */
  disorder = 0
  /** @type {Map<number, { last: number, seen: Uint8Array }>} */
  #publishers = new Map()

  /** @param {Buffer} payload */
  add(payload) {
    const flow = this.#flow(payload.readUInt32LE(0))
    const sequence = Number(payload.readBigUInt64LE(8))
    const bit = 1 << (sequence & 7)
    if ((flow.seen[sequence >> 3] & bit) !== 0) {
      this.duplicates++
      return
    }
    flow.seen[sequence >> 3] |= bit
    this.received++
    if (sequence < flow.last) this.disorder++
    else flow.last = sequence
  }

  /** @param {number} publisher */
  #flow(publisher) {
    const known = this.#publishers.get(publisher)
    if (known !== undefined) return known
    const flow = { last: -1, seen: new Uint8Array(SEQUENCES_MAX / 8) }
    this.#publishers.set(publisher, flow)
    return flow
  }
}

class MqttReader {
  got = new Got()
  isUp = false
  isClosed = false
  isPresent = false
  #id
  #socket
  /** @type {Buffer} */
  #input = Buffer.alloc(0)
  #isSlow = false

  /** @param {string} id */
  constructor(id) {
    this.#id = id
    this.dial()
  }

  dial() {
    this.isClosed = false
    this.#input = Buffer.alloc(0)
    const socket = connect(options.port, '127.0.0.1')
    this.#socket = socket
    socket.on('error', () => undefined)
    socket.on('close', () => {
      if (socket !== this.#socket) return
      this.isClosed = true
      this.isUp = false
    })
    socket.on('readable', () => this.#read())
    const id = Buffer.from(this.#id)
    const flags = options.clean ? 2 : 0
    const { keepaliveSeconds: keep } = options
    const head = [
      0x10,
      12 + id.length,
      0,
      4,
      ...Buffer.from('MQTT'),
      4,
      flags,
      keep >> 8,
      keep & 255
    ]
    socket.write(Buffer.concat([Buffer.from([...head, 0, id.length]), id]))
  }

  slow() {
    this.#isSlow = true
  }

  /** One byte. */
  drip() {
    if (!this.#isSlow) return
    const byte = this.#socket.read(1)
    if (byte !== null) this.#input = Buffer.concat([this.#input, byte])
  }

  read() {
    this.#isSlow = false
    this.#read()
  }

  /** A closed one comes back; its session, if it lasts, is there. */
  again() {
    if (this.isClosed) this.dial()
  }

  ping() {
    if (this.isUp && !this.#isSlow) this.#socket.write(Buffer.from([0xc0, 0]))
  }

  end() {
    this.#socket.end(Buffer.from([0xe0, 0]))
  }

  #read() {
    while (!this.#isSlow) {
      const chunk = this.#socket.read()
      if (chunk === null) return
      this.#input = this.#input.length === 0 ? chunk : Buffer.concat([this.#input, chunk])
      this.#parse()
    }
  }

  #parse() {
    const input = this.#input
    let at = 0
    for (;;) {
      let length = 0
      let head = at + 1
      let byte = 128
      for (let shift = 0; byte > 127 && head < input.length; shift += 7) {
        byte = input[head++]
        length += (byte & 127) << shift
      }
      if (byte > 127 || head + length > input.length) break
      this.#packet(input[at], input.subarray(head, head + length))
      at = head + length
    }
    this.#input = input.subarray(at)
  }

  /**
   * @param {number} first
   * @param {Buffer} body
   */
  #packet(first, body) {
    const type = first >> 4
    if (type === 2) {
      this.isPresent = body[0] === 1
      const filter = Buffer.from(options.filter)
      const head = [0x82, 5 + filter.length, 0, 1, 0, filter.length]
      this.#socket.write(Buffer.concat([Buffer.from(head), filter, Buffer.from([options.qos])]))
    } else if (type === 9) this.isUp = true
    else if (type === 3) {
      const topicEnd = 2 + body.readUInt16BE(0)
      const qos = (first >> 1) & 3
      if (qos > 0) this.#socket.write(Buffer.from([0x40, 2, body[topicEnd], body[topicEnd + 1]]))
      this.got.add(body.subarray(topicEnd + (qos > 0 ? 2 : 0)))
    }
  }
}

class AmqpReader {
  got = new Got()
  isUp = false
  isClosed = false
  isPresent = false
  #name
  #connection
  #listeners = []
  #dripped = []

  /** @param {string} name */
  constructor(name) {
    this.#name = name
    void this.dial()
  }

  async dial() {
    this.#connection = await amqplib.connect(`amqp://guest:guest@127.0.0.1:${options.port}`)
    this.#connection.on('error', () => undefined)
    this.#connection.on('close', () => {
      this.isClosed = true
      this.isUp = false
    })
    const channel = await this.#connection.createChannel()
    channel.on('error', () => undefined)
    const { queueBytesMax } = options
    const bounds = queueBytesMax > 0 ? { 'x-max-length-bytes': queueBytesMax } : {}
    await channel.assertQueue(this.#name, { durable: true, arguments: bounds })
    await channel.bindQueue(this.#name, 'amq.topic', options.filter.replaceAll('/', '.'))
    await channel.consume(this.#name, message => {
      if (message === null) return
      this.got.add(message.content)
      channel.ack(message)
    })
    this.isUp = true
  }

  slow() {
    const { stream } = this.#connection.connection
    this.#listeners = stream.listeners('readable')
    stream.removeAllListeners('readable')
    stream.pause()
  }

  drip() {
    if (this.#listeners.length === 0) return
    const byte = this.#connection.connection.stream.read(1)
    if (byte !== null) this.#dripped.push(byte)
  }

  read() {
    const { stream } = this.#connection.connection
    if (this.#dripped.length > 0) stream.unshift(Buffer.concat(this.#dripped))
    this.#dripped = []
    for (const listener of this.#listeners) stream.on('readable', listener)
    this.#listeners = []
    stream.emit('readable')
  }

  again() {
    if (this.isClosed) void this.dial()
  }

  ping() {
    // Heartbeats are amqplib's.
  }

  end() {
    this.#connection.close().catch(() => undefined)
  }
}

const Reader = options.protocol === 'amqp' ? AmqpReader : MqttReader
const readers = Array.from(
  { length: options.clients },
  (_, n) => new Reader(`${options.prefix}${n}`)
)
setInterval(() => {
  for (const reader of readers) reader.drip()
}, SLOW_MS)
if (options.keepaliveSeconds > 0) {
  setInterval(
    () => {
      for (const reader of readers) reader.ping()
    },
    (options.keepaliveSeconds * 1_000) / 2
  )
}

function report() {
  const sum = key => readers.reduce((total, reader) => total + reader.got[key], 0)
  const count = key => readers.filter(reader => reader[key]).length
  const received = readers.map(reader => reader.got.received)
  return {
    up: count('isUp'),
    closed: count('isClosed'),
    present: count('isPresent'),
    received: sum('received'),
    least: Math.min(...received),
    most: Math.max(...received),
    duplicates: sum('duplicates'),
    disorder: sum('disorder')
  }
}

createInterface({ input: process.stdin }).on('line', command => {
  if (command === 'report') process.stdout.write(`${JSON.stringify(report())}\n`)
  else if (command === 'end') {
    for (const reader of readers) reader.end()
    setTimeout(() => process.exit(0), 300)
  } else for (const reader of readers) reader[command]()
})
