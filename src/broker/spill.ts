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

/** A queue with more entries than this in memory may be asked to give some up. */
export const LONG_QUEUE = 8_192
/** Chunks that go in one turn. */
const CHUNKS_A_TURN = 64

class Spill implements TurnTask {
  readonly #broker: Broker

  constructor(broker: Broker) {
    this.#broker = broker
  }

  onTurnEnd(): void {
    spill(this.#broker)
  }
}

const tasks = new WeakMap<Broker, Spill>()

/** A queue got long: looked at once, at the end of the turn. */
export function noteLong(broker: Broker, queue: Queue): void {
  if (broker.longQueues.has(queue) && queue.hotEntries % 1024 !== 0) return
  broker.longQueues.add(queue)
  let task = tasks.get(broker)
  if (task === undefined) {
    task = new Spill(broker)
    tasks.set(broker, task)
  }
  broker.afterTurn(task)
}

/** Writes index records while too many entries are in memory. */
export function spill(broker: Broker): void {
  if (broker.refusal !== 0) return
  let total = 0
  for (const queue of broker.longQueues) {
    if (queue.isDeleted || queue.hotEntries < LONG_QUEUE / 2) broker.longQueues.delete(queue)
    else total += queue.hotEntries
  }
  let left = CHUNKS_A_TURN
  for (const queue of broker.longQueues) {
    while (left > 0 && total > broker.limits.hotEntriesMax) {
      const chunk = queue.coolable()
      if (chunk === null) break
      total -= chunk.count
      left--
      cool(broker, queue, chunk)
    }
  }
  if (left === 0 && total > broker.limits.hotEntriesMax) setImmediate(spill, broker)
}

/** Writes a chunk's index record and forgets its entries. */
export function cool(broker: Broker, queue: Queue, chunk: Chunk): void {
  const shares = sharesOf(chunk.words!, chunk.count)
  writeEntries(broker.writer, queue, chunk)
  append(broker, queue.isDurable ? KIND.queueIndex : KIND.transientIndex, LAZY)
  const { segment, offset } = broker.journal
  broker.state.cool(queue, chunk, segment, offset, shares)
}
