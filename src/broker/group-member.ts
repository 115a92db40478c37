/**
 * A session as a consumer of a shared group's queue: it takes from it while it has credit, in turn with the
 * others (MQTT 5 §4.8.2). The QoS, the retain flag and the identifier are those of its own subscription.
 */
import type { DropReason } from '../core/errors.ts'
import type { Message } from '../core/message.ts'
import { Move } from '../core/move.ts'
import { mayTopic } from '../core/permissions.ts'
import type { Queue } from '../core/queue.ts'
import {
  ENTRY_COUNT_SHIFT,
  ENTRY_EXPIRES,
  ENTRY_HAS_IDS,
  ENTRY_QOS,
  ENTRY_QOS_SHIFT,
  ENTRY_RETAIN,
  ENTRY_SHARE_SHIFT,
  READY,
  UNACKED
} from '../core/queue-entry.ts'
import { KIND } from '../core/records/kinds.ts'
import { writeMove } from '../core/records/shared-group.ts'
import type { Session, Subscription } from '../core/session.ts'
import type { SharedGroup } from '../core/shared-group.ts'
import { MEMORY } from '../core/slabs.ts'
import { AWAITED, LAZY, type Urgency } from '../journal/journal.ts'
import { append, appendPair } from './append.ts'
import type { Broker } from './broker.ts'
import { type Consumer, connectionOf, DELIVER_RETAIN } from './consumer.ts'
import { consumersOf, deliverNew, ready } from './deliver.ts'
import { finish } from './finish.ts'
import { persist } from './group-life.ts'
import { makeRoom } from './overflow.ts'
import type { Consumers } from './queue-consumers.ts'
import { mayRead, topicOf } from './routing.ts'

/** Delivered once. */
const UNACKED_ONCE = UNACKED | (1 << ENTRY_COUNT_SHIFT)
const SHARES = 0xffff << ENTRY_SHARE_SHIFT

class GroupMember implements Consumer {
  /** How what it gets is settled is its own business. */
  readonly noAck: boolean
  readonly #broker: Broker
  readonly #group: SharedGroup
  readonly #subscription: Subscription
  /** At the head of the group's queue, and only an AMQP consumer may read it; 0: nothing is. */
  #passed: number

  constructor(broker: Broker, group: SharedGroup, subscription: Subscription) {
    this.noAck = false
    this.#broker = broker
    this.#group = group
    this.#subscription = subscription
    this.#passed = 0
  }

