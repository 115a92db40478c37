/** The files of one stream: see `StreamLog` in journal.ts. */
import { join } from 'node:path'
import type { Disk, DiskFile } from './disk.ts'
import { systemCode } from './journal-error.ts'
import type { NewBlock, StreamBlock, StreamLog, StreamPlace } from './journal.ts'
import { PAGE_BYTES, roundUpToPage } from './layout.ts'
import type { JournalLog } from './options.ts'
import { type BlockHeader, sealBlock } from './stream-block.ts'
import type { StreamCache } from './stream-cache.ts'
import { PIECE_BYTES, StreamFile, StreamWalk } from './stream-file.ts'

/** What the files of all streams share. */
export interface StreamParts {
  readonly disk: Disk
  readonly folder: string
  readonly cache: StreamCache
  readonly log: JournalLog
  /** Makes the folder when it is first needed. */
  prepare(): Promise<void>
  forget(id: number): void
  /** One visit to the disk at a time, of all streams together: a sync of the journal must find a thread. */
  run<Result>(visit: () => Promise<Result>): Promise<Result>
}

export class FiledStream implements StreamLog {
  readonly id: number
  /** In their order. */
  readonly files: StreamFile[]
  last: number
  newestWallTime: number
  readonly #parts: StreamParts
  readonly #blocks: Map<number, StreamBlock>
  /** Names of files in which nothing is whole. */
  readonly #lost: string[]
  /** Until `cutTornEnd`. */
  #holes: Hole[]
  /** Nothing is appended to the newest file: something may stand behind its end. */
  isSealed: boolean

  constructor(id: number, parts: StreamParts) {
    this.id = id
    this.files = []
    this.last = 0
    this.newestWallTime = 0
    this.#parts = parts
    this.#blocks = new Map()
    this.#lost = []
    this.#holes = []
    this.isSealed = false
  }

  get first(): number {
    return this.files[0]?.first ?? this.last + 1
  }

  get bytes(): number {
    let bytes = 0
    for (const file of this.files) bytes += file.bytes
    return bytes
  }

