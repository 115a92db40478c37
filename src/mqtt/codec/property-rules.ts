/**
 * MQTT 5 properties (§2.2.2): which packet may carry which, once or more often, and what their values may
 * be. `walkProperties` checks a property block in place, allocating nothing, and leaves in `found` where
 * the block lies and the few values that the hot path needs.
 */
import { isUtf8 } from 'node:buffer'
import {
  MALFORMED,
  PACKET_TOO_LARGE,
  PROTOCOL_ERROR,
  ProtocolError,
  TOPIC_ALIAS_INVALID
} from './protocol-error.ts'

export const PAYLOAD_FORMAT = 0x01
export const MESSAGE_EXPIRY = 0x02
export const CONTENT_TYPE = 0x03
export const RESPONSE_TOPIC = 0x08
export const CORRELATION_DATA = 0x09
export const SUBSCRIPTION_IDENTIFIER = 0x0b
export const SESSION_EXPIRY = 0x11
export const AUTHENTICATION_METHOD = 0x15
export const AUTHENTICATION_DATA = 0x16
export const REQUEST_PROBLEM = 0x17
export const WILL_DELAY = 0x18
export const REQUEST_RESPONSE = 0x19
export const REASON_STRING = 0x1f
export const RECEIVE_MAXIMUM = 0x21
export const TOPIC_ALIAS_MAXIMUM = 0x22
export const TOPIC_ALIAS = 0x23
export const USER_PROPERTY = 0x26
export const MAXIMUM_PACKET_SIZE = 0x27

const BYTE = 1
const TWO = 2
const FOUR = 3
const VARINT = 4
const STRING = 5
const BINARY = 6
const PAIR = 7

/** The type of each property that a client may send somewhere; 0 = no such property. */
const TYPES = new Uint8Array(128)
for (const id of [PAYLOAD_FORMAT, REQUEST_PROBLEM, REQUEST_RESPONSE]) TYPES[id] = BYTE
for (const id of [RECEIVE_MAXIMUM, TOPIC_ALIAS_MAXIMUM, TOPIC_ALIAS]) TYPES[id] = TWO
for (const id of [MESSAGE_EXPIRY, SESSION_EXPIRY, WILL_DELAY, MAXIMUM_PACKET_SIZE]) TYPES[id] = FOUR
TYPES[SUBSCRIPTION_IDENTIFIER] = VARINT
for (const id of [CONTENT_TYPE, RESPONSE_TOPIC, AUTHENTICATION_METHOD, REASON_STRING]) {
  TYPES[id] = STRING
}
for (const id of [CORRELATION_DATA, AUTHENTICATION_DATA]) TYPES[id] = BINARY
TYPES[USER_PROPERTY] = PAIR

/** For each property identifier the reason to refuse it in one kind of packet; 0 = allowed. */
export type PropertyRules = Uint8Array

function rules(...ids: number[]): PropertyRules {
  // §2.2.2.2: an identifier that is not valid for its packet makes the packet malformed.
  const reasons = new Uint8Array(128).fill(MALFORMED)
  for (const id of [USER_PROPERTY, ...ids]) reasons[id] = 0
  return reasons
}

const APPLICATION = [PAYLOAD_FORMAT, MESSAGE_EXPIRY, CONTENT_TYPE, RESPONSE_TOPIC, CORRELATION_DATA]

