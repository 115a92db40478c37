/**
 * A broker under load that no other test shares: in a network namespace of its own, pinned to one core, with the heap
 * of a small machine; and the clients that load it, on the other cores, in the same namespace. Needs root, iproute2,
 * util-linux (taskset, chrt) and gcc.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { type Metrics, parseMetrics } from './metrics.ts'
import { findProgram } from './require.ts'
import { Swarm, type SwarmOptions, swarmWords } from './swarm.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const PROBE = fileURLToPath(new URL('overload-probe.mjs', import.meta.url))
const SWARM = fileURLToPath(new URL('swarm.c', import.meta.url))
const BROKER_CORE = '0'
const READY_TIMEOUT_MS = 60_000
/** Of the witness: it must be on time when the generators beside it are not. */
const REALTIME_PRIORITY = '10'
/**
 * The broker, and as far as it can be the generators, before what else runs on this machine: it is no part of what is
 * measured. Linux weighs sessions, then processes.
 */
const REALTIME = ['chrt', '-r', '1']
const FIRST = [
  'setsid',
  'sh',
  '-c',
  'echo -15 2>&- >/proc/self/autogroup; exec nice -n -15 "$@"',
  '--'
]
const LISTEN = ['mqtt://127.0.0.1:1883', 'amqp://127.0.0.1:5672']

export interface OverloadOptions {
  /** `--max-old-space-size`, MiB; default 256. */
  readonly heapMib?: number
  /** More flags of `start`. */
  readonly flags?: readonly string[]
  /** A motemq.yaml. */
  readonly config?: string
  readonly env?: Readonly<Record<string, string>>
  /** More flags of node, `--cpu-prof`. */
  readonly nodeFlags?: readonly string[]
  /** Words before the broker's command: another wrapper of the process (`ulimit`, `systemd-run`). */
  readonly wrapper?: readonly string[]
  /** Default: a new folder on the disk of the system's temporary folder. */
  readonly dataDir?: string
}

/** What the probe wrote in a quarter of a second. */
export interface ProbeSample {
  readonly atMs: number
  readonly lagMs: number
  readonly ownLagMs: number
  readonly gcMs: number
  readonly rss: number
  readonly heapUsed: number
  readonly external: number
}

export interface ProbeSummary {
  readonly lagMaxMs: number
  /** The same without the time in which something else ran on its core. */
  readonly ownLagMaxMs: number
  readonly gcMaxMs: number
  readonly rssMax: number
  readonly samples: readonly ProbeSample[]
}

export class OverloadRig {
  readonly folder: string
  readonly dataDir: string
  readonly namespace: string
  /** Lines of the broker's log, JSON. */
  readonly log: string[] = []
  readonly #options: OverloadOptions
  readonly #children = new Set<ChildProcess>()
  readonly #probeFile: string
  #broker: ChildProcess | null = null
  #exited: Promise<void> = Promise.resolve()
  #probeAt = 0
  static #count = 0

  private constructor(options: OverloadOptions) {
    this.#options = options
    this.folder = mkdtempSync(join(tmpdir(), 'motemq-overload-'))
    this.dataDir = options.dataDir ?? join(this.folder, 'data')
    this.namespace = `mq-load-${process.pid}-${OverloadRig.#count++}`
    this.#probeFile = join(this.folder, 'probe')
  }

  static async start(options: OverloadOptions = {}): Promise<OverloadRig> {
    const rig = new OverloadRig(options)
    try {
      run('gcc', ['-O2', '-w', '-o', join(rig.folder, 'swarm'), SWARM])
      run('ip', ['netns', 'add', rig.namespace])
      run('ip', ['-n', rig.namespace, 'link', 'set', 'lo', 'up'])
      await rig.startBroker()
    } catch (error) {
      await rig.remove()
      throw error
    }
    return rig
  }

  get pid(): number {
    const pid = this.#broker?.pid
    if (pid === undefined) throw new Error('the broker does not run')
    return pid
  }