  append(blocks: readonly NewBlock[], segmentBytes: number): Promise<void> {
    return this.#parts.run(async () => {
      let from = 0
      while (from < blocks.length) {
        const newest = this.files.at(-1)
        const isNew = newest === undefined || this.isSealed || newest.bytes >= segmentBytes
        const file = isNew ? new StreamFile(this.id, blocks[from]!.first) : newest
        let bytes = file.bytes
        let to = from
        while (to < blocks.length && (to === from || bytes < segmentBytes)) {
          bytes += blocks[to++]!.buffer.length
        }
        await this.#write(file, blocks.slice(from, to), isNew)
        from = to
      }
    })
  }

  /** To one file. A write that fails is never followed by another one to the same file. */
  async #write(file: StreamFile, blocks: readonly NewBlock[], isNew: boolean): Promise<void> {
    const { disk, folder } = this.#parts
    const path = join(folder, file.name)
    let bytes = 0
    for (const block of blocks) {
      sealBlock(block, this.id)
      bytes += block.buffer.length
    }
    if (!isNew) this.isSealed = true
    const opened = isNew ? await this.#create(path) : await disk.open(path, 'write')
    try {
      // Each write begins on a page: one that holds what was synced is never written again.
      const padding = ZEROS.subarray(0, roundUpToPage(bytes) - bytes)
      bytes += padding.length
      const buffers = [...blocks.map(block => block.buffer), padding]
      const count = await opened.write(buffers, file.bytes)
      if (count < bytes) throw new Error(`a stream's file took ${count} of ${bytes} bytes`)
      await opened.datasync()
    } finally {
      await opened.close()
    }
    if (isNew) await disk.syncFolder(folder)
    file.bytes += bytes
    this.isSealed = false
    const first = blocks[0]!
    const last = blocks[blocks.length - 1]!
    if (isNew) {
      file.storeTime = first.storeTime
      file.wallTime = first.wallTime
      this.files.push(file)
    }
    this.last = last.first + last.count - 1
    this.newestWallTime = last.wallTime
  }

  /** What an earlier try left under the name was never durable as a whole: nobody relies on it. */
  async #create(path: string): Promise<DiskFile> {
    const { disk } = this.#parts
    await this.#parts.prepare()
    try {
      return await disk.open(path, 'create')
    } catch (error) {
      if (systemCode(error) !== 'EEXIST') throw error
    }
    await disk.unlink(path)
    return disk.open(path, 'create')
  }

  view(first: number): StreamBlock | null {
    const block = this.#blocks.get(first)
    if (block === undefined) return null
    this.#parts.cache.touch(this.#blocks, block)
    return block
  }

  load(number: number, hint: StreamPlace | null): Promise<StreamBlock | null> {
    return this.#parts.run(async () => {
      for (let i = this.#indexOf(number); i < this.files.length; i++) {
        const file = this.files[i]!
        const from = hint !== null && hint.file === file.first ? hint.offset : 0
        const block = await this.#find(file, this.files[i + 1]?.first ?? 0, number, from)
        if (block !== null) return block
      }
      return null
    })
  }

  /** The file that has this number; the first one when it is older than all. */
  #indexOf(number: number): number {
    let low = 0
    let high = this.files.length - 1
    while (low < high) {
      const middle = (low + high + 1) >> 1
      if (this.files[middle]!.first <= number) low = middle
      else high = middle - 1
    }
    return low
  }

  /** `before`: what the next file begins with, 0 for the newest. What stands here from there on does not count. */
  async #find(
    file: StreamFile,
    before: number,
    number: number,
    from: number
  ): Promise<StreamBlock | null> {
    const walk = new StreamWalk(this.id, from, file.bytes)
    try {
      await walk.open(this.#parts.disk, this.#parts.folder, file.name)
      let found: StreamBlock | null = null
      while (await walk.next()) {
        const { header } = walk
        if (before > 0 && header.first >= before) break
        if (header.last < number) continue
        const place = { file: file.first, offset: walk.offset }
        const block = this.#keep(header.take(walk.buffer, walk.at, place))
        found ??= block
        // What was read with it is kept, too: most readers go on.
        if (!walk.isNextHere) break
      }
      this.#tellDamage(file, walk.damaged)
      return found
    } catch (error) {
      // Retention took it away meanwhile: what follows is the answer.
      if (systemCode(error) === 'ENOENT' && !this.files.includes(file)) return null
      throw error
    } finally {
      await walk.close()
    }
  }

  #keep(block: StreamBlock): StreamBlock {
    this.#parts.cache.add(this.#blocks, block)
    return block
  }

  #tellDamage(file: StreamFile, count: number): void {
    if (count === 0) return
    const fields = { file: file.name, blocks: count }
    this.#parts.log('error', "blocks of a stream's file are damaged and were passed over", fields)
  }

  findTime(wallTime: number): Promise<number> {
    return this.#parts.run(async () => {
      let index = this.files.length - 1
      while (index >= 0 && this.files[index]!.wallTime > wallTime) index--
      const file = this.files[index]
      if (file === undefined) return this.first
      let found = file.first
      const walk = new StreamWalk(this.id, 0, file.bytes)
      try {
        await walk.open(this.#parts.disk, this.#parts.folder, file.name)
        while (await walk.next()) {
          if (walk.header.wallTime > wallTime) break
          found = walk.header.first
        }
      } finally {
        await walk.close()
      }
      return found
    })
  }

  trim(bytesMax: number, storeTimeMin: number): Promise<void> {
    if (!this.#isOver(bytesMax, storeTimeMin)) return Promise.resolve()
    return this.#parts.run(async () => {
      while (this.#isOver(bytesMax, storeTimeMin)) {
        await this.#removeOldest()
        // One name after the other: an older file that a crash brings back would stand before a gap.
        await this.#parts.disk.syncFolder(this.#parts.folder)
      }
    })
  }

  /** The second file's first block came after everything in the first file. */
  #isOver(bytesMax: number, storeTimeMin: number): boolean {
    if (this.files.length < 2) return false
    return (bytesMax >= 0 && this.bytes > bytesMax) || this.files[1]!.storeTime < storeTimeMin
  }

  /** It is forgotten first: whoever reads meanwhile goes on behind it. */
  async #removeOldest(): Promise<void> {
    const file = this.files.shift()!
    for (const block of [...this.#blocks.values()]) {
      if (block.place.file === file.first) this.#parts.cache.remove(this.#blocks, block)
    }
    try {
      await this.#unlink(file.name)
    } catch (error) {
      this.files.unshift(file)
      throw error
    }
  }

  async #unlink(name: string): Promise<void> {
    try {
      await this.#parts.disk.unlink(join(this.#parts.folder, name))
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw error
    }
  }

  remove(): Promise<void> {
    return this.#parts.run(async () => {
      while (this.files.length > 0) await this.#removeOldest()
      for (const name of this.#lost.splice(0)) await this.#unlink(name)
      this.#parts.forget(this.id)
    })
  }

  // At a start

  /** Reads what must be known of the files, whose names are in order: the newest with something in it as a whole. */
  async open(firsts: readonly number[]): Promise<void> {
    for (const first of [...firsts].reverse()) {
      await this.#look(new StreamFile(this.id, first), this.files.length === 0)
    }
  }

  async #look(file: StreamFile, isNewest: boolean): Promise<void> {
    const opened = await this.#parts.disk.open(join(this.#parts.folder, file.name), 'read')
    let size = 0
    try {
      size = await opened.size()
      // A killed process may have left it in the kernel's memory only: what the journal lets go must lie here.
      if (isNewest) await opened.datasync()
    } finally {
      await opened.close()
    }
    // Of an older one its first header is enough: what stands in it ends where the next one begins.
    const walk = new StreamWalk(this.id, 0, size, isNewest ? PIECE_BYTES : PAGE_BYTES)
    try {
      await walk.open(this.#parts.disk, this.#parts.folder, file.name)
      while (isNewest ? await walk.next() : await walk.nextHeader()) {
        const { header } = walk
        if (file.bytes === 0) {
          file.storeTime = header.storeTime
          file.wallTime = header.wallTime
        }
        file.bytes = size
        if (!isNewest) break
        this.#found(file, header, walk.offset)
      }
    } finally {
      await walk.close()
    }
    this.#tellDamage(file, walk.damaged)
    if (file.bytes === 0) {
      this.#lost.push(file.name)
      this.#tellDamage(file, 1)
      return
    }
    if (isNewest) this.isSealed = file.bytes !== size
    this.files.unshift(file)
  }

  /** An intact block of the newest file. */
  #found(file: StreamFile, header: BlockHeader, offset: number): void {
    const expected = Math.max(this.last + 1, file.first)
    if (header.first > expected) {
      const { last, newestWallTime } = this
      this.#holes.push({ from: expected, to: header.first - 1, offset, last, newestWallTime })
    }
    this.last = header.last
    this.newestWallTime = header.wallTime
    file.bytes = roundUpToPage(offset + header.bytes)
  }

  cutTornEnd(isElsewhere: (from: number, to: number) => boolean): void {
    const file = this.files.at(-1)
    const hole = this.#holes.find(({ from, to }) => isElsewhere(from, to))
    this.#holes = []
    if (hole === undefined || file === undefined) return
    this.isSealed = true
    file.bytes = hole.offset
    this.last = Math.max(hole.last, file.first - 1)
    this.newestWallTime = hole.newestWallTime
    if (hole.last === 0) this.#lost.push(this.files.pop()!.name)
  }
}

/** Numbers that are missing in the newest file, and what stands before them. */
interface Hole {
  readonly from: number
  readonly to: number
  /** Of the block behind it. */
  readonly offset: number
  readonly last: number
  readonly newestWallTime: number
}

const ZEROS = Buffer.alloc(PAGE_BYTES)
