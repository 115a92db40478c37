/** MQTT 5.0, chapters 1 and 2 and the handling of errors (§4.13), byte by byte. */
import { describe, expect, it } from 'vitest'
import {
  ackPacket,
  block,
  connectPacket,
  decode,
  ending,
  ID,
  next,
  property,
  publishPacket,
  subscribePacket,
  unsubscribePacket,
  userProperty
} from '../support/mqtt5-bytes.ts'
import {
  client,
  dialed,
  met,
  published,
  quiet,
  subscribed,
  subscriber
} from '../support/mqtt5-moves.ts'
import { hex, startGateway } from '../support/mqtt-moves.ts'
import { type Bytes, bytes, packet, text } from '../support/raw-mqtt.ts'

const A = text('a')

/** What is no string [MQTT-1.5.4-1], [MQTT-1.5.4-2]. */
const BAD_STRINGS: readonly (readonly [string, Buffer])[] = [
  ['a surrogate', bytes('61 ed a0 80')],
  ['the last surrogate', bytes('ed bf bf 61')],
  ['an overlong form', bytes('c0 af')],
  ['a byte that never occurs', bytes('61 ff')],
  ['a cut character', bytes('e2 82')],
  ['a character beyond U+10FFFF', bytes('f4 90 80 80')],
  ['U+0000', bytes('61 00 62')],
  ['U+0000 alone', bytes('00')]
]

function connectOf(flags: number, properties: Buffer, ...payload: Bytes[]): Buffer {
  return packet(0x10, text('MQTT'), [5, flags, 0, 60], properties, ...payload)
}

const NONE = block()

/** Strings of a CONNECT. */
const IN_CONNECT: readonly (readonly [string, (bad: Buffer) => Buffer])[] = [
  ['client identifier, v5 [MQTT-3.1.3-4]', bad => connectOf(2, NONE, text(bad))],
  ['will topic, v5 [MQTT-3.1.3-11]', bad => connectOf(6, NONE, A, NONE, text(bad), A)],
  ['user name, v5 [MQTT-3.1.3-12]', bad => connectOf(0x82, NONE, A, text(bad))],
  ['authentication method', bad => connectOf(2, block(property(0x15, bad)), A)],
  ['user property name', bad => connectOf(2, block(userProperty(bad, 'x')), A)],
  ['user property value', bad => connectOf(2, block(userProperty('x', bad)), A)],
  ['content type of a will', bad => connectOf(6, NONE, A, block(property(3, bad)), A, A)],
  ['response topic of a will', bad => connectOf(6, NONE, A, block(property(8, bad)), A, A)],
  ['user property of a will', bad => connectOf(6, NONE, A, block(userProperty('x', bad)), A, A)]
]

const reason = (bad: Buffer) => property(ID.reasonString, bad)

/** Strings of the packets behind it. */
const BEHIND_CONNECT: readonly (readonly [string, (bad: Buffer) => Buffer])[] = [
  ['topic, v5 [MQTT-3.3.2-1] [MQTT-4.7.3-2]', bad => publishPacket(bad, '')],
  [
    'response topic, v5 [MQTT-3.3.2-13]',
    bad => publishPacket('a', '', { properties: [property(8, bad)] })
  ],
  [
    'content type, v5 [MQTT-3.3.2-19]',
    bad => publishPacket('a', '', { properties: [property(3, bad)] })
  ],
  [
    'user property name, v5 [MQTT-1.5.7-1]',
    bad => publishPacket('a', '', { properties: [userProperty(bad, 'x')] })
  ],
  [
    'user property value, v5 [MQTT-1.5.7-1]',
    bad => publishPacket('a', '', { properties: [userProperty('x', bad)] })
  ],
  ['filter, v5 [MQTT-3.8.3-1] [MQTT-4.7.3-2]', bad => subscribePacket(1, [[bad, 0]])],
  [
    'second filter',
    bad =>
      subscribePacket(1, [
        ['a', 0],
        [bad, 0]
      ])
  ],
  ['user property of SUBSCRIBE', bad => subscribePacket(1, [['a', 0]], userProperty('x', bad))],
  ['filter of UNSUBSCRIBE, v5 [MQTT-3.10.3-1]', bad => unsubscribePacket(1, [bad])],
  ['user property of UNSUBSCRIBE', bad => unsubscribePacket(1, ['a'], userProperty(bad, 'x'))],
  ['reason string of PUBACK', bad => ackPacket(0x40, 1, 0, reason(bad))],
  ['reason string of PUBREC', bad => ackPacket(0x50, 1, 0, reason(bad))],
  ['reason string of PUBREL', bad => ackPacket(0x62, 1, 0, reason(bad))],
  ['reason string of PUBCOMP', bad => ackPacket(0x70, 1, 0, reason(bad))],
  ['reason string of DISCONNECT', bad => packet(0xe0, [0], block(reason(bad)))]
]

