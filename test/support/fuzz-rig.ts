/**
 * A broker with both front-ends on the loop and the peers of a fuzz test, one for all inputs: what one leaves behind
 * is seen by the next. Two witnesses, one of each protocol, stay connected; whatever an input does, they are
 * served on.
 */
import type { Socket } from 'node:net'
import type { Logger } from 'pino'
import type { AmqpConnection } from '../../src/amqp/connection.ts'
import { DEFAULT_AMQP_OPTIONS } from '../../src/amqp/options.ts'
import { AmqpServer } from '../../src/amqp/server.ts'
import type { AuthenticationResult, Credentials } from '../../src/auth/authenticator.ts'
import { Broker } from '../../src/broker/broker.ts'
import { unhold } from '../../src/broker/deliver.ts'
import { DEFAULT_LIMITS, type Limits } from '../../src/core/limits.ts'
import { Principal } from '../../src/core/principal.ts'
import { ManualClock } from '../../src/lib/clock.ts'
import type { MqttConnection } from '../../src/mqtt/connection.ts'
import { MqttServer } from '../../src/mqtt/server.ts'
import { Sockets } from '../../src/net/socket.ts'
import { type Case, type Cutting, cut, type Event, type Protocol } from './fuzz-case.ts'
import { FuzzLoop } from './fuzz-loop.ts'
import { FuzzPeer } from './fuzz-peer.ts'
import { clean, differsFrom, gone, held, sizes, type Sizes } from './fuzz-state.ts'
import { AmqpWitness, MqttWitness } from './fuzz-witness.ts'
import { MemoryJournal } from './memory-journal.ts'
import { type Random, seededRandom } from './random.ts'

/** Small ones are met often. */
export const FUZZ_LIMITS: Limits = {
  ...DEFAULT_LIMITS,
  topicBytesMax: 200,
  topicSeparatorsMax: 8,
  clientIdBytesMax: 32,
  userPropertiesMax: 3,
  mqttPacketBytesMax: 4_096,
  amqpMessageBytesMax: 20_000,
  preLoginBytesMax: 4_096,
  preLoginTotalBytesMax: 100_000,
  subscriptionsMax: 8,
  wildcardSubscriptionsMax: 4,
  filtersPerPacketMax: 8,
  retainedMax: 4,
  retainedBytesMax: 4_000,
  queuesMax: 24,
  bindingsMax: 24,
  sessionMessagesMax: 12,
  sessionBytesMax: 8_000,
  inflightMax: 4,
  receiveMaximum: 5,
  sessionExpirySecondsMax: 3_600,
  channelUnackedMax: 8,
  outputBytesMax: 2_048,
  routeCacheMax: 16,
  memoryBytesMax: 128 * 1024,
  alarmHoldBytes: 400,
  alarmHoldMs: 5_000,
  rejectHoldMs: 5_000
}

const FRAME_MAX = 8_192
const CHANNEL_MAX = 4
const HOUR_MS = 3_600_000
const TURNS_MAX = 3_000
/** Callbacks that one input may cause, and how many more for each of its bytes. */
const CALLBACKS_MAX = 2_000
const CALLBACKS_A_BYTE = 4

const ANYBODY = new Principal('', [], '/', [], [], true)
const ANY = new Principal('any', [], '/', [], [], true)
const OTHER = new Principal('other', [], '/', [], [], true)
const LIMITED = new Principal(
  'limited',
  [],
  '/',
  [],
  [{ effect: 'allow', access: 'readwrite', filter: 'a/#' }],
  false
)

/** What a run of an input showed. */
export interface Transcript {
  /** What each peer sent that the broker could read, in the order of the peers. */
  readonly inputs: Buffer[]
  readonly outputs: Buffer[]
  readonly isEnded: boolean[]
  /** Of each MQTT peer that is still served: its inbound QoS 2 identifiers. */
  readonly inbound: (readonly number[] | null)[]
  readonly witnesses: { readonly mqtt: Buffer; readonly amqp: Buffer }
  /** Callbacks of the loop. */
  readonly callbacks: number
}

