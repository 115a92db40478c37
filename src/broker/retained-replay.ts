/**
 * Retained messages to a new subscription (MQTT 5 §3.3.1.3, §3.8.3.1): the values of the moment of
 * sending, in bounded pieces, no faster than the client takes them. A topic whose live message this
 * subscription got meanwhile is left out.
 */
import { ENTRY_QOS_SHIFT, ENTRY_RETAIN, UNACKED } from '../core/queue-entry.ts'
import { entryFlags } from '../core/records/message.ts'
import { KIND } from '../core/records/kinds.ts'
import { writeRetainedClear } from '../core/records/retained.ts'
import { FORM_MQTT, type Message } from '../core/message.ts'
import type { RetainedSlot } from '../core/retained.ts'
import type { Session, Subscription } from '../core/session.ts'
import type { TopicCursor, TopicEntry } from '../core/topic-tree.ts'
import type { Vhost } from '../core/vhost.ts'
import { type BlockWaiter, LAZY } from '../journal/journal.ts'
import { append } from './append.ts'
import { DAMAGED, load, NOT_LOADED, view } from './bodies.ts'
import type { Broker, TurnTask } from './broker.ts'
import { connectionOf, DELIVER_RETAIN, type SessionConnection } from './consumer.ts'
import { makeRoom } from './overflow.ts'
import { mayRead } from './routing.ts'
import { store } from './store.ts'
import { targets } from './targets.ts'

/** Topics of one replay in one turn. */
const PIECE = 64
/** A client that takes nothing now is asked again after this. */
const RETRY_MS = 20
/** More than this waits in the session's queue: its client is slow. */
const BACKLOG_MAX = 256

/** The replays of a session run one after the other: here, by filter, those behind the one that runs. */
const waiting = new WeakMap<Session, Map<string, RetainedReplay>>()

/** Call after SUBACK has left; `subscribe` has said whether the subscription wants them. */
export function replayRetained(broker: Broker, session: Session, filter: string): void {
  const subscription = session.subscriptions.get(filter)
  const connection = connectionOf(session)
  const vhost = broker.state.vhost(session.vhost)
  if (subscription === undefined || connection === null || vhost === null) return
  if (!subscription.wantsReplay) return
  subscription.wantsReplay = false
  if (filter.startsWith('$SYS')) {
    broker.sys?.replay(session, subscription)
    return
  }
  if (vhost.retained.count === 0) return
  const replay = new RetainedReplay(broker, vhost, session, connection, subscription)
  const behind = waiting.get(session)
  if (behind === undefined) {
    waiting.set(session, new Map())
    replay.step()
    return
  }
  // One a filter: whoever subscribes faster than it is sent makes nothing grow.
  behind.set(filter, replay)
  if (behind.size > 2 * broker.limits.subscriptionsMax) {
    for (const [each, old] of behind) if (!old.isWanted) behind.delete(each)
  }
}

const OFFERED = 0
const BUSY = 1
/** It goes on by itself: a block is being read, or a value is on its way to the disk. */
const LATER = 2

class RetainedReplay implements BlockWaiter, TurnTask {
  readonly #broker: Broker
  readonly #vhost: Vhost
  readonly #session: Session
  readonly #connection: SessionConnection
  readonly #subscription: Subscription
  /** What was retained later came as a live message. */
  readonly #before: number
  #cursor: TopicCursor<RetainedSlot> | null
  #isEnded: boolean
  #entries: TopicEntry<RetainedSlot>[]
  #at: number

  constructor(
    broker: Broker,
    vhost: Vhost,
    session: Session,
    connection: SessionConnection,
    subscription: Subscription
  ) {
    this.#broker = broker
    this.#vhost = vhost
    this.#session = session
    this.#connection = connection
    this.#subscription = subscription
    this.#before = subscription.retainedBefore
    this.#cursor = null
    this.#isEnded = false
    this.#entries = []
    this.#at = 0
  }

  onBlock(_segment: number, _offset: number, ok: boolean): void {
    if (!ok) this.#at++
    this.step()
  }

  /** After a sync. */
  onTurnEnd(): void {
    this.step()
  }

