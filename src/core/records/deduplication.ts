/**
 * Deduplication keys: beside the destinations of the message that brought one, and of an exchange or a queue at a
 * checkpoint. Compaction copies no key: as settlements do, they stand in the checkpoint by then.
 */
import { writeVarint } from '../../lib/bytes.ts'
import type { ByteWriter } from '../../lib/byte-writer.ts'
import type { BytesReader } from '../../lib/bytes-reader.ts'
import type { KeyCache, QueueKeys, Seen } from '../deduplication.ts'
import type { State } from '../state.ts'
import { TO_HAS_TIME, TO_REMEMBERS } from './destination.ts'

/** Characters of a key; all are ASCII or UTF-8 of at most 255 bytes. */
export const KEY_BYTES_MAX = 255
export const MARK_BYTES_MAX = 8 + 8 + 1 + 8 + 8 + 8 + 1 + KEY_BYTES_MAX
/** Keys that one record looks at. */
export const KEYS_IN_RECORD = 512

/**
 * Appends a key to the destinations. `ownerId` is that of an exchange's cache or of a queue or level, `sequence` the
 * key's number there, or the entry's. `expiresAt` and `ttlMs`: in store time, 0 is none.
 */
export function writeMark(
  target: Buffer,
  at: number,
  ownerId: number,
  sequence: number,
  key: string,
  expiresAt: number,
  ttlMs: number,
  floor: number
): number {
  at = writeVarint(target, at, ownerId)
  at = writeVarint(target, at, sequence)
  target[at++] = TO_REMEMBERS | (expiresAt > 0 ? TO_HAS_TIME : 0)
  if (expiresAt > 0) {
    at = target.writeDoubleBE(expiresAt, at)
    at = writeVarint(target, at, ttlMs)
  }
  at = writeVarint(target, at, floor)
  const bytes = target.write(key, at + 1, KEY_BYTES_MAX, 'utf8')
  target[at] = bytes
  return at + 1 + bytes
}

/** What was read behind a message. */
interface ReadMark {
  readonly queueId: number
  readonly sequence: number
  readonly key: string
  readonly time: number
  readonly floor: number
  readonly ttlMs: number
}

/** False: its owner is gone. */
export function applyMark(state: State, mark: ReadMark): boolean {
  const { queueId: id, sequence, key, time: expiresAt, floor, ttlMs } = mark
  const cache = state.cacheOf(id)
  if (cache !== null) {
    const made = { cache, target: -1, key, sequence, expiresAt, ttlMs, floor }
    state.deduplication.remember(made, cache, expiresAt - ttlMs)
    return true
  }
  const queue = state.queueOf(id)
  if (queue === null) return false
  state.deduplication.rememberIn(queue, key, sequence)
  return true
}

/** Those that are next in `keys`. Returns whether there may be more. */
export function writeCacheKeys(
  writer: ByteWriter,
  cache: KeyCache,
  keys: IterableIterator<[string, Seen]>,
  below: number
): boolean {
  writer.varint(cache.id)
  for (let left = KEYS_IN_RECORD; left > 0; left--) {
    const next = keys.next()
    // What came since the pass began stands in records of its own.
    if (next.done === true || next.value[1].sequence >= below) return false
    const [key, { sequence, expiresAt }] = next.value
    writer.varint(sequence)
    writer.f64(expiresAt)
    writer.shortString(key)
  }
  return true
}

/** The same of a queue: those whose messages are in it. `id` is the queue's. */
export function writeQueueKeys(
  writer: ByteWriter,
  id: number,
  owner: QueueKeys,
  keys: IterableIterator<[string, number]>
): boolean {
  writer.varint(id)
  for (let left = KEYS_IN_RECORD; left > 0; left--) {
    const next = keys.next()
    if (next.done === true) return false
    const [key, name] = next.value
    if (!owner.isOpen(name)) continue
    writer.varint(name)
    writer.f64(0)
    writer.shortString(key)
  }
  return true
}

export function applyKeys(state: State, reader: BytesReader): boolean {
  const id = reader.varint()
  const cache = state.cacheOf(id)
  const queue = cache === null ? state.queueOf(id) : null
  if (cache === null && queue === null) return false
  while (reader.remaining > 0) {
    const sequence = reader.varint()
    const expiresAt = reader.f64()
    const key = reader.shortString()
    if (queue !== null) {
      const level = queue.levels?.levelOf(sequence) ?? queue
      state.deduplication.rememberIn(level, key, queue.levels?.sequenceOf(sequence) ?? sequence)
    } else if (cache !== null) {
      const mark = { cache, target: -1, key, sequence, expiresAt, ttlMs: 0, floor: 0 }
      state.deduplication.remember(mark, cache, 0)
    }
  }
  return true
}
