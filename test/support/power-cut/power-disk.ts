/**
 * A block device whose power can be cut: a loop device on a file that `power-disk.c` serves over FUSE, with ext4 on it.
 * Needs root, gcc, libfuse3-dev, fuse3 and e2fsprogs. Every mount has this process's id in its path; what a dead process
 * left behind is taken away by the next one.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe } from 'vitest'
import { findProgram, requiresAll } from '../require.ts'
import { start } from '../run.ts'

const SOURCE = fileURLToPath(new URL('power-disk.c', import.meta.url))
const PREFIX = 'motemq-power-'
const MIB = 1024 * 1024
/** Small, so that segments are small and used again and again within seconds. */
const DISK_BYTES = 24 * MIB
const UMOUNT_TRIES = 100

/** What is missing of what the tests need, where it can be by the name of its Debian package. */
function missing(): string | null {
  if (process.getuid?.() !== 0) return 'root'
  const mayMount = spawnSync('unshare', ['-m', 'true'], { stdio: 'ignore' }).status === 0
  const hasDevices = existsSync('/dev/fuse') && existsSync('/dev/loop-control')
  if (!mayMount || !hasDevices) return 'FUSE and loop devices'
  if (findProgram('gcc') === null) return 'gcc'
  if (!existsSync('/usr/include/fuse3/fuse_lowlevel.h')) return 'libfuse3-dev'
  if (findProgram('fusermount3') === null) return 'fuse3'
  if (findProgram('mkfs.ext4') === null) return 'e2fsprogs'
  return null
}

/** `describe` for tests that need a block device of our own. Throws where that is required and cannot be had. */
export function requirePowerDisk(name: string, tests: () => void): void {
  const need = missing()
  if (need !== null && requiresAll) throw new Error(`power cuts are required and need ${need}`)
  describe.skipIf(need !== null)(need === null ? name : `${name} (needs ${need})`, tests)
}

/** Runs a program that Debian keeps in sbin. */
async function command(name: string, ...words: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await start(findProgram(name) ?? name, words).result
  if (code !== 0) throw new Error(`${name} ${words.join(' ')}: exit ${code}\n${stdout}${stderr}`)
  return stdout.trim()
}

function mountsBelow(folder: string): string[] {
  return readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map(line => line.split(' ')[1] ?? '')
    .filter(path => path.startsWith(folder))
    .reverse()
}

/** Takes away all that is mounted below, with the loop devices on it. */
function takeAway(folder: string): void {
  // First, while the paths can be told: a device that is in use goes with its last user.
  const devices = spawnSync(findProgram('losetup') ?? 'losetup', ['-n', '-O', 'NAME,BACK-FILE'])
  for (const line of String(devices.stdout).split('\n')) {
    const [device = '', file = ''] = line.trim().split(/\s+/)
    if (file.startsWith(folder)) spawnSync(findProgram('losetup') ?? 'losetup', ['-d', device])
  }
  for (const path of mountsBelow(folder)) spawnSync('umount', ['-l', path], { stdio: 'ignore' })
}

function isRunning(pid: number): boolean {
  return existsSync(`/proc/${pid}`)
}

/** The folder of a run, in memory where that is possible, with the compiled program and an empty file system. */
export class PowerFolder {
  readonly path: string
  readonly program: string
  #count = 0
  readonly #atExit = () => takeAway(this.path)

