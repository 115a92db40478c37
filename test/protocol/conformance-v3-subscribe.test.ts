/** MQTT 3.1.1, chapters 3.8 to 3.12 and 4.7: subscriptions, filters and pings, in bytes. */
import { describe, expect, it } from 'vitest'
import type { Gateway } from '../support/gateway.ts'
import {
  connectTo,
  hex,
  publish,
  startGateway,
  subscribe,
  subscribed
} from '../support/mqtt-moves.ts'
import { bytes, packet, type RawMqtt, text } from '../support/raw-mqtt.ts'

const open = (gateway: Gateway, id: string) => connectTo(gateway, 4, id)

async function unsubscribed(raw: RawMqtt, ...filters: string[]): Promise<void> {
  raw.send(packet(0xa2, '00 09', ...filters.map(text)))
  expect(hex(await raw.next())).toBe('b0020009')
}

/** Publishes to each topic, and returns those that `raw` gets. */
async function heard(raw: RawMqtt, publisher: RawMqtt, topics: string[]): Promise<string[]> {
  for (const topic of topics) publish(publisher, 0x30, topic, '')
  await publisher.quiet()
  raw.send('c0 00')
  const found: string[] = []
  for (let next = await raw.next(); next[0] !== 0xd0; next = await raw.next()) {
    found.push(next.subarray(next.length - next[3]!).toString())
  }
  return found
}

describe('SUBSCRIBE', () => {
  it('v3 [MQTT-3.8.3-1] [MQTT-3.10.3-1]: its filters, and those of UNSUBSCRIBE, are strings of UTF-8', async () => {
    const gateway = await startGateway()
    for (const wrong of ['ff', 'ed a0 80', 'c0 80']) {
      const filter = text(bytes(wrong))
      for (const input of [packet(0x82, '00 01', filter, '00'), packet(0xa2, '00 01', filter)]) {
        const raw = await open(gateway, 'c')
        raw.send(input)
        expect(await raw.rest()).toEqual([])
      }
    }
    const raw = await open(gateway, 'c')
    await subscribed(raw, 'grüße/😀/#', 0)
    publish(raw, 0x30, 'grüße/😀/x', 'y')
    expect((await raw.next()).toString()).toContain('grüße/😀/xy')
  })

  it('v3 [MQTT-3.8.3-3] [MQTT-3.10.3-2]: one without a filter closes, and so does UNSUBSCRIBE', async () => {
    const gateway = await startGateway()
    for (const input of ['82 02 00 01', 'a2 02 00 01', '82 05 00 01 00 01 61']) {
      const raw = await open(gateway, 'c')
      raw.send(input)
      expect(await raw.rest()).toEqual([])
    }
  })

  it('v3 [MQTT-3.8.3-4]: QoS 3 and reserved bits close', async () => {
    const gateway = await startGateway()
    for (const options of [3, 4, 8, 16, 32, 64, 128, 255]) {
      const raw = await open(gateway, 'c')
      raw.send(packet(0x82, '00 01', text('a'), [options]))
      expect(await raw.rest()).toEqual([])
    }
  })

  it('v3 [MQTT-2.3.1-7] [MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-3.8.4-4] [MQTT-3.8.4-5] [MQTT-3.9.3-1]: one SUBACK with its identifier, and a code for each filter in its place', async () => {
    const gateway = await startGateway()
    const raw = await open(gateway, 'c')
    const filters = [text('a'), [0], text('b'), [2], text('wrong#'), [1], text('c/#'), [1]]
    raw.send(packet(0x82, 'ab cd', ...filters))
    expect(hex(await raw.next())).toBe('9006abcd00028001')
    const publisher = await open(gateway, 'publisher')
    expect(await heard(raw, publisher, ['a', 'b', 'wrong', 'c', 'c/d'])).toEqual([
      'a',
      'b',
      'c',
      'c/d'
    ])
  })

  it('v3 [MQTT-3.9.3-2]: no code but 0, 1, 2 and 0x80', async () => {
    const { asUser } = await import('../support/bad-input-users.ts')
    const gateway = await startGateway({
      authenticate: asUser,
      limits: { wildcardSubscriptionsMax: 1, subscriptionsMax: 5 }
    })
    const raw = await connectTo(gateway, 4, 'c', { username: 'bob' })
    const filters = ['a', 'b', 'c', '#', '+', 'secret/a', '$SYS/#', 'x#', '', 'd', 'e', 'f']
    raw.send(packet(0x82, '00 01', ...filters.map((filter, n) => bytes(text(filter), [n % 3]))))
    const suback = await raw.next()
    const codes = [...suback.subarray(4)]
    expect(codes).toEqual([0, 1, 2, 0, 128, 128, 128, 128, 128, 0, 128, 128])
  })

  it('v3 [MQTT-3.8.4-3]: the same filter again replaces the subscription, and brings what is retained again', async () => {
    const gateway = await startGateway()
    const raw = await open(gateway, 'c')
    publish(raw, 0x31, 'k', 'x')
    for (const qos of [0, 2, 1]) {
      subscribe(raw, 'k', qos)
      expect((await raw.next()).at(-1)).toBe(qos)
      expect((await raw.next())[0]).toBe(0x31)
    }
    publish(raw, 0x34, 'k', 'y', 1)
    const kinds = [await raw.next(), await raw.next()].map(found => found[0]).sort()
    expect(kinds).toEqual([0x32, 0x50])
    await raw.quiet()
  })

  it.each([
    [0, 0, 0x30],
    [0, 2, 0x30],
    [1, 0, 0x30],
    [1, 1, 0x32],
    [1, 2, 0x32],
    [2, 0, 0x30],
    [2, 1, 0x32],
    [2, 2, 0x34]
  ])(
    'v3 [MQTT-3.8.4-6]: published with QoS %i, granted QoS %i, it is sent as the lower',
    async (published, granted, first) => {
      const gateway = await startGateway()
      const raw = await open(gateway, 'c')
      await subscribed(raw, 'a', granted)
      const publisher = await open(gateway, 'publisher')
      publish(publisher, 0x30 | (published << 1), 'a', 'x', published === 0 ? 0 : 1)
      expect((await raw.next())[0]).toBe(first)
    }
  )
})

