import { describe, expect, it } from 'vitest'
import { ContentAssembler, findContent, found } from '../../src/amqp/codec/content.ts'
import {
  decodeProperties,
  encodeProperties,
  parseExpiration,
  scanned,
  scanProperties
} from '../../src/amqp/properties.ts'
import { AmqpError } from '../../src/amqp/reply-codes.ts'
import { MessageProperties } from '../../src/core/properties.ts'
import { responseTopicIn } from '../../src/core/reply-address.ts'

function codeOf(action: () => unknown): number {
  try {
    action()
  } catch (error) {
    if (error instanceof AmqpError) return error.replyCode
    throw error
  }
  return 0
}

function frame(type: number, channel: number, payload: Buffer): Buffer {
  const bytes = Buffer.alloc(payload.length + 8)
  bytes[0] = type
  bytes.writeUInt16BE(channel, 1)
  bytes.writeUInt32BE(payload.length, 3)
  payload.copy(bytes, 7)
  bytes[bytes.length - 1] = 0xce
  return bytes
}

function header(bodyBytes: number | bigint, properties = Buffer.from([0x10, 0, 2]), classId = 60) {
  const bytes = Buffer.alloc(12 + properties.length)
  bytes.writeUInt16BE(classId, 0)
  bytes.writeBigUInt64BE(BigInt(bodyBytes), 4)
  properties.copy(bytes, 12)
  return bytes
}

describe('content in one read', () => {
  const body = Buffer.from('hello')
  const whole = Buffer.concat([frame(2, 3, header(5)), frame(3, 3, body), Buffer.from([8])])

  it('is found where it lies', () => {
    expect(findContent(whole, 0, whole.length, 3, 1000, 1000)).toBe(true)
    expect(whole.toString('utf8', found.payloadStart, found.payloadEnd)).toBe('hello')
    expect(whole.subarray(found.propertiesStart, found.propertiesEnd)).toEqual(
      Buffer.from([0x10, 0, 2])
    )
    expect(whole[found.next]).toBe(8)
  })

  it('may be empty', () => {
    const empty = frame(2, 3, header(0))
    expect(findContent(empty, 0, empty.length, 3, 1000, 1000)).toBe(true)
    expect(found.payloadEnd - found.payloadStart).toBe(0)
    expect(found.next).toBe(empty.length)
  })

  it('is not seen before its last byte is there', () => {
    for (let limit = 0; limit < whole.length - 1; limit++) {
      const copy = Buffer.from(whole.subarray(0, limit))
      expect(findContent(copy, 0, limit, 3, 1000, 1000)).toBe(false)
    }
  })

  it.each([
    ['another channel', Buffer.concat([frame(2, 3, header(5)), frame(3, 4, body)])],
    ['two bodies', Buffer.concat([frame(2, 3, header(6)), frame(3, 3, body), frame(3, 3, body)])],
    ['a body longer than announced', Buffer.concat([frame(2, 3, header(4)), frame(3, 3, body)])],
    ['another class', Buffer.concat([frame(2, 3, header(5, undefined, 50)), frame(3, 3, body)])],
    ['a method behind the header', Buffer.concat([frame(2, 3, header(5)), frame(1, 3, body)])]
  ])('with %s is left to the frame-by-frame way', (_what, bytes) => {
    expect(findContent(bytes, 0, bytes.length, 3, 1000, 1000)).toBe(false)
  })

  it('that is larger than a frame or a message may be is left too', () => {
    expect(findContent(whole, 0, whole.length, 3, 1000, 4)).toBe(false)
    expect(findContent(whole, 0, whole.length, 3, 4, 1000)).toBe(false)
  })
})

