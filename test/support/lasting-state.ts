/** All that lasts in a broker, as lines to compare: what a replay of its log must bring back. */
import { view, VIEWED, viewed } from '../../src/broker/bodies.ts'
import type { Broker } from '../../src/broker/broker.ts'
import { applyPatch, type Chunk } from '../../src/core/chunk.ts'
import type { DelayStore } from '../../src/core/delay-store.ts'
import type { Exchange } from '../../src/core/exchange.ts'
import { isUpperLevel, type Queue } from '../../src/core/queue.ts'
import {
  ENTRY_EXPIRES,
  ENTRY_HAS_IDS,
  ENTRY_QOS,
  ENTRY_RETAIN,
  ENTRY_STATE,
  RELEASED,
  SETTLED,
  shareOf
} from '../../src/core/queue-entry.ts'
import { identifiersOf } from '../../src/core/records/message.ts'
import { readIndex } from '../../src/core/records/queue-entries.ts'
import type { Session } from '../../src/core/session.ts'
import { INDEX_ENTRY_BYTES } from '../../src/core/queue-contents.ts'
import type { Will } from '../../src/core/will.ts'
import { BytesReader } from '../../src/lib/bytes-reader.ts'

const KEPT = ENTRY_EXPIRES | ENTRY_HAS_IDS | ENTRY_QOS | ENTRY_RETAIN

/** Waits until the record at a position can be viewed; false: it cannot be read. */
async function inMemory(broker: Broker, segment: number, offset: number): Promise<boolean> {
  const { journal } = broker
  while (!journal.view(segment, offset)) {
    const ok = await new Promise<boolean>(resolve => {
      journal.load(segment, offset, { onBlock: (_segment, _offset, isThere) => resolve(isThere) })
    })
    if (!ok) return false
  }
  return true
}

interface Entry {
  sequence: number
  segment: number
  offset: number
  flags: number
}

/** Those of a cold chunk, as they will be when it is read back; it stays cold. */
async function coldEntries(broker: Broker, chunk: Chunk): Promise<Entry[] | null> {
  if (!(await inMemory(broker, chunk.segment, chunk.offset))) return null
  const { journal } = broker
  const reader = new BytesReader(journal.viewBuffer, journal.viewStart, journal.viewEnd)
  const words = readIndex(reader, chunk)
  if (words === null) return null
  const patches = chunk.patches ?? []
  for (let i = 0; i < patches.length; i += 5) applyPatch(words, chunk, patches, i)
  return entriesOf(chunk, words)
}

/** The unsettled entries that the words of a chunk's index tell of. */
function entriesOf(chunk: Chunk, words: Uint32Array): Entry[] {
  const entries: Entry[] = []
  for (let i = 0; i < chunk.count; i++) {
    const flags = words[i * 4 + 3]!
    if ((flags & ENTRY_STATE) === SETTLED) continue
    const [segment, offset] = [words[i * 4]!, words[i * 4 + 1]!]
    entries.push({ sequence: chunk.start + i, segment, offset, flags })
  }
  return entries
}

async function entryLine(broker: Broker, queue: Queue, entry: Entry): Promise<string> {
  const { sequence, segment, offset, flags } = entry
  const released = (flags & ENTRY_STATE) === RELEASED ? ' released' : ''
  const head = `entry ${queue.id} ${sequence} ${flags & KEPT}${released}`
  if (!(await inMemory(broker, segment, offset))) return `${head} cannot be read`
  if (view(broker, segment, offset) !== VIEWED) return `${head} is no message`
  const { stored } = broker
  const { source, payloadStart, payloadEnd } = stored
  const ids = (flags & ENTRY_HAS_IDS) === 0 ? null : idsOf(broker, queue, sequence)
  const payload = source.toString('utf8', payloadStart, Math.min(payloadEnd, payloadStart + 12))
  return `${head} ${stored.keyText()} ${payload} ${payloadEnd - payloadStart} ${stored.expiresAt} ${ids}`
}

/** Of what a shared group gave, the move tells them: at replay before a start only the group knows of it. */
function idsOf(broker: Broker, queue: Queue, sequence: number): number[] | null {
  for (const group of broker.state.groups.values()) {
    for (const move of group.queue.moves?.values() ?? []) {
      if (move.sessionId === queue.id && move.sequence === sequence) return [move.identifier]
    }
  }
  const { stored } = broker
  return identifiersOf(stored.source, stored, viewed.end, queue.id)
}

/** A group's members that last, and what they hold of it. */
function groupLines(broker: Broker, lines: string[]): void {
  for (const { id, text, filter, members, queue } of broker.state.groups.values()) {
    if (!queue.isDurable) continue
    lines.push(`group ${id} ${text} ${filter}`)
    for (const session of members.keys()) {
      if (session.isLasting) lines.push(`member ${id} ${session.id}`)
    }
    for (const move of queue.moves?.values() ?? []) {
      const { groupSequence, sessionId, sequence, flags, identifier } = move
      if (!broker.state.sessions.get(sessionId)?.isLasting) continue
      const kept = flags & KEPT
      lines.push(`move ${id} ${groupSequence} ${sessionId} ${sequence} ${kept} ${identifier}`)
    }
  }
}

