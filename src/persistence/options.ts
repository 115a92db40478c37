/** What a persistence is made with. */
import { randomBytes } from 'node:crypto'
import type { Disk } from '../journal/disk.ts'
import { realDisk } from '../journal/disk.ts'
import type { JournalLimits, JournalLog, JournalTimers } from '../journal/options.ts'
import { realTimers } from '../journal/options.ts'
import type { JournalClock } from '../journal/store-clock.ts'
import { systemClock } from '../lib/clock.ts'

export interface PersistenceOptions {
  /** The data folder: made if it is not there; one folder for one broker process at a time. */
  folder: string
  /** Bound of the blocks of the journal in memory, bytes; default 4 MiB. */
  cacheBytes?: number
  /** Queued packets whose place is kept in memory, 16 bytes each; the places of more lie on the disk. Default 65,536. */
  hotEntriesMax?: number
  /** Told of damage, a full disk and the like; without it, errors become process warnings. */
  log?: JournalLog
}

/** What tests put in the place of the machine. */
export interface PersistenceParts {
  disk: Disk
  clock: JournalClock
  timers: JournalTimers
  random(bytes: number): Buffer
  limits: Partial<JournalLimits>
}

export const realParts: PersistenceParts = {
  disk: realDisk,
  clock: systemClock,
  timers: realTimers,
  random: randomBytes,
  limits: {}
}

export const CACHE_BYTES = 4 * 1024 * 1024
export const HOT_ENTRIES_MAX = 65_536
/** Two chunks of every queue's ends stay in memory anyway: less would only move them to and fro. */
export const HOT_ENTRIES_MIN = 8192

export const warnOfErrors: JournalLog = (level, message, fields) => {
  if (level !== 'error') return
  process.emitWarning(message, { type: 'MotemqPersistence', detail: JSON.stringify(fields) })
}
