/**
 * What queues hold, and how it changes: part of `State`, applied live and at replay alike. Each entry is charged
 * to the segment in which its message lies, and a cold chunk to that of its index, so that a segment is known to
 * be empty when all that it is charged with was released.
 */
import { type Chunk, chargesOf } from './chunk.ts'
import { DueEntries } from './due-entries.ts'
import type { Liveness } from './liveness.ts'
import type { Queue } from './queue.ts'
import { ENTRY_EXPIRES, ENTRY_STATE, RELEASED, RETRY, SETTLED, shareOf } from './queue-entry.ts'

export const INDEX_ENTRY_BYTES = 16

export class QueueContents {
  protected readonly liveness: Liveness

  /** Entries that came back and are held, of all queues. */
  heldCount: number

  constructor(liveness: Liveness) {
    this.liveness = liveness
    this.heldCount = 0
  }

  /** A message's destination takes its place in a queue; or a copy of it, its new position. */
  insertEntry(
    queue: Queue,
    sequence: number,
    segment: number,
    offset: number,
    bytes: number,
    flags: number
  ): void {
    if (!queue.insert(sequence, segment, offset, bytes, flags) && queue.segment !== 0) {
      this.liveness.release(queue.segment, shareOf(queue.bytes, queue.flags))
    }
    this.liveness.claim(segment, shareOf(bytes, flags))
    if ((flags & ENTRY_EXPIRES) !== 0) queue.mayExpire = true
  }

  /** Finishes a message of a queue. False when it is not open. */
  settleEntry(queue: Queue, sequence: number): boolean {
    if (!queue.settle(sequence)) return false
    if (queue.segment !== 0) {
      this.liveness.release(queue.segment, shareOf(queue.bytes, queue.flags))
    } else if (queue.emptied !== null) {
      this.#releaseCold(queue.emptied)
      queue.emptied = null
    }
    return true
  }

  /** PUBREC of an outbound QoS 2 delivery. */
  markReleased(queue: Queue, sequence: number): boolean {
    return queue.markReleased(sequence)
  }

  /** True when an entry is a QoS 2 delivery whose PUBREC is recorded. */
  isReleased(queue: Queue, sequence: number): boolean {
    return queue.find(sequence) && (queue.flags & ENTRY_STATE) === RELEASED
  }

  /**
   * A delivered entry, or at replay any, is held: neither ready nor anybody's. A dead letter (`why`) has no time. False:
   * it is not there.
   */
  hold(queue: Queue, sequence: number, dueAt: number, why: number, count: number): boolean {
    queue.noteDeliveries(sequence, count)
    if (!queue.markReleased(sequence)) return false
    const bytes = queue.find(sequence) ? queue.bytes : 0
    if (why !== RETRY) {
      queue.letters ??= new DueEntries()
      queue.letters.insert(0, sequence, 0, 0, bytes, why)
      return true
    }
    queue.held ??= new DueEntries()
    if (queue.held.insert(dueAt, sequence, 0, 0, bytes, RETRY)) this.heldCount++
    return true
  }

  /** A held entry is ready again, in its old place. False: it is not there. */
  unhold(queue: Queue, dueAt: number, sequence: number): boolean {
    this.#forgetRetry(queue, dueAt, sequence)
    this.forgetLetter(queue, sequence)
    return queue.unhold(sequence)
  }

