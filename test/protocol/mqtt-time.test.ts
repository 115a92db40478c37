import { describe, expect, it } from 'vitest'
import {
  connectTo,
  hex,
  lasting,
  publish,
  startGateway,
  subscribed
} from '../support/mqtt-moves.ts'
import { bytes } from '../support/raw-mqtt.ts'

describe('time', () => {
  it('closes who sends no CONNECT, or one a byte at a time [B11]', async () => {
    const gateway = await startGateway()
    const silent = await gateway.dial()
    const dripping = await gateway.dial()
    dripping.send('10')
    while (gateway.mqtt.count < 2 || gateway.sockets.bytesIn < 1) await new Promise(setImmediate)
    gateway.pass(9)
    dripping.send('10')
    while (gateway.sockets.bytesIn < 2) await new Promise(setImmediate)
    expect(gateway.mqtt.count).toBe(2)
    gateway.pass(1)
    expect(await silent.rest()).toEqual([])
    expect(await dripping.rest()).toEqual([])
  })

  it('closes who is silent for one and a half keepalives, and says so', async () => {
    const gateway = await startGateway()
    const raw = await connectTo(gateway, 5, 'x', { keepalive: 10 })
    gateway.pass(15)
    await raw.quiet()
    gateway.pass(16)
    expect((await raw.rest()).map(hex)).toEqual(['e0018d'])
  })

  it('does not count a stall of our own against a client [O12]', async () => {
    const gateway = await startGateway()
    const raw = await connectTo(gateway, 4, 'x', { keepalive: 10 })
    gateway.clock.advance(60_000)
    gateway.mqtt.tick()
    await raw.quiet()
  })

  it('never closes a client with keepalive 0', async () => {
    const gateway = await startGateway()
    const raw = await connectTo(gateway, 4, 'x', { keepalive: 0 })
    gateway.pass(100_000)
    await raw.quiet()
  })
})

describe('the disk alarm', () => {
  it('is told to version 5', async () => {
    const gateway = await startGateway()
    const subscriber = await connectTo(gateway, 4, 's', lasting)
    await subscribed(subscriber, 'a', 2)
    const raw = await connectTo(gateway, 5, 'p')
    gateway.alarm(true)
    publish(raw, 0x32, 'a', 'x', 1)
    expect(hex(await raw.next())).toBe('4003000197')
    publish(raw, 0x34, 'a', 'x', 2)
    expect(hex(await raw.next())).toBe('5003000297')
    publish(raw, 0x32, 'nobody', 'x', 3)
    expect(hex(await raw.next())).toBe('4003000310')
  })

  it('holds version 3.1.1, in order, answers its pings, and lets go when it has passed', async () => {
    const gateway = await startGateway()
    const subscriber = await connectTo(gateway, 4, 's', lasting)
    await subscribed(subscriber, 'a', 2)
    const raw = await connectTo(gateway, 4, 'p')
    gateway.alarm(true)
    publish(raw, 0x32, 'a', '1', 1)
    publish(raw, 0x34, 'a', '2', 2)
    publish(raw, 0x32, 'nobody', '3', 3)
    await raw.quiet()
    gateway.pass(59)
    await raw.quiet()
    gateway.alarm(false)
    expect(hex(await raw.next())).toBe('40020001')
    expect(hex(await raw.next())).toBe('50020002')
    expect(hex(await raw.next())).toBe('40020003')
    expect((await subscriber.next()).at(-1)).toBe(0x31)
    expect((await subscriber.next()).at(-1)).toBe(0x32)
    expect(gateway.broker.counters.dropped.get('disk_alarm')).toBe(0)
    expect(gateway.broker.counters.mqttReceived).toEqual([0, 2, 1])
  })

  it('closes version 3.1.1 after a minute, without an acknowledgement', async () => {
    const gateway = await startGateway()
    const subscriber = await connectTo(gateway, 4, 's', lasting)
    await subscribed(subscriber, 'a', 2)
    const raw = await connectTo(gateway, 4, 'p', { keepalive: 0 })
    gateway.alarm(true)
    publish(raw, 0x32, 'a', '1', 1)
    await raw.quiet()
    gateway.pass(60)
    expect(await raw.rest()).toEqual([])
  })

  it('stops reading a version 3.1.1 client that goes on publishing', async () => {
    const gateway = await startGateway({ limits: { alarmHoldBytes: 1_000 } })
    const subscriber = await connectTo(gateway, 4, 's', lasting)
    await subscribed(subscriber, 'a', 1)
    const raw = await connectTo(gateway, 4, 'p')
    gateway.alarm(true)
    for (let i = 1; i <= 200; i++) publish(raw, 0x32, 'a', 'x'.repeat(10_000), i)
    while (gateway.sockets.bytesIn < 10_000) await new Promise(setImmediate)
    for (let i = 0; i < 50; i++) await new Promise(setImmediate)
    expect(gateway.sockets.bytesIn).toBeLessThan(200_000)
    gateway.alarm(false)
    for (let i = 1; i <= 200; i++) expect(hex(await raw.next())).toBe(hex(bytes('40 02', [0, i])))
  })
})
