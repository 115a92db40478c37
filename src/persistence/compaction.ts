/**
 * What is still wanted in a segment that is being emptied: copied, and its owner learns the new position. The
 * same rules as in the broker (journal.md §5): only with the destinations that are open, a chunk that is cold
 * is read back for it, and goes cold again later.
 */
import type { Chunk } from '../core/chunk.ts'
import { Message } from '../core/message.ts'
import type { Queue } from '../core/queue.ts'
import { ENTRY_SHARE_SHIFT } from '../core/queue-entry.ts'
import { KIND } from '../core/records/kinds.ts'
import {
  DESTINATION_BYTES_MAX,
  DestinationReader,
  MessageRecord,
  messageBytesMax,
  readMessage,
  writeDestination,
  writeMessage
} from '../core/records/message.ts'
import { readIndex } from '../core/records/queue-entries.ts'
import { RetainedSlot } from '../core/retained.ts'
import { BytesError, BytesReader } from '../lib/bytes-reader.ts'
import { type BlockWaiter, LAZY } from '../journal/journal.ts'
import type { Body, StoredClient } from './client.ts'
import type { Context } from './context.ts'
import { OWN } from './kinds.ts'
import { cool } from './spill.ts'
import { readText } from './values.ts'

const WARM_CHUNKS_MAX = 64
const SHARE_MASK = (1 << ENTRY_SHARE_SHIFT) - 1

interface Survivor {
  readonly queue: Queue
  readonly sequence: number
  readonly flags: number
}

export class Compaction implements BlockWaiter {
  readonly #context: Context
  readonly #message = new Message()
  readonly #record = new MessageRecord()
  readonly #destinations = new DestinationReader()
  /** Chunks that were read back for this, the oldest first. */
  readonly #warmed: { queue: Queue; chunk: Chunk }[] = []

  constructor(context: Context) {
    this.#context = context
  }

  /** False: an index must be read first; ask again. */
  compact(
    kind: number,
    buffer: Buffer,
    start: number,
    end: number,
    segment: number,
    offset: number
  ): boolean {
    if (kind === KIND.message) return this.#copyMessage(buffer, start, end, segment, offset)
    if (kind === KIND.queueIndex) this.#copyIndex(buffer, start, end, segment, offset)
    else if (kind === OWN.incoming || kind === OWN.will) {
      this.#copyBody(kind, buffer, start, end, segment, offset)
    }
    return true
  }

  onBlock(): void {
    // The journal asks for the same record again by itself.
  }

