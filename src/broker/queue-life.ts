/**
 * What passes in a queue by itself: its messages expire, leave it as dead letters, and in the end it goes
 * too when nobody uses it. Only a queue that needs it has such an object.
 *
 * Nothing here publishes: what has died stays open in its queue, delivered to nobody, until
 * broker/dead-letter.ts has taken it away in a turn of its own. A crash before that brings it back.
 */
import type { DeathReason } from '../core/death.ts'
import type { DropReason } from '../core/errors.ts'
import type { Message } from '../core/message.ts'
import type { Life, Queue } from '../core/queue.ts'
import { ENTRY_COUNT, ENTRY_COUNT_SHIFT, SETTLED } from '../core/queue-entry.ts'
import { Deadline } from '../lib/deadline-heap.ts'
import { Fifo } from '../lib/fifo.ts'
import type { Broker, Timed } from './broker.ts'
import { endQueue } from './end-queue.ts'
import { finish } from './finish.ts'
import type { KeptLetters } from './kept-letters.ts'
import { type QueueWork, queueClockOf } from './queue-clock.ts'
import type { Consumers } from './queue-consumers.ts'

/** A head that changes is looked at after this: once for all that happens meanwhile. */
const LOOK_MS = 50
/** The disk's alarm or a full memory holds dead letters up: they are tried again after this. */
const RETRY_MS = 1_000
/** What a message that a full queue gives up counts for among the deliveries of a turn: 585 of them are a turn's. */
const LETTER_DELIVERIES = 6
/** What an entry counts to. */
const COUNT_MAX = ENTRY_COUNT >> ENTRY_COUNT_SHIFT
/** Messages of a queue that are counted beyond that: above it they begin again at 255. */
const MANY_MAX = 10_000
/** Copies of refused messages that wait for their turn, all queues together. */
const REFUSED_BYTES_MAX = 16 * 1024 * 1024

export const DROPPED = {
  expired: 'expired',
  rejected: 'rejected',
  maxlen: 'queue_full',
  delivery_limit: 'delivery_limit'
} as const satisfies Record<DeathReason, DropReason>

export class QueueLife implements Timed, Life, QueueWork {
  readonly broker: Broker
  readonly queue: Queue
  /** When the head is to be looked at. */
  readonly head: Deadline<Timed>
  /** When the first of those held is due. Null: none ever was. */
  due: Deadline<Timed> | null
  /** When the queue goes unless it is used; null: it stays. */
  lease: Deadline<Timed> | null
  /** The head has changed: a look at it is on its way. */
  isStale: boolean
  /** It may hold more than its bounds allow. */
  isOver: boolean
  /** Some of those held may be due now. */
  isHeldDue: boolean
  /** When dead letters that nobody took are tried again. Null: there never were any. */
  kept: KeptLetters | null
  /** The head is to be looked at now. */
  isDue: boolean
  isScheduled: boolean
  /** Something was taken away, or read, since consumers were last woken. */
  hasWorked: boolean
  /** A block is being read. */
  isLoading: boolean
  /** Deliveries of those that had more than an entry counts. */
  many: Map<number, number> | null
  /** What has died and is still in the queue, by sequence, in its order; and of what. */
  readonly dead: Fifo<number>
  readonly reasons: Fifo<DeathReason>
  /** Copies of messages that never were in it: the full queue refused them. */
  readonly refused: Fifo<Message>

  constructor(broker: Broker, queue: Queue) {
    this.broker = broker
    this.queue = queue
    this.head = new Deadline<Timed>(this)
    this.due = null
    this.lease = null
    this.isStale = false
    this.isOver = false
    this.isHeldDue = false
    this.kept = null
    this.isDue = false
    this.isScheduled = false
    this.hasWorked = false
    this.isLoading = false
    this.many = null
    this.dead = new Fifo()
    this.reasons = new Fifo()
    this.refused = new Fifo()
  }

  onDue(): void {
    this.isStale = false
    this.isDue = true
    this.schedule()
  }

  schedule(): void {
    if (this.isScheduled || this.isLoading) return
    this.isScheduled = true
    queueClockOf(this.broker).schedule(this)
  }

  work(most: number): number {
    this.isScheduled = false
    if (!this.queue.isDeleted) return this.broker.bury(this, most)
    this.end()
    return 0
  }

  /** Looks at the head then, if not earlier. */
  lookAt(at: number): void {
    if (!this.head.isSet || at < this.head.at) queueClockOf(this.broker).set(this.head, at)
  }

  retry(): void {
    this.lookAt(this.broker.nowMs + RETRY_MS)
  }

  end(): void {
    const clock = queueClockOf(this.broker)
    clock.clear(this.head)
    if (this.due !== null) clock.clear(this.due)
    this.isHeldDue = false
    if (this.kept !== null) clock.forget(this.kept)
    if (this.lease !== null) clock.clear(this.lease)
    while (this.refused.size > 0) clock.refusedBytes -= this.refused.shift()!.source.length
    this.dead.clear()
    this.reasons.clear()
    this.isDue = false
  }
}

export function lifeOf(broker: Broker, queue: Queue): QueueLife {
  if (queue.life === null) queue.life = new QueueLife(broker, queue)
  return queue.life as QueueLife
}

/** A message with an expiry has come into the queue. */
export function noteExpiring(broker: Broker, queue: Queue, at: number): void {
  const life = lifeOf(broker, queue)
  if (life.isDue) return
  if (at <= broker.nowMs) life.onDue()
  else life.lookAt(at)
}

