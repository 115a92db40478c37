/**
 * The cold middle of long queues goes to the disk: index records instead of entries in memory
 * (journal.md §6). What all queues together keep in memory is bounded.
 */
import type { Chunk } from '../core/chunk.ts'
import type { Queue } from '../core/queue.ts'
import { KIND } from '../core/records/kinds.ts'
import { sharesOf, writeEntries } from '../core/records/queue-entries.ts'
import { LAZY } from '../journal/journal.ts'
import { append } from './append.ts'
import type { Broker, TurnTask } from './broker.ts'
import type { Consumers } from './queue-consumers.ts'

/** A queue is looked at whenever it has grown by so many entries; with fewer than half of them it is never asked. */
export const GROWTH_NOTED = 256
/** A chunk of fewer entries takes hardly more memory than what is kept of a cold one. */
const RESTING_ENTRIES = 128
/** Chunks that go in one turn. */
const CHUNKS_A_TURN = 64

class Spill implements TurnTask {
  /** Entries in memory of all noted queues, at most: what has left meanwhile is still in it. */
  estimate = 0
  isScheduled = false
  readonly #broker: Broker

  constructor(broker: Broker) {
    this.#broker = broker
  }

  onTurnEnd(): void {
    this.isScheduled = false
    spill(this.#broker)
  }
}

const tasks = new WeakMap<Broker, Spill>()

function taskOf(broker: Broker): Spill {
  let task = tasks.get(broker)
  if (task === undefined) {
    task = new Spill(broker)
    tasks.set(broker, task)
  }
  return task
}

/** A queue has grown by `GROWTH_NOTED` entries. */
export function noteGrown(broker: Broker, queue: Queue): void {
  // It leaves for its files, and is bounded: see streams.ts.
  if (queue.stream !== null) return
  broker.longQueues.add(queue)
  const task = taskOf(broker)
  task.estimate += GROWTH_NOTED
  if (task.estimate <= broker.limits.hotEntriesMax || task.isScheduled) return
  task.isScheduled = true
  broker.afterTurn(task)
}

/**
 * Writes index records while too many entries are in memory: first of the middle of long queues, then of
 * what waits in queues that nobody reads.
 */
export function spill(broker: Broker): void {
  if (broker.refusal !== 0) return
  const max = broker.limits.hotEntriesMax
  // Counting them all is dear with very many queues: some more go than must.
  const wanted = max - Math.floor(max / 16)
  let total = countHot(broker)
  let left = CHUNKS_A_TURN
  const isOver = total > max
  for (const isAtRest of [false, true]) {
    for (const queue of broker.longQueues) {
      if (!isOver || left === 0 || total <= wanted) break
      if (isAtRest && isRead(queue)) continue
      while (left > 0 && total > wanted) {
        const chunk = isAtRest ? coolableAtRest(queue) : queue.coolable()
        if (chunk === null) break
        total -= chunk.count
        left--
        cool(broker, queue, chunk)
      }
    }
  }
  // When nothing can go it is no use to look again before more has come.
  taskOf(broker).estimate = Math.min(total, wanted)
  if (left === 0 && total > max) setImmediate(spill, broker)
}

/** In a queue that nobody reads now: any chunk of some length of which nothing was delivered yet. */
function coolableAtRest(queue: Queue): Chunk | null {
  const { chunks } = queue
  for (let i = chunks.length - 1; i >= (queue.dropsOldest ? 1 : 0); i--) {
    const chunk = chunks[i]!
    if (chunk.live < RESTING_ENTRIES || chunk.isLoading || chunk.start <= queue.lastTaken) continue
    if (queue.isCoolable(chunk)) return chunk
  }
  return null
}

function countHot(broker: Broker): number {
  let total = 0
  for (const queue of broker.longQueues) {
    if (queue.isDeleted || queue.hotEntries < GROWTH_NOTED / 2) broker.longQueues.delete(queue)
    else total += queue.hotEntries
  }
  return total
}

function isRead(queue: Queue): boolean {
  return queue.attached !== null && (queue.attached as Consumers).list.length > 0
}

/** Writes a chunk's index record and forgets its entries. */
export function cool(broker: Broker, queue: Queue, chunk: Chunk): void {
  const shares = sharesOf(chunk.words!, chunk.count)
  writeEntries(broker.writer, queue, chunk)
  append(broker, queue.isDurable ? KIND.queueIndex : KIND.transientIndex, LAZY)
  const { segment, offset } = broker.journal
  broker.state.cool(queue, chunk, segment, offset, shares)
}
