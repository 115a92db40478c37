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
import { packet, type RawMqtt, text } from '../support/raw-mqtt.ts'

describe('CONNECT', () => {
  it('answers each version in its own form', async () => {
    const gateway = await startGateway()
    const old = await gateway.dial()
    old.send(packet(0x10, text('MQIsdp'), '03 02 00 3c', text('old')))
    expect(hex(await old.next())).toBe('20020000')
    const four = await gateway.dial()
    expect(hex(await four.connect(4, { clientId: 'four' }))).toBe('20020000')
    const five = await gateway.dial()
    five.version = 5
    five.send(packet(0x10, text('MQTT'), '05 02 00 3c 00', text('five')))
    expect(await five.read()).toMatchObject({
      cmd: 'connack',
      sessionPresent: false,
      reasonCode: 0,
      properties: {
        receiveMaximum: 1000,
        maximumPacketSize: 2 * 1024 * 1024
      }
    })
  })

  it('gives a client without a name one, and tells version 5 which', async () => {
    const gateway = await startGateway()
    const raw = await gateway.dial()
    raw.version = 5
    raw.send(packet(0x10, text('MQTT'), '05 02 00 3c 00', text('')))
    const connack = (await raw.read()) as { properties?: { assignedClientIdentifier?: string } }
    expect(connack.properties?.assignedClientIdentifier).toMatch(/^auto-[0-9a-f]{32}$/)
  })

  it('bounds the session expiry and says so', async () => {
    const gateway = await startGateway()
    const raw = await gateway.dial()
    raw.version = 5
    raw.send(packet(0x10, text('MQTT'), '05 02 00 3c 05 11 ff ff ff ff', text('x')))
    expect(await raw.read()).toMatchObject({ properties: { sessionExpiryInterval: 30 * 86_400 } })
  })

  it('knows the session of a client that comes back, until it starts clean', async () => {
    const gateway = await startGateway()
    for (const version of [4, 5] as const) {
      const id = `back-${version}`
      const first = await gateway.dial()
      expect((await first.connect(version, { clientId: id, ...lasting }))[2]).toBe(0)
      first.send('e0 00')
      await first.rest()
      const second = await gateway.dial()
      expect((await second.connect(version, { clientId: id, ...lasting }))[2]).toBe(1)
      second.send('e0 00')
      await second.rest()
      const third = await gateway.dial()
      expect((await third.connect(version, { clientId: id }))[2]).toBe(0)
    }
  })

  it('of a lasting session is answered when the disk has it', async () => {
    const gateway = await startGateway()
    gateway.journal.isAutomatic = false
    const raw = await gateway.dial()
    const connack = raw.connect(4, { clientId: 'slow', clean: false })
    let isAnswered = false
    connack.then(
      () => (isAnswered = true),
      () => undefined
    )
    while (gateway.journal.ticket === 0) await new Promise(setImmediate)
    for (let i = 0; i < 20; i++) await new Promise(setImmediate)
    expect(isAnswered).toBe(false)
    gateway.journal.sync()
    expect(hex(await connack)).toBe('20020000')
  })

  it('takes the session over and tells the older connection of version 5', async () => {
    const gateway = await startGateway()
    const older = await connectTo(gateway, 5, 'twice')
    await connectTo(gateway, 5, 'twice')
    expect((await older.rest()).map(hex)).toEqual(['e0018e'])
  })

  it('processes what a client sent right behind its CONNECT', async () => {
    const gateway = await startGateway()
    const raw = await gateway.dial()
    raw.send(packet(0x10, text('MQTT'), '04 02 00 3c', text('hasty')), 'c0 00 c0 00')
    expect(hex(await raw.next())).toBe('20020000')
    expect(hex(await raw.next())).toBe('d000')
    expect(hex(await raw.next())).toBe('d000')
  })
})

