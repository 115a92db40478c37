/** How long to wait before the next try: twice as long each time, up to a bound, and never the same for all. */

/** Of the full pause at least so much; the rest is chance. */
const SURE_SHARE = 0.5

export class Backoff {
  readonly #minMs: number
  readonly #maxMs: number
  readonly #random: () => number
  #tries: number

  /** `random`: from 0 up to 1. */
  constructor(minMs: number, maxMs: number, random: () => number) {
    this.#minMs = minMs
    this.#maxMs = maxMs
    this.#random = random
    this.#tries = 0
  }

  /** Milliseconds until the next try. There is no last one. */
  next(): number {
    const full = Math.min(this.#maxMs, this.#minMs * 2 ** Math.min(this.#tries, 30))
    this.#tries++
    return Math.round(full * (SURE_SHARE + (1 - SURE_SHARE) * this.#random()))
  }

  /** It went well: the next pause is a short one. */
  reset(): void {
    this.#tries = 0
  }
}
