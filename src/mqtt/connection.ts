/**
 * One MQTT client: its state, and what the broker and the socket ask of it. What its packets mean stands
 * in `handle.ts` and the handlers beside it; what it answers in `answers.ts`, what it holds in
 * `holding.ts`, its deadlines in `deadlines.ts`, what it is refused in `refusing.ts`: functions that work
 * on the fields of this class, each through an interface that names the parts it needs.
 */
import { PAYLOAD_SENT } from '../broker/counters.ts'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { Logger } from 'pino'
import {
  type Origin,
  type SessionConnection,
  DELIVER_QOS,
  DELIVER_REDELIVERED,
  DELIVER_RETAIN
} from '../broker/consumer.ts'
import { freed } from '../broker/deliver.ts'
import { wakeSession } from '../broker/group-member.ts'
import { givenBackOf } from '../broker/moves.ts'
import { OwedAcks, type OwedVisitor } from '../broker/owed.ts'
import { disconnect } from '../broker/sessions.ts'
import { settle } from '../broker/settle.ts'
import type { Message } from '../core/message.ts'
import { Principal } from '../core/principal.ts'
import type { Queue } from '../core/queue.ts'
import type { Session } from '../core/session.ts'
import type { Vhost } from '../core/vhost.ts'
import { PeerSocket, type SocketHandler } from '../net/socket.ts'
import { type OwedTask, PUBREL_FIRST, sendAck, sendOwed } from './answers.ts'
import type { Authentication } from './authentication.ts'
import { countPublishes } from './codec/count-publishes.ts'
import { PublishReader } from './codec/publish.ts'
import { type PacketHandler, Splitter } from './codec/splitter.ts'
import type { AcceptOptions, MqttContext } from './context.ts'
import type { Timing } from './deadlines.ts'
import { HeldPublishes } from './held-publishes.ts'
import { retryHeld } from './holding.ts'
import { logEnd } from './log-end.ts'
import { ENCODE_3, type PublishTarget } from './outbound.ts'
import type { OutgoingAliases } from './outgoing-aliases.ts'
import { PAUSED_PRESSURE, PAUSED_TURN } from './paused.ts'
import { REASON } from './reason-codes.ts'
import { failed, type Refusable, sayGoodbye } from './refusing.ts'

/** Handles one packet of a connection; false: take no more until the splitter is resumed. */
export type PacketFunction = (
  connection: MqttConnection,
  first: number,
  buffer: Buffer,
  start: number,
  end: number
) => boolean

/** [MQTT-3.1.2-22]: one and a half times the keepalive. */
const KEEPALIVE_MS_A_SECOND = 1_500
const UNLIMITED = 0x7fffffff
const NOBODY = new Principal('', [], '', [], [], false)

