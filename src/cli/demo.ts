/**
 * `motemq demo`: 20 simulated sensors over real sockets, a durable queue that takes all of it, a consumer of
 * the queue, and a sum at the end that must come out even: published = received + waiting + dropped.
 */
import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { AmqpClient } from '../client/amqp-client.ts'
import { type ClientEnd, type ClientHandler, defaultOptions } from '../client/client-options.ts'
import { MqttClient } from '../client/mqtt-client.ts'
import type { Message } from '../core/message.ts'
import { Sockets } from '../net/socket.ts'
import { type DemoBroker, type DemoFlags, findBroker } from './demo-broker.ts'
import { Sensor, type SensorOwner } from './demo-sensors.ts'
import { type DemoCounts, readDropped, sumUp } from './demo-sum.ts'
import { CommandError, EXIT_FAILED, EXIT_OK, EXIT_USAGE } from './exit.ts'

export type { DemoFlags }

const SENSORS = 20
/** Which of them dies, when half of the time is over: one with QoS 2. */
const VICTIM = 5
const SECONDS_DEFAULT = 10
const TICK_MS = 1_000
/** How long what was published may be on its way to the consumer. */
const DRAIN_MS = 10_000
const PREFETCH = 100
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

export async function demo(flags: DemoFlags): Promise<void> {
  const seconds = Number(flags.seconds ?? SECONDS_DEFAULT)
  if (!(seconds >= 1)) throw new CommandError('--seconds: at least 1', EXIT_USAGE)
  let run: Demo | null = null
  const onSignal = (): void => {
    // The first one ends what is published; before that, and the second, is the end.
    if (run?.stop() !== true) process.exit(EXIT_FAILED)
  }
  for (const signal of SIGNALS) process.on(signal, onSignal)
  const broker = await findBroker(flags)
  try {
    say(broker.note)
    run = new Demo(broker)
    const verdict = sumUp(await run.run(seconds))
    say(verdict.line)
    process.exitCode = verdict.isEven ? EXIT_OK : EXIT_FAILED
  } finally {
    await broker.close()
    for (const signal of SIGNALS) process.off(signal, onSignal)
  }
}

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}

/** Counts in one line that is written over, or a line each when nobody watches. */
class Ticker {
  private readonly isTerminal = process.stdout.isTTY === true

  show(line: string): void {
    process.stdout.write(this.isTerminal ? `\r\x1b[K${line}` : `${line}\n`)
  }

  /** Before any other line. */
  end(): void {
    if (this.isTerminal) process.stdout.write('\n')
  }
}

/** What receives everything that the sensors publish. */
interface Receiver {
  readonly count: number
  /** Stops it, and says how many messages wait behind it. */
  stop(): Promise<number>
  close(): Promise<void>
}

class Demo implements SensorOwner {
  private readonly broker: DemoBroker
  private readonly sockets: Sockets
  private readonly root: string
  private readonly ticker: Ticker
  private readonly sensors: Sensor[]
  private readonly lost: string[]
  private stopped: (() => void) | null
  private wills: number

  constructor(broker: DemoBroker) {
    this.broker = broker
    this.sockets = new Sockets({ outputBytesMax: 1024 * 1024, drainTimeoutMs: 30_000 })
    // Its own, so that another demo, or other traffic, is not counted.
    this.root = `demo/${randomBytes(4).toString('hex')}`
    this.ticker = new Ticker()
    this.sensors = []
    this.lost = []
    this.stopped = null
    this.wills = 0
  }

  async run(seconds: number): Promise<DemoCounts> {
    const { broker, root, sockets } = this
    const droppedBefore = await this.dropped()
    const receiver =
      broker.amqp === null
        ? await MqttReceiver.open(broker, sockets, root)
        : await QueueReceiver.open(broker.amqp, sockets, root)
    const watcher = await Watcher.open(broker, sockets, `${root}/+/status`, topic => {
      this.wills++
      this.tell(`the will of ${topic.split('/')[2]} says that it is offline`)
    })
    try {
      await this.connectSensors()
      const how =
        broker.amqp === null
          ? 'over MQTT: nothing speaks AMQP there'
          : 'from a durable queue over AMQP'
      say(`${SENSORS} sensors publish to ${root}/#, received ${how}; ${seconds} s, Ctrl-C ends it`)
      await this.publishFor(seconds, receiver)
      return await this.count(receiver, droppedBefore)
    } finally {
      for (const sensor of this.sensors) sensor.close()
      await receiver.close()
      await watcher.close()
      await this.clearRetained()
    }
  }

