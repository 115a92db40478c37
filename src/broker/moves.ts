/**
 * What members of shared groups hold, and how that ends: acknowledged, or back to the group in its old place
 * because the session is gone. QoS 2 that was sent never goes to another client [MQTT-4.8.2-5].
 */
import type { Move } from '../core/move.ts'
import { NOTHING } from '../core/entries.ts'
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
  const back = new Set<number>()
  // In their order: each takes its old place, so that what goes together stays in few chunks.
  for (const move of [...moves.values()].sort(byPlace)) {
    const group = broker.state.groups.get(move.groupId)
    if (group === undefined) continue
    groups.add(group)
    const others = group.takerCount - (isEnding && group.members.has(session) ? 1 : 0)
    if (others > 0 && mayGoBack(session.queue, move)) back.add(move.sequence)
    else finished.push(move)
  }
  if (isEnding) noteGivenBack(session.queue, back)
  for (const move of [...moves.values()].sort(byPlace)) {
    if (back.has(move.sequence)) putBack(broker, session.queue, move)
  }
  if (broker.writer.length > 0) append(broker, KIND.sharedMoveBack, LAZY)
  for (const move of finished) giveUp(broker, move, isEnding)
  if (broker.writer.length > 0) append(broker, KIND.settle, LAZY)
  return groups
}

/** Of the QoS 1 deliveries of a session that has ended, in their order: whether they went back. */
const endings = new WeakMap<Queue, boolean[]>()

function noteGivenBack(queue: Queue, back: ReadonlySet<number>): void {
  if (back.size === 0) return
  const sent: boolean[] = []
  for (let at = queue.after(0); at !== NOTHING; at = queue.after(at)) {
    const isQos1 = (queue.flags & ENTRY_QOS) >> ENTRY_QOS_SHIFT === 1
    if (isQos1 && (queue.flags & ENTRY_COUNT) !== 0) sent.push(back.has(at))
  }
  endings.set(queue, sent)
}

/** How many of the last `count` QoS 1 deliveries of a session that has ended went back to their groups. */
export function givenBackOf(queue: Queue, count: number): number {
  const sent = endings.get(queue) ?? []
  return sent.slice(-count).filter(isBack => isBack).length
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

function putBack(broker: Broker, queue: Queue, move: Move): void {
  const { state, writer, journal } = broker
  const group = state.groups.get(move.groupId)!
  queue.find(move.sequence)
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
  // Out of the journal's sight already: it was moved to a session that ends with its connection.
  const isDone = isEnding && !move.isLent && !state.queues.get(move.sessionId)?.isDurable
  if (isEnding) {
    state.unlink(move)
    if (move.isLent && from !== undefined) state.settleEntry(from, move.groupSequence)
  }
  if (from?.isDurable && !isDone && !journal.failed)
    writePair(broker, move.groupId, move.groupSequence)
}
