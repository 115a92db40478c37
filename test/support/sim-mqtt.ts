/**
 * An MQTT client that keeps to the rules of QoS 1 and 2 senders and receivers (MQTT 5 §4.3, §4.4) and
 * remembers its session over every crash of the broker, on a `Wire`.
 */
import mqttPacket, { type IConnectPacket, type Packet } from 'mqtt-packet'
import { packet } from './raw-mqtt.ts'
import type { Flow, SimMessage, SimMessages } from './sim-messages.ts'
import { payloadOf } from './sim-messages.ts'
import type { Wire } from './sim-wire.ts'

/** Few, so that each is used again soon. */
const PACKET_IDS = 6
const FIRST_FILTER_ID = 1000

export function willOf(payload: Buffer, delaySeconds: number): NonNullable<IConnectPacket['will']> {
  const properties = { willDelayInterval: delaySeconds }
  return { topic: 'will/topic', payload, qos: 1, retain: false, properties }
}

interface Sent {
  readonly message: SimMessage
  readonly retain: boolean
  readonly payload: Buffer
  /** PUBREC came. */
  isReleased: boolean
}

type Wish = 'on' | 'off'

export class SimMqtt {
  readonly clientId: string
  readonly version: 4 | 5
  /** Version 5. */
  will: IConnectPacket['will'] | null = null
  /** Session Expiry Interval of version 5. */
  expirySeconds = 86_400
  wire: Wire | null = null
  isOpen = false
  /** A CONNACK came for its session once: it must be there from then on. */
  hasSession = false
  readonly inflight = new Map<number, Sent>()
  /** Inbound QoS 2 identifiers, from PUBLISH to PUBREL. */
  readonly received = new Set<number>()
  /** What the broker has confirmed. */
  readonly subscriptions = new Map<string, number>()
  /** SUBSCRIBEs and UNSUBSCRIBEs without their answer, by packet identifier. */
  readonly asked = new Map<number, { filter: string; qos: number; wish: Wish }>()
  /** Filters whose SUBSCRIBE or UNSUBSCRIBE was never answered. */
  readonly unsure = new Set<string>()
  flow: Flow | null = null
  readonly #messages: SimMessages
  #nextId = 1
  #nextAskId = FIRST_FILTER_ID
  #rest: Buffer = Buffer.alloc(0)
  /** QoS 1 deliveries answered since the broker last worked. */
  readonly settledNow: string[] = []

  readonly #isClean: boolean

  constructor(clientId: string, version: 4 | 5, messages: SimMessages, isClean = false) {
    this.clientId = clientId
    this.#isClean = isClean
    this.version = version
    this.#messages = messages
  }

  connect(wire: Wire): void {
    this.wire = wire
    this.isOpen = false
    this.#rest = Buffer.alloc(0)
    const isLasting = this.version === 5 && !this.#isClean
    const properties = isLasting ? { sessionExpiryInterval: this.expirySeconds } : undefined
    const connect = {
      cmd: 'connect',
      protocolId: 'MQTT',
      protocolVersion: this.version,
      clientId: this.clientId,
      clean: this.#isClean,
      keepalive: 0,
      ...(this.will === null ? {} : { will: this.will }),
      ...(properties === undefined ? {} : { properties })
    }
    wire.send(mqttPacket.generate(connect as IConnectPacket))
  }

  /** The connection is gone. */
  lose(): void {
    this.wire?.destroy()
    this.wire = null
    this.isOpen = false
    for (const { filter } of this.asked.values()) this.unsure.add(filter)
    this.asked.clear()
    this.settledNow.length = 0
  }

  get canPublish(): boolean {
    return this.isOpen && this.inflight.size < PACKET_IDS
  }