  onSensorLost(name: string, end: ClientEnd): void {
    this.lost.push(name)
    this.tell(`the connection of ${name} ended: ${end.text}`)
  }

  private async connectSensors(): Promise<void> {
    for (let i = 0; i < SENSORS; i++) {
      const { broker, root, sockets } = this
      this.sensors.push(new Sensor(i, root, broker.mqtt, sockets, this, Math.random))
    }
    await Promise.all(this.sensors.map(sensor => sensor.connect()))
    if (this.lost.length > 0) throw new CommandError('the sensors cannot connect')
    for (const sensor of this.sensors) sensor.start()
  }

  /** Ends it early; false when it does not publish, or was told already. */
  stop(): boolean {
    if (this.stopped === null) return false
    this.stopped()
    this.stopped = null
    return true
  }

  private async publishFor(seconds: number, receiver: Receiver): Promise<void> {
    const stop = new Promise<void>(resolve => {
      this.stopped = resolve
    })
    const tick = setInterval(() => this.show(receiver), TICK_MS)
    const halfMs = seconds * 500
    // Who ends it early does not wait for the timers.
    await Promise.race([stop, sleep(halfMs, null, { ref: false })])
    await this.killOne()
    await Promise.race([stop, sleep(halfMs, null, { ref: false })])
    await Promise.all(this.sensors.map(sensor => sensor.stop()))
    clearInterval(tick)
    this.show(receiver)
    this.ticker.end()
  }

  /** With nothing on its way, so that what it published is known exactly. */
  private async killOne(): Promise<void> {
    const victim = this.sensors[VICTIM]!
    await victim.stop()
    this.tell(`${victim.name} dies`)
    victim.die()
  }

  private async count(receiver: Receiver, droppedBefore: number | null): Promise<DemoCounts> {
    const published = this.published() + 1
    const deadline = performance.now() + DRAIN_MS
    while (receiver.count < published && performance.now() < deadline) {
      const dropped = await this.droppedSince(droppedBefore)
      if (receiver.count + (dropped ?? 0) >= published) break
      await sleep(50)
    }
    const waiting = await receiver.stop()
    const dropped = await this.droppedSince(droppedBefore)
    if (this.wills === 0) this.tell('the will of the one that died was not seen')
    return { published, received: receiver.count, waiting, dropped }
  }

  private published(): number {
    return this.sensors.reduce((sum, sensor) => sum + sensor.published, 0)
  }

  private async dropped(): Promise<number | null> {
    const metrics = await this.broker.readMetrics()
    return metrics?.includes('motemq_messages_dropped_total') === true ? readDropped(metrics) : null
  }

  private async droppedSince(before: number | null): Promise<number | null> {
    const now = await this.dropped()
    return now === null || before === null ? null : now - before
  }

  private show(receiver: Receiver): void {
    this.ticker.show(
      `published ${this.published()}  received ${receiver.count}  wills ${this.wills}`
    )
  }

  private tell(line: string): void {
    this.ticker.end()
    say(line)
  }

  /** Behind the sum: the broker may be somebody's own. */
  private async clearRetained(): Promise<void> {
    const topics = this.sensors.filter(sensor => sensor.retain).map(sensor => sensor.topic)
    await new Promise<void>(resolve => {
      let open = topics.length
      const client: MqttClient = new MqttClient(optionsOf(this.broker, this.sockets), {
        onConnected: () => {
          const nothing = Buffer.alloc(0)
          for (const topic of topics) {
            client.publish(Buffer.from(topic), nothing, 1, true, nothing, 0)
          }
        },
        onMessage: () => undefined,
        onSettled: () => {
          open--
          if (open === 0) client.disconnect()
        },
        onRoom: () => undefined,
        onDisconnected: () => resolve()
      })
      client.connect()
    })
  }
}

