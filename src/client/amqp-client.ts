/**
 * A small AMQP 0-9-1 client over the broker's own codec: one channel, to declare, bind and consume queues and to
 * publish what was encoded before. For `motemq demo` and `motemq bench`.
 */
import type { Duplex } from 'node:stream'
import { ContentAssembler } from '../amqp/codec/content.ts'
import { type FrameHandler, FrameSplitter } from '../amqp/codec/frame-splitter.ts'
import {
  type ArgumentsOf,
  BASIC,
  CHANNEL,
  CONFIRM,
  CONNECTION,
  encodeMethod,
  EXCHANGE,
  FRAME_BODY,
  FRAME_END,
  FRAME_HEAD_BYTES,
  FRAME_HEADER,
  FRAME_HEARTBEAT,
  FRAME_METHOD,
  type Method,
  QUEUE,
  readArguments,
  type Shape
} from '../amqp/codec/methods.ts'
import { PROTOCOL_HEADER } from '../amqp/codec/protocol-header.ts'
import { PeerSocket, type SocketHandler, type Sockets } from '../net/socket.ts'
import { openStream, PLAIN } from './transport.ts'

export interface AmqpTarget {
  /** Over TLS: whom Node trusts is trusted. */
  readonly isSecure: boolean
  readonly host: string
  readonly port: number
  readonly username: string
  readonly password: string
  readonly vhost: string
}

/** One message: views, true for this call only. */
export type DeliveryHandler = (routingKey: string, payload: Buffer, isRedelivered: boolean) => void

/** Told of what comes without being asked for. */
export interface AmqpHandler {
  /** The first body frame of a delivery is `buffer[start..end)`: a view, true for this call only. */
  onBody(buffer: Buffer, start: number, end: number): void
  /** basic.ack or basic.nack of what was published, up to this number if `multiple`. */
  onConfirm(sequence: number, multiple: boolean, isAck: boolean): void
  /** The socket takes more. */
  onRoom(): void
  onEnd(error: AmqpClientError): void
}

/** The server, or the network, ended it. */
export class AmqpClientError extends Error {
  readonly code: string

  constructor(message: string, code: string) {
    super(message)
    this.name = 'AmqpClientError'
    this.code = code
  }
}

const CHANNEL_ID = 1
const FRAME_BYTES_MAX = 128 * 1024
const MESSAGE_BYTES_MAX = 16 * 1024 * 1024
const HEARTBEAT = Buffer.from([FRAME_HEARTBEAT, 0, 0, 0, 0, 0, 0, FRAME_END])
const HEARTBEAT_SECONDS = 30
const ACKS_GATHERED_MAX = 100
/** In a content header: the lower half of the body's size. */
const BODY_SIZE_AT = 8
const TWO_32 = 4294967296
/** Bytes of a body frame: within what every server takes. */
const BODY_FRAME_BYTES = 64 * 1024

type ConfirmMethod = typeof BASIC.ack | typeof BASIC.nack

interface Waiting {
  readonly method: Method
  readonly resolve: (values: Record<string, unknown>) => void
  readonly reject: (error: Error) => void
}

/** Reads `amqp://user:password@host:port/vhost`, or `amqps://`; a string is what is wrong with it. */
export function parseAmqpUrl(text: string): AmqpTarget | string {
  if (!URL.canParse(text)) return 'no URL'
  const url = new URL(text)
  const isSecure = url.protocol === 'amqps:'
  if (!isSecure && url.protocol !== 'amqp:') return 'no amqp:// or amqps:// URL'
  const vhost = decodeURIComponent(url.pathname.slice(1))
  const port = isSecure ? 5671 : 5672
  return {
    isSecure,
    host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: url.port === '' ? port : Number(url.port),
    username: url.username === '' ? 'guest' : decodeURIComponent(url.username),
    password: url.username === '' ? 'guest' : decodeURIComponent(url.password),
    vhost: vhost === '' ? '/' : vhost
  }
}

export class AmqpClient implements SocketHandler, FrameHandler {
  private readonly socket: PeerSocket
  private readonly splitter: FrameSplitter
  private readonly content: ContentAssembler
  private readonly waiting: Waiting[]
  private onDelivery: DeliveryHandler | null
  /** Instead of `onDelivery`. */
  private handler: AmqpHandler | null
  private noAck: boolean
  /** Body bytes of the delivery at hand that are to come, and its first ones have not. */
  private bodyBytes: number
  private isFirst: boolean
  private redelivered: boolean
  /** Of the delivery at hand, and of the last one that is complete. */
  private tag: number
  private completeTag: number
  private unacked: number
  private failure: AmqpClientError | null
  private heartbeat: NodeJS.Timeout | null

