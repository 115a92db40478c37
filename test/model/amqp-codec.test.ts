/** Our codec against that of amqplib, both ways, on whatever fast-check thinks of. */
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { readTable, tableBytes, writeTable } from '../../src/amqp/codec/field-table.ts'
import { FrameSplitter } from '../../src/amqp/codec/frame-splitter.ts'
import type { FieldTable, FieldValue } from '../../src/core/field-table.ts'
import { AmqpError } from '../../src/amqp/reply-codes.ts'

interface AmqplibCodec {
  encodeTable(buffer: Buffer, value: unknown, offset: number): number
  decodeFields(slice: Buffer): Record<string, unknown>
}
// Its package exports only the client: the codec lies beside it.
const require = createRequire(import.meta.url)
const client = require.resolve('amqplib')
const theirs = require(join(dirname(client), 'lib', 'codec.js')) as AmqplibCodec

const name = fc
  .string({ minLength: 1, maxLength: 20 })
  .filter(each => each !== '!' && each !== '__proto__')
const text = fc.string({ unit: 'grapheme', maxLength: 40 })

const leaf: fc.Arbitrary<FieldValue> = fc.oneof(
  fc.boolean().map((value): FieldValue => ({ type: 't', value })),
  fc.integer({ min: -128, max: 127 }).map((value): FieldValue => ({ type: 'b', value })),
  fc.integer({ min: 0, max: 255 }).map((value): FieldValue => ({ type: 'B', value })),
  fc.integer({ min: -32768, max: 32767 }).map((value): FieldValue => ({ type: 's', value })),
  fc.integer({ min: 0, max: 65535 }).map((value): FieldValue => ({ type: 'u', value })),
  fc.integer().map((value): FieldValue => ({ type: 'I', value })),
  fc.nat().map((value): FieldValue => ({ type: 'i', value: value * 2 })),
  fc.maxSafeInteger().map((value): FieldValue => ({ type: 'l', value: BigInt(value) })),
  fc.maxSafeNat().map((value): FieldValue => ({ type: 'T', value: BigInt(value) })),
  fc.double({ noNaN: true }).map((value): FieldValue => ({ type: 'd', value })),
  fc.float({ noNaN: true }).map((value): FieldValue => ({ type: 'f', value })),
  fc.record({ scale: fc.nat(255), value: fc.nat() }).map((d): FieldValue => ({ type: 'D', ...d })),
  text.map((value): FieldValue => ({ type: 'S', value })),
  fc.uint8Array({ maxLength: 40 }).map((v): FieldValue => ({ type: 'x', value: Buffer.from(v) })),
  fc.constant<FieldValue>({ type: 'V', value: null })
)
const { value } = fc.letrec<{ value: FieldValue }>(tie => ({
  value: fc.oneof(
    { maxDepth: 4 },
    leaf,
    fc.array(tie('value'), { maxLength: 4 }).map((v): FieldValue => ({ type: 'A', value: v })),
    table(tie('value')).map((v): FieldValue => ({ type: 'F', value: v }))
  )
}))

function table(values: fc.Arbitrary<FieldValue>): fc.Arbitrary<FieldTable> {
  return fc.uniqueArray(fc.tuple(name, values), { selector: ([key]) => key, maxLength: 6 })
}

/** What amqplib makes of a value. */
function asTheirs(field: FieldValue): unknown {
  switch (field.type) {
    case 'A':
      return field.value.map(asTheirs)
    case 'F':
      return tableAsTheirs(field.value)
    case 'D':
      return { '!': 'decimal', value: { places: field.scale, digits: field.value } }
    case 'T':
      return { '!': 'timestamp', value: Number(field.value) }
    case 'l':
      return Number(field.value)
    default:
      return field.value
  }
}

function tableAsTheirs(fields: FieldTable): Record<string, unknown> {
  return Object.fromEntries(fields.map(([key, each]) => [key, asTheirs(each)]))
}

function encode(fields: FieldTable): Buffer {
  const buffer = Buffer.alloc(tableBytes(fields))
  expect(writeTable(buffer, 0, fields)).toBe(buffer.length)
  return buffer
}

describe('field tables', () => {
  it('come back as they were, and amqplib reads the same from them', () => {
    fc.assert(
      fc.property(table(value), fields => {
        const bytes = encode(fields)
        expect(readTable(bytes, 0, bytes.length)).toEqual(fields)
        expect(theirs.decodeFields(bytes.subarray(4))).toEqual(tableAsTheirs(fields))
      }),
      { numRuns: 500 }
    )
  })

  it('that amqplib wrote are read with the same values', () => {
    const plain = fc.dictionary(
      name,
      fc.oneof(
        fc.boolean(),
        fc.integer(),
        // amqplib writes -0 as an integer.
        fc.double({ noNaN: true, min: -1e15, max: 1e15 }).map(each => each + 0),
        text,
        fc.constant(null)
      ),
      { noNullPrototype: true }
    )
    fc.assert(
      fc.property(plain, given => {
        const bytes = Buffer.alloc(64 * 1024)
        const length = theirs.encodeTable(bytes, given, 0)
        const fields = readTable(bytes, 0, length)
        expect(tableAsTheirs(fields)).toEqual(given)
        expect(encode(fields)).toEqual(bytes.subarray(0, length))
      }),
      { numRuns: 500 }
    )
  })

  it('of random bytes are refused with 502, or read to their end, and never cost more', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), bytes => {
        const source = Buffer.concat([Buffer.alloc(4), Buffer.from(bytes)])
        source.writeUInt32BE(bytes.length, 0)
        try {
          const fields = readTable(source, 0, source.length)
          expect(tableBytes(fields)).toBeGreaterThanOrEqual(4)
        } catch (error) {
          expect(error).toBeInstanceOf(AmqpError)
          expect((error as AmqpError).replyCode).toBe(502)
        }
      }),
      { numRuns: 2_000 }
    )
  })
})

describe('frames', () => {
  it('are the same over any chunking', () => {
    const frame = fc.record({
      type: fc.constantFrom(1, 2, 3, 8),
      channel: fc.nat(65535),
      payload: fc.uint8Array({ maxLength: 60 })
    })
    fc.assert(
      fc.property(fc.array(frame, { maxLength: 20 }), fc.array(fc.nat(50)), (frames, sizes) => {
        const stream = Buffer.concat(
          frames.map(({ type, channel, payload }) => {
            const head = Buffer.from([type, channel >> 8, channel & 255, 0, 0, 0, payload.length])
            return Buffer.concat([head, payload, Buffer.from([0xce])])
          })
        )
        const splitter = new FrameSplitter(60)
        const seen: unknown[] = []
        const handler = {
          onFrame(type: number, channel: number, buffer: Buffer, start: number, end: number) {
            seen.push({ type, channel, payload: Uint8Array.from(buffer.subarray(start, end)) })
            return end + 1
          }
        }
        // One buffer for all reads, as sockets have it.
        const shared = Buffer.alloc(stream.length)
        for (let at = 0, i = 0; at < stream.length; i++) {
          const size = Math.min(stream.length - at, 1 + (sizes[i % (sizes.length || 1)] ?? 0))
          stream.copy(shared, 0, at, at + size)
          splitter.feed(shared, 0, size, handler)
          shared.fill(0xaa)
          at += size
        }
        expect(seen).toEqual(frames)
        expect(splitter.pendingBytes).toBe(0)
      }),
      { numRuns: 500 }
    )
  })
})
