import { describe, expect, it } from 'vitest'
import {
  connectTo,
  hex,
  lasting,
  publish,
  startGateway,
  subscribed
} from '../support/mqtt-moves.ts'
import { packet, text } from '../support/raw-mqtt.ts'

const CONNECT5 = packet(0x10, text('MQTT'), '05 02 00 3c 00', text('new'))

describe('a broker that drains', () => {
  for (const [isMoved, reasonCode] of [
    [false, 0x9c],
    [true, 0x9d]
  ] as const) {
    it(`sends version 5 elsewhere with 0x${reasonCode.toString(16)} and Server Reference, new and old`, async () => {
      const gateway = await startGateway()
      const old = await connectTo(gateway, 5, 'old')
      const four = await connectTo(gateway, 4, 'four')
      gateway.mqtt.drain('a:1883 b:1883', isMoved)
      const properties = { serverReference: 'a:1883 b:1883' }
      const fresh = await gateway.dial()
      fresh.version = 5
      fresh.send(CONNECT5)
      expect(await fresh.read()).toMatchObject({ cmd: 'connack', reasonCode, properties })
      expect(await fresh.rest()).toEqual([])
      gateway.mqtt.drainStep()
      expect(await old.read()).toMatchObject({ cmd: 'disconnect', reasonCode, properties })
      expect(await old.rest()).toEqual([])
      expect(await four.rest()).toEqual([])
    })
  }

  it('refuses version 3.1.1 with 0x03', async () => {
    const gateway = await startGateway()
    gateway.mqtt.drain('', false)
    const raw = await gateway.dial()
    expect(hex(await raw.connect(4))).toBe('20020003')
    expect(await raw.rest()).toEqual([])
  })

  it('names the servers of its options, or none', async () => {
    const gateway = await startGateway({ mqtt: { serverReference: 'other' } })
    const old = await connectTo(gateway, 5, 'old')
    gateway.mqtt.drain('', false)
    gateway.mqtt.drainStep()
    expect(await old.read()).toMatchObject({ properties: { serverReference: 'other' } })
    const none = await startGateway()
    const plain = await connectTo(none, 5, 'plain')
    none.mqtt.drain('', false)
    none.mqtt.drainStep()
    expect(hex(await plain.next())).toBe('e0019c')
  })

  it('leaves out what does not fit the Maximum Packet Size, the reason string first', async () => {
    const gateway = await startGateway()
    // 0xe0, length, reason, property length, 0x1c, two bytes of length, ten of the reference.
    for (const [bytes, wanted] of [
      [40, /^e0.*1f.*1c/],
      [22, /^e00f9c0d1c000a/],
      [23, /^e00f9c0d1c000a/]
    ] as const) {
      const raw = await connectTo(gateway, 5, `s${bytes}`, {
        properties: { maximumPacketSize: bytes }
      })
      gateway.mqtt.drain('host:12345', false)
      gateway.mqtt.drainStep()
      expect(hex(await raw.exact())).toMatch(wanted)
      gateway.mqtt.stopDraining()
    }
  })

  it('closes fifty in a step, whatever it has', async () => {
    const gateway = await startGateway()
    for (let i = 0; i < 60; i++) await connectTo(gateway, 4, `c${i}`)
    gateway.mqtt.drain('', false)
    expect(gateway.mqtt.drainStatus()).toMatchObject({ draining: true, connections: 60 })
    gateway.mqtt.drainStep()
    expect(gateway.mqtt.drainStatus().connections).toBeLessThanOrEqual(10)
    gateway.mqtt.drainStep()
    expect(gateway.mqtt.drainStatus().connections).toBe(0)
  })

  it('keeps sessions, and takes clients again when it is told to', async () => {
    const gateway = await startGateway()
    const first = await connectTo(gateway, 5, 's', lasting)
    await subscribed(first, 'a', 1)
    gateway.mqtt.drain('', false)
    gateway.mqtt.drainStep()
    await first.rest()
    gateway.mqtt.stopDraining()
    const publisher = await connectTo(gateway, 4, 'p')
    publish(publisher, 0x32, 'a', 'x', 1)
    await publisher.next()
    const second = await gateway.dial()
    expect((await second.connect(5, { clientId: 's', ...lasting }))[2]).toBe(1)
    expect((await second.next())[0]).toBe(0x32)
  })
})

describe('a broker that stops', () => {
  it('says so to version 5: 0x8B', async () => {
    const gateway = await startGateway()
    const five = await connectTo(gateway, 5, 'five')
    const four = await connectTo(gateway, 4, 'four')
    const closed = gateway.mqtt.close()
    expect((await five.rest()).map(hex)).toEqual(['e0018b'])
    expect(await four.rest()).toEqual([])
    await closed
  })
})
