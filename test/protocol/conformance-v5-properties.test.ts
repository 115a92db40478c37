/** MQTT 5.0 §2.2.2: every property in every packet that a client sends, once, twice, foreign, cut, of a wrong value. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Gateway } from '../support/gateway.ts'
import {
  ackPacket,
  block,
  connectPacket,
  decode,
  ending,
  ID,
  next,
  property,
  propertyOf,
  publishPacket,
  subscribePacket,
  unsubscribePacket,
  userProperty,
  varint
} from '../support/mqtt5-bytes.ts'
import { client, dialed, met } from '../support/mqtt5-moves.ts'
import { type Bytes, bytes, packet, text } from '../support/raw-mqtt.ts'

let gateway: Gateway
beforeAll(async () => {
  gateway = await new Gateway().start()
})
afterAll(async () => {
  expect(gateway.mqtt.bugs).toBe(0)
  await gateway.close()
})

const APPLICATION = [0x01, 0x02, 0x03, 0x08, 0x09]
const ACK = [ID.reasonString]

interface Kind {
  /** The identifiers that a client may use here, but for the User Property (§2.2.2.2). */
  readonly allowed: readonly number[]
  /** The packet with this property block. */
  readonly make: (properties: Buffer) => Buffer
  /** How it ends when the properties are in order: with a ping that is answered, or so. */
  readonly end?: string[]
}

const A = text('a')
const connectOf = (flags: number, properties: Bytes, ...rest: Bytes[]) =>
  packet(0x10, text('MQTT'), [5, flags, 0, 60], properties, ...rest)

const KINDS: Readonly<Record<string, Kind>> = {
  CONNECT: {
    allowed: [0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, 0x27],
    make: properties => connectOf(2, properties, text('properties'))
  },
  'a will': {
    allowed: [...APPLICATION, ID.willDelay],
    make: properties => connectOf(6, block(), text('properties'), properties, A, A)
  },
  PUBLISH: {
    allowed: [...APPLICATION, ID.topicAlias],
    make: properties => packet(0x30, A, properties, 'ff')
  },
  PUBACK: { allowed: ACK, make: properties => packet(0x40, '00 09 00', properties) },
  PUBREC: { allowed: ACK, make: properties => packet(0x50, '00 09 80', properties) },
  PUBREL: { allowed: ACK, make: properties => packet(0x62, '00 09 00', properties) },
  PUBCOMP: { allowed: ACK, make: properties => packet(0x70, '00 09 00', properties) },
  SUBSCRIBE: {
    allowed: [ID.subscriptionIdentifier],
    make: properties => packet(0x82, '00 01', properties, A, '00')
  },
  UNSUBSCRIBE: { allowed: [], make: properties => packet(0xa2, '00 01', properties, A) },
  DISCONNECT: {
    allowed: [ID.sessionExpiry, ID.reasonString],
    make: properties => packet(0xe0, '00', properties),
    end: []
  },
  AUTH: {
    allowed: [ID.authenticationMethod, ID.authenticationData, ID.reasonString],
    make: properties => packet(0xf0, '18', properties),
    // The CONNECT named no method, v5 [MQTT-4.12.0-7].
    end: ['e082']
  }
}

const NUMBERS = [
  0x01, 0x02, 0x0b, 0x11, 0x13, 0x17, 0x18, 0x19, 0x21, 0x22, 0x23, 0x24, 0x25, 0x27, 0x28, 0x29,
  0x2a
]
const STRINGS = [0x03, 0x08, 0x12, 0x15, 0x1a, 0x1c, 0x1f, 0x09, 0x16]
const PROPERTIES = [...NUMBERS, ...STRINGS, ID.userProperty].sort((a, b) => a - b)

/** One of this identifier with a value that is in order. */
function sample(id: number): Buffer {
  if (id === ID.userProperty) return userProperty('name', 'value')
  if (id === ID.maximumPacketSize) return property(id, 1000)
  // In a DISCONNECT a CONNECT without expiry allows none above 0 (§3.14.2.2.2).
  if (id === ID.sessionExpiry) return property(id, 0)
  return property(id, NUMBERS.includes(id) ? 1 : 'text')
}

/** What must stand beside it (§3.1.2.11.10). */
const beside = (id: number) => (id === 0x16 ? sample(ID.authenticationMethod) : bytes(''))

