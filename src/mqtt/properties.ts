/**
 * MQTT 5 properties of a PUBLISH to the neutral form and back (§3.3.2.3), for messages that change
 * protocol. What MQTT has no place for becomes user properties: AMQP's message id, type and the like under names
 * that begin with `x-amqp-`, headers whose value is a table or an array as JSON.
 */
import { isUtf8 } from 'node:buffer'
import { type FieldValue, integerOf } from '../core/field-table.ts'
import { type Header, MessageProperties } from '../core/properties.ts'
import { responseTopicFor } from '../core/reply-address.ts'
import { ByteWriter } from '../lib/byte-writer.ts'
import {
  CONTENT_TYPE,
  CORRELATION_DATA,
  PAYLOAD_FORMAT,
  RESPONSE_TOPIC,
  USER_PROPERTY
} from './codec/property-rules.ts'

const STRING_BYTES_MAX = 65_535
/** Of what AMQP holds in a property. */
const SHORT_BYTES_MAX = 255
const AMQP_PREFIX = 'x-amqp-'
const AMQP_TIMESTAMP = `${AMQP_PREFIX}timestamp`
/** AMQP's properties that are texts, by the name of their user property. */
const AMQP_TEXTS = new Map<string, 'contentEncoding' | 'messageId' | 'type' | 'appId'>([
  [`${AMQP_PREFIX}content-encoding`, 'contentEncoding'],
  [`${AMQP_PREFIX}message-id`, 'messageId'],
  [`${AMQP_PREFIX}type`, 'type'],
  [`${AMQP_PREFIX}app-id`, 'appId']
])

/** Decodes property bytes that passed `walkProperties`; stops at the first that it does not know. */
export function decodeProperties(source: Buffer, start: number, end: number): MessageProperties {
  const properties = new MessageProperties()
  let at = start
  while (at < end) {
    const id = source[at++]
    if (id === PAYLOAD_FORMAT) {
      properties.payloadFormat = source[at++]!
      continue
    }
    const stop = stringEnd(source, at, end)
    const value = source.subarray(at + 2, stop)
    at = stop
    if (id === CONTENT_TYPE) properties.contentType = value.toString()
    else if (id === RESPONSE_TOPIC) properties.responseTopic = value.toString()
    else if (id === CORRELATION_DATA) properties.correlationId = Buffer.from(value)
    else if (id === USER_PROPERTY) {
      at = stringEnd(source, stop, end)
      const text = source.toString('utf8', stop + 2, at)
      const name = value.toString()
      if (!takeAmqp(properties, name, text))
        properties.headers.push([name, { type: 'S', value: text }])
    } else break
  }
  return properties
}

/**
 * What `encodeProperties` wrote of an AMQP message, back again. The user's name is not: nobody has checked it, nor is
 * the priority, for the message went where it went without one.
 */
function takeAmqp(properties: MessageProperties, name: string, text: string): boolean {
  if (!name.startsWith(AMQP_PREFIX) || Buffer.byteLength(text) > SHORT_BYTES_MAX) return false
  const field = AMQP_TEXTS.get(name)
  if (field !== undefined && properties[field] === null) {
    properties[field] = text
    return true
  }
  if (name !== AMQP_TIMESTAMP || properties.timestamp !== null) return false
  if (!/^\d{1,19}$/.test(text)) return false
  properties.timestamp = BigInt(text)
  return true
}

/** Property bytes of a PUBLISH, without their length and without the expiry. */
export function encodeProperties(properties: MessageProperties): Buffer {
  const writer = new ByteWriter()
  if (properties.payloadFormat === 1) {
    writer.u8(PAYLOAD_FORMAT)
    writer.u8(1)
  }
  if (properties.contentType !== null) writeText(writer, CONTENT_TYPE, properties.contentType)
  const { replyTo } = properties
  const responseTopic =
    properties.responseTopic ?? (replyTo === null ? '' : responseTopicFor(replyTo))
  if (isTopicLike(responseTopic)) writeText(writer, RESPONSE_TOPIC, responseTopic)
  if (properties.correlationId !== null && properties.correlationId.length <= STRING_BYTES_MAX) {
    writer.u8(CORRELATION_DATA)
    writer.u16(properties.correlationId.length)
    writer.bytes(properties.correlationId)
  }
  for (const header of properties.headers) writeHeader(writer, header)
  writeAmqp(writer, properties)
  return writer.toBuffer()
}

/** What only AMQP has. */
function writeAmqp(writer: ByteWriter, properties: MessageProperties): void {
  for (const [name, field] of AMQP_TEXTS) writeUserProperty(writer, name, properties[field])
  const { timestamp, priority, userId } = properties
  if (timestamp !== null) writeUserProperty(writer, AMQP_TIMESTAMP, String(timestamp))
  if (priority !== null && priority > 0) {
    writeUserProperty(writer, `${AMQP_PREFIX}priority`, String(priority))
  }
  writeUserProperty(writer, `${AMQP_PREFIX}user-id`, userId)
}

function writeHeader(writer: ByteWriter, [name, field]: Header): void {
  writeUserProperty(writer, name, textOf(field))
}

function writeUserProperty(writer: ByteWriter, name: string, value: string | null): void {
  if (value === null || !isText(name) || !isText(value)) return
  writer.u8(USER_PROPERTY)
  writeString(writer, name)
  writeString(writer, value)
}

/** A header's value as a user property says it. */
function textOf(field: FieldValue): string {
  switch (field.type) {
    case 'S':
      return field.value
    case 'x':
      return textOrBase64(field.value)
    case 'A':
    case 'F':
      return JSON.stringify(plain(field))
    case 'V':
      return ''
    case 'D':
      return decimalText(field.value, field.scale)
    default:
      return String(field.value)
  }
}

/** What JSON can say of a value: numbers beyond 2^53 and decimals as strings, bytes as `textOf` has them. */
function plain(field: FieldValue): unknown {
  switch (field.type) {
    case 'A':
      return field.value.map(plain)
    case 'F':
      return Object.fromEntries(field.value.map(([name, value]) => [name, plain(value)]))
    case 'V':
      return null
    case 'l':
    case 'T':
      return integerOf(field) ?? String(field.value)
    case 'x':
    case 'D':
      return textOf(field)
    default:
      return field.value
  }
}

function textOrBase64(bytes: Buffer): string {
  return isUtf8(bytes) ? bytes.toString() : bytes.toString('base64')
}

function decimalText(value: number, scale: number): string {
  if (scale === 0) return String(value)
  const digits = String(value).padStart(scale + 1, '0')
  return `${digits.slice(0, -scale)}.${digits.slice(-scale)}`
}

function writeText(writer: ByteWriter, id: number, value: string): void {
  if (!isText(value)) return
  writer.u8(id)
  writeString(writer, value)
}

function writeString(writer: ByteWriter, value: string): void {
  const bytes = Buffer.byteLength(value)
  writer.u16(bytes)
  writer.utf8(value, bytes)
}

/** What an MQTT string may be [MQTT-1.5.4-1, -2]. */
function isText(value: string): boolean {
  return !value.includes('\0') && Buffer.byteLength(value) <= STRING_BYTES_MAX
}

/** [MQTT-3.3.2-14] */
function isTopicLike(value: string): boolean {
  return value !== '' && !value.includes('+') && !value.includes('#')
}

function stringEnd(source: Buffer, at: number, end: number): number {
  if (at + 2 > end) return end
  return Math.min(at + 2 + source.readUInt16BE(at), end)
}
