/**
 * Two machines on one: a network namespace for the broker and one for its clients, joined by a cable. Needs root and
 * iproute2. In a namespace of its own the program gets its ordinary ports, whatever else runs here.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { describe } from 'vitest'
import { findProgram, requiresAll } from './require.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const PROGRAM = fileURLToPath(new URL('../../bin/motemq.js', import.meta.url))

export interface Finished {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

function ip(...words: readonly string[]): boolean {
  const program = findProgram('ip')
  return program !== null && spawnSync(program, words, { stdio: 'ignore' }).status === 0
}

function canMakeNamespaces(): boolean {
  const name = `mq-try-${process.pid}`
  return ip('netns', 'add', name) && ip('netns', 'del', name)
}

/** `describe` for tests that need two namespaces. Throws where they are required and cannot be made. */
export function requireNamespaces(name: string, tests: () => void): void {
  const found = canMakeNamespaces()
  if (!found && requiresAll) throw new Error('network namespaces are required: root and iproute2')
  const needs = 'network namespaces (root and iproute2)'
  describe.skipIf(!found)(found ? name : `${name} (needs ${needs.replaceAll(/[()]/g, '')})`, tests)
}

export class TwoHosts {
  /** The broker's address, as the other host sees it. */
  readonly address = '198.18.77.1'
  readonly #broker = `mq-a-${process.pid}`
  readonly #clients = `mq-b-${process.pid}`
  readonly #peer = `mqb${process.pid % 100_000}`
  readonly #children = new Set<ChildProcess>()

  constructor() {
    const cable = `mqa${process.pid % 100_000}`
    const peer = this.#peer
    const steps = [
      ['netns', 'add', this.#broker],
      ['netns', 'add', this.#clients],
      ['-n', this.#broker, 'link', 'add', cable, 'type', 'veth', 'peer', 'name', peer],
      ['-n', this.#broker, 'link', 'set', peer, 'netns', this.#clients],
      ['-n', this.#broker, 'addr', 'add', `${this.address}/30`, 'dev', cable],
      ['-n', this.#clients, 'addr', 'add', '198.18.77.2/30', 'dev', peer],
      ['-n', this.#broker, 'link', 'set', cable, 'up'],
      ['-n', this.#clients, 'link', 'set', peer, 'up'],
      ['-n', this.#broker, 'link', 'set', 'lo', 'up'],
      ['-n', this.#clients, 'link', 'set', 'lo', 'up']
    ]
    for (const step of steps) {
      if (!ip(...step)) throw new Error(`ip ${step.join(' ')} failed`)
    }
  }

  /** Starts the program on the broker's host. */
  motemq(words: readonly string[], cwd: string, input = ''): HostRun {
    return this.#run(this.#broker, [process.execPath, PROGRAM, ...words], cwd, input)
  }

  /** Runs a command where the broker runs. */
  here(command: readonly string[]): Promise<Finished> {
    return this.#run(this.#broker, command, ROOT, '').finished
  }

  /** Runs a command on the other host. */
  there(command: readonly string[]): Promise<Finished> {
    return this.#run(this.#clients, command, ROOT, '').finished
  }

  /** A module for Node on the other host; its imports are this package's. */
  nodeThere(script: string, args: readonly string[]): Promise<Finished> {
    const node = [process.execPath, '--input-type=module', '-e', script, '--', ...args]
    return this.there(node)
  }

  /** Pulls the cable: neither side learns of it. */
  cut(): void {
    const words = ['-n', this.#clients, 'addr', 'flush', 'dev', this.#peer]
    if (!ip(...words)) throw new Error(`ip ${words.join(' ')} failed`)
  }

  /** Ends what still runs. */
  async killAll(): Promise<void> {
    const gone = [...this.#children].map(
      child => new Promise<void>(resolve => child.once('close', () => resolve()))
    )
    for (const child of this.#children) child.kill('SIGKILL')
    await Promise.all(gone)
  }

  /** Takes the namespaces, with the cable, away. */
  async remove(): Promise<void> {
    await this.killAll()
    ip('netns', 'del', this.#broker)
    ip('netns', 'del', this.#clients)
  }

  #run(namespace: string, command: readonly string[], cwd: string, input: string): HostRun {
    const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('MOTEMQ_'))
    const child = spawn(findProgram('ip')!, ['netns', 'exec', namespace, ...command], {
      cwd,
      env: Object.fromEntries(inherited),
      stdio: ['pipe', 'pipe', 'pipe']
    })
    // It may end before it reads.
    child.stdin.on('error', () => undefined)
    child.stdin.end(input)
    this.#children.add(child)
    child.once('close', () => this.#children.delete(child))
    return new HostRun(child)
  }
}

export class HostRun {
  readonly finished: Promise<Finished>
  stdout = ''
  stderr = ''
  readonly #child: ChildProcess

  constructor(child: ChildProcess) {
    this.#child = child
    child.stdout!.on('data', chunk => {
      this.stdout += String(chunk)
    })
    child.stderr!.on('data', chunk => {
      this.stderr += String(chunk)
    })
    this.finished = new Promise(resolve => {
      child.on('close', code => resolve({ code, stdout: this.stdout, stderr: this.stderr }))
    })
  }

  /** `ip netns exec` becomes what it runs. */
  get pid(): number {
    return this.#child.pid!
  }

  /** Its log lines so far. */
  get lines(): Record<string, unknown>[] {
    const whole = this.stdout.split('\n').slice(0, -1)
    return whole.map(line => JSON.parse(line) as Record<string, unknown>)
  }

  /** The URLs that it says it listens on; rejects when it ends before. */
  ready(): Promise<string[]> {
    return new Promise((resolve, reject) => {
      const look = () => {
        const ready = this.lines.find(({ msg }) => msg === 'ready')
        if (ready !== undefined) resolve(ready['urls'] as string[])
      }
      this.#child.stdout!.on('data', look)
      look()
      void this.finished.then(({ code, stderr }) => reject(new Error(`ended ${code}: ${stderr}`)))
    })
  }

  async stop(): Promise<Finished> {
    this.#child.kill('SIGTERM')
    return this.finished
  }
}
