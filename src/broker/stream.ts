/**
 * A stream: a queue whose messages stay (docs/decisions/0023). What comes is an entry of the queue as everywhere,
 * its record in the journal; `streams.ts` moves what is durable into files of the stream's own. The sequence of a
 * message is its offset and one. Readers get what is durable and nothing else: an offset that was seen once means the
 * same message for ever.
 */
import { NOTHING } from '../core/entries.ts'
import { Message } from '../core/message.ts'
import type { Queue } from '../core/queue.ts'
import type { QueueStream } from '../core/queue-stream.ts'
import { readMessage } from '../core/records/message.ts'
import type { BlockWaiter, StreamBlock, StreamLog } from '../journal/journal.ts'
import { load, NOT_LOADED, VIEWED, view } from './bodies.ts'
import type { Broker, TurnTask } from './broker.ts'
import { Consumers } from './queue-consumers.ts'
import type { StreamCursor, StreamReader } from './stream-reader.ts'
import { StreamTimes } from './stream-times.ts'

/** Messages that a reader gets before the next one's turn. */
const READER_BUDGET = 128
/** The disk failed a read: it is tried again after this. */
const RETRY_MS = 1_000

/** What moves messages into files: see streams.ts. */
export interface StreamMover {
  mayTake(bytes: number): boolean
  /** Something of it is durable. */
  onDurable(stream: Stream): void
  onOptions(stream: Stream): void
  onEnd(stream: Stream, ticket: number): void
}

export class Stream implements QueueStream, TurnTask {
  readonly broker: Broker
  readonly queue: Queue
  readonly log: StreamLog
  readonly times: StreamTimes
  /** All up to this one are durable. */
  durable: number
  readonly #mover: StreamMover
  readonly #consumers: Consumers
  readonly #message: Message
  /** What was stored by the record of a ticket, and what since; 0: nothing waits for its sync. */
  #ticket: number
  #sequence: number
  #newestTicket: number
  #newestSequence: number
  readonly #turnEnd: TurnTask

  constructor(broker: Broker, queue: Queue, log: StreamLog, mover: StreamMover) {
    this.broker = broker
    this.queue = queue
    this.log = log
    this.times = new StreamTimes()
    this.durable = queue.nextSequence - 1
    this.#mover = mover
    this.#message = new Message()
    this.#ticket = 0
    this.#sequence = 0
    this.#newestTicket = 0
    this.#newestSequence = 0
    this.#turnEnd = { onTurnEnd: () => this.#mark(broker.journal.ticket) }
    this.#consumers = new Consumers(broker, queue, null, () => this.pump())
    // Nobody else delivers from this queue.
    this.#consumers.isLoading = true
    queue.attached = this.#consumers
  }

  /** The oldest message that there is, or the one that comes next. */
  get first(): number {
    if (this.log.last >= this.log.first) return this.log.first
    const waiting = this.queue.after(0)
    return waiting === NOTHING ? this.queue.nextSequence : waiting
  }

  get count(): number {
    return this.queue.nextSequence - this.first
  }

  get bytes(): number {
    return this.log.bytes + this.queue.readyBytes
  }

  mayTake(bytes: number): boolean {
    return this.#mover.mayTake(bytes)
  }

  onOptions(): void {
    this.#mover.onOptions(this)
  }

  end(ticket: number): void {
    this.#mover.onEnd(this, ticket)
  }

  // What is durable

  onStored(): void {
    const { broker, queue } = this
    this.times.note(queue.nextSequence - 1, broker.nowMs, wallOf(broker))
    // A part of a transaction may be durable and never have happened.
    if (broker.isInTransaction) broker.afterTurn(this.#turnEnd)
    else this.#mark(broker.journal.ticket)
  }

  /** All that has come is durable with this ticket. */
  #mark(ticket: number): void {
    this.#newestTicket = ticket
    this.#newestSequence = this.queue.nextSequence - 1
    if (this.#ticket > 0) return
    this.#ticket = ticket
    this.#sequence = this.#newestSequence
    this.broker.untilDurable.add(this)
  }

  /** After a sync. */
  onTurnEnd(): void {
    const { broker } = this
    if (broker.journal.failed || this.queue.isDeleted) return
    const { durableTicket } = broker.journal
    if (durableTicket >= this.#newestTicket) {
      this.durable = this.#newestSequence
      this.#ticket = 0
    } else {
      if (durableTicket >= this.#ticket) {
        this.durable = this.#sequence
        this.#ticket = this.#newestTicket
        this.#sequence = this.#newestSequence
      }
      broker.untilDurable.add(this)
    }
    this.pump()
    this.#mover.onDurable(this)
  }

  // Readers

  /** Finds where a reader begins; then it is given what there is. */
  begin(reader: StreamReader): void {
    const { cursor } = reader
    const { start } = cursor
    const behind = this.durable + 1
    if (start.from === 'next') cursor.next = behind
    else if (start.from === 'first') cursor.next = this.first
    else if (start.from === 'last') cursor.next = Math.max(this.durable, this.first)
    else if (start.from === 'offset')
      cursor.next = Math.min(Math.max(start.offset + 1, this.first), Math.max(behind, this.first))
    else if (cursor.next === 0) {
      void this.#findTime(reader, start.time)
      return
    }
    this.pump()
  }

  async #findTime(reader: StreamReader, time: number): Promise<void> {
    const { cursor } = reader
    const newest = this.times.newestWallTime || this.log.newestWallTime
    const waiting = this.times.at(time)
    if (time > newest) cursor.next = this.durable + 1
    else if (waiting !== null) cursor.next = waiting
    else {
      try {
        cursor.next = Math.max(await this.log.findTime(time), this.first)
      } catch (error) {
        this.#tell(error)
        cursor.next = this.first
      }
    }
    this.pump()
  }

