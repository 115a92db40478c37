/**
 * When a segment of the journal is emptied, what is still wanted of it is copied. Broker and persistence decide
 * what that is; here is what they have in common: cold chunks that are read back for it and go cold again, and how
 * those who named a message's record learn where the copy lies.
 */
import { BytesReader } from '../../lib/bytes-reader.ts'
import { type Chunk, hasMoved } from '../chunk.ts'
import type { Message } from '../message.ts'
import type { Queue } from '../queue.ts'
import { withShares } from '../queue-entry.ts'
import { RetainedSlot } from '../retained.ts'
import type { State } from '../state.ts'
import type { MessageRecord } from './message.ts'
import { readIndex } from './queue-entries.ts'

/** So many stay in memory: a fan-out to long queues needs one of each queue for every message. */
const WARM_CHUNKS_MAX = 64

/** Chunks that were read back, the oldest first. */
export class WarmedChunks {
  readonly #state: State
  /** Writes a chunk's index record and forgets its entries. */
  readonly #cool: (queue: Queue, chunk: Chunk) => void
  readonly #warmed: { queue: Queue; chunk: Chunk }[]

  constructor(state: State, cool: (queue: Queue, chunk: Chunk) => void) {
    this.#state = state
    this.#cool = cool
    this.#warmed = []
  }

  add(queue: Queue, chunk: Chunk): void {
    this.#warmed.push({ queue, chunk })
  }

  /** Between two messages only: one message's destinations may lie in many chunks. */
  coolOld(): void {
    while (this.#warmed.length > WARM_CHUNKS_MAX) {
      const { queue, chunk } = this.#warmed.shift()!
      if (queue.isDeleted || !queue.chunks.includes(chunk)) continue
      if (queue.isCoolable(chunk)) this.#cool(queue, chunk)
    }
  }

  /** An index record that is still named: its chunk is taken out of it and written anew. */
  copyIndex(buffer: Buffer, start: number, end: number, segment: number, offset: number): void {
    const reader = new BytesReader(buffer, start, end)
    const queue = this.#state.queues.get(reader.varint())
    const chunk = queue?.coldChunkOf(reader.varint()) ?? null
    if (queue === undefined || chunk === null) return
    if (chunk.segment !== segment || chunk.offset !== offset) return
    reader.offset = start
    const words = readIndex(reader, chunk)
    if (words === null) return
    this.#state.warm(queue, chunk, words)
    if (!hasMoved(chunk, queue.moves)) this.#cool(queue, chunk)
  }
}

/** A place of a message in a queue. */
export interface Place {
  readonly queue: Queue
  readonly sequence: number
  readonly flags: number
}

/** The retained slot that names the record at this position; null: something else is retained by now. */
export function retainedAt(
  state: State,
  record: MessageRecord,
  message: Message,
  segment: number,
  offset: number
): RetainedSlot | null {
  if (record.retainedSequence === 0) return null
  const slot = state.vhost(record.vhost)?.retained.get(message.topicText()) ?? null
  return slot !== null && slot.segment === segment && slot.offset === offset ? slot : null
}

/** Places and slot take the copy's position; `shares`: as flags, of all that name it. */
export function enterCopy(
  state: State,
  places: readonly Place[],
  slot: RetainedSlot | null,
  vhost: string,
  to: { readonly segment: number; readonly offset: number },
  payloadBytes: number,
  shares: number
): void {
  const { segment, offset } = to
  for (const { queue, sequence, flags } of places) {
    const moved = withShares(flags, shares)
    state.insertEntry(queue, sequence, segment, offset, payloadBytes, moved)
  }
  if (slot === null) return
  const { topic, sequence } = slot
  state.setRetained(vhost, new RetainedSlot(topic, segment, offset, payloadBytes, shares, sequence))
}
