/**
 * What keeps the log bounded: checkpoints when enough log has gathered, compaction when too much of it is dead, and
 * recycling. One thing at a time, in the background.
 *
 * `recycling.ts` says when a segment may be used again. `emptiedTicket` is the last ticket given when it was
 * first seen empty, which is never too early.
 */
import type { BlockCache } from './blocks.ts'
import type { Checkpointer } from './checkpoint.ts'
import { type CompactionParts, compactSegment } from './compaction.ts'
import type { Disk } from './disk.ts'
import { isWorldError, JournalError } from './journal-error.ts'
import type { JournalLimits } from './options.ts'
import { mayRecycle } from './recycling.ts'
import { liesBefore, type Segment } from './segment.ts'
import type { SegmentTable } from './segment-table.ts'
import type { Slots } from './slots.ts'
import type { SpaceWatch } from './space.ts'
import type { StoreClock } from './store-clock.ts'

export interface MaintenanceParts extends CompactionParts {
  segments: SegmentTable
  cache: BlockCache
  slots: Slots
  space: SpaceWatch
  disk: Disk
  checkpointer: Checkpointer
  clock: StoreClock
  limits: JournalLimits
}

/** Half of a segment dead, and copying it gains something even when space is short. */
const WORTH_COPYING = 0.75
/** A segment that a pass left with something live is tried again after this, then after twice as long, ... */
const COMPACTION_WAIT_MS = 60_000
const COMPACTION_WAIT_MAX_MS = 3_600_000

export class Maintenance {
  readonly #parts: MaintenanceParts
  #isScheduled = false
  #running: Promise<void> | null = null
  #isAgain = false
  #isClosed = false

  constructor(parts: MaintenanceParts) {
    this.#parts = parts
  }

  /** Something may be due. */
  kick(): void {
    if (this.#isScheduled || this.#isClosed) return
    this.#isScheduled = true
    setImmediate(() => {
      this.#isScheduled = false
      if (this.#isClosed) return
      if (this.#running !== null) {
        this.#isAgain = true
        return
      }
      this.#running = this.#run().finally(() => {
        this.#running = null
      })
    })
  }

  /** Stops at the next record and waits for it. */
  async close(): Promise<void> {
    this.#isClosed = true
    await this.#running
  }

  async #run(): Promise<void> {
    const { committer, tail } = this.#parts
    try {
      do {
        this.#isAgain = false
        while (!this.#isClosed && !tail.failed && (await this.#step()));
      } while (this.#isAgain && !this.#isClosed && !tail.failed)
    } catch (error) {
      if (!isWorldError(error)) throw error
      // Failed and closed are known already; the rest is a file that could not be written.
      if (!(error instanceof JournalError)) committer.fail(error)
    }
  }

  async #step(): Promise<boolean> {
    await this.#recycle()
    if (this.#isClosed) return false
    const { checkpointer } = this.#parts
    if (this.#isCheckpointDue()) {
      await checkpointer.write()
      return true
    }
    const victim = this.#victim()
    if (victim === null) return false
    const isEmpty = await compactSegment(victim, this.#parts, () => this.#isClosed)
    if (!isEmpty && !this.#isClosed) this.#postpone(victim)
    return true
  }

  /** Damage may be settled, and a block that could not be loaded be there, at another time. */
  #postpone(segment: Segment): void {
    const { clock, log } = this.#parts
    segment.compactionWaitMs = Math.min(
      COMPACTION_WAIT_MAX_MS,
      Math.max(COMPACTION_WAIT_MS, segment.compactionWaitMs * 2)
    )
    segment.compactableAt = clock.now() + segment.compactionWaitMs
    log('warn', 'a segment could not be emptied and is tried again later', {
      segment: segment.number,
      liveBytes: segment.liveBytes,
      waitMs: segment.compactionWaitMs
    })
  }

  #isShortOfSpace(): boolean {
    const { space, slots } = this.#parts
    return space.level !== 'green' || slots.isStalled
  }

  #isCheckpointDue(): boolean {
    const { checkpointer, limits, segments } = this.#parts
    const interval = Math.max(limits.checkpointBytes, segments.liveBytes / 2)
    if (checkpointer.logBytes >= interval) return true
    let waiting = 0
    for (const segment of segments.byNumber.values()) {
      if (segment.emptiedTicket >= 0) waiting += segment.bytes
    }
    // Worth it only for more than the checkpoints themselves take; and, unless space is short, for more than
    // always waits between two of them: else a backlog that was drained keeps its room until others fill the log.
    const usual = this.#isShortOfSpace() ? 0 : 2 * interval
    return waiting > usual + 2 * checkpointer.lastBytes
  }

  /** Finds what is empty, and gives back what no checkpoint needs. */
  async #recycle(): Promise<void> {
    const { segments, tail, checkpointer } = this.#parts
    const older = checkpointer.kept[1]
    let isGiven = false
    for (const segment of [...segments.byNumber.values()]) {
      if (segment === tail.current || segment.name === '') continue
      if (segment.liveBytes > 0) continue
      if (segment.emptiedTicket < 0) segment.emptiedTicket = tail.ticket
      if (segment.pins > 0 || !mayRecycle(segment, older)) continue
      await this.#giveBack(segment)
      isGiven = true
    }
    // Publishers may be waiting for just this.
    if (isGiven && this.#isShortOfSpace()) await this.#parts.space.look()
  }

  async #giveBack(segment: Segment): Promise<void> {
    const { segments, cache, slots, files, disk, stats } = this.#parts
    segments.remove(segment)
    cache.dropSegment(segment)
    await files.forget(segment.name)
    // A file of another size (cut short, or made under another limit) is of no use as a slot.
    if (segment.bytes === slots.segmentBytes && !segment.isOwnFile) await slots.give(segment.name)
    else await disk.unlink(files.pathOf(segment.name))
    stats.segmentsRecycled++
  }

  /** The emptiest segment that may be compacted, if that is due. */
  #victim(): Segment | null {
    const { segments, checkpointer, limits } = this.#parts
    const older = checkpointer.kept[1]
    if (older === undefined) return null
    const now = this.#parts.clock.now()
    let dead = 0
    let victim: Segment | null = null
    for (const segment of segments.byNumber.values()) {
      if (segment.liveBytes <= 0 || segment.isOwnFile) continue
      dead += segment.bytes - segment.liveBytes
      if (segment.compactableAt > now || !liesBefore(segment, older.begin)) continue
      if (victim === null || segment.liveBytes < victim.liveBytes) victim = segment
    }
    if (victim === null || victim.liveBytes > victim.bytes * WORTH_COPYING) return null
    const isDue = dead > segments.liveBytes + limits.deadBytesMax
    return isDue || this.#isShortOfSpace() ? victim : null
  }
}