function optionsOf(broker: DemoBroker, sockets: Sockets) {
  const { target, username, password } = broker.mqtt
  return {
    ...defaultOptions(target, sockets),
    version: 4 as const,
    username,
    password: password === null ? null : Buffer.from(password)
  }
}

/** A durable queue with everything, consumed and acknowledged. */
class QueueReceiver implements Receiver {
  count = 0
  private readonly client: AmqpClient
  private readonly queue: string

  static async open(
    target: NonNullable<DemoBroker['amqp']>,
    sockets: Sockets,
    root: string
  ): Promise<QueueReceiver> {
    const client = await AmqpClient.open(target, sockets)
    const receiver = new QueueReceiver(client, root.replaceAll('/', '.'))
    await client.declareQueue(receiver.queue, true)
    await client.bindQueue(receiver.queue, 'amq.topic', `${receiver.queue}.#`)
    await client.consume(receiver.queue, 'demo', PREFETCH, (_key, _payload, isRedelivered) => {
      if (!isRedelivered) receiver.count++
    })
    return receiver
  }

  private constructor(client: AmqpClient, queue: string) {
    this.client = client
    this.queue = queue
  }

  async stop(): Promise<number> {
    await this.client.cancel('demo')
    return await this.client.declareQueue(this.queue, true, true)
  }

  async close(): Promise<void> {
    if (this.client.error !== null) return
    await this.client.deleteQueue(this.queue)
    await this.client.close()
  }
}

/** Where nothing speaks AMQP: a subscription at QoS 2. What waits behind it nobody tells. */
class MqttReceiver implements Receiver {
  private readonly watcher: Watcher

  static async open(broker: DemoBroker, sockets: Sockets, root: string): Promise<MqttReceiver> {
    return new MqttReceiver(await Watcher.open(broker, sockets, `${root}/#`, () => undefined))
  }

  private constructor(watcher: Watcher) {
    this.watcher = watcher
  }

  get count(): number {
    return this.watcher.count
  }

  stop(): Promise<number> {
    return Promise.resolve(0)
  }

  async close(): Promise<void> {
    await this.watcher.close()
  }
}

/** A subscriber that calls back with the topics of what it gets. */
class Watcher implements ClientHandler {
  count = 0
  private readonly filter: string
  private readonly onTopic: (topic: string) => void
  private client: MqttClient | null
  private opened: (() => void) | null
  private refused: ((error: Error) => void) | null

  static async open(
    broker: DemoBroker,
    sockets: Sockets,
    filter: string,
    onTopic: (topic: string) => void
  ): Promise<Watcher> {
    const watcher = new Watcher(filter, onTopic)
    watcher.client = new MqttClient(optionsOf(broker, sockets), watcher)
    await new Promise<void>((resolve, reject) => {
      watcher.opened = resolve
      watcher.refused = reject
      watcher.client?.connect()
    })
    return watcher
  }

  private constructor(filter: string, onTopic: (topic: string) => void) {
    this.filter = filter
    this.onTopic = onTopic
    this.client = null
    this.opened = null
    this.refused = null
  }

  close(): Promise<void> {
    this.client?.disconnect()
    return Promise.resolve()
  }

  onConnected(): void {
    const asked = this.client?.subscribe([{ filter: this.filter, qos: 2, options: 0 }])
    asked?.then(
      () => this.opened?.(),
      (error: Error) => this.refused?.(error)
    )
  }

  onMessage(message: Message): void {
    this.count++
    this.onTopic(message.key)
  }

  onSettled(): void {
    // It publishes nothing.
  }

  onRoom(): void {
    // It publishes nothing.
  }

  onDisconnected(end: ClientEnd): void {
    this.refused?.(new CommandError(`no connection to the broker: ${end.text}`))
  }
}
