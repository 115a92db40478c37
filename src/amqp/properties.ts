/**
 * The properties of a content header (AMQP 0-9-1 §4.2.6.1): flags, then the values of those that are there,
 * in a fixed order. Between AMQP clients the bytes pass through as they are; `scanProperties` checks
 * them once, at publish, and finds the few that the broker acts on. Only where a message changes
 * protocol are they read into, or written from, the neutral `MessageProperties`.
 */
import { isUtf8 } from 'node:buffer'
import { type FieldTable, type FieldValue, integerOf } from '../core/field-table.ts'
import { type Header, MessageProperties } from '../core/properties.ts'
import { replyToFor, replyToIn } from '../core/reply-address.ts'
import { swapSeparators } from '../core/topic.ts'
import {
  checked,
  checkTable,
  RETAIN_HEADER,
  readTable,
  syntaxError,
  tableBytes,
  writeTable
} from './codec/field-table.ts'
import { cutShort } from './codec/methods.ts'
import { AmqpError } from './reply-codes.ts'

const HAS_CONTENT_TYPE = 1 << 15
const HAS_CONTENT_ENCODING = 1 << 14
const HAS_HEADERS = 1 << 13
const HAS_DELIVERY_MODE = 1 << 12
const HAS_PRIORITY = 1 << 11
const HAS_CORRELATION_ID = 1 << 10
const HAS_REPLY_TO = 1 << 9
const HAS_EXPIRATION = 1 << 8
const HAS_MESSAGE_ID = 1 << 7
const HAS_TIMESTAMP = 1 << 6
const HAS_TYPE = 1 << 5
const HAS_USER_ID = 1 << 4
const HAS_APP_ID = 1 << 3
const HAS_CLUSTER_ID = 1 << 2
/** Bit 1 has no property, bit 0 says that more flags follow. */
const HAS_UNKNOWN = 1 << 1
const HAS_MORE_FLAGS = 1

const SHORT_BYTES_MAX = 255
/** What decoding puts in the place of bytes that are no UTF-8. */
const UNREADABLE = '\ufffd'
const REPLY_TOPIC_HEADER = 'x-reply-to-topic'
const CORRELATION_HEADER = 'x-correlation-id'
const CONTENT_TYPE_HEADER = 'x-content-type'
const PAYLOAD_FORMAT_HEADER = 'x-mqtt-payload-format'

/** Where `scanProperties` found what the broker acts on; a start of -1: absent. */
export const scanned = {
  deliveryMode: 0,
  priority: 0,
  headersStart: -1,
  headersEnd: -1,
  /** The headers have CC or BCC. */
  hasCopies: false,
  /** The headers have `RETAIN_HEADER`. */
  hasRetain: false,
  /** Its length byte. */
  replyToStart: -1,
  expirationStart: -1,
  expirationEnd: -1,
  userIdStart: -1,
  userIdEnd: -1
}

