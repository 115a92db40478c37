/**
 * The life of a shared group: it lasts while a member's session outlives its connection, and ends when it
 * has no member and nobody holds a message of it any more.
 */
import { NOTHING } from '../core/entries.ts'
import { ENTRY_QOS, ENTRY_QOS_SHIFT, ENTRY_SHARE_SHIFT } from '../core/queue-entry.ts'
import type { Queue } from '../core/queue.ts'
import { KIND } from '../core/records/kinds.ts'
import {
  DESTINATION_BYTES_MAX,
  messageBytesMax,
  writeDestination,
  writeMessage
} from '../core/records/message.ts'
import { writeCold, writeEntries } from '../core/records/queue-entries.ts'
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
  if (group.takerCount === 0) dropWaiting(broker, group)
  // What members hold is named in the records of the group: until they are done it must be known.
  const lasts = group.hasLastingMember || (queue.moves !== null && queue.moves.size > 0)
  if (lasts === queue.isDurable || broker.journal.failed) return
  queue.isDurable = lasts
  broker.state.enterGroup(group)
  if (lasts) {
    settleSentQos2(broker, group)
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
  if (count > 0) broker.counters.dropFrom(queue, 'queue_deleted', count)
}

/**
 * The group lasts from now on: so does what waits, whose records name a queue that replay does not know or
 * has seen end.
 */
function persistWaiting(broker: Broker, queue: Queue): void {
  for (const chunk of [...queue.chunks]) {
    if (chunk.live === 0) continue
    if (chunk.words === null) writeCold(broker.writer, queue, chunk)
    else writeEntries(broker.writer, queue, chunk)
    append(broker, chunk.words === null ? KIND.queueCold : KIND.queueEntries, LAZY)
  }
  for (let at = queue.after(0); at !== NOTHING; at = queue.after(at)) {
    if (queue.segment >= MEMORY) persist(broker, queue, at)
  }
}

/**
 * QoS 2 that was sent to a session without the disk, while the group did not last, must not come back after
 * a crash and go to another [MQTT-4.8.2-5].
 */
function settleSentQos2(broker: Broker, group: SharedGroup): void {
  const { state } = broker
  for (const { queue } of state.sessions.values()) {
    if (queue.moves === null) continue
    for (const move of queue.moves.values()) {
      if (move.groupId !== group.id || !move.isLent || !queue.find(move.sequence)) continue
      const isQos2 = (queue.flags & ENTRY_QOS) >> ENTRY_QOS_SHIFT === 2
      if (!isQos2) continue
      // From here on it is the session's alone: settled again, an entry of a chunk gone cold would count twice.
      queue.moves.delete(move.sequence)
      state.settleEntry(group.queue, move.groupSequence)
    }
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
