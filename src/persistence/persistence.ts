/**
 * The journal behind the contract of aedes-persistence 11, as Aedes 1 takes it: an object whose methods return
 * promises, made ready by `setup`. A call changes the state and appends its record in the turn in which it is
 * made, and resolves when the record is on the disk: calls that are made together share one sync.
 */
import { Readable } from 'node:stream'
import { Message } from '../core/message.ts'
import { KIND } from '../core/records/kinds.ts'
import { messageBytesMax, writeMessage } from '../core/records/message.ts'
import { writeRetainedClear } from '../core/records/retained.ts'
import { ENTRY_SHARE_SHIFT, SETTLED } from '../core/queue-entry.ts'
import { RetainedSlot } from '../core/retained.ts'
import { AWAITED, type JournalStats } from '../journal/journal.ts'
import { Body, type StoredClient, StoredWill, type Subscription } from './client.ts'
import { Engine } from './engine.ts'
import { enqueue } from './enqueue.ts'
import { PersistenceError } from './errors.ts'
import { OWN } from './kinds.ts'
import { type PersistenceOptions, type PersistenceParts, realParts } from './options.ts'
import { clientList, outgoingPackets, readBody, retainedPackets, wills } from './streams.ts'
import { findPair, OutgoingReader, packetOfEntry } from './outgoing.ts'
import {
  asQueued,
  fillMessage,
  type PersistedClient,
  type PersistedPacket,
  writePair
} from './packet.ts'
import { subscriptionOf, writeSubscriptions, writeTopics } from './records.ts'
import { writeText, writeValue } from './values.ts'

/** What is looked at in a broker of Aedes. */
export interface PersistenceBroker {
  id: string
  counter: number
}

export interface PersistedSubscription {
  topic: string
  qos: number
  rh?: unknown
  rap?: unknown
  nl?: unknown
  subscriptionIdentifier?: unknown
}

/** As `subscriptionsByTopic` gives them and the queue takes them. */
export interface MatchedSubscription extends PersistedSubscription {
  clientId: string
}

/** Packet identifiers are 16 bits [MQTT-2.3.1-1]; 0 is never given by Aedes, and kept if it is. */
const MESSAGE_ID_MAX = 65_535

const message = new Message()

export class JournalPersistence {
  readonly #engine: Engine
  #broker: PersistenceBroker | null = null

  constructor(options: PersistenceOptions, parts: PersistenceParts = realParts) {
    this.#engine = new Engine(options, parts)
  }

  get broker(): PersistenceBroker | null {
    return this.#broker
  }

  /** What the journal has done since `setup`, and what it holds. */
  get stats(): Readonly<JournalStats> {
    this.#engine.check()
    return { ...this.#engine.context.journal.stats }
  }

  /** Opens the folder. Rejects with a `JournalError` when it is locked, not ours, or cannot be written. */
  async setup(broker: PersistenceBroker): Promise<void> {
    this.#broker = broker
    await this.#engine.open()
    // A broker whose id is the same after a restart must give no counter again that waits in a queue.
    const counter = this.#engine.store.counters.get(broker.id) ?? 0
    if (broker.counter < counter) broker.counter = counter
  }

  async storeRetained(packet: PersistedPacket): Promise<void> {
    const engine = this.#engine
    const copy = { ...packet }
    const topic = topicOf(copy)
    if (engine.mustWait) await engine.pass()
    engine.check()
    if (isEmpty(copy.payload)) this.#clearRetained(topic)
    else this.#setRetained(topic, copy)
    await engine.durable()
  }

  #setRetained(topic: string, packet: PersistedPacket): void {
    const { context, store } = this.#engine
    fillMessage(message, context.beginPacket(), packet)
    const bytes = messageBytesMax(message)
    this.#engine.checkRoom(bytes)
    const { journal } = context
    const sequence = store.state.retainedSequence + 1
    const at = journal.begin(bytes)
    journal.end(KIND.message, writeMessage(journal.buffer, at, message, 0, sequence, '/'), AWAITED)
    const { segment, offset } = journal
    const flags = 1 << ENTRY_SHARE_SHIFT
    const slot = new RetainedSlot(topic, segment, offset, message.payloadBytes, flags, sequence)
    store.state.setRetained('/', slot)
  }

