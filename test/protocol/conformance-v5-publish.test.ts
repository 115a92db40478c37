/** MQTT 5.0 §3.3 PUBLISH: flags, properties on their way, retained messages, overlapping subscriptions. */
import { describe, expect, it } from 'vitest'
import { hex, startGateway } from '../support/mqtt-moves.ts'
import {
  ackPacket,
  ending,
  ID,
  next,
  property,
  propertyOf,
  publishPacket,
  type Received,
  subscribePacket,
  userProperty,
  RETAINED_IF_NEW,
  RETAINED_NEVER,
  RETAIN_AS_PUBLISHED
} from '../support/mqtt5-bytes.ts'
import {
  client,
  left,
  lost,
  met,
  payloads,
  published,
  quiet,
  subscribed,
  subscriber
} from '../support/mqtt5-moves.ts'
import { packet, text } from '../support/raw-mqtt.ts'

const identifiers = (received: Received) =>
  received.properties.filter(([id]) => id === ID.subscriptionIdentifier).map(([, value]) => value)

describe('DUP', () => {
  it('is set when a PUBLISH goes out again, and not before, v5 [MQTT-3.3.1-1] [MQTT-4.3.2-2] [MQTT-4.3.3-2] [MQTT-4.4.0-1]', async () => {
    const gateway = await startGateway()
    const options = { clientId: 'back', expiry: 100 }
    const raw = await subscriber(gateway, 'a', 2, options)
    const other = await client(gateway)
    for (const qos of [1, 2]) await published(other, 'a', 'x', { qos })
    const sent = [await next(raw), await next(raw)]
    expect(sent.map(each => each.first)).toEqual([0x32, 0x34])
    await lost(gateway, raw)
    const back = await client(gateway, { ...options, clean: false })
    const again = [await next(back), await next(back)]
    expect(again.map(each => each.first)).toEqual([0x3a, 0x3c])
    expect(again.map(each => each.id)).toEqual(sent.map(each => each.id))
  })

  it('is not set with QoS 0 [B40], v5 [MQTT-3.3.1-2] [MQTT-4.3.1-1]', async () => {
    const gateway = await startGateway()
    const watcher = await subscriber(gateway, 'a', 0)
    const raw = await client(gateway)
    for (const qos of [0, 1, 2]) await published(raw, 'a', 'x', { qos })
    for (let i = 0; i < 3; i++) expect((await next(watcher)).first).toBe(0x30)
    raw.send(publishPacket('a', '', { dup: true }))
    expect(await ending(raw)).toEqual(['e081'])
  })

  it('of the publisher goes no further, v5 [MQTT-3.3.1-3]', async () => {
    const gateway = await startGateway()
    const watcher = await subscriber(gateway, 'a', 2)
    const raw = await client(gateway)
    for (const qos of [1, 2]) {
      await published(raw, 'a', 'x', { qos, dup: true })
      expect((await next(watcher)).first).toBe(0x30 | (qos << 1))
    }
  })
})

it('both QoS bits are malformed [B39], v5 [MQTT-3.3.1-4]', async () => {
  const gateway = await startGateway()
  for (const flags of [6, 7, 14, 15]) {
    const raw = await client(gateway)
    raw.send(packet(0x30 | flags, text('a'), '00 01 00'))
    expect(await ending(raw)).toEqual(['e081'])
  }
})

