/** Reads a client's PUBLISH in place (MQTT 5 §3.3, 3.1.1 §3.3): no byte is copied, no object made. */
import type { Limits } from '../../core/limits.ts'
import { FORM_MQTT, type Message } from '../../core/message.ts'
import { found, type PropertyRules, PUBLISH_RULES, walkProperties } from './property-rules.ts'
import { IncomingAliases } from './incoming-aliases.ts'
import {
  MALFORMED,
  PROTOCOL_ERROR,
  ProtocolError,
  TOPIC_ALIAS_INVALID,
  TOPIC_NAME_INVALID
} from './protocol-error.ts'
import { isUtf8 } from 'node:buffer'

const HASH = 0x23
const PLUS = 0x2b
const SLASH = 0x2f
/** A Message Expiry Interval: its identifier and four bytes. */
const EXPIRY_BYTES = 5
/** A Topic Alias: its identifier and two bytes. */
const ALIAS_BYTES = 3
/** Larger packets with an alias for a topic get a buffer of their own. */
const SCRATCH_BYTES = 64 * 1024

/** Store time in milliseconds: the broker. Asked only when a message has an expiry. */
export interface StoreClock {
  readonly nowMs: number
}

/** Node's slices that `toString` looks up by the encoding's name: half its cost for a topic. */
interface Slices {
  latin1Slice(start: number, end: number): string
}

/** One a connection: what it remembers from one PUBLISH to the next. */
export class PublishReader {
  /** The bytes of the last topic, a character each, and what they mean: most clients repeat their topic. */
  private lastBytes: string
  private lastTopic: string
  private aliases: IncomingAliases | null
  private readonly rules: PropertyRules

  /** `rules`: other ones for what a server sends. */
  constructor(rules: PropertyRules = PUBLISH_RULES) {
    this.lastBytes = ''
    this.lastTopic = ''
    this.aliases = null
    this.rules = rules
  }

  /**
   * Reads the body `buffer[start..end)` of a PUBLISH into `message`: all but `exchange` and
   * `publisherId`. The property bytes may be moved within the packet, to take the
   * expiry out. Throws a `ProtocolError`.
   */
  read(
    message: Message,
    first: number,
    buffer: Buffer,
    start: number,
    end: number,
    version: number,
    limits: Limits,
    clock: StoreClock
  ): void {
    if (start + 2 > end) throw tooShort()
    const topicStart = start + 2
    const topicEnd = topicStart + ((buffer[start]! << 8) | buffer[start + 1]!)
    if (topicEnd > end) throw tooShort()
    const qos = (first >> 1) & 3
    let at = topicEnd
    let packetId = 0
    if (qos > 0) {
      if (at + 2 > end) throw tooShort()
      packetId = (buffer[at]! << 8) | buffer[at + 1]!
      if (packetId === 0) throw new ProtocolError(MALFORMED, 'packet identifier 0') // [MQTT-2.2.1-3]
      at += 2
    }
    message.renew()
    message.expiresAt = 0
    message.propertiesStart = at
    message.propertiesEnd = at
    let alias = 0
    if (version === 5) {
      if (at < end && buffer[at] === 0) {
        message.propertiesStart = ++at
        message.propertiesEnd = at
      } else {
        at = readProperties(message, buffer, at, end, this.rules, limits, clock)
        alias = found.topicAlias
      }
    }
    message.source = buffer
    message.keyStart = topicStart
    message.keyEnd = topicEnd
    message.payloadStart = at
    message.payloadEnd = end
    message.form = FORM_MQTT
    message.qos = qos
    message.retain = (first & 1) !== 0
    message.priority = 0
    message.packetId = packetId
    if (alias === 0) message.key = this.readTopic(buffer, topicStart, topicEnd, limits)
    else this.readAliased(message, alias, limits)
  }

  /** A topic with its alias, which is set up, or the alias alone, which stands for its topic. */
  private readAliased(message: Message, alias: number, limits: Limits): void {
    if (alias > limits.topicAliasMax) {
      // [MQTT-3.3.2-9]
      throw new ProtocolError(TOPIC_ALIAS_INVALID, 'topic alias over the maximum')
    }
    const { source, keyStart, keyEnd } = message
    if (keyStart < keyEnd) {
      message.key = this.readTopic(source, keyStart, keyEnd, limits)
      this.aliases ??= new IncomingAliases()
      this.aliases.set(alias, message.key, source, keyStart, keyEnd, limits)
      return
    }
    const known = this.aliases?.get(alias)
    if (known === undefined) throw new ProtocolError(PROTOCOL_ERROR, 'unknown topic alias')
    message.key = known.topic
    putTopic(message, known.bytes)
  }

