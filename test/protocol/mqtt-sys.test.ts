import { describe, expect, it, onTestFinished, vi } from 'vitest'
import { Report } from '../../src/broker/report.ts'
import { SysTopics } from '../../src/broker/sys-topics.ts'
import type { Gateway } from '../support/gateway.ts'
import { connectTo, publish, startGateway, subscribe, subscribed } from '../support/mqtt-moves.ts'
import { Principal } from '../../src/core/principal.ts'
import { packet, type RawMqtt, text } from '../support/raw-mqtt.ts'

const MONITOR = new Principal('monitor', ['monitoring'], '/', [], [], true)

interface Told {
  topic: string
  payload: string
  qos: number
  retain: boolean
}

async function startWithSys(clientStates = true): Promise<{ gateway: Gateway; sys: SysTopics }> {
  const gateway = await startGateway({
    authenticate: () => Promise.resolve({ ok: true, principal: MONITOR } as const)
  })
  const report = new Report(gateway.broker, () => ({
    bytesInTotal: gateway.sockets.bytesIn,
    bytesOutTotal: gateway.sockets.bytesOut,
    socketsTotal: 0,
    loginFailuresTotal: 0,
    connectionsOpen: 0,
    connectionsRefusedTotal: 0,
    connectionsDelayedTotal: 0,
    loopLagP99Ms: 0
  }))
  const sys = new SysTopics(gateway.broker, report, '1.2.3', {
    intervalSeconds: 3_600,
    clientStates
  })
  sys.start()
  onTestFinished(() => sys.close())
  return { gateway, sys }
}

/** Everything up to the answer of a ping. */
async function told(raw: RawMqtt): Promise<Told[]> {
  const found: Told[] = []
  for (;;) {
    raw.send('c0 00')
    for (let next = await raw.read(); ; next = await raw.read()) {
      if (next.cmd === 'pingresp') return found
      if (next.cmd !== 'publish') throw new Error(`unexpected ${next.cmd}`)
      const { topic, payload, qos, retain } = next
      found.push({ topic, payload: String(payload), qos, retain })
    }
  }
}

function shown(all: readonly Told[], name: string): string | undefined {
  return all.find(({ topic }) => topic === `$SYS/broker/${name}`)?.payload
}

