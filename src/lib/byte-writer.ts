/**
 * Writes the fields of a binary record, big-endian, into a buffer that grows. For cold paths: hot
 * ones write in place. A value that does not fit its field throws a `RangeError`: the caller's bug.
 */
const TWO_32 = 0x1_0000_0000

export class ByteWriter {
  /** Changes when it grows: not to be kept over a write. */
  buffer: Buffer
  /** Bytes written. */
  length: number

  constructor(capacity = 256) {
    this.buffer = Buffer.allocUnsafe(Math.max(capacity, 16))
    this.length = 0
  }

  u8(value: number): void {
    const at = this.reserve(1)
    this.buffer.writeUInt8(value, at)
    this.length += 1
  }

  u16(value: number): void {
    const at = this.reserve(2)
    this.buffer.writeUInt16BE(value, at)
    this.length += 2
  }

  u32(value: number): void {
    const at = this.reserve(4)
    this.buffer.writeUInt32BE(value, at)
    this.length += 4
  }

  /** A whole number up to 2^53 - 1 in 8 bytes. */
  u64(value: number): void {
    checkWhole(value)
    const at = this.reserve(8)
    this.buffer.writeUInt32BE(Math.floor(value / TWO_32), at)
    this.buffer.writeUInt32BE(value % TWO_32, at + 4)
    this.length += 8
  }

  bigU64(value: bigint): void {
    const at = this.reserve(8)
    this.buffer.writeBigUInt64BE(value, at)
    this.length += 8
  }

  i8(value: number): void {
    const at = this.reserve(1)
    this.buffer.writeInt8(value, at)
    this.length += 1
  }

  i16(value: number): void {
    const at = this.reserve(2)
    this.buffer.writeInt16BE(value, at)
    this.length += 2
  }

  i32(value: number): void {
    const at = this.reserve(4)
    this.buffer.writeInt32BE(value, at)
    this.length += 4
  }

  bigI64(value: bigint): void {
    const at = this.reserve(8)
    this.buffer.writeBigInt64BE(value, at)
    this.length += 8
  }

  f32(value: number): void {
    const at = this.reserve(4)
    this.buffer.writeFloatBE(value, at)
    this.length += 4
  }

  f64(value: number): void {
    const at = this.reserve(8)
    this.buffer.writeDoubleBE(value, at)
    this.length += 8
  }

  /** 7 bits a byte, lowest first: a whole number up to 2^53 - 1. */
  varint(value: number): void {
    checkWhole(value)
    while (value >= 128) {
      this.u8((value % 128) + 128)
      value = Math.floor(value / 128)
    }
    this.u8(value)
  }

  /** UTF-8 behind one byte of length: at most 255 bytes. */
  shortString(text: string): void {
    const bytes = Buffer.byteLength(text)
    this.u8(bytes)
    this.utf8(text, bytes)
  }

  /** UTF-8 behind four bytes of length. */
  longString(text: string): void {
    const bytes = Buffer.byteLength(text)
    this.u32(bytes)
    this.utf8(text, bytes)
  }

  /** UTF-8 without a length; `bytes` is its length, when the caller knows it. */
  utf8(text: string, bytes = Buffer.byteLength(text)): void {
    const at = this.reserve(bytes)
    this.buffer.write(text, at, bytes, 'utf8')
    this.length += bytes
  }

  bytes(source: Uint8Array): void {
    const at = this.reserve(source.length)
    this.buffer.set(source, at)
    this.length += source.length
  }

  /** Bytes behind four bytes of length. */
  longBytes(source: Uint8Array): void {
    this.u32(source.length)
    this.bytes(source)
  }

  /** Writes over four bytes that are already there: a length known only afterwards. */
  patchU32(at: number, value: number): void {
    if (at + 4 > this.length) throw new RangeError('patch behind what is written')
    this.buffer.writeUInt32BE(value, at)
  }

  /** What is written, as a view until the next write or `reset`. */
  view(): Buffer {
    return this.buffer.subarray(0, this.length)
  }

  /** What is written, as the caller's own copy. */
  toBuffer(): Buffer {
    return Buffer.from(this.view())
  }

  /** Starts anew in the same buffer. */
  reset(): void {
    this.length = 0
  }

  /** Makes room for `bytes` more; returns where they go. May replace `buffer`: read that afterwards. */
  private reserve(bytes: number): number {
    const needed = this.length + bytes
    if (needed > this.buffer.length) {
      const grown = Buffer.allocUnsafe(Math.max(needed, this.buffer.length * 2))
      this.buffer.copy(grown, 0, 0, this.length)
      this.buffer = grown
    }
    return this.length
  }
}

function checkWhole(value: number): void {
  if (!Number.isSafeInteger(value) || value < 0) throw new RangeError('not a whole number')
}
