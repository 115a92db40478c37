/**
 * From a queue to its consumers: while something is ready and somebody has credit. Bounded work a
 * turn; what lies on the disk is asked for, and other queues go on meanwhile.
 */
import { expiryIn, identifiersOf } from '../core/records/message.ts'
import { readIndex } from '../core/records/queue-entries.ts'
import type { Message } from '../core/message.ts'
import { mayTopic } from '../core/permissions.ts'
import type { Chunk } from '../core/chunk.ts'
import { NOTHING } from '../core/entries.ts'
import { COLD, type Queue, readyOf } from '../core/queue.ts'
import {
  ENTRY_EXPIRES,
  ENTRY_HAS_IDS,
  ENTRY_QOS,
  ENTRY_QOS_SHIFT,
  ENTRY_REDELIVERED,
  ENTRY_RETAIN
} from '../core/queue-entry.ts'
import type { Session } from '../core/session.ts'
import { BytesReader } from '../lib/bytes-reader.ts'
import type { BlockWaiter } from '../journal/journal.ts'
import { DAMAGED, load, NOT_LOADED, view, viewed } from './bodies.ts'
import type { Broker } from './broker.ts'
import { type Consumer, connectionOf, DELIVER_REDELIVERED, DELIVER_RETAIN } from './consumer.ts'
import { withDeliveryCount } from './delivery-count.ts'
import { finish } from './finish.ts'
import { countTaken, discardSpent, noteReturned } from './held.ts'
import { Consumers } from './queue-consumers.ts'
import { expireSoon, headChanged, nothingExpires } from './queue-life.ts'
import { topicOf } from './routing.ts'

/** Deliveries of one queue in one turn. */
const BUDGET = 512

/** What hangs on a queue; made when it is first asked for. */
export function consumersOf(broker: Broker, queue: Queue): Consumers {
  if (queue.attached !== null) return queue.attached as Consumers
  const { levels } = queue
  if (levels !== null) {
    const consumers = new Consumers(broker, levels.owner, null, deliver)
    levels.attach(consumers)
    return consumers
  }
  const session = queue.isSession ? (broker.state.sessions.get(queue.id) ?? null) : null
  const consumers = new Consumers(broker, queue, session, deliver)
  queue.attached = consumers
  return consumers
}

/** How many consumers a queue has. */
export function consumerCount(queue: Queue): number {
  return queue.attached === null ? 0 : (queue.attached as Consumers).list.length
}

/** A consumer of this queue has credit again. */
export function ready(broker: Broker, queue: Queue): void {
  credited(queue)
  goOn(broker, queue)
}

/** The same of several consumers: said of each of them first, then `goOn` for each. */
export function credited(queue: Queue): void {
  if (queue.attached !== null) (queue.attached as Consumers).isStarved = false
}

export function goOn(broker: Broker, queue: Queue): void {
  if (queue.attached !== null && readyOf(queue) > 0) deliver(broker, queue.attached as Consumers)
}

/** Delivers what is ready to who has credit. */
export function deliver(broker: Broker, consumers: Consumers): void {
  const { queue: whole, session } = consumers
  const { levels } = whole
  if (consumers.isLoading || whole.isDeleted) return
  if (whole.isDurable && broker.journal.failed) return
  for (let left = BUDGET; left > 0; left--) {
    const queue = levels === null ? whole : levels.top()
    if (queue.readyCount === 0) {
      if (queue.mayExpire) nothingExpires(broker, queue)
      return
    }
    const consumer = consumers.pick()
    if (consumer === null) {
      if (queue.mayExpire && session === null) headChanged(broker, queue)
      return
    }
    const sequence = queue.next()
    if (sequence === NOTHING) return
    if (sequence === COLD) {
      warmNext(broker, consumers, queue)
      return
    }
    if (!deliverOne(broker, consumers, queue, consumer, sequence)) return
  }
  if (readyOf(whole) > 0) consumers.schedule()
}

/** One entry, whose fields the queue holds. False: nothing more can be delivered in this turn. */
function deliverOne(
  broker: Broker,
  consumers: Consumers,
  queue: Queue,
  consumer: Consumer,
  sequence: number
): boolean {
  const { session } = consumers
  if (session !== null && mustWait(session, queue, sequence)) return false
  const found = view(broker, queue.segment, queue.offset)
  if (found === NOT_LOADED) {
    loadNext(broker, consumers, queue)
    return false
  }
  if (found === DAMAGED) {
    finish(broker, queue, sequence)
    if (session !== null) freed(broker, session)
    broker.counters.dropFrom(queue, 'damaged')
    broker.log.error({ queue: queue.name, sequence }, 'a message is damaged on the disk')
    return true
  }
  const message = broker.stored
  if (session !== null && !mayStillRead(session, message)) {
    finish(broker, queue, sequence)
    freed(broker, session)
    broker.counters.dropFrom(queue, 'not_authorized')
    return true
  }
  if ((queue.flags & ENTRY_EXPIRES) !== 0 && hasExpired(broker, queue, session, message)) {
    if (queue.options.deadLetterExchange !== null) {
      expireSoon(broker, queue)
      return false
    }
    finish(broker, queue, sequence)
    if (session !== null) freed(broker, session)
    broker.counters.dropFrom(queue, 'expired')
    return true
  }
  let identifiers: number[] | null = null
  if ((queue.flags & ENTRY_HAS_IDS) !== 0) {
    const move = queue.moves?.get(sequence)
    identifiers =
      move === undefined
        ? identifiersOf(message.source, message, viewed.end, queue.id)
        : [move.identifier]
  }
  hand(broker, consumers, queue, consumer, message, sequence, identifiers)
  return true
}

