/**
 * The broker's state: what the verbs in the files beside this one work on. The verbs are functions
 * that take it as their first argument; front-ends call them, nothing here calls a front-end but
 * through the interfaces of consumer.ts.
 */
import type { Logger } from 'pino'
import { ERROR_CODES } from '../core/errors.ts'
import type { Limits } from '../core/limits.ts'
import { Message } from '../core/message.ts'
import type { Principal } from '../core/principal.ts'
import type { PropertiesDecoder, PropertiesEncoder } from '../core/properties.ts'
import type { Life, Queue } from '../core/queue.ts'
import { TransactionReplay } from '../core/records/transaction.ts'
import type { Session, Subscription } from '../core/session.ts'
import { MEMORY, Slabs } from '../core/slabs.ts'
import type { Liveness } from '../core/liveness.ts'
import { State } from '../core/state.ts'
import type { Vhost } from '../core/vhost.ts'
import type { Journal, StreamFiles } from '../journal/journal.ts'
import { ByteWriter } from '../lib/byte-writer.ts'
import type { Clock } from '../lib/clock.ts'
import { DeadlineHeap } from '../lib/deadline-heap.ts'
import type { BridgeControl } from './bridges.ts'
import type { Publisher } from './consumer.ts'
import { Counters } from './counters.ts'
import { BrokerEvents } from './events.ts'
import { PublishTurns } from './publish-turns.ts'
import { WillRoom } from './will-room.ts'

/** Called once at the end of the turn in which it was given to `afterTurn`. */
export interface TurnTask {
  onTurnEnd(): void
}

/** Something that happens at a store time: a session's end, a will. */
export interface Timed {
  onDue(broker: Broker): void
}

/** Sends what a new subscription below `$SYS` is to get. */
export interface SysReplays {
  replay(session: Session, subscription: Subscription): void
}

/** See streams.ts. */
export interface StreamMoves {
  /** More waits for the streams' files than is good. */
  readonly isCrowded: boolean
  /** Moves what is durable now, and waits for it. */
  flush(): Promise<void>
  /** The last time. */
  close(): Promise<void>
}

export interface BrokerOptions {
  limits: Limits
  clock: Clock
  log: Logger
  random: (bytes: number) => Buffer
  /** The principal of a user who is not connected, with the rules as they are now; '' is anonymous. */
  principalOf: (user: string, vhost: string) => Principal | null
}

export class Broker implements Liveness {
  readonly limits: Limits
  readonly clock: Clock
  readonly log: Logger
  readonly random: (bytes: number) => Buffer
  readonly principalOf: (user: string, vhost: string) => Principal | null
  readonly state: State
  /** Replay of the log; a transaction may be open when it ends. */
  readonly replayed: TransactionReplay
  readonly slabs: Slabs
  readonly counters: Counters
  readonly events: BrokerEvents
  /** Set by `attach`, before anything is published. */
  journal: Journal
  /** Who owes acknowledgements that wait for the disk. */
  readonly waiting: Set<Publisher>
  /** Every connection that may be paused and is told of alarms. */
  readonly publishers: Set<Publisher>
  /** Run once, after the next sync or when the journal fails. */
  readonly untilDurable: Set<TurnTask>
  /** Sessions with QoS 2 deliveries that wait for the disk. */
  readonly held: Set<Session>
  /** By the connection that they are exclusive to. */
  readonly exclusiveQueues: Map<object, Set<Queue>>
  /** Queues with more than a few entries in memory: see spill.ts. */
  readonly longQueues: Set<Queue>
  readonly deadlines: DeadlineHeap<Timed>
  readonly willRoom: WillRoom
  /** Each front-end's reader of its own property bytes, by message form. */
  readonly propertyDecoders: PropertiesDecoder[]
  /** Its writer: for messages whose headers the broker changes. */
  readonly propertyEncoders: PropertiesEncoder[]
  /** Hands an answer to an AMQP channel that awaits it under this name. Null: there is no AMQP. */
  answerChannel: ((vhost: Vhost, name: string, message: Message) => boolean) | null
  /** One turn's work in the life of a queue: set at a start, see dead-letter.ts. */
  bury: (life: Life, most: number) => number
  /** After publish: some queue, session or subscription matched. */
  matched: boolean
  /** Who publishes may be made to wait for the next turn. */
  readonly turns: PublishTurns
  /** Why nothing that lasts is taken now: an error code, or 0. */
  refusal: number
  /** Whoever publishes is not read: `isCrowded`, or the alarm of memory. */
  isPaused: boolean
  /** Too much is on its way to the disk. */
  isCrowded: boolean
  diskAlarm: boolean
  memoryAlarm: boolean
  isStopping: boolean
  /** Stopping, and everybody has gone: what is delivered shows in the queues, and no more will be. */
  isAtRest: boolean
  ticker: NodeJS.Timeout | null
  /** The files of streams; null: there are no streams here. */
  streamFiles: StreamFiles | null
  /** What moves messages into them; made with the first stream. */
  streams: StreamMoves | null
  /** What is recorded now takes effect with the transaction's end. */
  isInTransaction: boolean
  /** Says what there is below `$SYS`; null while that is off. */
  sys: SysReplays | null
  /** What carries messages on; null while nothing is configured. */
  bridges: BridgeControl | null
  /** What `view` reads a stored message into: true until it is asked again. */
  readonly stored: Message
  readonly writer: ByteWriter
  /** Ticket of the newest record of a definition, session or user: what is told about them waits for it. */
  definedTicket: number
  #nowMs: number
  #isNowFresh: boolean
  #tasks: TurnTask[]
  #isTurnScheduled: boolean

