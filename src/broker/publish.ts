/**
 * A message comes in: permission, route, one record, queues, deliveries. The hot path: nothing is
 * allocated for a message but where it must wait.
 *
 * Every destination is decided first (`targets`), then one record is written for all of them with the
 * inbound packet identifier and the retained slot, then the entries take their places, then what can
 * be delivered is. A session that ends with its connection and has credit gets its delivery straight
 * from the publisher's bytes: nothing of it is stored.
 */
import { ERROR_CODES } from '../core/errors.ts'
import type { Exchange } from '../core/exchange.ts'
import type { FieldTable } from '../core/field-table.ts'
import { FORM_MQTT, Message } from '../core/message.ts'
import { mayAnswer, mayKey, mayTopic } from '../core/permissions.ts'
import type { Queue } from '../core/queue.ts'
import { ENTRY_COUNT_SHIFT, ENTRY_QOS_SHIFT, ENTRY_RETAIN, UNACKED } from '../core/queue-entry.ts'
import { replyToIn } from '../core/reply-address.ts'
import { entryFlags, messageBytesMax } from '../core/records/message.ts'
import { type Detour, type Route, type SessionTarget, withoutNoLocal } from '../core/route.ts'
import type { Session } from '../core/session.ts'
import type { SharedGroup } from '../core/shared-group.ts'
import { MQTT_EXCHANGE } from '../core/vhost.ts'
import type { Broker } from './broker.ts'
import { connectionOf, type Publisher } from './consumer.ts'
import { PAYLOAD_RECEIVED } from './counters.ts'
import { countUnmatched, markCaches, markLast, newKeyIn, ticketOfFirst } from './deduplicate.ts'
import { giveDirect, isAttended } from './group-member.ts'
import { held, holdBack } from './hold-back.ts'
import { isFull, makeRoom } from './overflow.ts'
import { levelFor } from './priority.ts'
import { discardRefused, trimSoon } from './queue-life.ts'
import { propertiesOf, rewrite } from './rewrite.ts'
import { routeKey, routeTopic, topicOf } from './routing.ts'
import { store } from './store.ts'
import { targets } from './targets.ts'
import type { Tracer } from './trace.ts'

const DOLLAR = 36
/** Below it no record gets a file of its own, however small the disk. */
const LARGE_BYTES = 32 * 1024
/** Delivered once. */
const UNACKED_ONCE = UNACKED | (1 << ENTRY_COUNT_SHIFT)
/** Levels of their own that retained topics may have on the average: each costs more than its bytes. */
const RETAINED_NODES_A_TOPIC = 4

/** MQTT: to the vhost's topic exchange. Returns a ticket, or a negated error code: then nothing was kept. */
export function publish(broker: Broker, message: Message, publisher: Publisher): number {
  broker.matched = false
  const key = message.key
  const principal = publisher.principal
  broker.counters.mqttReceived[message.qos]!++
  broker.counters.mqttPayloadBytes[PAYLOAD_RECEIVED]! += message.payloadEnd - message.payloadStart
  if (!principal.isUnrestricted || key.charCodeAt(0) === DOLLAR || principal.judgesTopics) {
    const replyTo = key.charCodeAt(0) === DOLLAR ? replyToIn(key) : null
    if (replyTo !== null && mayAnswer(principal, key, publisher.clientId)) {
      return publishAnswer(broker, message, publisher, replyTo)
    }
    if (!mayTopic(principal, 'write', key, publisher.clientId)) {
      broker.counters.drop('not_authorized')
      return -ERROR_CODES.notAuthorized
    }
  }
  const session = publisher.session
  message.exchange = MQTT_EXCHANGE
  message.publisherId = session === null ? 0 : session.id
  message.isAwaited = message.qos > 0
  return send(broker, message, publisher, routeTopic(broker, publisher.vhost, key, message))
}

/**
 * An answer to a request that came over AMQP: its response topic stands for a queue on the default exchange, or for
 * a channel that awaits it.
 */
