/**
 * The counts of a queue, and what becomes of its chunks while they are cold: in the journal as index
 * records, with what has changed since in their `patches`.
 */
import {
  applyPatch,
  chargesOf,
  type Chunk,
  coldReleased,
  coldState,
  liveBytes,
  WORDS,
  windowEnd
} from './chunk.ts'
import { Entries, NO_CHUNK } from './entries.ts'
import { ENTRY_STATE, READY, RELEASED, SETTLED } from './queue-entry.ts'

/** An empty queue keeps a chunk of this size: it is idle, and one of very many. */
const KEPT_ENTRIES = 64

export class ColdEntries extends Entries {
  unackedCount: number
  /** The highest sequence that was ever delivered. */
  lastTaken: number
  /** The chunk that `next` needs when it answers COLD. */
  coldChunk: Chunk | null
  /** The cold chunk that `settle` emptied: its owner gives its index back, and sets null again. */
  emptied: Chunk | null
  /** No entry before it is ready, but for those that were put back. */
  protected cursor: number

  constructor() {
    super()
    this.unackedCount = 0
    this.lastTaken = 0
    this.coldChunk = null
    this.emptied = null
    this.cursor = 1
  }

  protected settleCold(chunk: Chunk, sequence: number): boolean {
    const state = coldState(chunk, sequence)
    if (state === SETTLED) return false
    this.segment = 0
    chunk.patches ??= []
    chunk.patches.push(sequence, 0, 0, 0, SETTLED)
    if (state === READY) this.readyCount--
    else this.unackedCount--
    if (--chunk.live === 0) {
      this.remove(chunk)
      this.readyBytes -= chunk.bytes
      this.emptied = chunk
    }
    return true
  }

  /** At replay: it was delivered out of a chunk that is cold again. */
  protected markColdReleased(sequence: number): boolean {
    const chunk = this.coldChunkOf(sequence)
    if (chunk === null || coldState(chunk, sequence) === SETTLED) return false
    if (coldState(chunk, sequence) === RELEASED) return true
    chunk.patches ??= []
    chunk.patches.push(sequence, 0, 0, 0, RELEASED)
    this.readyCount--
    this.unackedCount++
    if (sequence > this.lastTaken) this.lastTaken = sequence
    return true
  }

  /** Its words are elsewhere: a patch without a position. */
  protected patchState(sequence: number, flags: number): void {
    const chunk = this.coldChunkOf(sequence)!
    chunk.patches ??= []
    chunk.patches.push(sequence, 0, 0, 0, flags)
  }

  /**
   * Ends all of a chunk in memory up to `upTo`, but those in `except`: in one go, of very many. Returns what they were
   * charged with, by segment.
   */
  finishChunk(chunk: Chunk, upTo: number, except: ReadonlySet<number>): number[] {
    const charges = chargesOf(chunk, upTo, except)
    const words = chunk.words!
    const hasSome = except.size > 0
    for (let i = 0; i < chunk.count && chunk.start + i <= upTo; i++) {
      const at = i * WORDS + 3
      const state = words[at]! & ENTRY_STATE
      if (state === SETTLED || (hasSome && except.has(chunk.start + i))) continue
      if (state === READY) {
        this.readyCount--
        this.readyBytes -= words[at - 1]!
      } else this.unackedCount--
      words[at] = SETTLED
      chunk.live--
    }
    if (chunk.live === 0) this.drop(chunk)
    return charges
  }

  /** A chunk without live entries goes, unless it is the last and small: that one is filled further. */
  protected drop(chunk: Chunk): void {
    const isLast = this.chunks[this.chunks.length - 1] === chunk
    const isFull = chunk.start + chunk.count >= windowEnd(chunk)
    if (isLast && !isFull && chunk.words!.length <= KEPT_ENTRIES * WORDS) return
    this.remove(chunk)
    this.hotEntries -= chunk.count
  }

  protected remove(chunk: Chunk): void {
    const chunks = this.chunks
    const index = chunks[0] === chunk ? 0 : chunks.indexOf(chunk)
    if (index >= 0) chunks.splice(index, 1)
    this.setTail()
    if (this.found === chunk) this.found = NO_CHUNK
    if (this.coldChunk === chunk) this.coldChunk = null
  }

