/**
 * A disk in memory on which crashes and faults are made; deterministic by a seed.
 *
 * Until synced, every 4 KiB page that was written is, after a crash, on its own, what it was, what was
 * written, zeros or garbage; a size, and each name made or removed in a folder, may be lost. What is under
 * way when the power goes never answers. `intercept` sees every call before it happens and may fail it,
 * cut it short, hold it, or turn the power off in the middle of it.
 */
import type { Disk, DiskFile, DiskSpace, OpenMode } from '../../src/journal/disk.ts'
import { JournalError } from '../../src/journal/journal-error.ts'
import { PAGE_BYTES } from '../../src/journal/layout.ts'
import { type Random, seededRandom } from './random.ts'

export type DiskCall = 'open' | 'write' | 'sync' | 'read' | 'unlink' | 'syncFolder'

/** What happens to a call instead: an error, fewer bytes, the end of the power, or a wait before it. */
export type DiskFault =
  | { code: string }
  | { bytes: number }
  | { powerOff: true }
  | { until: Promise<void> }

export type Intercept = (call: DiskCall, path: string, count: number) => DiskFault | null

function systemError(code: string, path: string): NodeJS.ErrnoException {
  const error: NodeJS.ErrnoException = new Error(`${code}: simulated, ${path}`)
  error.code = code
  return error
}

function folderOf(path: string): string {
  return path.slice(0, path.lastIndexOf('/'))
}

/** A file's contents, and what of them would survive. */
class Contents {
  bytes = Buffer.alloc(0)
  size = 0
  syncedSize = 0
  /** Pages written since the last sync, as they were before. */
  readonly before = new Map<number, Buffer>()
  /** Pages written while a sync is under way, as they were when it began; null: none is. */
  #during: Map<number, Buffer> | null = null

  write(from: Buffer, position: number): void {
    const end = position + from.length
    if (end > this.bytes.length) {
      const grown = Buffer.alloc(Math.max(end, this.bytes.length * 2))
      this.bytes.copy(grown, 0, 0, this.size)
      this.bytes = grown
    }
    for (let page = Math.floor(position / PAGE_BYTES); page * PAGE_BYTES < end; page++) {
      if (this.#during?.has(page) === false) this.#during.set(page, this.#page(page))
      if (!this.before.has(page)) this.before.set(page, this.#page(page))
    }
    from.copy(this.bytes, position)
    this.size = Math.max(this.size, end)
  }

  #page(page: number): Buffer {
    const at = page * PAGE_BYTES
    const copy = Buffer.alloc(PAGE_BYTES)
    if (at < this.size) this.bytes.copy(copy, 0, at, Math.min(this.size, at + PAGE_BYTES))
    return copy
  }

  startSync(): void {
    this.#during = new Map()
  }

  /** What was written since the sync began is still to be synced. */
  sync(): void {
    this.before.clear()
    for (const [page, old] of this.#during ?? []) this.before.set(page, old)
    this.#during = null
    this.syncedSize = this.size
  }

  /** Only the pages of this range, and the size that they need. */
  syncRange(position: number, end: number): void {
    for (let page = Math.floor(position / PAGE_BYTES); page * PAGE_BYTES < end; page++) {
      this.before.delete(page)
    }
    this.syncedSize = Math.max(this.syncedSize, Math.min(this.size, end))
  }

  crash(random: Random): void {
    for (const [page, old] of this.before) {
      const at = page * PAGE_BYTES
      if (at >= this.bytes.length) continue
      const region = this.bytes.subarray(at, Math.min(this.bytes.length, at + PAGE_BYTES))
      const fate = random()
      if (fate < 0.4) old.copy(region)
      else if (fate < 0.5) region.fill(0)
      else if (fate < 0.6) for (let i = 0; i < region.length; i += 7) region[i] = random() * 256
      else if (fate < 0.7) old.copy(region, 512, 512) // only the first sector made it
    }
    if (this.size !== this.syncedSize && random() < 0.5) this.size = this.syncedSize
    this.sync()
  }
}

class SimulatedFile implements DiskFile {
  readonly #disk: SimulatedDisk
  readonly #path: string
  readonly #contents: Contents

  constructor(disk: SimulatedDisk, path: string, contents: Contents) {
    this.#disk = disk
    this.#path = path
    this.#contents = contents
  }

  async size(): Promise<number> {
    return this.#contents.size
  }

  async read(buffer: Buffer, from: number, length: number, position: number): Promise<number> {
    await this.#disk.pass('read', this.#path, null)
    const { bytes, size } = this.#contents
    if (position >= size) return 0
    return bytes.copy(buffer, from, position, Math.min(size, position + length))
  }

  write(buffers: readonly Buffer[], position: number): Promise<number> {
    return this.#write(buffers, position)
  }

  async #write(buffers: readonly Buffer[], position: number): Promise<number> {
    let bytes = 0
    const fault = await this.#disk.pass('write', this.#path, () => {
      this.#put(buffers, position, Number.POSITIVE_INFINITY)
    })
    let bytesMax = fault ?? Number.POSITIVE_INFINITY
    const room = this.#disk.room(this.#contents.size)
    for (const buffer of buffers) bytes += buffer.length
    if (position + bytes > room) {
      bytesMax = Math.min(bytesMax, Math.max(0, room - position))
      if (bytesMax === 0) throw systemError('ENOSPC', this.#path)
    }
    return this.#put(buffers, position, bytesMax)
  }

