/**
 * What tells a duplicate: the keys (values of the header `x-deduplication-header`, see broker/deduplicate.ts) that an
 * exchange of type `x-message-deduplication` has let pass, and those of the messages that lie in a queue declared with
 * `x-message-deduplication`.
 *
 * An exchange's keys have numbers that rise. Its oldest leave when it is full; the record of a message says with
 * its key which number is the oldest that is still known (`floor`): so replay never decides. A queue's keys only
 * point at its entries: what became of a message shows there, so whoever settles one need not know of them.
 */
import { fieldOf, type FieldTable, integerOf } from './field-table.ts'
import type { Queue } from './queue.ts'
import { SETTLED } from './queue-entry.ts'

export const DEDUPLICATION_TYPE = 'x-message-deduplication'
/** Stale keys of a queue that are not worth a walk. */
const STALE_MIN = 64

/** A key that an exchange remembers. */
export interface Seen {
  readonly sequence: number
  /** Store time; 0: until others push it out. */
  readonly expiresAt: number
}

/** A key beside a message: with it, it is remembered, in one record. */
export interface Mark {
  readonly cache: KeyCache | null
  /** Without a cache: the place among the message's targets. */
  readonly target: number
  readonly key: string
  readonly sequence: number
  readonly expiresAt: number
  readonly ttlMs: number
  readonly floor: number
}

/** Of an exchange. */
export class KeyCache {
  /** Of queues and caches: never used twice. */
  readonly id: number
  readonly vhost: string
  readonly exchange: string
  /** Its keys are in records: `x-cache-persistence` disk, of a durable exchange. */
  readonly isLasting: boolean
  readonly sizeMax: number
  readonly ttlMs: number
  nextSequence: number
  /** What has a lower number is forgotten. */
  floor: number
  /** With it the last message that brought a key is durable; 0: it was for no disk. */
  ticket: number
  readonly keys: Map<string, Seen>
  /** Remembered since the last walk over all. */
  #sinceWalk: number
  /** At replay keys may come in another order than they were remembered in. */
  #isOrdered: boolean

  constructor(id: number, vhost: string, exchange: string, isDurable: boolean, table: FieldTable) {
    this.id = id
    this.vhost = vhost
    this.exchange = exchange
    this.isLasting = isDurable && textOf(table, 'x-cache-persistence') === 'disk'
    this.sizeMax = Math.max(1, wholeOf(table, 'x-cache-size') ?? 1)
    this.ttlMs = wholeOf(table, 'x-cache-ttl') ?? 0
    this.nextSequence = 1
    this.floor = 1
    this.ticket = 0
    this.keys = new Map()
    this.#sinceWalk = 0
    this.#isOrdered = true
  }

  get size(): number {
    return this.keys.size
  }

  has(key: string, nowMs: number): boolean {
    const seen = this.keys.get(key)
    return seen !== undefined && (seen.expiresAt === 0 || seen.expiresAt > nowMs)
  }

