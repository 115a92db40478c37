/**
 * A broker in a network namespace of its own for floods: what it may take of memory and processor is asked from within.
 * Needs root and iproute2.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { connect } from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { Program } from './program.ts'
import { findProgram } from './require.ts'

const PROBE = fileURLToPath(new URL('flood-probe.mjs', import.meta.url))
const FLOOD = fileURLToPath(new URL('flood.mjs', import.meta.url))
const BINARY = fileURLToPath(new URL('../../bin/motemq.js', import.meta.url))

/** After a collection; bytes and milliseconds. */
export interface Figures {
  readonly cpuMs: number
  /** The longest turn of the event loop since the last question. */
  readonly turnMs: number
  readonly rss: number
  readonly heapUsed: number
  readonly external: number
}

export interface FloodResult {
  readonly result: Readonly<Record<string, number | string>>
  readonly witness: { readonly sent: number; readonly answered: number; readonly latestMs: number }
}

export class FloodRig {
  readonly program: Program
  readonly #namespace: string
  readonly #folder: string
  readonly #floods = new Set<ChildProcess>()
  static #count = 0

  private constructor(program: Program, namespace: string, folder: string) {
    this.program = program
    this.#namespace = namespace
    this.#folder = folder
  }

  static async start(flags: readonly string[] = []): Promise<FloodRig> {
    const folder = mkdtempSync(join(tmpdir(), 'motemq-flood-'))
    const namespace = `mq-flood-${process.pid}-${FloodRig.#count++}`
    const ip = findProgram('ip')!
    spawnSync(ip, ['netns', 'add', namespace])
    spawnSync(ip, ['-n', namespace, 'link', 'set', 'lo', 'up'])
    const node = [process.execPath, '--expose-gc', '--import', PROBE, BINARY]
    const program = await Program.start({
      command: [ip, 'netns', 'exec', namespace, ...node],
      env: { FLOOD_PROBE: join(folder, 'probe') },
      listen: ['mqtt://127.0.0.1:0'],
      flags
    })
    return new FloodRig(program, namespace, folder)
  }

  figures(): Promise<Figures> {
    return new Promise((resolve, reject) => {
      const socket = connect(join(this.#folder, 'probe'))
      let text = ''
      socket.setEncoding('utf8')
      socket.on('data', chunk => {
        text += String(chunk)
      })
      socket.on('error', reject)
      socket.on('end', () => resolve(JSON.parse(text) as Figures))
    })
  }

  /** Runs one to its end; what it has connected stays so until `end`. */
  async flood(...words: readonly (string | number)[]): Promise<Flood> {
    const port = String(this.program.port('mqtt'))
    const args = ['netns', 'exec', this.#namespace, process.execPath, FLOOD, port]
    const child = spawn(findProgram('ip')!, [...args, ...words.map(String)], {
      stdio: ['pipe', 'pipe', 'inherit']
    })
    this.#floods.add(child)
    const gone = new Promise<void>(resolve => child.once('close', () => resolve()))
    const line = await new Promise<string>((resolve, reject) => {
      createInterface({ input: child.stdout! }).once('line', resolve)
      child.once('close', () => reject(new Error(`the flood ${words[0]} ended early`)))
    })
    return new Flood(JSON.parse(line) as FloodResult, async () => {
      child.stdin!.end()
      await gone
      this.#floods.delete(child)
    })
  }

  async remove(): Promise<void> {
    for (const child of this.#floods) child.kill('SIGKILL')
    await this.program.remove()
    spawnSync(findProgram('ip')!, ['netns', 'del', this.#namespace], { stdio: 'ignore' })
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

export class Flood {
  readonly result: FloodResult['result']
  readonly witness: FloodResult['witness']
  /** Closes what it has open, and waits until it is gone. */
  readonly end: () => Promise<void>

  constructor({ result, witness }: FloodResult, end: () => Promise<void>) {
    this.result = result
    this.witness = witness
    this.end = end
  }
}
