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
import { packet, text } from '../support/raw-mqtt.ts'

describe('deliveries', () => {
  it('of QoS 1 are sent again with DUP until they are acknowledged', async () => {
    const gateway = await startGateway()
    let subscriber = await connectTo(gateway, 4, 's', { clean: false })
    await subscribed(subscriber, 'a', 1)
    const publisher = await connectTo(gateway, 4, 'p')
    publish(publisher, 0x32, 'a', 'x', 1)
    expect(hex(await subscriber.next())).toBe(
      hex(packet(0x32, text('a'), '00 01', Buffer.from('x')))
    )
    subscriber.destroy()
    subscriber = await connectTo(gateway, 4, 's', { clean: false })
    expect(hex(await subscriber.next())).toBe(
      hex(packet(0x3a, text('a'), '00 01', Buffer.from('x')))
    )
    subscriber.send('40 02 00 01')
    await subscriber.quiet()
    subscriber.destroy()
    subscriber = await connectTo(gateway, 4, 's', { clean: false })
    await subscriber.quiet()
    expect(gateway.broker.counters.acknowledged).toBe(1)
  })

  it('of QoS 2 go on with PUBREL after a reconnect, when PUBREC was taken', async () => {
    const gateway = await startGateway()
    let subscriber = await connectTo(gateway, 5, 's', lasting)
    await subscribed(subscriber, 'a', 2)
    const publisher = await connectTo(gateway, 4, 'p')
    publish(publisher, 0x34, 'a', 'x', 1)
    expect((await subscriber.next())[0]).toBe(0x34)
    subscriber.send('50 02 00 01')
    expect(hex(await subscriber.next())).toBe('62020001')
    subscriber.destroy()
    subscriber = await connectTo(gateway, 5, 's', lasting)
    expect(hex(await subscriber.next())).toBe('62020001')
    subscriber.send('70 02 00 01')
    await subscriber.quiet()
    subscriber.destroy()
    subscriber = await connectTo(gateway, 5, 's', lasting)
    await subscriber.quiet()
  })

  it('send the PUBREL only when the PUBREC is on the disk', async () => {
    const gateway = await startGateway()
    const subscriber = await connectTo(gateway, 4, 's', lasting)
    await subscribed(subscriber, 'a', 2)
    const publisher = await connectTo(gateway, 4, 'p')
    publish(publisher, 0x34, 'a', 'x', 1)
    await subscriber.next()
    gateway.journal.isAutomatic = false
    subscriber.send('50 02 00 01')
    await subscriber.quiet()
    gateway.journal.sync()
    expect(hex(await subscriber.next())).toBe('62020001')
  })

  it('end with a PUBREC that carries an error', async () => {
    const gateway = await startGateway()
    const subscriber = await connectTo(gateway, 5, 's')
    await subscribed(subscriber, 'a', 2)
    const publisher = await connectTo(gateway, 4, 'p')
    publish(publisher, 0x34, 'a', 'x', 1)
    await subscriber.next()
    subscriber.send('50 03 00 01 97')
    await subscriber.quiet()
    expect(gateway.broker.counters.acknowledged).toBe(1)
  })

  it('that are not open and refused get no PUBREL: the refusal was the end of it (v5 §4.3.3)', async () => {
    const gateway = await startGateway()
    const subscriber = await connectTo(gateway, 5, 's')
    const before = gateway.broker.counters.unexpectedAcks
    subscriber.send('50 03 00 01 80')
    await subscriber.quiet()
    subscriber.send('50 04 00 01 97 00', '50 03 00 01 10')
    expect(hex(await subscriber.next())).toBe('6203000192')
    await subscriber.quiet()
    expect(gateway.broker.counters.unexpectedAcks - before).toBe(3)
  })

  it('keep to the receive maximum, and go on with each acknowledgement', async () => {
    const gateway = await startGateway()
    const subscriber = await connectTo(gateway, 5, 's', { properties: { receiveMaximum: 2 } })
    await subscribed(subscriber, 'a', 1)
    const publisher = await connectTo(gateway, 4, 'p')
    for (let i = 1; i <= 5; i++) publish(publisher, 0x32, 'a', `${i}`, i)
    for (let i = 1; i <= 5; i++) await publisher.next()
    expect((await subscriber.next()).at(-1)).toBe(0x31)
    expect((await subscriber.next()).at(-1)).toBe(0x32)
    await subscriber.quiet()
    for (let i = 3; i <= 5; i++) {
      subscriber.send('40 02 00', [i - 1])
      expect((await subscriber.next()).at(-1)).toBe(0x30 + i)
      await subscriber.quiet()
    }
  })

  it('that are too large for a client are dropped for it alone, and counted', async () => {
    const gateway = await startGateway()
    const small = await connectTo(gateway, 5, 'small', { properties: { maximumPacketSize: 100 } })
    const large = await connectTo(gateway, 5, 'large')
    await subscribed(small, 'a', 1)
    await subscribed(large, 'a', 1)
    const publisher = await connectTo(gateway, 4, 'p')
    publish(publisher, 0x32, 'a', 'x'.repeat(200), 1)
    expect(hex(await publisher.next())).toBe('40020001')
    publish(publisher, 0x32, 'a', 'fits', 2)
    expect((await large.next()).length).toBeGreaterThan(200)
    expect(await small.read()).toMatchObject({ payload: Buffer.from('fits') })
    expect(gateway.broker.counters.dropped.get('too_large')).toBe(1)
  })

  it('do not change for acknowledgements of what is not open [B54]', async () => {
    const gateway = await startGateway()
    const subscriber = await connectTo(gateway, 4, 's')
    await subscribed(subscriber, 'a', 1)
    await subscribed(subscriber, 'b', 2)
    const publisher = await connectTo(gateway, 4, 'p')
    publish(publisher, 0x32, 'a', 'x', 1)
    publish(publisher, 0x34, 'b', 'y', 2)
    await subscriber.next()
    await subscriber.next()
    const before = gateway.broker.counters.unexpectedAcks
    // PUBREC for QoS 1, PUBACK for QoS 2, PUBCOMP before PUBREL, identifiers that were never given.
    subscriber.send('50 02 00 01', '40 02 00 02', '70 02 00 02', '40 02 12 34', '70 02 12 34')
    // Whoever sends a PUBREC waits for a PUBREL.
    expect(hex(await subscriber.next())).toBe('62020001')
    await subscriber.quiet()
    expect(gateway.broker.counters.unexpectedAcks - before).toBe(5)
    expect(gateway.broker.counters.acknowledged).toBe(0)
    subscriber.send('40 02 00 01', '50 02 00 02')
    expect(hex(await subscriber.next())).toBe('62020002')
    subscriber.send('70 02 00 02')
    await subscriber.quiet()
    expect(gateway.broker.counters.acknowledged).toBe(2)
  })
})

