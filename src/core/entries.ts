/**
 * The entries of a queue by their sequence: chunks in order, none overlapping another. Finding is all
 * that happens here; what an entry means to its queue stands in queue.ts.
 */
import { Chunk, coldState, FIRST_CHUNK_ENTRIES, WORDS, windowEnd } from './chunk.ts'
import { ENTRY_STATE, SETTLED } from './queue-entry.ts'

/** Nothing is there. */
export const NOTHING = -1

export const NO_CHUNK = new Chunk(-1, 0)

/** Fields stand in the order of their use: a message to one of very many queues touches few lines of memory. */
export class Entries {
  /** The last chunk; NO_CHUNK when there is none. */
  protected tail: Chunk
  nextSequence: number
  /** Entries in memory, for the bound over all queues. */
  hotEntries: number
  readyCount: number
  /** Payload bytes of the ready messages. */
  readyBytes: number
  /** Entry read by `find`, and by the queue's `next` and `settle`. */
  segment: number
  offset: number
  bytes: number
  flags: number
  chunks: Chunk[]
  /** Where `find` found the last entry. */
  protected found: Chunk
  protected foundIndex: number

  constructor() {
    this.tail = NO_CHUNK
    this.nextSequence = 1
    this.hotEntries = 0
    this.readyCount = 0
    this.readyBytes = 0
    this.segment = 0
    this.offset = 0
    this.bytes = 0
    this.flags = 0
    this.chunks = []
    this.found = NO_CHUNK
    this.foundIndex = 0
  }

  /** The chunk in which `sequence` has or gets its place. */
  protected place(sequence: number): Chunk {
    const chunks = this.chunks
    let at = chunks.length
    while (at > 0 && chunks[at - 1]!.start > sequence) at--
    if (at > 0) {
      const before = chunks[at - 1]!
      const end = before.start + before.count
      if (sequence < end) return before
      // An empty queue's only chunk starts over, so a queue that never fills needs one small array.
      if (before.live === 0 && chunks.length === 1 && before.words !== null) {
        before.words.fill(0, 0, before.count * WORDS)
        this.hotEntries -= before.count
        before.start = sequence
        before.count = 0
        return before
      }
      const next = at < chunks.length ? chunks[at]!.start : Number.MAX_SAFE_INTEGER
      const isNear = sequence - end < 16 && sequence < next
      if (before.words !== null && isNear && sequence < windowEnd(before)) return before
    }
    const entries = chunks.length === 0 ? FIRST_CHUNK_ENTRIES : 64
    this.found = NO_CHUNK
    const chunk = new Chunk(sequence, entries)
    // Nearly all queues have one: an array that was pushed to would hold room for 17.
    if (chunks.length === 0) this.chunks = [chunk]
    else chunks.splice(at, 0, chunk)
    this.setTail()
    return chunk
  }

  /** After every change of `chunks`. */
  protected setTail(): void {
    const { chunks } = this
    this.tail = chunks.length === 0 ? NO_CHUNK : chunks[chunks.length - 1]!
  }

  /** Finds an entry that is in memory and not settled, and sets the entry fields. */
  find(sequence: number): boolean {
    const chunk = this.chunkOf(sequence)
    if (chunk === null || chunk.words === null) return false
    const at = (sequence - chunk.start) * WORDS
    const flags = chunk.words[at + 3]!
    if ((flags & ENTRY_STATE) === SETTLED) return false
    this.segment = chunk.words[at]!
    this.offset = chunk.words[at + 1]!
    this.bytes = chunk.words[at + 2]!
    this.flags = flags
    this.found = chunk
    this.foundIndex = at
    return true
  }

  /** The state of an entry; SETTLED also for one that never was. Cold entries are READY. */
  stateOf(sequence: number): number {
    const chunk = this.chunkOf(sequence)
    if (chunk === null) return SETTLED
    if (chunk.words !== null)
      return chunk.words[(sequence - chunk.start) * WORDS + 3]! & ENTRY_STATE
    return coldState(chunk, sequence)
  }

  protected chunkOf(sequence: number): Chunk | null {
    const found = this.found
    if (sequence >= found.start && sequence < found.start + found.count) return found
    const chunks = this.chunks
    let low = 0
    let high = chunks.length - 1
    while (low <= high) {
      const middle = (low + high) >> 1
      const chunk = chunks[middle]!
      if (sequence < chunk.start) high = middle - 1
      else if (sequence >= chunk.start + chunk.count) low = middle + 1
      else {
        this.found = chunk
        return chunk
      }
    }
    return null
  }

  protected chunkIndexFrom(sequence: number): number {
    const chunks = this.chunks
    const first = chunks[0]
    if (first !== undefined && sequence < first.start + first.count) return 0
    let low = 0
    let high = chunks.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (chunks[middle]!.start + chunks[middle]!.count <= sequence) low = middle + 1
      else high = middle
    }
    return low
  }

  /** The first entry in memory behind `sequence` that is not settled, its fields set; else NOTHING. */
  after(sequence: number): number {
    let from = sequence + 1
    for (let i = this.chunkIndexFrom(from); i < this.chunks.length; i++) {
      const chunk = this.chunks[i]!
      if (chunk.words === null) continue
      if (from < chunk.start) from = chunk.start
      for (const end = chunk.start + chunk.count; from < end; from++) {
        if ((chunk.words[(from - chunk.start) * WORDS + 3]! & ENTRY_STATE) !== SETTLED) {
          this.find(from)
          return from
        }
      }
    }
    return NOTHING
  }

  /** The last of the first `count` entries that are not settled, of cold chunks all; NOTHING when there is none. */
  lastOfFirst(count: number): number {
    let last = NOTHING
    for (let i = 0; i < this.chunks.length && count > 0; i++) {
      const { words, start, count: entries, live } = this.chunks[i]!
      if (words === null) {
        count -= live
        last = start + entries - 1
        continue
      }
      for (let at = 0; at < entries && count > 0; at++) {
        if ((words[at * WORDS + 3]! & ENTRY_STATE) === SETTLED) continue
        count--
        last = start + at
      }
    }
    return last
  }

  /** The chunk that holds this sequence, if it is cold. */
  coldChunkOf(sequence: number): Chunk | null {
    const chunk = this.chunkOf(sequence)
    return chunk !== null && chunk.words === null ? chunk : null
  }
}
