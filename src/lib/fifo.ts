/** First in, first out, of any length: an array's own `shift` moves all that is behind once there are very many. */

/** Taken places that are left at the front before the rest is moved up. */
const GAP_MAX = 1_024

export class Fifo<T> {
  #items: T[]
  /** Where the first one stands. */
  #first: number

  constructor() {
    this.#items = []
    this.#first = 0
  }

  get size(): number {
    return this.#items.length - this.#first
  }

  push(item: T): void {
    this.#items.push(item)
  }

  /** The first one, which stays; undefined when there is none. */
  peek(): T | undefined {
    return this.#items[this.#first]
  }

  /** Takes the first one out; undefined when there is none. */
  shift(): T | undefined {
    if (this.size === 0) return undefined
    const item = this.#items[this.#first++]
    if (this.#first === this.#items.length) this.clear()
    // Moved once for as many as were taken: what a place costs does not grow with their number.
    else if (this.#first > GAP_MAX && this.#first * 2 > this.#items.length) {
      this.#items = this.#items.slice(this.#first)
      this.#first = 0
    }
    return item
  }

  clear(): void {
    this.#items = []
    this.#first = 0
  }
}
