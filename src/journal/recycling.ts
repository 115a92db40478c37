/**
 * When a segment may be used again: it lies wholly before the begin of the older of the two kept
 * checkpoints, and both began after it had been emptied. Then the copies of what lived in it and the records
 * that settled the rest are durable, and no replay, from either checkpoint, names it.
 */
import { liesBefore, type Segment } from './segment.ts'
import type { Checkpoint } from './superblock.ts'

/** For a segment without live bytes; `older` is the older kept checkpoint, if there are two. */
export function mayRecycle(segment: Segment, older: Checkpoint | undefined): boolean {
  if (older === undefined) return false
  return segment.emptiedTicket < older.begin.ticket && liesBefore(segment, older.begin)
}
