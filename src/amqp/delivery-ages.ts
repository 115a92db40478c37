/**
 * How old the open deliveries of a channel are, without a time for each: now and then the newest tag is noted with
 * the time. What has a tag up to a note's was delivered by then.
 */
export class DeliveryAges {
  /** Notes, the oldest first; only those that speak of open deliveries. */
  readonly #tags: number[]
  readonly #times: number[]

  constructor() {
    this.#tags = []
    this.#times = []
  }

  /** Notes that exist. */
  get count(): number {
    return this.#tags.length
  }

  /** `oldestTag` is open, `lastTag` the newest of all; at most one note in `stepMs`. */
  note(oldestTag: number, lastTag: number, nowMs: number, stepMs: number): void {
    const tags = this.#tags
    const times = this.#times
    let done = 0
    while (done < tags.length && tags[done]! < oldestTag) done++
    if (done > 0) {
      tags.splice(0, done)
      times.splice(0, done)
    }
    const last = tags.length - 1
    if (last >= 0 && (tags[last] === lastTag || times[last]! > nowMs - stepMs)) return
    tags.push(lastTag)
    times.push(nowMs)
  }

  /** Nothing is open. */
  clear(): void {
    this.#tags.length = 0
    this.#times.length = 0
  }

  /** The newest tag that was delivered at this time or before; 0: none is known to be. */
  tagBefore(timeMs: number): number {
    let tag = 0
    for (let i = 0; i < this.#tags.length && this.#times[i]! <= timeMs; i++) tag = this.#tags[i]!
    return tag
  }
}
