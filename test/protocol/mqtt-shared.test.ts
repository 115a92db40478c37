/** Shared subscriptions on the wire, byte by byte (MQTT 5 §4.8.2; from 3.1.1 clients too). */
import { describe, expect, it } from 'vitest'
import type { Gateway } from '../support/gateway.ts'
import {
  connectTo,
  hex,
  lasting,
  publish,
  startGateway,
  subscribe,
  subscribed
} from '../support/mqtt-moves.ts'
import { packet, type RawMqtt, text } from '../support/raw-mqtt.ts'

const JOBS = '$share/g/jobs/#'

async function member(
  gateway: Gateway,
  version: 4 | 5,
  id: string,
  qos = 1,
  options: object = {}
): Promise<RawMqtt> {
  const raw = await connectTo(gateway, version, id, options)
  await subscribed(raw, JOBS, qos)
  return raw
}

/** Publishes one message with QoS 1 and waits for its PUBACK. */
async function job(raw: RawMqtt, payload: string): Promise<void> {
  publish(raw, 0x32, 'jobs/x', payload, 1)
  expect(hex(await raw.next())).toBe('40020001')
}

/** The PUBLISH that a member gets. */
function delivery(raw: RawMqtt, payload: string, id: number, first = 0x32): string {
  const properties = raw.version === 5 ? '00' : ''
  const packetId = [id >> 8, id & 255]
  return hex(packet(first, text('jobs/x'), packetId, properties, Buffer.from(payload)))
}

