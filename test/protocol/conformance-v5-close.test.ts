/** MQTT 5.0 §3.12 to §3.15: PINGREQ, DISCONNECT and AUTH; and the order of messages (§4.6). */
import { describe, expect, it } from 'vitest'
import { startGateway } from '../support/mqtt-moves.ts'
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
  subscribePacket
} from '../support/mqtt5-bytes.ts'
import {
  client,
  dialed,
  lost,
  met,
  payloads,
  published,
  quiet,
  subscribed,
  subscriber
} from '../support/mqtt5-moves.ts'
import { packet, type RawMqtt } from '../support/raw-mqtt.ts'

describe('PINGREQ', () => {
  it('is answered, each one, v5 [MQTT-3.12.4-1]', async () => {
    const gateway = await startGateway()
    const raw = await client(gateway)
    raw.send('c0 00', 'c0 00', 'c0 00')
    for (let i = 0; i < 3; i++) expect((await raw.next()).toString('hex')).toBe('d000')
  })
})

const CLIENT_REASONS = [
  0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99
]

describe('a DISCONNECT of the client', () => {
  it('with flags other than 0000 is malformed [B07], v5 [MQTT-3.14.1-1]', async () => {
    const gateway = await startGateway()
    for (let flags = 1; flags < 16; flags++) {
      const raw = await client(gateway)
      raw.send([0xe0 | flags, 0])
      expect(await ending(raw)).toEqual(['e081'])
    }
  })

  it('has one of its reason codes, v5 [MQTT-3.14.2-1]', async () => {
    const gateway = await startGateway()
    for (let reason = 0; reason < 256; reason++) {
      const raw = await client(gateway)
      raw.send([0xe0, 1, reason])
      const expected = CLIENT_REASONS.includes(reason) ? [] : ['e081']
      expect(await ending(raw), reason.toString(16)).toEqual(expected)
    }
  })

  it('is the last that is looked at, and closes, v5 [MQTT-3.14.4-1] [MQTT-3.14.4-2]', async () => {
    const gateway = await startGateway()
    const watcher = await subscriber(gateway, '#', 1)
    for (const reason of CLIENT_REASONS) {
      const raw = await client(gateway)
      const behind = publishPacket('a', 'behind', { qos: 1, id: 1 })
      raw.send([0xe0, 1, reason], behind, 'c0 00', '00 00')
      expect(await raw.rest()).toEqual([])
    }
    await quiet(watcher)
  })

  it('may change the session expiry, but not from nothing, v5 [MQTT-4.1.0-2]', async () => {
    const gateway = await startGateway()
    const leave = async (raw: RawMqtt, expiry: number) => {
      raw.send(packet(0xe0, '00', block(property(ID.sessionExpiry, expiry))))
      return await ending(raw)
    }
    for (const [before, after, seconds, flags] of [
      [10, 1_000, 500, 1],
      [1_000, 10, 11, 0],
      [1_000, 0, 0, 0],
      [10, 0xffffffff, 100_000, 1]
    ] as const) {
      const clientId = `${before}-${after}`
      expect(await leave(await client(gateway, { clientId, expiry: before }), after)).toEqual([])
      gateway.pass(seconds)
      const { raw, connack } = await met(gateway, { clientId, clean: false })
      expect([clientId, connack.flags]).toEqual([clientId, flags])
      raw.destroy()
    }
    expect(await leave(await client(gateway), 1)).toEqual(['e082'])
  })
})

describe('a DISCONNECT of ours', () => {
  /** All kinds of it that a test can provoke. */
  async function provoke(properties: Buffer[] = []): Promise<Buffer[][]> {
    const gateway = await startGateway({ limits: { receiveMaximum: 1 } })
    const found: Buffer[][] = []
    const open = (clientId: string) =>
      client(gateway, { clientId, properties, keepalive: 10, expiry: 100 })
    for (const input of [
      [0],
      connectPacket(),
      publishPacket('a/#', ''),
      '30 ff ff ff 7f',
      Buffer.concat([1, 2].map(id => publishPacket('a', '', { qos: 2, id }))),
      publishPacket('a', '', { properties: [property(ID.topicAlias, 65_535)] }),
      subscribePacket(1, [['$share/g/a', 4]]),
      [0xf0, 0]
    ]) {
      const raw = await open('provoking')
      raw.send(input, publishPacket('behind', ''), 'c0 00')
      found.push(await raw.rest())
    }
    const silent = await open('silent')
    const taken = await open('taken')
    await subscribed(taken, 'flood', 0)
    const other = await client(gateway, { clientId: 'other' })
    for (let i = 0; i < 200; i++) other.send(publishPacket('flood', 'x'.repeat(100)))
    await client(gateway, { clientId: 'taken', keepalive: 0 })
    found.push(await taken.rest())
    gateway.pass(16)
    found.push(await silent.rest())
    const stopped = await open('stopped')
    const rest = stopped.rest()
    await gateway.mqtt.close()
    found.push(await rest)
    return found
  }

  it('is the last packet, has one of its reasons, and closes, v5 [MQTT-3.14.2-1] [MQTT-3.14.4-1] [MQTT-3.14.4-2] [MQTT-4.13.1-1] [MQTT-4.13.2-1]', async () => {
    const reasons = (await provoke()).map(packets => {
      const received = packets.map(decode)
      expect(received.slice(0, -1).some(each => each.first === 0xe0)).toBe(false)
      expect(received.at(-1)!.first).toBe(0xe0)
      return received.at(-1)!.reasons[0]
    })
    expect(reasons).toEqual([
      ...[0x81, 0x82, 0x90, 0x95, 0x93, 0x94, 0x82, 0x82],
      ...[0x8e, 0x8d, 0x8b]
    ])
  })

  it('has no session expiry, v5 [MQTT-3.14.2-2]', async () => {
    for (const packets of await provoke()) {
      expect(propertyOf(decode(packets.at(-1)!), ID.sessionExpiry)).toBe(undefined)
    }
  })

  it('is no larger than the client takes, v5 [MQTT-3.14.2-3] [MQTT-3.14.2-4]', async () => {
    for (const packets of await provoke([property(ID.maximumPacketSize, 32)])) {
      for (const each of packets) expect(each.length).toBeLessThanOrEqual(32)
    }
  })

  it('comes behind a CONNACK only, v5 [MQTT-3.14.0-1]', async () => {
    const gateway = await startGateway({
      authenticate: () => Promise.resolve({ ok: false, reason: 'not-authorized' })
    })
    for (const input of [
      connectPacket(),
      connectPacket({ clientId: 'x'.repeat(300) }),
      connectPacket({ will: { topic: '#' } }),
      connectPacket({ properties: [property(ID.topicAlias, 1)] }),
      connectPacket({ properties: [property(ID.authenticationMethod, 'x')] }),
      packet(0xe0, '81'),
      packet(0xf0, '')
    ]) {
      const raw = await dialed(gateway, input)
      const firsts = (await raw.rest()).map(each => each[0])
      expect([[], [0x20]]).toContainEqual(firsts)
    }
    const raw = await dialed(gateway)
    gateway.pass(30)
    expect(await raw.rest()).toEqual([])
  })
})

