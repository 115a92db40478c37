/**
 * Deadlines of many things in one binary heap, so that one timer serves them all. It holds no timer:
 * its owner asks for `next`, and takes what is due. Deadlines are numbers on any scale that rises.
 */

/** A place in a heap, made once by the thing that has the deadline and used again and again. */
export class Deadline<T> {
  readonly owner: T
  /** Read only for the owner: see `DeadlineHeap.set`. */
  at: number
  /** In the heap; -1 when it is in none. */
  index: number
  /** Of two with one deadline, the one that was set first comes first. */
  order: number

  constructor(owner: T) {
    this.owner = owner
    this.at = 0
    this.index = -1
    this.order = 0
  }

  get isSet(): boolean {
    return this.index !== -1
  }
}

export class DeadlineHeap<T> {
  private readonly items: Deadline<T>[]
  private orders: number

  constructor() {
    this.items = []
    this.orders = 0
  }

  get size(): number {
    return this.items.length
  }

  /** The earliest deadline; Infinity when there is none. */
  get next(): number {
    return this.items[0]?.at ?? Number.POSITIVE_INFINITY
  }

  /** The earliest, which stays; null when there is none. */
  peek(): Deadline<T> | null {
    return this.items[0] ?? null
  }

  /** Sets a deadline, or moves the one that was set in this heap. O(log n). */
  set(deadline: Deadline<T>, at: number): void {
    if (Number.isNaN(at)) throw new RangeError('a deadline is a number')
    if (deadline.index !== -1 && this.items[deadline.index] !== deadline) {
      throw new RangeError('the deadline is set in another heap')
    }
    deadline.at = at
    deadline.order = this.orders++
    if (deadline.index === -1) {
      deadline.index = this.items.length
      this.items.push(deadline)
    }
    this.up(deadline, deadline.index)
    this.down(deadline, deadline.index)
  }

  /** Takes a deadline away; false when it was not set. O(log n). */
  clear(deadline: Deadline<T>): boolean {
    const index = deadline.index
    if (index === -1 || this.items[index] !== deadline) return false
    deadline.index = -1
    const last = this.items.pop() as Deadline<T>
    if (last === deadline) return true
    this.up(last, index)
    this.down(last, last.index)
    return true
  }

  /** Takes the earliest if it is due at `now` (its deadline is not later); else null. */
  takeDue(now: number): Deadline<T> | null {
    const first = this.items[0]
    if (first === undefined || first.at > now) return null
    this.clear(first)
    return first
  }

  /** Puts `item`, which belongs at `index` or above, in its place. */
  private up(item: Deadline<T>, index: number): void {
    const items = this.items
    while (index > 0) {
      const parentIndex = (index - 1) >> 1
      const parent = items[parentIndex] as Deadline<T>
      if (!isBefore(item, parent)) break
      items[index] = parent
      parent.index = index
      index = parentIndex
    }
    items[index] = item
    item.index = index
  }

  /** Puts `item`, which belongs at `index` or below, in its place. */
  private down(item: Deadline<T>, index: number): void {
    const items = this.items
    const count = items.length
    for (let childIndex = 2 * index + 1; childIndex < count; childIndex = 2 * index + 1) {
      let child = items[childIndex] as Deadline<T>
      if (childIndex + 1 < count && isBefore(items[childIndex + 1] as Deadline<T>, child)) {
        childIndex += 1
        child = items[childIndex] as Deadline<T>
      }
      if (!isBefore(child, item)) break
      items[index] = child
      child.index = index
      index = childIndex
    }
    items[index] = item
    item.index = index
  }
}

function isBefore<T>(a: Deadline<T>, b: Deadline<T>): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order)
}
