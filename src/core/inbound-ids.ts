/**
 * Inbound QoS 2 packet identifiers that are not yet released. A few are kept with the tickets of their
 * messages; many as a set of bits, 8 KiB however many there are, with the newest ticket alone: a repeat
 * then waits for that one, which was given before the repeat came.
 */
const FEW_MAX = 64
const WORDS = 65_536 / 32

export class InboundIds {
  /** How many. */
  size: number
  private few: Map<number, number>
  private bits: Uint32Array | null
  private newest: number

  constructor() {
    this.size = 0
    this.few = new Map()
    this.bits = null
    this.newest = 0
  }

  /** The ticket that the identifier's PUBREC waits for; undefined when it is not known. */
  get(id: number): number | undefined {
    const { bits } = this
    if (bits === null) return this.few.get(id)
    return (bits[id >> 5]! & (1 << (id & 31))) === 0 ? undefined : this.newest
  }

  has(id: number): boolean {
    return this.get(id) !== undefined
  }

  set(id: number, ticket: number): void {
    if (this.bits === null) {
      this.few.set(id, ticket)
      this.size = this.few.size
      if (this.size > FEW_MAX) this.spread()
      return
    }
    if (!this.has(id)) this.size++
    this.bits[id >> 5]! |= 1 << (id & 31)
    this.newest = Math.max(this.newest, ticket)
  }

  /** False: it was not known. */
  delete(id: number): boolean {
    const { bits } = this
    if (bits === null) {
      if (!this.few.delete(id)) return false
      this.size--
      return true
    }
    if (!this.has(id)) return false
    bits[id >> 5]! &= ~(1 << (id & 31))
    if (--this.size === 0) this.bits = null
    return true
  }

  *keys(): Generator<number> {
    const { bits } = this
    if (bits === null) yield* this.few.keys()
    else for (let id = 1; id < 65_536; id++) if (this.has(id)) yield id
  }

  private spread(): void {
    const { few } = this
    this.few = new Map()
    this.bits = new Uint32Array(WORDS)
    this.size = 0
    this.newest = 0
    for (const [id, ticket] of few) this.set(id, ticket)
  }
}
