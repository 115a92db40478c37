/**
 * The record of a message: what the publisher sent, where it goes, and, in the same record because
 * they must not be separated by a crash, the inbound QoS 2 packet identifier and the retained slot.
 *
 *   flags u8 · [expiry f64] · [session, packet id: varints; packet id 0: it is that session's will] · [retained sequence varint, vhost]
 *   · [exchange, priority u8] · key · properties · payload, each behind a varint of its length
 *   · destinations to the end: queue id, sequence, flags u8, [count u8, subscription identifiers], [time f64]
 *
 * One of the destinations may be where the message comes from (a dead letter): it leaves that queue in the
 * record in which it enters the others, so that no crash loses or doubles it.
 *
 * The same bytes stand in the journal and, for what is not journaled, in a slab.
 */
import { copyBytes, VarintReader, writeVarint } from '../../lib/bytes.ts'
import type { Message, MessageForm } from '../message.ts'
import {
  ENTRY_EXPIRES,
  ENTRY_HAS_IDS,
  ENTRY_QOS,
  ENTRY_QOS_SHIFT,
  ENTRY_RETAIN,
  shareFlags,
  READY
} from '../queue-entry.ts'
import { RetainedSlot } from '../retained.ts'
import type { State } from '../state.ts'
import { applyMark } from './deduplication.ts'
import {
  TO_HAS_IDS,
  TO_HAS_TIME,
  TO_QOS,
  TO_REMEMBERS,
  TO_RETAIN,
  TO_SETTLES,
  TO_TRANSIENT
} from './destination.ts'

const QOS = 3
const RETAIN = 4
const FORM = 8
const EXPIRES = 16
const INBOUND = 32
const RETAINED = 64
const EXCHANGE = 128

/** The exchange that is not written out: MQTT's. */
const USUAL_EXCHANGE = 'amq.topic'
const FIXED_BYTES_MAX = 1 + 8 + 8 + 5 + 8 + 256 + 257 + 15
export const DESTINATION_BYTES_MAX = 8 + 8 + 2 + 8
/** What `writeSettled` needs. */
export const SETTLED_BYTES_MAX = 8 + 8 + 1 + 8

/** Bytes that a message without its destinations may need. */
export function messageBytesMax(message: Message): number {
  return (
    FIXED_BYTES_MAX +
    (message.keyEnd - message.keyStart) +
    (message.propertiesEnd - message.propertiesStart) +
    (message.payloadEnd - message.payloadStart)
  )
}

/**
 * Writes all but the destinations; returns the offset behind it. `sessionId` 0: no inbound packet
 * identifier is kept; `retainedSequence` 0: it is not retained.
 */
export function writeMessage(
  target: Buffer,
  at: number,
  message: Message,
  sessionId: number,
  retainedSequence: number,
  vhost: string
): number {
  const hasExchange = message.exchange !== USUAL_EXCHANGE || message.priority !== 0
  target[at++] =
    (message.qos & QOS) |
    (message.retain ? RETAIN : 0) |
    (message.form === 0 ? 0 : FORM) |
    (message.expiresAt > 0 ? EXPIRES : 0) |
    (sessionId > 0 ? INBOUND : 0) |
    (retainedSequence > 0 ? RETAINED : 0) |
    (hasExchange ? EXCHANGE : 0)
  if (message.expiresAt > 0) at = target.writeDoubleBE(message.expiresAt, at)
  if (sessionId > 0) {
    at = writeVarint(target, at, sessionId)
    at = writeVarint(target, at, message.packetId)
  }
  if (retainedSequence > 0) {
    at = writeVarint(target, at, retainedSequence)
    at = writeShortString(target, at, vhost)
  }
  if (hasExchange) {
    at = writeShortString(target, at, message.exchange)
    target[at++] = message.priority
  }
  const source = message.source
  at = writeVarint(target, at, message.keyEnd - message.keyStart)
  at = copyBytes(source, message.keyStart, message.keyEnd, target, at)
  at = writeVarint(target, at, message.propertiesEnd - message.propertiesStart)
  at = copyBytes(source, message.propertiesStart, message.propertiesEnd, target, at)
  at = writeVarint(target, at, message.payloadEnd - message.payloadStart)
  return copyBytes(source, message.payloadStart, message.payloadEnd, target, at)
}