  /** @throws AmqpClientError or the system's error */
  static async open(target: AmqpTarget, sockets: Sockets): Promise<AmqpClient> {
    const { isSecure, host, port } = target
    const transport = isSecure ? 'tls' : 'tcp'
    const signal = new AbortController().signal
    const stream = await openStream({ transport, host, port, path: '' }, PLAIN, 4, signal)
    const client = new AmqpClient(stream, sockets)
    await client.login(target)
    return client
  }

  private constructor(stream: Duplex, sockets: Sockets) {
    this.splitter = new FrameSplitter(FRAME_BYTES_MAX)
    this.content = new ContentAssembler(null)
    this.waiting = []
    this.onDelivery = null
    this.handler = null
    this.noAck = false
    this.bodyBytes = 0
    this.isFirst = false
    this.redelivered = false
    this.tag = 0
    this.completeTag = 0
    this.unacked = 0
    this.failure = null
    this.heartbeat = null
    this.socket = new PeerSocket(stream, this, sockets)
    this.socket.write(PROTOCOL_HEADER, 0, PROTOCOL_HEADER.length)
  }

  /** Why it ended; null while it lives. */
  get error(): AmqpClientError | null {
    return this.failure
  }

  /** Declares a queue, or asks for one that is there (`isPassive`); how many messages are ready in it. */
  async declareQueue(queue: string, durable: boolean, isPassive = false): Promise<number> {
    const values = { queue, durable, passive: isPassive, exclusive: false, autoDelete: false }
    const given = { reserved: 0, noWait: false, arguments: [] }
    const answer = await this.ask(QUEUE.declare, { ...given, ...values }, QUEUE.declareOk)
    return answer.messageCount
  }

  async declareExchange(exchange: string, type: string, autoDelete: boolean): Promise<void> {
    const flags = { passive: false, durable: false, autoDelete, internal: false, noWait: false }
    const values = { reserved: 0, exchange, type, ...flags, arguments: [] }
    await this.ask(EXCHANGE.declare, values, EXCHANGE.declareOk)
  }

  async bindQueue(queue: string, exchange: string, routingKey: string): Promise<void> {
    const values = { reserved: 0, queue, exchange, routingKey, noWait: false, arguments: [] }
    await this.ask(QUEUE.bind, values, QUEUE.bindOk)
  }

  async deleteQueue(queue: string): Promise<void> {
    const values = { reserved: 0, queue, ifUnused: false, ifEmpty: false, noWait: false }
    await this.ask(QUEUE.delete, values, QUEUE.deleteOk)
  }

  /** Each message is acknowledged when `onDelivery` has returned. */
  async consume(
    queue: string,
    consumerTag: string,
    prefetchCount: number,
    onDelivery: DeliveryHandler
  ): Promise<void> {
    await this.ask(BASIC.qos, { prefetchSize: 0, prefetchCount, global: false }, BASIC.qosOk)
    this.onDelivery = onDelivery
    const flags = { noLocal: false, noAck: false, exclusive: false, noWait: false }
    const values = { reserved: 0, queue, consumerTag, ...flags, arguments: [] }
    await this.ask(BASIC.consume, values, BASIC.consumeOk)
  }

  /** Told of everything; consumers to come need no `onDelivery`. */
  handle(handler: AmqpHandler): void {
    this.handler = handler
  }

  /** For `handle`: `noAck` holds for all consumers of this client. */
  async consumeRaw(queue: string, prefetchCount: number, noAck: boolean): Promise<void> {
    this.noAck = noAck
    await this.ask(BASIC.qos, { prefetchSize: 0, prefetchCount, global: false }, BASIC.qosOk)
    const flags = { noLocal: false, noAck, exclusive: false, noWait: false }
    const values = { reserved: 0, queue, consumerTag: '', ...flags, arguments: [] }
    await this.ask(BASIC.consume, values, BASIC.consumeOk)
  }

  async selectConfirms(): Promise<void> {
    await this.ask(CONFIRM.select, { noWait: false }, CONFIRM.selectOk)
  }

  /** Whole frames of a publish, see `publishFrames`. False: not taken, `onRoom` says when. */
  send(frames: Buffer): boolean {
    if (this.failure !== null || this.socket.isStuck) return false
    this.socket.write(frames, 0, frames.length)
    return true
  }

