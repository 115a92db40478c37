/** Every kind of record: written, applied to a fresh state, the same; damaged, counted, never thrown. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Exchange } from '../../src/core/exchange.ts'
import type { FieldTable } from '../../src/core/field-table.ts'
import { Message } from '../../src/core/message.ts'
import { Queue } from '../../src/core/queue.ts'
import {
  ENTRY_EXPIRES,
  ENTRY_QOS,
  ENTRY_QOS_SHIFT,
  ENTRY_SHARE_SHIFT,
  READY,
  RELEASED
} from '../../src/core/queue-entry.ts'
import { queueOptions } from '../../src/core/queue-options.ts'
import { applyRecord } from '../../src/core/records/apply.ts'
import {
  writeBinding,
  writeExchange,
  writeExchangeName,
  writeQueue
} from '../../src/core/records/definitions.ts'
import { KIND } from '../../src/core/records/kinds.ts'
import {
  DestinationReader,
  expiryIn,
  entryFlags,
  MessageRecord,
  messageBytesMax,
  readMessage,
  writeDestination,
  writeMessage,
  writeSettled
} from '../../src/core/records/message.ts'
import { writeCold, writeEntries } from '../../src/core/records/queue-entries.ts'
import { writeRetained, writeRetainedClear } from '../../src/core/records/retained.ts'
import {
  writeSession,
  writeSubscription,
  writeUnsubscribe,
  writeWill
} from '../../src/core/records/session.ts'
import { writeInbound, writePair, writePurge } from '../../src/core/records/settle.ts'
import { writeUser, writeUserDelete } from '../../src/core/records/user.ts'
import { RetainedSlot } from '../../src/core/retained.ts'
import { Session } from '../../src/core/session.ts'
import { State } from '../../src/core/state.ts'
import { ByteWriter } from '../../src/lib/byte-writer.ts'
import { lastingLines } from '../support/state-lines.ts'
import { messageOf, willOf } from '../support/broker-rig.ts'

interface Written {
  kind: number
  bytes: Buffer
}

function freshState(): State {
  return new State({ claim: () => undefined, release: () => undefined })
}

function apply(state: State, { kind, bytes }: Written, at = 5): boolean {
  return applyRecord(state, kind, bytes, 0, bytes.length, 1, at)
}

function written(kind: number, write: (writer: ByteWriter) => void): Written {
  const writer = new ByteWriter()
  write(writer)
  return { kind, bytes: Buffer.from(writer.buffer.subarray(0, writer.length)) }
}

function pair(kind: number, id: number, value: number): Written {
  const bytes = Buffer.alloc(16)
  return { kind, bytes: bytes.subarray(0, writePair(bytes, 0, id, value)) }
}

const TABLE: FieldTable = [
  ['x-max-length', { type: 'I', value: 7 }],
  ['a', { type: 'l', value: -5n }],
  ['t', { type: 'T', value: 2n ** 63n }],
  ['f', { type: 'F', value: [['in', { type: 'V', value: null }]] }],
  [
    'l',
    {
      type: 'A',
      value: [
        { type: 't', value: true },
        { type: 'S', value: 'é' }
      ]
    }
  ],
  ['d', { type: 'D', scale: 2, value: 314 }],
  ['n', { type: 'd', value: -0.5 }],
  ['b', { type: 'x', value: Buffer.from([0, 255]) }],
  ['long string that is no text', { type: 'x', value: Buffer.from([0, 255]), isLongString: true }]
]

const USER = { name: 'é', tags: ['a'], passwordHash: 'p', scram: 's', resources: [], topics: [] }
const SUBSCRIPTION = {
  qos: 2,
  noLocal: true,
  retainAsPublished: true,
  retainHandling: 2,
  identifier: 77
}

function session(): Session {
  const queue = new Queue(
    9,
    'c',
    '/',
    queueOptions(
      { isDurable: true, isExclusive: false, isAutoDelete: false, isConfigured: false },
      []
    ),
    true
  )
  const made = new Session(9, 'c', '/', 'u', queue)
  made.isLasting = true
  made.version = 5
  made.expirySeconds = 3_600
  made.endsAt = 12_345.5
  queue.nextSequence = 70_000
  return made
}

function queue(): Queue {
  const made = new Queue(
    4,
    'q',
    '/',
    queueOptions(
      { isDurable: true, isExclusive: false, isAutoDelete: true, isConfigured: true },
      TABLE
    ),
    false
  )
  made.nextSequence = 12
  return made
}

interface MessageFields {
  sessionId: number
  retainedSequence: number
  expiresAt: number
  exchange: string
  payload: string
}

function messageRecord(fields: Partial<MessageFields> = {}): Written {
  const {
    sessionId = 0,
    retainedSequence = 0,
    expiresAt = 0,
    exchange = 'amq.topic',
    payload = 'hello'
  } = fields
  const message = messageOf('a/b', payload)
  message.qos = 2
  message.expiresAt = expiresAt
  message.exchange = exchange
  message.packetId = 65_535
  const bytes = Buffer.alloc(messageBytesMax(message) + 200)
  let at = writeMessage(bytes, 0, message, sessionId, retainedSequence, '/')
  at = writeDestination(
    bytes,
    at,
    9,
    70_000,
    entryFlags(2, true, true, false),
    false,
    [1, 268_435_455]
  )
  at = writeDestination(bytes, at, 4, 12, entryFlags(1, false, false, false), false, null)
  at = writeDestination(bytes, at, 1_000, 1, entryFlags(0, false, false, false), true, null)
  return { kind: KIND.message, bytes: bytes.subarray(0, at) }
}

const EXCHANGE = new Exchange({
  name: 'e',
  kind: 'headers',
  isDurable: true,
  isAutoDelete: true,
  arguments: TABLE
})
const BINDING: FieldTable = [
  ['x-match', { type: 'S', value: 'any' }],
  ['k', { type: 'I', value: 1 }]
]
const SLOT = new RetainedSlot('a/é', 3, 99, 5, 0x20000, 8)

/** One of every kind, in an order in which each knows what it names. */
function everyKind(): Written[] {
  const chunked = queue()
  for (let i = 0; i < 40; i++) chunked.push(1, i + 1, i, READY | (1 << ENTRY_QOS_SHIFT) | 0x10000)
  chunked.settle(20)
  const chunk = chunked.chunks[0]!
  const index = written(KIND.queueIndex, writer => writeEntries(writer, chunked, chunk))
  const entries = written(KIND.queueEntries, writer => writeEntries(writer, chunked, chunk))
  chunked.cool(chunk, 1, 5, [1, 6_000])
  chunked.settle(15)
  return [
    written(KIND.user, writer => writeUser(writer, USER)),
    written(KIND.exchange, writer => writeExchange(writer, '/', EXCHANGE)),
    written(KIND.queue, writer => writeQueue(writer, queue())),
    written(KIND.session, writer => writeSession(writer, session(), true)),
    written(KIND.subscribe, writer => writeSubscription(writer, 9, 'a/+', SUBSCRIPTION)),
    written(KIND.subscribe, writer => writeSubscription(writer, 9, 'b', SUBSCRIPTION)),
    written(KIND.unsubscribe, writer => writeUnsubscribe(writer, 9, 'b')),
    written(KIND.will, writer => writeWill(writer, 9, 'c', '/', 'u', willOf({ delaySeconds: 3 }))),
    written(KIND.will, writer => writeWill(writer, 77, 'gone', '/', 'u', willOf({ qos: 0 }))),
    written(KIND.bind, writer => writeBinding(writer, '/', EXCHANGE, queue(), 'key', BINDING)),
    messageRecord({ sessionId: 9, retainedSequence: 6, expiresAt: 55.5, exchange: 'other' }),
    written(KIND.inbound, writer => writeInbound(writer, 9, [1, 2, 65_535])),
    pair(KIND.release, 9, 2),
    pair(KIND.received, 9, 70_000),
    written(KIND.retained, writer => writeRetained(writer, '/', SLOT)),
    entries,
    index,
    written(KIND.queueCold, writer => writeCold(writer, chunked, chunk)),
    pair(KIND.settle, 4, 13),
    written(KIND.counters, writer => {
      writer.varint(500)
      writer.varint(600)
    })
  ]
}

