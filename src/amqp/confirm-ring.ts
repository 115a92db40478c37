/**
 * The confirms that one channel owes its publisher, by publishing sequence number (1, 2, …): the one
 * place where the channel's basic.ack frames come from. A confirm may leave when the ticket of its
 * message is durable; consecutive ones leave as one frame with `multiple`, which never reaches past a
 * number that is not yet confirmed. One whose message waits for nothing does not wait for those before it.
 */

/** Who writes the frames. */
export interface ConfirmSink {
  onConfirm(sequence: number, multiple: boolean): void
}

/** In `tickets`: the confirm has left, or a nack instead of it. */
const SENT = -1
const FIRST_CAPACITY = 16

export class ConfirmRing {
  /** The smallest number whose confirm has not left. */
  private head: number
  /** The number of the next publish. */
  private next: number
  /** By number modulo the (power of two) length. */
  private tickets: Float64Array
  /** Numbers at or above it that wait for nothing and have not left are looked for from here. */
  private readyFrom: number
  private readyCount: number

  constructor() {
    this.head = 1
    this.next = 1
    this.tickets = new Float64Array(FIRST_CAPACITY)
    this.readyFrom = 1
    this.readyCount = 0
  }

  /** Confirms that wait for the disk. */
  get isWaiting(): boolean {
    return this.next > this.head
  }

  get nextSequence(): number {
    return this.next
  }

  /** A publish was taken; `ticket` 0: nothing to wait for. Returns its number. */
  push(ticket: number): number {
    const sequence = this.next++
    if (sequence - this.head >= this.tickets.length) this.grow()
    this.tickets[sequence & (this.tickets.length - 1)] = ticket
    if (ticket === 0) {
      if (this.readyCount === 0) this.readyFrom = sequence
      this.readyCount++
    }
    return sequence
  }

  /** A publish was refused; its nack leaves at once, by the caller. Returns its number. */
  skip(): number {
    return this.push(SENT)
  }

  /** Lets go what may leave now: everything up to `durableTicket`, and what waits for nothing. */
  release(durableTicket: number, sink: ConfirmSink): void {
    const mask = this.tickets.length - 1
    let unsent = 0
    let last = 0
    while (this.head < this.next) {
      const ticket = this.tickets[this.head & mask]!
      if (ticket > durableTicket) break
      if (ticket !== SENT) {
        unsent++
        last = this.head
        if (ticket === 0) this.readyCount--
      }
      this.head++
    }
    if (unsent > 0) sink.onConfirm(last, unsent > 1)
    if (this.readyCount > 0) this.releaseBehind(sink)
  }

  /** Those behind the head that wait for nothing: one frame each. */
  private releaseBehind(sink: ConfirmSink): void {
    const mask = this.tickets.length - 1
    for (let at = Math.max(this.readyFrom, this.head); at < this.next; at++) {
      if (this.tickets[at & mask] !== 0) continue
      this.tickets[at & mask] = SENT
      sink.onConfirm(at, false)
    }
    this.readyCount = 0
  }

  private grow(): void {
    const old = this.tickets
    const grown = new Float64Array(old.length * 2)
    for (let at = this.head; at < this.next; at++) {
      grown[at & (grown.length - 1)] = old[at & (old.length - 1)]!
    }
    this.tickets = grown
  }
}
