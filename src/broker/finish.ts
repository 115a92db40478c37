/** The end of a message in a queue: applied, and recorded when the queue lasts. */
import { PAIR_BYTES_MAX, writePair } from '../core/records/settle.ts'
import { KIND } from '../core/records/kinds.ts'
import type { Queue } from '../core/queue.ts'
import { LAZY } from '../journal/journal.ts'
import type { Broker } from './broker.ts'
import { finishMoved } from './moves.ts'

/** Settles an entry, whatever its state. False: it is not there. The record is lazy (journal.md §2). */
export function finish(broker: Broker, queue: Queue, sequence: number): boolean {
  if (!broker.state.settleEntry(queue, sequence)) return false
  if (queue.moves !== null && finishMoved(broker, queue, sequence)) return true
  if (queue.isDurable && !broker.journal.failed) {
    const journal = broker.journal
    const at = journal.begin(PAIR_BYTES_MAX)
    journal.end(KIND.settle, writePair(journal.buffer, at, queue.id, sequence), LAZY)
  }
  return true
}
