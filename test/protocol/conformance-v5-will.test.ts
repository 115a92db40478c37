/** MQTT 5.0 §3.1.2.5 Will Flag, §3.1.3.2 Will Properties, and what DISCONNECT does to a will (§3.14.4). */
import { describe, expect, it } from 'vitest'
import { startGateway } from '../support/mqtt-moves.ts'
import {
  connectPacket,
  ending,
  ID,
  next,
  property,
  propertyOf,
  publishPacket,
  userProperty,
  NO_LOCAL
} from '../support/mqtt5-bytes.ts'
import {
  client,
  dialed,
  left,
  lost,
  met,
  published,
  quiet,
  subscriber
} from '../support/mqtt5-moves.ts'
import { packet } from '../support/raw-mqtt.ts'

/** QoS 2, and RETAIN as it was published: nothing of the will is changed on its way. */
const AS_IS = 2 | 8
const delay = (seconds: number) => property(ID.willDelay, seconds)

describe('a will', () => {
  it('is published when the connection is lost, once, v5 [MQTT-3.1.2-7] [MQTT-3.1.2-8] [MQTT-3.1.2-10]', async () => {
    const gateway = await startGateway()
    const watcher = await subscriber(gateway, 'will', AS_IS)
    const options = { clientId: 'dying', expiry: 100, will: { topic: 'will', payload: 'gone' } }
    const raw = await client(gateway, options)
    await quiet(watcher)
    raw.destroy()
    expect(await next(watcher)).toMatchObject({ topic: 'will', payload: 'gone' })
    // It is spent: neither the end of the session nor that of the next connection brings it again.
    const back = await client(gateway, { clientId: 'dying', clean: false, expiry: 5 })
    await lost(gateway, back)
    gateway.pass(200)
    await quiet(watcher)
  })

  it('does not come back to its own client by a subscription with no local, v5 [MQTT-3.8.3-3]', async () => {
    const gateway = await startGateway()
    const watcher = await subscriber(gateway, 'will', AS_IS)
    for (const qos of [1, 1 | NO_LOCAL]) {
      const will = { topic: 'will', payload: 'gone', qos: 1 }
      const raw = await subscriber(gateway, 'will', qos, { clientId: 'dying', expiry: 100, will })
      raw.destroy()
      expect((await next(watcher)).payload).toBe('gone')
      const back = await client(gateway, { clientId: 'dying', clean: false, expiry: 5 })
      if (qos === 1) expect((await next(back)).payload).toBe('gone')
      await quiet(back)
      await left(back)
      gateway.pass(6)
    }
  })

  it('is discarded by a DISCONNECT of 0x00, v5 [MQTT-3.14.4-3] [MQTT-3.1.2-8] [MQTT-3.1.2-10]', async () => {
    const gateway = await startGateway()
    const watcher = await subscriber(gateway, 'will', AS_IS)
    for (const input of ['e0 00', 'e0 01 00', 'e0 02 00 00']) {
      for (const properties of [[], [delay(3)]]) {
        const options = { clientId: 'dying', expiry: 10, will: { topic: 'will', properties } }
        const raw = await client(gateway, options)
        raw.send(input)
        expect(await raw.rest()).toEqual([])
      }
    }
    gateway.pass(100)
    await quiet(watcher)
  })

  it('is published by a DISCONNECT of any other reason, v5 [MQTT-3.1.2-8]', async () => {
    const gateway = await startGateway()
    const watcher = await subscriber(gateway, 'will', AS_IS)
    const reasons = [0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99]
    for (const reason of reasons) {
      const raw = await client(gateway, { clientId: 'dying', will: { topic: 'will' } })
      await left(raw, reason)
      expect((await next(watcher)).topic).toBe('will')
    }
    await quiet(watcher)
  })

  it('is published when the client breaks the protocol, v5 [MQTT-3.1.2-8]', async () => {
    const gateway = await startGateway()
    const watcher = await subscriber(gateway, 'will', AS_IS)
    for (const input of [[0], connectPacket(), publishPacket('a/#', ''), [0xe1, 0]]) {
      const raw = await client(gateway, { clientId: 'dying', will: { topic: 'will' } })
      raw.send(input)
      await raw.rest()
      expect((await next(watcher)).topic).toBe('will')
    }
    await quiet(watcher)
  })

  it('is published when another connection takes the session, v5 [MQTT-3.1.2-8]', async () => {
    const gateway = await startGateway()
    const watcher = await subscriber(gateway, 'will', AS_IS)
    for (const clean of [true, false]) {
      const raw = await client(gateway, { clientId: 'dying', expiry: 10, will: { topic: 'will' } })
      const newer = await client(gateway, { clientId: 'dying', clean, expiry: 10 })
      expect(await ending(raw)).toEqual(['e08e'])
      expect((await next(watcher)).topic).toBe('will')
      await left(newer)
    }
    await quiet(watcher)
  })

  it.each([0, 1, 2])(
    'of QoS %d is published with it, not retained, v5 [MQTT-3.1.2-12] [MQTT-3.1.2-14]',
    async qos => {
      const gateway = await startGateway()
      const watcher = await subscriber(gateway, 'will', AS_IS)
      const raw = await client(gateway, { clientId: 'dying', will: { topic: 'will', qos } })
      raw.destroy()
      expect((await next(watcher)).first).toBe(0x30 | (qos << 1))
      const later = await subscriber(gateway, 'will', AS_IS, { clientId: 'later' })
      await quiet(later)
    }
  )

  it.each([0, 1, 2])(
    'of QoS %d with will retain is published retained, v5 [MQTT-3.1.2-12] [MQTT-3.1.2-15]',
    async qos => {
      const gateway = await startGateway()
      const watcher = await subscriber(gateway, 'will', AS_IS)
      const will = { topic: 'will', qos, retain: true }
      const raw = await client(gateway, { clientId: 'dying', will })
      raw.destroy()
      expect((await next(watcher)).first).toBe(0x31 | (qos << 1))
      const later = await subscriber(gateway, 'will', AS_IS, { clientId: 'later' })
      expect(await next(later)).toMatchObject({ first: 0x31 | (qos << 1), payload: 'will' })
    }
  )

  it('may be without payload, and clears what is retained [B62]', async () => {
    const gateway = await startGateway()
    const other = await client(gateway, { clientId: 'other' })
    await published(other, 'will', 'kept', { retain: true })
    const watcher = await subscriber(gateway, 'will', AS_IS)
    expect((await next(watcher)).payload).toBe('kept')
    const will = { topic: 'will', payload: '', retain: true }
    const raw = await client(gateway, { clientId: 'dying', will })
    raw.destroy()
    expect((await next(watcher)).payload).toBe('')
    const later = await subscriber(gateway, 'will', AS_IS, { clientId: 'later' })
    await quiet(later)
  })

  it('has its properties, user properties in order, v5 [MQTT-3.1.3-10] [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-20]', async () => {
    const gateway = await startGateway()
    const watcher = await subscriber(gateway, 'will', AS_IS)
    const properties = [
      userProperty('z', '1'),
      property(ID.payloadFormat, 1),
      userProperty('a', '2'),
      delay(0),
      property(ID.contentType, 'type'),
      userProperty('z', '1'),
      property(ID.responseTopic, 'answers'),
      property(ID.correlationData, Buffer.from([0, 255])),
      property(ID.messageExpiry, 60),
      userProperty('', '')
    ]
    const raw = await client(gateway, { clientId: 'dying', will: { topic: 'will', properties } })
    raw.destroy()
    const will = await next(watcher)
    const pairs = will.properties.filter(([id]) => id === ID.userProperty)
    expect(pairs.map(([, value]) => String(value))).toEqual(['z,1', 'a,2', 'z,1', ','])
    expect(propertyOf(will, ID.payloadFormat)).toBe(1)
    expect(String(propertyOf(will, ID.contentType))).toBe('type')
    expect(String(propertyOf(will, ID.responseTopic))).toBe('answers')
    expect(propertyOf(will, ID.correlationData)).toEqual(Buffer.from([0, 255]))
    expect(propertyOf(will, ID.messageExpiry)).toBe(60)
    expect(will.properties.length).toBe(9)
  })

  it('whose topic is none is refused with the CONNECT [B23], v5 [MQTT-3.1.4-2] [MQTT-3.2.2-7]', async () => {
    const gateway = await startGateway()
    for (const [topic, reason] of [
      ['', 0x90],
      ['a/+', 0x90],
      ['#', 0x90],
      ['$SYS/x', 0x87],
      ['$CONTROL/x', 0x87],
      ['$share/g/x', 0x87]
    ] as const) {
      const raw = await dialed(gateway, connectPacket({ will: { topic } }))
      expect(await ending(raw), topic).toEqual([`20${reason.toString(16)}`])
    }
  })
})

