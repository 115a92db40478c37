/** The interfaces back: what the broker asks of a front-end's connection. */
import type { Message } from '../core/message.ts'
import type { Principal } from '../core/principal.ts'
import type { Queue } from '../core/queue.ts'
import type { Session } from '../core/session.ts'
import type { Vhost } from '../core/vhost.ts'

/** Flags of one delivery. */
export const DELIVER_QOS = 3
export const DELIVER_RETAIN = 4
/** Delivered before: AMQP's redelivered; MQTT's DUP, only with QoS > 0. */
export const DELIVER_REDELIVERED = 8

/** Who it was, for whoever traces: see trace.ts. */
export interface Origin {
  readonly connection: string
  /** 0: it has none. */
  readonly channel: number
  readonly user: string
}

/** What takes the deliveries of a queue: a session's connection, an AMQP consumer, a bridge. */
export interface Consumer {
  /** True: what it gets is settled by being handed over. */
  readonly noAck: boolean
  /** Room for one more delivery now: credit, output buffer, not paused. */
  hasCredit(): boolean
  /**
   * One delivery. Encodes at once: `message` is a view for this turn only. `flags`: DELIVER_*. With `sequence` it is
   * settled; of a queue with priorities that names its level, too.
   * `subscriptionIds`: MQTT subscription identifiers that matched, else null.
   */
  deliver(
    message: Message,
    queue: Queue,
    sequence: number,
    flags: number,
    subscriptionIds: readonly number[] | null
  ): void
  /** Not given: what it gets is not traced. */
  origin?(): Origin
  /** The queue is gone or may not be read any more. */
  onCancelled(queue: Queue): void
}

/** The connection of an MQTT session. */
export interface SessionConnection extends Consumer, Publisher {
  /** Unacknowledged deliveries that the client may have at once. */
  readonly inflightMax: number
  /** It was passed over for want of credit: `wakeSession` is to be called when something is settled. */
  onStarved(): void
  /** QoS 0, from no queue. False: not sent (buffer full); the caller counts the drop. */
  deliverDirect(
    message: Message,
    retain: boolean,
    subscriptionIds: readonly number[] | null
  ): boolean
  /** On resume: PUBREL again, for a delivery whose PUBREC is recorded. Takes no credit. */
  resendRelease(sequence: number): void
  /** Another connection opened the session: say so where the protocol can (0x8E), close, publish nothing. */
  onTakenOver(): void
  /** An operator, expiry or a changed permission ended the session. */
  onSessionEnded(): void
}

/** What publishes: an MQTT connection, an AMQP channel, an embedding program. */
export interface Publisher {
  readonly principal: Principal
  readonly clientId: string
  readonly vhost: Vhost
  readonly session: Session | null
  /** Not given: what it publishes is not traced. */
  origin?(): Origin
  /** Every record up to `ticket` is durable: send the acknowledgements owed for it, in order. */
  onDurable(ticket: number): void
  /** Do not read from the peer until `onResume`: too much is on its way to the disk. */
  onPause(): void
  onResume(): void
  /** The disk's alarm went up or down: AMQP connection.blocked and unblocked. */
  onDiskAlarm(raised: boolean): void
}

/** The connection that holds a session, if any. */
export function connectionOf(session: Session): SessionConnection | null {
  return session.connection as SessionConnection | null
}
