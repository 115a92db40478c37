import { beforeEach, describe, expect, it } from 'vitest'
import { KIND } from '../../src/core/records/kinds.ts'
import { TransactionReplay, writeTransactionEnd } from '../../src/core/records/transaction.ts'
import { writePair } from '../../src/core/records/settle.ts'
import { State } from '../../src/core/state.ts'

/** Settles the message of this sequence, so that a test sees which records were applied. */
function settleOf(sequence: number): Buffer {
  const bytes = Buffer.alloc(16)
  return bytes.subarray(0, writePair(bytes, 0, 1, sequence))
}

const NONE = Buffer.alloc(0)

describe('replay of transactions', () => {
  let state: State
  let replay: TransactionReplay
  let ticket: number
  /** Sequences that were settled, in order. */
  let settled: number[]

  beforeEach(() => {
    state = new State({ claim: () => undefined, release: () => undefined })
    replay = new TransactionReplay()
    ticket = 0
    settled = []
    const queue = { moves: null }
    state.queueOf = () => queue as never
    state.settleEntry = (_queue, sequence) => settled.push(sequence) > 0
  })

  function apply(kind: number, bytes: Buffer): boolean {
    return replay.apply(state, kind, bytes, 0, bytes.length, 1, 64, ++ticket)
  }

  function settle(sequence: number): boolean {
    const bytes = settleOf(sequence)
    const isKnown = apply(KIND.settle, bytes)
    // The reader's buffer holds something else in a moment.
    bytes.fill(0xff)
    return isKnown
  }

  function end(count: number): boolean {
    const bytes = Buffer.alloc(8)
    return apply(KIND.transactionEnd, bytes.subarray(0, writeTransactionEnd(bytes, 0, count)))
  }

  it('applies what stands between begin and end at the end, in its order', () => {
    settle(1)
    apply(KIND.transactionBegin, NONE)
    settle(2)
    settle(3)
    expect(settled).toEqual([1])
    expect(replay.isOpen).toBe(true)
    expect(end(2)).toBe(true)
    settle(4)
    expect(settled).toEqual([1, 2, 3, 4])
  })

  it('forgets what has no end, when the next start says so', () => {
    apply(KIND.transactionBegin, NONE)
    settle(2)
    apply(KIND.transactionDrop, NONE)
    settle(3)
    expect(settled).toEqual([3])
  })

  it('forgets it also when that start wrote records of the journal’s own before', () => {
    apply(KIND.transactionBegin, NONE)
    settle(2)
    ticket += 3
    apply(KIND.transactionDrop, NONE)
    settle(3)
    expect(settled).toEqual([3])
  })

  it('forgets what a later start had not seen: it gave the tickets again', () => {
    settle(1)
    apply(KIND.transactionBegin, NONE)
    settle(2)
    ticket = 1
    settle(3)
    expect(settled).toEqual([1, 3])
    expect(replay.isOpen).toBe(false)
  })

  it('takes what damage left of one: its records were promised', () => {
    apply(KIND.transactionBegin, NONE)
    settle(2)
    ticket += 2
    settle(5)
    expect(end(4)).toBe(true)
    expect(settled).toEqual([2, 5])
  })

  it('says when one is not what its end says', () => {
    apply(KIND.transactionBegin, NONE)
    settle(2)
    expect(end(2)).toBe(false)
    expect(settled).toEqual([2])
  })
})
