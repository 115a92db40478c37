/**
 * What a start finds in the folder: which file holds which segment, which slots are free, and which
 * files make no sense.
 */
import { BatchHeader } from './batch.ts'
import type { Disk, DiskFile } from './disk.ts'
import { JournalError, systemCode } from './journal-error.ts'
import { BATCH_HEADER_BYTES, BLOCK_BYTES, PAGE_BYTES } from './layout.ts'
import type { JournalLog } from './options.ts'
import { join } from 'node:path'
import { Segment } from './segment.ts'
import { readRegion, SegmentReader } from './segment-reader.ts'
import { isFreePage, OWN_FILE_NAME, SLOT_NAME } from './slots.ts'

export interface FoundFiles {
  segments: Segment[]
  /** Slots that are marked as free. */
  free: string[]
  /** Files without any intact batch. */
  unknown: { name: string; head: Buffer }[]
  /** Slots in use that are shorter than any was made: they were whole, and synced, before they were used. */
  cutShort: string[]
  /** Number of the next slot to be made. */
  nextSlot: number
  epoch: number
}

const HEAD_BYTES = 64 * 1024

/** Sorts the files of the folder out. Files that cannot be opened are left alone and named in the log. */
export async function findFiles(
  disk: Disk,
  folder: string,
  store: Buffer,
  log: JournalLog
): Promise<FoundFiles> {
  const found: FoundFiles = {
    segments: [],
    free: [],
    unknown: [],
    cutShort: [],
    nextSlot: 1,
    epoch: 0
  }
  const names = await disk.list(folder)
  for (const name of names.sort()) {
    const slot = SLOT_NAME.exec(name)
    const own = OWN_FILE_NAME.exec(name)
    if (slot) found.nextSlot = Math.max(found.nextSlot, Number(slot[1]) + 1)
    if (!slot && !own) continue
    try {
      const file = await disk.open(join(folder, name), 'read')
      try {
        await sortOut(found, file, name, own === null ? 0 : Number(own[1]), store)
      } finally {
        await file.close()
      }
    } catch (error) {
      if (systemCode(error) === '') throw error
      log('error', 'a file of the journal cannot be opened and is left alone', {
        name,
        error: String(error)
      })
    }
  }
  assertOneStore(found, store)
  return found
}

async function sortOut(
  found: FoundFiles,
  file: DiskFile,
  name: string,
  ownNumber: number,
  store: Buffer
): Promise<void> {
  const bytes = await file.size()
  const head = Buffer.alloc(HEAD_BYTES)
  await readRegion(file, head, 0, HEAD_BYTES, 0)
  if (ownNumber === 0 && isFreePage(head, store)) {
    found.free.push(name)
    return
  }
  const reader = new SegmentReader(file, ownNumber, bytes, store)
  const number = await numberOf(reader, ownNumber)
  if (number === 0) {
    found.unknown.push({ name, head })
    return
  }
  const segment = new Segment(number, bytes, ownNumber > 0)
  segment.name = name
  if (ownNumber > 0) {
    segment.firstTicket = reader.header.firstTicket
    segment.lastTicket = reader.header.lastTicket
  }
  if (ownNumber === 0 && bytes % BLOCK_BYTES !== 0) found.cutShort.push(name)
  found.epoch = Math.max(found.epoch, reader.header.epoch)
  found.segments.push(segment)
}

/**
 * The number of the segment in a file; 0: no intact batch. Its first batch says it. If that one is damaged, the
 * highest number in the file does: what an earlier use of the slot left behind is lower.
 */
async function numberOf(reader: SegmentReader, ownNumber: number): Promise<number> {
  if (await reader.batchAt(0)) return reader.header.segment
  if (ownNumber > 0) return 0
  let number = 0
  for (let at = await reader.nextBatch(PAGE_BYTES); at >= 0; ) {
    number = Math.max(number, reader.header.segment)
    at = await reader.nextBatch(at + reader.header.paddedLength)
  }
  return number
}

/** Batches of another store under our names: an exchanged identity file must not cost them. */
function assertOneStore(found: FoundFiles, store: Buffer): void {
  for (const { name, head } of found.unknown) {
    const theirs = foreignStore(head)
    if (theirs === null || theirs.equals(store)) continue
    throw new JournalError(
      'damaged-identity',
      `the data folder's identity file is not the one of its data: ${name} belongs to store ${theirs.toString('hex')}`,
      { name, store: theirs.toString('hex') }
    )
  }
}

function foreignStore(head: Buffer): Buffer | null {
  const header = new BatchHeader()
  const store = Buffer.from(head.subarray(8, 16))
  if (head.length < BATCH_HEADER_BYTES || !header.read(head, 0, store, 0)) return null
  return store
}

/** The store's bytes as the batches in the folder have them; null if no file begins with one. */
export async function storeOfBatches(disk: Disk, folder: string): Promise<Buffer | null> {
  for (const name of (await disk.list(folder)).sort()) {
    if (!SLOT_NAME.test(name) && !OWN_FILE_NAME.test(name)) continue
    try {
      const file = await disk.open(join(folder, name), 'read')
      try {
        const head = Buffer.alloc(PAGE_BYTES)
        await readRegion(file, head, 0, PAGE_BYTES, 0)
        const store = foreignStore(head)
        if (store === null) continue
        const reader = new SegmentReader(file, 0, await file.size(), store)
        if (await reader.batchAt(0)) return store
      } finally {
        await file.close()
      }
    } catch (error) {
      if (systemCode(error) === '') throw error // else: the next file may tell
    }
  }
  return null
}
