/**
 * The checkpoint's pass over all that lasts: every object a record of its own, in bounded pieces
 * between turns while traffic goes on. A record says what is true at its place in the log, and never
 * takes anything away: a pass may be cut off anywhere, and replay begin at the one before. What comes or
 * goes during the pass has records of its own.
 */
import type { Binding, Exchange } from '../core/exchange.ts'
import type { KeyCache, QueueKeys } from '../core/deduplication.ts'
import type { DelayStore } from '../core/delay-store.ts'
import type { Move } from '../core/move.ts'
import { isUpperLevel, type PriorityLevels, type Queue } from '../core/queue.ts'
import { writeCounters } from '../core/records/counters.ts'
import { KEYS_IN_RECORD, writeCacheKeys, writeQueueKeys } from '../core/records/deduplication.ts'
import { writeDelays } from '../core/records/delay.ts'
import {
  writeBinding,
  writeExchange,
  writeQueue,
  writeQueueLevel
} from '../core/records/definitions.ts'
import { writeHeldOf } from '../core/records/held.ts'
import { KIND } from '../core/records/kinds.ts'
import { writePolicy } from '../core/records/policy.ts'
import { writeCold, writeEntries } from '../core/records/queue-entries.ts'
import { writeRetained } from '../core/records/retained.ts'
import { writeSession, writeSubscription, writeWill } from '../core/records/session.ts'
import { writeInbound } from '../core/records/settle.ts'
import { writeGroup, writeMember, writeMove } from '../core/records/shared-group.ts'
import { writeUser } from '../core/records/user.ts'
import { writeVhost } from '../core/records/vhost.ts'
import type { Session } from '../core/session.ts'
import type { SharedGroup } from '../core/shared-group.ts'
import { DEFAULT_VHOST, type Vhost } from '../core/vhost.ts'
import { LAZY } from '../journal/journal.ts'
import { append } from './append.ts'
import type { Broker } from './broker.ts'
import { connectionOf } from './consumer.ts'

/** Bytes of records in one piece, about. */
export const CHECKPOINT_PIECE_BYTES = 64 * 1024
/** What a record costs beside its body: bounds the objects that one piece looks at, too. */
const RECORD_BYTES = 32

export class Checkpoint {
  readonly #broker: Broker
  readonly #pieceBytes: number
  #pass: Generator<void, void, void> | null
  /** Written in this piece. */
  #bytes: number

  constructor(broker: Broker, pieceBytes: number) {
    this.#broker = broker
    this.#pieceBytes = pieceBytes
    this.#pass = null
    this.#bytes = 0
  }

  /** Writes the next piece; false when the pass is over. */
  step(first: boolean): boolean {
    if (first || this.#pass === null) this.#pass = this.#walk()
    this.#bytes = 0
    while (this.#bytes < this.#pieceBytes) {
      if (this.#pass.next().done === true) {
        this.#pass = null
        return false
      }
    }
    return true
  }

  /** Yields after each record, between which the world may change. */
  *#walk(): Generator<void, void, void> {
    const broker = this.#broker
    const { state } = broker
    this.#counters()
    yield
    for (const user of [...state.users.values()]) {
      if (state.users.get(user.name) !== user) continue
      writeUser(broker.writer, user)
      this.#append(KIND.user)
      yield
    }
    for (const vhost of [...state.vhosts.values()]) {
      if (state.vhost(vhost.name) === vhost) yield* this.#vhost(vhost)
    }
    for (const cache of [...state.deduplication.caches.values()]) yield* this.#cache(cache)
    for (const store of [...state.delays.stores.values()]) yield* this.#delays(store)
    for (const queue of [...state.queues.values()]) {
      if (queue.isDeleted || !queue.isDurable || isUpperLevel(queue)) continue
      const group = state.groups.get(queue.id)
      if (group !== undefined) {
        yield* this.#group(group)
        continue
      }
      const session = queue.isSession ? state.sessions.get(queue.id) : undefined
      if (session === undefined) writeQueue(broker.writer, queue)
      else writeSession(broker.writer, session, connectionOf(session) !== null)
      this.#append(session === undefined ? KIND.queue : KIND.session)
      yield
      if (session !== undefined) yield* this.#session(session)
      yield* this.#entries(queue)
      if (queue.levels !== null) yield* this.#levels(queue.levels)
      const keys = state.deduplication.queues.get(queue.id)
      if (keys !== undefined) yield* this.#queueKeys(queue.id, keys)
    }
    for (const session of [...state.sessions.values()]) {
      if (session.queue.isDeleted || session.will === null || session.isLasting) continue
      this.#will(session)
      yield
    }
    for (const orphan of [...state.orphanWills.values()]) {
      if (!state.orphanWills.has(orphan.sessionId)) continue
      const { sessionId, clientId, vhost, user, will } = orphan
      writeWill(broker.writer, sessionId, clientId, vhost, user, will)
      this.#append(KIND.will)
      yield
    }
    for (const vhost of [...state.vhosts.values()]) {
      if (state.vhost(vhost.name) !== vhost) continue
      yield* this.#bindings(vhost)
      yield* this.#retained(vhost)
    }
    if (broker.isAtRest) this.#append(KIND.stopped)
  }

