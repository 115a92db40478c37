/**
 * An MQTT 3.1, 3.1.1 and 5 client over the broker's own codecs and sockets, for the command line and the
 * bridges. Deliveries are read in place, writes gather for a turn. A PUBLISH at QoS 1 or 2 is settled when
 * its PUBACK or PUBCOMP came, and is kept until then: over a reconnection it is sent again with DUP if the
 * server has the session, as a new message if it has not.
 */
import type { Duplex } from 'node:stream'
import { BytesError } from '../lib/bytes-reader.ts'
import { ack, ackBytes, readAck, writeAck } from '../mqtt/codec/acks.ts'
import {
  AUTH,
  CONNACK,
  DISCONNECT,
  PINGREQ,
  PINGRESP,
  PUBACK,
  PUBCOMP,
  PUBLISH,
  PUBREC,
  PUBREL
} from '../mqtt/codec/packet-types.ts'
import { ProtocolError } from '../mqtt/codec/protocol-error.ts'
import { type PacketHandler, Splitter, serverFirstBytes } from '../mqtt/codec/splitter.ts'
import { PeerSocket, type SocketHandler } from '../net/socket.ts'
import {
  type ClientEndKind,
  type ClientHandler,
  type ClientOptions,
  NO_ROOM,
  type PublishAnswer,
  QOS_NOT_SUPPORTED,
  RETAIN_NOT_SUPPORTED,
  TAKEN,
  TOO_LARGE
} from './client-options.ts'
import { Incoming } from './incoming.ts'
import { InFlight, Unacked } from './in-flight.ts'
import { Keepalive, type KeepaliveOwner } from './keepalive.ts'
import {
  type Answer,
  readAnswer,
  readConnack,
  readDismissal,
  type Subscription,
  writeConnect,
  writeDisconnect,
  writeSubscribe,
  writeUnsubscribe
} from './packets.ts'
import { ID, numberOf, type Property, textOf } from './properties.ts'
import { publishBytes, writePublish } from './publish-packet.ts'
import { type ServerLimits, serverLimits } from './server-limits.ts'
import { openStream } from './transport.ts'

const PUBREL_FIRST = (PUBREL << 4) | 2
const DUP = 0x08
const SHARED_BYTES_MIN = 16 * 1024
const PING = Buffer.from([PINGREQ << 4, 0])
const EMPTY = Buffer.alloc(0)
const USER_PROPERTIES_MAX = 65_535
const PACKET_ID_NOT_FOUND = 0x92

type State = 'idle' | 'opening' | 'greeting' | 'open' | 'waiting' | 'ended'

/** Null: the connection ended before the answer. */
type Answered = (answer: Answer | null) => void

export class MqttClient implements PacketHandler, KeepaliveOwner {
  readonly options: ClientOptions
  /** The server's own, when it chose one. */
  clientId: string
  private readonly handler: ClientHandler
  private state: State
  private socket: PeerSocket | null
  private splitter: Splitter
  private readonly inFlight: InFlight
  private readonly incoming: Incoming
  private readonly asked: Map<number, Answered>
  private limits: ServerLimits
  private wantsRoom: boolean
  private isPaused: boolean
  private wasOpen: boolean
  private failures: number
  private timer: NodeJS.Timeout | null
  private aborter: AbortController | null
  private readonly keepalive: Keepalive

  constructor(options: ClientOptions, handler: ClientHandler) {
    this.options = options
    this.handler = handler
    this.clientId = options.clientId
    this.state = 'idle'
    this.socket = null
    this.splitter = this.newSplitter()
    this.inFlight = new InFlight()
    this.incoming = new Incoming(options.version, options.properties)
    this.asked = new Map()
    this.limits = serverLimits(options, [])
    this.wantsRoom = false
    this.isPaused = false
    this.wasOpen = false
    this.failures = 0
    this.timer = null
    this.aborter = null
    this.keepalive = new Keepalive(this)
  }

  /** Where in the property bytes of the message at hand its expiry stood; -1: it has none. */
  get expiryOffset(): number {
    return this.incoming.expiryOffset
  }

  /** Of the message at hand; 0: none. */
  get topicAlias(): number {
    return this.incoming.topicAlias
  }

  /** Messages that came. */
  get messagesIn(): number {
    return this.incoming.count
  }

  get isOpen(): boolean {
    return this.state === 'open'
  }

  /** PUBLISHes that are not settled. */
  get unsettledCount(): number {
    return this.inFlight.count
  }

  /** Bytes that wait for the server to read. */
  get pendingBytes(): number {
    return this.socket?.pendingBytes ?? 0
  }

