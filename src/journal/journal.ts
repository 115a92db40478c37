/**
 * The journal's interface: the one log in which everything that lasts is a record.
 *
 * To the journal a record is a kind and bytes; `core/records` gives them meaning. A record has a
 * *position* (segment number, byte offset of its body in the segment) and a *ticket* (its rising
 * number). Hot callers write a record in place, between `begin` and `end`, and read the position from
 * the fields `segment` and `offset`: no object is made for a record.
 */

/** Awaited: somebody waits for the ticket, sync at once. Lazy: written within 50 ms, synced within `syncIdleMs`. */
export type Urgency = 0 | 1
export const LAZY: Urgency = 0
export const AWAITED: Urgency = 1

/** Free space of the disk: yellow and red as in `Limits`; red also after ENOSPC. */
export type DiskLevel = 'green' | 'yellow' | 'red'

/** What the journal asks of the broker. All calls are synchronous and come outside of begin/end. */
export interface JournalOwner {
  /** Replay at start: one record in log order. Never throws for bad content: counts it and returns false. */
  apply(
    kind: number,
    buffer: Buffer,
    start: number,
    end: number,
    segment: number,
    offset: number,
    ticket: number
  ): boolean
  /**
   * Checkpoint: append the next few object records (at most about 64 KiB) through `begin`/`end`.
   * `first` starts a new pass. Returns false when every object is written.
   */
  checkpointStep(first: boolean): boolean
  /**
   * Compaction: this record lies in a segment that is being emptied. Append a copy with only what is
   * still live and take the new position. Returns false when a block must be loaded first: the
   * journal then asks again for the same record later.
   */
  compact(
    kind: number,
    buffer: Buffer,
    start: number,
    end: number,
    segment: number,
    offset: number
  ): boolean
  /** After each sync: every record up to and including `ticket` is durable. */
  onDurable(ticket: number): void
  /** True: too many gathered bytes are not durable, read no publishers; false: half is durable, go on. */
  onBackpressure(full: boolean): void
  onDiskLevel(level: DiskLevel): void
  /** A write or sync failed: nothing more becomes durable until a restart. Called once. */
  onFailure(error: Error): void
}

/** Asked to be called when a block is in memory (or was found to be damaged). */
export interface BlockWaiter {
  onBlock(segment: number, offset: number, ok: boolean): void
}

export interface JournalStats {
  records: number
  batches: number
  syncs: number
  bytesWritten: number
  /** Bytes of zeros written to prepare segments, not part of `bytesWritten`. */
  bytesZeroed: number
  checkpoints: number
  segmentsRecycled: number
  recordsCompacted: number
  segments: number
  liveBytes: number
  cachedBytes: number
  blocksRead: number
  damagedBatches: number
}

/** What a start found. */
export interface Recovery {
  /** First start: the folder was empty. */
  isNew: boolean
  records: number
  batches: number
  /** Records that named something unknown or made no sense: kept aside, skipped. */
  skippedRecords: number
  damagedBatches: number
  /** Bytes of a torn tail that were cut. */
  cutBytes: number
  usedCheckpoint: boolean
  tookMs: number
}

export interface Journal {
  /** Where the record that `begin` opened is to be written; another one after each `begin`. */
  buffer: Buffer
  /** Position of the record that `end` closed last. */
  segment: number
  offset: number
  /** Ticket of the record that `end` closed last; 0 before the first. */
  ticket: number
  /** Highest ticket of which all records up to it are durable. */
  durableTicket: number
  readonly level: DiskLevel
  readonly failed: boolean
  /** Too much is on its way to the disk, whether the owner was told already or not. */
  readonly isCrowded: boolean
  readonly stats: JournalStats

  /** False: a record of so many bytes gets a file of its own, and for that the disk is too full. */
  hasRoomFor(bytes: number): boolean
  /** Opens a record of at most `bytesMax` bytes; returns the offset in `buffer` of its first byte. */
  begin(bytesMax: number): number
  /** Closes it: `end` is the offset behind its last byte. Returns its ticket. */
  end(kind: number, end: number, urgency: Urgency): number
  /** Gives up what `begin` opened. */
  abandon(): void