describe('QoS 0', () => {
  it('goes to every subscriber whose filter matches, in both versions', async () => {
    const gateway = await startGateway()
    const four = await connectTo(gateway, 4, 'four')
    const five = await connectTo(gateway, 5, 'five')
    await subscribed(four, 'a/+', 0)
    await subscribed(five, 'a/#', 0)
    const publisher = await connectTo(gateway, 5, 'publisher')
    publisher.send(packet(0x30, text('a/b'), '09 03 00 01 74 02 00 00 00 0a', Buffer.from('hello')))
    expect(hex(await four.next())).toBe(hex(packet(0x30, text('a/b'), Buffer.from('hello'))))
    expect(await five.read()).toMatchObject({
      topic: 'a/b',
      payload: Buffer.from('hello'),
      properties: { contentType: 't', messageExpiryInterval: 10 }
    })
    expect(gateway.broker.counters.mqttSent[0]).toBe(2)
  })

  it('takes a payload of any size up to the limit, in order', async () => {
    const gateway = await startGateway()
    const subscriber = await connectTo(gateway, 4, 'subscriber')
    await subscribed(subscriber, '#', 0)
    const publisher = await connectTo(gateway, 4, 'publisher')
    const sizes = [0, 1, 127, 4_000, 32_767, 32_768, 70_000, 1_000_000, 5]
    for (const size of sizes) publish(publisher, 0x30, 'big', 'x'.repeat(size))
    for (const size of sizes) {
      const found = await subscriber.read()
      expect(found).toMatchObject({ cmd: 'publish', topic: 'big' })
      expect((found as { payload: Buffer }).payload.equals(Buffer.alloc(size, 'x'))).toBe(true)
    }
  })

  it('fans out one message to many, each with its own QoS, identifier and subscription ids', async () => {
    const gateway = await startGateway()
    const subscribers: RawMqtt[] = []
    for (let i = 0; i < 12; i++) {
      const raw = await connectTo(gateway, i % 2 === 0 ? 4 : 5, `s${i}`)
      await subscribed(raw, 'f', i % 3)
      subscribers.push(raw)
    }
    const tagged = await connectTo(gateway, 5, 'tagged')
    tagged.send(packet(0x82, '00 01 03 0b 80 01', text('f'), '00'))
    await tagged.next()
    const publisher = await connectTo(gateway, 4, 'publisher')
    for (let round = 0; round < 3; round++) publish(publisher, 0x34, 'f', `m${round}`, round + 1)
    for (let round = 0; round < 3; round++) {
      for (const [i, raw] of subscribers.entries()) {
        const found = await raw.read()
        expect(found).toMatchObject({ cmd: 'publish', topic: 'f', qos: i % 3, dup: false })
        expect((found as { payload: Buffer }).payload.toString()).toBe(`m${round}`)
        if (i % 3 > 0) expect(found.messageId).toBe(round + 1)
      }
      expect(await tagged.read()).toMatchObject({ properties: { subscriptionIdentifier: 128 } })
    }
  })
})

describe('QoS 1 from a client', () => {
  it('is acknowledged at once when nothing lasts, and with reason 0x10 when nobody gets it', async () => {
    const gateway = await startGateway()
    const raw = await connectTo(gateway, 5, 'x')
    publish(raw, 0x32, 'nobody', 'x', 7)
    expect(hex(await raw.next())).toBe('4003000710')
    // A byte that QoS 2 does not spend.
    publish(raw, 0x34, 'nobody', 'x', 8)
    expect(hex(await raw.next())).toBe('50020008')
    const old = await connectTo(gateway, 4, 'y')
    publish(old, 0x32, 'nobody', 'x', 7)
    expect(hex(await old.next())).toBe('40020007')
  })

  it('is acknowledged only when the disk has it, in the order of the publishes', async () => {
    const gateway = await startGateway()
    const subscriber = await connectTo(gateway, 4, 'lasting', lasting)
    await subscribed(subscriber, 'a', 1)
    const raw = await connectTo(gateway, 4, 'publisher')
    gateway.journal.isAutomatic = false
    publish(raw, 0x32, 'a', '1', 1)
    publish(raw, 0x32, 'nobody', '2', 2)
    await raw.quiet()
    expect(hex(await subscriber.next())).toBe(
      hex(packet(0x32, text('a'), '00 01', Buffer.from('1')))
    )
    gateway.journal.sync()
    expect(hex(await raw.next())).toBe('40020001')
    expect(hex(await raw.next())).toBe('40020002')
    expect(gateway.broker.waiting.size).toBe(0)
  })
})