/** Appends a destination; `entryFlags` are those of core/queue.ts, `time` 0 is none. */
export function writeDestination(
  target: Buffer,
  at: number,
  queueId: number,
  sequence: number,
  entryFlags: number,
  isTransient: boolean,
  identifiers: readonly number[] | null,
  time = 0
): number {
  at = writeVarint(target, at, queueId)
  at = writeVarint(target, at, sequence)
  target[at++] =
    ((entryFlags & ENTRY_QOS) >> ENTRY_QOS_SHIFT) |
    ((entryFlags & ENTRY_RETAIN) !== 0 ? TO_RETAIN : 0) |
    (identifiers !== null ? TO_HAS_IDS : 0) |
    (isTransient ? TO_TRANSIENT : 0) |
    (time > 0 ? TO_HAS_TIME : 0)
  if (identifiers !== null) {
    target[at++] = Math.min(identifiers.length, 255)
    for (let i = 0; i < identifiers.length && i < 255; i++)
      at = writeVarint(target, at, identifiers[i]!)
  }
  return time > 0 ? target.writeDoubleBE(time, at) : at
}

/** Appends the place that the message leaves; `time` names it in a store of delayed messages. */
export function writeSettled(
  target: Buffer,
  at: number,
  queueId: number,
  sequence: number,
  time = 0
): number {
  at = writeVarint(target, at, queueId)
  at = writeVarint(target, at, sequence)
  target[at++] = TO_SETTLES | (time > 0 ? TO_HAS_TIME : 0)
  return time > 0 ? target.writeDoubleBE(time, at) : at
}

function writeShortString(target: Buffer, at: number, text: string): number {
  const bytes = target.write(text, at + 1, 255, 'utf8')
  target[at] = bytes
  return at + 1 + bytes
}

/** What stands in a record beside the message itself; filled by `readMessage`. */
export class MessageRecord {
  sessionId = 0
  packetId = 0
  retainedSequence = 0
  vhost = ''
  destinationsStart = 0
  end = 0
}

const varint = new VarintReader()
const scratch = new MessageRecord()

/** Fills `message` (a view on `buffer`) and `record`. False: these bytes are no message record. */
export function readMessage(
  buffer: Buffer,
  start: number,
  end: number,
  message: Message,
  record: MessageRecord = scratch
): boolean {
  if (start >= end) return false
  const flags = buffer[start]!
  let at = start + 1
  message.renew()
  message.source = buffer
  message.key = ''
  message.qos = flags & QOS
  message.retain = (flags & RETAIN) !== 0
  message.form = ((flags & FORM) >> 3) as MessageForm
  message.publisherId = 0
  message.packetId = 0
  message.expiresAt = 0
  message.exchange = USUAL_EXCHANGE
  message.priority = 0
  record.sessionId = 0
  record.packetId = 0
  record.retainedSequence = 0
  if ((flags & EXPIRES) !== 0) {
    if (at + 8 > end) return false
    message.expiresAt = buffer.readDoubleBE(at)
    at += 8
  }
  if ((flags & (INBOUND | RETAINED | EXCHANGE)) !== 0) {
    at = readExtras(buffer, at, end, flags, message, record)
    if (at < 0) return false
  }
  return readParts(buffer, at, end, message, record)
}

function readExtras(
  buffer: Buffer,
  at: number,
  end: number,
  flags: number,
  message: Message,
  record: MessageRecord
): number {
  if ((flags & INBOUND) !== 0) {
    record.sessionId = varint.read(buffer, at, end)
    if (varint.at < 0) return -1
    record.packetId = varint.read(buffer, varint.at, end)
    at = varint.at
    if (at < 0) return -1
    message.packetId = record.packetId
  }
  if ((flags & RETAINED) !== 0) {
    record.retainedSequence = varint.read(buffer, at, end)
    at = varint.at
    if (at < 0 || at + 1 + buffer[at]! > end) return -1
    record.vhost = buffer.toString('utf8', at + 1, at + 1 + buffer[at]!)
    at += 1 + buffer[at]!
  }
  if ((flags & EXCHANGE) !== 0) {
    if (at >= end || at + 2 + buffer[at]! > end) return -1
    message.exchange = buffer.toString('utf8', at + 1, at + 1 + buffer[at]!)
    at += 1 + buffer[at]!
    message.priority = buffer[at++]!
  }
  return at
}