  hasCredit(): boolean {
    if (this.#passed !== 0 && this.#mustPass()) return false
    if (this.#isFree()) return true
    const { session, groupId } = this.#subscription
    session.starved ??= new Set()
    session.starved.add(groupId)
    return false
  }

  /** It was offered what is not for it: it takes nothing before an AMQP consumer has taken that. */
  #mustPass(): boolean {
    const { queue, takers } = this.#group
    if (takers > 0 && queue.next() === this.#passed) return true
    this.#passed = 0
    return false
  }

  #isFree(): boolean {
    const { session } = this.#subscription
    const connection = connectionOf(session)
    if (connection === null) return false
    const { queue } = session
    // What waits for the disk or for the client was sent to it as far as this is concerned.
    if (
      queue.unackedCount + queue.readyCount >= connection.inflightMax ||
      session.isPacketIdOpen(queue.nextSequence)
    ) {
      connection.onStarved()
      return false
    }
    return connection.hasCredit()
  }

  deliver(message: Message, queue: Queue, sequence: number): void {
    const broker = this.#broker
    const own = this.#subscription
    const taker = this.mayRead(message) ? own : findReader(broker, this.#group, message)
    if (taker === null && this.#group.takers > 0) {
      queue.requeue(sequence)
      this.#passed = sequence
      consumersOf(broker, queue).schedule()
    } else if (taker === null) {
      finish(broker, queue, sequence)
      broker.counters.dropFrom(queue, 'not_authorized')
    } else give(broker, this.#group, taker, message, sequence)
  }

  /** QoS 0, from no queue. False: it takes nothing now. */
  takeDirect(message: Message): boolean {
    const { session, retainAsPublished, identifier } = this.#subscription
    const ids = identifier === 0 ? null : [identifier]
    return (
      connectionOf(session)?.deliverDirect(message, message.retain && retainAsPublished, ids) ??
      false
    )
  }

  /** Routes say that some member may: permissions are a member's own. */
  mayRead(message: Message): boolean {
    const { session } = this.#subscription
    const principal = connectionOf(session)?.principal
    if (principal === undefined || principal.isUnrestricted) return true
    const topic = topicOf(message.form, message.keyText())
    return mayTopic(principal, 'read', topic, session.clientId)
  }

  onCancelled(): void {
    // Only its session ends it.
  }
}

/**
 * Who else may read it: whoever has credit, else somebody in whose own queue it can wait, for in the group's
 * it would hold up what is behind it.
 */
function findReader(broker: Broker, group: SharedGroup, message: Message): Subscription | null {
  const vhost = broker.state.vhost(group.vhost)
  const topic = topicOf(message.form, message.keyText())
  let found: Subscription | null = null
  for (const [session, subscription] of group.members) {
    if (vhost === null || !mayRead(broker, vhost, session, topic)) continue
    if (memberOf(broker, group, subscription).hasCredit()) return subscription
    if (found === null || (session.connection !== null && found.session.connection === null)) {
      found = subscription
    }
  }
  return found
}

/** Hands over a message that was taken out of the group's queue. */
function give(
  broker: Broker,
  group: SharedGroup,
  subscription: Subscription,
  message: Message,
  sequence: number
): void {
  const { queue } = group
  if (!queue.find(sequence)) return
  const { session, retainAsPublished, identifier } = subscription
  const ids = identifier === 0 ? null : [identifier]
  const qos = Math.min(subscription.qos, (queue.flags & ENTRY_QOS) >> ENTRY_QOS_SHIFT)
  const retain = retainAsPublished ? queue.flags & ENTRY_RETAIN : 0
  const connection = connectionOf(session)
  if (qos === 0) {
    const isSent = connection?.deliverDirect(message, retain !== 0, ids) ?? false
    if (!isSent) broker.counters.drop(connection === null ? 'offline_qos0' : 'slow_consumer')
    finish(broker, queue, sequence)
    return
  }
  const mode = (qos << ENTRY_QOS_SHIFT) | retain
  const isMoved = session.isLasting || (qos === 2 && queue.isDurable)
  if (isMoved || connection === null || !memberOf(broker, group, subscription).hasCredit()) {
    moveTo(broker, group, session, message, sequence, mode, ids)
    return
  }
  // Its body stays where it is: this session will never be sent it again [MQTT-4.4.0-1].
  const own = session.queue.push(0, 0, 0, UNACKED_ONCE | mode)
  const move = new Move(queue.id, sequence, session.id, own, 0, 0, true)
  broker.state.link(session.queue, own, move)
  const flags = qos | (retain === 0 ? 0 : DELIVER_RETAIN)
  connection.deliver(message, session.queue, own, flags, ids)
}

/**
 * Into the session's own queue, by one record; for QoS 2 that is durable before the PUBLISH leaves: after a
 * crash no other member may get it [MQTT-4.8.2-5].
 */
function moveTo(
  broker: Broker,
  group: SharedGroup,
  session: Session,
  message: Message,
  sequence: number,
  mode: number,
  ids: readonly number[] | null
): void {
  const { queue: from } = group
  if (from.segment >= MEMORY && session.isLasting) persist(broker, from, sequence)
  const { segment, offset, bytes } = from
  const kept = from.flags & (ENTRY_QOS | ENTRY_RETAIN | ENTRY_EXPIRES)
  const flags =
    READY | mode | (from.flags & (ENTRY_EXPIRES | SHARES)) | (ids === null ? 0 : ENTRY_HAS_IDS)
  const { queue } = session
  const { readyCount } = queue
  if (readyCount > 0) {
    const { sessionMessagesMax, sessionBytesMax } = broker.limits
    makeRoom(broker, queue, bytes, sessionMessagesMax, sessionBytesMax)
  }
  const isFull = queue.readyCount < readyCount
  const own = queue.nextSequence
  const move = new Move(from.id, sequence, session.id, own, kept, ids?.[0] ?? 0, false)
  broker.state.move(move, segment, offset, bytes, flags)
  const record = (urgency: Urgency): number => {
    // Of a session that ends with its connection nothing lasts: for the journal the message is done.
    if (!session.isLasting) return appendPair(broker, KIND.settle, from.id, sequence, urgency)
    writeMove(broker.writer, move, segment, offset, bytes, flags)
    return append(broker, KIND.sharedMove, urgency)
  }
  if ((mode & ENTRY_QOS) >> ENTRY_QOS_SHIFT === 2) {
    session.heldSequences.push(own)
    session.heldTickets.push(record(AWAITED))
    broker.held.add(session)
    return
  }
  // The view of the message does not outlast the next record: first the delivery.
  if (isFull) ready(broker, queue)
  else deliverNew(broker, queue, message, own, ids)
  if (queue.moves?.get(own) === move && from.isDurable) record(LAZY)
}

function memberOf(broker: Broker, group: SharedGroup, subscription: Subscription): GroupMember {
  subscription.taker ??= new GroupMember(broker, group, subscription)
  return subscription.taker as GroupMember
}

/** QoS 0 to the connected member whose turn it is, or another that takes it: in no queue. Null: it is sent. */
export function giveDirect(group: SharedGroup, message: Message): DropReason | null {
  const consumers = group.queue.attached as Consumers | null
  if (consumers === null || consumers.list.length === 0) return 'offline_qos0'
  const first = consumers.pick()
  if (first instanceof GroupMember && first.mayRead(message) && first.takeDirect(message)) {
    consumers.passTurn()
    return null
  }
  let someMay = false
  for (const member of consumers.list) {
    if (!(member instanceof GroupMember && member.mayRead(message))) continue
    if (member.takeDirect(message)) return null
    someMay = true
  }
  return someMay ? 'slow_consumer' : 'not_authorized'
}

/** Somebody is there who takes from it. */
export function isAttended(queue: Queue): boolean {
  return queue.attached !== null && (queue.attached as Consumers).list.length > 0
}

/** A member's client is there: it takes from the group in a later turn, so behind what is answered now. */
export function attend(broker: Broker, subscription: Subscription): void {
  const group = broker.state.groups.get(subscription.groupId)
  if (group === undefined) return
  const consumers = consumersOf(broker, group.queue)
  const member = memberOf(broker, group, subscription)
  if (!consumers.list.includes(member)) consumers.add(member, 0)
  if (group.queue.readyCount > 0) consumers.schedule()
}

/** It takes nothing any more. */
export function unattend(broker: Broker, subscription: Subscription): void {
  subscription.session.starved?.delete(subscription.groupId)
  const attached = broker.state.groups.get(subscription.groupId)?.queue.attached
  if (attached === null || attached === undefined || subscription.taker === null) return
  ;(attached as Consumers).remove(subscription.taker as GroupMember)
}

/**
 * A session has credit again: its own queue goes on, then the groups that passed it by, from the one that has
 * waited longest for it to the one that uses up the last of its credit.
 */
export function wakeSession(broker: Broker, session: Session): void {
  ready(broker, session.queue)
  const { starved } = session
  if (starved === null) return
  let left = starved.size
  for (const groupId of starved) {
    if (left-- === 0) return
    const group = broker.state.groups.get(groupId)
    const subscription = group?.members.get(session)
    if (group !== undefined && subscription !== undefined && group.queue.readyCount > 0) {
      if (!memberOf(broker, group, subscription).hasCredit()) return
      starved.delete(groupId)
      ready(broker, group.queue)
    } else starved.delete(groupId)
  }
}
