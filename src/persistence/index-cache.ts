import type { Chunk } from '../core/chunk.ts'

/** The indexes of cold chunks that were read last, of all queues: a stream and the updates behind it read the same. */
export class IndexCache {
  readonly #indexes: Index[] = []

  get(chunk: Chunk): Uint32Array | null {
    for (const { segment, offset, words } of this.#indexes) {
      if (chunk.segment === segment && chunk.offset === offset) return words
    }
    return null
  }

  add(chunk: Chunk, words: Uint32Array): void {
    this.#indexes.push({ segment: chunk.segment, offset: chunk.offset, words })
    if (this.#indexes.length > INDEXES_MAX) this.#indexes.shift()
  }
}

const INDEXES_MAX = 8

interface Index {
  readonly segment: number
  readonly offset: number
  readonly words: Uint32Array
}
