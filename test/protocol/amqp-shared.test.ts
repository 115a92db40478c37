/** A shared subscription and AMQP consumers on one queue, on equal terms (docs/decisions/0021). */
import { type Channel, type ChannelModel, type ConsumeMessage, connect } from 'amqplib'
import { connectAsync, type IClientOptions, type IPublishPacket, type MqttClient } from 'mqtt'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { BASIC, CHANNEL, QUEUE } from '../../src/amqp/codec/methods.ts'
import { WholeServer } from '../support/whole-server.ts'

const JOBS = '$share/work/jobs/#'

let server: WholeServer
let model: ChannelModel
let channel: Channel
const clients: MqttClient[] = []

beforeEach(async () => {
  server = await new WholeServer().start()
  model = await connect(`amqp://127.0.0.1:${server.port(1)}`)
  channel = await model.createChannel()
})
afterEach(async () => {
  for (const client of clients.splice(0)) client.end(true)
  await model.close().catch(() => undefined)
  await server.close()
})

class Member {
  readonly got: string[] = []
  readonly client: MqttClient
  /** What its client has not acknowledged. */
  readonly #held: (() => void)[] = []
  isHolding = false

  constructor(client: MqttClient) {
    this.client = client
    client.handleMessage = (packet: IPublishPacket, done) => {
      this.got.push(packet.payload.toString())
      if (this.isHolding) this.#held.push(() => done())
      else done()
    }
  }

