/**
 * How late the event loop is. A timer of our own, ten times a second, instead of
 * `monitorEventLoopDelay`, which wakes an idle process fifty to a hundred times a second.
 */
const INTERVAL_MS = 100
const SAMPLES = 600

export class LoopLag {
  readonly #samples = new Float64Array(SAMPLES)
  #count = 0
  #next = 0
  #expectedMs = 0
  #timer: NodeJS.Timeout | null = null

  start(): void {
    if (this.#timer !== null) return
    this.#expectedMs = performance.now() + INTERVAL_MS
    this.#timer = setInterval(() => {
      const nowMs = performance.now()
      this.record(nowMs - this.#expectedMs)
      this.#expectedMs = nowMs + INTERVAL_MS
    }, INTERVAL_MS)
    this.#timer.unref()
  }

  /** Takes one sample, in milliseconds; what comes early counts as 0. */
  record(lagMs: number): void {
    this.#samples[this.#next] = lagMs > 0 ? lagMs : 0
    this.#next = (this.#next + 1) % SAMPLES
    if (this.#count < SAMPLES) this.#count++
  }

  /** The lag, in milliseconds, that 99 of 100 samples of the last minute were not above. */
  p99Ms(): number {
    if (this.#count === 0) return 0
    const sorted = this.#samples.slice(0, this.#count).sort()
    return sorted[Math.min(this.#count - 1, Math.ceil(this.#count * 0.99) - 1)]!
  }

  close(): void {
    if (this.#timer !== null) clearInterval(this.#timer)
    this.#timer = null
  }
}
