/**
 * Asks the broker every few milliseconds whether it is there, and tells the history how long it could not run: a process
 * that the machine does not let run can keep no promise of milliseconds, and only that excuses it. A sync that takes
 * long is no excuse: the broker answers meanwhile, and no thread of it waits for a processor.
 */
import { readdirSync, readFileSync } from 'node:fs'
import type { History } from './history.ts'
import { RawClient } from './raw-client.ts'

const EVERY_MS = 10
/** An answer as late as this says nothing. */
const USUAL_MS = 5

const POOL_THREADS = 4

/**
 * How long the main thread of a process and the one of its pool that waited longest have waited for a processor,
 * milliseconds: what a write goes through, one after the other. The threads of the pool are those made last.
 * 0 where the system does not say.
 */
function processorWaitMs(pid: number): number {
  const waitNs = (thread: number) =>
    Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[1])
  try {
    const threads = readdirSync(`/proc/${pid}/task`).map(Number)
    const pool = threads.sort((a, b) => a - b).slice(-POOL_THREADS)
    return (waitNs(pid) + Math.max(...pool.map(waitNs))) / 1e6
  } catch {
    return 0 // not Linux, or a thread has just ended
  }
}

export class Witness {
  /** The broker's process, if its threads may be looked at. */
  pid = 0
  readonly #history: History
  readonly #client = new RawClient({ clientId: 'witness', version: 4, clean: true })
  /** When the ping that is not answered yet was sent, milliseconds; null: none is under way. */
  #askedAt: number | null = null
  #isAsking = false
  #notedAt = 0
  #waitedMs = 0

  constructor(history: History) {
    this.#history = history
  }

  async connect(port: number): Promise<void> {
    await this.#client.connect(port)
    this.#notedAt = performance.now()
    this.#waitedMs = processorWaitMs(this.pid)
    if (!this.#isAsking) void this.#ask()
  }

  /** Tells how much of the time since the last note the broker could not run; also in the moment of a kill. */
  note(): void {
    const now = performance.now()
    const unanswered = this.#askedAt === null ? 0 : now - this.#askedAt - USUAL_MS
    const waitedMs = processorWaitMs(this.pid)
    const value = Math.min(now - this.#notedAt, Math.max(unanswered, waitedMs - this.#waitedMs))
    this.#askedAt = null
    this.#notedAt = now
    this.#waitedMs = waitedMs
    if (value > 1) this.#history.record({ f: 'pause', type: 'info', proc: 'broker', value })
  }

  destroy(): void {
    this.#client.destroy()
  }

  async end(): Promise<void> {
    await this.#client.end()
  }

  async #ask(): Promise<void> {
    this.#isAsking = true
    while (this.#client.isConnected) {
      this.#askedAt = performance.now()
      await this.#client.pong()
      if (this.#client.isConnected) this.note()
      await new Promise(resolve => setTimeout(resolve, EVERY_MS))
    }
    this.#isAsking = false
  }
}