  /** What was delivered before is acknowledged; nothing more comes. */
  async cancel(consumerTag: string): Promise<void> {
    await this.ask(BASIC.cancel, { consumerTag, noWait: false }, BASIC.cancelOk)
    this.sendAcks()
  }

  /** Idempotent. */
  async close(): Promise<void> {
    if (this.failure !== null) return
    const values = { replyCode: 200, replyText: 'goodbye', classId: 0, methodId: 0 }
    await this.ask(CONNECTION.close, values, CONNECTION.closeOk, 0)
    this.fail('closed', 'closed')
  }

  onBytes(buffer: Buffer, start: number, end: number): void {
    try {
      this.splitter.feed(buffer, start, end, this)
    } catch (error) {
      this.fail((error as Error).message, 'protocol')
    }
    if (this.unacked > 0) this.sendAcks()
  }

  onDrained(): void {
    this.handler?.onRoom()
  }

  onClosed(): void {
    this.fail('the server closed the connection', 'ECONNRESET')
  }

  onFrame(type: number, channel: number, buffer: Buffer, start: number, end: number): number {
    if (type === FRAME_METHOD) this.onMethod(channel, buffer, start, end)
    else if (this.handler !== null) this.onRaw(type, buffer, start, end)
    else if (type === FRAME_HEADER) {
      if (this.content.onHeader(buffer, start, end, MESSAGE_BYTES_MAX)) this.deliver()
    } else if (type === FRAME_BODY && this.content.onBody(buffer, start, end)) this.deliver()
    return end + 1
  }

  /** A part of a delivery's content, looked at where it lies. */
  private onRaw(type: number, buffer: Buffer, start: number, end: number): void {
    if (type === FRAME_HEADER) {
      this.bodyBytes = buffer.readUInt32BE(start + BODY_SIZE_AT)
      this.isFirst = true
    } else if (type === FRAME_BODY) {
      this.bodyBytes -= end - start
      if (this.isFirst) this.handler?.onBody(buffer, start, end)
      this.isFirst = false
    } else return
    if (this.bodyBytes > 0 || this.noAck) return
    this.completeTag = this.tag
    this.unacked++
    if (this.unacked >= ACKS_GATHERED_MAX) this.sendAcks()
  }

  private onConfirm(method: ConfirmMethod, buffer: Buffer, at: number, end: number): void {
    const { deliveryTag, multiple } = readArguments(method, buffer, at, end)
    this.handler?.onConfirm(deliveryTag, multiple, method === BASIC.ack)
  }

  private async login(target: AmqpTarget): Promise<void> {
    await this.expect(CONNECTION.start)
    const response = Buffer.from(`\0${target.username}\0${target.password}`)
    const values = { clientProperties: [], mechanism: 'PLAIN', response, locale: 'en_US' }
    const tuning = this.expect(CONNECTION.tune)
    this.write(CONNECTION.startOk, values, 0)
    const { channelMax, frameMax, heartbeat } = await tuning
    const seconds = heartbeat === 0 ? 0 : Math.min(heartbeat, HEARTBEAT_SECONDS)
    const frameBytes = frameMax === 0 ? FRAME_BYTES_MAX : Math.min(frameMax, FRAME_BYTES_MAX)
    this.write(CONNECTION.tuneOk, { channelMax, frameMax: frameBytes, heartbeat: seconds }, 0)
    if (seconds > 0) {
      this.heartbeat = setInterval(
        () => this.socket.write(HEARTBEAT, 0, HEARTBEAT.length),
        seconds * 500
      )
    }
    const open = { virtualHost: target.vhost, reserved1: '', reserved2: false }
    await this.ask(CONNECTION.open, open, CONNECTION.openOk, 0)
    await this.ask(CHANNEL.open, { reserved: '' }, CHANNEL.openOk)
  }