  /** The chunk's entries are in the journal now, at this position; `shares` as in `Chunk`. */
  cool(chunk: Chunk, segment: number, offset: number, shares: number[]): void {
    if (chunk.words !== null) this.hotEntries -= chunk.count
    if (this.found === chunk) this.found = NO_CHUNK
    chunk.bytes = chunk.words === null ? chunk.bytes : liveBytes(chunk.words, chunk.count)
    chunk.words = null
    chunk.segment = segment
    chunk.offset = offset
    chunk.patches = null
    chunk.shares = shares
  }

  /** At replay: a cold chunk of this queue lies there. What stood in its range is gone already. */
  adoptCold(chunk: Chunk): void {
    let at = this.chunks.length
    while (at > 0 && this.chunks[at - 1]!.start > chunk.start) at--
    this.chunks.splice(at, 0, chunk)
    this.setTail()
    this.found = NO_CHUNK
    const released = coldReleased(chunk)
    this.readyCount += chunk.live - released.length
    this.unackedCount += released.length
    for (const sequence of released) this.lastTaken = Math.max(this.lastTaken, sequence)
    this.readyBytes += chunk.bytes
    if (chunk.start + chunk.count > this.nextSequence) {
      this.nextSequence = chunk.start + chunk.count
    }
    if (chunk.start < this.cursor) this.cursor = chunk.start
  }

  /** Takes a cold chunk out, with all that it holds. */
  dropCold(chunk: Chunk): void {
    this.remove(chunk)
    const released = coldReleased(chunk).length
    this.readyCount -= chunk.live - released
    this.unackedCount -= released
    this.readyBytes -= chunk.bytes
  }

  /** Takes all out of a cold chunk but `except`, which are in it. Returns how many went. */
  keepCold(chunk: Chunk, except: ReadonlySet<number>): number {
    const old = chunk.patches ?? []
    const patches: number[] = []
    for (let i = 0; i < old.length; i += 5) {
      if (old[i + 4] !== SETTLED && except.has(old[i]!)) patches.push(...old.slice(i, i + 5))
    }
    let live = 0
    for (let at = chunk.start; at < chunk.start + chunk.count; at++) {
      if (except.has(at)) live++
      else patches.push(at, 0, 0, 0, SETTLED)
    }
    const gone = chunk.live - live
    chunk.patches = patches
    chunk.live = live
    this.readyCount -= gone
    return gone
  }

  /** A cold chunk's words were read: the changes made meanwhile are applied to them. */
  warm(chunk: Chunk, words: Uint32Array): void {
    const released = coldReleased(chunk).length
    const patches = chunk.patches ?? []
    chunk.words = words
    this.hotEntries += chunk.count
    chunk.patches = null
    chunk.isLoading = false
    for (let i = 0; i < patches.length; i += 5) applyPatch(words, chunk, patches, i)
    // What was settled or released while cold counted with its bytes until now.
    this.readyCount -= chunk.live - released
    this.unackedCount -= released
    this.readyBytes -= chunk.bytes
    chunk.live = 0
    chunk.bytes = 0
    for (let at = 0; at < chunk.count * WORDS; at += WORDS) {
      const state = words[at + 3]! & ENTRY_STATE
      if (state === SETTLED) continue
      chunk.live++
      if (state === READY) {
        this.readyCount++
        this.readyBytes += words[at + 2]!
      } else this.unackedCount++
    }
    if (chunk.live === 0) this.drop(chunk)
  }

  /** A cold entry takes a new position, or is there again. False: it was there. */
  protected patch(
    chunk: Chunk,
    sequence: number,
    segment: number,
    offset: number,
    bytes: number,
    flags: number
  ): boolean {
    const old = coldState(chunk, sequence)
    const isNew = old === SETTLED
    const state = old === RELEASED ? RELEASED : READY
    this.segment = 0
    if (isNew) {
      chunk.live++
      this.readyCount++
    }
    chunk.patches ??= []
    chunk.patches.push(sequence, segment, offset, bytes, (flags & ~ENTRY_STATE) | state)
    return isNew
  }
}
