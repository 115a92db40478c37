/** The files that are open: few at a time, however many segments there are. */
import { join } from 'node:path'
import type { Disk, DiskFile } from './disk.ts'

interface Entry {
  file: Promise<DiskFile>
  users: number
}

/** Files that nobody uses are kept open up to this many. */
const IDLE_MAX = 4

export class FilePool {
  readonly #disk: Disk
  readonly #folder: string
  /** In the order of last use. */
  readonly #entries = new Map<string, Entry>()

  constructor(disk: Disk, folder: string) {
    this.#disk = disk
    this.#folder = folder
  }

  pathOf(name: string): string {
    return join(this.#folder, name)
  }

  /** Opens a file that exists, for reading and writing; each call needs one `release`. */
  async acquire(name: string): Promise<DiskFile> {
    const entry = this.#entries.get(name) ?? {
      file: this.#disk.open(this.pathOf(name), 'write'),
      users: 0
    }
    entry.users++
    this.#entries.delete(name)
    this.#entries.set(name, entry)
    try {
      return await entry.file
    } catch (error) {
      if (this.#entries.get(name) === entry) this.#entries.delete(name)
      throw error
    }
  }

  async release(name: string): Promise<void> {
    const entry = this.#entries.get(name)
    if (entry === undefined) return
    entry.users--
    let idle = 0
    for (const each of this.#entries.values()) if (each.users === 0) idle++
    if (idle <= IDLE_MAX) return
    for (const [oldest, each] of this.#entries) {
      if (each.users > 0) continue
      this.#entries.delete(oldest)
      await (await each.file).close()
      return
    }
  }

  /** Closes a file that nobody uses any more, because it is about to be removed. */
  async forget(name: string): Promise<void> {
    const entry = this.#entries.get(name)
    if (entry === undefined) return
    this.#entries.delete(name)
    await (await entry.file).close()
  }

  async close(): Promise<void> {
    const entries = [...this.#entries.values()]
    this.#entries.clear()
    for (const entry of entries) await (await entry.file).close()
  }
}
