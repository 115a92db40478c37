/** A disk that takes its time under a child process: see slow-disk.c. Needs gcc. */
import { spawnSync } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const SOURCE = fileURLToPath(new URL('slow-disk.c', import.meta.url))
const SYNC_MS = 0
const WRITE_MS = 1
const HELD = 2
const SYNCS = 3
const WAITING = 4
const CONTROL_BYTES = 32

export class SlowDisk {
  /** What the child needs in its environment. */
  readonly env: Readonly<Record<string, string>>
  readonly #folder: string
  readonly #control: number

  /** Files below `dataDir` are slow; it need not be there yet. */
  constructor(dataDir: string) {
    this.#folder = mkdtempSync(join(tmpdir(), 'motemq-slow-'))
    const library = join(this.#folder, 'slow-disk.so')
    const words = ['-O2', '-shared', '-fPIC', '-o', library, SOURCE, '-ldl']
    const { status, stderr } = spawnSync('gcc', words)
    if (status !== 0) throw new Error(`gcc: ${String(stderr)}`)
    const control = join(this.#folder, 'control')
    this.#control = openSync(control, 'w+')
    writeSync(this.#control, Buffer.alloc(CONTROL_BYTES))
    this.env = { LD_PRELOAD: library, SLOW_DISK: control, SLOW_DISK_FOLDER: dataDir }
  }

  /** How long a sync takes from now on. */
  set syncMs(ms: number) {
    this.#set(SYNC_MS, ms)
  }

  /** How long a write takes from now on. */
  set writeMs(ms: number) {
    this.#set(WRITE_MS, ms)
  }

  /** The disk stands still: for syncs, while writes go into the system's memory, or for both. */
  hold(what: 'syncs' | 'all' = 'syncs'): void {
    this.#set(HELD, what === 'syncs' ? 1 : 2)
  }

  goOn(): void {
    this.#set(HELD, 0)
  }

  /** Syncs begun so far. */
  get syncs(): number {
    return this.#get(SYNCS)
  }

  /** Syncs and writes that wait for the disk now. */
  get waiting(): number {
    return this.#get(WAITING)
  }

  /** After the child has ended. */
  remove(): void {
    closeSync(this.#control)
    rmSync(this.#folder, { recursive: true, force: true })
  }

  #set(index: number, value: number): void {
    const bytes = Buffer.alloc(4)
    bytes.writeUInt32LE(value)
    writeSync(this.#control, bytes, 0, 4, index * 4)
  }

  #get(index: number): number {
    const bytes = Buffer.alloc(4)
    readSync(this.#control, bytes, 0, 4, index * 4)
    return bytes.readUInt32LE()
  }
}
