/**
 * Group commit: takes what the tail gathered to the disk.
 *
 * At most one write or sync is under way; while it runs, records gather. Where a sync would follow a write, and
 * nothing else waits for one, they are one call: a visit to the thread pool less for who waits. A flush is asked for once a turn,
 * by setImmediate, when somebody waits for a record; what nobody waits for is written by a timer and synced
 * by another, and no timer runs when there is nothing to do. A write carries up to 2 MiB of batches of one
 * segment; a segment is synced before the next one is written to. A sync may take long: what the timer wants written
 * meanwhile is written beside it, and is for the next sync.
 *
 * A failed or short write or a failed sync is final: nothing is tried again on a file whose pages the
 * kernel may have thrown away, nothing more is reported durable. Want of room can only be met where a file
 * is made, and is waited for.
 */
import { join } from 'node:path'
import { type Batch, type BatchStamp, sealBatch } from './batch.ts'
import type { Disk, DiskFile } from './disk.ts'
import { DurableWaiters } from './durable-waiters.ts'
import type { FilePool } from './file-pool.ts'
import { isNoSpace, isWorldError, JournalError } from './journal-error.ts'
import { AWAITED, type JournalOwner, type JournalStats, LAZY, type Urgency } from './journal.ts'
import type { JournalLimits, JournalLog, JournalTimers } from './options.ts'
import type { Segment } from './segment.ts'
import { ownFileName, type Slots } from './slots.ts'
import type { SpaceWatch } from './space.ts'
import type { StoreClock } from './store-clock.ts'
import type { Tail } from './tail.ts'
import { isOneRun, writeRuns } from './write-runs.ts'

const WRITE_BYTES_MAX = 2 * 1024 * 1024
/** Lazy bytes above this are written without waiting for the timer. */
const LAZY_BYTES_MAX = 1024 * 1024
/** `Tail.wakeFrom` when nothing needs to wake us. */
const WAKE_NONE = 2

export interface CommitParts {
  disk: Disk
  folder: string
  files: FilePool
  slots: Slots
  space: SpaceWatch
  clock: StoreClock
  owner: JournalOwner
  store: Buffer
  epoch: number
  stats: JournalStats
  limits: JournalLimits
  timers: JournalTimers
  log: JournalLog
}

export class Committer {
  durableTicket = 0
  writtenTicket = 0

  readonly #tail: Tail
  readonly #parts: CommitParts
  readonly #stamp: BatchStamp
  #isScheduled = false
  #isRunning = false
  #running: Promise<void> = Promise.resolve()
  #isClosed = false
  #lazyDue = false
  #syncDue = false
  #writeTimer: unknown = null
  #syncTimer: unknown = null
  /** The segment that was written to and not yet synced. */
  #unsynced: Segment | null = null
  /** The slot that is written to; kept open. */
  #openSegment: Segment | null = null
  #file: DiskFile | null = null
  /** Bytes of `tail.pendingBytes` that are written and not durable. */
  #writtenBytes = 0
  #isFull = false
  #isSyncing = false
  /** What is being written beside a sync. */
  #beside: Promise<void> | null = null
  #lookWaiter: ((goOn: boolean) => void) | null = null
  readonly #waiters = new DurableWaiters()