describe('our receive maximum', () => {
  it('is what is open at once: each final answer gives its place back', async () => {
    const gateway = await startGateway({ limits: { receiveMaximum: 2 } })
    const raw = await connectTo(gateway, 5, 'x')
    for (let id = 1; id <= 10; id++) {
      publish(raw, 0x32, 'nobody', 'x', id)
      await raw.next()
      publish(raw, 0x34, 'nobody', 'x', id)
      await raw.next()
      raw.send('62 02 00', [id])
      expect((await raw.next())[0]).toBe(0x70)
    }
    for (let id = 1; id <= 3; id++) publish(raw, 0x34, 'nobody', 'x', id)
    expect((await raw.rest()).at(-1)?.toString('hex')).toBe('e00193')
  })
})

describe('QoS 2 from a client', () => {
  it('is routed once, whatever is repeated, and its identifier is free after PUBREL', async () => {
    const gateway = await startGateway()
    const subscriber = await connectTo(gateway, 4, 'subscriber')
    await subscribed(subscriber, 'a', 0)
    const raw = await connectTo(gateway, 4, 'publisher', { clean: false })
    publish(raw, 0x34, 'a', '1', 5)
    expect(hex(await raw.next())).toBe('50020005')
    publish(raw, 0x3c, 'a', '1', 5)
    expect(hex(await raw.next())).toBe('50020005')
    raw.send('62 02 00 05')
    expect(hex(await raw.next())).toBe('70020005')
    publish(raw, 0x34, 'a', '2', 5)
    expect(hex(await raw.next())).toBe('50020005')
    expect((await subscriber.next()).at(-1)).toBe(0x31)
    expect((await subscriber.next()).at(-1)).toBe(0x32)
    await subscriber.quiet()
  })

  it('answers a PUBREL that it does not know [B53]', async () => {
    const gateway = await startGateway()
    const four = await connectTo(gateway, 4, 'four')
    four.send('62 02 00 09')
    expect(hex(await four.next())).toBe('70020009')
    const five = await connectTo(gateway, 5, 'five')
    five.send('62 02 00 09')
    expect(hex(await five.next())).toBe('7003000992')
  })

  it('remembers the identifier over a reconnect', async () => {
    const gateway = await startGateway()
    const subscriber = await connectTo(gateway, 4, 'subscriber')
    await subscribed(subscriber, 'a', 0)
    const first = await connectTo(gateway, 4, 'publisher', { clean: false })
    publish(first, 0x34, 'a', '1', 5)
    await first.next()
    first.destroy()
    const second = await connectTo(gateway, 4, 'publisher', { clean: false })
    publish(second, 0x3c, 'a', '1', 5)
    expect(hex(await second.next())).toBe('50020005')
    await subscriber.next()
    await subscriber.quiet()
  })
})

describe('SUBSCRIBE of a session that lasts, to a broker that stops', () => {
  it('is answered with DISCONNECT: no SUBACK has a code for it, v5 [MQTT-3.9.3-2]', async () => {
    const gateway = await startGateway()
    const raw = await connectTo(gateway, 5, 's', lasting)
    gateway.broker.isStopping = true
    gateway.broker.judge()
    subscribe(raw, 'a', 1)
    expect(await raw.read()).toMatchObject({ cmd: 'disconnect', reasonCode: 0x8b })
  })
})
