/**
 * The journal: opens a folder, replays it, and is the broker's one log from then on.
 *
 * `tail.ts` appends, `commit.ts` writes and syncs, `cold-reads.ts` reads back, `maintenance.ts` keeps it
 * bounded; this file puts them together and holds the calls that are made for every message.
 */
import { BatchHeader } from './batch.ts'
import { BlockCache } from './blocks.ts'
import { Checkpointer } from './checkpoint.ts'
import { blockOf, ColdReads, markIntact } from './cold-reads.ts'
import { Committer } from './commit.ts'
import { FilePool } from './file-pool.ts'
import { isWorldError, JournalError } from './journal-error.ts'
import type {
  BlockWaiter,
  DiskLevel,
  Journal,
  JournalOwner,
  JournalStats,
  Recovery,
  Urgency
} from './journal.ts'
import { BLOCK_BYTES, RECORD_HEADER_BYTES } from './layout.ts'
import { Maintenance } from './maintenance.ts'
import { type Folder, openFolder, type Recovered, recover } from './open.ts'
import type { JournalOptions } from './options.ts'
import { Block, Segment } from './segment.ts'
import type { SegmentTable } from './segment-table.ts'
import { Slots } from './slots.ts'
import { SpaceWatch } from './space.ts'
import { StoreClock } from './store-clock.ts'
import { Tail } from './tail.ts'

const STALL_POLL_MS = 2
const NO_BLOCK = new Block(new Segment(0, 0, false), 0, Buffer.alloc(0), false)

class LogJournal extends Tail implements Journal {
  viewBuffer = NO_BLOCK.buffer
  viewStart = 0
  viewEnd = 0
  viewKind = 0
  readonly files: FilePool
  readonly clock: StoreClock
  #lastBlock = NO_BLOCK

  readonly #folder: Folder
  readonly #stats: JournalStats
  #running: Running | null = null
  #closing: Promise<void> | null = null

  constructor(folder: Folder, segments: SegmentTable, cache: BlockCache, clock: StoreClock) {
    super(segments, cache, folder.segmentBytes, folder.limits.pendingBytesMax)
    this.#folder = folder
    this.clock = clock
    this.files = new FilePool(folder.disk, folder.path)
    this.#stats = newStats()
  }

  get durableTicket(): number {
    return this.#running?.committer.durableTicket ?? 0
  }

  get level(): DiskLevel {
    return this.#running?.space.level ?? 'green'
  }

  get stats(): JournalStats {
    const stats = this.#stats
    stats.segments = this.segments.byNumber.size
    stats.liveBytes = this.segments.liveBytes
    stats.cachedBytes = this.cache.bytes
    return stats
  }

  hasRoomFor(bytes: number): boolean {
    return bytes <= this.ownFileFrom || this.#require().space.hasRoomFor(this.ownBytes + bytes)
  }

  view(segment: number, offset: number): boolean {
    let block = this.#lastBlock
    const last = offset - block.base
    if (block.number !== segment || last < 0 || last >= BLOCK_BYTES || !block.hasPage(offset)) {
      const found = this.#find(segment, offset)
      if (found === null) return false
      block = found
    }
    const { buffer } = block
    const start = offset - block.base
    const head = start - RECORD_HEADER_BYTES
    if (head < 0 || start > buffer.length) return false
    const end = start + buffer.readUInt32LE(head)
    if (end > buffer.length) return false
    this.viewBuffer = buffer
    this.viewStart = start
    this.viewEnd = end
    this.viewKind = buffer[head + 4]!
    return true
  }