  constructor(options: BrokerOptions) {
    this.limits = options.limits
    this.clock = options.clock
    this.log = options.log
    this.random = options.random
    this.principalOf = options.principalOf
    this.state = new State(this)
    this.replayed = new TransactionReplay()
    this.slabs = new Slabs()
    this.counters = new Counters()
    this.events = new BrokerEvents()
    this.journal = NO_JOURNAL
    this.waiting = new Set()
    this.publishers = new Set()
    this.untilDurable = new Set()
    this.held = new Set()
    this.exclusiveQueues = new Map()
    this.longQueues = new Set()
    this.deadlines = new DeadlineHeap()
    this.willRoom = new WillRoom()
    this.propertyDecoders = []
    this.propertyEncoders = []
    this.answerChannel = null
    this.bury = () => 0
    this.matched = false
    this.turns = new PublishTurns()
    this.refusal = 0
    this.isPaused = false
    this.isCrowded = false
    this.diskAlarm = false
    this.memoryAlarm = false
    this.isStopping = false
    this.isAtRest = false
    this.ticker = null
    this.streamFiles = null
    this.streams = null
    this.isInTransaction = false
    this.sys = null
    this.bridges = null
    this.stored = new Message()
    this.writer = new ByteWriter()
    this.definedTicket = 0
    this.#nowMs = 0
    this.#isNowFresh = false
    this.#tasks = []
    this.#isTurnScheduled = false
  }

  get vhosts() {
    return this.state.vhosts
  }

  /** Call with the journal before it replays. */
  attach(journal: Journal): void {
    this.journal = journal
  }

  /** Store time in milliseconds, read once a turn. */
  get nowMs(): number {
    if (!this.#isNowFresh) {
      this.#nowMs = this.journal.storeTime()
      this.#isNowFresh = true
      this.#scheduleTurn()
    }
    return this.#nowMs
  }

  /** Runs `task.onTurnEnd` once, at the end of this turn. */
  afterTurn(task: TurnTask): void {
    this.#tasks.push(task)
    this.#scheduleTurn()
  }

  #scheduleTurn(): void {
    if (this.#isTurnScheduled) return
    this.#isTurnScheduled = true
    setImmediate(endTurn, this)
  }

  endTurn(): void {
    this.#isTurnScheduled = false
    this.#isNowFresh = false
    const tasks = this.#tasks
    if (tasks.length === 0) return
    this.#tasks = []
    for (const task of tasks) task.onTurnEnd()
  }

  claim(segment: number, bytes: number): void {
    if (segment >= MEMORY) this.slabs.claim(segment)
    else if (segment !== 0) this.journal.claim(segment, bytes)
  }

  release(segment: number, bytes: number): void {
    if (segment >= MEMORY) this.slabs.release(segment)
    else if (segment !== 0) this.journal.release(segment, bytes)
  }

  /** Tells whoever publishes when reading it stops or goes on, and of which alarm. */
  judgePause(): void {
    this.isPaused = this.isCrowded || this.memoryAlarm || this.streams?.isCrowded === true
    if (this.isPaused) for (const publisher of this.publishers) publisher.onPause()
    else this.resumeAll()
  }

  /** What they held back may be too much again; then who went on stands behind those whose turn did not come. */
  private resumeAll(): void {
    const { journal, publishers } = this
    let count = 0
    for (const publisher of publishers) {
      if (journal.isCrowded) break
      publisher.onResume()
      count++
    }
    if (!journal.isCrowded) return
    for (const publisher of publishers) {
      if (count-- <= 0) break
      publishers.delete(publisher)
      publishers.add(publisher)
    }
  }

  /** The refusal follows from the disk's level, the journal's health and whether we are stopping. */
  judge(): void {
    if (this.journal.failed) this.refusal = ERROR_CODES.journalFailed
    else if (this.isStopping) this.refusal = ERROR_CODES.shuttingDown
    else if (this.diskAlarm) this.refusal = ERROR_CODES.diskAlarm
    else this.refusal = 0
  }
}

function endTurn(broker: Broker): void {
  broker.endTurn()
}

/** Stands for the journal until it is attached; nobody calls it. */
const NO_JOURNAL = { failed: false } as Journal
