/**
 * Publishers that fill a small disk, through every protocol and QoS, and consumers that come only when they are told
 * to. It writes the history that the checker judges.
 */
import type { ChannelModel } from 'amqplib'
import { type History, messageId, readStamp } from './history.ts'
import type { Ports } from './workload.ts'
import { AmqpConsumer, AmqpProducer, openAmqp } from './workload-amqp.ts'
import { MqttPublisher, MqttSubscriber } from './workload-mqtt.ts'

const QUEUE = 'kept'
const PAYLOAD_BYTES = 4_000
const TICK_MS = 5
const DRAIN_TIMEOUT_MS = 60_000

const wait = (ms: number) => new Promise<void>(resolve => setTimeout(resolve, ms))

export class DiskLoad {
  readonly history: History
  /** connection.blocked and connection.unblocked of the producer's connection. */
  readonly amqpSignals: string[] = []
  readonly #publishers: MqttPublisher[]
  readonly #producer: AmqpProducer
  readonly #session: MqttSubscriber
  readonly #queueSeen = new Set<string>()
  #ports: Ports = { mqtt: 0, amqp: 0 }
  #producing: ChannelModel | null = null
  #timer: NodeJS.Timeout | null = null

  constructor(history: History) {
    this.history = history
    const publisher = (name: string, version: 4 | 5, qos: 1 | 2, topic: string) =>
      new MqttPublisher(history, {
        name,
        version,
        qos,
        topic: `fill/${topic}/${name}`,
        // Less than the 64 KiB from which a held connection is not read any more: pings are answered.
        window: 10,
        payloadBytes: PAYLOAD_BYTES
      })
    this.#publishers = [
      publisher('five', 5, 1, 'queue'),
      publisher('three', 4, 1, 'queue'),
      publisher('two', 5, 2, 'session'),
      publisher('two-v3', 4, 2, 'session')
    ]
    this.#producer = new AmqpProducer(history, {
      name: 'amqp',
      exchange: 'amq.topic',
      routingKey: 'fill.queue.amqp',
      window: 20,
      republishes: false,
      payloadBytes: PAYLOAD_BYTES
    })
    this.#session = new MqttSubscriber(history, {
      name: 'session',
      version: 5,
      qos: 2,
      filter: 'fill/session/#',
      flows: ['two', 'two-v3'],
      ackDelayMs: 0
    })
  }

  /** Events of this name and type so far, of one flow or of all. */
  count(type: string, flow = ''): number {
    return this.history.events.filter(
      event => event.f === 'pub' && event.type === type && (flow === '' || event.flow === flow)
    ).length
  }

  #amqp(): Promise<ChannelModel> {
    return openAmqp(this.#ports.amqp!)
  }

  /** Declares what there is to be filled; the session goes away again. */
  async declare(ports: Ports): Promise<void> {
    this.#ports = ports
    const connection = await this.#amqp()
    const channel = await connection.createConfirmChannel()
    await channel.assertQueue(QUEUE, { durable: true })
    await channel.bindQueue(QUEUE, 'amq.topic', 'fill.queue.#')
    await channel.assertQueue('to-be-deleted', { durable: true })
    await channel.bindQueue('to-be-deleted', 'amq.topic', 'fill.extra')
    for (let i = 0; i < 50; i++) {
      channel.publish('amq.topic', 'fill.extra', Buffer.alloc(PAYLOAD_BYTES), { persistent: true })
    }
    await channel.waitForConfirms()
    await connection.close()
    for (const flow of ['five', 'three', 'amqp']) {
      const due = { proc: QUEUE, flow, qos: 'queue' } as const
      this.history.record({ f: 'sub', type: 'invoke', ...due })
      this.history.record({ f: 'sub', type: 'ok', ...due })
    }
    await this.#session.connect(ports.mqtt)
    await this.#session.end()
  }

  /** All publishers come (back). */
  async connect(ports: Ports): Promise<void> {
    this.#ports = ports
    for (const publisher of this.#publishers) {
      if (!publisher.isConnected) await publisher.connect(ports.mqtt)
    }
    const connection = await this.#amqp()
    connection.on('blocked', () => this.amqpSignals.push('blocked'))
    connection.on('unblocked', () => this.amqpSignals.push('unblocked'))
    this.#producing = connection
    await this.#producer.open(connection)
  }

  start(): void {
    this.#timer ??= setInterval(() => {
      for (const publisher of [...this.#publishers, this.#producer]) publisher.publish(20)
    }, TICK_MS)
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer)
    this.#timer = null
  }

  /** The broker is dead: so are all connections. */
  cut(): void {
    this.stop()
    this.#producing = null
    for (const actor of [...this.#publishers, this.#session]) actor.destroy()
  }

  /** Each MQTT publisher's ping is answered, held or not. */
  async pongs(): Promise<void> {
    for (const publisher of this.#publishers) await publisher.pong()
  }

  /** Takes so many messages from the queue, acknowledges them, and knows that this was read. */
  async takeFromQueue(count: number): Promise<void> {
    const connection = await this.#amqp()
    const channel = await connection.createChannel()
    for (let taken = 0; taken < count; taken++) {
      const message = await channel.get(QUEUE)
      if (message === false) throw new Error(`only ${taken} of ${count} messages are there`)
      const { flow, seq, intact } = readStamp(message.content)
      const id = messageId(flow, seq)
      const dup = message.fields.redelivered
      this.#queueSeen.add(id)
      this.history.record({ f: 'recv', type: 'ok', proc: QUEUE, flow, seq, id, dup, intact })
      channel.ack(message)
      // Its answer says that the acknowledgement before it was read.
      await channel.prefetch(100)
      this.history.record({ f: 'cons-ack', type: 'ok', proc: QUEUE, id })
    }
    await connection.close()
  }

  /** Deletes a queue with what is in it. */
  async deleteQueue(): Promise<number> {
    const connection = await this.#amqp()
    const channel = await connection.createChannel()
    const { messageCount } = await channel.deleteQueue('to-be-deleted')
    await connection.close()
    return messageCount
  }

  /** Takes all there is, from the queue and the session, until all that was acknowledged has come. */
  async drain(): Promise<void> {
    this.stop()
    const { connection, consumer } = await this.#consume()
    await this.#session.connect(this.#ports.mqtt)
    await this.#until(() => this.#isIdle() && this.#missing() === 0)
    await this.#confirmed(QUEUE, consumer)
    await this.#confirmed('session', this.#session)
    await consumer.close()
    await connection.close()
    await this.#session.end()
  }

  async end(): Promise<void> {
    this.stop()
    for (const publisher of this.#publishers) await publisher.end()
    await this.#producing?.close()
    this.#producing = null
  }

  async #consume() {
    const connection = await this.#amqp()
    const options = { queue: QUEUE, lane: 'c1', prefetch: 100, ackDelayMs: 0 }
    const consumer = new AmqpConsumer(this.history, options, this.#queueSeen)
    await consumer.open(connection)
    return { connection, consumer }
  }

  /** What was acknowledged before now is known to have been read. */
  async #confirmed(proc: string, consumer: { ping(): void }): Promise<void> {
    const acked = () =>
      this.history.events.filter(event => event.f === 'cons-ack' && event.proc === proc).length
    await wait(20)
    const before = acked()
    consumer.ping()
    const deadline = Date.now() + 2_000
    while (acked() === before && Date.now() < deadline) await wait(10)
  }

  #isIdle(): boolean {
    return this.#producer.isIdle && this.#publishers.every(({ isIdle }) => isIdle)
  }

  /** Acknowledged messages that nobody got yet. */
  #missing(): number {
    let missing = 0
    for (const { f, type, flow = '', seq = 0 } of this.history.events) {
      if (f !== 'pub' || type !== 'ok') continue
      const seen = flow.startsWith('two') ? this.#session.seen : this.#queueSeen
      if (!seen.has(messageId(flow, seq))) missing++
    }
    return missing
  }

  async #until(condition: () => boolean): Promise<void> {
    const deadline = Date.now() + DRAIN_TIMEOUT_MS
    while (!condition()) {
      if (Date.now() > deadline) throw new Error(`still missing: ${this.#missing()}`)
      await wait(50)
    }
  }
}