  /** Begins; what comes of it the handler is told. */
  connect(): void {
    if (this.state !== 'idle' && this.state !== 'waiting') return
    this.state = 'opening'
    const { target, transport, version, connectTimeoutMs } = this.options
    const aborter = new AbortController()
    this.aborter = aborter
    this.timer = setTimeout(() => {
      this.finish('timeout', 0, 'no answer in time', 'ETIMEDOUT')
    }, connectTimeoutMs)
    openStream(target, transport, version, aborter.signal).then(
      stream => this.greet(stream, aborter),
      (error: NodeJS.ErrnoException) => {
        // What was aborted is over already.
        if (this.aborter === aborter) {
          this.finish('unreachable', 0, error.message, error.code ?? 'EPROTO')
        }
      }
    )
  }

  /** Sends a DISCONNECT behind all that was written, and ends. */
  disconnect(reason = 0, properties: readonly Property[] = []): void {
    if (this.state === 'open') this.send(writeDisconnect(this.options.version, reason, properties))
    this.finish('done', reason, 'disconnected', '')
  }

  /** Ends without a goodbye: the server publishes the will. */
  abort(): void {
    this.socket?.destroy()
    this.finish('done', 0, 'aborted', '')
  }

  /**
   * Publishes. `topic` is UTF-8, `properties` are encoded without their length, `token` comes back in
   * `onSettled` for QoS 1 and 2. The bytes are copied, but for a large payload at QoS 0, which is not to be changed.
   */
  publish(
    topic: Buffer,
    payload: Buffer,
    qos: number,
    retain: boolean,
    properties: Buffer,
    token: number
  ): PublishAnswer {
    const { socket } = this
    if (this.state !== 'open' || socket === null) return this.noRoom()
    if (qos > this.limits.qosMax) return QOS_NOT_SUPPORTED
    if (retain && !this.limits.takesRetained) return RETAIN_NOT_SUPPORTED
    const { version } = this.options
    const bytes = publishBytes(topic, payload, qos, properties, version)
    if (bytes > this.limits.packetBytesMax) return TOO_LARGE
    if (socket.isStuck || (qos > 0 && this.inFlight.count >= this.limits.window))
      return this.noRoom()
    if (qos === 0) {
      const isShared = payload.length >= SHARED_BYTES_MIN
      const at = socket.reserve(isShared ? bytes - payload.length : bytes)
      const shown = isShared ? EMPTY : payload
      writePublish(
        socket.buffer,
        at,
        topic,
        payload.length,
        shown,
        0,
        retain,
        0,
        properties,
        version
      )
      if (isShared) socket.writeShared(payload, 0)
      return TAKEN
    }
    const packetId = this.inFlight.freeId()
    const packet = Buffer.allocUnsafe(bytes)
    writePublish(
      packet,
      0,
      topic,
      payload.length,
      payload,
      qos,
      retain,
      packetId,
      properties,
      version
    )
    this.inFlight.add(new Unacked(packetId, qos, token, packet))
    this.send(packet)
    return TAKEN
  }

  /** The codes of the SUBACK; null when the connection ended before. */
  subscribe(
    subscriptions: readonly Subscription[],
    properties: readonly Property[] = []
  ): Promise<Answer | null> {
    return this.ask(id => writeSubscribe(this.options.version, id, subscriptions, properties))
  }

  unsubscribe(
    filters: readonly string[],
    properties: readonly Property[] = []
  ): Promise<Answer | null> {
    return this.ask(id => writeUnsubscribe(this.options.version, id, filters, properties))
  }

  /** With `manualAcks`: the delivery is taken. A QoS 2 one gets its PUBREC, the rest goes by itself. */
  acknowledge(packetId: number, reason = 0): void {
    const qos = this.incoming.pay(packetId, reason)
    if (qos > 0) this.sendAck((qos === 1 ? PUBACK : PUBREC) << 4, packetId, reason)
  }

  /** Reads nothing more from the server until `resume`. */
  pause(): void {
    if (this.isPaused) return
    this.isPaused = true
    this.splitter.halt()
    this.socket?.pauseReading()
  }

  resume(): void {
    if (!this.isPaused) return
    this.isPaused = false
    try {
      this.splitter.resume()
    } catch (error) {
      this.failed(error)
    }
    if (!this.isPaused) this.socket?.resumeReading()
  }