describe('a shared subscription', () => {
  it('is announced by silence, and granted to version 5 and 3.1.1 alike, v5 [MQTT-4.8.2-1]', async () => {
    const gateway = await startGateway()
    const raw = await gateway.dial()
    const connack = await raw.connect(5, { clientId: 'five' })
    expect([...connack.subarray(5)]).not.toContain(0x2a)
    await subscribed(raw, JOBS, 2)
    await member(gateway, 4, 'four', 1)
    raw.send(packet(0xa2, '00 08 00', text(JOBS), text(JOBS), text('$share/h/jobs/#')))
    expect(hex(await raw.next())).toBe(hex(packet(0xb0, '00 08 00 00 11 11')))
  })

  it('needs a name without wildcards and a filter behind it, v5 [MQTT-4.8.2-2]', async () => {
    const gateway = await startGateway()
    const raw = await connectTo(gateway, 5, 'five')
    const bad = ['$share/', '$share//a', '$share/g', '$share/g/', '$share/g+/a', '$share/#/a']
    for (const filter of [...bad, '$share/g/a#']) {
      subscribe(raw, filter, 1)
      expect((await raw.next()).at(-1), filter).toBe(0x8f)
    }
    await subscribed(raw, '$share/$x/ /#', 1)
  })

  it('with no local is a protocol error, v5 [MQTT-3.8.3-4]', async () => {
    const gateway = await startGateway()
    const raw = await connectTo(gateway, 5, 'five')
    subscribe(raw, JOBS, 0x05)
    expect((await raw.rest()).map(([first, , reason]) => [first, reason])).toEqual([[0xe0, 0x82]])
  })

  it('gives each message to one member in turn, with its granted QoS, v5 [MQTT-4.8.2-3]', async () => {
    const gateway = await startGateway()
    const one = await member(gateway, 5, 'one', 2)
    const two = await member(gateway, 4, 'two', 0)
    const from = await connectTo(gateway, 4, 'from')
    await job(from, 'a')
    await job(from, 'b')
    await job(from, 'c')
    expect(hex(await one.next())).toBe(delivery(one, 'a', 1))
    expect(hex(await one.next())).toBe(delivery(one, 'c', 2))
    expect(hex(await two.next())).toBe(hex(packet(0x30, text('jobs/x'), Buffer.from('b'))))
    await one.quiet()
    await two.quiet()
  })

  it('gives nothing to a member whose receive maximum is used up, v5 [MQTT-3.3.4-9]', async () => {
    const gateway = await startGateway()
    const one = await member(gateway, 5, 'one', 1, { properties: { receiveMaximum: 1 } })
    const from = await connectTo(gateway, 4, 'from')
    await job(from, 'a')
    await job(from, 'b')
    expect(hex(await one.next())).toBe(delivery(one, 'a', 1))
    await one.quiet()
    const two = await member(gateway, 5, 'two')
    expect(hex(await two.next())).toBe(delivery(two, 'b', 1))
    await job(from, 'c')
    expect(hex(await two.next())).toBe(delivery(two, 'c', 2))
    two.send('40 02 00 01', '40 02 00 02')
    one.send('40 02 00 01')
    await one.quiet()
    await job(from, 'd')
    expect(hex(await one.next())).toBe(delivery(one, 'd', 2))
  })

  it('drops what a member refuses, and sends it to nobody else, v5 [MQTT-4.8.2-6]', async () => {
    const gateway = await startGateway()
    const one = await member(gateway, 5, 'one', 2)
    const from = await connectTo(gateway, 5, 'from')
    publish(from, 0x32, 'jobs/x', 'a', 1)
    publish(from, 0x34, 'jobs/x', 'b', 2)
    await one.next()
    await one.next()
    const two = await member(gateway, 5, 'two', 2)
    one.send(packet(0x40, '00 01 83'), packet(0x50, '00 02 97'))
    await one.quiet()
    one.destroy()
    await gateway.until(() => gateway.broker.counters.mqttConnections === 2)
    await two.quiet()
    expect(gateway.broker.vhosts.get('/')!.groups.get(JOBS)!.queue.count).toBe(0)
  })

  it('hands what a lost session had not acknowledged to another, QoS 2 to nobody, v5 [MQTT-4.8.2-5]', async () => {
    const gateway = await startGateway()
    const one = await member(gateway, 5, 'one', 2)
    const from = await connectTo(gateway, 5, 'from')
    publish(from, 0x32, 'jobs/x', 'a', 1)
    publish(from, 0x34, 'jobs/x', 'b', 2)
    expect(hex(await one.next())).toBe(delivery(one, 'a', 1))
    expect(hex(await one.next())).toBe(delivery(one, 'b', 2, 0x34))
    const two = await member(gateway, 5, 'two', 2)
    one.destroy()
    expect(hex(await two.next())).toBe(delivery(two, 'a', 1))
    await two.quiet()
  })

  it('completes QoS 2 with a client that comes back, the same packet again, v5 [MQTT-4.8.2-4]', async () => {
    const gateway = await startGateway()
    const one = await member(gateway, 4, 'one', 2, lasting)
    const two = await member(gateway, 4, 'two', 2, lasting)
    const from = await connectTo(gateway, 4, 'from')
    publish(from, 0x34, 'jobs/x', 'a', 1)
    expect(hex(await one.next())).toBe(delivery(one, 'a', 1, 0x34))
    one.destroy()
    await gateway.until(() => gateway.broker.counters.mqttConnections === 2)
    await two.quiet()
    const again = await gateway.dial()
    expect(hex(await again.connect(4, { clientId: 'one', ...lasting }))).toBe('20020100')
    expect(hex(await again.next())).toBe(delivery(again, 'a', 1, 0x3c))
    again.send('50 02 00 01')
    expect(hex(await again.next())).toBe('62020001')
    again.send('70 02 00 01')
    await again.quiet()
    expect(gateway.broker.vhosts.get('/')!.groups.get(JOBS)!.queue.moves?.size).toBe(0)
  })

  it('brings no retained messages, and keeps the retain flag for who asked for it', async () => {
    const gateway = await startGateway()
    const from = await connectTo(gateway, 4, 'from')
    publish(from, 0x33, 'jobs/x', 'old', 1)
    await from.next()
    const one = await member(gateway, 5, 'one', 1 | 8)
    await one.quiet()
    publish(from, 0x33, 'jobs/x', 'new', 1)
    await from.next()
    expect(hex(await one.next())).toBe(delivery(one, 'new', 1, 0x33))
  })

  it('keeps the order of what one member gets', async () => {
    const gateway = await startGateway()
    const one = await member(gateway, 5, 'one', 1, { properties: { receiveMaximum: 2 } })
    const from = await connectTo(gateway, 4, 'from')
    for (const payload of 'abcdef') await job(from, payload)
    for (const [at, payload] of [...'abcdef'].entries()) {
      expect(hex(await one.next())).toBe(delivery(one, payload, at + 1))
      one.send(packet(0x40, [0, at + 2]))
    }
  })
})