export const CONNECT_RULES = rules(
  SESSION_EXPIRY,
  RECEIVE_MAXIMUM,
  MAXIMUM_PACKET_SIZE,
  TOPIC_ALIAS_MAXIMUM,
  REQUEST_RESPONSE,
  REQUEST_PROBLEM,
  AUTHENTICATION_METHOD,
  AUTHENTICATION_DATA
)
export const WILL_RULES = rules(WILL_DELAY, ...APPLICATION)
export const PUBLISH_RULES = rules(TOPIC_ALIAS, ...APPLICATION)
PUBLISH_RULES[SUBSCRIPTION_IDENTIFIER] = PROTOCOL_ERROR // [MQTT-3.3.4-6]
/** A PUBLISH from a server, as a client of ours reads it. */
export const DELIVERY_RULES = rules(...APPLICATION, TOPIC_ALIAS)
/** Allowed as often as it comes: one for each subscription that matches [MQTT-3.3.4-4]. */
const REPEATED = 255
DELIVERY_RULES[SUBSCRIPTION_IDENTIFIER] = REPEATED
export const ACK_RULES = rules(REASON_STRING)
export const SUBSCRIBE_RULES = rules(SUBSCRIPTION_IDENTIFIER)
export const UNSUBSCRIBE_RULES = rules()
export const DISCONNECT_RULES = rules(SESSION_EXPIRY, REASON_STRING)
export const AUTH_RULES = rules(AUTHENTICATION_METHOD, AUTHENTICATION_DATA, REASON_STRING)

/** What the last `walkProperties` found; -1: not there. */
export const found = {
  /** The block without its length. */
  start: 0,
  end: 0,
  expirySeconds: -1,
  /** Where the Message Expiry Interval's identifier stands: it takes five bytes. */
  expiryAt: -1,
  /** Where the Will Delay Interval's identifier stands: it takes five bytes. */
  willDelayAt: -1,
  /** Topic Alias; 0 = none. */
  topicAlias: 0,
  /** Where its identifier stands: it takes three bytes. */
  topicAliasAt: -1
}

/** The value that `readVarint` read. */
let varint = 0
let seenLow = 0
let seenHigh = 0
let userProperties = 0

/**
 * Checks the property block whose length stands at `at`; returns where it ends. `end` bounds the packet.
 * Throws a `ProtocolError`.
 */
export function walkProperties(
  buffer: Buffer,
  at: number,
  end: number,
  allowed: PropertyRules,
  userPropertiesMax: number
): number {
  found.expirySeconds = -1
  found.expiryAt = -1
  found.willDelayAt = -1
  found.topicAlias = 0
  if (at >= end) throw malformed('no property length')
  const start = readVarint(buffer, at, end)
  const stop = start + varint
  if (stop > end) throw malformed('property length beyond the packet')
  found.start = start
  found.end = stop
  if (start === stop) return stop
  seenLow = 0
  seenHigh = 0
  userProperties = 0
  at = start
  while (at < stop) at = walkProperty(buffer, at, stop, allowed, userPropertiesMax)
  if (wasSeen(AUTHENTICATION_DATA) && !wasSeen(AUTHENTICATION_METHOD)) {
    throw new ProtocolError(PROTOCOL_ERROR, 'authentication data without a method')
  }
  return stop
}

function walkProperty(
  buffer: Buffer,
  at: number,
  stop: number,
  allowed: PropertyRules,
  userPropertiesMax: number
): number {
  const id = buffer[at]!
  if (id > 127) throw malformed('unknown property')
  const reason = allowed[id]!
  if (reason !== 0 && reason !== REPEATED) {
    throw new ProtocolError(reason, `property 0x${id.toString(16)} not allowed here`)
  }
  if (id === USER_PROPERTY) {
    if (++userProperties > userPropertiesMax) {
      throw new ProtocolError(PACKET_TOO_LARGE, 'too many user properties')
    }
    return walkString(buffer, walkString(buffer, at + 1, stop), stop)
  }
  if (reason === 0 && wasSeen(id)) {
    throw new ProtocolError(PROTOCOL_ERROR, `property 0x${id.toString(16)} repeated`)
  }
  if (id < 32) seenLow |= 1 << id
  else seenHigh |= 1 << (id - 32)
  const valueAt = at + 1
  switch (TYPES[id]) {
    case BYTE:
      if (valueAt >= stop) throw tooShort()
      if (buffer[valueAt]! > 1) throw badValue(id)
      return valueAt + 1
    case TWO:
      if (valueAt + 2 > stop) throw tooShort()
      checkTwo(buffer, id, valueAt)
      return valueAt + 2
    case FOUR:
      return walkFour(buffer, id, valueAt, stop)
    case VARINT: {
      const next = readVarint(buffer, valueAt, stop)
      if (varint === 0) throw badValue(id) // §3.8.2.1.2
      return next
    }
    case STRING: {
      const next = walkString(buffer, valueAt, stop)
      if (id === RESPONSE_TOPIC) checkResponseTopic(buffer, valueAt + 2, next)
      return next
    }
    default:
      return walkBinary(buffer, valueAt, stop)
  }
}

