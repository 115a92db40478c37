/** Which exchanges a virtual host's queues are bound to: a queue that ends is looked for there alone. */
import type { Exchange, QueueTarget } from './exchange.ts'

export class BoundQueues {
  /** A queue that one exchange feeds, as most, needs no set of its own. */
  readonly #sources: Map<QueueTarget, Exchange | Set<Exchange>>

  constructor() {
    this.#sources = new Map()
  }

  get size(): number {
    return this.#sources.size
  }

  add(queue: QueueTarget, source: Exchange): void {
    const known = this.#sources.get(queue)
    if (known === undefined) this.#sources.set(queue, source)
    else if (known instanceof Set) known.add(source)
    else if (known !== source) this.#sources.set(queue, new Set([known, source]))
  }

  /** The last of its bindings to the queue is gone. */
  remove(queue: QueueTarget, source: Exchange): void {
    const known = this.#sources.get(queue)
    if (known instanceof Set) {
      known.delete(source)
      if (known.size > 0) return
    } else if (known !== source) return
    this.#sources.delete(queue)
  }

  /** The queue ends: all of its exchanges. */
  take(queue: QueueTarget): Iterable<Exchange> {
    const known = this.#sources.get(queue)
    if (known === undefined) return []
    this.#sources.delete(queue)
    return known instanceof Set ? known : [known]
  }
}
