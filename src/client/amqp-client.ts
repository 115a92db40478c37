/**
 * A small AMQP 0-9-1 client over the broker's own codec: one channel, to declare, bind and consume a queue
 * with acknowledgements. For `motemq demo`.
 */
import { connect, type Socket } from 'node:net'
import { ContentAssembler } from '../amqp/codec/content.ts'
import { type FrameHandler, FrameSplitter } from '../amqp/codec/frame-splitter.ts'
import {
  type ArgumentsOf,
  BASIC,
  CHANNEL,
  CONNECTION,
  encodeMethod,
  FRAME_BODY,
  FRAME_END,
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

export interface AmqpTarget {
  readonly host: string
  readonly port: number
  readonly username: string
  readonly password: string
  readonly vhost: string
}

/** One message: views, true for this call only. */
export type DeliveryHandler = (routingKey: string, payload: Buffer, isRedelivered: boolean) => void

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

interface Waiting {
  readonly method: Method
  readonly resolve: (values: Record<string, unknown>) => void
  readonly reject: (error: Error) => void
}

/** Reads `amqp://user:password@host:port/vhost`; a string is what is wrong with it. */
export function parseAmqpUrl(text: string): AmqpTarget | string {
  if (!URL.canParse(text)) return 'no URL'
  const url = new URL(text)
  if (url.protocol !== 'amqp:') return 'no amqp:// URL'
  const vhost = decodeURIComponent(url.pathname.slice(1))
  return {
    host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: url.port === '' ? 5672 : Number(url.port),
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
  private redelivered: boolean
  private tag: number
  private unacked: number
  private failure: AmqpClientError | null
  private heartbeat: NodeJS.Timeout | null

  /** @throws AmqpClientError or the system's error */
  static async open(target: AmqpTarget, sockets: Sockets): Promise<AmqpClient> {
    const socket = connect({ host: target.host, port: target.port, allowHalfOpen: true })
    // A flowing socket would read for itself before its handle is taken over.
    socket.pause()
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject)
      socket.once('connect', () => {
        socket.off('error', reject)
        resolve()
      })
    })
    const client = new AmqpClient(socket, sockets)
    await client.login(target)
    return client
  }

  private constructor(socket: Socket, sockets: Sockets) {
    this.splitter = new FrameSplitter(FRAME_BYTES_MAX)
    this.content = new ContentAssembler()
    this.waiting = []
    this.onDelivery = null
    this.redelivered = false
    this.tag = 0
    this.unacked = 0
    this.failure = null
    this.heartbeat = null
    this.socket = new PeerSocket(socket, this, sockets)
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
    // Only acknowledgements are written: there is nobody to wake.
  }

  onClosed(): void {
    this.fail('the server closed the connection', 'ECONNRESET')
  }

  onFrame(type: number, channel: number, buffer: Buffer, start: number, end: number): number {
    if (type === FRAME_METHOD) this.onMethod(channel, buffer, start, end)
    else if (type === FRAME_HEADER) {
      if (this.content.onHeader(buffer, start, end, MESSAGE_BYTES_MAX)) this.deliver()
    } else if (type === FRAME_BODY && this.content.onBody(buffer, start, end)) this.deliver()
    return end + 1
  }

  private async login(target: AmqpTarget): Promise<void> {
    await this.expect(CONNECTION.start)
    const response = Buffer.from(`\0${target.username}\0${target.password}`)
    const values = { clientProperties: [], mechanism: 'PLAIN', response, locale: 'en_US' }
    const tuning = this.expect(CONNECTION.tune)
    this.send(CONNECTION.startOk, values, 0)
    const { channelMax, frameMax, heartbeat } = await tuning
    const seconds = heartbeat === 0 ? 0 : Math.min(heartbeat, HEARTBEAT_SECONDS)
    const frameBytes = frameMax === 0 ? FRAME_BYTES_MAX : Math.min(frameMax, FRAME_BYTES_MAX)
    this.send(CONNECTION.tuneOk, { channelMax, frameMax: frameBytes, heartbeat: seconds }, 0)
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
      if (channel === 0) this.send(CONNECTION.closeOk, {}, 0)
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
    this.unacked++
    if (this.unacked >= ACKS_GATHERED_MAX) this.sendAcks()
  }

  /** One for all that came before. */
  private sendAcks(): void {
    if (this.unacked === 0 || this.failure !== null) return
    this.unacked = 0
    this.send(BASIC.ack, { deliveryTag: this.tag, multiple: true })
  }

  private send<S extends Shape>(
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
    this.send(method, values, channel)
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
  }
}
