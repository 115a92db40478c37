/**
 * How full the disk is. Looked at when a segment is prepared and, while there is traffic or the level is not
 * green, every few seconds; an idle broker on a green disk has no timer here. A preparation that found no
 * room makes the level red whatever the numbers say, until one succeeds.
 */
import type { Disk } from './disk.ts'
import type { DiskLevel } from './journal.ts'
import type { JournalLimits, JournalLog, JournalTimers } from './options.ts'

/** How often space is looked at while it is short, milliseconds: publishers wait for it. */
const SHORT_POLL_MS = 1_000
const LOG_LEVELS = { green: 'info', yellow: 'warn', red: 'error' } as const

export class SpaceWatch {
  level: DiskLevel = 'green'
  hasNoRoom = false
  freeBytes = Number.POSITIVE_INFINITY
  /** Told of each change, and after each look that time brought; set once by log.ts. */
  onLevel: (level: DiskLevel) => void = () => undefined
  onLook: () => void = () => undefined

  readonly #disk: Disk
  readonly #folder: string
  readonly #limits: JournalLimits
  readonly #timers: JournalTimers
  readonly #log: JournalLog
  #yellowBytes: number
  #redBytes: number
  #lookedAt = Number.NEGATIVE_INFINITY
  #isLooking = false
  #timer: unknown = null
  #isClosed = false

  constructor(
    disk: Disk,
    folder: string,
    limits: JournalLimits,
    timers: JournalTimers,
    log: JournalLog
  ) {
    this.#disk = disk
    this.#folder = folder
    this.#limits = limits
    this.#timers = timers
    this.#log = log
    this.#yellowBytes = limits.yellowFreeBytes
    this.#redBytes = limits.redFreeBytes
  }

  /** Looks now. A disk that does not tell its free space changes nothing. */
  async look(): Promise<void> {
    if (this.#isLooking || this.#isClosed) return
    this.#isLooking = true
    try {
      const { freeBytes, totalBytes } = await this.#disk.space(this.#folder)
      this.freeBytes = freeBytes
      this.#yellowBytes = this.#limits.yellowFreeBytes || Math.min(totalBytes / 5, 2 ** 30)
      this.#redBytes = this.#limits.redFreeBytes || Math.min(totalBytes / 20, 2 ** 28)
    } catch (error) {
      this.#log('warn', 'free space of the disk is not known', { error: String(error) })
    } finally {
      this.#isLooking = false
    }
    this.#judge()
  }

  /** Looks if the last look is some seconds old. Called by the traffic. */
  lookIfOld(nowMs: number): void {
    if (nowMs - this.#lookedAt < this.#limits.spacePollMs) return
    this.#lookedAt = nowMs
    void this.#lookAndTell()
  }

  setNoRoom(hasNoRoom: boolean): void {
    if (this.hasNoRoom === hasNoRoom) return
    this.hasNoRoom = hasNoRoom
    this.#judge()
  }

  /** Whether so many bytes more would leave the level above red, as far as is known. */
  hasRoomFor(bytes: number): boolean {
    return !this.hasNoRoom && this.freeBytes - bytes >= this.#redBytes
  }

  close(): void {
    this.#isClosed = true
    if (this.#timer !== null) this.#timers.clear(this.#timer)
    this.#timer = null
  }

  async #lookAndTell(): Promise<void> {
    await this.look()
    if (!this.#isClosed) this.onLook()
  }

  #judge(): void {
    if (this.#isClosed) return
    let level: DiskLevel = 'green'
    if (this.hasNoRoom || this.freeBytes < this.#redBytes) level = 'red'
    else if (this.freeBytes < this.#yellowBytes) level = 'yellow'
    if (level !== 'green' && this.#timer === null) {
      this.#timer = this.#timers.set(
        () => {
          this.#timer = null
          void this.#lookAndTell()
        },
        Math.min(this.#limits.spacePollMs, SHORT_POLL_MS)
      )
    }
    if (level === this.level) return
    this.level = level
    const fields = { diskLevel: level, freeBytes: this.freeBytes, noRoom: this.hasNoRoom }
    this.#log(LOG_LEVELS[level], 'disk level changed', fields)
    this.onLevel(level)
  }
}
