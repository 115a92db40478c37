/**
 * MQTT 5 properties (§2.2.2) as a list in the order of the wire: a client of ours shows and sends them as
 * they are, names repeated and all.
 */
import { ByteWriter } from '../lib/byte-writer.ts'
import { BytesReader } from '../lib/bytes-reader.ts'

export type PropertyKind = 'byte' | 'two' | 'four' | 'varint' | 'string' | 'binary' | 'pair'
export type PropertyValue = number | string | Buffer | readonly [name: string, value: string]

export interface Property {
  readonly id: number
  readonly value: PropertyValue
}

interface PropertyType {
  readonly name: string
  readonly kind: PropertyKind
}

/** Names as the specification has them, with `-` between words. */
export const PROPERTY_TYPES: ReadonlyMap<number, PropertyType> = new Map([
  [0x01, { name: 'payload-format-indicator', kind: 'byte' }],
  [0x02, { name: 'message-expiry-interval', kind: 'four' }],
  [0x03, { name: 'content-type', kind: 'string' }],
  [0x08, { name: 'response-topic', kind: 'string' }],
  [0x09, { name: 'correlation-data', kind: 'binary' }],
  [0x0b, { name: 'subscription-identifier', kind: 'varint' }],
  [0x11, { name: 'session-expiry-interval', kind: 'four' }],
  [0x12, { name: 'assigned-client-identifier', kind: 'string' }],
  [0x13, { name: 'server-keep-alive', kind: 'two' }],
  [0x15, { name: 'authentication-method', kind: 'string' }],
  [0x16, { name: 'authentication-data', kind: 'binary' }],
  [0x17, { name: 'request-problem-information', kind: 'byte' }],
  [0x18, { name: 'will-delay-interval', kind: 'four' }],
  [0x19, { name: 'request-response-information', kind: 'byte' }],
  [0x1a, { name: 'response-information', kind: 'string' }],
  [0x1c, { name: 'server-reference', kind: 'string' }],
  [0x1f, { name: 'reason-string', kind: 'string' }],
  [0x21, { name: 'receive-maximum', kind: 'two' }],
  [0x22, { name: 'topic-alias-maximum', kind: 'two' }],
  [0x23, { name: 'topic-alias', kind: 'two' }],
  [0x24, { name: 'maximum-qos', kind: 'byte' }],
  [0x25, { name: 'retain-available', kind: 'byte' }],
  [0x26, { name: 'user-property', kind: 'pair' }],
  [0x27, { name: 'maximum-packet-size', kind: 'four' }],
  [0x28, { name: 'wildcard-subscription-available', kind: 'byte' }],
  [0x29, { name: 'subscription-identifier-available', kind: 'byte' }],
  [0x2a, { name: 'shared-subscription-available', kind: 'byte' }]
])

/** The identifiers that code of ours looks for. */
export const ID = {
  messageExpiry: 0x02,
  contentType: 0x03,
  responseTopic: 0x08,
  correlationData: 0x09,
  payloadFormat: 0x01,
  subscriptionIdentifier: 0x0b,
  sessionExpiry: 0x11,
  assignedClientId: 0x12,
  serverKeepAlive: 0x13,
  reasonString: 0x1f,
  receiveMaximum: 0x21,
  topicAliasMaximum: 0x22,
  topicAlias: 0x23,
  maximumQos: 0x24,
  retainAvailable: 0x25,
  userProperty: 0x26,
  maximumPacketSize: 0x27
} as const

/** The bytes of a property block without its length. Throws a `RangeError` for a value that does not fit. */
export function encodeProperties(properties: readonly Property[]): Buffer {
  const writer = new ByteWriter()
  for (const { id, value } of properties) {
    writer.u8(id)
    switch (PROPERTY_TYPES.get(id)?.kind) {
      case 'byte':
        writer.u8(value as number)
        break
      case 'two':
        writer.u16(value as number)
        break
      case 'four':
        writer.u32(value as number)
        break
      case 'varint':
        writer.varint(value as number)
        break
      case 'pair':
        for (const text of value as readonly string[]) writeString(writer, text)
        break
      case 'string':
        writeString(writer, value as string)
        break
      default:
        writer.u16((value as Buffer).length)
        writer.bytes(value as Buffer)
    }
  }
  return writer.toBuffer()
}

export function writeString(writer: ByteWriter, text: string): void {
  const bytes = Buffer.byteLength(text)
  writer.u16(bytes)
  writer.utf8(text, bytes)
}

/** Reads a property block without its length, `source[start..end)`. Throws a `BytesError`. */
export function decodeProperties(source: Buffer, start: number, end: number): Property[] {
  const reader = new BytesReader(source, start, end)
  const found: Property[] = []
  while (reader.remaining > 0) found.push(readProperty(reader))
  return found
}

function readProperty(reader: BytesReader): Property {
  const id = reader.u8()
  switch (PROPERTY_TYPES.get(id)?.kind) {
    case 'byte':
      return { id, value: reader.u8() }
    case 'two':
      return { id, value: reader.u16() }
    case 'four':
      return { id, value: reader.u32() }
    case 'varint':
      return { id, value: reader.varint() }
    case 'string':
      return { id, value: readString(reader) }
    case 'pair':
      return { id, value: [readString(reader), readString(reader)] }
    default:
      // Of an unknown one nobody knows the length: the bounds of the reader end it.
      return { id, value: Buffer.from(reader.bytes(reader.u16())) }
  }
}

export function readString(reader: BytesReader): string {
  return reader.utf8(reader.u16())
}

/** The number that a property has, `otherwise` when it is not there. */
export function numberOf(properties: readonly Property[], id: number, otherwise: number): number {
  const found = properties.find(property => property.id === id)
  return found === undefined ? otherwise : (found.value as number)
}

/** The text that a property has; null when it is not there. */
export function textOf(properties: readonly Property[], id: number): string | null {
  const found = properties.find(property => property.id === id)
  return found === undefined ? null : (found.value as string)
}
