/** Copies and numbers for the hot paths: small things in place, without a call into native code. */

/** Below this a plain loop is quicker than `Buffer.copy`, which makes a view first (measured). */
const LOOP_BYTES = 48

export function copyBytes(
  source: Buffer,
  start: number,
  end: number,
  target: Buffer,
  at: number
): number {
  const length = end - start
  if (length < LOOP_BYTES) {
    for (let i = start; i < end; i++) target[at++] = source[i]!
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
