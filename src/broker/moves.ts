/**
 * What members of shared groups hold, and how that ends: acknowledged, or back to the group in its old place
 * because the session is gone. QoS 2 that was sent never goes to another client [MQTT-4.8.2-5].
 */
import type { Move } from '../core/move.ts'
import type { Queue } from '../core/queue.ts'
import {
  ENTRY_COUNT,
  ENTRY_QOS,
  ENTRY_QOS_SHIFT,
  ENTRY_SHARE_SHIFT,
  ENTRY_STATE,
  READY
} from '../core/queue-entry.ts'
import { KIND } from '../core/records/kinds.ts'
import { writeMove } from '../core/records/shared-group.ts'
import type { Session } from '../core/session.ts'
import type { SharedGroup } from '../core/shared-group.ts'
import { LAZY } from '../journal/journal.ts'
import { append } from './append.ts'
import type { Broker } from './broker.ts'
import { judgeGroup } from './group-life.ts'

const SHARES = 0xffff << ENTRY_SHARE_SHIFT

/**
 * An entry that was just settled in `queue` was a group's message with this member: the rest of it, and the
 * record. False: it was none.
 */
export function finishMoved(broker: Broker, queue: Queue, sequence: number): boolean {
  const { state, writer, journal } = broker
  const move = queue.moves!.get(sequence)
  if (move === undefined || move.sessionId !== queue.id) return false
  state.unlink(move)
  const group = state.groups.get(move.groupId)
  if (group === undefined) return !queue.isDurable
  const { queue: from } = group
  const wasThere = move.isLent && state.settleEntry(from, move.groupSequence)
  if (!journal.failed) {
    // In one record: after a crash neither is there, or both.
    if (queue.isDurable) writePair(broker, queue.id, sequence)
    if (from.isDurable && (queue.isDurable || wasThere))
      writePair(broker, from.id, move.groupSequence)
    if (writer.length > 0) append(broker, KIND.settle, LAZY)
  }
  if (!move.isLent && from.moves!.size === 0) judgeGroup(broker, group)
  return true
}

function writePair(broker: Broker, id: number, sequence: number): void {
  broker.writer.varint(id)
  broker.writer.varint(sequence)
}

/**
 * A session ends, or from now on ends with its connection: what it had of groups goes back to those who
 * have another member. Returns the groups concerned.
 */
export function giveBack(broker: Broker, session: Session, isEnding: boolean): Set<SharedGroup> {
  const groups = new Set<SharedGroup>()
  const { moves } = session.queue
  if (moves === null || moves.size === 0) return groups
  const finished: Move[] = []
  // In their order: each takes its old place, so that what goes together stays in few chunks.
  for (const move of [...moves.values()].sort(byPlace)) {
    const group = broker.state.groups.get(move.groupId)
    if (group === undefined) continue
    groups.add(group)
    const others = group.members.size - (isEnding && group.members.has(session) ? 1 : 0)
    if (others > 0 && mayGoBack(session.queue, move)) putBack(broker, session.queue, group, move)
    else finished.push(move)
  }
  if (broker.writer.length > 0) append(broker, KIND.sharedMoveBack, LAZY)
  for (const move of finished) giveUp(broker, move, isEnding)
  if (broker.writer.length > 0) append(broker, KIND.settle, LAZY)
  return groups
}

function byPlace(a: Move, b: Move): number {
  return a.groupId - b.groupId || a.groupSequence - b.groupSequence
}

/** The entry's fields are set when it may. */
function mayGoBack(queue: Queue, move: Move): boolean {
  // Entries that went cold with an absent client end with its session.
  if (!queue.find(move.sequence)) return false
  if ((queue.flags & ENTRY_QOS) >> ENTRY_QOS_SHIFT < 2) return true
  const isReady = (queue.flags & ENTRY_STATE) === READY
  return isReady && (queue.flags & ENTRY_COUNT) === 0 && move.sequence >= queue.redeliveredBelow
}

function putBack(broker: Broker, queue: Queue, group: SharedGroup, move: Move): void {
  const { state, writer, journal } = broker
  if (move.isLent) {
    state.unlink(move)
    group.queue.requeue(move.groupSequence)
    return
  }
  const { segment, offset, bytes, flags } = queue
  if (group.queue.isDurable && !journal.failed) {
    writeMove(writer, move, segment, offset, bytes, flags)
  }
  const place = READY | (move.flags & ~ENTRY_STATE) | (flags & (ENTRY_COUNT | SHARES))
  state.moveBack(move, segment, offset, bytes, place)
}

/** It goes with its session, whose end takes the session's own entry away. */
function giveUp(broker: Broker, move: Move, isEnding: boolean): void {
  const { state, journal } = broker
  const from = state.queues.get(move.groupId)
  if (isEnding) {
    state.unlink(move)
    if (move.isLent && from !== undefined) state.settleEntry(from, move.groupSequence)
  }
  if (from?.isDurable && !journal.failed) writePair(broker, move.groupId, move.groupSequence)
}