  onPacket(first: number, buffer: Buffer, start: number, end: number): boolean {
    const type = first >> 4
    if (this.state === 'greeting' && type !== CONNACK) {
      throw new ProtocolError(0x82, 'no CONNACK')
    }
    if (type === PUBLISH) this.onPublish(first, buffer, start, end)
    else if (type >= PUBACK && type <= PUBCOMP) this.onAck(type, buffer, start, end)
    else if (type === CONNACK) this.onConnack(buffer, start, end)
    else if (type === DISCONNECT) this.onDismissal(buffer, start, end)
    else if (type === AUTH) throw new ProtocolError(0x82, 'AUTH that nobody asked for')
    else if (type === PINGRESP) this.options.trace?.(false, PINGRESP, 0, 0)
    else this.onAnswer(buffer, start, end)
    return !this.isPaused
  }

  /** A connection that has ended tells so later: the next one must not hear it. */
  private lineOf(aborter: AbortController): SocketHandler {
    return {
      onBytes: (buffer, start, end) => {
        try {
          this.splitter.push(buffer, start, end)
        } catch (error) {
          this.failed(error)
        }
      },
      onDrained: () => this.giveRoom(),
      onClosed: () => {
        if (this.aborter !== aborter) return
        this.finish('lost', 0, 'the server closed the connection', 'ECONNRESET')
      }
    }
  }

  private newSplitter(): Splitter {
    const { version, packetBytesMax } = this.options
    return new Splitter(this, packetBytesMax, serverFirstBytes(version))
  }

  private greet(stream: Duplex, aborter: AbortController): void {
    if (this.aborter !== aborter) {
      stream.destroy()
      return
    }
    this.state = 'greeting'
    const { options } = this
    this.splitter = this.newSplitter()
    this.socket = new PeerSocket(stream, this.lineOf(aborter), options.sockets)
    const cleanStart = options.cleanStart && !this.wasOpen
    const isLasting = !options.cleanStart || numberOf(options.properties, ID.sessionExpiry, 0) > 0
    // Before version 5 "clean" also says that the session ends with its connection.
    const isClean = options.version === 5 && isLasting ? cleanStart : options.cleanStart
    this.send(writeConnect({ ...options, clientId: this.clientId, cleanStart: isClean }))
  }

  private onConnack(buffer: Buffer, start: number, end: number): void {
    const connack = readConnack(buffer, start, end, this.options.version)
    if (this.state !== 'greeting') throw new ProtocolError(0x82, 'a second CONNACK')
    if (connack.code !== 0) {
      const text = textOf(connack.properties, ID.reasonString) ?? 'refused'
      this.finish('refused', connack.code, text, '')
      return
    }
    this.clientId = textOf(connack.properties, ID.assignedClientId) ?? this.clientId
    this.limits = serverLimits(this.options, connack.properties)
    if (this.timer !== null) clearTimeout(this.timer)
    this.timer = null
    this.state = 'open'
    this.failures = 0
    this.wasOpen = true
    this.keepalive.start(this.limits.keepaliveMs, this.socket!, () => this.isPaused)
    this.incoming.restart(connack.sessionPresent)
    const finished = this.resend(connack.sessionPresent)
    this.handler.onConnected(connack)
    for (const unacked of finished) this.handler.onSettled(unacked.token, 0)
    this.giveRoom()
  }

  /** Returns what is done now: the server had taken it, and the session that knew is gone. */
  private resend(hasSession: boolean): readonly Unacked[] {
    const released = this.inFlight.restart(hasSession)
    this.sendUnsent()
    if (!hasSession) return released
    for (const { packetId } of released) this.sendAck(PUBREL_FIRST, packetId, 0)
    return []
  }

  private sendUnsent(): void {
    for (;;) {
      const unacked = this.inFlight.nextUnsent(this.limits.window)
      if (unacked === null) return
      this.send(unacked.packet)
    }
  }

  private onPublish(first: number, buffer: Buffer, start: number, end: number): void {
    const { incoming } = this
    const isNew = incoming.read(first, buffer, start, end)
    const { message } = incoming
    const { qos, packetId } = message
    if (isNew) {
      const { manualAcks } = this.options
      if (manualAcks && qos > 0) incoming.owe()
      this.handler.onMessage(message, (first & DUP) !== 0)
      if (manualAcks) return
    } else if (incoming.isOwed(packetId)) return
    if (qos > 0) this.sendAck((qos === 1 ? PUBACK : PUBREC) << 4, packetId, 0)
  }