function publishAnswer(
  broker: Broker,
  message: Message,
  publisher: Publisher,
  replyTo: string
): number {
  const properties = propertiesOf(broker, message)
  const { expiresAt } = message
  if (expiresAt > 0) properties.expiration = String(Math.max(0, expiresAt - broker.nowMs))
  rewrite(broker, answer, message, replyTo, properties)
  answer.exchange = ''
  answer.isAwaited = message.qos > 0
  answer.packetId = message.packetId
  const { vhost } = publisher
  let ticket: number
  if (replyTo.startsWith(DIRECT_REPLY_PREFIX)) {
    broker.matched = broker.answerChannel?.(vhost, replyTo, answer) ?? false
    if (!broker.matched) broker.counters.drop('no_match')
    targets.clear()
    ticket = store(broker, answer, publisher, inboundOf(answer, publisher), false)
  } else {
    const route = routeKey(broker, vhost, vhost.exchanges.get('')!, replyTo, null, null)
    ticket = send(broker, answer, publisher, route)
  }
  answer.source = EMPTY
  return ticket
}

/** The session that keeps the packet identifier of an inbound QoS 2 message. */
function inboundOf(message: Message, publisher: Publisher): Session | null {
  return message.packetId > 0 && message.qos === 2 ? publisher.session : null
}

const answer = new Message()
const EMPTY = Buffer.alloc(0)
/** Of the names of AMQP channels that await answers (amqp/direct-reply-to.ts). */
const DIRECT_REPLY_PREFIX = 'amq.rabbitmq.reply-to.'

/** AMQP: to any exchange. `message.isAwaited` is the caller's: somebody waits for the confirm. */
export function publishTo(
  broker: Broker,
  exchange: Exchange,
  message: Message,
  publisher: Publisher,
  headers: FieldTable | null = null,
  moreKeys: readonly string[] | null = null
): number {
  broker.matched = false
  broker.counters.amqpReceived[message.isAwaited ? 1 : 0]!++
  const principal = publisher.principal
  if (exchange.kind === 'topic' && principal.judgesTopics) {
    for (const each of [message.keyText(), ...(moreKeys ?? [])]) {
      const topic = topicOf(message.form, each)
      const isOurs = topic.charCodeAt(0) === DOLLAR
      const { clientId } = publisher
      if (isOurs || mayKey(principal, 'write', exchange.name, topic, clientId)) continue
      broker.counters.drop('not_authorized')
      return -ERROR_CODES.notAuthorized
    }
  }
  message.exchange = exchange.name
  message.publisherId = 0
  const key = message.keyText()
  const route = routeKey(broker, publisher.vhost, exchange, key, headers, moreKeys, message)
  return send(broker, message, publisher, route)
}

/** A message of ours (a will): permission was judged when it was accepted. */
export function publishOwn(broker: Broker, message: Message, publisher: Publisher): number {
  broker.matched = false
  message.exchange = MQTT_EXCHANGE
  message.isAwaited = message.qos > 0
  const route = routeTopic(broker, publisher.vhost, message.key, message)
  return send(broker, message, publisher, route)
}

/** What was let go or is a dead letter: its route is found, `message.exchange` and `recordEnds` say what it is. */
export function publishRouted(
  broker: Broker,
  message: Message,
  publisher: Publisher,
  route: Route
): number {
  broker.matched = false
  return send(broker, message, publisher, route)
}

function send(broker: Broker, message: Message, publisher: Publisher, route: Route): number {
  broker.matched = route.count > 0
  broker.turns.deliveries += route.count
  const inbound = inboundOf(message, publisher)
  const isDirect = message.qos === 0 && !message.retain && route.isToSessions
  if (isDirect && !broker.limits.queueQos0) {
    if (!broker.matched) broker.counters.drop('no_match')
    sendDirect(broker, message, route)
    return 0
  }
  const needsDisk =
    route.hasDurableQueue ||
    (message.qos > 0 && route.hasLastingSession) ||
    message.retain ||
    inbound?.isLasting
  const refusal = needsDisk ? refusalOf(broker, message) : broker.refusal
  const lasts = refusal === 0
  if (needsDisk && !lasts) {
    const reason = broker.journal.failed ? 'journal_failed' : 'disk_alarm'
    // QoS 0 goes on to whoever needs no disk for it: those who do are counted one by one.
    if (message.qos > 0 || message.form !== FORM_MQTT) {
      broker.counters.drop(reason)
      return -refusal
    }
    if (message.retain) broker.counters.drop(reason)
  }
  if (message.retain && lasts && !hasRetainedRoom(broker, message, publisher)) {
    broker.counters.drop('retained_quota')
    return -ERROR_CODES.quotaExceeded
  }
  targets.clear()
  const isRejected =
    route.only === null
      ? !addAll(broker, message, publisher, route, lasts)
      : !addQueue(broker, message, route.only, lasts)
  const retains = lasts && message.retain
  if (!broker.matched && !retains) countUnmatched(broker, route.detour)
  // Refused: the publisher's packet identifier is free again, nothing of it may stay.
  const ticket = store(broker, message, publisher, isRejected ? null : inbound, retains)
  if (isRejected) return -ERROR_CODES.queueFull
  if (route.only !== null || route.detour === null) return ticket
  return ticketBehind(message, route.detour, ticket)
}