describe('content in several reads', () => {
  function opened(): ContentAssembler {
    const assembler = new ContentAssembler(null)
    const key = Buffer.from('..a.key..')
    assembler.open('e', 'a.key', false, key, 2, 7)
    return assembler
  }

  it('is gathered whole: key, properties, payload', () => {
    const assembler = opened()
    const head = header(10)
    expect(assembler.onHeader(head, 0, head.length, 100)).toBe(false)
    expect(assembler.onBody(Buffer.from('xx01234'), 2, 7)).toBe(false)
    expect(assembler.onBody(Buffer.from('56789'), 0, 5)).toBe(true)
    const { buffer, keyEnd, propertiesEnd, end } = assembler
    expect(buffer.toString('utf8', 0, keyEnd)).toBe('a.key')
    expect(buffer.subarray(keyEnd, propertiesEnd)).toEqual(Buffer.from([0x10, 0, 2]))
    expect(buffer.toString('utf8', propertiesEnd, end)).toBe('0123456789')
    expect(assembler.isOpen).toBe(false)
  })

  it('grows with what arrives, not with what is announced', () => {
    const assembler = opened()
    const head = header(16 * 1024 * 1024)
    assembler.onHeader(head, 0, head.length, 16 * 1024 * 1024)
    assembler.onBody(Buffer.alloc(100), 0, 100)
    expect(assembler.buffer.length).toBeLessThanOrEqual(64 * 1024)
  })

  it.each([
    ['a body without a header', 505, (a: ContentAssembler) => a.onBody(Buffer.alloc(1), 0, 1)],
    ['a header of another class', 505, (a: ContentAssembler) => give(a, header(1, undefined, 50))],
    ['a header cut short', 502, (a: ContentAssembler) => give(a, header(1).subarray(0, 13))],
    ['a size of 2^63', 501, (a: ContentAssembler) => give(a, header(2n ** 63n))],
    ['a size above 512 MiB', 501, (a: ContentAssembler) => give(a, header(2 ** 29 + 1))],
    ['a size above the largest message', 406, (a: ContentAssembler) => give(a, header(101))]
  ])('with %s is refused with %i', (_what, code, action) => {
    expect(codeOf(() => action(opened()))).toBe(code)
  })

  it('refuses a second header, a body too long, and frames that nobody announced', () => {
    const assembler = opened()
    give(assembler, header(3))
    expect(codeOf(() => give(assembler, header(3)))).toBe(505)
    expect(codeOf(() => assembler.onBody(Buffer.alloc(4), 0, 4))).toBe(501)
    expect(codeOf(() => give(new ContentAssembler(null), header(3)))).toBe(505)
  })

  function give(assembler: ContentAssembler, bytes: Buffer): boolean {
    return assembler.onHeader(bytes, 0, bytes.length, 100)
  }
})

function everyProperty(): MessageProperties {
  const properties = new MessageProperties()
  properties.contentType = 'text/plain'
  properties.contentEncoding = 'utf-8'
  properties.headers = [
    ['n', { type: 'I', value: 1 }],
    ['n', { type: 'S', value: 'again' }]
  ]
  properties.deliveryMode = 2
  properties.priority = 9
  properties.correlationId = Buffer.from('c')
  properties.replyTo = 'r'
  properties.expiration = '60000'
  properties.messageId = 'm'
  properties.timestamp = 1_700_000_000n
  properties.type = 't'
  properties.userId = 'guest'
  properties.appId = 'a'
  properties.clusterId = 'k'
  return properties
}

