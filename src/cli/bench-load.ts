/** The load of `motemq bench`: publishers and subscribers in this process, every message timed and counted. */
import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  type ClientEnd,
  type ClientHandler,
  type ClientOptions,
  defaultOptions,
  TAKEN
} from '../client/client-options.ts'
import { MqttClient } from '../client/mqtt-client.ts'
import { ID } from '../client/properties.ts'
import type { TargetUrl } from '../client/target.ts'
import type { Message } from '../core/message.ts'
import { Histogram } from '../lib/histogram.ts'
import { Sockets } from '../net/socket.ts'
import { CommandError } from './exit.ts'

export type Layout = 'pairs' | 'fan-in' | 'fan-out'

export interface LoadOptions {
  readonly url: TargetUrl
  readonly layout: Layout
  readonly publishers: number
  readonly subscribers: number
  /** More connections that do nothing. */
  readonly connections: number
  readonly qos: number
  readonly size: number
  /** Messages of a publisher that have not arrived, at most. */
  readonly window: number
  /** Messages a second of all publishers together; 0: as fast as the window lets them. */
  readonly rate: number
  readonly seconds: number
  /** The subscribers' sessions outlive their connections. */
  readonly durable: boolean
  readonly version: 3 | 4 | 5
  /** Topics begin with it. */
  readonly topic: string
}

export interface LoadResult {
  readonly published: number
  /** Deliveries that should come of it. */
  readonly expected: number
  readonly received: number
  /** QoS 1 and 2: acknowledged to their publishers. */
  readonly acknowledged: number
  /** From the first PUBLISH to the last delivery, seconds. */
  readonly elapsedSeconds: number
  /** Microseconds from `publish` to the subscriber. */
  readonly latency: Histogram
  readonly bytesIn: number
  readonly bytesOut: number
  /** Connections that ended before the end. */
  readonly lostConnections: number
}

/** Time, publisher and mark of the run, in front of each payload. */
export const HEAD_BYTES = 16
const PUBLISHER_AT = 8
const MARK_AT = 12
const TICK_MS = 5
const DRAIN_MS = 10_000
const STALL_MS = 1_000
const SESSION_SECONDS = 3_600
const CONNECTING_MAX = 100
const NOTHING = Buffer.alloc(0)

export class Load {
  readonly options: LoadOptions
  readonly latency: Histogram
  readonly sockets: Sockets
  readonly mark: number
  isPublishing: boolean
  published: number
  received: number
  acknowledged: number
  lostConnections: number
  private readonly publishers: Publisher[]
  private readonly subscribers: Subscriber[]
  private readonly idle: Idle[]
  private firstAt: number
  lastAt: number

  constructor(options: LoadOptions) {
    this.options = options
    this.latency = new Histogram()
    this.sockets = new Sockets({ outputBytesMax: 1024 * 1024, drainTimeoutMs: 60_000 })
    this.mark = randomBytes(4).readUInt32BE()
    this.isPublishing = false
    this.published = 0
    this.received = 0
    this.acknowledged = 0
    this.lostConnections = 0
    this.publishers = []
    this.subscribers = []
    this.idle = []
    this.firstAt = 0
    this.lastAt = 0
  }

  /** Connects and subscribes everybody. @throws CommandError */
  async open(): Promise<void> {
    const { publishers, subscribers, connections } = this.options
    for (let i = 0; i < subscribers; i++) this.subscribers.push(new Subscriber(this, i))
    for (let i = 0; i < publishers; i++) this.publishers.push(new Publisher(this, i))
    for (let i = 0; i < connections; i++) this.idle.push(new Idle(this, `idle${i}`))
    const all = [...this.subscribers, ...this.publishers, ...this.idle]
    for (let i = 0; i < all.length; i += CONNECTING_MAX) {
      await Promise.all(all.slice(i, i + CONNECTING_MAX).map(client => client.open()))
    }
  }

  /** Publishes for the time of the options, then waits for what is on its way. */
  async run(): Promise<LoadResult> {
    const { seconds, rate } = this.options
    this.isPublishing = true
    this.firstAt = performance.now()
    this.lastAt = this.firstAt
    const timer = rate > 0 ? setInterval(() => this.publishDue(), TICK_MS) : this.watchStalls()
    if (rate === 0) for (const publisher of this.publishers) publisher.fill()
    await sleep(seconds * 1_000)
    this.isPublishing = false
    clearInterval(timer)
    await this.drain()
    return this.result()
  }

  async close(): Promise<void> {
    for (const client of [...this.publishers, ...this.idle, ...this.subscribers]) client.close()
    await sleep(10)
  }

  /** A delivery; `index`: of its subscriber. */
  onDelivery(message: Message, index: number): void {
    const { source, payloadStart: at } = message
    if (message.payloadBytes < HEAD_BYTES || source.readUInt32BE(at + MARK_AT) !== this.mark) return
    const now = performance.now()
    this.latency.record(Math.round((now - source.readDoubleBE(at)) * 1_000))
    this.received++
    this.lastAt = now
    // Of those who all get it, one says that it has arrived.
    if (this.options.layout !== 'pairs' && index !== this.options.subscribers - 1) return
    this.publishers[source.readUInt32BE(at + PUBLISHER_AT)]?.onArrived()
  }

  private get expected(): number {
    return this.options.layout === 'pairs'
      ? this.published
      : this.published * this.options.subscribers
  }

  private publishDue(): void {
    const { rate } = this.options
    const due = Math.floor(((performance.now() - this.firstAt) / 1_000) * rate)
    const { publishers } = this
    let failures = 0
    while (this.published < due && failures < publishers.length) {
      const publisher = publishers[this.published % publishers.length]!
      if (publisher.publishOne()) failures = 0
      else if (!publishers.some(other => other.publishOne())) failures = publishers.length
    }
  }