/** What a client published: told before it is delivered. */
function trace(message: Message, publisher: Publisher, route: Route): void {
  if (publisher.origin === undefined) return
  ;(publisher.vhost.tracer as Tracer | null)?.notePublish(message, route, publisher.origin())
}

/** Also of what was held back, or was a duplicate. */
function ticketBehind(message: Message, detour: Detour, ticket: number): number {
  const ofFirst = message.isAwaited ? ticketOfFirst(detour) : 0
  return Math.max(ticket, ofFirst, detour.stores.length > 0 ? held.ticket : 0)
}

/** False: some queue refuses it. */
function addAll(
  broker: Broker,
  message: Message,
  publisher: Publisher,
  route: Route,
  lasts: boolean
): boolean {
  if (route.isToSessions) {
    for (const target of route.sessions) addSession(broker, message, target, lasts)
    return true
  }
  const { detour } = route
  if (detour?.isTraced) trace(message, publisher, route)
  for (const target of route.sessions) addSession(broker, message, target, lasts)
  let isTaken = true
  for (const queue of route.queues) {
    if (!addQueue(broker, message, queue, lasts)) isTaken = false
  }
  for (const group of route.groups) addGroup(broker, message, group, lasts)
  if (detour === null || route.count === 0) return isTaken
  return addDetour(broker, message, detour, isTaken)
}

/** The exchanges on the way remember what was taken by all; what they delay goes into their stores. */
function addDetour(broker: Broker, message: Message, detour: Detour, isTaken: boolean): boolean {
  if (detour.blind !== null) targets.keepBlind(detour.blind)
  if (isTaken) markCaches(broker, detour)
  if (detour.stores.length === 0 || holdBack(broker, message, detour)) return isTaken
  if (isTaken) targets.unmarkCaches()
  return false
}

/**
 * A dead letter goes where its route leads, but to no queue that `isCycle` names: false when nobody gets it.
 * Whether the disk has room for it is asked before.
 */
export function publishDead(
  broker: Broker,
  message: Message,
  route: Route,
  isCycle: (queue: string) => boolean
): boolean {
  targets.clear()
  let isOut = route.sessions.length + route.groups.length > 0
  const lasts = broker.refusal === 0
  for (const target of route.sessions) addSession(broker, message, target, lasts)
  for (const queue of route.queues) {
    if (!isCycle(queue.name) && addQueue(broker, message, queue, lasts)) isOut = true
  }
  for (const group of route.groups) addGroup(broker, message, group, lasts)
  const { detour } = route
  if (detour !== null && (isOut || detour.stores.length > 0)) {
    if (addDetour(broker, message, detour, true) && detour.stores.length > 0) isOut = true
  }
  store(broker, message, null, null, false)
  if (isOut || detour === null || detour.refusedBy.length === 0) return isOut
  countUnmatched(broker, detour)
  return true
}

/**
 * Whether a dead letter that may not be lost has a way out, and every queue on it a place: it goes to all of them, or
 * to none yet. For each queue as `addQueue` would judge.
 */
