/**
 * What is still wanted in a segment that is being emptied: copied, and its owner learns the new position. The
 * same rules as in the broker (journal.md §5): only with the destinations that are open, a chunk that is cold
 * is read back for it, and goes cold again later.
 */
import type { Chunk } from '../core/chunk.ts'
import { Message } from '../core/message.ts'
import type { Queue } from '../core/queue.ts'
import { shareFlags } from '../core/queue-entry.ts'
import { enterCopy, type Place, retainedAt, WarmedChunks } from '../core/records/copy.ts'
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
import { BytesError, BytesReader } from '../lib/bytes-reader.ts'
import { type BlockWaiter, LAZY } from '../journal/journal.ts'
import type { Body, StoredClient } from './client.ts'
import type { Context } from './context.ts'
import { OWN } from './kinds.ts'
import { cool } from './spill.ts'
import { readText } from './values.ts'

export class Compaction implements BlockWaiter {
  readonly #context: Context
  readonly #message = new Message()
  readonly #record = new MessageRecord()
  readonly #destinations = new DestinationReader()
  readonly #warmed: WarmedChunks

  constructor(context: Context) {
    this.#context = context
    const { state } = context.store
    this.#warmed = new WarmedChunks(state, (queue, chunk) => cool(context, queue, chunk))
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
    if (kind === KIND.queueIndex) this.#warmed.copyIndex(buffer, start, end, segment, offset)
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
    this.#warmed.coolOld()
    const survivors = this.#survivors(buffer, end, segment, offset)
    if (survivors === null) return false
    const { journal, store } = this.#context
    const slot = retainedAt(store.state, this.#record, message, segment, offset)
    if (survivors.length === 0 && slot === null) return true
    const { vhost } = this.#record
    let at = journal.begin(messageBytesMax(message) + survivors.length * DESTINATION_BYTES_MAX)
    at = writeMessage(journal.buffer, at, message, 0, slot?.sequence ?? 0, vhost)
    for (const { queue, sequence, flags } of survivors) {
      at = writeDestination(journal.buffer, at, queue.id, sequence, flags, false, null)
    }
    journal.end(KIND.message, at, LAZY)
    const count = survivors.length + (slot === null ? 0 : 1)
    const shares = shareFlags(count)
    enterCopy(store.state, survivors, slot, vhost, journal, message.payloadBytes, shares)
    return true
  }

  /** The destinations whose entries still point here; null: an index must be read first. */
  #survivors(buffer: Buffer, end: number, segment: number, offset: number): Place[] | null {
    const survivors: Place[] = []
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
    this.#warmed.add(queue, chunk)
    return true
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
