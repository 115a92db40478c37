/**
 * Who may come in: a bound on all connections together, and a rate for each listener.
 *
 * Node cannot stop accepting: libuv takes connections off the kernel's queue as they come. So what comes
 * faster than its listener's rate is accepted, left unread (`pauseOnConnect`), and held in a list until
 * its turn: to the client it looks like a longer accept queue, nobody is refused. Held sockets count as
 * connections, which bounds the list. Beyond the bound on connections a socket is closed at once and
 * counted: with no descriptor left, Node would do the same without telling anybody.
 */
import { readFileSync } from 'node:fs'
import { TokenBucket } from '../lib/token-bucket.ts'

/** Descriptors kept for the journal, the log and the rest of the process. */
const RESERVED_DESCRIPTORS = 64
const CONNECTIONS_MIN = 16

export interface AdmissionOptions {
  /** Most connections at once, all listeners together. */
  readonly connectionsMax: number
  /** New connections a second of a listener, and how many of them at once. */
  readonly perSecond: number
  readonly burst: number
}

/** One for the whole process. */
export class Admission {
  readonly connectionsMax: number
  readonly perSecond: number
  readonly burst: number
  /** Connections that are open, held ones included. */
  open = 0
  /** Closed at once because `connectionsMax` was reached. */
  refused = 0
  /** Had to wait for their turn. */
  delayed = 0

  constructor(options: AdmissionOptions) {
    this.connectionsMax = options.connectionsMax
    this.perSecond = options.perSecond
    this.burst = options.burst
  }

  /** Takes a place; false, and counted, when there is none. */
  enter(): boolean {
    if (this.open >= this.connectionsMax) {
      this.refused++
      return false
    }
    this.open++
    return true
  }

  /** Gives a place back: once for each `enter` that was true. */
  leave(): void {
    if (this.open > 0) this.open--
  }
}

/** The list of those whose turn has not come, of one listener. `pass` is called in order of arrival. */
export class Turnstile<T> {
  readonly #bucket: TokenBucket
  readonly #pass: (item: T) => void
  readonly #nowMs: () => number
  #held: T[] = []
  #first = 0
  #timer: NodeJS.Timeout | null = null
  #isClosed = false

  constructor(
    perSecond: number,
    burst: number,
    pass: (item: T) => void,
    nowMs: () => number = () => performance.now()
  ) {
    this.#bucket = new TokenBucket(perSecond, burst, nowMs())
    this.#pass = pass
    this.#nowMs = nowMs
  }

  get heldCount(): number {
    return this.#held.length - this.#first
  }

  /** Lets the item pass now (true) or keeps it for later (false). */
  push(item: T): boolean {
    if (this.heldCount === 0 && this.#bucket.take(this.#nowMs())) {
      this.#pass(item)
      return true
    }
    this.#held.push(item)
    this.#arm()
    return false
  }

  /** Lets those pass whose turn it is. */
  drain(): void {
    const nowMs = this.#nowMs()
    while (!this.#isClosed && this.heldCount > 0 && this.#bucket.take(nowMs)) {
      const item = this.#held[this.#first]!
      this.#first++
      this.#pass(item)
    }
    if (this.#first > 1024 || this.heldCount === 0) {
      this.#held = this.#held.slice(this.#first)
      this.#first = 0
    }
    this.#arm()
  }

  /** Gives back what is still held. */
  close(): T[] {
    this.#isClosed = true
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
    const left = this.#held.slice(this.#first)
    this.#held = []
    this.#first = 0
    return left
  }

  #arm(): void {
    if (this.#timer !== null || this.#isClosed || this.heldCount === 0) return
    const waitMs = Math.max(1, this.#bucket.waitMs(this.#nowMs()))
    this.#timer = setTimeout(() => {
      this.#timer = null
      this.drain()
    }, waitMs)
  }
}

/** Most connections that the limit on open files leaves room for. */
export function connectionsByDescriptors(limit = openFilesLimit()): number {
  return Math.max(CONNECTIONS_MIN, limit - RESERVED_DESCRIPTORS)
}

/** `ulimit -n` of this process; 1,024 where it cannot be read. */
export function openFilesLimit(): number {
  try {
    return parseOpenFilesLimit(readFileSync('/proc/self/limits', 'latin1'))
  } catch (error) {
    // No /proc: not Linux.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 1_024
    throw error
  }
}

export function parseOpenFilesLimit(table: string): number {
  const soft = /^Max open files\s+(\S+)/m.exec(table)?.[1]
  if (soft === 'unlimited') return 2 ** 20
  const limit = Number(soft)
  return Number.isInteger(limit) && limit > 0 ? limit : 1_024
}