  /**
   * Makes the record at a position readable: true when it is in memory, and then `viewBuffer`,
   * `viewStart`, `viewEnd`, `viewKind` say where. Valid until the next call of any method.
   */
  view(segment: number, offset: number): boolean
  viewBuffer: Buffer
  viewStart: number
  viewEnd: number
  viewKind: number
  /** Reads the block of a position into memory (and up to four behind it), then tells `waiter`. */
  load(segment: number, offset: number, waiter: BlockWaiter): void

  /** Charges `bytes` of live data to a segment: at append, replay and move. */
  claim(segment: number, bytes: number): void
  /** Takes them off again: the message is settled, replaced, dropped. */
  release(segment: number, bytes: number): void

  /** Store time now, milliseconds: runs with the monotonic clock, survives restarts and clock jumps. */
  storeTime(): number
  /** Resolves when all that was appended before the call is durable. */
  flush(): Promise<void>
  /** Writes a checkpoint now; resolves when it counts. */
  checkpoint(): Promise<void>
  /** Checkpoint, sync, unlock. Idempotent. */
  close(): Promise<void>
}

/** Numbered bodies in a row, as they lie in a stream's files: `count` of them, each behind a u32 of its length. */
export interface StreamBlock {
  readonly first: number
  readonly count: number
  /** Wall time at which the first of them came, milliseconds; it may have jumped. */
  readonly wallTime: number
  /** The same in store time. */
  readonly storeTime: number
  readonly buffer: Buffer
  readonly start: number
  readonly end: number
  /** Where it lies, and where the next one may: see `StreamLog.load`. */
  readonly place: StreamPlace
  readonly next: StreamPlace
}

/** A block to be appended; `buffer` begins with room for its header (`STREAM_HEADER_BYTES`). */
export interface NewBlock {
  readonly first: number
  readonly count: number
  readonly wallTime: number
  readonly storeTime: number
  readonly buffer: Buffer
}

/** What a stream's block has before its bodies. */
export const STREAM_HEADER_BYTES = 48

/** A place in a stream's files: the first number of the file, and an offset in it. */
export interface StreamPlace {
  readonly file: number
  readonly offset: number
}

/** The files of one stream (docs/decisions/0023): blocks are appended at the end and leave at the begin. */
export interface StreamLog {
  /** The first number that is kept. */
  readonly first: number
  /** The last one that is durable here; below `first`: nothing is kept. */
  readonly last: number
  readonly bytes: number
  /** Wall time of the block that was written last, 0 before the first. */
  readonly newestWallTime: number
  /**
   * Call once at a start. A hole in the newest file is what a crash tore when its numbers are elsewhere still, and
   * nobody relies on what stands behind it; else it is damage, and what stands behind it is good.
   */
  cutTornEnd(isElsewhere: (from: number, to: number) => boolean): void
  /**
   * Appends blocks in their order; resolves when they are durable. A rejected one leaves nothing that counts, and
   * may be tried again. One at a time. A file takes no more once it has `segmentBytes`.
   */
  append(blocks: readonly NewBlock[], segmentBytes: number): Promise<void>
  /** The block that begins with this number if it is in memory. */
  view(first: number): StreamBlock | null
  /**
   * Reads the block with this number, or the first behind it; null: there is none. `hint` is where it may lie.
   * Damaged blocks are passed over. Rejects when the disk does.
   */
  load(number: number, hint: StreamPlace | null): Promise<StreamBlock | null>
  /** The first number of the last block that began at this wall time or before; `first` when none did. */
  findTime(wallTime: number): Promise<number>
  /**
   * Removes the oldest files: while there are more than `bytesMax` bytes (-1: any number), and those of which
   * everything came before this store time. The newest one stays.
   */
  trim(bytesMax: number, storeTimeMin: number): Promise<void>
  /** Removes all. */
  remove(): Promise<void>
}

/** The files of all streams. */
export interface StreamFiles {
  /** By the number of its queue; made when it is not there. */
  logOf(id: number): StreamLog
  /** Those of which there are files. */
  ids(): number[]
  /** Waits for what is under way. */
  close(): Promise<void>
}

/** The record kinds below this belong to the journal itself (checkpoint begin and end). */
export const FIRST_OWNER_KIND = 8
