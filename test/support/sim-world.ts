/**
 * A mixed load on the whole broker over a simulated disk, cut off again and again at a disk call that a seed chooses:
 * publishers and subscribers with lasting sessions, QoS 1 and 2 both ways, retained messages, durable queues with
 * confirms and acknowledgements, purges, definitions and users, while checkpoints and compaction go on. After each
 * cut everybody comes back, and what was acknowledged must be there.
 */
import { bindQueue } from '../../src/broker/bindings.ts'
import { declareQueue } from '../../src/broker/queues.ts'
import { type Random, seededRandom } from './random.ts'
import { SimulatedDisk } from './simulated-disk.ts'
import { ManualClock } from '../../src/lib/clock.ts'
import { SimAmqp } from './sim-amqp.ts'
import { type Plant, SimBroker, type SimBrokerOptions } from './sim-broker.ts'
import { turns } from './sim-disk-store.ts'
import { differences } from './lasting-state.ts'
import { dumpOf } from './sim-dump.ts'
import { type SimMessage, SimMessages } from './sim-messages.ts'
import { payloadAt } from './sim-payload.ts'
import { SimMqtt, willOf } from './sim-mqtt.ts'
import { PURGED, SimOperator } from './sim-operator.ts'

const QUEUES = ['q.main', 'q.kept', PURGED.queue, 'q.short'] as const
const SHORT_MAX = 12
const FILTERS = ['extra/1', 'extra/+', 'extra/#', '+/other']
/** Turns in which nothing may be left to do. */
const DRAIN_TURNS = 4_000
/** A will's delay: longer than any test. */
const LATE_SECONDS = 3_600
const OPEN_TURNS = 2_000

interface RetainedWrite {
  readonly message: SimMessage
  readonly isEmpty: boolean
}

export interface WorldOptions {
  plant?: Plant
  broker?: Omit<SimBrokerOptions, 'plant' | 'clock'>
  /** The disk is to fail: what is dropped and logged for its sake is as it should be. */
  mayFail?: boolean
}

export class World {
  readonly messages = new SimMessages()
  readonly random: Random
  readonly clock = new ManualClock(1_000, 1_700_000_000_000)
  readonly publishers: readonly SimMqtt[]
  readonly subscribers: readonly SimMqtt[]
  readonly producer: SimAmqp
  readonly consumer: SimAmqp
  readonly operator: SimOperator
  disk: SimulatedDisk
  sim!: SimBroker
  cuts = 0
  checkpoints = 0
  recycled = 0
  compacted = 0
  skipped = 0
  /** Drops that the broker counted for the bounded queue, of all its lives. */
  #shortDrops = 0
  readonly #options: WorldOptions
  /** In half of the worlds a checkpoint takes a turn for each of its records. */
  readonly #pieceBytes: number
  readonly #retained = new Map<string, RetainedWrite[]>()
  #isSetUp = false

  constructor(seed: number, options: WorldOptions = {}) {
    this.#options = options
    this.random = seededRandom(seed)
    this.disk = new SimulatedDisk({ seed })
    this.#pieceBytes = this.#chance(0.5) ? 1 : 64 * 1024
    const { messages } = this
    this.operator = new SimOperator(messages, this.random)
    this.publishers = [new SimMqtt('p4', 4, messages), new SimMqtt('p5', 5, messages)]
    this.subscribers = [new SimMqtt('s1', 5, messages), new SimMqtt('s2', 4, messages)]
    this.subscribers[0]!.will = willOf(Buffer.from('gone'), LATE_SECONDS)
    this.subscribers[0]!.flow = messages.flow('s1')
    this.subscribers[1]!.flow = messages.flow('s2', true)
    this.producer = new SimAmqp(messages, null)
    this.consumer = new SimAmqp(messages, messages.flow('q.main'))
    messages.flow('q.short').isBounded = true
  }

  get violations(): string[] {
    return this.messages.violations
  }

