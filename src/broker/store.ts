/** One record for all destinations of a message, then their places in the queues, then deliveries. */
import type { Message } from '../core/message.ts'
import type { Queue } from '../core/queue.ts'
import { ENTRY_EXPIRES, ENTRY_QOS, ENTRY_QOS_SHIFT, shareFlags } from '../core/queue-entry.ts'
import {
  messageBytesMax,
  SETTLED_BYTES_MAX,
  writeDestination,
  writeMessage,
  writeSettled
} from '../core/records/message.ts'
import { KIND } from '../core/records/kinds.ts'
import { RetainedSlot } from '../core/retained.ts'
import type { Session } from '../core/session.ts'
import { AWAITED, LAZY } from '../journal/journal.ts'
import type { Broker } from './broker.ts'
import type { Publisher } from './consumer.ts'
import { rememberMarks, writeMarks } from './deduplicate.ts'
import { deliverNew } from './deliver.ts'
import { noteExpiring } from './queue-life.ts'
import { GROWTH_NOTED, noteGrown } from './spill.ts'
import { targets } from './targets.ts'

/**
 * `recordEnds` of a message that leaves the entry `leaving`: the record that stores it ends that. `time`: when it was
 * due, in a store of delayed messages.
 */
export const LEAVING = -1
export const leaving = { queueId: 0, sequence: 0, time: 0 }

/**
 * Stores the message for `targets`, keeps `inbound`'s packet identifier and the retained slot.
 * Returns the ticket that the publisher's acknowledgement waits for, 0 for none.
 */
export function store(
  broker: Broker,
  message: Message,
  publisher: Publisher | null,
  inbound: Session | null,
  isRetained: boolean
): number {
  const count = targets.count
  const keepsInbound = inbound?.isLasting
  if (count === 0 && !isRetained) {
    if (!targets.isPlain) return storeNothing(broker, message, inbound)
    return inbound === null ? 0 : keepInbound(broker, inbound, message.packetId)
  }
  const isJournaled = targets.isDurable || isRetained || keepsInbound
  const position = isJournaled
    ? journalMessage(broker, message, publisher, keepsInbound ? inbound : null, isRetained)
    : slabMessage(broker, message)
  const ticket = isJournaled && message.isAwaited ? broker.journal.ticket : 0
  if (inbound !== null) broker.state.openInbound(inbound.id, message.packetId, ticket)
  enter(broker, message, position.segment, position.offset, isRetained, ticket)
  if (isRetained) retain(broker, message, publisher!, position.segment, position.offset, count)
  for (let i = 0; i < count; i++) {
    const queue = targets.queues[i]!
    deliverNew(broker, queue, message, targets.sequences[i]!, targets.identifiers[i]!)
    if ((targets.flags[i]! & ENTRY_EXPIRES) !== 0) noteExpiry(broker, queue, message, i)
  }
  return ticket
}

/** No queue takes it, but its key is to be remembered, or it is a duplicate. */
function storeNothing(broker: Broker, message: Message, inbound: Session | null): number {
  rememberMarks(broker, 0)
  const ticket = inbound === null ? 0 : keepInbound(broker, inbound, message.packetId)
  return message.isAwaited ? Math.max(ticket, targets.waitFor) : ticket
}

/** An inbound QoS 2 message that nobody keeps: its identifier must be known until PUBREL all the same. */
function keepInbound(broker: Broker, session: Session, packetId: number): number {
  let ticket = 0
  if (session.isLasting) ticket = appendPair16(broker, session.id, packetId)
  broker.state.openInbound(session.id, packetId, ticket)
  return ticket
}

function appendPair16(broker: Broker, id: number, packetId: number): number {
  broker.writer.varint(id)
  broker.writer.u16(packetId)
  const { journal, writer } = broker
  const at = journal.begin(writer.length)
  writer.buffer.copy(journal.buffer, at, 0, writer.length)
  const ticket = journal.end(KIND.inbound, at + writer.length, AWAITED)
  writer.reset()
  return ticket
}

function journalMessage(
  broker: Broker,
  message: Message,
  publisher: Publisher | null,
  inbound: Session | null,
  isRetained: boolean
) {
  const journal = broker.journal
  const bytesMax = messageBytesMax(message) + targets.bytesMax + SETTLED_BYTES_MAX
  const begin = journal.begin(bytesMax)
  const retainedSequence = isRetained ? ++broker.state.retainedSequence : 0
  const vhost = isRetained ? publisher!.vhost.name : ''
  // A will ends in the record that publishes it: no crash can lose or double it between the two.
  const inboundId = inbound === null ? message.recordEnds : inbound.id
  message.recordEnds = 0
  let at = writeMessage(journal.buffer, begin, message, inboundId, retainedSequence, vhost)
  at = writeTargets(broker, journal.buffer, at, true)
  if (inboundId < 0) at = writeLeaving(journal.buffer, at)
  journal.end(KIND.message, at, message.isAwaited ? AWAITED : LAZY)
  return journal
}