function checkTwo(buffer: Buffer, id: number, at: number): void {
  const value = buffer.readUInt16BE(at)
  if (id === RECEIVE_MAXIMUM && value === 0) throw badValue(id)
  if (id !== TOPIC_ALIAS) return
  if (value === 0) throw new ProtocolError(TOPIC_ALIAS_INVALID, 'topic alias 0') // [MQTT-3.3.2-8]
  found.topicAlias = value
  found.topicAliasAt = at - 1
}

function walkFour(buffer: Buffer, id: number, at: number, stop: number): number {
  if (at + 4 > stop) throw tooShort()
  const value = buffer.readUInt32BE(at)
  if (id === MESSAGE_EXPIRY) {
    found.expirySeconds = value
    found.expiryAt = at - 1
  } else if (id === WILL_DELAY) {
    found.willDelayAt = at - 1
  } else if (id === MAXIMUM_PACKET_SIZE && value === 0) {
    throw badValue(id)
  }
  return at + 4
}

/** Checks a UTF-8 string behind its two bytes of length; returns where it ends. */
export function walkString(buffer: Buffer, at: number, stop: number): number {
  const end = walkBinary(buffer, at, stop)
  checkUtf8(buffer, at + 2, end)
  return end
}

/** Binary data behind two bytes of length; returns where it ends. */
export function walkBinary(buffer: Buffer, at: number, stop: number): number {
  if (at + 2 > stop) throw tooShort()
  const end = at + 2 + ((buffer[at]! << 8) | buffer[at + 1]!)
  if (end > stop) throw tooShort()
  return end
}

/** Well-formed UTF-8 [MQTT-1.5.4-1] without U+0000 [MQTT-1.5.4-2]; 3.1.1 [MQTT-1.5.3-1, -2]. */
export function checkUtf8(buffer: Buffer, start: number, end: number): void {
  let isAscii = true
  for (let at = start; at < end; at++) {
    const byte = buffer[at]!
    if (byte === 0) throw malformed('U+0000 in a string')
    if (byte > 127) isAscii = false
  }
  if (!isAscii && !isUtf8(buffer.subarray(start, end))) throw malformed('string is not UTF-8')
}

/** [MQTT-3.3.2-14]: a Response Topic has no wildcards. */
function checkResponseTopic(buffer: Buffer, start: number, end: number): void {
  if (start === end) throw badValue(RESPONSE_TOPIC)
  for (let at = start; at < end; at++) {
    const byte = buffer[at]!
    if (byte === 0x23 || byte === 0x2b) throw badValue(RESPONSE_TOPIC)
  }
}

/** Reads a variable byte integer at `at`; returns where it ends. */
function readVarint(buffer: Buffer, at: number, stop: number): number {
  let value = 0
  for (let shift = 0; shift <= 21; shift += 7) {
    if (at >= stop) throw tooShort()
    const byte = buffer[at++]!
    value |= (byte & 127) << shift
    if (byte < 128) {
      if (byte === 0 && shift > 0) throw malformed('variable byte integer not minimal')
      varint = value
      return at
    }
  }
  throw malformed('variable byte integer over four bytes')
}

function wasSeen(id: number): boolean {
  return id < 32 ? (seenLow & (1 << id)) !== 0 : (seenHigh & (1 << (id - 32))) !== 0
}

function malformed(message: string): ProtocolError {
  return new ProtocolError(MALFORMED, message)
}

function tooShort(): ProtocolError {
  return malformed('packet too short')
}

function badValue(id: number): ProtocolError {
  return new ProtocolError(PROTOCOL_ERROR, `value of property 0x${id.toString(16)}`)
}
