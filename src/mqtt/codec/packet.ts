/**
 * The packets that do not make the traffic, through mqtt-packet: one whole packet at a time, each with a
 * parser of its own. mqtt-packet takes much that the specifications forbid (bad UTF-8, U+0000, empty
 * SUBSCRIBE, misplaced or repeated properties, trailing bytes), so each packet's structure is walked
 * first; what passes is then decoded from a copy, which outlives the socket's read buffer.
 */
import type { Packet } from 'mqtt-packet'
import type { Limits } from '../../core/limits.ts'
import { mendConnect } from './connect-3-1.ts'
import { mqttPacket } from './mqtt-packet.ts'
import { AUTH, CONNECT, DISCONNECT, SUBSCRIBE, UNSUBSCRIBE, type Version } from './packet-types.ts'
import {
  AUTH_RULES,
  CONNECT_RULES,
  DISCONNECT_RULES,
  found,
  type PropertyRules,
  SUBSCRIBE_RULES,
  UNSUBSCRIBE_RULES,
  WILL_RULES,
  walkBinary,
  walkProperties,
  walkString
} from './property-rules.ts'
import {
  CLIENT_ID_INVALID,
  MALFORMED,
  PROTOCOL_ERROR,
  ProtocolError,
  QUOTA_EXCEEDED,
  UNSUPPORTED_VERSION
} from './protocol-error.ts'

export interface ConnectWill {
  readonly topic: string
  readonly payload: Buffer
  /** MQTT 5 property bytes of a PUBLISH, without expiry and delay. */
  readonly properties: Buffer
  readonly qos: number
  readonly retain: boolean
  readonly expirySeconds: number
  readonly delaySeconds: number
}

export interface ConnectPacket {
  readonly version: Version
  /** Mosquitto's bridge bit in the protocol level: no echo, retain as published. */
  readonly isBridge: boolean
  readonly clientId: string
  readonly cleanStart: boolean
  readonly keepaliveSeconds: number
  readonly will: ConnectWill | null
  readonly username: string | null
  readonly password: Buffer | null
  /** MQTT 5; 0 when absent, as for all below. */
  readonly sessionExpirySeconds: number
  readonly receiveMaximum: number
  readonly packetBytesMax: number
  readonly topicAliasMax: number
  /** False: it wants no reason strings but in CONNACK and DISCONNECT. */
  readonly wantsProblems: boolean
  readonly wantsResponseInformation: boolean
  readonly authenticationMethod: string | null
  readonly authenticationData: Buffer | null
}

export interface FilterRequest {
  readonly filter: string
  readonly qos: number
  readonly noLocal: boolean
  readonly retainAsPublished: boolean
  readonly retainHandling: number
}

export interface SubscribePacket {
  readonly packetId: number
  /** 0 = none. */
  readonly subscriptionId: number
  readonly filters: readonly FilterRequest[]
}

export interface UnsubscribePacket {
  readonly packetId: number
  readonly filters: readonly string[]
}

export interface DisconnectPacket {
  readonly reason: number
  /** Null: unchanged. */
  readonly sessionExpirySeconds: number | null
}

export interface AuthPacket {
  readonly reason: number
  readonly method: string | null
  readonly data: Buffer
}

const EXPIRY_BYTES = 5
const NO_BYTES = Buffer.alloc(0)

/** What a client may say in a DISCONNECT (§3.14.2.1). */
const DISCONNECT_REASONS = new Set([
  0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99
])

