/** What waits for slow and for many receivers, and that every message is somewhere in the books. */
import { afterEach, describe, expect, it } from 'vitest'
import { bindQueue } from '../../src/broker/bindings.ts'
import { declareQueue } from '../../src/broker/queues.ts'
import { Gateway, type GatewayOptions } from '../support/gateway.ts'
import { packet, type RawMqtt, text } from '../support/raw-mqtt.ts'

let gateway: Gateway
afterEach(async () => await gateway.close())

async function start(options: GatewayOptions = {}): Promise<void> {
  gateway = await new Gateway(options).start()
}

async function client(version: 4 | 5, clientId: string, options: object = {}): Promise<RawMqtt> {
  const raw = await gateway.dial()
  await raw.connect(version, { clientId, keepalive: 0, ...options })
  return raw
}

async function subscribe(raw: RawMqtt, filter: string, qos: number): Promise<void> {
  raw.send(packet(0x82, '00 01', raw.version === 5 ? '00' : '', text(filter), [qos]))
  await raw.next()
}

/** A payload that says which message it is, in each of its bytes. */
function payloadOf(index: number, size: number): Buffer {
  return Buffer.alloc(size, `${index};`)
}

function dropped(): Record<string, number> {
  return Object.fromEntries([...gateway.broker.counters.dropped].filter(([, count]) => count > 0))
}

describe('a fan-out', () => {
  it('gives each its own bytes, however the output buffers grow and go round', async () => {
    await start()
    const subscribers: RawMqtt[] = []
    for (let i = 0; i < 8; i++) {
      const raw = await client(i % 3 === 0 ? 5 : 4, `s${i}`)
      // What some get more fills their buffers at other times than those of the rest.
      await subscribe(raw, 'all', i % 2)
      if (i % 4 < 2) await subscribe(raw, 'some', 0)
      subscribers.push(raw)
    }
    const publisher = await client(4, 'p')
    const packets: Buffer[] = []
    for (let n = 0; n < 600; n++) {
      packets.push(packet(0x30, text('some'), payloadOf(n, 10 + (n % 7) * 13)))
      packets.push(
        packet(0x32, text('all'), [(n + 1) >> 8, (n + 1) & 255], payloadOf(n, 100 + n * 3))
      )
    }
    publisher.send(...packets)
    for (const [i, raw] of subscribers.entries()) {
      for (let n = 0; n < 600; n++) {
        if (i % 4 < 2) {
          const some = (await raw.read()) as { topic: string; payload: Buffer }
          expect(some.topic).toBe('some')
          expect(some.payload.equals(payloadOf(n, 10 + (n % 7) * 13))).toBe(true)
        }
        const all = (await raw.read()) as { payload: Buffer; messageId?: number }
        expect(all.payload.equals(payloadOf(n, 100 + n * 3))).toBe(true)
        if (i % 2 === 1) raw.send([0x40, 2, all.messageId! >> 8, all.messageId! & 255])
      }
    }
  })
})

describe('a subscriber that does not read', () => {
  const SIZE = 20_000
  const COUNT = 1_000

  it('gets QoS 0 up to its output bound, what is beyond is counted, others get all', async () => {
    await start({ limits: { outputBytesMax: 200_000 } })
    const slow = await client(4, 'slow')
    const witness = await client(4, 'witness')
    await subscribe(slow, 'q', 0)
    await subscribe(witness, 'q', 0)
    const publisher = await client(4, 'p')
    slow.socket.pause()
    for (let n = 0; n < COUNT; n++) {
      publisher.send(packet(0x30, text('q'), payloadOf(n, SIZE)))
      const seen = await witness.next()
      expect(seen.subarray(-SIZE).equals(payloadOf(n, SIZE))).toBe(true)
    }
    const lost = dropped()['slow_consumer'] ?? 0
    expect(lost).toBeGreaterThan(0)
    slow.socket.resume()
    for (let n = 0; n < COUNT - lost; n++) await slow.next()
    await slow.quiet()
    const { counters } = gateway.broker
    expect(counters.mqttSent[0]! + lost).toBe(2 * COUNT)
    expect(dropped()).toEqual({ slow_consumer: lost })
  })

  it('and is gone: what never reached the kernel is counted as dropped', async () => {
    await start({ limits: { outputBytesMax: 200_000 } })
    const slow = await client(4, 'slow')
    await subscribe(slow, 'q', 0)
    const publisher = await client(4, 'p')
    slow.socket.pause()
    for (let n = 0; n < COUNT; n++) publisher.send(packet(0x30, text('q'), payloadOf(n, SIZE)))
    await publisher.quiet()
    slow.destroy()
    while (gateway.mqtt.count > 1) await new Promise(setImmediate)
    const { closed, ...others } = dropped()
    expect(closed).toBeGreaterThan(0)
    const all = Object.values(others).reduce((sum, value) => sum + value, closed!)
    expect(gateway.broker.counters.mqttSent[0]! + all).toBe(COUNT)
  })

  it('gets QoS 1 from its queue when it reads again, in order, nothing lost', async () => {
    await start({ limits: { outputBytesMax: 100_000 } })
    const slow = await client(4, 'slow')
    await subscribe(slow, 'q', 1)
    const publisher = await client(4, 'p')
    slow.socket.pause()
    for (let n = 0; n < COUNT; n++) {
      publisher.send(packet(0x32, text('q'), [0, 1], payloadOf(n, SIZE)))
      await publisher.next()
    }
    slow.socket.resume()
    // Nothing is acknowledged meanwhile: what goes on is the drained output alone.
    const ids: Buffer[] = []
    for (let n = 0; n < COUNT; n++) {
      const seen = await slow.next()
      const at = seen.length - SIZE
      expect(seen.subarray(at).equals(payloadOf(n, SIZE))).toBe(true)
      ids.push(Buffer.from(seen.subarray(at - 2, at)))
    }
    for (const id of ids) slow.send([0x40, 2], id)
    await slow.quiet()
    expect(dropped()).toEqual({})
  })
})

