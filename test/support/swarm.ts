/** A running swarm.c: its options, its commands and what it reports. */
import type { ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'

const REPORT_TIMEOUT_MS = 60_000

export interface SwarmOptions {
  readonly clients: number
  /** Number of the first client: topics, filters and client ids count from here. */
  readonly first?: number
  readonly host?: string
  readonly port?: number
  /** Client ids begin with it. */
  readonly prefix?: string
  /** Source address: each has 28,000 ports. */
  readonly source?: string
  /** Connections a second; 0: all at once. */
  readonly connectRate?: number
  readonly keepaliveSeconds?: number
  /** Default true. */
  readonly clean?: boolean
  /** A client that is refused or cut off comes back. */
  readonly retry?: boolean
  /** `%d` is the client's number. */
  readonly filter?: string
  readonly subscriptionQos?: 0 | 1
  readonly topic?: string
  readonly qos?: 0 | 1
  /** Messages a second and client, after `publish()`. */
  readonly rate?: number
  readonly payloadBytes?: number
  /** Most unacknowledged messages of a client. */
  readonly window?: number
}

export interface Latency {
  readonly count: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly maxMs: number
}

export interface SwarmReport {
  /** Connected, and subscribed if there is a filter. */
  readonly up: number
  /** How often a client came up. */
  readonly everUp: number
  /** CONNACKs with and without session present. */
  readonly present: number
  readonly absent: number
  /** From the swarm's start to the last client that came up. */
  readonly lastUpMs: number
  readonly refused: number
  /** Connections that ended unasked. */
  readonly cut: number
  readonly sent: number
  readonly acked: number
  readonly inFlight: number
  /** Turns to publish that a client with a full window lost. */
  readonly skipped: number
  readonly received: number
  /** Of the client that received least, and most. */
  readonly leastReceived: number
  readonly mostReceived: number
  /** Of a swarm of one client that receives everything: by publisher and sequence. */
  readonly duplicates: number
  readonly gaps: number
  readonly foreign: number
  readonly connect: Latency
  readonly delivery: Latency
  readonly ack: Latency
}

/** By publisher: how many of its messages are acknowledged, or the sequence that the one receiver expects next. */
export interface Levels {
  readonly acked: readonly number[]
  readonly next: readonly number[]
}

export function swarmWords(options: SwarmOptions): string[] {
  const { clean = true, retry = false } = options
  const flags: [string, string | number | undefined][] = [
    ['n', options.clients],
    ['i', options.first],
    ['h', options.host],
    ['P', options.port],
    ['p', options.prefix],
    ['s', options.source],
    ['r', options.connectRate],
    ['k', options.keepaliveSeconds],
    ['C', clean ? 1 : 0],
    ['A', retry ? 1 : 0],
    ['f', options.filter],
    ['g', options.subscriptionQos],
    ['t', options.topic],
    ['q', options.qos],
    ['R', options.rate],
    ['b', options.payloadBytes],
    ['W', options.window]
  ]
  return flags.flatMap(([flag, value]) => (value === undefined ? [] : [`-${flag}`, String(value)]))
}

export class Swarm {
  readonly child: ChildProcess
  #stderr = ''
  readonly #waiting: ((answer: unknown) => void)[] = []

  constructor(child: ChildProcess) {
    this.child = child
    child.stderr!.on('data', chunk => {
      this.#stderr += String(chunk)
    })
    createInterface({ input: child.stdout! }).on('line', line => {
      this.#waiting.shift()?.(JSON.parse(line))
    })
  }

  /** Resolves when so many are up. */
  async up(count: number, timeoutMs: number): Promise<SwarmReport> {
    const startedAt = performance.now()
    for (;;) {
      const report = await this.report()
      if (report.up >= count) return report
      if (performance.now() - startedAt > timeoutMs) {
        throw new Error(
          `${report.up} of ${count} up after ${timeoutMs} ms: ${JSON.stringify(report)}`
        )
      }
      await new Promise(resolve => setTimeout(resolve, 50))
    }
  }

  publish(): void {
    this.#say('publish')
  }

  pause(): void {
    this.#say('pause')
  }

  /** Counters and latencies begin anew. */
  reset(): void {
    this.#say('reset')
  }

  async report(): Promise<SwarmReport> {
    return (await this.#ask('report')) as SwarmReport
  }

  /** Unlike a report's, these are not reset. */
  async levels(): Promise<Levels> {
    return (await this.#ask('levels')) as Levels
  }

  /** Publishes for so long, waits for the last acknowledgements and deliveries, and reports. */
  async publishFor(ms: number, settleMs = 1_000): Promise<SwarmReport> {
    this.publish()
    await new Promise(resolve => setTimeout(resolve, ms))
    this.pause()
    await new Promise(resolve => setTimeout(resolve, settleMs))
    return this.report()
  }

  /** A DISCONNECT each, and the end. */
  async end(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return
    const gone = new Promise<void>(resolve => this.child.once('close', () => resolve()))
    this.#say('end')
    await gone
  }

  #ask(command: string): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const fail = () => reject(new Error(`the swarm ended or hangs: ${this.#stderr}`))
      const timer = setTimeout(fail, REPORT_TIMEOUT_MS)
      this.child.once('close', fail)
      this.#waiting.push(answer => {
        clearTimeout(timer)
        this.child.off('close', fail)
        resolve(answer)
      })
      this.#say(command)
    })
  }

  #say(command: string): void {
    this.child.stdin!.write(`${command}\n`)
  }
}