/** Reads the body of a CONNECT (§3.1). Throws a `ProtocolError` that knows whether a CONNACK may answer. */
export function readConnect(
  first: number,
  buffer: Buffer,
  start: number,
  end: number,
  limits: Limits
): ConnectPacket {
  const level = readLevel(buffer, start, end)
  const version = (level & 0x7f) as Version
  if (version === 3) {
    buffer = mendConnect(buffer, start, end)
    end = buffer.length
    start = 0
  } else if (first !== CONNECT << 4) {
    throw malformed('flags of a CONNECT') // [MQTT-2.2.2-2]
  }
  let willProperties: Buffer
  let willExpirySeconds: number
  try {
    willProperties = checkConnect(buffer, start, end, version, limits)
    willExpirySeconds = found.expirySeconds
  } catch (error) {
    if (error instanceof ProtocolError && version === 5) error.connackVersion = 5
    throw error
  }
  const packet = decode(CONNECT << 4, buffer, start, end, version)
  if (packet.cmd !== 'connect') throw malformed('no CONNECT')
  const will = packet.will
  return {
    version,
    isBridge: level > 127,
    clientId: packet.clientId,
    cleanStart: packet.clean === true,
    keepaliveSeconds: packet.keepalive ?? 0,
    will:
      will === undefined
        ? null
        : {
            topic: will.topic,
            // A copy: else the whole CONNECT, password and all, stays in memory with it.
            payload: Buffer.from(will.payload),
            properties: willProperties,
            qos: will.qos ?? 0,
            retain: will.retain === true,
            expirySeconds: willExpirySeconds,
            delaySeconds: will.properties?.willDelayInterval ?? 0
          },
    username: packet.username ?? null,
    password: packet.password ?? null,
    sessionExpirySeconds: packet.properties?.sessionExpiryInterval ?? 0,
    receiveMaximum: packet.properties?.receiveMaximum ?? 0,
    packetBytesMax: packet.properties?.maximumPacketSize ?? 0,
    topicAliasMax: packet.properties?.topicAliasMaximum ?? 0,
    wantsProblems: packet.properties?.requestProblemInformation !== false,
    wantsResponseInformation: packet.properties?.requestResponseInformation === true,
    authenticationMethod: packet.properties?.authenticationMethod ?? null,
    authenticationData: packet.properties?.authenticationData ?? null
  }
}

/** Protocol name and level (§3.1.2.1, §3.1.2.2). */
function readLevel(buffer: Buffer, start: number, end: number): number {
  const nameEnd = walkBinary(buffer, start, end)
  const name = buffer.toString('latin1', start + 2, nameEnd)
  if (nameEnd >= end) throw malformed('no protocol level')
  const level = buffer[nameEnd]!
  if (name === 'MQTT') {
    if (level === 4 || level === 5 || level === 0x84) return level
    // [MQTT-3.1.2-2]: in the CONNACK that the client is likeliest to understand.
    throw new ProtocolError(UNSUPPORTED_VERSION, 'protocol level', level > 5 ? 5 : 4)
  }
  if (name === 'MQIsdp' && (level === 3 || level === 0x83)) return level
  throw malformed('protocol name') // [MQTT-3.1.2-1]
}

/** Walks a CONNECT behind its level; returns the will's property bytes, and leaves its expiry in `found`. */
function checkConnect(
  buffer: Buffer,
  start: number,
  end: number,
  version: number,
  limits: Limits
): Buffer {
  let at = walkBinary(buffer, start, end) + 1
  if (at + 3 > end) throw malformed('CONNECT too short')
  const flags = buffer[at]!
  checkConnectFlags(flags, version)
  at += 3
  if (version === 5) {
    at = walkProperties(buffer, at, end, CONNECT_RULES, limits.userPropertiesMax)
  }
  const idEnd = walkString(buffer, at, end)
  if (idEnd - at - 2 > limits.clientIdBytesMax) {
    throw new ProtocolError(CLIENT_ID_INVALID, 'client id too long', version)
  }
  at = idEnd
  let willProperties: Buffer = NO_BYTES
  found.expirySeconds = -1
  if ((flags & 0x04) !== 0) {
    if (version === 5) {
      at = walkProperties(buffer, at, end, WILL_RULES, limits.userPropertiesMax)
      willProperties = withoutTimes(buffer)
    }
    at = walkString(buffer, at, end)
    at = walkBinary(buffer, at, end)
  }
  if ((flags & 0x80) !== 0) at = walkString(buffer, at, end)
  if ((flags & 0x40) !== 0) at = walkBinary(buffer, at, end)
  if (at !== end) throw malformed('trailing bytes')
  return willProperties
}

