/**
 * Packets as Aedes hands them in, and as the message records of the core that they become: the topic is the
 * key, the payload the payload, and all else stands in the properties, which only we read:
 *
 *   flags u8 · broker id, counter: values · the other keys with their values
 *
 * Broker id and counter come first: by their bytes an enqueued packet is found again.
 */
import type { Message } from '../core/message.ts'
import type { ByteWriter } from '../lib/byte-writer.ts'
import { BytesReader } from '../lib/bytes-reader.ts'
import { ABSENT, readEntries, readValue, writeKeys, writeValue } from './values.ts'

/** A packet of Aedes, or what it looks at in one. Other keys are kept as they are. */
export interface PersistedPacket {
  cmd?: string
  topic?: string | undefined
  payload?: Buffer | string
  qos?: number
  retain?: boolean
  dup?: boolean
  messageId?: number | null | undefined
  brokerId?: string | undefined
  brokerCounter?: number | undefined
  clientId?: string
  [key: string]: unknown
}

/** A client of Aedes: only its identifier is looked at. */
export interface PersistedClient {
  id: string
}

const HAS_TOPIC = 1
const PAYLOAD_BYTES = 2
const PAYLOAD_TEXT = 4

const OWN_KEYS = new Set(['brokerId', 'brokerCounter'])

function own(packet: object, key: string): unknown {
  return Object.hasOwn(packet, key) ? (packet as Record<string, unknown>)[key] : ABSENT
}

/**
 * A copy with the fields and defaults of aedes-packet's `Packet`, which is what a queue holds: the packet
 * identifier is given when it is delivered [MQTT-2.3.1-2].
 */
export function asQueued(packet: PersistedPacket): PersistedPacket {
  const queued: PersistedPacket = {}
  for (const key of ['clientId', 'nl', 'properties', 'messageExpiry']) {
    if (Object.hasOwn(packet, key)) queued[key] = packet[key]
  }
  queued.cmd = packet.cmd || 'publish'
  queued.brokerId = packet.brokerId
  queued.brokerCounter = packet.brokerCounter || 0
  queued.topic = packet.topic
  queued.payload = packet.payload || Buffer.alloc(0)
  queued.qos = packet.qos || 0
  queued.retain = packet.retain || false
  queued.dup = packet.dup || false
  if (queued.qos > 0 || queued.cmd !== 'publish') queued.messageId = undefined
  return queued
}

/** Writes a packet into `writer`, which it empties first, and makes `message` a view on it. */
export function fillMessage(message: Message, writer: ByteWriter, packet: PersistedPacket): void {
  const { topic, payload } = packet
  writer.reset()
  const hasTopic = typeof topic === 'string'
  if (hasTopic) writer.utf8(topic)
  const propertiesStart = writer.length
  const isText = typeof payload === 'string'
  const isBytes = payload instanceof Uint8Array
  writer.u8(
    (hasTopic ? HAS_TOPIC : 0) | (isBytes ? PAYLOAD_BYTES : 0) | (isText ? PAYLOAD_TEXT : 0)
  )
  writeValue(writer, own(packet, 'brokerId'))
  writeValue(writer, own(packet, 'brokerCounter'))
  const keys = Object.keys(packet).filter(
    key =>
      !OWN_KEYS.has(key) &&
      !(key === 'topic' && hasTopic) &&
      !(key === 'payload' && (isText || isBytes))
  )
  writeKeys(writer, packet, keys)
  const payloadStart = writer.length
  if (isText) writer.utf8(payload)
  else if (isBytes) writer.bytes(payload)
  message.renew()
  message.source = writer.buffer
  message.key = ''
  message.keyStart = 0
  message.keyEnd = propertiesStart
  message.propertiesStart = propertiesStart
  message.propertiesEnd = payloadStart
  message.payloadStart = payloadStart
  message.payloadEnd = writer.length
  message.qos = packet.qos === 1 || packet.qos === 2 ? packet.qos : 0
  message.retain = packet.retain === true
  message.exchange = 'amq.topic'
}

/** The packet of a message record; all its bytes are its own. Throws a `BytesError`. */
export function packetOf(message: Message): PersistedPacket {
  const { source } = message
  const reader = new BytesReader(source, message.propertiesStart, message.propertiesEnd)
  const packet: PersistedPacket = {}
  const flags = reader.u8()
  const brokerId = readValue(reader)
  const brokerCounter = readValue(reader)
  if (typeof brokerId === 'string' || brokerId === undefined) packet.brokerId = brokerId
  if (typeof brokerCounter === 'number' || brokerCounter === undefined) {
    packet.brokerCounter = brokerCounter
  }
  if ((flags & HAS_TOPIC) !== 0) {
    packet.topic = source.toString('utf8', message.keyStart, message.keyEnd)
  }
  readEntries(reader, packet)
  reader.expectEnd()
  if ((flags & PAYLOAD_TEXT) !== 0) {
    packet.payload = source.toString('utf8', message.payloadStart, message.payloadEnd)
  } else if ((flags & PAYLOAD_BYTES) !== 0) {
    packet.payload = Buffer.from(source.subarray(message.payloadStart, message.payloadEnd))
  }
  return packet
}

/** The bytes by which `isPair` finds a packet again. */
export function writePair(writer: ByteWriter, packet: PersistedPacket): Buffer {
  writer.reset()
  writeValue(writer, packet.brokerId)
  writeValue(writer, packet.brokerCounter || 0)
  return writer.toBuffer()
}

/** Whether a queued message has this broker id and counter. */
export function isPair(message: Message, pair: Buffer): boolean {
  const start = message.propertiesStart + 1
  if (start + pair.length > message.propertiesEnd) return false
  return message.source.compare(pair, 0, pair.length, start, start + pair.length) === 0
}