  /** Room for one more: what has expired goes, then the oldest. */
  makeRoom(nowMs: number): void {
    const { keys } = this
    for (const [key, { expiresAt }] of keys) {
      if (expiresAt === 0 || expiresAt > nowMs) break
      keys.delete(key)
    }
    if (keys.size < this.sizeMax) return
    // Keys with times of their own expire behind those that do not: now and then all are looked at.
    if (this.#sinceWalk * 2 >= this.sizeMax) this.#walk(nowMs)
    while (keys.size >= this.sizeMax) this.dropOldest()
  }

  dropOldest(): void {
    const [oldest] = this.keys
    if (oldest === undefined) return
    this.keys.delete(oldest[0])
    this.floor = oldest[1].sequence + 1
  }

  /** Live: the next number, room was made. At replay: as the record says. */
  remember(key: string, sequence: number, expiresAt: number, floor: number, nowMs: number): void {
    if (floor > this.floor) this.floor = floor
    if (sequence < this.nextSequence) this.#isOrdered = false
    else this.nextSequence = sequence + 1
    this.keys.delete(key)
    this.keys.set(key, { sequence, expiresAt })
    this.#sinceWalk++
    if (this.keys.size > this.sizeMax && this.#sinceWalk >= this.sizeMax) this.#walk(nowMs)
  }

  /** After replay. */
  restore(): void {
    this.#walk(0)
  }

  #walk(nowMs: number): void {
    this.#sinceWalk = 0
    const { keys, floor } = this
    for (const [key, { sequence, expiresAt }] of keys) {
      if (sequence < floor || (expiresAt !== 0 && expiresAt <= nowMs)) keys.delete(key)
    }
    if (this.#isOrdered) return
    this.#isOrdered = true
    const all = [...keys].sort((a, b) => a[1].sequence - b[1].sequence)
    keys.clear()
    for (const [key, seen] of all) keys.set(key, seen)
  }
}

/** Of a queue; with priorities, of all its levels. */
export class QueueKeys {
  /** Sequences, as `PriorityLevels.nameOf` writes them where there are levels. */
  readonly keys: Map<string, number>
  /** With it the last message that brought a key is durable; 0: it was for no disk. */
  ticket: number
  readonly #queue: Queue

  constructor(queue: Queue) {
    this.keys = new Map()
    this.ticket = 0
    this.#queue = queue
  }

  get size(): number {
    return this.keys.size
  }

  /** A message with this key is in the queue, ready or delivered and not settled. */
  has(key: string): boolean {
    const name = this.keys.get(key)
    return name !== undefined && this.isOpen(name)
  }

  isOpen(name: number): boolean {
    const { levels } = this.#queue
    if (levels === null) return this.#queue.stateOf(name) !== SETTLED
    return levels.levelOf(name).stateOf(levels.sequenceOf(name)) !== SETTLED
  }

  /** The entry need not be there yet. */
  remember(key: string, level: Queue, sequence: number): void {
    if (this.keys.size >= 2 * this.#count() + STALE_MIN) this.dropStale()
    this.keys.delete(key)
    this.keys.set(key, level.levels?.nameOf(level, sequence) ?? sequence)
  }

  dropStale(): void {
    for (const [key, name] of this.keys) if (!this.isOpen(name)) this.keys.delete(key)
  }

  dropOldest(): void {
    const [oldest] = this.keys
    if (oldest !== undefined) this.keys.delete(oldest[0])
  }

  #count(): number {
    const { levels } = this.#queue
    if (levels === null) return this.#queue.count
    let count = 0
    for (const level of levels.used) count += level.count
    return count
  }
}

type Keys = KeyCache | QueueKeys

/** All of them: part of `State`. */
export class Deduplication {
  readonly caches: Map<number, KeyCache>
  /** By the queue's id. */
  readonly queues: Map<number, QueueKeys>
  /** Keys in all of them. */
  count: number
  #largest: Keys | null

  constructor() {
    this.caches = new Map()
    this.queues = new Map()
    this.count = 0
    this.#largest = null
  }

  remember(mark: Mark, cache: KeyCache, nowMs: number): void {
    const before = cache.size
    cache.remember(mark.key, mark.sequence, mark.expiresAt, mark.floor, nowMs)
    this.#grown(cache, before)
  }

  makeRoom(cache: KeyCache, nowMs: number): void {
    const before = cache.size
    cache.makeRoom(nowMs)
    this.count += cache.size - before
  }

  rememberIn(queue: Queue, key: string, sequence: number): QueueKeys {
    const keys = this.keysOf(queue)
    const before = keys.size
    keys.remember(key, queue, sequence)
    this.#grown(keys, before)
    return keys
  }

  /** Of a queue or a level of it. */
  keysOf(level: Queue): QueueKeys {
    const queue = level.levels === null ? level : level.levels.owner
    let keys = this.queues.get(queue.id)
    if (keys === undefined) {
      keys = new QueueKeys(queue)
      this.queues.set(queue.id, keys)
    }
    return keys
  }

  #grown(keys: Keys, before: number): void {
    this.count += keys.size - before
    if (this.#largest === null || keys.size > this.#largest.size) this.#largest = keys
  }

  /** The one that has the most gives up its oldest until no more than `max` are left. */
  bound(max: number): void {
    while (this.count > max && this.#largest !== null) {
      const before = this.#largest.size
      this.#largest.dropOldest()
      this.count += this.#largest.size - before
      if (before === 0) this.#findLargest()
    }
  }

  /** The exchange or the queue is gone. */
  end(id: number): void {
    const keys = this.caches.get(id) ?? this.queues.get(id)
    if (keys === undefined) return
    this.count -= keys.size
    this.caches.delete(id)
    this.queues.delete(id)
    if (this.#largest === keys) this.#findLargest()
  }

  #findLargest(): void {
    this.#largest = null
    for (const keys of [...this.caches.values(), ...this.queues.values()]) {
      if (keys.size > (this.#largest?.size ?? 0)) this.#largest = keys
    }
  }

  /** After replay. */
  restore(max: number): void {
    for (const cache of this.caches.values()) cache.restore()
    for (const keys of this.queues.values()) keys.dropStale()
    this.count = 0
    for (const keys of [...this.caches.values(), ...this.queues.values()]) this.count += keys.size
    this.#findLargest()
    this.bound(max)
  }
}

/** A whole number, also written as a text: the plugin takes both. */
export function wholeOf(table: FieldTable, name: string): number | null {
  const value = fieldOf(table, name)
  if (value === null) return null
  if (value.type === 'S') return /^\+?\d{1,15}$/.test(value.value) ? Number(value.value) : null
  return integerOf(value)
}

function textOf(table: FieldTable, name: string): string | null {
  const value = fieldOf(table, name)
  return value?.type === 'S' ? value.value : null
}
