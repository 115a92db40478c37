/**
 * Cold reads: blocks of the log that are not in memory, one read at a time for the whole process, since a
 * sync must never stand in the thread pool behind many of them. A read takes the block and up to four
 * behind it; all batches in them are verified, and what is not verified cannot be viewed.
 */
import { BatchHeader, isBatchIntact } from './batch.ts'
import type { BlockCache } from './blocks.ts'
import type { FilePool } from './file-pool.ts'
import { isWorldError } from './journal-error.ts'
import type { BlockWaiter, JournalStats } from './journal.ts'
import { BATCH_HEADER_BYTES, BLOCK_BYTES, PAGE_BYTES, RECORD_HEADER_BYTES } from './layout.ts'
import type { JournalLog } from './options.ts'
import type { Block, Segment } from './segment.ts'
import { readRegion } from './segment-reader.ts'
import type { SegmentTable } from './segment-table.ts'

const BLOCKS_AHEAD = 4
/** From the header of a large batch to the body of its record. */
export const LARGE_BODY_AT = BATCH_HEADER_BYTES + RECORD_HEADER_BYTES

/** The block in memory in which the record at a position can be read; null: it must be loaded. */
export function blockOf(segment: Segment, offset: number): Block | null {
  const block = segment.blocks[Math.floor(offset / BLOCK_BYTES)]
  if (block?.hasPage(offset)) return block
  return segment.large?.get(offset - LARGE_BODY_AT) ?? null
}

/** Marks what can be viewed of a block of which `bytes` were read. */
export function markIntact(block: Block, bytes: number, store: Buffer, header: BatchHeader): void {
  const { buffer, base, segment } = block
  for (let at = 0; at < bytes; at += PAGE_BYTES) {
    if (!header.read(buffer, at, store, base + at)) continue
    if (header.segment !== segment.number || header.isLarge) continue
    if (!isBatchIntact(buffer, at, header.length)) continue
    block.markPages(at, at + header.length)
    at += header.paddedLength - PAGE_BYTES
  }
}

interface Request {
  segment: number
  offset: number
  waiter: BlockWaiter
}

export class ColdReads {
  readonly #segments: SegmentTable
  readonly #cache: BlockCache
  readonly #files: FilePool
  readonly #store: Buffer
  readonly #stats: JournalStats
  readonly #log: JournalLog
  /** How much of a segment may be read from its file; the tail's end is only in memory. */
  readonly #readableBytes: (segment: Segment) => number
  readonly #header = new BatchHeader()
  #queue: Request[] = []
  #isRunning = false
  #running: Promise<void> = Promise.resolve()
  #isClosed = false
  #scratch: Buffer | null = null

  constructor(
    segments: SegmentTable,
    cache: BlockCache,
    files: FilePool,
    store: Buffer,
    stats: JournalStats,
    log: JournalLog,
    readableBytes: (segment: Segment) => number
  ) {
    this.#segments = segments
    this.#cache = cache
    this.#files = files
    this.#store = store
    this.#stats = stats
    this.#log = log
    this.#readableBytes = readableBytes
  }

  load(segment: number, offset: number, waiter: BlockWaiter): void {
    this.#queue.push({ segment, offset, waiter })
    const found = this.#segments.get(segment)
    if (found !== null) found.pins++
    if (this.#isRunning) return
    this.#isRunning = true
    this.#running = this.#run()
  }

  /** Nobody is told any more; waits for a read that is under way. */
  async close(): Promise<void> {
    this.#isClosed = true
    await this.#running
  }

  async #run(): Promise<void> {
    await Promise.resolve() // never within load()
    while (this.#queue.length > 0 && !this.#isClosed) {
      const requests = this.#queue
      this.#queue = []
      for (const request of requests) {
        if (this.#isClosed) return
        await this.#serve(request)
      }
    }
    this.#isRunning = false
  }

  async #serve(request: Request): Promise<void> {
    const segment = this.#segments.get(request.segment)
    let block: Block | null = null
    if (segment !== null) {
      block = blockOf(segment, request.offset) ?? (await this.#read(segment, request.offset))
      segment.pins--
    }
    if (this.#isClosed) return
    if (block !== null) block.holds++
    request.waiter.onBlock(request.segment, request.offset, block !== null)
    if (block !== null) block.holds--
  }

  async #read(segment: Segment, offset: number): Promise<Block | null> {
    if (segment.name === '') return null // not written yet: it was in memory, or the position is wrong
    try {
      await this.#readBlocks(segment, Math.floor(offset / BLOCK_BYTES) * BLOCK_BYTES)
      const block = blockOf(segment, offset) ?? (await this.#readLarge(segment, offset))
      if (block !== null) return block
    } catch (error) {
      if (!isWorldError(error)) throw error
      this.#log('error', 'a block of the journal cannot be read', {
        segment: segment.number,
        offset,
        error: String(error)
      })
      return null
    }
    this.#stats.damagedBatches++
    this.#log('error', 'a block of the journal is damaged', {
      segment: segment.number,
      file: segment.name,
      offset
    })
    return null
  }

  async #readBlocks(segment: Segment, base: number): Promise<void> {
    const limit = Math.min(this.#readableBytes(segment), base + (1 + BLOCKS_AHEAD) * BLOCK_BYTES)
    let end = base
    while (end < limit && !segment.blocks[end / BLOCK_BYTES]) end += BLOCK_BYTES
    if (end === base) return
    this.#scratch ??= Buffer.allocUnsafeSlow((1 + BLOCKS_AHEAD) * BLOCK_BYTES)
    const scratch = this.#scratch
    const file = await this.#files.acquire(segment.name)
    try {
      await readRegion(file, scratch, 0, end - base, base)
    } finally {
      await this.#files.release(segment.name)
    }
    // The one that was asked for last: what is read ahead never evicts it.
    for (let at = end - BLOCK_BYTES; at >= base; at -= BLOCK_BYTES) {
      if (!segment.blocks[at / BLOCK_BYTES]) this.#keep(segment, at, scratch, at - base)
    }
  }

  #keep(segment: Segment, base: number, scratch: Buffer, from: number): void {
    const block = this.#cache.add(segment, base)
    scratch.copy(block.buffer, 0, from, from + BLOCK_BYTES)
    this.#stats.blocksRead++
    markIntact(block, BLOCK_BYTES, this.#store, this.#header)
  }

  async #readLarge(segment: Segment, offset: number): Promise<Block | null> {
    const base = offset - LARGE_BODY_AT
    if (base < 0 || base % PAGE_BYTES !== 0) return null
    const header = this.#header
    const file = await this.#files.acquire(segment.name)
    try {
      const page = Buffer.alloc(PAGE_BYTES)
      await readRegion(file, page, 0, PAGE_BYTES, base)
      if (!header.read(page, 0, this.#store, base)) return null
      if (header.segment !== segment.number || !header.isLarge) return null
      if (base + header.length > segment.bytes) return null
      const length = header.length
      const buffer = Buffer.allocUnsafeSlow(header.paddedLength)
      await readRegion(file, buffer, 0, buffer.length, base)
      if (!isBatchIntact(buffer, 0, length)) return null
      this.#stats.blocksRead += Math.ceil(buffer.length / BLOCK_BYTES)
      return this.#cache.addLarge(segment, base, buffer)
    } finally {
      await this.#files.release(segment.name)
    }
  }
}
