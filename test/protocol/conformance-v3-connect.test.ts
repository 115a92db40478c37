/** MQTT 3.1.1, chapters 1, 2, 3.1, 3.2 and 3.14: what binds a server, in bytes. */
import { describe, expect, it } from 'vitest'
import { connectAs, connectBytes } from '../support/bad-inputs.ts'
import type { Gateway } from '../support/gateway.ts'
import {
  connectTo,
  hex,
  publish,
  startGateway,
  subscribe,
  subscribed
} from '../support/mqtt-moves.ts'
import { type Bytes, bytes, packet, type RawMqtt, text } from '../support/raw-mqtt.ts'

const ACCEPTED = '20020000'
const RESUMED = '20020100'
const A = text('a')

/** A connection that sends this first; what comes until the close. */
async function refused(gateway: Gateway, ...input: Bytes[]): Promise<string[]> {
  const raw = await gateway.dial()
  raw.send(...input)
  return (await raw.rest()).map(hex)
}

/** The same where it is let in: the CONNACK, and the client. */
async function accepted(gateway: Gateway, ...input: Bytes[]): Promise<[string, RawMqtt]> {
  const raw = await gateway.dial()
  raw.send(...input)
  return [hex(await raw.next()), raw]
}

/** A CONNECT of 3.1.1 with clean session. */
const clean = (id: string) => connectBytes(4, 2, text(id))
const lasting = (id: string) => connectBytes(4, 0, text(id))

describe('strings', () => {
  it('v3 [MQTT-1.5.3-1] [MQTT-3.1.3-4] [MQTT-3.1.3-10] [MQTT-3.1.3-11]: ill-formed UTF-8 closes, wherever it is', async () => {
    const gateway = await startGateway()
    for (const wrong of ['ff', 'c0 af', 'ed a0 80', 'ed bf bf', 'f4 90 80 80', 'e2 82']) {
      const string = text(bytes(wrong))
      expect(await refused(gateway, connectBytes(4, 2, string))).toEqual([])
      expect(await refused(gateway, connectBytes(4, 6, A, string, A))).toEqual([])
      expect(await refused(gateway, connectBytes(4, 0x82, A, string))).toEqual([])
      for (const input of [
        packet(0x30, string),
        packet(0x82, '00 01', string, '00'),
        packet(0xa2, '00 01', string)
      ]) {
        const raw = await connectTo(gateway, 4, 'c')
        raw.send(input)
        expect(await raw.rest()).toEqual([])
      }
    }
  })

  it('v3 [MQTT-1.5.3-2] [MQTT-4.7.3-2]: U+0000 closes', async () => {
    const gateway = await startGateway()
    expect(await refused(gateway, clean('a\0'))).toEqual([])
    for (const input of [
      packet(0x30, text('a\0b')),
      packet(0x82, '00 01', text('\0'), '00'),
      packet(0xa2, '00 01', text('a\0'))
    ]) {
      const raw = await connectTo(gateway, 4, 'c')
      raw.send(input)
      expect(await raw.rest()).toEqual([])
    }
  })

  it('v3 [MQTT-1.5.3-3]: EF BB BF is a character like others, and kept', async () => {
    const gateway = await startGateway()
    const raw = await connectTo(gateway, 4, '\ufeffclient')
    expect(gateway.broker.vhosts.get('/')!.sessions.has('\ufeffclient')).toBe(true)
    const topic = text(bytes('ef bb bf 61'))
    raw.send(packet(0x82, '00 01', topic, '00'), packet(0x30, A), packet(0x30, topic))
    expect(hex(await raw.next())).toBe('9003000100')
    expect(hex(await raw.next())).toBe(hex(packet(0x30, topic)))
    await raw.quiet()
  })
})

