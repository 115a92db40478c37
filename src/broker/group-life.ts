/**
 * The life of a shared group: it lasts while a member's session outlives its connection, and ends when it
 * has no member and nobody holds a message of it any more.
 */
import { NOTHING } from '../core/entries.ts'
import {
  ENTRY_QOS,
  ENTRY_QOS_SHIFT,
  ENTRY_SHARE_SHIFT,
  ENTRY_STATE,
  UNACKED
} from '../core/queue-entry.ts'
import type { Queue } from '../core/queue.ts'
import { KIND } from '../core/records/kinds.ts'
import {
  DESTINATION_BYTES_MAX,
  messageBytesMax,
  writeDestination,
  writeMessage
} from '../core/records/message.ts'
import { writePurge } from '../core/records/settle.ts'
import { writeGroup } from '../core/records/shared-group.ts'
import type { SharedGroup } from '../core/shared-group.ts'
import { MEMORY } from '../core/slabs.ts'
import { LAZY } from '../journal/journal.ts'
import { append } from './append.ts'
import { VIEWED, view } from './bodies.ts'
import type { Broker } from './broker.ts'
import { neverDelivered } from './never-delivered.ts'

/** Call when a member or a message that somebody held came or went. */
export function judgeGroup(broker: Broker, group: SharedGroup): void {
  const { queue } = group
  if (queue.isDeleted) return
  if (group.isSpent) {
    endGroup(broker, group)
    return
  }
  if (group.members.size === 0) dropWaiting(broker, group)
  // What members hold is named in the records of the group: until they are done it must be known.
  const lasts = group.hasLastingMember || (queue.moves !== null && queue.moves.size > 0)
  if (lasts === queue.isDurable || broker.journal.failed) return
  queue.isDurable = lasts
  broker.state.enterGroup(group)
  if (lasts) {
    writeGroup(broker.writer, group)
    append(broker, KIND.sharedGroup, LAZY)
    persistWaiting(broker, queue)
  } else {
    broker.writer.varint(group.id)
    append(broker, KIND.sharedGroupEnd, LAZY)
  }
}

function endGroup(broker: Broker, group: SharedGroup): void {
  const { queue } = group
  countDropped(broker, queue)
  broker.state.removeGroup(group)
  queue.attached = null
  if (!queue.isDurable || broker.journal.failed) return
  broker.writer.varint(group.id)
  append(broker, KIND.sharedGroupEnd, LAZY)
}

/** Nobody is left to take it; what somebody holds stays open. */
function dropWaiting(broker: Broker, group: SharedGroup): void {
  const { queue } = group
  if (queue.readyCount === 0) return
  countDropped(broker, queue)
  const upTo = queue.nextSequence - 1
  const open = queue.openSequences()
  broker.state.purge(queue, upTo, open)
  if (!queue.isDurable || broker.journal.failed) return
  writePurge(broker.writer, queue.id, upTo, open)
  append(broker, KIND.purge, LAZY)
}

function countDropped(broker: Broker, queue: Queue): void {
  const count = neverDelivered(queue)
  if (count > 0) broker.counters.dropFrom(queue.name, 'queue_deleted', count)
}

/** The group lasts from now on: so does what waits in memory. */
function persistWaiting(broker: Broker, queue: Queue): void {
  for (let at = queue.after(0); at !== NOTHING; at = queue.after(at)) {
    // QoS 2 that was sent to somebody must not come back and go to another [MQTT-4.8.2-5].
    const isQos2 = (queue.flags & ENTRY_QOS) >> ENTRY_QOS_SHIFT === 2
    if (isQos2 && (queue.flags & ENTRY_STATE) === UNACKED) continue
    if (queue.segment >= MEMORY) persist(broker, queue, at)
  }
}

/** Writes a message that is in memory into the journal; the entry's fields are set, and again afterwards. */
export function persist(broker: Broker, queue: Queue, sequence: number): void {
  const { journal, stored } = broker
  const { bytes, flags } = queue
  if (view(broker, queue.segment, queue.offset) !== VIEWED) return
  const begin = journal.begin(messageBytesMax(stored) + DESTINATION_BYTES_MAX)
  const end = writeMessage(journal.buffer, begin, stored, 0, 0, '')
  journal.end(
    KIND.message,
    writeDestination(journal.buffer, end, queue.id, sequence, flags, false, null),
    LAZY
  )
  const alone = (flags & 0xffff) | (1 << ENTRY_SHARE_SHIFT)
  broker.state.insertEntry(queue, sequence, journal.segment, journal.offset, bytes, alone)
  queue.find(sequence)
}
