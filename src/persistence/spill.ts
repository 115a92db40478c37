/** The middle of long queues goes to the disk: index records instead of entries in memory, as in the broker. */
import type { Chunk } from '../core/chunk.ts'
import type { Queue } from '../core/queue.ts'
import { KIND } from '../core/records/kinds.ts'
import { sharesOf, writeEntries } from '../core/records/queue-entries.ts'
import { LAZY } from '../journal/journal.ts'
import type { Context } from './context.ts'

/** A queue is looked at whenever it has grown by so many entries. */
const GROWTH_NOTED = 256
/** A chunk of fewer entries takes hardly more memory than what is kept of a cold one. */
const CHUNK_ENTRIES_MIN = 128
const CHUNKS_A_TURN = 64

export class Spill {
  readonly #context: Context
  readonly #long = new Set<Queue>()
  #isScheduled = false

  constructor(context: Context) {
    this.#context = context
  }

  /** An entry came into a queue. */
  noteGrown(queue: Queue): void {
    if (queue.hotEntries % GROWTH_NOTED !== 0) return
    this.#long.add(queue)
    if (this.#count() > this.#context.hotEntriesMax) this.#schedule()
  }

  /** After replay: what waits in all queues counts. */
  noteAll(queues: Iterable<Queue>): void {
    for (const queue of queues) if (queue.hotEntries >= GROWTH_NOTED) this.#long.add(queue)
    if (this.#count() > this.#context.hotEntriesMax) this.#schedule()
  }

  #schedule(): void {
    if (this.#isScheduled) return
    this.#isScheduled = true
    setImmediate(() => {
      this.#isScheduled = false
      this.#run()
    })
  }

  #count(): number {
    let total = 0
    for (const queue of this.#long) {
      if (queue.isDeleted || queue.hotEntries < GROWTH_NOTED / 2) this.#long.delete(queue)
      else total += queue.hotEntries
    }
    return total
  }

  #run(): void {
    const { journal, hotEntriesMax } = this.#context
    // On a full disk what is left of it is for what makes room.
    if (journal.failed || journal.level === 'red') return
    const wanted = hotEntriesMax - Math.floor(hotEntriesMax / 16)
    let total = this.#count()
    let left = CHUNKS_A_TURN
    for (const queue of this.#long) {
      while (total > wanted && left > 0) {
        const chunk = queue.coolable() ?? oldest(queue)
        if (chunk === null) break
        total -= chunk.count
        left--
        cool(this.#context, queue, chunk)
      }
    }
    if (left === 0 && total > wanted) this.#schedule()
  }
}

/** Any chunk of some length but the last, which is being filled. */
function oldest(queue: Queue): Chunk | null {
  const { chunks } = queue
  for (let i = 0; i < chunks.length - 1; i++) {
    const chunk = chunks[i]!
    if (chunk.live >= CHUNK_ENTRIES_MIN && queue.isCoolable(chunk)) return chunk
  }
  return null
}

/** Writes a chunk's index record and forgets its entries. */
export function cool(context: Context, queue: Queue, chunk: Chunk): void {
  const { journal, store } = context
  const shares = sharesOf(chunk.words!, chunk.count)
  writeEntries(context.begin(), queue, chunk)
  context.append(KIND.queueIndex, LAZY)
  store.state.cool(queue, chunk, journal.segment, journal.offset, shares)
}