function checkConnectFlags(flags: number, version: number): void {
  if ((flags & 0x01) !== 0) throw malformed('reserved connect flag') // [MQTT-3.1.2-3]
  const hasWill = (flags & 0x04) !== 0
  if (!hasWill && (flags & 0x38) !== 0) throw malformed('will flags without a will') // [MQTT-3.1.2-11]
  if ((flags & 0x18) === 0x18) throw malformed('will QoS 3') // [MQTT-3.1.2-14]
  if (version < 5 && (flags & 0xc0) === 0x40) throw malformed('password without user name')
}

/** The will's properties that a PUBLISH of it carries, copied. */
function withoutTimes(buffer: Buffer): Buffer {
  const cuts = [found.expiryAt, found.willDelayAt].filter(at => at >= 0).sort((a, b) => a - b)
  const pieces: Buffer[] = []
  let at = found.start
  for (const cut of cuts) {
    pieces.push(buffer.subarray(at, cut))
    at = cut + EXPIRY_BYTES
  }
  pieces.push(buffer.subarray(at, found.end))
  return Buffer.concat(pieces)
}

/** Reads the body of a SUBSCRIBE (§3.8). `isBridge`: Mosquitto's, whose options are implied. */
export function readSubscribe(
  buffer: Buffer,
  start: number,
  end: number,
  version: Version,
  isBridge: boolean,
  limits: Limits
): SubscribePacket {
  let at = walkHead(buffer, start, end, version, SUBSCRIBE_RULES, limits)
  let count = 0
  while (at < end) {
    at = walkString(buffer, at, end)
    if (at >= end) throw malformed('no subscription options')
    checkOptions(buffer[at++]!, version)
    if (++count > limits.filtersPerPacketMax) throw tooManyFilters()
  }
  if (count === 0) throw new ProtocolError(PROTOCOL_ERROR, 'SUBSCRIBE without filters') // [MQTT-3.8.3-2]
  const packet = decode((SUBSCRIBE << 4) | 2, buffer, start, end, version)
  if (packet.cmd !== 'subscribe') throw malformed('no SUBSCRIBE')
  return {
    packetId: packet.messageId ?? 0,
    subscriptionId: packet.properties?.subscriptionIdentifier ?? 0,
    filters: packet.subscriptions.map(wanted => ({
      filter: wanted.topic,
      qos: wanted.qos,
      noLocal: isBridge || wanted.nl === true,
      retainAsPublished: isBridge || wanted.rap === true,
      retainHandling: wanted.rh ?? 0
    }))
  }
}

/** Reads the body of an UNSUBSCRIBE (§3.10). */
export function readUnsubscribe(
  buffer: Buffer,
  start: number,
  end: number,
  version: Version,
  limits: Limits
): UnsubscribePacket {
  let at = walkHead(buffer, start, end, version, UNSUBSCRIBE_RULES, limits)
  let count = 0
  while (at < end) {
    at = walkString(buffer, at, end)
    if (++count > limits.filtersPerPacketMax) throw tooManyFilters()
  }
  if (count === 0) throw new ProtocolError(PROTOCOL_ERROR, 'UNSUBSCRIBE without filters') // [MQTT-3.10.3-2]
  const packet = decode((UNSUBSCRIBE << 4) | 2, buffer, start, end, version)
  if (packet.cmd !== 'unsubscribe') throw malformed('no UNSUBSCRIBE')
  return { packetId: packet.messageId ?? 0, filters: packet.unsubscriptions }
}

