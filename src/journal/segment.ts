/**
 * Segments, the numbered pieces of the log, and blocks, their 64 KiB regions that are in memory.
 *
 * A number is used once. The file under it is either a *slot* (a prepared file of the usual size, used
 * again and again) or a file of its own, for one record that is larger than a quarter of a segment. A
 * segment gets its number when the first record goes into it and its file when that record is written,
 * so that a disk without room never stops an append half way.
 */
export class Segment {
  readonly number: number
  readonly bytes: number
  readonly isOwnFile: boolean
  /** Name of its file; '' until the first write needs one. */
  name = ''
  /** What its owners say is still needed of it. */
  liveBytes = 0
  /** Blocks in memory, by their index; null or absent: not in memory. */
  readonly blocks: (Block | null)[] = []
  large: Map<number, Block> | null = null
  /** Reads and scans that are under way: it cannot be recycled. */
  pins = 0
  /** Tickets of its first and last record; 0 if not known. */
  firstTicket = 0
  lastTicket = 0
  /** The last ticket given when it was first seen without live bytes; -1: it has some. */
  emptiedTicket = -1
  /** Compaction could not empty it: store time until which it is left alone, and how long that was. */
  compactableAt = 0
  compactionWaitMs = 0

  constructor(number: number, bytes: number, isOwnFile: boolean) {
    this.number = number
    this.bytes = bytes
    this.isOwnFile = isOwnFile
  }
}

export class Block {
  /** The segment's number; 0 once the block is evicted. */
  number: number
  /** Offset in the segment of the buffer's first byte. */
  readonly base: number
  readonly segment: Segment
  readonly buffer: Buffer
  readonly isLarge: boolean
  pages = 0
  /** Reasons not to evict it: batches not written, the tail, a read. */
  holds = 0
  used = true

  constructor(segment: Segment, base: number, buffer: Buffer, isLarge: boolean) {
    this.number = segment.number
    this.base = base
    this.segment = segment
    this.buffer = buffer
    this.isLarge = isLarge
  }

  /** True when the page of this offset in the segment holds verified records. */
  hasPage(offset: number): boolean {
    return ((this.pages >>> ((offset - this.base) >>> 12)) & 1) !== 0
  }

  /** Marks the pages from `start` to before `end`, offsets in the buffer. */
  markPages(start: number, end: number): void {
    for (let page = start >>> 12; page << 12 < end; page++) this.pages |= 1 << page
  }
}

/** A place in the log: a batch's, and the ticket of its first record. */
export interface LogPosition {
  segment: number
  offset: number
  ticket: number
}

/** True when all of the segment lies before a checkpoint's begin: no replay from there reads it. */
export function liesBefore(segment: Segment, begin: LogPosition): boolean {
  if (segment.isOwnFile) return segment.lastTicket > 0 && segment.lastTicket < begin.ticket
  return segment.number < begin.segment
}
