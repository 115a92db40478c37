/**
 * The checkpoint's pass: every client with what hangs on it and every retained slot, a record each, in pieces
 * between turns while calls go on. A record says what is true at its place in the log.
 */
import { KIND } from '../core/records/kinds.ts'
import { writeCold, writeEntries } from '../core/records/queue-entries.ts'
import { writeRetained } from '../core/records/retained.ts'
import type { RetainedSlot } from '../core/retained.ts'
import type { TopicEntry } from '../core/topic-tree.ts'
import type { ByteWriter } from '../lib/byte-writer.ts'
import { LAZY } from '../journal/journal.ts'
import type { StoredClient } from './client.ts'
import type { Context } from './context.ts'
import { OWN } from './kinds.ts'
import { writeClient, writePlace, writeSubscriptions } from './records.ts'
import { writeText } from './values.ts'

const PIECE_BYTES = 64 * 1024
/** In one turn, though it be long: so that replay knows whom the records behind it mean. */
const CLIENTS_AT_ONCE = 20_000
/** What a record costs beside its body. */
const RECORD_BYTES = 32

export class Checkpoint {
  readonly #context: Context
  #pass: Generator<void, void, void> | null = null
  #bytes = 0

  constructor(context: Context) {
    this.#context = context
  }

  /** Writes the next piece; false when the pass is over. */
  step(first: boolean): boolean {
    if (first || this.#pass === null) this.#pass = this.#walk()
    this.#bytes = 0
    while (this.#bytes < PIECE_BYTES) {
      if (this.#pass.next().done === true) {
        this.#pass = null
        return false
      }
    }
    return true
  }

  /** Yields after each record, between which the world may change. */
  *#walk(): Generator<void, void, void> {
    const { store } = this.#context
    const { state } = store
    const writer = this.#context.begin()
    writer.varint(state.nextId)
    writer.varint(state.retainedSequence)
    this.#append(KIND.counters)
    for (const [brokerId, counter] of [...store.counters]) {
      this.#write(OWN.counter, to => {
        writeText(to, brokerId)
        to.varint(counter)
      })
    }
    const clients = [...store.clients.values()]
    for (let i = 0; i < clients.length; i++) {
      const client = clients[i]!
      if (!client.isEnded) this.#write(OWN.client, to => writeClient(to, client))
      if (i % CLIENTS_AT_ONCE === CLIENTS_AT_ONCE - 1) yield
    }
    for (const client of clients) if (!client.isEnded) yield* this.#client(client)
    for (const entry of [...(state.vhost('/')?.retained.tree.entries() ?? [])]) {
      yield* this.#retained(entry)
    }
  }

  *#retained(entry: TopicEntry<RetainedSlot>): Generator<void, void, void> {
    const slot = entry.value
    if (slot === null) return
    this.#write(KIND.retained, to => writeRetained(to, '/', slot))
    yield
  }

  *#client(client: StoredClient): Generator<void, void, void> {
    for (const subscription of [...client.subscriptions.values()]) {
      if (client.subscriptions.get(subscription.topic) !== subscription) continue
      this.#write(OWN.subscribe, to => writeSubscriptions(to, client, [subscription]))
      yield
    }
    const { will } = client
    if (will !== null) {
      this.#write(OWN.willAt, to => {
        to.varint(client.number)
        writeText(to, will.brokerId)
        writePlace(to, will)
      })
      yield
    }
    for (const [messageId, body] of [...client.incoming]) {
      if (client.incoming.get(messageId) !== body) continue
      this.#write(OWN.incomingAt, to => {
        to.varint(client.number)
        to.varint(messageId)
        writePlace(to, body)
      })
      yield
    }
    yield* this.#entries(client)
    yield* this.#identifiers(client)
  }

  *#entries(client: StoredClient): Generator<void, void, void> {
    const { queue } = client
    for (const chunk of [...queue.chunks]) {
      if (client.isEnded) return
      if (chunk.live === 0 || !queue.chunks.includes(chunk)) continue
      const isCold = chunk.words === null
      this.#write(isCold ? KIND.queueCold : KIND.queueEntries, to =>
        isCold ? writeCold(to, queue, chunk) : writeEntries(to, queue, chunk)
      )
      yield
    }
  }

  *#identifiers(client: StoredClient): Generator<void, void, void> {
    for (const pairs of client.ids.entries()) {
      if (client.isEnded) return
      this.#write(OWN.identifiers, to => {
        to.varint(client.number)
        for (const [sequence, messageId] of pairs) {
          to.varint(sequence)
          to.varint(messageId + 1)
        }
      })
      yield
    }
  }

  #write(kind: number, fill: (writer: ByteWriter) => void): void {
    fill(this.#context.begin())
    this.#append(kind)
  }

  #append(kind: number): void {
    this.#bytes += this.#context.writer.length + RECORD_BYTES
    this.#context.append(kind, LAZY)
  }
}