  /** Its connection and its subscription are there. */
  get isWanted(): boolean {
    const { subscriptions, connection } = this.#session
    return (
      connection === this.#connection &&
      subscriptions.get(this.#subscription.filter) === this.#subscription
    )
  }

  /** One piece. */
  step(): void {
    const { isWanted } = this
    for (let left = PIECE; left > 0 && isWanted; left--) {
      if (this.#at >= this.#entries.length && !this.#more()) {
        this.#end()
        return
      }
      if (this.#at >= this.#entries.length) continue
      const outcome = this.#offer(this.#entries[this.#at]!)
      if (outcome === LATER) return
      if (outcome === BUSY) {
        setTimeout(step, RETRY_MS, this).unref()
        return
      }
      this.#at++
    }
    if (isWanted) setImmediate(step, this)
    else this.#end()
  }

  /** Collects the next topics. False: that was all. */
  #more(): boolean {
    if (this.#isEnded) return false
    this.#entries = []
    this.#at = 0
    const { tree } = this.#vhost.retained
    this.#cursor = tree.collect(this.#subscription.filter, this.#cursor, PIECE, this.#entries)
    if (this.#cursor === null) this.#isEnded = true
    return !this.#isEnded || this.#entries.length > 0
  }

  #end(): void {
    const behind = waiting.get(this.#session)
    if (behind === undefined) return
    for (const [filter, next] of behind) {
      behind.delete(filter)
      setImmediate(step, next)
      return
    }
    waiting.delete(this.#session)
  }

  #offer(entry: TopicEntry<RetainedSlot>): number {
    const slot = entry.value
    const broker = this.#broker
    if (slot === null || slot.sequence > this.#before) return OFFERED
    if (this.#vhost.retained.get(slot.topic) !== slot) return OFFERED
    // Seen by a new subscriber, lost in a crash, and the older value is back: no reader may see that.
    if (slot.ticket > broker.journal.durableTicket) {
      // Once the journal has failed it never will be: what the restart finds is the value.
      if (broker.journal.failed) return OFFERED
      broker.untilDurable.add(this)
      return LATER
    }
    if (!mayRead(broker, this.#vhost, this.#session, slot.topic)) return OFFERED
    const found = view(broker, slot.segment, slot.offset)
    if (found === NOT_LOADED) {
      load(broker, slot.segment, slot.offset, this)
      return LATER
    }
    if (found === DAMAGED) return OFFERED
    if (broker.stored.expiresAt > 0 && broker.stored.expiresAt <= broker.nowMs) {
      clearExpired(broker, this.#vhost, slot.topic)
      return OFFERED
    }
    if (broker.stored.form === FORM_MQTT) broker.stored.key = slot.topic
    return this.#send(broker.stored)
  }

  #send(message: Message): number {
    const { qos: granted, identifier } = this.#subscription
    const identifiers = identifier === 0 ? null : [identifier]
    const session = this.#session
    const queue = session.queue
    const qos = Math.min(granted, message.qos)
    if (qos === 0) {
      return this.#connection.deliverDirect(message, true, identifiers) ? OFFERED : BUSY
    }
    if (!session.isLasting) {
      if (queue.readyCount > 0 || !this.#connection.hasCredit()) return BUSY
      if (session.isPacketIdOpen(queue.nextSequence)) return BUSY
      const sequence = queue.push(0, 0, 0, UNACKED | (qos << ENTRY_QOS_SHIFT) | ENTRY_RETAIN)
      this.#connection.deliver(message, queue, sequence, qos | DELIVER_RETAIN, identifiers)
      return OFFERED
    }
    const broker = this.#broker
    if (queue.readyCount > BACKLOG_MAX || broker.refusal !== 0) return BUSY
    const copy = copyOf(message)
    copy.isAwaited = qos === 2
    const { sessionMessagesMax, sessionBytesMax } = broker.limits
    makeRoom(broker, queue, copy.source.length, sessionMessagesMax, sessionBytesMax)
    targets.clear()
    targets.add(
      queue,
      entryFlags(qos, true, identifiers !== null, copy.expiresAt > 0),
      true,
      identifiers
    )
    store(broker, copy, null, null, false)
    return OFFERED
  }
}

function step(replay: RetainedReplay): void {
  replay.step()
}

/** The view of a stored message does not outlast the next record: a copy does. */
function copyOf(message: Message): Message {
  const copy = message.copy()
  copy.retain = true
  return copy
}

function clearExpired(broker: Broker, vhost: Vhost, topic: string): void {
  if (broker.journal.failed || !broker.state.clearRetained(vhost.name, topic)) return
  writeRetainedClear(broker.writer, vhost.name, topic)
  append(broker, KIND.retainedClear, LAZY)
}
