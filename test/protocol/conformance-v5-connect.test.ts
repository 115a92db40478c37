/** MQTT 5.0 §3.1 CONNECT and §3.2 CONNACK, but for wills. */
import { describe, expect, it } from 'vitest'
import type { Credentials } from '../../src/auth/authenticator.ts'
import { Principal } from '../../src/core/principal.ts'
import { hex, startGateway } from '../support/mqtt-moves.ts'
import {
  block,
  connectPacket,
  decode,
  ending,
  ID,
  next,
  property,
  propertyOf,
  publishPacket,
  subscribePacket,
  userProperty
} from '../support/mqtt5-bytes.ts'
import {
  client,
  dialed,
  left,
  lost,
  met,
  payloads,
  published,
  subscribed,
  subscriber
} from '../support/mqtt5-moves.ts'
import { type Bytes, bytes, packet, text } from '../support/raw-mqtt.ts'

const A = text('a')
const connectOf = (flags: number, ...payload: Bytes[]) =>
  packet(0x10, text('MQTT'), [5, flags, 0, 60], '00', ...payload)

/** `bob` and nobody may come in, `mallory` not, for `busy` there is no room. */
function authenticate({ username }: Credentials) {
  const name = username ?? ''
  if (name === 'mallory') return Promise.resolve({ ok: false, reason: 'bad-credentials' } as const)
  if (name === 'stranger') return Promise.resolve({ ok: false, reason: 'not-authorized' } as const)
  if (name === 'busy') return Promise.resolve({ ok: false, reason: 'busy' } as const)
  return Promise.resolve({
    ok: true,
    principal: new Principal(name, [], '/', [], [], true)
  } as const)
}

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
      const answers = (await raw.rest()).map(hex)
      expect(answers).toEqual([level > 5 ? '2003008400' : '20020001'])
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
      await watcher.quiet()
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
    await back.quiet()
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
      await raw.quiet()
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
      await raw.quiet()
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
    await clean.quiet()
  })

  it('is not asked for more than MQTT has, v5 [MQTT-4.2.0-1]', async () => {
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
    await victim.quiet()
  })
})

describe('the keep alive', () => {
  it('of the client holds: silence of one and a half of it closes as a lost network does, v5 [MQTT-3.1.2-22] [MQTT-3.2.2-22] [MQTT-3.1.2-23]', async () => {
    const gateway = await startGateway()
    const watcher = await subscriber(gateway, 'will')
    const options = { clientId: 'silent', keepalive: 10, expiry: 100, will: { topic: 'will' } }
    const { raw, connack } = await met(gateway, options)
    expect(propertyOf(connack, ID.serverKeepAlive)).toBe(undefined)
    gateway.pass(15)
    await raw.quiet()
    // Any packet counts.
    for (const input of [publishPacket('x', ''), subscribePacket(1, [['x', 0]]), [0x40, 2, 0, 9]]) {
      gateway.pass(14)
      raw.send(input)
      await gateway.until(() => gateway.mqtt.count === 2)
      await new Promise(resolve => setTimeout(resolve, 20))
    }
    expect((await next(raw)).first).toBe(0x90)
    await raw.quiet()
    gateway.pass(16)
    expect(await ending(raw)).toEqual(['e08d'])
    expect((await next(watcher)).topic).toBe('will')
    const back = await met(gateway, { clientId: 'silent', clean: false })
    expect(back.connack.flags).toBe(1)
  })

  it('of 0 has no end [B26], v5 [MQTT-3.2.2-22]', async () => {
    const gateway = await startGateway()
    const raw = await client(gateway, { keepalive: 0 })
    gateway.pass(200_000)
    await raw.quiet()
  })

  it('above ours is told, and ours holds [B26]', async () => {
    const gateway = await startGateway({ limits: { maxKeepaliveSeconds: 20 } })
    for (const keepalive of [0, 21, 65_535]) {
      const { raw, connack } = await met(gateway, { keepalive })
      expect(propertyOf(connack, ID.serverKeepAlive)).toBe(20)
      gateway.pass(30)
      await raw.quiet()
      gateway.pass(31)
      expect(await ending(raw)).toEqual(['e08d'])
    }
    const { raw, connack } = await met(gateway, { keepalive: 20 })
    expect(propertyOf(connack, ID.serverKeepAlive)).toBe(undefined)
    raw.destroy()
  })
})

