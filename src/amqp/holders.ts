/**
 * Who took what is open on a channel: its consumers, and for each queue the channel itself by basic.get. Each has an
 * index, which an open delivery names in `Unacked`.
 */
import type { Consumer } from '../broker/consumer.ts'
import type { Queue } from '../core/queue.ts'

/** What a channel asks of its consumers. */
export interface ChannelConsumer extends Consumer {
  readonly tag: string
  readonly queue: Queue
  readonly holder: Holder
  isCancelled: boolean
  /** It had no credit when a delivery was there for it: it is woken when it may have some. */
  isStarved: boolean
  /** On the connection's list of those to wake. */
  isWaking: boolean
  /** The channel as a whole has a prefetch. */
  hasSharedPrefetch: boolean
  /** Its consume-ok has left: deliveries may follow. */
  start(): void
  /** It may have credit again. */
  onCredit(): void
}

export class Holder {
  readonly index: number
  readonly queue: Queue
  /** Null for basic.get. */
  readonly consumer: ChannelConsumer | null
  unackedCount: number

  constructor(index: number, queue: Queue, consumer: ChannelConsumer | null) {
    this.index = index
    this.queue = queue
    this.consumer = consumer
    this.unackedCount = 0
  }
}

export class Holders {
  /** By index; null: free. */
  readonly #list: (Holder | null)[]
  /** Indices that are free. */
  readonly #free: number[]
  /** Of what basic.get took: one channel may ask very many queues. */
  readonly #byQueue: Map<Queue, Holder>

  constructor() {
    this.#list = []
    this.#free = []
    this.#byQueue = new Map()
  }

  at(index: number): Holder {
    return this.#list[index]!
  }

  /** All of them. */
  *[Symbol.iterator](): Generator<Holder, void, void> {
    for (const holder of this.#list) if (holder !== null) yield holder
  }

  /** `consumer` null: of basic.get, see `ofGet`. */
  add(queue: Queue, consumer: ChannelConsumer | null): Holder {
    const holder = new Holder(this.#free.pop() ?? this.#list.length, queue, consumer)
    this.#list[holder.index] = holder
    return holder
  }

  /** The holder of what basic.get takes from a queue. */
  ofGet(queue: Queue): Holder {
    const known = this.#byQueue.get(queue)
    if (known !== undefined) return known
    const holder = this.add(queue, null)
    this.#byQueue.set(queue, holder)
    return holder
  }

  /** Its consumer is gone; the index is free once nothing of it is open. */
  forget(holder: Holder): void {
    if (holder.unackedCount > 0 || this.#list[holder.index] !== holder) return
    this.#list[holder.index] = null
    this.#free.push(holder.index)
    if (holder.consumer === null) this.#byQueue.delete(holder.queue)
  }
}
