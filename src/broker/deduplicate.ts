/**
 * Duplicates, by the header `x-deduplication-header` (RabbitMQ's message deduplication plugin): an exchange of type
 * `x-message-deduplication` lets no key pass twice, a queue declared with `x-message-deduplication` takes none of which
 * a message is in it. A key is remembered in the record of the message that brought it, and only when that message
 * was taken: what was refused or reached nobody may be sent again.
 */
import { createHash } from 'node:crypto'
import { valueIdentity } from '../core/binding-arguments.ts'
import type { KeyCache, Mark } from '../core/deduplication.ts'
import { type FieldTable, type FieldValue, fieldOf, integerOf } from '../core/field-table.ts'
import type { Message } from '../core/message.ts'
import type { Queue } from '../core/queue.ts'
import { writeMark } from '../core/records/deduplication.ts'
import type { Detour } from '../core/route.ts'
import type { Broker } from './broker.ts'
import { headersOf } from './rewrite.ts'
import { targets } from './targets.ts'

const HEADER = 'x-deduplication-header'
const TTL_HEADER = 'x-cache-ttl'
/** What is longer is remembered by its hash. */
const KEY_CHARS_MAX = 64
const TTL_MAX_MS = 100 * 365 * 24 * 3_600_000
const DUPLICATE = null

/** The message's key: texts, numbers and the rest are never equal, whole numbers of any width are. '': it has none. */
export function keyIn(headers: FieldTable): string {
  const value = fieldOf(headers, HEADER)
  if (value === null) return ''
  const key = textOf(value)
  if (key.length <= KEY_CHARS_MAX) return key
  return `#${createHash('sha256').update(key).digest('base64url')}`
}

function textOf(value: FieldValue): string {
  if (value.type === 'S') return `S${value.value}`
  const whole = integerOf(value)
  return whole === null || value.type === 'T' ? valueIdentity(value) : `I${whole}`
}

/** How long the message's key is remembered, in milliseconds; -1: as the exchange says. */
export function keyTtlIn(headers: FieldTable): number {
  const value = fieldOf(headers, TTL_HEADER)
  const ttl = value === null ? null : integerOf(value)
  return ttl === null ? -1 : Math.min(Math.max(ttl, 0), TTL_MAX_MS)
}

/** The key under which `queue` will know a new message, '' for none; null: it is a duplicate, and counted. */
export function newKeyIn(broker: Broker, message: Message, queue: Queue): string | null {
  const key = keyIn(headersOf(broker, message))
  const keys = key === '' ? undefined : broker.state.deduplication.queues.get(queue.id)
  if (keys === undefined || !keys.has(key)) return key
  broker.counters.dropFrom(queue, 'deduplicated')
  targets.refused(keys.ticket, queue.isDurable)
  return DUPLICATE
}

/** The queue that was added to the targets last will know the message by `key`. */
export function markLast(key: string): void {
  const target = targets.count - 1
  targets.mark({ cache: null, target, key, sequence: 0, expiresAt: 0, ttlMs: 0, floor: 0 })
}

/** The exchanges on the way remember the key of a message that was taken. */
export function markCaches(broker: Broker, detour: Detour): void {
  for (const cache of detour.newIn) targets.mark(markOf(broker, cache, detour))
}

function markOf(broker: Broker, cache: KeyCache, { key, keyTtlMs }: Detour): Mark {
  const { nowMs } = broker
  broker.state.deduplication.makeRoom(cache, nowMs)
  // A key whose own time to live is 0 is forgotten at once.
  const ttlMs = keyTtlMs < 0 ? cache.ttlMs : Math.max(1, keyTtlMs)
  const expiresAt = ttlMs === 0 ? 0 : nowMs + ttlMs
  const { nextSequence: sequence, floor } = cache
  return { cache, target: -1, key, sequence, expiresAt, ttlMs, floor }
}

/** Appends to a record what it makes known beside the message, as far as that lasts; of queues when they are `entered`. */
export function writeMarks(buffer: Buffer, at: number, entered: boolean): number {
  for (const { cache, target, key, sequence, expiresAt, ttlMs, floor } of targets.marks) {
    if (cache !== null) {
      if (!cache.isLasting) continue
      at = writeMark(buffer, at, cache.id, sequence, key, expiresAt, ttlMs, floor)
      continue
    }
    const queue = targets.queues[target]!
    if (!entered || !queue.isDurable) continue
    at = writeMark(buffer, at, queue.id, targets.sequences[target]!, key, 0, 0, 0)
  }
  return at
}

/** Now they are known. `ticket`: of the record that says so, 0 for none. */
export function rememberMarks(broker: Broker, ticket: number): void {
  const { deduplication } = broker.state
  for (const mark of targets.marks) {
    if (mark.cache === null) {
      const queue = targets.queues[mark.target]!
      const keys = deduplication.rememberIn(queue, mark.key, targets.sequences[mark.target]!)
      keys.ticket = Math.max(keys.ticket, ticket)
    } else {
      deduplication.remember(mark, mark.cache, broker.nowMs)
      mark.cache.ticket = Math.max(mark.cache.ticket, ticket)
    }
  }
  deduplication.bound(broker.limits.deduplicationKeysMax)
}

/** The ticket that the publisher of a duplicate waits for: with it the first one is durable. */
export function ticketOfFirst(detour: Detour): number {
  let ticket = 0
  for (const cache of detour.refusedBy) ticket = Math.max(ticket, cache.ticket)
  return ticket
}

/** Nobody got it: because it is a duplicate, or because nobody wants it. */
export function countUnmatched(broker: Broker, detour: Detour | null): void {
  const [cache] = detour?.refusedBy ?? []
  if (cache === undefined) broker.counters.drop('no_match')
  else broker.counters.dropIn(cache.vhost, cache.exchange, 'deduplicated')
}