function readParts(
  buffer: Buffer,
  at: number,
  end: number,
  message: Message,
  record: MessageRecord
): boolean {
  let length = varint.read(buffer, at, end)
  if (varint.at < 0 || varint.at + length > end) return false
  message.keyStart = varint.at
  message.keyEnd = message.keyStart + length
  length = varint.read(buffer, message.keyEnd, end)
  if (varint.at < 0 || varint.at + length > end) return false
  message.propertiesStart = varint.at
  message.propertiesEnd = message.propertiesStart + length
  length = varint.read(buffer, message.propertiesEnd, end)
  if (varint.at < 0 || varint.at + length > end) return false
  message.payloadStart = varint.at
  message.payloadEnd = message.payloadStart + length
  record.destinationsStart = message.payloadEnd
  record.end = end
  return true
}

/** Walks over the destinations of a record: `next()` until it answers false. */
export class DestinationReader {
  queueId = 0
  sequence = 0
  /** Entry flags but for state and share. */
  flags = 0
  isTransient = false
  identifiers: number[] | null = null
  /** Store time: when it expires in a queue with a time to live, is due in a store of delayed messages; 0 = none. */
  time = 0
  /** No destination: this entry is finished. */
  isSettled = false
  /** No destination: a deduplication key; with the four below. Then `isSettled` is true, too. */
  isMark = false
  key = ''
  ttlMs = 0
  floor = 0
  #buffer: Buffer = EMPTY
  #at = 0
  #end = 0

  open(buffer: Buffer, start: number, end: number): void {
    this.#buffer = buffer
    this.#at = start
    this.#end = end
  }

