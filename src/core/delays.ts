/** All stores of delayed messages, and how they change: part of `State`, applied live and at replay alike. */
import type { DelayStore } from './delay-store.ts'
import type { Liveness } from './liveness.ts'
import { shareOf } from './queue-entry.ts'

export class Delays {
  readonly stores: Map<number, DelayStore>
  /** Messages in all of them. */
  count: number
  readonly #liveness: Liveness

  constructor(liveness: Liveness) {
    this.stores = new Map()
    this.count = 0
    this.#liveness = liveness
  }

  /** A message takes its place; or a copy of it, its new position. */
  insert(
    store: DelayStore,
    dueAt: number,
    sequence: number,
    segment: number,
    offset: number,
    payloadBytes: number,
    flags: number
  ): void {
    if (store.insert(dueAt, sequence, segment, offset, payloadBytes, flags)) this.count++
    else this.#liveness.release(store.segment, shareOf(store.payloadBytes, store.flags))
    this.#liveness.claim(segment, shareOf(payloadBytes, flags))
  }

  /** It was let go, or is lost. False: it is not there. */
  settle(store: DelayStore, dueAt: number, sequence: number): boolean {
    if (!store.remove(dueAt, sequence)) return false
    this.count--
    this.#liveness.release(store.segment, shareOf(store.payloadBytes, store.flags))
    return true
  }

  /** Ends a store with all that it holds. */
  remove(store: DelayStore): void {
    store.isDeleted = true
    this.stores.delete(store.id)
    let isThere = store.first()
    while (isThere) {
      this.#liveness.release(store.segment, shareOf(store.payloadBytes, store.flags))
      isThere = store.after(store.dueAt, store.sequence)
    }
    this.count -= store.count
    store.clear()
  }
}
