/** What happens when a queue is full: the oldest goes, counted, or the new one is refused. */
import { NOTHING } from '../core/entries.ts'
import type { Chunk } from '../core/chunk.ts'
import { heldBytesOf, heldOf, lettersOf } from '../core/held.ts'
import { COLD, type Queue, readyBytesOf, readyOf } from '../core/queue.ts'
import type { BlockWaiter } from '../journal/journal.ts'
import { load } from './bodies.ts'
import type { Broker } from './broker.ts'
import { afterIndexRead, warm } from './deliver.ts'
import { discard, headChanged } from './queue-life.ts'

/**
 * Makes room for one message of `bytes` under the bounds (-1 = none), which hold for what is ready.
 * False: the queue refuses (overflow reject-publish).
 */
export function makeRoom(
  broker: Broker,
  queue: Queue,
  bytes: number,
  messagesMax: number,
  bytesMax: number
): boolean {
  if (queue.options.overflow !== 'drop-head') return !isFull(queue, bytes, messagesMax, bytesMax)
  while (
    (messagesMax >= 0 && readyOf(queue) >= messagesMax) ||
    (bytesMax >= 0 && readyBytesOf(queue) + bytes > bytesMax)
  ) {
    // The head is that of the highest level, as in RabbitMQ.
    const head = queue.levels === null ? queue : queue.levels.top()
    const sequence = head.next()
    if (sequence === NOTHING) return true
    if (sequence === COLD) {
      if (readOldest(broker, queue, head, messagesMax, bytesMax)) continue
      return true
    }
    head.dropsOldest = true
    discard(broker, head, sequence, 'maxlen', true)
    if (head.mayExpire) headChanged(broker, head)
  }
  return true
}

/** Where a full queue refuses, what it holds for later and dead letters that nobody took count as well. */
export function isFull(
  queue: Queue,
  bytes: number,
  messagesMax: number,
  bytesMax: number
): boolean {
  if (messagesMax >= 0 && readyOf(queue) + heldOf(queue) + lettersOf(queue) >= messagesMax) {
    return true
  }
  return bytesMax >= 0 && readyBytesOf(queue) + heldBytesOf(queue) + bytes > bytesMax
}

/** What went back may make more than the queue is to hold: the oldest leave, before somebody takes them. */
export function trimReturned(broker: Broker, queue: Queue): void {
  const { isBounded, messagesMax, bytesMax } = queue.options
  // The bound is what may be there before one more comes: here none does.
  if (isBounded) makeRoom(broker, queue, 0, messagesMax < 0 ? -1 : messagesMax + 1, bytesMax)
}

/** The oldest are on the disk. False: they are being read, and what comes meanwhile stands above the bound. */
function readOldest(
  broker: Broker,
  queue: Queue,
  head: Queue,
  messagesMax: number,
  bytesMax: number
): boolean {
  const chunk = head.coldChunk!
  if (chunk.isLoading) return false
  if (warm(broker, head, chunk)) return true
  chunk.isLoading = true
  const waiter = new OldestWaiter(broker, queue, head, chunk, messagesMax, bytesMax)
  load(broker, chunk.segment, chunk.offset, waiter)
  return false
}

/** Drops what is above the bounds when the oldest are in memory. */
class OldestWaiter implements BlockWaiter {
  readonly #broker: Broker
  readonly #queue: Queue
  /** The level that the chunk is of; the queue itself where there are none. */
  readonly #head: Queue
  readonly #chunk: Chunk
  readonly #messagesMax: number
  readonly #bytesMax: number

  constructor(
    broker: Broker,
    queue: Queue,
    head: Queue,
    chunk: Chunk,
    messagesMax: number,
    bytesMax: number
  ) {
    this.#broker = broker
    this.#queue = queue
    this.#head = head
    this.#chunk = chunk
    this.#messagesMax = messagesMax
    this.#bytesMax = bytesMax
  }

  onBlock(segment: number, offset: number, ok: boolean): void {
    const queue = this.#queue
    this.#chunk.isLoading = false
    if (queue.isDeleted) return
    afterIndexRead(this.#broker, this.#head, this.#chunk, segment, offset, ok)
    // As above: none comes.
    const messagesMax = this.#messagesMax < 0 ? -1 : this.#messagesMax + 1
    makeRoom(this.#broker, queue, 0, messagesMax, this.#bytesMax)
  }
}
