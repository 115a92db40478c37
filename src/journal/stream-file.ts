/** One file of a stream, read from its begin: blocks in their order, in pieces of bounded size. */
import { join } from 'node:path'
import type { Disk, DiskFile } from './disk.ts'
import { STREAM_HEADER_BYTES } from './journal.ts'
import { roundUpToPage } from './layout.ts'
import { BlockHeader } from './stream-block.ts'

/** Read at once. */
export const PIECE_BYTES = 256 * 1024
export const STREAM_FILE_NAME = /^(\d+)-(\d{16})\.stream$/

export function streamFileName(id: number, first: number): string {
  return `${id}-${String(first).padStart(16, '0')}.stream`
}

/** What is known of a file without reading it. */
export class StreamFile {
  readonly name: string
  /** The number in its name: what it begins with. */
  readonly first: number
  /** Synced blocks end here. */
  bytes: number
  /** Times of its first block. */
  storeTime: number
  wallTime: number

  constructor(id: number, first: number) {
    this.name = streamFileName(id, first)
    this.first = first
    this.bytes = 0
    this.storeTime = 0
    this.wallTime = 0
  }
}

/** Walks over the blocks of a file up to `end`. What is damaged is passed over, by the block or by the page. */
export class StreamWalk {
  readonly header = new BlockHeader()
  /** The block that `next` found: in `buffer` from `at`, at `offset` in the file. */
  buffer: Buffer = Buffer.alloc(0)
  at = 0
  offset: number
  /** Blocks whose body is not what was written. */
  damaged = 0
  /** Where the walk has come to: the end of the last block whose header is whole. */
  reached: number
  readonly #id: number
  readonly #end: number
  readonly #pieceBytes: number
  #file: DiskFile | null = null
  /** Where `buffer` begins in the file. */
  #base = 0

  constructor(id: number, from: number, end: number, pieceBytes = PIECE_BYTES) {
    this.#id = id
    this.#pieceBytes = pieceBytes
    this.#end = end
    this.offset = from
    this.reached = from
  }

  async open(disk: Disk, folder: string, name: string): Promise<this> {
    this.#file = await disk.open(join(folder, name), 'read')
    return this
  }

  async close(): Promise<void> {
    const file = this.#file
    this.#file = null
    await file?.close()
  }

  /** The next intact block; false: there is none up to the end. */
  async next(): Promise<boolean> {
    while (await this.nextHeader()) {
      if (!(await this.#have(this.header.bytes))) return false
      this.reached = this.offset + this.header.bytes
      if (this.header.isIntact(this.buffer, this.at)) return true
      this.damaged++
    }
    return false
  }

  /**
   * The next header: where the walk has come to, or at a later page, for each write begins on one. False: there
   * is none up to the end.
   */
  async nextHeader(): Promise<boolean> {
    this.offset = this.reached
    while (await this.#have(STREAM_HEADER_BYTES)) {
      if (this.header.read(this.buffer, this.at, this.#id)) {
        return this.offset + this.header.bytes <= this.#end
      }
      this.offset = roundUpToPage(this.offset + 1)
    }
    return false
  }

  /** The block behind the one that `next` found was read together with it. */
  get isNextHere(): boolean {
    for (const offset of [this.reached, roundUpToPage(this.reached)]) {
      const at = offset - this.#base
      if (at + STREAM_HEADER_BYTES > this.buffer.length) return false
      if (!this.header.read(this.buffer, at, this.#id)) continue
      return at + this.header.bytes <= this.buffer.length
    }
    return false
  }

  /** Makes `bytes` from `offset` on stand in `buffer`. */
  async #have(bytes: number): Promise<boolean> {
    this.at = this.offset - this.#base
    if (this.at + bytes <= this.buffer.length) return true
    if (this.offset + bytes > this.#end) return false
    const length = Math.min(Math.max(this.#pieceBytes, bytes), this.#end - this.offset)
    const piece = Buffer.allocUnsafe(length)
    const count = await this.#file!.read(piece, 0, length, this.offset)
    this.buffer = piece.subarray(0, count)
    this.#base = this.offset
    this.at = 0
    return count >= bytes
  }
}