  #put(buffers: readonly Buffer[], position: number, bytesMax: number): number {
    let done = 0
    for (const buffer of buffers) {
      const bytes = Math.min(buffer.length, bytesMax - done)
      if (bytes > 0) this.#contents.write(buffer.subarray(0, bytes), position + done)
      done += Math.max(0, bytes)
    }
    return done
  }

  /** A write, then a sync of what it wrote: each may fail, and the power may go in between. */
  async writeSynced(buffers: readonly Buffer[], position: number): Promise<number> {
    const count = await this.#write(buffers, position)
    await this.#sync(() => this.#contents.syncRange(position, position + count))
    return count
  }

  datasync(): Promise<void> {
    this.#contents.startSync()
    return this.#sync(() => this.#contents.sync())
  }

  async #sync(run: () => void): Promise<void> {
    await this.#disk.pass('sync', this.#path, null)
    await new Promise<void>(resolve => setImmediate(resolve)) // a sync takes a turn, as on a real disk
    if (this.#disk.isOff) return new Promise(() => undefined)
    if (!this.#disk.liesAboutSync) run()
  }

  async close(): Promise<void> {
    return undefined
  }
}

export interface SimulatedDiskOptions {
  seed: number
  capacityBytes?: number
}

export class SimulatedDisk implements Disk {
  readonly random: Random
  capacityBytes: number
  /** Calls so far, by kind and in all. */
  readonly counts = new Map<DiskCall, number>()
  calls = 0
  intercept: Intercept | null = null
  /** Planted faults: syncs that do nothing. */
  liesAboutSync = false
  liesAboutFolders = false
  isOff = false

  readonly #seed: number
  #names = new Map<string, Contents>()
  #syncedNames = new Map<string, Contents>()
  readonly #locks = new Set<string>()

  constructor(options: SimulatedDiskOptions) {
    this.#seed = options.seed
    this.random = seededRandom(options.seed)
    this.capacityBytes = options.capacityBytes ?? 2 ** 40
  }