  /** Starts it (again) on the same data and ports; resolves with the milliseconds until it was ready. */
  async startBroker(): Promise<number> {
    const startedAt = performance.now()
    const {
      config,
      heapMib = 256,
      wrapper = [],
      flags = [],
      env = {},
      nodeFlags = []
    } = this.#options
    const words = ['--data', this.dataDir, ...flags, ...LISTEN.flatMap(url => ['--listen', url])]
    if (config !== undefined) {
      writeFileSync(join(this.folder, 'motemq.yaml'), config)
      words.push('--config', join(this.folder, 'motemq.yaml'))
    }
    const node = [
      process.execPath,
      `--max-old-space-size=${heapMib}`,
      '--import',
      PROBE,
      ...nodeFlags
    ]
    const command = [...wrapper, ...node, join(ROOT, 'bin/motemq.js'), 'start', ...words]
    const child = this.spawn([...REALTIME, 'taskset', '-c', BROKER_CORE, ...command], {
      ...env,
      OVERLOAD_PROBE: this.#probeFile
    })
    this.#broker = child
    this.#exited = new Promise(resolve => child.once('close', () => resolve()))
    this.log.length = 0
    const keep = (line: string) => this.log.push(line)
    createInterface({ input: child.stdout! }).on('line', keep)
    createInterface({ input: child.stderr! }).on('line', keep)
    while (!this.log.some(line => line.includes('"ready"'))) {
      const late = performance.now() - startedAt > READY_TIMEOUT_MS
      if (late || child.exitCode !== null || child.signalCode !== null) {
        throw new Error(`the broker did not start:\n${this.log.slice(-20).join('\n')}`)
      }
      await sleep(5)
    }
    return performance.now() - startedAt
  }

  /** `kill -9`, and waits until it is gone. */
  async killBroker(): Promise<void> {
    this.#broker?.kill('SIGKILL')
    await this.#exited
  }

  /** SIGTERM, and waits until it is gone. */
  async stopBroker(): Promise<void> {
    this.#broker?.kill('SIGTERM')
    await this.#exited
  }

  /** Many clients of one kind, connecting at once: see swarm.c. Not on the broker's core. */
  swarm(options: SwarmOptions): Swarm {
    const words = [join(this.folder, 'swarm'), ...swarmWords(options)]
    return new Swarm(this.spawn([...FIRST, 'taskset', '-c', otherCores(), ...words]))
  }

  /**
   * Clients whose latency is measured: each publishes to itself. They run before everything else on their core, so
   * that what they see is the broker's and not the generators' doing.
   */
  witness(options: Partial<SwarmOptions> = {}): Swarm {
    const all = swarmWords({
      clients: 1,
      prefix: 'witness',
      filter: 'witness/%d',
      topic: 'witness/%d',
      rate: 50,
      source: '127.0.0.99',
      ...options
    })
    const first = ['chrt', '-f', REALTIME_PRIORITY, 'taskset', '-c', otherCores()]
    return new Swarm(this.spawn([...first, join(this.folder, 'swarm'), ...all]))
  }

  /** `/metrics`, over the socket in the data folder. */
  async metrics(): Promise<Metrics> {
    const body = await new Promise<string>((resolve, reject) => {
      const options = { socketPath: join(this.dataDir, 'admin.sock'), path: '/metrics' }
      const sent = request(options, response => {
        const chunks: Buffer[] = []
        response.on('data', chunk => chunks.push(chunk))
        response.on('end', () => resolve(Buffer.concat(chunks).toString()))
      })
      sent.on('error', reject)
      sent.end()
    })
    return parseMetrics(body)
  }

