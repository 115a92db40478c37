/**
 * What is recorded between `beginTransaction` and `endTransaction` is on the disk as a whole or not at all, whatever
 * verbs were called: publishes, settlements, what they drop or move. All of it in one turn.
 */
import { KIND } from '../core/records/kinds.ts'
import { END_BYTES_MAX, writeTransactionEnd } from '../core/records/transaction.ts'
import { AWAITED, LAZY } from '../journal/journal.ts'
import type { Broker } from './broker.ts'

/** Returns what `endTransaction` asks for. */
export function beginTransaction(broker: Broker): number {
  const { journal } = broker
  if (journal.failed) return 0
  broker.isInTransaction = true
  return journal.end(KIND.transactionBegin, journal.begin(0), LAZY)
}

/** Returns the ticket with which all of it is durable; 0: nothing of it is for the disk. */
export function endTransaction(broker: Broker, began: number): number {
  const { journal } = broker
  broker.isInTransaction = false
  if (began === 0 || journal.failed) return 0
  const count = journal.ticket - began
  const at = journal.begin(END_BYTES_MAX)
  const end = writeTransactionEnd(journal.buffer, at, count)
  const ticket = journal.end(KIND.transactionEnd, end, count === 0 ? LAZY : AWAITED)
  return count === 0 ? 0 : ticket
}

/** Before anything else is recorded after a start: a transaction whose end a crash took never happened. */
export function dropUnfinished(broker: Broker): void {
  const { journal, replayed } = broker
  if (!replayed.isOpen) return
  replayed.drop()
  journal.end(KIND.transactionDrop, journal.begin(0), LAZY)
}
