/**
 * A bounded folder of copies: what was damaged or made no sense at a start, for whoever wants to look.
 * Nothing reads it. Failing to keep a copy never stops a start.
 */
import { join } from 'node:path'
import type { Disk } from './disk.ts'
import { systemCode } from './journal-error.ts'
import type { JournalLog } from './options.ts'

export const QUARANTINE_NAME = 'quarantine'
const FILES_MAX = 32
const FILE_BYTES_MAX = 256 * 1024

export class Quarantine {
  readonly #disk: Disk
  readonly #folder: string
  readonly #log: JournalLog
  #names: Set<string> | null = null

  constructor(disk: Disk, folder: string, log: JournalLog) {
    this.#disk = disk
    this.#folder = join(folder, QUARANTINE_NAME)
    this.#log = log
  }

  /** Keeps a copy under a name, unless there is one or the folder is full. */
  async keep(name: string, bytes: Buffer): Promise<void> {
    try {
      await this.#keep(name, bytes)
    } catch (error) {
      if (systemCode(error) === '') throw error
      this.#log('warn', 'a copy of damaged data could not be kept', { name, error: String(error) })
    }
  }

  async #keep(name: string, bytes: Buffer): Promise<void> {
    if (this.#names === null) {
      await this.#disk.makeFolder(this.#folder)
      this.#names = new Set(await this.#disk.list(this.#folder))
    }
    if (this.#names.has(name) || this.#names.size >= FILES_MAX) return
    this.#names.add(name)
    const file = await this.#disk.open(join(this.#folder, name), 'create')
    try {
      await file.write([bytes.subarray(0, FILE_BYTES_MAX)], 0)
    } finally {
      await file.close()
    }
  }
}
