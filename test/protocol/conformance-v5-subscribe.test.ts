/** MQTT 5.0 §3.8 to §3.11: SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, and what filters match (§4.7). */
import { describe, expect, it } from 'vitest'
import { Principal } from '../../src/core/principal.ts'
import { startGateway } from '../support/mqtt-moves.ts'
import {
  ackPacket,
  ending,
  ID,
  next,
  property,
  propertyOf,
  publishPacket,
  subscribePacket,
  unsubscribePacket,
  NO_LOCAL
} from '../support/mqtt5-bytes.ts'
import {
  client,
  lost,
  met,
  payloads,
  published,
  quiet,
  subscribed,
  subscriber
} from '../support/mqtt5-moves.ts'
import { bytes, packet, text } from '../support/raw-mqtt.ts'

const A = text('a')

describe('SUBSCRIBE and UNSUBSCRIBE', () => {
  it.each([
    ['SUBSCRIBE, v5 [MQTT-3.8.1-1]', 0x80, packet(0, '00 01 00', A, '00')],
    ['UNSUBSCRIBE, v5 [MQTT-3.10.1-1]', 0xa0, packet(0, '00 01 00', A)]
  ] as const)('with flags other than 0010 are malformed [B07]: %s', async (_, type, input) => {
    const gateway = await startGateway()
    for (let flags = 0; flags < 16; flags++) {
      if (flags === 2) continue
      const raw = await client(gateway)
      raw.send([type | flags], input.subarray(1))
      expect(await ending(raw)).toEqual(['e081'])
    }
  })

  it.each([
    ['SUBSCRIBE [B63], v5 [MQTT-3.8.3-2]', '82 03 00 01 00', 'e082'],
    ['UNSUBSCRIBE, v5 [MQTT-3.10.3-2]', 'a2 03 00 01 00', 'e082'],
    ['SUBSCRIBE without its options, v5 [MQTT-3.8.3-2]', '82 06 00 01 00 00 01 61', 'e081'],
    ['SUBSCRIBE with half a filter, v5 [MQTT-3.8.3-1]', '82 06 00 01 00 00 05 61', 'e081'],
    ['UNSUBSCRIBE with half a filter, v5 [MQTT-3.10.3-1]', 'a2 06 00 01 00 00 05 61', 'e081']
  ])('without a whole filter end the connection: %s', async (_, input, expected) => {
    const gateway = await startGateway()
    const raw = await client(gateway)
    raw.send(input)
    expect(await ending(raw)).toEqual([expected])
  })

  it('with reserved option bits, QoS 3 or retain handling 3 are refused [B64], v5 [MQTT-3.8.3-5]', async () => {
    const gateway = await startGateway()
    for (let options = 0; options < 256; options++) {
      const isQos = (options & 3) < 3
      const isHandling = (options & 0x30) < 0x30
      if (isQos && isHandling && options < 0x40) continue
      const raw = await client(gateway)
      raw.send(
        subscribePacket(1, [
          ['a', 0],
          ['b', options]
        ])
      )
      const expected = isQos && options < 0x40 ? 'e082' : 'e081'
      expect(await ending(raw), options.toString(16)).toEqual([expected])
    }
  })

  it('are answered, with their identifier, even for nothing, v5 [MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-3.10.4-4] [MQTT-3.10.4-5]', async () => {
    const gateway = await startGateway()
    const raw = await client(gateway)
    for (const id of [1, 0x0203, 65_535]) {
      raw.send(subscribePacket(id, [['a', 0]]))
      expect(await next(raw)).toMatchObject({ first: 0x90, id, reasons: [0] })
      raw.send(unsubscribePacket(id, ['a']))
      expect(await next(raw)).toMatchObject({ first: 0xb0, id, reasons: [0] })
      raw.send(unsubscribePacket(id, ['a']))
      expect(await next(raw)).toMatchObject({ first: 0xb0, id, reasons: [0x11] })
    }
  })

  it('answer each filter, in order, with a code of the table, v5 [MQTT-3.8.4-5] [MQTT-3.8.4-6] [MQTT-3.8.4-7] [MQTT-3.9.3-1] [MQTT-3.9.3-2] [MQTT-3.10.4-6] [MQTT-3.11.3-1] [MQTT-3.11.3-2]', async () => {
    const rules = [
      { effect: 'deny', access: 'readwrite', filter: 'secret/#' },
      { effect: 'allow', access: 'readwrite', filter: '#' }
    ] as const
    const gateway = await startGateway({
      authenticate: () =>
        Promise.resolve({ ok: true, principal: new Principal('bob', [], '/', [], rules, false) })
    })
    const raw = await client(gateway)
    raw.send(
      subscribePacket(1, [
        ['a', 1],
        ['a/#/b', 0],
        ['b', 2],
        ['secret/x', 2],
        ['c', 0],
        ['', 0],
        ['a', 2]
      ])
    )
    expect((await next(raw)).reasons).toEqual([1, 0x8f, 2, 0x87, 0, 0x8f, 2])
    raw.send(unsubscribePacket(2, ['c', 'never', 'a', 'a', 'b', '']))
    const unsuback = await next(raw)
    expect(unsuback.reasons.slice(0, 5)).toEqual([0, 0x11, 0, 0x11, 0])
    expect([0x11, 0x8f]).toContain(unsuback.reasons[5])
  })

  it('above their quotas say so [B67], v5 [MQTT-3.9.3-2]', async () => {
    const limits = { subscriptionsMax: 3, wildcardSubscriptionsMax: 1 }
    const gateway = await startGateway({ limits })
    const raw = await client(gateway)
    raw.send(
      subscribePacket(1, [
        ['+', 0],
        ['#', 0],
        ['a', 0],
        ['b', 0],
        ['c', 0],
        ['+', 1]
      ])
    )
    expect((await next(raw)).reasons).toEqual([0, 0x97, 0, 0, 0x97, 1])
  })
})

