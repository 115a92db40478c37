/**
 * The small records of deliveries: settle, purge, received (PUBREC), release (PUBREL) and inbound
 * packet identifiers. All name a queue or session by id and a message by its sequence.
 */
import { VarintReader, writeVarint } from '../../lib/bytes.ts'
import type { ByteWriter } from '../../lib/byte-writer.ts'
import type { BytesReader } from '../../lib/bytes-reader.ts'
import type { State } from '../state.ts'

/** Bytes of a record that names an id and a sequence. */
export const PAIR_BYTES_MAX = 16

/** Queue id and sequence, or session id and packet identifier. */
export function writePair(target: Buffer, at: number, id: number, sequence: number): number {
  return writeVarint(target, writeVarint(target, at, id), sequence)
}

const varint = new VarintReader()

/** Replay of a settle record: several may stand in one. */
export function applySettle(state: State, buffer: Buffer, start: number, end: number): boolean {
  let isKnown = true
  for (let at = start; at < end; ) {
    const id = varint.read(buffer, at, end)
    if (varint.at < 0) return false
    const sequence = varint.read(buffer, varint.at, end)
    at = varint.at
    if (at < 0) return false
    const queue = state.queueOf(id)
    // A message that is not there was settled before the checkpoint saw its queue: nothing to do.
    if (queue === null) isKnown = false
    else {
      state.settleEntry(queue, sequence)
      // Of a shared group's message: neither its group nor its member knows of it any more.
      const move = queue.moves?.get(sequence)
      if (move !== undefined) state.unlink(move)
    }
  }
  return isKnown
}

export function applyReceived(state: State, buffer: Buffer, start: number, end: number): boolean {
  const id = varint.read(buffer, start, end)
  if (varint.at < 0) return false
  const sequence = varint.read(buffer, varint.at, end)
  const queue = varint.at < 0 ? null : state.queueOf(id)
  return queue !== null && state.markReleased(queue, sequence)
}

export function applyRelease(state: State, buffer: Buffer, start: number, end: number): boolean {
  const id = varint.read(buffer, start, end)
  if (varint.at < 0) return false
  const packetId = varint.read(buffer, varint.at, end)
  return varint.at >= 0 && state.closeInbound(id, packetId)
}

/** Session id and its open inbound packet identifiers. */
export function writeInbound(writer: ByteWriter, id: number, packetIds: Iterable<number>): void {
  writer.varint(id)
  for (const packetId of packetIds) writer.u16(packetId)
}

export function applyInbound(state: State, reader: BytesReader): boolean {
  const id = reader.varint()
  let isKnown = true
  while (reader.remaining > 0) isKnown = state.openInbound(id, reader.u16(), 0) && isKnown
  return isKnown
}

/** Queue id, last sequence, and the sequences that were delivered and stay open. */
export function writePurge(
  writer: ByteWriter,
  id: number,
  upTo: number,
  except: ReadonlySet<number>
): void {
  writer.varint(id)
  writer.varint(upTo)
  for (const sequence of except) writer.varint(sequence)
}

export function applyPurge(state: State, reader: BytesReader): boolean {
  const queue = state.queueOf(reader.varint())
  const upTo = reader.varint()
  const except = new Set<number>()
  while (reader.remaining > 0) except.add(reader.varint())
  if (queue === null) return false
  state.purge(queue, upTo, except)
  return true
}
