/**
 * An AMQP 0-9-1 consumer for the programs beside this one, over a plain socket: it reads deliveries in place and
 * acknowledges each of them, so that what is measured is the broker.
 */
import { connect } from 'node:net'

const FRAME_METHOD = 1
const FRAME_HEADER = 2
const FRAME_END = 0xce
const NO_BYTES = Buffer.alloc(0)
const ACK_BYTES = 21
const DELIVER = (60 << 16) | 60

export function short(value) {
  return Buffer.concat([Buffer.from([value.length]), Buffer.from(value)])
}

export function long(value) {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

export function method(channel, classId, methodId, ...parts) {
  const body = Buffer.concat([Buffer.from([0, classId, 0, methodId]), ...parts])
  const head = Buffer.alloc(7)
  head[0] = FRAME_METHOD
  head.writeUInt16BE(channel, 1)
  head.writeUInt32BE(body.length, 3)
  return Buffer.concat([head, body, Buffer.from([FRAME_END])])
}

export class AmqpConsumer {
  constructor(port) {
    this.socket = connect({ port, host: '127.0.0.1', noDelay: true })
    this.socket.on('error', () => undefined)
    this.socket.on('close', () =>
      this.waiter?.reject(new Error('the broker closed the connection'))
    )
    this.socket.on('data', chunk => this.#read(chunk))
    this.received = 0
    /** @type {((body: Buffer) => void) | null} a body that came in one frame, true for this call */
    this.onMessage = null
    /** @type {((method: number, buffer: Buffer, at: number) => void) | null} every other method, its arguments from `at` */
    this.onMethod = null
    this.acks = NO_BYTES
    this.rest = NO_BYTES
    this.waiter = null
    this.tag = NO_BYTES
  }

  async open() {
    await this.#ask(Buffer.from('AMQP\0\0\x09\x01', 'latin1')) // start
    const login = Buffer.from('\0guest\0guest', 'latin1')
    const startOk = method(
      0,
      10,
      11,
      long(0),
      short('PLAIN'),
      long(login.length),
      login,
      short('en_US')
    )
    await this.#ask(startOk) // tune
    const tuneOk = method(0, 10, 31, Buffer.from([0, 1, 0, 2, 0, 0, 0, 0]))
    await this.#ask(
      Buffer.concat([tuneOk, method(0, 10, 40, short('/'), short(''), Buffer.from([0]))])
    )
    await this.#ask(method(1, 20, 10, short('')))
    return this
  }

  /** With `noAck` nothing is acknowledged. */
  async consume(queue, prefetch, noAck = false) {
    this.noAck = noAck
    if (prefetch > 0) {
      await this.#ask(method(1, 60, 10, long(0), Buffer.from([prefetch >> 8, prefetch & 255, 0])))
    }
    const flags = Buffer.from([noAck ? 2 : 0])
    await this.#ask(method(1, 60, 20, Buffer.alloc(2), short(queue), short(''), flags, long(0)))
  }

  #ask(bytes) {
    return new Promise((resolve, reject) => {
      this.waiter = { resolve, reject }
      this.socket.write(bytes)
    })
  }

  #read(chunk) {
    const buffer = this.rest.length === 0 ? chunk : Buffer.concat([this.rest, chunk])
    if (this.acks.length < buffer.length) this.acks = Buffer.alloc(buffer.length)
    let at = 0
    let acks = 0
    while (at + 8 <= buffer.length) {
      const end = at + 7 + buffer.readUInt32BE(at + 3)
      if (end >= buffer.length) break
      const type = buffer[at]
      if (type === FRAME_METHOD) {
        if (buffer.readUInt32BE(at + 7) === DELIVER) acks = this.#delivery(buffer, at + 11, acks)
        else this.#answer(buffer, at + 7)
      } else if (type !== FRAME_HEADER && this.onMessage !== null) {
        this.onMessage(buffer.subarray(at + 7, end))
      }
      at = end + 1
    }
    this.rest = at === buffer.length ? NO_BYTES : Buffer.from(buffer.subarray(at))
    if (acks > 0) this.socket.write(Buffer.from(this.acks.subarray(0, acks)))
  }

  #answer(buffer, at) {
    this.onMethod?.(buffer.readUInt32BE(at), buffer, at + 4)
    const { waiter } = this
    this.waiter = null
    waiter?.resolve(undefined)
  }

  /** Returns the end of the acknowledgements that have gathered. */
  #delivery(buffer, at, end) {
    this.received++
    if (this.noAck) return end
    const tag = at + 1 + buffer[at]
    const acks = this.acks
    acks.set([FRAME_METHOD, 0, 1, 0, 0, 0, 13, 0, 60, 0, 80], end)
    buffer.copy(acks, end + 11, tag, tag + 8)
    acks[end + 19] = 0
    acks[end + 20] = FRAME_END
    return end + ACK_BYTES
  }

  close() {
    this.socket.destroy()
  }
}