describe('$SYS', () => {
  it('shows the values of the moment to a new subscription, retained and at QoS 0', async () => {
    const { gateway } = await startWithSys(false)
    const publisher = await connectTo(gateway, 4, 'p')
    publish(publisher, 0x30, 'a', 'twelve bytes')
    await publisher.quiet()
    const raw = await connectTo(gateway, 4, 'x')
    await subscribed(raw, '$SYS/#', 2)
    const all = await told(raw)
    expect(all.length).toBeGreaterThan(40)
    expect(all.every(({ retain, qos }) => retain && qos === 0)).toBe(true)
    expect(new Set(all.map(({ topic }) => topic)).size).toBe(all.length)
    expect(shown(all, 'version')).toBe('motemq version 1.2.3')
    expect(shown(all, 'clients/connected')).toBe('2')
    expect(shown(all, 'publish/messages/received')).toBe('1')
    expect(shown(all, 'publish/bytes/received')).toBe('12')
    expect(shown(all, 'subscriptions/count')).toBe('1')
    // CONNECT, PUBLISH, PINGREQ; CONNECT, SUBSCRIBE.
    expect(shown(all, 'messages/received')).toBe('5')
    // CONNACK, PINGRESP; CONNACK, SUBACK.
    expect(shown(all, 'messages/sent')).toBe('4')
  })

  it('counts what it sends: every packet, and payload bytes', async () => {
    const { gateway } = await startWithSys(false)
    const raw = await connectTo(gateway, 5, 'x')
    await subscribed(raw, 'a', 1)
    publish(raw, 0x32, 'a', 'four', 1)
    expect((await raw.next())[0]).toBe(0x32)
    expect((await raw.next())[0]).toBe(0x40)
    await subscribed(raw, '$SYS/broker/+/+/sent', 0)
    expect(shown(await told(raw), 'publish/bytes/sent')).toBe('4')
    await subscribed(raw, '$SYS/broker/messages/sent', 0)
    // CONNACK, SUBACK, PUBLISH, PUBACK, SUBACK, the two values of that filter, PINGRESP, SUBACK.
    expect(shown(await told(raw), 'messages/sent')).toBe('9')
  })

  it('tells what has changed once an interval, and nothing else', async () => {
    const { gateway, sys } = await startWithSys(false)
    const raw = await connectTo(gateway, 4, 'x')
    await subscribed(raw, '$SYS/broker/clients/+', 0)
    expect((await told(raw)).map(({ topic }) => topic)).toContain('$SYS/broker/clients/total')
    sys.tick()
    await told(raw)
    sys.tick()
    expect(await told(raw)).toEqual([])
    await connectTo(gateway, 4, 'y')
    sys.tick()
    const changed = await told(raw)
    expect(shown(changed, 'clients/connected')).toBe('2')
    expect(shown(changed, 'clients/maximum')).toBe('2')
    expect(shown(changed, 'clients/expired')).toBeUndefined()
    // Live, not retained, as to any subscription [MQTT-3.3.1-9].
    expect(changed.every(({ retain }) => !retain)).toBe(true)
  })

  it.each(['$SYS/broker/uptime', '$share/g/$SYS/broker/uptime'])(
    'tells whoever comes for one topic of it after nobody was there: %s',
    async filter => {
      const { gateway, sys } = await startWithSys(false)
      const raw = await connectTo(gateway, 5, 'x')
      // Its routes are remembered, and that nobody listens.
      await subscribed(raw, 'a', 0)
      sys.tick()
      // Retain handling 2: nothing is replayed.
      await subscribed(raw, filter, 0x20)
      sys.tick()
      expect((await told(raw)).map(({ topic }) => topic)).toEqual(['$SYS/broker/uptime'])
    }
  )

  it('is counted up once for all filters of a SUBSCRIBE', async () => {
    const { gateway } = await startWithSys(false)
    const raw = await connectTo(gateway, 4, 'x')
    const counted = vi.spyOn(Report.prototype, 'stats')
    onTestFinished(() => counted.mockRestore())
    const filters = Array.from({ length: 100 }, (_, i) => [...text(`$SYS/broker/${i}`), 0])
    raw.send(packet(0x82, [0, 1], ...filters))
    expect((await raw.next())[0]).toBe(0x90)
    expect(counted).toHaveBeenCalledTimes(1)
  })

  it('is not matched by a wildcard at the first level, v3 [MQTT-4.7.2-1] v5 [MQTT-4.7.2-1]', async () => {
    const { gateway, sys } = await startWithSys()
    const raw = await connectTo(gateway, 4, 'x')
    await subscribed(raw, '#', 0)
    await subscribed(raw, '+/broker/uptime', 0)
    const other = await connectTo(gateway, 4, 'y')
    await subscribed(other, '$SYS/broker/uptime', 0)
    sys.tick()
    expect(await told(raw)).toEqual([])
    expect(await told(other)).not.toEqual([])
  })

  it('obeys retain handling and subscription identifiers', async () => {
    const { gateway } = await startWithSys(false)
    const raw = await connectTo(gateway, 5, 'x')
    await subscribed(raw, '$SYS/broker/version', 0x20)
    expect(await told(raw)).toEqual([])
    await subscribed(raw, '$SYS/broker/version', 0x10)
    expect(await told(raw)).toEqual([])
    await subscribed(raw, '$SYS/broker/version', 0x00)
    expect((await told(raw)).length).toBe(1)
  })

  it('reaches no AMQP queue and leaves no record', async () => {
    const { gateway, sys } = await startWithSys()
    const before = gateway.journal.stats.records
    const raw = await connectTo(gateway, 4, 'x')
    await subscribed(raw, '$SYS/#', 2)
    sys.tick()
    await told(raw)
    expect(gateway.journal.stats.records).toBe(before)
    expect(gateway.broker.state.vhost('/')!.retained.count).toBe(0)
  })
})

describe('client states', () => {
  it('say who is there, who went, when and why', async () => {
    const { gateway } = await startWithSys()
    const watcher = await connectTo(gateway, 4, 'w')
    await subscribed(watcher, '$SYS/broker/connection/client/+/event', 0)
    expect((await told(watcher)).map(({ payload }) => JSON.parse(payload).event)).toEqual([
      'online'
    ])
    const raw = await connectTo(gateway, 4, 'a/b+c')
    const [online] = await told(watcher)
    expect(online!.topic).toBe('$SYS/broker/connection/client/a%2Fb%2Bc/event')
    expect(JSON.parse(online!.payload)).toMatchObject({
      event: 'online',
      clientId: 'a/b+c',
      user: 'monitor',
      protocol: 'mqtt'
    })
    raw.send('e0 00')
    await raw.rest()
    await gateway.until(() => gateway.mqtt.count === 1)
    const [offline] = await told(watcher)
    const event = JSON.parse(offline!.payload)
    expect(event).toMatchObject({ event: 'offline', reason: 'client disconnected' })
    expect(Date.parse(event.time)).toBeGreaterThan(0)
    const later = await connectTo(gateway, 4, 'v')
    subscribe(later, '$SYS/broker/connection/client/a%2Fb%2Bc/state', 0)
    expect((await later.next())[0]).toBe(0x90)
    expect(await told(later)).toEqual([
      {
        topic: '$SYS/broker/connection/client/a%2Fb%2Bc/state',
        payload: '0',
        qos: 0,
        retain: true
      }
    ])
  })

  it('stay online through a takeover', async () => {
    const { gateway } = await startWithSys()
    const first = await connectTo(gateway, 4, 'x')
    await connectTo(gateway, 4, 'x')
    await first.rest()
    const watcher = await connectTo(gateway, 4, 'w')
    await subscribed(watcher, '$SYS/broker/connection/client/x/state', 0)
    expect((await told(watcher)).map(({ payload }) => payload)).toEqual(['1'])
  })
})
