/**
 * One MQTT client: its state, and what the broker and the socket ask of it. What its packets mean stands
 * in `handle.ts` and the handlers beside it; they work on the fields of this class.
 *
 * Acknowledgements leave in the order of what they answer [MQTT-4.6.0-2 to -4]: at once while nothing is
 * owed, else behind what waits for the disk.
 */
import type { Socket } from 'node:net'
import type { Logger } from 'pino'
import {
  type SessionConnection,
  DELIVER_QOS,
  DELIVER_REDELIVERED,
  DELIVER_RETAIN
} from '../broker/consumer.ts'
import { ready } from '../broker/deliver.ts'
import { isFrontEndBug } from '../broker/front-end-bug.ts'
import { OwedAcks, type OwedVisitor } from '../broker/owed.ts'
import { disconnect } from '../broker/sessions.ts'
import { settle } from '../broker/settle.ts'
import type { Message } from '../core/message.ts'
import { Principal } from '../core/principal.ts'
import type { Queue } from '../core/queue.ts'
import type { Session } from '../core/session.ts'
import type { Vhost } from '../core/vhost.ts'
import { PeerSocket, type SocketHandler } from '../net/socket.ts'
import { ackBytes, writeAck } from './codec/acks.ts'
import { writeConnack, writeDisconnect } from './codec/packet.ts'
import { PUBACK, PUBCOMP, PUBREC, PUBREL } from './codec/packet-types.ts'
import { ProtocolError } from './codec/protocol-error.ts'
import { countPublishes } from './codec/count-publishes.ts'
import { PublishReader } from './codec/publish.ts'
import { type PacketHandler, Splitter } from './codec/splitter.ts'
import type { AcceptOptions, MqttContext } from './context.ts'
import { HeldPublishes } from './held-publishes.ts'
import { logEnd } from './log-end.ts'
import type { PublishTarget } from './outbound.ts'
import { PAUSED_HELD, PAUSED_PRESSURE, PAUSED_TURN } from './paused.ts'
import { REASON, returnCodeOfReason } from './reason-codes.ts'

/** Handles one packet of a connection; false: take no more until the splitter is resumed. */
export type PacketFunction = (
  connection: MqttConnection,
  first: number,
  buffer: Buffer,
  start: number,
  end: number
) => boolean

/** Something owed that is no plain acknowledgement: a CONNACK, a SUBACK and what follows it. */
export interface OwedTask {
  run(connection: MqttConnection): void
}

/** First bytes of the acknowledgements that we send. */
export const PUBACK_FIRST = PUBACK << 4
export const PUBREC_FIRST = PUBREC << 4
export const PUBREL_FIRST = (PUBREL << 4) | 2
export const PUBCOMP_FIRST = PUBCOMP << 4
/** In the ring of owed acknowledgements: the next of `tasks`. No packet begins with it. */
const TASK = 0
const REASON_SHIFT = 8
/** [MQTT-3.1.2-22]: one and a half times the keepalive. */
const KEEPALIVE_MS_A_SECOND = 1_500
const UNLIMITED = 0x7fffffff
const NOBODY = new Principal('', [], '', [], [], false)

