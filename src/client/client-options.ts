/** What a client is made of, and what it tells its owner. */
import type { Message } from '../core/message.ts'
import type { Version } from '../mqtt/codec/packet-types.ts'
import type { Sockets } from '../net/socket.ts'
import type { ClientWill, Connack } from './packets.ts'
import type { Property } from './properties.ts'
import type { Target } from './target.ts'
import { PLAIN, type TransportFields } from './transport.ts'

export interface ClientOptions {
  readonly target: Target
  readonly transport: TransportFields
  readonly version: Version
  /** '' lets the server choose (3.1.1: with a clean session only). */
  readonly clientId: string
  /** Of the first connection; after a loss the session is taken up again when it is one that lasts. */
  readonly cleanStart: boolean
  /** 0: no pings. */
  readonly keepaliveSeconds: number
  readonly username: string | null
  readonly password: Buffer | null
  readonly will: ClientWill | null
  /** Properties of the CONNECT, version 5. */
  readonly properties: readonly Property[]
  /** Unacknowledged PUBLISHes at most; a server's Receive Maximum may make it fewer. */
  readonly inflightMax: number
  /** The largest packet that is taken. */
  readonly packetBytesMax: number
  /** From the look-up of the name to the CONNACK. */
  readonly connectTimeoutMs: number
  /** After a loss; null: it ends. */
  readonly reconnect: Backoff | null
  /** `acknowledge` is called by the owner; else by the client, when `onMessage` returns. */
  readonly manualAcks: boolean
  /** Shared by the clients of a process. */
  readonly sockets: Sockets
  /** From 0 to 1: the jitter. */
  readonly random: () => number
  /** Told of each acknowledgement and ping, by control packet type; null: nobody looks. */
  readonly trace: Trace | null
}

const MIB = 1024 * 1024

/** What most clients want: MQTT 5, a clean session, no way back after a loss. */
export function defaultOptions(target: Target, sockets: Sockets): ClientOptions {
  return {
    target,
    transport: PLAIN,
    version: 5,
    clientId: '',
    cleanStart: true,
    keepaliveSeconds: 60,
    username: null,
    password: null,
    will: null,
    properties: [],
    inflightMax: 20,
    packetBytesMax: 16 * MIB,
    connectTimeoutMs: 30_000,
    reconnect: null,
    manualAcks: false,
    sockets,
    random: Math.random,
    trace: null
  }
}

export type Trace = (isSent: boolean, type: number, packetId: number, reason: number) => void

export interface Backoff {
  readonly minMs: number
  readonly maxMs: number
  /** Also before the first connection has succeeded. */
  readonly fromStart: boolean
}

/** Why a connection ended: nothing here is thrown. */
export interface ClientEnd {
  readonly kind: ClientEndKind
  /** CONNACK's or DISCONNECT's code; 0 for the others. */
  readonly code: number
  readonly text: string
  /** The system's, such as `ECONNREFUSED`; '' for the others. */
  readonly errno: string
}

export type ClientEndKind =
  /** We said goodbye. */
  | 'done'
  /** No stream: name, route, port, certificate. */
  | 'unreachable'
  /** A CONNACK with a code. */
  | 'refused'
  /** No CONNACK, or no PINGRESP, in time. */
  | 'timeout'
  /** A DISCONNECT from the server. */
  | 'dismissed'
  /** The server broke the protocol. */
  | 'protocol'
  /** The stream ended. */
  | 'lost'

export interface ClientHandler {
  /** The CONNACK is here, also after each reconnection. Without a session subscriptions are to be made again. */
  onConnected(connack: Connack): void
  /**
   * A message: a view, true for this call only. `expiresAt` is its Message Expiry Interval in milliseconds
   * (1: an interval of 0). `isRepeated`: its DUP flag.
   */
  onMessage(message: Message, isRepeated: boolean): void
  /** The PUBLISH with this token is acknowledged finally: reason code, 0 before version 5. */
  onSettled(token: number, reason: number): void
  /** `publish` said that there is no room, and now there is. */
  onRoom(): void
  /** The connection is gone. `retryMs` < 0: it stays so, and nothing else is called any more. */
  onDisconnected(end: ClientEnd, retryMs: number): void
}

/** What `publish` answers. */
export const TAKEN = 0
/** Nothing was taken: the window or the socket is full, or there is no connection. `onRoom` follows. */
export const NO_ROOM = 1
/** The server takes no packet of this size, no such QoS, no retained messages: never. */
export const TOO_LARGE = 2
export const QOS_NOT_SUPPORTED = 3
export const RETAIN_NOT_SUPPORTED = 4
export type PublishAnswer = 0 | 1 | 2 | 3 | 4
