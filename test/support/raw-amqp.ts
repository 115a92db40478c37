/** An AMQP client of bytes: it sends whatever a test wants, and hands out what comes, frame by frame. */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { RawInput } from './raw-input.ts'
import {
  type ArgumentsOf,
  BASIC,
  CHANNEL,
  CONNECTION,
  encodeMethod,
  type Method,
  readArguments,
  type Shape
} from '../../src/amqp/codec/methods.ts'
import { encodeProperties } from '../../src/amqp/properties.ts'
import type { FieldTable } from '../../src/core/field-table.ts'
import { MessageProperties } from '../../src/core/properties.ts'

export const PROTOCOL_HEADER = Buffer.from('AMQP\0\0\x09\x01', 'latin1')

export interface Frame {
  readonly type: number
  readonly channel: number
  readonly payload: Buffer
}

export interface RawAmqpOptions {
  /** Capabilities to claim; all by default. */
  capabilities?: readonly string[]
  frameMax?: number
  heartbeat?: number
  vhost?: string
  username?: string
  password?: string
}

export interface Content<S extends Shape> {
  readonly values: ArgumentsOf<S>
  readonly properties: Buffer
  readonly body: Buffer
  /** Body frames it came in. */
  readonly frames: number
}

const CAPABILITIES = [
  'publisher_confirms',
  'basic.nack',
  'consumer_cancel_notify',
  'connection.blocked',
  'authentication_failure_close'
]

export class RawAmqp {
  readonly socket: Socket
  readonly #input: RawInput

  static async dial(port: number): Promise<RawAmqp> {
    const socket = connect({ host: '127.0.0.1', port, noDelay: true })
    const client = new RawAmqp(socket)
    await once(socket, 'connect')
    return client
  }

  constructor(socket: Socket) {
    this.socket = socket
    this.#input = new RawInput(socket)
  }

  /** The peer ended or reset the connection. */
  get isEnded(): boolean {
    return this.#input.isClosed
  }

  send(...parts: (Buffer | string)[]): void {
    this.socket.write(
      Buffer.concat(
        parts.map(part => (typeof part === 'string' ? Buffer.from(part, 'latin1') : part))
      )
    )
  }

  method<S extends Shape>(method: Method<S>, channel: number, values: ArgumentsOf<S>): void {
    this.send(encodeMethod(method, channel, values))
  }

