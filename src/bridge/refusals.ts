/**
 * What the far side did not take, and how often. A refusal that is about the moment (`busy`: a full queue over there)
 * counts only if the far side took something else since: a far side that takes nothing is no message's fault.
 */
import type { Refusal } from './link.ts'

/** Messages of which refusals are remembered; beyond it counting begins anew. */
const REMEMBERED_MAX = 100_000

interface Count {
  times: number
  /** What the far side had confirmed when it was counted last. */
  confirmed: number
  refusal: Refusal
}

export class Refusals {
  readonly #max: number
  readonly #counts: Map<number, Count>
  /** Refused, open in the queue, to be put back. */
  readonly #open: Set<number>
  /** When they go back; below 0: not known yet. */
  dueMs: number

  constructor(max: number) {
    this.#max = max
    this.#counts = new Map()
    this.#open = new Set()
    this.dueMs = -1
  }

  get openCount(): number {
    return this.#open.size
  }

  /** One of those that are open is not sent again. */
  get hasPoison(): boolean {
    for (const sequence of this.#open) if (this.poison(sequence) !== null) return true
    return false
  }

  count(sequence: number, refusal: Refusal, confirmed: number): void {
    const known = this.#counts.get(sequence)
    if (known === undefined) {
      if (this.#counts.size >= REMEMBERED_MAX) this.#counts.clear()
      this.#counts.set(sequence, { times: 1, confirmed, refusal })
      return
    }
    known.refusal = refusal
    if (refusal.kind === 'busy' && confirmed === known.confirmed) return
    known.times++
    known.confirmed = confirmed
  }

  open(sequence: number): void {
    this.#open.add(sequence)
    this.dueMs = -1
  }

  takeOpen(): number[] {
    const open = [...this.#open]
    this.#open.clear()
    this.dueMs = -1
    return open
  }

  /** Why it is sent no more; null: it is. */
  poison(sequence: number): Refusal | null {
    if (this.#counts.size === 0) return null
    const known = this.#counts.get(sequence)
    if (known === undefined) return null
    const isOver = known.refusal.kind === 'permanent' || known.times >= this.#max
    return isOver ? known.refusal : null
  }

  forget(sequence: number): void {
    if (this.#counts.size > 0) this.#counts.delete(sequence)
  }
}
