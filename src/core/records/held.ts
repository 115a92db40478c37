/**
 * Records of entries that came back to their queue (`returned`: how often they were delivered), and of those that
 * wait there for a time of their own (`held`), until they are ready again (`unheld`). All of them are lazy: what a
 * crash takes of them only makes a message come earlier or once more.
 */
import type { ByteWriter } from '../../lib/byte-writer.ts'
import type { BytesReader } from '../../lib/bytes-reader.ts'
import type { DueEntries } from '../due-entries.ts'
import type { Queue } from '../queue.ts'
import { ENTRY_COUNT, ENTRY_COUNT_SHIFT, ENTRY_STATE, RELEASED } from '../queue-entry.ts'
import type { State } from '../state.ts'

/** Entries in one record of a checkpoint. */
const ENTRIES_MAX = 512
/** The highest that `why` can be. */
const HELD_MAX = 4

/** Deliveries of an entry so far. */
export function writeReturned(
  writer: ByteWriter,
  queueId: number,
  sequence: number,
  count: number
): void {
  writer.varint(queueId)
  writer.varint(sequence)
  writer.varint(count)
}

export function applyReturned(state: State, reader: BytesReader): boolean {
  const queue = state.queueOf(reader.varint())
  const sequence = reader.varint()
  const count = reader.varint()
  if (queue === null) return false
  // One that is not there was finished before the checkpoint saw its queue: nothing to do.
  queue.noteDeliveries(sequence, count)
  return true
}

/** `why`: 0 comes back later, else of what it died (the broker numbers the reasons). */
export function writeHeld(
  writer: ByteWriter,
  dueAt: number,
  sequence: number,
  why: number,
  count: number
): void {
  writer.f64(dueAt)
  writer.varint(sequence)
  writer.u8(why)
  writer.varint(count)
}

/**
 * Up to `ENTRIES_MAX` of a queue's, behind one of this name. Returns whether there are more: the last one written
 * then stands in the fields of `held`.
 */
export function writeHeldOf(
  writer: ByteWriter,
  queue: Queue,
  held: DueEntries,
  dueAt: number,
  sequence: number
): boolean {
  writer.varint(queue.id)
  for (let left = ENTRIES_MAX; left > 0; left--) {
    if (!held.after(dueAt, sequence)) return false
    dueAt = held.dueAt
    sequence = held.sequence
    // Of a cold one its chunk's record tells the count.
    const isThere = queue.find(sequence) && (queue.flags & ENTRY_STATE) === RELEASED
    const count = isThere ? (queue.flags & ENTRY_COUNT) >> ENTRY_COUNT_SHIFT : 0
    writeHeld(writer, dueAt, sequence, held.flags, count)
  }
  return true
}

export function applyHeld(state: State, reader: BytesReader): boolean {
  const queue = state.queueOf(reader.varint())
  if (queue === null) return false
  while (reader.remaining > 0) {
    const dueAt = reader.f64()
    const sequence = reader.varint()
    const why = reader.u8()
    const count = reader.varint()
    if (!(dueAt >= 0) || why > HELD_MAX) return false
    state.hold(queue, sequence, dueAt, why, count)
  }
  return true
}

/** Queue id, due time, sequence. */
export function writeUnheld(
  writer: ByteWriter,
  queueId: number,
  dueAt: number,
  sequence: number
): void {
  writer.varint(queueId)
  writer.f64(dueAt)
  writer.varint(sequence)
}

export function applyUnheld(state: State, reader: BytesReader): boolean {
  const queue = state.queueOf(reader.varint())
  const dueAt = reader.f64()
  const sequence = reader.varint()
  if (queue === null) return false
  state.unhold(queue, dueAt, sequence)
  return true
}
