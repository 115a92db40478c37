/**
 * The log of `power-disk.c`, and the disk as it may be after the power was cut at any moment of it. What was answered
 * before a flush arrived that was answered before the cut is there. Of every other write that had arrived each sector
 * may be there or not: dropped, kept, or torn within a page (the first page of the disk aside); a newer write may be
 * there without an older one.
 */
import { readFileSync } from 'node:fs'
import { between, type Random } from '../random.ts'

const HEADER_BYTES = 32
const SECTOR_BYTES = 512
const PAGE_BYTES = 4096

export interface DiskWrite {
  readonly arrived: number
  readonly offset: number
  readonly data: Buffer
}

export interface DiskFlush {
  readonly arrived: number
  readonly answered: number
  /** Writes that it covers: so many from the first. */
  readonly covers: number
}

export interface DiskLog {
  readonly writes: readonly DiskWrite[]
  /** Those that were answered. */
  readonly flushes: readonly DiskFlush[]
  /** Those that arrived. */
  readonly flushCount: number
}

export function readDiskLog(file: string): DiskLog {
  const log = readFileSync(file)
  const writes: DiskWrite[] = []
  const flushes: DiskFlush[] = []
  const covered = new Map<number, number>()
  let at = 0
  while (at + HEADER_BYTES <= log.length) {
    const kind = String.fromCharCode(log.readUInt32LE(at))
    const bytes = log.readUInt32LE(at + 4)
    const offset = Number(log.readBigUInt64LE(at + 8))
    const arrived = Number(log.readBigUInt64LE(at + 16))
    const answered = Number(log.readBigUInt64LE(at + 24))
    at += HEADER_BYTES
    if (kind === 'W') writes.push({ arrived, offset, data: log.subarray(at, at + bytes) })
    else if (kind === 'F') covered.set(offset, writes.length)
    else flushes.push({ arrived, answered, covers: covered.get(offset) ?? 0 })
    at += bytes
  }
  return { writes, flushes, flushCount: covered.size }
}

/**
 * - `none`: nothing that was not flushed; `all`: everything.
 * - `pages`: page by page old or any newer version; `sectors`: the same sector by sector.
 * - `late`: only the newer half of the writes; `one`: one write only; `but-one`: all but one.
 * - `torn`: everything but the last write, and of that a part.
 */
export const LOSSES = [
  'none',
  'none',
  'all',
  'pages',
  'pages',
  'sectors',
  'sectors',
  'late',
  'one',
  'but-one',
  'torn'
] as const
export type Loss = (typeof LOSSES)[number]

/** The disks of one log; asked in the order of time. */
export class CutDisk {
  readonly #log: DiskLog
  /** What is durable so far. */
  readonly #durable: Buffer
  #covered = 0
  #flush = 0

  constructor(base: Buffer, log: DiskLog) {
    this.#durable = Buffer.from(base)
    this.#log = log
  }

  /** A new image: the disk after a cut at `time`. */
  at(time: number, loss: Loss, random: Random): { image: Buffer; unflushed: number } {
    const { writes, flushes } = this.#log
    for (; this.#flush < flushes.length; this.#flush++) {
      const flush = flushes[this.#flush]!
      if (flush.answered > time) break
      for (; this.#covered < flush.covers; this.#covered++) {
        const { offset, data } = writes[this.#covered]!
        data.copy(this.#durable, offset)
      }
    }
    const pending: DiskWrite[] = []
    for (let i = this.#covered; i < writes.length; i++) {
      const write = writes[i]!
      if (write.arrived > time) break
      pending.push(write)
    }
    const image = Buffer.from(this.#durable)
    keepSome(image, pending, loss, random)
    return { image, unflushed: pending.length }
  }
}

function keepSome(image: Buffer, pending: DiskWrite[], loss: Loss, random: Random): void {
  if (pending.length === 0 || loss === 'none') return
  const chosen = between(random, 0, pending.length - 1)
  if (loss === 'pages' || loss === 'sectors') {
    mixUnits(image, pending, loss === 'pages' ? PAGE_BYTES : SECTOR_BYTES, random)
    return
  }
  pending.forEach(({ offset, data }, index) => {
    if (loss === 'late' && index < pending.length / 2) return
    if (loss === 'one' && index !== chosen) return
    if (loss === 'but-one' && index === chosen) return
    if (loss !== 'torn' || index < pending.length - 1) data.copy(image, offset)
    else mixUnits(image, [{ arrived: 0, offset, data }], SECTOR_BYTES, random)
  })
}

/** Every unit of the disk gets one of the versions that were written, or stays. */
function mixUnits(image: Buffer, pending: DiskWrite[], bytes: number, random: Random): void {
  const versions = new Map<number, Buffer[]>()
  for (const { offset, data } of pending) {
    for (let at = 0; at < data.length; at += SECTOR_BYTES) {
      const sector = offset + at
      const found = versions.get(sector)
      const version = data.subarray(at, at + SECTOR_BYTES)
      if (found === undefined) versions.set(sector, [version])
      else found.push(version)
    }
  }
  // How much is kept differs from cut to cut; within a unit all sectors are of one age.
  const keeps = random()
  const ages = new Map<number, number>()
  for (const [sector, found] of versions) {
    // ext4's own superblock, written in place with a checksum over two sectors: torn, nothing at all can be mounted.
    const unit = sector < PAGE_BYTES ? -1 : Math.floor(sector / bytes)
    let age = ages.get(unit)
    if (age === undefined) {
      age = random() < keeps ? random() : -1
      ages.set(unit, age)
    }
    if (age >= 0) found[Math.floor(age * found.length)]!.copy(image, sector)
  }
}
