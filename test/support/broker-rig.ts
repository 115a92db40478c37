/**
 * A broker on a journal on a simulated disk, with clients that are plain objects: no sockets, no codecs,
 * and a clock that moves when the test says so.
 */
import { pino } from 'pino'
import { decodeProperties, encodeProperties } from '../../src/amqp/properties.ts'
import { Broker } from '../../src/broker/broker.ts'
import type { Consumer, Publisher, SessionConnection } from '../../src/broker/consumer.ts'
import { Owner } from '../../src/broker/owner.ts'
import { publish, publishTo } from '../../src/broker/publish.ts'
import { queueClockOf } from '../../src/broker/queue-clock.ts'
import { type ConnectResult, connect, disconnect, resume } from '../../src/broker/sessions.ts'
import { inboundTicket } from '../../src/broker/settle.ts'
import { startBroker, stopBroker } from '../../src/broker/start.ts'
import type { FieldTable } from '../../src/core/field-table.ts'
import { DEFAULT_LIMITS, type Limits } from '../../src/core/limits.ts'
import { FORM_AMQP, FORM_MQTT, Message } from '../../src/core/message.ts'
import { Principal } from '../../src/core/principal.ts'
import { MessageProperties } from '../../src/core/properties.ts'
import type { Queue } from '../../src/core/queue.ts'
import type { Session } from '../../src/core/session.ts'
import type { Vhost } from '../../src/core/vhost.ts'
import { Will } from '../../src/core/will.ts'
import type { Journal, Recovery } from '../../src/journal/journal.ts'
import { openJournal } from '../../src/journal/log.ts'
import { openStreamFiles } from '../../src/journal/stream-files.ts'
import type { JournalLimits } from '../../src/journal/options.ts'
import { SimulatedDisk } from './simulated-disk.ts'
import { ManualClock } from '../../src/lib/clock.ts'

export const FOLDER = '/store'
export const ANYBODY = new Principal('', [], '/', [], [], true)

const JOURNAL_LIMITS: Partial<JournalLimits> = {
  segmentBytes: 256 * 1024,
  reserveSegments: 1,
  yellowFreeBytes: 1,
  redFreeBytes: 1
}

export interface RigOptions {
  seed?: number
  disk?: SimulatedDisk
  clock?: ManualClock
  limits?: Partial<Limits>
  journalLimits?: Partial<JournalLimits>
  principalOf?: (user: string, vhost: string) => Principal | null
  /** Called before the broker is told to start: the state is as replay left it. */
  onReplayed?: (broker: Broker) => void | Promise<void>
  /** Replayed only: nothing is changed by a start. */
  isStarted?: boolean
}

/** Lets everything that is ready run. */
export async function turns(count = 4): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise<void>(resolve => setImmediate(resolve))
}

/** A copy of what stands on a disk; the original goes on. */
export async function copyDisk(
  disk: SimulatedDisk,
  isWithSuperblock = true
): Promise<SimulatedDisk> {
  const copy = new SimulatedDisk({ seed: 1 })
  for (const name of await disk.list(FOLDER)) {
    if (name === 'quarantine' || (!isWithSuperblock && name.includes('superblock'))) continue
    const path = `${FOLDER}/${name}`
    copy.put(path, Buffer.from(disk.bytesOf(path)))
  }
  return copy
}

export class Rig {
  readonly broker: Broker
  readonly journal: Journal
  readonly recovery: Recovery
  readonly disk: SimulatedDisk
  readonly clock: ManualClock
  /** Log lines, parsed. */
  readonly lines: Record<string, unknown>[]
  /** Records that replay could not apply, also those that a checkpoint makes good. */
  readonly refused: string[]
  readonly #options: RigOptions

