/**
 * A house full of devices: Home Assistant, which asks for everything at once and comes back with a clean start;
 * Zigbee2MQTT, which publishes all its states at once; the firmware of ESPHome and Tasmota.
 */
import { type IPublishPacket, connectAsync } from 'mqtt'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  announce,
  configTopic,
  DEVICES,
  discovery,
  FILTERS,
  FILTERS_A_PACKET,
  houseFilters,
  moveIn
} from '../support/home.ts'
import { readMetrics } from '../support/metrics.ts'
import { Program } from '../support/program.ts'
import { packet, RawMqtt, text } from '../support/raw-mqtt.ts'
import { requireProgram } from '../support/require.ts'
import { startPython } from '../support/run.ts'

/** Far above what it takes; no measure of speed. */
const SLOW_SECONDS = 30
const RECONNECTS = 20
/** A process that has been given work a second time may still grow by less than one house of messages. */
const GROWTH_BYTES_MAX = 24 * 1024 * 1024

let program: Program

beforeAll(async () => {
  program = await Program.start()
  await announce(program.port('mqtt'))
})
afterAll(async () => {
  await program.remove()
})

const port = () => program.port('mqtt')

/** Says how long it took, where somebody looks. */
function say(what: string, seconds: number): void {
  process.stdout.write(`${what}: ${seconds.toFixed(2)} s\n`)
  expect(seconds).toBeLessThan(SLOW_SECONDS)
}

describe('Home Assistant', () => {
  describe.each([4, 5] as const)('version %i', version => {
    it('gets 5000 subscriptions and each of 2000 retained messages once', async () => {
      const { raw, arrived, seconds } = await moveIn(port(), version, houseFilters(), DEVICES)
      say(`5,000 subscriptions, 2,000 retained messages, version ${version}`, seconds)
      raw.destroy()
      expect(arrived).toMatchObject({ granted: FILTERS, messages: DEVICES, retained: DEVICES })
      expect(arrived.topics.size).toBe(DEVICES)
    })

    it('gets them once as well through its wildcards for discovery', async () => {
      const discovered = ['homeassistant/+/+/config', 'homeassistant/+/+/+/config']
      const states = houseFilters().slice(DEVICES)
      const home = await moveIn(port(), version, [...discovered, ...states], DEVICES)
      home.raw.destroy()
      expect(home.arrived).toMatchObject({ messages: DEVICES, retained: DEVICES })
      expect(home.arrived.topics.size).toBe(DEVICES)
    })

    it('gets them for each of overlapping subscriptions, and what is published then once', async () => {
      // Each filter is a subscription that begins [MQTT-3.8.4-4], and each brings what is retained [MQTT-3.3.1-6].
      const filters = ['homeassistant/#', ...houseFilters()]
      const { raw, arrived } = await moveIn(port(), version, filters, 2 * DEVICES)
      expect(arrived).toMatchObject({ granted: filters.length, messages: 2 * DEVICES })
      expect(new Set(arrived.topics.values())).toEqual(new Set([2]))
      const device = await RawMqtt.dial(port())
      await device.connect(4, { clientId: 'device' })
      for (let at = 0; at < 100; at++) {
        device.send(packet(0x30, text(configTopic(at)), Buffer.from(discovery(at))))
      }
      await device.quiet()
      for (let at = 0; at < 100; at++) {
        expect(await raw.read()).toMatchObject({ topic: configTopic(at), retain: false })
      }
      await raw.quiet()
      raw.destroy()
      device.destroy()
    })
  })

  it('leaves nothing behind when it comes back twenty times', async () => {
    const filters = houseFilters()
    const visit = async (version: 4 | 5) => {
      const { raw, arrived } = await moveIn(port(), version, filters, DEVICES)
      expect(arrived).toMatchObject({ granted: FILTERS, messages: DEVICES })
      // The next one takes its place while it is there, as after a network that was lost.
      return raw
    }
    const left: RawMqtt[] = []
    for (let warm = 0; warm < 6; warm++) left.push(await visit(5))
    const before = await readMetrics(program)
    for (let count = 0; count < RECONNECTS; count++) left.push(await visit(count % 2 === 0 ? 4 : 5))
    const after = await readMetrics(program)
    expect(after.sum('subscriptions')).toBe(FILTERS)
    expect(after.sum('connections')).toBe(before.sum('connections'))
    expect(after.sum('retained_messages')).toBe(before.sum('retained_messages'))
    const grown = after.sum('resident_memory_bytes') - before.sum('resident_memory_bytes')
    expect(grown).toBeLessThan(GROWTH_BYTES_MAX)
    for (const raw of left) raw.destroy()
  })

  it('is seen by its birth and its will, retained', async () => {
    const will = {
      topic: 'homeassistant/status',
      payload: Buffer.from('offline'),
      qos: 0,
      retain: true
    } as const
    const come = async () => {
      const raw = await RawMqtt.dial(port())
      await raw.connect(4, { clientId: 'homeassistant', will })
      raw.send(packet(0x31, text('homeassistant/status'), Buffer.from('online')))
      await raw.quiet()
      return raw
    }
    const first = await come()
    const early = await RawMqtt.dial(port())
    await early.connect(4, { clientId: 'early' })
    early.send(packet(0x82, '00 01', text('homeassistant/status'), '01'))
    await early.next()
    expect(await early.read()).toMatchObject({ retain: true, payload: Buffer.from('online') })
    first.destroy()
    expect(await early.read()).toMatchObject({ retain: false, payload: Buffer.from('offline') })
    const late = await RawMqtt.dial(port())
    await late.connect(4, { clientId: 'late' })
    late.send(packet(0x82, '00 01', text('homeassistant/+'), '01'))
    await late.next()
    expect(await late.read()).toMatchObject({ retain: true, payload: Buffer.from('offline') })
    const second = await come()
    for (const raw of [early, late]) {
      expect(await raw.read()).toMatchObject({ retain: false, payload: Buffer.from('online') })
      raw.destroy()
    }
    // It leaves as one does: its will is not published [MQTT-3.14.4-3].
    second.send('e0 00')
    expect(await second.rest()).toEqual([])
  })
})

