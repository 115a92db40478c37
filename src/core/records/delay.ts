/** Records of delayed messages: those of a store at a checkpoint, and one that left it for no record of its own. */
import type { ByteWriter } from '../../lib/byte-writer.ts'
import type { BytesReader } from '../../lib/bytes-reader.ts'
import type { DelayStore } from '../delay-store.ts'
import { ENTRY_STATE, READY } from '../queue-entry.ts'
import { MEMORY } from '../slabs.ts'
import type { State } from '../state.ts'

/** Entries in one record. */
const ENTRIES_MAX = 512

/**
 * Up to `ENTRIES_MAX` entries behind one of this name. Returns whether there are more: the last one written then
 * stands in the store's fields.
 */
export function writeDelays(
  writer: ByteWriter,
  store: DelayStore,
  dueAt: number,
  sequence: number
): boolean {
  writer.varint(store.id)
  for (let left = ENTRIES_MAX; left > 0; left--) {
    if (!store.after(dueAt, sequence)) return false
    dueAt = store.dueAt
    sequence = store.sequence
    if (store.segment >= MEMORY) continue
    writer.f64(dueAt)
    writer.varint(sequence)
    writer.varint(store.segment)
    writer.varint(store.offset)
    writer.varint(store.payloadBytes)
    writer.u32(store.flags)
  }
  return true
}

export function applyDelays(state: State, reader: BytesReader): boolean {
  const store = state.delayOf(reader.varint())
  if (store === null) return false
  while (reader.remaining > 0) {
    const dueAt = reader.f64()
    const sequence = reader.varint()
    const segment = reader.varint()
    const offset = reader.varint()
    const payloadBytes = reader.varint()
    const flags = (reader.u32() & ~ENTRY_STATE) | READY
    if (!(dueAt > 0)) return false
    state.delays.insert(store, dueAt, sequence, segment, offset, payloadBytes, flags)
  }
  return true
}

export function writeDelayEnd(
  writer: ByteWriter,
  store: DelayStore,
  dueAt: number,
  sequence: number
): void {
  writer.varint(store.id)
  writer.f64(dueAt)
  writer.varint(sequence)
}

export function applyDelayEnd(state: State, reader: BytesReader): boolean {
  const store = state.delayOf(reader.varint())
  const dueAt = reader.f64()
  const sequence = reader.varint()
  if (store === null) return false
  // What is not there left before the checkpoint saw its store: nothing to do.
  state.delays.settle(store, dueAt, sequence)
  return true
}
