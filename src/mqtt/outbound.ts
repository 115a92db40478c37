/**
 * Writes PUBLISH packets straight into the receivers' output buffers (MQTT 5 §3.3).
 *
 * A message is encoded once a fan-out for each variant, version × with or without a packet identifier,
 * and copied from the first receiver's buffer for the others: only the first byte and the identifier
 * are a receiver's own. Subscription identifiers and topic aliases stand among the properties, so who has
 * some gets an encoding of his own. A large payload is copied once for all receivers, and shared.
 */
import { FORM_AMQP, type Message } from '../core/message.ts'
import type { PropertiesDecoder } from '../core/properties.ts'
import { swapSeparators } from '../core/topic.ts'
import { copyBytes, writeVarint } from '../lib/bytes.ts'
import type { PeerSocket, Sockets } from '../net/socket.ts'
import { MESSAGE_EXPIRY, SUBSCRIPTION_IDENTIFIER, TOPIC_ALIAS } from './codec/property-rules.ts'
import type { OutgoingAliases } from './outgoing-aliases.ts'
import { encodeProperties } from './properties.ts'

/** The front-end's share of the broker that writing needs. */
export interface OutboundBroker {
  /** Store time, milliseconds. */
  readonly nowMs: number
  readonly propertyDecoders: PropertiesDecoder[]
}

/** A receiver. */
export interface PublishTarget {
  readonly socket: PeerSocket
  /** How a PUBLISH is encoded for it: `ENCODE_*`. */
  readonly encoding: number
  /** With ENCODE_5_ALIASED: the topic aliases in use towards it. */
  readonly aliases: OutgoingAliases | null
  /** The client's Maximum Packet Size, bytes. */
  readonly outputPacketBytesMax: number
}

export const ENCODE_3 = 0
export const ENCODE_5 = 2
/** MQTT 5 to a client that takes topic aliases: each packet is its own. */
export const ENCODE_5_ALIASED = 4

const PUBLISH_FIRST = 0x30
/** Of the first byte. */
const QOS_BITS = 6
/** Payloads above it are shared, not copied for each receiver. */
const SHARED_BYTES_MIN = 32 * 1024
const EXPIRY_BYTES = 5
const ALIAS_BYTES = 3
const EMPTY = Buffer.alloc(0)

/** One variant of the message that was written last, where its first receiver got it. */
class Encoded {
  serial = -1
  /** `Sockets.recycled` when it was written: while that stands, the bytes are there. */
  generation = -1
  buffer: Buffer = EMPTY
  start = 0
  end = 0
  /** Of the packet identifier behind `start`. */
  idOffset = 0
}

/** One for all connections that share `sockets`. */
export class Outbound {
  private readonly sockets: Sockets
  private readonly broker: OutboundBroker
  private readonly variants: Encoded[]
  private sharedSerial: number
  private sharedPayload: Buffer
  private convertedSerial: number
  private convertedTopic: Buffer
  private convertedProperties: Buffer
  /** Parts of the message being written. */
  private topicSource: Buffer
  private topicStart: number
  private topicEnd: number
  private propertySource: Buffer
  private propertyStart: number
  private propertyEnd: number

  constructor(sockets: Sockets, broker: OutboundBroker) {
    this.sockets = sockets
    this.broker = broker
    this.variants = [new Encoded(), new Encoded(), new Encoded(), new Encoded()]
    this.sharedSerial = -1
    this.sharedPayload = EMPTY
    this.convertedSerial = -1
    this.convertedTopic = EMPTY
    this.convertedProperties = EMPTY
    this.topicSource = EMPTY
    this.topicStart = 0
    this.topicEnd = 0
    this.propertySource = EMPTY
    this.propertyStart = 0
    this.propertyEnd = 0
  }

