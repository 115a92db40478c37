/**
 * A queue: what waits and what is delivered but not settled, in the order of its sequence numbers.
 *
 * A message is 16 bytes here: where its body lies (segment, offset), its payload's length and flags.
 * Entries stand in chunks of 1,024, found by sequence; a small queue has one small chunk. The cold
 * middle of a long queue is in the journal as index records: then a chunk knows only where its
 * entries lie, and what has changed since (`patches`). Entries are inserted by sequence, not by the
 * order of the calls: after compaction a log holds them in another order.
 *
 * Pure: it returns facts, the broker acts on them.
 */
import type { QueueStream } from './queue-stream.ts'
import { NumberHeap } from '../lib/number-heap.ts'
import { canAppend, type Chunk, coldState, grow, isCoolable, WORDS, writeEntry } from './chunk.ts'
import { ColdEntries } from './cold-entries.ts'
import { NO_CHUNK, NOTHING } from './entries.ts'
import {
  SETTLED,
  READY,
  UNACKED,
  RELEASED,
  ENTRY_STATE,
  ENTRY_REDELIVERED,
  ENTRY_COUNT_SHIFT,
  ENTRY_COUNT
} from './queue-entry.ts'
import type { DueEntries } from './due-entries.ts'
import type { Move } from './move.ts'
import type { QueueOptions } from './queue-options.ts'

/** `next()`: the next entries are in the journal: see `coldChunk`. */
export const COLD = -2

/** What passes in a queue by itself: see broker/queue-life.ts. */
export interface Life {
  /** The queue is gone. */
  end(): void
}

export class Queue extends ColdEntries {
  /** Messages reach the journal for its sake. */
  isDurable: boolean
  /** It belongs to a session: `name` is the client id. */
  readonly isSession: boolean
  /** Its consumers: the broker's business, see broker/consumers.ts. */
  attached: object | null
  /** What holds for it now: a policy may replace it. */
  options: QueueOptions
  /** With x-max-priority; of a level's queue those that it is one of. Else null. */
  levels: PriorityLevels | null
  /** Never used twice, also after a restart. */
  readonly id: number
  isDeleted: boolean
  /** It was full once, and gave up its oldest: they are wanted in memory. */
  dropsOldest: boolean
  readonly name: string
  readonly vhost: string
  /** The connection that it is exclusive to. */
  owner: object | null
  /** Its deadlines and dead letters: made when it first needs it. */
  life: Life | null
  /** A message with an expiry came into it once. */
  mayExpire: boolean
  /** Of a stream: what it has beside what waits here for its files. */
  stream: QueueStream | null
  /** What a shared group's queue gave to sessions, or a session's queue has of groups; by its sequence here. */
  moves: Map<number, Move> | null
  /** Entries (RELEASED) that came back and are ready again when they are due (delayed retry). Null: none. */
  held: DueEntries | null
  /** Entries (RELEASED) that are dead letters which nobody took, by sequence alone (at-least-once). Null: none. */
  letters: DueEntries | null
  /** What lies before it may have been delivered before the start. */
  redeliveredBelow: number
  /** Entries before the cursor that were put back. */
  #returned: NumberHeap

  constructor(id: number, name: string, vhost: string, options: QueueOptions, isSession: boolean) {
    super()
    this.isDurable = options.isDurable
    this.isSession = isSession
    this.attached = null
    this.options = options
    this.levels = options.priorityMax > 0 ? new PriorityLevels(this) : null
    this.id = id
    this.isDeleted = false
    this.dropsOldest = false
    this.name = name
    this.vhost = vhost
    this.owner = null
    this.life = null
    this.mayExpire = false
    this.stream = null
    this.moves = null
    this.held = null
    this.letters = null
    this.redeliveredBelow = 0
    this.#returned = EMPTY_HEAP
  }

  get count(): number {
    return this.readyCount + this.unackedCount
  }

  /** Appends at the end. `flags` carry the state: READY, or UNACKED for what was delivered at once. */
  push(segment: number, offset: number, bytes: number, flags: number): number {
    const sequence = this.nextSequence
    this.insert(sequence, segment, offset, bytes, flags)
    return sequence
  }

