/**
 * Reads one segment file batch by batch, through a window. Every batch's CRC is checked. A page that cannot be
 * read counts as zeros: the damage costs its batch, not the start.
 */
import { BatchHeader, isBatchIntact } from './batch.ts'
import type { DiskFile } from './disk.ts'
import { systemCode } from './journal-error.ts'
import { BATCH_HEADER_BYTES, PAGE_BYTES } from './layout.ts'

const WINDOW_BYTES = 256 * 1024

/** Reads a region; what lies behind the end of the file, or cannot be read, is zeros. */
export async function readRegion(
  file: DiskFile,
  buffer: Buffer,
  from: number,
  length: number,
  position: number
): Promise<void> {
  let count = 0
  try {
    count = await file.read(buffer, from, length, position)
  } catch (error) {
    if (systemCode(error) === '') throw error
    count = await readPages(file, buffer, from, length, position)
  }
  buffer.fill(0, from + count, from + length)
}

async function readPages(
  file: DiskFile,
  buffer: Buffer,
  from: number,
  length: number,
  position: number
): Promise<number> {
  for (let done = 0; done < length; done += PAGE_BYTES) {
    const bytes = Math.min(PAGE_BYTES, length - done)
    let count = 0
    try {
      count = await file.read(buffer, from + done, bytes, position + done)
    } catch (error) {
      if (systemCode(error) === '') throw error // else: this page is lost
    }
    buffer.fill(0, from + done + count, from + done + bytes)
  }
  return length
}

export class SegmentReader {
  /** Number that the batches must carry; 0: any. */
  number: number
  readonly bytes: number
  /** Header of the batch that was found last. */
  readonly header = new BatchHeader()
  /** The batch found last lies in this buffer, its header at `start`. */
  buffer: Buffer
  start = 0
  /** A header was there, of the right segment, but its batch was not intact. */
  isTorn = false

  readonly #file: DiskFile
  readonly #store: Buffer
  #window: Buffer
  #windowAt = 0
  #windowBytes = 0

  constructor(file: DiskFile, number: number, bytes: number, store: Buffer) {
    this.#file = file
    this.number = number
    this.bytes = bytes
    this.#store = store
    this.#window = Buffer.allocUnsafeSlow(WINDOW_BYTES)
    this.buffer = this.#window
  }

  /** True when an intact batch of this segment lies at the offset. */
  async batchAt(offset: number): Promise<boolean> {
    this.isTorn = false
    if (offset + BATCH_HEADER_BYTES > this.bytes) return false
    await this.#need(offset, BATCH_HEADER_BYTES)
    const { header } = this
    const at = offset - this.#windowAt
    if (!header.read(this.#window, at, this.#store, offset)) return false
    if (this.number !== 0 && header.segment !== this.number) return false
    this.isTorn = true
    if (offset + header.length > this.bytes) return false
    await this.#need(offset, header.length)
    this.buffer = this.#window
    this.start = offset - this.#windowAt
    this.isTorn = !isBatchIntact(this.buffer, this.start, header.length)
    return !this.isTorn
  }

  /** The first page at or behind `offset` where an intact batch lies; -1 if there is none. */
  async nextBatch(offset: number): Promise<number> {
    for (let at = offset; at < this.bytes; at += PAGE_BYTES) {
      if (await this.batchAt(at)) return at
    }
    return -1
  }

  async #need(offset: number, length: number): Promise<void> {
    if (offset >= this.#windowAt && offset + length <= this.#windowAt + this.#windowBytes) return
    if (length > this.#window.length) this.#window = Buffer.allocUnsafeSlow(length)
    else if (this.#window.length > WINDOW_BYTES && length <= WINDOW_BYTES) {
      this.#window = Buffer.allocUnsafeSlow(WINDOW_BYTES)
    }
    const bytes = Math.min(this.#window.length, Math.max(length, this.bytes - offset))
    await readRegion(this.#file, this.#window, 0, bytes, offset)
    this.#windowAt = offset
    this.#windowBytes = bytes
  }
}