async function queueLines(broker: Broker, queue: Queue, lines: string[]): Promise<void> {
  const { id, name, isSession, nextSequence, options, count } = queue
  const kind = isSession ? 'session queue' : 'queue'
  const { isExclusive, isAutoDelete } = options
  const level = isUpperLevel(queue) ? ` level ${queue.levels!.priorityOf(queue)}` : ''
  const table = isSession ? '' : JSON.stringify(options.arguments, (_key, value) => String(value))
  lines.push(
    `${kind} ${id} ${name} ${count} ${nextSequence} ${isExclusive} ${isAutoDelete} ${table}${level}`
  )
  for (const entries of [queue.held, queue.letters]) {
    for (let is = entries?.first(); is; is = entries!.after(entries!.dueAt, entries!.sequence)) {
      // A replay learns only at its end of those whose message was finished meanwhile.
      if (queue.stateOf(entries!.sequence) !== RELEASED) continue
      lines.push(`held ${id} ${entries!.dueAt} ${entries!.sequence} ${entries!.flags}`)
    }
  }
  for (const chunk of [...queue.chunks]) {
    const entries =
      chunk.words === null ? await coldEntries(broker, chunk) : entriesOf(chunk, chunk.words)
    if (entries === null) lines.push(`entries of ${id} from ${chunk.start} cannot be read`)
    for (const entry of entries ?? []) lines.push(await entryLine(broker, queue, entry))
  }
}

function willLine(sessionId: number, clientId: string, user: string, will: Will): string {
  const { topic, payload, qos, retain, expirySeconds, delaySeconds } = will
  return `will ${sessionId} ${clientId} ${user} ${topic} ${payload} ${qos} ${retain} ${expirySeconds} ${delaySeconds}`
}

function sessionLines(session: Session, lines: string[]): void {
  const { id, clientId, user, version, expirySeconds, inbound, will } = session
  if (will !== null) lines.push(willLine(id, clientId, user, will))
  if (!session.isLasting) return
  lines.push(
    `session ${id} ${clientId} ${user} ${version} ${expirySeconds} ${session.wildcardCount}`
  )
  for (const packetId of inbound?.keys() ?? []) lines.push(`inbound ${id} ${packetId}`)
  for (const subscription of session.subscriptions.values()) {
    const { filter, qos, noLocal, retainAsPublished, retainHandling, identifier } = subscription
    lines.push(
      `subscription ${id} ${filter} ${qos} ${noLocal} ${retainAsPublished} ${retainHandling} ${identifier}`
    )
  }
}

export async function lastingState(broker: Broker): Promise<string[]> {
  const lines: string[] = []
  const { state } = broker
  for (const queue of [...state.queues.values()]) {
    if (queue.isDurable) await queueLines(broker, queue, lines)
  }
  for (const store of state.delays.stores.values()) {
    if (store.isDurable) await delayLines(broker, store, lines)
  }
  keyLines(broker, lines)
  for (const session of state.sessions.values()) sessionLines(session, lines)
  groupLines(broker, lines)
  for (const { sessionId, clientId, user, will } of state.orphanWills.values()) {
    lines.push(willLine(sessionId, clientId, user, will))
  }
  for (const user of state.users.values()) lines.push(`user ${JSON.stringify(user)}`)
  for (const vhost of state.vhosts.values()) {
    lines.push(`vhost ${vhost.name} ${vhost.description} ${vhost.tags}`)
    for (const policy of [...vhost.policies.values(), ...vhost.operatorPolicies.values()]) {
      lines.push(`policy ${vhost.name} ${JSON.stringify(policy)}`)
    }
    for (const { value } of [...vhost.retained.tree.entries()]) {
      if (value === null) continue
      const { topic, sequence, bytes, segment, offset } = value
      const isRead = await inMemory(broker, segment, offset)
      const isMessage = isRead && view(broker, segment, offset) === VIEWED
      const same = isMessage && broker.stored.keyText() === topic
      lines.push(`retained ${topic} ${sequence} ${bytes} ${same ? 'is there' : 'cannot be read'}`)
    }
    for (const exchange of vhost.exchanges.values()) exchangeLines(exchange, lines)
  }
  return lines.sort()
}

/** What would be known as a duplicate now. */
function keyLines(broker: Broker, lines: string[]): void {
  const { deduplication, queues } = broker.state
  for (const { id, isLasting, floor, keys, nextSequence } of deduplication.caches.values()) {
    if (!isLasting) continue
    lines.push(`keys ${id} ${nextSequence}`)
    for (const [key, { sequence, expiresAt }] of keys) {
      const isKnown = sequence >= floor && (expiresAt === 0 || expiresAt > broker.nowMs)
      if (isKnown) lines.push(`key ${id} ${sequence} ${key} ${expiresAt}`)
    }
  }
  for (const [id, owner] of deduplication.queues) {
    if (queues.get(id)?.isDurable !== true) continue
    for (const [key, name] of owner.keys) {
      if (owner.isOpen(name)) lines.push(`key of queue ${id} ${name} ${key}`)
    }
  }
}