  /**
   * Puts an entry in its place. One that is there already takes the new position and keeps its
   * state: then it returns false, with the old entry in the entry fields (segment 0 if that is cold).
   */
  insert(sequence: number, segment: number, offset: number, bytes: number, flags: number): boolean {
    let chunk = this.tail
    if (sequence !== this.nextSequence || !canAppend(chunk, sequence)) {
      chunk = this.place(sequence)
      if (chunk.words === null) return this.patch(chunk, sequence, segment, offset, bytes, flags)
      if (sequence < chunk.start + chunk.count) {
        return this.#replace(chunk, sequence, segment, offset, bytes, flags)
      }
    }
    const index = sequence - chunk.start
    while ((index + 1) * WORDS > chunk.words!.length) grow(chunk)
    writeEntry(chunk.words!, index * WORDS, segment, offset, bytes, flags)
    this.hotEntries += index + 1 - chunk.count
    chunk.count = index + 1
    chunk.live++
    this.#added(sequence, bytes, flags)
    return true
  }

  /** In a place that the chunk has already. */
  #replace(
    chunk: Chunk,
    sequence: number,
    segment: number,
    offset: number,
    bytes: number,
    flags: number
  ): boolean {
    const words = chunk.words!
    const at = (sequence - chunk.start) * WORDS
    const old = words[at + 3]!
    if ((old & ENTRY_STATE) === SETTLED) {
      writeEntry(words, at, segment, offset, bytes, flags)
      chunk.live++
      this.#added(sequence, bytes, flags)
      return true
    }
    this.find(sequence)
    const kept = old & (ENTRY_STATE | ENTRY_REDELIVERED | ENTRY_COUNT)
    writeEntry(words, at, segment, offset, bytes, (flags & ~ENTRY_STATE) | kept)
    return false
  }

  #added(sequence: number, bytes: number, flags: number): void {
    if (sequence >= this.nextSequence) this.nextSequence = sequence + 1
    if ((flags & ENTRY_STATE) === READY) {
      this.readyCount++
      this.readyBytes += bytes
      if (sequence < this.cursor) this.cursor = sequence
    } else {
      this.unackedCount++
      if (sequence > this.lastTaken) this.lastTaken = sequence
      if (sequence === this.cursor) this.cursor = sequence + 1
    }
  }

  /**
   * The next ready entry in order, its fields set, not yet taken. NOTHING, or COLD with `coldChunk`
   * set when a block of the journal must be loaded first.
   */
  next(): number {
    // What was put back at or behind the cursor is found by the scan, in its order.
    while (this.#returned.size > 0 && this.#returned.peek() < this.cursor) {
      const sequence = this.#returned.peek()
      if (this.find(sequence) && (this.flags & ENTRY_STATE) === READY) return sequence
      const chunk = this.chunkOf(sequence)
      if (chunk !== null && chunk.words === null && coldState(chunk, sequence) === READY) {
        this.coldChunk = chunk
        return COLD
      }
      this.#returned.pop()
    }
    if (this.readyCount === 0) return NOTHING
    return this.#scan()
  }

  #scan(): number {
    let sequence = this.cursor
    for (let i = this.chunkIndexFrom(sequence); i < this.chunks.length; i++) {
      const chunk = this.chunks[i]!
      if (sequence < chunk.start) sequence = chunk.start
      if (chunk.words === null) {
        this.cursor = sequence
        this.coldChunk = chunk
        return COLD
      }
      const words = chunk.words
      const end = chunk.start + chunk.count
      for (let at = (sequence - chunk.start) * WORDS + 3; sequence < end; sequence++, at += WORDS) {
        if ((words[at]! & ENTRY_STATE) !== READY) continue
        this.cursor = sequence
        this.segment = words[at - 3]!
        this.offset = words[at - 2]!
        this.bytes = words[at - 1]!
        this.flags = words[at]!
        this.found = chunk
        this.foundIndex = at - 3
        return sequence
      }
    }
    this.cursor = sequence
    return NOTHING
  }

  /** Marks what `next` or `find` found as delivered. `returned` entries leave their heap. */
  take(sequence: number): void {
    const flags = this.flags
    const count = Math.min((flags & ENTRY_COUNT) + (1 << ENTRY_COUNT_SHIFT), ENTRY_COUNT)
    this.found.words![this.foundIndex + 3] =
      (flags & ~(ENTRY_STATE | ENTRY_COUNT)) | UNACKED | count
    this.readyCount--
    this.readyBytes -= this.bytes
    this.unackedCount++
    if (sequence > this.lastTaken) this.lastTaken = sequence
    if (sequence === this.cursor) this.cursor = sequence + 1
    else if (this.#returned.size > 0 && this.#returned.peek() === sequence) this.#returned.pop()
  }

  /** QoS 2: PUBREC came. False when the entry is not open. */
  markReleased(sequence: number): boolean {
    if (!this.find(sequence)) return this.markColdReleased(sequence)
    const state = this.flags & ENTRY_STATE
    if (state === READY) {
      this.readyCount--
      this.readyBytes -= this.bytes
      this.unackedCount++
      if (sequence > this.lastTaken) this.lastTaken = sequence
    }
    this.found.words![this.foundIndex + 3] = (this.flags & ~ENTRY_STATE) | RELEASED
    return true
  }

  /** Ends an entry in any state; its fields are set. False when it is not there. Cold ones are patched. */
  settle(sequence: number): boolean {
    const chunk = this.chunkOf(sequence)
    if (chunk === null) return false
    if (chunk.words === null) return this.settleCold(chunk, sequence)
    if (!this.find(sequence)) return false
    if ((this.flags & ENTRY_STATE) === READY) {
      this.readyCount--
      this.readyBytes -= this.bytes
    } else this.unackedCount--
    chunk.words[this.foundIndex + 3] = SETTLED
    if (--chunk.live === 0) this.drop(chunk)
    return true
  }

  /** Puts a delivered entry back to its original place. False when it is not open. */
  requeue(sequence: number): boolean {
    if (!this.find(sequence) || (this.flags & ENTRY_STATE) !== UNACKED) return false
    this.found.words![this.foundIndex + 3] = (this.flags & ~ENTRY_STATE) | READY | ENTRY_REDELIVERED
    this.readyCount++
    this.readyBytes += this.bytes
    this.unackedCount--
    this.#cameBack(sequence)
    return true
  }

  #cameBack(sequence: number): void {
    if (sequence >= this.cursor) return
    if (this.#returned === EMPTY_HEAP) this.#returned = new NumberHeap()
    this.#returned.push(sequence)
  }

  /** A held entry (RELEASED) is ready again in its place. False when it is not there. Cold ones are patched. */
  unhold(sequence: number): boolean {
    if (this.stateOf(sequence) !== RELEASED) return false
    if (this.find(sequence)) {
      const flags = (this.flags & ~ENTRY_STATE) | READY | ENTRY_REDELIVERED
      this.found.words![this.foundIndex + 3] = flags
      this.readyBytes += this.bytes
    } else this.patchState(sequence, READY | ENTRY_REDELIVERED)
    this.readyCount++
    this.unackedCount--
    this.#cameBack(sequence)
    return true
  }

  /** At replay, and of what is delivered: it was delivered so often. 0 says nothing. */
  noteDeliveries(sequence: number, count: number): void {
    if (count === 0) return
    const flags =
      ENTRY_REDELIVERED | (Math.min(count, ENTRY_COUNT >> ENTRY_COUNT_SHIFT) << ENTRY_COUNT_SHIFT)
    if (this.find(sequence)) {
      this.flags = (this.flags & ~ENTRY_COUNT) | flags
      this.found.words![this.foundIndex + 3] = this.flags
    } else if (this.stateOf(sequence) === READY) this.patchState(sequence, READY | flags)
  }

  /** The oldest delivered entry that is not settled, or -1. */
  firstOpen(): number {
    if (this.unackedCount === 0) return NOTHING
    let sequence = this.after(0)
    while (sequence !== NOTHING && (this.flags & ENTRY_STATE) === READY) {
      sequence = this.after(sequence)
    }
    return sequence
  }

  /** The delivered entries that are not settled. */
  openSequences(): Set<number> {
    const open = new Set<number>()
    if (this.unackedCount === 0) return open
    for (let at = this.firstOpen(); at !== NOTHING && at <= this.lastTaken; at = this.after(at)) {
      if ((this.flags & ENTRY_STATE) !== READY) open.add(at)
    }
    return open
  }

  /** Forgets everything that waits; what was delivered stays open. For replay of a purge and delete. */
  clear(): void {
    this.chunks = []
    this.tail = NO_CHUNK
    this.readyCount = 0
    this.readyBytes = 0
    this.unackedCount = 0
    this.hotEntries = 0
    this.cursor = this.nextSequence
    this.#returned = EMPTY_HEAP
    this.found = NO_CHUNK
  }

  /** A chunk that may go cold: full, all ready, neither at the head nor the tail. Null when none. */
  coolable(): Chunk | null {
    if (this.options.deduplicates) return null
    const chunks = this.chunks
    for (let i = chunks.length - 3; i >= 2; i--) {
      const chunk = chunks[i]!
      if (chunk.words === null || chunk.live === 0 || chunk.isLoading) continue
      if (chunk.start <= this.cursor || !isCoolable(chunk, this.moves)) continue
      return chunk
    }
    return null
  }

  /** What became of an entry before its chunk went cold shows no more: a queue that refuses duplicates must know it. */
  isCoolable(chunk: Chunk): boolean {
    if (this.options.deduplicates) return false
    return chunk.words !== null && chunk.live > 0 && isCoolable(chunk, this.moves)
  }

  /** Makes place for a cold chunk: no chunk reaches into [start, end), where nothing is live any more. */
  separate(start: number, end: number): void {
    this.found = NO_CHUNK
    for (const chunk of [...this.chunks]) {
      if (chunk.words === null || chunk.start >= end || chunk.start + chunk.count <= start) continue
      const { words } = chunk
      this.chunks.splice(this.chunks.indexOf(chunk), 1)
      this.setTail()
      this.hotEntries -= chunk.count
      for (let i = 0; i < chunk.count; i++) {
        const at = i * WORDS
        const flags = words[at + 3]!
        const state = flags & ENTRY_STATE
        if (state === SETTLED) continue
        if (state === READY) {
          this.readyCount--
          this.readyBytes -= words[at + 2]!
        } else this.unackedCount--
        this.insert(chunk.start + i, words[at]!, words[at + 1]!, words[at + 2]!, flags)
      }
    }
  }
}

