/**
 * The end of the log: where records are appended, in memory.
 *
 * `begin` hands out room in the buffer of the tail block, `end` closes the record: position and ticket are
 * known at once. Batches are cut here and wait in `pending` until `commit.ts` writes them. Nothing is
 * allocated for a record but one over 32 KiB.
 *
 * A batch of one page that was written and not synced may go on: the page is written again, whole, with the records
 * that came since. Nobody was told of anything in it, and one page is replaced in one piece as far as a dying process
 * goes. So what nobody waits for, and what is awaited soon behind it, costs the medium one page and not one for each
 * write. A page of which a sync has begun is never written again.
 *
 * Batches lie one behind the other in the segment; a record that does not fit what is left of a block
 * goes into a new batch at the next block, one that does not fit the segment into the next segment. A record over
 * a quarter of a segment gets a file of its own, and the segment goes on behind it: tickets, not segment
 * numbers, are the order of the log there.
 */
import assert from 'node:assert/strict'
import { Batch } from './batch.ts'
import type { BlockCache } from './blocks.ts'
import { AWAITED, type Urgency } from './journal.ts'
import {
  BATCH_HEADER_BYTES,
  BLOCK_BYTES,
  BLOCK_SHIFT,
  PAGE_BYTES,
  RECORD_HEADER_BYTES,
  roundUpToPage,
  SMALL_RECORD_BYTES
} from './layout.ts'
import { Block, Segment } from './segment.ts'
import type { SegmentTable } from './segment-table.ts'

const NO_WAKE = 0
/** A record may be this long: its file's offsets stay small integers. */
const RECORD_BYTES_MAX = 512 * 1024 * 1024

const EMPTY = Buffer.alloc(0)

export abstract class Tail {
  buffer: Buffer = EMPTY
  segment = 0
  offset = 0
  ticket = 0

  /** Batches that are closed and not yet taken to be written, oldest first. */
  readonly pending: Batch[] = []
  /** Bytes of closed batches that are not durable; of records with files of their own, too. */
  pendingBytes = 0
  /** More than `pendingBytesMax` are not durable; false again when half is. */
  isCrowded = false
  /** The highest ticket that somebody waits for. */
  awaitedTicket = 0
  /** A write failed: what is appended goes nowhere. */
  failed = false
  /** Records of this urgency or a higher one must call `wake`. */
  wakeFrom: number = NO_WAKE

  protected readonly segments: SegmentTable
  protected readonly cache: BlockCache
  readonly #segmentBytes: number
  readonly #pendingBytesMax: number

  #current: Segment
  #block: Block
  /** Where the next batch may start, offset in the segment; a multiple of 4 KiB. */
  #nextOffset = 0
  /** Bytes from which on a record gets a file of its own. */
  readonly ownFileFrom: number
  /** Bytes of such records that are not written. */
  ownBytes = 0
  // The open batch, offsets in the tail block's buffer; #limit 0: there is none.
  #limit = 0
  #batchStart = 0
  #position = 0
  #markedTo = 0
  #batchTicket = 0
  #batchRecords = 0
  /** How many of them are written already: the open batch goes on with one that was. */
  #recordsBefore = 0
  /** Written, not synced, and with room left: may go on. */
  #unsynced: Batch | null = null
  // The open record: where its header goes, and where it must end; #recordAt -1: none is open.
  #recordAt = -1
  #recordLimit = 0
  #isLarge = false

  constructor(
    segments: SegmentTable,
    cache: BlockCache,
    segmentBytes: number,
    pendingBytesMax: number
  ) {
    this.segments = segments
    this.cache = cache
    this.#segmentBytes = segmentBytes
    this.ownFileFrom = segmentBytes / 4
    this.#pendingBytesMax = pendingBytesMax
    this.#current = new Segment(0, 0, false)
    this.#block = new Block(this.#current, 0, EMPTY, false)
  }

  /** A record of this urgency was appended and nothing is under way that would write it in time. */
  protected abstract wake(urgency: Urgency): void
  /** A segment of so many bytes was left for the next one, or a file of its own was begun. */
  protected abstract rolled(bytes: number): void
  /** `isCrowded` became true. */
  protected abstract crowded(): void

  /** The segment that is being filled. */
  get current(): Segment {
    return this.#current
  }

  /** How much of the current segment is taken, bytes. */
  get currentBytes(): number {
    return this.#limit === 0 ? this.#nextOffset : this.#block.base + roundUpToPage(this.#position)
  }

  /** Goes on with a fresh segment behind everything; the first ticket will be `ticket` + 1. */
  startAt(ticket: number): void {
    this.ticket = ticket
    this.#nextSegment()
  }