  private onAck(type: number, buffer: Buffer, start: number, end: number): void {
    readAck(type, buffer, start, end, this.options.version, USER_PROPERTIES_MAX)
    const { packetId, reason } = ack
    this.options.trace?.(false, type, packetId, reason)
    if (type === PUBREL) {
      const isKnown = this.incoming.release(packetId)
      const answer = isKnown || this.options.version !== 5 ? 0 : PACKET_ID_NOT_FOUND
      this.sendAck(PUBCOMP << 4, packetId, answer)
      return
    }
    const unacked = this.inFlight.get(packetId)
    if (type === PUBREC) {
      // [MQTT-4.3.3-4]: a PUBREC for what is unknown is answered all the same.
      if (unacked === undefined || reason < 0x80) this.sendAck(PUBREL_FIRST, packetId, 0)
      if (unacked === undefined) return
      unacked.isReleased = true
      unacked.packet = EMPTY
      if (reason < 0x80) return
    } else if (unacked === undefined || (type === PUBACK) !== (unacked.qos === 1)) return
    this.inFlight.remove(packetId)
    this.sendUnsent()
    this.handler.onSettled(unacked.token, reason)
    this.giveRoom()
  }

  private onAnswer(buffer: Buffer, start: number, end: number): void {
    const answer = readAnswer(buffer, start, end, this.options.version)
    const answered = this.asked.get(answer.packetId)
    this.asked.delete(answer.packetId)
    this.inFlight.release(answer.packetId)
    answered?.(answer)
  }

  private onDismissal(buffer: Buffer, start: number, end: number): void {
    const { reason, properties } = readDismissal(buffer, start, end)
    const text = textOf(properties, ID.reasonString) ?? 'the server ended the connection'
    this.finish('dismissed', reason, text, '')
  }

  private ask(write: (packetId: number) => Buffer): Promise<Answer | null> {
    if (this.state !== 'open') return Promise.resolve(null)
    const packetId = this.inFlight.freeId()
    this.inFlight.reserve(packetId)
    this.send(write(packetId))
    return new Promise(resolve => this.asked.set(packetId, resolve))
  }

  private send(packet: Buffer): void {
    this.socket?.write(packet, 0, packet.length)
  }

  private sendAck(first: number, packetId: number, reason: number): void {
    const { socket } = this
    if (socket === null) return
    const shown = this.options.version === 5 ? reason : 0
    const at = socket.reserve(ackBytes(shown))
    writeAck(socket.buffer, at, first, packetId, shown)
    this.options.trace?.(true, first >> 4, packetId, shown)
  }

  private noRoom(): PublishAnswer {
    this.wantsRoom = true
    return NO_ROOM
  }

  private giveRoom(): void {
    if (!this.wantsRoom || this.state !== 'open') return
    this.wantsRoom = false
    this.handler.onRoom()
  }

  ping(): void {
    this.send(PING)
    this.options.trace?.(true, PINGREQ, 0, 0)
    this.socket?.flush()
  }

  onSilence(): void {
    this.finish('timeout', 0, 'no answer to a ping', 'ETIMEDOUT')
  }

  private failed(error: unknown): void {
    if (error instanceof ProtocolError) {
      if (this.state === 'open' && this.options.version === 5) {
        this.send(writeDisconnect(5, error.reason, []))
      }
      this.finish('protocol', error.reason, error.message, '')
    } else if (error instanceof BytesError) this.finish('protocol', 0x81, error.message, '')
    else throw error
  }

  /** Ends a connection, once; decides whether there will be another. */
  private finish(kind: ClientEndKind, code: number, text: string, errno: string): void {
    if (this.state === 'ended' || (this.state === 'waiting' && kind !== 'done')) return
    if (this.state === 'idle' && kind !== 'done') return
    if (this.timer !== null) clearTimeout(this.timer)
    this.timer = null
    this.keepalive.stop()
    this.aborter?.abort()
    this.aborter = null
    this.splitter.close()
    const { socket } = this
    this.socket = null
    const { reconnect, random } = this.options
    const mayRetry = kind !== 'done' && reconnect !== null && (this.wasOpen || reconnect.fromStart)
    this.state = mayRetry ? 'waiting' : 'ended'
    socket?.close(text)
    const waiting = [...this.asked]
    this.asked.clear()
    for (const [packetId, answered] of waiting) {
      this.inFlight.release(packetId)
      answered(null)
    }
    let retryMs = -1
    if (mayRetry) {
      const longest = Math.min(reconnect.maxMs, reconnect.minMs * 2 ** this.failures++)
      retryMs = Math.round(longest * (0.5 + random() / 2))
      this.timer = setTimeout(() => this.connect(), retryMs)
    }
    this.handler.onDisconnected({ kind, code, text, errno }, retryMs)
  }
}
