/** The packets that make no traffic, as a client writes and reads them (MQTT 5 §3; 3.1 and 3.1.1 the same, less). */
import { ByteWriter } from '../lib/byte-writer.ts'
import { BytesError, BytesReader } from '../lib/bytes-reader.ts'
import {
  CONNECT,
  DISCONNECT,
  SUBSCRIBE,
  UNSUBSCRIBE,
  type Version
} from '../mqtt/codec/packet-types.ts'
import { decodeProperties, encodeProperties, type Property, writeString } from './properties.ts'

export interface ClientWill {
  readonly topic: string
  readonly payload: Buffer
  readonly qos: number
  readonly retain: boolean
  readonly properties: readonly Property[]
}

export interface ConnectFields {
  readonly version: Version
  readonly clientId: string
  readonly cleanStart: boolean
  readonly keepaliveSeconds: number
  readonly username: string | null
  readonly password: Buffer | null
  readonly will: ClientWill | null
  /** MQTT 5. */
  readonly properties: readonly Property[]
}

export interface Connack {
  readonly sessionPresent: boolean
  /** MQTT 5: reason code; before: return code. */
  readonly code: number
  readonly properties: readonly Property[]
}

export interface Subscription {
  readonly filter: string
  readonly qos: number
  /** MQTT 5: the upper bits of the subscription options, noLocal 4, retainAsPublished 8, retainHandling << 4. */
  readonly options: number
}

export interface Answer {
  readonly packetId: number
  /** One for each filter; empty in an UNSUBACK before version 5. */
  readonly codes: readonly number[]
  readonly properties: readonly Property[]
}

export interface Dismissal {
  readonly reason: number
  readonly properties: readonly Property[]
}

const NO_PROPERTIES: readonly Property[] = []

/** Clean start, will and its QoS, user name, password: the flags of §3.1.2.3. */
function flagsOf(fields: ConnectFields): number {
  const { will } = fields
  let flags = fields.cleanStart ? 0x02 : 0
  if (will !== null) flags |= 0x04 | (will.qos << 3) | (will.retain ? 0x20 : 0)
  if (fields.password !== null) flags |= 0x40
  if (fields.username !== null) flags |= 0x80
  return flags
}

export function writeConnect(fields: ConnectFields): Buffer {
  const { version, will } = fields
  const writer = new ByteWriter()
  writeString(writer, version === 3 ? 'MQIsdp' : 'MQTT')
  writer.u8(version)
  writer.u8(flagsOf(fields))
  writer.u16(fields.keepaliveSeconds)
  if (version === 5) writeProperties(writer, fields.properties)
  writeString(writer, fields.clientId)
  if (will !== null) {
    if (version === 5) writeProperties(writer, will.properties)
    writeString(writer, will.topic)
    writeBinary(writer, will.payload)
  }
  if (fields.username !== null) writeString(writer, fields.username)
  if (fields.password !== null) writeBinary(writer, fields.password)
  return frame(CONNECT << 4, writer)
}

export function writeSubscribe(
  version: Version,
  packetId: number,
  subscriptions: readonly Subscription[],
  properties: readonly Property[]
): Buffer {
  const writer = new ByteWriter()
  writer.u16(packetId)
  if (version === 5) writeProperties(writer, properties)
  for (const { filter, qos, options } of subscriptions) {
    writeString(writer, filter)
    writer.u8(version === 5 ? qos | options : qos)
  }
  return frame((SUBSCRIBE << 4) | 2, writer)
}

export function writeUnsubscribe(
  version: Version,
  packetId: number,
  filters: readonly string[],
  properties: readonly Property[]
): Buffer {
  const writer = new ByteWriter()
  writer.u16(packetId)
  if (version === 5) writeProperties(writer, properties)
  for (const filter of filters) writeString(writer, filter)
  return frame((UNSUBSCRIBE << 4) | 2, writer)
}

export function writeDisconnect(
  version: Version,
  reason: number,
  properties: readonly Property[]
): Buffer {
  const writer = new ByteWriter()
  if (version === 5 && (reason !== 0 || properties.length > 0)) {
    writer.u8(reason)
    if (properties.length > 0) writeProperties(writer, properties)
  }
  return frame(DISCONNECT << 4, writer)
}

/** Reads the body of a CONNACK. Throws a `BytesError`, as the others below. */
export function readConnack(buffer: Buffer, start: number, end: number, version: Version): Connack {
  const reader = new BytesReader(buffer, start, end)
  const sessionPresent = (reader.u8() & 1) !== 0
  const code = reader.u8()
  const properties = version === 5 ? readProperties(reader) : NO_PROPERTIES
  reader.expectEnd()
  return { sessionPresent, code, properties }
}

/** A SUBACK or an UNSUBACK. */
export function readAnswer(buffer: Buffer, start: number, end: number, version: Version): Answer {
  const reader = new BytesReader(buffer, start, end)
  const packetId = reader.u16()
  const properties = version === 5 ? readProperties(reader) : NO_PROPERTIES
  return { packetId, codes: [...reader.bytes(reader.remaining)], properties }
}

/** A DISCONNECT from the server, version 5 only. */
export function readDismissal(buffer: Buffer, start: number, end: number): Dismissal {
  const reader = new BytesReader(buffer, start, end)
  const reason = reader.remaining > 0 ? reader.u8() : 0
  return { reason, properties: reader.remaining > 0 ? readProperties(reader) : NO_PROPERTIES }
}

function readProperties(reader: BytesReader): readonly Property[] {
  const bytes = reader.varint()
  if (bytes > reader.remaining) throw new BytesError('properties beyond their packet')
  const at = reader.offset
  reader.skip(bytes)
  return bytes === 0 ? NO_PROPERTIES : decodeProperties(reader.buffer, at, at + bytes)
}

function writeProperties(writer: ByteWriter, properties: readonly Property[]): void {
  const bytes = encodeProperties(properties)
  writer.varint(bytes.length)
  writer.bytes(bytes)
}

function writeBinary(writer: ByteWriter, bytes: Buffer): void {
  writer.u16(bytes.length)
  writer.bytes(bytes)
}

function frame(first: number, body: ByteWriter): Buffer {
  const head = new ByteWriter(16)
  head.u8(first)
  head.varint(body.length)
  return Buffer.concat([head.view(), body.view()])
}