  constructor(parts: {
    broker: Broker
    journal: Journal
    recovery: Recovery
    disk: SimulatedDisk
    clock: ManualClock
    lines: Record<string, unknown>[]
    refused: string[]
    options: RigOptions
  }) {
    this.broker = parts.broker
    this.journal = parts.journal
    this.recovery = parts.recovery
    this.disk = parts.disk
    this.clock = parts.clock
    this.lines = parts.lines
    this.refused = parts.refused
    this.#options = parts.options
  }

  get vhost(): Vhost {
    return this.broker.state.vhost('/')!
  }

  session(clientId: string): Session {
    return this.vhost.sessions.get(clientId)!
  }

  queue(name: string): Queue {
    return this.vhost.queues.get(name)!
  }

  dropped(reason: Parameters<Broker['counters']['drop']>[0]): number {
    return this.broker.counters.dropped.get(reason)!
  }

  /** Time passes; deadlines are looked at as the broker's own timer would. */
  async pass(ms: number): Promise<void> {
    this.clock.advance(ms)
    await turns(2)
    const { broker } = this
    const now = broker.nowMs
    for (
      let due = broker.deadlines.takeDue(now);
      due !== null;
      due = broker.deadlines.takeDue(now)
    ) {
      due.owner.onDue(broker)
    }
    queueClockOf(broker).run()
    await turns(4)
  }

  /** Everything that was done is durable, and everybody was told. */
  async flush(): Promise<void> {
    await this.journal.flush()
    await turns(2)
  }

  stop(): void {
    stopBroker(this.broker)
  }

  /** Stops in order: clients are dropped, the journal writes its checkpoint. */
  async close(): Promise<void> {
    stopBroker(this.broker)
    await this.broker.streams?.close()
    await this.journal.close()
  }

