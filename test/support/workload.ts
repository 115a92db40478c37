/**
 * The mixed load of the crash tests: MQTT publishers at every QoS and version, sessions that last, one that is often
 * away, retained topics, AMQP producers with confirms and consumers with acknowledgements, and the two protocols into
 * each other. It writes the history that the checker judges.
 */
import type { ChannelModel } from 'amqplib'
import { type History, type HistoryEvent, messageId } from './history.ts'
import { between, type Random } from './random.ts'
import { AmqpConsumer, AmqpProducer, openAmqp } from './workload-amqp.ts'
import type { ClientState } from './raw-client.ts'
import { Witness } from './witness.ts'
import { MqttPublisher, MqttSubscriber, RetainedActor, WRITER } from './workload-mqtt.ts'

export interface Ports {
  readonly mqtt: number
  /** Null: a broker of MQTT only. */
  readonly amqp: number | null
}

export const TOPIC_QUEUE = 'load.topic'
export const DIRECT_QUEUE = 'load.direct'
/** The flow that is claimed when all is declared. */
const LAST_CLAIMED = 'direct-once'

const TICK_MS = 10
const PING_EVERY_TICKS = 4
const SWITCH_EVERY_TICKS = 5
const DRAIN_TIMEOUT_MS = 30_000

export interface WorkloadOptions {
  /** Most messages a publisher makes at once. */
  readonly burst?: number
  /** Somebody subscribes and unsubscribes all the time. */
  readonly switches?: boolean
  readonly payloadBytes?: number
  /** How long a sync takes at most, if it takes long. */
  readonly syncMs?: number
}

export interface DrainOptions {
  /** No hope is left when nothing came for so long. */
  readonly quietMs?: number
  /** How long to wait for what should not come any more. */
  readonly graceMs?: number
}

export class Workload {
  readonly history: History
  readonly witness: Witness
  readonly #random: Random
  readonly #publishers: MqttPublisher[]
  readonly #subscribers: MqttSubscriber[]
  /** Connects only now and then. */
  readonly #sleeper: MqttSubscriber
  readonly #switcher: MqttSubscriber | null
  readonly #burst: number
  readonly #retained: RetainedActor
  readonly #producers: AmqpProducer[]
  readonly #queueSeen = { topic: new Set<string>(), direct: new Set<string>() }
  readonly #consumers: AmqpConsumer[]
  #connection: ChannelModel | null = null
  #declared = false
  #timer: NodeJS.Timeout | null = null

