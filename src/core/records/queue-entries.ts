/**
 * Records of a queue's entries: a chunk that went cold (its index record), and at a checkpoint the
 * chunks in memory and the names of the cold ones.
 */
import type { ByteWriter } from '../../lib/byte-writer.ts'
import type { BytesReader } from '../../lib/bytes-reader.ts'
import { CHUNK_ENTRIES, Chunk } from '../chunk.ts'
import type { Queue } from '../queue.ts'
import {
  ENTRY_REDELIVERED,
  ENTRY_STATE,
  READY,
  RELEASED,
  SETTLED,
  shareOf,
  UNACKED
} from '../queue-entry.ts'
import { MEMORY } from '../slabs.ts'
import type { State } from '../state.ts'

/** What one chunk's record needs at most. */
export const CHUNK_BYTES_MAX = 1024 * 24 + 64

/** Every entry that is not settled and lies in the journal: gap, segment, offset, bytes, flags. */
export function writeEntries(writer: ByteWriter, queue: Queue, chunk: Chunk): void {
  writer.varint(queue.id)
  writer.varint(chunk.start)
  writer.varint(chunk.count)
  const words = chunk.words!
  for (let i = 0; i < chunk.count; i++) {
    const flags = words[i * 4 + 3]!
    if ((flags & ENTRY_STATE) === SETTLED || words[i * 4]! >= MEMORY || words[i * 4] === 0) continue
    writer.varint(i)
    writer.varint(words[i * 4]!)
    writer.varint(words[i * 4 + 1]!)
    writer.varint(words[i * 4 + 2]!)
    writer.u32(flags)
  }
}

/** At a checkpoint: these are the entries in this range, as they are now. */
export function applyEntries(state: State, reader: BytesReader): boolean {
  const queue = state.queueOf(reader.varint())
  const start = reader.varint()
  reader.varint()
  if (queue === null) return false
  while (reader.remaining > 0) {
    const sequence = start + reader.varint()
    const segment = reader.varint()
    const offset = reader.varint()
    const bytes = reader.varint()
    const flags = reader.u32()
    const isReleased = (flags & ENTRY_STATE) === RELEASED
    const again = (flags & ENTRY_STATE) === UNACKED ? ENTRY_REDELIVERED : 0
    const ready = (flags & ~ENTRY_STATE) | READY | again
    state.insertEntry(queue, sequence, segment, offset, bytes, ready)
    if (isReleased) state.markReleased(queue, sequence)
  }
  return true
}

/** The words of a cold chunk out of its index record; null: the record is not that chunk's. */
export function readIndex(reader: BytesReader, chunk: Chunk): Uint32Array | null {
  reader.varint()
  if (reader.varint() !== chunk.start || reader.varint() !== chunk.count) return null
  const words = new Uint32Array(chunk.count * 4)
  while (reader.remaining > 0) {
    const at = reader.varint() * 4
    if (at >= words.length) return null
    words[at] = reader.varint()
    words[at + 1] = reader.varint()
    words[at + 2] = reader.varint()
    words[at + 3] = reader.u32()
  }
  return words
}

/** What the entries of a chunk are charged with, by segment: see `Chunk.shares`. */
export function sharesOf(words: Uint32Array, count: number): number[] {
  const shares: number[] = []
  for (let i = 0; i < count; i++) {
    const flags = words[i * 4 + 3]!
    if ((flags & ENTRY_STATE) === SETTLED) continue
    const segment = words[i * 4]!
    let at = 0
    while (at < shares.length && shares[at] !== segment) at += 2
    if (at === shares.length) shares.push(segment, 0)
    shares[at + 1] = shares[at + 1]! + shareOf(words[i * 4 + 2]!, flags)
  }
  return shares
}

/** Replay of an index record: the chunk is cold from here on. */
export function applyIndex(
  state: State,
  reader: BytesReader,
  segment: number,
  offset: number
): boolean {
  const from = reader.offset
  const queue = state.queueOf(reader.varint())
  const chunk = new Chunk(reader.varint(), 0)
  chunk.count = reader.varint()
  if (queue === null || !isChunk(chunk)) return false
  reader.offset = from
  const words = readIndex(reader, chunk)
  if (words === null) return false
  for (let i = 0; i < chunk.count; i++) {
    if ((words[i * 4 + 3]! & ENTRY_STATE) === SETTLED) continue
    chunk.live++
    chunk.bytes += words[i * 4 + 2]!
  }
  if (chunk.live === 0) return false
  chunk.segment = segment
  chunk.offset = offset
  chunk.shares = sharesOf(words, chunk.count)
  state.adoptCold(queue, chunk)
  return true
}

/** At a checkpoint: names a cold chunk's index record, with what changed since it was written. */
export function writeCold(writer: ByteWriter, queue: Queue, chunk: Chunk): void {
  writer.varint(queue.id)
  writer.varint(chunk.start)
  writer.varint(chunk.count)
  writer.varint(chunk.live)
  writer.varint(chunk.bytes)
  writer.u32(chunk.segment)
  writer.u32(chunk.offset)
  writer.varint(chunk.shares.length)
  for (const share of chunk.shares) writer.varint(share)
  for (const patch of chunk.patches ?? []) writer.varint(patch)
}

export function applyCold(state: State, reader: BytesReader): boolean {
  const queue = state.queueOf(reader.varint())
  const chunk = new Chunk(reader.varint(), 0)
  chunk.count = reader.varint()
  chunk.live = reader.varint()
  chunk.bytes = reader.varint()
  chunk.segment = reader.u32()
  chunk.offset = reader.u32()
  const shares: number[] = []
  for (let left = reader.varint(); left > 0; left--) shares.push(reader.varint())
  chunk.shares = shares
  const patches: number[] = []
  while (reader.remaining > 0) patches.push(reader.varint())
  if (patches.length > 0) chunk.patches = patches
  if (queue === null || !isChunk(chunk) || shares.length % 2 !== 0) return false
  if (chunk.live < 1 || chunk.live > chunk.count || patches.length % 5 !== 0) return false
  for (let i = 0; i < patches.length; i += 5) {
    if (patches[i]! < chunk.start || patches[i]! >= chunk.start + chunk.count) return false
  }
  state.adoptCold(queue, chunk)
  return true
}

/** What a record says of a chunk can be one. */
function isChunk(chunk: Chunk): boolean {
  return chunk.start >= 1 && chunk.count >= 1 && chunk.count <= CHUNK_ENTRIES
}