  next(): boolean {
    const buffer = this.#buffer
    const end = this.#end
    if (this.#at >= end) return false
    this.queueId = varint.read(buffer, this.#at, end)
    if (varint.at < 0) return false
    this.sequence = varint.read(buffer, varint.at, end)
    let at = varint.at
    if (at < 0 || at >= end) return false
    const flags = buffer[at++]!
    this.flags =
      ((flags & TO_QOS) << ENTRY_QOS_SHIFT) |
      ((flags & TO_RETAIN) !== 0 ? ENTRY_RETAIN : 0) |
      ((flags & TO_HAS_IDS) !== 0 ? ENTRY_HAS_IDS : 0)
    this.isTransient = (flags & TO_TRANSIENT) !== 0
    this.identifiers = null
    if ((flags & TO_HAS_IDS) !== 0) {
      if (at >= end) return false
      const count = buffer[at++]!
      const identifiers: number[] = []
      for (let i = 0; i < count; i++) {
        identifiers.push(varint.read(buffer, at, end))
        at = varint.at
        if (at < 0) return false
      }
      this.identifiers = identifiers
    }
    this.isMark = (flags & TO_REMEMBERS) !== 0
    this.isSettled = (flags & (TO_SETTLES | TO_REMEMBERS)) !== 0
    this.time = 0
    if ((flags & TO_HAS_TIME) !== 0) {
      if (at + 8 > end) return false
      this.time = buffer.readDoubleBE(at)
      at += 8
    }
    if (this.isMark) at = this.#readMark(at)
    this.#at = at
    return at >= 0
  }

  /** -1: it is cut off. */
  #readMark(at: number): number {
    const buffer = this.#buffer
    const end = this.#end
    this.ttlMs = this.time > 0 ? varint.read(buffer, at, end) : 0
    if (this.time > 0) at = varint.at
    if (at < 0) return -1
    this.floor = varint.read(buffer, at, end)
    at = varint.at
    if (at < 0 || at >= end || at + 1 + buffer[at]! > end) return -1
    this.key = buffer.toString('utf8', at + 1, at + 1 + buffer[at]!)
    return at + 1 + buffer[at]!
  }

  /** How many destinations there are. */
  static count(buffer: Buffer, start: number, end: number): number {
    counter.open(buffer, start, end)
    let count = 0
    while (counter.next()) if (!counter.isSettled) count++
    return count
  }
}

const EMPTY = Buffer.alloc(0)
const counter = new DestinationReader()
const reader = new DestinationReader()
const record = new MessageRecord()

/** The subscription identifiers of one destination of a record, or null. */
export function identifiersOf(
  buffer: Buffer,
  message: Message,
  end: number,
  queueId: number
): number[] | null {
  reader.open(buffer, message.payloadEnd, end)
  while (reader.next()) {
    if (reader.queueId === queueId && !reader.isSettled) return reader.identifiers
  }
  return null
}

/** When a message expires in one of its queues: by its own expiry or the queue's, whichever is first; 0 = never. */
export function expiryIn(buffer: Buffer, message: Message, end: number, queueId: number): number {
  reader.open(buffer, message.payloadEnd, end)
  while (reader.next()) {
    if (reader.queueId !== queueId || reader.isSettled || reader.time === 0) continue
    return message.expiresAt > 0 ? Math.min(message.expiresAt, reader.time) : reader.time
  }
  return message.expiresAt
}

/** Entry flags that a message's destination gets: state READY. */
export function entryFlags(
  qos: number,
  retain: boolean,
  hasIds: boolean,
  expires: boolean
): number {
  return (
    READY |
    (qos << ENTRY_QOS_SHIFT) |
    (retain ? ENTRY_RETAIN : 0) |
    (hasIds ? ENTRY_HAS_IDS : 0) |
    (expires ? ENTRY_EXPIRES : 0)
  )
}

/** Replay of a message record, original or copy. Returns false when nothing in it is known. */
export function applyMessage(
  state: State,
  buffer: Buffer,
  start: number,
  end: number,
  segment: number,
  offset: number,
  message: Message
): boolean {
  if (!readMessage(buffer, start, end, message, record)) return false
  let isKnown = true
  const bytes = message.payloadEnd - message.payloadStart
  const from = record.destinationsStart
  const isRetained = record.retainedSequence > 0 && bytes > 0
  const count = DestinationReader.count(buffer, from, end) + (isRetained ? 1 : 0)
  const share = shareFlags(count)
  if (record.sessionId > 0) {
    if (record.packetId === 0) state.clearWill(record.sessionId)
    else isKnown = state.openInbound(record.sessionId, record.packetId, 0)
  }
  if (record.retainedSequence > 0) {
    const topic = message.topicText()
    // Also a value that was cleared took a number: none is used twice.
    state.retainedSequence = Math.max(state.retainedSequence, record.retainedSequence)
    if (bytes === 0) state.clearRetained(record.vhost, topic)
    const slot = new RetainedSlot(topic, segment, offset, bytes, share, record.retainedSequence)
    if (bytes > 0) state.setRetained(record.vhost, slot)
  }
  const expires = message.expiresAt > 0 ? ENTRY_EXPIRES : 0
  reader.open(buffer, from, end)
  while (reader.next()) {
    if (reader.isMark) {
      if (!applyMark(state, reader)) isKnown = false
      continue
    }
    const queue = state.queueOf(reader.queueId)
    // A queue that did not last then may last by now: what it held in those days is gone all the same.
    if (reader.isTransient) continue
    if (queue === null) {
      if (!applyDelayed(state, segment, offset, bytes, expires | share)) isKnown = false
      continue
    }
    if (reader.isSettled) {
      state.settleEntry(queue, reader.sequence)
      continue
    }
    const flags = READY | reader.flags | expires | share | (reader.time > 0 ? ENTRY_EXPIRES : 0)
    const move = queue.moves?.get(reader.sequence)
    if (move === undefined) {
      state.insertEntry(queue, reader.sequence, segment, offset, bytes, flags)
      continue
    }
    // The copy of what a shared group gave to a member: it is there that it lies.
    const holder = state.queueOf(move.sessionId)
    if (holder !== null) {
      state.insertEntry(holder, move.sequence, segment, offset, bytes, flags)
    }
  }
  return isKnown
}

/** The place is one in a store of delayed messages. False: that is not known. */
function applyDelayed(
  state: State,
  segment: number,
  offset: number,
  bytes: number,
  flags: number
): boolean {
  const { queueId, sequence, time: dueAt, isSettled } = reader
  const store = state.delayOf(queueId)
  if (store === null || !(dueAt > 0)) return false
  if (isSettled) state.delays.settle(store, dueAt, sequence)
  else {
    const entry = READY | reader.flags | flags
    state.delays.insert(store, dueAt, sequence, segment, offset, bytes, entry)
  }
  return true
}
