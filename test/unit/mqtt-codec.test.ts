import { generate } from 'mqtt-packet'
import { describe, expect, it } from 'vitest'
import { DEFAULT_LIMITS } from '../../src/core/limits.ts'
import { Message } from '../../src/core/message.ts'
import { ack, readAck } from '../../src/mqtt/codec/acks.ts'
import {
  readAuth,
  readConnect,
  readDisconnect,
  readSubscribe,
  readUnsubscribe
} from '../../src/mqtt/codec/packet.ts'
import type { Version } from '../../src/mqtt/codec/packet-types.ts'
import { ProtocolError } from '../../src/mqtt/codec/protocol-error.ts'
import { PublishReader } from '../../src/mqtt/codec/publish.ts'
import { Splitter } from '../../src/mqtt/codec/splitter.ts'

/** `'82 00 01'` and strings in quotes: bytes. */
function bytes(...parts: (string | number[] | Buffer)[]): Buffer {
  return Buffer.concat(
    parts.map(part =>
      typeof part === 'string' ? Buffer.from(part.replaceAll(' ', ''), 'hex') : Buffer.from(part)
    )
  )
}

function text(value: string | Buffer): Buffer {
  const content = Buffer.from(value)
  return Buffer.concat([Buffer.from([content.length >> 8, content.length & 255]), content])
}

/** A whole packet read as the connection reads it. Returns the reason of the error, 0 if there is none. */
function reasonOf(version: Version | 0, packet: Buffer): number {
  let seen = 0
  const splitter = new Splitter(
    {
      onPacket(first, buffer, start, end) {
        seen++
        readAny(version, first, buffer, start, end)
        return true
      }
    },
    100_000
  )
  splitter.setVersion(version)
  try {
    splitter.push(packet, 0, packet.length)
  } catch (error) {
    if (error instanceof ProtocolError) return error.reason
    throw error
  }
  expect(seen).toBe(1)
  return 0
}

function readAny(version: Version | 0, first: number, buffer: Buffer, start: number, end: number) {
  const limits = DEFAULT_LIMITS
  const known = version as Version
  switch (first >> 4) {
    case 1:
      readConnect(0x10, buffer, start, end, limits)
      break
    case 3:
      new PublishReader().read(new Message(), first, buffer, start, end, version, limits, {
        nowMs: 0
      })
      break
    case 8:
      readSubscribe(buffer, start, end, known, false, limits)
      break
    case 10:
      readUnsubscribe(buffer, start, end, known, limits)
      break
    case 12:
      break
    case 14:
      readDisconnect(buffer, start, end, known, limits)
      break
    case 15:
      readAuth(buffer, start, end, limits)
      break
    default:
      readAck(first >> 4, buffer, start, end, version, limits.userPropertiesMax)
  }
}

/** Fixed header and body. */
function packet(first: number, body: Buffer): Buffer {
  const head = [first]
  let length = body.length
  while (length > 127) {
    head.push((length & 127) | 128)
    length >>= 7
  }
  return Buffer.concat([Buffer.from([...head, length]), body])
}

const PUB1 = 0x32
const A = text('a')

interface Row {
  id: string
  what: string
  version: Version | 0
  packet: Buffer
  reason: number
}

function row(id: string, what: string, version: Version | 0, bytes: Buffer, reason: number): Row {
  return { id, what, version, packet: bytes, reason }
}

function both(id: string, what: string, packet: Buffer, reason: number): Row[] {
  return [row(id, what, 4, packet, reason), row(id, what, 5, packet, reason)]
}

function publish(version: Version, first: number, topic: Buffer, rest: Buffer): Buffer {
  return packet(
    first,
    Buffer.concat([topic, rest.subarray(0), version === 5 ? bytes('00') : bytes()])
  )
}

function connect(flags: number, payload: Buffer, level = 4, name = 'MQTT'): Buffer {
  const properties = level === 5 ? bytes('00') : bytes()
  return packet(0x10, bytes(text(name), [level, flags, 0, 60], properties, payload))
}

