/** MQTT 5.0 §3.1 CONNECT, but for wills. */
import { describe, expect, it } from 'vitest'
import type { Credentials } from '../../src/auth/authenticator.ts'
import { hex, startGateway } from '../support/mqtt-moves.ts'
import {
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
  authenticate,
  client,
  dialed,
  left,
  lost,
  met,
  payloads,
  published,
  quiet,
  subscribed,
  subscriber
} from '../support/mqtt5-moves.ts'
import { type Bytes, bytes, packet, text } from '../support/raw-mqtt.ts'

const A = text('a')
const connectOf = (flags: number, ...payload: Bytes[]) =>
  packet(0x10, text('MQTT'), [5, flags, 0, 60], '00', ...payload)

describe('the first packet', () => {
  it('is CONNECT: any other closes, and nothing is sent [B13], v5 [MQTT-3.1.0-1] [MQTT-3.14.0-1]', async () => {
    const gateway = await startGateway()
    for (let first = 0; first < 256; first++) {
      if (first === 0x10) continue
      const raw = await dialed(gateway, [first, 0])
      expect(await raw.rest(), `0x${first.toString(16)}`).toEqual([])
    }
    const behind = await dialed(gateway, publishPacket('a', ''), connectPacket())
    expect(await behind.rest()).toEqual([])
  })

  it('is the only CONNECT: a second one closes [B14], v5 [MQTT-3.1.0-2] [MQTT-3.2.0-2]', async () => {
    const gateway = await startGateway()
    const raw = await client(gateway)
    raw.send(connectPacket())
    expect(await ending(raw)).toEqual(['e082'])
    const both = await dialed(gateway, connectPacket(), connectPacket())
    expect(await ending(both)).toEqual(['2000', 'e082'])
  })
})

describe('the head of CONNECT', () => {
  it.each(['MQTTT', 'mqtt', 'MQT', '', 'MQIsdp', 'MQTT\0', 'HTTP'])(
    'of the protocol %j closes [B15], v5 [MQTT-3.1.2-1]',
    async name => {
      const gateway = await startGateway()
      const raw = await dialed(gateway, packet(0x10, text(name), '05 02 00 00 00', A))
      expect(await raw.rest()).toEqual([])
    }
  )

  it.each([0, 1, 2, 3, 6, 7, 100, 127, 128, 133, 255])(
    'of version %d closes, with the reason where version 5 may be understood [B16], v5 [MQTT-3.1.2-2]',
    async level => {
      const gateway = await startGateway()
      const raw = await dialed(gateway, packet(0x10, text('MQTT'), [level], '02 00 00 00', A))
      const answers = (await raw.rest()).map(answer => hex(answer.subarray(0, 4)))
      expect(answers.length).toBe(1)
      expect(answers[0]).toMatch(level > 5 ? /^20..0084$/ : /^20020001$/)
    }
  )

  it('with its reserved flag is malformed [B17], v5 [MQTT-3.1.2-3]', async () => {
    const gateway = await startGateway()
    expect(await ending(await dialed(gateway, connectOf(3, A)))).toEqual(['2081'])
  })
})

const MALFORMED: readonly (readonly [string, Buffer])[] = [
  ['no client identifier, v5 [MQTT-3.1.3-3]', connectOf(2)],
  ['half a client identifier, v5 [MQTT-3.1.3-3]', connectOf(2, '00 05 61')],
  ['will QoS 1 without a will, v5 [MQTT-3.1.2-11]', connectOf(0x0a, A)],
  ['will QoS 2 without a will, v5 [MQTT-3.1.2-11]', connectOf(0x12, A)],
  ['will QoS 3 [B18], v5 [MQTT-3.1.2-12]', connectOf(0x1e, A, '00', A, A)],
  ['will retain without a will, v5 [MQTT-3.1.2-13]', connectOf(0x22, A)],
  ['a will flag and nothing of a will, v5 [MQTT-3.1.2-9]', connectOf(6, A)],
  ['a will flag and properties only, v5 [MQTT-3.1.2-9]', connectOf(6, A, '00')],
  ['a will flag and no payload, v5 [MQTT-3.1.2-9]', connectOf(6, A, '00', A)],
  ['a will flag and no properties, v5 [MQTT-3.1.2-9]', connectOf(6, A, A, A)],
  ['a user name that no flag announces, v5 [MQTT-3.1.2-16]', connectOf(2, A, A)],
  ['a user name that is not there, v5 [MQTT-3.1.2-17]', connectOf(0x82, A)],
  ['a password that no flag announces, v5 [MQTT-3.1.2-18]', connectOf(0x82, A, A, A)],
  ['a password that is not there, v5 [MQTT-3.1.2-19]', connectOf(0xc2, A, A)],
  ['no keep alive', packet(0x10, text('MQTT'), '05 02')],
  ['no properties', packet(0x10, text('MQTT'), '05 02 00 00')],
  ['a byte too many', connectOf(2, A, '00')]
]

