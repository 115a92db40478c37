/** Messages that expire, and queues that do: x-message-ttl, expiration, x-expires. */
import { beforeEach, describe, expect, it } from 'vitest'
import { BASIC, CHANNEL, QUEUE } from '../../src/amqp/codec/methods.ts'
import type { QueueLife } from '../../src/broker/queue-life.ts'
import { declare, delivery, get, later, readyIn } from '../support/amqp-dead.ts'
import type { AmqpGateway } from '../support/amqp-gateway.ts'
import {
  CONSUME_VALUES,
  DELETE_VALUES,
  nothingMoreLater,
  QUEUE_VALUES,
  startAmqp
} from '../support/amqp-moves.ts'
import type { RawAmqp } from '../support/raw-amqp.ts'

let gateway: AmqpGateway
let client: RawAmqp

beforeEach(async () => {
  ;({ gateway, client } = await startAmqp())
})

function publish(body: string, expiration?: string, queue = 'q'): void {
  client.publish('', queue, body, expiration === undefined ? {} : { properties: { expiration } })
}

async function consume(prefetch = 0, changes: Partial<typeof CONSUME_VALUES> = {}): Promise<void> {
  const qos = { prefetchSize: 0, prefetchCount: prefetch, global: false }
  await client.call(BASIC.qos, qos, BASIC.qosOk)
  await client.call(BASIC.consume, { ...CONSUME_VALUES, ...changes }, BASIC.consumeOk)
}

function expired(): number {
  return gateway.broker.counters.dropped.get('expired')!
}

const DEAD = { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'd' }

describe('a queue’s time to live', () => {
  it('ends what waits in it, also when nobody consumes', async () => {
    await declare(client, 'q', { 'x-message-ttl': 1_000 })
    for (let i = 0; i < 3; i++) publish(`${i}`)
    await nothingMoreLater(client)
    await gateway.passIn(999)
    expect(await readyIn(client, 'q')).toBe(3)
    await gateway.passIn(1)
    expect([await readyIn(client, 'q'), expired()]).toEqual([0, 3])
  })

  it('counts for each message from when it came', async () => {
    await declare(client, 'q', { 'x-message-ttl': 1_000 })
    publish('old')
    await nothingMoreLater(client)
    await gateway.passIn(600)
    publish('young')
    await nothingMoreLater(client)
    await gateway.passIn(500)
    expect(await readyIn(client, 'q')).toBe(1)
    expect((await get(client, 'q'))!.body).toBe('young')
  })

  it('is the shorter one beside a message’s own expiration, whichever that is', async () => {
    await declare(client, 'q', { 'x-message-ttl': 1_000 })
    publish('a', '500')
    await nothingMoreLater(client)
    await gateway.passIn(500)
    expect(await readyIn(client, 'q')).toBe(0)
    publish('b', '5000')
    await nothingMoreLater(client)
    await gateway.passIn(1_000)
    expect(await readyIn(client, 'q')).toBe(0)
  })

  it('of each queue is its own for a message that goes to several', async () => {
    await declare(client, 'q', { 'x-message-ttl': 100 })
    await declare(client, 'r', { 'x-message-ttl': 300 })
    await declare(client, 's')
    for (const queue of ['q', 'r', 's']) {
      const values = { reserved: 0, queue, exchange: 'amq.fanout', routingKey: '', noWait: false }
      await client.call(QUEUE.bind, { ...values, arguments: [] }, QUEUE.bindOk)
    }
    client.publish('amq.fanout', '', 'x')
    await nothingMoreLater(client)
    const counts = async (): Promise<number[]> => [
      await readyIn(client, 'q'),
      await readyIn(client, 'r'),
      await readyIn(client, 's')
    ]
    await gateway.passIn(100)
    expect(await counts()).toEqual([0, 1, 1])
    await gateway.passIn(200)
    expect(await counts()).toEqual([0, 0, 1])
  })

  it('of 0 delivers at once or not at all', async () => {
    await declare(client, 'q', { 'x-message-ttl': 0, ...DEAD })
    await declare(client, 'd')
    publish('nobody')
    await nothingMoreLater(client)
    expect((await get(client, 'd'))!.deaths).toEqual(['q expired×1  q'])
    await consume()
    await nothingMoreLater(client)
    publish('somebody')
    expect((await delivery(client)).body).toBe('somebody')
  })

  it('never delivers what has expired, even when a consumer asks before the timer', async () => {
    await declare(client, 'q', { 'x-message-ttl': 100 })
    publish('old')
    await nothingMoreLater(client)
    gateway.clock.advance(100)
    await later()
    expect(await get(client, 'q')).toBeNull()
    publish('old')
    publish('old too')
    await nothingMoreLater(client)
    gateway.clock.advance(100)
    await later()
    await consume()
    publish('new')
    expect((await delivery(client)).body).toBe('new')
    expect(expired()).toBe(3)
  })

  it('goes on for a message that comes back: its expiry stays what it was', async () => {
    await declare(client, 'q', { 'x-message-ttl': 100, ...DEAD })
    await declare(client, 'd')
    publish('x')
    const got = await get(client, 'q', false)
    await gateway.passIn(150)
    expect(await readyIn(client, 'd')).toBe(0)
    client.method(BASIC.reject, 1, { deliveryTag: got!.tag, requeue: true })
    await nothingMoreLater(client)
    await gateway.passIn(50)
    expect([await readyIn(client, 'q'), await readyIn(client, 'd')]).toEqual([0, 1])
  })

  it('does not touch what is delivered and open', async () => {
    await declare(client, 'q', { 'x-message-ttl': 100 })
    publish('x')
    const got = await get(client, 'q', false)
    await gateway.passIn(1_000)
    client.method(BASIC.ack, 1, { deliveryTag: got!.tag, multiple: false })
    await nothingMoreLater(client)
    expect(expired()).toBe(0)
  })
})

