/** MQTT 3.1.1, chapters 2.3, 3.3 to 3.7, 4.3 to 4.6: messages, their flows and their order, in bytes. */
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

const A = text('a')

/** A client and whoever else a test needs, all of version 3.1.1. */
const open = (gateway: Gateway, id: string, options: object = {}) =>
  connectTo(gateway, 4, id, options)

async function subscriber(gateway: Gateway, filter: string, qos: number): Promise<RawMqtt> {
  const raw = await open(gateway, `subscriber to ${filter}`)
  await subscribed(raw, filter, qos)
  return raw
}

/** The identifier of a QoS 1 or 2 PUBLISH of topic `a`. */
const idOf = (found: Buffer) => found.readUInt16BE(5)
const id = (value: number) => [value >> 8, value & 255]

describe('packet identifiers', () => {
  it('v3 [MQTT-2.3.1-1]: 0 closes in PUBLISH, SUBSCRIBE and UNSUBSCRIBE', async () => {
    const gateway = await startGateway()
    for (const input of [
      packet(0x32, A, '00 00'),
      packet(0x34, A, '00 00'),
      packet(0x82, '00 00', A, '00'),
      packet(0xa2, '00 00', A)
    ]) {
      const raw = await open(gateway, 'c')
      raw.send(input)
      expect(await raw.rest()).toEqual([])
    }
  })

  it('v3 [MQTT-2.3.1-4] [MQTT-4.3.2-1] [MQTT-4.3.3-1]: ours are not 0, and free again when the flow has ended', async () => {
    const gateway = await startGateway({ limits: { inflightMax: 2 } })
    const raw = await subscriber(gateway, 'a', 2)
    const publisher = await open(gateway, 'publisher')
    for (let n = 1; n <= 5; n++) publish(publisher, 0x34, 'a', `${n}`, n)
    const [one, two] = [await raw.next(), await raw.next()]
    const ids = [idOf(one), idOf(two)]
    expect(ids[0]).not.toBe(ids[1])
    expect(Math.min(...ids)).toBeGreaterThan(0)
    expect([one[0], two[0]]).toEqual([0x34, 0x34])
    raw.send(packet(0x50, id(ids[0]!)))
    // The PUBREL comes for the PUBREC, and never the PUBLISH again.
    expect(hex(await raw.next())).toBe(hex(packet(0x62, id(ids[0]!))))
    await raw.quiet()
    raw.send(packet(0x70, id(ids[0]!)))
    const three = await raw.next()
    expect([three[0], three.at(-1)]).toEqual([0x34, 0x33])
    expect(idOf(three)).not.toBe(ids[1])
  })

  it('v3 [MQTT-2.3.1-5] [MQTT-4.3.1-1] [MQTT-3.3.1-2]: none in QoS 0, which is sent with QoS 0 and DUP 0', async () => {
    const gateway = await startGateway()
    const raw = await subscriber(gateway, 'a', 2)
    const publisher = await open(gateway, 'publisher')
    publish(publisher, 0x30, 'a', 'x')
    expect(hex(await raw.next())).toBe(hex(packet(0x30, A, '78')))
    publisher.send(packet(0x38, A))
    expect(await publisher.rest()).toEqual([])
  })

  it('v3 [MQTT-2.3.1-6] [MQTT-3.3.4-1]: the answer is what the QoS asks for, with the same identifier', async () => {
    const gateway = await startGateway()
    const raw = await open(gateway, 'c')
    for (const n of [1, 255, 256, 65_535]) {
      publish(raw, 0x30, 'a', 'x')
      publish(raw, 0x32, 'a', 'x', n)
      expect(hex(await raw.next())).toBe(hex(packet(0x40, id(n))))
      publish(raw, 0x34, 'a', 'x', n)
      expect(hex(await raw.next())).toBe(hex(packet(0x50, id(n))))
      raw.send(packet(0x62, id(n)))
      expect(hex(await raw.next())).toBe(hex(packet(0x70, id(n))))
    }
  })
})