  publish(message: SimMessage, retain = false, isEmpty = false): void {
    const { publisher, sequence, bytes, qos } = message
    const payload = isEmpty ? Buffer.alloc(0) : payloadOf(publisher, sequence, bytes)
    const sent = { message, retain, payload, isReleased: false }
    if (qos === 0) {
      this.#send(0, sent, false)
      return
    }
    while (this.inflight.has(this.#nextId)) this.#nextId = (this.#nextId % PACKET_IDS) + 1
    this.inflight.set(this.#nextId, sent)
    this.#send(this.#nextId, sent, false)
  }

  #send(packetId: number, sent: Sent, isRepeat: boolean): void {
    const { message, retain, payload } = sent
    const topic = Buffer.from(message.topic)
    const head = Buffer.from([topic.length >> 8, topic.length & 255])
    const first = 0x30 | (isRepeat ? 8 : 0) | (message.qos << 1) | (retain ? 1 : 0)
    const id = message.qos > 0 ? [packetId >> 8, packetId & 255] : []
    const properties = this.version === 5 ? [0] : []
    this.wire?.send(packet(first, head, topic, [...id, ...properties], payload))
  }

  subscribe(filter: string, qos: 0 | 1 | 2): void {
    const messageId = this.#nextAskId++
    this.asked.set(messageId, { filter, qos, wish: 'on' })
    const subscriptions = [{ topic: filter, qos, nl: false, rap: false, rh: 2 }]
    this.#generate({ cmd: 'subscribe', messageId, subscriptions } as Packet)
  }

  unsubscribe(filter: string): void {
    const messageId = this.#nextAskId++
    this.asked.set(messageId, { filter, qos: 0, wish: 'off' })
    this.#generate({ cmd: 'unsubscribe', messageId, unsubscriptions: [filter] } as Packet)
  }

  #generate(packet: Packet): void {
    this.wire?.send(mqttPacket.generate(packet, { protocolVersion: this.version }))
  }

  /** Works on what came, up to so many packets; what is left waits. */
  pump(packetsMax = Number.POSITIVE_INFINITY): void {
    if (this.wire === null) return
    const came = this.wire.takeBytes()
    if (came.length > 0) this.#rest = Buffer.concat([this.#rest, came])
    let at = 0
    for (let left = packetsMax; left > 0; left--) {
      const end = packetEnd(this.#rest, at)
      if (end < 0) break
      const start = bodyStart(this.#rest, at)
      this.#handle(this.#rest[at]!, this.#rest.subarray(start, end))
      at = end
    }
    this.#rest = this.#rest.subarray(at)
    if (this.wire?.isEnded && this.#rest.length === 0) this.lose()
  }

  #handle(first: number, body: Buffer): void {
    const type = first >> 4
    if (type === 3) {
      this.#handlePublish(first, body)
      return
    }
    if (type === 2) {
      this.#handleConnack(body)
      return
    }
    const packetId = type >= 4 && type <= 11 ? body.readUInt16BE(0) : 0
    const reason = this.version === 5 && body.length > 2 ? body[2]! : 0
    if (type === 4 || type === 7) this.#finish(packetId, type === 4 && reason < 128)
    else if (type === 5) this.#handlePubrec(packetId, reason)
    else if (type === 6) {
      this.received.delete(packetId)
      this.#answer(7, packetId)
    } else if (type === 9 || type === 11) this.#handleAsked(type, packetId, body.at(-1)!)
  }

  #answer(type: number, packetId: number): void {
    const first = (type << 4) | (type === 6 ? 2 : 0)
    this.wire?.send(Buffer.from([first, 2, packetId >> 8, packetId & 255]))
  }

  #handleConnack(body: Buffer): void {
    if (body[1] !== 0) {
      this.lose()
      return
    }
    const isPresent = (body[0]! & 1) === 1
    if (this.hasSession && !isPresent) {
      this.#messages.violations.push(`${this.clientId}: its session is lost`)
    }
    if (!isPresent) this.received.clear()
    this.hasSession = !this.#isClean
    this.isOpen = true
    for (const [packetId, sent] of this.inflight) {
      if (sent.isReleased) this.#answer(6, packetId)
      else this.#send(packetId, sent, true)
    }
  }

  #handlePubrec(packetId: number, reason: number): void {
    const sent = this.inflight.get(packetId)
    if (sent === undefined) {
      this.#messages.violations.push(`${this.clientId}: PUBREC ${packetId} answers nothing`)
      return
    }
    if (reason >= 128) {
      sent.message.isRefused = true
      this.inflight.delete(packetId)
      return
    }
    sent.message.isAcked = true
    sent.isReleased = true
    this.#answer(6, packetId)
  }

  #finish(packetId: number, isAck: boolean): void {
    const sent = this.inflight.get(packetId)
    if (sent === undefined || (sent.message.qos === 2 && !sent.isReleased)) {
      this.#messages.violations.push(`${this.clientId}: an answer for ${packetId} to nothing`)
      return
    }
    if (isAck) sent.message.isAcked = true
    else if (sent.message.qos === 1) sent.message.isRefused = true
    this.inflight.delete(packetId)
  }

  #handleAsked(type: number, packetId: number, code: number): void {
    const asked = this.asked.get(packetId)
    this.asked.delete(packetId)
    if (asked === undefined) return
    if (type === 9 && code < 128) this.subscriptions.set(asked.filter, asked.qos)
    if (type === 11) this.subscriptions.delete(asked.filter)
  }

  #handlePublish(first: number, body: Buffer): void {
    const qos = (first >> 1) & 3
    let at = 2 + body.readUInt16BE(0)
    let packetId = 0
    if (qos > 0) {
      packetId = body.readUInt16BE(at)
      at += 2
    }
    if (this.version === 5) at += 1 + body[at]!
    const isKnown = qos === 2 && this.received.has(packetId)
    if (qos === 2) this.received.add(packetId)
    if (!isKnown && this.flow !== null) {
      const message = this.#messages.receive(this.flow, body.subarray(at), (first & 8) !== 0)
      if (message !== null && qos === 1) {
        this.settledNow.push(`${message.publisher}:${message.sequence}`)
      }
    }
    if (qos > 0) this.#answer(qos === 1 ? 4 : 5, packetId)
  }
}

function bodyStart(bytes: Buffer, at: number): number {
  let start = at + 1
  while ((bytes[start]! & 128) !== 0) start++
  return start + 1
}

/** Where the packet at `at` ends; -1 when it is not all there. */
function packetEnd(bytes: Buffer, at: number): number {
  let length = 0
  for (let i = 1; i < 5; i++) {
    const byte = bytes[at + i]
    if (byte === undefined) return -1
    length += (byte & 127) * 128 ** (i - 1)
    if (byte < 128) return at + i + 1 + length <= bytes.length ? at + i + 1 + length : -1
  }
  return -1
}