  acknowledge(): void {
    for (const done of this.#held.splice(0)) done()
  }
}

async function mqtt(clientId: string, options: Partial<IClientOptions> = {}): Promise<MqttClient> {
  const url = `mqtt://127.0.0.1:${server.port(0)}`
  const common = { protocolVersion: 5, clientId, reconnectPeriod: 0 } as const
  const client = await connectAsync(url, { ...common, ...options })
  clients.push(client)
  return client
}

async function member(
  clientId: string,
  options: Partial<IClientOptions> = {},
  qos: 0 | 1 | 2 = 1
): Promise<Member> {
  const one = new Member(await mqtt(clientId, options))
  await one.client.subscribeAsync(JOBS, { qos })
  return one
}

const LASTING = { clean: false, properties: { sessionExpiryInterval: 3_600 } }

interface Taken {
  readonly got: ConsumeMessage[]
  readonly texts: string[]
  readonly tag: string
}

async function taker(on = channel, noAck = false): Promise<Taken> {
  const got: ConsumeMessage[] = []
  const texts: string[] = []
  const { consumerTag } = await on.consume(
    JOBS,
    message => {
      if (message === null) return
      got.push(message)
      texts.push(message.content.toString())
    },
    { noAck }
  )
  return { got, texts, tag: consumerTag }
}

async function jobs(from: MqttClient, names: string, qos: 0 | 1 | 2 = 1): Promise<void> {
  for (const name of names) await from.publishAsync('jobs/x', name, { qos })
}

async function until(check: () => void | Promise<void>): Promise<void> {
  await vi.waitFor(check, { timeout: 20_000, interval: 5 })
}

async function counts(): Promise<{ messageCount: number; consumerCount: number }> {
  return await channel.checkQueue(JOBS)
}

const sorted = (texts: string[]): string => [...texts].sort().join('')

describe('members and AMQP consumers of one shared subscription', () => {
  it('take turns, each message with one of them', async () => {
    const [a, b] = [await member('a'), await member('b', { protocolVersion: 4 })]
    const c = await taker()
    await jobs(await mqtt('p'), 'uvwxyz')
    await until(() => expect(a.got.length + b.got.length + c.got.length).toBe(6))
    expect([a.got.length, b.got.length, c.got.length]).toEqual([2, 2, 2])
    expect(sorted([...a.got, ...b.got, ...c.texts])).toBe('uvwxyz')
    expect(c.got[0]!.fields).toMatchObject({ exchange: 'amq.topic', routingKey: 'jobs.x' })
    expect(await counts()).toMatchObject({ queue: JOBS, messageCount: 0, consumerCount: 3 })
  })

  it('go by credit: receive maximum here, prefetch there', async () => {
    const a = await member('a', { properties: { receiveMaximum: 2 } })
    a.isHolding = true
    await channel.prefetch(1)
    const c = await taker()
    const from = await mqtt('p')
    await jobs(from, 'uvwxyz')
    // Its client hands out the second only when the first is acknowledged.
    await until(() => expect([a.got.length, c.got.length]).toEqual([1, 1]))
    expect((await counts()).messageCount).toBe(3)
    channel.ack(c.got[0]!)
    await until(() => expect(c.got.length).toBe(2))
    a.isHolding = false
    a.acknowledge()
    await until(() => expect(sorted([...a.got, ...c.texts])).toBe('uvwxyz'))
  })

  it('get what an AMQP consumer gives back or loses its connection with', async () => {
    const c = await taker()
    const from = await mqtt('p')
    await jobs(from, 'uv')
    await until(() => expect(c.texts).toEqual(['u', 'v']))
    const a = await member('a')
    await channel.cancel(c.tag)
    channel.nack(c.got[0]!, false, true)
    await until(() => expect(a.got).toEqual(['u']))
    await model.close()
    await until(() => expect(a.got).toEqual(['u', 'v']))
  })

  it('get what a member had when its session ended', async () => {
    const a = await member('a')
    a.isHolding = true
    const from = await mqtt('p')
    await jobs(from, 'uv')
    await until(() => expect(a.got).toEqual(['u']))
    expect((await counts()).messageCount).toBe(0)
    const c = await taker()
    a.client.stream.destroy()
    await until(() => expect(c.texts).toEqual(['u', 'v']))
    expect((await counts()).consumerCount).toBe(1)
  })

  it('pass QoS 0 on to an AMQP consumer, and keep it while that has no credit', async () => {
    await channel.prefetch(1)
    const c = await taker()
    const from = await mqtt('p')
    await jobs(from, 'uvw', 0)
    await until(() => expect(c.texts).toEqual(['u']))
    await from.publishAsync('jobs/x', 'x', { qos: 1 })
    expect((await counts()).messageCount).toBe(3)
    for (const [at, text] of [...'uvwx'].entries()) {
      await until(() => expect(c.texts[at]).toBe(text))
      channel.ack(c.got[at]!)
    }
    expect(c.got.map(({ properties }) => properties.deliveryMode)).toEqual([1, 1, 1, 2])
  })

  it('begin and end the subscription, whichever comes first and last', async () => {
    const from = await mqtt('p')
    const c = await taker()
    await jobs(from, 'u')
    await until(() => expect(c.texts).toEqual(['u']))
    const a = await member('a')
    await channel.cancel(c.tag)
    await jobs(from, 'v')
    await until(() => expect(a.got).toEqual(['v']))
    await a.client.unsubscribeAsync(JOBS)
    const closed = new Promise<Error>(resolve => channel.once('error', resolve))
    channel.checkQueue(JOBS).catch(() => undefined)
    expect(String(await closed)).toContain(`NOT_FOUND - no queue '${JOBS}' in vhost '/'`)
  })

  it('keep what waits for an absent member of a lasting session over a restart', async () => {
    const a = await member('a', LASTING)
    await a.client.endAsync()
    const from = await mqtt('p')
    await jobs(from, 'uv')
    await jobs(from, 'w', 2)
    await model.close()
    await server.stop()
    server = await server.start()
    model = await connect(`amqp://127.0.0.1:${server.port(1)}`)
    channel = await model.createChannel()
    const c = await taker()
    await until(() => expect(c.texts).toEqual(['u', 'v', 'w']))
    channel.ackAll()
    await until(async () => expect((await counts()).messageCount).toBe(0))
    const again = await member('a', LASTING)
    await jobs(await mqtt('q'), 'x')
    await until(() => expect(sorted([...again.got, ...c.texts])).toBe('uvwx'))
  })

  it('give what a consumer took before a crash to a member, once', async () => {
    const a = await member('a', LASTING)
    await a.client.endAsync()
    const c = await taker()
    const from = await mqtt('p')
    await jobs(from, 'uv')
    await until(() => expect(c.texts).toEqual(['u', 'v']))
    channel.ack(c.got[0]!)
    await until(async () => expect((await counts()).messageCount).toBe(0))
    await model.close()
    const back = await member('a', LASTING)
    await until(() => expect(back.got).toEqual(['v']))
  })

  it('lose nothing while both kinds come and go', async () => {
    const seen = new Map<string, number>()
    const note = (text: string): void => void seen.set(text, (seen.get(text) ?? 0) + 1)
    const stay = await member('stay', { properties: { receiveMaximum: 5 } })
    const from = await mqtt('p')
    let sent = 0
    for (let round = 0; round < 6; round++) {
      const passing = await connect(`amqp://127.0.0.1:${server.port(1)}`)
      const second = await passing.createChannel()
      await second.prefetch(3)
      let taken = 0
      let isOver = false
      await second.consume(JOBS, message => {
        if (message === null || isOver || taken++ % 3 === 2) return
        note(message.content.toString())
        second.ack(message)
      })
      const open: Promise<unknown>[] = []
      for (let i = 0; i < 30; i++)
        open.push(from.publishAsync('jobs/x', String(sent++), { qos: 1 }))
      await Promise.all(open)
      // What comes behind it cannot be acknowledged any more.
      isOver = true
      await second.close()
      await passing.close()
    }
    await until(() => {
      const all = new Set([...seen.keys(), ...stay.got])
      expect(all.size).toBe(sent)
    })
    for (const text of stay.got) note(text)
    expect([...seen.values()].filter(count => count > 1)).toEqual([])
  })
})

describe('the queue of a shared subscription', () => {
  it('is seen by passive declaration and by operators, and basic.get takes from it', async () => {
    const a = await member('a', LASTING)
    await a.client.endAsync()
    await jobs(await mqtt('p'), 'uv')
    expect(await counts()).toMatchObject({ messageCount: 2, consumerCount: 0 })
    const got = await channel.get(JOBS, { noAck: true })
    expect(got === false ? '' : got.content.toString()).toBe('u')
    const listed = (await server.ask('GET', '/api/queues')) as { name: string }[]
    expect(listed.find(({ name }) => name === JOBS)).toMatchObject({ ready: 1, durable: true })
  })

  it('is declared, bound, purged and deleted by nobody', async () => {
    await member('a')
    const rest = { reserved: 0, queue: JOBS, noWait: false }
    const binding = { ...rest, exchange: 'amq.topic', routingKey: 'b', arguments: [] }
    const declare = { ...rest, passive: false, durable: true, exclusive: false, autoDelete: false }
    const consume = { ...rest, consumerTag: '', noLocal: false, noAck: true, exclusive: true }
    const other = { ...declare, queue: '$share/other/jobs/#', arguments: [] }
    const invalid = { ...consume, queue: '$share/other', exclusive: false, arguments: [] }
    const sys = { ...consume, queue: '$share/g/$SYS/#', exclusive: false, arguments: [] }
    for (const [method, values, code] of [
      [QUEUE.bind, binding, 405],
      [QUEUE.purge, rest, 405],
      [QUEUE.delete, { ...rest, ifUnused: false, ifEmpty: false }, 405],
      [QUEUE.declare, { ...declare, arguments: [] }, 403],
      [QUEUE.declare, other, 403],
      [BASIC.consume, { ...consume, arguments: [] }, 403],
      [BASIC.consume, invalid, 404],
      [BASIC.consume, sys, 403]
    ] as const) {
      const client = await server.amqp()
      client.method(method as typeof QUEUE.bind, 1, values as unknown as typeof binding)
      const { replyCode } = await client.expect(CHANNEL.close)
      expect([method.methodId, replyCode]).toEqual([method.methodId, code])
    }
    const listed = (await server.ask('GET', '/api/queues')) as { name: string }[]
    expect(listed.filter(({ name }) => name.startsWith('$share/'))).toHaveLength(1)
  })
})