  /**
   * Writes one PUBLISH. `flags`: the low four bits of its first byte (DUP, QoS, RETAIN); `packetId` 0
   * with QoS 0. False: larger than the receiver's Maximum Packet Size, nothing is written
   * [MQTT-3.1.2-24].
   */
  write(
    target: PublishTarget,
    message: Message,
    flags: number,
    packetId: number,
    subscriptionIds: readonly number[] | null
  ): boolean {
    const { encoding } = target
    if (encoding === ENCODE_5_ALIASED) {
      return this.encodeAliased(target, message, flags, packetId, subscriptionIds)
    }
    if (subscriptionIds !== null && encoding === ENCODE_5) {
      return this.encode(target, message, flags, packetId, subscriptionIds, null, 0)
    }
    const variant = this.variants[encoding | (packetId > 0 ? 1 : 0)]!
    if (
      variant.serial !== message.serial ||
      variant.generation !== this.sockets.recycled ||
      message.payloadEnd - message.payloadStart >= SHARED_BYTES_MIN
    ) {
      return this.encode(target, message, flags, packetId, null, variant, 0)
    }
    const bytes = variant.end - variant.start
    if (bytes > target.outputPacketBytesMax) return false
    const { socket } = target
    const at = socket.reserve(bytes)
    const out = socket.buffer
    socket.units[(flags & QOS_BITS) >> 1]!++
    copyBytes(variant.buffer, variant.start, variant.end, out, at)
    out[at] = PUBLISH_FIRST | flags
    if (packetId > 0) {
      const idAt = at + variant.idOffset
      out[idAt] = packetId >> 8
      out[idAt + 1] = packetId & 255
    }
    return true
  }

  private encodeAliased(
    target: PublishTarget,
    message: Message,
    flags: number,
    packetId: number,
    subscriptionIds: readonly number[] | null
  ): boolean {
    const aliases = target.aliases!
    const topic = this.topicText(message)
    const chosen = aliases.choose(topic)
    if (this.encode(target, message, flags, packetId, subscriptionIds, null, chosen)) {
      // A PUBLISH that was not written sets up nothing.
      if (chosen < 0) aliases.keep(-chosen, topic)
      return true
    }
    // Without the alias it may still fit.
    return chosen < 0 && this.encode(target, message, flags, packetId, subscriptionIds, null, 0)
  }

  private topicText(message: Message): string {
    const text = message.keyText()
    return message.form === FORM_AMQP ? swapSeparators(text) : text
  }

  /** `alias`: the topic alias that stands for the topic; negated: one that it sets up; 0: none. */
  private encode(
    target: PublishTarget,
    message: Message,
    flags: number,
    packetId: number,
    subscriptionIds: readonly number[] | null,
    variant: Encoded | null,
    alias: number
  ): boolean {
    const isVersion5 = target.encoding !== ENCODE_3
    this.open(message, isVersion5)
    if (alias > 0) this.topicStart = this.topicEnd
    const topicBytes = this.topicEnd - this.topicStart
    const payloadBytes = message.payloadEnd - message.payloadStart
    let propertyBytes = 0
    let length = 2 + topicBytes + (packetId > 0 ? 2 : 0) + payloadBytes
    if (isVersion5) {
      propertyBytes = this.propertyEnd - this.propertyStart + idsBytes(subscriptionIds)
      if (message.expiresAt > 0) propertyBytes += EXPIRY_BYTES
      if (alias !== 0) propertyBytes += ALIAS_BYTES
      length += varintBytes(propertyBytes) + propertyBytes
    }
    const total = 1 + varintBytes(length) + length
    if (total > target.outputPacketBytesMax) return false
    const isShared = payloadBytes >= SHARED_BYTES_MIN
    const { socket } = target
    const start = socket.reserve(isShared ? total - payloadBytes : total)
    const out = socket.buffer
    out[start] = PUBLISH_FIRST | flags
    let at = writeVarint(out, start + 1, length)
    out[at] = topicBytes >> 8
    out[at + 1] = topicBytes & 255
    at += 2
    const idOffset = at - start + topicBytes
    const between = (packetId > 0 ? 2 : 0) + (isVersion5 ? 1 : 0)
    if (this.liesAsIs(message, between) && propertyBytes === 0 && !isShared) {
      copyBytes(message.source, this.topicStart, message.payloadEnd, out, at)
      at += topicBytes
      writeId(out, at, packetId)
      if (isVersion5) out[at + between - 1] = 0
    } else {
      at = copyBytes(this.topicSource, this.topicStart, this.topicEnd, out, at)
      at = writeId(out, at, packetId)
      if (isVersion5)
        at = this.writeProperties(out, at, propertyBytes, message, subscriptionIds, Math.abs(alias))
      if (isShared) {
        socket.writeShared(this.share(message), (flags & QOS_BITS) >> 1)
        return true
      }
      copyBytes(message.source, message.payloadStart, message.payloadEnd, out, at)
    }
    socket.units[(flags & QOS_BITS) >> 1]!++
    if (variant !== null) {
      variant.serial = message.serial
      variant.generation = this.sockets.recycled
      variant.buffer = out
      variant.start = start
      variant.end = start + total
      variant.idOffset = idOffset
    }
    return true
  }

