/** Writes and applies the records of our own kinds; the others go through the core. */
import { KIND } from '../core/records/kinds.ts'
import { applyRecord } from '../core/records/apply.ts'
import type { ByteWriter } from '../lib/byte-writer.ts'
import { BytesError, BytesReader } from '../lib/bytes-reader.ts'
import { Body, type StoredClient, StoredWill, type Subscription } from './client.ts'
import { OWN } from './kinds.ts'
import type { Store } from './store.ts'
import { readText, readValue, writeText, writeValue } from './values.ts'

export function writeClient(writer: ByteWriter, client: StoredClient): void {
  writer.varint(client.number)
  writer.varint(client.queue.nextSequence)
  writeText(writer, client.clientId)
}

export function writeSubscriptions(
  writer: ByteWriter,
  client: StoredClient,
  subscriptions: readonly Subscription[]
): void {
  writer.varint(client.number)
  for (const { topic, qos, rh, rap, nl, ...rest } of subscriptions) {
    writeText(writer, topic)
    writer.u8(qos)
    writeValue(writer, [rh, rap, nl, rest.subscriptionIdentifier])
  }
}

/** As it was handed in: an identifier only if there was one. */
export function subscriptionOf(
  clientId: string,
  topic: string,
  qos: number,
  options: readonly unknown[]
): Subscription {
  const [rh, rap, nl, subscriptionIdentifier] = options
  const subscription = { clientId, topic, qos, rh, rap, nl }
  return subscriptionIdentifier === undefined
    ? subscription
    : { ...subscription, subscriptionIdentifier }
}

export function writeTopics(
  writer: ByteWriter,
  client: StoredClient,
  topics: readonly string[]
): void {
  writer.varint(client.number)
  for (const topic of topics) writeText(writer, topic)
}

/** Names a body's record, at a checkpoint. */
export function writePlace(writer: ByteWriter, body: Body): void {
  writer.u32(body.segment)
  writer.u32(body.offset)
  writer.varint(body.bytes)
}

/** False: it names something unknown or makes no sense; the journal counts it. Never throws for content. */
export function applyOwn(
  store: Store,
  kind: number,
  buffer: Buffer,
  start: number,
  end: number,
  segment: number,
  offset: number
): boolean {
  if (kind < OWN.client && kind !== KIND.settle) {
    const isApplied = applyRecord(store.state, kind, buffer, start, end, segment, offset)
    // Behind a checkpoint's begin it may name what the checkpoint has not told yet: that tells what came of it.
    return isApplied || kind === KIND.received || kind === KIND.retainedClear
  }
  try {
    const reader = new BytesReader(buffer, start, end)
    if (kind === OWN.client) return applyClient(store, reader)
    if (kind === OWN.counter) {
      store.setCounter(readText(reader), reader.varint())
      return true
    }
    const client = store.byNumber.get(reader.varint())
    const apply = OF_CLIENT[kind]
    if (client === undefined || apply === undefined) return false
    return apply(store, client, reader, segment, offset)
  } catch (error) {
    if (error instanceof BytesError) return false
    throw error
  }
}

function applyClient(store: Store, reader: BytesReader): boolean {
  const number = reader.varint()
  const nextSequence = reader.varint()
  const client = store.addClient(number, readText(reader))
  client.queue.nextSequence = Math.max(client.queue.nextSequence, nextSequence)
  return true
}

type Apply = (
  store: Store,
  client: StoredClient,
  reader: BytesReader,
  segment: number,
  offset: number
) => boolean

const OF_CLIENT: Readonly<Record<number, Apply>> = {
  [OWN.clientEnd]: (store, client) => {
    store.endClient(client)
    return true
  },
  [OWN.subscribe]: (store, client, reader) => {
    while (reader.remaining > 0) {
      const topic = readText(reader)
      const qos = reader.u8()
      const options = readValue(reader)
      if (!Array.isArray(options)) return false
      store.subscribe(client, subscriptionOf(client.clientId, topic, qos, options))
    }
    return true
  },
  [OWN.unsubscribe]: (store, client, reader) => {
    const topics: string[] = []
    while (reader.remaining > 0) topics.push(readText(reader))
    store.unsubscribe(client, topics)
    return true
  },
  [OWN.assign]: (_store, client, reader) => applyAssign(client, reader),
  [OWN.identifiers]: (_store, client, reader) => {
    while (reader.remaining > 0) applyAssign(client, reader)
    return true
  },
  [KIND.settle]: (store, client, reader) => {
    store.settle(client, reader.varint())
    return true
  },
  [OWN.incoming]: (store, client, reader, segment, offset) => {
    const bytes = reader.end - reader.offset
    store.setIncoming(client, reader.varint(), new Body(segment, offset, bytes, 0))
    return true
  },
  [OWN.incomingAt]: (store, client, reader) => {
    const messageId = reader.varint()
    store.setIncoming(client, messageId, new Body(reader.u32(), reader.u32(), reader.varint(), 0))
    return true
  },
  [OWN.incomingDelete]: (store, client, reader) => {
    store.deleteIncoming(client, reader.varint())
    return true
  },
  [OWN.incomingClean]: (store, client) => {
    store.cleanIncoming(client)
    return true
  },
  [OWN.will]: (store, client, reader, segment, offset) => {
    const bytes = reader.end - reader.offset
    store.setWill(client, new StoredWill(segment, offset, bytes, 0, readText(reader)))
    return true
  },
  [OWN.willAt]: (store, client, reader) => {
    const brokerId = readText(reader)
    const will = new StoredWill(reader.u32(), reader.u32(), reader.varint(), 0, brokerId)
    store.setWill(client, will)
    return true
  },
  [OWN.willDelete]: (store, client) => {
    store.deleteWill(client)
    return true
  }
}

/** An identifier and a sequence; the identifier is one more than it is, 0 takes it away. */
function applyAssign(client: StoredClient, reader: BytesReader): boolean {
  const sequence = reader.varint()
  const value = reader.varint()
  if (value === 0) client.ids.delete(sequence)
  else client.ids.set(sequence, value - 1)
  return true
}