/** Something that must not be. */
export class Finding extends Error {
  constructor(what: string) {
    super(what)
    this.name = 'Finding'
  }
}

type Connection = MqttConnection | AmqpConnection

export class FuzzRig {
  readonly loop = new FuzzLoop()
  readonly clock = new ManualClock(1_000_000, 1_700_000_000_000)
  readonly journal = new MemoryJournal(this.clock)
  readonly broker: Broker
  readonly sockets: Sockets
  readonly mqtt: MqttServer
  readonly amqp: AmqpServer
  readonly mqttWitness: MqttWitness
  readonly amqpWitness: AmqpWitness
  /** Errors that the broker logged. */
  readonly errors: string[] = []
  readonly #peers: (FuzzPeer | undefined)[] = []
  /** The broker's ends of the peers. */
  readonly #connections: (Connection | undefined)[] = []
  #dialled: Connection | undefined
  readonly #base: Sizes
  #randomBytes = 0
  #inputBytes = 0

  constructor() {
    this.loop.install()
    try {
      const log = this.#logger()
      this.broker = new Broker({
        limits: FUZZ_LIMITS,
        clock: this.clock,
        log,
        random: bytes => {
          const made = Buffer.alloc(bytes, 0)
          made.writeUInt32BE(++this.#randomBytes)
          return made
        },
        principalOf: () => ANYBODY
      })
      const { broker, journal } = this
      broker.attach(journal)
      journal.onDurable = ticket => {
        for (const publisher of [...broker.waiting]) publisher.onDurable(ticket)
        unhold(broker, ticket)
        for (const task of [...broker.untilDurable]) {
          broker.untilDurable.delete(task)
          task.onTurnEnd()
        }
      }
      const { outputBytesMax, drainTimeoutMs } = FUZZ_LIMITS
      this.sockets = new Sockets({ outputBytesMax, drainTimeoutMs })
      const authenticator = {
        authenticate: (credentials: Credentials) => this.loop.promise(judge(credentials)),
        exchange: () => null
      }
      this.mqtt = new MqttServer({ broker, authenticator, sockets: this.sockets, log })
      const options = {
        ...DEFAULT_AMQP_OPTIONS,
        platform: 'fuzz',
        frameMax: FRAME_MAX,
        channelMax: CHANNEL_MAX
      }
      this.amqp = new AmqpServer(broker, authenticator, this.sockets, options)
      this.mqttWitness = new MqttWitness(this.#dial('mqtt'))
      this.amqpWitness = new AmqpWitness(this.#dial('amqp'))
      this.mqttWitness.start(() => this.#advance())
      this.amqpWitness.start(() => this.#advance())
      this.#tidy()
      this.#base = sizes(this)
    } finally {
      this.loop.uninstall()
    }
  }

  /** Runs an input. Throws what the broker throws, or a `Finding`; then this rig is good for nothing more. */
  run(input: Case, cutting: Cutting, seed: number): Transcript {
    this.loop.install()
    try {
      return this.#run(input, cutting, seededRandom(seed))
    } finally {
      this.loop.uninstall()
    }
  }

  #run(input: Case, cutting: Cutting, random: Random): Transcript {
    this.#randomBytes = 1_000
    this.#inputBytes = 0
    this.loop.ran = 0
    // What earlier inputs of this turn brought about would say when a publisher is read on.
    this.broker.turns.end()
    // How often an id was taken over before would say whether a CONNECT waits.
    this.mqtt['context'].takeovers['entries'].clear()
    const sent: Buffer[][] = []
    let gathered: Buffer[] = []
    let from = 0
    const arrive = () => {
      if (gathered.length === 0) return
      const bytes = Buffer.concat(gathered)
      gathered = []
      const peer = this.#peer(input.protocol, from)
      ;(sent[from] ??= []).push(bytes)
      this.#inputBytes += bytes.length
      peer.send(bytes, cut(bytes.length, cutting, random))
      this.#advance()
    }
    for (const { peer, piece, event } of input.steps) {
      if (peer !== from || piece === null) arrive()
      from = peer
      if (piece !== null) gathered.push(piece.bytes)
      else this.#happen(input.protocol, peer, event)
    }
    arrive()
    this.#calm()
    const wrong = held(this)
    if (wrong !== '') throw new Finding(wrong)
    const callbacks = this.loop.ran
    if (callbacks > CALLBACKS_MAX + CALLBACKS_A_BYTE * this.#inputBytes) {
      throw new Finding(`${callbacks} callbacks for ${this.#inputBytes} bytes`)
    }
    return this.#end(sent, callbacks)
  }

  /** The peers go; what is left of them is looked at. */
  #end(sent: Buffer[][], callbacks: number): Transcript {
    const inputs: Buffer[] = []
    const outputs: Buffer[] = []
    const isEnded: boolean[] = []
    const inbound: (number[] | null)[] = []
    this.#peers.forEach((peer, index) => {
      if (peer === undefined) return
      if (peer.wroteLate) throw new Finding('bytes behind the end')
      inputs.push(Buffer.concat(sent[index] ?? []))
      outputs.push(Buffer.concat(peer.output))
      isEnded.push(peer.isEnded)
      const session = this.#connections[index]?.session ?? null
      inbound.push(session === null ? null : [...(session.inbound?.keys() ?? [])])
      peer.cut()
    })
    this.#advance()
    this.#peers.length = 0
    this.#connections.length = 0
    const wrong = gone(this)
    if (wrong !== '') throw new Finding(wrong)
    const witnesses = { mqtt: this.mqttWitness.take(), amqp: this.amqpWitness.take() }
    this.#tidy()
    const left = differsFrom(this.#base, sizes(this))
    if (left !== '') throw new Finding(`left behind: ${left}`)
    if (this.mqtt.bugs > 0 || this.errors.length > 0) {
      throw new Finding(`a bug of a front-end: ${this.errors.join('; ')}`)
    }
    return { inputs, outputs, isEnded, inbound, witnesses, callbacks }
  }

  /** Both witnesses are served as if nothing had been. */
  askWitnesses(): void {
    this.loop.install()
    try {
      this.mqttWitness.ask(() => this.#advance())
      this.amqpWitness.ask(() => this.#advance())
      this.amqpWitness.take()
      this.mqttWitness.take()
    } finally {
      this.loop.uninstall()
    }
  }

  /** Everybody may work until nothing is left to do but to wait. */
  #advance(): void {
    for (let i = 0; ; i++) {
      if (i > TURNS_MAX) throw new Finding('work without end')
      let didSome = this.mqttWitness?.peer.pump() ?? false
      if (this.amqpWitness?.peer.pump()) didSome = true
      if (this.#starting?.pump()) didSome = true
      for (const peer of this.#peers) if (peer?.pump()) didSome = true
      if (!this.loop.isIdle) {
        didSome = true
        this.loop.turn()
      }
      if (!didSome) return
    }
  }

  /** A witness that has not started. */
  #starting: FuzzPeer | null = null

  #peer(protocol: Protocol, index: number): FuzzPeer {
    const known = this.#peers[index]
    if (known !== undefined) return known
    const peer = this.#dial(protocol)
    this.#peers[index] = peer
    this.#connections[index] = this.#dialled
    return peer
  }

  #dial(protocol: Protocol): FuzzPeer {
    const peer = new FuzzPeer()
    this.#starting = peer
    const options = { vhost: '/', isTrusted: true, protocol, onClosed: () => undefined }
    // The front-end takes any duplex stream; its signature names the usual one.
    const socket = peer.stream as Socket
    let connection: Connection
    if (protocol === 'amqp') connection = this.amqp.accept(socket, options)
    else {
      this.mqtt.accept(socket, options)
      connection = [...this.mqtt['connections']].at(-1)!
    }
    peer.socket = connection.socket
    this.#dialled = connection
    return peer
  }

  #happen(protocol: Protocol, index: number, event: Event): void {
    const { broker, journal } = this
    switch (event) {
      case 'turn':
        return
      case 'second':
        this.#pass(1)
        return
      case 'ten-seconds':
        this.#pass(10)
        return
      case 'hold-disk':
        journal.isAutomatic = false
        return
      case 'sync':
        journal.isAutomatic = true
        journal.sync()
        break
      case 'alarm':
      case 'all-clear':
        this.#alarm(event === 'alarm')
        break
      case 'pause':
        if (!broker.isPaused) this.#pressure(true)
        break
      case 'go-on':
        if (broker.isPaused) this.#pressure(false)
        break
      case 'stall':
        this.#peer(protocol, index).stall()
        return
      case 'drain':
        this.#peer(protocol, index).drain()
        break
      case 'hang-up':
        this.#peer(protocol, index).hangUp()
        break
      case 'cut':
        this.#peer(protocol, index).cut()
    }
    this.#advance()
  }

  #alarm(isRaised: boolean): void {
    const { broker } = this
    if (broker.diskAlarm === isRaised) return
    broker.diskAlarm = isRaised
    broker.judge()
    for (const publisher of [...broker.publishers]) publisher.onDiskAlarm(isRaised)
  }

  #pressure(isFull: boolean): void {
    const { broker } = this
    broker.isPaused = isFull
    for (const publisher of [...broker.publishers]) {
      if (isFull) publisher.onPause()
      else publisher.onResume()
    }
  }