describe('PUBLISH', () => {
  it('v3 [MQTT-3.3.1-1] [MQTT-4.4.0-1] [MQTT-4.6.0-1]: what is open is sent again on reconnect, in order, with DUP and its identifier', async () => {
    const gateway = await startGateway()
    const before = await open(gateway, 'lasting', { clean: false })
    await subscribed(before, 'a', 2)
    const publisher = await open(gateway, 'publisher')
    for (const [n, first] of [0x32, 0x34, 0x34, 0x32].entries()) {
      publish(publisher, first, 'a', `${n}`, n + 1)
    }
    const sent = [
      await before.next(),
      await before.next(),
      await before.next(),
      await before.next()
    ]
    expect(sent.map(found => found[0])).toEqual([0x32, 0x34, 0x34, 0x32])
    // The second is received, and waits for its PUBCOMP.
    before.send(packet(0x50, id(idOf(sent[1]!))))
    expect((await before.next())[0]).toBe(0x62)
    before.destroy()
    const after = await open(gateway, 'lasting', { clean: false })
    const got = [await after.next(), await after.next(), await after.next(), await after.next()]
    expect(got.map(hex)).toEqual([
      hex(packet(0x62, id(idOf(sent[1]!)))),
      ...[0, 2, 3].map(n => hex(bytes([sent[n]![0]! | 8], sent[n]!.subarray(1))))
    ])
    await after.quiet()
  })

  it('v3 [MQTT-3.3.1-3]: DUP of what comes in is not DUP of what goes out', async () => {
    const gateway = await startGateway()
    const raw = await subscriber(gateway, 'a', 1)
    const publisher = await open(gateway, 'publisher')
    publish(publisher, 0x3a, 'a', 'x', 1)
    expect((await raw.next())[0]).toBe(0x32)
  })

  it('v3 [MQTT-3.3.1-4]: both QoS bits close', async () => {
    const gateway = await startGateway()
    for (const first of [0x36, 0x37, 0x3e, 0x3f]) {
      const raw = await open(gateway, 'c')
      raw.send(packet(first, A, '00 01'))
      expect(await raw.rest()).toEqual([])
    }
  })

  it('v3 [MQTT-3.3.2-1] [MQTT-3.3.2-2] [MQTT-4.7.1-1] [MQTT-4.7.3-1]: its topic is a string first of all, with a character, and without wildcards', async () => {
    const gateway = await startGateway()
    for (const topic of ['', '#', '+', 'a/#', 'a/+', 'a+', 'a#', '+/a']) {
      const raw = await open(gateway, 'c')
      raw.send(packet(0x30, text(topic)))
      expect(await raw.rest()).toEqual([])
    }
    for (const body of ['', '00', '00 02 61']) {
      const raw = await open(gateway, 'c')
      raw.send(packet(0x30, body))
      expect(await raw.rest()).toEqual([])
    }
  })

  it('v3 [MQTT-3.3.2-3] [MQTT-4.5.0-1]: it goes to all whose subscriptions match, with the topic that matched', async () => {
    const gateway = await startGateway()
    const filters = ['#', 'a/#', 'a/b', '+/b', 'a/+', 'a/b/#']
    const matching: RawMqtt[] = []
    for (const filter of filters) matching.push(await subscriber(gateway, filter, 1))
    const other = await subscriber(gateway, 'a/c', 1)
    const away = await open(gateway, 'away', { clean: false })
    await subscribed(away, 'a/b', 1)
    away.send('e0 00')
    await away.rest()
    const publisher = await open(gateway, 'publisher')
    publish(publisher, 0x32, 'a/b', 'x', 1)
    for (const raw of matching) {
      expect((await raw.next()).subarray(2, 7).toString()).toBe('\0\u0003a/b')
    }
    await other.quiet()
    const back = await open(gateway, 'away', { clean: false })
    expect((await back.next()).subarray(2, 7).toString()).toBe('\0\u0003a/b')
  })

  it('v3 [MQTT-3.3.5-2]: what is not allowed is acknowledged, and goes nowhere', async () => {
    const { asUser } = await import('../support/bad-input-users.ts')
    const gateway = await startGateway({ authenticate: asUser })
    const watcher = await subscriber(gateway, '#', 0)
    const raw = await open(gateway, 'bob', { username: 'bob' })
    publish(raw, 0x32, 'secret/a', 'x', 1)
    expect(hex(await raw.next())).toBe('40020001')
    publish(raw, 0x34, 'secret/a', 'x', 2)
    expect(hex(await raw.next())).toBe('50020002')
    await watcher.quiet()
  })

  it('v3 [MQTT-4.8.0-2]: what a full disk does not take for 60 s is closed, and not acknowledged', async () => {
    const gateway = await startGateway()
    const lasting = await open(gateway, 'lasting', { clean: false })
    await subscribed(lasting, 'a', 1)
    const raw = await open(gateway, 'c', { keepalive: 0 })
    gateway.alarm(true)
    publish(raw, 0x32, 'a', 'x', 1)
    await raw.quiet()
    gateway.pass(61)
    expect(await raw.rest()).toEqual([])
  })
})

