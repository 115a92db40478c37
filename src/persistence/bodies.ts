/** Bodies are on the disk, or in one of the journal's blocks: how they are read. */
import { Message } from '../core/message.ts'
import { KIND } from '../core/records/kinds.ts'
import { readMessage } from '../core/records/message.ts'
import { BytesError, BytesReader } from '../lib/bytes-reader.ts'
import type { BlockWaiter, Journal } from '../journal/journal.ts'
import { type PersistedPacket, packetOf } from './packet.ts'
import { readText, readValue } from './values.ts'
import { OWN } from './kinds.ts'

/** Looks at a record while it is in view; what it returns must be its own. Null: that is not what it should be. */
export type Decode<T> = (buffer: Buffer, start: number, end: number, kind: number) => T | null

const message = new Message()

class Reading<T> implements BlockWaiter {
  readonly #journal: Journal
  readonly #decode: Decode<T>
  readonly #resolve: (value: T | null) => void

  constructor(journal: Journal, decode: Decode<T>, resolve: (value: T | null) => void) {
    this.#journal = journal
    this.#decode = decode
    this.#resolve = resolve
  }

  onBlock(segment: number, offset: number, ok: boolean): void {
    const isThere = ok && this.#journal.view(segment, offset)
    this.#resolve(isThere ? decoded(this.#journal, this.#decode) : null)
  }
}

function decoded<T>(journal: Journal, decode: Decode<T>): T | null {
  try {
    return decode(journal.viewBuffer, journal.viewStart, journal.viewEnd, journal.viewKind)
  } catch (error) {
    if (error instanceof BytesError) return null
    throw error
  }
}

/**
 * Reads the record at a position. What lies there now is read even if it is settled or moved meanwhile: a block
 * under read holds its segment. Null: it is damaged.
 */
export function readRecord<T>(
  journal: Journal,
  segment: number,
  offset: number,
  decode: Decode<T>
): Promise<T | null> {
  if (journal.view(segment, offset)) return Promise.resolve(decoded(journal, decode))
  return new Promise(resolve => {
    journal.load(segment, offset, new Reading(journal, decode, resolve))
  })
}

/** The message at a place that `journal.view` just found, or null. */
export function viewedMessage(
  buffer: Buffer,
  start: number,
  end: number,
  kind: number
): Message | null {
  return kind === KIND.message && readMessage(buffer, start, end, message) ? message : null
}

export const decodePacket: Decode<PersistedPacket> = (buffer, start, end, kind) => {
  const found = viewedMessage(buffer, start, end, kind)
  return found === null ? null : packetOf(found)
}

/** An incoming packet or a will. */
export const decodeBody: Decode<PersistedPacket> = (buffer, start, end, kind) => {
  if (kind !== OWN.incoming && kind !== OWN.will) return null
  const reader = new BytesReader(buffer, start, end)
  reader.varint()
  if (kind === OWN.incoming) reader.varint()
  else readText(reader)
  const packet = readValue(reader)
  return typeof packet === 'object' && packet !== null ? (packet as PersistedPacket) : null
}
