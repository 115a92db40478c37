/** A message that an exchange delays: into its store, with a record of its own. See release-delayed.ts. */
import { delayOf, withDelayDone } from '../core/delay.ts'
import type { DelayStore } from '../core/delay-store.ts'
import type { Message } from '../core/message.ts'
import { ENTRY_SHARE_SHIFT } from '../core/queue-entry.ts'
import { KIND } from '../core/records/kinds.ts'
import {
  DESTINATION_BYTES_MAX,
  entryFlags,
  messageBytesMax,
  writeDestination,
  writeMessage
} from '../core/records/message.ts'
import type { Detour } from '../core/route.ts'
import { AWAITED, LAZY } from '../journal/journal.ts'
import type { Broker } from './broker.ts'
import { writeMarks } from './deduplicate.ts'
import { rebuild } from './rewrite.ts'
import { targets } from './targets.ts'

/** What lets a store's messages go; it hangs on the store. */
export interface Armed {
  /** Something may be due earlier than it knows of. */
  arm(): void
  /** Its store ends. */
  stop(): void
}

/** Its exchange ends: what it held is lost, counted. Call before it is removed. */
export function endDelay(broker: Broker, store: DelayStore): void {
  if (store.count > 0)
    broker.counters.dropIn(store.vhost, store.exchange, 'queue_deleted', store.count)
  ;(store.attached as Armed | null)?.stop()
}

/** The ticket that the publisher of the message that was held back last waits for, 0 for none. */
export const held = { ticket: 0 }

/** Keeps a message until it is due, once for all stores that delay it. False: some store has no room. */
export function holdBack(broker: Broker, message: Message, delayed: Detour): boolean {
  const delayMs = delayOf(delayed.headers)
  const dueAt = Math.min(Math.floor(broker.nowMs) + delayMs, Number.MAX_SAFE_INTEGER)
  const copy = rebuild(broker, message, withDelayDone(delayed.headers))
  // Its time to live begins when it is due, as if it were published then.
  if (copy.expiresAt > 0) {
    copy.expiresAt = Math.min(copy.expiresAt + delayMs, Number.MAX_SAFE_INTEGER)
  }
  held.ticket = 0
  if (broker.state.delays.count + delayed.stores.length > broker.limits.delayedMessagesMax) {
    for (const { vhost, exchange } of delayed.stores) {
      broker.counters.dropIn(vhost, exchange, 'queue_full')
    }
    return false
  }
  for (const isDurable of [true, false]) {
    const stores = delayed.stores.filter(store => store.isDurable === isDurable)
    if (stores.length > 0) keep(broker, copy, stores, dueAt, isDurable)
  }
  return true
}

function keep(
  broker: Broker,
  message: Message,
  stores: readonly DelayStore[],
  dueAt: number,
  isDurable: boolean
): void {
  const { limits, journal, slabs, refusal } = broker
  const { delays } = broker.state
  const payloadBytes = message.payloadEnd - message.payloadStart
  const isMemoryFull = !isDurable && slabs.bytes + payloadBytes > limits.memoryBytesMax
  if (refusal !== 0 && (isDurable || isMemoryFull)) {
    const reason = isMemoryFull ? 'memory' : journal.failed ? 'journal_failed' : 'disk_alarm'
    for (const { vhost, exchange } of stores) broker.counters.dropIn(vhost, exchange, reason)
    return
  }
  const place = isDurable || isMemoryFull ? journal : slabs
  const flags = entryFlags(message.qos, false, false, message.expiresAt > 0)
  // `begin` may change `buffer`: it comes first.
  const placesBytes = stores.length * DESTINATION_BYTES_MAX + targets.bytesMax
  const begin = place.begin(messageBytesMax(message) + placesBytes)
  let at = writeMessage(place.buffer, begin, message, 0, 0, '')
  for (const { id, nextSequence } of stores) {
    at = writeDestination(place.buffer, at, id, nextSequence, flags, !isDurable, null, dueAt)
  }
  if (isDurable && !targets.isPlain) at = writeMarks(place.buffer, at, false)
  const isAwaited = isDurable && message.isAwaited
  if (place === slabs) slabs.end(at)
  else {
    const kind = isDurable ? KIND.message : KIND.transient
    journal.end(kind, at, isAwaited ? AWAITED : LAZY)
  }
  const { segment, offset } = place
  const entry = flags | (stores.length << ENTRY_SHARE_SHIFT)
  if (isAwaited) held.ticket = journal.ticket
  if (isDurable)
    for (const { cache } of targets.marks) if (cache !== null) cache.ticket = journal.ticket
  for (const store of stores) {
    delays.insert(store, dueAt, store.nextSequence, segment, offset, payloadBytes, entry)
    ;(store.attached as Armed).arm()
  }
}