/** What ends the things above. */
function everyEnd(): Written[] {
  return [
    written(KIND.purge, writer => writePurge(writer, 4, 100, new Set([14]))),
    written(KIND.unbind, writer => writeBinding(writer, '/', EXCHANGE, queue(), 'key', BINDING)),
    written(KIND.exchangeDelete, writer => writeExchangeName(writer, '/', 'e')),
    written(KIND.queueDelete, writer => writer.varint(4)),
    written(KIND.retainedClear, writer => writeRetainedClear(writer, '/', 'a/é')),
    written(KIND.willClear, writer => writer.varint(9)),
    written(KIND.willClear, writer => writer.varint(77)),
    written(KIND.sessionEnd, writer => writer.varint(9)),
    written(KIND.userDelete, writer => writeUserDelete(writer, 'é'))
  ]
}

describe('records', () => {
  it('bring back what was written, of every kind', () => {
    const state = freshState()
    for (const record of everyKind())
      expect([record.kind, apply(state, record)]).toEqual([record.kind, true])
    expect(lastingLines(state)).toEqual([
      'binding e key q ["x-match","k"]',
      `exchange e headers true ${TABLE.map(([name]) => name)}`,
      'inbound 9 65535,1',
      'orphan gone u will lost 0',
      `queue 4 q true true ${TABLE.map(([name]) => name)} 37 of 52`,
      'retained a/b 6 5 4',
      'retained a/é 8 5 2',
      'session 9 c u 5 3600 12345.5 will lost 3',
      'session queue 9 1 of 70001',
      'subscription 9 a/+ 2 true true 2 77',
      'user {"name":"é","tags":["a"],"passwordHash":"p","scram":"s","resources":[],"topics":[]}'
    ])
    expect(state.nextId).toBe(1_001)
    expect(state.retainedSequence).toBe(600)
    const delivery = state.sessions.get(9)!.queue
    expect(delivery.find(70_000)).toBe(true)
    expect(delivery.flags & 3).toBe(RELEASED)
    expect((delivery.flags & ENTRY_QOS) >> ENTRY_QOS_SHIFT).toBe(2)
    expect(state.queues.get(4)!.stateOf(15)).toBe(0)
    expect(state.queues.get(4)!.stateOf(14)).toBe(READY)
  })

  it('take away what was ended', () => {
    const state = freshState()
    for (const record of everyKind()) apply(state, record)
    for (const record of everyEnd())
      expect([record.kind, apply(state, record)]).toEqual([record.kind, true])
    expect(lastingLines(state)).toEqual(['retained a/b 6 5 4'])
  })

  it('are refused, and change nothing, when they name what is not there', () => {
    const state = freshState()
    const unknown = [...everyKind(), ...everyEnd()].filter(
      ({ kind }) => !NEEDS_NOTHING.has(kind) && kind !== KIND.retained && kind !== KIND.will
    )
    for (const record of unknown)
      expect([record.kind, apply(state, record)]).toEqual([record.kind, false])
    expect(lastingLines(state)).toEqual(['retained a/b 6 5 4'])
    expect(apply(state, { kind: 250, bytes: Buffer.alloc(9) })).toBe(false)
  })

  it('keep the message, its properties and its destinations', () => {
    const message = new Message()
    const record = new MessageRecord()
    const { bytes } = messageRecord({ sessionId: 9, expiresAt: 55.5, exchange: 'other' })
    expect(readMessage(bytes, 0, bytes.length, message, record)).toBe(true)
    expect(message.keyText()).toBe('a/b')
    expect(message.source.toString('utf8', message.payloadStart, message.payloadEnd)).toBe('hello')
    expect([message.qos, message.expiresAt, message.exchange, message.packetId]).toEqual([
      2,
      55.5,
      'other',
      65_535
    ])
    const reader = new DestinationReader()
    reader.open(bytes, record.destinationsStart, bytes.length)
    const found: unknown[] = []
    while (reader.next())
      found.push([reader.queueId, reader.sequence, reader.isTransient, reader.identifiers])
    expect(found).toEqual([
      [9, 70_000, false, [1, 268_435_455]],
      [4, 12, false, null],
      [1_000, 1, true, null]
    ])
  })

  it('of a message that leaves a queue take it out there, and keep each expiry of a destination', () => {
    const state = freshState()
    for (const record of everyKind().slice(0, 10)) apply(state, record)
    const queue = state.queues.get(4)!
    state.insertEntry(queue, 500, 1, 64, 5, entryFlags(1, false, false, false))
    const before = queue.readyCount
    const message = messageOf('dead', 'hello')
    const bytes = Buffer.alloc(messageBytesMax(message) + 200)
    let at = writeMessage(bytes, 0, message, 0, 0, '')
    const flags = entryFlags(1, false, false, false)
    at = writeDestination(bytes, at, 4, 501, flags, false, null, 77.5)
    at = writeDestination(bytes, at, 9, 70_001, flags, false, null)
    at = writeSettled(bytes, at, 4, 500)
    const record = { kind: KIND.message, bytes: bytes.subarray(0, at) }
    expect(apply(state, record)).toBe(true)
    expect(queue.readyCount).toBe(before)
    expect([queue.find(500), queue.find(501)]).toEqual([false, true])
    expect(queue.flags & ENTRY_EXPIRES).toBe(ENTRY_EXPIRES)
    // Two share the record: where it came from is none of them.
    expect(queue.flags >>> ENTRY_SHARE_SHIFT).toBe(2)
    expect(readMessage(record.bytes, 0, at, message)).toBe(true)
    expect(expiryIn(record.bytes, message, at, 4)).toBe(77.5)
    expect(expiryIn(record.bytes, message, at, 9)).toBe(0)
    message.expiresAt = 50
    expect(expiryIn(record.bytes, message, at, 4)).toBe(50)
  })

  it('never throw when they are cut short', () => {
    for (const { kind, bytes } of [...everyKind(), ...everyEnd()]) {
      for (let length = 0; length < bytes.length; length++) {
        const state = freshState()
        for (const record of everyKind().slice(0, 10)) apply(state, record)
        const cut = { kind, bytes: bytes.subarray(0, length) }
        expect(() => apply(state, cut)).not.toThrow()
      }
    }
  })

  it('never throw when bytes of them are others', () => {
    const all = [...everyKind(), ...everyEnd()]
    const change = fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 }))
    fc.assert(
      fc.property(
        fc.nat(all.length - 1),
        fc.array(change, { minLength: 1, maxLength: 6 }),
        (which, changes) => {
          const state = freshState()
          for (const record of everyKind().slice(0, 10)) apply(state, record)
          const { kind, bytes } = all[which]!
          const bad = Buffer.from(bytes)
          for (const [at, value] of changes) if (bad.length > 0) bad[at % bad.length] = value
          expect(typeof apply(state, { kind, bytes: bad })).toBe('boolean')
          walk(state)
        }
      ),
      { numRuns: 3_000 }
    )
  })

  it('never throw for garbage', () => {
    const kinds = fc.constantFrom(...Object.values(KIND))
    fc.assert(
      fc.property(
        fc.array(fc.tuple(kinds, fc.uint8Array({ maxLength: 60 })), { maxLength: 5 }),
        list => {
          const state = freshState()
          for (const record of everyKind().slice(0, 10)) apply(state, record)
          for (const [kind, bytes] of list) {
            expect(typeof apply(state, { kind, bytes: Buffer.from(bytes) })).toBe('boolean')
          }
          walk(state)
        }
      ),
      { numRuns: 3_000 }
    )
  })

  it('of chunks that are none are refused', () => {
    const state = freshState()
    for (const record of everyKind()) apply(state, record)
    const before = lastingLines(state)
    for (const kind of [KIND.queueIndex, KIND.queueCold]) {
      for (const count of [0, 1_025, 2 ** 40]) {
        for (const start of [0, 1_024]) {
          const record = written(kind, writer => {
            for (const value of [4, start, count, 1, 5]) writer.varint(value)
            writer.u32(1)
            writer.u32(5)
            writer.varint(0)
          })
          if (start > 0 && count > 0 && count <= 1_024) continue
          expect(apply(state, record)).toBe(false)
        }
      }
    }
    expect(lastingLines(state)).toEqual(before)
  })

  it('of users that are no users are refused', () => {
    for (const text of ['null', '5', '"x"', '{}', '{"name":3}', '{']) {
      expect(
        apply(
          freshState(),
          written(KIND.user, writer => writer.longString(text))
        )
      ).toBe(false)
    }
  })
})

/** Whatever was let in, the queues can be used. */
function walk(state: State): void {
  for (const each of state.queues.values()) {
    each.next()
    state.removeQueue(each)
    expect(each.count).toBe(0)
  }
}

const NEEDS_NOTHING: ReadonlySet<number> = new Set([
  KIND.user,
  KIND.exchange,
  KIND.queue,
  KIND.session,
  KIND.counters
])
