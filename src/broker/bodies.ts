/** Where the bodies lie: in a slab or in the journal, in memory or not. */
import { KIND } from '../core/records/kinds.ts'
import { MessageRecord, readMessage } from '../core/records/message.ts'
import { MEMORY } from '../core/slabs.ts'
import type { BlockWaiter } from '../journal/journal.ts'
import type { Broker } from './broker.ts'

export const VIEWED = 0
/** The block must be read first: see `load`. */
export const NOT_LOADED = 1
/** What lies there is no message: the disk is damaged. */
export const DAMAGED = 2

/** The record that `view` read last: its destinations, for subscription identifiers. */
export const viewed = new MessageRecord()

/** Reads the message at a position into `broker.stored`: a view, true for this turn at most. */
export function view(broker: Broker, segment: number, offset: number): number {
  if (segment >= MEMORY) {
    const slabs = broker.slabs
    slabs.view(segment, offset)
    readMessage(slabs.buffer, slabs.viewStart, slabs.viewEnd, broker.stored, viewed)
    return VIEWED
  }
  const journal = broker.journal
  if (!journal.view(segment, offset)) return NOT_LOADED
  const kind = journal.viewKind
  if (kind !== KIND.message && kind !== KIND.transient) return DAMAGED
  const isMessage = readMessage(
    journal.viewBuffer,
    journal.viewStart,
    journal.viewEnd,
    broker.stored,
    viewed
  )
  return isMessage ? VIEWED : DAMAGED
}

export function load(broker: Broker, segment: number, offset: number, waiter: BlockWaiter): void {
  broker.journal.load(segment, offset, waiter)
}
