/**
 * MQTT clients for the programs beside this one, over plain sockets with an encoding of their own: the load must
 * not be the limit. They check no more than what the measurement needs.
 */
import { once } from 'node:events'
import { connect } from 'node:net'

export const PUBLISH = 3
export const PUBACK = 4
const CONNACK = 2
const SUBACK = 9
const NO_BYTES = Buffer.alloc(0)

function varint(value) {
  const bytes = []
  do {
    const rest = Math.floor(value / 128)
    bytes.push(rest > 0 ? (value % 128) | 128 : value % 128)
    value = rest
  } while (value > 0)
  return Buffer.from(bytes)
}

function text(value) {
  const bytes = Buffer.from(value)
  return Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 255]), bytes])
}

function packet(first, ...parts) {
  const body = Buffer.concat(parts)
  return Buffer.concat([Buffer.from([first]), varint(body.length), body])
}

/** @param {{ version?: 4 | 5, isClean?: boolean, keepalive?: number, expiry?: number }} [options] */
export function connectPacket(clientId, options = {}) {
  const { version = 4, isClean = true, keepalive = 60, expiry = 0 } = options
  const head = Buffer.from([
    0,
    4,
    0x4d,
    0x51,
    0x54,
    0x54,
    version,
    isClean ? 2 : 0,
    keepalive >> 8,
    keepalive & 255
  ])
  const properties = version < 5 ? NO_BYTES : Buffer.alloc(expiry > 0 ? 6 : 1)
  if (properties.length === 6) {
    properties[0] = 5
    properties[1] = 0x11
    properties.writeUInt32BE(expiry, 2)
  }
  return packet(0x10, head, properties, text(clientId))
}

export function subscribePacket(filters, qos = 0, version = 4) {
  const options = Buffer.from([qos])
  const parts = filters.flatMap(filter => [text(filter), options])
  return packet(0x82, Buffer.from([0, 1]), version === 5 ? Buffer.from([0]) : NO_BYTES, ...parts)
}

/** @param {Buffer} payload copied; with QoS 1 the packet identifier is left 0, at `idAt` of the answer */
export function publishPacket(topic, payload, qos, version = 4) {
  const name = text(topic)
  const id = qos > 0 ? Buffer.alloc(2) : NO_BYTES
  const properties = version === 5 ? Buffer.from([0]) : NO_BYTES
  const bytes = packet(0x30 | (qos << 1), name, id, properties, payload)
  const payloadAt = bytes.length - payload.length
  return { bytes, idAt: payloadAt - properties.length - 2, payloadAt }
}

/** One client. `onPacket(type, buffer, start, end)` gets what comes after SUBACK's and CONNACK's turn. */
export class MqttClient {
  constructor(port) {
    this.socket = connect({ port, host: '127.0.0.1', noDelay: true })
    this.isClosed = false
    /** PUBLISHes and PUBACKs that came. */
    this.received = 0
    this.acknowledged = 0
    /** Acknowledges each PUBLISH with QoS 1. */
    this.acknowledges = true
    this.sessionPresent = false
    /** @type {((buffer: Buffer, start: number, end: number, qos: number) => void) | null} start: the topic's length */
    this.onPublish = null
    /** @type {(() => void) | null} after each read */
    this.onRead = null
    this.waiters = []
    this.rest = NO_BYTES
    this.acks = Buffer.alloc(0)
    this.socket.on('error', () => undefined)
    this.socket.on('close', () => {
      this.isClosed = true
      for (const { type, reject } of this.waiters)
        reject(new Error(`closed, waiting for a packet ${type}`))
    })
    this.socket.on('data', chunk => this.read(chunk))
  }

  write(bytes) {
    return this.socket.write(bytes)
  }

  /** Resolves with the packet's body. */
  next(type) {
    return new Promise((resolve, reject) => this.waiters.push({ type, resolve, reject }))
  }

  async open(clientId, options) {
    const answer = this.next(CONNACK)
    this.write(connectPacket(clientId, options))
    const body = await answer
    if (body[1] !== 0) throw new Error(`CONNACK ${body[1]}`)
    this.sessionPresent = body[0] === 1
    return this
  }

  async subscribe(filters, qos = 0, version = 4) {
    for (let at = 0; at < filters.length; at += 500) {
      const answer = this.next(SUBACK)
      this.write(subscribePacket(filters.slice(at, at + 500), qos, version))
      const body = await answer
      if (body[body.length - 1] > 2) throw new Error(`SUBACK ${body[body.length - 1]}`)
    }
  }