describe('the fixed header', () => {
  it('v3 [MQTT-2.2.2-1] [MQTT-2.2.2-2] [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1] [MQTT-3.14.1-1]: any other flags close', async () => {
    const gateway = await startGateway()
    const right = new Map([
      [4, 0],
      [5, 0],
      [6, 2],
      [7, 0],
      [8, 2],
      [10, 2],
      [12, 0],
      [14, 0]
    ])
    for (const [type, only] of right) {
      for (let flags = 0; flags < 16; flags++) {
        if (flags === only) continue
        const raw = await connectTo(gateway, 4, 'c')
        raw.send([(type << 4) | flags, 0])
        expect(await raw.rest()).toEqual([])
      }
    }
    for (let flags = 1; flags < 16; flags++) {
      const connect = Buffer.from(clean('c'))
      connect[0] = 0x10 | flags
      expect(await refused(gateway, connect)).toEqual([])
    }
  })

  it('v3 [MQTT-4.8.0-1]: a violation closes the connection that it came by, and no other', async () => {
    const gateway = await startGateway()
    const other = await connectTo(gateway, 4, 'other')
    for (const input of [
      '00 00',
      'f0 00',
      '20 02 00 00',
      '90 03 00 01 00',
      'b0 02 00 01',
      'd0 00'
    ]) {
      const raw = await connectTo(gateway, 4, 'c')
      raw.send(input)
      expect(await raw.rest()).toEqual([])
      await other.quiet()
    }
  })
})

