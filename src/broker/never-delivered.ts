import { NOTHING } from '../core/entries.ts'
import type { Queue } from '../core/queue.ts'
import { ENTRY_COUNT, ENTRY_STATE, READY } from '../core/queue-entry.ts'

/** How many of the ready messages were never handed to anybody: the others count as delivered. */
export function neverDelivered(queue: Queue): number {
  let count = queue.readyCount
  if (queue.lastTaken === 0) return count
  for (let at = queue.after(0); at !== NOTHING && at <= queue.lastTaken; at = queue.after(at)) {
    const isReady = (queue.flags & ENTRY_STATE) === READY
    if (isReady && (queue.flags & ENTRY_COUNT) !== 0) count--
  }
  return count
}