/** The message that `view` read, for the entry whose fields the queue holds. */
function hasExpired(
  broker: Broker,
  queue: Queue,
  session: Session | null,
  message: Message
): boolean {
  if (session === null) {
    return expiryIn(message.source, message, viewed.end, queue.id) <= broker.nowMs
  }
  // [MQTT-4.3.3-7], [MQTT-3.3.2-5]: what was sent once to a client does not expire on the way.
  return message.expiresAt <= broker.nowMs && (queue.flags & ENTRY_REDELIVERED) === 0
}

/**
 * A session has credit again because something in its queue was dropped: the shared groups that passed it by
 * go on in a later turn.
 */
export function freed(broker: Broker, session: Session): void {
  const { starved } = session
  if (starved === null) return
  session.starved = null
  for (const groupId of starved) {
    const group = broker.state.groups.get(groupId)
    if (group !== undefined) consumersOf(broker, group.queue).schedule()
  }
}

/** What waited may have become forbidden to its client since it was routed (design.md §6). */
function mayStillRead(session: Session, message: Message): boolean {
  const principal = connectionOf(session)?.principal
  if (principal === undefined || principal.isUnrestricted) return true
  const topic = topicOf(message.form, message.keyText())
  return mayTopic(principal, 'read', topic, session.clientId)
}

/** Takes the entry whose fields the queue holds, and hands it over. */
function hand(
  broker: Broker,
  consumers: Consumers,
  queue: Queue,
  consumer: Consumer,
  message: Message,
  sequence: number,
  identifiers: readonly number[] | null
): void {
  const { levels } = queue
  const flags = queue.flags
  const isOld = sequence < queue.redeliveredBelow
  const isCounted = (isOld || (flags & ENTRY_REDELIVERED) !== 0) && queue.options.countsDeliveries
  if (isCounted && discardSpent(broker, queue, sequence)) return
  queue.take(sequence)
  consumers.passTurn()
  if (isCounted) {
    message = withDeliveryCount(broker, queue, sequence, flags, message)
    if (!consumer.noAck) noteReturned(broker, queue, sequence, countTaken(queue, sequence))
  }
  consumer.deliver(
    message,
    consumers.queue,
    levels === null ? sequence : levels.nameOf(queue, sequence),
    deliverFlags(flags, isOld),
    identifiers
  )
  if (consumer.noAck) finish(broker, queue, sequence)
}

function deliverFlags(flags: number, isOld: boolean): number {
  return (
    ((flags & ENTRY_QOS) >> ENTRY_QOS_SHIFT) |
    ((flags & ENTRY_RETAIN) !== 0 ? DELIVER_RETAIN : 0) |
    (isOld || (flags & ENTRY_REDELIVERED) !== 0 ? DELIVER_REDELIVERED : 0)
  )
}

/**
 * A message that was just put at the end of a queue: handed over at once when nothing waits before it,
 * straight from the publisher's bytes.
 */
export function deliverNew(
  broker: Broker,
  queue: Queue,
  message: Message,
  sequence: number,
  identifiers: readonly number[] | null
): void {
  const consumers = queue.attached as Consumers | null
  if (consumers === null) return
  if (consumers.list.length === 0 || consumers.isLoading) {
    // Of a stream this is always so: its readers go on by themselves.
    if (queue.stream !== null) queue.stream.onStored()
    return
  }
  if (queue.isDurable && broker.journal.failed) return
  // What waits in a higher level goes first.
  if (queue.readyCount !== 1 || consumers.isScheduled || queue.levels !== null) {
    if (!consumers.isScheduled && queue.readyCount <= BUDGET) deliver(broker, consumers)
    return
  }
  const { session } = consumers
  if (!queue.find(sequence)) return
  if (session !== null && mustWait(session, queue, sequence)) return
  const consumer = consumers.pick()
  if (consumer !== null) hand(broker, consumers, queue, consumer, message, sequence, identifiers)
}

/**
 * A session's delivery waits while an older one has its packet identifier open; a QoS 2 delivery of a
 * lasting session until its record is durable, else the identifier may be given twice over a crash.
 */