export function takesDead(
  broker: Broker,
  message: Message,
  route: Route,
  isCycle: (queue: string) => boolean
): boolean {
  const bytes = message.payloadEnd - message.payloadStart
  let isOut = route.sessions.length + route.groups.length > 0
  for (const queue of route.queues) {
    if (isCycle(queue.name)) continue
    const { isBounded, overflow, messagesMax, bytesMax } = queue.options
    const refuses = isBounded && overflow !== 'drop-head'
    if (refuses && isFull(queue, bytes, messagesMax, bytesMax)) return false
    if (!queue.isDurable && lacksMemory(broker, bytes)) return false
    isOut = true
  }
  const { detour } = route
  if (detour === null || detour.stores.length === 0) {
    // A letter that was there before is no letter that nobody wants.
    return isOut || (detour !== null && detour.refusedBy.length > 0)
  }
  const { delays } = broker.state
  return delays.count + detour.stores.length <= broker.limits.delayedMessagesMax
}

/** A large message may be refused where small ones still find room: what waits for room holds all behind it. */
function refusalOf(broker: Broker, message: Message): number {
  if (broker.refusal !== 0) return broker.refusal
  if (message.payloadEnd - message.payloadStart < LARGE_BYTES) return 0
  return broker.journal.hasRoomFor(messageBytesMax(message)) ? 0 : ERROR_CODES.diskAlarm
}

function hasRetainedRoom(broker: Broker, message: Message, publisher: Publisher): boolean {
  const { retained } = publisher.vhost
  const bytes = message.payloadEnd - message.payloadStart
  if (bytes === 0) return true
  const { retainedMax, retainedBytesMax } = broker.limits
  const hasPlace =
    retained.count < retainedMax && retained.tree.nodes < retainedMax * RETAINED_NODES_A_TOPIC
  if (hasPlace && retained.bytes + bytes <= retainedBytesMax) return true
  const old = retained.get(message.topicText())
  return old !== null && retained.bytes - old.bytes + bytes <= retainedBytesMax
}

/** QoS 0 to connected sessions: in no queue. */
function sendDirect(broker: Broker, message: Message, route: Route): void {
  const sessions = route.sessions
  for (let i = 0; i < sessions.length; i++) {
    const target = sessions[i]!
    if (target.noLocal === null) deliverDirect(broker, message, target)
    else addSession(broker, message, target, false)
  }
}

function deliverDirect(broker: Broker, message: Message, target: SessionTarget): void {
  const session = target.session
  const connection = connectionOf(session)
  if (connection === null) {
    broker.counters.drop('offline_qos0')
    return
  }
  const retain = message.retain && target.retainAsPublished
  if (!connection.deliverDirect(message, retain, target.identifiers)) {
    broker.counters.drop('slow_consumer')
  }
}

function addSession(
  broker: Broker,
  message: Message,
  matched: SessionTarget,
  lasts: boolean
): void {
  let target: SessionTarget | null = matched
  if (target.noLocal !== null && target.session.id === message.publisherId) {
    target = withoutNoLocal(target)
  }
  if (target === null) return
  const qos = Math.min(message.qos, target.qos)
  const { session } = target
  if (qos === 0 && (session.connection !== null || !broker.limits.queueQos0 || !lasts)) {
    deliverDirect(broker, message, target)
    return
  }
  addWaiting(broker, message, target, qos)
}

function addWaiting(broker: Broker, message: Message, target: SessionTarget, qos: number): void {
  const { session } = target
  const retain = message.retain && target.retainAsPublished
  const queue = session.queue
  if (
    !session.isLasting &&
    queue.readyCount === 0 &&
    deliverUnstored(message, target, qos, retain)
  ) {
    return
  }
  const { sessionMessagesMax, sessionBytesMax } = broker.limits
  const bytes = message.payloadEnd - message.payloadStart
  if (lacksMemory(broker, bytes)) {
    broker.counters.dropFrom(queue, 'memory')
    return
  }
  makeRoom(broker, queue, bytes, sessionMessagesMax, sessionBytesMax)
  const flags = entryFlags(qos, retain, target.identifiers !== null, message.expiresAt > 0)
  targets.add(queue, flags, session.isLasting, target.identifiers)
}

