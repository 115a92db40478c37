/**
 * Heartbeats (AMQP 0-9-1 §4.2.7): one is sent before half the interval has passed in silence, and a peer of
 * which nothing at all came for two whole intervals is dead. Any bytes count as life, in both directions.
 */
import type { PeerSocket } from '../net/socket.ts'
import { FRAME_END, FRAME_HEARTBEAT } from './codec/methods.ts'

const HEARTBEAT = Buffer.from([FRAME_HEARTBEAT, 0, 0, 0, 0, 0, 0, FRAME_END])

export class Heartbeat {
  /** Seconds; 0 = off. */
  seconds: number
  private inMark: number
  private outMark: number
  private idleInMs: number
  private idleOutMs: number

  constructor() {
    this.seconds = 0
    this.inMark = 0
    this.outMark = 0
    this.idleInMs = 0
    this.idleOutMs = 0
  }

  /**
   * Called every `tickMs`, `elapsedMs` after the last time. `isReading`: false while we do not read from
   * the peer, whose silence then says nothing. False: the peer is dead.
   */
  check(socket: PeerSocket, elapsedMs: number, tickMs: number, isReading: boolean): boolean {
    if (this.seconds === 0) return true
    const intervalMs = this.seconds * 1000
    // What was written since the last call may have been written right after it.
    if (socket.bytesOut + socket.end !== this.outMark) this.idleOutMs = elapsedMs
    else this.idleOutMs += elapsedMs
    if (this.idleOutMs + tickMs >= intervalMs / 2 && socket.pendingBytes === 0) {
      socket.write(HEARTBEAT, 0, HEARTBEAT.length)
      this.idleOutMs = 0
    }
    this.outMark = socket.bytesOut + socket.end
    if (socket.bytesIn !== this.inMark || !isReading) this.idleInMs = 0
    else this.idleInMs += elapsedMs
    this.inMark = socket.bytesIn
    return this.idleInMs < 2 * intervalMs
  }
}