export class MqttConnection
  implements SocketHandler, SessionConnection, PacketHandler, OwedVisitor, PublishTarget
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
  private readonly openedMs: number
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
  /** `liveMs` at which the peer is closed if they still wait. */
  heldUntilMs: number
  /** Session Expiry Interval of its DISCONNECT, seconds; null: unchanged. */
  newExpirySeconds: number | null
  private readonly handle: PacketFunction
  private readonly owed: OwedAcks
  private readonly tasks: OwedTask[]
  private paused: number
  private preLoginBytes: number
  private isStarved: boolean

  constructor(
    context: MqttContext,
    accepted: Socket,
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
    this.openedMs = context.liveMs
    this.outputPacketBytesMax = UNLIMITED
    this.inflightMax = context.broker.limits.inflightMax
    this.requestedExpirySeconds = 0
    this.isPublisher = false
    this.receivedCount = 0
    this.held = new HeldPublishes()
    this.heldUntilMs = 0
    this.newExpirySeconds = null
    this.handle = handle
    this.owed = new OwedAcks()
    this.tasks = []
    this.paused = 0
    this.preLoginBytes = 0
    this.isStarved = false
    this.socket = new PeerSocket(accepted, this, context.sockets)
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

  onClosed(): void {
    this.close('connection lost', 0, 'lost')
    const lost = this.socket.lostUnits(countPublishes)
    this.context.broker.counters.loseMqtt(lost, this.delivered?.isDeleted === true)
    this.options.onClosed()
  }

  hasCredit(): boolean {
    const { session } = this
    if (!this.isOpen || session === null) return false
    if (session.queue.unackedCount < this.inflightMax && !this.socket.isStuck) return true
    this.isStarved = true
    return false
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
    if (isWritten) broker.counters.mqttSent[qos]!++
    else broker.counters.dropFrom(queue.name, 'too_large')
    if (qos === 0 || !isWritten) settle(broker, queue, sequence)
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
    } else {
      broker.counters.drop('too_large')
    }
    return true
  }

  resendRelease(sequence: number): void {
    if (this.session !== null) this.sendAck(PUBREL_FIRST, this.session.packetId(sequence), 0)
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
    if (this.isClosed) return
    if (a === TASK) this.tasks.shift()!.run(this)
    else this.sendAck(a & 255, b, a >> REASON_SHIFT)
  }

  onPause(): void {
    if (this.isPublisher) this.pause(PAUSED_PRESSURE)
  }

  onResume(): void {
    this.resume(PAUSED_PRESSURE)
  }

  onDiskAlarm(raised: boolean): void {
    if (!raised) this.retryHeld()
  }

  /** Its CONNACK leaves: deliveries may follow, and the budget before login is given back. */
  opened(keepaliveSeconds: number): void {
    const { broker, liveMs } = this.context
    this.isOpen = true
    this.seenMs = liveMs
    this.keepaliveMs = keepaliveSeconds * KEEPALIVE_MS_A_SECOND
    this.countPreLogin()
    broker.publishers.add(this)
    broker.counters.mqttConnections++
    broker.counters.mqttConnectionsTotal++
  }

  /** Owes an acknowledgement: it leaves when `ticket` is durable and everything before it has left. */
  owe(ticket: number, first: number, packetId: number, reason: number): void {
    if (this.mayLeave(ticket)) this.sendAck(first, packetId, reason)
    else this.pushOwed(ticket, first | (reason << REASON_SHIFT), packetId)
  }

  /** Like `owe`, for what is more than an acknowledgement. */
  oweTask(ticket: number, task: OwedTask): void {
    if (this.mayLeave(ticket)) {
      task.run(this)
      return
    }
    this.tasks.push(task)
    this.pushOwed(ticket, TASK, 0)
  }

  sendAck(first: number, packetId: number, reason: number): void {
    // Whatever ends the exchange gives the publisher's quota back (MQTT 5 §4.9).
    if (
      first === PUBACK_FIRST ||
      first === PUBCOMP_FIRST ||
      (first === PUBREC_FIRST && reason > 127)
    ) {
      if (this.receivedCount > 0) this.receivedCount--
    }
    const shown = this.version === 5 ? reason : 0
    const at = this.socket.reserve(ackBytes(shown))
    writeAck(this.socket.buffer, at, first, packetId, shown)
  }

  /** Sends a packet that mqtt-packet wrote; one over the client's Maximum Packet Size is not sent. */
  send(packet: Buffer): void {
    if (packet.length <= this.outputPacketBytesMax) this.socket.write(packet, 0, packet.length)
  }

  /** A delivery was settled: its session's queue may go on. */
  wake(session: Session): void {
    if (!this.isStarved && session.queue.readyCount === 0) return
    this.isStarved = false
    ready(this.context.broker, session.queue)
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

  /** The splitter goes on with what it holds. */
  resumeSplitting(): void {
    try {
      this.splitter.resume()
    } catch (error) {
      this.failed(error)
    }
  }

  /** Reads nothing more from the peer, and closes it after `forMs`. */
  holdAll(forMs: number): void {
    this.heldUntilMs = this.context.liveMs + forMs
    this.pause(PAUSED_HELD)
  }

  /** Keeps a PUBLISH that the disk's alarm does not let in; closes the peer when that lasts. */
  hold(first: number, buffer: Buffer, start: number, end: number): void {
    const { limits } = this.context.broker
    if (this.held.count === 0) this.heldUntilMs = this.context.liveMs + limits.alarmHoldMs
    this.held.add(first, buffer, start, end)
    if (this.held.bytes >= limits.alarmHoldBytes) this.pause(PAUSED_HELD)
  }

  /** The alarm has passed: what is held is taken, in order. */
  retryHeld(): void {
    if (this.held.count === 0 || this.context.broker.refusal !== 0) return
    const waiting = this.held.take()
    const untilMs = this.heldUntilMs
    this.heldUntilMs = 0
    this.resume(PAUSED_HELD)
    try {
      for (const { first, body } of waiting) {
        if (this.isClosed) return
        this.handle(this, first, body, 0, body.length)
      }
      if (this.held.count > 0) this.heldUntilMs = untilMs
    } catch (error) {
      this.failed(error)
    }
  }

  /** Once a second: the deadlines of login, keepalive and held packets. */
  checkDeadlines(liveMs: number): void {
    const { loginTimeoutMs } = this.context.broker.limits
    if (this.heldUntilMs > 0) {
      if (liveMs >= this.heldUntilMs) {
        this.close('held too long by the disk alarm or a full queue', 0, 'lost')
        return
      }
      this.retryHeld()
    }
    if (this.isOpen) {
      // Not while it is us who do not read.
      if (this.socket.isUnread) this.seenMs = liveMs
      if (this.keepaliveMs > 0 && this.paused === 0 && liveMs - this.seenMs > this.keepaliveMs) {
        this.close('keepalive timeout', REASON.keepaliveTimeout, 'lost')
      }
    } else if (this.version === 0 && liveMs - this.openedMs >= loginTimeoutMs) {
      this.close('no CONNECT in time', 0, 'lost')
    }
  }

  /** What a packet's handling threw. */
  failed(error: unknown): void {
    if (error instanceof ProtocolError) {
      if (!this.isOpen && error.connackVersion > 0) {
        this.version = error.connackVersion
        this.refuse(error.reason, error.message)
      } else {
        this.close(error.message, error.reason, 'lost')
      }
      return
    }
    if (!isFrontEndBug(error)) throw error
    this.context.bugs++
    this.log.error({ ...this.who, err: error }, 'bug: the connection is closed')
    this.close('internal error', REASON.unspecified, 'lost')
  }

  /** Refuses a CONNECT: `reason` is MQTT 5's, older versions get what is nearest to it. */
  refuse(reason: number, text: string, returnCode = returnCodeOfReason(reason)): void {
    if (this.isClosed) return
    this.send(writeConnack(this.version, false, this.version === 5 ? reason : returnCode))
    this.close(text, 0, 'lost')
  }

  /**
   * Ends the connection, once; the session learns `how`. `reason` > 0 goes into a DISCONNECT for an open
   * version 5 client.
   */
  close(text: string, reason: number, how: 'disconnect' | 'with-will' | 'lost'): void {
    if (this.isClosed) return
    const { broker } = this.context
    const wasOpen = this.isOpen
    if (wasOpen && reason > 0 && this.version === 5) this.send(writeDisconnect(reason))
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

  private mayLeave(ticket: number): boolean {
    return this.owed.count === 0 && ticket <= this.context.broker.journal.durableTicket
  }

  private pushOwed(ticket: number, a: number, b: number): void {
    if (this.owed.count === 0) this.context.broker.waiting.add(this)
    this.owed.push(ticket, a, b)
  }

  private countPreLogin(): void {
    const { context } = this
    const bytes = this.isOpen || this.isClosed ? 0 : this.splitter.bufferedBytes
    context.preLoginBytes += bytes - this.preLoginBytes
    this.preLoginBytes = bytes
    if (bytes > 0 && context.preLoginBytes > context.broker.limits.preLoginTotalBytesMax) {
      this.close('too many bytes before login', 0, 'lost')
    }
  }
}
