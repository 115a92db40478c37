/**
 * A shared subscription on the whole broker over a simulated disk, cut off again and again: publishers with
 * QoS 1 and 2, members that come, go, answer late and lose their connection, while checkpoints and
 * compaction go on. In a world of lasting members every acknowledged message reaches one, QoS 2 once; where
 * sessions end, QoS 1 goes on to another and QoS 2 never twice. In every third world an AMQP consumer takes its turn.
 */
import { ManualClock } from '../../src/lib/clock.ts'
import { type Random, seededRandom } from './random.ts'
import { SimAmqp } from './sim-amqp.ts'
import { type Plant, SimBroker } from './sim-broker.ts'
import { turns } from './sim-disk-store.ts'
import { Flow, type SimMessage, SimMessages } from './sim-messages.ts'
import { SimMqtt } from './sim-mqtt.ts'
import { SimulatedDisk } from './simulated-disk.ts'

const JOBS = '$share/g/s/#'
const CUTS_A_WORLD = 10
const DRAIN_TURNS = 4_000
const OPEN_TURNS = 2_000

/** What all members together get. */
class GroupFlow extends Flow {
  /** What an AMQP consumer was given: it may come again. */
  readonly lent = new Set<string>()

  override receive(message: SimMessage): string | null {
    const key = `${message.publisher}:${message.sequence}`
    const count = (this.counts.get(key) ?? 0) + 1
    this.counts.set(key, count)
    return message.qos === 2 && count > 1 && !this.lent.has(key)
      ? `${key} of QoS 2 reached two members`
      : null
  }
}

/** What the AMQP consumer gets. */
class TakerFlow extends Flow {
  readonly #group: GroupFlow

  constructor(group: GroupFlow) {
    super('taker', false)
    this.#group = group
  }

  override receive(message: SimMessage): string | null {
    this.#group.lent.add(`${message.publisher}:${message.sequence}`)
    return this.#group.receive(message)
  }
}

export class SharedWorld {
  readonly messages = new SimMessages()
  readonly clock = new ManualClock(1_000, 1_700_000_000_000)
  cuts = 0
  checkpoints = 0
  compacted = 0
  received = 0
  readonly #random: Random
  readonly #flow: GroupFlow
  readonly #publishers: readonly SimMqtt[]
  readonly #members: SimMqtt[]
  /** It consumes the group's queue over AMQP; null: nobody does. */
  readonly #taker: SimAmqp | null
  /** Some members' sessions end. */
  readonly #isMixed: boolean
  readonly #pieceBytes: number
  readonly #plant: Plant
  /** It answers nothing, then is away: what it was given stays open while segments come and go. */
  #sleeper: SimMqtt | null = null
  #disk: SimulatedDisk
  #sim!: SimBroker

  constructor(seed: number, isMixed: boolean, plant: Plant = {}, hasTaker = false) {
    this.#random = seededRandom(seed)
    this.#isMixed = isMixed
    this.#plant = plant
    this.#disk = new SimulatedDisk({ seed })
    this.#pieceBytes = this.#chance(0.5) ? 1 : 64 * 1024
    const { messages } = this
    this.#flow = new GroupFlow('g', false)
    messages.flows.set('g', this.#flow)
    this.#publishers = [new SimMqtt('p4', 4, messages), new SimMqtt('p5', 5, messages)]
    this.#taker = hasTaker ? new SimAmqp(messages, new TakerFlow(this.#flow), JOBS) : null
    this.#members = [
      this.#member('m1', false),
      this.#member('m2', false),
      this.#member('m3', isMixed)
    ]
    if (isMixed) this.#members.push(this.#member('m4', true))
  }