describe('a string', () => {
  it.each(IN_CONNECT)(
    'that is none, in CONNECT: %s, is malformed, v5 [MQTT-1.5.4-1] [MQTT-1.5.4-2]',
    async (_, make) => {
      const gateway = await startGateway()
      for (const [what, bad] of BAD_STRINGS) {
        expect(await ending(await dialed(gateway, make(bad))), what).toEqual(['2081'])
      }
    }
  )

  it.each(BEHIND_CONNECT)(
    'that is none: %s, is malformed, v5 [MQTT-1.5.4-1] [MQTT-1.5.4-2]',
    async (_, make) => {
      const gateway = await startGateway()
      for (const [what, bad] of BAD_STRINGS) {
        const raw = await client(gateway)
        raw.send(make(bad))
        expect(await ending(raw), what).toEqual(['e081'])
      }
    }
  )

  it('may hold every character there is', async () => {
    const gateway = await startGateway()
    const topic = 'é/€/😀/\u0001/\u007f/\u{10ffff}/\ufffd'
    const watcher = await subscriber(gateway, topic)
    await published(await client(gateway), topic, 'x')
    expect((await next(watcher)).topic).toBe(topic)
  })

  it('keeps U+FEFF wherever it stands, v5 [MQTT-1.5.4-3]', async () => {
    const gateway = await startGateway()
    const topic = Buffer.from('efbbbf61efbbbf', 'hex')
    const watcher = await subscriber(gateway, '#')
    const exact = await subscriber(gateway, topic.toString(), 0, { clientId: '\ufeffsubscriber' })
    const bare = await subscriber(gateway, 'a', 0, { clientId: 'bare' })
    const properties = [property(ID.contentType, topic), userProperty(topic, topic)]
    await published(await client(gateway), topic.toString(), 'x', { properties })
    for (const raw of [watcher, exact]) {
      expect(hex(await raw.next())).toBe(hex(publishPacket(topic, 'x', { properties })))
    }
    await quiet(bare)
    await quiet(watcher)
  })
})

describe('a variable byte integer', () => {
  it.each([
    ['Remaining Length', bytes('30 84 00 00 01 61 00')],
    ['Remaining Length of three bytes', bytes('30 84 80 00 00 01 61 00')],
    ['Remaining Length of five bytes', bytes('30 ff ff ff ff 7f')],
    ['property length of PUBLISH', packet(0x30, A, '80 00')],
    ['property length of SUBSCRIBE', packet(0x82, '00 01', '80 00', A, '00')],
    ['property length of UNSUBSCRIBE', packet(0xa2, '00 01', '80 00', A)],
    ['property length of PUBACK', packet(0x40, '00 01 00 80 00')],
    ['property length of DISCONNECT', packet(0xe0, '00 80 00')],
    ['subscription identifier', packet(0x82, '00 01', '03 0b 81 00', A, '00')],
    ['subscription identifier of five bytes', packet(0x82, '00 01 06 0b 81 81 81 81 01', A, '00')]
  ])('longer than it must be is malformed: %s [B01, B02], v5 [MQTT-1.5.5-1]', async (_, input) => {
    const gateway = await startGateway()
    const raw = await client(gateway)
    raw.send(input)
    expect(await ending(raw)).toEqual(['e081'])
  })

  it('in CONNECT longer than it must be is malformed [B02], v5 [MQTT-1.5.5-1]', async () => {
    const gateway = await startGateway()
    const properties = packet(0x10, text('MQTT'), '05 02 00 3c 80 00', A)
    expect(await ending(await dialed(gateway, properties))).toEqual(['2081'])
    const remaining = bytes('10 8e 00', text('MQTT'), '05 02 00 3c 00', A)
    expect(await (await dialed(gateway, remaining)).rest()).toEqual([])
  })

  it('of ours is as short as can be, at every step of its length, v5 [MQTT-1.5.5-1]', async () => {
    const gateway = await startGateway()
    const watcher = await subscriber(gateway, 'a')
    const raw = await client(gateway)
    for (const edge of [128, 16_384]) {
      for (let length = edge - 6; length <= edge + 2; length++) {
        raw.send(publishPacket('a', 'x'.repeat(length)))
        const plain = await next(watcher)
        expect([plain.isMinimal, plain.payload.length]).toEqual([true, length])
        const properties = [userProperty('', 'x'.repeat(length))]
        raw.send(publishPacket('a', '', { properties }))
        const rich = await next(watcher)
        expect([rich.isMinimal, rich.properties.length]).toEqual([true, 1])
      }
    }
    raw.send(publishPacket('a', 'x'.repeat(2_000_000)))
    expect((await watcher.next()).length).toBe(2_000_008)
  })
})