  /** The next `count` bytes; fewer when the peer ended before. */
  async bytes(count: number): Promise<Buffer> {
    while (this.#input.bytes.length < count && !this.isEnded) await this.#input.more()
    return this.#input.take(count)
  }

  /** The next frame; null when the peer ended the connection. */
  async frame(): Promise<Frame | null> {
    const head = await this.bytes(7)
    if (head.length < 7) return null
    const payload = await this.bytes(head.readUInt32BE(3))
    const end = await this.bytes(1)
    if (end[0] !== 0xce) throw new Error('frame without its end marker')
    return { type: head[0]!, channel: head.readUInt16BE(1), payload }
  }

  /** The id of the method that comes next, which stays to be read. */
  async peek(): Promise<number> {
    while (this.#input.bytes.length < 11 && !this.isEnded) await this.#input.more()
    return this.#input.bytes.length < 11 ? 0 : this.#input.bytes.readUInt32BE(7)
  }

  /** The next frame must be this method; heartbeats are passed over. Returns its arguments. */
  async expect<S extends Shape>(method: Method<S>, channel = 1): Promise<ArgumentsOf<S>> {
    let frame = await this.frame()
    while (frame !== null && frame.type === 8) frame = await this.frame()
    if (frame === null) throw new Error(`ended, ${method.classId}.${method.methodId} was awaited`)
    const id = frame.payload.readUInt32BE(0)
    if (frame.type !== 1 || id !== method.id || frame.channel !== channel) {
      const text = frame.type === 1 ? `${id >>> 16}.${id & 0xffff}` : `type ${frame.type}`
      const body = JSON.stringify(frame.payload.toString('latin1', 4))
      throw new Error(
        `${text} on ${frame.channel} instead of ${method.classId}.${method.methodId}: ${body}`
      )
    }
    return readArguments(method, frame.payload, 4, frame.payload.length)
  }

  /** Sends a method and waits for its answer. */
  async call<S extends Shape, R extends Shape>(
    method: Method<S>,
    values: ArgumentsOf<S>,
    answer: Method<R>,
    channel = 1
  ): Promise<ArgumentsOf<R>> {
    this.method(method, channel, values)
    return await this.expect(answer, channel)
  }

  /** A deliver, get-ok or return with its content. */
  async content<S extends Shape>(method: Method<S>, channel = 1): Promise<Content<S>> {
    const values = await this.expect(method, channel)
    const header = await this.frame()
    if (header?.type !== 2) throw new Error('no content header')
    const size = Number(header.payload.readBigUInt64BE(4))
    const parts: Buffer[] = []
    let bytes = 0
    while (bytes < size) {
      const body = await this.frame()
      if (body?.type !== 3 || body.channel !== channel) throw new Error('no content body')
      parts.push(body.payload)
      bytes += body.payload.length
    }
    const properties = header.payload.subarray(12)
    return { values, properties, body: Buffer.concat(parts), frames: parts.length }
  }

  async handshake(options: RawAmqpOptions = {}): Promise<void> {
    this.send(PROTOCOL_HEADER)
    await this.expect(CONNECTION.start, 0)
    this.startOk(options)
    const { channelMax, frameMax } = await this.expect(CONNECTION.tune, 0)
    const heartbeat = options.heartbeat ?? 0
    const tuned = { channelMax, frameMax: options.frameMax ?? frameMax, heartbeat }
    this.method(CONNECTION.tuneOk, 0, tuned)
    const virtualHost = options.vhost ?? '/'
    this.method(CONNECTION.open, 0, { virtualHost, reserved1: '', reserved2: false })
    await this.expect(CONNECTION.openOk, 0)
  }

  startOk(options: RawAmqpOptions = {}): void {
    const claimed = options.capabilities ?? CAPABILITIES
    const capabilities: FieldTable = claimed.map(name => [name, { type: 't', value: true }])
    const { username = 'guest', password = 'guest' } = options
    this.method(CONNECTION.startOk, 0, {
      clientProperties: [['capabilities', { type: 'F', value: capabilities }]],
      mechanism: 'PLAIN',
      response: Buffer.from(`\0${username}\0${password}`),
      locale: 'en_US'
    })
  }

  async openChannel(channel: number): Promise<void> {
    await this.call(CHANNEL.open, { reserved: '' }, CHANNEL.openOk, channel)
  }

  /** All frames of a publish as one write. */
  publish(
    exchange: string,
    key: string,
    body: Buffer | string,
    options: PublishOptions = {}
  ): void {
    this.send(...publishFrames(exchange, key, Buffer.from(body), options))
  }

  /** Waits until the peer ends the connection; what it still sends is thrown away. */
  async ended(): Promise<void> {
    while (!this.isEnded) await this.#input.more()
  }

  destroy(): void {
    this.socket.destroy()
  }
}

export interface PublishOptions {
  channel?: number
  mandatory?: boolean
  immediate?: boolean
  /** Delivery-mode 2. */
  persistent?: boolean
  properties?: Partial<MessageProperties>
  /** Bytes a body frame. */
  split?: number
}

export function publishFrames(
  exchange: string,
  key: string,
  body: Buffer,
  options: PublishOptions = {}
): Buffer[] {
  const { channel = 1, split = 100_000 } = options
  const mandatory = options.mandatory ?? false
  const immediate = options.immediate ?? false
  const method = { reserved: 0, exchange, routingKey: key, mandatory, immediate }
  const properties = Object.assign(new MessageProperties(), options.properties)
  if (options.persistent === true) properties.deliveryMode = 2
  const bytes = encodeProperties(properties)
  const header = Buffer.alloc(12 + bytes.length)
  header.writeUInt16BE(60, 0)
  header.writeBigUInt64BE(BigInt(body.length), 4)
  bytes.copy(header, 12)
  const frames = [encodeMethod(BASIC.publish, channel, method), rawFrame(2, channel, header)]
  for (let at = 0; at < body.length; at += split) {
    frames.push(rawFrame(3, channel, body.subarray(at, at + split)))
  }
  return frames
}

export function rawFrame(type: number, channel: number, payload: Buffer, endMarker = 0xce): Buffer {
  const frame = Buffer.alloc(payload.length + 8)
  frame[0] = type
  frame.writeUInt16BE(channel, 1)
  frame.writeUInt32BE(payload.length, 3)
  payload.copy(frame, 7)
  frame[frame.length - 1] = endMarker
  return frame
}
