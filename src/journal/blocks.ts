/**
 * Blocks: aligned 64 KiB regions of segments that are in memory, in one cache with a bound in bytes.
 *
 * A block is first the buffer in which batches gather; written, it is simply a block of the cache. A
 * record with a batch of its own is a *large* block, exactly sized. What is not yet written is held and
 * never evicted; the rest goes by the clock algorithm (a hand that takes what was not used since it last
 * came by), which needs one flag a block where a list in order of use needs six writes a look.
 *
 * `pages` has a bit for each page that holds records of a verified batch: what a stale or damaged page
 * holds can never be viewed.
 */
import { allocateBytes } from '../lib/bytes.ts'
import { BLOCK_BYTES } from './layout.ts'
import { Block, type Segment } from './segment.ts'

const FREE_BUFFERS_MAX = 32

export class BlockCache {
  bytes = 0
  readonly #bytesMax: number
  readonly #ring: Block[] = []
  #hand = 0
  readonly #freeBuffers: Buffer[] = []

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax
  }

  /** A new block for a region; the caller finds its buffer filled with whatever was there before. */
  add(segment: Segment, base: number): Block {
    this.#makeRoom(BLOCK_BYTES)
    const buffer = this.#freeBuffers.pop() ?? allocateBytes(BLOCK_BYTES)
    const index = base / BLOCK_BYTES
    const old = segment.blocks[index]
    if (old) this.#remove(this.#ring.indexOf(old))
    const block = new Block(segment, base, buffer, false)
    segment.blocks[index] = block
    this.#ring.push(block)
    this.bytes += BLOCK_BYTES
    return block
  }

  addLarge(segment: Segment, base: number, buffer: Buffer): Block {
    this.#makeRoom(buffer.length)
    const old = segment.large?.get(base)
    if (old) this.#remove(this.#ring.indexOf(old))
    const block = new Block(segment, base, buffer, true)
    segment.large ??= new Map()
    segment.large.set(base, block)
    this.#ring.push(block)
    this.bytes += buffer.length
    return block
  }

  /** Forgets one block, for instance because the read that was to fill it failed. */
  drop(block: Block): void {
    const at = this.#ring.indexOf(block)
    if (at >= 0) this.#remove(at)
  }

  /** Forgets all blocks of a segment, which is about to be used again. */
  dropSegment(segment: Segment): void {
    for (let at = this.#ring.length - 1; at >= 0; at--) {
      if (this.#ring[at]!.segment === segment) this.#remove(at)
    }
  }

  #makeRoom(bytes: number): void {
    // Two rounds: the first takes the flags off. What is held may keep us above the bound.
    let looks = this.#ring.length * 2
    while (this.bytes + bytes > this.#bytesMax && looks-- > 0 && this.#ring.length > 0) {
      if (this.#hand >= this.#ring.length) this.#hand = 0
      const block = this.#ring[this.#hand]!
      if (block.holds > 0) this.#hand++
      else if (block.used) {
        block.used = false
        this.#hand++
      } else this.#remove(this.#hand)
    }
  }

  #remove(at: number): void {
    const block = this.#ring[at]!
    const last = this.#ring.pop()!
    if (last !== block) this.#ring[at] = last
    block.number = 0
    if (block.isLarge) block.segment.large?.delete(block.base)
    else {
      block.segment.blocks[block.base / BLOCK_BYTES] = null
      // A held buffer may still be on its way to the disk: it is left to the collector.
      if (block.holds === 0 && this.#freeBuffers.length < FREE_BUFFERS_MAX) {
        this.#freeBuffers.push(block.buffer)
      }
    }
    this.bytes -= block.buffer.length
  }
}
