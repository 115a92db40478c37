/**
 * Where a start goes on with the log. Usually in a fresh segment. But on a full disk each start would so take a slot of
 * the reserve, and a broker that is killed at its starts would use the reserve up: then no settlement is ever durable.
 * While the reserve is not whole, a start goes on behind the end of the last segment, and takes nothing.
 *
 * Nothing is appended behind a cut: batches that a crash left behind the end are erased first.
 */
import type { DiskFile } from './disk.ts'
import type { FilePool } from './file-pool.ts'
import { BLOCK_BYTES, PAGE_BYTES } from './layout.ts'
import { isNoSpace, JournalError } from './journal-error.ts'
import type { Segment } from './segment.ts'
import { readRegion, SegmentReader } from './segment-reader.ts'
import type { SegmentTable } from './segment-table.ts'

/** The end of the log in a segment; a multiple of 4 KiB. */
export interface LogEnd {
  segment: Segment
  offset: number
}

export interface TailPlace extends LogEnd {
  /** What its block holds before `offset`. */
  head: Buffer
}

/** The place behind `end`, erased; null when only a fresh segment will do. */
export async function placeBehind(
  end: LogEnd | null,
  segments: SegmentTable,
  segmentBytes: number,
  files: FilePool,
  store: Buffer
): Promise<TailPlace | null> {
  // Of another size it was cut short, or made under another limit.
  if (end === null || end.segment.bytes !== segmentBytes) return null
  const { segment, offset } = end
  for (const each of segments.byNumber.values()) {
    if (!each.isOwnFile && each.number > segment.number) return null
  }
  const head = Buffer.alloc(offset % BLOCK_BYTES)
  const file = await files.acquire(segment.name)
  try {
    await readRegion(file, head, 0, head.length, offset - head.length)
    await erase(file, new SegmentReader(file, segment.number, segmentBytes, store), offset)
  } catch (error) {
    // Where writing over what is there takes room: what is erased was not wanted either way.
    if (!isNoSpace(error)) throw error
    return null
  } finally {
    await files.release(segment.name)
  }
  return { segment, offset, head }
}

async function erase(file: DiskFile, reader: SegmentReader, from: number): Promise<void> {
  let isErased = false
  for (let at = from; at < reader.bytes; at += PAGE_BYTES) {
    if (!(await reader.batchAt(at)) && !reader.isTorn) continue
    if ((await file.write([Buffer.alloc(PAGE_BYTES)], at)) !== PAGE_BYTES) {
      throw new JournalError('failed', 'a torn tail could not be erased')
    }
    isErased = true
  }
  if (isErased) await file.datasync()
}
