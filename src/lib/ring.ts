/** A queue of objects in a ring that grows and shrinks: push and shift without moving the others. */
const CAPACITY_MIN = 8

export class Ring<T> {
  private slots: (T | undefined)[]
  private head: number
  private count: number

  constructor() {
    this.slots = new Array(CAPACITY_MIN).fill(undefined)
    this.head = 0
    this.count = 0
  }

  get length(): number {
    return this.count
  }

  /** At the end. */
  push(item: T): void {
    if (this.count === this.slots.length) this.resize(this.count * 2)
    this.slots[this.slot(this.count)] = item
    this.count += 1
  }

  /** At the front: what was shifted goes back to where it was. */
  unshift(item: T): void {
    if (this.count === this.slots.length) this.resize(this.count * 2)
    this.head = this.slot(this.slots.length - 1)
    this.slots[this.head] = item
    this.count += 1
  }

  /** Takes the first; undefined when empty. */
  shift(): T | undefined {
    if (this.count === 0) return undefined
    const item = this.slots[this.head]
    this.slots[this.head] = undefined
    this.head = this.slot(1)
    this.count -= 1
    this.shrink()
    return item
  }

  /** Takes the last; undefined when empty. */
  pop(): T | undefined {
    if (this.count === 0) return undefined
    const at = this.slot(this.count - 1)
    const item = this.slots[at]
    this.slots[at] = undefined
    this.count -= 1
    this.shrink()
    return item
  }

  /** The first, which stays; undefined when empty. */
  peek(): T | undefined {
    return this.slots[this.head]
  }

  /** The item `index` places behind the first; undefined beyond the end. */
  at(index: number): T | undefined {
    return index >= 0 && index < this.count ? this.slots[this.slot(index)] : undefined
  }

  clear(): void {
    this.slots = new Array(CAPACITY_MIN).fill(undefined)
    this.head = 0
    this.count = 0
  }

  /** The capacity is a power of two. */
  private slot(index: number): number {
    return (this.head + index) & (this.slots.length - 1)
  }

  /** A quarter full, not half: at an edge it does not grow and shrink in turn. */
  private shrink(): void {
    const capacity = this.slots.length
    if (capacity > CAPACITY_MIN && this.count <= capacity / 4) this.resize(capacity / 2)
  }

  private resize(capacity: number): void {
    const slots: (T | undefined)[] = new Array(capacity).fill(undefined)
    for (let i = 0; i < this.count; i++) slots[i] = this.slots[this.slot(i)]
    this.slots = slots
    this.head = 0
  }
}
