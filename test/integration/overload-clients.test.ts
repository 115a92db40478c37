/**
 * Many clients at once, in small: a storm of connections, one after a kill -9, a fan-out, a fan-in (O1 to O4; with
 * their figures: `npm run long -- overload`).
 */
import { once } from 'node:events'
import { afterEach, expect, it } from 'vitest'
import { until } from '../support/overload.ts'
import { readMetrics } from '../support/metrics.ts'
import { Program } from '../support/program.ts'
import { publishFrames, RawAmqp } from '../support/raw-amqp.ts'
import { packet, RawMqtt, text } from '../support/raw-mqtt.ts'

const STORM = 500
const SESSIONS = 50
const SUBSCRIBERS = 200
const MESSAGES = 50
const PUBLISHERS = 50
/** Messages that are read at once. */
const BURST = 2_500

let program: Program
const clients: RawMqtt[] = []

afterEach(async () => {
  for (const client of clients.splice(0)) client.destroy()
  await program.remove()
})

const publish = (topic: string, payload: string, id: number, qos: number) =>
  packet(0x30 | (qos << 1), text(topic), qos === 0 ? [] : [id >> 8, id & 255], Buffer.from(payload))
const subscribe = (filter: string, qos: number) => packet(0x82, [0, 1], text(filter), [qos])

async function client(clientId: string, clean = true): Promise<{ raw: RawMqtt; connack: Buffer }> {
  const raw = await RawMqtt.dial(program.port('mqtt'))
  clients.push(raw)
  return { raw, connack: await raw.connect(4, { clientId, clean }) }
}

function many<T>(count: number, make: (index: number) => Promise<T>): Promise<T[]> {
  return Promise.all(Array.from({ length: count }, (_, index) => make(index)))
}

/** The payload of a QoS 1 or QoS 0 PUBLISH whose topic is as long as this one's, and whose packet is short. */
function payloadOf(found: Buffer, topic: string): string {
  expect(found[0]! >> 4).toBe(3)
  return found.subarray(2 + 2 + topic.length + ((found[0]! & 6) === 0 ? 0 : 2)).toString()
}

it(`${STORM} clients that come faster than the listener's rate are all answered`, async () => {
  program = await Program.start({
    flags: ['--connections-per-second', '400', '--connections-burst', '50']
  })
  const { raw: active } = await client('active')
  active.send(subscribe('echo', 0))
  await active.next()
  let isOver = false
  const storm = many(STORM, index => client(`storm-${index}`)).finally(() => {
    isOver = true
  })
  let echoes = 0
  while (!isOver) {
    active.send(publish('echo', `${echoes}`, 0, 0))
    expect(payloadOf(await active.next(), 'echo')).toBe(`${echoes}`)
    echoes++
  }
  for (const { connack } of await storm) expect(connack).toEqual(Buffer.from([0x20, 2, 0, 0]))
  expect(echoes).toBeGreaterThan(20)
  const metrics = await readMetrics(program)
  expect(metrics.sum('connections', { protocol: 'mqtt' })).toBe(STORM + 1)
  expect(metrics.sum('connections_refused_total')).toBe(0)
  expect(metrics.sum('connections_delayed_total')).toBeGreaterThan(STORM / 2)
})

it(`${SESSIONS} lasting sessions all return at once after a kill -9`, async () => {
  program = await Program.start()
  await many(SESSIONS, async index => {
    const { raw, connack } = await client(`lasting-${index}`, false)
    expect(connack[2]).toBe(0)
    raw.send(subscribe(`own/${index}`, 1))
    expect((await raw.next())[0]).toBe(0x90)
  })
  await program.kill()
  await program.restart()
  await many(SESSIONS, async index => {
    const { raw, connack } = await client(`lasting-${index}`, false)
    expect(connack).toEqual(Buffer.from([0x20, 2, 1, 0]))
    // Its subscription came back too: it hears itself.
    raw.send(publish(`own/${index}`, 'x', 1, 1))
    const kinds = [(await raw.next())[0]! >> 4, (await raw.next())[0]! >> 4]
    expect(kinds.sort()).toEqual([3, 4])
  })
  expect((await readMetrics(program)).sum('sessions', { state: 'connected' })).toBe(SESSIONS)
})

for (const qos of [0, 1]) {
  it(`a fan-out with QoS ${qos} reaches ${SUBSCRIBERS} subscribers alike, in order`, async () => {
    program = await Program.start()
    const subscribers = await many(SUBSCRIBERS, async index => {
      const { raw } = await client(`subscriber-${index}`)
      raw.send(subscribe('fan/out', qos))
      await raw.next()
      return raw
    })
    const { raw: publisher } = await client('publisher')
    for (let i = 0; i < MESSAGES; i++) publisher.send(publish('fan/out', `${i}`, i + 1, qos))
    await Promise.all(
      subscribers.map(async raw => {
        for (let i = 0; i < MESSAGES; i++) {
          expect(payloadOf(await raw.next(), 'fan/out')).toBe(`${i}`)
        }
        await raw.quiet()
      })
    )
    const metrics = await readMetrics(program)
    const sent = metrics.sum('messages_sent_total', { protocol: 'mqtt', qos: `${qos}` })
    expect(sent).toBe(SUBSCRIBERS * MESSAGES)
  })
}