describe('the flags of the fixed header', () => {
  it.each([
    0x41, 0x48, 0x52, 0x60, 0x63, 0x6a, 0x71, 0x80, 0x83, 0x8a, 0xa0, 0xa3, 0xc1, 0xc8, 0xe2, 0xf1
  ])('that are reserved and wrong are malformed: %d [B07], v5 [MQTT-2.1.3-1]', async first => {
    const gateway = await startGateway()
    const raw = await client(gateway)
    raw.send([first])
    expect(await ending(raw)).toEqual(['e081'])
  })

  it('of CONNECT must be 0, v5 [MQTT-2.1.3-1]', async () => {
    const gateway = await startGateway()
    for (let flags = 1; flags < 16; flags++) {
      const connect = connectPacket()
      connect[0] = 0x10 | flags
      expect(await (await dialed(gateway, connect)).rest()).toEqual([])
    }
  })

  it('of what we send are those of the table, v5 [MQTT-2.1.3-1]', async () => {
    const gateway = await startGateway()
    const { raw, connack } = await met(gateway)
    expect(connack.first).toBe(0x20)
    const watcher = await subscriber(gateway, 'q', 2)
    const exchanges: readonly (readonly [Buffer, number])[] = [
      [subscribePacket(1, [['b', 2]]), 0x90],
      [unsubscribePacket(1, ['z']), 0xb0],
      [publishPacket('a', '', { qos: 1, id: 1 }), 0x40],
      [publishPacket('a', '', { qos: 2, id: 1 }), 0x50],
      [ackPacket(0x62, 1), 0x70],
      [bytes('c0 00'), 0xd0],
      [publishPacket('q', '', { qos: 2, id: 2 }), 0x50]
    ]
    for (const [sent, first] of exchanges) {
      raw.send(sent)
      expect((await raw.next())[0]).toBe(first)
    }
    const delivery = await next(watcher)
    expect(delivery.first).toBe(0x34)
    watcher.send(ackPacket(0x50, delivery.id))
    expect((await watcher.next())[0]).toBe(0x62)
    raw.send([0])
    expect((await raw.next())[0]).toBe(0xe0)
  })
})

