/**
 * The small interface through which the journal sees the file system, and the real one. The other
 * one is `test/support/simulated-disk.ts`, on which crashes and faults are made.
 *
 * Paths are absolute or relative to the process, as node:fs takes them. A failed call rejects with
 * the system's error and its `code`. No call follows a symbolic link in a path's last component.
 * Nothing here truncates or renames: files are filled with zeros once and overwritten for ever.
 */
import { constants } from 'node:fs'
import * as fs from 'node:fs'
import { lockFolder } from './lock.ts'

/** read: must exist. write: must exist, read and write. create: must not exist. */
export type OpenMode = 'read' | 'write' | 'create'

export interface DiskFile {
  size(): Promise<number>
  /** Reads up to `length` bytes at `position`; returns how many there were. */
  read(buffer: Buffer, from: number, length: number, position: number): Promise<number>
  /** Writes all buffers behind each other at `position`; returns how many bytes were taken. */
  write(buffers: readonly Buffer[], position: number): Promise<number>
  /**
   * Like `write`; and what it wrote is on the medium when it resolves. What was written before and not
   * synced need not be. Within the file's size.
   */
  writeSynced(buffers: readonly Buffer[], position: number): Promise<number>
  /** Contents and size are on the medium when it resolves. */
  datasync(): Promise<void>
  close(): Promise<void>
}

export interface DiskSpace {
  freeBytes: number
  totalBytes: number
}

export interface Disk {
  open(path: string, mode: OpenMode): Promise<DiskFile>
  /** Names in the folder, in no order. */
  list(folder: string): Promise<string[]>
  /** Makes the folder (0700) and those above it; nothing happens when it is there. */
  makeFolder(folder: string): Promise<void>
  unlink(path: string): Promise<void>
  /** Names made and removed in the folder are on the medium when it resolves. */
  syncFolder(folder: string): Promise<void>
  space(folder: string): Promise<DiskSpace>
  /** Makes this process the folder's only user; rejects with a JournalError; returns the release. */
  lock(folder: string): Promise<() => Promise<void>>
}

const FLAGS: Readonly<Record<OpenMode, number>> = {
  read: constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0),
  write: constants.O_RDWR | (constants.O_NOFOLLOW ?? 0),
  create: constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | (constants.O_NOFOLLOW ?? 0)
}

/**
 * File systems of Linux on which a write to a file opened with O_DSYNC is a write and an fdatasync of its
 * range, by their magic numbers: ext2 to ext4, XFS, Btrfs, F2FS. Others, FUSE among them, may take the flag
 * and do nothing.
 */
const DSYNC_TYPES = new Set([0xef53, 0x58465342, 0x9123683e, 0xf2f52010])

/** fs.writev takes at most this many buffers (IOV_MAX). */
const WRITEV_MAX = 1000

class RealFile implements DiskFile {
  readonly #descriptor: number
  readonly #path: string
  /** The same file with O_DSYNC, opened when first needed; null in it: not to be had here. */
  #synced: Promise<number | null> | null = null

  constructor(descriptor: number, path: string) {
    this.#descriptor = descriptor
    this.#path = path
  }

  size(): Promise<number> {
    return new Promise((resolve, reject) => {
      fs.fstat(this.#descriptor, (error, stat) => (error ? reject(error) : resolve(stat.size)))
    })
  }

  async read(buffer: Buffer, from: number, length: number, position: number): Promise<number> {
    let done = 0
    while (done < length) {
      const count = await this.#readOnce(buffer, from + done, length - done, position + done)
      if (count === 0) break
      done += count
    }
    return done
  }

  #readOnce(buffer: Buffer, from: number, length: number, position: number): Promise<number> {
    return new Promise((resolve, reject) => {
      fs.read(this.#descriptor, buffer, from, length, position, (error, count) =>
        error ? reject(error) : resolve(count)
      )
    })
  }

  write(buffers: readonly Buffer[], position: number): Promise<number> {
    return this.#writeAll(this.#descriptor, buffers, position)
  }

  /** One visit to the thread pool instead of two, where the file system can. */
  async writeSynced(buffers: readonly Buffer[], position: number): Promise<number> {
    this.#synced ??= openSynced(this.#path)
    const descriptor = await this.#synced
    if (descriptor !== null) return this.#writeAll(descriptor, buffers, position)
    const count = await this.write(buffers, position)
    await this.datasync()
    return count
  }

  async #writeAll(
    descriptor: number,
    buffers: readonly Buffer[],
    position: number
  ): Promise<number> {
    let done = 0
    for (let i = 0; i < buffers.length; i += WRITEV_MAX) {
      const part = buffers.slice(i, i + WRITEV_MAX)
      let wanted = 0
      for (const buffer of part) wanted += buffer.length
      const count = await writeOnce(descriptor, part, position + done)
      done += count
      if (count < wanted) break
    }
    return done
  }

  datasync(): Promise<void> {
    return new Promise((resolve, reject) => {
      fs.fdatasync(this.#descriptor, error => (error ? reject(error) : resolve()))
    })
  }

  async close(): Promise<void> {
    const synced = this.#synced === null ? null : await this.#synced
    if (synced !== null) await closeOne(synced)
    await closeOne(this.#descriptor)
  }
}

function writeOnce(descriptor: number, buffers: Buffer[], position: number): Promise<number> {
  return new Promise((resolve, reject) => {
    fs.writev(descriptor, buffers, position, (error, count) =>
      error ? reject(error) : resolve(count)
    )
  })
}

function closeOne(descriptor: number): Promise<void> {
  return new Promise((resolve, reject) => {
    fs.close(descriptor, error => (error ? reject(error) : resolve()))
  })
}

function openOne(path: string, flags: number): Promise<number> {
  return new Promise((resolve, reject) => {
    fs.open(path, flags, 0o600, (error, descriptor) =>
      error ? reject(error) : resolve(descriptor)
    )
  })
}

async function openSynced(path: string): Promise<number | null> {
  if (process.platform !== 'linux') return null
  try {
    const { type } = await fs.promises.statfs(path)
    if (!DSYNC_TYPES.has(type >>> 0)) return null
    return await openOne(path, constants.O_WRONLY | constants.O_DSYNC | constants.O_NOFOLLOW)
  } catch {
    // Too many open files, say: write and sync do as well.
    return null
  }
}

/** The file system of this machine. */
export const realDisk: Disk = {
  async open(path: string, mode: OpenMode): Promise<DiskFile> {
    return new RealFile(await openOne(path, FLAGS[mode]), path)
  },

  list(folder: string): Promise<string[]> {
    return fs.promises.readdir(folder)
  },

  async makeFolder(folder: string): Promise<void> {
    await fs.promises.mkdir(folder, { recursive: true, mode: 0o700 })
  },

  unlink(path: string): Promise<void> {
    return fs.promises.unlink(path)
  },

  async syncFolder(folder: string): Promise<void> {
    const handle = await fs.promises.open(folder, 'r')
    try {
      await handle.sync()
    } finally {
      await handle.close()
    }
  },

  async space(folder: string): Promise<DiskSpace> {
    const found = await fs.promises.statfs(folder)
    return { freeBytes: found.bavail * found.bsize, totalBytes: found.blocks * found.bsize }
  },

  lock(folder: string): Promise<() => Promise<void>> {
    return lockFolder(folder)
  }
}
