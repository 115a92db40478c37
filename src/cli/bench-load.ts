/**
 * The load of `motemq bench`: publishers and subscribers in this process, every message timed and counted. What speaks
 * a protocol is handed in.
 */
import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { AmqpTarget } from '../client/amqp-client.ts'
import type { TargetUrl } from '../client/target.ts'
import { Histogram } from '../lib/histogram.ts'
import { Sockets } from '../net/socket.ts'

export type Layout = 'pairs' | 'fan-in' | 'fan-out'

/** A connection. */
export interface LoadPeer {
  /** @throws CommandError */
  open(): Promise<void>
  close(): Promise<void> | void
}

export interface LoadPublisher extends LoadPeer {
  readonly window: Window
  /** False: it has no room. */
  publishOne(): boolean
}

/** What a publisher has on the way: at most `window` of the options, without a rate always that many. */
export class Window {
  readonly #load: Load
  readonly #publisher: LoadPublisher
  /** Published and not yet arrived. */
  outstanding: number

  constructor(load: Load, publisher: LoadPublisher) {
    this.#load = load
    this.#publisher = publisher
    this.outstanding = 0
  }

  /** Publishes until it is full. */
  fill(): void {
    const load = this.#load
    const { rate, window } = load.options
    while (load.isPublishing && rate === 0 && this.outstanding < window) {
      if (!this.#publisher.publishOne()) return
    }
  }

  onArrived(count: number): void {
    this.outstanding -= count
    this.fill()
  }

  /** What was dropped on the way never arrives. */
  forget(): void {
    this.outstanding = 0
    this.fill()
  }
}

/** Who makes the connections. */
export interface LoadPeers {
  publisher(load: Load, index: number): LoadPublisher
  subscriber(load: Load, index: number): LoadPeer
  idle(load: Load, index: number): LoadPeer
}

export interface LoadOptions {
  /** MQTT; unused when `amqp` is there. */
  readonly url: TargetUrl
  /** Null: MQTT. */
  readonly amqp: AmqpTarget | null
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
  /** MQTT: the subscribers' sessions outlive their connections. AMQP: durable queues, persistent messages. */
  readonly durable: boolean
  /** AMQP with acknowledgements: open deliveries of a consumer; 0 = any. */
  readonly prefetch: number
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
export const PUBLISHER_AT = 8
export const MARK_AT = 12
const TICK_MS = 5
const DRAIN_MS = 10_000
const STALL_MS = 1_000
const CONNECTING_MAX = 100

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
  private readonly peers: LoadPeers
  private readonly publishers: LoadPublisher[]
  private readonly subscribers: LoadPeer[]
  private readonly idle: LoadPeer[]
  private firstAt: number
  lastAt: number

  constructor(options: LoadOptions, peers: LoadPeers) {
    this.options = options
    this.peers = peers
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
    const { peers } = this
    for (let i = 0; i < subscribers; i++) this.subscribers.push(peers.subscriber(this, i))
    for (let i = 0; i < publishers; i++) this.publishers.push(peers.publisher(this, i))
    for (let i = 0; i < connections; i++) this.idle.push(peers.idle(this, i))
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
    if (rate === 0) for (const publisher of this.publishers) publisher.window.fill()
    await sleep(seconds * 1_000)
    this.isPublishing = false
    clearInterval(timer)
    await this.drain()
    return this.result()
  }

  async close(): Promise<void> {
    const all = [...this.publishers, ...this.idle, ...this.subscribers]
    await Promise.all(all.map(client => client.close()))
    await sleep(10)
  }

  /** A payload of `bytes` at `source[at]`; `index`: of its subscriber. */
  onDelivery(source: Buffer, at: number, bytes: number, index: number): void {
    if (bytes < HEAD_BYTES || source.readUInt32BE(at + MARK_AT) !== this.mark) return
    const now = performance.now()
    this.latency.record(Math.round((now - source.readDoubleBE(at)) * 1_000))
    this.received++
    this.lastAt = now
    // Of those who all get it, one says that it has arrived.
    if (!this.isShared && index !== this.options.subscribers - 1) return
    this.publishers[source.readUInt32BE(at + PUBLISHER_AT)]?.window.onArrived(1)
  }

  /** Each message goes to one subscriber: with AMQP, those of a fan-in have one queue together. */
  private get isShared(): boolean {
    const { amqp, layout } = this.options
    return layout === 'pairs' || (amqp !== null && layout === 'fan-in')
  }

  private get expected(): number {
    const { subscribers } = this.options
    return this.isShared ? (subscribers > 0 ? this.published : 0) : this.published * subscribers
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
      if (this.received === before)
        for (const publisher of this.publishers) publisher.window.forget()
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