describe('as its libraries do it', () => {
  it('mqtt.js gets 5000 subscriptions and each of 2000 retained messages once', async () => {
    const startedAt = performance.now()
    const client = await connectAsync(`mqtt://127.0.0.1:${port()}`, {
      clientId: 'homeassistant-js',
      protocolVersion: 5,
      clean: true
    })
    const topics = new Map<string, number>()
    const done = new Promise<void>(resolve => {
      client.on('message', (topic: string, _payload: Buffer, { retain }: IPublishPacket) => {
        if (retain) topics.set(topic, (topics.get(topic) ?? 0) + 1)
        if (topics.size === DEVICES) resolve()
      })
    })
    const filters = houseFilters()
    for (let at = 0; at < filters.length; at += FILTERS_A_PACKET) {
      const grants = await client.subscribeAsync(filters.slice(at, at + FILTERS_A_PACKET), {
        qos: 1
      })
      expect(grants.map(({ qos }) => qos)).toEqual(Array(FILTERS_A_PACKET).fill(1))
    }
    await done
    say('mqtt.js', (performance.now() - startedAt) / 1_000)
    await client.endAsync()
    expect(new Set(topics.values())).toEqual(new Set([1]))
  })

  const PAHO = `
import sys, time, threading
import paho.mqtt.client as mqtt
port = int(sys.argv[1])
filters = ['homeassistant/sensor/device_%d/config' % n for n in range(${DEVICES})]
filters += ['zigbee2mqtt/device_%d' % n for n in range(${FILTERS - DEVICES})]
topics, granted, done = {}, [0], threading.Event()
def check():
    if granted[0] == ${FILTERS} and len(topics) == ${DEVICES}: done.set()
def on_connect(client, *_):
    for at in range(0, len(filters), ${FILTERS_A_PACKET}):
        client.subscribe([(name, 1) for name in filters[at:at + ${FILTERS_A_PACKET}]])
def on_subscribe(_c, _u, _mid, codes, *_):
    granted[0] += len([code for code in codes if code == 1])
    check()
def on_message(_c, _u, message):
    topics[message.topic] = topics.get(message.topic, 0) + message.retain
    check()
client = mqtt.Client(client_id='homeassistant-py', clean_session=True)
client.on_connect, client.on_subscribe, client.on_message = on_connect, on_subscribe, on_message
start = time.monotonic()
client.connect('127.0.0.1', port)
client.loop_start()
assert done.wait(${SLOW_SECONDS}), (granted, len(topics))
seconds = time.monotonic() - start
time.sleep(0.2)
client.disconnect()
print(granted[0], len(topics), sum(topics.values()), '%.2f' % seconds)
`

  requireProgram('python3:paho.mqtt')('paho', () => {
    it('gets 5000 subscriptions and each of 2000 retained messages once', async () => {
      const { code, stdout, stderr } = await startPython(PAHO, [`${port()}`]).result
      expect(stderr).toBe('')
      expect(code).toBe(0)
      const [granted, topics, retained, seconds] = stdout.trim().split(' ').map(Number)
      say('paho', seconds!)
      expect([granted, topics, retained]).toEqual([FILTERS, DEVICES, DEVICES])
    })
  })
})
