/** A packet for one or many clients: one record, however many they are. */
import { Message } from '../core/message.ts'
import { shareFlags } from '../core/queue-entry.ts'
import { KIND } from '../core/records/kinds.ts'
import {
  DESTINATION_BYTES_MAX,
  entryFlags,
  messageBytesMax,
  writeDestination,
  writeMessage
} from '../core/records/message.ts'
import { AWAITED } from '../journal/journal.ts'
import type { Engine } from './engine.ts'
import { fillMessage, type PersistedPacket } from './packet.ts'
import { hasCounterOf } from './streams.ts'

/** Counters of a broker are put aside so many at a time. */
const COUNTERS = 2 ** 20

const message = new Message()

/** A client gets one copy of a packet, however many of its subscriptions match. */
export function enqueue(
  engine: Engine,
  brokerId: string,
  clientIds: ReadonlySet<string>,
  packet: PersistedPacket
): void {
  const { context, store } = engine
  fillMessage(message, context.beginPacket(), packet)
  const bytes = messageBytesMax(message) + clientIds.size * DESTINATION_BYTES_MAX
  engine.checkRoom(bytes)
  putCounterAside(engine, brokerId, packet)
  const queues = [...clientIds].map(clientId => engine.client(clientId).queue)
  const { journal } = context
  const flags = entryFlags(message.qos, false, false, false) | shareFlags(queues.length)
  let at = journal.begin(bytes)
  at = writeMessage(journal.buffer, at, message, 0, 0, '/')
  for (const { id, nextSequence } of queues) {
    at = writeDestination(journal.buffer, at, id, nextSequence, flags, false, null)
  }
  journal.end(KIND.message, at, AWAITED)
  const { segment, offset } = journal
  for (const queue of queues) {
    const { nextSequence } = queue
    store.state.insertEntry(queue, nextSequence, segment, offset, message.payloadBytes, flags)
    engine.spill.noteGrown(queue)
  }
}

/** So that a broker that comes back with its id never gives a counter twice: see `setup`. */
function putCounterAside(engine: Engine, brokerId: string, packet: PersistedPacket): void {
  const { brokerCounter } = packet
  if (!hasCounterOf(brokerId, packet.brokerId) || typeof brokerCounter !== 'number') return
  if (brokerCounter <= (engine.store.counters.get(brokerId) ?? 0)) return
  if (Number.isSafeInteger(brokerCounter + COUNTERS)) {
    engine.putCounter(brokerId, brokerCounter + COUNTERS)
  }
}
