/**
 * Walks the log from a place to its end, batch by batch in the order of tickets: through the slots in the order
 * of their numbers, and the records with files of their own where their tickets belong.
 *
 * The walk looks for batches at page boundaries only and takes an intact batch only if it is of this store,
 * of this segment, for this offset, of an epoch not below the last. It does not judge gaps between tickets:
 * `recovery.ts` does.
 */
import type { BatchHeader } from './batch.ts'
import type { FilePool } from './file-pool.ts'
import { systemCode } from './journal-error.ts'
import { PAGE_BYTES } from './layout.ts'
import type { LogPosition, Segment } from './segment.ts'
import { SegmentReader } from './segment-reader.ts'

/** One of the two streams that a walk merges: the next batch of it, if there is one. */
class Stream {
  readonly #segments: readonly Segment[]
  readonly #files: FilePool
  readonly #store: Buffer
  #index = 0
  #offset: number
  #epoch = 0
  reader: SegmentReader | null = null
  segment: Segment | null = null
  /** Offset of the batch. */
  offset = 0
  tornBytes = 0
  isAtEnd = false

  constructor(segments: readonly Segment[], offset: number, files: FilePool, store: Buffer) {
    this.#segments = segments
    this.#offset = offset
    this.#files = files
    this.#store = store
  }

  get header(): BatchHeader {
    return this.reader!.header
  }

  async advance(): Promise<void> {
    while (this.#index < this.#segments.length) {
      const segment = this.#segments[this.#index]!
      if (this.reader === null && !(await this.#open(segment))) {
        await this.#leave()
        continue
      }
      const reader = this.reader!
      if (await this.#find(reader)) {
        this.segment = segment
        this.#epoch = reader.header.epoch
        this.#offset = this.offset + reader.header.paddedLength
        return
      }
      await this.#leave()
    }
    this.isAtEnd = true
  }

  async close(): Promise<void> {
    if (this.reader !== null) await this.#leave()
  }

  async #open(segment: Segment): Promise<boolean> {
    try {
      const file = await this.#files.acquire(segment.name)
      this.reader = new SegmentReader(file, segment.number, segment.bytes, this.#store)
      return true
    } catch (error) {
      if (systemCode(error) === '') throw error
      return false // a file that cannot be opened is a gap in the tickets
    }
  }

  async #leave(): Promise<void> {
    const segment = this.#segments[this.#index]!
    if (this.reader !== null) await this.#files.release(segment.name)
    this.reader = null
    this.#index++
    this.#offset = 0
  }

  async #find(reader: SegmentReader): Promise<boolean> {
    for (let at = this.#offset; at < reader.bytes; at += PAGE_BYTES) {
      if ((await reader.batchAt(at)) && reader.header.epoch >= this.#epoch) {
        this.offset = at
        return true
      }
      if (reader.isTorn) this.tornBytes += Math.min(reader.header.length, reader.bytes)
    }
    return false
  }
}

export class LogWalk {
  readonly #slots: Stream
  readonly #ownFiles: Stream
  #current: Stream | null = null
  #isStarted = false

  /** `slots` in the order of their numbers, the first one read from `offset`; `ownFiles` by ticket. */
  constructor(
    slots: readonly Segment[],
    offset: number,
    ownFiles: readonly Segment[],
    files: FilePool,
    store: Buffer
  ) {
    this.#slots = new Stream(slots, offset, files, store)
    this.#ownFiles = new Stream(ownFiles, 0, files, store)
  }

  /** Goes to the next batch; false at the end of the log. */
  async next(): Promise<boolean> {
    if (!this.#isStarted) {
      this.#isStarted = true
      await this.#slots.advance()
      await this.#ownFiles.advance()
    } else await this.#current!.advance()
    const a = this.#slots
    const b = this.#ownFiles
    if (a.isAtEnd && b.isAtEnd) return false
    this.#current = b.isAtEnd || (!a.isAtEnd && isBefore(a.header, b.header)) ? a : b
    return true
  }

  get header(): BatchHeader {
    return this.#current!.header
  }

  get segment(): Segment {
    return this.#current!.segment!
  }

  get buffer(): Buffer {
    return this.#current!.reader!.buffer
  }

  /** Where the batch begins in `buffer`. */
  get start(): number {
    return this.#current!.reader!.start
  }

  get offset(): number {
    return this.#current!.offset
  }

  /** Bytes of batches whose header was there and whose content was not, so far. */
  get tornBytes(): number {
    return this.#slots.tornBytes + this.#ownFiles.tornBytes
  }

  async close(): Promise<void> {
    await this.#slots.close()
    await this.#ownFiles.close()
  }
}

function isBefore(a: BatchHeader, b: BatchHeader): boolean {
  return a.epoch < b.epoch || (a.epoch === b.epoch && a.firstTicket < b.firstTicket)
}

/** What of the log lies at or behind a place (all of it: null), for a walk. */
export function segmentsFrom(
  segments: Iterable<Segment>,
  begin: LogPosition | null
): { slots: Segment[]; ownFiles: Segment[]; offset: number } {
  const slots: Segment[] = []
  const ownFiles: Segment[] = []
  for (const segment of segments) {
    if (segment.isOwnFile) {
      if (begin === null || segment.firstTicket >= begin.ticket) ownFiles.push(segment)
    } else if (begin === null || segment.number >= begin.segment) slots.push(segment)
  }
  slots.sort((a, b) => a.number - b.number)
  ownFiles.sort((a, b) => a.firstTicket - b.firstTicket)
  const startsAtBegin = begin !== null && slots[0]?.number === begin.segment
  return { slots, ownFiles, offset: startsAtBegin ? begin.offset : 0 }
}