/** A session that ends with its connection needs no body kept for what it was sent [MQTT-4.4.0-1]. */
function deliverUnstored(
  message: Message,
  target: SessionTarget,
  qos: number,
  retain: boolean
): boolean {
  const { session } = target
  const connection = connectionOf(session)
  if (connection === null || !connection.hasCredit()) return false
  const queue = session.queue
  if (session.isPacketIdOpen(queue.nextSequence)) return false
  const flags = UNACKED_ONCE | (qos << ENTRY_QOS_SHIFT) | (retain ? ENTRY_RETAIN : 0)
  const sequence = queue.push(0, 0, 0, flags)
  connection.deliver(message, queue, sequence, qos | (retain ? 4 : 0), target.identifiers)
  return true
}

/** Memory is full, and the disk takes nothing that memory has no room for. */
function lacksMemory(broker: Broker, bytes: number): boolean {
  return broker.refusal !== 0 && broker.slabs.bytes + bytes > broker.limits.memoryBytesMax
}

/**
 * Into a shared group's queue; QoS 0 to the member whose turn it is, in no queue, unless AMQP consumers take
 * from the group: they get it out of its queue alone.
 */
function addGroup(broker: Broker, message: Message, group: SharedGroup, lasts: boolean): void {
  const { queue } = group
  const { queueQos0, sharedMessagesMax, sharedBytesMax } = broker.limits
  const mayWait = message.qos > 0 || (group.takers > 0 && (lasts || !queue.isDurable))
  if (!mayWait && !(queueQos0 && lasts && queue.isDurable && !isAttended(queue))) {
    const lost = giveDirect(group, message)
    if (lost !== null) broker.counters.drop(lost)
    return
  }
  const bytes = message.payloadEnd - message.payloadStart
  if (lacksMemory(broker, bytes)) {
    broker.counters.dropFrom(queue, 'memory')
    return
  }
  makeRoom(broker, queue, bytes, sharedMessagesMax, sharedBytesMax)
  const flags = entryFlags(message.qos, message.retain, false, message.expiresAt > 0)
  targets.add(queue, flags, queue.isDurable, null)
}

/** False: the queue refuses it. */
function addQueue(broker: Broker, message: Message, queue: Queue, lasts: boolean): boolean {
  const { options } = queue
  let key: string | null = ''
  if (queue.isDurable && !lasts) {
    broker.counters.dropFrom(queue, broker.journal.failed ? 'journal_failed' : 'disk_alarm')
    return true
  }
  const bytes = message.payloadEnd - message.payloadStart
  if (!queue.isDurable && lacksMemory(broker, bytes)) {
    broker.counters.dropFrom(queue, 'memory')
    return true
  }
  if (options.isGuarded) {
    if (queue.stream !== null) return addStream(broker, message, queue, bytes)
    if (options.deduplicates) key = newKeyIn(broker, message, queue)
    if (key === null) return true
    if (!makeRoom(broker, queue, bytes, options.messagesMax, options.bytesMax)) {
      if (options.overflow === 'reject-publish-dlx' && options.deadLetterExchange !== null) {
        discardRefused(broker, queue, message)
      } else broker.counters.dropFrom(queue, 'queue_full')
      return false
    }
    // It goes to who takes it now, else it is the oldest of what is too much.
    if (options.messagesMax === 0 || (options.bytesMax >= 0 && bytes > options.bytesMax)) {
      trimSoon(broker, queue)
    }
  }
  const { messageTtlMs } = options
  const expires = message.expiresAt > 0 || messageTtlMs >= 0
  targets.add(
    queue.levels === null ? queue : levelFor(broker, queue.levels, message.priority),
    entryFlags(Math.min(message.qos, 1), false, false, expires),
    queue.isDurable,
    null
  )
  if (messageTtlMs >= 0) targets.timeLast(broker.nowMs + messageTtlMs)
  if (key !== '') markLast(key)
  return true
}

/** Nothing expires in a stream; its readers get what is durable, so a sync follows at once. */
function addStream(broker: Broker, message: Message, queue: Queue, bytes: number): boolean {
  if (!queue.stream!.mayTake(bytes)) {
    broker.counters.dropFrom(queue, 'queue_full')
    return false
  }
  message.isAwaited = true
  targets.add(queue, entryFlags(Math.min(message.qos, 1), false, false, false), true, null)
  return true
}
