/**
 * One AMQP connection: from the protocol header to the last frame (AMQP 0-9-1 §2.2, §4.2). It takes the frames
 * apart, gives methods to their handlers, turns what they throw into channel.close or connection.close,
 * and stops reading where a publisher has to wait.
 */
import type { Logger } from 'pino'
import type { Broker } from '../broker/broker.ts'
import { connectionClosed } from '../broker/queues.ts'
import { isFrontEndBug } from '../broker/front-end-bug.ts'
import { BrokerError } from '../core/errors.ts'
import type { Exchange } from '../core/exchange.ts'
import { Message } from '../core/message.ts'
import type { Principal } from '../core/principal.ts'
import type { PropertiesDecoder } from '../core/properties.ts'
import type { Session } from '../core/session.ts'
import type { Vhost } from '../core/vhost.ts'
import type { PeerSocket, SocketHandler } from '../net/socket.ts'
import { AmqpChannel, cancelConsumers } from './channel.ts'
import type { ChannelConnection, ClientCapabilities } from './channel.ts'
import { syntaxError } from './codec/field-table.ts'
import { type FrameHandler, FrameSplitter, HOLD } from './codec/frame-splitter.ts'
import {
  BASIC,
  CHANNEL,
  CONNECTION,
  encodeMethod,
  FRAME_BODY,
  FRAME_EXTRA_BYTES,
  FRAME_HEADER,
  FRAME_HEARTBEAT,
  FRAME_METHOD
} from './codec/methods.ts'
import { PROTOCOL_HEADER, ProtocolHeader } from './codec/protocol-header.ts'
import {
  AUTHENTICATING,
  AWAIT_HEADER,
  AWAIT_START_OK,
  CLOSED,
  CLOSING,
  REFUSED,
  RUNNING
} from './connection-states.ts'
import type { AmqpContext, PeerInfo } from './context.ts'
import { closeOverdue } from './consumer-timeout.ts'
import { explain } from './explain.ts'
import { Heartbeat } from './heartbeat.ts'
import type { ChannelConsumer } from './holders.ts'
import { PublishGate } from './publish-gate.ts'
import { register, unregister } from './registration.ts'
import { AmqpError, expectedMethod, REPLY, unexpectedFrame } from './reply-codes.ts'
import type { Login } from './sasl.ts'
import { WakeList } from './wake-list.ts'

/** What a failed login costs a client that is told nothing (RabbitMQ's `SILENT_CLOSE_DELAY`). */
const SILENT_CLOSE_MS = 3_000
/** How long a peer may take to answer connection.close, or to end its socket after close-ok. */
const CLOSE_OK_MS = 30_000
/** Some peers count a frame's head and end as none of frame-max (amqp-semantics.md §2.2). */
const FRAME_TOLERANCE_BYTES = 8

export class AmqpConnection implements SocketHandler, FrameHandler, ChannelConnection {
  readonly context: AmqpContext<AmqpConnection>
  readonly peer: PeerInfo
  /** Kept until connection.open, which may name another vhost. */
  login: Login | null
  readonly broker: Broker
  readonly decoders: readonly PropertiesDecoder[]
  log: Logger
  state: number
  principal: Principal
  vhost: Vhost
  readonly client: ClientCapabilities
  readonly clientId: string
  readonly session: Session | null
  /** Largest payload of a frame that the peer takes, and that we take. */
  payloadBytesOut: number
  payloadBytesMax: number
  channelMax: number
  readonly heartbeat: Heartbeat
  readonly channels: Map<number, AmqpChannel>
  /** Channels with confirms that wait for nothing. */
  readonly dirtyChannels: AmqpChannel[]
  /** The one message that is being published. */
  readonly message: Message
  lastExchangeName: string
  lastKey: string
  /** Permission to publish to it was asked. */
  lastExchange: Exchange | null
  /** It declared some: they end with it. */
  hasExclusiveQueues: boolean
  private peerSocket: PeerSocket | null
  private readonly splitter: FrameSplitter
  private readonly header: ProtocolHeader
  private lastChannel: AmqpChannel | null
  private readonly waking: WakeList
  private readonly gate: PublishGate
  stateMs: number
  /** Runs while the client can be heard: what it says is not held. */
  private heardMs: number
  private isTornDown: boolean
  /** Gathered before the login, counted in the context. */
  private preLoginBytes: number

