/** Priority queues over a socket: `x-max-priority` and the messages' priority (amqp-semantics.md §2.3). */
import { beforeEach, describe, expect, it } from 'vitest'
import { BASIC, CHANNEL, QUEUE } from '../../src/amqp/codec/methods.ts'
import type { FieldTable } from '../../src/core/field-table.ts'
import {
  CONSUME_VALUES,
  declareQueue,
  DELETE_VALUES,
  QUEUE_VALUES,
  startAmqp
} from '../support/amqp-moves.ts'
import type { RawAmqp } from '../support/raw-amqp.ts'

const LEVELS: FieldTable = [['x-max-priority', { type: 'b', value: 10 }]]

/** Each word is a body; the digits behind its letter are its priority, none is none. */
function publish(client: RawAmqp, words: string): void {
  for (const word of words.split(' ')) {
    const priority = word.slice(1)
    const properties = priority === '' ? {} : { priority: Number(priority) }
    client.publish('', 'q', word, { properties, persistent: true })
  }
}

async function bodies(client: RawAmqp, count: number): Promise<string> {
  const found: string[] = []
  for (let i = 0; i < count; i++) found.push(`${(await client.content(BASIC.deliver)).body}`)
  return found.join(' ')
}

async function inspect(client: RawAmqp): Promise<number> {
  const values = { ...QUEUE_VALUES, passive: true }
  return (await client.call(QUEUE.declare, values, QUEUE.declareOk)).messageCount
}

const ANSWER = { multiple: false, requeue: true }

async function prefetch(client: RawAmqp, prefetchCount: number): Promise<void> {
  await client.call(BASIC.qos, { prefetchSize: 0, prefetchCount, global: false }, BASIC.qosOk)
}

describe('a priority queue', () => {
  let client: RawAmqp

  beforeEach(async () => {
    ;({ client } = await startAmqp())
    await declareQueue(client, { durable: true, arguments: LEVELS })
  })

  it('is drained by priority; none is 0, and above its maximum is that', async () => {
    publish(client, 'a b1 c9 d0 e200 f10 g1')
    await client.call(BASIC.consume, { ...CONSUME_VALUES, noAck: true }, BASIC.consumeOk)
    expect(await bodies(client, 7)).toBe('e200 f10 c9 b1 g1 a d0')
    expect(await inspect(client)).toBe(0)
  })

  it('gives the highest that waits for each acknowledgement, with prefetch 1', async () => {
    await prefetch(client, 1)
    await client.call(BASIC.consume, CONSUME_VALUES, BASIC.consumeOk)
    publish(client, 'a0 b0 c5 d5 e9')
    expect(await bodies(client, 1)).toBe('a0')
    const got: string[] = []
    for (let tag = 1; tag <= 4; tag++) {
      // The acknowledgement and one more message in one write: that is judged with the others.
      client.method(BASIC.ack, 1, { deliveryTag: tag, multiple: false })
      if (tag === 1) publish(client, 'f7')
      got.push(await bodies(client, 1))
    }
    expect(got.join(' ')).toBe('e9 f7 c5 d5')
    expect(await inspect(client)).toBe(1)
  })

  it('takes back what is returned to its place in its level', async () => {
    publish(client, 'a1 b1 c3 d3 e0')
    await prefetch(client, 5)
    await client.call(BASIC.consume, CONSUME_VALUES, BASIC.consumeOk)
    expect(await bodies(client, 5)).toBe('c3 d3 a1 b1 e0')
    client.method(BASIC.nack, 1, { deliveryTag: 4, ...ANSWER, multiple: true })
    expect(await bodies(client, 4)).toBe('c3 d3 a1 b1')
    client.method(BASIC.reject, 1, { deliveryTag: 6, requeue: false })
    client.method(BASIC.ack, 1, { deliveryTag: 9, multiple: true })
    expect(await inspect(client)).toBe(0)
    await client.call(BASIC.recover, { requeue: true }, BASIC.recoverOk)
    expect(await inspect(client)).toBe(0)
  })

  it('answers basic.get, purge and delete for all its levels', async () => {
    publish(client, 'a0 b2 c9')
    client.method(BASIC.get, 1, { reserved: 0, queue: 'q', noAck: false })
    const { values, body } = await client.content(BASIC.getOk)
    expect([`${body}`, values.messageCount, values.redelivered]).toEqual(['c9', 2, false])
    client.method(BASIC.reject, 1, { deliveryTag: 1, requeue: true })
    client.method(BASIC.get, 1, { reserved: 0, queue: 'q', noAck: true })
    const again = await client.content(BASIC.getOk)
    expect([`${again.body}`, again.values.redelivered]).toEqual(['c9', true])
    const purge = { reserved: 0, queue: 'q', noWait: false }
    expect((await client.call(QUEUE.purge, purge, QUEUE.purgeOk)).messageCount).toBe(2)
    publish(client, 'd0 e5')
    const deleted = await client.call(QUEUE.delete, DELETE_VALUES, QUEUE.deleteOk)
    expect(deleted.messageCount).toBe(2)
  })

  it('is declared again only with the same maximum', async () => {
    await declareQueue(client, { durable: true, arguments: LEVELS })
    client.method(QUEUE.declare, 1, { ...QUEUE_VALUES, durable: true })
    expect((await client.expect(CHANNEL.close)).replyCode).toBe(406)
  })
})
