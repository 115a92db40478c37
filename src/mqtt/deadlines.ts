/** The deadlines of a connection, looked at once a second: login, keepalive, held packets. */
import type { PeerSocket } from '../net/socket.ts'
import { type Holding, retryHeld } from './holding.ts'
import { REASON } from './reason-codes.ts'

/** The parts of a connection that its deadlines need. */
export interface Timing extends Holding {
  readonly socket: PeerSocket
  /** Its login is not complete, and it is on it to go on. */
  readonly isStranger: boolean
  readonly isOpen: boolean
  readonly isPaused: boolean
  /** Silence that is allowed; 0 = any. */
  readonly keepaliveMs: number
  /** `MqttContext.liveMs` when it was accepted. */
  readonly openedMs: number
  /** `MqttContext.liveMs` when the peer was last heard of. */
  seenMs: number
  /** Acknowledgements of nothing in this second. */
  unexpectedAcks: number
  close(text: string, reason: number, how: 'disconnect' | 'with-will' | 'lost'): void
}

export function checkDeadlines(connection: Timing, liveMs: number): void {
  connection.unexpectedAcks = 0
  const { heldUntilMs, keepaliveMs } = connection
  if (heldUntilMs > 0) {
    if (liveMs >= heldUntilMs) {
      connection.close('held too long by the disk alarm or a full queue', 0, 'lost')
      return
    }
    retryHeld(connection)
  }
  if (connection.isOpen) {
    // Not while it is us who do not read.
    if (connection.socket.isUnread) connection.seenMs = liveMs
    if (keepaliveMs > 0 && !connection.isPaused && liveMs - connection.seenMs > keepaliveMs) {
      connection.close('keepalive timeout', REASON.keepaliveTimeout, 'lost')
    }
  } else if (connection.isStranger) {
    const { loginTimeoutMs } = connection.context.broker.limits
    if (liveMs - connection.openedMs >= loginTimeoutMs) {
      connection.close('no login in time', 0, 'lost')
    }
  }
}
