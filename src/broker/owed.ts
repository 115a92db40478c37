/**
 * The acknowledgements that a connection owes until its records are durable, in the order in which they
 * must leave: a ring of typed arrays, so that none costs an object. `a` and `b` are the owner's.
 */
const FIRST_CAPACITY = 16
/** A ring that was larger is given up when it is empty. */
const KEPT_CAPACITY = 256
const NO_TICKETS = new Float64Array(0)
const NO_WORDS = new Uint32Array(0)

/** Gets what is released, in order. */
export interface OwedVisitor {
  onOwed(a: number, b: number): void
}

export class OwedAcks {
  /** How many are owed. */
  count: number
  private tickets: Float64Array
  /** `a` and `b` of each in turn. */
  private words: Uint32Array
  private head: number

  constructor() {
    this.count = 0
    this.tickets = NO_TICKETS
    this.words = NO_WORDS
    this.head = 0
  }

  /** Owes one more: it leaves when `ticket` is durable and all before it have left. */
  push(ticket: number, a: number, b: number): void {
    if (this.count === this.tickets.length) this.grow()
    const at = (this.head + this.count) & (this.tickets.length - 1)
    this.tickets[at] = ticket
    this.words[2 * at] = a
    this.words[2 * at + 1] = b
    this.count++
  }

  /** Visits, and forgets, the first ones up to the first whose ticket is above `ticket`. */
  release(ticket: number, visitor: OwedVisitor): void {
    while (this.count > 0 && this.tickets[this.head]! <= ticket) {
      const a = this.words[2 * this.head]!
      const b = this.words[2 * this.head + 1]!
      this.head = (this.head + 1) & (this.tickets.length - 1)
      this.count--
      // The visitor may push.
      visitor.onOwed(a, b)
    }
    if (this.count === 0 && this.tickets.length > KEPT_CAPACITY) this.clear()
  }

  /** Owes nothing any more. */
  clear(): void {
    this.count = 0
    this.head = 0
    this.tickets = NO_TICKETS
    this.words = NO_WORDS
  }

  private grow(): void {
    const capacity = this.tickets.length
    const tickets = new Float64Array(Math.max(capacity * 2, FIRST_CAPACITY))
    const words = new Uint32Array(tickets.length * 2)
    for (let i = 0; i < this.count; i++) {
      const from = (this.head + i) & (capacity - 1)
      tickets[i] = this.tickets[from]!
      words[2 * i] = this.words[2 * from]!
      words[2 * i + 1] = this.words[2 * from + 1]!
    }
    this.tickets = tickets
    this.words = words
    this.head = 0
  }
}
