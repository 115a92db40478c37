/**
 * Bodies of messages that no journal record holds: what waits only for sessions and queues that end
 * with their connection or the process. Records of the journal's form, in blocks of 64 KiB, copied
 * once; a block is given back when nothing in it is live. An exactly sized Buffer for each message
 * would cost ten times as much [conventions.md §6.5].
 *
 * A position here is a segment number from `MEMORY` on (the block) and an offset in it.
 */
import { allocateBytes } from '../lib/bytes.ts'

/** Segment numbers from here on are blocks in memory, not segments of the journal. */
export const MEMORY = 0x80000000

const BLOCK_BYTES = 64 * 1024

interface Block {
  buffer: Buffer
  used: number
  /** Destinations that still need something in it. */
  live: number
}

export class Slabs {
  /** Where the record that `begin` opened is to be written. */
  buffer: Buffer
  /** Position and bounds of the record that `end` closed or `view` found. */
  segment: number
  offset: number
  viewStart: number
  viewEnd: number
  /** Bytes of all blocks, the bound that the broker watches. */
  bytes: number
  readonly #blocks: (Block | null)[]
  readonly #free: number[]
  #current: number
  #openAt: number

  constructor() {
    this.buffer = Buffer.alloc(0)
    this.segment = 0
    this.offset = 0
    this.viewStart = 0
    this.viewEnd = 0
    this.bytes = 0
    this.#blocks = []
    this.#free = []
    this.#current = -1
    this.#openAt = 0
  }

  /** Opens a record of at most `bytesMax` bytes; returns the offset in `buffer` of its first byte. */
  begin(bytesMax: number): number {
    const needed = bytesMax + 4
    let block = this.#current < 0 ? null : this.#blocks[this.#current]!
    if (block === null || block.buffer.length - block.used < needed) {
      const filled = this.#current
      this.#current = this.#allocate(Math.max(BLOCK_BYTES, needed))
      if (filled >= 0) this.#freeIfDead(filled)
      block = this.#blocks[this.#current]!
    }
    this.buffer = block.buffer
    this.#openAt = block.used
    return block.used + 4
  }

  /** Closes it; `end` is the offset behind its last byte. Claim it, or it is gone with the next block. */
  end(end: number): void {
    const block = this.#blocks[this.#current]!
    block.buffer.writeUInt32LE(end - this.#openAt - 4, this.#openAt)
    block.used = end
    this.segment = MEMORY + this.#current
    this.offset = this.#openAt + 4
  }

  claim(segment: number): void {
    this.#blocks[segment - MEMORY]!.live++
  }

  release(segment: number): void {
    const index = segment - MEMORY
    const block = this.#blocks[index]!
    block.live--
    if (block.live > 0) return
    if (index === this.#current && block.buffer.length === BLOCK_BYTES) block.used = 0
    else this.#freeIfDead(index)
  }

  view(segment: number, offset: number): void {
    const block = this.#blocks[segment - MEMORY]!
    this.buffer = block.buffer
    this.viewStart = offset
    this.viewEnd = offset + block.buffer.readUInt32LE(offset - 4)
  }

  #allocate(bytes: number): number {
    const block: Block = { buffer: allocateBytes(bytes), used: 0, live: 0 }
    this.bytes += bytes
    const index = this.#free.pop() ?? this.#blocks.length
    this.#blocks[index] = block
    return index
  }

  #freeIfDead(index: number): void {
    const block = this.#blocks[index]
    if (block === null || block === undefined || block.live > 0) return
    this.bytes -= block.buffer.length
    this.#blocks[index] = null
    if (index === this.#current) this.#current = -1
    this.#free.push(index)
  }
}