describe('CONNECT', () => {
  it('v3 [MQTT-3.1.0-1]: whatever else comes first closes, and nothing of it is done', async () => {
    const gateway = await startGateway()
    const watcher = await connectTo(gateway, 4, 'watcher')
    await subscribed(watcher, '#', 0)
    expect(await refused(gateway, packet(0x30, A), clean('c'))).toEqual([])
    expect(await refused(gateway, packet(0x82, '00 01', A, '00'), clean('c'))).toEqual([])
    expect(await refused(gateway, 'c0 00', clean('c'))).toEqual([])
    await watcher.quiet()
  })

  it('v3 [MQTT-3.1.0-2]: a second one disconnects', async () => {
    const gateway = await startGateway()
    const [, raw] = await accepted(gateway, clean('c'))
    raw.send(clean('c'))
    expect(await raw.rest()).toEqual([])
  })

  it('v3 [MQTT-3.1.2-1] [MQTT-3.1.2-2]: another protocol name is closed, another level gets 0x01', async () => {
    const gateway = await startGateway()
    for (const name of ['mqtt', 'MQTTT', 'MQT', '', 'MQIsdp', 'AMQP']) {
      expect(await refused(gateway, connectAs(name, 4, 2, A))).toEqual([])
    }
    for (const level of [0, 1, 2, 3]) {
      expect(await refused(gateway, connectAs('MQTT', level, 2, A))).toEqual(['20020001'])
    }
  })

  it('v3 [MQTT-3.1.2-3] [MQTT-3.1.4-1] [MQTT-3.2.2-6]: the reserved flag, and any wrong form, closes without a CONNACK', async () => {
    const gateway = await startGateway()
    expect(await refused(gateway, connectBytes(4, 3, A))).toEqual([])
    expect(await refused(gateway, packet(0x10, text('MQTT'), '04'))).toEqual([])
    expect(await refused(gateway, packet(0x10, text('MQTT'), '04 02 00 3c'))).toEqual([])
    expect(await refused(gateway, packet(0x10, text('MQTT'), '04 02 00 3c 00 05 61'))).toEqual([])
    expect(await refused(gateway, connectBytes(4, 2, A, '00'))).toEqual([])
    expect(await refused(gateway, 'ff')).toEqual([])
  })

  it('v3 [MQTT-3.1.2-9] [MQTT-3.1.2-11] [MQTT-3.1.2-13] [MQTT-3.1.2-14] [MQTT-3.1.2-15]: the will flags and its fields go together', async () => {
    const gateway = await startGateway()
    // Flagged and not there, there and not flagged.
    expect(await refused(gateway, connectBytes(4, 6, A))).toEqual([])
    expect(await refused(gateway, connectBytes(4, 6, A, text('w')))).toEqual([])
    expect(await refused(gateway, connectBytes(4, 2, A, text('w'), A))).toEqual([])
    for (const flags of [0x0a, 0x12, 0x1a, 0x22]) {
      expect(await refused(gateway, connectBytes(4, flags, A))).toEqual([])
    }
    expect(await refused(gateway, connectBytes(4, 0x1e, A, text('w'), A))).toEqual([])
    for (const flags of [0x06, 0x0e, 0x16, 0x26]) {
      const [connack] = await accepted(gateway, connectBytes(4, flags, A, text('w'), A))
      expect(connack).toBe(ACCEPTED)
    }
  })

  it('v3 [MQTT-3.1.2-18] [MQTT-3.1.2-19] [MQTT-3.1.2-20] [MQTT-3.1.2-21] [MQTT-3.1.2-22]: user name and password are there as their flags say', async () => {
    const seen: unknown[] = []
    const gateway = await startGateway({
      authenticate: ({ username, password }) => {
        seen.push([username, password === null ? null : Buffer.from(password).toString()])
        return Promise.resolve({ ok: false, reason: 'not-authorized' })
      }
    })
    const user = text('user')
    const password = text('pass')
    expect(await refused(gateway, connectBytes(4, 2, A))).toEqual(['20020005'])
    expect(await refused(gateway, connectBytes(4, 0x82, A, user))).toEqual(['20020005'])
    expect(await refused(gateway, connectBytes(4, 0xc2, A, user, password))).toEqual(['20020005'])
    expect(await refused(gateway, connectBytes(4, 2, A, user))).toEqual([])
    expect(await refused(gateway, connectBytes(4, 0x82, A))).toEqual([])
    expect(await refused(gateway, connectBytes(4, 0x82, A, user, password))).toEqual([])
    expect(await refused(gateway, connectBytes(4, 0xc2, A, user))).toEqual([])
    expect(await refused(gateway, connectBytes(4, 0x42, A, password))).toEqual([])
    expect(seen).toEqual([
      [null, null],
      ['user', null],
      ['user', 'pass']
    ])
  })

  it('v3 [MQTT-3.1.3-1] [MQTT-3.1.3-3]: the fields of its payload have one order', async () => {
    const seen: unknown[] = []
    const gateway = await startGateway({
      authenticate: ({ clientId, username, password }) => {
        seen.push(clientId, username, Buffer.from(password!).toString())
        return Promise.resolve({ ok: false, reason: 'not-authorized' })
      }
    })
    const fields = ['id', 'will/topic', 'will', 'user', 'password'].map(text)
    await refused(gateway, connectBytes(4, 0xc6, ...fields))
    expect(seen).toEqual(['id', 'user', 'password'])
  })

  it('v3 [MQTT-3.1.2-24]: one and a half keepalives of silence close, and the will is published', async () => {
    const gateway = await startGateway()
    const watcher = await connectTo(gateway, 4, 'watcher', { keepalive: 0 })
    await subscribed(watcher, 'will', 0)
    const connect = Buffer.from(connectBytes(4, 6, A, text('will'), text('x')))
    connect[11] = 10
    const [, raw] = await accepted(gateway, connect)
    gateway.pass(15)
    await watcher.quiet()
    gateway.pass(1)
    expect(await raw.rest()).toEqual([])
    expect(hex(await watcher.next())).toBe(hex(packet(0x30, text('will'), '78')))
  })
})

