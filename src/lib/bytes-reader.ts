/**
 * Reads the fields of a binary record, big-endian, one after the other. For cold paths: hot ones
 * read in place. Every read checks its bounds: what lies behind `end` is never seen, a length that
 * lies costs nothing.
 */
import { isUtf8 } from 'node:buffer'

/** The bytes are too short, or are not what they should be: the fault of the input, not a bug. */
export class BytesError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'BytesError'
  }
}

const TWO_32 = 0x1_0000_0000
/** 8 bytes of 7 bits are more than 2^53; the value is checked too. */
const VARINT_BYTES_MAX = 8

export class BytesReader {
  readonly buffer: Buffer
  /** Offset of the next byte to read. */
  offset: number
  /** Behind the last byte that may be read. */
  readonly end: number

  /** Reads `buffer` from `start` to `end`, by default all of it. The bytes stay the caller's. */
  constructor(buffer: Buffer, start = 0, end = buffer.length) {
    if (start < 0 || end > buffer.length || start > end) {
      throw new RangeError('reader outside of its buffer')
    }
    this.buffer = buffer
    this.offset = start
    this.end = end
  }

  get remaining(): number {
    return this.end - this.offset
  }

  u8(): number {
    return this.buffer.readUInt8(this.take(1))
  }

  u16(): number {
    return this.buffer.readUInt16BE(this.take(2))
  }

  u32(): number {
    return this.buffer.readUInt32BE(this.take(4))
  }

  /** 8 bytes as a number; above 2^53 - 1 a `BytesError`. */
  u64(): number {
    const at = this.take(8)
    const value = this.buffer.readUInt32BE(at) * TWO_32 + this.buffer.readUInt32BE(at + 4)
    if (!Number.isSafeInteger(value)) throw new BytesError('integer above 2^53 - 1')
    return value
  }

  bigU64(): bigint {
    return this.buffer.readBigUInt64BE(this.take(8))
  }

  i8(): number {
    return this.buffer.readInt8(this.take(1))
  }

  i16(): number {
    return this.buffer.readInt16BE(this.take(2))
  }

  i32(): number {
    return this.buffer.readInt32BE(this.take(4))
  }

  bigI64(): bigint {
    return this.buffer.readBigInt64BE(this.take(8))
  }

  f32(): number {
    return this.buffer.readFloatBE(this.take(4))
  }

  f64(): number {
    return this.buffer.readDoubleBE(this.take(8))
  }

  /** 7 bits a byte, lowest first, up to 2^53 - 1. */
  varint(): number {
    let value = 0
    let scale = 1
    for (let count = 0; count < VARINT_BYTES_MAX; count++) {
      const byte = this.u8()
      value += (byte & 0x7f) * scale
      if (byte < 0x80) {
        if (!Number.isSafeInteger(value)) throw new BytesError('varint above 2^53 - 1')
        return value
      }
      scale *= 128
    }
    throw new BytesError('varint too long')
  }

  /** UTF-8 behind one byte of length. Bytes that are no UTF-8: a `BytesError`. */
  shortString(): string {
    return this.utf8(this.u8())
  }

  /** UTF-8 behind four bytes of length. */
  longString(): string {
    return this.utf8(this.u32())
  }

  /** UTF-8 of `length` bytes. */
  utf8(length: number): string {
    const at = this.take(length)
    const text = this.buffer.toString('utf8', at, at + length)
    // Only a decoded replacement character can come from bad bytes: the check is rare.
    if (text.includes('\ufffd') && !isUtf8(this.buffer.subarray(at, at + length))) {
      throw new BytesError('invalid UTF-8')
    }
    return text
  }

  /** The next `length` bytes as a view: whoever keeps them copies them. */
  bytes(length: number): Buffer {
    const at = this.take(length)
    return this.buffer.subarray(at, at + length)
  }

  /** Bytes behind four bytes of length, as a view. */
  longBytes(): Buffer {
    return this.bytes(this.u32())
  }

  skip(length: number): void {
    this.take(length)
  }

  /** Throws unless everything was read. */
  expectEnd(): void {
    if (this.offset !== this.end) throw new BytesError('trailing bytes')
  }

  private take(length: number): number {
    const at = this.offset
    if (length > this.end - at) throw new BytesError('bytes end too soon')
    this.offset = at + length
    return at
  }
}
