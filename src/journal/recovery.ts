/**
 * Replay at a start: from the begin of the newest good checkpoint, or from the first batch if none is good.
 *
 * A gap between tickets is judged by what later batches know (`behind` in `batch.ts`), of later epochs too, and
 * by the superblock: if what is missing was once durable it is damage: counted, reported, a copy kept, and
 * everything behind it is taken. If nothing says so it is the torn tail of a crash, nobody was told that it
 * is safe, and the log of that epoch ends there: what was written behind it in the same moment goes too, so
 * that the state is always one that was.
 */
import { RecordCursor } from './batch.ts'
import type { FilePool } from './file-pool.ts'
import { FIRST_OWNER_KIND, type JournalOwner, type Recovery } from './journal.ts'
import { LogWalk, segmentsFrom } from './log-walk.ts'
import type { JournalLog } from './options.ts'
import type { Quarantine } from './quarantine.ts'
import type { LogPosition, Segment } from './segment.ts'
import { readRegion } from './segment-reader.ts'
import type { LogEnd } from './tail-place.ts'
import type { StoreClock } from './store-clock.ts'
import type { Checkpoint } from './superblock.ts'

const COPY_BYTES = 64 * 1024
const SKIPPED_COPY_BYTES = 256 * 1024

export interface ReplayParts {
  files: FilePool
  store: Buffer
  owner: JournalOwner
  clock: StoreClock
  quarantine: Quarantine
  log: JournalLog
}

export class Replay {
  readonly recovery: Recovery = {
    isNew: false,
    records: 0,
    batches: 0,
    skippedRecords: 0,
    damagedBatches: 0,
    cutBytes: 0,
    usedCheckpoint: false,
    tookMs: 0
  }
  /** Tickets up to the one before are applied; 0: the first batch will say. */
  #expected = 0
  epoch = 0
  /** Epoch whose tail is being cut. */
  #cutEpoch = 0
  #batchEpoch = 0
  /** Where the last batch that was taken ends. */
  #doneSegment: Segment | null = null
  #doneOffset = 0
  #tornBefore = 0
  /** Where the log ends in the last slot from which a batch was taken. */
  end: LogEnd | null = null
  readonly #skipped: Buffer[] = []
  #skippedBytes = 0

  readonly #parts: ReplayParts
  readonly #segments: readonly Segment[]
  /** Highest ticket that the superblock knows to be durable, and where the checkpoint's end lies. */
  readonly #knownTicket: number

  constructor(parts: ReplayParts, segments: readonly Segment[], knownTicket: number) {
    this.#parts = parts
    this.#segments = segments
    this.#knownTicket = knownTicket
  }