describe('a subscription', () => {
  it('is replaced by one of the same filter, whose retained messages come again and no other is lost, v5 [MQTT-3.8.4-3] [MQTT-3.8.4-4]', async () => {
    const gateway = await startGateway()
    const raw = await client(gateway)
    await published(raw, 'a', 'kept', { retain: true, qos: 2 })
    const watcher = await client(gateway, { clientId: 'watcher' })
    for (const [qos, id] of [
      [0, 1],
      [2, 2],
      [1, 3]
    ] as const) {
      await subscribed(watcher, 'a', qos, property(ID.subscriptionIdentifier, id))
      const kept = await next(watcher)
      expect(kept).toMatchObject({ first: 0x31 | (qos << 1), payload: 'kept' })
      expect(propertyOf(kept, ID.subscriptionIdentifier)).toBe(id)
      await published(raw, 'a', 'live', { qos: 2 })
      const live = await next(watcher)
      expect(live.first).toBe(0x30 | (qos << 1))
      expect(propertyOf(live, ID.subscriptionIdentifier)).toBe(id)
      await quiet(watcher)
    }
    // One stream of messages, and SUBSCRIBEs in between: all arrive, each once.
    const sent: Buffer[] = []
    for (let i = 0; i < 200; i++) sent.push(publishPacket('a', String(i)))
    const renew = (async () => {
      for (let i = 0; i < 20; i++) {
        watcher.send(subscribePacket(2, [['a', 0x20]]))
        await new Promise(setImmediate)
      }
    })()
    for (const [i, each] of sent.entries()) {
      raw.send(each)
      if (i % 5 === 0) await new Promise(setImmediate)
    }
    await renew
    const found: string[] = []
    while (found.length < 200) {
      const received = await next(watcher)
      if (received.first >> 4 === 3) found.push(received.payload)
    }
    expect(found).toEqual(Array.from({ length: 200 }, (_, i) => String(i)))
  })

  it('delivers with the lower QoS of both, v5 [MQTT-3.8.4-8]', async () => {
    const gateway = await startGateway()
    const raw = await client(gateway)
    for (const granted of [0, 1, 2]) {
      const watcher = await subscriber(gateway, 'a', granted, { clientId: `granted-${granted}` })
      for (const qos of [0, 1, 2]) {
        await published(raw, 'a', 'x', { qos })
        expect((await next(watcher)).first).toBe(0x30 | (Math.min(granted, qos) << 1))
      }
      watcher.destroy()
    }
  })

  it('with no local gets nothing of its own client identifier, v5 [MQTT-3.8.3-3]', async () => {
    const gateway = await startGateway()
    const raw = await client(gateway, { clientId: 'local', expiry: 100 })
    await subscribed(raw, 'a', 1 | NO_LOCAL)
    await subscribed(raw, 'b', 1)
    const other = await client(gateway, { clientId: 'other' })
    for (const qos of [0, 1]) {
      await published(raw, 'a', 'own', { qos })
      await published(other, 'a', 'other', { qos })
      expect(await payloads(raw, 1)).toEqual(['other'])
    }
    raw.send(publishPacket('b', 'own'))
    expect(await payloads(raw, 1)).toEqual(['own'])
    // Also what it published before it was away.
    await lost(gateway, raw)
    const { raw: back } = await met(gateway, { clientId: 'local', clean: false })
    expect(await payloads(back, 1)).toEqual(['other'])
    await published(back, 'a', 'own', { qos: 1 })
    await quiet(back)
  })

  it('with no local may not be shared [B70], v5 [MQTT-3.8.3-4]', async () => {
    const gateway = await startGateway()
    const raw = await client(gateway)
    raw.send(subscribePacket(1, [['$share/g/a', NO_LOCAL]]))
    expect(await ending(raw)).toEqual(['e082'])
  })

  it('that is shared needs a name and a filter [B69], v5 [MQTT-4.8.2-1] [MQTT-4.8.2-2]', async () => {
    const gateway = await startGateway()
    const raw = await client(gateway)
    const filters = ['$share//x', '$share/', '$share/g', '$share/g/', '$share/g+/x', '$share/#/x']
    const list = filters.map(filter => [filter, 0] as const)
    raw.send(subscribePacket(1, list))
    expect((await next(raw)).reasons).toEqual(filters.map(() => 0x8f))
    raw.send(
      subscribePacket(1, [
        ['$share/g/a/#/b', 0],
        ['$share/+/a', 0],
        ['$share', 0]
      ])
    )
    expect((await next(raw)).reasons.slice(0, 2)).toEqual([0x8f, 0x8f])
  })

  it('ends by the filter that is equal to the last character, v5 [MQTT-3.10.4-1]', async () => {
    const gateway = await startGateway()
    const raw = await client(gateway)
    const watcher = await client(gateway, { clientId: 'watcher' })
    for (const filter of ['a/#', 'a/+', 'a/b']) await subscribed(watcher, filter)
    for (const [gone, other, left] of [
      ['a/#', ['#', 'a/', 'a', 'A/#', 'a/# ', '+/#'], 1],
      ['a/b', ['a/B', 'a/b/', '/a/b', 'a'], 1],
      ['a/+', ['+/+', '+/b', 'a/+/'], 0]
    ] as const) {
      watcher.send(unsubscribePacket(2, other))
      expect((await next(watcher)).reasons).toEqual(other.map(() => 0x11))
      watcher.send(unsubscribePacket(3, [gone]))
      expect((await next(watcher)).reasons).toEqual([0])
      await published(raw, 'a/b', 'x')
      if (left > 0) await next(watcher)
      await quiet(watcher)
    }
  })

  it('that ended gets nothing new, but the rest of what began, v5 [MQTT-3.10.4-2] [MQTT-3.10.4-3]', async () => {
    const gateway = await startGateway()
    const other = await client(gateway)
    let raw = await subscriber(gateway, 'a', 2, { clientId: 'leaving', expiry: 100 })
    for (const qos of [1, 2]) await published(other, 'a', `${qos}`, { qos })
    await published(other, 'a', 'released', { qos: 2 })
    const open = [await next(raw), await next(raw), await next(raw)]
    raw.send(ackPacket(0x50, open[2]!.id))
    await next(raw)
    raw.send(unsubscribePacket(5, ['a']))
    expect((await next(raw)).first).toBe(0xb0)
    await published(other, 'a', 'new', { qos: 2 })
    await quiet(raw)
    await lost(gateway, raw)
    raw = (await met(gateway, { clientId: 'leaving', clean: false, expiry: 100 })).raw
    const again = [await next(raw), await next(raw), await next(raw)]
    expect(again.map(each => each.first).sort()).toEqual([0x3a, 0x3c, 0x62])
    raw.send(ackPacket(0x40, open[0]!.id), ackPacket(0x50, open[1]!.id))
    expect(await next(raw)).toMatchObject({ first: 0x62, id: open[1]!.id })
    raw.send(ackPacket(0x70, open[1]!.id), ackPacket(0x70, open[2]!.id))
    await quiet(raw)
  })

  it('gets what is accepted, of every session that matches, v5 [MQTT-4.5.0-1]', async () => {
    const gateway = await startGateway()
    const filters = ['a/b', 'a/+', '#', '+/b', 'a/#', 'other', 'a/b/c']
    for (const filter of filters) {
      const raw = await subscriber(gateway, filter, 2, { clientId: filter, expiry: 100 })
      await lost(gateway, raw)
    }
    const other = await client(gateway)
    for (const qos of [1, 2]) await published(other, 'a/b', 'x', { qos })
    for (const filter of filters) {
      const { raw } = await met(gateway, { clientId: filter, clean: false })
      if (filters.indexOf(filter) < 5) expect(await payloads(raw, 2)).toEqual(['x', 'x'])
      await quiet(raw)
    }
  })
})

