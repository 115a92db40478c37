/** Pings, and the notice that nothing answers them (MQTT 5 §3.1.2.10). */
import type { PeerSocket } from '../net/socket.ts'

const TICKS_A_PERIOD = 2
const TICKS_MAX = 3

export interface KeepaliveOwner {
  /** A PINGREQ is due. */
  ping(): void
  /** The server has said nothing for one and a half times the keepalive. */
  onSilence(): void
}

export class Keepalive {
  private readonly owner: KeepaliveOwner
  private timer: NodeJS.Timeout | null
  private bytesIn: number
  private bytesOut: number
  /** Since an unanswered ping. */
  private ticks: number

  constructor(owner: KeepaliveOwner) {
    this.owner = owner
    this.timer = null
    this.bytesIn = 0
    this.bytesOut = 0
    this.ticks = 0
  }

  /** `isDeaf`: the owner does not read now, so silence says nothing. */
  start(ms: number, socket: PeerSocket, isDeaf: () => boolean): void {
    this.stop()
    if (ms === 0) return
    this.bytesIn = 0
    this.bytesOut = 0
    this.ticks = 0
    this.timer = setInterval(() => this.tick(socket, isDeaf()), ms / TICKS_A_PERIOD)
  }

  stop(): void {
    if (this.timer !== null) clearInterval(this.timer)
    this.timer = null
  }

  private tick(socket: PeerSocket, isDeaf: boolean): void {
    const wasHeard = socket.bytesIn !== this.bytesIn || isDeaf
    const hasSpoken = socket.bytesOut !== this.bytesOut
    this.bytesIn = socket.bytesIn
    if (wasHeard) this.ticks = 0
    if (this.ticks > 0) this.ticks++
    else if (!wasHeard || !hasSpoken) {
      this.ticks = 1
      this.owner.ping()
    }
    this.bytesOut = socket.bytesOut
    if (this.ticks > TICKS_MAX) this.owner.onSilence()
  }
}
