/** What the streams of a persistence give out: read as it is taken, one packet at a time. */
import type { RetainedSlot } from '../core/retained.ts'
import { KIND } from '../core/records/kinds.ts'
import type { TopicCursor, TopicEntry } from '../core/topic-tree.ts'
import { decodeBody, decodePacket, readRecord } from './bodies.ts'
import type { Body, StoredClient } from './client.ts'
import type { Context } from './context.ts'
import type { Engine } from './engine.ts'
import { type OutgoingReader, packetOfEntry } from './outgoing.ts'
import type { PersistedPacket } from './packet.ts'

/** Retained topics that are collected at once. */
const PIECE = 64
/** Between the id of the broker that a will is of and the id of the one that publishes it. */
const BEFORE = ' before '

export async function* retainedPackets(
  engine: Engine,
  patterns: readonly string[]
): AsyncGenerator<PersistedPacket, void, void> {
  const { context, store } = engine
  engine.check()
  const tree = store.state.vhost('/')!.retained.tree
  for (const pattern of patterns) {
    let cursor: TopicCursor<RetainedSlot> | null = null
    do {
      const found: TopicEntry<RetainedSlot>[] = []
      cursor = tree.collect(pattern, cursor, PIECE, found)
      for (const { topic, value } of found.map(({ topic, value }) => ({ topic, value }))) {
        if (value === null) continue
        const { segment, offset } = value
        const packet = await readRecord(context.journal, segment, offset, decodePacket)
        if (packet !== null) yield packet
        else context.log('error', 'a retained packet is damaged on the disk', { topic })
      }
    } while (cursor !== null)
  }
}

/** The clients that have this very filter. */
export async function* clientList(
  engine: Engine,
  topic: string
): AsyncGenerator<string, void, void> {
  engine.check()
  for (const client of engine.store.clients.values()) {
    if (client.subscriptions.has(topic)) yield client.clientId
  }
}

/** What a client is sent, in order; what is damaged is left out, and ended. */
export async function* outgoingPackets(
  engine: Engine,
  client: StoredClient | undefined,
  reader: OutgoingReader | null
): AsyncGenerator<PersistedPacket, void, void> {
  engine.check()
  if (client === undefined || reader === null) return
  const { context } = engine
  for (let entry = await reader.next(); entry !== null; entry = await reader.next()) {
    const packet = await packetOfEntry(context, client, entry)
    if (packet !== null) yield packet
    else dropDamaged(engine, client, entry.sequence)
    engine.check()
  }
}

function dropDamaged(engine: Engine, client: StoredClient, sequence: number): void {
  engine.context.log('error', 'a queued packet is damaged on the disk: it is lost', {
    client: client.clientId
  })
  if (!client.isEnded) engine.settle(client, KIND.settle, sequence)
}

/** Of clients whose broker is not among `brokers`. */
export async function* wills(
  engine: Engine,
  ownId: string,
  brokers: Readonly<Record<string, unknown>>
): AsyncGenerator<PersistedPacket, void, void> {
  engine.check()
  for (const client of [...engine.store.willed]) {
    const { will } = client
    if (will === null) continue
    // A will that was there at the start is of a broker that is gone, though its id may have come back.
    const isOld = will.ticket === 0
    if (brokers[will.brokerId] && !isOld) continue
    const packet = await readBody(engine.context, will)
    if (packet === null) continue
    if (isOld) packet.brokerId = nameOfOldWill(will.brokerId, ownId)
    yield packet
  }
}

/**
 * The broker id that an old will is published with. Aedes gives it a counter of its own broker, so with the id that it
 * had it could be named as a packet of that broker that still waits; with Aedes's own id it would not be published.
 */
function nameOfOldWill(brokerId: string, ownId: string): string {
  return `${brokerId}${BEFORE}${ownId}`
}

/** Whether a packet's counter is one that the broker with `ownId` gave. */
export function hasCounterOf(ownId: string, brokerId: string | undefined): boolean {
  return brokerId === ownId || brokerId?.endsWith(`${BEFORE}${ownId}`) === true
}

/** Begins to read at once: what is ended in the same turn is still there. Null, and said: it is damaged. */
export async function readBody(context: Context, body: Body): Promise<PersistedPacket | null> {
  const { segment, offset } = body
  const packet = await readRecord(context.journal, segment, offset, decodeBody)
  if (packet === null) {
    context.log('error', 'a will or an incoming packet is damaged on the disk', { segment, offset })
  }
  return packet
}
