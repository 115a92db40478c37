/** Shared subscriptions: a session joins and leaves groups, and what a start makes of them. */
import { ERROR_CODES } from '../core/errors.ts'
import { SETTLED } from '../core/queue-entry.ts'
import { KIND } from '../core/records/kinds.ts'
import { createGroup, writeMember } from '../core/records/shared-group.ts'
import type { Session, SubscribeOptions } from '../core/session.ts'
import type { SharedGroup } from '../core/shared-group.ts'
import type { Vhost } from '../core/vhost.ts'
import { AWAITED } from '../journal/journal.ts'
import { append } from './append.ts'
import type { Broker } from './broker.ts'
import { consumersOf } from './deliver.ts'
import { attend, unattend } from './group-member.ts'
import { judgeGroup } from './group-life.ts'
import { giveBack } from './moves.ts'

/** Makes a session a member, or replaces its options. Returns 0, or a negated error code. */
export function join(
  broker: Broker,
  session: Session,
  text: string,
  options: SubscribeOptions
): number {
  const { state, limits } = broker
  const vhost = state.vhost(session.vhost)!
  const group = vhost.groups.get(text) ?? createdGroup(broker, vhost, text)
  if (group === null) return -ERROR_CODES.quotaExceeded
  if (!group.members.has(session) && group.takerCount >= limits.sharedMembersMax) {
    return -ERROR_CODES.quotaExceeded
  }
  state.joinGroup(session, group, options)
  judgeGroup(broker, group)
  if (session.isLasting) {
    writeMember(broker.writer, session, group, options)
    session.ticket = append(broker, KIND.sharedMember, AWAITED)
  }
  attend(broker, group.members.get(session)!)
  return 0
}

/** A group is a queue, and counts as one. Null: there may be no more. */
export function createdGroup(broker: Broker, vhost: Vhost, text: string): SharedGroup | null {
  const { state } = broker
  if (state.queues.size >= broker.limits.queuesMax) return null
  const group = createGroup(state.nextId++, vhost.name, text, false)
  state.addGroup(group)
  return group
}

/** The groups of a session that is about to end, its client taken from them and what it held given back. */
export function leaveAll(broker: Broker, session: Session): Set<SharedGroup> {
  const groups = giveBack(broker, session, true)
  for (const subscription of session.shared ?? []) {
    unattend(broker, subscription)
    const group = broker.state.groups.get(subscription.groupId)
    if (group !== undefined) groups.add(group)
  }
  return groups
}

/** The session ends with its connection from now on: so does what it held. */
export function giveBackAll(broker: Broker, session: Session): Set<SharedGroup> {
  const groups = giveBack(broker, session, false)
  for (const { groupId } of session.shared ?? []) {
    const group = broker.state.groups.get(groupId)
    if (group !== undefined) groups.add(group)
  }
  return groups
}

/** After a session has left, or has given back: groups end, or go on with their other members. */
export function settleGroups(broker: Broker, groups: ReadonlySet<SharedGroup>): void {
  for (const group of groups) {
    judgeGroup(broker, group)
    const { queue } = group
    if (!queue.isDeleted && queue.readyCount > 0) consumersOf(broker, queue).schedule()
  }
}

/** After replay: both ends of what was moved know of it; a group that a crash left without members ends. */
export function wakeGroups(broker: Broker): void {
  const { state } = broker
  for (const group of [...state.groups.values()]) {
    for (const move of [...(group.queue.moves?.values() ?? [])]) {
      const queue = state.sessions.get(move.sessionId)?.queue
      if (queue === undefined || queue.stateOf(move.sequence) === SETTLED) state.unlink(move)
      else state.link(queue, move.sequence, move)
    }
    judgeGroup(broker, group)
  }
}