describe('a filter', () => {
  it('has its wildcards in whole levels, # at the end [B65], v5 [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.3-1]', async () => {
    const gateway = await startGateway()
    const raw = await client(gateway)
    const valid = ['#', '+', '/', '//', '+/+', '+/#', '/#', '/+', 'a/#', '+/a/+', '+//+', 'a b/#']
    const invalid = ['', 'a#', '#/a', '#/', '##', 'a/#/b', 'a+', '+a', 'a+/b', '++', 'a/b#', '+#']
    raw.send(
      subscribePacket(
        1,
        [...valid, ...invalid].map(filter => [filter, 0] as const)
      )
    )
    const expected = [...valid.map(() => 0), ...invalid.map(() => 0x8f)]
    expect((await next(raw)).reasons).toEqual(expected)
  })

  it('matches level by level, v5 [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.3-4]', async () => {
    const gateway = await startGateway()
    const other = await client(gateway)
    const topics = ['a', 'a/', '/a', 'a/b', 'a/b/c', '//', 'A', 'a ', 'é', 'e\u0301', '/']
    for (const [filter, matching] of [
      ['#', topics],
      ['+', ['a', 'A', 'a ', 'é', 'e\u0301']],
      ['a/#', ['a', 'a/', 'a/b', 'a/b/c']],
      ['a/+', ['a/', 'a/b']],
      ['+/+', ['a/', '/a', 'a/b', '/']],
      ['/+', ['/a', '/']],
      ['+/', ['a/', '/']],
      ['/#', ['/a', '//', '/']],
      ['+/+/+', ['a/b/c', '//']],
      ['a', ['a']],
      ['é', ['é']],
      ['a ', ['a ']]
    ] as const) {
      const raw = await subscriber(gateway, filter)
      for (const topic of topics) await published(other, topic, '')
      for (const topic of matching) expect((await next(raw)).topic).toBe(topic)
      await quiet(raw)
      raw.destroy()
    }
  })

  it('and a topic may have 65,535 bytes, v5 [MQTT-4.7.3-3]', async () => {
    const gateway = await startGateway()
    const topic = 'x'.repeat(65_535)
    const raw = await subscriber(gateway, topic)
    await published(await client(gateway), topic, 'long')
    expect((await next(raw)).topic.length).toBe(65_535)
  })

  it('and a topic may have 200 separators, and no more [B45]', async () => {
    const gateway = await startGateway()
    const raw = await subscriber(gateway, '#')
    const other = await client(gateway)
    await published(other, '/'.repeat(200), '')
    expect((await next(raw)).topic.length).toBe(200)
    other.send(publishPacket('/'.repeat(201), ''))
    expect(await ending(other)).toEqual(['e090'])
    raw.send(
      subscribePacket(1, [
        ['/'.repeat(200), 0],
        ['/'.repeat(201), 0]
      ])
    )
    expect((await next(raw)).reasons).toEqual([0, 0x8f])
  })

  it('with U+0000 is malformed, v5 [MQTT-4.7.3-2]', async () => {
    const gateway = await startGateway()
    for (const first of [0x82, 0xa2]) {
      const raw = await client(gateway)
      raw.send(packet(first, '00 01 00', text(bytes('61 00')), first === 0x82 ? '00' : ''))
      expect(await ending(raw)).toEqual(['e081'])
    }
  })
})