  /** What was dropped on the way never arrives: after a second without anything its window is given back. */
  private watchStalls(): NodeJS.Timeout {
    let before = -1
    return setInterval(() => {
      if (this.received === before) for (const publisher of this.publishers) publisher.forget()
      before = this.received
    }, STALL_MS)
  }

  private async drain(): Promise<void> {
    const deadline = performance.now() + DRAIN_MS
    let before = -1
    let quietUntil = 0
    while (performance.now() < deadline) {
      const isAcked = this.options.qos === 0 || this.acknowledged >= this.published
      if (this.received >= this.expected && isAcked) return
      if (this.received !== before) quietUntil = performance.now() + STALL_MS
      else if (performance.now() > quietUntil && isAcked) return
      before = this.received
      await sleep(10)
    }
  }

  private result(): LoadResult {
    return {
      published: this.published,
      expected: this.expected,
      received: this.received,
      acknowledged: this.acknowledged,
      elapsedSeconds: (this.lastAt - this.firstAt) / 1_000,
      latency: this.latency,
      bytesIn: this.sockets.bytesIn,
      bytesOut: this.sockets.bytesOut,
      lostConnections: this.lostConnections
    }
  }
}

/** A connection; those that do more extend it. */
class Idle implements ClientHandler {
  protected readonly load: Load
  protected readonly client: MqttClient
  private resolve: (() => void) | null
  private reject: ((error: Error) => void) | null
  private isClosing: boolean

  constructor(load: Load, name: string, isLasting = false) {
    const { url, version, window } = load.options
    const lasting = isLasting && version === 5
    const options: ClientOptions = {
      ...defaultOptions(url.target, load.sockets),
      version,
      clientId: `bench-${load.mark.toString(16)}-${name}`,
      cleanStart: !isLasting,
      username: url.username,
      password: url.password === null ? null : Buffer.from(url.password),
      inflightMax: window,
      properties: lasting ? [{ id: ID.sessionExpiry, value: SESSION_SECONDS }] : []
    }
    this.load = load
    this.client = new MqttClient(options, this)
    this.resolve = null
    this.reject = null
    this.isClosing = false
  }

  open(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.resolve = resolve
      this.reject = reject
      this.client.connect()
    })
  }

  close(): void {
    this.isClosing = true
    this.client.disconnect()
  }

  protected opened(): void {
    this.resolve?.()
    this.resolve = null
    this.reject = null
  }

  onConnected(): void {
    this.opened()
  }

  onMessage(_message: Message): void {
    // Only subscribers get any.
  }

  onSettled(_token: number, _reason: number): void {
    // Only publishers are told.
  }

  onRoom(): void {
    // Only publishers wait for it.
  }

  onDisconnected(end: ClientEnd): void {
    this.reject?.(new CommandError(`no connection: ${end.text}`))
    if (!this.isClosing) this.load.lostConnections++
  }
}

class Subscriber extends Idle {
  private readonly index: number

  constructor(load: Load, index: number) {
    super(load, `sub${index}`, load.options.durable)
    this.index = index
  }

  override onConnected(): void {
    const { layout, publishers, subscribers, qos, topic } = this.load.options
    const filters: string[] = []
    if (layout === 'pairs') {
      for (let i = this.index; i < publishers; i += subscribers) filters.push(`${topic}/${i}`)
    } else filters.push(`${topic}/#`)
    this.client
      .subscribe(filters.map(filter => ({ filter, qos, options: 0 })))
      .then(() => this.opened())
      .catch((error: unknown) => {
        setImmediate(() => {
          throw error
        })
      })
  }

  override onMessage(message: Message): void {
    this.load.onDelivery(message, this.index)
  }

  override close(): void {
    // A session that lasts is not left behind.
    const { options } = this.load
    if (options.durable && options.version === 5 && this.client.isOpen) {
      this.client.disconnect(0, [{ id: ID.sessionExpiry, value: 0 }])
    }
    super.close()
  }
}

class Publisher extends Idle {
  private readonly topic: Buffer
  private readonly payload: Buffer
  /** Published and not yet arrived. */
  private outstanding: number

  constructor(load: Load, index: number) {
    super(load, `pub${index}`)
    const { layout, size, topic } = load.options
    this.topic = Buffer.from(layout === 'fan-out' ? `${topic}/all` : `${topic}/${index}`)
    this.payload = Buffer.alloc(size, 'x')
    this.payload.writeUInt32BE(index, PUBLISHER_AT)
    this.payload.writeUInt32BE(load.mark, MARK_AT)
    this.outstanding = 0
  }

  /** Publishes until the window is full. */
  fill(): void {
    const { load } = this
    const { rate, window } = load.options
    while (load.isPublishing && rate === 0 && this.outstanding < window) {
      if (!this.publishOne()) return
    }
  }

  publishOne(): boolean {
    const { load, payload } = this
    const { qos } = load.options
    payload.writeDoubleBE(performance.now(), 0)
    // A large payload is not copied at QoS 0: it must not be written over.
    const bytes = qos === 0 && payload.length > 8_192 ? Buffer.from(payload) : payload
    if (this.client.publish(this.topic, bytes, qos, false, NOTHING, 0) !== TAKEN) return false
    load.published++
    this.outstanding++
    return true
  }

  onArrived(): void {
    this.outstanding--
    this.fill()
  }

  forget(): void {
    this.outstanding = 0
    this.fill()
  }

  override onSettled(): void {
    this.load.acknowledged++
  }

  override onRoom(): void {
    this.fill()
  }
}
