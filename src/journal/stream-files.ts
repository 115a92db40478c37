/** The folder `streams` beside the journal's files: see `StreamFiles` in journal.ts. */
import { dirname, join } from 'node:path'
import type { Disk } from './disk.ts'
import { systemCode } from './journal-error.ts'
import type { StreamFiles, StreamLog } from './journal.ts'
import type { JournalLog } from './options.ts'
import { StreamCache } from './stream-cache.ts'
import { STREAM_FILE_NAME } from './stream-file.ts'
import { FiledStream, type StreamParts } from './stream-log.ts'

export const STREAMS_FOLDER = 'streams'

/**
 * Reads what there is in a data folder that `journal` has locked; where that fails, the lock is let go.
 */
export async function openStreamFiles(
  folder: string,
  disk: Disk,
  log: JournalLog,
  journal: { close(): Promise<void> }
): Promise<StreamFiles> {
  const files = new FolderOfStreams(folder, disk, log)
  try {
    await files.open()
  } catch (error) {
    await journal.close()
    throw error
  }
  return files
}

class FolderOfStreams implements StreamFiles, StreamParts {
  readonly disk: Disk
  readonly folder: string
  readonly cache = new StreamCache()
  readonly log: JournalLog
  readonly #streams = new Map<number, FiledStream>()
  #isMade = false
  /** The visit that was asked for last. */
  #busy: Promise<unknown> = Promise.resolve()

  constructor(folder: string, disk: Disk, log: JournalLog) {
    this.disk = disk
    this.folder = join(folder, STREAMS_FOLDER)
    this.log = log
  }

  async open(): Promise<void> {
    const found = new Map<number, number[]>()
    for (const name of await this.#names()) {
      const parts = STREAM_FILE_NAME.exec(name)
      if (parts === null) continue
      const id = Number(parts[1])
      const firsts = found.get(id)
      if (firsts === undefined) found.set(id, [Number(parts[2])])
      else firsts.push(Number(parts[2]))
    }
    for (const [id, firsts] of found) {
      const stream = new FiledStream(id, this)
      this.#streams.set(id, stream)
      await stream.open(firsts.sort((a, b) => a - b))
    }
    // The names of what is relied on are on the disk from here on.
    if (found.size > 0) await this.disk.syncFolder(this.folder)
  }

  async #names(): Promise<readonly string[]> {
    try {
      return await this.disk.list(this.folder)
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return []
      throw error
    }
  }

  async prepare(): Promise<void> {
    if (this.#isMade) return
    await this.disk.makeFolder(this.folder)
    await this.disk.syncFolder(dirname(this.folder))
    this.#isMade = true
  }

  forget(id: number): void {
    this.#streams.delete(id)
  }

  run<Result>(visit: () => Promise<Result>): Promise<Result> {
    const result = this.#busy.then(visit)
    // Whoever asked is told of a failure; the next visit does not care.
    this.#busy = result.catch(() => undefined)
    return result
  }

  logOf(id: number): StreamLog {
    let stream = this.#streams.get(id)
    if (stream === undefined) {
      stream = new FiledStream(id, this)
      this.#streams.set(id, stream)
    }
    return stream
  }

  ids(): number[] {
    return [...this.#streams.keys()]
  }

  async close(): Promise<void> {
    await this.#busy
  }
}