/** Checks the property bytes `buffer[at..end)` and fills `scanned`. Throws 502 when they are malformed. */
export function scanProperties(buffer: Buffer, at: number, end: number): void {
  scanned.deliveryMode = 0
  scanned.priority = 0
  scanned.headersStart = -1
  scanned.hasCopies = false
  scanned.hasRetain = false
  scanned.replyToStart = -1
  scanned.expirationStart = -1
  scanned.userIdStart = -1
  let flags = (buffer[at]! << 8) | buffer[at + 1]!
  at += 2
  if (flags === 0 && at === end) return
  if ((flags & (HAS_MORE_FLAGS | HAS_UNKNOWN)) !== 0) {
    at = skipFlags(buffer, at, end, flags)
    flags &= ~HAS_MORE_FLAGS
  }
  if (flags & HAS_CONTENT_TYPE) at = skipShort(buffer, at, end)
  if (flags & HAS_CONTENT_ENCODING) at = skipShort(buffer, at, end)
  if (flags & HAS_HEADERS) {
    scanned.headersStart = at
    at = checkTable(buffer, at, end)
    scanned.headersEnd = at
    scanned.hasCopies = checked.hasCopies
    scanned.hasRetain = checked.hasRetain
  }
  if (flags & HAS_DELIVERY_MODE && at < end) scanned.deliveryMode = buffer[at++]!
  if (flags & HAS_PRIORITY && at < end) scanned.priority = buffer[at++]!
  if (flags & HAS_CORRELATION_ID) at = skipShort(buffer, at, end)
  if (flags & HAS_REPLY_TO) {
    scanned.replyToStart = at
    at = skipShort(buffer, at, end)
  }
  if (flags & HAS_EXPIRATION) {
    scanned.expirationStart = at + 1
    at = skipShort(buffer, at, end)
    scanned.expirationEnd = at
  }
  if (flags & HAS_MESSAGE_ID) at = skipShort(buffer, at, end)
  if (flags & HAS_TIMESTAMP) at += 8
  if (flags & HAS_TYPE) at = skipShort(buffer, at, end)
  if (flags & HAS_USER_ID) {
    scanned.userIdStart = at + 1
    at = skipShort(buffer, at, end)
    scanned.userIdEnd = at
  }
  if (flags & HAS_APP_ID) at = skipShort(buffer, at, end)
  if (flags & HAS_CLUSTER_ID) at = skipShort(buffer, at, end)
  if (at !== end) throw syntaxError('content properties do not fill their header')
}

function skipShort(buffer: Buffer, at: number, end: number): number {
  if (at >= end) throw syntaxError('content properties cut short')
  return at + 1 + buffer[at]!
}

/** Further flag words are legal (§4.2.6.1), but the basic class has no properties for them. */
function skipFlags(buffer: Buffer, at: number, end: number, flags: number): number {
  if (flags & HAS_UNKNOWN) throw syntaxError('unknown content property')
  for (;;) {
    if (at + 2 > end) throw syntaxError('content properties cut short')
    const more = (buffer[at]! << 8) | buffer[at + 1]!
    at += 2
    if ((more & ~HAS_MORE_FLAGS) !== 0) throw syntaxError('unknown content property')
    if (more === 0) return at
  }
}

/** Milliseconds of an `expiration` property: decimal digits; -1 for anything else. */
export function parseExpiration(buffer: Buffer, start: number, end: number): number {
  if (start === end) return -1
  let value = 0
  for (let at = start; at < end; at++) {
    const digit = buffer[at]! - 0x30
    if (digit < 0 || digit > 9) return -1
    value = value * 10 + digit
  }
  return Number.isSafeInteger(value) ? value : Number.MAX_SAFE_INTEGER
}

/** The headers that `scanProperties` found; empty without any. */
export function readHeaders(buffer: Buffer, start: number, end: number): FieldTable {
  return readTable(buffer, start, end)
}

