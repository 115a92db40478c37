/** Clients that do nothing wrong, beside those of a fuzz test: what these do must not be felt by them. */
import { BASIC, CHANNEL, CONNECTION, encodeMethod, QUEUE } from '../../src/amqp/codec/methods.ts'
import { checkAmqp } from './fuzz-amqp-check.ts'
import { readAnswer, splitPackets } from './fuzz-mqtt-check.ts'
import type { FuzzPeer } from './fuzz-peer.ts'
import { PROTOCOL_HEADER, publishFrames } from './raw-amqp.ts'
import { packet, text } from './raw-mqtt.ts'

type Advance = () => void

abstract class Witness {
  readonly peer: FuzzPeer

  constructor(peer: FuzzPeer) {
    this.peer = peer
  }

  /** What came since the last call. */
  take(): Buffer {
    const bytes = Buffer.concat(this.peer.output)
    this.peer.output.length = 0
    if (bytes.length > 0) this.check(bytes)
    return bytes
  }

  protected abstract check(bytes: Buffer): void

  protected expect(bytes: Buffer, part: string | Buffer, what: string): void {
    if (!bytes.includes(part)) throw new Error(`a witness waits for ${what} in vain`)
  }
}

const PING = Buffer.from([0xc0, 0])
const PONG = Buffer.from([0xd0, 0])

/** Version 5, subscribed to `w/#` with QoS 0. */
export class MqttWitness extends Witness {
  start(advance: Advance): void {
    this.peer.send(packet(0x10, text('MQTT'), [5, 2, 0, 0, 0], text('witness')))
    this.peer.send(packet(0x82, [0, 1, 0], text('w/#'), [0]))
    advance()
    this.expect(this.take(), Buffer.from([0x90, 4, 0, 1, 0, 0]), 'its SUBACK')
  }

  ask(advance: Advance): void {
    this.peer.send(packet(0x32, text('w/ask'), [0, 9, 0], Buffer.from('from-mqtt')))
    this.peer.send(PING)
    advance()
    const bytes = this.take()
    this.expect(bytes, 'from-mqtt', 'its message')
    this.expect(bytes, Buffer.from([0x40, 2, 0, 9]), 'its PUBACK')
    this.expect(bytes, PONG, 'its PINGRESP')
  }

  protected override check(bytes: Buffer): void {
    const { packets, rest } = splitPackets(bytes)
    if (rest > 0) throw new Error('a witness got half a packet')
    for (const each of packets) readAnswer(each, 5)
  }
}

const OPENING = [
  encodeMethod(CONNECTION.tuneOk, 0, { channelMax: 1, frameMax: 4_096, heartbeat: 0 }),
  encodeMethod(CONNECTION.open, 0, { virtualHost: '/', reserved1: '', reserved2: false }),
  encodeMethod(CHANNEL.open, 1, { reserved: '' }),
  encodeMethod(QUEUE.declare, 1, {
    reserved: 0,
    queue: 'witness',
    passive: false,
    durable: false,
    exclusive: true,
    autoDelete: false,
    noWait: false,
    arguments: []
  }),
  encodeMethod(QUEUE.bind, 1, {
    reserved: 0,
    queue: 'witness',
    exchange: 'amq.topic',
    routingKey: 'w.#',
    noWait: false,
    arguments: []
  }),
  encodeMethod(BASIC.consume, 1, {
    reserved: 0,
    queue: 'witness',
    consumerTag: 'witness',
    noLocal: false,
    noAck: true,
    exclusive: true,
    noWait: false,
    arguments: []
  })
]

/** With a consumer of its own queue, which is bound to `amq.topic` by `w.#`. */
export class AmqpWitness extends Witness {
  start(advance: Advance): void {
    this.peer.send(PROTOCOL_HEADER)
    this.peer.send(
      encodeMethod(CONNECTION.startOk, 0, {
        clientProperties: [],
        mechanism: 'PLAIN',
        response: Buffer.from('\0any\0any'),
        locale: 'en_US'
      })
    )
    advance()
    for (const frame of OPENING) this.peer.send(frame)
    advance()
    this.expect(Buffer.concat(this.peer.output), '\x07witness', 'its consume-ok')
    this.peer.output.length = 0
  }

  ask(advance: Advance): void {
    this.peer.send(Buffer.concat(publishFrames('', 'witness', Buffer.from('from-amqp'))))
    advance()
    this.expect(this.take(), 'from-amqp', 'its message')
  }

  protected override check(bytes: Buffer): void {
    checkAmqp(null, bytes, false)
  }
}
