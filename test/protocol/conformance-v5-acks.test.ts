/** MQTT 5.0 §3.4 to §3.7, and what they are for: QoS (§4.3), sending again (§4.4) and flow control (§4.9). */
import { describe, expect, it } from 'vitest'
import type { Gateway } from '../support/gateway.ts'
import { startGateway } from '../support/mqtt-moves.ts'
import {
  ackPacket,
  ending,
  ID,
  next,
  PUBACK,
  PUBCOMP,
  PUBREC,
  PUBREL,
  property,
  publishPacket,
  type Received,
  subscribePacket,
  unsubscribePacket,
  userProperty
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
import { packet, type RawMqtt } from '../support/raw-mqtt.ts'

const PUBLISH_REASONS = [0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99]
const RELEASE_REASONS = [0x00, 0x92]
const back = { clientId: 'back', expiry: 1_000 }

/** Comes back, and reads its CONNACK. */
async function again(gateway: Gateway): Promise<RawMqtt> {
  const { raw, connack } = await met(gateway, { ...back, clean: false })
  expect(connack.flags).toBe(1)
  return raw
}

const seen = ({ first, id }: Received) => [first, id]

describe('an acknowledgement', () => {
  it.each([
    ['PUBACK, v5 [MQTT-3.4.2-1]', PUBACK, PUBLISH_REASONS],
    ['PUBREC, v5 [MQTT-3.5.2-1]', PUBREC, PUBLISH_REASONS],
    ['PUBREL, v5 [MQTT-3.6.2-1]', PUBREL, RELEASE_REASONS],
    ['PUBCOMP, v5 [MQTT-3.7.2-1]', PUBCOMP, RELEASE_REASONS]
  ] as const)('of a reason code that is none is malformed: %s', async (_, first, allowed) => {
    const gateway = await startGateway()
    const raw = await client(gateway)
    for (const reason of allowed) raw.send(packet(first, [0, 9, reason]))
    raw.send(subscribePacket(1, [['a', 0]]))
    while ((await next(raw)).first !== 0x90);
    for (let reason = 0; reason < 256; reason++) {
      if (allowed.includes(reason as never)) continue
      const other = await client(gateway, { clientId: 'other' })
      other.send(packet(first, [0, 9, reason]))
      expect(await ending(other), String(reason)).toEqual(['e081'])
    }
  })

  it('that is cut or has a byte too many is malformed', async () => {
    const gateway = await startGateway()
    for (const first of [PUBACK, PUBREC, PUBREL, PUBCOMP]) {
      for (const body of ['', '00', '00 01 00 00 00', '00 01 00 01']) {
        const raw = await client(gateway)
        raw.send(packet(first, body))
        expect(await ending(raw)).toEqual(['e081'])
      }
    }
  })

  it('that answers nothing changes nothing [B53, B54], v5 [MQTT-3.7.2-1] [MQTT-3.6.2-1]', async () => {
    const gateway = await startGateway()
    const raw = await subscriber(gateway, 'a', 2)
    const other = await client(gateway)
    await published(other, 'a', 'one', { qos: 1 })
    await published(other, 'a', 'two', { qos: 2 })
    const one = await next(raw)
    const two = await next(raw)
    // Of the wrong kind, or for nothing.
    raw.send(ackPacket(PUBCOMP, one.id), ackPacket(PUBACK, two.id), ackPacket(PUBCOMP, two.id))
    raw.send(ackPacket(PUBACK, 999), ackPacket(PUBCOMP, 999))
    await quiet(raw)
    raw.send(ackPacket(PUBREC, 999), ackPacket(PUBREL, 999))
    expect(await next(raw)).toMatchObject({ first: PUBREL, id: 999, reasons: [0x92] })
    expect(await next(raw)).toMatchObject({ first: PUBCOMP, id: 999, reasons: [0x92] })
    raw.send(ackPacket(PUBACK, one.id), ackPacket(PUBREC, two.id))
    expect(await next(raw)).toMatchObject({ first: PUBREL, id: two.id, reasons: [0] })
    raw.send(ackPacket(PUBCOMP, two.id))
    await quiet(raw)
    expect(gateway.broker.state.vhost('/')!.sessions.get('subscriber')!.queue.count).toBe(0)
  })

  it('with a PUBREL of other than 0010 is malformed [B07], v5 [MQTT-3.6.1-1]', async () => {
    const gateway = await startGateway()
    for (let flags = 0; flags < 16; flags++) {
      if (flags === 2) continue
      const raw = await client(gateway)
      raw.send(packet(0x60 | flags, '00 01'))
      expect(await ending(raw)).toEqual(['e081'])
    }
  })
})

/** Makes the server send each kind of acknowledgement with a reason to explain; returns them all. */
async function complaints(raw: RawMqtt): Promise<Received[]> {
  raw.send(
    publishPacket('$SYS/x', '', { qos: 1, id: 1 }),
    publishPacket('$SYS/x', '', { qos: 2, id: 2 }),
    ackPacket(PUBREL, 9),
    ackPacket(PUBREC, 9),
    subscribePacket(3, [['a/#/b', 0]]),
    unsubscribePacket(4, ['never'])
  )
  const found: Received[] = []
  for (let i = 0; i < 6; i++) found.push(await next(raw))
  const kinds: readonly (readonly [number, number])[] = [
    [0x40, 0x87],
    [0x50, 0x87],
    [0x70, 0x92],
    [0x62, 0x92],
    [0x90, 0x8f],
    [0xb0, 0x11]
  ]
  expect(found.map(({ first, reasons }) => [first, ...reasons])).toEqual(kinds)
  return found
}

describe('reason strings and user properties', () => {
  it('never make an answer larger than the client takes, v5 [MQTT-3.4.2-2] [MQTT-3.4.2-3] [MQTT-3.5.2-2] [MQTT-3.5.2-3] [MQTT-3.6.2-2] [MQTT-3.6.2-3] [MQTT-3.7.2-2] [MQTT-3.7.2-3] [MQTT-3.9.2-1] [MQTT-3.9.2-2] [MQTT-3.11.2-1] [MQTT-3.11.2-2] [MQTT-3.14.2-3] [MQTT-3.14.2-4] [MQTT-3.1.2-24]', async () => {
    const gateway = await startGateway()
    for (let size = 24; size <= 80; size += 2) {
      const properties = [property(ID.maximumPacketSize, size)]
      const { raw } = await met(gateway, { properties })
      for (const answer of await complaints(raw)) expect(answer.bytes).toBeLessThanOrEqual(size)
      raw.send('00 00')
      const last = await raw.rest()
      expect(last.length).toBe(1)
      expect(last[0]!.length).toBeLessThanOrEqual(size)
    }
  })

  it('are left out where the client wants no problem information, v5 [MQTT-3.1.2-29]', async () => {
    const gateway = await startGateway()
    const { raw } = await met(gateway, { properties: [property(ID.requestProblem, 0)] })
    for (const answer of await complaints(raw)) expect(answer.properties).toEqual([])
    // Those of a message are its own.
    await subscribed(raw, 'b')
    const properties = [userProperty('a', 'b')]
    await published(await client(gateway, { clientId: 'other' }), 'b', 'x', { properties })
    expect((await next(raw)).properties.length).toBe(1)
  })

  it('of the client change nothing', async () => {
    const gateway = await startGateway()
    const raw = await subscriber(gateway, 'a', 2)
    await published(await client(gateway), 'a', 'x', { qos: 2 })
    const { id } = await next(raw)
    const extra = [property(ID.reasonString, 'why'), userProperty('a', 'b'), userProperty('a', 'b')]
    raw.send(ackPacket(PUBREC, id, 0, ...extra))
    expect(await next(raw)).toMatchObject({ first: PUBREL, id, reasons: [0] })
    raw.send(ackPacket(PUBCOMP, id, 0, ...extra))
    await quiet(raw)
  })
})

describe('a delivery of QoS 1', () => {
  it('is open until its PUBACK, and comes again on reconnect only, v5 [MQTT-4.3.2-3] [MQTT-4.4.0-1]', async () => {
    const gateway = await startGateway()
    const raw = await subscriber(gateway, 'a', 1, back)
    const other = await client(gateway)
    for (const payload of ['one', 'two', 'three']) await published(other, 'a', payload, { qos: 1 })
    const sent = [await next(raw), await next(raw), await next(raw)]
    gateway.pass(900)
    await quiet(raw)
    raw.send(ackPacket(PUBACK, sent[1]!.id))
    await quiet(raw)
    await lost(gateway, raw)
    for (let i = 0; i < 2; i++) {
      const newer = await again(gateway)
      const resent = [await next(newer), await next(newer)]
      expect(resent.map(each => each.payload)).toEqual(['one', 'three'])
      expect(resent.map(seen)).toEqual([sent[0]!, sent[2]!].map(({ id }) => [0x3a, id]))
      await quiet(newer)
      if (i === 1) newer.send(...resent.map(({ id }) => ackPacket(PUBACK, id)))
      await quiet(newer)
      await lost(gateway, newer)
    }
    await quiet(await again(gateway))
  })

  it('ends with a PUBACK of 0x80 or more, v5 [MQTT-4.4.0-2]', async () => {
    const gateway = await startGateway()
    const raw = await subscriber(gateway, 'a', 1, back)
    const other = await client(gateway)
    for (const reason of PUBLISH_REASONS) {
      await published(other, 'a', 'x', { qos: 1 })
      raw.send(ackPacket(PUBACK, (await next(raw)).id, reason))
    }
    await quiet(raw)
    await lost(gateway, raw)
    await quiet(await again(gateway))
  })

  it('that is acknowledged frees its identifier for a new message of the publisher, v5 [MQTT-4.3.2-5]', async () => {
    const gateway = await startGateway()
    const watcher = await subscriber(gateway, 'a', 1)
    const raw = await client(gateway)
    for (const dup of [false, true, true]) {
      raw.send(publishPacket('a', 'same', { qos: 1, id: 5, dup }))
      expect(await next(raw)).toMatchObject({ first: PUBACK, id: 5 })
      expect(await payloads(watcher, 1)).toEqual(['same'])
    }
  })
})

describe('a delivery of QoS 2', () => {
  it('is PUBLISH until PUBREC, PUBREL until PUBCOMP, then nothing, v5 [MQTT-4.3.3-3] [MQTT-4.3.3-4] [MQTT-4.3.3-5] [MQTT-4.3.3-6] [MQTT-4.4.0-1]', async () => {
    const gateway = await startGateway()
    let raw = await subscriber(gateway, 'a', 2, back)
    await published(await client(gateway), 'a', 'x', { qos: 2 })
    const { id, first } = await next(raw)
    expect(first).toBe(0x34)
    for (let i = 0; i < 2; i++) {
      await lost(gateway, raw)
      raw = await again(gateway)
      expect(await next(raw)).toMatchObject({ first: 0x3c, id, payload: 'x' })
      await quiet(raw)
    }
    raw.send(ackPacket(PUBREC, id))
    expect(seen(await next(raw))).toEqual([PUBREL, id])
    gateway.pass(900)
    await quiet(raw)
    for (let i = 0; i < 2; i++) {
      await lost(gateway, raw)
      raw = await again(gateway)
      expect(seen(await next(raw))).toEqual([PUBREL, id])
      await quiet(raw)
      // A PUBREC again is answered again, never by the PUBLISH.
      raw.send(ackPacket(PUBREC, id))
      expect(seen(await next(raw))).toEqual([PUBREL, id])
    }
    raw.send(ackPacket(PUBCOMP, id))
    await quiet(raw)
    await lost(gateway, raw)
    await quiet(await again(gateway))
  })

  it('ends with a PUBREC of 0x80 or more, without PUBREL, v5 [MQTT-4.4.0-2] [MQTT-4.3.3-4]', async () => {
    const gateway = await startGateway()
    const raw = await subscriber(gateway, 'a', 2, back)
    const other = await client(gateway)
    for (const reason of PUBLISH_REASONS.filter(each => each >= 0x80)) {
      await published(other, 'a', 'x', { qos: 2 })
      raw.send(ackPacket(PUBREC, (await next(raw)).id, reason))
      await quiet(raw)
    }
    await published(other, 'a', 'x', { qos: 2 })
    const { id } = await next(raw)
    raw.send(ackPacket(PUBREC, id, 0x10))
    expect(seen(await next(raw))).toEqual([PUBREL, id])
    raw.send(ackPacket(PUBCOMP, id))
    await quiet(raw)
    await lost(gateway, raw)
    await quiet(await again(gateway))
  })

  it('that began does not expire, v5 [MQTT-4.3.3-7] [MQTT-4.3.3-13]', async () => {
    const gateway = await startGateway()
    let raw = await subscriber(gateway, 'a', 2, back)
    const properties = [property(ID.messageExpiry, 5)]
    await published(await client(gateway), 'a', 'x', { qos: 2, properties })
    const { id } = await next(raw)
    await lost(gateway, raw)
    gateway.pass(50)
    raw = await again(gateway)
    const resent = await next(raw)
    expect(resent).toMatchObject({ first: 0x3c, id, payload: 'x' })
    gateway.pass(50)
    raw.send(ackPacket(PUBREC, id))
    expect(seen(await next(raw))).toEqual([PUBREL, id])
    gateway.pass(50)
    raw.send(ackPacket(PUBCOMP, id))
    await quiet(raw)
  })
})

describe('a PUBLISH of QoS 2', () => {
  it('is delivered once however often it comes, until its PUBREL, v5 [MQTT-4.3.3-8] [MQTT-4.3.3-10] [MQTT-4.3.3-11] [MQTT-4.3.3-12]', async () => {
    const gateway = await startGateway()
    const watcher = await subscriber(gateway, 'a', 2)
    let raw = await client(gateway, back)
    const publish = (payload: string, dup: boolean) =>
      publishPacket('a', payload, { qos: 2, id: 5, dup })
    raw.send(publish('one', false))
    expect(seen(await next(raw))).toEqual([PUBREC, 5])
    expect(await payloads(watcher, 1)).toEqual(['one'])
    for (const dup of [true, false, true]) {
      raw.send(publish('one', dup))
      expect(await next(raw)).toMatchObject({ first: PUBREC, id: 5, reasons: [0] })
    }
    await lost(gateway, raw)
    raw = await again(gateway)
    raw.send(publish('one', true))
    expect(await next(raw)).toMatchObject({ first: PUBREC, id: 5, reasons: [0] })
    raw.send(ackPacket(PUBREL, 5))
    expect(await next(raw)).toMatchObject({ first: PUBCOMP, id: 5, reasons: [0] })
    await quiet(watcher)
    raw.send(publish('two', true))
    expect(seen(await next(raw))).toEqual([PUBREC, 5])
    expect(await payloads(watcher, 1)).toEqual(['two'])
  })

  it('is finished though its message expired, v5 [MQTT-4.3.3-13]', async () => {
    const gateway = await startGateway()
    const raw = await client(gateway)
    const properties = [property(ID.messageExpiry, 1)]
    raw.send(publishPacket('a', '', { qos: 2, id: 5, properties }))
    expect(seen(await next(raw))).toEqual([PUBREC, 5])
    gateway.pass(100)
    raw.send(ackPacket(PUBREL, 5))
    expect(await next(raw)).toMatchObject({ first: PUBCOMP, id: 5, reasons: [0] })
  })
})

describe('the receive maximum of a client', () => {
  const limited = { clientId: 'limited', properties: [property(ID.receiveMaximum, 3)] }

  it('bounds what is open, of QoS 1 and 2 together, v5 [MQTT-3.3.4-9] [MQTT-4.9.0-1] [MQTT-4.9.0-2]', async () => {
    const gateway = await startGateway()
    const raw = await subscriber(gateway, 'a', 2, limited)
    const other = await client(gateway)
    for (let i = 0; i < 8; i++) await published(other, 'a', `${i}`, { qos: 1 + (i % 2) })
    const open = [await next(raw), await next(raw), await next(raw)]
    await quiet(raw)
    // PUBREC and PUBREL leave the exchange open, PUBCOMP ends it, as PUBACK does and a refusal.
    raw.send(ackPacket(PUBREC, open[1]!.id))
    expect(seen(await next(raw))).toEqual([PUBREL, open[1]!.id])
    await quiet(raw)
    raw.send(ackPacket(PUBCOMP, open[1]!.id))
    expect((await next(raw)).payload).toBe('3')
    await quiet(raw)
    raw.send(ackPacket(PUBACK, open[0]!.id))
    const five = await next(raw)
    expect(five.payload).toBe('4')
    raw.send(ackPacket(PUBACK, five.id, 0x80))
    const six = await next(raw)
    expect(six.payload).toBe('5')
    raw.send(ackPacket(PUBREC, six.id, 0x97))
    expect((await next(raw)).payload).toBe('6')
    await quiet(raw)
  })

  it('holds nothing up but them, v5 [MQTT-3.3.4-10] [MQTT-4.9.0-3]', async () => {
    const gateway = await startGateway()
    const raw = await subscriber(gateway, 'a', 2, limited)
    await subscribed(raw, 'zero', 0)
    const other = await client(gateway)
    for (let i = 0; i < 6; i++) await published(other, 'a', 'x', { qos: 1 })
    for (let i = 0; i < 3; i++) await next(raw)
    await published(other, 'zero', 'QoS 0')
    expect(await payloads(raw, 1)).toEqual(['QoS 0'])
    await published(raw, 'b', '', { qos: 1 })
    await published(raw, 'b', '', { qos: 2 })
    raw.send(subscribePacket(3, [['c', 0]]), unsubscribePacket(4, ['c']), ackPacket(PUBREL, 77))
    for (const first of [0x90, 0xb0, PUBCOMP]) expect((await next(raw)).first).toBe(first)
    await quiet(raw)
  })

  it('bounds retained messages too, v5 [MQTT-3.3.4-9] [MQTT-4.9.0-2]', async () => {
    const gateway = await startGateway()
    const other = await client(gateway)
    for (let i = 0; i < 7; i++) await published(other, `a/${i}`, 'x', { qos: 1, retain: true })
    for (const expiry of [0, 100]) {
      const raw = await subscriber(gateway, 'a/+', 1, { ...limited, expiry })
      const topics = new Set<string>()
      let open = [await next(raw), await next(raw), await next(raw)]
      await quiet(raw)
      for (let left = 4; open.length > 0; left -= open.length) {
        for (const { topic } of open) topics.add(topic)
        raw.send(...open.map(({ id }) => ackPacket(PUBACK, id)))
        const count = Math.min(left, open.length)
        open = []
        for (let i = 0; i < count; i++) open.push(await next(raw))
        await quiet(raw)
      }
      expect(topics.size).toBe(7)
      raw.destroy()
    }
  })

  it('begins anew with each connection, v5 [MQTT-4.9.0-1]', async () => {
    const gateway = await startGateway()
    let raw = await subscriber(gateway, 'a', 1, { ...limited, expiry: 100 })
    const other = await client(gateway)
    for (let i = 0; i < 6; i++) await published(other, 'a', `${i}`, { qos: 1 })
    for (const [maximum, expected] of [
      [1, ['0']],
      [5, ['0', '1', '2', '3', '4']]
    ] as const) {
      await lost(gateway, raw)
      const properties = [property(ID.receiveMaximum, maximum)]
      raw = await client(gateway, { clientId: 'limited', clean: false, expiry: 100, properties })
      expect(await payloads(raw, expected.length)).toEqual(expected)
      await quiet(raw)
    }
  })
})

describe('the maximum packet size of a client', () => {
  const small = { clientId: 'small', expiry: 100, properties: [property(ID.maximumPacketSize, 40)] }

  it('drops what is larger, for it alone, as if it had been sent, v5 [MQTT-3.1.2-24] [MQTT-3.1.2-25]', async () => {
    const gateway = await startGateway()
    const maximum = property(ID.receiveMaximum, 1)
    const options = { ...small, properties: [...small.properties, maximum] }
    const raw = await subscriber(gateway, 'a', 2, options)
    const whole = await subscriber(gateway, 'a', 2, { clientId: 'whole' })
    const other = await client(gateway)
    const fits = 'x'.repeat(40 - 8)
    for (const qos of [0, 1, 2]) {
      const isFree = qos === 0 ? 2 : 0
      await published(other, 'a', `${fits}yyy`, { qos })
      await published(other, 'a', 'x'.repeat(50_000), { qos })
      await published(other, 'a', fits + 'z'.repeat(isFree), { qos })
      const received = await next(raw)
      expect(received.payload).toBe(fits + 'z'.repeat(isFree))
      expect(received.bytes).toBe(40)
      if (qos === 1) raw.send(ackPacket(PUBACK, received.id))
      if (qos === 2) raw.send(ackPacket(PUBREC, received.id, 0x80))
      await quiet(raw)
      expect((await payloads(whole, 3)).map(each => each.length)).toEqual([35, 50_000, 32 + isFree])
    }
    expect(gateway.broker.counters.dropped.get('too_large')).toBe(6)
    await left(raw)
    const { raw: newer } = await met(gateway, { clientId: 'small', clean: false })
    await quiet(newer)
  })

  it('drops a retained message, and what waited while it was away', async () => {
    const gateway = await startGateway()
    await left(await subscriber(gateway, 'a', 1, small))
    const other = await client(gateway)
    await published(other, 'a', 'x'.repeat(100), { qos: 1, retain: true })
    await published(other, 'a', 'small', { qos: 1 })
    const { raw } = await met(gateway, { ...small, clean: false })
    expect(await payloads(raw, 1)).toEqual(['small'])
    await subscribed(raw, 'a', 0)
    await quiet(raw)
  })

  it('holds for SUBACK and UNSUBACK too, which then are not sent, v5 [MQTT-3.1.2-24]', async () => {
    const gateway = await startGateway()
    const raw = await client(gateway, small)
    const many: [string, number][] = Array.from({ length: 60 }, () => ['a', 0])
    raw.send(subscribePacket(1, many))
    raw.send(
      unsubscribePacket(
        2,
        Array.from({ length: 60 }, () => 'b')
      )
    )
    raw.send(subscribePacket(3, [['c', 0]]))
    expect(await next(raw)).toMatchObject({ first: 0x90, id: 3, reasons: [0] })
    raw.send(publishPacket('a', 'it holds'))
    expect((await next(raw)).payload).toBe('it holds')
  })
})