/** Reads property bytes that were checked once. What is damaged all the same ends the reading. */
export function decodeProperties(
  source: Buffer,
  start: number,
  end: number,
  isToStay = false
): MessageProperties {
  const properties = new MessageProperties()
  try {
    scanProperties(source, start, end)
  } catch (error) {
    if (!(error instanceof AmqpError)) throw error
    // Only damaged storage leads here: the message goes on without its properties.
    return properties
  }
  let at = start
  let flags = 0
  for (let more = HAS_MORE_FLAGS; (more & HAS_MORE_FLAGS) !== 0; at += 2) {
    more = (source[at]! << 8) | source[at + 1]!
    if (at === start) flags = more
  }
  const short = (name: string): string => {
    const stop = at + 1 + source[at]!
    const text = source.toString('utf8', at + 1, stop)
    if (isToStay && text.includes(UNREADABLE)) keepBytes(properties, name, source, at + 1, stop)
    at = stop
    return text
  }
  if (flags & HAS_CONTENT_TYPE) properties.contentType = short('contentType')
  if (flags & HAS_CONTENT_ENCODING) properties.contentEncoding = short('contentEncoding')
  if (flags & HAS_HEADERS) {
    const table = readTable(source, at, end)
    if (isToStay) properties.headers = table as Header[]
    else takeHeaders(properties, table, flags)
    at += 4 + source.readUInt32BE(at)
  }
  if (flags & HAS_DELIVERY_MODE) properties.deliveryMode = source[at++]!
  if (flags & HAS_PRIORITY) properties.priority = source[at++]!
  if (flags & HAS_CORRELATION_ID) {
    const stop = at + 1 + source[at]!
    properties.correlationId = Buffer.from(source.subarray(at + 1, stop))
    if (isToStay && !isUtf8(properties.correlationId)) {
      keepBytes(properties, 'correlationId', source, at + 1, stop)
    }
    at = stop
  }
  if (flags & HAS_REPLY_TO) properties.replyTo = short('replyTo')
  if (flags & HAS_EXPIRATION) properties.expiration = short('expiration')
  if (flags & HAS_MESSAGE_ID) properties.messageId = short('messageId')
  if (flags & HAS_TIMESTAMP) {
    properties.timestamp = source.readBigUInt64BE(at)
    at += 8
  }
  if (flags & HAS_TYPE) properties.type = short('type')
  if (flags & HAS_USER_ID) properties.userId = short('userId')
  if (flags & HAS_APP_ID) properties.appId = short('appId')
  if (flags & HAS_CLUSTER_ID) properties.clusterId = short('clusterId')
  return properties
}

function keepBytes(
  properties: MessageProperties,
  name: string,
  source: Buffer,
  start: number,
  end: number
): void {
  properties.unreadable ??= new Map()
  properties.unreadable.set(name, source.subarray(start, end))
}

/**
 * Headers that stand for a property which AMQP does not have, or which was too long for it, become that property
 * again. Where the property itself is there they are headers like any other.
 */
function takeHeaders(properties: MessageProperties, table: FieldTable, flags: number): void {
  const hasCorrelationId = (flags & HAS_CORRELATION_ID) !== 0
  const hasContentType = (flags & HAS_CONTENT_TYPE) !== 0
  for (const header of table) {
    const [name, value] = header
    const isText = value.type === 'S'
    if (name === REPLY_TOPIC_HEADER && isText) {
      properties.responseTopic = swapSeparators(value.value)
    } else if (
      name === CORRELATION_HEADER &&
      !hasCorrelationId &&
      (value.type === 'x' || value.type === 'S')
    ) {
      properties.correlationId = Buffer.from(value.value as string)
    } else if (name === CONTENT_TYPE_HEADER && !hasContentType && isText) {
      properties.contentType = value.value
    } else if (name === PAYLOAD_FORMAT_HEADER && isPayloadFormat(value)) {
      // Whoever publishes it again may write the number as another type.
      properties.payloadFormat = integerOf(value)!
    } else if (name !== RETAIN_HEADER || !asksToRetain(value)) {
      properties.headers.push([name, value])
    }
  }
}

/** True, or what a client says instead that has no booleans. */
export function asksToRetain(value: FieldValue): boolean {
  return value.value === true || value.value === 'true' || integerOf(value) === 1
}

function isPayloadFormat(value: FieldValue): boolean {
  const format = integerOf(value)
  return format === 0 || format === 1
}

