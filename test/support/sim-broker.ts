/** The whole broker but its sockets in this process, on a simulated disk, with faults planted around its parts. */
import { pino } from 'pino'
import { DEFAULT_AMQP_OPTIONS } from '../../src/amqp/options.ts'
import { AmqpServer } from '../../src/amqp/server.ts'
import { Broker } from '../../src/broker/broker.ts'
import { Owner } from '../../src/broker/owner.ts'
import { startBroker } from '../../src/broker/start.ts'
import { DEFAULT_LIMITS, type Limits } from '../../src/core/limits.ts'
import { Principal } from '../../src/core/principal.ts'
import type { Journal, JournalOwner, Recovery } from '../../src/journal/journal.ts'
import { openJournal } from '../../src/journal/log.ts'
import type { JournalLimits } from '../../src/journal/options.ts'
import type { SimulatedDisk } from './simulated-disk.ts'
import { ManualClock } from '../../src/lib/clock.ts'
import { MqttServer } from '../../src/mqtt/server.ts'
import { Sockets } from '../../src/net/socket.ts'
import type { Socket } from 'node:net'
import { TestTimers } from './sim-disk-store.ts'
import { Wire } from './sim-wire.ts'

const ANYBODY = new Principal('', [], '/', [], [], true)
const FOLDER = '/store'

/** A fault, planted around the broker's parts. */
export interface Plant {
  disk?(disk: SimulatedDisk): void
  journal?(journal: Journal): Journal
  owner?(owner: JournalOwner, broker: Broker): JournalOwner
}

export interface SimBrokerOptions {
  clock?: ManualClock
  plant?: Plant
  limits?: Partial<Limits>
  journalLimits?: Partial<JournalLimits>
  /** Of a checkpoint in one turn, about. */
  pieceBytes?: number
}

/** Small segments, and a checkpoint and compaction as often as can be. */
const JOURNAL_LIMITS: Partial<JournalLimits> = {
  segmentBytes: 256 * 1024,
  cacheBytes: 512 * 1024,
  checkpointBytes: 1,
  deadBytesMax: 0,
  reserveSegments: 2,
  yellowFreeBytes: 1,
  redFreeBytes: 1
}

export interface LogLine {
  readonly level: number
  readonly msg: string
}

export class SimBroker {
  readonly disk: SimulatedDisk
  readonly clock: ManualClock
  readonly timers = new TestTimers()
  readonly broker: Broker
  readonly lines: LogLine[] = []
  /** As it is, without the planted fault. */
  journal!: Journal
  recovery!: Recovery
  mqtt!: MqttServer
  amqp!: AmqpServer
  isOpen = false
  readonly #options: SimBrokerOptions
  readonly #wires = new Set<Wire>()

  constructor(disk: SimulatedDisk, options: SimBrokerOptions = {}) {
    this.disk = disk
    this.#options = options
    this.clock = options.clock ?? new ManualClock(1_000, 1_700_000_000_000)
    options.plant?.disk?.(disk)
    const log = pino({ level: 'warn' }, { write: line => this.lines.push(JSON.parse(line)) })
    this.broker = new Broker({
      limits: { ...DEFAULT_LIMITS, ...options.limits },
      clock: this.clock,
      log,
      random: bytes => Buffer.alloc(bytes, 7),
      principalOf: () => ANYBODY
    })
  }

  /** Replays and starts. Never resolves when the power goes meanwhile. */
  async open(): Promise<this> {
    const { broker, clock, timers } = this
    const { plant, journalLimits } = this.#options
    const owner = new Owner(broker, this.#options.pieceBytes)
    const { journal, recovery } = await openJournal({
      folder: FOLDER,
      disk: this.disk,
      owner: plant?.owner?.(owner, broker) ?? owner,
      clock,
      random: bytes => Buffer.alloc(bytes, 0xa5),
      limits: { ...JOURNAL_LIMITS, ...journalLimits },
      timers,
      attach: opened => {
        broker.attach(plant?.journal?.(opened) ?? opened)
      }
    })
    this.journal = journal
    this.recovery = recovery
    startBroker(broker)
    const { outputBytesMax, drainTimeoutMs } = broker.limits
    const sockets = new Sockets({ outputBytesMax, drainTimeoutMs, closeGraceMs: 1 })
    const authenticator = {
      authenticate: () => Promise.resolve({ ok: true, principal: ANYBODY } as const),
      exchange: () => null
    }
    this.mqtt = new MqttServer({ broker, authenticator, sockets, log: broker.log })
    const options = { ...DEFAULT_AMQP_OPTIONS, platform: 'test' }
    this.amqp = new AmqpServer(broker, authenticator, sockets, options)
    this.isOpen = true
    return this
  }

  dial(protocol: 'mqtt' | 'amqp'): Wire {
    const wire = new Wire()
    this.#wires.add(wire)
    const onClosed = () => {
      this.#wires.delete(wire)
    }
    // The front-end takes any duplex stream; its signature names the usual one.
    const socket = wire as unknown as Socket
    const peer = { vhost: '/', isTrusted: true, onClosed }
    if (protocol === 'mqtt') this.mqtt.accept(socket, { ...peer, protocol })
    else this.amqp.accept(socket, peer)
    return wire
  }

  /** Time passes. */
  pass(ms: number): void {
    this.clock.advance(ms)
    this.timers.advance(ms)
  }

  /** The process is gone: nothing of it runs on. */
  kill(): void {
    this.disk.isOff = true
    if (this.broker.ticker !== null) clearInterval(this.broker.ticker)
    void this.mqtt?.close()
    for (const wire of this.#wires) wire.destroy()
  }

  /** Sums of what was dropped, without the reasons that are nobody's fault. */
  get unexpectedDrops(): string[] {
    const found: string[] = []
    for (const [reason, count] of this.broker.counters.dropped) {
      if (count > 0 && !EXPECTED_DROPS.has(reason)) found.push(`${count} dropped: ${reason}`)
    }
    return found
  }
}

const EXPECTED_DROPS: ReadonlySet<string> = new Set([
  'no_match',
  'offline_qos0',
  'queue_full',
  'purged',
  'queue_deleted',
  'closed',
  // QoS 0 to a client whose CONNACK waits for the disk.
  'slow_consumer'
])
