/** MQTT 5.0: what sessions keep and forget, by rules of the text that have no number (§3.1.2.11, §3.8.3.1, §4.1). */
import { describe, expect, it } from 'vitest'
import { startGateway } from '../support/mqtt-moves.ts'
import {
  ackPacket,
  ending,
  ID,
  next,
  property,
  propertyOf,
  publishPacket,
  subscribePacket,
  NO_LOCAL,
  RETAINED_NEVER,
  RETAIN_AS_PUBLISHED
} from '../support/mqtt5-bytes.ts'
import {
  client,
  left,
  lost,
  met,
  payloads,
  published,
  quiet,
  subscribed,
  subscriber
} from '../support/mqtt5-moves.ts'

const back = { clientId: 'back', clean: false, expiry: 1_000 }

describe('a session that is resumed', () => {
  it('has its subscriptions with all their options', async () => {
    const gateway = await startGateway()
    const raw = await client(gateway, back)
    const id = property(ID.subscriptionIdentifier, 9)
    await subscribed(raw, 'a', 1 | NO_LOCAL | RETAIN_AS_PUBLISHED | RETAINED_NEVER, id)
    await left(raw)
    const again = await client(gateway, back)
    const other = await client(gateway)
    await published(other, 'a', 'x', { qos: 2, retain: true })
    const received = await next(again)
    expect(received.first).toBe(0x33)
    expect(propertyOf(received, ID.subscriptionIdentifier)).toBe(9)
    again.send(ackPacket(0x40, received.id))
    await published(again, 'a', 'own', { qos: 1 })
    await quiet(again)
    // Replaced by one without an identifier.
    await subscribed(again, 'a', 0)
    expect((await next(again)).payload).toBe('x')
    await published(other, 'a', 'y')
    expect((await next(again)).properties).toEqual([])
  })

  it('counts its expiry from the close, by the last that was said', async () => {
    const gateway = await startGateway()
    for (const [first, second, seconds, flags] of [
      [10, 1_000, 900, 1],
      [1_000, 10, 11, 0],
      [1_000, 0, 0, 0]
    ] as const) {
      const clientId = `${first}-${second}`
      const raw = await client(gateway, { clientId, expiry: first })
      gateway.pass(2 * first)
      await left(raw)
      const again = await met(gateway, { clientId, clean: false, expiry: second })
      expect(again.connack.flags).toBe(1)
      gateway.pass(2_000)
      await lost(gateway, again.raw)
      gateway.pass(seconds)
      const last = await met(gateway, { clientId, clean: false })
      expect([clientId, last.connack.flags]).toEqual([clientId, flags])
      last.raw.destroy()
    }
  })

  it('may be used by both sides as if the connection were new: each quota is whole', async () => {
    const gateway = await startGateway({ limits: { receiveMaximum: 3 } })
    let raw = await client(gateway, back)
    for (let id = 1; id <= 3; id++) {
      raw.send(publishPacket('a', '', { qos: 2, id }))
      expect((await next(raw)).first).toBe(0x50)
    }
    await lost(gateway, raw)
    raw = await client(gateway, back)
    // What it repeats is not new; what it releases was not counted twice.
    for (let id = 1; id <= 3; id++) {
      raw.send(publishPacket('a', '', { qos: 2, id, dup: true }))
      expect((await next(raw)).first).toBe(0x50)
      raw.send(ackPacket(0x62, id))
      expect((await next(raw)).first).toBe(0x70)
    }
    for (let id = 4; id <= 6; id++) {
      raw.send(publishPacket('a', '', { qos: 2, id }))
      expect((await next(raw)).first).toBe(0x50)
    }
    raw.send(publishPacket('a', '', { qos: 2, id: 7 }))
    expect(await ending(raw)).toEqual(['e093'])
  })

  it('keeps QoS 1 and 2 for who is away, and not QoS 0', async () => {
    const gateway = await startGateway()
    await left(await subscriber(gateway, 'a', 2, { clientId: 'back', expiry: 1_000 }))
    const other = await client(gateway)
    for (const qos of [0, 1, 2, 0]) await published(other, 'a', `${qos}`, { qos })
    const raw = await client(gateway, back)
    expect(await payloads(raw, 2)).toEqual(['1', '2'])
    await quiet(raw)
  })
})

describe('a clean start', () => {
  it('leaves nothing: no subscription, no open delivery, no open identifier', async () => {
    const gateway = await startGateway()
    for (const isConnected of [false, true]) {
      const raw = await subscriber(gateway, 'a', 2, { clientId: 'back', expiry: 1_000 })
      const other = await client(gateway)
      for (const qos of [1, 2]) await published(other, 'a', 'old', { qos })
      const released = [await next(raw), await next(raw)][1]!
      raw.send(ackPacket(0x50, released.id), publishPacket('b', '', { qos: 2, id: 5 }))
      await next(raw)
      await next(raw)
      if (!isConnected) await lost(gateway, raw)
      const { raw: clean, connack } = await met(gateway, { clientId: 'back', expiry: 1_000 })
      expect(connack.flags).toBe(0)
      await published(other, 'a', 'new', { qos: 1 })
      await quiet(clean)
      clean.send(ackPacket(0x62, 5))
      expect((await next(clean)).reasons).toEqual([0x92])
      await left(clean)
    }
  })
})

describe('a PUBLISH that the broker routes', () => {
  it('reaches its own client too, unless no local is set', async () => {
    const gateway = await startGateway()
    const raw = await subscriber(gateway, 'a', 1)
    raw.send(publishPacket('a', 'own', { qos: 1, id: 3 }))
    const both = [await next(raw), await next(raw)].map(({ first }) => first)
    expect(both.sort()).toEqual([0x32, 0x40])
  })

  it('is taken in the middle of a SUBSCRIBE and an UNSUBSCRIBE, in the order of the packets', async () => {
    const gateway = await startGateway()
    const raw = await client(gateway)
    raw.send(
      publishPacket('a', 'before'),
      subscribePacket(1, [['a', 0]]),
      publishPacket('a', 'between'),
      [0xa2, 6, 0, 2, 0, 0, 1, 0x61],
      publishPacket('a', 'behind')
    )
    expect((await next(raw)).first).toBe(0x90)
    expect((await next(raw)).payload).toBe('between')
    expect((await next(raw)).first).toBe(0xb0)
    await quiet(raw)
  })
})