  constructor(tail: Tail, parts: CommitParts, durableTicket: number) {
    this.#tail = tail
    this.#parts = parts
    this.durableTicket = durableTicket
    this.writtenTicket = durableTicket
    this.#stamp = {
      store: parts.store,
      epoch: parts.epoch,
      durableTicket,
      storeTime: 0,
      wallTime: 0
    }
  }

  /** A record was appended and `tail.wakeFrom` let it through. */
  wake(urgency: Urgency): void {
    if (urgency === AWAITED) {
      this.#tail.wakeFrom = WAKE_NONE
      this.#schedule()
      return
    }
    this.#tail.wakeFrom = AWAITED
    if (this.#writeTimer === null) this.#armWrite()
  }

  /** More has gathered than is good: told before the next socket is read, as a turn may read very many. */
  crowded(): void {
    process.nextTick(this.#tellCrowded)
    this.#schedule()
  }

  readonly #tellCrowded = (): void => {
    if (this.#isFull || !this.#tail.isCrowded || this.#isClosed || this.#tail.failed) return
    this.#isFull = true
    this.#parts.owner.onBackpressure(true)
  }

  /** Resolves when the record of this ticket is durable. */
  whenDurable(ticket: number): Promise<void> {
    if (ticket <= this.durableTicket) return Promise.resolve()
    if (this.#tail.failed) return Promise.reject(this.#failedError())
    if (this.#isClosed) return Promise.reject(new JournalError('closed', 'the journal is closed'))
    if (ticket > this.#tail.awaitedTicket) this.#tail.awaitedTicket = ticket
    this.wake(AWAITED)
    return this.#waiters.wait(ticket)
  }

  /** True while a record waits for room for a file of its own. */
  get isWaitingForRoom(): boolean {
    return this.#lookWaiter !== null
  }

  /** Nothing more is begun; waits for a write or sync that is under way, tells who still waits. */
  async close(): Promise<void> {
    this.#isClosed = true
    this.#tail.wakeFrom = WAKE_NONE
    this.#clearTimers()
    this.retry()
    await this.#running
    if (this.#beside !== null) await this.#beside
    this.#waiters.reject(new JournalError('closed', 'the journal was closed'))
    if (this.#openSegment !== null) await this.#parts.files.release(this.#openSegment.name)
    this.#openSegment = null
  }

  /** A file of the journal could not be written: nothing more becomes durable until a restart. */
  fail(cause: unknown): void {
    const tail = this.#tail
    if (tail.failed || this.#isClosed) return
    tail.failed = true
    tail.wakeFrom = WAKE_NONE
    this.#clearTimers()
    tail.closeBatch()
    for (const batch of tail.pending.splice(0)) batch.block.holds--
    const error = cause instanceof Error ? cause : new Error(String(cause))
    this.#parts.log('error', 'the journal failed: nothing is confirmed any more until a restart', {
      error: error.message
    })
    this.#waiters.reject(this.#failedError(error))
    this.#parts.owner.onFailure(error)
  }

  #failedError(cause?: Error): JournalError {
    return new JournalError('failed', 'a write to the journal failed', {}, cause)
  }

  #clearTimers(): void {
    if (this.#writeTimer !== null) this.#parts.timers.clear(this.#writeTimer)
    if (this.#syncTimer !== null) this.#parts.timers.clear(this.#syncTimer)
    this.#writeTimer = null
    this.#syncTimer = null
  }

  #schedule(): void {
    if (this.#isScheduled || this.#isClosed) return
    this.#isScheduled = true
    setImmediate(this.#turn)
  }

  readonly #turn = (): void => {
    this.#isScheduled = false
    if (this.#isClosed || this.#tail.failed) return
    if (!this.#isRunning) this.#running = this.#run()
    else if (this.#isSyncing && this.#lazyDue && this.#beside === null) {
      // Taken back in a later turn, never before it is set.
      this.#beside = this.#writeBeside().finally(() => {
        this.#beside = null
      })
    }
  }

  #armWrite(): void {
    this.#writeTimer = this.#parts.timers.set(() => {
      this.#writeTimer = null
      this.#lazyDue = true
      this.#schedule()
    }, this.#parts.limits.writeIdleMs)
  }

  #armSync(): void {
    const { writeIdleMs, syncIdleMs } = this.#parts.limits
    this.#syncTimer = this.#parts.timers.set(
      () => {
        this.#syncTimer = null
        this.#syncDue = true
        this.#schedule()
      },
      Math.max(0, syncIdleMs - writeIdleMs)
    )
  }

  async #run(): Promise<void> {
    this.#isRunning = true
    this.#tail.wakeFrom = WAKE_NONE
    try {
      while (!this.#tail.failed && !this.#isClosed && (await this.#step()));
    } catch (error) {
      if (!isWorldError(error)) throw error // a bug: the process ends
      this.fail(error)
    } finally {
      this.#isRunning = false
    }
    this.#rest()
  }

  /** One write, one sync, or both; false when nothing is due. */
  async #step(): Promise<boolean> {
    const tail = this.#tail
    const hasRecords = tail.pending.length > 0 || tail.hasOpenBatch
    // A sync takes along all there is: no page may be written again once its sync has begun.
    const isDue =
      this.#wantsSync || this.#lazyDue || tail.pendingBytes - this.#writtenBytes > LAZY_BYTES_MAX
    if (hasRecords && isDue) {
      this.#lazyDue = false
      const last = await this.#write()
      if (this.#isClosed) return false
      if (last !== null && !this.#wantsSync && tail.pending.length === 0) tail.keepOpen(last)
    }
    if (this.writtenTicket > this.durableTicket && this.#wantsSync) await this.#sync()
    else if (!(hasRecords && isDue)) {
      this.#syncDue = false
      this.#lazyDue = false
      return false
    }
    return true
  }

  get #wantsSync(): boolean {
    return (
      this.#tail.awaitedTicket > this.durableTicket ||
      this.#syncDue ||
      this.#writtenBytes > this.#parts.limits.pendingBytesMax / 4
    )
  }

  /** Nothing is due: see what must wake us. */
  #rest(): void {
    const tail = this.#tail
    if (tail.failed || this.#isClosed) return
    this.#parts.space.lookIfOld(this.#parts.clock.now())
    if (tail.awaitedTicket > this.durableTicket) {
      this.#schedule()
      return
    }
    tail.wakeFrom = LAZY
    if (tail.pending.length > 0 || tail.hasOpenBatch) {
      tail.wakeFrom = AWAITED
      if (this.#writeTimer === null) this.#armWrite()
    } else if (this.#writeTimer !== null) {
      this.#parts.timers.clear(this.#writeTimer)
      this.#writeTimer = null
    }
    if (this.writtenTicket > this.durableTicket && this.#syncTimer === null) this.#armSync()
  }

  /** Returns the last batch that was written to a segment, null when there is none. */
  async #write(): Promise<Batch | null> {
    const tail = this.#tail
    tail.closeBatch()
    const segment = tail.pending[0]!.segment
    if (this.#unsynced !== null && this.#unsynced !== segment) await this.#sync()
    if (segment.isOwnFile) return this.#writeOwnFile(segment)
    const file = await this.#openFor(segment)
    if (file === null) return null
    tail.closeBatch()
    return this.#writeTo(file, segment)
  }

  async #writeTo(file: DiskFile, segment: Segment): Promise<Batch | null> {
    const batches = this.#take(segment)
    this.#seal(batches)
    // A synced write says nothing of what was written before it.
    const isSynced =
      this.#unsynced === null &&
      !this.#isSyncing &&
      this.#tail.awaitedTicket > this.durableTicket &&
      isOneRun(batches)
    if (isSynced) return this.#writeSynced(file, batches)
    this.#unsynced = segment
    await writeRuns(file, batches, false, this.#parts.stats)
    this.#written(batches)
    return batches.at(-1)!
  }

  /** A write that is its own sync. Null: no page of it may be written again. */
  async #writeSynced(file: DiskFile, batches: readonly Batch[]): Promise<null> {
    this.#isSyncing = true
    this.#syncDue = false
    if (this.#writeTimer === null) this.#armWrite()
    await writeRuns(file, batches, true, this.#parts.stats)
    this.#isSyncing = false
    this.#parts.stats.syncs++
    this.#written(batches)
    let bytes = 0
    for (const batch of batches) bytes += batch.bytes
    await this.#report(batches.at(-1)!.lastTicket, bytes)
    return null
  }

  /** While a sync is under way: what has waited long enough, if it goes to the same file. */
  async #writeBeside(): Promise<void> {
    const tail = this.#tail
    this.#lazyDue = false
    tail.closeBatch()
    try {
      const first = tail.pending[0]
      if (first !== undefined && first.segment === this.#openSegment) {
        await this.#writeTo(this.#file!, first.segment)
      }
    } catch (error) {
      if (!isWorldError(error)) throw error // a bug: the process ends
      this.fail(error)
    }
    if (this.#isSyncing && this.#writeTimer === null) this.#armWrite()
  }

  /** The oldest batches of one segment, up to 2 MiB. */
  #take(segment: Segment): Batch[] {
    const { pending } = this.#tail
    let count = 0
    let bytes = 0
    while (
      count < pending.length &&
      pending[count]!.segment === segment &&
      bytes < WRITE_BYTES_MAX
    ) {
      bytes += pending[count]!.bytes
      count++
    }
    return pending.splice(0, count)
  }

  #seal(batches: readonly Batch[]): void {
    const stamp = this.#stamp
    stamp.durableTicket = this.durableTicket
    stamp.storeTime = this.#parts.clock.now()
    stamp.wallTime = this.#parts.clock.wall()
    for (const batch of batches) sealBatch(batch, stamp)
  }

  /** The file of a slot; null when the journal was closed while we waited for one. */
  async #openFor(segment: Segment): Promise<DiskFile | null> {
    if (this.#openSegment === segment) return this.#file
    const { files, slots } = this.#parts
    if (segment.name === '') {
      const name = await slots.take()
      if (name === null) return null
      segment.name = name
    }
    if (this.#openSegment !== null) await files.release(this.#openSegment.name)
    this.#openSegment = null
    this.#file = await files.acquire(segment.name)
    this.#openSegment = segment
    return this.#file
  }

  #written(batches: readonly Batch[]): void {
    const { stats } = this.#parts
    for (const batch of batches) {
      batch.block.holds--
      this.#writtenBytes += batch.bytes
      stats.records += batch.records - batch.recordsBefore
    }
    stats.batches += batches.length
    // A batch that goes on counts once.
    if (batches[0]!.recordsBefore > 0) stats.batches--
    // What was written beside a synced write may be further.
    this.writtenTicket = Math.max(this.writtenTicket, batches.at(-1)!.lastTicket)
  }

  /**
   * One record in a file of its own: made, written, synced; waits while there is no room. Its bytes alone are more than
   * a sync is due for (`#wantsSync`): the same step reports them.
   */
  async #writeOwnFile(segment: Segment): Promise<null> {
    const { disk, folder, space } = this.#parts
    const batch = this.#tail.pending.shift()!
    this.#seal([batch])
    segment.name = ownFileName(segment.number)
    const path = join(folder, segment.name)
    while (!(await this.#tryOwnFile(path, batch))) {
      await disk.unlink(path)
      space.setNoRoom(true)
      if (!(await this.#untilLook())) return null
    }
    await disk.syncFolder(folder)
    this.#tail.ownBytes -= batch.bytes
    space.freeBytes -= batch.bytes
    this.#parts.slots.settle() // takes the alarm back if it was ours only
    this.#written([batch])
    return null
  }

  async #tryOwnFile(path: string, batch: Batch): Promise<boolean> {
    const file = await this.#parts.disk.open(path, 'create')
    try {
      const count = await file.write([batch.block.buffer.subarray(0, batch.paddedEnd)], 0)
      if (count !== batch.bytes) return false
      await file.datasync()
      this.#parts.stats.bytesWritten += batch.bytes
      return true
    } catch (error) {
      if (isNoSpace(error)) return false
      throw error
    } finally {
      await file.close()
    }
  }

  #untilLook(): Promise<boolean> {
    if (this.#isClosed) return Promise.resolve(false)
    return new Promise(resolve => {
      this.#lookWaiter = resolve
    })
  }

  /** Free space was looked at: a record that waits for room tries again. */
  retry(): void {
    const waiter = this.#lookWaiter
    this.#lookWaiter = null
    waiter?.(!this.#isClosed)
  }

  async #sync(): Promise<void> {
    const target = this.writtenTicket
    const bytes = this.#writtenBytes
    this.#tail.keepOpen(null)
    this.#syncDue = false
    if (this.#unsynced !== null) {
      this.#unsynced = null // what is written from here on is for the next one
      this.#isSyncing = true
      if (this.#writeTimer === null) this.#armWrite()
      await this.#file!.datasync()
      this.#isSyncing = false
      this.#parts.stats.syncs++
    }
    await this.#report(target, bytes)
  }

  /** What the disk has up to `target` is durable; `bytes` of it were on their way. */
  async #report(target: number, bytes: number): Promise<void> {
    if (this.#tail.failed || this.#isClosed) return
    this.durableTicket = target
    this.#tail.pendingBytes -= bytes
    this.#writtenBytes -= bytes
    this.#relax()
    this.#parts.owner.onDurable(target)
    this.#waiters.resolve(target)
    if (this.#beside !== null) await this.#beside
  }

  #relax(): void {
    const tail = this.#tail
    if (!tail.isCrowded || tail.pendingBytes > this.#parts.limits.pendingBytesMax / 2) return
    tail.isCrowded = false
    this.#isFull = false // who saw `isCrowded` may wait, too
    this.#parts.owner.onBackpressure(false)
  }
}