describe('retained messages', () => {
  it('come behind the SUBACK, by retain handling', async () => {
    const gateway = await startGateway()
    const publisher = await connectTo(gateway, 4, 'p')
    publish(publisher, 0x33, 'r/1', 'one', 1)
    await publisher.next()
    const raw = await connectTo(gateway, 5, 's')
    subscribe(raw, 'r/#', 0x00)
    expect((await raw.next())[0]).toBe(0x90)
    expect(hex(await raw.next())).toBe(hex(packet(0x31, text('r/1'), '00', Buffer.from('one'))))
    subscribe(raw, 'r/#', 0x10)
    await raw.next()
    await raw.quiet()
    subscribe(raw, 'r/#', 0x20)
    await raw.next()
    await raw.quiet()
    subscribe(raw, 'r/+', 0x10)
    await raw.next()
    expect((await raw.next())[0]).toBe(0x31)
  })
})

describe('SUBSCRIBE', () => {
  it('is bounded in the bytes of all filters of a client', async () => {
    const gateway = await startGateway({ limits: { subscriptionsMax: 4 } })
    const raw = await gateway.dial()
    await raw.connect(5)
    const long = (first: string) => text(first + 'x'.repeat(600))
    raw.send(packet(0x82, '00 01 00', long('a'), '00', long('b'), '00', text('c'), '00'))
    expect(hex(await raw.next())).toBe('900600010000' + '9700')
    raw.send(packet(0x82, '00 02 00', long('a'), '01'), packet(0xa2, '00 03 00', long('a')))
    expect(hex(await raw.next())).toBe('9004000200' + '01')
    await raw.next()
    raw.send(packet(0x82, '00 04 00', long('b'), '00'))
    expect(hex(await raw.next())).toBe('9004000400' + '00')
  })

  it('answers each filter by itself', async () => {
    const gateway = await startGateway({ limits: { subscriptionsMax: 2 } })
    const five = await connectTo(gateway, 5, 'five')
    five.send(
      packet(
        0x82,
        '00 07 00',
        text('a'),
        '01',
        text('a#'),
        '00',
        text('$share/g/a'),
        '00',
        text('b'),
        '02',
        text('c'),
        '00'
      )
    )
    expect(hex(await five.next())).toBe(hex(packet(0x90, '00 07 00 01 8f 00 97 97')))
    const four = await connectTo(gateway, 4, 'four')
    four.send(packet(0x82, '00 07', text('a'), '01', text('#/a'), '00'))
    expect(hex(await four.next())).toBe('90040007' + '0180')
    five.send(packet(0xa2, '00 08 00', text('a'), text('zzz')))
    expect(hex(await five.next())).toBe(hex(packet(0xb0, '00 08 00 00 11')))
    four.send(packet(0xa2, '00 08', text('zzz')))
    expect(hex(await four.next())).toBe('b0020008')
  })

  it('of a lasting session is answered when the disk has it', async () => {
    const gateway = await startGateway()
    const raw = await connectTo(gateway, 4, 's', lasting)
    gateway.journal.isAutomatic = false
    subscribe(raw, 'a', 1)
    await raw.quiet()
    gateway.journal.sync()
    expect(hex(await raw.next())).toBe('9003000101')
  })
})

describe('wills', () => {
  const will = { topic: 'gone', payload: Buffer.from('bye'), qos: 0 as const, retain: false }

  it('are published when the connection is lost, and after DISCONNECT 0x04; not after DISCONNECT', async () => {
    const gateway = await startGateway()
    const watcher = await connectTo(gateway, 4, 'watcher')
    await subscribed(watcher, 'gone', 0)
    const normal = await connectTo(gateway, 4, 'normal', { will })
    normal.send('e0 00')
    await normal.rest()
    await watcher.quiet()
    const lost = await connectTo(gateway, 4, 'lost', { will })
    lost.destroy()
    expect((await watcher.next())[0]).toBe(0x30)
    const asked = await connectTo(gateway, 5, 'asked', { will })
    asked.send('e0 01 04')
    expect((await watcher.next())[0]).toBe(0x30)
    const broken = await connectTo(gateway, 4, 'broken', { will })
    broken.send('f0 00')
    expect(await broken.rest()).toEqual([])
    expect((await watcher.next())[0]).toBe(0x30)
  })
})