describe('a retained message', () => {
  it('replaces the one before it, v5 [MQTT-3.3.1-5] [MQTT-3.3.1-9]', async () => {
    const gateway = await startGateway()
    const raw = await client(gateway)
    for (const [before, after] of [
      [0, 1],
      [1, 2],
      [2, 0]
    ] as const) {
      await published(raw, 'a', 'old', { retain: true, qos: before })
      await published(raw, 'a', 'new', { retain: true, qos: after })
      const later = await subscriber(gateway, 'a', 2, { clientId: 'later' })
      expect(await next(later)).toMatchObject({ first: 0x31 | (after << 1), payload: 'new' })
      await quiet(later)
      await left(later)
    }
  })

  it('without payload is delivered, removes what is retained and is not kept, v5 [MQTT-3.3.1-6] [MQTT-3.3.1-7]', async () => {
    const gateway = await startGateway()
    const raw = await client(gateway)
    const watcher = await subscriber(gateway, 'a', 2)
    for (const isThere of [true, false]) {
      if (isThere) {
        await published(raw, 'a', 'kept', { retain: true, qos: 1 })
        expect((await next(watcher)).payload).toBe('kept')
      }
      await published(raw, 'a', '', { retain: true, qos: 1 })
      expect((await next(watcher)).payload).toBe('')
      const later = await subscriber(gateway, 'a', 2, { clientId: 'later' })
      await quiet(later)
      await left(later)
    }
  })

  it('is left alone by one that is not, v5 [MQTT-3.3.1-8]', async () => {
    const gateway = await startGateway()
    const raw = await client(gateway)
    await published(raw, 'a', 'kept', { retain: true })
    for (const payload of ['other', '']) {
      await published(raw, 'a', payload, { qos: 1 })
      await published(raw, 'b', payload, { qos: 1 })
    }
    const later = await subscriber(gateway, '+', 2, { clientId: 'later' })
    expect(await payloads(later, 1)).toEqual(['kept'])
    await quiet(later)
  })

  it('is sent at each SUBSCRIBE, at the first, or never, as retain handling asks, v5 [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11]', async () => {
    const gateway = await startGateway()
    const other = await client(gateway)
    await published(other, 'a/1', 'one', { retain: true })
    await published(other, 'a/2', 'two', { retain: true })
    await published(other, 'b', 'not matching', { retain: true })
    const raw = await client(gateway, { clientId: 'later', expiry: 100 })
    for (let i = 0; i < 2; i++) {
      await subscribed(raw, 'a/+', 0)
      expect((await payloads(raw, 2)).sort()).toEqual(['one', 'two'])
      await quiet(raw)
    }
    await subscribed(raw, 'a/+', RETAINED_IF_NEW)
    await quiet(raw)
    await subscribed(raw, 'a/#', RETAINED_IF_NEW)
    expect((await payloads(raw, 2)).sort()).toEqual(['one', 'two'])
    await subscribed(raw, 'a/#', RETAINED_NEVER)
    await subscribed(raw, '+/+', RETAINED_NEVER)
    await quiet(raw)
    // A subscription of the session that comes back was there before.
    await left(raw)
    const { raw: back } = await met(gateway, { clientId: 'later', clean: false, expiry: 100 })
    await subscribed(back, 'a/+', RETAINED_IF_NEW)
    await quiet(back)
  })

  it('keeps RETAIN on its way where that was asked for only, v5 [MQTT-3.3.1-12] [MQTT-3.3.1-13]', async () => {
    const gateway = await startGateway()
    const plain = await subscriber(gateway, 'a', 1, { clientId: 'plain' })
    const exact = await subscriber(gateway, 'a', 1 | RETAIN_AS_PUBLISHED, { clientId: 'exact' })
    const raw = await client(gateway)
    for (const qos of [0, 1]) {
      for (const retain of [true, false]) {
        await published(raw, 'a', 'x', { qos, retain })
        expect((await next(plain)).first).toBe(0x30 | (qos << 1))
        expect((await next(exact)).first).toBe(0x30 | (qos << 1) | (retain ? 1 : 0))
      }
    }
    // What a SUBSCRIBE brings has it in any case.
    await subscribed(plain, 'a', 1)
    expect((await next(plain)).first & 1).toBe(1)
  })
})

describe('a topic', () => {
  it('stands first and must be whole [B46], v5 [MQTT-3.3.2-1]', async () => {
    const gateway = await startGateway()
    for (const input of ['30 00', '30 01 00', '30 03 00 05 61', '32 04 00 01 61 00']) {
      const raw = await client(gateway)
      raw.send(input)
      expect(await ending(raw), input).toEqual(['e081'])
    }
  })

  it('may have no wildcards [B42], v5 [MQTT-3.3.2-2] [MQTT-4.7.0-1]', async () => {
    const gateway = await startGateway()
    for (const topic of ['#', '+', 'a/+', 'a/#', '+/a', 'a+', 'a#', 'a/+/b']) {
      for (const qos of [0, 1, 2]) {
        const raw = await client(gateway)
        raw.send(publishPacket(topic, '', { qos, id: 1 }))
        expect(await ending(raw), topic).toEqual(['e090'])
      }
    }
  })

  it('has a character at least [B41], v5 [MQTT-4.7.3-1]', async () => {
    const gateway = await startGateway()
    const raw = await client(gateway)
    raw.send(publishPacket('', 'x'))
    expect(await ending(raw)).toEqual(['e082'])
  })

  it('of a delivery is one that the subscription matches, v5 [MQTT-3.3.2-3]', async () => {
    const gateway = await startGateway()
    const watcher = await subscriber(gateway, 'a/+/c')
    const raw = await client(gateway)
    for (const topic of ['a/b/c', 'a/b', 'a/b/c/d', 'a//c', 'A/b/c', '/a/b/c', 'a/c']) {
      await published(raw, topic, '')
    }
    expect((await next(watcher)).topic).toBe('a/b/c')
    expect((await next(watcher)).topic).toBe('a//c')
    await quiet(watcher)
  })
})