const userProperty = bytes('26', text('k'), text('v'))

describe('framing of section 3a', () => {
  it.each([
    ...both('B01', 'five length bytes', bytes('30 ff ff ff ff 7f'), 0x81),
    ...both('B02', 'length not minimal', bytes('30 80 00'), 0x81),
    row('B03', 'huge length before login', 0, bytes('10 ff ff ff 7f'), 0x95),
    ...both('B04', 'length over the limit', bytes('30 a0 8d 06'), 0x95),
    ...both('B06', 'type 0', bytes('00 00'), 0x81),
    row('B06', 'type 15 in 3.1.1', 4, bytes('f0 00'), 0x81),
    ...both('B07', 'SUBSCRIBE flags', bytes('80 00'), 0x81),
    ...both('B07', 'UNSUBSCRIBE flags', bytes('a0 00'), 0x81),
    ...both('B07', 'PUBREL flags', bytes('60 02 00 01'), 0x81),
    ...both('B07', 'DISCONNECT flags', bytes('e1 00'), 0x81),
    ...both('B07', 'PINGREQ flags', bytes('c5 00'), 0x81),
    ...both('B08', 'CONNACK', bytes('20 02 00 00'), 0x82),
    ...both('B08', 'SUBACK', bytes('90 03 00 01 00'), 0x82),
    ...both('B08', 'UNSUBACK', bytes('b0 02 00 01'), 0x82),
    ...both('B08', 'PINGRESP', bytes('d0 00'), 0x82),
    row('B09', 'HTTP, first byte only', 0, bytes('47'), 0x81),
    row('B10', 'AMQP, first byte only', 0, bytes('41'), 0x81),
    row('B10', 'TLS, first byte only', 0, bytes('16'), 0x81),
    row('B13', 'PUBLISH first', 0, bytes('30'), 0x81),
    row('B13', 'PINGREQ first', 0, bytes('c0'), 0x81),
    ...both('B14', 'second CONNECT', connect(2, A), 0x82)
  ])('$id $what (version $version) is refused with $reason', ({ version, packet, reason }) => {
    expect(reasonOf(version, packet)).toBe(reason)
  })
})