  constructor(context: AmqpContext<AmqpConnection>, peer: PeerInfo) {
    this.context = context
    this.peer = peer
    this.login = null
    this.broker = context.broker
    this.decoders = context.broker.propertyDecoders
    this.log = context.broker.log
    this.state = AWAIT_HEADER
    this.principal = context.nobody
    this.vhost = context.nowhere
    this.clientId = ''
    this.session = null
    this.client = {
      name: '',
      authenticationFailureClose: false,
      consumerCancelNotify: false,
      connectionBlocked: false
    }
    this.payloadBytesMax = context.broker.limits.preLoginBytesMax
    this.payloadBytesOut = this.payloadBytesMax
    this.channelMax = 0
    this.heartbeat = new Heartbeat()
    this.channels = new Map()
    this.dirtyChannels = []
    this.message = new Message()
    this.lastExchangeName = ''
    this.lastKey = ''
    this.lastExchange = null
    this.hasExclusiveQueues = false
    this.peerSocket = null
    this.splitter = new FrameSplitter(this.payloadBytesMax)
    this.header = new ProtocolHeader()
    this.lastChannel = null
    this.waking = new WakeList()
    this.gate = new PublishGate(this)
    this.stateMs = peer.waitedMs
    this.heardMs = 0
    this.isTornDown = false
    this.preLoginBytes = 0
  }

  /** The socket is made with its handler, so it comes right after the constructor. */
  attach(socket: PeerSocket): void {
    this.peerSocket = socket
  }

  get socket(): PeerSocket {
    return this.peerSocket as PeerSocket
  }

  get nowMs(): number {
    return this.broker.nowMs
  }

  get isRunning(): boolean {
    return this.state === RUNNING
  }

  /** A frame is held: nothing is read from the peer. */
  get isHeld(): boolean {
    return this.splitter.isHeld
  }

  // Input

  onBytes(buffer: Buffer, start: number, end: number): void {
    if (this.state === AWAIT_HEADER) {
      start = this.readHeader(buffer, start, end)
      if (start === end) return
    }
    if (this.state === CLOSED) return
    try {
      this.splitter.feed(buffer, start, end, this)
    } catch (error) {
      this.onBrokenFrames(error)
    }
    if (this.state < RUNNING) this.countUnknown()
    this.afterFrames()
  }

  /** What strangers make us keep is bounded for all of them together. */
  private countUnknown(): void {
    const { context } = this
    context.preLoginBytes += this.splitter.pendingBytes - this.preLoginBytes
    this.preLoginBytes = this.splitter.pendingBytes
    if (context.preLoginBytes > this.broker.limits.preLoginTotalBytesMax)
      this.end('too many strangers')
  }

  private forgetUnknown(): void {
    this.context.preLoginBytes -= this.preLoginBytes
    this.preLoginBytes = 0
  }

  /** Goes on with what was held, if it may. */
  resume(): void {
    const isMute = this.state === AUTHENTICATING || this.state === REFUSED
    if (!this.splitter.isHeld || isMute || this.state === CLOSED) return
    try {
      this.splitter.resume(this)
    } catch (error) {
      this.onBrokenFrames(error)
    }
    this.afterFrames()
    if (!this.splitter.isHeld) this.socket.resumeReading()
  }

  /** Returns how far it read. */
  private readHeader(buffer: Buffer, start: number, end: number): number {
    start = this.header.read(buffer, start, end)
    if (this.header.isComplete) {
      this.state = AWAIT_START_OK
      const { startFrame, startFrameVerified } = this.context
      this.writeFrame(this.peer.identity === null ? startFrame : startFrameVerified)
    } else if (this.header.isForeign) {
      this.writeFrame(PROTOCOL_HEADER)
      this.end('not AMQP 0-9-1')
      return end
    }
    return start
  }

  onFrame(
    type: number,
    channel: number,
    buffer: Buffer,
    start: number,
    end: number,
    limit: number
  ): number {
    let classId = 0
    let methodId = 0
    try {
      if (type === FRAME_METHOD) {
        if (end - start < 4) throw syntaxError('method cut short')
        classId = (buffer[start]! << 8) | buffer[start + 1]!
        methodId = (buffer[start + 2]! << 8) | buffer[start + 3]!
      }
      if (this.state !== RUNNING || channel === 0) {
        return this.onControlFrame(type, channel, buffer, start, end)
      }
      return this.onChannelFrame(type, channel, buffer, start, end, limit)
    } catch (error) {
      const failed = this.channels.get(channel) ?? null
      // What was wrong is a content: its method is named.
      if (failed?.assembler.isOpen) ({ classId, methodId } = BASIC.publish)
      this.fail(error, failed, classId, methodId)
      return end + 1
    }
  }

