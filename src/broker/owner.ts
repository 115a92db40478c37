/** What the journal asks of the broker: replay, checkpoint, compaction, and news of the disk. */
import type { DiskLevel, JournalOwner } from '../journal/journal.ts'
import type { Broker } from './broker.ts'
import { CHECKPOINT_PIECE_BYTES, Checkpoint } from './checkpoint.ts'
import { Compaction } from './compaction.ts'
import { unhold } from './deliver.ts'
import { dropUnfinished } from './transaction.ts'

export class Owner implements JournalOwner {
  readonly #broker: Broker
  readonly #checkpoint: Checkpoint
  readonly #compaction: Compaction

  /** `pieceBytes`: how much of a checkpoint is written in one turn, about. */
  constructor(broker: Broker, pieceBytes = CHECKPOINT_PIECE_BYTES) {
    this.#broker = broker
    this.#checkpoint = new Checkpoint(broker, pieceBytes)
    this.#compaction = new Compaction(broker)
  }

  apply(
    kind: number,
    buffer: Buffer,
    start: number,
    end: number,
    segment: number,
    offset: number,
    ticket: number
  ): boolean {
    const { replayed, state } = this.#broker
    return replayed.apply(state, kind, buffer, start, end, segment, offset, ticket)
  }

  checkpointStep(first: boolean): boolean {
    dropUnfinished(this.#broker)
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
    dropUnfinished(this.#broker)
    return this.#compaction.compact(kind, buffer, start, end, segment, offset)
  }

  onDurable(ticket: number): void {
    const broker = this.#broker
    if (broker.held.size > 0) unhold(broker, ticket)
    for (const publisher of broker.waiting) publisher.onDurable(ticket)
    this.#goOn()
  }

  #goOn(): void {
    const { untilDurable } = this.#broker
    if (untilDurable.size === 0) return
    const tasks = [...untilDurable]
    untilDurable.clear()
    for (const task of tasks) task.onTurnEnd()
  }

  onBackpressure(full: boolean): void {
    const broker = this.#broker
    broker.isCrowded = full
    broker.judgePause()
  }

  onDiskLevel(level: DiskLevel): void {
    const broker = this.#broker
    const raised = level === 'red'
    broker.events.emit('diskLevel', { level })
    if (raised === broker.diskAlarm) return
    broker.diskAlarm = raised
    broker.judge()
    for (const publisher of broker.publishers) publisher.onDiskAlarm(raised)
  }

  onFailure(error: Error): void {
    const broker = this.#broker
    broker.judge()
    // What they wait for will not come: they go on without it.
    this.#goOn()
    broker.events.emit('journalFailed', { message: error.message })
  }
}