function writeLeaving(buffer: Buffer, at: number): number {
  return writeSettled(buffer, at, leaving.queueId, leaving.sequence, leaving.time)
}

/** For those who end with the process: memory, or beyond its share a record that replay skips. */
function slabMessage(broker: Broker, message: Message) {
  const { slabs, journal } = broker
  const bytesMax = messageBytesMax(message) + targets.bytesMax
  if (slabs.bytes + bytesMax > broker.limits.memoryBytesMax && broker.refusal === 0) {
    // `begin` may change `buffer`: it comes first.
    const open = journal.begin(bytesMax)
    const at = writeMessage(journal.buffer, open, message, 0, 0, '')
    journal.end(KIND.transient, writeTargets(broker, journal.buffer, at, false), LAZY)
    return journal
  }
  const begin = slabs.begin(bytesMax)
  const at = writeMessage(slabs.buffer, begin, message, 0, 0, '')
  slabs.end(writeTargets(broker, slabs.buffer, at, false))
  return slabs
}

function writeTargets(broker: Broker, buffer: Buffer, at: number, lasts: boolean): number {
  if (!targets.isPlain) return writeAll(broker, buffer, at, lasts)
  for (let i = 0; i < targets.count; i++) {
    const queue = targets.queues[i]!
    const sequence = queue.nextSequence
    targets.sequences[i] = sequence
    at = writeDestination(
      buffer,
      at,
      queue.id,
      sequence,
      targets.flags[i]!,
      !queue.isDurable,
      targets.identifiers[i]!
    )
  }
  return at
}

/** Where some have times of their own, or keys are remembered. */
function writeAll(broker: Broker, buffer: Buffer, at: number, lasts: boolean): number {
  for (let i = 0; i < targets.count; i++) {
    const queue = targets.queues[i]!
    const sequence = queue.nextSequence
    const time = targets.hasTimes ? targets.times[i]! : 0
    targets.sequences[i] = sequence
    const isTransient = !queue.isDurable
    const ids = targets.identifiers[i]!
    const flags = targets.flags[i]!
    at = writeDestination(buffer, at, queue.id, sequence, flags, isTransient, ids, time)
  }
  if (lasts) at = writeMarks(buffer, at, true)
  // The record's ticket is the next.
  rememberMarks(broker, lasts ? broker.journal.ticket + 1 : 0)
  return at
}

function enter(
  broker: Broker,
  message: Message,
  segment: number,
  offset: number,
  isRetained: boolean,
  ticket: number
): void {
  const bytes = message.payloadEnd - message.payloadStart
  const shares = targets.count + (isRetained && bytes > 0 ? 1 : 0)
  const share = shareFlags(shares)
  for (let i = 0; i < targets.count; i++) {
    const queue = targets.queues[i]!
    const flags = targets.flags[i]! | share
    broker.state.insertEntry(queue, targets.sequences[i]!, segment, offset, bytes, flags)
    if (queue.hotEntries % GROWTH_NOTED === 0) noteGrown(broker, queue)
    const isQos2 = (flags & ENTRY_QOS) >> ENTRY_QOS_SHIFT === 2
    if (isQos2 && queue.isDurable && queue.isSession) {
      hold(broker, queue, targets.sequences[i]!, ticket)
    }
  }
}

/** What nobody has taken at once is looked at when it expires. */
function noteExpiry(broker: Broker, queue: Queue, message: Message, index: number): void {
  if (queue.isSession || queue.readyCount === 0) return
  const own = targets.hasTimes ? targets.times[index]! : 0
  const { expiresAt } = message
  noteExpiring(broker, queue, own > 0 && (expiresAt === 0 || own < expiresAt) ? own : expiresAt)
}

/** A lasting session's QoS 2 delivery leaves when its record is durable (journal.md §2). */
function hold(broker: Broker, queue: Queue, sequence: number, ticket: number): void {
  const session = broker.state.sessions.get(queue.id)
  if (session === undefined) return
  session.heldSequences.push(sequence)
  session.heldTickets.push(ticket === 0 ? broker.journal.ticket : ticket)
  broker.held.add(session)
}

function retain(
  broker: Broker,
  message: Message,
  publisher: Publisher,
  segment: number,
  offset: number,
  count: number
): void {
  const bytes = message.payloadEnd - message.payloadStart
  const vhost = publisher.vhost.name
  const topic = message.topicText()
  if (bytes === 0) {
    broker.state.clearRetained(vhost, topic)
    return
  }
  const share = shareFlags(count + 1)
  const { retainedSequence } = broker.state
  const slot = new RetainedSlot(topic, segment, offset, bytes, share, retainedSequence)
  if (message.isAwaited) slot.ticket = broker.journal.ticket
  broker.state.setRetained(vhost, slot)
}