  /** A frame on channel 0, or outside of an open connection. */
  private onControlFrame(
    type: number,
    channel: number,
    buffer: Buffer,
    start: number,
    end: number
  ): number {
    if (this.state === AUTHENTICATING || this.state === REFUSED) return HOLD
    if (this.state === CLOSED) return end + 1
    if (type === FRAME_HEARTBEAT && channel === 0 && start === end) return end + 1
    if (this.state >= CLOSING && (type !== FRAME_METHOD || channel !== 0)) return end + 1
    if (type !== FRAME_METHOD) throw unexpectedFrame(type, end - start, 'on channel 0')
    if (channel !== 0) {
      throw new AmqpError(REPLY.commandInvalid, 'a channel before the connection is open')
    }
    this.context.handlers.onConnectionMethod(this, buffer, start, end)
    return end + 1
  }

  private onChannelFrame(
    type: number,
    channelId: number,
    buffer: Buffer,
    start: number,
    end: number,
    limit: number
  ): number {
    let channel = this.lastChannel
    if (channel === null || channel.id !== channelId) {
      channel = this.channels.get(channelId) ?? null
      this.lastChannel = channel
    }
    if (type === FRAME_METHOD)
      return this.context.handlers.onMethod(this, channel, channelId, buffer, start, end, limit)
    if (type !== FRAME_HEADER && type !== FRAME_BODY) {
      throw unexpectedFrame(type, end - start, 'on a channel')
    }
    if (channel === null) throw expectedMethod()
    if (channel.isClosing || channel.isClosed) return end + 1
    const isComplete =
      type === FRAME_HEADER
        ? channel.assembler.onHeader(buffer, start, end, this.broker.limits.amqpMessageBytesMax)
        : channel.assembler.onBody(buffer, start, end)
    if (isComplete) this.context.handlers.onContent(channel)
    return end + 1
  }

  /** What became possible while frames were read, once for all of them. */
  private afterFrames(): void {
    if (this.state === CLOSED) return
    const dirty = this.dirtyChannels
    if (dirty.length > 0) {
      for (let i = 0; i < dirty.length; i++) dirty[i]!.releaseConfirms()
      dirty.length = 0
    }
    this.waking.run()
    if (this.splitter.isHeld) this.socket.pauseReading()
  }

  /** A consumer may have credit again. */
  wake(consumer: ChannelConsumer): void {
    this.waking.push(consumer)
  }

  /** Whether a publish may be taken now; if not, its frame is held and nothing more is read. */
  mayPublish(): boolean {
    const { broker } = this
    if (!broker.isPaused && !broker.diskAlarm && broker.turns.mayGoOn(this)) return true
    this.gate.hold()
    return false
  }

  /** The next publish finds out by itself; who does not publish is read on. */
  onPause(): void {
    this.gate.onChange()
  }

  onTurn(): void {
    this.gate.onChange()
  }

  onDiskAlarm(): void {
    this.gate.onChange()
  }

  onResume(): void {
    this.gate.onChange()
  }

  onDurable(): void {
    // Channels owe their own acknowledgements; the connection owes none.
  }

  // Output

  writeFrame(frame: Buffer): void {
    this.socket.write(frame, 0, frame.length)
  }

  onDrained(): void {
    for (const channel of this.channels.values()) channel.wakeAll()
    this.afterFrames()
  }

  // Channels

  /** Limits that both sides agreed on. */
  setFrameMax(frameMax: number): void {
    this.payloadBytesOut = frameMax - FRAME_EXTRA_BYTES
    this.payloadBytesMax = this.payloadBytesOut + FRAME_TOLERANCE_BYTES
    this.splitter.payloadBytesMax = this.payloadBytesMax
  }

  openChannel(id: number): void {
    if (this.channels.size >= this.channelMax) {
      const explanation = `number of channels opened (${this.channels.size}) has reached the negotiated channel_max (${this.channelMax})`
      throw new AmqpError(REPLY.notAllowed, explanation)
    }
    const channel = new AmqpChannel(this, id)
    this.channels.set(id, channel)
    this.lastChannel = channel
    channel.reply(0, encodeMethod(CHANNEL.openOk, id, { reserved: Buffer.alloc(0) }))
  }

