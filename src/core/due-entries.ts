/**
 * Entries ordered by the store time at which each is due, then by its sequence: 32 bytes each, in leaves of at
 * most 512 entries. What is due is taken at the front; an entry is named by due time and sequence, and a binary
 * search over the leaves, then in one, finds it.
 *
 * Pure, as a queue is: the entry that a method found stands in the fields.
 */
const LEAF_ENTRIES = 512
const FIRST_LEAF_ENTRIES = 8
/** Larger leaves grow by so many: at random they would else be a third empty. */
const GROWTH_ENTRIES = 64
/** Due time, sequence. */
const KEYS = 2
/** Segment, offset, payload bytes, flags. */
const WORDS = 4

class Leaf {
  keys: Float64Array
  words: Uint32Array
  /** Entries [from, to) are there. */
  from: number
  to: number

  constructor(entries: number) {
    this.keys = new Float64Array(entries * KEYS)
    this.words = new Uint32Array(entries * WORDS)
    this.from = 0
    this.to = 0
  }

  get room(): number {
    return this.keys.length / KEYS
  }

  /** Moves entries [first, last) to `at`, in this leaf or another. */
  copy(first: number, last: number, to: Leaf, at: number): void {
    if (to === this) {
      this.keys.copyWithin(at * KEYS, first * KEYS, last * KEYS)
      this.words.copyWithin(at * WORDS, first * WORDS, last * WORDS)
      return
    }
    to.keys.set(this.keys.subarray(first * KEYS, last * KEYS), at * KEYS)
    to.words.set(this.words.subarray(first * WORDS, last * WORDS), at * WORDS)
  }

  resize(entries: number): void {
    const { keys, words, from, to } = this
    this.keys = new Float64Array(entries * KEYS)
    this.words = new Uint32Array(entries * WORDS)
    this.keys.set(keys.subarray(from * KEYS, to * KEYS))
    this.words.set(words.subarray(from * WORDS, to * WORDS))
    this.to = to - from
    this.from = 0
  }
}

export class DueEntries {
  nextSequence: number
  count: number
  /** Payload bytes of all of them. */
  bytes: number
  /** The entry that was found last. */
  dueAt: number
  sequence: number
  segment: number
  offset: number
  payloadBytes: number
  flags: number
  readonly #leaves: Leaf[]
  /** Where it was found. */
  #leafAt: number
  #at: number

  constructor() {
    this.nextSequence = 1
    this.count = 0
    this.bytes = 0
    this.dueAt = 0
    this.sequence = 0
    this.segment = 0
    this.offset = 0
    this.payloadBytes = 0
    this.flags = 0
    this.#leaves = []
    this.#leafAt = 0
    this.#at = 0
  }

  /** The store time at which the first is due, Infinity when there is none. */
  get next(): number {
    const leaf = this.#leaves[0]
    return leaf === undefined ? Number.POSITIVE_INFINITY : leaf.keys[leaf.from * KEYS]!
  }

