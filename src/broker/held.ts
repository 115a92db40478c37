/**
 * What a queue holds for a time: messages that came back and are to come again later (RabbitMQ's delayed retry).
 * They stay in their queue, in their place, but are ready to nobody; only when each is due stands beside it
 * (`Queue.held`). For all of a queue there is one deadline, on store time.
 */
import { heldSequences } from '../core/held.ts'
import type { Queue } from '../core/queue.ts'
import {
  ENTRY_COUNT,
  ENTRY_COUNT_SHIFT,
  ENTRY_EXPIRES,
  ENTRY_STATE,
  RETRY,
  UNACKED
} from '../core/queue-entry.ts'
import { KIND } from '../core/records/kinds.ts'
import { writeHeld, writeReturned, writeUnheld } from '../core/records/held.ts'
import { expiryIn } from '../core/records/message.ts'
import { LAZY } from '../journal/journal.ts'
import { Deadline } from '../lib/deadline-heap.ts'
import { append } from './append.ts'
import { VIEWED, view, viewed } from './bodies.ts'
import type { Broker, Timed } from './broker.ts'
import { KeptLetters } from './kept-letters.ts'
import { queueClockOf } from './queue-clock.ts'
import { discard, headChanged, lifeOf, manyOf, type QueueLife } from './queue-life.ts'

/** With a type of delayed retry, and no time. */
const RETRY_MIN_MS = 1_000

/** A queue's held messages are due. */
class HeldDue implements Timed {
  readonly #life: QueueLife

  constructor(life: QueueLife) {
    this.#life = life
  }

  onDue(): void {
    this.#life.isHeldDue = true
    this.#life.schedule()
  }
}

/** Writes down how often a message was delivered, so that a kill does not forget it. Lazy: nobody waits for it. */
export function noteReturned(broker: Broker, queue: Queue, sequence: number, count: number): void {
  if (!queue.isDurable || broker.journal.failed) return
  writeReturned(broker.writer, queue.id, sequence, count)
  append(broker, KIND.returned, LAZY)
}

/**
 * The same of one that is delivered again now: its power may go before it comes back, each time. Its fields are
 * those from before it was taken.
 */
export function countTaken(queue: Queue, sequence: number): number {
  return countOf(queue, sequence) + 1
}

/**
 * A ready message was delivered more often than its queue allows, as only a kill leaves it: it goes. The queue has its
 * fields; true: nobody gets it.
 */
export function discardSpent(broker: Broker, queue: Queue, sequence: number): boolean {
  const { deliveryLimit } = queue.options
  if (deliveryLimit < 0 || countOf(queue, sequence) <= deliveryLimit) return false
  discard(broker, queue, sequence, 'delivery_limit', true)
  return true
}

/** Deliveries of the entry whose fields the queue has. */
export function countOf(queue: Queue, sequence: number): number {
  return manyOf(queue, sequence) || (queue.flags & ENTRY_COUNT) >> ENTRY_COUNT_SHIFT
}

/**
 * A delivery came back: it is held if its queue says so, and the broker holds not too many yet. `isFailure`: it was
 * rejected, or its consumer is gone. False: it goes back at once.
 */
export function holdReturned(
  broker: Broker,
  queue: Queue,
  sequence: number,
  isFailure: boolean
): boolean {
  const { retryType, retryMinMs, retryMaxMs } = queue.options
  if (retryType === 'disabled' || (retryType !== 'all' && isFailure !== (retryType === 'failed'))) {
    return false
  }
  const { state, limits } = broker
  if (!queue.find(sequence) || (queue.flags & ENTRY_STATE) !== UNACKED) return false
  if (state.heldCount + state.delays.count >= limits.delayedMessagesMax) return false
  const count = Math.max(1, countOf(queue, sequence))
  const delayMs = (retryMinMs < 0 ? RETRY_MIN_MS : retryMinMs) * count
  const dueAt = broker.nowMs + (retryMaxMs < 0 ? delayMs : Math.min(delayMs, retryMaxMs))
  const ends = expiryOf(broker, queue)
  hold(broker, queue, sequence, ends > 0 ? Math.min(dueAt, ends) : dueAt, RETRY, count)
  armHeld(lifeOf(broker, queue))
  return true
}

/** When the entry whose fields the queue has expires; 0: never, or nobody knows before its body is read. */
function expiryOf(broker: Broker, queue: Queue): number {
  if ((queue.flags & ENTRY_EXPIRES) === 0) return 0
  if (view(broker, queue.segment, queue.offset) !== VIEWED) return 0
  return expiryIn(broker.stored.source, broker.stored, viewed.end, queue.id)
}

/** Held from now on, with its record. `why`: `RETRY`, or of what it died. */
export function hold(
  broker: Broker,
  queue: Queue,
  sequence: number,
  dueAt: number,
  why: number,
  count: number
): void {
  broker.state.hold(queue, sequence, dueAt, why, count)
  if (!queue.isDurable || broker.journal.failed) return
  broker.writer.varint(queue.id)
  writeHeld(broker.writer, dueAt, sequence, why, count)
  append(broker, KIND.held, LAZY)
}

/** The first of those held is ready again: its due time has come. */
export function letFirstGo(broker: Broker, queue: Queue): void {
  const { held } = queue
  held!.first()
  const { dueAt, sequence } = held!
  const wasThere = broker.state.unhold(queue, dueAt, sequence)
  if (wasThere && queue.isDurable && !broker.journal.failed) {
    writeUnheld(broker.writer, queue.id, dueAt, sequence)
    append(broker, KIND.unheld, LAZY)
  }
  if (queue.mayExpire) headChanged(broker, queue)
}

/** The deadline of the queue's held messages is that of the first. */
export function armHeld(life: QueueLife): void {
  const { held } = life.queue
  if (held === null || life.isHeldDue) return
  life.due ??= new Deadline<Timed>(new HeldDue(life))
  const at = held.next
  if (!life.due.isSet || at < life.due.at) queueClockOf(life.broker).set(life.due, at)
}

/** After a replay: what is held waits on; what is held and has no time any more is ready. */
export function wakeHeld(broker: Broker, queue: Queue): void {
  broker.state.forgetFinished(queue)
  const { held, letters } = queue
  if (queue.unackedCount > (held?.count ?? 0) + (letters?.count ?? 0)) {
    const known = new Set(heldSequences(queue))
    for (let at = queue.after(0); at > 0; at = queue.after(at)) {
      if (!known.has(at)) queue.unhold(at)
    }
  }
  if (held !== null) armHeld(lifeOf(broker, queue))
  if (letters !== null) queueClockOf(broker).keep(keptOf(lifeOf(broker, queue)), 0)
}

/** Made when the first of its dead letters is not taken. */
export function keptOf(life: QueueLife): KeptLetters {
  life.kept ??= new KeptLetters(() => life.schedule())
  return life.kept
}
