/**
 * The built program as a child process: started with its public flags, ready when it says so, killed, stopped and
 * started again on the same data and the same ports. When it dies unasked, whoever waits for it fails with what it
 * said last. `MOTEMQ_PROGRAM` names another program to run in its place.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const BINARY =
  process.env['MOTEMQ_PROGRAM'] ?? fileURLToPath(new URL('../../bin/motemq.js', import.meta.url))
const READY_TIMEOUT_MS = 30_000
const STOP_TIMEOUT_MS = 20_000
const LINES_KEPT = 2_000
const ALL_LISTENERS = ['mqtt://127.0.0.1:0', 'amqp://127.0.0.1:0', 'http://127.0.0.1:0']

export interface ProgramOptions {
  /** Default: a new folder, removed by `remove()`. */
  readonly dataDir?: string
  readonly listen?: readonly string[]
  /** More flags of `start`. */
  readonly flags?: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  /** In place of this Node and the program built here. */
  readonly command?: readonly string[]
  readonly cwd?: string
  /** For processors that are slow. */
  readonly readyTimeoutMs?: number
}

export type LogLine = Readonly<Record<string, unknown>>

export interface Exit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

export class Program {
  readonly dataDir: string
  /** The real URLs; after a restart the same ones. */
  urls: string[] = []
  /** JSON lines of the running process. */
  logs: LogLine[] = []
  readonly #options: ProgramOptions
  #child: ChildProcess | null = null
  #exited: Promise<Exit> = Promise.resolve({ code: null, signal: null })
  #output: string[] = []
  #expectsExit = true

  private constructor(options: ProgramOptions) {
    this.#options = options
    this.dataDir = options.dataDir ?? mkdtempSync(join(tmpdir(), 'motemq-test-'))
  }

  /** Starts it and waits until it is ready. */
  static async start(options: ProgramOptions = {}): Promise<Program> {
    const program = new Program(options)
    await program.restart()
    return program
  }

  get pid(): number {
    const pid = this.#child?.pid
    if (pid === undefined) throw new Error('the program does not run')
    return pid
  }

  get isRunning(): boolean {
    const child = this.#child
    return child !== null && child.exitCode === null && child.signalCode === null
  }

  /** What it said, newest last. */
  get output(): string {
    return this.#output.slice(-60).join('\n')
  }

  /** The URL of the first listener with this scheme. */
  url(scheme: string): URL {
    const url = this.urls.find(candidate => candidate.startsWith(`${scheme}:`))
    if (url === undefined) throw new Error(`no ${scheme} listener among ${this.urls.join(', ')}`)
    return new URL(url)
  }

  port(scheme: string): number {
    return Number(this.url(scheme).port)
  }

  /** Starts it again, on the same folder and ports, and waits until it is ready. */
  async restart(): Promise<void> {
    this.spawn()
    await this.ready()
  }

  /** Starts it and does not wait: for kills while it starts. */
  spawn(): void {
    if (this.isRunning) throw new Error('the program runs already')
    const listen = this.urls.length > 0 ? this.urls : (this.#options.listen ?? ALL_LISTENERS)
    const [command = '', ...args] = this.#options.command ?? [process.execPath, BINARY]
    args.push('start', '--data', this.dataDir)
    for (const url of listen) args.push('--listen', url)
    const child = spawn(command, [...args, ...(this.#options.flags ?? [])], {
      cwd: this.#options.cwd,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...this.#options.env, NODE_ENV: 'production' }
    })
    this.#child = child
    this.#expectsExit = false
    this.logs = []
    this.#output = []
    this.#exited = new Promise(resolve => {
      child.on('error', error => this.#output.push(String(error)))
      child.on('close', (code, signal) => resolve({ code, signal }))
    })
    for (const stream of [child.stdout, child.stderr]) {
      if (stream !== null) createInterface({ input: stream }).on('line', line => this.#keep(line))
    }
  }

  /** Resolves when it says that it is ready. Rejects when it dies before, with its output. */
  async ready(): Promise<void> {
    const timeoutMs = this.#options.readyTimeoutMs ?? READY_TIMEOUT_MS
    const ready = await this.waitForLog(line => line['msg'] === 'ready', timeoutMs)
    const urls = ready['urls']
    if (!Array.isArray(urls)) throw new Error(`ready without urls: ${JSON.stringify(ready)}`)
    this.urls = urls.map(String)
  }

  /** Resolves with the first log line, old or new, that satisfies `matches`. */
  async waitForLog(matches: (line: LogLine) => boolean, timeoutMs = 10_000): Promise<LogLine> {
    const deadline = Date.now() + timeoutMs
    for (;;) {
      const found = this.logs.find(matches)
      if (found !== undefined) return found
      this.assertAlive()
      if (Date.now() > deadline)
        throw new Error(`no such log line in ${timeoutMs} ms:\n${this.output}`)
      await new Promise(resolve => setTimeout(resolve, 5))
    }
  }

  /** Throws, with its output, when it died and nobody had asked for it. */
  assertAlive(): void {
    if (this.isRunning || this.#expectsExit) return
    const child = this.#child
    const how = child === null ? 'never started' : `exit ${child.exitCode ?? child.signalCode}`
    throw new Error(`the program died early (${how}):\n${this.output}`)
  }

  /** `kill -9`, and waits until it is gone. */
  async kill(): Promise<void> {
    this.#expectsExit = true
    this.#child?.kill('SIGKILL')
    await this.#exited
  }

  /** SIGTERM. Rejects when it does not end, or not with 0. */
  async stop(): Promise<void> {
    if (!this.isRunning) return this.assertAlive()
    this.#expectsExit = true
    this.#child?.kill('SIGTERM')
    const timer = setTimeout(() => this.#child?.kill('SIGKILL'), STOP_TIMEOUT_MS)
    const { code, signal } = await this.#exited
    clearTimeout(timer)
    if (code !== 0) throw new Error(`SIGTERM ended it with ${code ?? signal}:\n${this.output}`)
  }

  /** Its exit, however it comes. */
  async exit(): Promise<Exit> {
    this.#expectsExit = true
    return await this.#exited
  }

  /** Ends it if it runs, without judging how, and removes a folder of its own. */
  async remove(): Promise<void> {
    await this.kill()
    if (this.#options.dataDir === undefined) rmSync(this.dataDir, { recursive: true, force: true })
  }

  #keep(line: string): void {
    this.#output.push(line)
    if (this.#output.length > LINES_KEPT) this.#output.splice(0, LINES_KEPT / 2)
    if (!line.startsWith('{')) return
    try {
      this.logs.push(JSON.parse(line) as LogLine)
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error
    }
    if (this.logs.length > LINES_KEPT) this.logs.splice(0, LINES_KEPT / 2)
  }
}