describe('CONNECT of section 3b', () => {
  it.each([
    row('', 'good', 0, connect(2, A), 0),
    row('', 'good 5', 0, connect(2, A, 5), 0),
    row('', 'good 3.1', 0, connect(2, A, 3, 'MQIsdp'), 0),
    row('', 'bridge of Mosquitto', 0, connect(2, A, 0x84), 0),
    row('B15', 'MQTTT', 0, connect(2, A, 4, 'MQTTT'), 0x81),
    row('B15', 'mqtt', 0, connect(2, A, 4, 'mqtt'), 0x81),
    row('B15', 'MQIsdp 4', 0, connect(2, A, 4, 'MQIsdp'), 0x81),
    row('B16', 'level 0', 0, connect(2, A, 0), 0x84),
    row('B16', 'level 3', 0, connect(2, A, 3), 0x84),
    row('B16', 'level 6', 0, connect(2, A, 6), 0x84),
    row('B16', 'level 255', 0, connect(2, A, 255), 0x84),
    row('B17', 'reserved flag', 0, connect(3, A), 0x81),
    row('B18', 'will QoS 3', 0, connect(0x1e, bytes(A, A, A)), 0x81),
    row('B19', 'will retain without will', 0, connect(0x22, A), 0x81),
    row('B20', 'password without user, 3.1.1', 0, connect(0x42, bytes(A, A)), 0x81),
    row('B20', 'password without user, 5', 0, connect(0x42, bytes(A, A), 5), 0),
    row('B22', 'client id with NUL', 0, connect(2, text('a\0b')), 0x81),
    row('B22', 'client id with a surrogate', 0, connect(2, text(bytes('ed a0 80'))), 0x81),
    row('B22', 'client id of 257 bytes', 0, connect(2, text('x'.repeat(257))), 0x85),
    row('B22', 'client id of 256 bytes', 0, connect(2, text('x'.repeat(256))), 0),
    row('B22', 'client id +#/../<script>', 0, connect(2, text('+#/../<script>\r\n')), 0),
    row('B23', 'will topic with NUL', 0, connect(6, bytes(A, text('\0'), A)), 0x81),
    row('B34', 'user name not UTF-8', 0, connect(0x82, bytes(A, text(bytes('ff')))), 0x81),
    row('B34', 'user name with NUL', 0, connect(0x82, bytes(A, text('\0'))), 0x81),
    row('B34', 'password with NUL', 0, connect(0xc2, bytes(A, A, text('\0'))), 0),
    row('', 'trailing bytes', 0, connect(2, bytes(A, '00')), 0x81),
    row('', 'client id missing', 0, connect(2, bytes()), 0x81),
    row('', 'user name missing', 0, connect(0x82, A), 0x81),
    row(
      'B28',
      'topic alias',
      0,
      packet(0x10, bytes(text('MQTT'), '05 02 00 3c 03 23 00 01', A)),
      0x81
    ),
    row('B28', 'property 0x7f', 0, packet(0x10, bytes(text('MQTT'), '05 02 00 3c 01 7f', A)), 0x81),
    row('B29', 'property length', 0, packet(0x10, bytes(text('MQTT'), '05 02 00 3c 7f', A)), 0x81),
    row(
      'B30',
      '65 user properties',
      0,
      packet(
        0x10,
        bytes(
          text('MQTT'),
          '05 02 00 3c',
          [0xc7, 0x03],
          Buffer.concat(Array(65).fill(userProperty)),
          A
        )
      ),
      0x95
    ),
    row(
      'B31',
      'data without method',
      0,
      packet(0x10, bytes(text('MQTT'), '05 02 00 3c 04 16 00 01 00', A)),
      0x82
    ),
    row(
      '',
      'receive maximum 0',
      0,
      packet(0x10, bytes(text('MQTT'), '05 02 00 3c 03 21 00 00', A)),
      0x82
    ),
    row(
      '',
      'packet size 0',
      0,
      packet(0x10, bytes(text('MQTT'), '05 02 00 3c 05 27 00 00 00 00', A)),
      0x82
    ),
    row(
      '',
      'session expiry twice',
      0,
      packet(0x10, bytes(text('MQTT'), '05 02 00 3c 0a 11 00 00 00 00 11 00 00 00 00', A)),
      0x82
    )
  ])('$id $what gives $reason', ({ version, packet, reason }) => {
    expect(reasonOf(version, packet)).toBe(reason)
  })

  it('knows which refusals a CONNACK may answer', () => {
    const answers = (bytes: Buffer) => {
      try {
        readConnect(0x10, bytes, 2, bytes.length, DEFAULT_LIMITS)
      } catch (error) {
        return (error as ProtocolError).connackVersion
      }
      return -1
    }
    expect(answers(connect(2, A, 0))).toBe(4)
    expect(answers(connect(2, A, 6))).toBe(5)
    expect(answers(connect(3, A, 5))).toBe(5)
    expect(answers(connect(3, A, 4))).toBe(0)
    expect(answers(connect(2, A, 4, 'mqtt'))).toBe(0)
  })

  it('hands on all that a version 5 client says, and its will without expiry and delay', () => {
    const sent = generate({
      cmd: 'connect',
      protocolId: 'MQTT',
      protocolVersion: 5,
      clientId: 'sensor-ü',
      clean: false,
      keepalive: 90,
      username: 'me',
      password: Buffer.from([0, 255]),
      properties: { sessionExpiryInterval: 100, receiveMaximum: 7, maximumPacketSize: 5000 },
      will: {
        topic: 'gone',
        payload: Buffer.from('bye'),
        qos: 2,
        retain: true,
        properties: {
          willDelayInterval: 5,
          payloadFormatIndicator: true,
          messageExpiryInterval: 9,
          contentType: 'text'
        }
      }
    })
    const read = readConnect(0x10, sent, 2, sent.length, DEFAULT_LIMITS)
    expect(read).toEqual({
      version: 5,
      isBridge: false,
      clientId: 'sensor-ü',
      cleanStart: false,
      keepaliveSeconds: 90,
      username: 'me',
      password: Buffer.from([0, 255]),
      sessionExpirySeconds: 100,
      receiveMaximum: 7,
      packetBytesMax: 5000,
      topicAliasMax: 0,
      wantsProblems: true,
      wantsResponseInformation: false,
      authenticationMethod: null,
      authenticationData: null,
      will: {
        topic: 'gone',
        payload: Buffer.from('bye'),
        properties: bytes('01 01 03 00 04', Buffer.from('text')),
        qos: 2,
        retain: true,
        expirySeconds: 9,
        delaySeconds: 5
      }
    })
    sent.fill(0)
    expect(read.password).toEqual(Buffer.from([0, 255]))
    expect(read.will?.payload.toString()).toBe('bye')
  })
})

