/**
 * Wills: kept on the disk while their client is connected, published when it is lost (MQTT 5 §3.1.2.5).
 *
 * After our own stop or crash they wait their delay and 30 seconds more: our restart is no client's
 * failure; a client that comes back meanwhile cancels its will (design.md §4).
 */
import { ERROR_CODES } from '../core/errors.ts'
import { FORM_MQTT, Message } from '../core/message.ts'
import { KIND } from '../core/records/kinds.ts'
import { writeWill } from '../core/records/session.ts'
import type { Session } from '../core/session.ts'
import type { OrphanWill } from '../core/state.ts'
import type { Will } from '../core/will.ts'
import { AWAITED, LAZY } from '../journal/journal.ts'
import { Deadline } from '../lib/deadline-heap.ts'
import { append } from './append.ts'
import type { Broker, Timed } from './broker.ts'
import { OwnPublisher } from './own-publisher.ts'
import { publishOwn } from './publish.ts'

/** Records a session's will. Returns its ticket. */
export function keepWill(broker: Broker, session: Session, will: Will | null): number {
  const had = session.will !== null
  session.will = will
  if (had && (will === null || will.dueAt === 0)) {
    const deadline = waiting.get(session)
    if (deadline !== undefined) broker.deadlines.clear(deadline)
  }
  if (broker.journal.failed) return 0
  if (will !== null) {
    writeWill(broker.writer, session.id, session.clientId, session.vhost, session.user, will)
    return append(broker, KIND.will, session.isLasting ? AWAITED : LAZY)
  }
  if (!had) return 0
  broker.writer.varint(session.id)
  return append(broker, KIND.willClear, LAZY)
}

/** The client is lost: its will is published now, or after its delay. */
export function triggerWill(broker: Broker, session: Session, endsSession: boolean): void {
  const { will } = session
  if (will === null) return
  if (endsSession || will.delaySeconds === 0) {
    publishKept(broker, session, will)
    return
  }
  will.dueAt = broker.nowMs + will.delaySeconds * 1_000
  keepWill(broker, session, will)
  scheduleWill(broker, session)
}

/** A will that the disk's alarm holds up is tried again after this. */
const ALARM_RETRY_MS = 1_000

/** One for each session whose will ever waited. */
const waiting = new WeakMap<Session, Deadline<Timed>>()

/** Arms the deadline of a will that waits. */
export function scheduleWill(broker: Broker, session: Session): void {
  const { will } = session
  if (will === null || will.dueAt === 0) return
  let deadline = waiting.get(session)
  if (deadline === undefined) {
    deadline = new Deadline<Timed>(new WillDue(session))
    waiting.set(session, deadline)
  }
  broker.deadlines.set(deadline, will.dueAt)
}

class WillDue implements Timed {
  readonly #session: Session

  constructor(session: Session) {
    this.#session = session
  }

  onDue(broker: Broker): void {
    const session = this.#session
    const { will } = session
    // The client came back, or the session ended and took its will with it.
    if (will === null || will.dueAt === 0) return
    publishKept(broker, session, will)
  }
}

function publishKept(broker: Broker, session: Session, will: Will): void {
  session.will = null
  const deadline = waiting.get(session)
  if (deadline !== undefined) broker.deadlines.clear(deadline)
  const { id: sessionId, vhost, user, clientId } = session
  publishOrWait(broker, { sessionId, vhost, user, clientId, will })
}

/** A will without its session: that ended, was found at a start, or the disk was full when it was due. */
export class OrphanWillDue implements Timed {
  readonly #orphan: OrphanWill

  constructor(orphan: OrphanWill) {
    this.#orphan = orphan
  }

  onDue(broker: Broker): void {
    if (!broker.state.orphanWills.delete(this.#orphan.sessionId)) return
    publishOrWait(broker, this.#orphan)
  }
}

/** While the disk's alarm is up nothing that lasts is taken, wills neither: they wait. */
function publishOrWait(broker: Broker, orphan: OrphanWill): void {
  if (publishWill(broker, orphan) !== -ERROR_CODES.diskAlarm) return
  broker.state.orphanWills.set(orphan.sessionId, orphan)
  const due = broker.nowMs + ALARM_RETRY_MS
  broker.deadlines.set(new Deadline<Timed>(new OrphanWillDue(orphan)), due)
}

/** The client of a will that was left over from before the start is back: no will. */
export function cancelOrphans(broker: Broker, vhost: string, clientId: string, user: string): void {
  for (const orphan of broker.state.orphanWills.values()) {
    if (orphan.vhost !== vhost || orphan.clientId !== clientId || orphan.user !== user) continue
    broker.state.orphanWills.delete(orphan.sessionId)
    recordClear(broker, orphan.sessionId)
  }
}

function recordClear(broker: Broker, sessionId: number): void {
  if (broker.journal.failed) return
  broker.writer.varint(sessionId)
  append(broker, KIND.willClear, LAZY)
}

/** Returns what `publish` does. The will's record is ended by the message's, or by one of its own. */
function publishWill(broker: Broker, orphan: OrphanWill): number {
  const { sessionId, vhost: vhostName, user, clientId, will } = orphan
  const vhost = broker.state.vhost(vhostName)
  if (vhost === null) return 0
  const key = Buffer.from(will.topic)
  const message = new Message()
  message.renew()
  const source = Buffer.concat([key, will.properties, will.payload])
  message.compose(source, will.topic, key.length, key.length + will.properties.length)
  message.form = FORM_MQTT
  message.qos = will.qos
  message.retain = will.retain
  message.recordEnds = sessionId
  // By no local its own client does not get it [MQTT-3.8.3-3].
  message.publisherId = sessionId
  // An expiry of 0 means: only to who is there now.
  if (will.expirySeconds >= 0) {
    message.expiresAt = broker.nowMs + Math.max(will.expirySeconds * 1_000, 1)
  }
  const result = publishOwn(broker, message, new OwnPublisher(vhost, clientId, user))
  if (result === -ERROR_CODES.diskAlarm) return result
  if (result < 0 && result !== -ERROR_CODES.queueFull) {
    broker.log.warn({ clientId, topic: will.topic, code: -result }, 'a will was not taken')
  }
  if (message.recordEnds !== 0) recordClear(broker, sessionId)
  return result
}
