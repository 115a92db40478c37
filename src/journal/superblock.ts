/**
 * The superblock: which checkpoints count. Two slots, written in turn, far enough apart that no single
 * torn write of the device hits both: each names one checkpoint, so the last two are known. A
 * checkpoint counts from the moment that its slot is synced.
 */
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import type { Disk, DiskFile } from './disk.ts'
import { JournalError, systemCode } from './journal-error.ts'
import { PAGE_BYTES, STORE_BYTES } from './layout.ts'
import type { LogPosition } from './segment.ts'
import { readRegion } from './segment-reader.ts'

export const SUPERBLOCK_NAME = 'superblock'
const MAGIC = 0x4253_514d // "MQSB"
const SLOT_STRIDE = 65_536
const USED_BYTES = 96

export interface Checkpoint {
  /** Rises by one with each checkpoint; its parity says in which slot it lies. */
  counter: number
  epoch: number
  begin: LogPosition
  /** The batch that holds the end record, and that record's ticket. */
  end: LogPosition
  storeTime: number
  wallTime: number
  newestWall: number
}

function encode(checkpoint: Checkpoint, store: Buffer): Buffer {
  const page = Buffer.alloc(PAGE_BYTES)
  page.writeUInt32LE(MAGIC, 4)
  store.copy(page, 8, 0, STORE_BYTES)
  page.writeUInt32LE(checkpoint.counter, 16)
  page.writeUInt32LE(checkpoint.epoch, 20)
  page.writeUInt32LE(checkpoint.begin.segment, 24)
  page.writeUInt32LE(checkpoint.begin.offset, 28)
  page.writeDoubleLE(checkpoint.begin.ticket, 32)
  page.writeUInt32LE(checkpoint.end.segment, 40)
  page.writeUInt32LE(checkpoint.end.offset, 44)
  page.writeDoubleLE(checkpoint.end.ticket, 48)
  page.writeDoubleLE(checkpoint.storeTime, 56)
  page.writeDoubleLE(checkpoint.wallTime, 64)
  page.writeDoubleLE(checkpoint.newestWall, 72)
  page.writeUInt32LE(crc32(page.subarray(4, USED_BYTES)), 0)
  return page
}

function decode(page: Buffer): Checkpoint | null {
  if (page.readUInt32LE(4) !== MAGIC) return null
  if (page.readUInt32LE(0) !== crc32(page.subarray(4, USED_BYTES))) return null
  return {
    counter: page.readUInt32LE(16),
    epoch: page.readUInt32LE(20),
    begin: {
      segment: page.readUInt32LE(24),
      offset: page.readUInt32LE(28),
      ticket: page.readDoubleLE(32)
    },
    end: {
      segment: page.readUInt32LE(40),
      offset: page.readUInt32LE(44),
      ticket: page.readDoubleLE(48)
    },
    storeTime: page.readDoubleLE(56),
    wallTime: page.readDoubleLE(64),
    newestWall: page.readDoubleLE(72)
  }
}

export interface FoundSuperblock {
  /** Good slots, the newest first. */
  checkpoints: Checkpoint[]
  /** The store's bytes as a good slot has them. */
  store: Buffer | null
}

/** Reads what is good of it; a missing, damaged or foreign one is simply empty. `store` null: any store's. */
export async function readSuperblock(
  disk: Disk,
  folder: string,
  store: Buffer | null
): Promise<FoundSuperblock> {
  const found: FoundSuperblock = { checkpoints: [], store: null }
  let file: DiskFile
  try {
    file = await disk.open(join(folder, SUPERBLOCK_NAME), 'read')
  } catch (error) {
    if (systemCode(error) === '') throw error
    return found
  }
  try {
    for (let slot = 0; slot < 2; slot++) {
      const page = Buffer.alloc(PAGE_BYTES)
      await readRegion(file, page, 0, PAGE_BYTES, slot * SLOT_STRIDE)
      const checkpoint = decode(page)
      const owner = page.subarray(8, 8 + STORE_BYTES)
      if (checkpoint === null || (store !== null && !owner.equals(store))) continue
      found.store = Buffer.from(owner)
      found.checkpoints.push(checkpoint)
    }
  } finally {
    await file.close()
  }
  found.checkpoints.sort((a, b) => b.counter - a.counter)
  return found
}

/** Makes the file, with no checkpoint in it, unless it is there. */
export async function makeSuperblock(disk: Disk, folder: string): Promise<void> {
  const path = join(folder, SUPERBLOCK_NAME)
  try {
    await (await disk.open(path, 'write')).close()
    return
  } catch (error) {
    const code = systemCode(error)
    if (code === 'ELOOP') await disk.unlink(path)
    else if (code !== 'ENOENT') throw error
  }
  const file = await disk.open(path, 'create')
  try {
    const bytes = SLOT_STRIDE + PAGE_BYTES
    if ((await file.write([Buffer.alloc(bytes)], 0)) === bytes) await file.datasync()
  } finally {
    await file.close()
  }
  await disk.syncFolder(folder)
}

/** Makes a checkpoint count. */
export async function writeSuperblock(
  disk: Disk,
  folder: string,
  store: Buffer,
  checkpoint: Checkpoint
): Promise<void> {
  const file = await disk.open(join(folder, SUPERBLOCK_NAME), 'write')
  try {
    const page = encode(checkpoint, store)
    const count = await file.write([page], (checkpoint.counter & 1) * SLOT_STRIDE)
    if (count !== PAGE_BYTES) throw new JournalError('failed', 'the superblock was cut short')
    await file.datasync()
  } finally {
    await file.close()
  }
}
