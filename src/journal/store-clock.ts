/**
 * Store time: milliseconds that run with the monotonic clock and go on over restarts. At a start it gains
 * what the wall clock says has passed since the newest batch whose own wall clock was not behind an older
 * one's: never less than nothing, at most 30 days, and nothing at all when the wall clock is before the
 * newest time it ever showed us (a gateway without a clock of its own boots in 1970). Later jumps of the
 * wall clock change nothing.
 */

/** What tells the time; the real one is made in server.ts. */
export interface JournalClock {
  monotonicMs(): number
  wallMs(): number
}

const GAIN_MAX_MS = 30 * 24 * 3600 * 1000

export class StoreClock {
  /** The newest wall time this store ever saw, milliseconds. */
  newestWall = 0
  #clock: JournalClock
  #base = 1
  #startedAt: number
  #lastStoreTime = 0
  /** Store and wall time of the newest batch whose wall clock was not behind what had been seen. */
  #trustedStoreTime = 0
  #trustedWall = 0

  constructor(clock: JournalClock) {
    this.#clock = clock
    this.#startedAt = clock.monotonicMs()
  }

  /** A batch (or superblock) found at a start carries these two; the newest one comes last. */
  seen(storeTime: number, wallTime: number): void {
    if (storeTime > this.#lastStoreTime) this.#lastStoreTime = storeTime
    // A batch of 1970 says nothing of what passes until the clock is right again.
    if (wallTime < this.newestWall) return
    this.newestWall = wallTime
    if (storeTime < this.#trustedStoreTime) return
    this.#trustedStoreTime = storeTime
    this.#trustedWall = wallTime
  }

  /** The start has seen everything: the clock runs from here. */
  start(): void {
    const wall = this.#clock.wallMs()
    let base = this.#lastStoreTime
    if (this.#trustedStoreTime > 0 && wall >= this.newestWall) {
      const passed = Math.min(GAIN_MAX_MS, wall - this.#trustedWall)
      base = Math.max(base, this.#trustedStoreTime + passed)
    }
    this.#base = Math.max(1, base)
    this.#startedAt = this.#clock.monotonicMs()
  }

  now(): number {
    return this.#base + (this.#clock.monotonicMs() - this.#startedAt)
  }

  wall(): number {
    const wall = this.#clock.wallMs()
    if (wall > this.newestWall) this.newestWall = wall
    return wall
  }
}
