/** What all MQTT connections of a process share. */
import type { Logger } from 'pino'
import type { Authenticator } from '../auth/authenticator.ts'
import type { Broker } from '../broker/broker.ts'
import type { Message } from '../core/message.ts'
import type { Remote } from '../net/arrival.ts'
import type { Sockets } from '../net/socket.ts'
import type { DrainOrder } from './drain.ts'
import type { MqttOptions } from './options.ts'
import type { Outbound } from './outbound.ts'
import type { Takeovers } from './takeovers.ts'

/** Log lines a second for peers that never log in: the rest are counted only. */
export const STRANGER_LINES_A_SECOND = 10
/** Log lines a second for what clients asked for and did not get. */
export const DENIED_LINES_A_SECOND = 10

export interface MqttContext {
  readonly broker: Broker
  readonly authenticator: Authenticator
  readonly sockets: Sockets
  readonly outbound: Outbound
  readonly log: Logger
  readonly options: MqttOptions
  /** The PUBLISH being read: one for all, none outlasts its handling. */
  readonly message: Message
  /** Milliseconds that the loop was alive: a stall of ours does not count against any peer. */
  liveMs: number
  /** Lines left this second for peers that never log in. */
  strangerLines: number
  /** Lines left this second for what was denied. */
  deniedLines: number
  /** Connections closed because of a bug of ours. */
  bugs: number
  /** Clients are sent away; null: they are taken. */
  drain: DrainOrder | null
  /** Who may take over whose connection how often. */
  readonly takeovers: Takeovers
  /** We stop: sessions are left as a crash would leave them, so that wills wait for their clients. */
  isStopping: boolean
}

/** Who accepted a connection, and what that says about it. */
export interface AcceptOptions {
  /** The virtual host of the listener. */
  readonly vhost: string
  /** The listener says so itself: no user name chooses another one. */
  readonly isVhostFixed?: boolean
  /** Counts as local: the peer is, or its listener is open to everybody on purpose. */
  readonly isTrusted: boolean
  /** The listener's scheme (`mqtt`, `mqtts`, `ws`): for the log. */
  readonly protocol: string
  /** The port that it came to; none for a Unix domain socket. */
  readonly localPort?: number
  /** Called once when the connection is gone. */
  readonly onClosed: () => void
  /** The peer, when a proxy named it. */
  readonly remote?: Remote | null
  /** How much of the time for its login is over already, milliseconds. */
  readonly waitedMs?: number
  /** The user that TLS has verified. */
  readonly identity?: string | null
}