describe('PUBLISH of section 3c', () => {
  const deep = (separators: number) => text('/'.repeat(separators))
  it.each([
    ...both('B39', 'QoS 3', bytes('36 03 00 01 61'), 0x81),
    ...both('B40', 'DUP with QoS 0', bytes('38 03 00 01 61'), 0x81),
    row('B41', 'empty topic', 4, publish(4, 0x30, text(''), bytes()), 0x82),
    row('B41', 'empty topic', 5, publish(5, 0x30, text(''), bytes()), 0x82),
    row('B42', 'a/+', 4, publish(4, 0x30, text('a/+'), bytes()), 0x90),
    row('B42', '#', 5, publish(5, 0x30, text('#'), bytes()), 0x90),
    row('B43', 'NUL', 5, publish(5, 0x30, text('a\0'), bytes()), 0x81),
    row('B43', 'overlong', 4, publish(4, 0x30, text(bytes('c0 af')), bytes()), 0x81),
    row('B43', 'surrogate', 4, publish(4, 0x30, text(bytes('ed a0 80')), bytes()), 0x81),
    row('B43', 'truncated', 4, publish(4, 0x30, text(bytes('e2 82')), bytes()), 0x81),
    row('B45', '201 separators', 5, publish(5, 0x30, deep(201), bytes()), 0x90),
    row('B45', '200 separators', 5, publish(5, 0x30, deep(200), bytes()), 0),
    row('B45', '65,535 separators', 4, publish(4, 0x30, deep(65_535), bytes()), 0x90),
    ...both('B46', 'topic length beyond the packet', bytes('30 03 00 09 61'), 0x81),
    ...both('B46', 'one byte', bytes('30 01 00'), 0x81),
    row('B47', 'packet id 0', 4, publish(4, PUB1, A, bytes('00 00')), 0x81),
    row('B47', 'packet id missing', 4, publish(4, PUB1, A, bytes('00')), 0x81),
    row('B48', 'topic alias 0', 5, packet(0x30, bytes(A, '03 23 00 00')), 0x94),
    row('B48', 'topic alias 101', 5, packet(0x30, bytes(A, '03 23 00 65')), 0x94),
    row('B48', 'topic alias 100', 5, packet(0x30, bytes(A, '03 23 00 64')), 0),
    row('B48', 'unknown alias', 5, packet(0x30, bytes('00 00', '03 23 00 01')), 0x82),
    row('B50', 'subscription identifier', 5, packet(0x30, bytes(A, '02 0b 01')), 0x82),
    row(
      'B56',
      'response topic with wildcard',
      5,
      packet(0x30, bytes(A, '06 08 00 03', Buffer.from('a/#'))),
      0x82
    ),
    row('B57', 'payload format lie', 5, packet(0x30, bytes(A, '02 01 01', [255])), 0),
    row('', 'payload format 2', 5, packet(0x30, bytes(A, '02 01 02')), 0x82),
    row('', 'content type twice', 5, packet(0x30, bytes(A, '06 03 00 00 03 00 00')), 0x82),
    row('', 'session expiry', 5, packet(0x30, bytes(A, '05 11 00 00 00 01')), 0x81),
    row('', 'no property length', 5, packet(0x30, A), 0x81),
    row('', 'property length not minimal', 5, packet(0x30, bytes(A, '80 00')), 0x81),
    row('', 'user property with NUL', 5, packet(0x30, bytes(A, '07 26 00 01 00 00 01 61')), 0x81)
  ])('$id $what (version $version) gives $reason', ({ version, packet, reason }) => {
    expect(reasonOf(version, packet)).toBe(reason)
  })

  it('takes the expiry out of the properties, wherever it stands', () => {
    const expiry = bytes('02 00 00 00 0a')
    const before = bytes('03 00 01 78')
    const after = userProperty
    for (const properties of [
      [expiry],
      [before, expiry],
      [expiry, after],
      [before, expiry, after]
    ]) {
      const block = bytes(...properties)
      const sent = packet(0x30, bytes(A, [block.length], block, Buffer.from('payload')))
      const message = new Message()
      new PublishReader().read(message, 0x30, sent, 2, sent.length, 5, DEFAULT_LIMITS, {
        nowMs: 500
      })
      expect(message.expiresAt).toBe(10_500)
      const rest = bytes(...properties.filter(part => part !== expiry))
      expect(sent.subarray(message.propertiesStart, message.propertiesEnd)).toEqual(rest)
      expect(sent.toString('utf8', message.payloadStart, message.payloadEnd)).toBe('payload')
      expect(message.key).toBe('a')
    }
  })

  it('reads a topic that is like the last one, and one that is not', () => {
    const reader = new PublishReader()
    const message = new Message()
    const read = (topic: string) => {
      const sent = packet(0x30, text(topic))
      reader.read(message, 0x30, sent, 2, sent.length, 4, DEFAULT_LIMITS, { nowMs: 0 })
      return message.key
    }
    for (const topic of ['a/b', 'a/b', 'a/c', 'größe/ü', 'größe/ü', 'a/b', '\ufeffx', '日本']) {
      expect(read(topic)).toBe(topic)
    }
  })
})