  constructor(history: History, random: Random, options: WorkloadOptions = {}) {
    this.history = history
    this.witness = new Witness(history)
    this.#burst = options.burst ?? 6
    const { payloadBytes = 64, syncMs = 0 } = options
    this.#random = random
    const publisher = (name: string, version: 4 | 5, qos: 0 | 1 | 2) =>
      new MqttPublisher(history, {
        name,
        version,
        qos,
        topic: `load/${name}`,
        window: 20,
        payloadBytes
      })
    this.#publishers = [
      publisher('zero', 4, 0),
      publisher('one-v3', 4, 1),
      publisher('one-v5', 5, 1),
      publisher('two-v3', 4, 2),
      publisher('two-v5', 5, 2)
    ]
    const flows = [...this.#publishers.map(({ name }) => name), 'from-amqp']
    const subscriber = (name: string, version: 4 | 5, qos: 1 | 2, ackDelayMs: number) =>
      new MqttSubscriber(history, { name, version, qos, filter: 'load/#', flows, ackDelayMs })
    this.#sleeper = subscriber('sleeper', 5, 2, 0)
    const switched = { filter: 'load/one-v3', flows: ['one-v3'], ackDelayMs: 5 }
    this.#switcher = options.switches
      ? new MqttSubscriber(history, { name: 'switcher', version: 5, qos: 1, ...switched })
      : null
    this.#subscribers = [
      subscriber('session-one', 4, 1, 5),
      subscriber('session-two', 5, 2, 5),
      subscriber('session-two-v3', 4, 2, 0),
      this.#sleeper
    ]
    this.#retained = new RetainedActor(history, ['kept/a', 'kept/b', 'kept/c', 'kept/d'], syncMs)
    const producer = (name: string, exchange: string, routingKey: string, republishes: boolean) =>
      new AmqpProducer(history, {
        name,
        exchange,
        routingKey,
        window: 20,
        republishes,
        payloadBytes
      })
    this.#producers = [
      producer('from-amqp', 'amq.topic', 'load.from-amqp', true),
      producer('direct-again', '', DIRECT_QUEUE, true),
      producer('direct-once', '', DIRECT_QUEUE, false)
    ]
    const consumer = (queue: string, lane: string, prefetch: number, seen: Set<string>) =>
      new AmqpConsumer(history, { queue, lane, prefetch, ackDelayMs: 4 }, seen)
    this.#consumers = [
      consumer(TOPIC_QUEUE, 'c1', 50, this.#queueSeen.topic),
      consumer(DIRECT_QUEUE, 'c1', 10, this.#queueSeen.direct),
      consumer(DIRECT_QUEUE, 'c2', 10, this.#queueSeen.direct)
    ]
  }

  /** Messages that were made. */
  get count(): number {
    return this.#allPublishers().reduce((sum, { count }) => sum + count, 0)
  }

  /** Messages that the reader of the retained topics was sent. */
  get retainedRead(): number {
    return this.#retained.messagesRead
  }

  /** Goes on where the history ends, with what the clients remembered then. */
  resume(stateOf: (clientId: string) => ClientState): void {
    for (const actor of [...this.#publishers, ...this.#allSubscribers()]) {
      actor.resume(stateOf(actor.name))
    }
    this.#retained.resume(stateOf(WRITER))
    this.#retained.pingPauseMs = 20
    for (const producer of this.#producers) producer.resume()
    for (const { f, proc, flow, id } of this.history.events) {
      if (f === 'recv' && proc === TOPIC_QUEUE) this.#queueSeen.topic.add(id ?? '')
      if (f === 'recv' && proc === DIRECT_QUEUE) this.#queueSeen.direct.add(id ?? '')
      if (f === 'sub' && flow === LAST_CLAIMED) this.#declared = true
    }
  }

  /** Everybody comes back; `wakes`: the sleeper too. */
  async connect(ports: Ports, wakes: boolean): Promise<void> {
    if (ports.amqp !== null) {
      this.#connection = await openAmqp(ports.amqp)
      await this.#declare(this.#connection)
    }
    for (const subscriber of this.#subscribers) {
      if (subscriber !== this.#sleeper || wakes) await subscriber.connect(ports.mqtt)
    }
    await this.#switcher?.connect(ports.mqtt)
    await this.#retained.connect(ports.mqtt)
    const connection = this.#connection
    if (connection !== null) {
      for (const consumer of this.#consumers) await consumer.open(connection)
      for (const producer of this.#producers) await producer.open(connection)
    }
    for (const publisher of this.#publishers) await publisher.connect(ports.mqtt)
    await this.witness.connect(ports.mqtt)
  }

  /** Publishes in small bursts until `stop`. */
  start(): void {
    let ticks = 0
    this.#timer = setInterval(() => {
      ticks++
      for (const publisher of this.#allPublishers()) {
        publisher.publish(between(this.#random, 0, this.#burst))
      }
      const topics = this.#retained.topics
      const topic = topics[between(this.#random, 0, topics.length - 1)]!
      this.#retained.write(topic)
      if (ticks % SWITCH_EVERY_TICKS === 0) void this.#switcher?.switch()
      if (ticks % PING_EVERY_TICKS === 0) {
        this.#ping()
        void this.#retained.read(topics[(ticks / PING_EVERY_TICKS) % topics.length]!)
      }
    }, TICK_MS)
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer)
    this.#timer = null
  }

  /** The broker is dead: so are all connections. */
  cut(): void {
    this.stop()
    this.#connection = null
    for (const actor of [...this.#publishers, ...this.#allSubscribers()]) actor.destroy()
    this.#retained.destroy()
    this.witness.destroy()
  }

  /** Waits until all is acknowledged and all that was acknowledged has arrived, or no hope is left. */
  async drain(options: DrainOptions = {}): Promise<void> {
    this.stop()
    const { quietMs = DRAIN_TIMEOUT_MS, graceMs = 200 } = options
    const deadline = Date.now() + DRAIN_TIMEOUT_MS
    let [length, quietFrom] = [0, Date.now()]
    let acked: HistoryEvent[] | null = null
    while (Date.now() < Math.min(deadline, quietFrom + quietMs)) {
      await new Promise(resolve => setTimeout(resolve, 50))
      this.#ping()
      if (this.history.events.length > length) {
        ;[length, quietFrom] = [this.history.events.length, Date.now()]
      }
      if (!this.#isIdle()) continue
      acked ??= this.history.events.filter(({ f, type }) => f === 'pub' && type === 'ok')
      const missing = acked.some(({ flow, seq }) => !this.#hasArrived(flow ?? '', seq ?? 0))
      if (!missing && (this.#switcher?.missing(acked) ?? []).length === 0) break
    }
    // What should not come any more gets its chance to.
    await new Promise(resolve => setTimeout(resolve, graceMs))
    await this.#retained.readAll()
  }

  /** Ends every connection in order. */
  async end(): Promise<void> {
    this.stop()
    for (const actor of [...this.#publishers, ...this.#allSubscribers()]) await actor.end()
    await this.#retained.end()
    await this.witness.end()
    await this.#connection?.close()
    this.#connection = null
  }

  #allPublishers(): (MqttPublisher | AmqpProducer)[] {
    return this.#declared ? [...this.#publishers, ...this.#producers] : this.#publishers
  }

  #allSubscribers(): MqttSubscriber[] {
    return this.#switcher === null ? this.#subscribers : [...this.#subscribers, this.#switcher]
  }

  #isIdle(): boolean {
    return this.#allPublishers().every(({ isIdle }) => isIdle) && this.#retained.isIdle
  }

  #hasArrived(flow: string, seq: number): boolean {
    const id = messageId(flow, seq)
    if (flow.startsWith('direct')) return this.#queueSeen.direct.has(id)
    const hasQueue = !this.#declared || this.#queueSeen.topic.has(id)
    return (
      hasQueue && this.#subscribers.every(({ seen, isConnected }) => !isConnected || seen.has(id))
    )
  }

  #ping(): void {
    for (const subscriber of this.#allSubscribers()) subscriber.ping()
    for (const consumer of this.#consumers) consumer.ping()
  }

  /** The first time declares and binds; later only looks whether it is all still there. */
  async #declare(connection: ChannelModel): Promise<void> {
    const channel = await connection.createChannel()
    channel.on('error', () => undefined)
    if (this.#declared) {
      await channel.checkQueue(TOPIC_QUEUE)
      await channel.checkQueue(DIRECT_QUEUE)
    } else {
      await channel.assertQueue(TOPIC_QUEUE, { durable: true })
      await channel.assertQueue(DIRECT_QUEUE, { durable: true })
      await channel.bindQueue(TOPIC_QUEUE, 'amq.topic', 'load.#')
      const topicFlows = [...this.#publishers.map(({ name }) => name), 'from-amqp']
      for (const flow of topicFlows) this.#claim(TOPIC_QUEUE, flow)
      for (const flow of ['direct-again', LAST_CLAIMED]) this.#claim(DIRECT_QUEUE, flow)
      this.#declared = true
    }
    await channel.close()
  }

  #claim(proc: string, flow: string): void {
    this.history.record({ f: 'sub', type: 'ok', proc, flow, qos: 'queue' })
  }
}
