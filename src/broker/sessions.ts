/**
 * Sessions: opened, taken over, resumed and ended; subscriptions (MQTT 5 §3.1, §3.8, §4.1).
 *
 * What a lasting session is told waits for the disk: `ticket` of the result or of the session says
 * how far. A session that ends with its connection has no record, but its will.
 */
import { ERROR_CODES, type ErrorCode } from '../core/errors.ts'
import { mayFilter, mayTopic } from '../core/permissions.ts'
import type { Principal } from '../core/principal.ts'
import { NOTHING } from '../core/entries.ts'
import { Queue } from '../core/queue.ts'
import { ENTRY_STATE, RELEASED, UNACKED } from '../core/queue-entry.ts'
import { sessionQueueOptions } from '../core/queue-options.ts'
import { KIND } from '../core/records/kinds.ts'
import { writeSession, writeSubscription, writeUnsubscribe } from '../core/records/session.ts'
import { Session } from '../core/session.ts'
import { hasWildcard, isValidFilter, parseSharedFilter } from '../core/topic.ts'
import type { Vhost } from '../core/vhost.ts'
import type { Will } from '../core/will.ts'
import { AWAITED } from '../journal/journal.ts'
import { Deadline } from '../lib/deadline-heap.ts'
import { append } from './append.ts'
import type { Broker, Timed } from './broker.ts'
import { connectionOf, type SessionConnection } from './consumer.ts'
import { consumersOf, ready } from './deliver.ts'
import { attend, unattend } from './group-member.ts'
import { neverDelivered } from './never-delivered.ts'
import { giveBackAll, join, leaveAll, settleGroups } from './shared-groups.ts'
import type { Tracer } from './trace.ts'
import { cancelOrphans, keepWill, triggerWill } from './wills.ts'

/** Characters that the filters of a client may have on the average: a single one may have 65,535. */
const FILTER_CHARS = 256

export interface ConnectRequest {
  vhost: Vhost
  clientId: string
  principal: Principal
  version: number
  cleanStart: boolean
  /** Bounded already; 0: the session ends with the connection. */
  expirySeconds: number
  will: Will | null
  connection: SessionConnection
}

export interface ConnectResult {
  code: 0 | ErrorCode
  session: Session | null
  present: boolean
  /** What CONNACK waits for. */
  ticket: number
}

export function connect(broker: Broker, request: ConnectRequest): ConnectResult {
  const code = refuse(broker, request)
  if (code !== 0) return { code, session: null, present: false, ticket: 0 }
  const { vhost, clientId, will } = request
  let ticket = 0
  let session = vhost.sessions.get(clientId) ?? null
  if (session !== null) {
    takeOver(broker, session, request.cleanStart)
    // What ended with its connection, or is discarded, is gone; else it is resumed [MQTT-3.1.2-4].
    session = vhost.sessions.get(clientId) ?? null
    if (session !== null && request.cleanStart) {
      ticket = endSession(broker, session, 'clean start')
      session = null
    }
  }
  cancelOrphans(broker, vhost.name, clientId, request.principal.name)
  const present = session !== null
  session ??= openSession(broker, request)
  session.version = request.version
  session.connection = request.connection
  ;(vhost.tracer as Tracer | null)?.watch(request.connection)
  session.endsAt = 0
  unscheduleEnd(broker, session)
  session.expirySeconds = request.expirySeconds
  ticket = Math.max(ticket, changeLasting(broker, session, request.expirySeconds > 0))
  if (session.isLasting) ticket = record(broker, session, true)
  const willTicket = keepWill(broker, session, will)
  if (session.isLasting) ticket = Math.max(ticket, willTicket)
  session.ticket = ticket
  return { code: 0, session, present, ticket }
}

function refuse(broker: Broker, request: ConnectRequest): 0 | ErrorCode {
  const { vhost, clientId, principal, will } = request
  const session = vhost.sessions.get(clientId)
  // The client id belongs to the user who opened its session.
  if (session !== undefined && session.user !== principal.name) return ERROR_CODES.clientIdTaken
  if (will !== null && !mayTopic(principal, 'write', will.topic, clientId)) {
    return ERROR_CODES.notAuthorized
  }
  if (broker.isStopping) return ERROR_CODES.shuttingDown
  // Who has a session may come for what waits there, also while the disk is full.
  const isTaken = session !== undefined && !broker.journal.failed
  if (request.expirySeconds > 0 && broker.refusal !== 0 && !isTaken) {
    return broker.refusal as ErrorCode
  }
  // It could be neither resumed nor discarded: a restart would bring it back.
  if (session?.isLasting && broker.journal.failed) return ERROR_CODES.journalFailed
  if (session === undefined && broker.state.queues.size >= broker.limits.queuesMax) {
    return ERROR_CODES.quotaExceeded
  }
  // Those that end with their connection are bounded as connections are.
  const isMore = session === undefined && request.expirySeconds > 0
  if (isMore && broker.state.sessions.size >= broker.limits.sessionsMax) {
    return ERROR_CODES.quotaExceeded
  }
  const { state, limits, nowMs } = broker
  if (will !== null && !broker.willRoom.take(state, will, limits.willBytesMax, nowMs)) {
    return ERROR_CODES.quotaExceeded
  }
  return 0
}

