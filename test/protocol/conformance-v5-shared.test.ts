/** MQTT 5.0 §4.8.2 Shared Subscriptions. */
import { describe, expect, it } from 'vitest'
import type { Gateway } from '../support/gateway.ts'
import { startGateway } from '../support/mqtt-moves.ts'
import {
  ackPacket,
  type ConnectOptions,
  ID,
  next,
  property,
  propertyOf,
  type Received,
  subscribePacket,
  unsubscribePacket,
  RETAINED_NEVER
} from '../support/mqtt5-bytes.ts'
import {
  client,
  left,
  lost,
  met,
  published,
  quiet,
  subscribed,
  subscriber
} from '../support/mqtt5-moves.ts'
import type { RawMqtt } from '../support/raw-mqtt.ts'

async function member(
  gateway: Gateway,
  clientId: string,
  qos: number,
  options: ConnectOptions = {}
): Promise<RawMqtt> {
  return await subscriber(gateway, '$share/group/a/#', qos, { clientId, ...options })
}

/** All deliveries that came to `raw` so far, acknowledged. */
async function taken(raw: RawMqtt): Promise<Received[]> {
  const found: Received[] = []
  raw.send('c0 00')
  for (;;) {
    const received = await next(raw)
    if (received.first === 0xd0) return found
    if (received.first === 0x62) raw.send(ackPacket(0x70, received.id))
    else {
      found.push(received)
      const qos = (received.first >> 1) & 3
      if (qos > 0) raw.send(ackPacket(qos === 1 ? 0x40 : 0x50, received.id))
    }
  }
}

/** Whoever of the two has the next delivery, it, and the other one. */
async function chosen(
  one: RawMqtt,
  two: RawMqtt
): Promise<{ has: RawMqtt; not: RawMqtt; delivery: Received }> {
  for (;;) {
    for (const [has, not] of [
      [one, two],
      [two, one]
    ] as const) {
      has.send('c0 00')
      const delivery = await next(has)
      if (delivery.first === 0xd0) continue
      expect((await next(has)).first).toBe(0xd0)
      return { has, not, delivery }
    }
  }
}

