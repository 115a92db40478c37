/** Packets that know where their lengths and numbers stand, so that exactly these can be spoilt. */
import { between, type Random } from './random.ts'

/** A number in a packet: where, and in how many bytes; 0: a variable byte integer of MQTT. */
export interface Mark {
  readonly at: number
  readonly bytes: 0 | 1 | 2 | 4 | 8
}

export interface Piece {
  readonly bytes: Buffer
  readonly marks: readonly Mark[]
}

/** Where lengths and counters go wrong. */
export const EDGES: readonly number[] = [
  0,
  1,
  2,
  3,
  4,
  5,
  127,
  128,
  129,
  254,
  255,
  256,
  16_383,
  16_384,
  65_534,
  65_535,
  65_536,
  2_097_151,
  2_097_152,
  268_435_455,
  2 ** 31 - 1,
  2 ** 31,
  2 ** 32 - 1
]

export function pick<T>(random: Random, items: readonly T[]): T {
  return items[Math.floor(random() * items.length)]!
}

export function chance(random: Random, probability: number): boolean {
  return random() < probability
}

export function edge(random: Random): number {
  return pick(random, EDGES)
}

export function randomBytes(random: Random, max: number): Buffer {
  const bytes = Buffer.allocUnsafe(between(random, 0, max))
  for (let i = 0; i < bytes.length; i++) bytes[i] = random() * 256
  return bytes
}

/** Writes one packet. */
export class Sketch {
  #bytes: Buffer
  #end = 0
  #marks: Mark[] = []

  constructor() {
    this.#bytes = Buffer.allocUnsafe(256)
  }

  get end(): number {
    return this.#end
  }

  #room(bytes: number): number {
    const at = this.#end
    if (at + bytes > this.#bytes.length) {
      const grown = Buffer.allocUnsafe(Math.max(2 * this.#bytes.length, at + bytes))
      this.#bytes.copy(grown, 0, 0, at)
      this.#bytes = grown
    }
    this.#end = at + bytes
    return at
  }

  /** A number that nobody spoils on purpose. */
  byte(value: number): this {
    const at = this.#room(1)
    this.#bytes[at] = value
    return this
  }

  number(bytes: 1 | 2 | 4 | 8, value: number): this {
    const at = this.#room(bytes)
    this.#marks.push({ at, bytes })
    writeNumber(this.#bytes, at, bytes, value)
    return this
  }

  raw(bytes: Buffer): this {
    const at = this.#room(bytes.length)
    bytes.copy(this.#bytes, at)
    return this
  }

  /** Text or bytes behind their length. */
  sized(bytes: 1 | 2 | 4, value: string | Buffer): this {
    const content = typeof value === 'string' ? Buffer.from(value) : value
    const length = bytes === 1 ? Math.min(content.length, 255) : content.length
    return this.number(bytes, length).raw(content.subarray(0, length))
  }

  /** What `write` writes, behind its length in `bytes` bytes; 0: a variable byte integer. */
  block(bytes: 0 | 1 | 2 | 4, write: (inner: Sketch) => void): this {
    const inner = new Sketch()
    write(inner)
    const content = inner.piece()
    if (bytes === 0) {
      this.#marks.push({ at: this.#end, bytes: 0 })
      this.raw(varint(content.bytes.length))
    } else this.number(bytes, content.bytes.length)
    for (const mark of content.marks) {
      this.#marks.push({ at: mark.at + this.#end, bytes: mark.bytes })
    }
    return this.raw(content.bytes)
  }

  piece(): Piece {
    return { bytes: this.#bytes.subarray(0, this.#end), marks: this.#marks }
  }
}

export function varint(value: number): Buffer {
  const bytes: number[] = []
  let left = value
  do {
    bytes.push((left & 127) | (left > 127 ? 128 : 0))
    left = Math.floor(left / 128)
  } while (left > 0)
  return Buffer.from(bytes)
}

export function writeNumber(buffer: Buffer, at: number, bytes: number, value: number): void {
  let left = value
  for (let i = bytes - 1; i >= 0; i--) {
    buffer[at + i] = left % 256
    left = Math.floor(left / 256)
  }
}

export function readNumber(buffer: Buffer, at: number, bytes: number): number {
  let value = 0
  for (let i = 0; i < bytes; i++) value = value * 256 + buffer[at + i]!
  return value
}
