/** Our codec held against mqtt-packet, byte for byte, and the splitter against every way to cut its input. */
import fc from 'fast-check'
import mqttPacket, { type IPublishPacket } from 'mqtt-packet'
import { describe, expect, it } from 'vitest'
import { DEFAULT_LIMITS } from '../../src/core/limits.ts'
import { FORM_AMQP, Message } from '../../src/core/message.ts'
import { MessageProperties } from '../../src/core/properties.ts'
import { ack, ackBytes, readAck, writeAck } from '../../src/mqtt/codec/acks.ts'
import { ProtocolError } from '../../src/mqtt/codec/protocol-error.ts'
import { PublishReader } from '../../src/mqtt/codec/publish.ts'
import { Splitter } from '../../src/mqtt/codec/splitter.ts'
import { Outbound } from '../../src/mqtt/outbound.ts'
import { decodeProperties, encodeProperties } from '../../src/mqtt/properties.ts'
import { Sockets } from '../../src/net/socket.ts'

const NOW = { nowMs: 1_000 }
const version = fc.constantFrom(4 as const, 5 as const)
const packetId = fc.integer({ min: 1, max: 65_535 })
/** Strings that MQTT may carry: no U+0000. */
const string = fc
  .string({ unit: 'grapheme', maxLength: 40 })
  .map(value => value.replaceAll('\0', ''))