async function delayLines(broker: Broker, store: DelayStore, lines: string[]): Promise<void> {
  lines.push(`delays ${store.id} ${store.exchange} ${store.count} ${store.nextSequence}`)
  let isThere = store.first()
  while (isThere) {
    const { dueAt, sequence, segment, offset, flags } = store
    const head = `delayed ${store.id} ${dueAt} ${sequence} ${flags & KEPT}`
    if (!(await inMemory(broker, segment, offset))) lines.push(`${head} cannot be read`)
    else if (view(broker, segment, offset) !== VIEWED) lines.push(`${head} is no message`)
    else {
      const { stored } = broker
      const { source, payloadStart, payloadEnd } = stored
      const payload = source.toString('utf8', payloadStart, Math.min(payloadEnd, payloadStart + 12))
      lines.push(`${head} ${stored.keyText()} ${payload} ${payloadEnd - payloadStart}`)
    }
    isThere = store.after(dueAt, sequence)
  }
}

function exchangeLines(exchange: Exchange, lines: string[]): void {
  const { name, type, isAutoDelete, isInternal } = exchange
  if (!exchange.isDurable) return
  lines.push(`exchange ${name} ${type} ${isAutoDelete} ${isInternal}`)
  exchange.forEachBinding(({ target, key, arguments: table }) => {
    const to = target as Queue | Exchange
    if (to.isDurable) lines.push(`binding ${name} ${key} ${to.name} ${table.length}`)
  })
}

/** By segment: what the journal should have been told is live there. `durableOnly`: what a replay finds. */
export function liveBytes(broker: Broker, durableOnly: boolean): Map<number, number> {
  const live = new Map<number, number>()
  const claim = (segment: number, bytes: number) => {
    if (segment > 0 && segment < 0x80000000) live.set(segment, (live.get(segment) ?? 0) + bytes)
  }
  for (const queue of broker.state.queues.values()) {
    if (durableOnly && !queue.isDurable) continue
    for (const chunk of queue.chunks) chargeChunk(chunk, claim)
  }
  for (const store of broker.state.delays.stores.values()) {
    if (durableOnly && !store.isDurable) continue
    let isThere = store.first()
    while (isThere) {
      claim(store.segment, shareOf(store.payloadBytes, store.flags))
      isThere = store.after(store.dueAt, store.sequence)
    }
  }
  for (const vhost of broker.state.vhosts.values()) {
    for (const { value } of vhost.retained.tree.entries()) {
      if (value !== null) claim(value.segment, shareOf(value.bytes, value.flags))
    }
  }
  return live
}

function chargeChunk(chunk: Chunk, claim: (segment: number, bytes: number) => void): void {
  if (chunk.words === null) {
    claim(chunk.segment, chunk.count * INDEX_ENTRY_BYTES)
    const { shares, patches } = chunk
    for (let i = 0; i < shares.length; i += 2) claim(shares[i]!, shares[i + 1]!)
    for (let i = 0; patches !== null && i < patches.length; i += 5) {
      const flags = patches[i + 4]!
      if (flags !== SETTLED && flags !== RELEASED)
        claim(patches[i + 1]!, shareOf(patches[i + 3]!, flags))
    }
    return
  }
  for (let i = 0; i < chunk.count; i++) {
    const [segment, , bytes, flags] = chunk.words.subarray(i * 4, i * 4 + 4) as unknown as number[]
    if ((flags! & ENTRY_STATE) !== SETTLED) claim(segment!, shareOf(bytes!, flags!))
  }
}

function segmentsOf(broker: Broker): Map<number, { liveBytes: number }> {
  const journal = broker.journal as unknown as {
    segments: { byNumber: Map<number, { liveBytes: number }> }
  }
  return journal.segments.byNumber
}

/** What the journal was told, by segment; what holds nothing is left out. */
export function chargedBytes(broker: Broker): Map<number, number> {
  const charged = new Map<number, number>()
  for (const [number, { liveBytes: bytes }] of segmentsOf(broker)) {
    if (bytes !== 0) charged.set(number, bytes)
  }
  return charged
}

/** Some segment was given back: without a checkpoint the log does not tell everything any more. */
export function hasRecycled(broker: Broker): boolean {
  const numbers = [...segmentsOf(broker).keys()]
  return numbers.length < Math.max(...numbers)
}

/** What is in one list and not in the other. */
export function differences(before: readonly string[], after: readonly string[]): string[] {
  const old = new Set(before)
  const now = new Set(after)
  return [
    ...before.filter(line => !now.has(line)).map(line => `gone: ${line}`),
    ...after.filter(line => !old.has(line)).map(line => `new: ${line}`)
  ]
}