  #find(number: number, offset: number): Block | null {
    const segment = this.segments.get(number)
    if (segment === null) return null
    const block = blockOf(segment, offset)
    if (block === null) return null
    block.used = true
    if (!block.isLarge) this.#lastBlock = block
    return block
  }

  load(segment: number, offset: number, waiter: BlockWaiter): void {
    this.#require().coldReads.load(segment, offset, waiter)
  }

  claim(segment: number, bytes: number): void {
    this.segments.claim(segment, bytes)
  }

  release(segment: number, bytes: number): void {
    const isEmpty = this.segments.release(segment, bytes)
    // A backlog may have been drained, and nothing else will come to say so.
    if (isEmpty && segment !== this.current?.number) this.#running?.maintenance.kick()
  }

  storeTime(): number {
    return this.clock.now()
  }

  flush(): Promise<void> {
    return this.#require().committer.whenDurable(this.ticket)
  }

  checkpoint(): Promise<void> {
    return this.#require().checkpointer.write()
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  /** Replay is done: everything runs from here. */
  run(owner: JournalOwner, recovered: Recovered): void {
    const { limits, disk, path, store, timers, log } = this.#folder
    const stats = this.#stats
    const { segments, cache, files, clock } = this
    const space = new SpaceWatch(disk, path, limits, timers, log)
    const bytes = this.#folder.segmentBytes
    const slots = new Slots(disk, path, store, bytes, limits.reserveSegments, space, stats)
    slots.nextSlot = recovered.nextSlot
    slots.spares.push(...recovered.spares)
    const { epoch, lastTicket } = recovered
    const common = {
      disk,
      folder: path,
      files,
      clock,
      owner,
      store,
      epoch,
      stats,
      limits,
      timers,
      log
    }
    const committer = new Committer(this, { ...common, slots, space }, lastTicket)
    const parts = { ...common, tail: this, committer }
    const checkpointer = new Checkpointer(parts, recovered.checkpoints, recovered.lastCounter)
    checkpointer.logBytes = recovered.logBytes
    const maintenance = new Maintenance({ ...parts, segments, cache, slots, space, checkpointer })
    const coldReads = new ColdReads(segments, cache, files, store, stats, log, segment =>
      segment === this.current ? this.currentBytes : segment.bytes
    )
    space.onLevel = level => {
      owner.onDiskLevel(level)
      maintenance.kick()
    }
    space.onLook = () => {
      slots.kick()
      committer.retry()
      if (space.level !== 'green') maintenance.kick()
    }
    slots.onFailure = error => {
      if (!isWorldError(error)) throw error
      committer.fail(error)
    }
    this.#running = { committer, checkpointer, maintenance, coldReads, space, slots }
    this.#start(recovered, store)
    slots.kick()
    void space.look()
  }

  #start({ tail, lastTicket }: Recovered, store: Buffer): void {
    if (tail === null) {
      this.startAt(lastTicket)
      return
    }
    const { segment, offset, head } = tail
    let block: Block | null = null
    if (head.length > 0) {
      block = this.cache.add(segment, offset - head.length)
      head.copy(block.buffer)
      markIntact(block, head.length, store, new BatchHeader())
    }
    this.startIn(segment, offset, block, lastTicket)
  }

  protected override wake(urgency: Urgency): void {
    this.#running?.committer.wake(urgency)
  }

  protected override crowded(): void {
    this.#running?.committer.crowded()
  }

  protected override rolled(bytes: number): void {
    const running = this.#running
    if (running === null) return
    running.checkpointer.logBytes += bytes
    running.space.lookIfOld(this.clock.now())
    running.maintenance.kick()
  }

  #require(): Running {
    if (this.#running === null) throw new JournalError('closed', 'the journal is not open yet')
    return this.#running
  }

  async #close(): Promise<void> {
    const running = this.#require()
    const { committer, checkpointer, maintenance, coldReads, space, slots } = running
    await this.#unlessStalled(running, maintenance.close())
    const newest = checkpointer.kept[0]
    const isClean = newest !== undefined && newest.end.ticket === this.ticket
    try {
      if (!this.failed && !isClean && this.ticket > 0) {
        await this.#unlessStalled(running, checkpointer.write())
      }
    } catch (error) {
      if (!isWorldError(error)) throw error
      this.#folder.log('warn', 'the journal was closed without a checkpoint', {
        error: String(error)
      })
    }
    space.close()
    await coldReads.close()
    await slots.close()
    await committer.close()
    await this.files.close()
    await this.#folder.unlock()
  }

  /** Waits for what writes to the log; if there is no room for that, it ends with an error. */
  async #unlessStalled({ slots, committer }: Running, work: Promise<void>): Promise<void> {
    let isDone = false
    const settle = () => {
      isDone = true
    }
    work.then(settle, settle)
    while (!isDone && !slots.isStalled && !committer.isWaitingForRoom) {
      await new Promise<void>(resolve => setTimeout(resolve, STALL_POLL_MS))
    }
    if (!isDone) {
      await slots.close()
      await committer.close()
    }
    await work
  }
}

interface Running {
  committer: Committer
  checkpointer: Checkpointer
  maintenance: Maintenance
  coldReads: ColdReads
  space: SpaceWatch
  slots: Slots
}

function newStats(): JournalStats {
  return {
    records: 0,
    batches: 0,
    syncs: 0,
    bytesWritten: 0,
    bytesZeroed: 0,
    checkpoints: 0,
    segmentsRecycled: 0,
    recordsCompacted: 0,
    segments: 0,
    liveBytes: 0,
    cachedBytes: 0,
    blocksRead: 0,
    damagedBatches: 0
  }
}

/**
 * Opens a journal, replays it through `owner.apply`, and resolves when appending may begin. Rejects with a
 * JournalError (locked, foreign-folder, newer-format, damaged-identity, not-writable) and leaves the folder as it was.
 */
export async function openJournal(
  options: JournalOptions
): Promise<{ journal: Journal; recovery: Recovery }> {
  const folder = await openFolder(options)
  try {
    const clock = new StoreClock(options.clock)
    const cache = new BlockCache(folder.limits.cacheBytes)
    const journal = new LogJournal(folder, folder.segments, cache, clock)
    options.attach?.(journal)
    const recovered = await recover(folder, options.owner, clock, journal.files)
    journal.run(options.owner, recovered)
    journal.stats.damagedBatches = recovered.recovery.damagedBatches
    return { journal, recovery: recovered.recovery }
  } catch (error) {
    await folder.unlock()
    throw error
  }
}
