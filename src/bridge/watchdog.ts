/**
 * Watches for progress, not for signs of life: a far side that answers heartbeats and confirms nothing is as dead as
 * one that is gone. It looks at a count that only progress raises, and asks nothing of the link or its library.
 */
export class Watchdog {
  readonly #limitMs: number
  #progress: number
  #sinceMs: number

  constructor(limitMs: number, nowMs: number) {
    this.#limitMs = limitMs
    this.#progress = 0
    this.#sinceMs = nowMs
  }

  /** True: something waits, and nothing has moved for the whole limit. */
  isStalled(isWaiting: boolean, progress: number, nowMs: number): boolean {
    if (!isWaiting || progress !== this.#progress) {
      this.#progress = progress
      this.#sinceMs = nowMs
      return false
    }
    return nowMs - this.#sinceMs >= this.#limitMs
  }
}
