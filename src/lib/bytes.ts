/** Copies and numbers for the hot paths: small things in place, without a call into native code. */

/** Below this a plain loop is quicker than `Buffer.copy` (measured). */
const LOOP_BYTES = 40

/** A buffer that carries a view of its bytes, so that `copyBytes` can move several at once. */
interface Viewed {
  words?: DataView
}

const MAJOR = Number.parseInt(process.versions.node, 10)
/**
 * Up to here copying in words is quicker than `Buffer.copy`. Before Node 22 that makes a typed array for each call,
 * which costs as much as 100 bytes of copying and keeps the collector busy (measured).
 */
const WORDS_BYTES_MAX = MAJOR < 22 ? 112 : 40

/** An uninitialised buffer with memory of its own, from and into which `copyBytes` is quick. */
export function allocateBytes(bytes: number): Buffer {
  const buffer = Buffer.allocUnsafeSlow(bytes) as Buffer & Viewed
  buffer.words = new DataView(buffer.buffer, buffer.byteOffset, bytes)
  return buffer
}

/** Copies `source[start..end)`; returns the offset behind it. The two do not overlap. */
export function copyBytes(
  source: Buffer,
  start: number,
  end: number,
  target: Buffer,
  at: number
): number {
  const length = end - start
  if (length <= WORDS_BYTES_MAX) {
    const from = (source as Buffer & Viewed).words
    const to = (target as Buffer & Viewed).words
    if (from !== undefined && to !== undefined) {
      for (; start < end - 7; start += 8, at += 8) {
        to.setInt32(at, from.getInt32(start, true), true)
        to.setInt32(at + 4, from.getInt32(start + 4, true), true)
      }
    } else if (length >= LOOP_BYTES) {
      source.copy(target, at, start, end)
      return at + length
    }
    while (start < end) target[at++] = source[start++]!
    return at
  }
  source.copy(target, at, start, end)
  return at + length
}

/** 7 bits a byte, lowest first, up to 2^53 - 1; returns the offset behind it. */
export function writeVarint(target: Buffer, at: number, value: number): number {
  while (value > 0x7fffffff) {
    target[at++] = (value % 128) | 128
    value = Math.floor(value / 128)
  }
  while (value > 127) {
    target[at++] = (value & 127) | 128
    value >>>= 7
  }
  target[at++] = value
  return at
}

/** Reads what `writeVarint` wrote: `value`, and `at` behind it. Never reads beyond `end`: then `at` is -1. */
export class VarintReader {
  value = 0
  at = 0

  read(source: Buffer, at: number, end: number): number {
    let value = 0
    let scale = 1
    for (let i = 0; i < 8 && at < end; i++) {
      const byte = source[at++]!
      value += (byte & 127) * scale
      if (byte < 128) {
        this.value = value
        this.at = at
        return value
      }
      scale *= 128
    }
    this.value = 0
    this.at = -1
    return -1
  }
}

/** At most so many bytes of `text`, cut between characters. */
export function cutUtf8(text: string, bytesMax: number): string {
  if (text.length * 3 <= bytesMax) return text
  const bytes = Buffer.from(text)
  if (bytes.length <= bytesMax) return text
  let end = bytesMax
  while ((bytes[end]! & 0xc0) === 0x80) end--
  return bytes.toString('utf8', 0, end)
}