describe('the session', () => {
  it('is kept after the close for its expiry, and no longer, v5 [MQTT-3.1.2-23] [MQTT-4.1.0-2]', async () => {
    const gateway = await startGateway()
    const other = await client(gateway, { clientId: 'other' })
    for (const [expiry, seconds, flags] of [
      [100, 99, 1],
      [100, 101, 0],
      [1, 2, 0],
      [0, 0, 0]
    ] as const) {
      for (const isLost of [true, false]) {
        const clientId = `${expiry}-${seconds}-${isLost}`
        const raw = await subscriber(gateway, 'a', 1, { clientId, expiry })
        if (isLost) await lost(gateway, raw)
        else await left(raw)
        await published(other, 'a', 'kept', { qos: 1 })
        gateway.pass(seconds)
        const back = await met(gateway, { clientId, clean: false })
        expect([clientId, back.connack.flags]).toEqual([clientId, flags])
        if (flags === 1) expect(await payloads(back.raw, 1)).toEqual(['kept'])
        await back.raw.quiet()
        await left(back.raw)
      }
    }
  })

  it('without an expiry ends with the connection, however it ends, v5 [MQTT-4.1.0-2]', async () => {
    const gateway = await startGateway()
    for (let i = 0; i < 2; i++) {
      const { raw, connack } = await met(gateway, { clientId: 'short', clean: false })
      expect(connack.flags).toBe(0)
      if (i === 0) await lost(gateway, raw)
      else await left(raw)
    }
  })

  it('is not discarded while its client is connected, v5 [MQTT-4.1.0-1]', async () => {
    const gateway = await startGateway()
    for (const expiry of [0, 5]) {
      const raw = await subscriber(gateway, 'a', 1, { clientId: `long-${expiry}`, expiry })
      gateway.pass(1_000)
      await published(await client(gateway), 'a', 'still', { qos: 1 })
      expect(await payloads(raw, 1)).toEqual(['still'])
      raw.destroy()
    }
  })
})

describe('a CONNACK', () => {
  it('is no larger than the client takes, v5 [MQTT-3.2.2-19] [MQTT-3.2.2-20] [MQTT-3.1.2-24]', async () => {
    const gateway = await startGateway({ authenticate })
    for (let size = 1; size <= 64; size++) {
      for (const username of ['bob', 'mallory']) {
        const properties = [property(ID.maximumPacketSize, size), property(ID.requestProblem, 1)]
        const raw = await dialed(gateway, connectPacket({ clientId: '', username, properties }))
        const answer = await raw.next().catch(() => null)
        if (answer !== null) expect(answer.length).toBeLessThanOrEqual(size)
        raw.destroy()
      }
    }
  })

  it('has no response information that was not asked for, v5 [MQTT-3.1.2-28]', async () => {
    const gateway = await startGateway()
    for (const properties of [[], [property(ID.requestResponse, 0)]]) {
      const { connack } = await met(gateway, { properties })
      expect(propertyOf(connack, ID.responseInformation)).toBe(undefined)
    }
  })

  it('names no authentication method to who named none, v5 [MQTT-4.12.0-6]', async () => {
    const gateway = await startGateway()
    const { connack } = await met(gateway, { properties: [userProperty('a', 'b')] })
    expect(propertyOf(connack, ID.authenticationMethod)).toBe(undefined)
    expect(propertyOf(connack, ID.authenticationData)).toBe(undefined)
  })

  it('refuses an authentication method that we do not know [B32], v5 [MQTT-4.12.0-1]', async () => {
    const gateway = await startGateway()
    for (const extra of [[], [property(ID.authenticationData, 'x')]]) {
      const properties = [property(ID.authenticationMethod, 'KERBEROS'), ...extra]
      expect(await ending(await dialed(gateway, connectPacket({ properties })))).toEqual(['208c'])
    }
  })

  it('says only what is true of the server', async () => {
    const gateway = await startGateway()
    const { raw, connack } = await met(gateway, { clientId: 'truth', expiry: 0xffffffff })
    const says = (id: number, otherwise: number) => Number(propertyOf(connack, id) ?? otherwise)
    expect(says(ID.maximumQos, 2)).toBe(2)
    expect(says(ID.retainAvailable, 1)).toBe(1)
    expect(says(ID.wildcardAvailable, 1)).toBe(1)
    expect(says(ID.identifiersAvailable, 1)).toBe(1)
    const isShared = says(ID.sharedAvailable, 1) === 1
    raw.send(subscribePacket(1, [['$share/g/a', 0]], property(ID.subscriptionIdentifier, 1)))
    expect((await next(raw)).reasons).toEqual([isShared ? 0 : 0x9e])
    expect(says(ID.sessionExpiry, 0xffffffff)).toBe(gateway.broker.limits.sessionExpirySecondsMax)
    const size = says(ID.maximumPacketSize, 268_435_460)
    const topic = publishPacket('a', '')
    raw.send(publishPacket('a', 'x'.repeat(size - topic.length - 2)))
    await raw.quiet()
    raw.send(publishPacket('a', 'x'.repeat(size - topic.length - 1)))
    expect(await ending(raw)).toEqual(['e095'])
  })
})

it('what is larger than the server takes closes at its length [B04], v5 [MQTT-3.2.2-15]', async () => {
  const gateway = await startGateway()
  const raw = await client(gateway)
  raw.send('30 ff ff ff 7f')
  expect(await ending(raw)).toEqual(['e095'])
  expect(block().length).toBe(1)
})
