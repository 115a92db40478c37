/**
 * File systems small enough to be filled: ext4 on a loop device over a file in memory, or a tmpfs. Needs root, and for
 * ext4 `mkfs.ext4` (e2fsprogs) and a free loop device.
 */
import { spawnSync } from 'node:child_process'
import {
  closeSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  rmSync,
  statfsSync,
  writeSync
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe } from 'vitest'
import { findProgram, requiresAll } from './require.ts'

export type DiskKind = 'ext4' | 'tmpfs'

const PIECE = Buffer.alloc(64 * 1024, 'f')
const PAGE_BYTES = 4096

function runs(name: string, words: readonly string[]): string {
  const program = findProgram(name)
  if (program === null) return `${name}: not found`
  const { status, stderr } = spawnSync(program, words, { encoding: 'utf8' })
  return status === 0 ? '' : `${name} ${words.join(' ')}: ${stderr}`
}

export class SmallDisk {
  /** Where it is mounted. */
  readonly folder: string
  readonly #top: string
  readonly #foreign: string

  /** Makes and mounts one of about `bytes`; of ext4: with so many inodes. Throws when that cannot be. */
  constructor(kind: DiskKind, bytes: number, inodes = 0) {
    // The image lies in memory: no real disk is written.
    this.#top = mkdtempSync(join(kind === 'ext4' ? '/dev/shm' : tmpdir(), 'motemq-disk-'))
    this.folder = join(this.#top, 'mounted')
    this.#foreign = join(this.folder, 'foreign')
    const failure = this.#mount(kind, bytes, inodes)
    if (failure === '') return
    this.remove()
    throw new Error(failure)
  }

  #mount(kind: DiskKind, bytes: number, inodes: number): string {
    const made = runs('mkdir', [this.folder])
    if (made !== '') return made
    if (kind === 'tmpfs') {
      return runs('mount', ['-t', 'tmpfs', '-o', `size=${bytes}`, 'motemq-test', this.folder])
    }
    const image = join(this.#top, 'image')
    const file = openSync(image, 'w')
    ftruncateSync(file, bytes)
    closeSync(file)
    // No blocks that only root may use: full is full, for the broker too.
    const few = inodes > 0 ? ['-N', String(inodes)] : []
    return (
      runs('mkfs.ext4', ['-q', '-F', '-m', '0', ...few, image]) ||
      runs('mount', ['-o', 'loop', image, this.folder])
    )
  }

  get freeBytes(): number {
    const { bavail, bsize } = statfsSync(this.folder)
    return bavail * bsize
  }

  get totalBytes(): number {
    const { blocks, bsize } = statfsSync(this.folder)
    return blocks * bsize
  }

  /** Somebody else's file takes all that is left, to the last block. */
  fill(): void {
    const file = openSync(this.#foreign, 'a')
    try {
      for (const bytes of [PIECE.length, PAGE_BYTES]) writeUntilFull(file, bytes)
    } finally {
      closeSync(file)
    }
  }

  /** Somebody else's empty files take all inodes but so many. */
  takeInodes(left: number): void {
    const files: string[] = []
    try {
      for (;;) {
        const file = join(this.folder, `empty-${files.length}`)
        closeSync(openSync(file, 'wx'))
        files.push(file)
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
    }
    for (const file of files.slice(files.length - left)) rmSync(file)
  }

  /** Somebody else's large file goes. */
  free(): void {
    rmSync(this.#foreign, { force: true })
  }

  /** Unmounts it, whoever still has a file open there. */
  remove(): void {
    runs('umount', ['-l', this.folder])
    rmSync(this.#top, { recursive: true, force: true })
  }
}

function writeUntilFull(file: number, bytes: number): void {
  for (;;) {
    try {
      if (writeSync(file, PIECE, 0, bytes) < bytes) return
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOSPC') return
      throw error
    }
  }
}

function canMake(kind: DiskKind): boolean {
  try {
    new SmallDisk(kind, 32 * 1024 * 1024).remove()
    return true
  } catch {
    // No root, no loop device, no mkfs: the same to a test.
    return false
  }
}

/** `describe` for tests that need such a disk. Throws where everything is required and it cannot be made. */
export function requireSmallDisk(kind: DiskKind): (name: string, tests: () => void) => void {
  const found = canMake(kind)
  const needs = kind === 'ext4' ? 'root, mkfs.ext4 and a loop device' : 'root and a tmpfs'
  if (!found && requiresAll) throw new Error(`a small ${kind} is required: ${needs}`)
  return (name, tests) => {
    describe.skipIf(!found)(found ? name : `${name} (needs ${needs})`, tests)
  }
}
