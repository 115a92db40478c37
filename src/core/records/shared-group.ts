/**
 * Records of shared groups: the group, a session's place in it, and messages on their way between its queue
 * and a member's. A move carries the message's position and all that both entries need, for at replay of a
 * checkpoint one of the two queues may come later.
 */
import type { ByteWriter } from '../../lib/byte-writer.ts'
import type { BytesReader } from '../../lib/bytes-reader.ts'
import { Move } from '../move.ts'
import { Queue } from '../queue.ts'
import {
  ENTRY_EXPIRES,
  ENTRY_HAS_IDS,
  ENTRY_QOS,
  ENTRY_QOS_SHIFT,
  ENTRY_RETAIN,
  ENTRY_SHARE_SHIFT,
  READY
} from '../queue-entry.ts'
import { sessionQueueOptions } from '../queue-options.ts'
import { SharedGroup } from '../shared-group.ts'
import type { Session, SubscribeOptions } from '../session.ts'
import type { State } from '../state.ts'
import { readOptions, writeOptions } from './session.ts'

/** Of a moved message: QoS and retain as published, then those of the member's entry. */
const FROM_RETAIN = 4
const EXPIRES = 8
const TO_QOS_SHIFT = 4
const TO_RETAIN = 64
const HAS_ID = 128

/** A group with nothing in it; `nextSequence` goes on where it was. */
export function writeGroup(writer: ByteWriter, group: SharedGroup): void {
  writer.varint(group.id)
  writer.shortString(group.vhost)
  writer.longString(group.text)
  writer.varint(group.queue.nextSequence)
}

export function applyGroup(state: State, reader: BytesReader): boolean {
  const id = reader.varint()
  const vhost = reader.shortString()
  const text = reader.longString()
  const nextSequence = reader.varint()
  const group = groupOf(state, id, vhost, text)
  if (group === null) return false
  if (nextSequence > group.queue.nextSequence) group.queue.nextSequence = nextSequence
  return true
}

/** The group of this id, made when it is not known; null: the id is another thing's. */
function groupOf(state: State, id: number, vhost: string, text: string): SharedGroup | null {
  const known = state.groups.get(id)
  if (known !== undefined) return known
  if (id < 1 || state.vhost(vhost) === null || state.queues.has(id)) return null
  const group = createGroup(id, vhost, text, true)
  state.addGroup(group)
  return group
}

export function createGroup(id: number, vhost: string, text: string, lasts: boolean): SharedGroup {
  const queue = new Queue(id, text, vhost, sessionQueueOptions(lasts), false)
  return new SharedGroup(text, vhost, queue)
}

export function applyGroupEnd(state: State, reader: BytesReader): boolean {
  const group = state.groups.get(reader.varint())
  if (group === undefined) return false
  for (const session of [...group.members.keys()]) state.unsubscribe(session, group.text)
  state.removeGroup(group)
  return true
}

/** A session is a member, or has other options. */
export function writeMember(
  writer: ByteWriter,
  session: Session,
  group: SharedGroup,
  options: SubscribeOptions
): void {
  writer.varint(session.id)
  writer.varint(group.id)
  writer.longString(group.text)
  writeOptions(writer, options)
}

export function applyMember(state: State, reader: BytesReader): boolean {
  const session = state.sessions.get(reader.varint())
  const id = reader.varint()
  const text = reader.longString()
  const options = readOptions(reader)
  if (session === undefined) return false
  // A checkpoint may name the group here first.
  const group = groupOf(state, id, session.vhost, text)
  if (group === null) return false
  state.joinGroup(session, group, options)
  return true
}

/** One move; `flags` are those of the member's entry. */
export function writeMove(
  writer: ByteWriter,
  move: Move,
  segment: number,
  offset: number,
  bytes: number,
  flags: number
): void {
  writer.varint(move.groupId)
  writer.varint(move.groupSequence)
  writer.varint(move.sessionId)
  writer.varint(move.sequence)
  writer.varint(segment)
  writer.varint(offset)
  writer.varint(bytes)
  writer.u8(
    ((move.flags & ENTRY_QOS) >> ENTRY_QOS_SHIFT) |
      ((move.flags & ENTRY_RETAIN) !== 0 ? FROM_RETAIN : 0) |
      ((move.flags & ENTRY_EXPIRES) !== 0 ? EXPIRES : 0) |
      (((flags & ENTRY_QOS) >> ENTRY_QOS_SHIFT) << TO_QOS_SHIFT) |
      ((flags & ENTRY_RETAIN) !== 0 ? TO_RETAIN : 0) |
      (move.identifier !== 0 ? HAS_ID : 0)
  )
  writer.varint(flags >>> ENTRY_SHARE_SHIFT)
  if (move.identifier !== 0) writer.varint(move.identifier)
}

/** Replay of one or more moves out of groups. */
export function applyMove(state: State, reader: BytesReader): boolean {
  let isKnown = true
  while (reader.remaining > 0) isKnown = applyOne(state, reader, true) && isKnown
  return isKnown
}

/** Replay of one or more moves back into their groups. */
export function applyMoveBack(state: State, reader: BytesReader): boolean {
  let isKnown = true
  while (reader.remaining > 0) isKnown = applyOne(state, reader, false) && isKnown
  return isKnown
}

function applyOne(state: State, reader: BytesReader, isOut: boolean): boolean {
  const groupId = reader.varint()
  const groupSequence = reader.varint()
  const sessionId = reader.varint()
  const sequence = reader.varint()
  const segment = reader.varint()
  const offset = reader.varint()
  const bytes = reader.varint()
  const bits = reader.u8()
  const share = reader.varint() << ENTRY_SHARE_SHIFT
  const hasId = (bits & HAS_ID) !== 0
  const identifier = hasId ? reader.varint() : 0
  const common = READY | share | ((bits & EXPIRES) !== 0 ? ENTRY_EXPIRES : 0)
  const from =
    common | ((bits & 3) << ENTRY_QOS_SHIFT) | ((bits & FROM_RETAIN) !== 0 ? ENTRY_RETAIN : 0)
  const to =
    common |
    (((bits >> TO_QOS_SHIFT) & 3) << ENTRY_QOS_SHIFT) |
    ((bits & TO_RETAIN) !== 0 ? ENTRY_RETAIN : 0) |
    (hasId ? ENTRY_HAS_IDS : 0)
  const move = new Move(groupId, groupSequence, sessionId, sequence, from, identifier, false)
  return isOut
    ? state.move(move, segment, offset, bytes, to)
    : state.moveBack(move, segment, offset, bytes, from)
}