describe('a will delay', () => {
  it('is waited for, v5 [MQTT-3.1.2-8]', async () => {
    const gateway = await startGateway()
    const watcher = await subscriber(gateway, 'will', AS_IS)
    const will = { topic: 'will', properties: [delay(10)] }
    const raw = await client(gateway, { clientId: 'dying', expiry: 100, will })
    await lost(gateway, raw)
    gateway.pass(9)
    await quiet(watcher)
    gateway.pass(2)
    expect((await next(watcher)).topic).toBe('will')
  })

  it('ends with the session, v5 [MQTT-3.1.2-8]', async () => {
    const gateway = await startGateway()
    const watcher = await subscriber(gateway, 'will', AS_IS)
    const will = { topic: 'will', properties: [delay(1_000)] }
    const short = await client(gateway, { clientId: 'short', expiry: 0, will })
    short.destroy()
    expect((await next(watcher)).topic).toBe('will')
    const longer = await client(gateway, { clientId: 'longer', expiry: 20, will })
    await lost(gateway, longer)
    gateway.pass(19)
    await quiet(watcher)
    gateway.pass(2)
    expect((await next(watcher)).topic).toBe('will')
    // A clean start ends it too.
    const other = await client(gateway, { clientId: 'other', expiry: 500, will })
    await lost(gateway, other)
    await quiet(watcher)
    await client(gateway, { clientId: 'other' })
    expect((await next(watcher)).topic).toBe('will')
    gateway.pass(2_000)
    await quiet(watcher)
  })

  it('ends with the session that a DISCONNECT shortens, v5 [MQTT-3.1.2-8]', async () => {
    const gateway = await startGateway()
    const watcher = await subscriber(gateway, 'will', AS_IS)
    const will = { topic: 'will', properties: [delay(50)] }
    const raw = await client(gateway, { clientId: 'dying', expiry: 500, will })
    raw.send(packet(0xe0, [0x04], '05', property(ID.sessionExpiry, 5)))
    expect(await raw.rest()).toEqual([])
    gateway.pass(4)
    await quiet(watcher)
    gateway.pass(2)
    expect((await next(watcher)).topic).toBe('will')
  })

  it('spares who comes back in time, v5 [MQTT-3.1.3-9] [MQTT-3.1.2-8]', async () => {
    const gateway = await startGateway()
    const watcher = await subscriber(gateway, 'will', AS_IS)
    const will = { topic: 'will', properties: [delay(10)] }
    const options = { clientId: 'dying', expiry: 1_000, will }
    await lost(gateway, await client(gateway, options))
    gateway.pass(9)
    const { raw, connack } = await met(gateway, { clientId: 'dying', clean: false, expiry: 1_000 })
    expect(connack.flags).toBe(1)
    gateway.pass(100)
    await quiet(watcher)
    // Its own connection has no will: nothing comes of its end.
    await lost(gateway, raw)
    gateway.pass(100)
    await quiet(watcher)
  })

  it('spares who takes its own session over, unless that ends it, v5 [MQTT-3.1.3-9] [MQTT-3.1.2-8]', async () => {
    const gateway = await startGateway()
    const watcher = await subscriber(gateway, 'will', AS_IS)
    const will = { topic: 'will', properties: [delay(10)] }
    for (const [clean, expiry, isPublished] of [
      [false, 100, false],
      [true, 100, true],
      [false, 0, true]
    ] as const) {
      const raw = await client(gateway, { clientId: 'dying', expiry, will })
      const newer = await client(gateway, { clientId: 'dying', clean, expiry: 100 })
      expect(await ending(raw)).toEqual(['e08e'])
      if (isPublished) expect((await next(watcher)).topic).toBe('will')
      await left(newer)
      gateway.pass(200)
      await quiet(watcher)
    }
  })

  it('begins anew with each connection, v5 [MQTT-3.1.3-9]', async () => {
    const gateway = await startGateway()
    const watcher = await subscriber(gateway, 'will', AS_IS)
    const will = (payload: string) => ({ topic: 'will', payload, properties: [delay(10)] })
    for (const payload of ['one', 'two', 'three']) {
      const options = { clientId: 'dying', clean: false, expiry: 1_000, will: will(payload) }
      await lost(gateway, await client(gateway, options))
      gateway.pass(8)
    }
    await quiet(watcher)
    gateway.pass(3)
    expect((await next(watcher)).payload).toBe('three')
    gateway.pass(100)
    await quiet(watcher)
  })
})