  private constructor(path: string) {
    this.path = path
    this.program = join(path, 'power-disk')
    process.once('exit', this.#atExit)
  }

  static async make(): Promise<PowerFolder> {
    const parent = existsSync('/dev/shm') ? '/dev/shm' : tmpdir()
    for (const path of mountsBelow(join(parent, PREFIX))) {
      const [folder = '', pid] = /^.*motemq-power-(\d+)-[^/]*/.exec(path) ?? []
      if (!isRunning(Number(pid))) takeAway(folder)
    }
    const folder = new PowerFolder(mkdtempSync(join(parent, `${PREFIX}${process.pid}-`)))
    const flags = ['-O2', '-D_FILE_OFFSET_BITS=64', '-I/usr/include/fuse3', '-o', folder.program]
    await command('gcc', ...flags, SOURCE, '-lfuse3', '-lpthread')
    return folder
  }

  /** A new path in it. */
  next(name: string): string {
    return join(this.path, `${name}-${++this.#count}`)
  }

  /** A fresh ext4 as mkfs makes it. */
  async freshImage(): Promise<Buffer> {
    const file = this.next('fresh')
    writeFileSync(file, Buffer.alloc(DISK_BYTES))
    const features = 'nodiscard,lazy_itable_init=0,lazy_journal_init=0'
    await command('mkfs.ext4', '-q', '-b', '4096', '-J', 'size=4', '-E', features, file)
    const image = readFileSync(file)
    rmSync(file)
    return image
  }

  remove(): void {
    process.off('exit', this.#atExit)
    takeAway(this.path)
    rmSync(this.path, { recursive: true, force: true })
  }
}

async function unmount(path: string): Promise<void> {
  for (let tries = 1; ; tries++) {
    const { code, stderr } = await start('umount', [path]).result
    if (code === 0) return
    // A process that was just killed, or the kernel itself, may hold it for a moment.
    if (tries === UMOUNT_TRIES) throw new Error(`umount ${path}: ${stderr}`)
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}

/** The block device while its power is on. */
export class PowerDisk {
  /** Where the file system is mounted. */
  readonly mounted: string
  readonly logFile: string
  readonly #served: string
  readonly #child: ChildProcess
  readonly #ended: Promise<unknown>
  #device = ''

  private constructor(folder: PowerFolder, image: Buffer, seed: number) {
    this.mounted = folder.next('mounted')
    this.logFile = folder.next('log')
    this.#served = folder.next('served')
    for (const path of [this.mounted, this.#served]) mkdirSync(path)
    const file = folder.next('image')
    writeFileSync(file, image)
    const words = [file, this.logFile, String(seed), '-f', this.#served]
    this.#child = spawn(folder.program, words, { stdio: ['ignore', 'pipe', 'inherit'] })
    this.#ended = new Promise(resolve => this.#child.once('close', resolve))
  }

  /** Serves the image and mounts it. */
  static async open(
    folder: PowerFolder,
    image: Buffer,
    seed: number,
    mountOptions = 'rw'
  ): Promise<PowerDisk> {
    const disk = new PowerDisk(folder, image, seed)
    try {
      await disk.#mount(mountOptions)
    } catch (error) {
      await disk.close()
      throw error
    }
    return disk
  }

  async #mount(options: string): Promise<void> {
    await new Promise((resolve, reject) => {
      this.#child.stdout!.once('data', resolve)
      this.#child.once('close', code => reject(new Error(`power-disk ended with ${code}`)))
    })
    this.#device = await command('losetup', '--find', '--show', join(this.#served, 'disk'))
    await command('mount', '-t', 'ext4', '-o', options, this.#device, this.mounted)
  }

  /** From now on every read, write and flush fails, and nothing is noted any more. */
  cut(): void {
    this.#child.kill('SIGUSR1')
  }

  /** Unmounts: in order when the power is on. What is on the medium then. */
  async close(): Promise<Buffer | null> {
    let image: Buffer | null = null
    try {
      if (mountsBelow(this.mounted).length > 0) await unmount(this.mounted)
      if (this.#device !== '') await command('losetup', '--detach', this.#device)
      this.#device = ''
      image = readFileSync(join(this.#served, 'disk'))
    } catch (error) {
      // No power: there is nothing to read.
      if (!(error instanceof Error) || !('code' in error) || error.code !== 'EIO') throw error
    } finally {
      // It unmounts itself.
      this.#child.kill('SIGTERM')
      await this.#ended
    }
    return image
  }
}

/** An image as an ordinary disk: mounted while `use` runs, and gone afterwards. */
export async function withImage(
  folder: PowerFolder,
  image: Buffer,
  use: (mounted: string) => Promise<void>
): Promise<void> {
  const file = folder.next('point')
  const mounted = folder.next('mounted')
  writeFileSync(file, image)
  mkdirSync(mounted)
  try {
    await command('mount', '-t', 'ext4', '-o', 'loop', file, mounted)
    await use(mounted)
  } finally {
    if (mountsBelow(mounted).length > 0) await unmount(mounted)
    rmSync(mounted, { recursive: true, force: true })
    rmSync(file, { force: true })
  }
}