/** MQTT subscribers of topic `b`, a client that pings, and what came to each. */
async function manySubscribers() {
  const counts = Array.from({ length: SUBSCRIBERS }, () => 0)
  let first = () => {}
  const began = new Promise<void>(resolve => {
    first = resolve
  })
  await many(SUBSCRIBERS, async index => {
    const { raw } = await client(`subscriber-${index}`)
    raw.send(subscribe('b', 0))
    await raw.next()
    raw.socket.on('data', chunk => {
      counts[index]! += chunk.length
      first()
    })
  })
  const { raw: other } = await client('other')
  const bytes = BURST * publish('b', '12345', 0, 0).length
  return {
    isCut: async () => {
      await began
      await other.quiet()
      expect(Math.max(...counts)).toBeLessThan(bytes / 2)
    },
    isWhole: () =>
      until(() => counts.every(count => count === bytes), 20_000, 'everybody has everything')
  }
}

it('a burst that goes to many is cut into turns: others are answered in between', async () => {
  program = await Program.start()
  const { isCut, isWhole } = await manySubscribers()
  const { raw: publisher } = await client('publisher')
  publisher.send(...Array.from({ length: BURST }, () => publish('b', '12345', 0, 0)))
  await isCut()
  await isWhole()
  await publisher.quiet()
})

it('one of an AMQP client arrives whole too', async () => {
  program = await Program.start()
  const { isWhole } = await manySubscribers()
  const amqp = await RawAmqp.dial(program.port('amqp'))
  await amqp.handshake()
  await amqp.openChannel(1)
  const one = Buffer.concat(publishFrames('amq.topic', 'b', Buffer.from('12345')))
  amqp.send(...Array.from({ length: BURST }, () => one))
  await isWhole()
  await amqp.openChannel(2)
  amqp.destroy()
})

it('one subscriber that reads nothing takes nothing away from the others', async () => {
  program = await Program.start()
  const { raw: stalled } = await client('stalled')
  stalled.send(subscribe('fan/out', 0))
  await stalled.next()
  stalled.socket.pause()
  const reading = await many(20, async index => {
    const { raw } = await client(`reading-${index}`)
    raw.send(subscribe('fan/out', 0))
    await raw.next()
    return raw
  })
  const { raw: publisher } = await client('publisher')
  const payload = 'x'.repeat(50_000)
  for (let i = 0; i < 100; i++) {
    publisher.send(publish('fan/out', payload, 0, 0))
    for (const raw of reading) expect((await raw.next()).length).toBeGreaterThan(payload.length)
  }
  const gone = once(stalled.socket, 'close')
  stalled.destroy()
  await gone
  // What it did not get is counted, to the message.
  let dropped = 0
  let sent = 0
  await until(
    async () => {
      const metrics = await readMetrics(program)
      dropped = metrics.sum('messages_dropped_total')
      sent = metrics.sum('messages_sent_total', { protocol: 'mqtt', qos: '0' })
      return sent + dropped === 21 * 100
    },
    5_000,
    'sent and dropped are what was due'
  )
  expect(sent).toBeGreaterThanOrEqual(2_000)
})

it(`${PUBLISHERS} publishers into one lasting session lose nothing`, async () => {
  program = await Program.start()
  const { raw: backend } = await client('backend', false)
  backend.send(subscribe('in/+', 1))
  await backend.next()
  const received = new Map<string, number>()
  const reading = (async () => {
    for (let count = 0; count < PUBLISHERS * MESSAGES; count++) {
      const [name = '', sequence] = payloadOf(await backend.next(), 'in/aa').split(' ')
      // In each publisher's order, nothing left out.
      expect(Number(sequence)).toBe(received.get(name) ?? 0)
      received.set(name, Number(sequence) + 1)
    }
  })()
  await many(PUBLISHERS, async index => {
    const topic = `in/${String.fromCharCode(97 + (index % 26), 97 + Math.trunc(index / 26))}`
    const { raw } = await client(`publisher-${index}`)
    for (let i = 0; i < MESSAGES; i++) raw.send(publish(topic, `${index} ${i}`, i + 1, 1))
    for (let i = 0; i < MESSAGES; i++) {
      expect(await raw.next()).toEqual(Buffer.from([0x40, 2, (i + 1) >> 8, (i + 1) & 255]))
    }
  })
  await Promise.race([reading, new Promise(resolve => setTimeout(resolve, 100))])
  // More than its receive maximum is open: it acknowledges what it has.
  for (let id = 1; id <= PUBLISHERS * MESSAGES; id++) {
    backend.send(packet(0x40, [id >> 8, id & 255]))
  }
  await reading
  expect(received.size).toBe(PUBLISHERS)
  for (const count of received.values()) expect(count).toBe(MESSAGES)
})
