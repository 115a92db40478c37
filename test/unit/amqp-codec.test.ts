import { describe, expect, it } from 'vitest'
import {
  checkTable,
  readTable,
  TABLE_DEPTH_MAX,
  tableBytes,
  writeTable
} from '../../src/amqp/codec/field-table.ts'
import { FrameSplitter, HOLD } from '../../src/amqp/codec/frame-splitter.ts'
import {
  BASIC,
  CONNECTION,
  cutShort,
  encodeMethod,
  QUEUE,
  readArguments
} from '../../src/amqp/codec/methods.ts'
import { ProtocolHeader } from '../../src/amqp/codec/protocol-header.ts'
import { AmqpError } from '../../src/amqp/reply-codes.ts'
import { readLogin } from '../../src/amqp/sasl.ts'
import type { FieldTable } from '../../src/core/field-table.ts'
import { rawFrame } from '../support/raw-amqp.ts'

function codeOf(action: () => unknown): number {
  try {
    action()
  } catch (error) {
    if (error instanceof AmqpError) return error.replyCode
    throw error
  }
  return 0
}

/** A table whose bytes are `entries`, its length before them. */
function rawTable(entries: Buffer): Buffer {
  const table = Buffer.alloc(4 + entries.length)
  table.writeUInt32BE(entries.length, 0)
  entries.copy(table, 4)
  return table
}

function nestedTable(depth: number): Buffer {
  let table = rawTable(Buffer.alloc(0))
  for (let i = 1; i < depth; i++) {
    table = rawTable(Buffer.concat([Buffer.from('\x01kF', 'latin1'), table]))
  }
  return table
}

const EVERY_TYPE: FieldTable = [
  ['t', { type: 't', value: true }],
  ['b', { type: 'b', value: -128 }],
  ['B', { type: 'B', value: 255 }],
  ['s', { type: 's', value: -32768 }],
  ['u', { type: 'u', value: 65535 }],
  ['I', { type: 'I', value: -2147483648 }],
  ['i', { type: 'i', value: 4294967295 }],
  ['l', { type: 'l', value: -(2n ** 63n) }],
  ['f', { type: 'f', value: 0.5 }],
  ['d', { type: 'd', value: 0.1 }],
  ['D', { type: 'D', scale: 2, value: 314 }],
  ['S', { type: 'S', value: 'Grüße' }],
  ['x', { type: 'x', value: Buffer.from([0, 255, 1]) }],
  ['T', { type: 'T', value: 2n ** 64n - 1n }],
  ['V', { type: 'V', value: null }],
  [
    'A',
    {
      type: 'A',
      value: [
        { type: 'I', value: 1 },
        { type: 'A', value: [] }
      ]
    }
  ],
  [
    'F',
    {
      type: 'F',
      value: [
        ['again', { type: 'S', value: '' }],
        ['again', { type: 'V', value: null }]
      ]
    }
  ]
]

describe('field tables', () => {
  it('bring every value back with the type it had, order and repeated names kept', () => {
    const buffer = Buffer.alloc(tableBytes(EVERY_TYPE))
    expect(writeTable(buffer, 0, EVERY_TYPE)).toBe(buffer.length)
    expect(readTable(buffer, 0, buffer.length)).toEqual(EVERY_TYPE)
  })

  it('keep the bytes of a long string that is no UTF-8', () => {
    const entry = Buffer.concat([
      Buffer.from('\x01aS\0\0\0\x02', 'latin1'),
      Buffer.from([0xc3, 0x28])
    ])
    const table = rawTable(entry)
    expect(readTable(table, 0, table.length)).toEqual([
      ['a', { type: 'x', value: Buffer.from([0xc3, 0x28]), isLongString: true }]
    ])
  })

  it('are taken as deep as the bound and refused with 502 beyond it', () => {
    const deepest = nestedTable(TABLE_DEPTH_MAX)
    expect(checkTable(deepest, 0, deepest.length)).toBe(deepest.length)
    const deeper = nestedTable(TABLE_DEPTH_MAX + 1)
    expect(codeOf(() => checkTable(deeper, 0, deeper.length))).toBe(502)
    const bomb = nestedTable(10_000)
    expect(codeOf(() => readTable(bomb, 0, bomb.length))).toBe(502)
  })

  it.each([
    ['a length beyond what holds it', Buffer.from([0, 0, 0, 9, 1])],
    ['no length', Buffer.from([0, 0])],
    ['a name beyond the table', rawTable(Buffer.from([200, 0x61, 0x56]))],
    ['a name without a value', rawTable(Buffer.from([1, 0x61]))],
    ['an unknown type', rawTable(Buffer.from('\x01a?', 'latin1'))],
    ['a value cut short', rawTable(Buffer.from('\x01al\0\0', 'latin1'))],
    ['a string length cut short', rawTable(Buffer.from('\x01aS\0\0', 'latin1'))],
    ['a string beyond the table', rawTable(Buffer.from('\x01aS\0\0\0\x05ab', 'latin1'))],
    ['an inner table beyond the outer', rawTable(Buffer.from('\x01aF\0\0\0\x05', 'latin1'))]
  ])('with %s are refused with 502', (_what, table) => {
    const padded = Buffer.concat([table, Buffer.alloc(64, 0x56)])
    expect(codeOf(() => readTable(padded, 0, table.length))).toBe(502)
  })
})

