/** The consumers of a queue: who gets the next delivery. */
import type { Queue } from '../core/queue.ts'
import type { Session } from '../core/session.ts'
import type { Broker, TurnTask } from './broker.ts'
import type { Consumer } from './consumer.ts'

/** What the broker hangs on a queue while it is used. */
export class Consumers implements TurnTask {
  readonly broker: Broker
  readonly queue: Queue
  /** The session whose queue it is; its connection is the one consumer. */
  readonly session: Session | null
  readonly list: Consumer[]
  #next: number
  exclusive: Consumer | null
  hadConsumers: boolean
  /** `deliver` will be called again for it. */
  isScheduled: boolean
  /** A block is being read for its next delivery. */
  isLoading: boolean
  readonly #deliver: (broker: Broker, consumers: Consumers) => void

  constructor(
    broker: Broker,
    queue: Queue,
    session: Session | null,
    deliver: (broker: Broker, consumers: Consumers) => void
  ) {
    this.broker = broker
    this.queue = queue
    this.session = session
    this.list = []
    this.#next = 0
    this.exclusive = null
    this.hadConsumers = false
    this.isScheduled = false
    this.isLoading = false
    this.#deliver = deliver
  }

  /** The next consumer with credit, in turn; null when nobody has any. */
  pick(): Consumer | null {
    const list = this.list
    const count = list.length
    for (let i = 0; i < count; i++) {
      if (this.#next >= count) this.#next = 0
      const consumer = list[this.#next++]!
      if (consumer.hasCredit()) return consumer
    }
    return null
  }

  remove(consumer: Consumer): boolean {
    const at = this.list.indexOf(consumer)
    if (at < 0) return false
    this.list.splice(at, 1)
    if (this.exclusive === consumer) this.exclusive = null
    return true
  }

  /** Goes on delivering in another turn. */
  schedule(): void {
    if (this.isScheduled) return
    this.isScheduled = true
    setImmediate(runScheduled, this)
  }

  onTurnEnd(): void {
    this.isScheduled = false
    this.#deliver(this.broker, this)
  }
}

function runScheduled(consumers: Consumers): void {
  consumers.onTurnEnd()
}
