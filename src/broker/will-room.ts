/**
 * How many bytes of wills are kept in memory, as an upper bound: it grows with each will that is taken, and is counted
 * anew when it would refuse one, once a second at most or when many have come since. So no place that ends a will has to know of it.
 */
import type { State } from '../core/state.ts'
import type { Will } from '../core/will.ts'

const RECOUNT_MS = 1_000
/** Wills that came since the last count and have filled this share of the room: it is worth another. */
const RECOUNT_SHARE = 1 / 16

const bytesOf = ({ topic, payload, properties }: Will) =>
  topic.length + payload.length + properties.length

export class WillRoom {
  #bytes = Number.POSITIVE_INFINITY
  #counted = 0
  #countedMs = Number.NEGATIVE_INFINITY

  /** Takes the room that a client's will needs; false: there is none. `nowMs` is the store's time. */
  take(state: State, will: Will, bytesMax: number, nowMs: number): boolean {
    const bytes = bytesOf(will)
    if (this.#bytes + bytes > bytesMax && this.#isCountOld(bytesMax, nowMs)) {
      this.#bytes = count(state)
      this.#counted = this.#bytes
      this.#countedMs = nowMs
    }
    if (this.#bytes + bytes > bytesMax) return false
    this.#bytes += bytes
    return true
  }

  #isCountOld(bytesMax: number, nowMs: number): boolean {
    if (nowMs - this.#countedMs >= RECOUNT_MS) return true
    return this.#bytes - this.#counted >= bytesMax * RECOUNT_SHARE
  }
}

function count(state: State): number {
  let bytes = 0
  for (const session of state.sessions.values()) {
    if (session.will !== null) bytes += bytesOf(session.will)
  }
  for (const { will } of state.orphanWills.values()) bytes += bytesOf(will)
  return bytes
}