describe('methods', () => {
  it('are read as they were written, bits packed into octets', () => {
    const values = {
      reserved: 0,
      queue: 'q',
      passive: true,
      durable: false,
      exclusive: true,
      autoDelete: false,
      noWait: true,
      arguments: EVERY_TYPE
    }
    const frame = encodeMethod(QUEUE.declare, 7, values)
    expect(frame.readUInt16BE(1)).toBe(7)
    expect(frame.readUInt32BE(3)).toBe(frame.length - 8)
    expect(frame[frame.length - 1]).toBe(0xce)
    expect(readArguments(QUEUE.declare, frame, 11, frame.length - 1)).toEqual(values)
  })

  it('that are cut short or too long are refused with 502', () => {
    const frame = encodeMethod(BASIC.ack, 1, { deliveryTag: 2 ** 40, multiple: true })
    for (let end = 11; end < frame.length - 1; end++) {
      expect(codeOf(() => readArguments(BASIC.ack, frame, 11, end))).toBe(502)
    }
    expect(codeOf(() => readArguments(BASIC.ack, frame, 11, frame.length))).toBe(502)
  })

  it('cut a short string at a character', () => {
    expect(Buffer.byteLength(cutShort('ü'.repeat(200)))).toBe(254)
    expect(cutShort('a'.repeat(255))).toBe('a'.repeat(255))
    const long = { replyCode: 404, replyText: '€'.repeat(100), classId: 50, methodId: 10 }
    const frame = encodeMethod(CONNECTION.close, 0, long)
    const back = readArguments(CONNECTION.close, frame, 11, frame.length - 1)
    expect(back.replyText).toBe('€'.repeat(85))
  })
})

/** Records what it is given; optionally holds, or takes two frames at once. */
class Recorder {
  readonly frames: string[] = []
  holds = 0

  onFrame(type: number, channel: number, buffer: Buffer, start: number, end: number): number {
    if (this.holds > 0) {
      this.holds--
      return HOLD
    }
    this.frames.push(`${type}.${channel}.${buffer.toString('hex', start, end)}`)
    return end + 1
  }
}

const FRAMES = [
  rawFrame(1, 1, Buffer.from([1, 2, 3, 4])),
  rawFrame(8, 0, Buffer.alloc(0)),
  rawFrame(3, 65535, Buffer.alloc(300, 7)),
  rawFrame(2, 2, Buffer.from([9]))
]
const EXPECTED = [`1.1.01020304`, '8.0.', `3.65535.${'07'.repeat(300)}`, '2.2.09']