describe('the properties of a message', () => {
  const properties = [
    userProperty('b', '1'),
    property(ID.payloadFormat, 1),
    userProperty('a', '2'),
    property(ID.correlationData, Buffer.from([0, 1, 255])),
    userProperty('b', '1'),
    property(ID.responseTopic, 'answers/é'),
    userProperty('b', '0'),
    property(ID.contentType, 'text/plain; é'),
    userProperty('', '')
  ]

  function check(received: Received): void {
    const pairs = received.properties.filter(([id]) => id === ID.userProperty)
    expect(pairs.map(([, value]) => String(value))).toEqual(['b,1', 'a,2', 'b,1', 'b,0', ','])
    expect(propertyOf(received, ID.payloadFormat)).toBe(1)
    expect(propertyOf(received, ID.correlationData)).toEqual(Buffer.from([0, 1, 255]))
    expect(String(propertyOf(received, ID.responseTopic))).toBe('answers/é')
    expect(String(propertyOf(received, ID.contentType))).toBe('text/plain; é')
  }

  it('go to every subscriber unaltered and in order, v5 [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20]', async () => {
    const gateway = await startGateway()
    const live = [0, 1, 2].map(qos => ({ qos, clientId: `live-${qos}` }))
    const watchers = []
    for (const { qos, clientId } of live) {
      watchers.push(await subscriber(gateway, 'a', qos, { clientId }))
    }
    const offline = await subscriber(gateway, '#', 1, { clientId: 'offline', expiry: 100 })
    await left(offline)
    const raw = await client(gateway)
    for (const qos of [0, 1, 2]) {
      await published(raw, 'a', 'x', { qos, retain: true, properties })
      for (const watcher of watchers) check(await next(watcher))
    }
    check(await next(await subscriber(gateway, 'a', 1, { clientId: 'later' })))
    const { raw: back } = await met(gateway, { clientId: 'offline', clean: false })
    for (let i = 0; i < 2; i++) check(await next(back))
  })

  it('say what is left of the expiry, v5 [MQTT-3.3.2-6]', async () => {
    const gateway = await startGateway()
    const raw = await client(gateway)
    const live = await subscriber(gateway, 'a', 1)
    await left(await subscriber(gateway, 'a', 1, { clientId: 'offline', expiry: 1_000 }))
    const expiry = [property(ID.messageExpiry, 100)]
    await published(raw, 'a', 'x', { qos: 1, retain: true, properties: expiry })
    expect(propertyOf(await next(live), ID.messageExpiry)).toBe(100)
    gateway.pass(30)
    const { raw: back } = await met(gateway, { clientId: 'offline', clean: false })
    expect(propertyOf(await next(back), ID.messageExpiry)).toBe(70)
    const later = await subscriber(gateway, 'a', 1, { clientId: 'later' })
    expect(propertyOf(await next(later), ID.messageExpiry)).toBe(70)
  })

  it('end the message that expires before its delivery began [B58], v5 [MQTT-3.3.2-5]', async () => {
    const gateway = await startGateway()
    const raw = await client(gateway)
    await left(await subscriber(gateway, 'a', 2, { clientId: 'offline', expiry: 1_000 }))
    for (const [payload, seconds] of [
      ['short', 10],
      ['none', 0],
      ['long', 100]
    ] as const) {
      const expiry = [property(ID.messageExpiry, seconds)]
      for (const qos of [1, 2]) await published(raw, 'a', payload, { qos, properties: expiry })
    }
    const expiry = [property(ID.messageExpiry, 10)]
    await published(raw, 'a', 'retained', { retain: true, properties: expiry })
    gateway.pass(11)
    const { raw: back } = await met(gateway, { clientId: 'offline', clean: false })
    expect(await payloads(back, 2)).toEqual(['long', 'long'])
    await quiet(back)
    const later = await subscriber(gateway, 'a', 1, { clientId: 'later' })
    await quiet(later)
  })
})

