/**
 * A set that is read as an array: `items` may be walked with a plain loop, `add` and `delete` are
 * O(1) amortised. `delete` moves the last item into the gap, so the order is not that of insertion.
 * Small sets, nearly all, keep no index beside the array.
 */
const INDEX_FROM = 16

export class ArraySet<T> {
  /** Read only for callers; not to be kept over a change. */
  readonly items: T[]
  private positions: Map<T, number> | null

  constructor(first: T) {
    this.items = [first]
    this.positions = null
  }

  get size(): number {
    return this.items.length
  }

  has(item: T): boolean {
    return this.indexOf(item) !== -1
  }

  /** False when it was there already. */
  add(item: T): boolean {
    if (this.indexOf(item) !== -1) return false
    this.items.push(item)
    if (this.positions !== null) this.positions.set(item, this.items.length - 1)
    else if (this.items.length > INDEX_FROM) this.buildIndex()
    return true
  }

  /** False when it was not there. */
  delete(item: T): boolean {
    const index = this.indexOf(item)
    if (index === -1) return false
    const last = this.items.pop() as T
    if (index < this.items.length) {
      this.items[index] = last
      this.positions?.set(last, index)
    }
    this.positions?.delete(item)
    // Half the bound, so that a set at its edge does not build and drop its index in turn.
    if (this.positions !== null && this.items.length < INDEX_FROM / 2) this.positions = null
    return true
  }

  private indexOf(item: T): number {
    if (this.positions === null) return this.items.indexOf(item)
    return this.positions.get(item) ?? -1
  }

  private buildIndex(): void {
    this.positions = new Map()
    for (let i = 0; i < this.items.length; i++) this.positions.set(this.items[i] as T, i)
  }
}