  get lastTicket(): number {
    return Math.max(0, this.#expected - 1)
  }

  /** True when every batch from a checkpoint's begin to its end is there and intact. */
  async isGood(checkpoint: Checkpoint): Promise<boolean> {
    const walk = this.#walk(checkpoint.begin)
    let expected = checkpoint.begin.ticket
    try {
      while (expected <= checkpoint.end.ticket) {
        if (!(await walk.next()) || walk.header.firstTicket !== expected) return false
        expected += walk.header.records
      }
    } finally {
      await walk.close()
    }
    return true
  }

  /** Applies everything from the checkpoint's begin, or everything there is. */
  async run(checkpoint: Checkpoint | null): Promise<void> {
    this.recovery.usedCheckpoint = checkpoint !== null
    this.#expected = checkpoint?.begin.ticket ?? 0
    const walk = this.#walk(checkpoint?.begin ?? null)
    try {
      while (await walk.next()) {
        if (await this.#accepts(walk)) this.#apply(walk, checkpoint?.end.ticket ?? 0)
      }
      await this.#judgeEnd(walk)
    } finally {
      await walk.close()
    }
    if (this.#skipped.length > 0) {
      await this.#parts.quarantine.keep(
        `skipped-records-${this.epoch}`,
        Buffer.concat(this.#skipped)
      )
    }
  }

  #walk(begin: LogPosition | null): LogWalk {
    const { slots, ownFiles, offset } = segmentsFrom(this.#segments, begin)
    return new LogWalk(slots, offset, ownFiles, this.#parts.files, this.#parts.store)
  }

  async #accepts(walk: LogWalk): Promise<boolean> {
    const { header } = walk
    this.epoch = Math.max(this.epoch, header.epoch)
    if (header.epoch === this.#cutEpoch) {
      this.recovery.cutBytes += header.length
      return false
    }
    if (this.#expected === 0) this.#expected = header.firstTicket
    if (header.firstTicket === this.#expected) return true
    if (header.firstTicket < this.#expected) {
      if (header.epoch <= this.#batchEpoch) return false // it stands twice
      this.#parts.log('warn', 'a later start of the journal had not seen the last records', {
        epoch: header.epoch,
        tickets: this.#expected - header.firstTicket
      })
      return true
    }
    if (await this.#wasDurable(walk)) {
      await this.#countDamage(walk.segment, walk.offset, header.firstTicket - this.#expected)
      return true
    }
    this.#cutEpoch = header.epoch
    this.recovery.cutBytes += header.length
    return false
  }

  /** Was the ticket that is missing durable, as far as anything from this batch on knows? */
  async #wasDurable(walk: LogWalk): Promise<boolean> {
    const missing = this.#expected
    if (this.#knownTicket >= missing) return true
    const { epoch } = walk.header
    const { slots, ownFiles } = segmentsFrom(this.#segments, {
      segment: walk.segment.isOwnFile ? (this.#doneSegment?.number ?? 0) : walk.segment.number,
      offset: 0,
      ticket: missing
    })
    const ahead = new LogWalk(slots, 0, ownFiles, this.#parts.files, this.#parts.store)
    try {
      while (await ahead.next()) {
        const { header } = ahead
        // A later start gave the ticket again: to it, the log had ended before.
        if (header.epoch > epoch && header.firstTicket <= missing) return false
        // A later start synced what it found, so its batches know it for durable.
        if (header.epoch >= epoch && header.durableTicket >= missing) return true
      }
    } finally {
      await ahead.close()
    }
    return false
  }

  async #judgeEnd(walk: LogWalk): Promise<void> {
    if (this.#expected > 0 && this.#knownTicket >= this.#expected) {
      const segment = this.#doneSegment
      if (segment !== null) {
        const missing = this.#knownTicket + 1 - this.#expected
        await this.#countDamage(segment, this.#doneOffset + COPY_BYTES, missing)
      }
      this.#expected = this.#knownTicket + 1 // these tickets were given
    }
    this.recovery.cutBytes += walk.tornBytes - this.#tornBefore
  }

  async #countDamage(segment: Segment, before: number, tickets: number): Promise<void> {
    this.recovery.damagedBatches++
    const isSame = this.#doneSegment === segment
    const damaged = isSame || this.#doneSegment === null ? segment : this.#doneSegment
    const from = this.#doneSegment === null ? 0 : this.#doneOffset
    const bytes = Math.min(COPY_BYTES, isSame ? Math.max(0, before - from) : COPY_BYTES)
    this.#parts.log('error', 'records of the journal are damaged and were skipped', {
      segment: damaged.number,
      file: damaged.name,
      offset: from,
      records: tickets
    })
    const copy = Buffer.alloc(bytes)
    const file = await this.#parts.files.acquire(damaged.name)
    await readRegion(file, copy, 0, bytes, from)
    await this.#parts.files.release(damaged.name)
    await this.#parts.quarantine.keep(`damaged-${damaged.number}-${from}`, copy)
  }

  #apply(walk: LogWalk, checkpointEnd: number): void {
    const { header, segment, buffer, start } = walk
    const { owner, clock } = this.#parts
    clock.seen(header.storeTime, header.wallTime)
    const cursor = new RecordCursor(buffer, start, header.length)
    let ticket = header.firstTicket
    for (; cursor.next(); ticket++) {
      if (cursor.kind < FIRST_OWNER_KIND) continue
      const offset = walk.offset + cursor.start - start
      const { kind, end } = cursor
      this.recovery.records++
      if (owner.apply(kind, buffer, cursor.start, end, segment.number, offset, ticket)) continue
      // Before the checkpoint's end, a record may name what the checkpoint was still to say.
      if (ticket > checkpointEnd) this.#skip(buffer, cursor.start, end, kind)
    }
    this.recovery.batches++
    this.#expected = header.firstTicket + header.records
    this.#batchEpoch = header.epoch
    this.#doneSegment = segment
    this.#doneOffset = walk.offset + header.paddedLength
    this.#tornBefore = walk.tornBytes
    if (!segment.isOwnFile) this.end = { segment, offset: this.#doneOffset }
    if (segment.firstTicket === 0) segment.firstTicket = header.firstTicket
    segment.lastTicket = header.lastTicket
  }

  #skip(buffer: Buffer, start: number, end: number, kind: number): void {
    this.recovery.skippedRecords++
    const bytes = end - start + 5
    if (this.#skippedBytes + bytes > SKIPPED_COPY_BYTES) return
    this.#skippedBytes += bytes
    const copy = Buffer.alloc(bytes)
    copy.writeUInt32LE(end - start, 0)
    copy[4] = kind
    buffer.copy(copy, 5, start, end)
    this.#skipped.push(copy)
  }
}
