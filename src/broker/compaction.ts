/**
 * What is still live in a segment that is being emptied: copied with only the destinations that are
 * still open, and each owner learns the new position (journal.md §5).
 */
import { Message } from '../core/message.ts'
import { type Chunk, hasMoved } from '../core/chunk.ts'
import type { DelayStore } from '../core/delay-store.ts'
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
import { BytesReader } from '../lib/bytes-reader.ts'
import { type BlockWaiter, LAZY } from '../journal/journal.ts'
import type { Broker } from './broker.ts'
import { warm } from './deliver.ts'
import { cool } from './spill.ts'

/** So many stay in memory: a fan-out to long queues needs one of each queue for every message. */
const WARM_CHUNKS_MAX = 64

const SHARE_MASK = (1 << ENTRY_SHARE_SHIFT) - 1

/** A place in a store of delayed messages. */
interface Waiting {
  store: DelayStore
  dueAt: number
  sequence: number
  flags: number
}

interface Survivor {
  queue: Queue
  sequence: number
  flags: number
  /** As the record names it: of what a shared group gave to a member, its place in the group. */
  ownerId: number
  ownerSequence: number
  identifiers: number[] | null
  /** Its own store time, 0 = none. */
  time: number
}

export class Compaction implements BlockWaiter {
  readonly #broker: Broker
  readonly #message = new Message()
  readonly #record = new MessageRecord()
  readonly #destinations = new DestinationReader()
  /** Of the message at hand, beside its places in queues. */
  #waiting: Waiting[] = []
  /** Chunks that were read back for this, the oldest first: they go cold again, see `#coolOld`. */
  readonly #warmed: { queue: Queue; chunk: Chunk }[]

  constructor(broker: Broker) {
    this.#broker = broker
    this.#warmed = []
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
    if (kind === KIND.message || kind === KIND.transient) {
      return this.#copyMessage(kind, buffer, start, end, segment, offset)
    }
    if (kind === KIND.queueIndex || kind === KIND.transientIndex)
      this.#copyIndex(buffer, start, end, segment, offset)
    return true
  }

  onBlock(): void {
    // The journal asks for the same record again by itself.
  }

