/**
 * Checkpoints: every object as a record of its own, written in pieces between turns while traffic goes on,
 * between a begin and an end record. It counts when the end is durable and the superblock that names both is
 * synced. The last two are kept; replay starts at the begin of the newest good one.
 */
import type { Committer } from './commit.ts'
import type { Disk } from './disk.ts'
import { AWAITED, type JournalOwner, type JournalStats, LAZY } from './journal.ts'
import { isNoSpace } from './journal-error.ts'
import { BATCH_HEADER_BYTES, RECORD_HEADER_BYTES } from './layout.ts'
import type { JournalLimits, JournalLog } from './options.ts'
import type { StoreClock } from './store-clock.ts'
import { type Checkpoint, writeSuperblock } from './superblock.ts'
import type { Tail } from './tail.ts'

/** Kinds of the journal's own records; replay passes over them. */
export const CHECKPOINT_BEGIN = 1
export const CHECKPOINT_END = 2

export interface CheckpointParts {
  tail: Tail
  committer: Committer
  disk: Disk
  folder: string
  store: Buffer
  epoch: number
  owner: JournalOwner
  clock: StoreClock
  stats: JournalStats
  limits: JournalLimits
  log: JournalLog
}

/** Lets everything else have its turn, and does not outrun the disk. */
export async function betweenTurns(
  committer: Committer,
  tail: Tail,
  bytesMax: number
): Promise<void> {
  if (tail.pendingBytes > bytesMax) await committer.whenDurable(tail.ticket)
  else await new Promise<void>(resolve => setImmediate(resolve))
}

export class Checkpointer {
  /** The checkpoints that count, the newest first; at most two. */
  readonly kept: Checkpoint[]
  /** Bytes of log since the begin of the newest one. */
  logBytes = 0
  /** How many bytes of log the newest one took. */
  lastBytes = 0
  readonly #parts: CheckpointParts
  #running: Promise<void> | null = null
  #counter: number

  constructor(parts: CheckpointParts, kept: readonly Checkpoint[], lastCounter: number) {
    this.#parts = parts
    this.#counter = lastCounter
    this.kept = [...kept]
  }

  /** Writes one; while one is being written, the same. */
  write(): Promise<void> {
    this.#running ??= this.#write().finally(() => {
      this.#running = null
    })
    return this.#running
  }

  async #write(): Promise<void> {
    const { tail, committer, owner, stats, limits, log } = this.#parts
    tail.closeBatch()
    this.logBytes = 0
    const counter = this.#counter + 1 // its slot is the one that does not hold the newest
    const beginTicket = this.#append(CHECKPOINT_BEGIN, counter, 0)
    // The first record of its batch: replay starts at the batch.
    const begin = {
      segment: tail.segment,
      offset: tail.offset - BATCH_HEADER_BYTES - RECORD_HEADER_BYTES,
      ticket: beginTicket
    }
    for (let isFirst = true; ; isFirst = false) {
      if (!owner.checkpointStep(isFirst)) break
      await betweenTurns(committer, tail, limits.pendingBytesMax / 4)
    }
    const endTicket = this.#append(CHECKPOINT_END, counter, beginTicket)
    const end = { segment: tail.segment, offset: tail.offset, ticket: endTicket }
    await committer.whenDurable(endTicket)
    if (await this.#count({ counter, begin, end, ...this.#times() })) {
      stats.checkpoints++
      this.lastBytes = this.logBytes
      log('debug', 'checkpoint written', { counter, records: endTicket - beginTicket })
    }
  }

  #times() {
    const { clock, epoch } = this.#parts
    const wallTime = clock.wall()
    return { epoch, storeTime: clock.now(), wallTime, newestWall: clock.newestWall }
  }

  async #count(checkpoint: Checkpoint): Promise<boolean> {
    const { disk, folder, store, committer, log } = this.#parts
    try {
      await writeSuperblock(disk, folder, store, checkpoint)
    } catch (error) {
      if (!isNoSpace(error)) {
        committer.fail(error)
        throw error
      }
      log('error', 'no room for the superblock: the checkpoint does not count', {})
      return false
    }
    this.#counter = checkpoint.counter
    this.kept.unshift(checkpoint)
    this.kept.length = Math.min(2, this.kept.length)
    return true
  }

  #append(kind: number, counter: number, beginTicket: number): number {
    const { tail } = this.#parts
    const at = tail.begin(12)
    tail.buffer.writeUInt32LE(counter, at)
    tail.buffer.writeDoubleLE(beginTicket, at + 4)
    return tail.end(kind, at + 12, kind === CHECKPOINT_END ? AWAITED : LAZY)
  }
}