  #copyMessage(
    buffer: Buffer,
    start: number,
    end: number,
    segment: number,
    offset: number
  ): boolean {
    const message = this.#message
    if (!readMessage(buffer, start, end, message, this.#record)) return true
    this.#coolOld()
    const survivors = this.#survivors(buffer, end, segment, offset)
    if (survivors === null) return false
    const slot = this.#retainedSlot(message, segment, offset)
    if (survivors.length === 0 && slot === null) return true
    const { journal, store } = this.#context
    const { vhost } = this.#record
    let at = journal.begin(messageBytesMax(message) + survivors.length * DESTINATION_BYTES_MAX)
    at = writeMessage(journal.buffer, at, message, 0, slot?.sequence ?? 0, vhost)
    for (const { queue, sequence, flags } of survivors) {
      at = writeDestination(journal.buffer, at, queue.id, sequence, flags, false, null)
    }
    journal.end(KIND.message, at, LAZY)
    const to = { segment: journal.segment, offset: journal.offset }
    const count = survivors.length + (slot === null ? 0 : 1)
    const shares = Math.min(count, 0xffff) << ENTRY_SHARE_SHIFT
    const bytes = message.payloadBytes
    for (const { queue, sequence, flags } of survivors) {
      const moved = (flags & SHARE_MASK) | shares
      store.state.insertEntry(queue, sequence, to.segment, to.offset, bytes, moved)
    }
    if (slot !== null) {
      const { topic, sequence } = slot
      const moved = new RetainedSlot(topic, to.segment, to.offset, bytes, shares, sequence)
      store.state.setRetained(vhost, moved)
    }
    return true
  }

  /** The destinations whose entries still point here; null: an index must be read first. */
  #survivors(buffer: Buffer, end: number, segment: number, offset: number): Survivor[] | null {
    const survivors: Survivor[] = []
    const destinations = this.#destinations
    destinations.open(buffer, this.#record.destinationsStart, end)
    while (destinations.next()) {
      const queue = this.#context.store.state.queues.get(destinations.queueId)
      if (queue === undefined) continue
      const { sequence } = destinations
      const cold = queue.coldChunkOf(sequence)
      if (cold !== null && !this.#warm(queue, cold)) return null
      if (!queue.find(sequence) || queue.segment !== segment || queue.offset !== offset) continue
      survivors.push({ queue, sequence, flags: queue.flags })
    }
    return survivors
  }

  /** Reads a cold chunk back. False: its index must be read first. */
  #warm(queue: Queue, chunk: Chunk): boolean {
    const { journal, store } = this.#context
    if (!journal.view(chunk.segment, chunk.offset)) {
      journal.load(chunk.segment, chunk.offset, this)
      return false
    }
    const { viewBuffer, viewStart, viewEnd } = journal
    const words = readIndex(new BytesReader(viewBuffer, viewStart, viewEnd), chunk)
    if (words === null) return true
    store.state.warm(queue, chunk, words)
    this.#warmed.push({ queue, chunk })
    return true
  }

  /** Between two messages only: one message's destinations may lie in many chunks. */
  #coolOld(): void {
    while (this.#warmed.length > WARM_CHUNKS_MAX) {
      const { queue, chunk } = this.#warmed.shift()!
      if (queue.isDeleted || !queue.chunks.includes(chunk)) continue
      if (queue.isCoolable(chunk)) cool(this.#context, queue, chunk)
    }
  }

  #retainedSlot(message: Message, segment: number, offset: number): RetainedSlot | null {
    if (this.#record.retainedSequence === 0) return null
    const vhost = this.#context.store.state.vhost(this.#record.vhost)
    const slot = vhost?.retained.get(message.keyText()) ?? null
    return slot !== null && slot.segment === segment && slot.offset === offset ? slot : null
  }

  /** An index record that is still named: its chunk is taken out of it and written anew. */
  #copyIndex(buffer: Buffer, start: number, end: number, segment: number, offset: number): void {
    const reader = new BytesReader(buffer, start, end)
    const { state } = this.#context.store
    const queue = state.queues.get(reader.varint())
    const chunk = queue?.coldChunkOf(reader.varint()) ?? null
    if (queue === undefined || chunk === null) return
    if (chunk.segment !== segment || chunk.offset !== offset) return
    reader.offset = start
    const words = readIndex(reader, chunk)
    if (words === null) return
    state.warm(queue, chunk, words)
    if (queue.isCoolable(chunk)) cool(this.#context, queue, chunk)
  }

  #copyBody(
    kind: number,
    buffer: Buffer,
    start: number,
    end: number,
    segment: number,
    offset: number
  ): void {
    const { store } = this.#context
    const body = this.#bodyOf(kind, new BytesReader(buffer, start, end))
    if (body === null || body.segment !== segment || body.offset !== offset) return
    const writer = this.#context.begin()
    writer.bytes(buffer.subarray(start, end))
    this.#context.append(kind, LAZY)
    const { journal } = this.#context
    store.move(body, journal.segment, journal.offset)
  }

  #bodyOf(kind: number, reader: BytesReader): Body | null {
    try {
      const client: StoredClient | undefined = this.#context.store.byNumber.get(reader.varint())
      if (client === undefined) return null
      if (kind === OWN.incoming) return client.incoming.get(reader.varint()) ?? null
      readText(reader)
      return client.will
    } catch (error) {
      if (error instanceof BytesError) return null
      throw error
    }
  }
}