function openSession(broker: Broker, request: ConnectRequest): Session {
  const id = broker.state.nextId++
  const isLasting = request.expirySeconds > 0
  const { vhost, clientId, principal } = request
  const options = sessionQueueOptions(isLasting)
  const queue = new Queue(id, clientId, vhost.name, options, true)
  const session = new Session(id, clientId, vhost.name, principal.name, queue)
  session.isLasting = isLasting
  broker.state.addSession(session)
  return session
}

/** The new connection may make a session last that did not, or the other way round. */
function changeLasting(broker: Broker, session: Session, isLasting: boolean): number {
  if (session.isLasting === isLasting) return 0
  session.isLasting = isLasting
  session.queue.isDurable = isLasting
  broker.state.vhost(session.vhost)?.forgetRoutes()
  const groups = isLasting ? null : giveBackAll(broker, session)
  if (groups === null) return 0
  // First what hangs on it: behind its end nothing may name it.
  keepWill(broker, session, null)
  const ticket = recordEnd(broker, session)
  settleGroups(broker, groups)
  return ticket
}

function takeOver(broker: Broker, session: Session, isDiscarded: boolean): void {
  const old = connectionOf(session)
  if (old === null) {
    // The client came back in time: its will is cancelled, unless the session ends now.
    if (isDiscarded) triggerWill(broker, session, true)
    return
  }
  detach(broker, session, old)
  const endsSession = isDiscarded || session.expirySeconds === 0
  if (endsSession || session.will?.delaySeconds === 0) triggerWill(broker, session, endsSession)
  old.onTakenOver()
  if (session.expirySeconds === 0) endSession(broker, session, 'taken over')
}

/** Takes the connection off its session: what was in flight is to be sent again, in order. */
function detach(broker: Broker, session: Session, connection: SessionConnection): void {
  session.connection = null
  if (session.shared !== null) for (const each of session.shared) unattend(broker, each)
  const consumers = consumersOf(broker, session.queue)
  consumers.remove(connection)
  const { queue } = session
  consumers.letGo()
  // Nothing is open: no need to look.
  if (queue.unackedCount === 0) return
  for (let at = queue.firstOpen(); at !== NOTHING; at = queue.after(at)) {
    if ((queue.flags & ENTRY_STATE) === UNACKED) queue.requeue(at)
    if (at >= queue.lastTaken) break
  }
}

/** After CONNACK was written: PUBRELs first, then what was sent before, then new messages. */
export function resume(broker: Broker, session: Session): void {
  const connection = connectionOf(session)
  if (connection === null) return
  const { queue } = session
  if (queue.unackedCount > 0) {
    for (let at = queue.firstOpen(); at !== NOTHING; at = queue.after(at)) {
      if ((queue.flags & ENTRY_STATE) === RELEASED) connection.resendRelease(at)
      if (at >= queue.lastTaken) break
    }
  }
  const consumers = consumersOf(broker, queue)
  if (!consumers.list.includes(connection)) consumers.add(connection, 0)
  ready(broker, queue)
  if (session.shared !== null) for (const each of session.shared) attend(broker, each)
}

/** The connection ended. `expirySeconds` null: as it was. Ignored when another connection has the session. */
export function disconnect(
  broker: Broker,
  session: Session,
  connection: SessionConnection,
  how: 'disconnect' | 'with-will' | 'lost',
  expirySeconds: number | null
): void {
  if (connectionOf(session) !== connection) return
  detach(broker, session, connection)
  if (expirySeconds !== null && session.expirySeconds > 0) session.expirySeconds = expirySeconds
  const endsSession = session.expirySeconds === 0
  if (how === 'disconnect') keepWill(broker, session, null)
  else if (!broker.isStopping) triggerWill(broker, session, endsSession)
  if (endsSession && !(broker.isStopping && session.will !== null)) {
    endSession(broker, session, 'disconnected')
    return
  }
  if (endsSession) return
  session.endsAt = broker.nowMs + session.expirySeconds * 1_000
  record(broker, session, false)
  scheduleEnd(broker, session)
}

/** One for each session that ever was without a connection. */
const endings = new WeakMap<Session, Deadline<Timed>>()

/** Arms the end of a session without a connection. */
export function scheduleEnd(broker: Broker, session: Session): void {
  let ending = endings.get(session)
  if (ending === undefined) {
    ending = new Deadline<Timed>(new SessionDue(session))
    endings.set(session, ending)
  }
  broker.deadlines.set(ending, session.endsAt)
}