describe('acknowledgements', () => {
  it.each([
    row('', 'good', 4, bytes('40 02 00 01'), 0),
    row('', 'reason in 3.1.1', 4, bytes('40 03 00 01 00'), 0x81),
    row('', 'too short', 5, bytes('40 01 00'), 0x81),
    ...both('', 'packet id 0', bytes('62 02 00 00'), 0x81),
    row('', 'reason', 5, bytes('50 03 00 01 97'), 0),
    row('', 'unknown reason', 5, bytes('50 03 00 01 01'), 0x81),
    row('', 'reason of another packet', 5, bytes('62 03 00 01 97'), 0x81),
    row('', 'reason string', 5, bytes('70 08 00 01 92 04 1f 00 01 61'), 0),
    row('', 'trailing bytes', 5, bytes('70 05 00 01 92 00 00'), 0x81),
    row('', 'foreign property', 5, bytes('40 07 00 01 00 03 21 00 01'), 0x81)
  ])('$what (version $version) gives $reason', ({ version, packet, reason }) => {
    expect(reasonOf(version, packet)).toBe(reason)
  })

  it('are read with identifier and reason', () => {
    readAck(5, bytes('ab cd 97'), 0, 3, 5, 64)
    expect(ack).toEqual({ packetId: 0xabcd, reason: 0x97 })
  })
})