/** Reads the body of a DISCONNECT (§3.14). */
export function readDisconnect(
  buffer: Buffer,
  start: number,
  end: number,
  version: Version,
  limits: Limits
): DisconnectPacket {
  if (start === end) return { reason: 0, sessionExpirySeconds: null }
  if (version !== 5) throw malformed('DISCONNECT with a body')
  const reason = buffer[start]!
  if (!DISCONNECT_REASONS.has(reason)) throw malformed('reason code of a DISCONNECT')
  if (start + 1 === end) return { reason, sessionExpirySeconds: null }
  const stop = walkProperties(buffer, start + 1, end, DISCONNECT_RULES, limits.userPropertiesMax)
  if (stop !== end) throw malformed('trailing bytes')
  const packet = decode(DISCONNECT << 4, buffer, start, end, version)
  if (packet.cmd !== 'disconnect') throw malformed('no DISCONNECT')
  return { reason, sessionExpirySeconds: packet.properties?.sessionExpiryInterval ?? null }
}

/** Reads the body of an AUTH (§3.15). */
export function readAuth(buffer: Buffer, start: number, end: number, limits: Limits): AuthPacket {
  if (start === end) return { reason: 0, method: null, data: NO_BYTES }
  const reason = buffer[start]!
  if (![0x00, 0x18, 0x19].includes(reason)) throw malformed('reason code of an AUTH')
  const stop = walkProperties(buffer, start + 1, end, AUTH_RULES, limits.userPropertiesMax)
  if (stop !== end) throw malformed('trailing bytes')
  const packet = decode(AUTH << 4, buffer, start, end, 5)
  if (packet.cmd !== 'auth') throw malformed('no AUTH')
  return {
    reason,
    method: packet.properties?.authenticationMethod ?? null,
    data: packet.properties?.authenticationData ?? NO_BYTES
  }
}

/** Packet identifier and properties of SUBSCRIBE and UNSUBSCRIBE; returns where their filters start. */
function walkHead(
  buffer: Buffer,
  start: number,
  end: number,
  version: number,
  rules: PropertyRules,
  limits: Limits
): number {
  if (start + 2 > end) throw malformed('no packet identifier')
  if (buffer.readUInt16BE(start) === 0) throw malformed('packet identifier 0') // [MQTT-2.2.1-3]
  if (version !== 5) return start + 2
  return walkProperties(buffer, start + 2, end, rules, limits.userPropertiesMax)
}

/** [MQTT-3.8.3-5]; 3.1.1 [MQTT-3-8.3-4]. */
function checkOptions(options: number, version: number): void {
  if ((options & 3) === 3) throw malformed('subscription QoS 3')
  if ((options & (version === 5 ? 0xc0 : 0xfc)) !== 0) throw malformed('reserved option bits')
  if ((options & 0x30) === 0x30) throw new ProtocolError(PROTOCOL_ERROR, 'retain handling 3')
}

/** One packet through mqtt-packet, from a copy of its bytes. */
function decode(
  first: number,
  buffer: Buffer,
  start: number,
  end: number,
  version: number
): Packet {
  const bytes = withHeader(first, buffer, start, end)
  let packet: Packet | null = null
  let failure: unknown = null
  const decoder = mqttPacket().parser({ protocolVersion: version })
  decoder.on('packet', found => {
    packet = found
  })
  decoder.on('error', error => {
    failure = error
  })
  decoder.parse(bytes)
  if (packet === null || failure !== null) {
    throw malformed(failure instanceof Error ? failure.message : 'malformed packet')
  }
  return packet
}

function withHeader(first: number, buffer: Buffer, start: number, end: number): Buffer {
  const head = [first]
  let length = end - start
  while (length > 127) {
    head.push((length & 127) | 128)
    length >>= 7
  }
  head.push(length)
  return Buffer.concat([Buffer.from(head), buffer.subarray(start, end)])
}

function tooManyFilters(): ProtocolError {
  return new ProtocolError(QUOTA_EXCEEDED, 'too many filters in one packet')
}

function malformed(message: string): ProtocolError {
  return new ProtocolError(MALFORMED, message)
}