/** Sends it as its place is, and returns how it ends; null: the client is still there. */
async function result(kind: string, properties: Bytes): Promise<string[] | null> {
  const { make } = KINDS[kind]!
  const input = make(bytes(properties))
  if (kind === 'CONNECT' || kind === 'a will') {
    const raw = await dialed(gateway, input)
    const answer = decode(await raw.next())
    if (answer.reasons[0] === 0) {
      raw.send('e0 00')
      return null
    }
    expect(await raw.rest()).toEqual([])
    return [Buffer.from([answer.first, ...answer.reasons]).toString('hex')]
  }
  const raw = await client(gateway)
  raw.send(input, 'c0 00')
  const seen: string[] = []
  for (;;) {
    const answer = await raw.next().catch(() => null)
    if (answer === null) return seen
    const { first, reasons } = decode(answer)
    if (first === 0xd0) break
    if (first >= 0xe0) seen.push(Buffer.from([first, ...reasons]).toString('hex'))
  }
  raw.destroy()
  return null
}

const before = (kind: string) => kind === 'CONNECT' || kind === 'a will'
const failure = (kind: string, reason: number) => [
  `${before(kind) ? '20' : 'e0'}${reason.toString(16)}`
]

describe.each(Object.keys(KINDS))('the properties of %s', kind => {
  const { allowed, end } = KINDS[kind]!
  const valid = [...allowed, ID.userProperty]

  it('may each stand there once', async () => {
    for (const id of valid) {
      let expected: string[] | null = end ?? null
      // A method that we do not know [B32].
      if (kind === 'CONNECT' && (id === 0x15 || id === 0x16)) expected = failure(kind, 0x8c)
      if (id === ID.topicAlias && !(await hasAliases())) expected = failure(kind, 0x94)
      const found = await result(kind, block(sample(id), beside(id)))
      expect(found, `0x${id.toString(16)}`).toEqual(expected)
    }
  })

  it('may not stand there twice, but for user properties [B28]', async () => {
    for (const id of allowed) {
      if (id === ID.topicAlias && !(await hasAliases())) continue
      const found = await result(kind, block(beside(id), sample(id), sample(id)))
      expect(found, `0x${id.toString(16)}`).toEqual(failure(kind, 0x82))
    }
    const twice = await result(kind, block(userProperty('a', 'b'), userProperty('a', 'b')))
    expect(twice).toEqual(end ?? null)
  })

  it('are malformed where they belong to another packet, or to none [B28]', async () => {
    for (const id of PROPERTIES) {
      if (valid.includes(id)) continue
      const reason = kind === 'PUBLISH' && id === ID.subscriptionIdentifier ? 0x82 : 0x81
      const found = await result(kind, block(sample(id)))
      expect(found, `0x${id.toString(16)}`).toEqual(failure(kind, reason))
    }
    for (const id of [0x00, 0x04, 0x2b, 0x7f, 0x80, 0xff]) {
      const found = await result(kind, block([id], '00 00 00 00 00'))
      expect(found, `0x${id.toString(16)}`).toEqual(failure(kind, 0x81))
    }
    // An identifier is a variable byte integer: this one has two bytes.
    expect(await result(kind, block([0xa6, 0x01], text('a'), text('b')))).toEqual(
      failure(kind, 0x81)
    )
  })

  it('are malformed when they end too early [B29]', async () => {
    for (const id of valid) {
      if (id === ID.topicAlias && !(await hasAliases())) continue
      const whole = sample(id)
      for (let length = 1; length < whole.length; length++) {
        const found = await result(kind, block(beside(id), whole.subarray(0, length)))
        expect(found, `0x${id.toString(16)}, ${length} bytes`).toEqual(failure(kind, 0x81))
      }
    }
  })

  it('are malformed when their length lies [B29]', async () => {
    const whole = userProperty('name', 'value')
    for (const length of [whole.length - 1, 127, 16_383, 2_097_151, 268_435_455]) {
      const found = await result(kind, bytes(varint(length), whole))
      expect(found, String(length)).toEqual(failure(kind, 0x81))
    }
    expect(await result(kind, 'ff ff ff ff')).toEqual(failure(kind, 0x81))
    expect(await result(kind, 'ff ff ff ff 01')).toEqual(failure(kind, 0x81))
  })

  it('are in order when 64 are user properties, too large when there are more [B30]', async () => {
    const many = (count: number) =>
      block(...Array.from({ length: count }, (_, i) => userProperty('n', String(i))))
    expect(await result(kind, many(64))).toEqual(end ?? null)
    expect(await result(kind, many(65))).toEqual(failure(kind, 0x95))
    if (!before(kind)) expect(await result(kind, many(10_000))).toEqual(failure(kind, 0x95))
  })
})