  private readTopic(buffer: Buffer, start: number, end: number, limits: Limits): string {
    if (this.isLast(buffer, start, end)) return this.lastTopic
    const bytes = (buffer as Buffer & Slices).latin1Slice(start, end)
    const topic = checkTopic(bytes, buffer, start, end, limits)
    this.lastBytes = bytes
    this.lastTopic = topic
    return topic
  }

  /** Compared from the end, where topics differ, and without making a string for it. */
  private isLast(buffer: Buffer, start: number, end: number): boolean {
    const last = this.lastBytes
    let i = end - start
    if (i === 0 || i !== last.length) return false
    while (--i >= 0) if (last.charCodeAt(i) !== buffer[start + i]!) return false
    return true
  }
}

function readProperties(
  message: Message,
  buffer: Buffer,
  at: number,
  end: number,
  rules: PropertyRules,
  limits: Limits,
  clock: StoreClock
): number {
  at = walkProperties(buffer, at, end, rules, limits.userPropertiesMax)
  message.propertiesStart = found.start
  message.propertiesEnd = found.end
  if (found.expirySeconds >= 0) {
    // An expiry of 0 means: only to who is there now, so it outlasts this millisecond alone.
    message.expiresAt = clock.nowMs + Math.max(found.expirySeconds * 1_000, 1)
    // What stands before the expiry moves over it: the rest is one piece again.
    buffer.copyWithin(found.start + EXPIRY_BYTES, found.start, found.expiryAt)
    message.propertiesStart = found.start + EXPIRY_BYTES
  }
  if (found.topicAlias > 0) {
    // So does what stands before the alias, which may have been moved by the expiry.
    const { propertiesStart } = message
    const wasMoved = found.topicAliasAt < found.expiryAt
    const aliasAt = found.topicAliasAt + (wasMoved ? EXPIRY_BYTES : 0)
    buffer.copyWithin(propertiesStart + ALIAS_BYTES, propertiesStart, aliasAt)
    message.propertiesStart = propertiesStart + ALIAS_BYTES
  }
  return at
}

/** Where a topic that an alias stands for and the rest of its packet are put together: one for all. */
let scratch: Buffer | null = null

/** Gives a message whose packet has no topic the bytes of one: they must lie in the message's source. */
function putTopic(message: Message, topic: Buffer): void {
  const { source, propertiesStart, propertiesEnd, payloadStart, payloadEnd } = message
  const bytes = topic.length + payloadEnd - propertiesStart
  const whole =
    bytes > SCRATCH_BYTES
      ? Buffer.allocUnsafeSlow(bytes)
      : (scratch ??= Buffer.alloc(SCRATCH_BYTES))
  topic.copy(whole, 0)
  source.copy(whole, topic.length, propertiesStart, payloadEnd)
  const moved = topic.length - propertiesStart
  message.source = whole
  message.keyStart = 0
  message.keyEnd = topic.length
  message.propertiesStart = topic.length
  message.propertiesEnd = propertiesEnd + moved
  message.payloadStart = payloadStart + moved
  message.payloadEnd = payloadEnd + moved
}

/** `bytes` are the topic's, a character each. Returns the topic. */
function checkTopic(
  bytes: string,
  buffer: Buffer,
  start: number,
  end: number,
  limits: Limits
): string {
  if (start === end) throw new ProtocolError(PROTOCOL_ERROR, 'empty topic') // [MQTT-4.7.3-1]
  let separators = 0
  let isAscii = true
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes.charCodeAt(i)
    if (byte === SLASH) separators++
    else if (byte === HASH || byte === PLUS) {
      throw new ProtocolError(TOPIC_NAME_INVALID, 'wildcard in a topic') // [MQTT-3.3.2-2]
    } else if (byte === 0) throw new ProtocolError(MALFORMED, 'U+0000 in a topic')
    else if (byte > 127) isAscii = false
  }
  if (separators > limits.topicSeparatorsMax || end - start > limits.topicBytesMax) {
    throw new ProtocolError(TOPIC_NAME_INVALID, 'topic too deep or too long')
  }
  if (isAscii) return bytes
  if (!isUtf8(buffer.subarray(start, end))) {
    throw new ProtocolError(MALFORMED, 'topic is not UTF-8')
  }
  return buffer.toString('utf8', start, end)
}

function tooShort(): ProtocolError {
  return new ProtocolError(MALFORMED, 'PUBLISH too short')
}
