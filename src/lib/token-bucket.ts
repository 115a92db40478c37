/**
 * A token bucket: `perSecond` tokens come back each second, at most `burst` are kept. The time is
 * handed in (milliseconds of any clock that never runs backwards), so that tests own it.
 */
export class TokenBucket {
  readonly perSecond: number
  readonly burst: number
  #tokens: number
  #lastMs: number

  constructor(perSecond: number, burst: number, nowMs: number) {
    this.perSecond = perSecond
    this.burst = burst
    this.#tokens = burst
    this.#lastMs = nowMs
  }

  /** Takes one token; false when there is none. */
  take(nowMs: number): boolean {
    this.#refill(nowMs)
    if (this.#tokens < 1) return false
    this.#tokens -= 1
    return true
  }

  /** Milliseconds until a token is there; 0 when one is. */
  waitMs(nowMs: number): number {
    this.#refill(nowMs)
    return this.#tokens >= 1 ? 0 : Math.ceil(((1 - this.#tokens) * 1000) / this.perSecond)
  }

  #refill(nowMs: number): void {
    if (nowMs <= this.#lastMs) return
    this.#tokens = Math.min(
      this.burst,
      this.#tokens + ((nowMs - this.#lastMs) * this.perSecond) / 1000
    )
    this.#lastMs = nowMs
  }
}