  #chance(probability: number): boolean {
    return this.random() < probability
  }

  #between(low: number, high: number): number {
    return low + Math.floor(this.random() * (high - low + 1))
  }

  /** Opens the broker; after a cut in the middle of that, again. */
  async open(): Promise<void> {
    for (;;) {
      const { disk } = this
      if (this.cuts > 0 && this.#chance(0.12)) this.#cutAt(this.#between(1, 40))
      const pieceBytes = this.#pieceBytes
      const settings = { ...this.#options.broker, ...this.#plant, clock: this.clock, pieceBytes }
      const sim = new SimBroker(disk, settings)
      this.sim = sim
      let isOpen = false
      let failure: unknown = null
      sim.open().then(
        () => {
          isOpen = true
        },
        error => {
          failure = error
        }
      )
      for (let i = 0; !isOpen && failure === null && !disk.isOff && i < OPEN_TURNS; i++) {
        await turns(1)
      }
      if (failure !== null) throw failure
      if (isOpen) await this.#opened()
      else if (!disk.isOff) throw new Error('the broker does not open')
      if (!disk.isOff) {
        disk.intercept = null
        return
      }
      this.crash(false)
    }
  }

  get #plant() {
    return this.#options.plant === undefined ? {} : { plant: this.#options.plant }
  }

  async #opened(): Promise<void> {
    const { recovery } = this.sim
    this.skipped += recovery.skippedRecords
    if (recovery.damagedBatches > 0) this.violations.push(`${recovery.damagedBatches} damaged`)
    if (!this.#isSetUp) await this.#setUp()
    this.operator.check(this.sim.broker)
    await this.#checkRetained(false)
    this.#checkSubscriptions()
  }

  async #setUp(): Promise<void> {
    const { broker } = this.sim
    const vhost = broker.vhosts.get('/')!
    const common = { principal: null, owner: null, arguments: [] }
    const flags = { passive: false, durable: true, exclusive: false, autoDelete: false }
    for (const [index, name] of QUEUES.entries()) {
      const bound = [['x-max-length', { type: 'I', value: SHORT_MAX }]] as const
      const table = name === 'q.short' ? bound : []
      declareQueue(broker, vhost, { ...flags, ...common, name, arguments: table })
      bindQueue(broker, vhost, { ...common, queue: name, exchange: 'amq.topic', key: `${index}.*` })
    }
    await this.#until(this.sim.journal.flush())
    this.#isSetUp = !this.disk.isOff
    this.connectAll()
    for (const subscriber of this.subscribers) await this.#opens(subscriber)
    this.subscribers[0]!.subscribe('s/#', 1)
    this.subscribers[1]!.subscribe('s/#', 2)
    for (let i = 0; i < 50 && this.subscribers.some(one => one.subscriptions.size === 0); i++) {
      await this.#work()
    }
  }

  async #opens(peer: SimMqtt): Promise<void> {
    for (let i = 0; i < 200 && !peer.isOpen && !this.disk.isOff; i++) {
      await turns(1)
      peer.pump()
    }
  }

  async #until(work: Promise<unknown>): Promise<void> {
    let isDone = false
    const done = () => {
      isDone = true
    }
    work.then(done, done)
    for (let i = 0; !isDone && !this.disk.isOff && i < DRAIN_TURNS; i++) await turns(1)
  }

  connectAll(): void {
    for (const peer of [...this.publishers, ...this.subscribers]) {
      if (peer.wire === null) peer.connect(this.sim.dial('mqtt'))
    }
    for (const peer of [this.producer, this.consumer]) {
      if (peer.wire === null) peer.connect(this.sim.dial('amqp'))
    }
  }

  /** One cut: load until the power goes, then everything comes back. */
  async cut(): Promise<void> {
    this.connectAll()
    const isKill = this.#chance(0.1)
    this.#cutAt(isKill ? 1e9 : this.#between(4, 110))
    const stepsMax = isKill ? this.#between(5, 30) : 60
    for (let step = 0; step < stepsMax && !this.disk.isOff; step++) await this.step()
    const before = this.disk.isOff ? null : await this.#flushed()
    this.crash(before !== null || isKill)
    await this.open()
    if (before === null) return
    const found = differences(before, dumpOf(this.sim.broker))
    if (found.length > 0) this.violations.push(`a restart changed the state: ${found.slice(0, 8)}`)
  }

  /** The state, when all of it is durable; null when the power went before. */
  async #flushed(): Promise<string[] | null> {
    const { sim } = this
    this.#losePeers(true)
    for (let i = 0; i < 3; i++) await turns(2)
    await this.#until(sim.journal.flush())
    return this.disk.isOff || sim.journal.failed ? null : dumpOf(sim.broker)
  }

  #cutAt(calls: number): void {
    const { disk } = this
    const at = disk.calls + calls
    disk.intercept = () => (disk.calls >= at ? { powerOff: true } : null)
  }

  /** The power goes (or only the process, when `isKill`): what has left is read by its peers, or lost on its way. */
  crash(isKill: boolean): void {
    const { sim } = this
    this.cuts++
    if (sim.isOpen) this.#noteEnd()
    sim.kill()
    this.disk = isKill ? this.disk.restart() : this.disk.crash()
  }

  #noteEnd(): void {
    this.#losePeers(this.#chance(0.6))
    const { durableTicket, stats } = this.sim.journal
    for (const flow of this.messages.flows.values()) flow.crashed(durableTicket)
    this.#noteDrops()
    this.checkpoints += stats.checkpoints
    this.recycled += stats.segmentsRecycled
    this.compacted += stats.recordsCompacted
    this.operator.settle(durableTicket)
  }

  #losePeers(isRead: boolean): void {
    for (const peer of [...this.publishers, ...this.subscribers, this.producer, this.consumer]) {
      if (isRead) peer.pump()
      peer.lose()
    }
  }

  #noteDrops(): void {
    const { broker } = this.sim
    this.#shortDrops += broker.counters.droppedByQueue.get('/\0q.short\0queue_full') ?? 0
    if (this.#options.mayFail !== true) {
      this.violations.push(...this.sim.unexpectedDrops)
      for (const line of this.sim.lines) {
        if (line.level >= 50) this.violations.push(`log: ${line.msg}`)
      }
    }
    if (this.sim.mqtt.bugs > 0) this.violations.push('a bug closed a connection')
  }

  /** A few random actions, some turns, and what they bring. */
  async step(): Promise<void> {
    for (let i = this.#between(1, 4); i > 0; i--) this.#act()
    await this.#work()
  }

  async #work(): Promise<void> {
    await turns(this.#between(1, 3))
    this.#noteSettled()
    for (const peer of [...this.publishers, ...this.subscribers]) {
      if (this.#chance(0.8)) peer.pump(this.#chance(0.3) ? this.#between(1, 3) : undefined)
    }
    this.producer.pump()
    this.consumer.pump()
  }

  /** What peers acknowledged and the broker has read by now is behind the newest ticket at the latest. */
  #noteSettled(): void {
    const { ticket } = this.sim.journal
    for (const peer of [...this.subscribers, this.consumer]) {
      if (peer.wire === null || peer.wire.readableLength > 0) continue
      for (const key of peer.settledNow.splice(0)) peer.flow?.settling.set(key, ticket)
    }
  }

  #act(): void {
    const choice = this.random()
    if (choice < 0.55) this.#publish()
    else if (choice < 0.65) this.#produce()
    else if (choice < 0.8) this.consumer.ack(this.#between(1, 6))
    else if (choice < 0.82) this.consumer.requeue()
    else if (choice < 0.87) this.#resubscribe()
    else if (choice < 0.91) this.operator.operate(this.sim.broker)
    else if (choice < 0.93) this.operator.purge(this.sim.broker)
    else if (choice < 0.96) this.sim.pass(this.#between(10, 400))
    else this.#dropOrDial()
  }

  #bytes(): number {
    const choice = this.random()
    if (choice < 0.7) return this.#between(10, 200)
    return choice < 0.97 ? this.#between(200, 9_000) : this.#between(20_000, 90_000)
  }

  #publish(): void {
    const peer = this.publishers[this.#between(0, 1)]!
    if (!peer.canPublish) return
    const qos = this.#between(0, 15) === 0 ? 0 : this.#between(1, 2)
    const choice = this.random()
    if (choice < 0.2) {
      this.#publishRetained(peer)
      return
    }
    if (choice < 0.6) {
      const flows = ['s1', 's2']
      peer.publish(this.messages.create(peer.clientId, 's/a', qos, this.#bytes(), flows))
      return
    }
    const index = this.#between(0, QUEUES.length - 1)
    const queue = QUEUES[index]!
    // A purged queue's messages may go.
    const flows = queue === PURGED.queue ? [] : [queue]
    const topic = `${index}/a`
    const message = this.messages.create(peer.clientId, topic, qos, this.#bytes(), flows)
    peer.publish(message)
  }

  /** One QoS a topic: a repeat of QoS 1 may come behind a QoS 2 message that is not repeated. */
  #publishRetained(peer: SimMqtt): void {
    const index = this.#between(1, 6)
    const qos = 1 + (index % 2)
    const topic = `r/${peer.clientId}/${index}`
    const isEmpty = this.#chance(0.25)
    const message = this.messages.create(peer.clientId, topic, qos, this.#bytes(), [])
    const writes = this.#retained.get(topic) ?? []
    writes.push({ message, isEmpty })
    this.#retained.set(topic, writes)
    peer.publish(message, true, isEmpty)
  }

  #produce(): void {
    if (!this.producer.isOpen) return
    const isTopic = this.#chance(0.4)
    const flows = isTopic ? ['s1', 's2'] : ['q.main']
    const key = isTopic ? 's.b' : 'q.main'
    const message = this.messages.create('a', key, 3, this.#bytes(), flows)
    this.producer.publish(message, isTopic ? 'amq.topic' : '', key)
  }

  #resubscribe(): void {
    const peer = this.subscribers[this.#between(0, 1)]!
    if (!peer.isOpen || peer.asked.size > 0) return
    const filter = FILTERS[this.#between(0, FILTERS.length - 1)]!
    if (peer.subscriptions.has(filter) && this.#chance(0.5)) peer.unsubscribe(filter)
    else peer.subscribe(filter, this.#between(0, 2) as 0 | 1 | 2)
  }

  #dropOrDial(): void {
    const peers = [...this.publishers, ...this.subscribers]
    const peer = peers[this.#between(0, peers.length - 1)]!
    if (peer.wire === null) peer.connect(this.sim.dial('mqtt'))
    else if (this.#chance(0.5)) peer.lose()
    else if (this.#chance(0.3)) {
      this.consumer.lose()
      this.consumer.connect(this.sim.dial('amqp'))
    }
  }

  /** What was confirmed to subscribers must be there, and nothing that they never asked for. */
  #checkSubscriptions(): void {
    const vhost = this.sim.broker.vhosts.get('/')!
    for (const peer of this.subscribers) {
      const session = vhost.sessions.get(peer.clientId)
      if (!peer.hasSession) continue
      if (session === undefined) {
        this.violations.push(`${peer.clientId}: no session`)
        continue
      }
      for (const [filter, qos] of peer.subscriptions) {
        const found = session.subscriptions.get(filter)
        if (peer.unsure.has(filter)) continue
        if (found?.qos !== qos) this.violations.push(`${peer.clientId}: ${filter} is ${found?.qos}`)
      }
      for (const filter of session.subscriptions.keys()) {
        if (peer.subscriptions.has(filter) || peer.unsure.has(filter)) continue
        this.violations.push(`${peer.clientId}: ${filter} came back`)
      }
      peer.unsure.clear()
      peer.subscriptions.clear()
      for (const [filter, { qos }] of session.subscriptions) peer.subscriptions.set(filter, qos)
    }
  }

  /** A retained topic has the last acknowledged value or a later one; the last of all when all is quiet. */
  async #checkRetained(isQuiet: boolean): Promise<void> {
    const vhost = this.sim.broker.vhosts.get('/')!
    for (const [topic, writes] of this.#retained) {
      const acked = writes.findLastIndex(({ message }) =>
        isQuiet ? !message.isRefused : message.isAcked
      )
      let slot = vhost.retained.get(topic)
      let payload: Buffer | null = null
      for (let tries = 0; tries < 5 && slot !== null && payload === null; tries++) {
        payload = await payloadAt(this.sim, slot.segment, slot.offset)
        slot = vhost.retained.get(topic)
      }
      if (this.disk.isOff) return
      const found = payload === null ? null : this.messages.find(payload)
      const allowed = writes.slice(Math.max(0, acked))
      const isRight = allowed.some(one => (one.isEmpty ? slot === null : one.message === found))
      if (isRight || (slot === null && acked < 0)) continue
      const last = writes.slice(-4).map(({ message, isEmpty }) => {
        const { sequence, qos, isAcked } = message
        return `${sequence} QoS ${qos}${isEmpty ? ' empty' : ''}${isAcked ? ' acked' : ''}`
      })
      this.violations.push(`retained ${topic}: ${found?.sequence ?? 'nothing'} of ${last}`)
    }
  }

  /** Everybody comes, all is fetched and answered; then nothing that was acknowledged is missing. */
  async drain(): Promise<void> {
    this.disk.intercept = null
    this.connectAll()
    const waiting = new Map<string, SimAmqp>()
    for (const name of QUEUES) {
      if (name === 'q.main') continue
      const consumer = new SimAmqp(this.messages, this.messages.flow(name))
      consumer.connect(this.sim.dial('amqp'))
      waiting.set(name, consumer)
    }
    const consumers = [this.consumer, ...waiting.values()]
    let quiet = 0
    for (let i = 0; quiet < 6 && i < DRAIN_TURNS; i++) {
      await turns(2)
      this.#noteSettled()
      for (const peer of [...this.publishers, ...this.subscribers]) peer.pump()
      this.producer.pump()
      for (const consumer of consumers) {
        consumer.pump()
        consumer.ack(100)
      }
      this.connectAll()
      quiet = this.#isQuiet() ? quiet + 1 : 0
    }
    if (quiet < 6) this.violations.push(`it does not come to rest: ${this.#open()}`)
    this.#checkAll()
    await this.#checkRetained(true)
    for (const consumer of waiting.values()) consumer.lose()
  }

  #isQuiet(): boolean {
    return this.#open().length === 0
  }

  /** What is left to do. */
  #open(): string[] {
    const left: string[] = []
    for (const { clientId, inflight } of this.publishers) {
      if (inflight.size > 0) left.push(`${clientId} waits for ${[...inflight.keys()]}`)
    }
    for (const queue of this.sim.broker.state.queues.values()) {
      const isAside = queue.name.startsWith('e') || queue.count === 0
      if (!isAside) left.push(`${queue.name} holds ${queue.readyCount} + ${queue.unackedCount}`)
    }
    return left
  }

  #checkAll(): void {
    for (const flow of this.messages.flows.values()) {
      const missing = this.messages.missing(flow)
      if (flow.isBounded) {
        const live = this.sim.broker.counters.droppedByQueue.get('/\0q.short\0queue_full') ?? 0
        const counted = this.#shortDrops + live
        if (missing.length > counted) {
          this.violations.push(`${flow.name}: ${missing.length} missing, ${counted} counted`)
        }
      } else if (missing.length > 0) {
        this.violations.push(`${flow.name}: lost ${missing.slice(0, 10)}`)
      }
    }
    this.operator.checkPurged()
  }
}
