/**
 * The open deliveries of one channel, by delivery tag: 20 bytes each in a ring of typed arrays, in the order
 * of their tags. A delivery that is settled out of order leaves a hole; holes are closed when the ring
 * would have to grow, so that one delivery that stays open for ever does not hold the others' places.
 */

/** In `holders`: settled out of order. */
const HOLE = 0xffffffff
const FIRST_CAPACITY = 16

export class Unacked {
  /** Open deliveries. */
  count: number
  /** Sequence and holder of the entry that `find` or `removeFirst` met. */
  sequence: number
  holder: number
  private tags: Float64Array
  private sequences: Float64Array
  /** Index of whoever took it: a consumer of the channel, or its basic.get of a queue. */
  private holders: Uint32Array
  private head: number
  /** Entries from `head` on, holes included. */
  private used: number

  constructor() {
    this.count = 0
    this.sequence = 0
    this.holder = 0
    this.tags = new Float64Array(FIRST_CAPACITY)
    this.sequences = new Float64Array(FIRST_CAPACITY)
    this.holders = new Uint32Array(FIRST_CAPACITY)
    this.head = 0
    this.used = 0
  }

  /** Deliveries that it holds room for, 20 bytes each. */
  get capacity(): number {
    return this.tags.length
  }

  /** The tag of the oldest one; 0 when nothing is open. */
  get oldestTag(): number {
    return this.used === 0 ? 0 : this.tags[this.head]!
  }

  /** The oldest of one holder; 0 when it has none. */
  oldestTagOf(holder: number): number {
    const mask = this.tags.length - 1
    for (let i = 0; i < this.used; i++) {
      const at = (this.head + i) & mask
      if (this.holders[at] === holder) return this.tags[at]!
    }
    return 0
  }

  /** Tags must rise. */
  push(tag: number, sequence: number, holder: number): void {
    if (this.used === this.tags.length) this.makeRoom()
    const at = (this.head + this.used) & (this.tags.length - 1)
    this.tags[at] = tag
    this.sequences[at] = sequence
    this.holders[at] = holder
    this.used++
    this.count++
  }

  /** Whether a delivery with this tag is open. */
  has(tag: number): boolean {
    return this.indexOf(tag) >= 0
  }

  /** Who took the delivery with this tag; -1: none is open. */
  holderOf(tag: number): number {
    const index = this.indexOf(tag)
    return index < 0 ? -1 : this.holders[(this.head + index) & (this.tags.length - 1)]!
  }

  /** Takes the delivery with this tag out and sets its fields; false when none is open. */
  remove(tag: number): boolean {
    const index = this.indexOf(tag)
    if (index < 0) return false
    const at = (this.head + index) & (this.tags.length - 1)
    this.sequence = this.sequences[at]!
    this.holder = this.holders[at]!
    this.holders[at] = HOLE
    this.count--
    if (index === 0) this.skipHoles()
    return true
  }

  /** Takes the oldest out if its tag is at most `tagMax`; false when there is none. */
  removeFirst(tagMax: number): boolean {
    if (this.used === 0 || this.tags[this.head]! > tagMax) return false
    this.sequence = this.sequences[this.head]!
    this.holder = this.holders[this.head]!
    this.holders[this.head] = HOLE
    this.count--
    this.skipHoles()
    return true
  }

  /** Puts back what was taken out, each with its old tag, in its old place. */
  restore(tags: readonly number[], sequences: readonly number[], holders: readonly number[]): void {
    if (tags.length === 0) return
    const entries = tags.map((tag, i) => ({ tag, sequence: sequences[i]!, holder: holders[i]! }))
    while (this.used > 0) {
      const tag = this.oldestTag
      this.removeFirst(tag)
      entries.push({ tag, sequence: this.sequence, holder: this.holder })
    }
    entries.sort((a, b) => a.tag - b.tag)
    for (const { tag, sequence, holder } of entries) this.push(tag, sequence, holder)
  }

  /** Position behind the head; -1 when there is none or it is a hole. */
  private indexOf(tag: number): number {
    if (this.used === 0) return -1
    const mask = this.tags.length - 1
    // Without holes closed in between, the place follows from the tag.
    const guess = tag - this.tags[this.head]!
    let index = -1
    if (guess < 0) return -1
    if (guess < this.used && this.tags[(this.head + guess) & mask] === tag) index = guess
    else {
      let low = 0
      let high = this.used - 1
      while (low <= high) {
        const middle = (low + high) >> 1
        const found = this.tags[(this.head + middle) & mask]!
        if (found === tag) {
          index = middle
          break
        }
        if (found < tag) low = middle + 1
        else high = middle - 1
      }
    }
    if (index < 0 || this.holders[(this.head + index) & mask] === HOLE) return -1
    return index
  }

  private skipHoles(): void {
    const mask = this.tags.length - 1
    while (this.used > 0 && this.holders[this.head] === HOLE) {
      this.head = (this.head + 1) & mask
      this.used--
    }
  }

  /** Closes the holes; grows when there are few. */
  private makeRoom(): void {
    const old = this.tags.length
    const capacity = this.count > old >> 1 ? old * 2 : old
    const tags = new Float64Array(capacity)
    const sequences = new Float64Array(capacity)
    const holders = new Uint32Array(capacity)
    let count = 0
    for (let i = 0; i < this.used; i++) {
      const at = (this.head + i) & (old - 1)
      if (this.holders[at] === HOLE) continue
      tags[count] = this.tags[at]!
      sequences[count] = this.sequences[at]!
      holders[count] = this.holders[at]!
      count++
    }
    this.tags = tags
    this.sequences = sequences
    this.holders = holders
    this.head = 0
    this.used = count
  }
}
