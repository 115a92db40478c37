/** basic.get: one message, now or when its block was read. */
import type { Message } from '../core/message.ts'
import { COLD, ENTRY_EXPIRES, ENTRY_REDELIVERED, NOTHING, type Queue } from '../core/queue.ts'
import type { BlockWaiter } from '../journal/journal.ts'
import { load, VIEWED, view } from './bodies.ts'
import type { Broker } from './broker.ts'
import { DELIVER_REDELIVERED } from './consumer.ts'
import { warm } from './deliver.ts'
import { finish } from './finish.ts'

/** Gets the answer; `message` is a view for this turn, null when the queue is empty. */
export interface Taker {
  onGot(message: Message | null, sequence: number, flags: number, remaining: number): void
}

/** Answers at once, or when the block is in memory. With `noAck` the message is settled. */
export function get(broker: Broker, queue: Queue, taker: Taker, noAck: boolean): void {
  for (;;) {
    if (queue.isDeleted) {
      taker.onGot(null, 0, 0, 0)
      return
    }
    const sequence = queue.next()
    if (sequence === NOTHING) {
      taker.onGot(null, 0, 0, 0)
      return
    }
    if (sequence === COLD) {
      const chunk = queue.coldChunk!
      if (warm(broker, queue, chunk)) continue
      load(broker, chunk.segment, chunk.offset, new GetWaiter(broker, queue, taker, noAck, -1))
      return
    }
    const found = view(broker, queue.segment, queue.offset)
    if (found !== VIEWED) {
      const waiter = new GetWaiter(broker, queue, taker, noAck, sequence)
      load(broker, queue.segment, queue.offset, waiter)
      return
    }
    if ((queue.flags & ENTRY_EXPIRES) !== 0 && broker.stored.expiresAt <= broker.nowMs) {
      finish(broker, queue, sequence)
      broker.counters.dropFrom(queue.name, 'expired')
      continue
    }
    const isOld = sequence < queue.redeliveredBelow
    const flags = isOld || (queue.flags & ENTRY_REDELIVERED) !== 0 ? DELIVER_REDELIVERED : 0
    queue.take(sequence)
    taker.onGot(broker.stored, sequence, flags, queue.readyCount)
    if (noAck) finish(broker, queue, sequence)
    return
  }
}

class GetWaiter implements BlockWaiter {
  readonly #broker: Broker
  readonly #queue: Queue
  readonly #taker: Taker
  readonly #noAck: boolean
  readonly #sequence: number

  constructor(broker: Broker, queue: Queue, taker: Taker, noAck: boolean, sequence: number) {
    this.#broker = broker
    this.#queue = queue
    this.#taker = taker
    this.#noAck = noAck
    this.#sequence = sequence
  }

  onBlock(_segment: number, _offset: number, ok: boolean): void {
    if (!ok) {
      // What cannot be read is given up, counted: the one behind it can be had.
      if (this.#sequence < 0) this.#queue.dropCold(this.#queue.coldChunk!)
      else finish(this.#broker, this.#queue, this.#sequence)
      this.#broker.counters.dropFrom(this.#queue.name, 'damaged')
    }
    get(this.#broker, this.#queue, this.#taker, this.#noAck)
  }
}
