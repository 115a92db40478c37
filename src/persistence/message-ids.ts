/**
 * The packet identifiers that Aedes gave to what waits in one client's queue: by sequence, and back. Four bytes
 * an entry, in windows of 1,024: a client that never acknowledges is given identifiers for all that waits.
 * An identifier may stand for several entries: then the oldest is meant.
 */
const WINDOW = 1024

export class MessageIds {
  /** Identifier + 1 by sequence; 0: none. */
  readonly #windows = new Map<number, Uint32Array>()
  readonly #live = new Map<number, number>()
  readonly #oldest = new Map<number, number>()
  /** How many entries beside the oldest have this identifier. */
  readonly #others = new Map<number, number>()

  get size(): number {
    let size = 0
    for (const live of this.#live.values()) size += live
    return size
  }

  /** The identifier of an entry; undefined: none was given. */
  get(sequence: number): number | undefined {
    const value = this.#windows.get(Math.floor(sequence / WINDOW))?.[sequence % WINDOW] ?? 0
    return value === 0 ? undefined : value - 1
  }

  /** The oldest entry with this identifier, or 0. */
  oldest(messageId: number): number {
    return this.#oldest.get(messageId) ?? 0
  }

  set(sequence: number, messageId: number): void {
    this.delete(sequence)
    const at = Math.floor(sequence / WINDOW)
    let window = this.#windows.get(at)
    if (window === undefined) {
      window = new Uint32Array(WINDOW)
      this.#windows.set(at, window)
    }
    window[sequence % WINDOW] = messageId + 1
    this.#live.set(at, (this.#live.get(at) ?? 0) + 1)
    const oldest = this.#oldest.get(messageId)
    if (oldest === undefined || sequence < oldest) this.#oldest.set(messageId, sequence)
    if (oldest !== undefined) this.#others.set(messageId, (this.#others.get(messageId) ?? 0) + 1)
  }

  delete(sequence: number): void {
    const messageId = this.get(sequence)
    if (messageId === undefined) return
    const at = Math.floor(sequence / WINDOW)
    this.#windows.get(at)![sequence % WINDOW] = 0
    const live = this.#live.get(at)! - 1
    if (live > 0) this.#live.set(at, live)
    else {
      this.#live.delete(at)
      this.#windows.delete(at)
    }
    const others = this.#others.get(messageId) ?? 0
    if (others === 0) {
      this.#oldest.delete(messageId)
      return
    }
    if (others === 1) this.#others.delete(messageId)
    else this.#others.set(messageId, others - 1)
    if (this.#oldest.get(messageId) === sequence) {
      this.#oldest.set(messageId, this.#behind(sequence, messageId))
    }
  }

  /** The next entry with this identifier; there is one. */
  #behind(sequence: number, messageId: number): number {
    const from = Math.floor(sequence / WINDOW)
    for (const at of [...this.#windows.keys()].sort((a, b) => a - b)) {
      if (at < from) continue
      const found = this.#windows.get(at)!.indexOf(messageId + 1)
      if (found >= 0) return at * WINDOW + found
    }
    return 0
  }

  /** Pairs of sequence and identifier, in the windows that there were at the call. */
  *entries(): Generator<[number, number][], void, void> {
    for (const at of [...this.#windows.keys()]) {
      const window = this.#windows.get(at)
      if (window === undefined) continue
      const pairs: [number, number][] = []
      for (let i = 0; i < WINDOW; i++) {
        if (window[i] !== 0) pairs.push([at * WINDOW + i, window[i]! - 1])
      }
      yield pairs
    }
  }
}