  private onMethod(channel: number, buffer: Buffer, start: number, end: number): void {
    const id = buffer.readUInt32BE(start)
    const at = start + 4
    if (id === BASIC.deliver.id && this.handler !== null) {
      // Consumer tag, delivery tag.
      this.tag = readTag(buffer, at + 1 + buffer[at]!)
      return
    }
    if (id === BASIC.ack.id || id === BASIC.nack.id) {
      this.onConfirm(id === BASIC.ack.id ? BASIC.ack : BASIC.nack, buffer, at, end)
      return
    }
    if (id === BASIC.deliver.id) {
      const values = readArguments(BASIC.deliver, buffer, at, end)
      this.tag = values.deliveryTag
      this.redelivered = values.redelivered
      const key = Buffer.from(values.routingKey)
      this.content.open(values.exchange, values.routingKey, false, key, 0, key.length)
      return
    }
    if (id === CONNECTION.close.id || id === CHANNEL.close.id) {
      const { replyText } = readArguments(CONNECTION.close, buffer, at, end)
      if (channel === 0) this.write(CONNECTION.closeOk, {}, 0)
      this.fail(replyText, 'refused')
      return
    }
    const next = this.waiting[0]
    if (next === undefined || next.method.id !== id) return
    this.waiting.shift()
    next.resolve(readArguments(next.method, buffer, at, end))
  }

  private deliver(): void {
    const { content } = this
    const payload = content.buffer.subarray(content.propertiesEnd, content.end)
    this.onDelivery?.(content.key, payload, this.redelivered)
    content.reset()
    this.completeTag = this.tag
    this.unacked++
    if (this.unacked >= ACKS_GATHERED_MAX) this.sendAcks()
  }

  /** One for all that came before. */
  private sendAcks(): void {
    if (this.unacked === 0 || this.failure !== null) return
    this.unacked = 0
    this.write(BASIC.ack, { deliveryTag: this.completeTag, multiple: true })
  }

  private write<S extends Shape>(
    method: Method<S>,
    values: ArgumentsOf<S>,
    channel = CHANNEL_ID
  ): void {
    const frame = encodeMethod(method, channel, values)
    this.socket.write(frame, 0, frame.length)
  }

  private async ask<S extends Shape, A extends Shape>(
    method: Method<S>,
    values: ArgumentsOf<S>,
    answer: Method<A>,
    channel = CHANNEL_ID
  ): Promise<ArgumentsOf<A>> {
    const expected = this.expect(answer)
    this.write(method, values, channel)
    return await expected
  }

  private expect<A extends Shape>(method: Method<A>): Promise<ArgumentsOf<A>> {
    if (this.failure !== null) return Promise.reject(this.failure)
    return new Promise((resolve, reject) => {
      this.waiting.push({
        method,
        resolve: resolve as unknown as Waiting['resolve'],
        reject
      })
    })
  }

  private fail(message: string, code: string): void {
    if (this.failure !== null) return
    this.failure = new AmqpClientError(message, code)
    if (this.heartbeat !== null) clearInterval(this.heartbeat)
    this.socket.close(message)
    for (const { reject } of this.waiting.splice(0)) reject(this.failure)
    this.handler?.onEnd(this.failure)
  }
}

function readTag(buffer: Buffer, at: number): number {
  return buffer.readUInt32BE(at) * TWO_32 + buffer.readUInt32BE(at + 4)
}

/** The frames of a publish, to be sent again and again; `at` is where its payload begins. */
export function publishFrames(
  exchange: string,
  routingKey: string,
  isPersistent: boolean,
  payload: Buffer
): { frames: Buffer; at: number } {
  const flags = { mandatory: false, immediate: false }
  const values = { reserved: 0, exchange, routingKey, ...flags }
  // Delivery-mode is the fourth of the properties from the top.
  const properties = isPersistent ? [0x10, 0, 2] : [0, 0]
  const header = Buffer.alloc(12)
  header.writeUInt16BE(BASIC.publish.classId, 0)
  header.writeBigUInt64BE(BigInt(payload.length), 4)
  const parts = [
    encodeMethod(BASIC.publish, CHANNEL_ID, values),
    frame(FRAME_HEADER, Buffer.concat([header, Buffer.from(properties)]))
  ]
  const at = parts[0]!.length + parts[1]!.length + FRAME_HEAD_BYTES
  for (let from = 0; from < payload.length; from += BODY_FRAME_BYTES) {
    parts.push(frame(FRAME_BODY, payload.subarray(from, from + BODY_FRAME_BYTES)))
  }
  return { frames: Buffer.concat(parts), at }
}

function frame(type: number, payload: Buffer): Buffer {
  const bytes = Buffer.alloc(payload.length + FRAME_HEAD_BYTES + 1)
  bytes[0] = type
  bytes.writeUInt16BE(CHANNEL_ID, 1)
  bytes.writeUInt32BE(payload.length, 3)
  payload.copy(bytes, FRAME_HEAD_BYTES)
  bytes[bytes.length - 1] = FRAME_END
  return bytes
}