describe('a CONNECT', () => {
  it.each(MALFORMED)(
    'is malformed with %s, v5 [MQTT-3.1.4-1] [MQTT-3.2.2-7] [MQTT-3.14.0-1]',
    async (_, input) => {
      const gateway = await startGateway()
      const raw = await dialed(gateway, input, publishPacket('a', ''))
      const answers = await raw.rest()
      expect(answers.map(each => hex(each.subarray(0, 4)))).toEqual([
        hex(bytes([0x20, answers[0]!.length - 2], '00 81'))
      ])
    }
  )

  it('has its fields in one order, v5 [MQTT-3.1.3-1] [MQTT-3.1.2-17] [MQTT-3.1.2-19]', async () => {
    const seen: Credentials[] = []
    const gateway = await startGateway({
      authenticate: credentials => {
        seen.push(credentials)
        return authenticate(credentials)
      }
    })
    const watcher = await subscriber(gateway, 'topic')
    const raw = await client(gateway, {
      clientId: 'id',
      will: { topic: 'topic', payload: 'payload', properties: [property(ID.contentType, 'type')] },
      username: 'name',
      password: 'word'
    })
    const [, found] = seen
    expect([found?.clientId, found?.username, found?.password?.toString()]).toEqual([
      'id',
      'name',
      'word'
    ])
    raw.destroy()
    const will = await next(watcher)
    expect([will.topic, will.payload]).toEqual(['topic', 'payload'])
    expect(String(propertyOf(will, ID.contentType))).toBe('type')
  })

  it('may have a password without a user name, and neither, v5 [MQTT-3.1.2-16] [MQTT-3.1.2-18]', async () => {
    const seen: Credentials[] = []
    const gateway = await startGateway({
      authenticate: credentials => {
        seen.push(credentials)
        return authenticate(credentials)
      }
    })
    await client(gateway, { clientId: 'one', password: 'a\0b' })
    await client(gateway, { clientId: 'two' })
    expect(seen.map(({ username }) => username)).toEqual([null, null])
    expect(seen.map(({ password }) => password?.toString() ?? null)).toEqual(['a\0b', null])
  })

  it.each([
    ['mallory', 0x86],
    ['stranger', 0x87],
    ['busy', 0x89]
  ])(
    'of %s is refused and closed, and what follows is not processed, v5 [MQTT-3.1.4-2] [MQTT-3.1.4-6] [MQTT-3.2.2-6] [MQTT-3.2.2-7] [MQTT-3.2.2-8] [MQTT-4.13.2-1]',
    async (username, reason) => {
      const gateway = await startGateway({ authenticate })
      const watcher = await subscriber(gateway, '#')
      const raw = await dialed(
        gateway,
        connectPacket({ clientId: 'x', username }),
        publishPacket('a', 'x', { retain: true }),
        subscribePacket(1, [['#', 0]]),
        'c0 00'
      )
      const answers = (await raw.rest()).map(decode)
      expect(answers.map(each => [each.first, each.flags, ...each.reasons])).toEqual([
        [0x20, 0, reason]
      ])
      await quiet(watcher)
      await subscriber(gateway, '#', 0, { clientId: 'later' })
    }
  )
})

