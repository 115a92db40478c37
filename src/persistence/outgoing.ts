/**
 * Reading a client's queue: in order, one entry at a time, bodies from the disk. A chunk whose index went
 * cold stays cold: its index is read aside, and what has changed since is asked of the chunk.
 */
import { applyPatch, type Chunk, coldState, WORDS } from '../core/chunk.ts'
import { ENTRY_STATE, RELEASED, SETTLED } from '../core/queue-entry.ts'
import { readIndex } from '../core/records/queue-entries.ts'
import { BytesReader } from '../lib/bytes-reader.ts'
import { decodePacket, readRecord, viewedMessage } from './bodies.ts'
import type { StoredClient } from './client.ts'
import type { Context } from './context.ts'
import { isPair, type PersistedPacket } from './packet.ts'

/** An entry, true until the next turn. */
export interface Entry {
  readonly sequence: number
  readonly segment: number
  readonly offset: number
  /** QoS 2, PUBREC came: its body is not wanted any more. */
  readonly isReleased: boolean
}

export class OutgoingReader {
  readonly #context: Context
  readonly #client: StoredClient
  /** What came later is not read. */
  readonly #until: number
  #at: number

  /** Reads what stands behind `after` now. */
  constructor(context: Context, client: StoredClient, after = 0) {
    this.#context = context
    this.#client = client
    this.#until = client.queue.nextSequence
    this.#at = after
  }

  /** The next entry, or null behind the last. */
  async next(): Promise<Entry | null> {
    for (;;) {
      const chunk = chunkBehind(this.#client.queue.chunks, this.#at)
      if (chunk === null || chunk.start >= this.#until) return null
      const words = chunk.words ?? this.#context.indexes.get(chunk)
      if (words === null) {
        await this.#load(chunk)
        continue
      }
      const entry = this.#inChunk(chunk, words)
      if (entry === null) {
        this.#at = chunk.start + chunk.count - 1
        continue
      }
      if (entry.sequence >= this.#until) return null
      this.#at = entry.sequence
      return entry
    }
  }

  #inChunk(chunk: Chunk, words: Uint32Array): Entry | null {
    const end = chunk.start + chunk.count
    for (let sequence = Math.max(this.#at + 1, chunk.start); sequence < end; sequence++) {
      const at = (sequence - chunk.start) * WORDS
      let state = words[at + 3]! & ENTRY_STATE
      if (state === SETTLED) continue
      if (chunk.words === null) {
        const changed = coldState(chunk, sequence)
        if (changed === SETTLED) continue
        if (changed === RELEASED) state = RELEASED
      }
      const isReleased = state === RELEASED
      return { sequence, segment: words[at]!, offset: words[at + 1]!, isReleased }
    }
    return null
  }

  async #load(chunk: Chunk): Promise<void> {
    const { segment, offset } = chunk
    const words = await readRecord(this.#context.journal, segment, offset, (buffer, start, end) =>
      readIndex(new BytesReader(buffer, start, end), chunk)
    )
    // Compaction may have moved it, or read it back.
    if (chunk.words !== null || chunk.segment !== segment || chunk.offset !== offset) return
    if (words === null) {
      dropDamaged(this.#context, this.#client, chunk)
      return
    }
    const patches = chunk.patches ?? []
    for (let i = 0; i < patches.length; i += 5) applyPatch(words, chunk, patches, i)
    this.#context.indexes.add(chunk, words)
  }
}

/** Its index cannot be read: what it holds is lost, and said. */
function dropDamaged(context: Context, client: StoredClient, chunk: Chunk): void {
  const { queue } = client
  if (queue.coldChunkOf(chunk.start) !== chunk) return
  context.log('error', 'the index of queued packets is damaged: they are lost', {
    client: client.clientId,
    packets: chunk.live
  })
  for (let i = 0; i < chunk.count; i++) client.ids.delete(chunk.start + i)
  context.store.state.dropCold(queue, chunk)
}

/** The first chunk that reaches behind `sequence`. */
function chunkBehind(chunks: readonly Chunk[], sequence: number): Chunk | null {
  let low = 0
  let high = chunks.length
  while (low < high) {
    const middle = (low + high) >> 1
    if (chunks[middle]!.start + chunks[middle]!.count <= sequence + 1) low = middle + 1
    else high = middle
  }
  return chunks[low] ?? null
}

/** What a client gets for an entry: null if that is damaged. */
export async function packetOfEntry(
  context: Context,
  client: StoredClient,
  entry: Entry
): Promise<PersistedPacket | null> {
  const messageId = client.ids.get(entry.sequence)
  if (entry.isReleased) return { cmd: 'pubrel', messageId }
  const { segment, offset } = entry
  const packet = await readRecord(context.journal, segment, offset, decodePacket)
  if (packet === null || messageId === undefined) return packet
  packet.messageId = messageId
  return packet
}

/** Entries that are looked at in memory, from either end, first; then of those at the end. */
const NEAR_MAX = 32
const TAIL_MAX = 512
/** Entries that are read behind the last one that was found. */
const BEHIND_MAX = 64

/**
 * The entry of a packet by its broker id and counter, or 0. It was enqueued just now, or it is the next that
 * a stream gave out: only else the whole queue is read.
 */
export async function findPair(
  context: Context,
  client: StoredClient,
  pair: Buffer
): Promise<number> {
  const near =
    findInTail(context, client, pair, NEAR_MAX) || findForward(context, client, pair, NEAR_MAX)
  if (near !== 0) return near
  const behind = await findBehind(context, client, pair, client.lastUpdated, BEHIND_MAX)
  if (behind !== 0) return behind
  const last = findInTail(context, client, pair, TAIL_MAX)
  if (last !== 0) return last
  return await findBehind(context, client, pair, 0, Number.POSITIVE_INFINITY)
}

async function findBehind(
  context: Context,
  client: StoredClient,
  pair: Buffer,
  after: number,
  max: number
): Promise<number> {
  const reader = new OutgoingReader(context, client, after)
  for (let left = max; left > 0; left--) {
    const entry = await reader.next()
    if (entry === null) return 0
    const { sequence, segment, offset, isReleased } = entry
    if (isReleased) continue
    const isIt = await readRecord(context.journal, segment, offset, (buffer, start, end, kind) => {
      const message = viewedMessage(buffer, start, end, kind)
      return message !== null && isPair(message, pair)
    })
    if (isIt === true && client.queue.stateOf(sequence) !== SETTLED) return sequence
  }
  return 0
}

function findInTail(context: Context, client: StoredClient, pair: Buffer, max: number): number {
  let sequence = client.queue.nextSequence - 1
  for (let left = max; left > 0 && sequence > 0; left--, sequence--) {
    if (isAt(context, client, sequence, pair)) return sequence
  }
  return 0
}

function findForward(context: Context, client: StoredClient, pair: Buffer, max: number): number {
  let sequence = client.queue.after(client.lastUpdated - 1)
  for (let left = max; left > 0 && sequence > 0; left--) {
    if (isAt(context, client, sequence, pair)) return sequence
    sequence = client.queue.after(sequence)
  }
  return 0
}

function isAt(context: Context, client: StoredClient, sequence: number, pair: Buffer): boolean {
  const { queue } = client
  if (!queue.find(sequence) || (queue.flags & ENTRY_STATE) === RELEASED) return false
  const { journal } = context
  if (!journal.view(queue.segment, queue.offset)) return false
  const { viewBuffer, viewStart, viewEnd, viewKind } = journal
  const message = viewedMessage(viewBuffer, viewStart, viewEnd, viewKind)
  return message !== null && isPair(message, pair)
}