describe('content properties', () => {
  it('come back as they were written', () => {
    const bytes = encodeProperties(everyProperty())
    expect(decodeProperties(bytes, 0, bytes.length)).toEqual(everyProperty())
  })

  it('come back whole whichever of them finds no room in the first bytes', () => {
    for (let size = 0; size <= 255; size++) {
      const properties = everyProperty()
      properties.contentType = 't'.repeat(size)
      const bytes = encodeProperties(properties)
      expect(decodeProperties(bytes, 0, bytes.length)).toEqual(properties)
    }
  })

  it('are scanned for what the broker acts on', () => {
    const bytes = encodeProperties(everyProperty())
    scanProperties(bytes, 0, bytes.length)
    expect(scanned.deliveryMode).toBe(2)
    expect(scanned.priority).toBe(9)
    expect(parseExpiration(bytes, scanned.expirationStart, scanned.expirationEnd)).toBe(60_000)
    expect(bytes.toString('utf8', scanned.userIdStart, scanned.userIdEnd)).toBe('guest')
    expect(scanned.hasCopies).toBe(false)
  })

  it('of one message leave nothing behind for the next', () => {
    const bytes = encodeProperties(everyProperty())
    scanProperties(bytes, 0, bytes.length)
    scanProperties(Buffer.from([0, 0]), 0, 2)
    expect(scanned).toMatchObject({
      deliveryMode: 0,
      priority: 0,
      headersStart: -1,
      expirationStart: -1,
      userIdStart: -1
    })
  })

  it('that are cut anywhere, or too long, are refused with 502', () => {
    const bytes = encodeProperties(everyProperty())
    for (let end = 2; end < bytes.length; end++) {
      expect(codeOf(() => scanProperties(Buffer.from(bytes.subarray(0, end)), 0, end))).toBe(502)
    }
    const longer = Buffer.concat([bytes, Buffer.from([0])])
    expect(codeOf(() => scanProperties(longer, 0, longer.length))).toBe(502)
  })

  it('may have further flag words if they announce nothing', () => {
    expect(codeOf(() => scanProperties(Buffer.from([0x10, 1, 0, 0, 2]), 0, 5))).toBe(0)
    expect(codeOf(() => scanProperties(Buffer.from([0x10, 1, 0, 4, 2]), 0, 5))).toBe(502)
    expect(codeOf(() => scanProperties(Buffer.from([0x10, 1, 0, 1]), 0, 4))).toBe(502)
    const decoded = decodeProperties(Buffer.from([0x10, 1, 0, 0, 2]), 0, 5)
    expect(decoded.deliveryMode).toBe(2)
  })

  it.each([
    ['CC', true],
    ['BCC', true],
    ['CCC', false],
    ['cc', false]
  ])('with a header %s have further keys: %s', (name, expected) => {
    const properties = new MessageProperties()
    properties.headers = [
      ['x', { type: 'F', value: [['CC', { type: 'V', value: null }]] }],
      [name, { type: 'A', value: [] }]
    ]
    const bytes = encodeProperties(properties)
    scanProperties(bytes, 0, bytes.length)
    expect(scanned.hasCopies).toBe(expected)
  })

  it.each([
    ['0', 0],
    ['10', 10],
    ['', -1],
    ['-1', -1],
    ['1.5', -1],
    ['ten', -1],
    ['9'.repeat(40), Number.MAX_SAFE_INTEGER]
  ])('expiration %j is %i ms', (text, ms) => {
    expect(parseExpiration(Buffer.from(text), 0, text.length)).toBe(ms)
  })
})

describe('properties that AMQP does not have', () => {
  it('travel as headers and come back', () => {
    const properties = new MessageProperties()
    properties.contentType = 'c'.repeat(300)
    properties.correlationId = Buffer.from([0xff, 0xfe])
    properties.responseTopic = 'answers/to.me'
    properties.payloadFormat = 1
    properties.headers = [['user', { type: 'S', value: 'property' }]]
    const bytes = encodeProperties(properties)
    const back = decodeProperties(bytes, 0, bytes.length)
    expect(back.replyTo).not.toBeNull()
    expect(responseTopicIn(back.replyTo!)).toBe('answers/to.me')
    back.replyTo = null
    expect(back).toEqual(properties)
  })

  it('a response topic too long for a reply-to keeps its header', () => {
    const properties = new MessageProperties()
    properties.responseTopic = 't'.repeat(250)
    const bytes = encodeProperties(properties)
    const back = decodeProperties(bytes, 0, bytes.length)
    expect(back.replyTo).toBeNull()
    expect(back.responseTopic).toBe(properties.responseTopic)
  })

  it('a key of another kind stands for no topic', () => {
    expect(responseTopicIn('a.queue')).toBeNull()
    expect(responseTopicIn('amq.mqtt.reply-to.')).toBeNull()
  })
})
