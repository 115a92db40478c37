/** MQTT 5.0 §3.1.2.10 Keep Alive, §3.1.2.11.2 Session Expiry Interval and §3.2 CONNACK. */
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
  subscribePacket,
  userProperty
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
  subscriber
} from '../support/mqtt5-moves.ts'

describe('the keep alive', () => {
  it('of the client holds: silence of one and a half of it closes as a lost network does, v5 [MQTT-3.1.2-22] [MQTT-3.2.2-22] [MQTT-3.1.2-23]', async () => {
    const gateway = await startGateway()
    const watcher = await subscriber(gateway, 'will')
    const options = { clientId: 'silent', keepalive: 10, expiry: 100, will: { topic: 'will' } }
    const { raw, connack } = await met(gateway, options)
    expect(propertyOf(connack, ID.serverKeepAlive)).toBe(undefined)
    gateway.pass(15)
    await quiet(raw)
    // Any packet counts.
    for (const input of [publishPacket('x', ''), subscribePacket(1, [['x', 0]]), [0x40, 2, 0, 9]]) {
      gateway.pass(14)
      raw.send(input)
      await gateway.until(() => gateway.mqtt.count === 2)
      await new Promise(resolve => setTimeout(resolve, 20))
    }
    expect((await next(raw)).first).toBe(0x90)
    await quiet(raw)
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
    await quiet(raw)
  })

  it('above ours is told, and ours holds [B26]', async () => {
    const gateway = await startGateway({ limits: { maxKeepaliveSeconds: 20 } })
    for (const keepalive of [0, 21, 65_535]) {
      const { raw, connack } = await met(gateway, { keepalive })
      expect(propertyOf(connack, ID.serverKeepAlive)).toBe(20)
      gateway.pass(30)
      await quiet(raw)
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
        await quiet(back.raw)
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
    raw.send(publishPacket('b', 'x'.repeat(size - topic.length - 2)))
    await quiet(raw)
    raw.send(publishPacket('b', 'x'.repeat(size - topic.length - 1)))
    expect(await ending(raw)).toEqual(['e095'])
  })
})

it('what is larger than the server takes closes at its length [B04], v5 [MQTT-3.2.2-15]', async () => {
  const gateway = await startGateway()
  const raw = await client(gateway)
  raw.send('30 ff ff ff 7f')
  expect(await ending(raw)).toEqual(['e095'])
})