describe('UNSUBSCRIBE', () => {
  it('v3 [MQTT-3.10.4-1] [MQTT-3.10.4-2] [MQTT-3.10.4-4]: the equal filter is deleted, no other, and brings nothing more', async () => {
    const gateway = await startGateway()
    const raw = await open(gateway, 'c')
    for (const filter of ['a/+', 'a/b', 'A/b', 'a/b/']) await subscribed(raw, filter, 0)
    await unsubscribed(raw, 'a/+')
    const publisher = await open(gateway, 'publisher')
    expect(await heard(raw, publisher, ['a/c', 'a/b', 'A/b', 'a/b/'])).toEqual([
      'a/b',
      'A/b',
      'a/b/'
    ])
    await unsubscribed(raw, 'a/b')
    expect(await heard(raw, publisher, ['a/b', 'A/b', 'a/b/'])).toEqual(['A/b', 'a/b/'])
  })

  it('v3 [MQTT-3.10.4-3]: deliveries that have begun are completed', async () => {
    const gateway = await startGateway()
    const raw = await connectTo(gateway, 4, 'c', { clean: false })
    await subscribed(raw, 'a', 2)
    const publisher = await open(gateway, 'publisher')
    publish(publisher, 0x34, 'a', 'x', 1)
    const id = (await raw.next()).subarray(5, 7)
    await unsubscribed(raw, 'a')
    raw.destroy()
    const back = await connectTo(gateway, 4, 'c', { clean: false })
    expect((await back.next())[0]).toBe(0x3c)
    back.send(packet(0x50, id))
    expect(hex(await back.next())).toBe(hex(packet(0x62, id)))
    back.send(packet(0x70, id))
    await back.quiet()
  })

  it('v3 [MQTT-3.10.4-5] [MQTT-3.10.4-6]: one UNSUBACK for several filters, whether there were such or not', async () => {
    const gateway = await startGateway()
    const raw = await open(gateway, 'c')
    await subscribed(raw, 'a', 0)
    await subscribed(raw, 'b', 0)
    await unsubscribed(raw, 'never', 'a', 'nor', 'b')
    const publisher = await open(gateway, 'publisher')
    expect(await heard(raw, publisher, ['a', 'b'])).toEqual([])
  })
})