describe('retained messages', () => {
  /** What somebody gets who subscribes now. */
  async function retained(gateway: Gateway, filter = '#'): Promise<Buffer[]> {
    const raw = await open(gateway, 'reader')
    subscribe(raw, filter, 2)
    expect((await raw.next())[0]).toBe(0x90)
    raw.send('c0 00')
    const found: Buffer[] = []
    for (let next = await raw.next(); next[0] !== 0xd0; next = await raw.next()) found.push(next)
    raw.destroy()
    return found
  }

  it('v3 [MQTT-3.3.1-5] [MQTT-3.3.1-6] [MQTT-3.3.1-8]: the last of each topic, with its QoS, comes to a new subscription with RETAIN', async () => {
    const gateway = await startGateway()
    const raw = await open(gateway, 'c')
    publish(raw, 0x33, 'k/1', 'old', 1)
    publish(raw, 0x33, 'k/1', 'new', 2)
    publish(raw, 0x35, 'k/2', 'two', 3)
    publish(raw, 0x31, 'k/0', 'zero')
    publish(raw, 0x31, 'other', 'x')
    for (let n = 0; n < 3; n++) await raw.next()
    const found = await retained(gateway, 'k/+')
    const all = found.map(each => [each[0], each.toString().slice(-3)])
    expect(all.sort()).toEqual([
      [0x31, 'ero'],
      [0x33, 'new'],
      [0x35, 'two']
    ])
  })

  it('v3 [MQTT-3.3.1-7]: one of QoS 0 takes the place of the one before', async () => {
    const gateway = await startGateway()
    const raw = await open(gateway, 'c')
    publish(raw, 0x33, 'k', 'old', 1)
    publish(raw, 0x31, 'k', 'new')
    await raw.next()
    expect((await retained(gateway)).map(hex)).toEqual([
      hex(packet(0x31, text('k'), text('new').subarray(2)))
    ])
  })

  it('v3 [MQTT-3.3.1-9]: RETAIN is 0 for whoever is subscribed already', async () => {
    const gateway = await startGateway()
    const watcher = await subscriber(gateway, 'k', 1)
    const raw = await open(gateway, 'c')
    publish(raw, 0x33, 'k', 'x', 1)
    expect((await watcher.next())[0]).toBe(0x32)
  })

  it('v3 [MQTT-3.3.1-10] [MQTT-3.3.1-11]: an empty one is delivered, removes what was there, and is not kept', async () => {
    const gateway = await startGateway()
    const watcher = await subscriber(gateway, 'k', 0)
    const raw = await open(gateway, 'c')
    publish(raw, 0x31, 'k', 'x')
    expect((await watcher.next())[0]).toBe(0x30)
    publish(raw, 0x31, 'k', '')
    expect(hex(await watcher.next())).toBe(hex(packet(0x30, text('k'))))
    expect(await retained(gateway)).toEqual([])
  })

  it('v3 [MQTT-3.3.1-12]: one without RETAIN leaves what is kept alone', async () => {
    const gateway = await startGateway()
    const raw = await open(gateway, 'c')
    publish(raw, 0x31, 'k', 'kept')
    publish(raw, 0x30, 'k', 'other')
    publish(raw, 0x30, 'k', '')
    await raw.quiet()
    expect((await retained(gateway)).map(found => found.toString().slice(-4))).toEqual(['kept'])
  })
})

