/** The AMQP front-end: its connections, and the one timer that they share. */
import type net from 'node:net'
import type { Duplex } from 'node:stream'
import type { Authenticator } from '../auth/authenticator.ts'
import type { Broker } from '../broker/broker.ts'
import type { FieldTable, FieldValue } from '../core/field-table.ts'
import { FORM_AMQP } from '../core/message.ts'
import { Principal } from '../core/principal.ts'
import { Vhost } from '../core/vhost.ts'
import type { Remote } from '../net/arrival.ts'
import { PeerSocket, type Sockets } from '../net/socket.ts'
import type { ReplyConsumer } from './channel.ts'
import { CONNECTION, encodeMethod } from './codec/methods.ts'
import { AmqpConnection } from './connection.ts'
import type { AmqpContext, AmqpHandlers } from './context.ts'
import { handAnswer } from './direct-reply-to.ts'
import { handleConnectionMethod } from './handle-connection.ts'
import { handleMethod } from './handle-method.ts'
import { handleAssembled } from './handle-publish.ts'
import type { AmqpOptions } from './options.ts'
import { decodeProperties, encodeProperties } from './properties.ts'
import { AmqpError, REPLY } from './reply-codes.ts'
import { MECHANISMS, MECHANISMS_WITH_EXTERNAL } from './sasl.ts'
import { ChannelRooms } from './channel-room.ts'

/** What the listener knows of an accepted socket. */
export interface AcceptedPeer {
  readonly vhost: string
  /** The peer counts as local (`Listener.isTrusted`). */
  readonly isTrusted: boolean
  /** Called once when the connection is gone. */
  readonly onClosed: () => void
  /** For streams that do not know it. */
  readonly remote?: Remote | null
  /** How much of the time for its login is over already, milliseconds. */
  readonly waitedMs?: number
  /** The user that TLS has verified. */
  readonly identity?: string | null
}

const CAPABILITIES = [
  'publisher_confirms',
  'exchange_exchange_bindings',
  'basic.nack',
  'consumer_cancel_notify',
  'connection.blocked',
  'consumer_priorities',
  'authentication_failure_close',
  'per_consumer_qos',
  'direct_reply_to'
]
const TICK_MS_MAX = 1_000
const TICK_MS_MIN = 250

const HANDLERS: AmqpHandlers<AmqpConnection> = {
  onConnectionMethod: handleConnectionMethod,
  onMethod: handleMethod,
  onContent: handleAssembled
}

export class AmqpServer implements AmqpContext<AmqpConnection> {
  readonly handlers = HANDLERS
  readonly broker: Broker
  readonly authenticator: Authenticator
  readonly options: AmqpOptions
  /** connection.start, the same for all. */
  readonly startFrame: Buffer
  readonly startFrameVerified: Buffer
  /** Stand for principal and vhost until a connection has its own. */
  readonly nobody: Principal
  readonly nowhere: Vhost
  readonly replyConsumers: Map<string, ReplyConsumer>
  readonly channelRooms: ChannelRooms
  readonly connections: Map<AmqpConnection, AcceptedPeer>
  private readonly sockets: Sockets
  private timer: NodeJS.Timeout | null
  private tickMs: number
  private tickedAt: number

  constructor(
    broker: Broker,
    authenticator: Authenticator,
    sockets: Sockets,
    options: AmqpOptions
  ) {
    this.broker = broker
    this.authenticator = authenticator
    this.sockets = sockets
    this.options = options
    this.startFrame = startFrame(options, MECHANISMS)
    this.startFrameVerified = startFrame(options, MECHANISMS_WITH_EXTERNAL)
    this.nobody = new Principal('', [], '', [], [], false)
    this.nowhere = new Vhost('')
    this.replyConsumers = new Map()
    this.channelRooms = new ChannelRooms(broker.limits.channelBytesMax)
    this.connections = new Map()
    this.timer = null
    this.tickMs = TICK_MS_MAX
    this.tickedAt = 0
    broker.propertyDecoders[FORM_AMQP] = decodeProperties
    broker.propertyEncoders[FORM_AMQP] = encodeProperties
    broker.answerChannel = (vhost, name, message) => handAnswer(this, vhost, name, message)
  }

  get preLoginBytes(): number {
    return this.sockets.preLoginBytes
  }

  set preLoginBytes(bytes: number) {
    this.sockets.preLoginBytes = bytes
  }

