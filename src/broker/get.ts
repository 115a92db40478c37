/** basic.get: one message, now or when its block was read. */
import type { Message } from '../core/message.ts'
import type { Chunk } from '../core/chunk.ts'
import { NOTHING } from '../core/entries.ts'
import { COLD, type Queue, readyOf } from '../core/queue.ts'
import { ENTRY_EXPIRES, ENTRY_REDELIVERED } from '../core/queue-entry.ts'
import { expiryIn } from '../core/records/message.ts'
import type { BlockWaiter } from '../journal/journal.ts'
import { DAMAGED, load, NOT_LOADED, view, viewed } from './bodies.ts'
import type { Broker } from './broker.ts'
import { DELIVER_REDELIVERED } from './consumer.ts'
import { afterIndexRead, warm } from './deliver.ts'
import { withDeliveryCount } from './delivery-count.ts'
import { finish } from './finish.ts'
import { countTaken, discardSpent, noteReturned } from './held.ts'
import { trimReturned } from './overflow.ts'
import { discard, headChanged, type QueueLife } from './queue-life.ts'

/** With so many ready or fewer a get takes away first what is above the queue's length. */
const TRIMMED_MAX = 1_000

/** Gets the answer; `message` is a view for this turn, null when the queue is empty. `sequence`: as for a consumer. */
export interface Taker {
  onGot(message: Message | null, sequence: number, flags: number, remaining: number): void
}

/** Answers at once, or when the block is in memory. With `noAck` the message is settled. */
export function get(broker: Broker, whole: Queue, taker: Taker, noAck: boolean): void {
  // What came in this turn and is too much is for consumers only. A long queue is trimmed in turns.
  const life = whole.life as QueueLife | null
  if (life?.isOver === true && readyOf(whole) <= TRIMMED_MAX) trimReturned(broker, whole)
  for (;;) {
    if (whole.isDeleted) {
      taker.onGot(null, 0, 0, 0)
      return
    }
    const { levels } = whole
    const queue = levels === null ? whole : levels.top()
    const sequence = queue.next()
    if (sequence === NOTHING) {
      taker.onGot(null, 0, 0, 0)
      return
    }
    if (sequence === COLD) {
      const chunk = queue.coldChunk!
      if (warm(broker, queue, chunk)) continue
      const waiter = new GetWaiter(broker, whole, queue, taker, noAck, chunk)
      load(broker, chunk.segment, chunk.offset, waiter)
      return
    }
    const found = view(broker, queue.segment, queue.offset)
    if (found === DAMAGED) {
      giveUp(broker, queue, sequence)
      continue
    }
    if (found === NOT_LOADED) {
      const waiter = new GetWaiter(broker, whole, queue, taker, noAck, null)
      load(broker, queue.segment, queue.offset, waiter)
      return
    }
    const { stored } = broker
    const expires = (queue.flags & ENTRY_EXPIRES) !== 0
    if (expires && expiryIn(stored.source, stored, viewed.end, queue.id) <= broker.nowMs) {
      discard(broker, queue, sequence, 'expired', true)
      continue
    }
    const isOld = sequence < queue.redeliveredBelow
    const flags = isOld || (queue.flags & ENTRY_REDELIVERED) !== 0 ? DELIVER_REDELIVERED : 0
    const entryFlags = queue.flags
    const isCounted = flags !== 0 && queue.options.countsDeliveries
    if (isCounted && discardSpent(broker, queue, sequence)) continue
    queue.take(sequence)
    const message = isCounted
      ? withDeliveryCount(broker, queue, sequence, entryFlags, stored)
      : stored
    if (isCounted && !noAck) noteReturned(broker, queue, sequence, countTaken(queue, sequence))
    const name = levels === null ? sequence : levels.nameOf(queue, sequence)
    taker.onGot(message, name, flags, readyOf(queue))
    if (noAck) finish(broker, queue, sequence)
    if (queue.mayExpire) headChanged(broker, queue)
    return
  }
}

/** What cannot be read is given up, counted: the one behind it can be had. */
function giveUp(broker: Broker, queue: Queue, sequence: number): void {
  finish(broker, queue, sequence)
  broker.counters.dropFrom(queue, 'damaged')
  broker.log.error({ queue: queue.name, sequence }, 'a message is damaged on the disk')
}

class GetWaiter implements BlockWaiter {
  readonly #broker: Broker
  readonly #whole: Queue
  /** Its level that is read; itself where there are none. */
  readonly #queue: Queue
  readonly #taker: Taker
  readonly #noAck: boolean
  /** Whose index is read; null: a message's body is. */
  readonly #chunk: Chunk | null

  constructor(
    broker: Broker,
    whole: Queue,
    queue: Queue,
    taker: Taker,
    noAck: boolean,
    chunk: Chunk | null
  ) {
    this.#broker = broker
    this.#whole = whole
    this.#queue = queue
    this.#taker = taker
    this.#noAck = noAck
    this.#chunk = chunk
  }

  onBlock(segment: number, offset: number, ok: boolean): void {
    const broker = this.#broker
    const queue = this.#queue
    if (this.#chunk !== null) afterIndexRead(broker, queue, this.#chunk, segment, offset, ok)
    else if (!ok && !queue.isDeleted) {
      // Another consumer may have taken it, compaction moved it: then nothing is damaged.
      const sequence = queue.next()
      if (sequence > 0 && queue.segment === segment && queue.offset === offset) {
        giveUp(broker, queue, sequence)
      }
    }
    get(broker, this.#whole, this.#taker, this.#noAck)
  }
}
