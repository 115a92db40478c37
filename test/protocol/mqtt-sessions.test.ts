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

describe('a client id that two clients fight for [B36]', () => {
  it('is handed over ten times at once, then once a second; the newest waits, and no session is lost', async () => {
    const gateway = await startGateway()
    let last = await connectTo(gateway, 5, 'one', lasting)
    await subscribed(last, 'a', 1)
    for (let i = 0; i < 10; i++) {
      const before = last
      const raw = await gateway.dial()
      expect((await raw.connect(5, { clientId: 'one', ...lasting }))[2]).toBe(1)
      expect((await before.rest()).map(hex)).toEqual(['e0018e'])
      last = raw
      // Subscriptions jitter on top.
      subscribe(raw, `b/${i}`, 0)
      await raw.next()
    }
    const tickets = gateway.journal.ticket
    const waiting: RawMqtt[] = []
    const answers: Promise<Buffer>[] = []
    for (let i = 0; i < 5; i++) {
      const raw = await gateway.dial()
      waiting.push(raw)
      answers.push(raw.connect(i % 2 === 0 ? 5 : 4, { clientId: 'one', clean: false }))
    }
    expect(hex(await answers[0]!)).toBe('2003008900')
    expect(hex(await answers[1]!)).toBe('20020003')
    expect(hex(await answers[2]!)).toBe('2003008900')
    expect(hex(await answers[3]!)).toBe('20020003')
    await last.quiet()
    expect(gateway.journal.ticket).toBe(tickets)
    gateway.pass(1)
    expect((await answers[4]!)[2]).toBe(1)
    expect((await last.rest()).map(hex)).toEqual(['e0018e'])
    expect(gateway.broker.state.sessions.size).toBe(1)
    const publisher = await connectTo(gateway, 4, 'p')
    publish(publisher, 0x32, 'a', 'x', 1)
    expect((await waiting[4]!.next())[0]).toBe(0x32)
  })

  it('is free at once for who comes when its connection is gone', async () => {
    const gateway = await startGateway()
    for (let i = 0; i < 30; i++) {
      const raw = await connectTo(gateway, 4, 'one')
      raw.destroy()
      await gateway.until(() => gateway.mqtt.count === 0)
    }
  })

  it('may be handed over as often again when it was left alone', async () => {
    const gateway = await startGateway()
    for (let round = 0; round < 2; round++) {
      let last = await connectTo(gateway, 4, 'one')
      for (let i = 0; i < 10; i++) last = await connectTo(gateway, 4, 'one')
      await last.quiet()
      last.destroy()
      await gateway.until(() => gateway.mqtt.count === 0)
      gateway.pass(10)
    }
  })
})

describe('sessions', () => {
  it('are bounded in all: beyond it nobody new is taken, who has one comes back [B38]', async () => {
    const gateway = await startGateway({ limits: { sessionsMax: 2 } })
    const all = { clean: false, properties: { sessionExpiryInterval: 0xffffffff } }
    const first = await connectTo(gateway, 5, 'a', all)
    await connectTo(gateway, 5, 'b', all)
    const five = await gateway.dial()
    expect(hex(await five.connect(5, { clientId: 'c', ...all }))).toBe('2003009700')
    const four = await gateway.dial()
    expect(hex(await four.connect(4, { clientId: 'c', clean: false }))).toBe('20020003')
    first.destroy()
    const again = await gateway.dial()
    expect((await again.connect(5, { clientId: 'a', ...all }))[2]).toBe(1)
  })

  it('last as long as the DISCONNECT says, but 0 of the CONNECT stays 0: v5 [MQTT-3.14.2-2]', async () => {
    const gateway = await startGateway()
    const shorter = await connectTo(gateway, 5, 's', lasting)
    shorter.send('e0 07 00 05 11 00 00 00 00')
    await shorter.rest()
    expect(gateway.broker.state.sessions.size).toBe(0)
    const longer = await connectTo(gateway, 5, 's', lasting)
    longer.send('e0 07 00 05 11 ff ff ff ff')
    await longer.rest()
    const [session] = gateway.broker.state.sessions.values()
    expect(session?.expirySeconds).toBe(30 * 86_400)
    const none = await connectTo(gateway, 5, 'none')
    none.send('e0 07 00 05 11 00 00 00 05')
    expect((await none.rest()).map(hex)).toEqual(['e00182'])
  })

  it('with 0xFFFFFFFF last as long as we allow: v5 [MQTT-3.1.2-23]', async () => {
    const gateway = await startGateway({ limits: { sessionExpirySecondsMax: 100 } })
    const raw = await gateway.dial()
    raw.version = 5
    raw.send(packet(0x10, text('MQTT'), '05 00 00 3c 05 11 ff ff ff ff', text('x')))
    expect(await raw.read()).toMatchObject({ properties: { sessionExpiryInterval: 100 } })
  })
})

