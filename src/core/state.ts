/**
 * All that lasts, and how it changes. The live path and replay call the same methods here: what a
 * record says is applied in one way only (journal.md §3). Nothing here decides: limits, clocks and
 * permissions are asked before, by the broker, and the outcome is what gets recorded.
 */
import { Deduplication, type KeyCache } from './deduplication.ts'
import type { DelayStore } from './delay-store.ts'
import { Delays } from './delays.ts'
import { InboundIds } from './inbound-ids.ts'
import { Exchange } from './exchange.ts'
import type { FieldTable } from './field-table.ts'
import type { Liveness } from './liveness.ts'
import type { Move } from './move.ts'
import type { User } from './principal.ts'
import { isUpperLevel, type Queue } from './queue.ts'
import { QueueContents } from './queue-contents.ts'
import { shareOf } from './queue-entry.ts'
import type { RetainedSlot } from './retained.ts'
import { type Session, type SubscribeOptions, Subscription } from './session.ts'
import type { SharedGroup } from './shared-group.ts'
import { hasWildcard } from './topic.ts'
import { DEFAULT_VHOST, Vhost } from './vhost.ts'
import type { Will } from './will.ts'

/** The will of a session that ended with its connection: all that is left of it after a crash. */
export interface OrphanWill {
  readonly sessionId: number
  readonly clientId: string
  readonly vhost: string
  readonly user: string
  readonly will: Will
}

export class State extends QueueContents {
  readonly vhosts: Map<string, Vhost>
  readonly queues: Map<number, Queue>
  readonly sessions: Map<number, Session>
  /** Shared groups, by their queue's id. */
  readonly groups: Map<number, SharedGroup>
  readonly delays: Delays
  readonly deduplication: Deduplication
  readonly users: Map<string, User>
  readonly orphanWills: Map<number, OrphanWill>
  /** The next id of a queue or session: never used twice, also over restarts. */
  nextId: number
  retainedSequence: number
  /** At replay: the record that was applied last says that the broker stopped in order. */
  hasStopped: boolean

  constructor(liveness: Liveness) {
    super(liveness)
    this.vhosts = new Map([[DEFAULT_VHOST, new Vhost(DEFAULT_VHOST)]])
    this.queues = new Map()
    this.sessions = new Map()
    this.groups = new Map()
    this.delays = new Delays(liveness)
    this.deduplication = new Deduplication()
    this.users = new Map()
    this.orphanWills = new Map()
    this.nextId = 1
    this.retainedSequence = 0
    this.hasStopped = false
  }

  vhost(name: string): Vhost | null {
    return this.vhosts.get(name) ?? null
  }

  addVhost(vhost: Vhost): void {
    this.vhosts.set(vhost.name, vhost)
  }

  queueOf(id: number): Queue | null {
    if (id >= this.nextId) this.nextId = id + 1
    return this.queues.get(id) ?? null
  }

  delayOf(id: number): DelayStore | null {
    if (id >= this.nextId) this.nextId = id + 1
    return this.delays.stores.get(id) ?? null
  }

  cacheOf(id: number): KeyCache | null {
    if (id >= this.nextId) this.nextId = id + 1
    return this.deduplication.caches.get(id) ?? null
  }

  /** Enters a queue under its id, and under its name unless it is a session's. */
  addQueue(queue: Queue): void {
    if (queue.id >= this.nextId) this.nextId = queue.id + 1
    this.queues.set(queue.id, queue)
    const vhost = this.vhosts.get(queue.vhost)
    if (queue.isSession || vhost === undefined || isUpperLevel(queue)) return
    vhost.queues.set(queue.name, queue)
    vhost.queueChanged(queue.name)
  }

  /** Enters a level of a queue with priorities; null: it is there, or cannot be. */
  addLevel(owner: Queue, id: number, priority: number): Queue | null {
    const level = this.queues.has(id) ? null : (owner.levels?.add(id, priority) ?? null)
    if (level !== null) this.addQueue(level)
    return level
  }

  /** Ends a queue with its bindings and all that it holds. */
  removeQueue(named: Queue): void {
    const queue = named.levels === null ? named : named.levels.owner
    queue.isDeleted = true
    queue.life?.end()
    this.queues.delete(queue.id)
    const vhost = this.vhosts.get(queue.vhost)
    if (vhost !== undefined && !queue.isSession) {
      if (vhost.queues.get(queue.name) === queue) vhost.queues.delete(queue.name)
      vhost.queueChanged(queue.name)
      for (const exchange of vhost.bound.take(queue)) {
        vhost.bindingCount -= exchange.unbindAll(queue).length
        vhost.noteUnbound(exchange)
      }
    }
    this.releaseAll(queue)
    if (queue.options.deduplicates) this.deduplication.end(queue.id)
    if (queue.levels === null) return
    for (const level of queue.levels.used) {
      if (level === queue) continue
      level.isDeleted = true
      level.life?.end()
      this.queues.delete(level.id)
      this.releaseAll(level)
    }
  }