describe('a packet identifier', () => {
  it('stands in no PUBLISH of QoS 0, v5 [MQTT-2.2.1-2]', async () => {
    const gateway = await startGateway()
    const watcher = await subscriber(gateway, 'a', 0)
    const raw = await client(gateway)
    await published(raw, 'a', 'x', { qos: 1 })
    expect(hex(await watcher.next())).toBe(hex(packet(0x30, A, '00', Buffer.from('x'))))
    // What stands there is the property length.
    raw.send(packet(0x30, A, '07 00'))
    expect(await ending(raw)).toEqual(['e081'])
  })

  it.each([
    ['SUBSCRIBE', subscribePacket(0, [['a', 0]])],
    ['UNSUBSCRIBE', unsubscribePacket(0, ['a'])],
    ['PUBLISH of QoS 1', publishPacket('a', '', { qos: 1, id: 0 })],
    ['PUBLISH of QoS 2', publishPacket('a', '', { qos: 2, id: 0 })],
    ['PUBACK', ackPacket(0x40, 0)],
    ['PUBREL', ackPacket(0x62, 0)]
  ])('of 0 is malformed: %s [B47], v5 [MQTT-2.2.1-3]', async (_, input) => {
    const gateway = await startGateway()
    const raw = await client(gateway)
    raw.send(input)
    expect(await ending(raw)).toEqual(['e081'])
  })

  it('of ours is never 0 and never one in use, also when all were used, v5 [MQTT-2.2.1-4] [MQTT-4.3.2-1] [MQTT-4.3.3-1]', async () => {
    const gateway = await startGateway()
    const watcher = await subscriber(gateway, 'a', 2)
    const raw = await client(gateway)
    await published(raw, 'a', 'open, QoS 1', { qos: 1 })
    await published(raw, 'a', 'open, QoS 2', { qos: 2 })
    const one = await next(watcher)
    const two = await next(watcher)
    const ids = new Set<number>()
    const publishes = new Array(930).fill(publishPacket('a', '', { qos: 1, id: 1 }))
    for (let round = 0; round < 70; round++) {
      raw.send(...publishes)
      const acks: Buffer[] = []
      const open = new Set([one.id, two.id])
      for (let i = 0; i < publishes.length; i++) {
        const { id } = decode(await watcher.next())
        expect(open.has(id)).toBe(false)
        open.add(id)
        ids.add(id)
        acks.push(ackPacket(0x40, id))
      }
      watcher.send(...acks)
      for (let i = 0; i < publishes.length; i++) await raw.next()
    }
    // All are used but for a few hundred: then the turn comes to those that are open, and they are waited for.
    expect(ids.size).toBe(70 * 930)
    raw.send(...publishes)
    for (let i = 0; i < 65_535 - 2 - 70 * 930; i++)
      watcher.send(ackPacket(0x40, (await next(watcher)).id))
    watcher.send(ackPacket(0x40, one.id))
    expect((await next(watcher)).id).toBe(one.id)
    await quiet(watcher)
    expect(ids.has(0)).toBe(false)
    // 65,000 messages one by one: 3 s, and many times that on a machine that is busy.
  }, 120_000)

  it('comes back in every acknowledgement, v5 [MQTT-2.2.1-5] [MQTT-2.2.1-6] [MQTT-3.8.4-2] [MQTT-4.3.2-4] [MQTT-4.3.3-8] [MQTT-4.3.3-11]', async () => {
    const gateway = await startGateway()
    const raw = await client(gateway)
    for (const id of [1, 255, 256, 0x1234, 65_535]) {
      raw.send(publishPacket('a', '', { qos: 1, id }), publishPacket('a', '', { qos: 2, id }))
      raw.send(ackPacket(0x62, id), subscribePacket(id, [['b', 0]]), unsubscribePacket(id, ['b']))
      const seen: number[][] = []
      for (let i = 0; i < 5; i++) {
        const { first, id: found } = await next(raw)
        seen.push([first, found])
      }
      expect(seen).toEqual([0x40, 0x50, 0x70, 0x90, 0xb0].map(first => [first, id]))
    }
  })

  it('of a delivery is that of its PUBREL, v5 [MQTT-2.2.1-5] [MQTT-4.3.3-4]', async () => {
    const gateway = await startGateway()
    const watcher = await subscriber(gateway, 'a', 2)
    const raw = await client(gateway)
    for (let i = 0; i < 300; i++) {
      await published(raw, 'a', '', { qos: 2 })
      const { id } = await next(watcher)
      watcher.send(ackPacket(0x50, id))
      const pubrel = await next(watcher)
      expect([pubrel.first, pubrel.id]).toEqual([0x62, id])
      watcher.send(ackPacket(0x70, id))
    }
  })
})

describe('a packet without properties', () => {
  it('has a property length of 0, v5 [MQTT-2.2.2-1]', async () => {
    const gateway = await startGateway()
    const raw = await client(gateway)
    raw.send(subscribePacket(1, [['a', 0]]))
    expect(hex(await raw.next())).toBe('900400010000')
    raw.send(unsubscribePacket(2, ['a']))
    expect(hex(await raw.next())).toBe('b00400020000')
    await subscribed(raw, 'a')
    raw.send(publishPacket('a', ''))
    expect(hex(await raw.next())).toBe('300400016100')
  })

  it.each([
    ['PUBLISH', packet(0x30, A)],
    ['SUBSCRIBE', packet(0x82, '00 01')],
    ['UNSUBSCRIBE', packet(0xa2, '00 01')]
  ])('may not leave that out: %s, v5 [MQTT-2.2.2-1]', async (_, input) => {
    const gateway = await startGateway()
    const raw = await client(gateway)
    raw.send(input)
    expect(await ending(raw)).toEqual(['e081'])
  })
})

describe('an error', () => {
  it('closes, whatever is sent behind it, v5 [MQTT-4.13.1-1] [MQTT-4.13.2-1]', async () => {
    const gateway = await startGateway()
    const watcher = await subscriber(gateway, '#')
    for (const input of ['00 00', '36 04 00 01 61 00', 'd0 00', '10 00']) {
      const raw = await client(gateway)
      raw.send(input, publishPacket('behind', 'x', { qos: 1, id: 1 }), 'c0 00')
      const seen = await ending(raw)
      expect(seen.length).toBe(1)
      expect(seen[0]).toMatch(/^e08[12]$/)
    }
    await quiet(watcher)
  })
})