  /** Its number may be used again. */
  removeChannel(channel: AmqpChannel): void {
    channel.drop()
    if (this.channels.get(channel.id) === channel) this.channels.delete(channel.id)
    if (this.lastChannel === channel) this.lastChannel = null
  }

  // Errors and the end

  /** Answers what a handler threw while it worked on a method. */
  fail(error: unknown, channel: AmqpChannel | null, classId: number, methodId: number): void {
    let answer: AmqpError
    if (error instanceof AmqpError) answer = error
    else if (error instanceof BrokerError) answer = explain(error, this.vhost.name)
    else {
      if (!isFrontEndBug(error)) throw error
      this.log.error({ err: error, classId, methodId }, 'bug: amqp connection closed')
      answer = new AmqpError(REPLY.internalError, 'internal error')
    }
    if (answer.closesConnection || channel === null) {
      this.closeWith(answer, classId, methodId)
      return
    }
    this.log.info({ channel: channel.id, reply: answer.message }, 'amqp channel closed')
    channel.isClosing = true
    channel.close()
    const { replyCode, message: replyText } = answer
    channel.reply(
      0,
      encodeMethod(CHANNEL.close, channel.id, { replyCode, replyText, classId, methodId })
    )
  }

  /** Sends connection.close and waits for close-ok. */
  closeWith(error: AmqpError, classId: number, methodId: number): void {
    if (this.state >= CLOSING) return
    this.log.info({ reply: error.message }, 'amqp connection closed by us')
    this.tearDown()
    const { replyCode, message: replyText } = error
    this.writeFrame(encodeMethod(CONNECTION.close, 0, { replyCode, replyText, classId, methodId }))
    this.state = CLOSING
    this.stateMs = 0
  }

  /** No frame can be found any more: the answer leaves, nothing is waited for. */
  private onBrokenFrames(error: unknown): void {
    this.splitter.discard()
    this.fail(error, null, 0, 0)
    this.end('broken frames')
  }

  /** Gives everything back: exclusive queues are gone when this returns. Idempotent. */
  tearDown(): void {
    if (this.isTornDown) return
    this.isTornDown = true
    this.forgetUnknown()
    unregister(this)
    cancelConsumers(this.broker, this.channels.values())
    for (const channel of this.channels.values()) channel.drop()
    this.channels.clear()
    this.lastChannel = null
    if (this.hasExclusiveQueues) connectionClosed(this.broker, this)
  }

  /** Ends the connection after what was written has left. */
  end(reason: string): void {
    this.tearDown()
    this.state = CLOSED
    this.splitter.discard()
    this.socket.close(reason)
  }

  onClosed(): void {
    this.tearDown()
    this.broker.counters.loseAmqp(this.socket.lostUnits(null))
    this.state = CLOSED
    this.splitter.discard()
    this.context.onConnectionClosed(this)
  }

  /** Called by the server's timer. `elapsedMs` since the last call, `tickMs` until the next. */
  onTick(elapsedMs: number, tickMs: number): void {
    this.stateMs += elapsedMs
    if (this.state < RUNNING && this.stateMs >= this.broker.limits.loginTimeoutMs) {
      if (this.header.count > 0) this.log.info('amqp handshake timed out')
      this.end('handshake timeout')
      return
    }
    if (this.state === REFUSED && this.stateMs >= SILENT_CLOSE_MS) this.end('login refused')
    if (this.state >= CLOSING && this.stateMs >= CLOSE_OK_MS) this.end('no end from the client')
    if (this.state !== RUNNING) return
    const isHeard = !this.isHeld && !this.socket.isUnread
    if (isHeard) {
      this.heardMs += elapsedMs
      if (closeOverdue(this, this.heardMs)) this.afterFrames()
    }
    if (this.heartbeat.check(this.socket, elapsedMs, tickMs, isHeard)) return
    this.log.info({ heartbeatSeconds: this.heartbeat.seconds }, 'amqp client missed heartbeats')
    this.end('missed heartbeats')
  }

  /** The login failed, and the client would not understand why: the end comes late, so that guessing is slow. */
  refuse(): void {
    this.forgetUnknown()
    this.state = REFUSED
    this.stateMs = 0
  }

  /** The handshake is over. */
  run(): void {
    this.state = RUNNING
    this.forgetUnknown()
    register(this)
  }
}
