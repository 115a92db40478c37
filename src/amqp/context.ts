/** What the connections of the front-end share, and what each of them is told of its peer. */
import type { Authenticator } from '../auth/authenticator.ts'
import type { Broker } from '../broker/broker.ts'
import type { Principal } from '../core/principal.ts'
import type { Vhost } from '../core/vhost.ts'
import type { AmqpChannel, ChannelConnection, ReplyConsumers } from './channel.ts'
import type { AmqpOptions } from './options.ts'
import type { ChannelRooms } from './channel-room.ts'

/** Who connected, and where. */
export interface PeerInfo {
  /** Of its listener: the first login is for it. */
  readonly vhost: string
  /** It counts as local. */
  readonly isTrusted: boolean
  /** Without its port. */
  readonly address: string
  /** How much of the time for its login is over already, milliseconds. */
  readonly waitedMs: number
  /** The user that TLS has verified. */
  readonly identity: string | null
}

/** What the front-end's connections share. */
export interface AmqpContext<C> extends ReplyConsumers {
  readonly broker: Broker
  readonly authenticator: Authenticator
  readonly options: AmqpOptions
  readonly handlers: AmqpHandlers<C>
  readonly channelRooms: ChannelRooms
  /** connection.start, the same for all. */
  readonly startFrame: Buffer
  /** The same for a peer that TLS has verified. */
  readonly startFrameVerified: Buffer
  /** Stand for principal and vhost until a connection has its own. */
  readonly nobody: Principal
  readonly nowhere: Vhost
  /** Gathered for all connections before their login. */
  preLoginBytes: number
  /** A heartbeat is sent by half its interval: the timer must be fine enough. */
  watchHeartbeat(seconds: number): void
  onConnectionClosed(connection: C): void
}

/** Who works on methods. Handed in, since the handlers know the connection. */
export interface AmqpHandlers<C> {
  /** A method on channel 0, payload `buffer[start..end)`, four bytes at least. */
  onConnectionMethod(connection: C, buffer: Buffer, start: number, end: number): void
  /** A method on a channel, which is null if it is not open. Returns how far it took, or HOLD. */
  onMethod(
    connection: ChannelConnection,
    channel: AmqpChannel | null,
    channelId: number,
    buffer: Buffer,
    start: number,
    end: number,
    limit: number
  ): number
  /** A content that was gathered is complete. */
  onContent(channel: AmqpChannel): void
}
