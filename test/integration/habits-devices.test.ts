/**
 * Devices as they are: Zigbee2MQTT publishes all its states at once, ESPHome keeps its session, Tasmota leaves a last
 * will, two clients share one identifier by mistake, and some never ping.
 */
import { connectAsync } from 'mqtt'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { discovery, stateTopic, subscribePacket } from '../support/home.ts'
import { readMetrics } from '../support/metrics.ts'
import { Program } from '../support/program.ts'
import { bytes, packet, RawMqtt, text } from '../support/raw-mqtt.ts'

const STATES = 500
const SUBSCRIPTIONS = 1_000

let program: Program

beforeAll(async () => {
  program = await Program.start()
})
afterAll(async () => {
  await program.remove()
})

async function dial(): Promise<RawMqtt> {
  return await RawMqtt.dial(program.port('mqtt'))
}

/** Subscribed to one filter with QoS 1. */
async function watcher(clientId: string, filter: string): Promise<RawMqtt> {
  const raw = await dial()
  await raw.connect(4, { clientId })
  raw.send(packet(0x82, '00 01', text(filter), '01'))
  await raw.next()
  return raw
}

describe('Zigbee2MQTT', () => {
  it('publishes 500 retained states at once, in their order, and its availability when it dies', async () => {
    const home = await dial()
    await home.connect(4, { clientId: 'homeassistant' })
    const filters = Array.from({ length: SUBSCRIPTIONS - 1 }, (_, device) => stateTopic(device))
    home.send(
      subscribePacket(4, 1, filters.slice(0, 500)),
      subscribePacket(4, 2, [...filters.slice(500), 'zigbee2mqtt/bridge/state'])
    )
    expect((await home.next()).subarray(5)).toEqual(Buffer.alloc(500, 1))
    expect((await home.next()).subarray(5)).toEqual(Buffer.alloc(500, 1))

    const will = {
      topic: 'zigbee2mqtt/bridge/state',
      payload: Buffer.from('{"state":"offline"}'),
      qos: 1,
      retain: true
    } as const
    const bridge = await dial()
    await bridge.connect(4, { clientId: 'zigbee2mqtt', will })
    const online = Buffer.from('{"state":"online"}')
    bridge.send(packet(0x33, text(will.topic), '00 01', online))
    expect((await bridge.next()).toString('hex')).toBe('40020001')
    const states = Array.from({ length: STATES }, (_, device) =>
      packet(0x31, text(stateTopic(device)), Buffer.from(discovery(device)))
    )
    bridge.send(Buffer.concat(states))
    await bridge.quiet()

    expect(await home.read()).toMatchObject({ topic: will.topic, retain: false, payload: online })
    for (let device = 0; device < STATES; device++) {
      const payload = Buffer.from(discovery(device))
      expect(await home.read()).toMatchObject({ topic: stateTopic(device), retain: false, payload })
    }
    await home.quiet()
    bridge.destroy()
    expect(await home.read()).toMatchObject({ topic: will.topic, payload: will.payload })
    home.destroy()

    const late = await watcher('late', 'zigbee2mqtt/#')
    const seen = new Set<string>()
    for (let count = 0; count <= STATES; count++) {
      const found = await late.read()
      expect(found).toMatchObject({ cmd: 'publish', retain: true })
      if (found.cmd === 'publish') seen.add(found.topic)
      if (found.cmd === 'publish' && found.topic === will.topic)
        expect(found.payload).toEqual(will.payload)
    }
    expect(seen.size).toBe(STATES + 1)
    late.destroy()
  })
})

describe('firmware', () => {
  it('ESPHome comes back to its session: nothing is subscribed again, and commands have waited', async () => {
    const hello = { clientId: 'esphome', clean: false, keepalive: 15 } as const
    const device = await dial()
    expect((await device.connect(4, hello)).toString('hex')).toBe('20020000')
    device.send(packet(0x82, '00 01', text('esphome/switch/relay/command'), '01'))
    await device.next()
    device.send(
      packet(0x31, text('homeassistant/switch/esphome/relay/config'), Buffer.from(discovery(0)))
    )
    await device.quiet()
    device.destroy()
    const home = await connectAsync(`mqtt://127.0.0.1:${program.port('mqtt')}`)
    for (const command of ['ON', 'OFF', 'ON']) {
      await home.publishAsync('esphome/switch/relay/command', command, { qos: 1 })
    }
    await home.endAsync()
    const again = await dial()
    expect((await again.connect(4, hello)).toString('hex')).toBe('20020100')
    for (const command of ['ON', 'OFF', 'ON']) {
      const found = await again.read()
      expect(found).toMatchObject({ qos: 1, payload: Buffer.from(command) })
      const id = found.messageId!
      again.send([0x40, 2, id >> 8, id & 255])
    }
    await again.quiet()
    again.destroy()
  })

  it('Tasmota says Online, and its last will Offline stands when it is gone', async () => {
    const topic = 'tele/tasmota_1/LWT'
    const will = { topic, payload: Buffer.from('Offline'), qos: 1, retain: true } as const
    const hello = { clientId: 'DVES_1', clean: true, keepalive: 30, will } as const
    const watching = await watcher('openhab', 'tele/+/LWT')
    const seen: string[] = []
    const expectNext = async (payload: string) => {
      const found = await watching.read()
      expect(found).toMatchObject({ topic, payload: Buffer.from(payload), retain: false })
      const id = found.messageId!
      watching.send([0x40, 2, id >> 8, id & 255])
      seen.push(payload)
    }
    for (let turn = 0; turn < 3; turn++) {
      const device = await dial()
      await device.connect(4, hello)
      device.send(packet(0x33, text(topic), '00 01', Buffer.from('Online')))
      await device.next()
      await expectNext('Online')
      device.destroy()
      await expectNext('Offline')
    }
    watching.destroy()
    const late = await watcher('late', topic)
    expect(await late.read()).toMatchObject({ payload: Buffer.from('Offline'), retain: true })
    late.destroy()
  })
})

