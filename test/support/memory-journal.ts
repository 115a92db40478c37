/** A journal in memory: a test says when it is durable, and what the disk's state is. */
import type {
  BlockWaiter,
  DiskLevel,
  Journal,
  JournalStats,
  Urgency
} from '../../src/journal/journal.ts'
import type { Clock } from '../../src/lib/clock.ts'

const SEGMENT_BYTES = 1024 * 1024

export class MemoryJournal implements Journal {
  buffer: Buffer = Buffer.alloc(SEGMENT_BYTES)
  segment = 1
  offset = 0
  ticket = 0
  durableTicket = 0
  level: DiskLevel = 'green'
  failed = false
  isCrowded = false
  viewBuffer: Buffer = Buffer.alloc(0)
  viewStart = 0
  viewEnd = 0
  viewKind = 0
  /** After each sync. */
  onDurable: (ticket: number) => void = () => undefined
  /** False: nothing becomes durable until `sync`. */
  isAutomatic = true
  readonly stats: JournalStats = {
    records: 0,
    batches: 0,
    syncs: 0,
    bytesWritten: 0,
    bytesZeroed: 0,
    checkpoints: 0,
    segmentsRecycled: 0,
    recordsCompacted: 0,
    segments: 1,
    liveBytes: 0,
    cachedBytes: 0,
    blocksRead: 0,
    damagedBatches: 0
  }
  readonly #clock: Clock
  readonly #segments = new Map<number, Buffer>([[1, this.buffer]])
  readonly #records = new Map<string, { kind: number; end: number }>()
  #end = 0
  #isScheduled = false

  constructor(clock: Clock) {
    this.#clock = clock
  }

  hasRoomFor(): boolean {
    return true
  }

  begin(bytesMax: number): number {
    if (this.#end + bytesMax > this.buffer.length) {
      this.buffer = Buffer.alloc(Math.max(SEGMENT_BYTES, bytesMax))
      this.segment++
      this.#segments.set(this.segment, this.buffer)
      this.#end = 0
    }
    return this.#end
  }

  end(kind: number, end: number, _urgency: Urgency): number {
    this.offset = this.#end
    this.#records.set(`${this.segment} ${this.offset}`, { kind, end })
    this.#end = end
    this.ticket++
    this.stats.records++
    if (this.isAutomatic && !this.#isScheduled) {
      this.#isScheduled = true
      setImmediate(() => {
        this.#isScheduled = false
        if (this.isAutomatic) this.sync()
      })
    }
    return this.ticket
  }

  abandon(): void {
    // Nothing is kept of a record before its end.
  }

  /** Nothing of what was appended is needed any more. */
  forget(): void {
    this.#records.clear()
    this.#segments.clear()
    this.#segments.set(this.segment, this.buffer)
    this.#end = 0
  }

  /** All that was appended is durable now. */
  sync(): void {
    this.durableTicket = this.ticket
    this.onDurable(this.ticket)
  }

  view(segment: number, offset: number): boolean {
    const record = this.#records.get(`${segment} ${offset}`)
    const buffer = this.#segments.get(segment)
    if (record === undefined || buffer === undefined) throw new Error('no such record')
    this.viewBuffer = buffer
    this.viewStart = offset
    this.viewEnd = record.end
    this.viewKind = record.kind
    return true
  }

  load(segment: number, offset: number, waiter: BlockWaiter): void {
    setImmediate(() => waiter.onBlock(segment, offset, true))
  }

  claim(_segment: number, bytes: number): void {
    this.stats.liveBytes += bytes
  }

  release(_segment: number, bytes: number): void {
    this.stats.liveBytes -= bytes
  }

  storeTime(): number {
    return this.#clock.monotonicMs()
  }

  flush(): Promise<void> {
    this.sync()
    return Promise.resolve()
  }

  checkpoint(): Promise<void> {
    return Promise.resolve()
  }

  close(): Promise<void> {
    return Promise.resolve()
  }
}
