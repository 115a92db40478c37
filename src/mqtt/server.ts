/** The MQTT front-end: takes accepted sockets, keeps the time for all of them, and closes them at the end. */
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { Logger } from 'pino'
import type { Authenticator } from '../auth/authenticator.ts'
import type { Broker } from '../broker/broker.ts'
import { FORM_MQTT, Message } from '../core/message.ts'
import type { Principal } from '../core/principal.ts'
import type { Sockets } from '../net/socket.ts'
import { MqttConnection } from './connection.ts'
import {
  type AcceptOptions,
  DENIED_LINES_A_SECOND,
  type MqttContext,
  STRANGER_LINES_A_SECOND
} from './context.ts'
import { checkDeadlines } from './deadlines.ts'
import { DRAIN_STEP_MS, drainStep } from './drain.ts'
import { handlePacket } from './handle.ts'
import { DEFAULT_MQTT_OPTIONS, type MqttOptions } from './options.ts'
import { Outbound } from './outbound.ts'
import { decodeProperties, encodeProperties } from './properties.ts'
import { REASON } from './reason-codes.ts'
import { Takeovers } from './takeovers.ts'

const TICK_MS = 1_000

export interface MqttServerOptions {
  readonly broker: Broker
  readonly authenticator: Authenticator
  readonly sockets: Sockets
  readonly log: Logger
  readonly options?: MqttOptions
}

export class MqttServer {
  private readonly context: MqttContext
  private readonly connections: Set<MqttConnection>
  private readonly timer: NodeJS.Timeout
  private tickedAt: number
  private drainTimer: NodeJS.Timeout | null

  constructor(options: MqttServerOptions) {
    const { broker, authenticator, sockets, log } = options
    broker.propertyDecoders[FORM_MQTT] = decodeProperties
    broker.propertyEncoders[FORM_MQTT] = encodeProperties
    this.context = {
      broker,
      authenticator,
      sockets,
      outbound: new Outbound(sockets, broker),
      log,
      options: options.options ?? DEFAULT_MQTT_OPTIONS,
      message: new Message(),
      liveMs: 0,
      strangerLines: STRANGER_LINES_A_SECOND,
      deniedLines: DENIED_LINES_A_SECOND,
      bugs: 0,
      drain: null,
      takeovers: new Takeovers(),
      isStopping: false
    }
    this.connections = new Set()
    this.drainTimer = null
    this.tickedAt = broker.clock.monotonicMs()
    this.timer = setInterval(() => this.tick(), TICK_MS)
    this.timer.unref()
  }

  /** Connections, those before their login included. */
  get count(): number {
    return this.connections.size
  }

  /** Connections that a bug of ours closed. */
  get bugs(): number {
    return this.context.bugs
  }

  /** Takes a socket of a server with `pauseOnConnect`, or the stream that came out of the layers around it. */
  accept(socket: Socket | Duplex, options: AcceptOptions): void {
    const vhost = this.context.broker.vhosts.get(options.vhost)
    if (this.context.isStopping || vhost === undefined) {
      socket.destroy()
      options.onClosed()
      return
    }
    const tracked: AcceptOptions = {
      ...options,
      onClosed: () => {
        this.connections.delete(connection)
        options.onClosed()
      }
    }
    const connection = new MqttConnection(this.context, socket, tracked, vhost, handlePacket)
    this.connections.add(connection)
  }

  /** A virtual host is about to end: so do the connections to it. */
  closeVhost(name: string): void {
    for (const connection of this.connections) {
      if (connection.vhost.name !== name) continue
      connection.close('virtual host deleted', REASON.administrativeAction, 'lost')
    }
  }

  /** Users or rules have changed: who is connected goes on with what holds now, or not at all. */
  permissionsChanged(): void {
    const { broker } = this.context
    const principals = new Map<string, Principal | null>()
    for (const connection of this.connections) {
      if (connection.session === null) continue
      const { principal, vhost } = connection
      const key = `${vhost.name}\0${principal.name}`
      let now = principals.get(key)
      if (now === undefined) {
        now = broker.principalOf(principal.name, vhost.name)
        principals.set(key, now)
      }
      if (now === null) connection.close('no longer authorized', REASON.notAuthorized, 'lost')
      else connection.principal = now
    }
    for (const vhost of broker.vhosts.values()) vhost.forgetRoutes()
  }

  /** Takes nobody any more, and sends away who is connected, some at a time. */
  drain(reference: string, isMoved: boolean): void {
    if (this.context.isStopping) return
    const order = { reference: reference || this.context.options.serverReference, isMoved }
    this.context.drain = order
    this.context.log.info({ ...order }, 'draining')
    this.drainTimer ??= setInterval(() => this.drainStep(), DRAIN_STEP_MS)
    this.drainTimer.unref()
  }

  /** Takes clients again. */
  stopDraining(): void {
    if (this.drainTimer === null) return
    clearInterval(this.drainTimer)
    this.drainTimer = null
    this.context.drain = null
    this.context.log.info('no longer draining')
  }

  drainStatus(): { draining: boolean; reference: string; moved: boolean; connections: number } {
    const { drain } = this.context
    let connections = 0
    for (const { isOpen } of this.connections) if (isOpen) connections++
    return {
      draining: drain !== null,
      reference: drain?.reference ?? '',
      moved: drain?.isMoved ?? false,
      connections
    }
  }

  /** Every DRAIN_STEP_MS while draining. */
  drainStep(): void {
    if (this.context.drain !== null) drainStep(this.connections, this.context.drain)
  }

  /** Closes every connection; sessions stay as they are. Resolves when all sockets are gone. Idempotent. */
  async close(): Promise<void> {
    this.context.isStopping = true
    clearInterval(this.timer)
    this.stopDraining()
    for (const connection of this.connections) {
      connection.close('the broker stops', REASON.serverShuttingDown, 'lost')
    }
    while (this.connections.size > 0) await new Promise<void>(resolve => setTimeout(resolve, 5))
  }

  /** Once a second, by our own timer: deadlines, in a time that our own stalls do not pass. */
  tick(): void {
    const { context } = this
    const now = context.broker.clock.monotonicMs()
    context.liveMs += Math.min(now - this.tickedAt, 2 * TICK_MS)
    this.tickedAt = now
    context.takeovers.tick(context.liveMs)
    context.strangerLines = STRANGER_LINES_A_SECOND
    context.deniedLines = DENIED_LINES_A_SECOND
    for (const connection of this.connections) checkDeadlines(connection, context.liveMs)
  }
}