describe('an accepted CONNECT', () => {
  it('is answered by one CONNACK, before all else, v5 [MQTT-3.1.4-5] [MQTT-3.2.0-1] [MQTT-3.2.0-2] [MQTT-3.2.2-1]', async () => {
    const gateway = await startGateway()
    const raw = await dialed(
      gateway,
      connectPacket({ clientId: 'eager' }),
      subscribePacket(1, [['a', 1]]),
      publishPacket('a', 'x', { qos: 1, id: 1 }),
      'c0 00'
    )
    const answers = [await next(raw), await next(raw), await next(raw), await next(raw)]
    expect(answers[0]).toMatchObject({ first: 0x20, flags: 0, reasons: [0] })
    expect(answers[1]!.first).toBe(0x90)
    expect(
      answers
        .slice(2)
        .map(each => each.first >> 4)
        .sort()
    ).toEqual([3, 4])
    expect((await raw.next())[0]).toBe(0xd0)
    await lost(gateway, raw)
    const offline = await subscriber(gateway, 'b', 2, { clientId: 'back', expiry: 100 })
    await left(offline)
    const other = await client(gateway)
    for (const qos of [1, 2]) await published(other, 'b', 'kept', { qos })
    const back = await dialed(
      gateway,
      connectPacket({ clientId: 'back', clean: false, expiry: 100 })
    )
    expect(await next(back)).toMatchObject({ first: 0x20, flags: 1, reasons: [0] })
    expect(await payloads(back, 2)).toEqual(['kept', 'kept'])
    await quiet(back)
  })

  it('tells what there was of a session, v5 [MQTT-3.2.2-2] [MQTT-3.2.2-3] [MQTT-3.1.2-4] [MQTT-3.1.2-5] [MQTT-3.1.2-6] [MQTT-3.1.4-4]', async () => {
    const gateway = await startGateway()
    const steps: readonly (readonly [boolean, number, boolean])[] = [
      // Clean start, then whether there are a session and its subscription.
      [false, 0, false],
      [false, 1, true],
      [false, 1, true],
      [true, 0, false],
      [false, 1, true],
      [true, 0, false]
    ]
    const other = await client(gateway, { clientId: 'other' })
    for (const [clean, flags, isSubscribed] of steps) {
      const { raw, connack } = await met(gateway, { clientId: 'one', clean, expiry: 100 })
      expect(connack.flags).toBe(flags)
      await published(other, 'a', 'live', { qos: 1 })
      if (isSubscribed) {
        const live = await next(raw)
        expect(live.payload).toBe('live')
        raw.send([0x40, 2, live.id >> 8, live.id & 255])
      }
      await quiet(raw)
      await subscribed(raw, 'a', 1)
      await left(raw)
    }
  })

  it('finds its session by the client identifier, v5 [MQTT-3.1.3-2]', async () => {
    const gateway = await startGateway()
    const names = ['one', 'One', 'on', 'one ', 'onе']
    for (const clientId of names) {
      await left(await subscriber(gateway, clientId, 1, { clientId, expiry: 100 }))
    }
    const other = await client(gateway)
    for (const name of names) await published(other, name, name, { qos: 1 })
    for (const clientId of names) {
      const { raw, connack } = await met(gateway, { clientId, clean: false })
      expect(connack.flags).toBe(1)
      expect(await payloads(raw, 1)).toEqual([clientId])
      await quiet(raw)
    }
  })

  it('takes the client identifier from its older connection, which is told, v5 [MQTT-3.1.4-3] [MQTT-3.14.4-1] [MQTT-3.14.4-2]', async () => {
    const gateway = await startGateway()
    const first = await subscriber(gateway, 'a', 0, { clientId: 'one', expiry: 100 })
    const { raw: second, connack } = await met(gateway, { clientId: 'one', clean: false })
    expect(connack.flags).toBe(1)
    expect(await ending(first)).toEqual(['e08e'])
    await published(second, 'a', 'x').catch(() => undefined)
    const clean = await client(gateway, { clientId: 'one' })
    expect((await ending(second)).at(-1)).toBe('e08e')
    await quiet(clean)
  })

  it('may come byte by byte, and what follows it in order, v5 [MQTT-4.2.0-1]', async () => {
    const gateway = await startGateway()
    const raw = await dialed(gateway)
    const input = Buffer.concat([
      connectPacket({ clientId: 'slow' }),
      subscribePacket(1, [['a', 0]]),
      publishPacket('a', 'one by one'),
      publishPacket('a', 'in order')
    ])
    for (const byte of input) {
      raw.send([byte])
      await new Promise(setImmediate)
    }
    expect((await raw.next())[0]).toBe(0x20)
    expect((await raw.next())[0]).toBe(0x90)
    expect(await payloads(raw, 2)).toEqual(['one by one', 'in order'])
  })
})

describe('a client identifier', () => {
  it('of 1 to 23 letters and digits is taken, v5 [MQTT-3.1.3-5]', async () => {
    const gateway = await startGateway()
    const all = '0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ'
    for (let length = 1; length <= 23; length++) {
      await client(gateway, { clientId: all.slice(0, length) })
      await client(gateway, { clientId: all.slice(-length) })
    }
    for (const one of all) await client(gateway, { clientId: one })
  })

  it('that is empty gets one that is new, and can come back by it, v5 [MQTT-3.1.3-6] [MQTT-3.1.3-7] [MQTT-3.2.2-16]', async () => {
    const gateway = await startGateway()
    const seen = new Set<string>()
    for (let i = 0; i < 20; i++) {
      const { raw, connack } = await met(gateway, { clientId: '', clean: i % 2 === 0, expiry: 100 })
      const assigned = String(propertyOf(connack, ID.assignedClientIdentifier))
      expect(assigned.length).toBeGreaterThan(0)
      expect(seen.has(assigned)).toBe(false)
      expect(connack.flags).toBe(0)
      seen.add(assigned)
      await left(raw)
      const back = await met(gateway, { clientId: assigned, clean: false })
      expect(back.connack.flags).toBe(1)
      expect(propertyOf(back.connack, ID.assignedClientIdentifier)).toBe(undefined)
    }
  })

  it('that is too long, or another user’s, is refused and closed [B22, B37], v5 [MQTT-3.1.3-8] [MQTT-3.2.2-6] [MQTT-3.2.2-7]', async () => {
    const gateway = await startGateway({ authenticate })
    const victim = await client(gateway, { clientId: 'victim' })
    const tooLong = await dialed(gateway, connectPacket({ clientId: 'x'.repeat(257) }))
    const foreign = await dialed(gateway, connectPacket({ clientId: 'victim', username: 'bob' }))
    for (const raw of [tooLong, foreign]) {
      const answers = (await raw.rest()).map(decode)
      expect(answers.map(each => [each.flags, ...each.reasons])).toEqual([[0, 0x85]])
    }
    await quiet(victim)
  })
})
