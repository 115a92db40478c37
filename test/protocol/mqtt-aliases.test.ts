import { describe, expect, it } from 'vitest'
import {
  connectTo,
  hex,
  lasting,
  publish,
  startGateway,
  subscribe,
  subscribed
} from '../support/mqtt-moves.ts'
import { type Bytes, packet, type RawMqtt, text } from '../support/raw-mqtt.ts'

/** A version 5 PUBLISH with property bytes. */
function publishWith(
  raw: RawMqtt,
  first: number,
  topic: string,
  properties: string,
  payload: string,
  id: Bytes = ''
): void {
  const bytes = Buffer.from(properties.replaceAll(' ', ''), 'hex')
  raw.send(packet(first, text(topic), id, [bytes.length], bytes, Buffer.from(payload)))
}

const aliasOf = (found: object) =>
  (found as { properties?: { topicAlias?: number } }).properties?.topicAlias

describe('topic aliases from a client', () => {
  it('are announced, and each from 1 to the maximum is taken: v5 [MQTT-3.3.2-12] [MQTT-3.2.2-17]', async () => {
    const gateway = await startGateway({ limits: { topicAliasMax: 3 } })
    const subscriber = await connectTo(gateway, 4, 's')
    await subscribed(subscriber, '#', 0)
    const raw = await gateway.dial()
    raw.version = 5
    raw.send(packet(0x10, text('MQTT'), '05 02 00 3c 00', text('p')))
    expect(await raw.read()).toMatchObject({ properties: { topicAliasMaximum: 3 } })
    for (const alias of [1, 2, 3]) publishWith(raw, 0x30, `t/${alias}`, `23 00 0${alias}`, 'a')
    for (const alias of [3, 1, 2]) publishWith(raw, 0x30, '', `23 00 0${alias}`, 'b')
    const topics: unknown[] = []
    for (let i = 0; i < 6; i++) topics.push(((await subscriber.read()) as { topic: string }).topic)
    expect(topics).toEqual(['t/1', 't/2', 't/3', 't/3', 't/1', 't/2'])
  })

  it('stand for their topic at every QoS, with other properties before and behind, on the disk and retained', async () => {
    const gateway = await startGateway()
    const subscriber = await connectTo(gateway, 5, 's', lasting)
    await subscribed(subscriber, 'long/topic', 2)
    const raw = await connectTo(gateway, 5, 'p')
    // Content type, alias, expiry, user property; then alias first; then expiry first.
    publishWith(
      raw,
      0x32,
      'long/topic',
      '03 0001 74 23 0007 02 0000000a 26 0001 6b 0001 76',
      '1',
      '00 01'
    )
    expect(hex(await raw.next())).toBe('40020001')
    publishWith(raw, 0x34, '', '23 0007 02 0000000a 03 0001 74', '2', '00 02')
    expect(hex(await raw.next())).toBe('50020002')
    publishWith(raw, 0x33, '', '02 0000000a 23 0007', '3', '00 03')
    await raw.next()
    publishWith(raw, 0x30, '', '23 0007', 'x'.repeat(100_000))
    const user = { contentType: 't', messageExpiryInterval: 10, userProperties: { k: 'v' } }
    const at = { topic: 'long/topic' }
    const one = await subscriber.read()
    expect(one).toMatchObject({ ...at, payload: Buffer.from('1'), qos: 1, properties: user })
    expect(aliasOf(one)).toBe(undefined)
    const two = { contentType: 't', messageExpiryInterval: 10 }
    expect(await subscriber.read()).toMatchObject({
      ...at,
      payload: Buffer.from('2'),
      properties: two
    })
    expect(await subscriber.read()).toMatchObject({ ...at, payload: Buffer.from('3'), qos: 1 })
    expect(((await subscriber.read()) as { payload: Buffer }).payload.length).toBe(100_000)
    subscriber.destroy()
    // From the disk, and from the retained tree.
    const again = await connectTo(gateway, 5, 's', lasting)
    expect(await again.read()).toMatchObject({ ...at, payload: Buffer.from('1'), properties: user })
    for (const payload of ['2', '3']) {
      expect(await again.read()).toMatchObject({ ...at, payload: Buffer.from(payload) })
    }
    const late = await connectTo(gateway, 4, 'late')
    subscribe(late, 'long/#', 0)
    await late.next()
    expect(await late.read()).toMatchObject({ ...at, payload: Buffer.from('3'), retain: true })
  })

  it('may be given another topic', async () => {
    const gateway = await startGateway()
    const subscriber = await connectTo(gateway, 4, 's')
    await subscribed(subscriber, '#', 0)
    const raw = await connectTo(gateway, 5, 'p')
    publishWith(raw, 0x30, 'first', '23 0001', '1')
    publishWith(raw, 0x30, 'other', '23 0001', '2')
    publishWith(raw, 0x30, '', '23 0001', '3')
    publish(raw, 0x30, 'first', '4')
    const topics: unknown[] = []
    for (let i = 0; i < 4; i++) topics.push(((await subscriber.read()) as { topic: string }).topic)
    expect(topics).toEqual(['first', 'other', 'other', 'first'])
  })

  it('are refused when 0, over the maximum or unknown [B48]: v5 [MQTT-3.3.2-8] [MQTT-3.3.2-9]', async () => {
    const gateway = await startGateway({ limits: { topicAliasMax: 10 } })
    const cases: [string, string, number][] = [
      ['t', '23 0000', 0x94],
      ['t', '23 000b', 0x94],
      ['', '23 ffff', 0x94],
      ['', '23 0005', 0x82]
    ]
    for (const [topic, properties, reason] of cases) {
      const raw = await connectTo(gateway, 5, 'x')
      publishWith(raw, 0x30, topic, properties, 'p')
      expect(await raw.read(), properties).toMatchObject({ cmd: 'disconnect', reasonCode: reason })
    }
    const none = await startGateway({ limits: { topicAliasMax: 0 } })
    const raw = await connectTo(none, 5, 'x')
    publishWith(raw, 0x30, 't', '23 0001', 'p')
    expect(await raw.read()).toMatchObject({ cmd: 'disconnect', reasonCode: 0x94 })
  })

  it('are gone with their connection, also when the session stays: v5 [MQTT-3.3.2-7]', async () => {
    const gateway = await startGateway()
    const first = await connectTo(gateway, 5, 'p', lasting)
    publishWith(first, 0x32, 'topic', '23 0001', '1', '00 01')
    await first.next()
    first.destroy()
    const second = await connectTo(gateway, 5, 'p', lasting)
    publishWith(second, 0x32, '', '23 0001', '2', '00 02')
    expect(await second.read()).toMatchObject({ cmd: 'disconnect', reasonCode: 0x82 })
  })

  it('are bounded in the bytes of their topics', async () => {
    const gateway = await startGateway({ limits: { topicAliasBytesMax: 1_024 } })
    const raw = await connectTo(gateway, 5, 'p')
    // The same alias again gives back what its topic took.
    for (const letter of ['a', 'b', 'c']) publishWith(raw, 0x30, letter.repeat(900), '23 0001', '')
    publishWith(raw, 0x30, 'd'.repeat(100), '23 0002', '')
    await raw.quiet()
    publishWith(raw, 0x30, 'e'.repeat(100), '23 0003', '')
    expect(await raw.read()).toMatchObject({ cmd: 'disconnect', reasonCode: 0x97 })
  })
})