function mustWait(session: Session, queue: Queue, sequence: number): boolean {
  const held = session.heldSequences
  if (held.length > 0 && sequence >= held[0]!) return true
  if (sequence - session.oldestOpen < 65_535) return false
  const isOpen = session.isPacketIdOpen(sequence)
  queue.find(sequence)
  return isOpen
}

/** After a sync: QoS 2 deliveries whose records are durable may leave. */
export function unhold(broker: Broker, durable: number): void {
  for (const session of broker.held) {
    let count = 0
    while (count < session.heldTickets.length && session.heldTickets[count]! <= durable) count++
    if (count === 0) continue
    session.heldTickets.splice(0, count)
    session.heldSequences.splice(0, count)
    if (session.heldSequences.length === 0) broker.held.delete(session)
    ready(broker, session.queue)
  }
}

/** Goes on when the block of the next message is there. */
class BodyWaiter implements BlockWaiter {
  readonly #broker: Broker
  readonly #consumers: Consumers
  readonly #queue: Queue
  readonly #sequence: number

  constructor(broker: Broker, consumers: Consumers, queue: Queue, sequence: number) {
    this.#broker = broker
    this.#consumers = consumers
    this.#queue = queue
    this.#sequence = sequence
  }

  onBlock(segment: number, offset: number, ok: boolean): void {
    const queue = this.#queue
    this.#consumers.isLoading = false
    if (!ok && isThere(queue, this.#sequence, segment, offset)) {
      finish(this.#broker, queue, this.#sequence)
      if (this.#consumers.session !== null) freed(this.#broker, this.#consumers.session)
      this.#broker.counters.dropFrom(queue, 'damaged')
      this.#broker.log.error({ queue: queue.name }, 'a message is damaged on the disk')
    }
    deliver(this.#broker, this.#consumers)
  }
}

/** It may have been moved or settled while its block was read. */
function isThere(queue: Queue, sequence: number, segment: number, offset: number): boolean {
  return queue.find(sequence) && queue.segment === segment && queue.offset === offset
}

function loadNext(broker: Broker, consumers: Consumers, queue: Queue): void {
  consumers.isLoading = true
  const waiter = new BodyWaiter(broker, consumers, queue, queue.next())
  load(broker, queue.segment, queue.offset, waiter)
}

/** Reads a cold chunk's entries back into memory. */
class ChunkWaiter implements BlockWaiter {
  readonly #broker: Broker
  readonly #consumers: Consumers
  readonly #queue: Queue
  readonly #chunk: Chunk

  constructor(broker: Broker, consumers: Consumers, queue: Queue, chunk: Chunk) {
    this.#broker = broker
    this.#consumers = consumers
    this.#queue = queue
    this.#chunk = chunk
  }

  onBlock(segment: number, offset: number, ok: boolean): void {
    const queue = this.#queue
    this.#consumers.isLoading = false
    afterIndexRead(this.#broker, queue, this.#chunk, segment, offset, ok)
    deliver(this.#broker, this.#consumers)
  }
}

function warmNext(broker: Broker, consumers: Consumers, queue: Queue): void {
  const chunk = queue.coldChunk!
  if (broker.journal.view(chunk.segment, chunk.offset) && warm(broker, queue, chunk)) {
    consumers.schedule()
    return
  }
  consumers.isLoading = true
  load(broker, chunk.segment, chunk.offset, new ChunkWaiter(broker, consumers, queue, chunk))
}

/** Warms a chunk whose index was asked for at this position, or gives it up when that is damaged. */
export function afterIndexRead(
  broker: Broker,
  queue: Queue,
  chunk: Chunk,
  segment: number,
  offset: number,
  ok: boolean
): void {
  // Compaction may have moved it meanwhile: then it is asked for again.
  if (chunk.segment !== segment || chunk.offset !== offset) return
  if (queue.coldChunkOf(chunk.start) !== chunk || (ok && warm(broker, queue, chunk))) return
  broker.log.error({ queue: queue.name, segment, offset }, 'index of a queue is damaged')
  broker.counters.dropFrom(queue, 'damaged', chunk.live)
  broker.state.dropCold(queue, chunk)
}

/** The chunk's index record is in memory: its entries are taken out of it. False: it is not that. */
export function warm(broker: Broker, queue: Queue, chunk: Chunk): boolean {
  // Warm already, or gone with a purge.
  if (queue.coldChunkOf(chunk.start) !== chunk) return true
  const { journal } = broker
  if (!journal.view(chunk.segment, chunk.offset)) return false
  const words = readIndex(
    new BytesReader(journal.viewBuffer, journal.viewStart, journal.viewEnd),
    chunk
  )
  if (words === null) return false
  broker.state.warm(queue, chunk, words)
  broker.longQueues.add(queue)
  return true
}
