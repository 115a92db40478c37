/**
 * What is still live in a segment that is being emptied: copied with only the destinations that are
 * still open, and each owner learns the new position (journal.md §5).
 */
import { Message } from '../core/message.ts'
import type { Chunk } from '../core/chunk.ts'
import type { DelayStore } from '../core/delay-store.ts'
import type { Queue } from '../core/queue.ts'
import { shareFlags, withShares } from '../core/queue-entry.ts'
import { enterCopy, retainedAt, type Place, WarmedChunks } from '../core/records/copy.ts'
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
import { type BlockWaiter, LAZY } from '../journal/journal.ts'
import type { Broker } from './broker.ts'
import { warm } from './deliver.ts'
import { cool } from './spill.ts'

/** A place in a store of delayed messages. */
interface Waiting {
  store: DelayStore
  dueAt: number
  sequence: number
  flags: number
}

interface Survivor extends Place {
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
  readonly #warmed: WarmedChunks

  constructor(broker: Broker) {
    this.#broker = broker
    this.#warmed = new WarmedChunks(broker.state, (queue, chunk) => cool(broker, queue, chunk))
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
    if (kind === KIND.queueIndex || kind === KIND.transientIndex) {
      this.#warmed.copyIndex(buffer, start, end, segment, offset)
    }
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
    this.#warmed.coolOld()
    const survivors = this.#survivors(buffer, end, segment, offset)
    if (survivors === null) return false
    const { journal, state } = this.#broker
    const slot = retainedAt(state, this.#record, message, segment, offset)
    const waiting = this.#waiting
    if (survivors.length === 0 && slot === null && waiting.length === 0) return true
    let bytes = messageBytesMax(message) + waiting.length * DESTINATION_BYTES_MAX
    for (const { identifiers } of survivors) {
      bytes += DESTINATION_BYTES_MAX + (identifiers?.length ?? 0) * 5
    }
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
    const shares = shareFlags(count)
    const payload = message.payloadBytes
    enterCopy(state, survivors, slot, vhost, to, payload, shares)
    for (const { store, dueAt, sequence, flags } of waiting) {
      const moved = withShares(flags, shares)
      state.delays.insert(store, dueAt, sequence, to.segment, to.offset, payload, moved)
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
    if (warm(this.#broker, queue, chunk)) this.#warmed.add(queue, chunk)
    return true
  }
}
