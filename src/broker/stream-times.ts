/** When the messages came that wait for a stream's files: marks at most every tenth of a second. */

const MARK_MS = 100

interface Mark {
  readonly sequence: number
  readonly wallTime: number
  readonly storeTime: number
}

export class StreamTimes {
  /** In their order; messages from a mark on came when it says, until the next one. */
  #marks: Mark[] = []

  /** A message has come; `wallTime` is asked only when it counts. */
  note(sequence: number, storeTime: number, wallTime: () => number): void {
    const newest = this.#marks.at(-1)
    if (newest !== undefined && storeTime - newest.storeTime < MARK_MS) return
    this.#marks.push({ sequence, wallTime: wallTime(), storeTime })
  }

  /** The mark of a message; null: it came before all of them. */
  of(sequence: number): Mark | null {
    let found: Mark | null = null
    for (const mark of this.#marks) {
      if (mark.sequence > sequence) break
      found = mark
    }
    return found
  }

  /** The first message that may have come at this wall time or later; null: they are older, or all newer. */
  at(wallTime: number): number | null {
    let found: number | null = null
    for (const mark of this.#marks) {
      if (mark.wallTime > wallTime) break
      found = mark.sequence
    }
    return found
  }

  get newestWallTime(): number {
    return this.#marks.at(-1)?.wallTime ?? 0
  }

  /** What came up to this one has left. */
  forget(sequence: number): void {
    const marks = this.#marks
    let count = 0
    while (count + 1 < marks.length && marks[count + 1]!.sequence <= sequence + 1) count++
    if (count > 0) this.#marks = marks.slice(count)
  }
}
