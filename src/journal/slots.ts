/**
 * Slots: segment files that are made once, filled with zeros, synced with their folder, and used again
 * and again. They are made ahead of need, in the background, in pieces that leave the disk to others; what
 * is recycled comes back here. Two more than the log needs at once, and room for a checkpoint, are the
 * reserve with which a full disk can still be settled, compacted and checkpointed.
 *
 * The first page of a free slot says that it is free: what it held can not come back.
 */
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import type { Disk } from './disk.ts'
import { isNoSpace, JournalError, systemCode } from './journal-error.ts'
import type { JournalStats } from './journal.ts'
import { PAGE_BYTES, STORE_BYTES } from './layout.ts'
import type { SpaceWatch } from './space.ts'

const FREE_MAGIC = 0x5246_514d // "MQFR"
const FREE_BYTES = 12 + STORE_BYTES
const PIECE_BYTES = 256 * 1024
/** Free slots beyond the target plus this are given back to the file system. */
const SPARES_OVER_TARGET = 4

export const SLOT_NAME = /^segment-(\d{6})$/
export const OWN_FILE_NAME = /^record-(\d{1,10})$/

export function slotName(slot: number): string {
  return `segment-${String(slot).padStart(6, '0')}`
}

export function ownFileName(segmentNumber: number): string {
  return `record-${segmentNumber}`
}

function freePage(store: Buffer): Buffer {
  const page = Buffer.alloc(PAGE_BYTES)
  page.writeUInt32LE(FREE_MAGIC, 4)
  store.copy(page, 8, 0, STORE_BYTES)
  page.writeUInt32LE(crc32(page.subarray(4, FREE_BYTES)), 0)
  return page
}

/** True when a first page marks its slot as free. */
export function isFreePage(page: Buffer, store: Buffer): boolean {
  return (
    page.length >= FREE_BYTES && page.compare(freePage(store), 0, FREE_BYTES, 0, FREE_BYTES) === 0
  )
}

/** How many slots are kept prepared: the reserve, and the next one. */
export function sparesOf(reserve: number): number {
  return reserve + 1
}

export class Slots {
  /** Names of the prepared slots. */
  readonly spares: string[] = []
  /** Number of the next slot to be made. */
  nextSlot = 1
  readonly segmentBytes: number
  readonly spareTarget: number
  /** Told when a slot cannot be made for another reason than want of room. */
  onFailure: (error: unknown) => void = () => undefined

  readonly #disk: Disk
  readonly #folder: string
  readonly #store: Buffer
  readonly #space: SpaceWatch
  readonly #stats: JournalStats
  readonly #waiters: ((name: string | null) => void)[] = []
  readonly #kept: number
  #isPreparing = false
  #preparing: Promise<void> = Promise.resolve()
  #isClosed = false

  constructor(
    disk: Disk,
    folder: string,
    store: Buffer,
    segmentBytes: number,
    reserve: number,
    space: SpaceWatch,
    stats: JournalStats
  ) {
    this.#disk = disk
    this.#folder = folder
    this.#store = store
    this.segmentBytes = segmentBytes
    this.spareTarget = sparesOf(reserve)
    this.#kept = Math.max(0, reserve - 1)
    this.#space = space
    this.#stats = stats
  }

  /** True while a writer waits for a slot that there is no room for. */
  get isStalled(): boolean {
    return this.#waiters.length > 0 && this.#space.hasNoRoom
  }

