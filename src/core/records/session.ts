/** Records of sessions, their subscriptions and wills. */
import type { ByteWriter } from '../../lib/byte-writer.ts'
import type { BytesReader } from '../../lib/bytes-reader.ts'
import { Queue } from '../queue.ts'
import { sessionQueueOptions } from '../queue-options.ts'
import { Session, type SubscribeOptions } from '../session.ts'
import type { State } from '../state.ts'
import { Will } from '../will.ts'

const CONNECTED = 1

/** A lasting session as it is; what it holds stands in records of its own. */
export function writeSession(writer: ByteWriter, session: Session, isConnected: boolean): void {
  writer.varint(session.id)
  writer.shortString(session.vhost)
  writer.longString(session.clientId)
  writer.longString(session.user)
  writer.u8(isConnected ? CONNECTED : 0)
  writer.u8(session.version)
  writer.varint(session.expirySeconds)
  writer.f64(session.endsAt)
  writer.varint(session.queue.nextSequence)
  writer.varint(session.queue.lastTaken)
}

/**
 * A session that is there already keeps all that it holds: a checkpoint that is not the one that replay
 * began with may be cut off before what follows in it.
 */
export function applySession(state: State, reader: BytesReader): boolean {
  const id = reader.varint()
  const vhost = reader.shortString()
  const clientId = reader.longString()
  const user = reader.longString()
  const flags = reader.u8()
  const version = reader.u8()
  const expirySeconds = reader.varint()
  const endsAt = reader.f64()
  const nextSequence = reader.varint()
  const lastTaken = reader.varint()
  let session = state.sessions.get(id)
  if (session === undefined) {
    if (id < 1 || state.vhost(vhost) === null || state.queues.has(id)) return false
    const queue = new Queue(id, clientId, vhost, sessionQueueOptions(true), true)
    session = new Session(id, clientId, vhost, user, queue)
    session.isLasting = true
    queue.nextSequence = nextSequence
    state.addSession(session)
    const orphan = state.orphanWills.get(id)
    // Its will was written behind a checkpoint's begin, before the session itself.
    if (orphan !== undefined) session.will = orphan.will
    state.orphanWills.delete(id)
  }
  if (nextSequence > session.queue.nextSequence) session.queue.nextSequence = nextSequence
  if (lastTaken > session.queue.lastTaken) session.queue.lastTaken = lastTaken
  session.version = version
  session.expirySeconds = expirySeconds
  session.endsAt = endsAt
  session.wasConnected = (flags & CONNECTED) !== 0
  return true
}

export function applySessionEnd(state: State, reader: BytesReader): boolean {
  const session = state.sessions.get(reader.varint())
  if (session === undefined) return false
  state.endSession(session)
  return true
}

export function writeSubscription(
  writer: ByteWriter,
  sessionId: number,
  filter: string,
  options: SubscribeOptions
): void {
  writer.varint(sessionId)
  writer.longString(filter)
  writeOptions(writer, options)
}

export function writeOptions(writer: ByteWriter, options: SubscribeOptions): void {
  writer.u8(
    options.qos |
      (options.noLocal ? 4 : 0) |
      (options.retainAsPublished ? 8 : 0) |
      (options.retainHandling << 4)
  )
  writer.varint(options.identifier)
}

export function readOptions(reader: BytesReader): SubscribeOptions {
  const flags = reader.u8()
  return {
    qos: flags & 3,
    noLocal: (flags & 4) !== 0,
    retainAsPublished: (flags & 8) !== 0,
    retainHandling: (flags >> 4) & 3,
    identifier: reader.varint()
  }
}

export function applySubscribe(state: State, reader: BytesReader): boolean {
  const session = state.sessions.get(reader.varint())
  const filter = reader.longString()
  const options = readOptions(reader)
  if (session === undefined) return false
  state.subscribe(session, filter, options)
  return true
}

export function writeUnsubscribe(writer: ByteWriter, sessionId: number, filter: string): void {
  writer.varint(sessionId)
  writer.longString(filter)
}

export function applyUnsubscribe(state: State, reader: BytesReader): boolean {
  const session = state.sessions.get(reader.varint())
  const filter = reader.longString()
  return session !== undefined && state.unsubscribe(session, filter)
}

/** The will of a session, lasting or not, with all that is needed to publish it without the session. */
export function writeWill(
  writer: ByteWriter,
  sessionId: number,
  clientId: string,
  vhost: string,
  user: string,
  will: Will
): void {
  writer.varint(sessionId)
  writer.longString(clientId)
  writer.shortString(vhost)
  writer.longString(user)
  writer.longString(will.topic)
  writer.longBytes(will.payload)
  writer.longBytes(will.properties)
  writer.u8(will.qos | (will.retain ? 4 : 0))
  writer.varint(will.expirySeconds + 1)
  writer.varint(will.delaySeconds)
  writer.f64(will.dueAt)
}

export function applyWill(state: State, reader: BytesReader): boolean {
  const sessionId = reader.varint()
  const clientId = reader.longString()
  const vhost = reader.shortString()
  const user = reader.longString()
  const topic = reader.longString()
  const payload = Buffer.from(reader.longBytes())
  const properties = Buffer.from(reader.longBytes())
  const flags = reader.u8()
  const will = new Will({
    topic,
    payload,
    properties,
    qos: flags & 3,
    retain: (flags & 4) !== 0,
    expirySeconds: reader.varint() - 1,
    delaySeconds: reader.varint()
  })
  will.dueAt = reader.f64()
  if (sessionId >= state.nextId) state.nextId = sessionId + 1
  const session = state.sessions.get(sessionId)
  if (session !== undefined) session.will = will
  else state.orphanWills.set(sessionId, { sessionId, clientId, vhost, user, will })
  return true
}

export function applyWillClear(state: State, reader: BytesReader): boolean {
  return state.clearWill(reader.varint())
}
