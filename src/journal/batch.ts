/**
 * A batch: records that are written together, behind one header, with one CRC.
 *
 * A batch starts on a page (4 KiB) and lies within one block (64 KiB), so each block of a segment can be
 * verified from itself: no index of batches is needed to read one cold. A record over 32 KiB is a batch
 * of its own, which may cross blocks. A write carries as many batches as have gathered, up to 2 MiB.
 *
 *   0 crc u32, of all that follows | 4 magic | 8 store | 16 epoch | 20 segment | 24 offset in the segment
 *   28 length with the header, flag LARGE in the top bit | 32 first ticket f64
 *   40 store time f64 | 48 wall time f64 | 56 records u32 | 60 behind u32
 *
 * `behind` is how many tickets before the first one were not yet durable when the batch was written. It is
 * what tells a torn tail from damage: if batch 7 is bad and a later batch says that 7 was durable, then 7 is
 * damaged and all behind it counts; if none says so, 7 was never acknowledged and the log ends before it.
 *
 * A record: length u32, kind u8, body.
 */
import { crc32 } from 'node:zlib'
import {
  BATCH_HEADER_BYTES,
  BLOCK_BYTES,
  RECORD_HEADER_BYTES,
  roundUpToPage,
  STORE_BYTES
} from './layout.ts'
import type { Block, Segment } from './segment.ts'

const MAGIC = 0x424d_514d // "MQMB"
const LARGE = 0x8000_0000

/** Records that wait to be written, or are being written. */
export class Batch {
  readonly segment: Segment
  /** Where the header lies in the segment; a multiple of 4 KiB. */
  readonly offset: number
  readonly block: Block
  /** In the block's buffer: the header, behind the last record, and that rounded up to a page. */
  readonly start: number
  readonly end: number
  readonly paddedEnd: number
  readonly firstTicket: number
  readonly records: number
  /** How many of its first records were written before, to the same page, and not synced. */
  readonly recordsBefore: number

  constructor(
    segment: Segment,
    block: Block,
    start: number,
    end: number,
    paddedEnd: number,
    firstTicket: number,
    records: number,
    recordsBefore = 0
  ) {
    this.segment = segment
    this.offset = block.base + start
    this.block = block
    this.start = start
    this.end = end
    this.paddedEnd = paddedEnd
    this.firstTicket = firstTicket
    this.records = records
    this.recordsBefore = recordsBefore
  }

  get lastTicket(): number {
    return this.firstTicket + this.records - 1
  }

  get bytes(): number {
    return this.paddedEnd - this.start
  }
}

/** What every batch of one write has in common. */
export interface BatchStamp {
  store: Buffer
  epoch: number
  durableTicket: number
  storeTime: number
  wallTime: number
}

/** Writes the header of a batch that is about to go to the disk. */
export function sealBatch(batch: Batch, stamp: BatchStamp): void {
  const { buffer } = batch.block
  const at = batch.start
  buffer.writeUInt32LE(MAGIC, at + 4)
  stamp.store.copy(buffer, at + 8, 0, STORE_BYTES)
  buffer.writeUInt32LE(stamp.epoch, at + 16)
  buffer.writeUInt32LE(batch.segment.number, at + 20)
  buffer.writeUInt32LE(batch.offset, at + 24)
  const length = batch.end - at
  buffer.writeUInt32LE(batch.block.isLarge ? (length | LARGE) >>> 0 : length, at + 28)
  buffer.writeDoubleLE(batch.firstTicket, at + 32)
  buffer.writeDoubleLE(stamp.storeTime, at + 40)
  buffer.writeDoubleLE(stamp.wallTime, at + 48)
  buffer.writeUInt32LE(batch.records, at + 56)
  const behind = Math.max(0, batch.firstTicket - 1 - stamp.durableTicket)
  buffer.writeUInt32LE(Math.min(behind, 0xffff_ffff), at + 60)
  buffer.writeUInt32LE(crc32(buffer.subarray(at + 4, batch.end)), at)
}

/** The fields of a header that was read. One object is used again for many. */
export class BatchHeader {
  epoch = 0
  segment = 0
  offset = 0
  length = 0
  isLarge = false
  firstTicket = 0
  storeTime = 0
  wallTime = 0
  records = 0
  behind = 0

  get lastTicket(): number {
    return this.firstTicket + this.records - 1
  }

  /** The highest ticket that was durable when this batch was written. */
  get durableTicket(): number {
    return this.firstTicket - 1 - this.behind
  }

  get paddedLength(): number {
    return roundUpToPage(this.length)
  }

  /** Reads a header that claims to be this store's and to lie at `offset`; its CRC is not looked at. */
  read(buffer: Buffer, at: number, store: Buffer, offset: number): boolean {
    if (at + BATCH_HEADER_BYTES > buffer.length) return false
    if (buffer.readUInt32LE(at + 4) !== MAGIC) return false
    if (buffer.compare(store, 0, STORE_BYTES, at + 8, at + 8 + STORE_BYTES) !== 0) return false
    this.offset = buffer.readUInt32LE(at + 24)
    if (this.offset !== offset) return false
    this.epoch = buffer.readUInt32LE(at + 16)
    this.segment = buffer.readUInt32LE(at + 20)
    const length = buffer.readUInt32LE(at + 28)
    this.isLarge = (length & LARGE) !== 0
    this.length = (length & ~LARGE) >>> 0
    this.firstTicket = buffer.readDoubleLE(at + 32)
    this.storeTime = buffer.readDoubleLE(at + 40)
    this.wallTime = buffer.readDoubleLE(at + 48)
    this.records = buffer.readUInt32LE(at + 56)
    this.behind = buffer.readUInt32LE(at + 60)
    return (
      this.length > BATCH_HEADER_BYTES &&
      this.records > 0 &&
      (this.isLarge ? this.records === 1 : (offset % BLOCK_BYTES) + this.length <= BLOCK_BYTES)
    )
  }
}

/** True when the CRC of the batch at `at` is right; all its `length` bytes must be in the buffer. */
export function isBatchIntact(buffer: Buffer, at: number, length: number): boolean {
  if (at + length > buffer.length) return false
  return crc32(buffer.subarray(at + 4, at + length)) === buffer.readUInt32LE(at)
}

/** Goes through the records of a batch that was verified. */
export class RecordCursor {
  kind = 0
  /** The body, in the buffer. */
  start = 0
  end = 0
  #buffer: Buffer
  #limit: number
  #next: number

  /** `at`: where the batch's header lies in the buffer. */
  constructor(buffer: Buffer, at: number, length: number) {
    this.#buffer = buffer
    this.#limit = at + length
    this.#next = at + BATCH_HEADER_BYTES
  }

  next(): boolean {
    const at = this.#next
    if (at + RECORD_HEADER_BYTES > this.#limit) return false
    this.start = at + RECORD_HEADER_BYTES
    this.end = this.start + this.#buffer.readUInt32LE(at)
    this.kind = this.#buffer[at + 4]!
    this.#next = this.end
    return this.end <= this.#limit
  }
}