/** The head of a queue with expiring messages is another one now: it may be due already. */
export function headChanged(broker: Broker, queue: Queue): void {
  // What was sent to a client once does not expire [MQTT-4.3.3-7]: sessions look at each delivery themselves.
  if (queue.isSession) return
  const life = lifeOf(broker, queue)
  if (life.isStale || life.isDue) return
  life.isStale = true
  life.lookAt(broker.nowMs + LOOK_MS)
}

/** Nothing waits in the queue any more: nobody needs to look. */
export function nothingExpires(broker: Broker, queue: Queue): void {
  const life = queue.life as QueueLife | null
  if (life === null || !life.head.isSet || life.dead.size > 0) return
  life.isStale = false
  queueClockOf(broker).clear(life.head)
}

/** The head has expired: it and those behind it that have, too, leave in a turn of their own. */
export function expireSoon(broker: Broker, queue: Queue): void {
  const life = lifeOf(broker, queue)
  if (!life.isDue) life.onDue()
}

/** The queue may hold more than its bounds allow: the oldest leave in a turn of their own. */
export function trimSoon(broker: Broker, queue: Queue): void {
  const life = lifeOf(broker, queue)
  life.isOver = true
  life.schedule()
}

/** A policy came, changed or went: a queue in use has other options. What lies in it keeps its expiry. */
export function optionsChanged(broker: Broker, queue: Queue): void {
  const { options } = queue
  used(broker, queue)
  if (queue.stream !== null) {
    queue.stream.onOptions()
    return
  }
  if (options.isBounded && options.overflow === 'drop-head') trimSoon(broker, queue)
}

/**
 * A message is wanted no more: it leaves for the queue's dead letter exchange, or is dropped, counted. It is
 * open, or ready and `next` named it last.
 */
export function discard(
  broker: Broker,
  queue: Queue,
  sequence: number,
  reason: DeathReason,
  isReady: boolean
): void {
  if (queue.options.deadLetterExchange === null) {
    finish(broker, queue, sequence)
    broker.counters.dropFrom(queue, DROPPED[reason])
    return
  }
  if (isReady) queue.take(sequence)
  // Whoever publishes to a full queue makes this work, which is dearer than a delivery: the two keep step.
  if (reason === 'maxlen') broker.turns.deliveries += LETTER_DELIVERIES
  const life = lifeOf(broker, queue)
  life.dead.push(sequence)
  life.reasons.push(reason)
  life.schedule()
}

/** A full queue refuses a message and gives it to its dead letter exchange: a copy waits for its turn. */
export function discardRefused(broker: Broker, queue: Queue, message: Message): void {
  const bytes = message.payloadEnd - message.payloadStart
  const clock = queueClockOf(broker)
  if (clock.refusedBytes + bytes > REFUSED_BYTES_MAX) {
    broker.counters.dropFrom(queue, 'queue_full')
    return
  }
  broker.turns.deliveries += LETTER_DELIVERIES
  const life = lifeOf(broker, queue)
  const copy = message.copy()
  clock.refusedBytes += copy.source.length
  life.refused.push(copy)
  life.schedule()
}

/** How often an open delivery of the queue was delivered. Asked once whenever it comes back. */
export function deliveriesOf(broker: Broker, queue: Queue, sequence: number): number {
  if (!queue.find(sequence)) return 0
  const count = (queue.flags & ENTRY_COUNT) >> ENTRY_COUNT_SHIFT
  if (count < COUNT_MAX) return count
  const life = lifeOf(broker, queue)
  life.many ??= new Map()
  if (life.many.size >= MANY_MAX) {
    for (const known of life.many.keys()) {
      if (queue.stateOf(known) === SETTLED) life.many.delete(known)
    }
    if (life.many.size >= MANY_MAX) life.many.clear()
  }
  const many = (life.many.get(sequence) ?? COUNT_MAX - 1) + 1
  life.many.set(sequence, many)
  return many
}

/** Deliveries of a message that had more than an entry counts; 0 for any other. */
export function manyOf(queue: Queue, sequence: number): number {
  return (queue.life as QueueLife | null)?.many?.get(sequence) ?? 0
}

class Lease implements Timed {
  readonly #queue: Queue

  constructor(queue: Queue) {
    this.#queue = queue
  }

  onDue(broker: Broker): void {
    const queue = this.#queue
    const consumers = queue.attached as Consumers | null
    // The last one that leaves begins the time anew.
    if (queue.isDeleted || (consumers !== null && consumers.list.length > 0)) return
    if (queue.options.expiresMs === 0) return
    if (queue.isDurable && broker.journal.failed) return
    broker.log.info(
      { queue: queue.name, vhost: queue.vhost },
      'a queue that nobody used has expired'
    )
    endQueue(broker, queue)
  }
}

/** The queue was declared, asked for a message, left by its last consumer, or found at a start (x-expires). */
export function used(broker: Broker, named: Queue): void {
  // A level of it is used whenever it is.
  const queue = named.levels === null ? named : named.levels.owner
  const { expiresMs } = queue.options
  if (expiresMs === 0 && queue.life === null) return
  const life = lifeOf(broker, queue)
  if (expiresMs === 0) {
    if (life.lease !== null) queueClockOf(broker).clear(life.lease)
    return
  }
  life.lease ??= new Deadline<Timed>(new Lease(queue))
  queueClockOf(broker).set(life.lease, broker.nowMs + expiresMs)
}
