/**
 * How many bytes of wills are kept in memory, as an upper bound: it grows with each will that is taken, and is counted
 * anew when it would refuse one, once a second at most. So no place that ends a will has to know of it.
 */
import type { State } from '../core/state.ts'
import type { Will } from '../core/will.ts'

const RECOUNT_MS = 1_000

const bytesOf = ({ topic, payload, properties }: Will) =>
  topic.length + payload.length + properties.length

export class WillRoom {
  #bytes = Number.POSITIVE_INFINITY
  #countedMs = Number.NEGATIVE_INFINITY

  /** Takes the room that a client's will needs; false: there is none. `nowMs` is the store's time. */
  take(state: State, will: Will, bytesMax: number, nowMs: number): boolean {
    const bytes = bytesOf(will)
    if (this.#bytes + bytes > bytesMax && nowMs - this.#countedMs >= RECOUNT_MS) {
      this.#bytes = count(state)
      this.#countedMs = nowMs
    }
    if (this.#bytes + bytes > bytesMax) return false
    this.#bytes += bytes
    return true
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