/**
 * The levels of a queue with priorities (docs/decisions/0018). Level 0 is the queue itself; each other one that
 * was ever used is a queue of its own, with an id and with sequences of its own: what is written, read back, moved, cooled
 * and settled is what it is for any queue. Whoever takes deliveries knows the whole queue alone: what it
 * gets is named by `nameOf`, and is given back by that name.
 */
export class PriorityLevels {
  /** Level 0: the queue that has the name. */
  readonly owner: Queue
  readonly max: number
  /** All that were ever used, the highest first; `owner` is the last. */
  readonly used: Queue[]
  readonly #priorities: number[]

  constructor(owner: Queue) {
    this.owner = owner
    this.max = owner.options.priorityMax
    this.used = [owner]
    this.#priorities = [0]
  }

  /** Of one that is used. */
  priorityOf(level: Queue): number {
    return this.#priorities[this.used.indexOf(level)]!
  }

  /** The level of this priority if it is used, else the next below it that is. */
  at(priority: number): Queue {
    let index = 0
    while (this.#priorities[index]! > priority) index++
    return this.used[index]!
  }

  /** The highest that has something ready; level 0 when none has. */
  top(): Queue {
    const { used } = this
    const last = used.length - 1
    for (let i = 0; i < last; i++) if (used[i]!.readyCount > 0) return used[i]!
    return used[last]!
  }

  /** A queue of the same name for a level that was not used yet; null: it is, or there is no such level. */
  add(id: number, priority: number): Queue | null {
    const { name, vhost, options, attached } = this.owner
    if (priority < 1 || priority > this.max || this.priorityOf(this.at(priority)) === priority) {
      return null
    }
    const level = new Queue(id, name, vhost, options, false)
    level.levels = this
    level.attached = attached
    const index = this.used.indexOf(this.at(priority))
    this.used.splice(index, 0, level)
    this.#priorities.splice(index, 0, priority)
    return level
  }

  /** What holds for the queue holds for all levels. */
  setOptions(options: QueueOptions): void {
    for (const level of this.used) level.options = options
  }

  /** Its consumers are those of all levels. */
  attach(consumers: object | null): void {
    for (const level of this.used) level.attached = consumers
  }

  /** One number for an entry of any level. */
  nameOf(level: Queue, sequence: number): number {
    return this.priorityOf(level) * LEVEL_SEQUENCES + sequence
  }

  levelOf(name: number): Queue {
    return this.at(Math.floor(name / LEVEL_SEQUENCES))
  }

  sequenceOf(name: number): number {
    return name % LEVEL_SEQUENCES
  }
}

/** More than any queue ever has: 255 levels of them are still whole numbers. */
const LEVEL_SEQUENCES = 2 ** 45

/** One of the levels above 0: its queue has the name. */
export function isUpperLevel(queue: Queue): boolean {
  return queue.levels !== null && queue.levels.owner !== queue
}

/** Of all levels together. */
export function readyOf(queue: Queue): number {
  if (queue.levels === null) return queue.readyCount
  let count = 0
  for (const level of queue.levels.used) count += level.readyCount
  return count
}

/** Payload bytes of what is ready, of all levels together. */
export function readyBytesOf(queue: Queue): number {
  if (queue.levels === null) return queue.readyBytes
  let bytes = 0
  for (const level of queue.levels.used) bytes += level.readyBytes
  return bytes
}

/** Of all levels together: with consumers, or held. */
export function unackedOf(queue: Queue): number {
  if (queue.levels === null) return queue.unackedCount
  let count = 0
  for (const level of queue.levels.used) count += level.unackedCount
  return count
}

const EMPTY_HEAP = new NumberHeap()