  /** The power goes and comes back: what is left, as a disk of its own. The old one never answers again. */
  crash(): SimulatedDisk {
    this.isOff = true
    const next = new SimulatedDisk({ seed: this.#seed + 1, capacityBytes: this.capacityBytes })
    const { random } = this
    const all = new Set([...this.#names.keys(), ...this.#syncedNames.keys()])
    for (const path of [...all].sort()) {
      const now = this.#names.get(path)
      const synced = this.#syncedNames.get(path)
      const contents = now === synced || random() < 0.5 ? synced : now
      if (contents === undefined) continue
      contents.crash(random)
      next.#names.set(path, contents)
      next.#syncedNames.set(path, contents)
    }
    return next
  }

  /** The process dies, the machine does not: everything written is there. */
  restart(): SimulatedDisk {
    this.isOff = true
    const next = new SimulatedDisk({ seed: this.#seed + 1, capacityBytes: this.capacityBytes })
    next.#names = this.#names
    next.#syncedNames = this.#syncedNames
    return next
  }

  /** Passes a call through the faults; returns to how many bytes it is cut, null if it is not. */
  async pass(call: DiskCall, path: string, half: (() => void) | null): Promise<number | null> {
    if (this.isOff) return new Promise(() => undefined)
    this.calls++
    const count = (this.counts.get(call) ?? 0) + 1
    this.counts.set(call, count)
    const fault = this.intercept?.(call, path, count) ?? null
    if (fault === null) return null
    if ('powerOff' in fault) {
      half?.()
      this.isOff = true
      return new Promise(() => undefined)
    }
    if ('until' in fault) {
      await fault.until
      return this.isOff ? new Promise(() => undefined) : null
    }
    if ('bytes' in fault) return fault.bytes
    throw systemError(fault.code, path)
  }

  /** How long a file that is `size` bytes long may become. */
  room(size: number): number {
    return Math.max(0, size + this.capacityBytes - this.#usedBytes())
  }

  #usedBytes(): number {
    let bytes = 0
    for (const contents of this.#names.values()) bytes += contents.size
    return bytes
  }

  paths(): string[] {
    return [...this.#names.keys()]
  }

  has(path: string): boolean {
    return this.#names.has(path)
  }

  /** The bytes of a file, to look at or to damage; what is changed is on the medium at once. */
  bytesOf(path: string): Buffer {
    const contents = this.#names.get(path)
    if (contents === undefined) throw systemError('ENOENT', path)
    return contents.bytes.subarray(0, contents.size)
  }

  /** Puts a file there, or changes its size, without any call. */
  put(path: string, bytes: Buffer): void {
    const contents = new Contents()
    contents.write(bytes, 0)
    contents.sync()
    this.#names.set(path, contents)
    this.#syncedNames.set(path, contents)
  }

  remove(path: string): void {
    this.#names.delete(path)
    this.#syncedNames.delete(path)
  }

  async open(path: string, mode: OpenMode): Promise<DiskFile> {
    await this.pass('open', path, null)
    let contents = this.#names.get(path)
    if (mode === 'create') {
      if (contents !== undefined) throw systemError('EEXIST', path)
      contents = new Contents()
      this.#names.set(path, contents)
    }
    if (contents === undefined) throw systemError('ENOENT', path)
    return new SimulatedFile(this, path, contents)
  }

  async list(folder: string): Promise<string[]> {
    const names = new Set<string>()
    for (const path of this.#names.keys()) {
      if (path.startsWith(`${folder}/`)) names.add(path.slice(folder.length + 1).split('/')[0]!)
    }
    return [...names]
  }

  async makeFolder(_folder: string): Promise<void> {
    return undefined
  }

  async unlink(path: string): Promise<void> {
    await this.pass('unlink', path, null)
    if (!this.#names.delete(path)) throw systemError('ENOENT', path)
  }

  async syncFolder(folder: string): Promise<void> {
    await this.pass('syncFolder', folder, null)
    if (this.liesAboutFolders) return
    for (const path of new Set([...this.#names.keys(), ...this.#syncedNames.keys()])) {
      if (folderOf(path) !== folder) continue
      const now = this.#names.get(path)
      if (now === undefined) this.#syncedNames.delete(path)
      else this.#syncedNames.set(path, now)
    }
  }

  async space(_folder: string): Promise<DiskSpace> {
    const freeBytes = Math.max(0, this.capacityBytes - this.#usedBytes())
    return { freeBytes, totalBytes: this.capacityBytes }
  }

  async lock(folder: string): Promise<() => Promise<void>> {
    if (this.#locks.has(folder)) throw new JournalError('locked', 'the data folder is in use')
    this.#locks.add(folder)
    return async () => {
      this.#locks.delete(folder)
    }
  }
}
