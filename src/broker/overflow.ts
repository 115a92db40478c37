/** What happens when a queue is full: the oldest goes, counted, or the new one is refused. */
import { NOTHING } from '../core/entries.ts'
import type { Chunk } from '../core/chunk.ts'
import { COLD, type Queue } from '../core/queue.ts'
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
  while (
    (messagesMax >= 0 && queue.readyCount >= messagesMax) ||
    (bytesMax >= 0 && queue.readyBytes + bytes > bytesMax)
  ) {
    if (queue.options.overflow !== 'drop-head') return false
    const sequence = queue.next()
    if (sequence === NOTHING) return true
    if (sequence === COLD) {
      if (readOldest(broker, queue, messagesMax, bytesMax)) continue
      return true
    }
    queue.dropsOldest = true
    discard(broker, queue, sequence, 'maxlen', true)
    if (queue.mayExpire) headChanged(broker, queue)
  }
  return true
}

/** The oldest are on the disk. False: they are being read, and what comes meanwhile stands above the bound. */
function readOldest(broker: Broker, queue: Queue, messagesMax: number, bytesMax: number): boolean {
  const chunk = queue.coldChunk!
  if (chunk.isLoading) return false
  if (warm(broker, queue, chunk)) return true
  chunk.isLoading = true
  const waiter = new OldestWaiter(broker, queue, chunk, messagesMax, bytesMax)
  load(broker, chunk.segment, chunk.offset, waiter)
  return false
}

/** Drops what is above the bounds when the oldest are in memory. */
class OldestWaiter implements BlockWaiter {
  readonly #broker: Broker
  readonly #queue: Queue
  readonly #chunk: Chunk
  readonly #messagesMax: number
  readonly #bytesMax: number

  constructor(broker: Broker, queue: Queue, chunk: Chunk, messagesMax: number, bytesMax: number) {
    this.#broker = broker
    this.#queue = queue
    this.#chunk = chunk
    this.#messagesMax = messagesMax
    this.#bytesMax = bytesMax
  }

  onBlock(segment: number, offset: number, ok: boolean): void {
    const queue = this.#queue
    this.#chunk.isLoading = false
    if (queue.isDeleted) return
    afterIndexRead(this.#broker, queue, this.#chunk, segment, offset, ok)
    // The bound is what may be there before one more comes: here none does.
    const messagesMax = this.#messagesMax < 0 ? -1 : this.#messagesMax + 1
    makeRoom(this.#broker, queue, 0, messagesMax, this.#bytesMax)
  }
}