describe('SUBSCRIBE, UNSUBSCRIBE and the rest of section 3d', () => {
  it.each([
    row('', 'good', 4, packet(0x82, bytes('00 01', A, '02')), 0),
    row('B63', 'no filter', 4, packet(0x82, bytes('00 01')), 0x82),
    row('B63', 'no filter', 5, packet(0x82, bytes('00 01 00')), 0x82),
    row('B63', 'UNSUBSCRIBE without filter', 4, packet(0xa2, bytes('00 01')), 0x82),
    row('B64', 'QoS 3', 4, packet(0x82, bytes('00 01', A, '03')), 0x81),
    row('B64', 'reserved bits', 4, packet(0x82, bytes('00 01', A, '04')), 0x81),
    row('B64', 'reserved bits', 5, packet(0x82, bytes('00 01 00', A, '40')), 0x81),
    row('B64', 'retain handling 3', 5, packet(0x82, bytes('00 01 00', A, '30')), 0x82),
    row(
      'B74',
      'subscription identifier 0',
      5,
      packet(0x82, bytes('00 01 02 0b 00', A, '00')),
      0x82
    ),
    row(
      '',
      'subscription identifier twice',
      5,
      packet(0x82, bytes('00 01 04 0b 01 0b 02', A, '00')),
      0x82
    ),
    row('', 'packet id 0', 4, packet(0x82, bytes('00 00', A, '00')), 0x81),
    row('', 'filter not UTF-8', 4, packet(0x82, bytes('00 01', text(bytes('ff')), '00')), 0x81),
    row('', 'filter with NUL', 4, packet(0xa2, bytes('00 01', text('\0'))), 0x81),
    row('', 'options missing', 4, packet(0x82, bytes('00 01', A)), 0x81),
    row(
      '',
      '1,000 filters',
      4,
      packet(0x82, bytes('00 01', Buffer.concat(Array(1000).fill(bytes(A, '00'))))),
      0
    ),
    row(
      '',
      '1,001 filters',
      4,
      packet(0x82, bytes('00 01', Buffer.concat(Array(1001).fill(bytes(A, '00'))))),
      0x97
    ),
    row('', 'DISCONNECT', 4, bytes('e0 00'), 0),
    row('', 'DISCONNECT with a body', 4, bytes('e0 01 00'), 0x81),
    row('', 'DISCONNECT of version 5', 5, bytes('e0 00'), 0),
    row('', 'DISCONNECT with a will', 5, bytes('e0 01 04'), 0),
    row('', 'DISCONNECT with an expiry', 5, bytes('e0 07 00 05 11 00 00 00 05'), 0),
    row('', 'DISCONNECT, server reason', 5, bytes('e0 01 8e'), 0x81),
    row('', 'DISCONNECT, trailing bytes', 5, bytes('e0 03 00 00 00'), 0x81),
    row('', 'AUTH, unknown reason', 5, bytes('f0 02 01 00'), 0x81)
  ])('$id $what (version $version) gives $reason', ({ version, packet, reason }) => {
    expect(reasonOf(version, packet)).toBe(reason)
  })

  it('reads options of version 5, and those that a bridge of Mosquitto implies', () => {
    const body = bytes('00 07 02 0b 05', text('a/#'), [0x2d])
    expect(readSubscribe(body, 0, body.length, 5, false, DEFAULT_LIMITS)).toEqual({
      packetId: 7,
      subscriptionId: 5,
      filters: [
        { filter: 'a/#', qos: 1, noLocal: true, retainAsPublished: true, retainHandling: 2 }
      ]
    })
    const plain = bytes('00 07', text('a/#'), '01')
    expect(readSubscribe(plain, 0, plain.length, 4, true, DEFAULT_LIMITS).filters).toEqual([
      { filter: 'a/#', qos: 1, noLocal: true, retainAsPublished: true, retainHandling: 0 }
    ])
  })
})