describe('topic aliases to a client', () => {
  const wants = (topicAliasMaximum: number, more: object = {}) => ({
    properties: { topicAliasMaximum, ...more }
  })

  it('are used for topics that repeat, never beyond its maximum: v5 [MQTT-3.3.2-11] [MQTT-3.1.2-26]', async () => {
    const gateway = await startGateway()
    const raw = await connectTo(gateway, 5, 's', wants(2))
    await subscribed(raw, '#', 2)
    const publisher = await connectTo(gateway, 4, 'p')
    const topics = ['one/topic', 'two/topic', 'one/topic', 'two/topic', 'third/topic', 'one/topic']
    for (const topic of topics) publish(publisher, 0x30, topic, 'x')
    publish(publisher, 0x34, 'one/topic', 'y', 5)
    const seen: unknown[] = []
    for (let i = 0; i < 7; i++) {
      const found = await raw.read()
      seen.push([(found as { topic: string }).topic, aliasOf(found)])
    }
    expect(seen).toEqual([
      ['one/topic', 1],
      ['two/topic', 2],
      ['', 1],
      ['', 2],
      ['third/topic', undefined],
      ['', 1],
      ['', 1]
    ])
    // The third topic repeats: it takes over the alias that was not used for longest.
    publish(publisher, 0x30, 'third/topic', 'x')
    const found = (await raw.read()) as { topic: string }
    expect(found.topic).toBe('third/topic')
    const taken = aliasOf(found)
    publish(publisher, 0x30, 'third/topic', 'x')
    const next = await raw.read()
    expect([(next as { topic: string }).topic, aliasOf(next)]).toEqual(['', taken])
    // Who lost it is sent with its topic again.
    const loser = taken === 1 ? 'one/topic' : 'two/topic'
    publish(publisher, 0x30, loser, 'x')
    expect(await raw.read()).toMatchObject({ topic: loser })
  })

  it('are not used for who did not ask, nor does a fan-out differ for them: v5 [MQTT-3.1.2-27]', async () => {
    const gateway = await startGateway()
    const plain: RawMqtt[] = []
    for (const version of [4, 5, 5] as const) {
      plain.push(await connectTo(gateway, version, `s${plain.length}`))
    }
    const aliased = await connectTo(gateway, 5, 'aliased', wants(10))
    const zero = await connectTo(gateway, 5, 'zero', wants(0))
    for (const raw of [...plain, aliased, zero]) await subscribed(raw, 'a/topic', 1)
    const publisher = await connectTo(gateway, 4, 'p')
    for (let i = 1; i <= 3; i++) publish(publisher, 0x32, 'a/topic', `${i}`, i)
    for (const raw of [...plain, zero]) {
      for (let i = 1; i <= 3; i++) {
        const tail = raw.version === 5 ? '00' : ''
        const wanted = packet(0x32, text('a/topic'), [0, i], tail, Buffer.from(`${i}`))
        expect(hex(await raw.next())).toBe(hex(wanted))
      }
    }
    const set = packet(0x32, text('a/topic'), '00 01 03 23 00 01', Buffer.from('1'))
    expect(hex(await aliased.next())).toBe(hex(set))
    for (const i of [2, 3]) {
      const used = packet(0x32, text(''), [0, i], '03 23 00 01', Buffer.from(`${i}`))
      expect(hex(await aliased.next())).toBe(hex(used))
    }
  })

  it('begin anew on a new connection, also for what is sent again', async () => {
    const gateway = await startGateway()
    const options = {
      clean: false,
      properties: { sessionExpiryInterval: 100, topicAliasMaximum: 5 }
    }
    const first = await connectTo(gateway, 5, 's', options)
    await subscribed(first, 'some/topic', 1)
    const publisher = await connectTo(gateway, 5, 'p')
    for (let i = 1; i <= 3; i++) publishWith(publisher, 0x32, 'some/topic', '', `${i}`, [0, i])
    for (let i = 0; i < 3; i++) await first.next()
    first.destroy()
    const second = await connectTo(gateway, 5, 's', options)
    expect(await second.read()).toMatchObject({ topic: 'some/topic', dup: true })
    const again = await second.read()
    expect(again).toMatchObject({ topic: '', dup: true, payload: Buffer.from('2') })
    expect(aliasOf(again)).toBe(1)
    second.destroy()
    const third = await connectTo(gateway, 5, 's', {
      clean: false,
      properties: { sessionExpiryInterval: 100 }
    })
    for (let i = 0; i < 3; i++) expect(await third.read()).toMatchObject({ topic: 'some/topic' })
  })

  it('are not set up by a PUBLISH that is too large to be sent', async () => {
    const gateway = await startGateway()
    const topic = 'a/topic/of/20/chars/'
    const raw = await connectTo(gateway, 5, 's', wants(5, { maximumPacketSize: 60 }))
    await subscribed(raw, '#', 0)
    const publisher = await connectTo(gateway, 4, 'p')
    publish(publisher, 0x30, topic, 'x'.repeat(60))
    // 60 bytes with its topic and no alias: three bytes more would be too many.
    publish(publisher, 0x30, topic, 'x'.repeat(35))
    publish(publisher, 0x30, topic, 'fits')
    publish(publisher, 0x30, topic, 'x'.repeat(50))
    const plain = await raw.next()
    expect(plain.length).toBe(60)
    expect(hex(plain)).toBe(hex(packet(0x30, text(topic), '00', Buffer.from('x'.repeat(35)))))
    const set = packet(0x30, text(topic), '03 23 00 01', Buffer.from('fits'))
    expect(hex(await raw.next())).toBe(hex(set))
    // What fits only without its topic goes with the alias alone.
    const used = packet(0x30, text(''), '03 23 00 01', Buffer.from('x'.repeat(50)))
    expect(hex(await raw.next())).toBe(hex(used))
    expect(gateway.broker.counters.dropped.get('too_large')).toBe(1)
  })

  it('go together with subscription identifiers, expiry and user properties, in order', async () => {
    const gateway = await startGateway()
    const raw = await connectTo(gateway, 5, 's', wants(5))
    raw.send(packet(0x82, '00 01 02 0b 07', text('some/#'), '00'))
    await raw.next()
    const publisher = await connectTo(gateway, 5, 'p')
    const properties = '26 0001 61 0001 31 26 0001 61 0001 32 02 00000009'
    for (const payload of ['1', '2'])
      publishWith(publisher, 0x30, 'some/topic', properties, payload)
    const head = '02 00000009 23 0001'
    const tail = '26 0001 61 0001 31 26 0001 61 0001 32 0b 07'
    const body = Buffer.from((head + tail).replaceAll(' ', ''), 'hex')
    const set = packet(0x30, text('some/topic'), [body.length], body, Buffer.from('1'))
    expect(hex(await raw.next())).toBe(hex(set))
    const used = packet(0x30, text(''), [body.length], body, Buffer.from('2'))
    expect(hex(await raw.next())).toBe(hex(used))
  })
})
