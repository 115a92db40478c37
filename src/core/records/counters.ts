/** The record of what is never used twice: ids of queues and sessions, sequences of retained messages. */
import type { ByteWriter } from '../../lib/byte-writer.ts'
import type { BytesReader } from '../../lib/bytes-reader.ts'
import type { State } from '../state.ts'

export function writeCounters(writer: ByteWriter, state: State): void {
  writer.varint(state.nextId)
  writer.varint(state.retainedSequence)
}

export function applyCounters(state: State, reader: BytesReader): boolean {
  state.nextId = Math.max(state.nextId, reader.varint())
  state.retainedSequence = Math.max(state.retainedSequence, reader.varint())
  return true
}