describe('the end of the broker', () => {
  it('is told to version 5, and leaves wills unpublished', async () => {
    await start()
    const will = { topic: 'gone', payload: Buffer.from('x'), qos: 0 as const, retain: false }
    const five = await client(5, 'five', { will })
    const four = await client(4, 'four', { will })
    await subscribe(four, 'gone', 0)
    await gateway.mqtt.close()
    expect((await five.rest()).map(bytes => bytes.toString('hex'))).toEqual(['e0018b'])
    expect(await four.rest()).toEqual([])
    expect(gateway.mqtt.count).toBe(0)
  })
})

describe('pressure', () => {
  function pressure(isHigh: boolean): void {
    gateway.broker.isPaused = isHigh
    for (const publisher of gateway.broker.publishers) {
      if (isHigh) publisher.onPause()
      else publisher.onResume()
    }
  }

  it('stops reading who publishes, and the keepalive does not run meanwhile', async () => {
    await start()
    const early = await client(4, 'early', { keepalive: 5 })
    early.send(packet(0x30, text('a')))
    await early.quiet()
    const late = await client(4, 'late', { keepalive: 5 })
    pressure(true)
    late.send(packet(0x30, text('a')))
    const isPaused = (each: unknown) => (each as { isPaused: boolean }).isPaused
    await gateway.until(() => [...gateway.broker.publishers].every(isPaused))
    expect(gateway.broker.counters.mqttReceived[0]).toBe(1)
    early.send('c0 00')
    late.send('c0 00')
    gateway.pass(30)
    for (let i = 0; i < 20; i++) await new Promise(setImmediate)
    expect(gateway.mqtt.count).toBe(2)
    pressure(false)
    expect((await early.next()).toString('hex')).toBe('d000')
    expect((await late.next()).toString('hex')).toBe('d000')
    expect(gateway.broker.counters.mqttReceived[0]).toBe(2)
  })

  it('goes on reading who only subscribes', async () => {
    await start()
    const raw = await client(4, 's')
    await subscribe(raw, 'q', 1)
    pressure(true)
    await raw.quiet()
  })
})

describe('a full queue that rejects', () => {
  const REJECTING = [
    ['x-max-length', { type: 'I', value: 1 }],
    ['x-overflow', { type: 'S', value: 'reject-publish' }]
  ] as const

  async function full(): Promise<void> {
    await start()
    const { broker } = gateway
    const vhost = broker.vhosts.get('/')!
    const own = { principal: null, owner: null }
    declareQueue(broker, vhost, {
      ...own,
      name: 'full',
      passive: false,
      durable: true,
      exclusive: false,
      autoDelete: false,
      arguments: REJECTING
    })
    const binding = { queue: 'full', exchange: 'amq.topic', key: 'f', arguments: [] }
    bindQueue(broker, vhost, { ...own, ...binding })
    const filler = await client(4, 'filler')
    filler.send(packet(0x32, text('f'), '00 01'))
    expect((await filler.next()).toString('hex')).toBe('40020001')
  }

  it('is told to version 5', async () => {
    await full()
    const raw = await client(5, 'p')
    raw.send(packet(0x32, text('f'), '00 02 00'))
    expect((await raw.next()).toString('hex')).toBe('4003000297')
    await raw.quiet()
  })

  it('holds version 3.1.1 ten seconds, then closes it unacknowledged', async () => {
    await full()
    const raw = await client(4, 'p')
    const before = gateway.broker.counters.mqttReceived[1]!
    raw.send(packet(0x32, text('f'), '00 02'), packet(0x32, text('f'), '00 03'))
    await gateway.until(() => gateway.broker.counters.mqttReceived[1]! > before)
    gateway.pass(9)
    expect(gateway.mqtt.count).toBe(2)
    gateway.pass(1)
    expect(await raw.rest()).toEqual([])
    expect(gateway.broker.counters.mqttReceived[1]).toBe(before + 1)
  })
})

describe('the log', () => {
  it('has one line for a client that comes and one for its end, with the reason', async () => {
    await start()
    const raw = await client(5, 'named')
    raw.send('c5 00')
    await raw.rest()
    expect(gateway.lines).toMatchObject([
      { msg: 'connected', clientId: 'named', protocol: 'mqtt', version: 5 },
      { msg: 'disconnected', clientId: 'named', reason: 'unexpected first byte 0xc5' }
    ])
  })

  it('has no more than some lines a second for peers that never log in', async () => {
    await start()
    for (let i = 0; i < 30; i++) {
      const raw = await gateway.dial()
      raw.send('00')
      await raw.rest()
    }
    expect(gateway.lines.length).toBe(10)
    gateway.pass(1)
    const raw = await gateway.dial()
    raw.send('00')
    await raw.rest()
    expect(gateway.lines.length).toBe(11)
  })
})
