/** What a journal is opened with. */
import type { Disk } from './disk.ts'
import type { Journal, JournalOwner } from './journal.ts'
import type { JournalClock } from './store-clock.ts'

export type JournalLogLevel = 'error' | 'warn' | 'info' | 'debug'
export type JournalLog = (
  level: JournalLogLevel,
  message: string,
  fields: Readonly<Record<string, unknown>>
) => void

/** One-shot timers; the real ones never keep the process alive. */
export interface JournalTimers {
  set(callback: () => void, milliseconds: number): unknown
  clear(timer: unknown): void
}

export const realTimers: JournalTimers = {
  set: (callback, milliseconds) => setTimeout(callback, milliseconds).unref(),
  clear: timer => clearTimeout(timer as NodeJS.Timeout)
}

export interface JournalLimits {
  /** Bytes of a segment file; 0: 16 MiB, at most 1/32 of the file system. */
  segmentBytes: number
  /** Bound of the cache of blocks, bytes. */
  cacheBytes: number
  /** Bytes appended and not yet durable above which the owner is told to read no publishers. */
  pendingBytesMax: number
  /** A lazy record is written after this long: half of the 50 ms that are promised, for a process that is late. */
  writeIdleMs: number
  /** ... and synced after this long. */
  syncIdleMs: number
  /** Free bytes of the file system below which the level is yellow; 0: min(20 %, 1 GiB). */
  yellowFreeBytes: number
  /** ... and red; 0: min(5 %, 256 MiB). */
  redFreeBytes: number
  /** How often free space is looked at, while there is traffic or the level is not green. */
  spacePollMs: number
  /** A checkpoint is due after so many bytes of log (or half the live bytes, if that is more). */
  checkpointBytes: number
  /** Compaction begins when the dead bytes exceed the live ones by this. */
  deadBytesMax: number
  /** Prepared segments kept for settling, compacting and a checkpoint on a full disk. */
  reserveSegments: number
}

export const DEFAULT_LIMITS: Readonly<JournalLimits> = {
  segmentBytes: 0,
  cacheBytes: 16 * 1024 * 1024,
  pendingBytesMax: 8 * 1024 * 1024,
  writeIdleMs: 25,
  syncIdleMs: 1000,
  yellowFreeBytes: 0,
  redFreeBytes: 0,
  spacePollMs: 5000,
  checkpointBytes: 64 * 1024 * 1024,
  deadBytesMax: 64 * 1024 * 1024,
  reserveSegments: 3
}

/** Whose records a store holds: a broker's (`store`), or those of `motemq/persistence`. */
export type StoreKind = 'store' | 'persistence'

export interface JournalOptions {
  folder: string
  /** Whose records it holds; a folder of the other kind is refused. Default: a broker's. */
  kind?: StoreKind
  disk: Disk
  owner: JournalOwner
  clock: JournalClock
  /** Unpredictable bytes, for the store's name. */
  random(bytes: number): Buffer
  limits?: Partial<JournalLimits>
  log?: JournalLog
  timers?: JournalTimers
  /** Names that may stand in a new data folder beside the journal's files. */
  neighbours?: readonly string[]
  /** Called before replay begins, so that the owner can claim bytes while it applies records. */
  attach?(journal: Journal): void
}
