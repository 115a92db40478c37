/**
 * MQTT 5 properties of a PUBLISH to the neutral form and back (§3.3.2.3), for messages that change
 * protocol. What MQTT has no place for is left out: AMQP's message id, type and the like, and headers
 * whose value is a table, an array or binary.
 */
import type { FieldValue } from '../core/field-table.ts'
import { type Header, MessageProperties } from '../core/properties.ts'
import { ByteWriter } from '../lib/byte-writer.ts'
import {
  CONTENT_TYPE,
  CORRELATION_DATA,
  PAYLOAD_FORMAT,
  RESPONSE_TOPIC,
  USER_PROPERTY
} from './codec/property-rules.ts'

const STRING_BYTES_MAX = 65_535

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
      properties.headers.push([value.toString(), { type: 'S', value: text }])
    } else break
  }
  return properties
}

/** Property bytes of a PUBLISH, without their length and without the expiry. */
export function encodeProperties(properties: MessageProperties): Buffer {
  const writer = new ByteWriter()
  if (properties.payloadFormat === 1) {
    writer.u8(PAYLOAD_FORMAT)
    writer.u8(1)
  }
  if (properties.contentType !== null) writeText(writer, CONTENT_TYPE, properties.contentType)
  if (properties.responseTopic !== null && isTopicLike(properties.responseTopic)) {
    writeText(writer, RESPONSE_TOPIC, properties.responseTopic)
  }
  if (properties.correlationId !== null && properties.correlationId.length <= STRING_BYTES_MAX) {
    writer.u8(CORRELATION_DATA)
    writer.u16(properties.correlationId.length)
    writer.bytes(properties.correlationId)
  }
  for (const header of properties.headers) writeHeader(writer, header)
  return writer.toBuffer()
}

function writeHeader(writer: ByteWriter, [name, field]: Header): void {
  const value = textOf(field)
  if (value === null || !isText(name) || !isText(value)) return
  writer.u8(USER_PROPERTY)
  writeString(writer, name)
  writeString(writer, value)
}

/** A header's value as a user property can say it; null when it cannot. */
function textOf(field: FieldValue): string | null {
  switch (field.type) {
    case 'S':
      return field.value
    case 'x':
    case 'A':
    case 'F':
      return null
    case 'V':
      return ''
    case 'D':
      return String(field.value / 10 ** field.scale)
    default:
      return String(field.value)
  }
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