describe('wills', () => {
  const will = (payload: string, properties: object = {}) => ({
    will: {
      topic: 'w/x',
      payload: Buffer.from(payload),
      qos: 0 as const,
      retain: false,
      properties
    }
  })

  it('have room in all of so many bytes [B25]', async () => {
    const gateway = await startGateway({ limits: { willBytesMax: 2_500 } })
    await connectTo(gateway, 5, 'a', will('x'.repeat(1_000)))
    await connectTo(gateway, 5, 'b', will('x'.repeat(1_000)))
    const five = await gateway.dial()
    const big = { clientId: 'c', ...will('x'.repeat(1_000)) }
    expect(hex(await five.connect(5, big))).toBe('2003009700')
    const four = await gateway.dial()
    expect(hex(await four.connect(4, big))).toBe('20020003')
    await connectTo(gateway, 5, 'd', will(''))
    // What goes gives its room back, a second later.
    const watcher = await connectTo(gateway, 4, 'w')
    await subscribed(watcher, 'w/#', 0)
    const a = await connectTo(gateway, 5, 'a', will(''))
    await watcher.next()
    gateway.pass(2)
    await connectTo(gateway, 5, 'c', will('x'.repeat(1_000)))
    await a.quiet()
  })

  it('carry all properties in order, without delay, their expiry counted from the publication: v5 [MQTT-3.1.3-10]', async () => {
    const gateway = await startGateway()
    const watcher = await connectTo(gateway, 5, 'w')
    await subscribed(watcher, 'w/#', 0)
    const raw = await gateway.dial()
    raw.version = 5
    const properties = Buffer.from(
      `01 01 18 00000000 26 0001 62 0001 31 02 00000009 03 0001 74 08 0001 72 09 0001 63 26 0001 61 0001 32`.replaceAll(
        ' ',
        ''
      ),
      'hex'
    )
    raw.send(
      packet(
        0x10,
        text('MQTT'),
        '05 06 00 3c 00',
        text('x'),
        [properties.length],
        properties,
        text('w/x'),
        text('bye')
      )
    )
    await raw.next()
    gateway.clock.advance(5_000)
    raw.destroy()
    const wanted = Buffer.from(
      '02 00000009 01 01 26 0001 62 0001 31 03 0001 74 08 0001 72 09 0001 63 26 0001 61 0001 32'.replaceAll(
        ' ',
        ''
      ),
      'hex'
    )
    const found = packet(0x30, text('w/x'), [wanted.length], wanted, Buffer.from('bye'))
    expect(hex(await watcher.next())).toBe(hex(found))
  })

  it('of who is taken over are published when they wait for nothing or the session ends: v5 [MQTT-3.1.4-3] [MQTT-3.1.3-9]', async () => {
    const gateway = await startGateway()
    const watcher = await connectTo(gateway, 4, 'w')
    await subscribed(watcher, 'w/#', 0)
    const cases = [
      // Delay, expiry, clean start of the next: published?
      { delay: 0, expiry: 100, clean: false, is: true },
      { delay: 10, expiry: 100, clean: false, is: false },
      { delay: 10, expiry: 0, clean: false, is: true },
      { delay: 10, expiry: 100, clean: true, is: true }
    ]
    for (const [i, { delay, expiry, clean, is }] of cases.entries()) {
      const clientId = `t${i}`
      const properties = { sessionExpiryInterval: expiry }
      const options = { clean: true, properties, ...will(clientId, { willDelayInterval: delay }) }
      await connectTo(gateway, 5, clientId, options)
      await connectTo(gateway, 5, clientId, { clean, properties })
      if (is) expect((await watcher.next()).subarray(-2).toString()).toBe(clientId)
      else await watcher.quiet()
    }
  })
})

describe('what MQTT 3.1.1 clients can take', () => {
  const mqtt = {
    packetLimits: [
      { kind: 'client' as const, pattern: 'esp-*', bytesMax: 64 },
      { kind: 'client' as const, pattern: '*-tiny', bytesMax: 32 }
    ]
  }

  it('is bounded by their ids: what is larger is dropped for them alone, and counted', async () => {
    const gateway = await startGateway({ mqtt })
    const publisher = await connectTo(gateway, 4, 'p')
    publish(publisher, 0x31, 'a', 'r'.repeat(200))
    const clients = [
      await connectTo(gateway, 4, 'esp-1'),
      await connectTo(gateway, 4, 'esp-tiny'),
      await connectTo(gateway, 4, 'other'),
      await connectTo(gateway, 5, 'esp-5')
    ]
    for (const raw of clients) await subscribed(raw, 'a', 1)
    // The retained one is too large for two of them.
    expect((await clients[2]!.next()).length).toBeGreaterThan(200)
    expect((await clients[3]!.next()).length).toBeGreaterThan(200)
    const sizes = [59, 60, 27, 28]
    for (const [i, size] of sizes.entries())
      publish(publisher, 0x32, 'a', 'x'.repeat(size - 2), i + 1)
    const got = async (raw: RawMqtt, count: number) => {
      const found: number[] = []
      for (let i = 0; i < count; i++) {
        const next = await raw.next()
        found.push(next.length)
        if (raw.version === 4) raw.send('40 02', next.subarray(5, 7))
      }
      await raw.quiet()
      return found
    }
    expect(await got(clients[0]!, 3)).toEqual([64, 32, 33])
    expect(await got(clients[1]!, 1)).toEqual([32])
    expect(await got(clients[2]!, 4)).toEqual([64, 65, 32, 33])
    expect(await got(clients[3]!, 4)).toEqual([65, 66, 33, 34])
    expect(gateway.broker.counters.dropped.get('too_large')).toBe(2 + 1 + 3)
  })

  it('bounds no SUBACK: without it they would wait for ever', async () => {
    const gateway = await startGateway({ mqtt })
    const raw = await connectTo(gateway, 4, 'esp-1')
    const filters = Array.from({ length: 100 }, (_, i) =>
      packet(0, text(`f/${i}`), '00').subarray(2)
    )
    raw.send(packet(0x82, '00 01', ...filters))
    expect((await raw.next()).length).toBe(104)
  })
})
