/** What the journal asks of a persistence: replay, checkpoint, compaction, and news of the disk. */
import type { DiskLevel, JournalOwner } from '../journal/journal.ts'
import { Checkpoint } from './checkpoint.ts'
import { Compaction } from './compaction.ts'
import type { Context } from './context.ts'
import type { Gate } from './gate.ts'
import { applyOwn } from './records.ts'

export class Owner implements JournalOwner {
  readonly #context: Context
  readonly #gate: Gate
  readonly #checkpoint: Checkpoint
  readonly #compaction: Compaction
  readonly #onFailure: (error: Error) => void

  constructor(context: Context, gate: Gate, onFailure: (error: Error) => void) {
    this.#context = context
    this.#gate = gate
    this.#checkpoint = new Checkpoint(context)
    this.#compaction = new Compaction(context)
    this.#onFailure = onFailure
  }

  apply(
    kind: number,
    buffer: Buffer,
    start: number,
    end: number,
    segment: number,
    offset: number
  ): boolean {
    return applyOwn(this.#context.store, kind, buffer, start, end, segment, offset)
  }

  checkpointStep(first: boolean): boolean {
    return this.#checkpoint.step(first)
  }

  compact(
    kind: number,
    buffer: Buffer,
    start: number,
    end: number,
    segment: number,
    offset: number
  ): boolean {
    return this.#compaction.compact(kind, buffer, start, end, segment, offset)
  }

  onDurable(_ticket: number): void {
    // Whoever waits, waits by the journal's own promise.
  }

  onBackpressure(full: boolean): void {
    if (full) this.#gate.close()
    else this.#gate.open()
  }

  onDiskLevel(level: DiskLevel): void {
    const isFull = level === 'red'
    this.#context.log(isFull ? 'error' : 'info', 'free space of the disk', { level })
    // What waits is refused, or goes on.
    if (isFull) this.#gate.open()
  }

  onFailure(error: Error): void {
    this.#onFailure(error)
  }
}