describe('flows', () => {
  it('v3 [MQTT-4.3.2-2]: behind its PUBACK the same identifier is a new message', async () => {
    const gateway = await startGateway()
    const watcher = await subscriber(gateway, 'a', 0)
    const raw = await open(gateway, 'c')
    for (const first of [0x32, 0x3a, 0x32]) {
      publish(raw, first, 'a', 'x', 7)
      expect(hex(await raw.next())).toBe('40020007')
      expect((await watcher.next())[0]).toBe(0x30)
    }
  })

  it('v3 [MQTT-4.3.3-2]: a QoS 2 PUBLISH again before its PUBREL is no second message, behind it one', async () => {
    const gateway = await startGateway()
    const watcher = await subscriber(gateway, 'a', 0)
    const raw = await open(gateway, 'c', { clean: false })
    publish(raw, 0x34, 'a', 'x', 7)
    publish(raw, 0x3c, 'a', 'x', 7)
    publish(raw, 0x34, 'a', 'y', 7)
    for (let n = 0; n < 3; n++) expect(hex(await raw.next())).toBe('50020007')
    raw.destroy()
    const back = await open(gateway, 'c', { clean: false })
    publish(back, 0x3c, 'a', 'x', 7)
    expect(hex(await back.next())).toBe('50020007')
    back.send('62 02 00 07')
    expect(hex(await back.next())).toBe('70020007')
    // Again, as if the PUBCOMP had been lost.
    back.send('62 02 00 07')
    expect(hex(await back.next())).toBe('70020007')
    expect((await watcher.next()).at(-1)).toBe(0x78)
    await watcher.quiet()
    publish(back, 0x34, 'a', 'z', 7)
    expect(hex(await back.next())).toBe('50020007')
    expect((await watcher.next()).at(-1)).toBe(0x7a)
  })

  it('v3 [MQTT-4.6.0-5] [MQTT-4.6.0-6]: messages of a publisher to a topic keep their order, at every QoS', async () => {
    const gateway = await startGateway()
    const raw = await subscriber(gateway, 'a', 2)
    const publisher = await open(gateway, 'publisher')
    for (const first of [0x30, 0x32, 0x34]) {
      for (let n = 1; n <= 100; n++) publish(publisher, first, 'a', `${n}`, first === 0x30 ? 0 : n)
      for (let n = 1; n <= 100; n++) {
        const found = await raw.next()
        expect(found.subarray(first === 0x30 ? 5 : 7).toString()).toBe(`${n}`)
      }
      for (let n = 1; n <= 100 && first === 0x34; n++) publisher.send(packet(0x62, id(n)))
    }
  })

  it('v3 [MQTT-3.3.5-1]: filters that overlap bring one copy, with the highest QoS', async () => {
    const gateway = await startGateway()
    const raw = await open(gateway, 'c')
    await subscribed(raw, 'a/#', 0)
    await subscribed(raw, 'a/b', 2)
    await subscribed(raw, 'a/+', 1)
    const publisher = await open(gateway, 'publisher')
    publish(publisher, 0x34, 'a/b', 'x', 1)
    expect((await raw.next())[0]).toBe(0x34)
    await raw.quiet()
  })
})