  /**
   * A prepared slot, at once if there is one; null when the journal was closed meanwhile. The last ones are the
   * reserve: they are given out when no more can be made.
   */
  async take(): Promise<string | null> {
    if (this.#isClosed) return this.spares.pop() ?? null
    if (this.spares.length <= this.#kept && !this.#space.hasNoRoom) {
      this.kick()
      if (this.#isPreparing) return new Promise(resolve => this.#waiters.push(resolve))
    }
    const name = this.spares.pop()
    this.kick()
    return name ?? new Promise(resolve => this.#waiters.push(resolve))
  }

  /** Sees to it that there are enough spares, in the background. */
  kick(): void {
    if (this.#isPreparing || this.#isClosed || !this.#isShort()) return
    // Not the last bytes of a full disk again and again.
    if (this.#space.hasNoRoom && this.#space.freeBytes < this.segmentBytes) return
    this.#isPreparing = true
    this.#preparing = this.#prepareAll()
  }

  /** There was room for something: the alarm ends if nothing is missing here. */
  settle(): void {
    if (this.#isShort()) this.kick()
    else this.#space.setNoRoom(false)
  }

  /** Takes back a slot whose content nobody needs. */
  async give(name: string): Promise<void> {
    if (this.spares.length >= this.spareTarget + SPARES_OVER_TARGET) {
      await this.#disk.unlink(join(this.#folder, name))
      return
    }
    const file = await this.#disk.open(join(this.#folder, name), 'write')
    try {
      const count = await file.write([freePage(this.#store)], 0)
      if (count !== PAGE_BYTES) throw new JournalError('failed', 'a free mark was cut short')
      await file.datasync()
    } finally {
      await file.close()
    }
    this.#add(name)
  }

  async close(): Promise<void> {
    this.#isClosed = true
    for (const waiter of this.#waiters.splice(0)) waiter(null)
    await this.#preparing
  }

  #isShort(): boolean {
    return this.spares.length < this.spareTarget || this.#waiters.length > 0
  }

  #add(name: string): void {
    const waiter = this.#waiters.shift()
    if (waiter) waiter(name)
    else this.spares.push(name)
    if (!this.#isShort()) this.#space.setNoRoom(false)
  }

  async #prepareAll(): Promise<void> {
    try {
      while (!this.#isClosed && this.#isShort()) {
        const name = slotName(this.nextSlot++)
        if (!(await this.#prepare(name))) {
          if (!this.#isClosed) this.#foundNoRoom()
          break
        }
        this.#add(name)
      }
    } catch (error) {
      this.onFailure(error)
    } finally {
      this.#isPreparing = false
    }
    await this.#space.look()
  }

  #foundNoRoom(): void {
    this.#space.setNoRoom(true)
    while (this.#waiters.length > 0 && this.spares.length > 0) {
      this.#waiters.shift()!(this.spares.pop()!)
    }
  }

  /** Makes one slot; false when there is no room for it. */
  async #prepare(name: string): Promise<boolean> {
    const path = join(this.#folder, name)
    let isWhole = false
    try {
      const file = await this.#disk.open(path, 'create')
      try {
        isWhole = await this.#fill(file)
      } finally {
        await file.close()
      }
      if (isWhole) await this.#disk.syncFolder(this.#folder)
    } catch (error) {
      if (!isNoSpace(error)) throw error
      isWhole = false
    }
    if (!isWhole) await this.#removePartial(path)
    return isWhole
  }

  async #fill(file: Awaited<ReturnType<Disk['open']>>): Promise<boolean> {
    const zeros = Buffer.alloc(PIECE_BYTES)
    for (let at = 0; at < this.segmentBytes; at += PIECE_BYTES) {
      if (this.#isClosed) return false
      const bytes = Math.min(PIECE_BYTES, this.segmentBytes - at)
      const first = at === 0 ? freePage(this.#store) : zeros.subarray(0, PAGE_BYTES)
      const count = await file.write([first, zeros.subarray(PAGE_BYTES, bytes)], at)
      if (count !== bytes) return false // a short write is how a full disk often begins
      this.#stats.bytesZeroed += bytes
      if (at % (4 * PIECE_BYTES) === 3 * PIECE_BYTES) await file.datasync()
    }
    await file.datasync()
    return true
  }

  async #removePartial(path: string): Promise<void> {
    try {
      await this.#disk.unlink(path)
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw error // it was never made
    }
  }
}
