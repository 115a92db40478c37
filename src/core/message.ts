/**
 * A message: what a publisher sent. It is a view over bytes that somebody else owns (a socket's read
 * buffer, a journal block, a slab), true for the current turn only: what outlives the turn is copied
 * into a record. The key stands as its publisher wrote it, with a flag for the form; properties stay
 * encoded as the publisher's protocol wrote them, so that in = out costs nothing and loses nothing.
 */

import { swapSeparators } from './topic.ts'

export type MessageForm = 0 | 1
/** Key with `/`; properties: MQTT 5 property bytes without their length, PUBLISH's only (MQTT-3.3.2.3). */
export const FORM_MQTT: MessageForm = 0
/** Key with `.`; properties: AMQP 0-9-1 property flags and list as in a content header (§4.2.6.1). */
export const FORM_AMQP: MessageForm = 1

export type QosLevel = 0 | 1 | 2

let serials = 0

export class Message {
  /** Owner of all the bytes below. */
  source: Buffer
  /** The key: topic name or routing key, as written; '' until asked for in a message read from a record. */
  key: string
  keyStart: number
  keyEnd: number
  propertiesStart: number
  propertiesEnd: number
  payloadStart: number
  payloadEnd: number
  form: MessageForm
  /** MQTT: of the PUBLISH. AMQP: 1 for delivery-mode 2, else 0. */
  qos: number
  retain: boolean
  /** Store time in milliseconds when it expires; 0 = never. Not part of the property bytes of FORM_MQTT. */
  expiresAt: number
  /** AMQP priority, 0 for MQTT. */
  priority: number
  /** Name of the exchange it was published to. */
  exchange: string
  /** Id of the session that published it (no local); 0 = none. */
  publisherId: number
  /** Packet identifier of an inbound QoS 2 PUBLISH, kept in the message's own record; else 0. */
  packetId: number
  /**
   * What the record that stores it ends together with that: the will of the session with this id, or LEAVING (see
   * broker/store.ts); 0 = nothing, and again 0 when that record is written.
   */
  recordEnds: number
  /** Somebody waits for the disk: QoS > 0, a confirm channel's persistent message. */
  isAwaited: boolean
  /** Different for each message object: the key of encode-once caches. */
  serial: number

  constructor() {
    this.source = EMPTY
    this.key = ''
    this.keyStart = 0
    this.keyEnd = 0
    this.propertiesStart = 0
    this.propertiesEnd = 0
    this.payloadStart = 0
    this.payloadEnd = 0
    this.form = FORM_MQTT
    this.qos = 0
    this.retain = false
    this.expiresAt = 0
    this.priority = 0
    this.exchange = ''
    this.publisherId = 0
    this.packetId = 0
    this.recordEnds = 0
    this.isAwaited = false
    this.serial = 0
  }

  /** A connection may reuse one object for message after message: each gets a new serial. */
  renew(): void {
    serials = (serials + 1) & 0x3fffffff
    this.serial = serials
  }

  /** `source` holds its key, its properties and its payload behind one another, and nothing else. */
  compose(source: Buffer, key: string, keyEnd: number, propertiesEnd: number): void {
    this.source = source
    this.key = key
    this.keyStart = 0
    this.keyEnd = keyEnd
    this.propertiesStart = keyEnd
    this.propertiesEnd = propertiesEnd
    this.payloadStart = propertiesEnd
    this.payloadEnd = source.length
  }

  /** The key as text, also of a message that was read from a record. */
  keyText(): string {
    if (this.key === '') this.key = this.source.toString('utf8', this.keyStart, this.keyEnd)
    return this.key
  }

  /** The key in topic form, as MQTT has it. */
  topicText(): string {
    const text = this.keyText()
    return this.form === FORM_AMQP ? swapSeparators(text) : text
  }

  /** The same with bytes of its own, which outlive the turn. */
  copy(): Message {
    const copy = new Message()
    copy.renew()
    const { keyStart } = this
    copy.source = Buffer.from(this.source.subarray(keyStart, this.payloadEnd))
    copy.key = this.keyText()
    copy.keyEnd = this.keyEnd - keyStart
    copy.propertiesStart = this.propertiesStart - keyStart
    copy.propertiesEnd = this.propertiesEnd - keyStart
    copy.payloadStart = this.payloadStart - keyStart
    copy.payloadEnd = this.payloadEnd - keyStart
    copy.form = this.form
    copy.qos = this.qos
    copy.retain = this.retain
    copy.expiresAt = this.expiresAt
    copy.priority = this.priority
    copy.exchange = this.exchange
    copy.publisherId = this.publisherId
    return copy
  }

  get payloadBytes(): number {
    return this.payloadEnd - this.payloadStart
  }
}

const EMPTY = Buffer.alloc(0)