  #member(id: string, isClean: boolean): SimMqtt {
    const peer = new SimMqtt(id, id === 'm2' ? 4 : 5, this.messages, isClean)
    peer.flow = this.#flow
    return peer
  }

  get violations(): string[] {
    return this.messages.violations
  }

  #chance(probability: number): boolean {
    return this.#random() < probability
  }

  #between(low: number, high: number): number {
    return low + Math.floor(this.#random() * (high - low + 1))
  }

  async run(): Promise<void> {
    await this.#open()
    while (this.cuts < CUTS_A_WORLD && this.violations.length === 0) {
      await this.#cut()
      if (this.cuts % 3 === 0 && this.violations.length === 0) await this.#drain()
    }
    if (this.violations.length === 0) await this.#drain()
    this.received = this.#flow.counts.size
    this.#sim.kill()
  }

  async #open(): Promise<void> {
    const pieceBytes = this.#pieceBytes
    this.#sim = new SimBroker(this.#disk, { clock: this.clock, pieceBytes, plant: this.#plant })
    let isOpen = false
    void this.#sim.open().then(() => {
      isOpen = true
    })
    for (let i = 0; !isOpen && i < OPEN_TURNS; i++) await turns(1)
    if (!isOpen) throw new Error('the broker does not open')
    const { damagedBatches } = this.#sim.recovery
    if (damagedBatches > 0) this.violations.push(`${damagedBatches} damaged`)
    this.#connectAll()
    // The first of all must be there before anything is published, else nobody keeps it.
    for (let i = 0; i < 100 && !this.#members[0]!.subscriptions.has(JOBS); i++) await this.#work()
  }

  #connectAll(): void {
    if (this.#taker?.wire === null) this.#taker.connect(this.#sim.dial('amqp'))
    for (const peer of [...this.#publishers, ...this.#members]) {
      if (peer.wire === null && peer !== this.#sleeper) peer.connect(this.#sim.dial('mqtt'))
    }
  }

  async #cut(): Promise<void> {
    const isKill = this.#chance(0.2)
    if (this.#sleeper === null && this.#chance(0.6)) this.#sleeper = this.#members[1]!
    const at = this.#disk.calls + (isKill ? 1e9 : this.#between(4, 110))
    const { disk } = this.#sim
    disk.intercept = () => (disk.calls >= at ? { powerOff: true } : null)
    const stepsMax = isKill ? this.#between(5, 40) : 80
    for (let step = 0; step < stepsMax && !disk.isOff; step++) {
      for (let i = this.#between(1, 4); i > 0; i--) this.#act()
      await this.#work()
    }
    const isRead = this.#chance(0.6)
    this.cuts++
    for (const peer of [...this.#publishers, ...this.#members]) {
      if (isRead) peer.pump()
      this.#lose(peer)
    }
    if (isRead) this.#taker?.pump()
    this.#taker?.lose()
    this.#noteEnd()
    this.#sim.kill()
    this.#disk = isKill ? disk.restart() : disk.crash()
    await this.#open()
  }

  #noteEnd(): void {
    const { stats } = this.#sim.journal
    this.checkpoints += stats.checkpoints
    this.compacted += stats.recordsCompacted
    for (const [reason, count] of this.#sim.broker.counters.dropped) {
      if (count > 0 && !DROPS.has(reason)) this.violations.push(`${count} dropped: ${reason}`)
    }
    for (const line of this.#sim.lines) {
      if (line.level >= 50) this.violations.push(`log: ${line.msg}`)
    }
    if (this.#sim.mqtt.bugs > 0) this.violations.push('a bug closed a connection')
  }

  #lose(peer: SimMqtt): void {
    peer.lose()
    // A clean session takes its subscriptions and what it had received with it.
    if (!peer.hasSession) {
      peer.subscriptions.clear()
      peer.received.clear()
    }
  }

  #act(): void {
    const choice = this.#random()
    if (choice < 0.75) this.#publish()
    else if (choice < 0.85) this.#dropOrDial()
    else if (choice < 0.9) this.#turnTaker()
    else if (choice < 0.94) this.#leave()
    else if (choice < 0.97 && this.#isMixed) this.#replace()
    else this.#sim.pass(this.#between(10, 400))
  }

  #publish(): void {
    const peer = this.#publishers[this.#between(0, 1)]!
    if (!peer.canPublish) return
    const size = this.#random()
    const bytes =
      size < 0.8 ? this.#between(10, 300) : this.#between(300, size < 0.97 ? 9_000 : 60_000)
    peer.publish(this.messages.create(peer.clientId, 's/a', this.#between(1, 2), bytes, ['g']))
  }

  #dropOrDial(): void {
    const peer = this.#members[this.#between(0, this.#members.length - 1)]!
    if (peer === this.#sleeper) return
    if (peer.wire === null) peer.connect(this.#sim.dial('mqtt'))
    else if (this.#chance(0.5)) this.#lose(peer)
  }

  /** The AMQP consumer leaves with what it has, comes back, or gives something back. */
  #turnTaker(): void {
    const taker = this.#taker
    if (taker === null) this.#dropOrDial()
    else if (taker.wire === null) taker.connect(this.#sim.dial('amqp'))
    else if (this.#chance(0.4)) taker.lose()
    else taker.requeue()
  }

  /** A member unsubscribes; what it holds it keeps. It subscribes again when it is next looked at. */
  #leave(): void {
    const peer = this.#members[this.#between(1, this.#members.length - 1)]!
    if (peer === this.#sleeper) return
    if (peer.isOpen && peer.asked.size === 0 && peer.subscriptions.has(JOBS)) peer.unsubscribe(JOBS)
  }

  /** The third one's session lasts from now on, or its old one is discarded for one that does not. */
  #replace(): void {
    const old = this.#members[2]!
    const isClean = old.hasSession
    // Until the broker has said that the old session is gone, a new client that resumes it would forget what that had.
    if (!isClean && !old.isOpen) return
    // What it reads now the broker may not hear of any more.
    old.pump()
    this.#lose(old)
    const peer = this.#member('m3', isClean)
    this.#members[2] = peer
    peer.connect(this.#sim.dial('mqtt'))
  }

  async #work(): Promise<void> {
    await turns(this.#between(1, 3))
    for (const peer of this.#publishers) if (this.#chance(0.8)) peer.pump()
    if (this.#taker !== null && this.#chance(0.6)) {
      this.#taker.pump()
      this.#taker.ack(this.#between(0, 5))
    }
    for (const peer of this.#members) {
      if (peer === this.#sleeper && peer.isOpen && peer.subscriptions.has(JOBS)) continue
      if (this.#chance(0.5)) peer.pump(this.#chance(0.4) ? this.#between(1, 3) : undefined)
      this.#subscribe(peer)
    }
  }

  #subscribe(peer: SimMqtt): void {
    if (!peer.isOpen || peer.asked.size > 0 || peer.subscriptions.has(JOBS)) return
    peer.subscribe(JOBS, 2)
  }

  async #drain(): Promise<void> {
    this.#sim.disk.intercept = null
    this.#sleeper = null
    let quiet = 0
    for (let i = 0; quiet < 6 && i < DRAIN_TURNS; i++) {
      this.#connectAll()
      await turns(2)
      for (const peer of [...this.#publishers, ...this.#members]) peer.pump()
      for (const peer of this.#members) this.#subscribe(peer)
      this.#taker?.pump()
      this.#taker?.ack(this.#taker.open.length)
      quiet = this.#left().length === 0 ? quiet + 1 : 0
    }
    if (quiet < 6) this.violations.push(`it does not come to rest: ${this.#left()}`)
    const missing = this.messages
      .missing(this.#flow)
      .filter(key => !this.#isMixed || this.messages.all.get(key)!.qos === 1)
    if (missing.length > 0) this.violations.push(`lost ${missing.slice(0, 10)}`)
    for (const { queue } of this.#sim.broker.state.groups.values()) {
      if ((queue.moves?.size ?? 0) > 0) this.violations.push('a move is left behind')
    }
  }

  /** What is left to do. */
  #left(): string[] {
    const left: string[] = []
    for (const { clientId, inflight } of this.#publishers) {
      if (inflight.size > 0) left.push(`${clientId} waits for ${[...inflight.keys()]}`)
    }
    for (const {
      name,
      count,
      readyCount,
      unackedCount
    } of this.#sim.broker.state.queues.values()) {
      if (count > 0) left.push(`${name} holds ${readyCount} + ${unackedCount}`)
    }
    return left
  }
}

/** QoS 2 that a session took with it is a drop as it should be. */
const DROPS: ReadonlySet<string> = new Set(['no_match', 'closed', 'session_ended'])

export interface SharedResult {
  violations: string[]
  cuts: number
  checkpoints: number
  compacted: number
  acked: number
  received: number
}

/** Worlds, one seed after the other, until enough cuts were made or something is wrong. */
export async function cutSharedWorlds(
  seed: number,
  cuts: number,
  plant: Plant = {}
): Promise<SharedResult> {
  const sum = {
    violations: [] as string[],
    cuts: 0,
    checkpoints: 0,
    compacted: 0,
    acked: 0,
    received: 0
  }
  for (let at = seed; sum.cuts < cuts && sum.violations.length === 0; at++) {
    const world = new SharedWorld(at, at % 2 === 0, plant, at % 3 === 0)
    await world.run()
    sum.cuts += world.cuts
    sum.checkpoints += world.checkpoints
    sum.compacted += world.compacted
    sum.received += world.received
    for (const { isAcked } of world.messages.all.values()) if (isAcked) sum.acked++
    for (const violation of world.violations) {
      sum.violations.push(`MOTEMQ_SEED=${at}, cut ${world.cuts}: ${violation}`)
    }
  }
  return sum
}