  async close() {
    if (this.isClosed) return
    this.socket.end(Buffer.from([0xe0, 0]))
    await once(this.socket, 'close')
  }

  read(chunk) {
    const buffer = this.rest.length === 0 ? chunk : Buffer.concat([this.rest, chunk])
    let at = 0
    let acks = 0
    if (this.acks.length < buffer.length) this.acks = Buffer.alloc(buffer.length)
    for (;;) {
      let length = 0
      let head = at + 1
      let shift = 0
      let byte = 128
      while (byte >= 128 && head < buffer.length) {
        byte = buffer[head++]
        length += (byte & 127) << shift
        shift += 7
      }
      if (byte >= 128 || head + length > buffer.length) break
      acks = this.#packet(buffer, at, head, head + length, acks)
      at = head + length
    }
    this.rest = at === buffer.length ? NO_BYTES : Buffer.from(buffer.subarray(at))
    if (acks > 0) this.write(Buffer.from(this.acks.subarray(0, acks)))
    if (this.onRead !== null) this.onRead()
  }

  #packet(buffer, at, start, end, acks) {
    const type = buffer[at] >> 4
    if (type === PUBACK) this.acknowledged++
    else if (type === PUBLISH) {
      this.received++
      const qos = (buffer[at] >> 1) & 3
      if (qos === 1 && this.acknowledges) {
        const id = start + 2 + ((buffer[start] << 8) | buffer[start + 1])
        this.acks[acks] = 0x40
        this.acks[acks + 1] = 2
        this.acks[acks + 2] = buffer[id]
        this.acks[acks + 3] = buffer[id + 1]
        acks += 4
      }
      if (this.onPublish !== null) this.onPublish(buffer, start, end, qos)
    } else {
      const waiting = this.waiters.findIndex(waiter => waiter.type === type)
      if (waiting >= 0)
        this.waiters.splice(waiting, 1)[0].resolve(Buffer.from(buffer.subarray(start, end)))
    }
    return acks
  }
}

/** Opens `total` clients, some hundreds at a time. */
export async function openClients(port, total, prefix, options, afterOpen = async () => undefined) {
  const clients = []
  for (let at = 0; at < total; at += 250) {
    const some = Array.from({ length: Math.min(250, total - at) }, async (_, i) => {
      const client = await new MqttClient(port).open(`${prefix}${at + i}`, options)
      await afterOpen(client, at + i)
      return client
    })
    clients.push(...(await Promise.all(some)))
  }
  return clients
}

/**
 * Publishes messages of one topic with QoS 1, numbered: each payload begins with its number, 32 bits. At most `window`
 * are not acknowledged.
 */
export class NumberedPublisher {
  constructor(client, topic, payloadBytes, window) {
    const { bytes, idAt, payloadAt } = publishPacket(topic, Buffer.alloc(payloadBytes), 1)
    this.client = client
    this.window = window
    this.bytes = bytes.length
    this.idAt = idAt
    this.payloadAt = payloadAt
    this.template = Buffer.alloc(bytes.length * window)
    for (let i = 0; i < window; i++) bytes.copy(this.template, i * bytes.length)
    this.sent = 0
    this.total = 0
  }

  /** Returns when `total` messages are acknowledged, those of earlier calls included. */
  async upTo(total) {
    const { client } = this
    this.total = total
    const began = client.acknowledged
    const first = this.sent
    await new Promise((resolve, reject) => {
      client.socket.once('close', () => reject(new Error('closed while publishing')))
      client.onRead = () => {
        const acknowledged = first + client.acknowledged - began
        if (acknowledged >= total) {
          client.onRead = null
          resolve(undefined)
        } else this.#fill(Math.min(total - this.sent, this.window - (this.sent - acknowledged)))
      }
      client.onRead()
    })
  }

  #fill(messages) {
    // Small writes for single acknowledgements would make the load the limit.
    if (messages < 1 || (messages < this.window / 8 && this.sent + messages < this.total)) return
    const out = Buffer.from(this.template.subarray(0, messages * this.bytes))
    for (let i = 0, at = 0; i < messages; i++, at += this.bytes) {
      out.writeUInt16BE((this.sent % 65_535) + 1, at + this.idAt)
      out.writeUInt32BE(this.sent, at + this.payloadAt)
      this.sent++
    }
    this.client.write(out)
  }
}