  addSession(session: Session): void {
    this.addQueue(session.queue)
    this.sessions.set(session.id, session)
    this.vhosts.get(session.vhost)?.sessions.set(session.clientId, session)
  }

  /** Ends a session with its subscriptions and its queue. */
  endSession(session: Session): void {
    const vhost = this.vhosts.get(session.vhost)
    for (const subscription of session.subscriptions.values()) {
      if (subscription.groupId !== 0) this.#leave(subscription)
      else vhost?.topicExchange.unsubscribe(subscription.filter, subscription)
    }
    session.subscriptions.clear()
    session.shared = null
    if (vhost?.sessions.get(session.clientId) === session) vhost.sessions.delete(session.clientId)
    this.sessions.delete(session.id)
    this.removeQueue(session.queue)
  }

  /** Enters a subscription or replaces its options [MQTT-3.8.4-3]. Returns whether it was new. */
  subscribe(session: Session, filter: string, options: SubscribeOptions): boolean {
    const exchange = this.vhosts.get(session.vhost)!.topicExchange
    const old = session.subscriptions.get(filter)
    if (old !== undefined) {
      // Taken out and put in again: so routes that are remembered learn of the new options.
      exchange.unsubscribe(filter, old)
      replaceOptions(old, options)
      exchange.subscribe(filter, old)
      return false
    }
    const subscription = new Subscription(session, filter, options)
    enterSubscription(session, subscription)
    exchange.subscribe(filter, subscription)
    return true
  }

  addGroup(group: SharedGroup): void {
    if (group.id >= this.nextId) this.nextId = group.id + 1
    this.queues.set(group.id, group.queue)
    this.groups.set(group.id, group)
    this.vhosts.get(group.vhost)?.groups.set(group.text, group)
  }

  /** Ends a group without members, with all that it holds. */
  removeGroup(group: SharedGroup): void {
    this.groups.delete(group.id)
    const vhost = this.vhosts.get(group.vhost)
    if (vhost?.groups.get(group.text) === group) vhost.groups.delete(group.text)
    vhost?.topicExchange.unsubscribe(group.filter, group)
    this.removeQueue(group.queue)
    group.queue.moves = null
  }

  /** Makes a session a member of a group, or replaces its options. Returns whether it was new. */
  joinGroup(session: Session, group: SharedGroup, options: SubscribeOptions): boolean {
    const old = group.members.get(session)
    if (old !== undefined) {
      replaceOptions(old, options)
      return false
    }
    const subscription = new Subscription(session, group.text, options, group.id)
    enterSubscription(session, subscription)
    if (session.shared === null) session.shared = [subscription]
    else session.shared.push(subscription)
    group.members.set(session, subscription)
    this.enterGroup(group)
    return true
  }