/** Property bytes with their flags. What a short string cannot hold goes into a header. */
export function encodeProperties(properties: MessageProperties): Buffer {
  const headers: Header[] = []
  for (const [name, value] of properties.headers) headers.push([cutShort(name), value])
  const contentType = properties.contentType
  const isUnreadable = properties.unreadable?.has('contentType')
  const hasContentType = contentType !== null && (isUnreadable || fitsShort(contentType))
  if (contentType !== null && !hasContentType) {
    headers.push([CONTENT_TYPE_HEADER, { type: 'S', value: contentType }])
  }
  const correlationId = properties.correlationId
  const hasCorrelationId =
    correlationId !== null &&
    correlationId.length <= SHORT_BYTES_MAX &&
    (properties.unreadable?.has('correlationId') || isUtf8(correlationId))
  if (correlationId !== null && !hasCorrelationId) {
    headers.push([CORRELATION_HEADER, { type: 'x', value: correlationId }])
  }
  let replyTo = properties.replyTo
  const { responseTopic } = properties
  if (responseTopic !== null) {
    replyTo ??= replyToFor(responseTopic)
    // Of what was asked for over AMQP the reply-to says all.
    if (replyToIn(responseTopic) === null) {
      headers.push([REPLY_TOPIC_HEADER, { type: 'S', value: swapSeparators(responseTopic) }])
    }
  }
  if (properties.payloadFormat !== 0) {
    headers.push([PAYLOAD_FORMAT_HEADER, { type: 'B', value: properties.payloadFormat }])
  }
  const writer = new PropertyWriter(
    64 + (headers.length > 0 ? tableBytes(headers) : 0),
    properties.unreadable
  )
  writer.short(HAS_CONTENT_TYPE, 'contentType', hasContentType ? contentType : null)
  writer.short(HAS_CONTENT_ENCODING, 'contentEncoding', properties.contentEncoding)
  if (headers.length > 0) writer.table(headers)
  writer.octet(HAS_DELIVERY_MODE, properties.deliveryMode)
  writer.octet(HAS_PRIORITY, properties.priority)
  writer.shortBytes(HAS_CORRELATION_ID, hasCorrelationId ? correlationId : null)
  writer.short(HAS_REPLY_TO, 'replyTo', replyTo)
  writer.short(HAS_EXPIRATION, 'expiration', properties.expiration)
  writer.short(HAS_MESSAGE_ID, 'messageId', properties.messageId)
  writer.timestamp(properties.timestamp)
  writer.short(HAS_TYPE, 'type', properties.type)
  writer.short(HAS_USER_ID, 'userId', properties.userId)
  writer.short(HAS_APP_ID, 'appId', properties.appId)
  writer.short(HAS_CLUSTER_ID, 'clusterId', properties.clusterId)
  return writer.finish()
}

function fitsShort(text: string): boolean {
  return text.length * 3 <= SHORT_BYTES_MAX || Buffer.byteLength(text) <= SHORT_BYTES_MAX
}

class PropertyWriter {
  private buffer: Buffer
  private at: number
  private flags: number
  private readonly unreadable: ReadonlyMap<string, Buffer> | null

  constructor(bytes: number, unreadable: ReadonlyMap<string, Buffer> | null) {
    this.unreadable = unreadable
    this.buffer = Buffer.allocUnsafe(bytes)
    this.at = 2
    this.flags = 0
  }

  short(flag: number, name: string, text: string | null): void {
    if (text === null) return
    this.shortBytes(flag, this.unreadable?.get(name) ?? Buffer.from(cutShort(text)))
  }

  shortBytes(flag: number, bytes: Buffer | null): void {
    if (bytes === null) return
    const at = this.take(flag, 1 + bytes.length)
    this.buffer[at] = bytes.length
    bytes.copy(this.buffer, at + 1)
  }

  octet(flag: number, value: number | null): void {
    if (value === null) return
    const at = this.take(flag, 1)
    this.buffer[at] = value
  }

  timestamp(value: bigint | null): void {
    if (value === null) return
    const at = this.take(HAS_TIMESTAMP, 8)
    this.buffer.writeBigUInt64BE(value, at)
  }

  table(headers: FieldTable): void {
    const at = this.take(HAS_HEADERS, tableBytes(headers))
    writeTable(this.buffer, at, headers)
  }

  finish(): Buffer {
    this.buffer.writeUInt16BE(this.flags, 0)
    return this.buffer.subarray(0, this.at)
  }

  /** Makes room; returns where it is. May replace `buffer`: that is read afterwards. */
  private take(flag: number, bytes: number): number {
    this.flags |= flag
    const at = this.at
    this.at += bytes
    if (this.at > this.buffer.length) {
      const grown = Buffer.allocUnsafe(Math.max(this.at, this.buffer.length * 2))
      this.buffer.copy(grown, 0, 0, at)
      this.buffer = grown
    }
    return at
  }
}
