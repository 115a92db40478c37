/**
 * Transactions in the log: the records between a begin and its end take effect together. They are ordinary records,
 * each with a position of its own, for a record's position must be known when it is written, and what a transaction
 * brings about, and how much of it, is known only when all of it was routed.
 *
 * A broker writes a transaction in one turn, so nothing of anybody else stands in between. Replay keeps what stands
 * behind a begin until the end comes. If the log ends before, nothing of it has happened; the next start says so
 * with a record of its own before any other (`transactionDrop`), else its records would be taken for part of it.
 */
import { VarintReader, writeVarint } from '../../lib/bytes.ts'
import type { State } from '../state.ts'
import { applyRecord } from './apply.ts'
import { KIND } from './kinds.ts'

export const END_BYTES_MAX = 8

/** How many records stand between begin and end. */
export function writeTransactionEnd(target: Buffer, at: number, count: number): number {
  return writeVarint(target, at, count)
}

interface Kept {
  readonly kind: number
  readonly bytes: Buffer
  readonly segment: number
  readonly offset: number
}

const varint = new VarintReader()

/** Replay of a log with transactions in it. */
export class TransactionReplay {
  /** Null: none is open. */
  #kept: Kept[] | null
  #ticket: number

  constructor() {
    this.#kept = null
    this.#ticket = 0
  }

  /** The log has ended, so far, within a transaction. */
  get isOpen(): boolean {
    return this.#kept !== null
  }

  /** What was kept never happened. */
  drop(): void {
    this.#kept = null
  }

  /** One record in log order; the answer is that of `applyRecord`, for all of a transaction at its end. */
  apply(
    state: State,
    kind: number,
    buffer: Buffer,
    start: number,
    end: number,
    segment: number,
    offset: number,
    ticket: number
  ): boolean {
    let isKnown = true
    if (this.#kept !== null && ticket !== this.#ticket + 1) {
      // A later start had not seen it. Or its end is damaged: what is left of it was promised, and is taken.
      if (ticket > this.#ticket && kind !== KIND.transactionDrop) isKnown = this.#applyKept(state)
      else this.#kept = null
    }
    this.#ticket = ticket
    if (kind === KIND.transactionBegin) this.#kept = []
    else if (kind === KIND.transactionDrop) this.#kept = null
    else if (kind === KIND.transactionEnd) return this.#end(state, buffer, start, end) && isKnown
    else if (this.#kept !== null) {
      // The buffer is the reader's: it holds the next batch in a moment.
      const bytes = Buffer.from(buffer.subarray(start, end))
      this.#kept.push({ kind, bytes, segment, offset })
    } else return applyRecord(state, kind, buffer, start, end, segment, offset) && isKnown
    return isKnown
  }

  #end(state: State, buffer: Buffer, start: number, end: number): boolean {
    // Without its begin, which was damaged: what came of it was taken one by one.
    if (this.#kept === null) return true
    const isWhole = varint.read(buffer, start, end) === this.#kept.length
    return this.#applyKept(state) && isWhole
  }

  #applyKept(state: State): boolean {
    let isKnown = true
    const kept = this.#kept ?? []
    this.#kept = null
    for (const { kind, bytes, segment, offset } of kept) {
      if (!applyRecord(state, kind, bytes, 0, bytes.length, segment, offset)) isKnown = false
    }
    return isKnown
  }
}
