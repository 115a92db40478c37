/**
 * The sockets with output that is not written yet. Each is written once a turn of the loop, whatever was put into its
 * buffer in that turn; with thousands of them, in bounded turns: a write of a hundred bytes costs ten microseconds. Those
 * whose turn has not come gather more, so that under load a write carries more.
 */
const FLUSHES_A_TURN = 512
/** Places that are kept from turn to turn; a power of two. */
const KEPT = 1_024

export interface Flushable {
  flush(): void
}

export class DirtyList {
  /** Called before a turn's sockets are written: what else ends with the turn may still write. */
  beforeFlush: (() => void) | null
  /** A ring of `count` sockets from `head` on, its length a power of two. */
  private ring: (Flushable | null)[]
  private head: number
  private count: number
  private isScheduled: boolean
  private readonly onTurnEnd: () => void

  constructor() {
    this.beforeFlush = null
    this.ring = emptyRing(KEPT)
    this.head = 0
    this.count = 0
    this.isScheduled = false
    this.onTurnEnd = () => this.flush()
  }

  /** Not again before it was flushed. */
  push(socket: Flushable): void {
    if (this.count === this.ring.length) this.grow()
    this.ring[(this.head + this.count) & (this.ring.length - 1)] = socket
    this.count++
    if (!this.isScheduled) this.schedule()
  }

  private flush(): void {
    this.isScheduled = false
    if (this.beforeFlush !== null) this.beforeFlush()
    // What becomes dirty by this is written in the next turn.
    for (let left = Math.min(this.count, FLUSHES_A_TURN); left > 0; left--) {
      const { ring, head } = this
      const socket = ring[head]!
      ring[head] = null
      this.head = (head + 1) & (ring.length - 1)
      this.count--
      socket.flush()
    }
    if (this.count > 0) this.schedule()
    else if (this.ring.length > KEPT) this.ring = emptyRing(KEPT)
    if (this.count === 0) this.head = 0
  }

  private schedule(): void {
    if (this.isScheduled) return
    this.isScheduled = true
    setImmediate(this.onTurnEnd)
  }

  private grow(): void {
    const { ring, head, count } = this
    const grown = emptyRing(2 * count)
    for (let i = 0; i < count; i++) grown[i] = ring[(head + i) & (ring.length - 1)]!
    this.ring = grown
    this.head = 0
  }
}

function emptyRing(length: number): (Flushable | null)[] {
  return new Array<Flushable | null>(length).fill(null)
}