let aliasMaximum = -1
async function hasAliases(): Promise<boolean> {
  if (aliasMaximum < 0) {
    const { raw, connack } = await met(gateway)
    aliasMaximum = Number(propertyOf(connack, ID.topicAliasMaximum) ?? 0)
    raw.destroy()
  }
  return aliasMaximum > 0
}

describe('the value of a property', () => {
  const four = (id: number, value: number) => property(id, value)
  it.each([
    ['CONNECT', 'Receive Maximum 0', property(0x21, 0)],
    ['CONNECT', 'Maximum Packet Size 0', four(0x27, 0)],
    ['CONNECT', 'Request Response Information 2', property(0x19, 2)],
    ['CONNECT', 'Request Problem Information 255', property(0x17, 255)],
    ['CONNECT', 'Authentication Data without a method [B31]', property(0x16, 'x')],
    ['a will', 'Payload Format Indicator 2', property(0x01, 2)],
    ['a will', 'Response Topic a/#', property(0x08, 'a/#')],
    ['PUBLISH', 'Payload Format Indicator 2', property(0x01, 2)],
    ['PUBLISH', 'Response Topic +, v5 [MQTT-3.3.2-14] [B56]', property(0x08, '+')],
    ['PUBLISH', 'Response Topic a/#, v5 [MQTT-3.3.2-14] [B56]', property(0x08, 'a/#')],
    ['PUBLISH', 'Response Topic without a character, v5 [MQTT-4.7.3-1]', property(0x08, '')],
    ['PUBLISH', 'Subscription Identifier, v5 [MQTT-3.3.4-6] [B50]', property(0x0b, 1)],
    ['SUBSCRIBE', 'Subscription Identifier 0 [B74]', property(0x0b, 0)],
    ['DISCONNECT', 'Session Expiry behind a CONNECT without', property(0x11, 1)]
  ])('of %s that is none is a protocol error: %s', async (kind, _, wrong) => {
    expect(await result(kind, block(wrong))).toEqual(failure(kind, 0x82))
  })

  it.each([
    ['CONNECT', property(0x21, 65_535)],
    ['CONNECT', four(0x27, 0xffffffff)],
    ['CONNECT', four(0x11, 0xffffffff)],
    ['CONNECT', property(0x22, 65_535)],
    ['a will', four(0x18, 0xffffffff)],
    ['PUBLISH', four(0x02, 0xffffffff)],
    ['PUBLISH', four(0x02, 0)],
    ['PUBLISH', property(0x09, '')],
    ['PUBLISH', property(0x03, '')],
    ['SUBSCRIBE', property(0x0b, 268_435_455)]
  ])('of %s may be its largest and its least', async (kind, value) => {
    expect(await result(kind, block(value))).toBe(null)
  })

  it('of a string may have 65,535 bytes', async () => {
    const longest = 'x'.repeat(65_535)
    expect(await result('PUBLISH', block(property(0x03, longest)))).toBe(null)
    expect(await result('PUBLISH', block(userProperty(longest, longest)))).toBe(null)
    expect(await result('SUBSCRIBE', block(userProperty(longest, longest)))).toBe(null)
  })
})

describe('what we send', () => {
  it('has only properties that belong there, each once', async () => {
    // `decode` throws at any other; here all kinds of packets pass through it.
    const { raw } = await met(gateway, { clientId: 'all', expiry: 10 })
    raw.send(
      subscribePacket(
        1,
        [
          ['q/#', 2],
          ['q/#/x', 0]
        ],
        property(0x0b, 3),
        userProperty('a', 'b')
      )
    )
    expect((await next(raw)).reasons).toEqual([2, 0x8f])
    raw.send(unsubscribePacket(1, ['a', 'q/#']))
    expect((await next(raw)).reasons).toEqual([0x11, 0])
    raw.send(subscribePacket(1, [['q/#', 2]], property(0x0b, 3)))
    await next(raw)
    const properties = [...APPLICATION.map(sample), userProperty('a', 'b'), userProperty('a', 'c')]
    raw.send(publishPacket('q/a', 'x', { qos: 2, id: 1, properties }))
    const seen = [await next(raw), await next(raw)]
    const delivery = seen.find(each => each.first >> 4 === 3)!
    expect(delivery.properties.length).toBe(8)
    raw.send(
      ackPacket(0x50, delivery.id),
      ackPacket(0x62, 2),
      publishPacket('$SYS/x', '', { qos: 1, id: 3 })
    )
    expect((await next(raw)).first).toBe(0x62)
    expect((await next(raw)).reasons).toEqual([0x92])
    expect((await next(raw)).reasons).toEqual([0x87])
    raw.send(connectPacket())
    expect(await ending(raw)).toEqual(['e082'])
  })
})