  /** Gives readers what there is for them, in turns. */
  pump(): void {
    if (this.broker.journal.failed || this.queue.isDeleted) return
    let isMore = false
    // One that is cancelled by what it gets leaves the list.
    for (const reader of [...this.#consumers.list] as StreamReader[]) {
      if (this.#feed(reader) === 0) isMore = true
    }
    if (isMore) this.#consumers.schedule()
  }

  /** Returns how much of the budget is left: 0 when there may be more for it. */
  #feed(reader: StreamReader): number {
    const { cursor } = reader
    let left = READER_BUDGET
    while (left > 0 && cursor.next > 0 && cursor.next <= this.durable && !cursor.isLoading) {
      if (!reader.hasCredit()) break
      if (cursor.next < this.log.first) cursor.next = this.first
      if (cursor.next > this.log.last) {
        if (!this.#giveWaiting(reader)) break
        left--
        continue
      }
      const block = this.#blockOf(cursor)
      if (block === null) {
        cursor.isLoading = true
        void this.#load(cursor)
        break
      }
      left = this.#giveBlock(reader, block, left)
    }
    cursor.loaded = null
    return left
  }

  /** The block with the next message, if it is in memory. */
  #blockOf(cursor: StreamCursor): StreamBlock | null {
    const first = cursor.blockFirst > 0 ? cursor.blockFirst : cursor.next
    const { loaded } = cursor
    const block = loaded !== null && isIn(loaded, cursor.next) ? loaded : this.log.view(first)
    if (block !== null && block.first !== cursor.blockFirst) cursor.enter(block)
    return block
  }

  async #load(cursor: StreamCursor): Promise<void> {
    const { last } = this.log
    try {
      const block = await this.log.load(cursor.next, cursor.place)
      cursor.isLoading = false
      cursor.loaded = block
      if (block === null) {
        // What there was is damaged: counted where it was found.
        if (cursor.next <= last) cursor.next = last + 1
      } else if (block.first !== cursor.blockFirst) cursor.enter(block)
    } catch (error) {
      this.#tell(error)
      await new Promise<void>(resolve => setTimeout(resolve, RETRY_MS).unref())
      cursor.isLoading = false
    }
    this.pump()
  }

  #tell(err: unknown): void {
    this.broker.log.error({ err, queue: this.queue.name }, 'a stream cannot be read')
  }

  /** Returns what is left of the budget. */
  #giveBlock(reader: StreamReader, block: StreamBlock, budget: number): number {
    const { cursor } = reader
    const message = this.#message
    const { buffer } = block
    let left = budget
    const end = block.first + block.count
    while (cursor.number < end && cursor.number <= this.durable) {
      const start = cursor.at + 4
      const bodyEnd = start + buffer.readUInt32BE(cursor.at)
      if (cursor.number >= cursor.next) {
        if (left <= 0 || !reader.hasCredit()) return left
        const sequence = cursor.number
        this.#step(cursor, bodyEnd)
        if (!readMessage(buffer, start, bodyEnd, message)) continue
        reader.deliver(message, this.queue, sequence, 0, null)
        left--
      } else this.#step(cursor, bodyEnd)
    }
    if (cursor.number >= end) cursor.leave(block)
    return left
  }

  #step(cursor: StreamCursor, at: number): void {
    cursor.at = at
    cursor.number++
    if (cursor.number > cursor.next) cursor.next = cursor.number
  }

  /** One that waits for the files. False: nothing more now. */
  #giveWaiting(reader: StreamReader): boolean {
    const { broker, queue } = this
    const { cursor } = reader
    const sequence = queue.after(cursor.next - 1)
    if (sequence === NOTHING || sequence > this.durable) return false
    const { segment, offset } = queue
    const found = view(broker, segment, offset)
    if (found === NOT_LOADED) {
      cursor.isLoading = true
      load(broker, segment, offset, new WaitingReader(this, cursor, sequence))
      return false
    }
    cursor.next = sequence + 1
    cursor.blockFirst = 0
    // What is damaged is counted when it is moved.
    if (found === VIEWED) reader.deliver(broker.stored, queue, sequence, 0, null)
    return true
  }
}

/** Goes on when the block of the journal is there. */
class WaitingReader implements BlockWaiter {
  readonly #stream: Stream
  readonly #cursor: StreamCursor

  readonly #sequence: number

  constructor(stream: Stream, cursor: StreamCursor, sequence: number) {
    this.#stream = stream
    this.#cursor = cursor
    this.#sequence = sequence
  }

  onBlock(segment: number, offset: number, ok: boolean): void {
    const { queue } = this.#stream
    this.#cursor.isLoading = false
    // It may have left for the files, or moved in the journal, meanwhile: then nothing is damaged.
    const isThere =
      queue.find(this.#sequence) && queue.segment === segment && queue.offset === offset
    if (!ok && isThere) this.#cursor.next = this.#sequence + 1
    this.#stream.pump()
  }
}

function isIn(block: StreamBlock, sequence: number): boolean {
  return sequence >= block.first && sequence < block.first + block.count
}

function wallOf(broker: Broker): () => number {
  return () => broker.clock.wallMs()
}
