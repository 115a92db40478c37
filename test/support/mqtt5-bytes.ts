/** MQTT 5 packets by hand, property by property, and back: what mqtt-packet would mend or refuse is written as wanted. */
import { type Bytes, bytes, packet, type RawMqtt, text } from './raw-mqtt.ts'

/** Property identifiers (§2.2.2.2). */
export const ID = {
  payloadFormat: 0x01,
  messageExpiry: 0x02,
  contentType: 0x03,
  responseTopic: 0x08,
  correlationData: 0x09,
  subscriptionIdentifier: 0x0b,
  sessionExpiry: 0x11,
  assignedClientIdentifier: 0x12,
  serverKeepAlive: 0x13,
  authenticationMethod: 0x15,
  authenticationData: 0x16,
  requestProblem: 0x17,
  willDelay: 0x18,
  requestResponse: 0x19,
  responseInformation: 0x1a,
  serverReference: 0x1c,
  reasonString: 0x1f,
  receiveMaximum: 0x21,
  topicAliasMaximum: 0x22,
  topicAlias: 0x23,
  maximumQos: 0x24,
  retainAvailable: 0x25,
  userProperty: 0x26,
  maximumPacketSize: 0x27,
  wildcardAvailable: 0x28,
  identifiersAvailable: 0x29,
  sharedAvailable: 0x2a
} as const

export type PropertyType = 'byte' | 'two' | 'four' | 'varint' | 'string' | 'binary' | 'pair'

const TYPES: Readonly<Record<PropertyType, readonly number[]>> = {
  byte: [0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2a],
  two: [0x13, 0x21, 0x22, 0x23],
  four: [0x02, 0x11, 0x18, 0x27],
  varint: [0x0b],
  string: [0x03, 0x08, 0x12, 0x15, 0x1a, 0x1c, 0x1f],
  binary: [0x09, 0x16],
  pair: [0x26]
}

export function typeOf(id: number): PropertyType {
  for (const [type, ids] of Object.entries(TYPES)) if (ids.includes(id)) return type as PropertyType
  throw new Error(`no property 0x${id.toString(16)}`)
}

/** A variable byte integer. */
export function varint(value: number): Buffer {
  const out: number[] = []
  while (value > 127) {
    out.push((value & 127) | 128)
    value >>= 7
  }
  return Buffer.from([...out, value])
}

/** A property of a number or of a string. */
export function property(id: number, value: number | string | Uint8Array): Buffer {
  if (typeof value !== 'number') return bytes([id], text(value))
  const type = typeOf(id)
  if (type === 'byte') return Buffer.from([id, value])
  if (type === 'two') return Buffer.from([id, value >> 8, value & 255])
  if (type === 'varint') return bytes([id], varint(value))
  const four = Buffer.from([id, 0, 0, 0, 0])
  four.writeUInt32BE(value, 1)
  return four
}

export function userProperty(name: string | Uint8Array, value: string | Uint8Array): Buffer {
  return bytes([ID.userProperty], text(name), text(value))
}

/** Properties behind their length. */
export function block(...properties: Bytes[]): Buffer {
  const content = bytes(...properties)
  return Buffer.concat([varint(content.length), content])
}

export interface Will {
  topic: string
  payload?: string
  qos?: number
  retain?: boolean
  properties?: Bytes[]
}

export interface ConnectOptions {
  clientId?: string
  clean?: boolean
  keepalive?: number
  properties?: Bytes[]
  /** Session Expiry Interval, seconds. */
  expiry?: number
  will?: Will
  username?: string
  password?: string
}

export function connectPacket(options: ConnectOptions = {}): Buffer {
  const { clientId = 'c', clean = true, keepalive = 0, will, username, password } = options
  const properties = [...(options.properties ?? [])]
  if (options.expiry !== undefined) properties.push(property(ID.sessionExpiry, options.expiry))
  let flags = clean ? 2 : 0
  const tail: Bytes[] = [text(clientId)]
  if (will !== undefined) {
    flags |= 4 | ((will.qos ?? 0) << 3) | (will.retain === true ? 0x20 : 0)
    tail.push(block(...(will.properties ?? [])), text(will.topic), text(will.payload ?? 'will'))
  }
  if (username !== undefined) {
    flags |= 0x80
    tail.push(text(username))
  }
  if (password !== undefined) {
    flags |= 0x40
    tail.push(text(password))
  }
  const head = [5, flags, keepalive >> 8, keepalive & 255]
  return packet(0x10, text('MQTT'), head, block(...properties), ...tail)
}