  #clearRetained(topic: string): void {
    const { context, store } = this.#engine
    if (store.state.vhost('/')?.retained.get(topic) === null) return
    writeRetainedClear(context.begin(), '/', topic)
    context.append(KIND.retainedClear, AWAITED)
    store.state.clearRetained('/', topic)
  }

  createRetainedStream(pattern: string): Readable {
    return this.createRetainedStreamCombi([pattern])
  }

  createRetainedStreamCombi(patterns: readonly string[]): Readable {
    return Readable.from(retainedPackets(this.#engine, [...patterns]))
  }

  async addSubscriptions(
    { id }: PersistedClient,
    subscriptions: readonly PersistedSubscription[]
  ): Promise<void> {
    const engine = this.#engine
    const added = subscriptions.map(({ topic, qos, rh, rap, nl, subscriptionIdentifier }) =>
      subscriptionOf(id, topic, qos, [rh, rap, nl, subscriptionIdentifier])
    )
    if (engine.mustWait) await engine.pass()
    engine.checkRoom(0)
    if (added.length > 0) {
      const { context, store } = engine
      const client = engine.client(id)
      writeSubscriptions(context.begin(), client, added)
      context.append(OWN.subscribe, AWAITED)
      for (const subscription of added) store.subscribe(client, subscription)
    }
    await engine.durable()
  }

  async removeSubscriptions({ id }: PersistedClient, topics: readonly string[]): Promise<void> {
    const client = this.#known(id)
    if (client !== undefined) {
      this.#unsubscribe(
        client,
        topics.filter(topic => client.subscriptions.has(topic))
      )
    }
    await this.#engine.durable()
  }

  async cleanSubscriptions({ id }: PersistedClient): Promise<void> {
    const client = this.#known(id)
    if (client !== undefined) this.#unsubscribe(client, [...client.subscriptions.keys()])
    await this.#engine.durable()
  }

  #unsubscribe(client: StoredClient, topics: readonly string[]): void {
    if (topics.length === 0) return
    const { context, store } = this.#engine
    writeTopics(context.begin(), client, topics)
    context.append(OWN.unsubscribe, AWAITED)
    store.unsubscribe(client, topics)
    this.#engine.tidy(client)
  }

  async subscriptionsByClient({ id }: PersistedClient): Promise<PersistedSubscription[]> {
    const subscriptions = this.#known(id)?.subscriptions.values() ?? []
    return [...subscriptions].map(({ clientId: _, ...subscription }) => subscription)
  }

  async countOffline(): Promise<{ subsCount: number; clientsCount: number }> {
    this.#engine.check()
    const { trie, subscribedCount } = this.#engine.store
    return { subsCount: trie.size, clientsCount: subscribedCount }
  }

  /** Those with QoS 1 and 2, whose clients must get what they miss; filters with wildcards first. */
  async subscriptionsByTopic(topic: string): Promise<MatchedSubscription[]> {
    this.#engine.check()
    const found: Subscription[] = []
    this.#engine.store.trie.match(topic, found)
    const exact = found.filter(subscription => subscription.topic === topic)
    const wild = found.filter(subscription => subscription.topic !== topic)
    return [...wild, ...exact].map(({ clientId, topic: filter, qos, rh, rap, nl }) => ({
      clientId,
      topic: filter,
      qos,
      rh,
      rap,
      nl
    }))
  }

  /** The clients that have this very filter. */
  getClientList(topic: string): Readable {
    return Readable.from(clientList(this.#engine, topic))
  }

  outgoingEnqueue(subscription: { clientId: string }, packet: PersistedPacket): Promise<void> {
    return this.outgoingEnqueueCombi([subscription], packet)
  }

  /** Calls that wait for the same sync are given the same promise: of many at once none keeps anything. */
  outgoingEnqueueCombi(
    subscriptions: readonly { clientId: string }[],
    packet: PersistedPacket
  ): Promise<void> {
    const queued = asQueued(packet)
    const clientIds = new Set<string>()
    for (const { clientId } of subscriptions) clientIds.add(clientId)
    if (this.#engine.mustWait) return this.#enqueueLater(clientIds, queued)
    try {
      return this.#enqueue(clientIds, queued)
    } catch (error) {
      return Promise.reject(error)
    }
  }

  async #enqueueLater(clientIds: ReadonlySet<string>, queued: PersistedPacket): Promise<void> {
    await this.#engine.pass()
    await this.#enqueue(clientIds, queued)
  }

  #enqueue(clientIds: ReadonlySet<string>, queued: PersistedPacket): Promise<void> {
    this.#engine.check()
    if (clientIds.size > 0) enqueue(this.#engine, this.#broker!.id, clientIds, queued)
    return this.#engine.durable()
  }

  /** Gives a queued packet its packet identifier; or, with a PUBREL, puts that in its place. */
  async outgoingUpdate({ id }: PersistedClient, packet: PersistedPacket): Promise<void> {
    const engine = this.#engine
    const client = this.#known(id)
    const isPubrel = packet.cmd === 'pubrel'
    let sequence = 0
    if (client !== undefined && !isPubrel) {
      const pair = writePair(engine.context.beginPacket(), packet)
      sequence = await findPair(engine.context, client, pair)
      engine.check()
      // Another call may have ended it meanwhile.
      if (client.isEnded || client.queue.stateOf(sequence) === SETTLED) sequence = 0
    }
    const messageId = messageIdOf(packet)
    if (sequence > 0) {
      client!.lastUpdated = sequence
      if (client!.ids.get(sequence) !== messageId) this.#assign(client!, sequence, messageId)
    } else {
      sequence = messageId === undefined ? 0 : (client?.ids.oldest(messageId) ?? 0)
      if (sequence === 0) throw noSuchPacket()
      if (isPubrel) this.#releaseOutgoing(client!, sequence)
    }
    await engine.durable()
  }

  #assign(client: StoredClient, sequence: number, messageId: number | undefined): void {
    const { context } = this.#engine
    const writer = context.begin()
    writer.varint(client.number)
    writer.varint(sequence)
    writer.varint(messageId === undefined ? 0 : messageId + 1)
    context.append(OWN.assign, AWAITED)
    if (messageId === undefined) client.ids.delete(sequence)
    else client.ids.set(sequence, messageId)
  }

  #releaseOutgoing(client: StoredClient, sequence: number): void {
    const { context, store } = this.#engine
    context.appendPair(KIND.received, client.number, sequence, AWAITED)
    store.state.markReleased(client.queue, sequence)
  }

  /** The packet that was queued, or undefined when none has this identifier. */
  async outgoingClearMessageId(
    { id }: PersistedClient,
    packet: PersistedPacket
  ): Promise<PersistedPacket | undefined> {
    const client = this.#known(id)
    const messageId = messageIdOf(packet)
    const sequence = messageId === undefined ? 0 : (client?.ids.oldest(messageId) ?? 0)
    if (client === undefined || sequence === 0) {
      await this.#engine.durable()
      return undefined
    }
    const cleared = await this.#take(client, sequence, messageId!)
    await this.#engine.durable()
    return cleared
  }

  /** Reads it, and ends it in the same turn in which it is found. */
  async #take(
    client: StoredClient,
    sequence: number,
    messageId: number
  ): Promise<PersistedPacket | undefined> {
    const reader = new OutgoingReader(this.#engine.context, client, sequence - 1)
    const entry = await reader.next()
    this.#engine.check()
    // Another call may have ended it while its place was looked up.
    if (client.isEnded || client.ids.get(sequence) !== messageId) return undefined
    if (entry?.sequence !== sequence) {
      client.ids.delete(sequence)
      return undefined
    }
    const packet = packetOfEntry(this.#engine.context, client, entry)
    this.#engine.settle(client, KIND.settle, sequence)
    return (await packet) ?? undefined
  }

  /** What waits for a client now, in order; read from the disk as it is taken. */
  outgoingStream({ id }: PersistedClient): Readable {
    const { context, store } = this.#engine
    const client = store.clients.get(id)
    const reader = client === undefined ? null : new OutgoingReader(context, client)
    return Readable.from(outgoingPackets(this.#engine, client, reader))
  }

  async incomingStorePacket({ id }: PersistedClient, packet: PersistedPacket): Promise<void> {
    const engine = this.#engine
    const messageId = messageIdOf(packet)
    if (messageId === undefined) {
      throw new PersistenceError('not-storable', 'an incoming packet needs a packet identifier')
    }
    const stored = { ...asQueued(packet), messageId }
    if (engine.mustWait) await engine.pass()
    engine.check()
    const { context, store } = engine
    const writer = context.beginPacket()
    writeValue(writer, stored)
    engine.checkRoom(writer.length)
    const client = engine.client(id)
    const head = context.begin()
    head.varint(client.number)
    head.varint(messageId)
    head.bytes(writer.view())
    const bytes = head.length
    const ticket = context.append(OWN.incoming, AWAITED)
    const { segment, offset } = context.journal
    store.setIncoming(client, messageId, new Body(segment, offset, bytes, ticket))
    await engine.durable()
  }

  /** Rejects when there is none. What is found is on the disk: a PUBREC may be sent for it. */
  async incomingGetPacket(
    { id }: PersistedClient,
    packet: PersistedPacket
  ): Promise<PersistedPacket> {
    const { context } = this.#engine
    const body = this.#known(id)?.incoming.get(messageIdOf(packet) ?? -1)
    if (body === undefined) throw noSuchPacket()
    const reading = readBody(this.#engine.context, body)
    if (body.ticket > context.journal.durableTicket) await this.#engine.durable()
    const found = await reading
    if (found === null) throw noSuchPacket()
    return found
  }

  async incomingDelPacket({ id }: PersistedClient, packet: PersistedPacket): Promise<void> {
    const { context, store } = this.#engine
    const client = this.#known(id)
    const messageId = messageIdOf(packet)
    if (client === undefined || messageId === undefined || !client.incoming.has(messageId)) {
      throw noSuchPacket()
    }
    context.appendPair(OWN.incomingDelete, client.number, messageId, AWAITED)
    store.deleteIncoming(client, messageId)
    this.#engine.tidy(client)
    await this.#engine.durable()
  }

  async cleanIncoming({ id }: PersistedClient): Promise<void> {
    const { context, store } = this.#engine
    const client = this.#known(id)
    if (client !== undefined && client.incoming.size > 0) {
      context.begin().varint(client.number)
      context.append(OWN.incomingClean, AWAITED)
      store.cleanIncoming(client)
      this.#engine.tidy(client)
    }
    await this.#engine.durable()
  }

  /** As the contract's own store does, it writes broker and client into the packet. */
  async putWill({ id }: PersistedClient, packet: PersistedPacket): Promise<void> {
    const engine = this.#engine
    const brokerId = this.#broker?.id ?? ''
    packet.brokerId = brokerId
    packet.clientId = id
    const stored = { ...packet }
    if (engine.mustWait) await engine.pass()
    engine.check()
    const { context, store } = engine
    const writer = context.beginPacket()
    writeValue(writer, stored)
    engine.checkRoom(writer.length)
    const client = engine.client(id)
    const head = context.begin()
    head.varint(client.number)
    writeText(head, brokerId)
    head.bytes(writer.view())
    const bytes = head.length
    const ticket = context.append(OWN.will, AWAITED)
    const { segment, offset } = context.journal
    store.setWill(client, new StoredWill(segment, offset, bytes, ticket, brokerId))
    await engine.durable()
  }

  async getWill({ id }: PersistedClient): Promise<PersistedPacket | undefined> {
    const will = this.#known(id)?.will ?? null
    return will === null ? undefined : ((await readBody(this.#engine.context, will)) ?? undefined)
  }

  async delWill({ id }: PersistedClient): Promise<PersistedPacket | undefined> {
    const { context, store } = this.#engine
    const client = this.#known(id)
    if (client === undefined || client.will === null) {
      await this.#engine.durable()
      return undefined
    }
    const reading = readBody(this.#engine.context, client.will)
    context.begin().varint(client.number)
    context.append(OWN.willDelete, AWAITED)
    store.deleteWill(client)
    this.#engine.tidy(client)
    await this.#engine.durable()
    return (await reading) ?? undefined
  }

  /** The wills of clients whose broker is not among `brokers`. */
  streamWill(brokers: Readonly<Record<string, unknown>> = {}): Readable {
    return Readable.from(wills(this.#engine, this.#broker?.id ?? '', brokers))
  }

  /** Writes a checkpoint, syncs and unlocks the folder; the data stays. Call it when the broker is closed. */
  close(): Promise<void> {
    return this.#engine.close()
  }

  /** The contract's name for `close`. */
  async destroy(): Promise<void> {
    await this.close()
  }

  #known(clientId: string): StoredClient | undefined {
    this.#engine.check()
    return this.#engine.store.clients.get(clientId)
  }
}

function topicOf({ topic }: PersistedPacket): string {
  if (typeof topic === 'string') return topic
  throw new PersistenceError('not-storable', 'a retained packet needs a topic')
}

function isEmpty(payload: Buffer | string | undefined): boolean {
  return payload === undefined || payload.length === 0
}

/** Undefined also for what is no packet: the contract's tests ask so. */
function messageIdOf(packet: PersistedPacket): number | undefined {
  const messageId = (packet as PersistedPacket | undefined)?.messageId
  const isOne = typeof messageId === 'number' && Number.isInteger(messageId)
  return isOne && messageId >= 0 && messageId <= MESSAGE_ID_MAX ? messageId : undefined
}

function noSuchPacket(): PersistenceError {
  return new PersistenceError('no-such-packet', 'no such packet')
}
