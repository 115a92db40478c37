/**
 * Consecutive entries of a queue, four words each: segment, offset, payload bytes, flags. A chunk stays
 * within its window of 1,024 sequences; while it is cold its words are an index record in the journal.
 */
import {
  ENTRY_COUNT,
  ENTRY_REDELIVERED,
  ENTRY_STATE,
  READY,
  RELEASED,
  SETTLED,
  shareOf
} from './queue-entry.ts'
import { MEMORY } from './slabs.ts'

export const CHUNK_ENTRIES = 1024
/** Node keeps up to 64 bytes of a typed array in its own object: nearly all queues need no more. */
export const FIRST_CHUNK_ENTRIES = 4
export const WORDS = 4

/** Consecutive entries. `words` is null while they are cold. */
export class Chunk {
  words: Uint32Array | null
  start: number
  count: number
  /** Entries not settled. */
  live: number
  /** While cold: payload bytes of its entries, as the queue's `readyBytes` counts them. */
  bytes: number
  /** Where the index record lies while cold. */
  segment: number
  offset: number
  /**
   * Changes since it went cold: sequence, segment, offset, bytes, flags; flags 0 = settled, RELEASED alone = PUBREC came
   * or it is held; others with segment 0: it came back, with its deliveries so far.
   */
  patches: number[] | null
  /** While cold: segment, bytes, segment, bytes …: what its entries are charged with. */
  shares: number[]
  isLoading: boolean

  constructor(start: number, entries: number) {
    this.words = entries === 0 ? null : new Uint32Array(entries * WORDS)
    this.start = start
    this.count = 0
    this.live = 0
    this.bytes = 0
    this.segment = 0
    this.offset = 0
    this.patches = null
    this.shares = NO_SHARES
    this.isLoading = false
  }
}

/** Sets one entry; `at` is the index of its first word. */
export function writeEntry(
  words: Uint32Array,
  at: number,
  segment: number,
  offset: number,
  bytes: number,
  flags: number
): void {
  words[at] = segment
  words[at + 1] = offset
  words[at + 2] = bytes
  words[at + 3] = flags
}

export function canAppend(chunk: Chunk, sequence: number): boolean {
  return (
    chunk.words !== null &&
    chunk.start + chunk.count === sequence &&
    sequence < windowEnd(chunk) &&
    chunk.live > 0
  )
}

/**
 * A chunk never reaches beyond its window of 1,024 sequences: so the chunks that replay makes, with
 * other entries, lie in the same windows as those that the index records were made of.
 */
export function windowEnd(chunk: Chunk): number {
  return chunk.start - (chunk.start % CHUNK_ENTRIES) + CHUNK_ENTRIES
}

export function grow(chunk: Chunk): void {
  const words = new Uint32Array(Math.min(chunk.words!.length * 2, CHUNK_ENTRIES * WORDS))
  words.set(chunk.words!)
  chunk.words = words
}

/**
 * What the unsettled entries of a chunk in memory are charged with, of all up to `upTo` but `except`: segment, bytes,
 * segment, bytes … Neighbours in one segment of the journal are one pair; a block in memory counts its entries.
 */
export function chargesOf(
  chunk: Chunk,
  upTo = Number.MAX_SAFE_INTEGER,
  except: ReadonlySet<number> = NO_SEQUENCES
): number[] {
  const words = chunk.words!
  const charges: number[] = []
  let segment = 0
  for (let i = 0; i < chunk.count && chunk.start + i <= upTo; i++) {
    const at = i * WORDS
    const flags = words[at + 3]!
    if ((flags & ENTRY_STATE) === SETTLED) continue
    if (words[at] === 0 || (except.size > 0 && except.has(chunk.start + i))) continue
    const bytes = shareOf(words[at + 2]!, flags)
    if (words[at] === segment && segment < MEMORY) charges[charges.length - 1]! += bytes
    else {
      segment = words[at]!
      charges.push(segment, bytes)
    }
  }
  return charges
}

/** The state of an entry of a cold chunk, as far as it changed since; else READY. */
export function coldState(chunk: Chunk, sequence: number): number {
  const patches = chunk.patches
  if (patches === null) return READY
  for (let i = patches.length - 5; i >= 0; i -= 5) {
    if (patches[i] === sequence) return patches[i + 4]! & ENTRY_STATE
  }
  return READY
}

/** The entries of a cold chunk whose PUBREC was recorded since. */
export function coldReleased(chunk: Chunk): number[] {
  if (chunk.patches === null) return []
  const released = new Set<number>()
  for (let i = 0; i < chunk.patches.length; i += 5) {
    const sequence = chunk.patches[i]!
    if ((chunk.patches[i + 4]! & ENTRY_STATE) === RELEASED) released.add(sequence)
    else released.delete(sequence)
  }
  return [...released]
}

/** Applies a patch: one without a position changes the state alone; a move keeps the deliveries so far. */
export function applyPatch(words: Uint32Array, chunk: Chunk, patches: number[], i: number): void {
  const at = (patches[i]! - chunk.start) * WORDS
  const flags = patches[i + 4]!
  if (flags === RELEASED) words[at + 3] = (words[at + 3]! & ~ENTRY_STATE) | RELEASED
  else if (patches[i + 1] === 0 && flags !== SETTLED) {
    const kept = words[at + 3]! & ~(ENTRY_STATE | ((flags & ENTRY_COUNT) === 0 ? 0 : ENTRY_COUNT))
    words[at + 3] = kept | flags
  } else {
    const old = words[at + 3]!
    const isMove = flags !== SETTLED && (old & ENTRY_STATE) !== SETTLED
    const kept = isMove ? old & (ENTRY_REDELIVERED | ENTRY_COUNT) : 0
    writeEntry(words, at, patches[i + 1]!, patches[i + 2]!, patches[i + 3]!, flags | kept)
  }
}

/** Some sequence in it is that of a message which a shared group gave to a member. */
export function hasMoved(chunk: Chunk, moves: ReadonlyMap<number, unknown> | null): boolean {
  if (moves === null || moves.size === 0) return false
  for (let at = chunk.start; at < chunk.start + chunk.count; at++) if (moves.has(at)) return true
  return false
}

/**
 * All that is live is ready, and its bodies are in the journal. What was moved may come back: a cold chunk
 * could not tell such an entry from one that it holds.
 */
export function isCoolable(chunk: Chunk, moves: ReadonlyMap<number, unknown> | null): boolean {
  const words = chunk.words!
  if (hasMoved(chunk, moves)) return false
  for (let at = 3; at < chunk.count * WORDS; at += WORDS) {
    const state = words[at]! & ENTRY_STATE
    if (state === SETTLED) continue
    if (state !== READY || words[at - 3]! >= MEMORY || words[at - 3] === 0) return false
  }
  return true
}

const NO_SHARES: number[] = []
const NO_SEQUENCES: ReadonlySet<number> = new Set()

/** Payload bytes of what is not settled. */
export function liveBytes(words: Uint32Array, count: number): number {
  let bytes = 0
  for (let at = 3; at < count * WORDS; at += WORDS) {
    if ((words[at]! & ENTRY_STATE) !== SETTLED) bytes += words[at - 1]!
  }
  return bytes
}