export interface PublishOptions {
  qos?: number
  id?: number
  dup?: boolean
  retain?: boolean
  properties?: Bytes[]
}

export function publishPacket(
  topic: string | Uint8Array,
  payload: string | Uint8Array,
  options: PublishOptions = {}
): Buffer {
  const { qos = 0, id = 0, dup = false, retain = false, properties = [] } = options
  const first = 0x30 | (dup ? 8 : 0) | (qos << 1) | (retain ? 1 : 0)
  const idBytes = qos > 0 ? [id >> 8, id & 255] : ''
  return packet(first, text(topic), idBytes, block(...properties), Buffer.from(payload as string))
}

/** Subscription options beside the QoS (§3.8.3.1). */
export const NO_LOCAL = 4
export const RETAIN_AS_PUBLISHED = 8
export const RETAINED_IF_NEW = 0x10
export const RETAINED_NEVER = 0x20

export function subscribePacket(
  id: number,
  filters: readonly (readonly [filter: string | Uint8Array, options: number])[],
  ...properties: Bytes[]
): Buffer {
  const list = filters.map(([filter, options]) => bytes(text(filter), [options]))
  return packet(0x82, [id >> 8, id & 255], block(...properties), ...list)
}

export function unsubscribePacket(
  id: number,
  filters: readonly (string | Uint8Array)[],
  ...properties: Bytes[]
): Buffer {
  return packet(0xa2, [id >> 8, id & 255], block(...properties), ...filters.map(text))
}

/** PUBACK, PUBREC, PUBREL or PUBCOMP. */
export function ackPacket(first: number, id: number, reason = 0, ...properties: Bytes[]): Buffer {
  const tail: Bytes[] = properties.length > 0 ? [[reason], block(...properties)] : [[reason]]
  return packet(
    first,
    [id >> 8, id & 255],
    ...(reason === 0 && properties.length === 0 ? [] : tail)
  )
}

export const PUBACK = 0x40
export const PUBREC = 0x50
export const PUBREL = 0x62
export const PUBCOMP = 0x70

/** One of a received packet's properties: a number, a string's bytes, or a pair of them. */
export type Value = number | Buffer | readonly [Buffer, Buffer]

/** A received packet of version 5. */
export interface Received {
  /** Its first byte. */
  readonly first: number
  readonly bytes: number
  /** PUBLISH, acknowledgements, SUBACK, UNSUBACK; 0: none. */
  readonly id: number
  readonly topic: string
  readonly payload: string
  /** Reason codes: one, but for SUBACK and UNSUBACK. */
  readonly reasons: readonly number[]
  /** Connect Acknowledge Flags. */
  readonly flags: number
  readonly properties: readonly (readonly [id: number, value: Value])[]
  /** Length bytes (Remaining Length, Property Length) were there and minimal. */
  readonly isMinimal: boolean
}

/** By packet type the properties that a server may send (§2.2.2.2), and which of them more than once. */
const ACK_PROPERTIES: readonly number[] = [ID.reasonString, ID.userProperty]
const SENT: Readonly<Record<number, readonly number[]>> = {
  2: [
    ...[0x11, 0x12, 0x13, 0x15, 0x16, 0x1a, 0x1c, 0x1f, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27, 0x28],
    ...[0x29, 0x2a]
  ],
  3: [0x01, 0x02, 0x03, 0x08, 0x09, 0x0b, 0x23, 0x26],
  4: ACK_PROPERTIES,
  5: ACK_PROPERTIES,
  6: ACK_PROPERTIES,
  7: ACK_PROPERTIES,
  9: ACK_PROPERTIES,
  11: ACK_PROPERTIES,
  14: [ID.serverReference, ...ACK_PROPERTIES],
  15: [ID.authenticationMethod, ID.authenticationData, ...ACK_PROPERTIES]
}