  /** Topic and payload lie as far apart as they must be in the new packet: one copy takes both. */
  private liesAsIs(message: Message, between: number): boolean {
    return message.payloadStart - this.topicEnd === between && this.topicSource === message.source
  }

  private writeProperties(
    out: Buffer,
    at: number,
    bytes: number,
    message: Message,
    subscriptionIds: readonly number[] | null,
    alias: number
  ): number {
    at = writeVarint(out, at, bytes)
    if (message.expiresAt > 0) {
      // [MQTT-3.3.2-6]: what remains of it, in whole seconds, at least 1.
      const remaining = Math.ceil((message.expiresAt - this.broker.nowMs) / 1_000)
      out[at] = MESSAGE_EXPIRY
      out.writeUInt32BE(Math.min(Math.max(remaining, 1), 0xffffffff), at + 1)
      at += EXPIRY_BYTES
    }
    if (alias !== 0) {
      out[at] = TOPIC_ALIAS
      out[at + 1] = alias >> 8
      out[at + 2] = alias & 255
      at += ALIAS_BYTES
    }
    at = copyBytes(this.propertySource, this.propertyStart, this.propertyEnd, out, at)
    if (subscriptionIds !== null) {
      for (let i = 0; i < subscriptionIds.length; i++) {
        out[at] = SUBSCRIPTION_IDENTIFIER
        at = writeVarint(out, at + 1, subscriptionIds[i]!)
      }
    }
    return at
  }

  /** Finds the message's parts in MQTT's form. */
  private open(message: Message, isVersion5: boolean): void {
    if (message.form === FORM_AMQP) {
      this.convert(message, isVersion5)
      return
    }
    this.topicSource = message.source
    this.topicStart = message.keyStart
    this.topicEnd = message.keyEnd
    this.propertySource = message.source
    this.propertyStart = message.propertiesStart
    this.propertyEnd = message.propertiesEnd
  }

  private convert(message: Message, isVersion5: boolean): void {
    // Serials of 3.1.1's and 5's conversion differ in sign: 3.1.1 needs no properties.
    const serial = isVersion5 ? message.serial : -message.serial - 2
    if (this.convertedSerial !== serial) {
      this.convertedSerial = serial
      this.convertedTopic = Buffer.from(swapSeparators(message.keyText()))
      const decode = this.broker.propertyDecoders[message.form]
      this.convertedProperties =
        isVersion5 && decode !== undefined
          ? encodeProperties(decode(message.source, message.propertiesStart, message.propertiesEnd))
          : EMPTY
    }
    this.topicSource = this.convertedTopic
    this.topicStart = 0
    this.topicEnd = this.convertedTopic.length
    this.propertySource = this.convertedProperties
    this.propertyStart = 0
    this.propertyEnd = this.convertedProperties.length
  }

  /** The payload as a buffer of its own that nobody changes any more. */
  private share(message: Message): Buffer {
    if (this.sharedSerial !== message.serial) {
      this.sharedSerial = message.serial
      this.sharedPayload = Buffer.from(
        message.source.subarray(message.payloadStart, message.payloadEnd)
      )
    }
    return this.sharedPayload
  }
}

function writeId(out: Buffer, at: number, packetId: number): number {
  if (packetId === 0) return at
  out[at] = packetId >> 8
  out[at + 1] = packetId & 255
  return at + 2
}

function idsBytes(ids: readonly number[] | null): number {
  let bytes = 0
  if (ids !== null) for (let i = 0; i < ids.length; i++) bytes += 1 + varintBytes(ids[i]!)
  return bytes
}

function varintBytes(value: number): number {
  if (value < 128) return 1
  if (value < 16_384) return 2
  return value < 2_097_152 ? 3 : 4
}