  /** Goes on in a segment that has records, behind its end; `block` is the one of that place, if it has some. */
  protected startIn(segment: Segment, offset: number, block: Block | null, ticket: number): void {
    this.ticket = ticket
    this.#current = segment
    this.#nextOffset = offset
    if (block === null) return
    block.holds++
    this.#block = block
  }

  begin(bytesMax: number): number {
    if (this.#recordAt >= 0) assert.fail('begin: a record is open already')
    if (bytesMax > SMALL_RECORD_BYTES) return this.#beginLarge(bytesMax)
    const end = this.#position + RECORD_HEADER_BYTES + bytesMax
    if (end > this.#limit) return this.#beginInNewBatch(bytesMax)
    this.#recordAt = this.#position
    this.#recordLimit = end
    this.buffer = this.#block.buffer
    return this.#position + RECORD_HEADER_BYTES
  }

  end(kind: number, end: number, urgency: Urgency): number {
    const at = this.#recordAt
    const length = end - at - RECORD_HEADER_BYTES
    if (at < 0 || length < 0 || end > this.#recordLimit) assert.fail('end: outside of the record')
    if (this.#isLarge) return this.#endLarge(kind, length, urgency)
    const buffer = this.buffer
    buffer[at] = length & 0xff
    buffer[at + 1] = (length >>> 8) & 0xff
    buffer[at + 2] = length >>> 16
    buffer[at + 3] = 0
    buffer[at + 4] = kind
    this.#recordAt = -1
    this.#position = end
    if (end > this.#markedTo) this.#mark(end)
    this.#batchRecords++
    this.segment = this.#current.number
    this.offset = this.#block.base + at + RECORD_HEADER_BYTES
    return this.#ticketFor(urgency)
  }

  abandon(): void {
    this.#recordAt = -1
    this.#isLarge = false
  }

  /** Cuts the open batch off, so that it can be written; what follows starts on a new page. */
  closeBatch(): void {
    this.#unsynced = null
    this.#closeBatch(false)
  }

  /** The last batch was written, and its sync is not begun: it may go on until `closeBatch`; null: it may not. */
  keepOpen(batch: Batch | null): void {
    const isOnePage = batch?.bytes === PAGE_BYTES && batch.segment === this.#current
    this.#unsynced = isOnePage ? batch : null
  }

  #ticketFor(urgency: Urgency): number {
    const ticket = ++this.ticket
    if (urgency === AWAITED) this.awaitedTicket = ticket
    if (urgency >= this.wakeFrom) this.wake(urgency)
    return ticket
  }

  #mark(end: number): void {
    this.#block.markPages(this.#batchStart, end)
    this.#markedTo = roundUpToPage(end)
  }

  #beginInNewBatch(bytesMax: number): number {
    const need = BATCH_HEADER_BYTES + RECORD_HEADER_BYTES + bytesMax
    const unsynced = this.#unsynced
    this.#unsynced = null
    if (unsynced !== null && this.#goesOn(unsynced, bytesMax)) return this.begin(bytesMax)
    // The gap to the next block is written as padding: one write stays one piece.
    this.#closeBatch(this.#limit === BLOCK_BYTES)
    let at = this.#nextOffset
    if ((at % BLOCK_BYTES) + need > BLOCK_BYTES)
      at = (Math.floor(at / BLOCK_BYTES) + 1) * BLOCK_BYTES
    if (at + need > this.#current.bytes) {
      this.#nextSegment()
      at = 0
    }
    this.#openBatch(at)
    this.#recordAt = this.#position
    this.#recordLimit = this.#position + RECORD_HEADER_BYTES + bytesMax
    this.buffer = this.#block.buffer
    return this.#position + RECORD_HEADER_BYTES
  }

  /** Opens a written batch again, if it is the last one and the record fits into its page. */
  #goesOn(batch: Batch, bytesMax: number): boolean {
    const { block, end, paddedEnd } = batch
    // Its tickets must stay without a gap: a record with a file of its own has taken one.
    const isLast =
      batch.lastTicket === this.ticket &&
      block === this.#block &&
      block.base + paddedEnd === this.#nextOffset
    const isFull = end + RECORD_HEADER_BYTES + bytesMax > paddedEnd
    if (this.#limit !== 0 || !isLast || isFull) return false
    this.#batchStart = batch.start
    this.#markedTo = paddedEnd
    this.#position = end
    this.#limit = paddedEnd
    this.#batchTicket = batch.firstTicket
    this.#batchRecords = batch.records
    this.#recordsBefore = batch.records
    return true
  }

  #openBatch(at: number): void {
    const base = (at >>> BLOCK_SHIFT) * BLOCK_BYTES
    if (this.#block.segment !== this.#current || this.#block.base !== base) {
      this.#block.holds--
      this.#block = this.cache.add(this.#current, base)
      this.#block.holds++
    }
    this.#batchStart = at - base
    this.#markedTo = this.#batchStart
    this.#position = this.#batchStart + BATCH_HEADER_BYTES
    this.#limit = BLOCK_BYTES
    this.#batchTicket = this.ticket + 1
    this.#batchRecords = 0
    this.#recordsBefore = 0
  }

  #closeBatch(toEndOfBlock: boolean): void {
    if (this.#limit === 0 || this.#recordAt >= 0) return
    this.#limit = 0
    const block = this.#block
    if (this.#batchRecords === this.#recordsBefore) {
      // Nothing came into it: what is written stands.
      if (this.#recordsBefore === 0) this.#nextOffset = block.base + this.#batchStart
      this.#position = 0
      return
    }
    const end = this.#position
    const paddedEnd = toEndOfBlock ? BLOCK_BYTES : roundUpToPage(end)
    block.buffer.fill(0, end, paddedEnd)
    this.#nextOffset = block.base + paddedEnd
    this.#position = 0
    const segment = this.#current
    this.#queue(
      new Batch(
        segment,
        block,
        this.#batchStart,
        end,
        paddedEnd,
        this.#batchTicket,
        this.#batchRecords,
        this.#recordsBefore
      )
    )
  }

  #queue(batch: Batch): void {
    const { segment } = batch
    if (segment.firstTicket === 0) segment.firstTicket = batch.firstTicket
    segment.lastTicket = batch.lastTicket
    if (this.failed) return // nothing holds the block: it is evicted, and gone
    batch.block.holds++
    this.pending.push(batch)
    this.pendingBytes += batch.bytes
    if (this.pendingBytes <= this.#pendingBytesMax || this.isCrowded) return
    this.isCrowded = true
    this.crowded()
  }

  #nextSegment(): void {
    const { bytes } = this.#current
    this.#current = this.segments.create(this.#segmentBytes, false)
    this.#nextOffset = 0
    this.rolled(bytes)
  }

  #beginLarge(bytesMax: number): number {
    assert.ok(bytesMax <= RECORD_BYTES_MAX, 'begin: the record is too large')
    const from = BATCH_HEADER_BYTES + RECORD_HEADER_BYTES
    this.buffer = Buffer.allocUnsafeSlow(roundUpToPage(from + bytesMax))
    this.#isLarge = true
    this.#recordAt = BATCH_HEADER_BYTES
    this.#recordLimit = from + bytesMax
    return from
  }