  #pass(seconds: number): void {
    for (let i = 0; i < seconds; i++) {
      this.clock.advance(1_000)
      this.loop.pass(1_000)
      this.mqtt.tick()
      this.amqp.tick()
      this.#takeDue()
      this.#advance()
    }
  }

  #takeDue(): void {
    const { deadlines, nowMs } = this.broker
    for (let due = deadlines.takeDue(nowMs); due !== null; due = deadlines.takeDue(nowMs)) {
      due.owner.onDue(this.broker)
    }
  }

  /** Nothing holds anybody up any more. */
  #calm(): void {
    const { broker, journal } = this
    if (!journal.isAutomatic) {
      journal.isAutomatic = true
      journal.sync()
    }
    this.#alarm(false)
    if (broker.isPaused) this.#pressure(false)
    for (const peer of this.#peers) peer?.drain()
    this.#advance()
  }

  /** What lasts ends: sessions expire, the rest is deleted. */
  #tidy(): void {
    this.clock.advance(2 * HOUR_MS)
    this.#advance()
    this.#takeDue()
    this.#advance()
    clean(this)
    this.#advance()
    this.loop.pass(2_000)
    this.#advance()
    this.mqttWitness.take()
    this.amqpWitness.take()
    if (this.journal.stats.liveBytes === 0) this.journal.forget()
  }

  #logger(): Logger {
    const ignore = () => undefined
    const logger = {
      trace: ignore,
      debug: ignore,
      info: ignore,
      warn: ignore,
      error: (fields: { err?: Error }, text: string) => {
        this.errors.push(`${text}: ${fields.err?.stack ?? ''}`)
      },
      child: () => logger
    }
    // As much of a logger as the broker uses; pino would take half the time of the test.
    return logger as unknown as Logger
  }
}

function judge({ username, protocol }: Credentials): AuthenticationResult {
  switch (username) {
    case 'bad':
      return { ok: false, reason: 'bad-credentials' }
    case 'busy':
      return { ok: false, reason: 'busy' }
    case 'limited':
      return { ok: true, principal: LIMITED }
    case 'other':
      return { ok: true, principal: OTHER }
    case null:
      return { ok: true, principal: ANYBODY }
    default:
      return protocol === 'amqp' ? { ok: true, principal: ANY } : { ok: true, principal: ANYBODY }
  }
}
