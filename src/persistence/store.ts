/**
 * All that a persistence keeps, and how it changes: the live calls and replay use the same methods. Queues
 * and retained slots are the core's (`State`); clients, identifiers, incoming packets and wills are ours.
 * As in the broker, nothing here decides.
 */
import type { Liveness } from '../core/liveness.ts'
import { State } from '../core/state.ts'
import { TopicTrie } from '../core/topic-trie.ts'
import { type Body, StoredClient, type StoredWill, type Subscription } from './client.ts'

/** A record's bytes beside its body, roughly, as the core charges for them. */
const RECORD_OVERHEAD = 64
/** Broker ids whose counters are remembered: each start of Aedes without an id of its own makes one. */
const BROKERS_MAX = 64

export class Store {
  readonly state: State
  readonly clients = new Map<string, StoredClient>()
  readonly byNumber = new Map<number, StoredClient>()
  readonly willed = new Set<StoredClient>()
  /** Subscriptions with QoS 1 or 2: what is enqueued for is found here. */
  readonly trie = new TopicTrie<Subscription>()
  /** By broker id: no packet of it in the store has a counter above. */
  readonly counters = new Map<string, number>()
  /** Clients with a subscription. */
  subscribedCount = 0
  readonly #liveness: Liveness

  constructor(liveness: Liveness) {
    this.#liveness = liveness
    this.state = new State(liveness)
  }

  addClient(number: number, clientId: string): StoredClient {
    const known = this.byNumber.get(number)
    if (known !== undefined) return known
    const client = new StoredClient(number, clientId)
    this.state.addQueue(client.queue)
    this.clients.set(clientId, client)
    this.byNumber.set(number, client)
    return client
  }

  endClient(client: StoredClient): void {
    this.unsubscribe(client, [...client.subscriptions.keys()])
    this.cleanIncoming(client)
    this.deleteWill(client)
    this.state.removeQueue(client.queue)
    client.isEnded = true
    this.byNumber.delete(client.number)
    if (this.clients.get(client.clientId) === client) this.clients.delete(client.clientId)
  }

  subscribe(client: StoredClient, subscription: Subscription): void {
    const { topic } = subscription
    const old = client.subscriptions.get(topic)
    if (old !== undefined && old.qos > 0) this.trie.remove(topic, old)
    if (client.subscriptions.size === 0) this.subscribedCount++
    client.subscriptions.set(topic, subscription)
    if (subscription.qos > 0) this.trie.insert(topic, subscription)
  }

  unsubscribe(client: StoredClient, topics: readonly string[]): void {
    for (const topic of topics) {
      const old = client.subscriptions.get(topic)
      if (old === undefined) continue
      if (old.qos > 0) this.trie.remove(topic, old)
      client.subscriptions.delete(topic)
      if (client.subscriptions.size === 0) this.subscribedCount--
    }
  }

  settle(client: StoredClient, sequence: number): void {
    client.ids.delete(sequence)
    this.state.settleEntry(client.queue, sequence)
  }

  setIncoming(client: StoredClient, messageId: number, body: Body): void {
    this.deleteIncoming(client, messageId)
    client.incoming.set(messageId, body)
    this.#claim(body)
  }

  deleteIncoming(client: StoredClient, messageId: number): boolean {
    const body = client.incoming.get(messageId)
    if (body === undefined) return false
    client.incoming.delete(messageId)
    this.#release(body)
    return true
  }

  cleanIncoming(client: StoredClient): void {
    for (const body of client.incoming.values()) this.#release(body)
    client.incoming.clear()
  }

  setWill(client: StoredClient, will: StoredWill): void {
    this.deleteWill(client)
    client.will = will
    this.willed.add(client)
    this.#claim(will)
  }

  deleteWill(client: StoredClient): boolean {
    if (client.will === null) return false
    this.#release(client.will)
    client.will = null
    this.willed.delete(client)
    return true
  }

  /** A body that is still wanted was copied by compaction. */
  move(body: Body, segment: number, offset: number): void {
    this.#release(body)
    body.segment = segment
    body.offset = offset
    this.#claim(body)
  }

  setCounter(brokerId: string, counter: number): void {
    const old = this.counters.get(brokerId) ?? 0
    // The newest stands last.
    this.counters.delete(brokerId)
    this.counters.set(brokerId, Math.max(old, counter))
    if (this.counters.size <= BROKERS_MAX) return
    for (const oldest of this.counters.keys()) {
      this.counters.delete(oldest)
      break
    }
  }

  #claim(body: Body): void {
    this.#liveness.claim(body.segment, body.bytes + RECORD_OVERHEAD)
  }

  #release(body: Body): void {
    this.#liveness.release(body.segment, body.bytes + RECORD_OVERHEAD)
  }
}
