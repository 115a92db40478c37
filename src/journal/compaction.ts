/**
 * Compaction of one segment: its records are shown to the owner, who appends a copy of what is still live
 * and so takes the new position; when all was shown, nothing of the segment is live. A bounded number of
 * bytes is read a turn.
 */
import { RecordCursor } from './batch.ts'
import { betweenTurns } from './checkpoint.ts'
import type { Committer } from './commit.ts'
import type { FilePool } from './file-pool.ts'
import { FIRST_OWNER_KIND, type JournalOwner, type JournalStats } from './journal.ts'
import type { JournalLimits, JournalLog, JournalTimers } from './options.ts'
import type { Segment } from './segment.ts'
import { SegmentReader } from './segment-reader.ts'
import type { Tail } from './tail.ts'
import { PAGE_BYTES } from './layout.ts'

/** The owner may say so often that a block must be loaded first, before the segment is left alone. */
const RETRIES_MAX = 1000
const RETRY_MS = 5
const BYTES_A_TURN = 64 * 1024

export interface CompactionParts {
  tail: Tail
  committer: Committer
  files: FilePool
  store: Buffer
  owner: JournalOwner
  stats: JournalStats
  limits: JournalLimits
  timers: JournalTimers
  log: JournalLog
}

/** Shows every record to the owner; true when nothing of the segment is live afterwards. */
export async function compactSegment(
  segment: Segment,
  parts: CompactionParts,
  isStopped: () => boolean
): Promise<boolean> {
  segment.pins++
  const file = await parts.files.acquire(segment.name)
  try {
    const reader = new SegmentReader(file, segment.number, segment.bytes, parts.store)
    let turnBytes = 0
    for (let at = 0; segment.liveBytes > 0 && at < reader.bytes; ) {
      if (isStopped()) return false
      if (!(await reader.batchAt(at))) {
        at += PAGE_BYTES
        continue
      }
      await showBatch(reader, segment, at, parts, isStopped)
      at += reader.header.paddedLength
      turnBytes += reader.header.length
      if (turnBytes < BYTES_A_TURN) continue
      turnBytes = 0
      await betweenTurns(parts.committer, parts.tail, parts.limits.pendingBytesMax / 4)
    }
  } finally {
    await parts.files.release(segment.name)
    segment.pins--
  }
  return segment.liveBytes <= 0
}

async function showBatch(
  reader: SegmentReader,
  segment: Segment,
  offset: number,
  parts: CompactionParts,
  isStopped: () => boolean
): Promise<void> {
  const { buffer, start, header } = reader
  const cursor = new RecordCursor(buffer, start, header.length)
  let retries = 0
  let hasRecord = cursor.next()
  while (hasRecord && !isStopped()) {
    const at = offset + cursor.start - start
    if (
      cursor.kind < FIRST_OWNER_KIND ||
      parts.owner.compact(cursor.kind, buffer, cursor.start, cursor.end, segment.number, at)
    ) {
      parts.stats.recordsCompacted++
      hasRecord = cursor.next()
      retries = 0
      continue
    }
    // A block is being loaded for it: the same record again, a little later.
    if (++retries > RETRIES_MAX) return
    await new Promise<void>(resolve => {
      if (retries < 10) setImmediate(resolve)
      else parts.timers.set(resolve, RETRY_MS)
    })
  }
}