describe('client identifiers', () => {
  it('v3 [MQTT-3.1.3-2] [MQTT-3.1.4-2]: the one in use goes to the newer connection, the older is closed', async () => {
    const gateway = await startGateway()
    const [, older] = await accepted(gateway, lasting('same'))
    await subscribed(older, 'a', 1)
    const [connack, newer] = await accepted(gateway, lasting('same'))
    expect(connack).toBe(RESUMED)
    expect(await older.rest()).toEqual([])
    publish(newer, 0x30, 'a', 'x')
    expect((await newer.next())[0]).toBe(0x30)
  })

  it('v3 [MQTT-3.1.3-5]: 1 to 23 letters and digits are taken', async () => {
    const gateway = await startGateway()
    const all = '0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ'
    for (const id of ['0', all.slice(0, 23), all.slice(23, 46), all.slice(39)]) {
      const [connack] = await accepted(gateway, clean(id))
      expect(connack).toBe(ACCEPTED)
    }
  })

  it('v3 [MQTT-3.1.3-6]: an empty one becomes one that nobody else has', async () => {
    const gateway = await startGateway()
    const [first, one] = await accepted(gateway, clean(''))
    const [second, two] = await accepted(gateway, clean(''))
    expect([first, second]).toEqual([ACCEPTED, ACCEPTED])
    await one.quiet()
    await two.quiet()
    expect(gateway.broker.vhosts.get('/')!.sessions.size).toBe(2)
  })

  it('v3 [MQTT-3.1.3-8] [MQTT-3.1.3-9] [MQTT-3.2.2-4] [MQTT-3.2.2-5]: an empty or refused one gets 0x02 without session present, and the close', async () => {
    const gateway = await startGateway()
    expect(await refused(gateway, lasting(''))).toEqual(['20020002'])
    expect(await refused(gateway, lasting('x'.repeat(257)))).toEqual(['20020002'])
  })

  it('v3 [MQTT-3.1.4-5]: nothing behind a refused CONNECT is done', async () => {
    const gateway = await startGateway()
    const watcher = await connectTo(gateway, 4, 'watcher')
    await subscribed(watcher, '#', 0)
    expect(await refused(gateway, lasting(''), packet(0x31, A, '78'))).toEqual(['20020002'])
    await watcher.quiet()
    expect(gateway.broker.vhosts.get('/')!.retained.count).toBe(0)
  })
})

describe('sessions', () => {
  it('v3 [MQTT-3.1.2-4] [MQTT-3.1.2-5] [MQTT-3.2.2-2] [MQTT-3.2.2-3] [MQTT-4.1.0-1]: clean session 0 keeps subscriptions, and QoS 1 and 2 while away', async () => {
    const gateway = await startGateway()
    const [first, before] = await accepted(gateway, lasting('lasting'))
    expect(first).toBe(ACCEPTED)
    await subscribed(before, 'q/#', 2)
    before.send('e0 00')
    await before.rest()
    const publisher = await connectTo(gateway, 4, 'publisher')
    publish(publisher, 0x30, 'q/0', '0')
    publish(publisher, 0x32, 'q/1', '1', 1)
    publish(publisher, 0x34, 'q/2', '2', 2)
    expect((await publisher.next())[0]).toBe(0x40)
    expect((await publisher.next())[0]).toBe(0x50)
    const [again, after] = await accepted(gateway, lasting('lasting'))
    expect(again).toBe(RESUMED)
    const kinds = [await after.next(), await after.next()].map(found => [found[0], found.at(-1)])
    expect(kinds).toEqual([
      [0x32, 0x31],
      [0x34, 0x32]
    ])
    await after.quiet()
  })

  it('v3 [MQTT-3.1.2-6] [MQTT-3.1.4-3] [MQTT-3.2.2-1] [MQTT-4.1.0-2]: clean session 1 discards what was there, and leaves nothing behind', async () => {
    const gateway = await startGateway()
    const [, before] = await accepted(gateway, lasting('c'))
    await subscribed(before, 'a', 1)
    const [connack, middle] = await accepted(gateway, clean('c'))
    expect(connack).toBe(ACCEPTED)
    publish(middle, 0x32, 'a', 'x', 1)
    expect((await middle.next())[0]).toBe(0x40)
    await subscribed(middle, 'b', 1)
    // As long as it is connected it has its session.
    publish(middle, 0x30, 'b', 'x')
    expect((await middle.next())[0]).toBe(0x30)
    middle.send('e0 00')
    await middle.rest()
    const [last, after] = await accepted(gateway, lasting('c'))
    expect(last).toBe(ACCEPTED)
    publish(after, 0x30, 'b', 'x')
    await after.quiet()
  })

  it('v3 [MQTT-3.1.4-4] [MQTT-3.2.0-1]: an accepted CONNECT gets a CONNACK with 0 before all else', async () => {
    const gateway = await startGateway()
    const [, before] = await accepted(gateway, lasting('c'))
    await subscribed(before, 'a', 1)
    before.destroy()
    const publisher = await connectTo(gateway, 4, 'publisher')
    publish(publisher, 0x32, 'a', 'x', 1)
    await publisher.next()
    const [connack, after] = await accepted(gateway, lasting('c'))
    expect(connack).toBe(RESUMED)
    expect((await after.next())[0]! >> 4).toBe(3)
  })

  it("v3 [MQTT-3.1.2-7]: retained messages stay when their publisher's session ends", async () => {
    const gateway = await startGateway()
    const publisher = await connectTo(gateway, 4, 'publisher')
    publish(publisher, 0x31, 'kept', 'x')
    publisher.send('e0 00')
    await publisher.rest()
    const raw = await connectTo(gateway, 4, 'reader')
    subscribe(raw, 'kept', 0)
    await raw.next()
    expect(hex(await raw.next())).toBe(hex(packet(0x31, text('kept'), '78')))
  })
})

