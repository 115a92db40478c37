/**
 * The messages that an exchange of type `x-delayed-message` holds back. Not a queue: there entries lie by
 * sequence, and one message that is due in years would keep a chunk of a thousand in memory.
 */
import { DueEntries } from './due-entries.ts'
import { DELAY } from './target-kinds.ts'

export class DelayStore extends DueEntries {
  readonly kind = DELAY
  /** Out of the numbers of queues: never used twice. */
  readonly id: number
  readonly vhost: string
  /** Name of the exchange. */
  readonly exchange: string
  readonly isDurable: boolean
  isDeleted: boolean
  /** Who lets them go when they are due: the broker's business. */
  attached: object | null

  constructor(id: number, vhost: string, exchange: string, isDurable: boolean) {
    super()
    this.id = id
    this.vhost = vhost
    this.exchange = exchange
    this.isDurable = isDurable
    this.isDeleted = false
    this.attached = null
  }
}