  /** The power goes; what was durable is there in a new broker. */
  async crash(options: Partial<RigOptions> = {}): Promise<Rig> {
    stopBroker(this.broker)
    const disk = this.disk.crash()
    return openRig({ ...this.#options, clock: this.clock, ...options, disk })
  }

  /** Stops in order and starts again. */
  async restart(options: Partial<RigOptions> = {}): Promise<Rig> {
    await this.close()
    return openRig({ ...this.#options, clock: this.clock, ...options, disk: this.disk })
  }
}

/** Notes what replay could not apply: the kind and the bytes. */
class NotingOwner extends Owner {
  readonly #refused: string[]

  constructor(broker: Broker, refused: string[]) {
    // Small pieces: many turns pass within a checkpoint.
    super(broker, 256)
    this.#refused = refused
  }

  override apply(
    kind: number,
    buffer: Buffer,
    start: number,
    end: number,
    segment: number,
    offset: number,
    ticket: number
  ): boolean {
    const isApplied = super.apply(kind, buffer, start, end, segment, offset, ticket)
    if (!isApplied)
      this.#refused.push(`${kind} ${buffer.toString('latin1', start, end).slice(0, 60)}`)
    return isApplied
  }
}

export async function openRig(options: RigOptions = {}): Promise<Rig> {
  const disk = options.disk ?? new SimulatedDisk({ seed: options.seed ?? 1 })
  const clock = options.clock ?? new ManualClock(1_000_000, 1_700_000_000_000)
  const lines: Record<string, unknown>[] = []
  let random = 0
  const broker = new Broker({
    limits: { ...DEFAULT_LIMITS, ...options.limits },
    clock,
    log: pino({ level: 'info' }, { write: line => lines.push(JSON.parse(line)) }),
    random: bytes => Buffer.alloc(bytes, ++random),
    principalOf: options.principalOf ?? (() => ANYBODY)
  })
  broker.propertyDecoders[FORM_AMQP] = decodeProperties
  broker.propertyEncoders[FORM_AMQP] = encodeProperties
  const refused: string[] = []
  const owner = new NotingOwner(broker, refused)
  const { journal, recovery } = await openJournal({
    folder: FOLDER,
    disk,
    owner,
    clock,
    random: bytes => Buffer.alloc(bytes, 0xa5),
    limits: { ...JOURNAL_LIMITS, ...options.journalLimits },
    attach: opened => broker.attach(opened)
  })
  broker.streamFiles = await openStreamFiles(FOLDER, disk, () => undefined, journal)
  await options.onReplayed?.(broker)
  if (options.isStarted !== false) startBroker(broker)
  return new Rig({ broker, journal, recovery, disk, clock, lines, refused, options })
}

export interface Delivery {
  topic: string
  payload: string
  qos: number
  retain: boolean
  isRedelivered: boolean
  /** -1: from no queue. */
  sequence: number
  ids: readonly number[] | null
}

function deliveryOf(
  message: Message,
  sequence: number,
  flags: number,
  ids: readonly number[] | null
): Delivery {
  return {
    topic: message.keyText(),
    payload: message.source.toString('utf8', message.payloadStart, message.payloadEnd),
    qos: flags & 3,
    retain: (flags & 4) !== 0,
    isRedelivered: (flags & 8) !== 0,
    sequence,
    ids: ids === null ? null : [...ids]
  }
}

/** An MQTT connection. */
export class Client implements SessionConnection {
  readonly rig: Rig
  readonly clientId: string
  readonly vhost: Vhost
  readonly noAck = false
  principal: Principal
  session: Session | null = null
  inflightMax = 1_000
  /** False: its output buffer is full. */
  takes = true
  result!: ConnectResult
  readonly got: Delivery[] = []
  /** Sequences whose PUBREL was sent again. */
  readonly resent: number[] = []
  readonly durable: number[] = []
  readonly events: string[] = []

  constructor(rig: Rig, clientId: string, principal = ANYBODY, vhost = rig.vhost) {
    this.rig = rig
    this.clientId = clientId
    this.vhost = vhost
    this.principal = principal
    rig.broker.waiting.add(this)
  }

  open(
    options: {
      clean?: boolean
      expiry?: number
      version?: number
      will?: Partial<Will> | null
    } = {}
  ): this {
    const { clean = false, expiry = 0, version = 5, will = null } = options
    this.result = connect(this.rig.broker, {
      vhost: this.vhost,
      clientId: this.clientId,
      principal: this.principal,
      version,
      cleanStart: clean,
      expirySeconds: expiry,
      will: will === null ? null : willOf(will),
      connection: this
    })
    this.session = this.result.session
    if (this.session !== null) resume(this.rig.broker, this.session)
    return this
  }

  close(
    how: 'disconnect' | 'with-will' | 'lost' = 'disconnect',
    expiry: number | null = null
  ): void {
    const { session } = this
    this.session = null
    this.rig.broker.waiting.delete(this)
    if (session !== null) disconnect(this.rig.broker, session, this, how, expiry)
  }

  /** Returns what `publish` does; a repeat of a QoS 2 PUBLISH answers the first one's ticket. */
  publish(
    topic: string,
    payload: string,
    options: { qos?: number; retain?: boolean; packetId?: number; expiresAt?: number } = {}
  ): number {
    const { qos = 0, retain = false, packetId = qos === 2 ? 1 : 0, expiresAt = 0 } = options
    if (qos === 2 && this.session !== null) {
      const first = inboundTicket(this.session, packetId)
      if (first >= 0) return first
    }
    const message = messageOf(topic, payload)
    message.qos = qos
    message.retain = retain
    message.packetId = packetId
    message.expiresAt = expiresAt
    return publish(this.rig.broker, message, this)
  }

  get payloads(): string[] {
    return this.got.map(delivery => delivery.payload)
  }

  hasCredit(): boolean {
    const { session } = this
    return this.takes && session !== null && session.queue.unackedCount < this.inflightMax
  }

  deliver(
    message: Message,
    _queue: Queue,
    sequence: number,
    flags: number,
    ids: readonly number[] | null
  ): void {
    this.got.push(deliveryOf(message, sequence, flags, ids))
  }

  deliverDirect(message: Message, retain: boolean, ids: readonly number[] | null): boolean {
    if (!this.takes) return false
    this.got.push(deliveryOf(message, -1, retain ? 4 : 0, ids))
    return true
  }

  resendRelease(sequence: number): void {
    this.resent.push(sequence)
  }

  onStarved(): void {
    // Tests call `wakeSession` themselves.
  }

  onTakenOver(): void {
    this.events.push('taken over')
    this.session = null
  }

  onSessionEnded(): void {
    this.events.push('session ended')
    this.session = null
  }

  onCancelled(): void {
    this.events.push('cancelled')
  }

  onDurable(ticket: number): void {
    this.durable.push(ticket)
  }

  onPause(): void {
    this.events.push('pause')
  }

  onResume(): void {
    this.events.push('resume')
  }

  onDiskAlarm(raised: boolean): void {
    this.events.push(raised ? 'alarm' : 'no alarm')
  }
}

export function messageOf(topic: string, payload: string | Buffer): Message {
  const key = Buffer.from(topic)
  const message = new Message()
  message.renew()
  message.compose(Buffer.concat([key, Buffer.from(payload)]), topic, key.length, key.length)
  message.form = FORM_MQTT
  return message
}

export function willOf(fields: Partial<Will>): Will {
  return new Will({
    topic: 'will',
    payload: Buffer.from('lost'),
    properties: Buffer.alloc(0),
    qos: 1,
    retain: false,
    expirySeconds: -1,
    delaySeconds: 0,
    ...fields
  })
}

function withHeaders(key: string, payload: string, headers: FieldTable): Message {
  const properties = new MessageProperties()
  properties.headers = headers.map(([name, value]) => [name, value])
  const encoded = encodeProperties(properties)
  const message = messageOf(key, '')
  message.source = Buffer.concat([Buffer.from(key), encoded, Buffer.from(payload)])
  message.propertiesEnd = message.propertiesStart + encoded.length
  message.payloadStart = message.propertiesEnd
  message.payloadEnd = message.source.length
  return message
}

/** An AMQP publisher. */
export class Backend implements Publisher {
  readonly rig: Rig
  readonly principal = ANYBODY
  readonly clientId = ''
  readonly vhost: Vhost
  readonly session = null
  /** What it publishes is retained. */
  retain = false

  constructor(rig: Rig, vhost = rig.vhost) {
    this.rig = rig
    this.vhost = vhost
  }

  publish(
    exchange: string,
    key: string,
    payload: string,
    isConfirmed = true,
    headers: FieldTable | null = null,
    priority = 0,
    expiresAt = 0
  ): number {
    const message = headers === null ? messageOf(key, payload) : withHeaders(key, payload, headers)
    message.form = FORM_AMQP
    message.retain = this.retain
    message.priority = priority
    if (expiresAt > 0) message.expiresAt = expiresAt
    message.qos = 1
    message.isAwaited = isConfirmed
    return publishTo(this.rig.broker, this.vhost.exchanges.get(exchange)!, message, this, headers)
  }

  onDurable(): void {}
  onPause(): void {}
  onResume(): void {}
  onDiskAlarm(): void {}
}

/** An AMQP consumer. */
export class Worker implements Consumer {
  readonly noAck: boolean
  credit: number
  readonly got: Delivery[] = []
  isCancelled = false

  constructor(credit = 1_000_000, noAck = false) {
    this.credit = credit
    this.noAck = noAck
  }

  get payloads(): string[] {
    return this.got.map(delivery => delivery.payload)
  }

  hasCredit(): boolean {
    return this.credit > 0
  }

  deliver(message: Message, _queue: Queue, sequence: number, flags: number): void {
    this.credit--
    this.got.push(deliveryOf(message, sequence, flags, null))
  }

  onCancelled(): void {
    this.isCancelled = true
  }
}