describe('a shared subscription', () => {
  it('gives each message to one member, each group and each other subscription its own, v5 [MQTT-4.8.2-1]', async () => {
    const gateway = await startGateway()
    const raws = [await member(gateway, 'one', 1), await member(gateway, 'two', 1)]
    const second = await subscriber(gateway, '$share/second/a/b', 0, { clientId: 'second' })
    const plain = await subscriber(gateway, 'a/b', 0, { clientId: 'plain' })
    const other = await client(gateway)
    for (let i = 0; i < 40; i++) await published(other, 'a/b', `${i}`, { qos: i % 2 })
    const shares = [await taken(raws[0]!), await taken(raws[1]!)]
    const all = shares.flat().map(({ payload }) => Number(payload))
    expect(all.sort((a, b) => a - b)).toEqual(Array.from({ length: 40 }, (_, i) => i))
    for (const share of shares) expect(share.length).toBeGreaterThan(5)
    expect((await taken(second)).length).toBe(40)
    expect((await taken(plain)).length).toBe(40)
  })

  it('delivers with the QoS that the chosen member was granted, v5 [MQTT-4.8.2-3]', async () => {
    const gateway = await startGateway()
    const raws: RawMqtt[] = []
    for (const qos of [0, 1, 2]) raws.push(await member(gateway, `granted-${qos}`, qos))
    const other = await client(gateway)
    for (const qos of [0, 1, 2]) {
      for (let i = 0; i < 12; i++) await published(other, 'a', 'x', { qos })
      for (const [granted, raw] of raws.entries()) {
        const levels = (await taken(raw)).map(({ first }) => (first >> 1) & 3)
        expect(levels.length).toBeGreaterThan(0)
        expect(new Set(levels)).toEqual(new Set([Math.min(qos, granted)]))
      }
    }
  })

  it('passes by the member that has no quota left, v5 [MQTT-3.3.4-9] [MQTT-4.9.0-2]', async () => {
    const gateway = await startGateway()
    const properties = [property(ID.receiveMaximum, 2)]
    const full = await member(gateway, 'full', 2, { properties })
    const free = await member(gateway, 'free', 2)
    const other = await client(gateway)
    for (let i = 0; i < 20; i++) await published(other, 'a', `${i}`, { qos: 1 + (i % 2) })
    const open = [await next(full), await next(full)].map(({ payload }) => payload)
    await quiet(full)
    const rest = (await taken(free)).map(({ payload }) => payload)
    expect(open.length + rest.length).toBe(20)
    expect(new Set([...open, ...rest]).size).toBe(20)
    // Alone, it holds the others up: they wait for it.
    expect(await taken(free)).toEqual([])
    await left(free)
    for (let i = 20; i < 23; i++) await published(other, 'a', `${i}`, { qos: 1 })
    await quiet(full)
  })

  it('completes what it began at QoS 2 with the same member, v5 [MQTT-4.8.2-4]', async () => {
    const gateway = await startGateway()
    const options = { expiry: 1_000 }
    const one = await member(gateway, 'one', 2, options)
    const two = await member(gateway, 'two', 2, options)
    await published(await client(gateway), 'a', 'x', { qos: 2 })
    const { has, not, delivery } = await chosen(one, two)
    await lost(gateway, has)
    gateway.pass(100)
    await quiet(not)
    const clientId = has === one ? 'one' : 'two'
    const { raw } = await met(gateway, { clientId, clean: false, ...options })
    expect(await next(raw)).toMatchObject({ first: 0x3c, id: delivery.id, payload: 'x' })
    raw.send(ackPacket(0x50, delivery.id))
    expect((await next(raw)).first).toBe(0x62)
    await quiet(not)
  })

  it('gives what it began at QoS 2 to nobody else when that session ends, v5 [MQTT-4.8.2-5]', async () => {
    for (const expiry of [0, 50]) {
      const gateway = await startGateway()
      const one = await member(gateway, 'one', 2, { expiry })
      const two = await member(gateway, 'two', 2, { expiry })
      await published(await client(gateway), 'a', 'x', { qos: 2 })
      const { has, not } = await chosen(one, two)
      await lost(gateway, has)
      gateway.pass(51)
      await quiet(not)
    }
  })

  it('gives what was open at QoS 1 to another member when that session ends', async () => {
    const gateway = await startGateway()
    const one = await member(gateway, 'one', 1)
    const two = await member(gateway, 'two', 1)
    await published(await client(gateway), 'a', 'x', { qos: 1 })
    const { has, not } = await chosen(one, two)
    await lost(gateway, has)
    expect((await next(not)).payload).toBe('x')
  })

  it('drops what its member refuses, v5 [MQTT-4.8.2-6] [MQTT-4.4.0-2]', async () => {
    const gateway = await startGateway()
    const one = await member(gateway, 'one', 2, { expiry: 100 })
    const two = await member(gateway, 'two', 2, { expiry: 100 })
    const other = await client(gateway)
    for (const [qos, first] of [
      [1, 0x40],
      [2, 0x50]
    ] as const) {
      for (const reason of [0x80, 0x83, 0x87, 0x97, 0x99]) {
        await published(other, 'a', 'x', { qos })
        const { has, delivery } = await chosen(one, two)
        has.send(ackPacket(first, delivery.id, reason))
        await quiet(has)
        await quiet(one)
        await quiet(two)
      }
    }
    for (const raw of [one, two]) await lost(gateway, raw)
    for (const clientId of ['one', 'two']) {
      await quiet((await met(gateway, { clientId, clean: false })).raw)
    }
  })

  it('brings no retained message, and its own identifier, v5 [MQTT-3.3.4-3]', async () => {
    const gateway = await startGateway()
    const other = await client(gateway)
    await published(other, 'a', 'kept', { retain: true })
    const raw = await client(gateway, { clientId: 'one' })
    await subscribed(raw, '$share/group/a/#', 1, property(ID.subscriptionIdentifier, 77))
    await quiet(raw)
    await published(other, 'a', 'live', { qos: 1 })
    const live = await next(raw)
    expect([live.payload, propertyOf(live, ID.subscriptionIdentifier)]).toEqual(['live', 77])
    // The same filter beside it, not shared, is another subscription.
    await subscribed(raw, 'a/#', RETAINED_NEVER)
    raw.send(unsubscribePacket(3, ['$share/group/a', 'a', '$share/other/a/#', '$share/group/a/#']))
    expect((await next(raw)).reasons).toEqual([0x11, 0x11, 0x11, 0])
    await published(other, 'a', 'plain')
    expect((await next(raw)).payload).toBe('plain')
    await quiet(raw)
  })

  it('comes as a copy of its own beside other subscriptions, each with its identifier, v5 [MQTT-3.3.4-5]', async () => {
    const gateway = await startGateway()
    const raw = await client(gateway, { clientId: 'one' })
    await subscribed(raw, '$share/group/a/#', 1, property(ID.subscriptionIdentifier, 77))
    await subscribed(raw, '$share/other/a/#', 1, property(ID.subscriptionIdentifier, 78))
    await subscribed(raw, 'a/#', 1, property(ID.subscriptionIdentifier, 79))
    await published(await client(gateway), 'a', 'm', { qos: 1 })
    const copies = await taken(raw)
    expect(copies.map(({ payload }) => payload)).toEqual(['m', 'm', 'm'])
    const ids = copies.map(copy => propertyOf(copy, ID.subscriptionIdentifier))
    expect(ids.sort()).toEqual([77, 78, 79])
  })

  it('is no more for who unsubscribed, or is away while another is there, v5 [MQTT-3.10.4-2]', async () => {
    const gateway = await startGateway()
    const one = await member(gateway, 'one', 1)
    const two = await member(gateway, 'two', 1, { expiry: 100 })
    const three = await member(gateway, 'three', 1)
    one.send(unsubscribePacket(2, ['$share/group/a/#']))
    expect((await next(one)).reasons).toEqual([0])
    await left(two)
    const other = await client(gateway)
    for (let i = 0; i < 6; i++) await published(other, 'a', `${i}`, { qos: 1 })
    expect((await taken(three)).map(({ payload }) => payload)).toEqual([
      '0',
      '1',
      '2',
      '3',
      '4',
      '5'
    ])
    await quiet(one)
  })

  it('needs a name without wildcards and a filter [B69], v5 [MQTT-4.8.2-1] [MQTT-4.8.2-2]', async () => {
    const gateway = await startGateway()
    const raw = await client(gateway)
    const valid = ['$share/g/a', '$share/a b/#', '$share/é/+/b', '$share/$/a', '$share/g//']
    const invalid = [
      '$share//a',
      '$share/g',
      '$share/g/',
      '$share/+/a',
      '$share/a#/a',
      '$share/g/a#'
    ]
    const list = [...valid, ...invalid].map(filter => [filter, 1] as const)
    raw.send(subscribePacket(1, list))
    expect((await next(raw)).reasons).toEqual([...valid.map(() => 1), ...invalid.map(() => 0x8f)])
  })
})