describe('a message’s own expiration', () => {
  it('takes it out only at the head; what lies before it holds it up', async () => {
    await declare(client, 'q', DEAD)
    await declare(client, 'd')
    publish('first')
    publish('short', '100')
    await nothingMoreLater(client)
    await gateway.passIn(200)
    expect(await readyIn(client, 'q')).toBe(2)
    expect((await get(client, 'q'))!.body).toBe('first')
    await nothingMoreLater(client)
    await gateway.passIn(50)
    const dead = await get(client, 'd')
    expect(dead).toMatchObject({ body: 'short', deaths: ['q expired×1  q 100'] })
    expect(dead!.properties.expiration).toBeNull()
    expect(await readyIn(client, 'q')).toBe(0)
  })

  it('is found when the message before it went to a consumer that takes no more', async () => {
    await declare(client, 'q')
    publish('first')
    publish('short', '100')
    await consume(1)
    expect((await delivery(client)).body).toBe('first')
    await nothingMoreLater(client)
    await gateway.passIn(200)
    expect([await readyIn(client, 'q'), expired()]).toEqual([0, 1])
  })

  it('is found when it comes back from a consumer that is gone, and nobody else is there', async () => {
    await declare(client, 'q')
    publish('x', '100')
    await nothingMoreLater(client)
    const other = await gateway.connect()
    await other.call(BASIC.consume, CONSUME_VALUES, BASIC.consumeOk)
    await delivery(other)
    await gateway.passIn(200)
    other.destroy()
    while ((await readyIn(client, 'q')) + expired() === 0) await later()
    await gateway.passIn(50)
    expect([await readyIn(client, 'q'), expired()]).toEqual([0, 1])
  })

  it('costs nothing while its queue waits for a consumer that takes no more', async () => {
    await declare(client, 'q')
    publish('first', '100000')
    publish('second', '100000')
    await consume(1)
    await delivery(client)
    await nothingMoreLater(client)
    await gateway.passIn(60)
    await gateway.passIn(60)
    const life = gateway.broker.state.vhost('/')!.queues.get('q')!.life as QueueLife
    expect(life.head.at - gateway.broker.nowMs).toBeGreaterThan(90_000)
  })

  it('that is no decimal number closes the channel: 406', async () => {
    await declare(client, 'q')
    publish('x', '-1')
    expect((await client.expect(CHANNEL.close)).replyCode).toBe(406)
  })
})

it('many that expire at once leave in bounded turns, in order, exactly once', async () => {
  await declare(client, 'q', { 'x-message-ttl': 100, ...DEAD })
  await declare(client, 'd')
  for (let i = 0; i < 2_000; i++) publish(`${i}`)
  await nothingMoreLater(client)
  await gateway.passIn(100)
  const dead = gateway.broker.state.vhost('/')!.queues.get('d')!
  let most = 0
  while (dead.readyCount < 2_000) {
    const before = dead.readyCount
    await later(1)
    most = Math.max(most, dead.readyCount - before)
  }
  expect(most).toBeGreaterThan(0)
  expect(most).toBeLessThan(1_000)
  expect(await readyIn(client, 'q')).toBe(0)
  for (let i = 0; i < 20; i++) expect((await get(client, 'd'))!.body).toBe(`${i}`)
})

describe('a queue with x-expires', () => {
  const exists = async (queue: string): Promise<boolean> => {
    const { messageCount } = await client.call(
      QUEUE.delete,
      { ...DELETE_VALUES, queue: 'no such queue' },
      QUEUE.deleteOk
    )
    return messageCount === 0 && gateway.broker.state.vhost('/')!.queues.has(queue)
  }

  it('goes when nobody has used it for so long, with what is in it, which is no dead letter', async () => {
    await declare(client, 'q', { 'x-expires': 1_000, ...DEAD })
    await declare(client, 'd')
    publish('x')
    await nothingMoreLater(client)
    await gateway.passIn(999)
    expect(await exists('q')).toBe(true)
    await gateway.passIn(1)
    expect(await exists('q')).toBe(false)
    expect(await readyIn(client, 'd')).toBe(0)
    expect(gateway.broker.counters.dropped.get('queue_deleted')).toBe(1)
  })

  it('is kept by a declaration and by basic.get, not by a publish', async () => {
    await declare(client, 'q', { 'x-expires': 1_000 })
    await gateway.passIn(900)
    await declare(client, 'q', { 'x-expires': 1_000 })
    await gateway.passIn(900)
    await client.call(QUEUE.declare, { ...QUEUE_VALUES, passive: true }, QUEUE.declareOk)
    await gateway.passIn(900)
    await get(client, 'q')
    await gateway.passIn(900)
    expect(await exists('q')).toBe(true)
    publish('x')
    await nothingMoreLater(client)
    await gateway.passIn(100)
    expect(await exists('q')).toBe(false)
  })

  it('stays while it has a consumer, and its time begins when the last one leaves', async () => {
    await declare(client, 'q', { 'x-expires': 1_000 })
    await consume()
    await gateway.passIn(5_000)
    expect(await exists('q')).toBe(true)
    await client.call(BASIC.cancel, { consumerTag: 'c', noWait: false }, BASIC.cancelOk)
    await gateway.passIn(999)
    expect(await exists('q')).toBe(true)
    await gateway.passIn(1)
    expect(await exists('q')).toBe(false)
  })
})
