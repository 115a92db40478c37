/**
 * How many bytes of wills are kept in memory, as an upper bound: it grows with each will that is taken, and is counted
 * anew when it would refuse one, once a second at most. So no place that ends a will has to know of it.
 */
import type { Will } from '../core/will.ts'
import type { Broker } from './broker.ts'

const RECOUNT_MS = 1_000

const bytesOf = ({ topic, payload, properties }: Will) =>
  topic.length + payload.length + properties.length

export class WillRoom {
  #bytes = Number.POSITIVE_INFINITY
  #countedMs = Number.NEGATIVE_INFINITY

  /** Takes the room that a client's will needs; false: there is none. */
  take(broker: Broker, will: Will): boolean {
    const { willBytesMax } = broker.limits
    const bytes = bytesOf(will)
    if (this.#bytes + bytes > willBytesMax && broker.nowMs - this.#countedMs >= RECOUNT_MS) {
      this.#bytes = count(broker)
      this.#countedMs = broker.nowMs
    }
    if (this.#bytes + bytes > willBytesMax) return false
    this.#bytes += bytes
    return true
  }
}

function count(broker: Broker): number {
  let bytes = 0
  for (const session of broker.state.sessions.values()) {
    if (session.will !== null) bytes += bytesOf(session.will)
  }
  for (const { will } of broker.state.orphanWills.values()) bytes += bytesOf(will)
  return bytes
}