  #copyMessage(
    kind: number,
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
    const waiting = this.#waiting
    if (survivors.length === 0 && slot === null && waiting.length === 0) return true
    let bytes = messageBytesMax(message) + waiting.length * DESTINATION_BYTES_MAX
    for (const { identifiers } of survivors) {
      bytes += DESTINATION_BYTES_MAX + (identifiers?.length ?? 0) * 5
    }
    const { journal, state } = this.#broker
    const retainedSequence = slot === null ? 0 : slot.sequence
    const vhost = this.#record.vhost
    let at = journal.begin(bytes)
    at = writeMessage(journal.buffer, at, message, 0, retainedSequence, vhost)
    let isKept = kind === KIND.message
    for (const { queue, flags, ownerId, ownerSequence, identifiers, time } of survivors) {
      const { buffer } = journal
      const isTransient = !queue.isDurable
      // A queue in memory may have come to last since: then so must the record.
      if (!isTransient) isKept = true
      at = writeDestination(
        buffer,
        at,
        ownerId,
        ownerSequence,
        flags,
        isTransient,
        identifiers,
        time
      )
    }
    for (const { store, dueAt, sequence, flags } of waiting) {
      if (store.isDurable) isKept = true
      const { id, isDurable } = store
      at = writeDestination(journal.buffer, at, id, sequence, flags, !isDurable, null, dueAt)
    }
    journal.end(isKept ? KIND.message : KIND.transient, at, LAZY)
    const to = { segment: journal.segment, offset: journal.offset }
    const count = survivors.length + waiting.length + (slot === null ? 0 : 1)
    const shares = Math.min(count, 0xffff) << ENTRY_SHARE_SHIFT
    const payload = message.payloadEnd - message.payloadStart
    for (const { queue, sequence, flags } of survivors) {
      const moved = (flags & SHARE_MASK) | shares
      state.insertEntry(queue, sequence, to.segment, to.offset, payload, moved)
    }
    for (const { store, dueAt, sequence, flags } of waiting) {
      const moved = (flags & SHARE_MASK) | shares
      state.delays.insert(store, dueAt, sequence, to.segment, to.offset, payload, moved)
    }
    if (slot !== null) {
      const { topic, sequence } = slot
      const moved = new RetainedSlot(topic, to.segment, to.offset, payload, shares, sequence)
      state.setRetained(vhost, moved)
    }
    return true
  }

  /** The destinations whose entries still point here; null: an index must be read first. */
  #survivors(buffer: Buffer, end: number, segment: number, offset: number): Survivor[] | null {
    const survivors: Survivor[] = []
    const destinations = this.#destinations
    this.#waiting = []
    destinations.open(buffer, this.#record.destinationsStart, end)
    while (destinations.next()) {
      const { queueId: ownerId, sequence: ownerSequence, time } = destinations
      // That the message left another place is in the checkpoint, as every settlement is.
      if (destinations.isSettled) continue
      if (time > 0 && this.#addWaiting(segment, offset)) continue
      let { identifiers } = destinations
      let queue = this.#broker.state.queues.get(ownerId)
      let sequence = ownerSequence
      const move = queue?.moves?.get(ownerSequence)
      if (move !== undefined && move.groupId === ownerId) {
        queue = this.#broker.state.queues.get(move.sessionId)
        sequence = move.sequence
        identifiers = move.identifier === 0 ? null : [move.identifier]
      }
      if (queue === undefined) continue
      const cold = queue.coldChunkOf(sequence)
      if (cold !== null && !this.#warm(queue, cold)) return null
      if (!queue.find(sequence) || queue.segment !== segment || queue.offset !== offset) continue
      const { flags } = queue
      survivors.push({ queue, sequence, flags, ownerId, ownerSequence, identifiers, time })
    }
    return survivors
  }

  /** A delayed message, noted when it still lies here. False: the destination is a queue. */
  #addWaiting(segment: number, offset: number): boolean {
    const { queueId, sequence, time: dueAt } = this.#destinations
    const store = this.#broker.state.delays.stores.get(queueId)
    if (store === undefined) return false
    const isHere =
      store.find(dueAt, sequence) && store.segment === segment && store.offset === offset
    if (isHere) this.#waiting.push({ store, dueAt, sequence, flags: store.flags })
    return true
  }

  /** Reads a cold chunk back. False: its index must be read first. */
  #warm(queue: Queue, chunk: Chunk): boolean {
    const { journal } = this.#broker
    if (!journal.view(chunk.segment, chunk.offset)) {
      journal.load(chunk.segment, chunk.offset, this)
      return false
    }
    if (warm(this.#broker, queue, chunk)) this.#warmed.push({ queue, chunk })
    return true
  }

  /** Between two messages only: one message's destinations may lie in many chunks. */
  #coolOld(): void {
    while (this.#warmed.length > WARM_CHUNKS_MAX) {
      const { queue, chunk } = this.#warmed.shift()!
      if (queue.isDeleted || !queue.chunks.includes(chunk)) continue
      if (queue.isCoolable(chunk)) cool(this.#broker, queue, chunk)
    }
  }

  #retainedSlot(message: Message, segment: number, offset: number): RetainedSlot | null {
    if (this.#record.retainedSequence === 0) return null
    const slot = this.#broker.state.vhost(this.#record.vhost)?.retained.get(message.keyText())
    if (slot === null || slot === undefined) return null
    return slot.segment === segment && slot.offset === offset ? slot : null
  }

  /** An index record that is still named: its chunk is taken out of it and written anew. */
  #copyIndex(buffer: Buffer, start: number, end: number, segment: number, offset: number): void {
    const reader = new BytesReader(buffer, start, end)
    const queue = this.#broker.state.queues.get(reader.varint())
    const first = reader.varint()
    const chunk = queue?.coldChunkOf(first) ?? null
    if (queue === undefined || chunk === null) return
    if (chunk.segment !== segment || chunk.offset !== offset) return
    reader.offset = start
    const words = readIndex(reader, chunk)
    if (words === null) return
    this.#broker.state.warm(queue, chunk, words)
    if (!hasMoved(chunk, queue.moves)) cool(this.#broker, queue, chunk)
  }
}