  #append(kind: number): void {
    this.#bytes += this.#broker.writer.length + RECORD_BYTES
    append(this.#broker, kind, LAZY)
  }

  #counters(): void {
    const { writer, state } = this.#broker
    writeCounters(writer, state)
    this.#append(KIND.counters)
  }

  *#vhost(vhost: Vhost): Generator<void, void, void> {
    if (vhost.name !== DEFAULT_VHOST || vhost.description !== '' || vhost.tags.length > 0) {
      writeVhost(this.#broker.writer, vhost)
      this.#append(KIND.vhost)
      yield
    }
    for (const policy of [...vhost.policies.values(), ...vhost.operatorPolicies.values()]) {
      if (vhost.policiesOf(policy.isOperator).get(policy.name) !== policy) continue
      writePolicy(this.#broker.writer, vhost.name, policy)
      this.#append(KIND.policy)
      yield
    }
    for (const exchange of [...vhost.exchanges.values()]) {
      if (!this.#isOurs(vhost, exchange)) continue
      writeExchange(this.#broker.writer, vhost.name, exchange)
      this.#append(KIND.exchange)
      yield
    }
  }

  /** What leaves meanwhile has a record behind those that still name it. */
  *#delays(store: DelayStore): Generator<void, void, void> {
    let dueAt = 0
    let sequence = 0
    for (let isMore = store.isDurable; isMore; ) {
      if (store.isDeleted) return
      isMore = writeDelays(this.#broker.writer, store, dueAt, sequence)
      dueAt = store.dueAt
      sequence = store.sequence
      this.#append(KIND.delays)
      yield
    }
  }

  /** What an exchange remembers. Keys that come or go meanwhile are passed or left out by the map's own iterator. */
  *#cache(cache: KeyCache): Generator<void, void, void> {
    const { deduplication } = this.#broker.state
    const keys = cache.keys.entries()
    const below = cache.nextSequence
    for (let isMore = cache.isLasting; isMore; ) {
      if (deduplication.caches.get(cache.id) !== cache) return
      isMore = writeCacheKeys(this.#broker.writer, cache, keys, below)
      this.#append(KIND.keys)
      yield
    }
  }

  *#queueKeys(id: number, owner: QueueKeys): Generator<void, void, void> {
    const { deduplication } = this.#broker.state
    const keys = owner.keys.entries()
    // Those that come meanwhile stand in records of their own.
    let left = owner.size
    for (let isMore = true; isMore && left > 0; left -= KEYS_IN_RECORD) {
      if (deduplication.queues.get(id) !== owner) return
      isMore = writeQueueKeys(this.#broker.writer, id, owner, keys)
      this.#append(KIND.keys)
      yield
    }
  }

  /** Predeclared exchanges need no record; one that was deleted meanwhile has none. */
  #isOurs(vhost: Vhost, exchange: Exchange): boolean {
    if (exchange.name === '' || exchange.name.startsWith('amq.') || !exchange.isDurable)
      return false
    return vhost.exchanges.get(exchange.name) === exchange
  }

  *#session(session: Session): Generator<void, void, void> {
    const { writer } = this.#broker
    if (session.will !== null) {
      this.#will(session)
      yield
    }
    if (session.queue.isDeleted || !session.isLasting) return
    if (session.inbound !== null && session.inbound.size > 0) {
      writeInbound(writer, session.id, session.inbound.keys())
      this.#append(KIND.inbound)
      yield
    }
    for (const subscription of [...session.subscriptions.values()]) {
      if (!session.isLasting) return
      if (session.subscriptions.get(subscription.filter) !== subscription) continue
      const group = this.#broker.state.groups.get(subscription.groupId)
      if (group === undefined) {
        writeSubscription(writer, session.id, subscription.filter, subscription)
        this.#append(KIND.subscribe)
      } else {
        writeMember(writer, session, group, subscription)
        this.#append(KIND.sharedMember)
      }
      yield
    }
  }

  #will(session: Session): void {
    const { writer } = this.#broker
    const { id, clientId, vhost, user, will } = session
    writeWill(writer, id, clientId, vhost, user, will!)
    this.#append(KIND.will)
  }

  /** A shared group: what its members hold, too, for records of messages name it as the group's. */
  *#group(group: SharedGroup): Generator<void, void, void> {
    const { queue } = group
    writeGroup(this.#broker.writer, group)
    this.#append(KIND.sharedGroup)
    yield
    for (const [sequence, move] of [...(queue.moves ?? [])]) {
      if (queue.moves?.get(sequence) !== move || !queue.isDurable) continue
      if (!this.#move(move)) continue
      yield
    }
    yield* this.#entries(queue)
  }

  /** False: its session ends with its connection. */
  #move(move: Move): boolean {
    const { state, writer } = this.#broker
    const queue = state.queues.get(move.sessionId)
    if (queue === undefined || !queue.isDurable) return false
    if (queue.find(move.sequence)) {
      writeMove(writer, move, queue.segment, queue.offset, queue.bytes, queue.flags)
    } else {
      // After a restart its entry may be cold: its session's records say where it is.
      writeMove(writer, move, 0, 0, 0, 0)
    }
    this.#append(KIND.sharedMove)
    return true
  }

  /**
   * Those of now, behind their queue: of one that is used since the pass began its own record may stand before the
   * queue's, where replay makes nothing of it.
   */
  *#levels(levels: PriorityLevels): Generator<void, void, void> {
    for (const level of [...levels.used]) {
      if (level === levels.owner || level.isDeleted) continue
      writeQueueLevel(this.#broker.writer, level)
      this.#append(KIND.queueLevel)
      yield
      yield* this.#entries(level)
    }
  }

  *#entries(queue: Queue): Generator<void, void, void> {
    for (const chunk of [...queue.chunks]) {
      if (queue.isDeleted || !queue.isDurable) return
      if (chunk.live === 0 || !queue.chunks.includes(chunk)) continue
      if (chunk.words === null) writeCold(this.#broker.writer, queue, chunk)
      else writeEntries(this.#broker.writer, queue, chunk)
      this.#append(chunk.words === null ? KIND.queueCold : KIND.queueEntries)
      yield
    }
    yield* this.#held(queue, 'held')
    yield* this.#held(queue, 'letters')
  }

  /** What leaves meanwhile has a record behind those that still name it. */
  *#held(queue: Queue, of: 'held' | 'letters'): Generator<void, void, void> {
    let dueAt = -1
    let sequence = 0
    for (;;) {
      const entries = queue[of]
      if (entries === null || queue.isDeleted || !queue.isDurable) return
      const isMore = writeHeldOf(this.#broker.writer, queue, entries, dueAt, sequence)
      dueAt = entries.dueAt
      sequence = entries.sequence
      this.#append(KIND.held)
      yield
      if (!isMore) return
    }
  }

  *#bindings(vhost: Vhost): Generator<void, void, void> {
    for (const exchange of [...vhost.exchanges.values()]) {
      if (!exchange.isDurable) continue
      const bindings: Binding[] = []
      exchange.forEachBinding(binding => bindings.push(binding))
      for (const binding of bindings) {
        const target = binding.target as Queue | Exchange
        const { key, arguments: table } = binding
        if (!target.isDurable || !exchange.hasBinding(target, key, table)) continue
        writeBinding(this.#broker.writer, vhost.name, exchange, target, key, table)
        this.#append(KIND.bind)
        yield
      }
    }
  }

  *#retained(vhost: Vhost): Generator<void, void, void> {
    for (const entry of [...vhost.retained.tree.entries()]) {
      const slot = entry.value
      if (slot === null || vhost.retained.get(slot.topic) !== slot) continue
      writeRetained(this.#broker.writer, vhost.name, slot)
      this.#append(KIND.retained)
      yield
    }
  }
}