function unscheduleEnd(broker: Broker, session: Session): void {
  const ending = endings.get(session)
  if (ending !== undefined) broker.deadlines.clear(ending)
}

class SessionDue implements Timed {
  readonly #session: Session

  constructor(session: Session) {
    this.#session = session
  }

  onDue(broker: Broker): void {
    triggerWill(broker, this.#session, true)
    broker.counters.sessionsExpired++
    endSession(broker, this.#session, 'expired')
  }
}

/** Ends a session with all that it holds, counted. Returns the ticket of the record. */
export function endSession(broker: Broker, session: Session, reason: string): number {
  const connection = connectionOf(session)
  const hasShared = session.shared !== null || session.queue.moves !== null
  const groups = hasShared ? leaveAll(broker, session) : null
  const waiting = neverDelivered(session.queue)
  if (waiting > 0) broker.counters.drop('session_ended', waiting)
  unscheduleEnd(broker, session)
  broker.state.endSession(session)
  broker.held.delete(session)
  session.connection = null
  connection?.onSessionEnded()
  broker.events.emit('sessionEnded', { clientId: session.clientId, reason })
  const ticket = session.isLasting ? recordEnd(broker, session) : 0
  if (groups !== null) settleGroups(broker, groups)
  return ticket
}

function record(broker: Broker, session: Session, isConnected: boolean): number {
  if (broker.journal.failed) return 0
  writeSession(broker.writer, session, isConnected)
  return append(broker, KIND.session, AWAITED)
}

function recordEnd(broker: Broker, session: Session): number {
  if (broker.journal.failed) return 0
  broker.writer.varint(session.id)
  return append(broker, KIND.sessionEnd, AWAITED)
}

export interface SubscribeRequest {
  qos: number
  noLocal: boolean
  retainAsPublished: boolean
  retainHandling: number
  /** Subscription Identifier; 0 = none. */
  identifier: number
}

/**
 * Returns the granted QoS, or a negated error code. `session.ticket` says what SUBACK waits for; then
 * `replayRetained` sends what the retain handling asks for.
 */
export function subscribe(
  broker: Broker,
  session: Session,
  filter: string,
  request: SubscribeRequest
): number {
  const connection = connectionOf(session)
  const { limits } = broker
  const shared = parseSharedFilter(filter, limits)
  if (shared === 'invalid') return -ERROR_CODES.filterInvalid
  if (shared === null && !isValidFilter(filter, limits)) return -ERROR_CODES.filterInvalid
  if (connection === null) return -ERROR_CODES.notAllowed
  const inner = shared === null ? filter : shared.filter
  if (mayFilter(connection.principal, inner, session.clientId) === 'none') {
    return -ERROR_CODES.notAuthorized
  }
  const isKnown = session.subscriptions.has(filter)
  if (!isKnown) {
    if (session.subscriptions.size >= limits.subscriptionsMax) return -ERROR_CODES.quotaExceeded
    const chars = session.filterChars + filter.length
    if (chars > limits.subscriptionsMax * FILTER_CHARS) return -ERROR_CODES.quotaExceeded
    if (hasWildcard(filter) && session.wildcardCount >= limits.wildcardSubscriptionsMax) {
      return -ERROR_CODES.quotaExceeded
    }
  }
  if (session.isLasting && broker.refusal !== 0 && (!isKnown || broker.journal.failed)) {
    return -broker.refusal
  }
  if (shared !== null) {
    // Nothing that is retained is sent for it (MQTT 5 §4.8.2).
    const code = join(broker, session, filter, request)
    return code < 0 ? code : request.qos
  }
  const isNew = broker.state.subscribe(session, filter, request)
  const { retainHandling } = request
  const wantsReplay = retainHandling === 0 || (retainHandling === 1 && isNew)
  const subscription = session.subscriptions.get(filter)!
  subscription.wantsReplay = wantsReplay
  subscription.retainedBefore = broker.state.retainedSequence
  if (session.isLasting) {
    writeSubscription(broker.writer, session.id, filter, request)
    session.ticket = append(broker, KIND.subscribe, AWAITED)
  }
  return request.qos
}

/** Returns whether there was one. `session.ticket` says what UNSUBACK waits for. */
export function unsubscribe(broker: Broker, session: Session, filter: string): boolean {
  const subscription = session.subscriptions.get(filter)
  if (subscription === undefined) return false
  const group = broker.state.groups.get(subscription.groupId) ?? null
  if (group !== null) unattend(broker, subscription)
  broker.state.unsubscribe(session, filter)
  if (session.isLasting) {
    // Also behind a failed journal: its ticket never becomes durable, so no UNSUBACK leaves.
    writeUnsubscribe(broker.writer, session.id, filter)
    session.ticket = append(broker, KIND.unsubscribe, AWAITED)
  }
  // What it has begun to get it gets to the end [MQTT-3.10.4-3].
  if (group !== null) settleGroups(broker, new Set([group]))
  return true
}