describe('PINGREQ', () => {
  it('v3 [MQTT-3.12.4-1]: is answered by PINGRESP', async () => {
    const gateway = await startGateway()
    const raw = await open(gateway, 'c')
    raw.send('c0 00 c0 00 c0 00')
    for (let n = 0; n < 3; n++) expect(hex(await raw.next())).toBe('d000')
  })
})

describe('filters', () => {
  it.each([
    ['v3 [MQTT-4.7.1-2]', ['sport/tennis#', 'sport/tennis/#/ranking', '#/a', 'a#', '##', 'a/##']],
    ['v3 [MQTT-4.7.1-3]', ['sport+', '+sport', 'a/b+/c', '++', 'a/++']]
  ])('%s: wildcards that do not fill a level are refused', async (_name, filters) => {
    const gateway = await startGateway()
    const raw = await open(gateway, 'c')
    for (const filter of filters) {
      subscribe(raw, filter, 0)
      expect(hex(await raw.next())).toBe('9003000180')
    }
  })

  it.each([
    [
      'v3 [MQTT-4.7.1-2] the parent too',
      'sport/tennis/#',
      ['sport/tennis', 'sport/tennis/x/y'],
      ['sport', 'sport/tenni']
    ],
    ['v3 [MQTT-4.7.1-3] one level', 'sport/+', ['sport/a', 'sport/'], ['sport', 'sport/a/b']],
    [
      'v3 [MQTT-4.7.1-3] at any place',
      '+/tennis/+/x',
      ['a/tennis/b/x', '/tennis//x'],
      ['a/tennis/x']
    ],
    ['v3 [MQTT-4.7.1-3] with #', '+/b/#', ['a/b', 'a/b/c/d', '/b'], ['b', 'a/c']],
    ['v3 [MQTT-4.7.2-1] #', '#', ['a', '/', '/a'], []],
    [
      'v3 [MQTT-4.7.3-4] as they are',
      'a/B/é',
      ['a/B/é'],
      ['a/b/é', 'A/B/é', 'a/B/e\u0301', 'a/B/é/', ' a/B/é']
    ],
    [
      'v3 [MQTT-4.7.3-4] blanks and separators count',
      '/ a//b',
      ['/ a//b'],
      ['/a//b', '/ a/b', ' a//b']
    ]
  ])('%s: %s', async (_name, filter, matching, others) => {
    const gateway = await startGateway()
    const raw = await open(gateway, 'c')
    await subscribed(raw, filter, 0)
    const publisher = await open(gateway, 'publisher')
    expect(await heard(raw, publisher, [...others, ...matching])).toEqual(matching)
  })

  it('v3 [MQTT-4.7.2-1]: no wildcard at the first level matches a topic that begins with $', async () => {
    const gateway = await startGateway()
    const raw = await open(gateway, 'c')
    for (const filter of ['#', '+/monitor', '+/#', '+']) await subscribed(raw, filter, 0)
    gateway.publishAsBroker('$SYS/monitor', 'x')
    gateway.publishAsBroker('$x', 'x')
    await raw.quiet()
  })

  it('v3 [MQTT-4.7.3-1]: an empty one is refused', async () => {
    const gateway = await startGateway()
    const raw = await open(gateway, 'c')
    subscribe(raw, '', 0)
    expect(hex(await raw.next())).toBe('9003000180')
  })

  it('v3 [MQTT-4.7.3-3]: topics and filters of 65,535 bytes are taken', async () => {
    const gateway = await startGateway()
    const raw = await open(gateway, 'c')
    const longest = `${'é'.repeat(32_767)}x`
    await subscribed(raw, longest, 0)
    publish(raw, 0x30, longest, 'y')
    expect((await raw.next()).length).toBe(1 + 3 + 2 + 65_535 + 1)
  })
})
