/**
 * Values of JavaScript as bytes: what Aedes puts into packets, subscriptions and wills comes back as it was,
 * keys with the value `undefined` among it. A tag, then what it needs; the usual names of keys are one byte.
 */
import type { ByteWriter } from '../lib/byte-writer.ts'
import { BytesError, type BytesReader } from '../lib/bytes-reader.ts'
import { PersistenceError } from './errors.ts'

const TAG = {
  undefined: 0,
  null: 1,
  false: 2,
  true: 3,
  whole: 4,
  number: 5,
  text: 6,
  bytes: 7,
  list: 8,
  object: 9
} as const

/** An own key that is not there: not the same as one with the value `undefined`. */
export const ABSENT = Symbol('absent')
const TAG_ABSENT = 10

/** Deeper than any packet; a value that refers to itself ends here. */
const DEPTH_MAX = 32
const ITEMS_MAX = 1_000_000

/** Their places are in every store: only ever add behind the last. 0 stands for any other name. */
const NAMES = [
  '',
  'cmd',
  'topic',
  'payload',
  'qos',
  'retain',
  'dup',
  'messageId',
  'brokerId',
  'brokerCounter',
  'clientId',
  'nl',
  'rap',
  'rh',
  'properties',
  'messageExpiry',
  'length',
  'id',
  'subscriptionIdentifier',
  'userProperties',
  'contentType',
  'responseTopic',
  'correlationData',
  'payloadFormatIndicator',
  'messageExpiryInterval',
  'topicAlias',
  'willDelayInterval'
] as const
const NUMBERS: ReadonlyMap<string, number> = new Map(NAMES.map((name, at) => [name, at]))

export function writeText(writer: ByteWriter, text: string): void {
  const bytes = Buffer.byteLength(text)
  writer.varint(bytes)
  writer.utf8(text, bytes)
}

export function readText(reader: BytesReader): string {
  return reader.utf8(reader.varint())
}

/** Throws `not-storable` for what no record can hold: a function, a cycle. */
export function writeValue(writer: ByteWriter, value: unknown, depth = 0): void {
  if (value === undefined) writer.u8(TAG.undefined)
  else if (value === null) writer.u8(TAG.null)
  else if (value === ABSENT) writer.u8(TAG_ABSENT)
  else if (typeof value === 'boolean') writer.u8(value ? TAG.true : TAG.false)
  else if (typeof value === 'number') writeNumber(writer, value)
  else if (typeof value === 'string') {
    writer.u8(TAG.text)
    writeText(writer, value)
  } else if (value instanceof Uint8Array) {
    writer.u8(TAG.bytes)
    writer.varint(value.length)
    writer.bytes(value)
  } else if (typeof value !== 'object' || depth >= DEPTH_MAX) {
    throw new PersistenceError('not-storable', `a ${typeof value} in a packet cannot be stored`)
  } else if (Array.isArray(value)) {
    writer.u8(TAG.list)
    writer.varint(value.length)
    for (const item of value) writeValue(writer, item, depth + 1)
  } else {
    writer.u8(TAG.object)
    writeKeys(writer, value, Object.keys(value), depth)
  }
}

function writeNumber(writer: ByteWriter, value: number): void {
  if (Number.isSafeInteger(value) && value >= 0 && !Object.is(value, -0)) {
    writer.u8(TAG.whole)
    writer.varint(value)
  } else {
    writer.u8(TAG.number)
    writer.f64(value)
  }
}

export function writeKeys(
  writer: ByteWriter,
  object: object,
  keys: readonly string[],
  depth = 0
): void {
  writer.varint(keys.length)
  for (const key of keys) {
    const number = NUMBERS.get(key) ?? 0
    writer.varint(number)
    if (number === 0) writeText(writer, key)
    writeValue(writer, (object as Record<string, unknown>)[key], depth + 1)
  }
}

/** Throws a `BytesError` for bytes that are no value. Whatever it returns is the caller's own. */
export function readValue(reader: BytesReader, depth = 0): unknown {
  if (depth > DEPTH_MAX) throw new BytesError('value too deep')
  switch (reader.u8()) {
    case TAG.undefined:
      return undefined
    case TAG.null:
      return null
    case TAG.false:
      return false
    case TAG.true:
      return true
    case TAG.whole:
      return reader.varint()
    case TAG.number:
      return reader.f64()
    case TAG.text:
      return readText(reader)
    case TAG.bytes:
      return Buffer.from(reader.bytes(reader.varint()))
    case TAG.list:
      return readList(reader, depth)
    case TAG.object: {
      const object: Record<string, unknown> = {}
      readEntries(reader, object, depth)
      return object
    }
    case TAG_ABSENT:
      return ABSENT
    default:
      throw new BytesError('unknown kind of value')
  }
}

function readList(reader: BytesReader, depth: number): unknown[] {
  const list: unknown[] = []
  for (let left = countOf(reader); left > 0; left--) list.push(readValue(reader, depth + 1))
  return list
}

export function readEntries(reader: BytesReader, into: object, depth = 0): void {
  for (let left = countOf(reader); left > 0; left--) {
    const number = reader.varint()
    const name = number === 0 ? readText(reader) : NAMES[number]
    if (name === undefined) throw new BytesError('unknown name')
    // Defined, not set: a key may be called __proto__.
    Object.defineProperty(into, name, {
      value: readValue(reader, depth + 1),
      configurable: true,
      enumerable: true,
      writable: true
    })
  }
}

function countOf(reader: BytesReader): number {
  const count = reader.varint()
  if (count > ITEMS_MAX || count > reader.remaining) throw new BytesError('too many items')
  return count
}
