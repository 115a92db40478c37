/** Blocks of streams that were read: shared by all readers, bounded in bytes, the longest unused goes first. */
import type { StreamBlock } from './journal.ts'

const CACHE_BYTES = 8 * 1024 * 1024
/** What a block costs beside its body. */
const ENTRY_BYTES = 256

export class StreamCache {
  /** In the order of last use, with the list of its own stream. */
  readonly #used = new Map<StreamBlock, Map<number, StreamBlock>>()
  #bytes = 0

  get bytes(): number {
    return this.#bytes
  }

  /** `blocks`: those of one stream that are in memory, by their first number. */
  add(blocks: Map<number, StreamBlock>, block: StreamBlock): void {
    const old = blocks.get(block.first)
    if (old !== undefined) this.remove(blocks, old)
    blocks.set(block.first, block)
    this.#used.set(block, blocks)
    this.#bytes += block.buffer.length + ENTRY_BYTES
    for (const [oldest, its] of this.#used) {
      if (this.#bytes <= CACHE_BYTES || oldest === block) break
      this.remove(its, oldest)
    }
  }

  touch(blocks: Map<number, StreamBlock>, block: StreamBlock): void {
    this.#used.delete(block)
    this.#used.set(block, blocks)
  }

  remove(blocks: Map<number, StreamBlock>, block: StreamBlock): void {
    if (!this.#used.delete(block)) return
    blocks.delete(block.first)
    this.#bytes -= block.buffer.length + ENTRY_BYTES
  }

  clear(blocks: Map<number, StreamBlock>): void {
    for (const block of [...blocks.values()]) this.remove(blocks, block)
  }
}
