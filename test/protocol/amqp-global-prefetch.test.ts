/** A prefetch of the channel as a whole: whose turn it is, and who waits. */
import { beforeEach, describe, expect, it } from 'vitest'
import { BASIC, QUEUE } from '../../src/amqp/codec/methods.ts'
import {
  BIND_VALUES,
  CONSUME_VALUES,
  declareQueue,
  nothingMore,
  startAmqp
} from '../support/amqp-moves.ts'
import type { RawAmqp } from '../support/raw-amqp.ts'

let client: RawAmqp

beforeEach(async () => {
  ;({ client } = await startAmqp())
})

const prefetch = (prefetchCount: number) =>
  client.call(BASIC.qos, { prefetchSize: 0, prefetchCount, global: true }, BASIC.qosOk)

/** A queue with its consumer, both with this name, bound to amq.fanout. */
async function consume(queue: string, noAck = false): Promise<void> {
  await declareQueue(client, { queue })
  await client.call(QUEUE.bind, { ...BIND_VALUES, queue, exchange: 'amq.fanout' }, QUEUE.bindOk)
  await client.call(
    BASIC.consume,
    { ...CONSUME_VALUES, queue, consumerTag: queue, noAck },
    BASIC.consumeOk
  )
}

/** The tag of the consumer that got the next delivery. */
async function served(): Promise<{ tag: string; deliveryTag: number }> {
  const { values } = await client.content(BASIC.deliver)
  return { tag: values.consumerTag, deliveryTag: values.deliveryTag }
}

describe('a prefetch of the channel', () => {
  it.each([1, 2])(
    'of %i goes round its consumers: none of their queues is left behind',
    async most => {
      await prefetch(most)
      for (const name of ['a', 'b', 'c']) await consume(name)
      for (let i = 0; i < 20; i++) client.publish('amq.fanout', '', `${i}`)
      const counts = new Map<string, number>()
      for (let i = 0; i < 30; i++) {
        const { tag, deliveryTag } = await served()
        counts.set(tag, (counts.get(tag) ?? 0) + 1)
        client.method(BASIC.ack, 1, { deliveryTag, multiple: false })
      }
      for (const name of ['a', 'b', 'c']) expect(counts.get(name)).toBeGreaterThanOrEqual(9)
    }
  )

  it('goes round the consumers of one queue, too', async () => {
    await prefetch(1)
    await consume('a')
    const second = { ...CONSUME_VALUES, queue: 'a', consumerTag: 'second' }
    await client.call(BASIC.consume, second, BASIC.consumeOk)
    for (let i = 0; i < 10; i++) client.publish('', 'a', `${i}`)
    const tags: string[] = []
    for (let i = 0; i < 10; i++) {
      const { tag, deliveryTag } = await served()
      tags.push(tag)
      client.method(BASIC.ack, 1, { deliveryTag, multiple: false })
    }
    expect(tags.filter(tag => tag === 'second').length).toBe(5)
  })

  it('holds whoever consumes without acknowledgements while it is used up', async () => {
    await prefetch(1)
    await consume('a')
    client.publish('', 'a', 'one')
    const { deliveryTag } = await served()
    await consume('free', true)
    client.publish('', 'free', 'two')
    await nothingMore(client)
    client.method(BASIC.ack, 1, { deliveryTag, multiple: false })
    expect((await served()).tag).toBe('free')
    // It takes no place itself.
    client.publish('', 'free', 'three')
    expect((await served()).tag).toBe('free')
  })

  it('may be lifted: everybody goes on', async () => {
    await prefetch(1)
    await consume('a')
    for (let i = 0; i < 3; i++) client.publish('', 'a', `${i}`)
    expect((await served()).deliveryTag).toBe(1)
    await nothingMore(client)
    await prefetch(0)
    expect((await served()).deliveryTag).toBe(2)
    expect((await served()).deliveryTag).toBe(3)
  })
})