  #forgetRetry(queue: Queue, dueAt: number, sequence: number): void {
    if (queue.held === null || !queue.held.remove(dueAt, sequence)) return
    this.heldCount--
    if (queue.held.count === 0) queue.held = null
  }

  /** A dead letter that waits no more: its entry is finished, or ready again. */
  forgetLetter(queue: Queue, sequence: number): void {
    if (queue.letters === null || !queue.letters.remove(0, sequence)) return
    if (queue.letters.count === 0) queue.letters = null
  }

  /** Forgets what was held and is finished without a word about that: by a purge, or at replay. */
  forgetFinished(queue: Queue): void {
    for (const [dueAt, sequence] of finishedOf(queue, queue.held)) {
      this.#forgetRetry(queue, dueAt, sequence)
    }
    for (const [, sequence] of finishedOf(queue, queue.letters)) this.forgetLetter(queue, sequence)
  }

  /** Finishes all up to `upTo` but the sequences in `except`. Returns how many. */
  purge(queue: Queue, upTo: number, except: ReadonlySet<number>): number {
    let count = 0
    for (const chunk of [...queue.chunks]) {
      if (chunk.words !== null || chunk.start + chunk.count - 1 > upTo) continue
      if (holdsSome(chunk, except)) {
        // At replay only: what was delivered by then is cold again, and stays.
        this.#chargePatches(chunk, false)
        count += queue.keepCold(chunk, except)
        this.#chargePatches(chunk, true)
        continue
      }
      count += chunk.live
      this.dropCold(queue, chunk)
    }
    for (const chunk of [...queue.chunks]) {
      if (chunk.start > upTo) break
      if (chunk.words === null) continue
      const before = chunk.live
      this.#release(queue.finishChunk(chunk, upTo, except))
      count += before - chunk.live
    }
    this.forgetFinished(queue)
    return count
  }

  /** Ends all that a queue holds. */
  protected releaseAll(queue: Queue): void {
    for (const chunk of queue.chunks) {
      if (chunk.words === null) this.#releaseCold(chunk)
      else this.#release(chargesOf(chunk))
    }
    queue.clear()
    this.heldCount -= queue.held?.count ?? 0
    queue.held = null
    queue.letters = null
  }

  /** An index record holds this chunk's entries now; what the queue has in that range is replaced. */
  adoptCold(queue: Queue, chunk: Chunk): void {
    const end = chunk.start + chunk.count
    for (const old of [...queue.chunks]) {
      if (old.words === null && old.start < end && old.start + old.count > chunk.start) {
        this.dropCold(queue, old)
      }
    }
    for (let at = queue.after(chunk.start - 1); at > 0 && at < end; at = queue.after(at)) {
      this.settleEntry(queue, at)
    }
    // It has its place first: else what lies behind it could be put into a chunk that reaches over it.
    queue.adoptCold(chunk)
    // Nobody knows what is in it before it is read.
    queue.mayExpire = true
    queue.separate(chunk.start, end)
    this.chargeCold(chunk)
  }

  chargeCold(chunk: Chunk): void {
    for (let i = 0; i < chunk.shares.length; i += 2) {
      this.liveness.claim(chunk.shares[i]!, chunk.shares[i + 1]!)
    }
    this.liveness.claim(chunk.segment, chunk.count * INDEX_ENTRY_BYTES)
    this.#chargePatches(chunk, true)
  }

  /** A chunk goes cold: its index record lies at this position. */
  cool(queue: Queue, chunk: Chunk, segment: number, offset: number, shares: number[]): void {
    queue.cool(chunk, segment, offset, shares)
    this.liveness.claim(segment, chunk.count * INDEX_ENTRY_BYTES)
  }

  /** A cold chunk's entries were read: it is in memory again. */
  warm(queue: Queue, chunk: Chunk, words: Uint32Array): void {
    this.#releaseCold(chunk)
    queue.warm(chunk, words)
    for (let at = 0; at < chunk.count * 4; at += 4) {
      if ((words[at + 3]! & ENTRY_STATE) === SETTLED) continue
      this.liveness.claim(words[at]!, shareOf(words[at + 2]!, words[at + 3]!))
    }
  }

  /** Gives up a cold chunk with all that it holds: its index cannot be read. */
  dropCold(queue: Queue, chunk: Chunk): void {
    this.#releaseCold(chunk)
    queue.dropCold(chunk)
  }

  #release(charges: readonly number[]): void {
    for (let i = 0; i < charges.length; i += 2) this.liveness.release(charges[i]!, charges[i + 1]!)
  }

  #releaseCold(chunk: Chunk): void {
    this.#release(chunk.shares)
    this.liveness.release(chunk.segment, chunk.count * INDEX_ENTRY_BYTES)
    this.#chargePatches(chunk, false)
  }

  /** Entries that got a new position while cold are charged there. */
  #chargePatches(chunk: Chunk, isClaim: boolean): void {
    const patches = chunk.patches ?? []
    for (let i = 0; i < patches.length; i += 5) {
      const flags = patches[i + 4]!
      if (patches[i + 1] === 0 || flags === RELEASED) continue
      const share = shareOf(patches[i + 3]!, flags)
      if (isClaim) this.liveness.claim(patches[i + 1]!, share)
      else this.liveness.release(patches[i + 1]!, share)
    }
  }
}

/** Due times and sequences of those that are held no more. */
function finishedOf(queue: Queue, held: DueEntries | null): [number, number][] {
  const finished: [number, number][] = []
  for (let isThere = held?.first(); isThere; isThere = held!.after(held!.dueAt, held!.sequence)) {
    if (queue.stateOf(held!.sequence) !== RELEASED) finished.push([held!.dueAt, held!.sequence])
  }
  return finished
}

function holdsSome(chunk: Chunk, sequences: ReadonlySet<number>): boolean {
  for (const sequence of sequences) {
    if (sequence >= chunk.start && sequence < chunk.start + chunk.count) return true
  }
  return false
}
