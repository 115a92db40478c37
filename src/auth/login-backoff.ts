/**
 * Slows those down who guess passwords. By address and user: five failures a second are free (a device
 * with a wrong password must not be locked out by its own retries), then pauses that double from one
 * second to one minute. In a pause every attempt is refused, right ones too: else the answer would tell
 * which guess was right. A success, or quiet, forgives. Pure: the time is handed in.
 */
const FREE_PER_SECOND = 5
const PAUSE_MS_MIN = 1_000
const PAUSE_MS_MAX = 60_000
const QUIET_MS_MIN = 60_000
const ENTRIES_MAX = 10_000

interface Entry {
  windowStartMs: number
  failures: number
  /** Attempts whose outcome is not known yet: as many could fail. */
  open: number
  pauseMs: number
  pausedUntilMs: number
  lastMs: number
}

export class LoginBackoff {
  readonly #entries = new Map<string, Entry>()

  get size(): number {
    return this.#entries.size
  }

  /** Whether an attempt may be made now; true counts it as open until `succeed`, `fail` or `drop`. */
  begin(address: string, user: string, nowMs: number): boolean {
    const entry = this.#entryOf(address, user, nowMs)
    if (nowMs < entry.pausedUntilMs || entry.open >= FREE_PER_SECOND) return false
    entry.open++
    entry.lastMs = nowMs
    return true
  }

  /** Whether a pause is on. */
  isPaused(address: string, user: string, nowMs: number): boolean {
    const entry = this.#entries.get(keyOf(address, user))
    return entry !== undefined && nowMs < entry.pausedUntilMs
  }

  succeed(address: string, user: string): void {
    const entry = this.#entries.get(keyOf(address, user))
    if (entry === undefined) return
    entry.open--
    entry.failures = 0
    entry.pauseMs = 0
    if (entry.open <= 0) this.#entries.delete(keyOf(address, user))
  }

  fail(address: string, user: string, nowMs: number): void {
    const entry = this.#entryOf(address, user, nowMs)
    if (entry.open > 0) entry.open--
    if (nowMs - entry.windowStartMs >= 1_000) {
      entry.windowStartMs = nowMs
      entry.failures = 0
    }
    entry.failures++
    entry.lastMs = nowMs
    if (entry.pauseMs === 0 && entry.failures < FREE_PER_SECOND) return
    entry.pauseMs = entry.pauseMs === 0 ? PAUSE_MS_MIN : Math.min(entry.pauseMs * 2, PAUSE_MS_MAX)
    entry.pausedUntilMs = nowMs + entry.pauseMs
  }

  /** The attempt came to no result. */
  drop(address: string, user: string): void {
    const entry = this.#entries.get(keyOf(address, user))
    if (entry !== undefined && entry.open > 0) entry.open--
  }

  #entryOf(address: string, user: string, nowMs: number): Entry {
    const key = keyOf(address, user)
    const known = this.#entries.get(key)
    if (known !== undefined) {
      const quietMs = Math.max(QUIET_MS_MIN, 2 * known.pauseMs)
      if (known.open > 0 || nowMs - known.lastMs < quietMs) return known
      this.#entries.delete(key)
    }
    if (this.#entries.size >= ENTRIES_MAX) this.#evict()
    const entry: Entry = {
      windowStartMs: nowMs,
      failures: 0,
      open: 0,
      pauseMs: 0,
      pausedUntilMs: 0,
      lastMs: nowMs
    }
    this.#entries.set(key, entry)
    return entry
  }

  /** Makes room: the oldest without an open attempt, else the oldest. */
  #evict(): void {
    let oldest: string | null = null
    for (const [key, entry] of this.#entries) {
      oldest ??= key
      if (entry.open > 0) continue
      oldest = key
      break
    }
    if (oldest !== null) this.#entries.delete(oldest)
  }
}

function keyOf(address: string, user: string): string {
  return `${address}\n${user}`
}
