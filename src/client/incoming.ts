/** What a server publishes to a client: read in place, QoS 2 taken once (MQTT 5 §4.3). */
import { DEFAULT_LIMITS, type Limits } from '../core/limits.ts'
import { Message } from '../core/message.ts'
import type { Version } from '../mqtt/codec/packet-types.ts'
import { DELIVERY_RULES, found } from '../mqtt/codec/property-rules.ts'
import { ProtocolError } from '../mqtt/codec/protocol-error.ts'
import { PublishReader } from '../mqtt/codec/publish.ts'
import { ID, numberOf, type Property } from './properties.ts'

const RECEIVE_MAXIMUM_EXCEEDED = 0x93
const QUOTA_DEFAULT = 65_535
/** A server may name more than our broker would take from a client. */
const LIMITS: Limits = { ...DEFAULT_LIMITS, topicSeparatorsMax: 65_535, userPropertiesMax: 65_535 }
const ALIAS_BYTES = 3
/** The expiry of a message is read against this clock: what comes out is the interval itself. */
const ZERO_CLOCK = { nowMs: 0 }

export class Incoming {
  /** The message at hand. */
  readonly message: Message
  /** Where in its property bytes its expiry stood; -1: it has none. */
  expiryOffset: number
  /** 0: it has none. */
  topicAlias: number
  /** Messages taken. */
  count: number
  private readonly version: Version
  private readonly limits: Limits
  private reader: PublishReader
  /** QoS 2 packet identifiers that wait for their PUBREL. */
  private readonly received: Set<number>
  /** QoS of what the owner has not acknowledged, by packet identifier. */
  private readonly owed: Map<number, number>
  private readonly receiveMax: number

  /** `properties`: of the CONNECT. */
  constructor(version: Version, properties: readonly Property[]) {
    this.message = new Message()
    this.expiryOffset = -1
    this.topicAlias = 0
    this.count = 0
    this.version = version
    this.limits = { ...LIMITS, topicAliasMax: numberOf(properties, ID.topicAliasMaximum, 0) }
    this.reader = new PublishReader(DELIVERY_RULES)
    this.received = new Set()
    this.owed = new Map()
    this.receiveMax = numberOf(properties, ID.receiveMaximum, QUOTA_DEFAULT)
  }

  /** A new connection. */
  restart(hasSession: boolean): void {
    // It knows the server's topic aliases, which end with the connection.
    this.reader = new PublishReader(DELIVERY_RULES)
    this.owed.clear()
    if (!hasSession) this.received.clear()
  }

  /** Reads a PUBLISH into `message`. False: a QoS 2 one that was taken before. Throws a `ProtocolError`. */
  read(first: number, buffer: Buffer, start: number, end: number): boolean {
    const { message, version, received } = this
    // It stays as it was when there are no properties.
    found.topicAlias = 0
    this.reader.read(message, first, buffer, start, end, version, this.limits, ZERO_CLOCK)
    this.topicAlias = found.topicAlias
    this.expiryOffset = message.expiresAt === 0 ? -1 : expiryOffset()
    const { qos, packetId } = message
    if (qos === 2) {
      if (received.has(packetId)) return false
      if (received.size >= this.receiveMax) {
        throw new ProtocolError(RECEIVE_MAXIMUM_EXCEEDED, 'receive maximum exceeded')
      }
      received.add(packetId)
    }
    this.count++
    return true
  }

  /** The owner will acknowledge the message at hand by itself. */
  owe(): void {
    this.owed.set(this.message.packetId, this.message.qos)
  }

  isOwed(packetId: number): boolean {
    return this.owed.has(packetId)
  }

  /** The owner acknowledges: the QoS of what it owed, 0: it owed nothing. */
  pay(packetId: number, reason: number): number {
    const qos = this.owed.get(packetId) ?? 0
    this.owed.delete(packetId)
    // A refused one is not followed by a PUBREL.
    if (qos === 2 && reason > 127) this.received.delete(packetId)
    return qos
  }

  /** A PUBREL; false: nobody knows its packet identifier. */
  release(packetId: number): boolean {
    return this.received.delete(packetId)
  }
}

/** Where the expiry stood among the properties that are left. */
function expiryOffset(): number {
  const isBehindAlias = found.topicAlias > 0 && found.topicAliasAt < found.expiryAt
  return found.expiryAt - found.start - (isBehindAlias ? ALIAS_BYTES : 0)
}