describe('a PUBLISH', () => {
  it('is answered as its QoS asks, v5 [MQTT-3.3.4-1] [MQTT-3.4.2-1] [MQTT-3.5.2-1]', async () => {
    const gateway = await startGateway()
    await subscriber(gateway, 'a')
    const raw = await client(gateway)
    raw.send(publishPacket('a', ''))
    await quiet(raw)
    for (const [qos, topic, first, reason] of [
      [1, 'a', 0x40, 0x00],
      [1, 'nobody', 0x40, 0x10],
      [1, '$SYS/x', 0x40, 0x87],
      [2, 'a', 0x50, 0x00],
      [2, '$SYS/x', 0x50, 0x87]
    ] as const) {
      raw.send(publishPacket(topic, '', { qos, id: 5 + reason }))
      expect(await next(raw)).toMatchObject({ first, id: 5 + reason, reasons: [reason] })
    }
    await quiet(raw)
  })

  it('reaches overlapping subscriptions once, with the highest QoS and all identifiers, v5 [MQTT-3.3.4-2] [MQTT-3.3.4-3] [MQTT-3.3.4-4]', async () => {
    const gateway = await startGateway()
    const raw = await client(gateway)
    const other = await client(gateway, { clientId: 'other', expiry: 100 })
    for (const [filter, qos, id] of [
      ['a/#', 0, 1],
      ['a/b', 2, 268_435_455],
      ['+/b', 1, 300],
      ['a/+', 0, 0],
      // An identifier that two of them have stands there twice (§3.3.4).
      ['+/b/#', 0, 300],
      ['c', 2, 4]
    ] as const) {
      const extra = id === 0 ? [] : [property(ID.subscriptionIdentifier, id)]
      await subscribed(other, filter, qos, ...extra)
    }
    for (const qos of [0, 1, 2]) {
      await published(raw, 'a/b', 'x', { qos })
      const received = await next(other)
      expect(received.first).toBe(0x30 | (qos << 1))
      expect(identifiers(received).sort()).toEqual([1, 268_435_455, 300, 300])
      await quiet(other)
    }
    await published(raw, 'a/c', 'x')
    expect(identifiers(await next(other))).toEqual([1])
    await lost(gateway, other)
    await published(raw, 'a/b', 'x', { qos: 1 })
    const { raw: back } = await met(gateway, { clientId: 'other', clean: false })
    await next(back)
    await next(back)
    expect(identifiers(await next(back)).sort()).toEqual([1, 268_435_455, 300, 300])
  })

  it('may bring no subscription identifier [B50], v5 [MQTT-3.3.4-6]', async () => {
    const gateway = await startGateway()
    const raw = await client(gateway)
    const properties = [property(ID.subscriptionIdentifier, 1)]
    raw.send(publishPacket('a', '', { properties }))
    expect(await ending(raw)).toEqual(['e082'])
  })

  it('above the receive maximum that we told closes [B51], v5 [MQTT-3.3.4-7]', async () => {
    const gateway = await startGateway({ limits: { receiveMaximum: 5 } })
    const watcher = await subscriber(gateway, '#', 2)
    const { raw, connack } = await met(gateway)
    expect(propertyOf(connack, ID.receiveMaximum)).toBe(5)
    for (let id = 1; id <= 5; id++) {
      raw.send(publishPacket('a', `${id}`, { qos: 2, id }))
      expect((await next(raw)).first).toBe(0x50)
    }
    raw.send(ackPacket(0x62, 1), publishPacket('a', '6', { qos: 2, id: 6 }))
    expect((await next(raw)).first).toBe(0x70)
    expect((await next(raw)).first).toBe(0x50)
    // One that is repeated counts once.
    raw.send(publishPacket('a', '6', { qos: 2, id: 6, dup: true }))
    expect((await next(raw)).first).toBe(0x50)
    raw.send(publishPacket('a', '7', { qos: 1, id: 7 }))
    expect(await ending(raw)).toEqual(['e093'])
    expect(await payloads(watcher, 6)).toEqual(['1', '2', '3', '4', '5', '6'])
    await quiet(watcher)
  })

  it('that was refused takes no part of the receive maximum, v5 [MQTT-4.3.3-9]', async () => {
    const gateway = await startGateway({ limits: { receiveMaximum: 2 } })
    const raw = await client(gateway)
    const watcher = await subscriber(gateway, '#', 2)
    for (let i = 0; i < 5; i++) {
      raw.send(publishPacket('$SYS/x', '', { qos: 2, id: 9 }))
      expect(await next(raw)).toMatchObject({ first: 0x50, reasons: [0x87] })
    }
    // The identifier of the refused one is that of a new message.
    await published(raw, 'a', 'new', { qos: 2, id: 9 })
    expect(await payloads(watcher, 1)).toEqual(['new'])
  })
})

it('a delivery of 70,000 bytes is as it was sent', async () => {
  const gateway = await startGateway()
  const watcher = await subscriber(gateway, 'a')
  const raw = await client(gateway)
  const payload = 'x'.repeat(70_000)
  await published(raw, 'a', payload)
  expect(hex(await watcher.next())).toBe(hex(publishPacket('a', payload)))
  raw.send(subscribePacket(1, [['a', 0]]))
  expect((await next(raw)).reasons).toEqual([0])
})