export class MqttConnection
  implements
    SocketHandler,
    SessionConnection,
    PacketHandler,
    OwedVisitor,
    PublishTarget,
    Timing,
    Refusable
{
  readonly context: MqttContext
  readonly options: AcceptOptions
  readonly socket: PeerSocket
  readonly splitter: Splitter
  readonly reader: PublishReader
  readonly noAck: boolean
  readonly log: Logger
  /** Protocol level; 0 before CONNECT. */
  version: number
  isBridge: boolean
  principal: Principal
  clientId: string
  vhost: Vhost
  session: Session | null
  /** At the end: the queue of the session that it had. */
  private delivered: Queue | null
  /** CONNACK with success has left. */
  isOpen: boolean
  isClosed: boolean
  keepaliveMs: number
  /** `MqttContext.liveMs` when the peer was last heard of. */
  seenMs: number
  readonly openedMs: number
  wantsProblems: boolean
  encoding: number
  aliases: OutgoingAliases | null
  /** The client's Maximum Packet Size, bytes. */
  outputPacketBytesMax: number
  /** Unacknowledged deliveries that the client may have at once. */
  inflightMax: number
  /** Session Expiry Interval that the CONNECT asked for, seconds; 0 forbids a later one. */
  requestedExpirySeconds: number
  /** It has published: under pressure it is not read, while those that only subscribe are. */
  isPublisher: boolean
  /** Version 5: QoS > 0 PUBLISHes that we have not answered finally. */
  receivedCount: number
  /** PUBLISHes that wait for the disk's alarm or a full queue to pass. */
  readonly held: HeldPublishes
  /** Acknowledgements of nothing in this second. */
  unexpectedAcks: number
  /** `liveMs` at which the peer is closed if they still wait. */
  heldUntilMs: number
  /** What was held is taken: it can not wait in the splitter. */
  private isRetaking: boolean
  /** Session Expiry Interval of its DISCONNECT, seconds; null: unchanged. */
  newExpirySeconds: number | null
  /** The enhanced authentication that its CONNECT asked for; null: none. */
  authentication: Authentication | null
  readonly owed: OwedAcks
  readonly tasks: OwedTask[]
  private readonly handle: PacketFunction
  private paused: number
  private preLoginBytes: number
  private isStarved: boolean

  constructor(
    context: MqttContext,
    accepted: Socket | Duplex,
    options: AcceptOptions,
    vhost: Vhost,
    handle: PacketFunction
  ) {
    this.context = context
    this.options = options
    this.splitter = new Splitter(this, context.broker.limits.preLoginBytesMax)
    this.reader = new PublishReader()
    this.noAck = false
    this.log = context.log
    this.version = 0
    this.isBridge = false
    this.principal = NOBODY
    this.clientId = ''
    this.vhost = vhost
    this.session = null
    this.delivered = null
    this.isOpen = false
    this.isClosed = false
    this.keepaliveMs = 0
    this.seenMs = context.liveMs
    this.openedMs = context.liveMs - (options.waitedMs ?? 0)
    this.wantsProblems = false
    this.encoding = ENCODE_3
    this.aliases = null
    this.outputPacketBytesMax = UNLIMITED
    this.inflightMax = context.broker.limits.inflightMax
    this.requestedExpirySeconds = 0
    this.isPublisher = false
    this.receivedCount = 0
    this.held = new HeldPublishes()
    this.unexpectedAcks = 0
    this.heldUntilMs = 0
    this.isRetaking = false
    this.newExpirySeconds = null
    this.authentication = null
    this.owed = new OwedAcks()
    this.tasks = []
    this.handle = handle
    this.paused = 0
    this.preLoginBytes = 0
    this.isStarved = false
    this.socket = new PeerSocket(accepted, this, context.sockets, options.remote)
  }

  /** For the log; a logger of its own would cost each connection a kilobyte. */
  get who(): { protocol: string; clientId: string; peer: string } {
    return {
      protocol: this.options.protocol,
      clientId: this.clientId,
      peer: this.socket.peer
    }
  }

  onBytes(buffer: Buffer, start: number, end: number): void {
    this.seenMs = this.context.liveMs
    if (this.isPublisher && this.paused === 0 && !this.mayGoOn()) this.splitter.halt()
    try {
      this.splitter.push(buffer, start, end)
    } catch (error) {
      this.failed(error)
    }
    if (!this.isOpen) this.countPreLogin()
  }

  onPacket(first: number, buffer: Buffer, start: number, end: number): boolean {
    if (!this.handle(this, first, buffer, start, end)) return false
    return !this.isPublisher || this.mayGoOn()
  }

  private mayGoOn(): boolean {
    if (this.isClosed || this.context.broker.turns.mayGoOn(this)) return true
    this.pause(PAUSED_TURN)
    return false
  }

  onTurn(): void {
    this.resume(PAUSED_TURN)
    this.resumeSplitting()
  }

  onDrained(): void {
    if (this.session !== null) this.wake(this.session)
  }

  onTooLarge(reason: string): void {
    this.close(reason, REASON.packetTooLarge, 'lost')
  }

  onClosed(): void {
    this.close(this.socket.closeReason || 'connection lost', 0, 'lost')
    const lost = this.socket.lostUnits(countPublishes)
    const { delivered } = this
    const isEnded = delivered?.isDeleted === true
    const keptOn = isEnded && lost[1] > 0 ? givenBackOf(delivered, lost[1]) : 0
    this.context.broker.counters.loseMqtt(lost, isEnded, keptOn)
    this.options.onClosed()
  }

  origin(): Origin {
    return { connection: this.socket.peer, channel: 0, user: this.principal.name }
  }

  hasCredit(): boolean {
    const { session } = this
    if (!this.isOpen || session === null) return false
    if (session.queue.unackedCount < this.inflightMax && !this.socket.isStuck) return true
    this.isStarved = true
    return false
  }

  onStarved(): void {
    this.isStarved = true
  }

  deliver(
    message: Message,
    queue: Queue,
    sequence: number,
    flags: number,
    subscriptionIds: readonly number[] | null
  ): void {
    const { broker, outbound } = this.context
    const qos = flags & DELIVER_QOS
    let bits = (qos << 1) | ((flags & DELIVER_RETAIN) !== 0 ? 1 : 0)
    let packetId = 0
    if (qos > 0) {
      if ((flags & DELIVER_REDELIVERED) !== 0) bits |= 8
      packetId = this.session === null ? 0 : this.session.packetId(sequence)
    }
    const isWritten = outbound.write(this, message, bits, packetId, subscriptionIds)
    // [MQTT-3.1.2-25]: what is too large for the client counts as sent.
    if (isWritten) {
      broker.counters.mqttSent[qos]!++
      broker.counters.mqttPayloadBytes[PAYLOAD_SENT]! += message.payloadEnd - message.payloadStart
    } else broker.counters.dropFrom(queue, 'too_large')
    if (qos === 0 || !isWritten) {
      settle(broker, queue, sequence)
      if (this.session !== null) freed(broker, this.session)
    }
  }

  deliverDirect(
    message: Message,
    retain: boolean,
    subscriptionIds: readonly number[] | null
  ): boolean {
    const { socket } = this
    if (!this.isOpen || socket.isStuck) return false
    const { broker, outbound } = this.context
    if (outbound.write(this, message, retain ? 1 : 0, 0, subscriptionIds)) {
      broker.counters.mqttSent[0]!++
      broker.counters.mqttPayloadBytes[PAYLOAD_SENT]! += message.payloadEnd - message.payloadStart
    } else {
      broker.counters.drop('too_large')
    }
    return true
  }

  resendRelease(sequence: number): void {
    if (this.session !== null) sendAck(this, PUBREL_FIRST, this.session.packetId(sequence), 0)
  }

  onCancelled(_queue: Queue): void {
    this.onSessionEnded()
  }

  onTakenOver(): void {
    this.delivered = this.session?.queue ?? null
    this.session = null
    this.close('taken over by another connection', REASON.sessionTakenOver, 'lost')
  }

  onSessionEnded(): void {
    this.delivered = this.session?.queue ?? null
    this.session = null
    this.close('session ended', REASON.administrativeAction, 'lost')
  }

  onDurable(ticket: number): void {
    this.owed.release(ticket, this)
    if (this.owed.count === 0) this.context.broker.waiting.delete(this)
  }

  onOwed(a: number, b: number): void {
    sendOwed(this, a, b)
  }

  onPause(): void {
    if (this.isPublisher) this.pause(PAUSED_PRESSURE)
  }

  onResume(): void {
    this.resume(PAUSED_PRESSURE)
    retryHeld(this)
    if (this.paused === 0) this.resumeSplitting()
  }

  /** True: the PUBLISH in hand waits, unread, until the pressure is gone. */
  postpones(): boolean {
    this.pause(PAUSED_PRESSURE)
    if (this.isRetaking) return false
    this.splitter.postpone()
    return true
  }

  onDiskAlarm(raised: boolean): void {
    if (!raised) retryHeld(this)
  }

  /** Its CONNACK leaves: deliveries may follow, and the budget before login is given back. */
  opened(keepaliveSeconds: number): void {
    const { broker, liveMs } = this.context
    this.isOpen = true
    this.seenMs = liveMs
    this.keepaliveMs = keepaliveSeconds * KEEPALIVE_MS_A_SECOND
    this.socket.loggedIn()
    this.countPreLogin()
    broker.publishers.add(this)
    broker.counters.mqttConnections++
    broker.counters.mqttConnectionsTotal++
  }

  /** A delivery was settled: its session's queue may go on. */
  wake(session: Session): void {
    if (!this.isStarved && session.queue.readyCount === 0) return
    this.isStarved = false
    wakeSession(this.context.broker, session)
  }

  pause(why: number): void {
    if (this.paused === 0) this.socket.pauseReading()
    this.paused |= why
  }

  resume(why: number): void {
    if ((this.paused & why) === 0) return
    this.paused &= ~why
    if (this.paused !== 0) return
    this.seenMs = this.context.liveMs
    this.socket.resumeReading()
  }

  /** It has not shown yet who it is: see `Timing`. */
  get isStranger(): boolean {
    return this.version === 0 || (!this.isOpen && this.authentication?.exchange != null)
  }

  get isPaused(): boolean {
    return this.paused !== 0
  }

  retake(first: number, buffer: Buffer, start: number, end: number): void {
    this.isRetaking = true
    this.handle(this, first, buffer, start, end)
    this.isRetaking = false
  }

  failed(error: unknown): void {
    failed(this, error)
  }

  /** The splitter goes on with what it holds. */
  resumeSplitting(): void {
    try {
      this.splitter.resume()
    } catch (error) {
      this.failed(error)
    }
  }

  /**
   * Ends the connection, once; the session learns `how`. `reason` > 0 goes into a DISCONNECT for an open
   * version 5 client.
   */
  close(text: string, reason: number, how: 'disconnect' | 'with-will' | 'lost'): void {
    if (this.isClosed) return
    const { broker } = this.context
    const wasOpen = this.isOpen
    if (wasOpen && reason > 0 && this.version === 5) sayGoodbye(this, reason, text)
    this.isClosed = true
    this.isOpen = false
    this.splitter.close()
    this.countPreLogin()
    this.socket.close(text)
    this.held.take()
    this.tasks.length = 0
    this.owed.clear()
    broker.waiting.delete(this)
    broker.publishers.delete(this)
    const { session } = this
    this.session = null
    if (session !== null) this.delivered = session.queue
    if (session !== null && (broker.isStopping || !this.context.isStopping)) {
      disconnect(broker, session, this, how, this.newExpirySeconds)
    }
    logEnd(this.context, this.log, this.who, text, wasOpen)
  }

  private countPreLogin(): void {
    const { context } = this
    const { sockets } = context
    const bytes = this.isOpen || this.isClosed ? 0 : this.splitter.bufferedBytes
    sockets.preLoginBytes += bytes - this.preLoginBytes
    this.preLoginBytes = bytes
    if (bytes > 0 && sockets.preLoginBytes > context.broker.limits.preLoginTotalBytesMax) {
      this.close('too many bytes before login', 0, 'lost')
    }
  }
}