  /** Resident memory now, bytes. */
  rss(): number {
    const line = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${this.pid}/status`, 'latin1'))
    return Number(line?.[1] ?? 0) * 1024
  }

  /** Processor time of the broker so far, seconds. */
  cpuSeconds(): number {
    const stat = readFileSync(`/proc/${this.pid}/stat`, 'latin1')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return (Number(fields[11]) + Number(fields[12])) / 100
  }

  /** Forgets what the probe saw so far. */
  resetProbe(): void {
    this.#probeAt = this.#probeLines().length
  }

  /** What the loop and the memory did since `resetProbe`. */
  probe(): ProbeSummary {
    const samples = this.#probeLines()
      .slice(this.#probeAt)
      .map(line => JSON.parse(line) as ProbeSample)
    const most = (pick: (sample: ProbeSample) => number) => Math.max(0, ...samples.map(pick))
    return {
      lagMaxMs: most(sample => sample.lagMs),
      ownLagMaxMs: most(sample => sample.ownLagMs),
      gcMaxMs: most(sample => sample.gcMs),
      rssMax: most(sample => sample.rss),
      samples
    }
  }

  /** Any other program in the namespace. */
  spawn(command: readonly string[], env: Readonly<Record<string, string>> = {}): ChildProcess {
    const inherited = Object.entries(process.env).filter(([name]) => !/^(MOTEMQ|npm)_/.test(name))
    const words = ['netns', 'exec', this.namespace, ...command]
    const child = spawn(findProgram('ip')!, words, {
      cwd: this.folder,
      env: { ...Object.fromEntries(inherited), ...env, NODE_ENV: 'production' },
      stdio: ['pipe', 'pipe', 'pipe']
    })
    // It may end before it reads.
    child.stdin.on('error', () => undefined)
    this.#children.add(child)
    child.once('close', () => this.#children.delete(child))
    return child
  }

  /** Ends everything; takes the namespace and the folder away. */
  async remove(): Promise<void> {
    const gone = [...this.#children].map(
      child => new Promise<void>(resolve => child.once('close', () => resolve()))
    )
    for (const child of this.#children) child.kill('SIGKILL')
    await Promise.all(gone)
    spawnSync(findProgram('ip')!, ['netns', 'del', this.namespace], { stdio: 'ignore' })
    rmSync(this.folder, { recursive: true, force: true })
  }

  #probeLines(): string[] {
    try {
      return readFileSync(this.#probeFile, 'utf8').split('\n').slice(0, -1)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
      throw error
    }
  }
}

/** All cores but the broker's; the broker's too on a machine with one. */
function otherCores(): string {
  const count = availableParallelism()
  return count > 1 ? `1-${count - 1}` : BROKER_CORE
}

function run(program: string, words: readonly string[]): void {
  const found = findProgram(program)
  if (found === null) throw new Error(`${program} is missing`)
  const { status, stderr } = spawnSync(found, words)
  if (status !== 0) throw new Error(`${program} ${words.join(' ')}: ${String(stderr)}`)
}

export function sleep(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms))
}

/** Waits until it is so; throws with `what` when it takes longer. */
export async function until(
  isSo: () => boolean | Promise<boolean>,
  timeoutMs: number,
  what: string
): Promise<void> {
  const startedAt = performance.now()
  while (!(await isSo())) {
    if (performance.now() - startedAt > timeoutMs)
      throw new Error(`${what}: not in ${timeoutMs} ms`)
    await sleep(20)
  }
}

/** One line of a case's table: on standard output, and appended to the file in MOTEMQ_OVERLOAD_TABLE. */
export function tell(id: string, load: string, figures: Readonly<Record<string, unknown>>): void {
  const text = Object.entries(figures).map(([name, value]) => `${name} ${shown(value)}`)
  const line = `| ${id} | ${load} | ${text.join('; ')} |\n`
  process.stdout.write(line)
  const file = process.env['MOTEMQ_OVERLOAD_TABLE']
  if (file !== undefined) appendFileSync(file, line)
}

function shown(value: unknown): string {
  if (typeof value !== 'number' || Number.isInteger(value)) return String(value)
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3)
}