  /** Finds the first; false when there is none. */
  first(): boolean {
    if (this.#leaves.length === 0) return false
    this.#found(0, this.#leaves[0]!.from)
    return true
  }

  /** Finds the first entry behind one of this name, whether that is there or not. */
  after(dueAt: number, sequence: number): boolean {
    if (this.#search(dueAt, sequence)) this.#at++
    const leaf = this.#leaves[this.#leafAt]
    if (leaf === undefined) return false
    if (this.#at < leaf.to) {
      this.#found(this.#leafAt, this.#at)
      return true
    }
    const next = this.#leaves[this.#leafAt + 1]
    if (next === undefined) return false
    this.#found(this.#leafAt + 1, next.from)
    return true
  }

  find(dueAt: number, sequence: number): boolean {
    if (!this.#search(dueAt, sequence)) return false
    this.#found(this.#leafAt, this.#at)
    return true
  }

  /**
   * Puts an entry in its place. One that is there already takes the new position: then it returns false, and the
   * fields hold the old one.
   */
  insert(
    dueAt: number,
    sequence: number,
    segment: number,
    offset: number,
    payloadBytes: number,
    flags: number
  ): boolean {
    if (sequence >= this.nextSequence) this.nextSequence = sequence + 1
    const isThere = this.#search(dueAt, sequence)
    if (isThere) this.#found(this.#leafAt, this.#at)
    else this.#makeRoom()
    const leaf = this.#leaves[this.#leafAt]!
    leaf.keys[this.#at * KEYS] = dueAt
    leaf.keys[this.#at * KEYS + 1] = sequence
    const word = this.#at * WORDS
    leaf.words[word] = segment
    leaf.words[word + 1] = offset
    leaf.words[word + 2] = payloadBytes
    leaf.words[word + 3] = flags
    if (isThere) return false
    this.count++
    this.bytes += payloadBytes
    return true
  }

  /** Takes an entry away, which then stands in the fields. False when it is not there. */
  remove(dueAt: number, sequence: number): boolean {
    if (!this.find(dueAt, sequence)) return false
    const leaf = this.#leaves[this.#leafAt]!
    if (this.#at === leaf.from) leaf.from++
    else {
      leaf.copy(this.#at + 1, leaf.to, leaf, this.#at)
      leaf.to--
    }
    this.count--
    this.bytes -= this.payloadBytes
    if (leaf.from === leaf.to) this.#leaves.splice(this.#leafAt, 1)
    else if (leaf.room > FIRST_LEAF_ENTRIES && (leaf.to - leaf.from) * 4 <= leaf.room) {
      leaf.resize(leaf.room / 2)
    }
    return true
  }

  clear(): void {
    this.#leaves.length = 0
    this.count = 0
    this.bytes = 0
  }

  #found(leafAt: number, at: number): void {
    const leaf = this.#leaves[leafAt]!
    this.#leafAt = leafAt
    this.#at = at
    this.dueAt = leaf.keys[at * KEYS]!
    this.sequence = leaf.keys[at * KEYS + 1]!
    const word = at * WORDS
    this.segment = leaf.words[word]!
    this.offset = leaf.words[word + 1]!
    this.payloadBytes = leaf.words[word + 2]!
    this.flags = leaf.words[word + 3]!
  }

  /** Sets the place of an entry, or where it belongs; in the last leaf that begins before it. */
  #search(dueAt: number, sequence: number): boolean {
    const leaves = this.#leaves
    let low = 0
    let high = leaves.length - 1
    while (low < high) {
      const middle = (low + high + 1) >> 1
      const { keys, from } = leaves[middle]!
      if (isAfter(keys, from * KEYS, dueAt, sequence)) high = middle - 1
      else low = middle
    }
    this.#leafAt = low
    const leaf = leaves[low]
    if (leaf === undefined) {
      this.#at = 0
      return false
    }
    const { keys } = leaf
    let first = leaf.from
    let last = leaf.to
    while (first < last) {
      const middle = (first + last) >> 1
      if (keys[middle * KEYS] === dueAt && keys[middle * KEYS + 1] === sequence) {
        this.#at = middle
        return true
      }
      if (isAfter(keys, middle * KEYS, dueAt, sequence)) last = middle
      else first = middle + 1
    }
    this.#at = first
    return false
  }

  /** Opens a place for one entry where the search ended; `#leafAt` and `#at` say where it is then. */
  #makeRoom(): void {
    const leaves = this.#leaves
    let leaf = leaves[this.#leafAt]
    if (leaf === undefined) {
      leaf = new Leaf(FIRST_LEAF_ENTRIES)
      leaves.push(leaf)
    } else if (leaf.to === leaf.room) {
      if (leaf.from > 0 || leaf.room < LEAF_ENTRIES) {
        const from = leaf.from
        const isTight = (leaf.to - from) * 4 > leaf.room * 3
        leaf.resize(isTight ? grown(leaf.room) : leaf.room)
        this.#at -= from
      } else leaf = this.#split(leaf)
    }
    leaf.copy(this.#at, leaf.to, leaf, this.#at + 1)
    leaf.to++
  }

  /** A full leaf becomes two. What comes in order at the end, as with one delay for all, leaves it full. */
  #split(leaf: Leaf): Leaf {
    const leaves = this.#leaves
    if (this.#at === leaf.to && this.#leafAt === leaves.length - 1) {
      const next = new Leaf(FIRST_LEAF_ENTRIES)
      leaves.push(next)
      this.#leafAt++
      this.#at = 0
      return next
    }
    const middle = LEAF_ENTRIES / 2
    const next = new Leaf(middle + GROWTH_ENTRIES)
    leaf.copy(middle, leaf.to, next, 0)
    next.to = leaf.to - middle
    leaf.to = middle
    leaf.resize(middle + GROWTH_ENTRIES)
    leaves.splice(this.#leafAt + 1, 0, next)
    if (this.#at <= middle) return leaf
    this.#leafAt++
    this.#at -= middle
    return next
  }
}

function grown(entries: number): number {
  return Math.min(LEAF_ENTRIES, entries + Math.min(entries, GROWTH_ENTRIES))
}

/** The entry at `at` comes behind one of this name. */
function isAfter(keys: Float64Array, at: number, dueAt: number, sequence: number): boolean {
  return keys[at]! > dueAt || (keys[at] === dueAt && keys[at + 1]! > sequence)
}