describe('wills', () => {
  const withWill = (flags: number) => connectBytes(4, flags, text('w'), text('will'), text('x'))

  it('v3 [MQTT-3.1.2-8] [MQTT-3.1.2-10]: published once when the connection is lost', async () => {
    const gateway = await startGateway()
    const watcher = await connectTo(gateway, 4, 'watcher')
    await subscribed(watcher, 'will', 0)
    const [, raw] = await accepted(gateway, withWill(6))
    raw.destroy()
    expect(hex(await watcher.next())).toBe(hex(packet(0x30, text('will'), '78')))
    const [, again] = await accepted(gateway, clean('w'))
    again.destroy()
    await gateway.until(() => gateway.mqtt.count === 1)
    await watcher.quiet()
  })

  it('v3 [MQTT-3.1.2-12] [MQTT-3.14.4-3]: not published behind a DISCONNECT, nor without the flag', async () => {
    const gateway = await startGateway()
    const watcher = await connectTo(gateway, 4, 'watcher')
    await subscribed(watcher, '#', 0)
    const [, polite] = await accepted(gateway, withWill(6))
    polite.send('e0 00')
    await polite.rest()
    const [, none] = await accepted(gateway, clean('none'))
    none.destroy()
    await gateway.until(() => gateway.mqtt.count === 1)
    await watcher.quiet()
  })

  it.each([
    ['v3 [MQTT-3.1.2-16]: without will retain it is not retained', 0x06, 0],
    ['v3 [MQTT-3.1.2-17]: with will retain it is retained', 0x26, 1]
  ])('%s', async (_name, flags, retained) => {
    const gateway = await startGateway()
    const watcher = await connectTo(gateway, 4, 'watcher')
    await subscribed(watcher, 'will', 0)
    const [, raw] = await accepted(gateway, withWill(flags))
    raw.destroy()
    expect((await watcher.next())[0]).toBe(0x30)
    expect(gateway.broker.vhosts.get('/')!.retained.count).toBe(retained)
  })
})

describe('the transport', () => {
  it('v3 [MQTT-7.1.1-1] [MQTT-7.0.0-2]: TCP, and packets however they are cut', async () => {
    const gateway = await startGateway()
    const raw = await gateway.dial()
    const all = bytes(clean('c'), packet(0x82, '00 01', A, '00'), packet(0x30, A, '78'), 'c0 00')
    for (const byte of all) {
      const read = gateway.sockets.bytesIn
      raw.send([byte])
      await gateway.until(() => gateway.sockets.bytesIn > read)
    }
    const got = [await raw.next(), await raw.next(), await raw.next(), await raw.next()].map(hex)
    expect(got).toEqual([ACCEPTED, '9003000100', hex(packet(0x30, A, '78')), 'd000'])
  })
})