  #endLarge(kind: number, length: number, urgency: Urgency): number {
    const from = BATCH_HEADER_BYTES + RECORD_HEADER_BYTES
    const whole = this.buffer
    this.#isLarge = false
    this.#recordAt = -1
    if (length <= SMALL_RECORD_BYTES) {
      const at = this.begin(length)
      whole.copy(this.buffer, at, from, from + length)
      return this.end(kind, at + length, urgency)
    }
    this.#closeBatch(false)
    whole.writeUInt32LE(length, BATCH_HEADER_BYTES)
    whole[BATCH_HEADER_BYTES + 4] = kind
    const bytes = roundUpToPage(from + length)
    whole.fill(0, from + length, bytes)
    const segment = this.#placeLarge(bytes)
    const base = segment.isOwnFile ? 0 : this.#nextOffset - bytes
    const block = this.cache.addLarge(segment, base, whole.subarray(0, bytes))
    this.#queue(new Batch(segment, block, 0, from + length, bytes, this.ticket + 1, 1))
    this.segment = segment.number
    this.offset = base + from
    return this.#ticketFor(urgency)
  }

  #placeLarge(bytes: number): Segment {
    if (bytes > this.ownFileFrom) {
      this.ownBytes += bytes
      this.rolled(bytes)
      return this.segments.create(bytes, true)
    }
    if (this.#nextOffset + bytes > this.#current.bytes) this.#nextSegment()
    this.#nextOffset += bytes
    return this.#current
  }

  /** Bytes of the batch that is open. */
  get openBytes(): number {
    return this.#limit === 0 ? 0 : this.#position - this.#batchStart
  }

  /** True when records wait that are not in `pending` yet. */
  get hasOpenBatch(): boolean {
    return this.#limit !== 0 && this.#batchRecords > this.#recordsBefore
  }
}