describe('the frame splitter', () => {
  it('finds the same frames over every cut of the stream in two', () => {
    const stream = Buffer.concat(FRAMES)
    for (let cut = 0; cut <= stream.length; cut++) {
      const splitter = new FrameSplitter(1000)
      const recorder = new Recorder()
      splitter.feed(stream, 0, cut, recorder)
      splitter.feed(stream, cut, stream.length, recorder)
      expect(recorder.frames).toEqual(EXPECTED)
      expect(splitter.pendingBytes).toBe(0)
    }
  })

  it('finds them byte by byte, from a buffer that changes behind it', () => {
    const splitter = new FrameSplitter(1000)
    const recorder = new Recorder()
    const shared = Buffer.alloc(1)
    for (const byte of Buffer.concat(FRAMES)) {
      shared[0] = byte
      splitter.feed(shared, 0, 1, recorder)
      shared[0] = 0xaa
    }
    expect(recorder.frames).toEqual(EXPECTED)
  })

  it('refuses a frame by its head, before anything of it is gathered', () => {
    const splitter = new FrameSplitter(100)
    const head = Buffer.from([1, 0, 1, 0, 0, 0, 101])
    expect(codeOf(() => splitter.feed(head, 0, 7, new Recorder()))).toBe(501)
    expect(splitter.pendingBytes).toBe(0)
    const inPieces = new FrameSplitter(100)
    inPieces.feed(head, 0, 3, new Recorder())
    expect(codeOf(() => inPieces.feed(head, 3, 7, new Recorder()))).toBe(501)
  })

  it('refuses a frame of 4 GiB', () => {
    const head = Buffer.from([1, 0, 1, 0xff, 0xff, 0xff, 0xff])
    expect(codeOf(() => new FrameSplitter(100).feed(head, 0, 7, new Recorder()))).toBe(501)
  })

  it('refuses a frame without its end marker, also when it came in pieces', () => {
    const frame = rawFrame(1, 1, Buffer.from([1, 2, 3, 4]), 0xcd)
    expect(codeOf(() => new FrameSplitter(100).feed(frame, 0, frame.length, new Recorder()))).toBe(
      501
    )
    const splitter = new FrameSplitter(100)
    splitter.feed(frame, 0, 9, new Recorder())
    expect(codeOf(() => splitter.feed(frame, 9, frame.length, new Recorder()))).toBe(501)
  })

  it('hands a held frame over again, with what arrived meanwhile behind it', () => {
    const stream = Buffer.concat(FRAMES)
    for (let cut = 1; cut < stream.length; cut++) {
      const splitter = new FrameSplitter(1000)
      const recorder = new Recorder()
      recorder.holds = 2
      splitter.feed(stream, 0, cut, recorder)
      splitter.feed(stream, cut, stream.length, recorder)
      splitter.resume(recorder)
      splitter.resume(recorder)
      expect(recorder.frames).toEqual(EXPECTED)
      expect(splitter.isHeld).toBe(false)
    }
  })

  it('gathers only what arrived of a large frame', () => {
    const splitter = new FrameSplitter(131_072)
    splitter.feed(Buffer.from([3, 0, 1, 0, 2, 0, 0, 1, 2, 3]), 0, 10, new Recorder())
    expect(splitter.pendingBytes).toBe(10)
  })
})

describe('the protocol header', () => {
  it.each(['AMQP\0\0\x09\x01', 'AMQP\x01\x01\0\x09'])('%j is known', text => {
    const header = new ProtocolHeader()
    expect(header.read(Buffer.from(`${text}rest`, 'latin1'), 0, 12)).toBe(8)
    expect(header.isComplete).toBe(true)
  })

  it.each([
    ['GET / HTTP/1.1', 1],
    ['AMQP\0\x01\0\0', 6],
    ['AMQP\0\0\x09\x02', 8],
    ['\x10\x0c\0\x04MQTT', 1]
  ])('%j is foreign at its first wrong byte', (text, count) => {
    const header = new ProtocolHeader()
    header.read(Buffer.from(text, 'latin1'), 0, text.length)
    expect(header.isForeign).toBe(true)
    expect(header.count).toBe(count)
  })
})

describe('logins', () => {
  it('are read from PLAIN, with bytes in the password', () => {
    const response = Buffer.concat([Buffer.from('\0user\0', 'latin1'), Buffer.from([0xff, 0, 1])])
    const login = readLogin('PLAIN', response)
    expect(login.username).toBe('user')
    expect(login.password).toEqual(Buffer.from([0xff, 0, 1]))
  })

  it('are read from AMQPLAIN', () => {
    const table: FieldTable = [
      ['LOGIN', { type: 'S', value: 'u' }],
      ['PASSWORD', { type: 'S', value: 'p' }]
    ]
    const bytes = Buffer.alloc(tableBytes(table))
    writeTable(bytes, 0, table)
    expect(readLogin('AMQPLAIN', bytes.subarray(4)).password?.toString()).toBe('p')
  })

  it('of another mechanism are 503, malformed ones 502', () => {
    expect(codeOf(() => readLogin('EXTERNAL', Buffer.alloc(0)))).toBe(503)
    expect(codeOf(() => readLogin('PLAIN', Buffer.from('user')))).toBe(502)
    expect(codeOf(() => readLogin('PLAIN', Buffer.from('\0user')))).toBe(502)
    expect(codeOf(() => readLogin('AMQPLAIN', Buffer.from('nonsense')))).toBe(502)
  })
})