describe('an AUTH', () => {
  it('with flags other than 0000 is malformed, v5 [MQTT-3.15.1-1]', async () => {
    const gateway = await startGateway()
    for (let flags = 1; flags < 16; flags++) {
      const raw = await client(gateway)
      raw.send([0xf0 | flags, 0])
      expect(await ending(raw)).toEqual(['e081'])
    }
  })

  it('has one of its reason codes, v5 [MQTT-3.15.2-1]', async () => {
    const gateway = await startGateway()
    for (let reason = 0; reason < 256; reason++) {
      const raw = await client(gateway)
      raw.send([0xf0, 2, reason, 0])
      const expected = [0x00, 0x18, 0x19].includes(reason) ? 'e082' : 'e081'
      expect(await ending(raw), reason.toString(16)).toEqual([expected])
    }
  })

  it('without a method in CONNECT is a protocol error [B33], v5 [MQTT-4.12.0-7]', async () => {
    const gateway = await startGateway()
    const method = property(ID.authenticationMethod, 'SCRAM-SHA-256')
    for (const input of [
      'f0 00',
      packet(0xf0, '18', block(method)),
      packet(0xf0, '19', block(method))
    ]) {
      const raw = await client(gateway)
      raw.send(input)
      expect(await ending(raw)).toEqual(['e082'])
    }
  })
})

describe('messages', () => {
  it('of one client on one topic arrive in their order, for each QoS, v5 [MQTT-4.6.0-5] [MQTT-4.6.0-6]', async () => {
    const gateway = await startGateway()
    const watchers: RawMqtt[] = []
    for (const qos of [0, 1, 2]) {
      watchers.push(await subscriber(gateway, '#', qos, { clientId: `live-${qos}` }))
    }
    const offline = await subscriber(gateway, '#', 2, { clientId: 'offline', expiry: 100 })
    await lost(gateway, offline)
    const publishers = [await client(gateway), await client(gateway, { clientId: 'd' })]
    const topics = ['a', 'b/c']
    const count = 120
    for (let i = 0; i < count; i++) {
      for (const [which, raw] of publishers.entries()) {
        const qos = i % 3
        raw.send(publishPacket(topics[i % 2]!, `${which} ${i}`, { qos, id: i + 1 }))
      }
    }
    /** Each publisher's numbers on each topic and of each QoS rise. */
    const check = (list: readonly [topic: string, qos: number, payload: string][]) => {
      const last = new Map<string, number>()
      for (const [topic, qos, payload] of list) {
        const [which = '', i = ''] = payload.split(' ')
        const key = `${which} ${topic} ${qos}`
        expect(Number(i)).toBeGreaterThan(last.get(key) ?? -1)
        last.set(key, Number(i))
      }
    }
    for (const raw of watchers) {
      const list: [string, number, string][] = []
      while (list.length < 2 * count) {
        const { first, topic, payload } = await next(raw)
        list.push([topic, (first >> 1) & 3, payload])
      }
      check(list)
    }
    const { raw: back } = await met(gateway, { clientId: 'offline', clean: false })
    const list: [string, number, string][] = []
    while (list.length < (2 * count * 2) / 3) {
      const { first, topic, payload, id } = await next(back)
      list.push([topic, (first >> 1) & 3, payload])
      back.send(ackPacket((first & 6) === 2 ? 0x40 : 0x50, id, (first & 6) === 2 ? 0 : 0x80))
    }
    check(list)
  })

  it('that are sent again come in their first order, before new ones, v5 [MQTT-4.6.0-5] [MQTT-4.4.0-1]', async () => {
    const gateway = await startGateway()
    const options = { clientId: 'back', expiry: 100 }
    let raw = await subscriber(gateway, 'a', 2, options)
    const other = await client(gateway)
    for (let i = 0; i < 10; i++) await published(other, 'a', `${i}`, { qos: 1 + (i % 2) })
    const all = Array.from({ length: 12 }, (_, i) => `${i}`)
    expect(await payloads(raw, 10)).toEqual(all.slice(0, 10))
    await lost(gateway, raw)
    for (const i of [10, 11]) await published(other, 'a', `${i}`, { qos: 1 })
    raw = await client(gateway, { ...options, clean: false })
    expect(await payloads(raw, 12)).toEqual(all)
  })
})
