/**
 * A block of a stream's file: a header of 48 bytes, then numbered bodies, each behind a u32 of its length.
 *
 *   magic u32 · body bytes u32 · first number f64 · count u32 · CRC-32 of the body u32 · store time f64
 *   · wall time f64 · stream id u32 · CRC-32 of the header so far u32
 *
 * The header has a CRC of its own, so that a damaged body costs one block and not what lies behind it.
 */
import { crc32 } from 'node:zlib'
import {
  type NewBlock,
  type StreamBlock,
  type StreamPlace,
  STREAM_HEADER_BYTES as BLOCK_HEADER_BYTES
} from './journal.ts'

const MAGIC = 0x4d515331
const HEADER_CRC_AT = 44

/** Fills the header of a block, whose bodies stand behind it. */
export function sealBlock(block: NewBlock, id: number): void {
  const { buffer } = block
  buffer.writeUInt32BE(MAGIC, 0)
  buffer.writeUInt32BE(buffer.length - BLOCK_HEADER_BYTES, 4)
  buffer.writeDoubleBE(block.first, 8)
  buffer.writeUInt32BE(block.count, 16)
  buffer.writeUInt32BE(crc32(buffer.subarray(BLOCK_HEADER_BYTES)), 20)
  buffer.writeDoubleBE(block.storeTime, 24)
  buffer.writeDoubleBE(block.wallTime, 32)
  buffer.writeUInt32BE(id, 40)
  buffer.writeUInt32BE(crc32(buffer.subarray(0, HEADER_CRC_AT)), HEADER_CRC_AT)
}

/** Reads headers; the fields are those of the one read last. */
export class BlockHeader {
  bodyBytes = 0
  first = 0
  count = 0
  bodyCrc = 0
  storeTime = 0
  wallTime = 0

  get bytes(): number {
    return BLOCK_HEADER_BYTES + this.bodyBytes
  }

  get last(): number {
    return this.first + this.count - 1
  }

  /** False: no header of this stream stands there. */
  read(buffer: Buffer, at: number, id: number): boolean {
    if (at + BLOCK_HEADER_BYTES > buffer.length || buffer.readUInt32BE(at) !== MAGIC) return false
    const crc = buffer.readUInt32BE(at + HEADER_CRC_AT)
    if (crc !== crc32(buffer.subarray(at, at + HEADER_CRC_AT))) return false
    if (buffer.readUInt32BE(at + 40) !== id) return false
    this.bodyBytes = buffer.readUInt32BE(at + 4)
    this.first = buffer.readDoubleBE(at + 8)
    this.count = buffer.readUInt32BE(at + 16)
    this.bodyCrc = buffer.readUInt32BE(at + 20)
    this.storeTime = buffer.readDoubleBE(at + 24)
    this.wallTime = buffer.readDoubleBE(at + 32)
    return true
  }

  /** Whether the body behind the header at `at`, all of it in `buffer`, is what was written. */
  isIntact(buffer: Buffer, at: number): boolean {
    const start = at + BLOCK_HEADER_BYTES
    return crc32(buffer.subarray(start, start + this.bodyBytes)) === this.bodyCrc
  }

  /** The block at `at`, with bytes of its own. */
  take(buffer: Buffer, at: number, place: StreamPlace): StreamBlock {
    const { first, count, wallTime, storeTime } = this
    const next = { file: place.file, offset: place.offset + this.bytes }
    const start = at + BLOCK_HEADER_BYTES
    const body = Buffer.from(buffer.subarray(start, start + this.bodyBytes))
    const end = body.length
    return { first, count, wallTime, storeTime, buffer: body, start: 0, end, place, next }
  }
}
