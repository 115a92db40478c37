/** An AMQP client on a `Wire`: publishes with confirms, consumes with acknowledgements. */
import {
  BASIC,
  CHANNEL,
  CONFIRM,
  CONNECTION,
  encodeMethod,
  readArguments
} from '../../src/amqp/codec/methods.ts'
import { PROTOCOL_HEADER, publishFrames } from './raw-amqp.ts'
import type { Flow, SimMessage, SimMessages } from './sim-messages.ts'
import { payloadOf } from './sim-messages.ts'
import type { Wire } from './sim-wire.ts'

const PREFETCH = 12

interface Delivery {
  readonly tag: number
  readonly key: string
}

export class SimAmqp {
  wire: Wire | null = null
  isOpen = false
  /** The queue that it consumes; null: it publishes. */
  readonly queue: string | null
  readonly flow: Flow | null
  readonly open: Delivery[] = []
  readonly settledNow: string[] = []
  /** Messages without a confirm, by publish number. */
  readonly unconfirmed = new Map<number, SimMessage>()
  /** Why it was closed by the broker. */
  closedBy = ''
  readonly #messages: SimMessages
  #published = 0
  #rest: Buffer = Buffer.alloc(0)
  #deliveryTag = 0
  #isRedelivered = false
  #bodySize = 0
  #parts: Buffer[] = []
  #partBytes = 0

  /** `queue`: of another name than its flow. */
  constructor(messages: SimMessages, flow: Flow | null, queue = flow?.name ?? null) {
    this.#messages = messages
    this.flow = flow
    this.queue = queue
  }

  connect(wire: Wire): void {
    this.wire = wire
    this.isOpen = false
    this.closedBy = ''
    this.#rest = Buffer.alloc(0)
    this.#published = 0
    wire.send(PROTOCOL_HEADER)
  }

  lose(): void {
    this.wire?.destroy()
    this.wire = null
    this.isOpen = false
    this.open.length = 0
    this.unconfirmed.clear()
    this.settledNow.length = 0
    this.#parts = []
    this.#partBytes = 0
  }

  publish(message: SimMessage, exchange: string, key: string): void {
    const payload = payloadOf(message.publisher, message.sequence, message.bytes)
    this.unconfirmed.set(++this.#published, message)
    this.wire?.send(...publishFrames(exchange, key, payload, { persistent: true }))
  }

  /** Acknowledges the oldest deliveries, so many. */
  ack(count: number): void {
    const acked = this.open.splice(0, count)
    const last = acked.at(-1)
    if (last === undefined) return
    for (const { key } of acked) this.settledNow.push(key)
    this.wire?.send(encodeMethod(BASIC.ack, 1, { deliveryTag: last.tag, multiple: true }))
  }

  /** Puts the newest delivery back. */
  requeue(): void {
    const delivery = this.open.pop()
    if (delivery === undefined) return
    const values = { deliveryTag: delivery.tag, requeue: true }
    this.wire?.send(encodeMethod(BASIC.reject, 1, values))
  }

  pump(): void {
    if (this.wire === null) return
    const came = this.wire.takeBytes()
    if (came.length > 0) this.#rest = Buffer.concat([this.#rest, came])
    let at = 0
    while (this.#rest.length - at >= 8) {
      const end = at + 8 + this.#rest.readUInt32BE(at + 3)
      if (end > this.#rest.length) break
      this.#frame(this.#rest[at]!, this.#rest.subarray(at + 7, end - 1))
      at = end
    }
    this.#rest = this.#rest.subarray(at)
    if (this.wire?.isEnded && this.#rest.length < 8) this.lose()
  }

  #frame(type: number, payload: Buffer): void {
    if (type === 1) this.#method(payload)
    else if (type === 2) {
      this.#bodySize = Number(payload.readBigUInt64BE(4))
      if (this.#bodySize === 0) this.#content()
    } else if (type === 3) {
      this.#parts.push(Buffer.from(payload))
      this.#partBytes += payload.length
      if (this.#partBytes === this.#bodySize) this.#content()
    }
  }

  #content(): void {
    const body = Buffer.concat(this.#parts)
    this.#parts = []
    this.#partBytes = 0
    if (this.flow === null) return
    const message = this.#messages.receive(this.flow, body, this.#isRedelivered)
    const key = message === null ? '' : `${message.publisher}:${message.sequence}`
    this.open.push({ tag: this.#deliveryTag, key })
  }

  #method(payload: Buffer): void {
    const { wire } = this
    switch (payload.readUInt32BE(0)) {
      case CONNECTION.start.id:
        wire?.send(startOk())
        break
      case CONNECTION.tune.id:
        wire?.send(tuneOk(payload), OPEN_FRAME)
        break
      case CONNECTION.openOk.id:
        wire?.send(encodeMethod(CHANNEL.open, 1, { reserved: '' }))
        break
      case CHANNEL.openOk.id:
        this.#begin()
        break
      case CONFIRM.selectOk.id:
      case BASIC.consumeOk.id:
        this.isOpen = true
        break
      case BASIC.ack.id:
      case BASIC.nack.id:
        this.#confirm(payload)
        break
      case BASIC.deliver.id: {
        const values = readArguments(BASIC.deliver, payload, 4, payload.length)
        this.#deliveryTag = values.deliveryTag
        this.#isRedelivered = values.redelivered
        break
      }
      case CHANNEL.close.id:
      case CONNECTION.close.id:
        this.closedBy = payload.toString('latin1', 4)
        break
    }
  }

  #begin(): void {
    if (this.queue === null) {
      this.wire?.send(encodeMethod(CONFIRM.select, 1, { noWait: false }))
      return
    }
    const qos = { prefetchSize: 0, prefetchCount: PREFETCH, global: false }
    this.wire?.send(
      encodeMethod(BASIC.qos, 1, qos),
      encodeMethod(BASIC.consume, 1, {
        reserved: 0,
        queue: this.queue,
        consumerTag: 'c',
        noLocal: false,
        noAck: false,
        exclusive: false,
        noWait: false,
        arguments: []
      })
    )
  }

  #confirm(payload: Buffer): void {
    const isAck = payload.readUInt32BE(0) === BASIC.ack.id
    const number = Number(payload.readBigUInt64BE(4))
    const isMultiple = (payload[12]! & 1) === 1
    for (const [key, message] of this.unconfirmed) {
      if (isMultiple ? key > number : key !== number) continue
      message.isAcked = isAck
      this.unconfirmed.delete(key)
    }
  }
}

const OPEN_FRAME = encodeMethod(CONNECTION.open, 0, {
  virtualHost: '/',
  reserved1: '',
  reserved2: false
})

function startOk(): Buffer {
  return encodeMethod(CONNECTION.startOk, 0, {
    clientProperties: [],
    mechanism: 'PLAIN',
    response: Buffer.from('\0guest\0guest'),
    locale: 'en_US'
  })
}

function tuneOk(payload: Buffer): Buffer {
  const { channelMax, frameMax } = readArguments(CONNECTION.tune, payload, 4, payload.length)
  return encodeMethod(CONNECTION.tuneOk, 0, { channelMax, frameMax, heartbeat: 0 })
}
