/**
 * Two clients with one id that connect again and again, each closing the other: every CONNECT would be a
 * record and a synced write. An id may be taken over from a live connection ten times at once, then once
 * a second; a CONNECT beyond that waits, with its connection open, until its turn comes. The newest one
 * waits: an older one that waited is refused.
 */
const BURST = 10
const PER_SECOND = 1
/** Ids that are remembered; the oldest are let go. */
const IDS_MAX = 10_000

/** A connection whose CONNECT waits. */
export interface WaitingConnect {
  readonly isClosed: boolean
  /** Its turn has come. */
  proceed(): void
  /** Another one came for the same id. */
  overtaken(): void
}

interface Entry {
  tokens: number
  atMs: number
  waiting: WaitingConnect | null
}

export class Takeovers {
  private readonly entries: Map<string, Entry>

  constructor() {
    this.entries = new Map()
  }

  /** True: it may take over now. False: it waits, and is told. */
  admit(key: string, nowMs: number, connect: () => WaitingConnect): boolean {
    const entry = this.entries.get(key) ?? this.open(key, nowMs)
    refill(entry, nowMs)
    if (entry.tokens >= 1 && entry.waiting === null) {
      entry.tokens--
      return true
    }
    const before = entry.waiting
    entry.waiting = connect()
    if (before !== null && !before.isClosed) before.overtaken()
    return false
  }

  /** Once a second. */
  tick(nowMs: number): void {
    for (const [key, entry] of this.entries) {
      refill(entry, nowMs)
      if (entry.waiting?.isClosed) entry.waiting = null
      if (entry.waiting !== null && entry.tokens >= 1) {
        entry.tokens--
        letGo(entry)
      } else if (entry.waiting === null && entry.tokens >= BURST) this.entries.delete(key)
    }
  }

  private open(key: string, nowMs: number): Entry {
    if (this.entries.size >= IDS_MAX) {
      const [oldest] = this.entries.keys()
      const entry = this.entries.get(oldest!)!
      this.entries.delete(oldest!)
      letGo(entry)
    }
    const entry: Entry = { tokens: BURST, atMs: nowMs, waiting: null }
    this.entries.set(key, entry)
    return entry
  }
}

function refill(entry: Entry, nowMs: number): void {
  entry.tokens = Math.min(BURST, entry.tokens + ((nowMs - entry.atMs) / 1_000) * PER_SECOND)
  entry.atMs = nowMs
}

function letGo(entry: Entry): void {
  const { waiting } = entry
  entry.waiting = null
  if (waiting !== null && !waiting.isClosed) waiting.proceed()
}