/** Throws when a packet of this type has a property that it may not have, or one too often, or with no such value. */
function checkSent(type: number, properties: readonly (readonly [number, Value])[]): void {
  const seen = new Set<number>()
  for (const [id, value] of properties) {
    if (SENT[type]?.includes(id) !== true) throw new Error(`property ${id} in packet ${type}`)
    const mayRepeat = id === ID.userProperty || id === ID.subscriptionIdentifier
    if (seen.has(id) && !mayRepeat) throw new Error(`property ${id} repeated in packet ${type}`)
    seen.add(id)
    if (typeOf(id) === 'byte' && Number(value) > 1) throw new Error(`value of property ${id}`)
    const mayBeZero = typeOf(id) === 'byte' || [0x02, 0x11, 0x13, 0x22].includes(id)
    if (value === 0 && !mayBeZero) throw new Error(`value of property ${id}`)
  }
}

class Reader {
  at = 0
  isMinimal = true
  readonly source: Buffer

  constructor(source: Buffer) {
    this.source = source
  }

  get isDone(): boolean {
    return this.at >= this.source.length
  }

  byte(): number {
    return this.source.readUInt8(this.at++)
  }

  two(): number {
    this.at += 2
    return this.source.readUInt16BE(this.at - 2)
  }

  varint(): number {
    let value = 0
    for (let shift = 0; ; shift += 7) {
      const byte = this.byte()
      value |= (byte & 127) << shift
      if (byte < 128) {
        if (byte === 0 && shift > 0) this.isMinimal = false
        return value
      }
    }
  }

  binary(): Buffer {
    const length = this.two()
    this.at += length
    return this.source.subarray(this.at - length, this.at)
  }

  value(id: number): Value {
    const type = typeOf(id)
    if (type === 'byte') return this.byte()
    if (type === 'two') return this.two()
    if (type === 'varint') return this.varint()
    if (type === 'four') {
      this.at += 4
      return this.source.readUInt32BE(this.at - 4)
    }
    return type === 'pair' ? [this.binary(), this.binary()] : this.binary()
  }

  properties(): (readonly [number, Value])[] {
    const list: (readonly [number, Value])[] = []
    const end = this.varint() + this.at
    if (end > this.source.length) throw new Error('properties beyond the packet')
    while (this.at < end) {
      const id = this.byte()
      list.push([id, this.value(id)])
    }
    return list
  }
}

/** Reads a packet that a server of version 5 sent. Throws when it has a property that it may not have. */
export function decode(source: Buffer): Received {
  const reader = new Reader(source)
  const first = reader.byte()
  if (reader.varint() !== source.length - reader.at) throw new Error('Remaining Length')
  const type = first >> 4
  const parts = { id: 0, topic: '', payload: '', flags: 0, reasons: [] as number[] }
  let properties: (readonly [number, Value])[] = []
  if (type === 3) {
    parts.topic = reader.binary().toString()
    if ((first & 6) > 0) parts.id = reader.two()
    properties = reader.properties()
    parts.payload = source.subarray(reader.at).toString()
  } else if (type === 2) {
    parts.flags = reader.byte()
    parts.reasons = [reader.byte()]
    properties = reader.properties()
  } else if (type === 9 || type === 11) {
    parts.id = reader.two()
    properties = reader.properties()
    parts.reasons = [...source.subarray(reader.at)]
  } else if (type !== 13) {
    if (type < 14) parts.id = reader.two()
    parts.reasons = [reader.isDone ? 0 : reader.byte()]
    if (!reader.isDone) properties = reader.properties()
  }
  checkSent(type, properties)
  return { first, bytes: source.length, ...parts, properties, isMinimal: reader.isMinimal }
}

/** The value of a property, if it is there. */
export function propertyOf(received: Received, id: number): Value | undefined {
  return received.properties.find(([each]) => each === id)?.[1]
}

/** The next packet, read. */
export async function next(raw: RawMqtt): Promise<Received> {
  return decode(await raw.next())
}

/** What comes before the close, as first byte and reasons: `e0 81`. */
export async function ending(raw: RawMqtt): Promise<string[]> {
  return (await raw.rest()).map(each => {
    const { first, reasons } = decode(each)
    return Buffer.from([first, ...reasons]).toString('hex')
  })
}
