/**
 * Asks the broker every few milliseconds whether it is there, and tells the history when the answer took long: a
 * process that the machine did not let run can keep no promise of milliseconds, and only that excuses it. A sync that
 * takes long is no excuse: the broker answers meanwhile.
 */
import type { History } from './history.ts'
import { RawClient } from './raw-client.ts'

const EVERY_MS = 5
/** An answer as late as this says nothing. */
const USUAL_MS = 5

export class Witness {
  readonly #history: History
  readonly #client = new RawClient({ clientId: 'witness', version: 4, clean: true })
  /** When the ping that is not answered yet was sent, milliseconds; null: none is under way. */
  #askedAt: number | null = null
  #isAsking = false

  constructor(history: History) {
    this.#history = history
  }

  async connect(port: number): Promise<void> {
    await this.#client.connect(port)
    if (!this.#isAsking) void this.#ask()
  }

  /** The moment of a kill: an answer that is overdue counts so far. */
  note(): void {
    if (this.#askedAt === null) return
    const value = performance.now() - this.#askedAt - USUAL_MS
    this.#askedAt = null
    if (value > 0) this.#history.record({ f: 'pause', type: 'info', proc: 'broker', value })
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