const topic = fc
  .array(string, { minLength: 1, maxLength: 4 })
  .map(levels => levels.join('/').replaceAll(/[+#]/g, ''))
  .filter(value => value !== '')
const payload = fc.oneof(
  fc.uint8Array({ maxLength: 300 }).map(value => Buffer.from(value)),
  fc.integer({ min: 30_000, max: 40_000 }).map(size => Buffer.alloc(size, 0x61))
)
const properties = fc.record(
  {
    payloadFormatIndicator: fc.boolean(),
    messageExpiryInterval: fc.integer({ min: 0, max: 0xffffffff }),
    contentType: string,
    responseTopic: topic,
    correlationData: fc.uint8Array({ maxLength: 30 }).map(value => Buffer.from(value)),
    userProperties: fc.dictionary(
      string.filter(key => key !== '' && key !== '__proto__'),
      fc.array(string, { minLength: 2, maxLength: 3 }),
      { minKeys: 1, maxKeys: 3 }
    )
  },
  { requiredKeys: [] }
)
const publish: fc.Arbitrary<IPublishPacket> = fc
  .record({
    topic,
    payload,
    qos: fc.constantFrom(0, 1, 2),
    retain: fc.boolean(),
    messageId: packetId,
    properties
  })
  .map(fields => ({ cmd: 'publish', dup: false, ...fields }) as IPublishPacket)

/** Collects the output of what writes into a socket. */
class Output {
  buffer = Buffer.alloc(100_000)
  end = 0
  readonly units = [0, 0, 0]
  reserve(bytes: number): number {
    this.end += bytes
    return this.end - bytes
  }
  writeShared(bytes: Buffer): void {
    bytes.copy(this.buffer, this.reserve(bytes.length))
  }
  take(): Buffer {
    const taken = Buffer.from(this.buffer.subarray(0, this.end))
    this.end = 0
    return taken
  }
}

function parse(bytes: Buffer, protocolVersion: number): Record<string, unknown> {
  const parser = mqttPacket.parser({ protocolVersion })
  let found: Record<string, unknown> = {}
  parser.on('packet', packet => {
    found = { ...packet }
  })
  parser.on('error', error => {
    throw error
  })
  parser.parse(bytes)
  return found
}

/** Where the body starts. */
function bodyOf(bytes: Buffer): number {
  let at = 1
  while (bytes[at]! > 127) at++
  return at + 1
}

/** What a PUBLISH of QoS 0 says. */
function messageOf(sent: Buffer, level: 4 | 5): Message {
  const message = new Message()
  const start = bodyOf(sent)
  new PublishReader().read(message, 0x30, sent, start, sent.length, level, DEFAULT_LIMITS, NOW)
  return message
}

describe('PUBLISH', () => {
  it('is read as mqtt-packet wrote it, and written as mqtt-packet reads it', () => {
    const sockets = new Sockets({ outputBytesMax: 1_000, drainTimeoutMs: 1_000 })
    const outbound = new Outbound(sockets, { nowMs: NOW.nowMs, propertyDecoders: [] })
    const output = new Output()
    const property = fc.property(publish, version, version, packetId, (packet, from, to, id) => {
      const sent = mqttPacket.generate(packet, { protocolVersion: from })
      const message = new Message()
      const start = bodyOf(sent)
      new PublishReader().read(
        message,
        sent[0]!,
        sent,
        start,
        sent.length,
        from,
        DEFAULT_LIMITS,
        NOW
      )
      expect(message.key).toBe(packet.topic)
      expect(message.qos).toBe(packet.qos)
      expect(message.retain).toBe(packet.retain)
      const expiry = from === 5 ? packet.properties?.messageExpiryInterval : undefined
      const seconds = expiry === undefined ? 0 : Math.max(expiry, 1)
      expect(message.expiresAt === 0).toBe(expiry === undefined)
      const qos = packet.qos ?? 0
      const target = {
        socket: output,
        encoding: to === 5 ? 2 : 0,
        outputPacketBytesMax: 1_000_000
      } as never
      const flags = (qos << 1) | (packet.retain ? 1 : 0)
      for (let copy = 0; copy < 2; copy++) {
        const own = qos === 0 ? 0 : ((id + copy) % 65_535) + 1
        expect(outbound.write(target, message, flags, own, null)).toBe(true)
        const wanted: IPublishPacket = { ...packet, messageId: own }
        const { messageExpiryInterval: _, ...rest } = packet.properties ?? {}
        wanted.properties = from === 5 ? rest : {}
        // Ours writes the expiry first: the order of properties means nothing.
        if (seconds > 0)
          wanted.properties = { messageExpiryInterval: seconds, ...wanted.properties }
        const expected = mqttPacket.generate(wanted, { protocolVersion: to })
        const written = output.take()
        const read = parse(written, to)
        const wantedBack = parse(expected, to)
        // Large buffers element by element are slow.
        expect(Buffer.compare(read['payload'] as Buffer, wantedBack['payload'] as Buffer)).toBe(0)
        expect({ ...read, payload: '' }).toEqual({ ...wantedBack, payload: '' })
        expect(written.length).toBe(expected.length)
        if (seconds === 0 || to === 4) expect(written.equals(expected)).toBe(true)
      }
    })
    fc.assert(property, { numRuns: 1_000 })
  })

  it('with subscription identifiers is what mqtt-packet writes', () => {
    const sockets = new Sockets({ outputBytesMax: 1_000, drainTimeoutMs: 1_000 })
    const outbound = new Outbound(sockets, { nowMs: NOW.nowMs, propertyDecoders: [] })
    const output = new Output()
    const target = { socket: output, encoding: 2, outputPacketBytesMax: 1_000_000 } as never
    const ids = fc.array(fc.integer({ min: 1, max: 268_435_455 }), { minLength: 1, maxLength: 4 })
    fc.assert(
      fc.property(topic, ids, (name, subscriptionIdentifier) => {
        const sent = mqttPacket.generate(
          { cmd: 'publish', topic: name, payload: 'x', qos: 0, dup: false, retain: false },
          { protocolVersion: 5 }
        )
        const message = messageOf(sent, 5)
        outbound.write(target, message, 0, 0, subscriptionIdentifier)
        const expected = mqttPacket.generate(
          {
            cmd: 'publish',
            topic: name,
            payload: 'x',
            qos: 0,
            dup: false,
            retain: false,
            properties: { subscriptionIdentifier }
          },
          { protocolVersion: 5 }
        )
        expect(output.take().equals(expected)).toBe(true)
      })
    )
  })

  it('is encoded anew when the first receiver has given its buffer back', () => {
    const sockets = new Sockets({ outputBytesMax: 1_000, drainTimeoutMs: 1_000 })
    const outbound = new Outbound(sockets, { nowMs: 0, propertyDecoders: [] })
    const sent = Buffer.from('3006000161626364', 'hex')
    const message = messageOf(sent, 4)
    const first = new Output()
    const second = new Output()
    const to = (socket: Output) => ({ socket, encoding: 0, outputPacketBytesMax: 1_000 }) as never
    outbound.write(to(first), message, 0, 0, null)
    sockets.giveBack(first.buffer)
    first.buffer.fill(0)
    outbound.write(to(second), message, 0, 0, null)
    expect(second.take().equals(sent)).toBe(true)
  })

  it('never breaks the reader, whatever its bytes are', () => {
    const bytes = fc.uint8Array({ maxLength: 60 }).map(value => Buffer.from(value))
    const first = fc.constantFrom(0x30, 0x31, 0x32, 0x34, 0x3a)
    fc.assert(
      fc.property(bytes, first, version, (body, head, level) => {
        const message = new Message()
        try {
          new PublishReader().read(message, head, body, 0, body.length, level, DEFAULT_LIMITS, NOW)
        } catch (error) {
          expect(error).toBeInstanceOf(ProtocolError)
          return
        }
        expect(message.payloadEnd).toBe(body.length)
        expect(message.payloadStart).toBeLessThanOrEqual(body.length)
        expect(message.propertiesStart).toBeLessThanOrEqual(message.propertiesEnd)
        expect(message.propertiesEnd).toBeLessThanOrEqual(message.payloadStart)
      }),
      { numRuns: 3_000 }
    )
  })
})

describe('acknowledgements', () => {
  it('are written as mqtt-packet reads them, and read as mqtt-packet writes them', () => {
    const kinds = [
      ['puback', 4, 0x40, [0, 0x10, 0x87, 0x97]],
      ['pubrec', 5, 0x50, [0, 0x10, 0x87, 0x97]],
      ['pubrel', 6, 0x62, [0, 0x92]],
      ['pubcomp', 7, 0x70, [0, 0x92]]
    ] as const
    fc.assert(
      fc.property(
        fc.constantFrom(...kinds),
        fc.nat(),
        packetId,
        version,
        (kind, pick, id, level) => {
          const [cmd, type, first, reasons] = kind
          const reasonCode = level === 5 ? reasons[pick % reasons.length]! : 0
          const written = Buffer.alloc(ackBytes(reasonCode))
          writeAck(written, 0, first, id, reasonCode)
          const read = parse(written, level)
          expect(read).toMatchObject({ cmd, messageId: id })
          if (level === 5) expect(read).toMatchObject({ reasonCode })
          const theirs = mqttPacket.generate(
            { cmd, messageId: id, reasonCode, properties: { reasonString: 'why' } },
            { protocolVersion: level }
          )
          readAck(type, theirs, 2, theirs.length, level, 64)
          expect(ack).toEqual({ packetId: id, reason: reasonCode })
        }
      )
    )
  })
})

describe('the splitter', () => {
  const packets = fc
    .array(
      fc.oneof(
        publish.map(packet => mqttPacket.generate(packet, { protocolVersion: 4 })),
        fc.constant(Buffer.from([0xc0, 0])),
        packetId.map(id => Buffer.from([0x40, 2, id >> 8, id & 255]))
      ),
      { minLength: 1, maxLength: 6 }
    )
    .map(list => list.filter(bytes => bytes.length < 5_000))

  function collect(
    chunks: Buffer[],
    haltAt: ReadonlySet<number>,
    postponeAt: ReadonlySet<number> = new Set()
  ): { seen: Buffer[]; most: number } {
    const seen: Buffer[] = []
    let most = 0
    let calls = 0
    const splitter = new Splitter(
      {
        onPacket(first, buffer, start, end) {
          if (postponeAt.has(++calls)) {
            splitter.postpone()
            return false
          }
          seen.push(Buffer.concat([Buffer.from([first]), buffer.subarray(start, end)]))
          return !haltAt.has(seen.length)
        }
      },
      100_000
    )
    splitter.setVersion(4)
    for (const chunk of chunks) {
      // The read buffer is used again for the next read.
      const shared = Buffer.concat([Buffer.from([1, 2, 3]), chunk, Buffer.from([4])])
      splitter.push(shared, 3, 3 + chunk.length)
      shared.fill(0xff)
      most = Math.max(most, splitter.bufferedBytes)
    }
    for (let i = 0; i < 20; i++) splitter.resume()
    expect(splitter.bufferedBytes).toBe(0)
    return { seen, most }
  }

  it('finds the same packets however they are cut, also when it is halted or one is to come again', () => {
    const cuts = fc.array(fc.integer({ min: 1, max: 400 }), { maxLength: 50 })
    const halts = fc.uniqueArray(fc.integer({ min: 1, max: 6 }), { maxLength: 6 })
    const again = fc.uniqueArray(fc.integer({ min: 1, max: 9 }), { maxLength: 9 })
    fc.assert(
      fc.property(packets, cuts, halts, again, (list, sizes, haltAt, postponeAt) => {
        const stream = Buffer.concat(list)
        const chunks: Buffer[] = []
        let at = 0
        for (const size of sizes) {
          chunks.push(stream.subarray(at, at + size))
          at += size
        }
        chunks.push(stream.subarray(at))
        const expected = list.map(bytes =>
          Buffer.concat([bytes.subarray(0, 1), bytes.subarray(bodyOf(bytes))])
        )
        expect(collect(chunks, new Set(haltAt), new Set(postponeAt)).seen).toEqual(expected)
      }),
      { numRuns: 500 }
    )
  })

  it('finds them byte by byte', () => {
    const list = [
      Buffer.from([0xc0, 0]),
      mqttPacket.generate({
        cmd: 'publish',
        topic: 't',
        payload: 'x'.repeat(300),
        qos: 0,
        dup: false,
        retain: false
      }),
      Buffer.from([0x40, 2, 0, 1])
    ]
    const bytes = [...Buffer.concat(list)].map(byte => Buffer.from([byte]))
    expect(collect(bytes, new Set()).seen.length).toBe(3)
  })

  it('holds what arrived, not what was announced [B05]', () => {
    const splitter = new Splitter({ onPacket: () => true }, 3 * 1024 * 1024)
    splitter.setVersion(4)
    const bytes = Buffer.from([0x30, 0xff, 0xff, 0x7f, 1, 2, 3])
    splitter.push(bytes, 0, bytes.length)
    expect(splitter.bufferedBytes).toBe(bytes.length)
    const dripped = Buffer.alloc(1)
    for (let i = 0; i < 10_000; i++) splitter.push(dripped, 0, 1)
    expect(splitter.bufferedBytes).toBeLessThan(2.1 * 10_000)
  })
})

describe('properties between protocols', () => {
  it('survive the neutral form', () => {
    fc.assert(
      fc.property(properties, fields => {
        const { messageExpiryInterval: _, payloadFormatIndicator, ...rest } = fields
        const kept = payloadFormatIndicator === true ? { payloadFormatIndicator, ...rest } : rest
        const sent = mqttPacket.generate(
          {
            cmd: 'publish',
            topic: 't',
            payload: '',
            qos: 0,
            dup: false,
            retain: false,
            properties: kept
          },
          { protocolVersion: 5 }
        )
        const message = messageOf(sent, 5)
        const { propertiesStart, propertiesEnd } = message
        const again = encodeProperties(decodeProperties(sent, propertiesStart, propertiesEnd))
        expect(again.length).toBe(propertiesEnd - propertiesStart)
        const block = Buffer.concat([Buffer.from('300000', 'hex'), again])
        expect(decodeProperties(block, 3, block.length)).toEqual(
          decodeProperties(sent, propertiesStart, propertiesEnd)
        )
      })
    )
  })

  it('of a message from AMQP go to version 5, as user properties where MQTT has none of its own', () => {
    const neutral = new MessageProperties()
    neutral.contentType = 'text/plain'
    neutral.correlationId = Buffer.from('c1')
    neutral.responseTopic = 'reply/to'
    neutral.messageId = 'no place'
    neutral.headers = [
      ['s', { type: 'S', value: 'text' }],
      ['i', { type: 'I', value: -5 }],
      ['l', { type: 'l', value: 2n ** 60n }],
      ['t', { type: 't', value: true }],
      ['d', { type: 'd', value: 0.5 }],
      ['D', { type: 'D', scale: 2, value: 150 }],
      ['v', { type: 'V', value: null }],
      ['A', { type: 'A', value: [] }],
      ['F', { type: 'F', value: [] }],
      ['x', { type: 'x', value: Buffer.from([1]) }],
      ['s', { type: 'S', value: 'again' }],
      ['nul', { type: 'S', value: 'a\0b' }]
    ]
    const sockets = new Sockets({ outputBytesMax: 1_000, drainTimeoutMs: 1_000 })
    const outbound = new Outbound(sockets, {
      nowMs: 0,
      propertyDecoders: [decodeProperties, () => neutral]
    })
    const output = new Output()
    const message = new Message()
    message.renew()
    message.form = FORM_AMQP
    message.key = 'a.b/c'
    message.source = Buffer.from('hello')
    message.payloadEnd = 5
    for (const level of [5, 4] as const) {
      const target = {
        socket: output,
        encoding: level === 5 ? 2 : 0,
        outputPacketBytesMax: 1_000
      } as never
      outbound.write(target, message, 2, 9, null)
      const read = parse(output.take(), level) as unknown as IPublishPacket
      expect(read).toMatchObject({
        topic: 'a/b.c',
        qos: 1,
        messageId: 9,
        payload: Buffer.from('hello')
      })
      if (level === 4) continue
      expect(JSON.parse(JSON.stringify(read.properties))).toEqual({
        contentType: 'text/plain',
        responseTopic: 'reply/to',
        correlationData: JSON.parse(JSON.stringify(Buffer.from('c1'))),
        userProperties: {
          s: ['text', 'again'],
          i: '-5',
          l: String(2n ** 60n),
          t: 'true',
          d: '0.5',
          D: '1.50',
          v: '',
          A: '[]',
          F: '{}',
          x: '\u0001',
          'x-amqp-message-id': 'no place'
        }
      })
    }
  })
})