  #leave(subscription: Subscription): void {
    const group = this.groups.get(subscription.groupId)
    if (group === undefined) return
    group.members.delete(subscription.session)
    this.enterGroup(group)
  }

  /** Its members have changed, or whether it lasts: routes that are remembered learn of it. */
  enterGroup(group: SharedGroup): void {
    const exchange = this.vhosts.get(group.vhost)!.topicExchange
    exchange.unsubscribe(group.filter, group)
    if (group.takerCount > 0) exchange.subscribe(group.filter, group)
  }

  /**
   * A message leaves its group's queue for a member's. `segment`, `offset`, `bytes` and `flags` are the new
   * entry's, segment 0: the session's own records tell of it. At replay one of the two queues may not be known
   * yet: then it brings what belongs there itself. False: neither is.
   */
  move(move: Move, segment: number, offset: number, bytes: number, flags: number): boolean {
    const from = this.queueOf(move.groupId)
    const to = this.queueOf(move.sessionId)
    if (to !== null) {
      if (segment !== 0) this.insertEntry(to, move.sequence, segment, offset, bytes, flags)
      this.link(to, move.sequence, move)
    }
    if (from === null) return to !== null
    this.settleEntry(from, move.groupSequence)
    this.link(from, move.groupSequence, move)
    return true
  }

  /** What was moved goes back to its old place; `flags` are those of the group's entry. */
  moveBack(move: Move, segment: number, offset: number, bytes: number, flags: number): boolean {
    const from = this.queueOf(move.groupId)
    const to = this.queueOf(move.sessionId)
    if (from !== null) {
      this.insertEntry(from, move.groupSequence, segment, offset, bytes, flags)
      from.moves?.delete(move.groupSequence)
    }
    if (to === null) return from !== null
    this.settleEntry(to, move.sequence)
    to.moves?.delete(move.sequence)
    return true
  }

  link(queue: Queue, sequence: number, move: Move): void {
    queue.moves ??= new Map()
    queue.moves.set(sequence, move)
  }

  /** A message that was moved or lent is finished: neither end knows of it any more. */
  unlink(move: Move): void {
    this.queues.get(move.sessionId)?.moves?.delete(move.sequence)
    this.queues.get(move.groupId)?.moves?.delete(move.groupSequence)
  }

  unsubscribe(session: Session, filter: string): boolean {
    const subscription = session.subscriptions.get(filter)
    if (subscription === undefined) return false
    session.subscriptions.delete(filter)
    if (hasWildcard(filter)) session.wildcardCount--
    session.filterChars -= filter.length
    if (subscription.groupId !== 0) {
      const left = session.shared!.filter(each => each !== subscription)
      session.shared = left.length === 0 ? null : left
      this.#leave(subscription)
      return true
    }
    this.vhosts.get(session.vhost)!.topicExchange.unsubscribe(filter, subscription)
    return true
  }

  openInbound(sessionId: number, packetId: number, ticket: number): boolean {
    const session = this.sessions.get(sessionId)
    if (session === undefined) return false
    session.inbound ??= new InboundIds()
    session.inbound.set(packetId, ticket)
    return true
  }

  /** The will of a session, whether that is still there or not, is no more. False: there was none. */
  clearWill(sessionId: number): boolean {
    const session = this.sessions.get(sessionId)
    if (session === undefined) return this.orphanWills.delete(sessionId)
    const had = session.will !== null
    session.will = null
    return this.orphanWills.delete(sessionId) || had
  }

  closeInbound(sessionId: number, packetId: number): boolean {
    return this.sessions.get(sessionId)?.inbound?.delete(packetId) ?? false
  }

  setRetained(vhostName: string, slot: RetainedSlot): void {
    if (slot.sequence > this.retainedSequence) this.retainedSequence = slot.sequence
    const retained = this.vhosts.get(vhostName)?.retained
    if (retained === undefined) return
    const old = retained.get(slot.topic)
    if (old !== null && old.sequence > slot.sequence) return
    retained.set(slot)
    this.liveness.claim(slot.segment, shareOf(slot.bytes, slot.flags))
    if (old !== null) this.liveness.release(old.segment, shareOf(old.bytes, old.flags))
  }

  /** Returns whether there was one. */
  clearRetained(vhostName: string, topic: string): boolean {
    const old = this.vhosts.get(vhostName)?.retained.clear(topic) ?? null
    if (old === null) return false
    this.liveness.release(old.segment, shareOf(old.bytes, old.flags))
    return true
  }

  /** Enters or removes a binding. Returns whether that changed anything. */
  changeBinding(
    vhost: Vhost,
    source: Exchange,
    target: Queue | Exchange,
    key: string,
    table: FieldTable,
    isBind: boolean
  ): boolean {
    const isChanged = isBind ? source.bind(target, key, table) : source.unbind(target, key, table)
    if (!isChanged) return false
    vhost.bindingCount += isBind ? 1 : -1
    const isQueue = !(target instanceof Exchange)
    if (isBind) {
      if (isQueue) vhost.bound.add(target, source)
      return true
    }
    if (isQueue && !source.isBoundTo(target)) vhost.bound.remove(target, source)
    vhost.noteUnbound(source)
    return true
  }

  addExchange(vhostName: string, exchange: Exchange): void {
    this.vhosts.get(vhostName)?.addExchange(exchange)
    const { delay, cache } = exchange
    if (cache !== null) {
      if (cache.id >= this.nextId) this.nextId = cache.id + 1
      this.deduplication.caches.set(cache.id, cache)
    }
    if (delay === null) return
    if (delay.id >= this.nextId) this.nextId = delay.id + 1
    this.delays.stores.set(delay.id, delay)
  }

  /** Ends an exchange with its bindings, also those of others to it. */
  removeExchange(vhostName: string, exchange: Exchange): void {
    const vhost = this.vhosts.get(vhostName)
    if (vhost === undefined) return
    const removed = exchange.detach()
    vhost.bindingCount -= removed.length
    for (const { queue, source } of removed) {
      if (queue !== null) vhost.bound.remove(queue, exchange)
      else if (source !== exchange) vhost.noteUnbound(source)
    }
    vhost.deleteExchange(exchange)
    if (exchange.delay !== null) this.delays.remove(exchange.delay)
    if (exchange.cache !== null) this.deduplication.end(exchange.cache.id)
  }
}

function replaceOptions(subscription: Subscription, options: SubscribeOptions): void {
  subscription.qos = options.qos
  subscription.noLocal = options.noLocal
  subscription.retainAsPublished = options.retainAsPublished
  subscription.retainHandling = options.retainHandling
  subscription.identifier = options.identifier
}

function enterSubscription(session: Session, subscription: Subscription): void {
  const { filter } = subscription
  session.subscriptions.set(filter, subscription)
  if (hasWildcard(filter)) session.wildcardCount++
  session.filterChars += filter.length
}