describe('two clients with one identifier, 50 times a second', () => {
  // As many as an id may change hands at once: beyond it one a second does (bad-inputs-floods.test.ts).
  const TAKEOVERS = 10
  const EVERY_MS = 20
  const wait = (ms: number) => new Promise(resolve => setTimeout(resolve, ms))

  it.each([
    ['with', true],
    ['without', false]
  ] as const)('%s clean session take turns, and nobody else notices', async (_name, clean) => {
    const before = await readMetrics(program)
    const other = await watcher('other', 'steady/#')
    const publisher = await dial()
    await publisher.connect(4, { clientId: 'publisher' })
    const clientId = `twin-${clean}`
    const got = new Set<string>()
    const keep = (raw: RawMqtt, packets: readonly Buffer[]) => {
      for (const found of packets) {
        if (found[0]! >> 4 !== 3) continue
        const end = 4 + found.readUInt16BE(2)
        got.add(found.subarray(end + 2).toString())
        raw.send([0x40, 2], found.subarray(end, end + 2))
      }
    }
    let current: RawMqtt | null = null
    for (let turn = 0; turn < TAKEOVERS; turn++) {
      const next = await dial()
      const answer = await next.connect(4, { clientId, clean })
      expect(answer.toString('hex')).toBe(clean || turn === 0 ? '20020000' : '20020100')
      // Only the first one subscribes when the session stays.
      if (clean || turn === 0) next.send(packet(0x82, '00 01', text('twins/#'), '01'))
      // Whoever was there is closed, after what it still got.
      if (current !== null) keep(current, await current.rest())
      current = next
      const body = Buffer.from(`${turn}`)
      publisher.send(
        packet(0x32, text('twins/x'), '00 01', body),
        packet(0x32, text('steady/x'), '00 02', body)
      )
      expect(await publisher.read()).toMatchObject({ cmd: 'puback', messageId: 1 })
      expect(await publisher.read()).toMatchObject({ cmd: 'puback', messageId: 2 })
      await wait(EVERY_MS)
    }
    for (let turn = 0; turn < TAKEOVERS; turn++) {
      const found = await other.read()
      expect(found).toMatchObject({
        topic: 'steady/x',
        payload: Buffer.from(`${turn}`),
        dup: false
      })
      const id = found.messageId!
      other.send([0x40, 2, id >> 8, id & 255])
    }
    await other.quiet()
    // The last one is still there; leaving lets its packets be counted.
    const last = await dial()
    await last.connect(4, { clientId, clean })
    keep(current!, await current!.rest())
    if (!clean) {
      while (got.size < TAKEOVERS) keep(last, [await last.next()])
      const all = Array.from({ length: TAKEOVERS }, (_, turn) => `${turn}`)
      expect([...got].sort()).toEqual(all.sort())
    }
    const reading = await readMetrics(program)
    expect(reading.sum('connections') - before.sum('connections')).toBe(3)
    for (const raw of [last, other, publisher]) raw.destroy()
  })
})

describe('a client that never pings', () => {
  it('stays with keepalive 0, and is one connection more', async () => {
    const silent = await dial()
    await silent.connect(4, { clientId: 'silent', keepalive: 0 })
    silent.send(bytes(packet(0x82, '00 01', text('silent'), '00')))
    await silent.next()
    const other = await dial()
    await other.connect(4, { clientId: 'other' })
    other.send(packet(0x30, text('silent'), Buffer.from('still here?')))
    expect(await silent.read()).toMatchObject({ payload: Buffer.from('still here?') })
    silent.destroy()
    other.destroy()
  })
})