  /** Takes an accepted socket over; `Listener` hands it over unread. */
  accept(accepted: net.Socket | Duplex, peer: AcceptedPeer): AmqpConnection {
    const address = peer.remote?.address ?? (accepted as net.Socket).remoteAddress ?? ''
    const { vhost, isTrusted, waitedMs = 0, identity = null } = peer
    const connection = new AmqpConnection(this, { vhost, isTrusted, address, waitedMs, identity })
    connection.attach(new PeerSocket(accepted, connection, this.sockets, peer.remote))
    connection.log = this.broker.log.child({ protocol: 'amqp', peer: connection.socket.peer })
    this.connections.set(connection, peer)
    this.startTimer()
    return connection
  }

  /** For `AmqpConnection`: its socket is gone. */
  onConnectionClosed(connection: AmqpConnection): void {
    const peer = this.connections.get(connection)
    if (peer === undefined) return
    this.connections.delete(connection)
    if (this.connections.size === 0) this.stopTimer()
    peer.onClosed()
  }

  /** A heartbeat is sent by half its interval: the timer must be fine enough. */
  watchHeartbeat(seconds: number): void {
    if (seconds === 0) return
    const tickMs = Math.max(TICK_MS_MIN, Math.min(this.tickMs, seconds * 250))
    if (tickMs >= this.tickMs) return
    this.stopTimer()
    this.tickMs = tickMs
    this.startTimer()
  }

  /** A virtual host is about to end: so do the connections to it. */
  closeVhost(name: string): void {
    const explanation = `vhost '${name}' is deleted`
    for (const connection of [...this.connections.keys()]) {
      if (connection.vhost.name !== name) continue
      connection.closeWith(new AmqpError(REPLY.connectionForced, explanation), 0, 0)
    }
  }

  /** Users or rules have changed: who is connected goes on with what holds now, or not at all. */
  permissionsChanged(): void {
    const principals = new Map<string, Principal | null>()
    for (const connection of [...this.connections.keys()]) {
      const { name, vhost } = connection.principal
      if (connection.principal === this.nobody) continue
      const key = `${vhost}\0${name}`
      let now = principals.get(key)
      if (now === undefined) {
        now = this.broker.principalOf(name, vhost)
        principals.set(key, now)
      }
      if (now === null) connection.closeWith(noLongerAuthorized(name), 0, 0)
      else {
        connection.principal = now
        connection.lastExchange = null
      }
    }
  }

  /** Tells every client that we stop; sockets end within the grace of `Sockets`. */
  close(): void {
    const explanation = "broker forced connection closure with reason 'shutdown'"
    for (const connection of [...this.connections.keys()]) {
      connection.closeWith(new AmqpError(REPLY.connectionForced, explanation), 0, 0)
      connection.end('shutdown')
    }
    this.stopTimer()
  }

  private startTimer(): void {
    if (this.timer !== null) return
    this.tickedAt = this.broker.clock.monotonicMs()
    this.timer = setInterval(() => this.tick(), this.tickMs)
    this.timer.unref()
  }

  private stopTimer(): void {
    if (this.timer === null) return
    clearInterval(this.timer)
    this.timer = null
    if (this.connections.size === 0) this.tickMs = TICK_MS_MAX
  }

  /** Timers of all connections; called by our own timer. */
  tick(): void {
    const now = this.broker.clock.monotonicMs()
    // A stall of our own loop is no fault of the peers: at most two periods count.
    const elapsedMs = Math.min(now - this.tickedAt, 2 * this.tickMs)
    this.tickedAt = now
    for (const connection of this.connections.keys()) connection.onTick(elapsedMs, this.tickMs)
  }
}

function startFrame(options: AmqpOptions, mechanisms: string): Buffer {
  return encodeMethod(CONNECTION.start, 0, {
    versionMajor: 0,
    versionMinor: 9,
    serverProperties: serverProperties(options),
    mechanisms: Buffer.from(mechanisms),
    locales: Buffer.from('en_US')
  })
}

/** The code and the first words are RabbitMQ's for a user that is deleted. */
function noLongerAuthorized(user: string): AmqpError {
  const explanation = `broker forced connection closure with reason 'user '${user}' is no longer authorized'`
  return new AmqpError(REPLY.connectionForced, explanation)
}

function serverProperties(options: AmqpOptions): FieldTable {
  const text = (value: string): FieldValue => ({ type: 'S', value })
  const capabilities: FieldTable = CAPABILITIES.map(name => [name, { type: 't', value: true }])
  return [
    ['capabilities', { type: 'F', value: capabilities }],
    ['product', text(options.product)],
    ['version', text(options.version)],
    ['platform', text(options.platform)],
    ['cluster_name', text('motemq')],
    ['information', text('MQTT and AMQP 0-9-1 on one store')]
  ]
}
