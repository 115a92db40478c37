import { beforeEach, describe, expect, it } from 'vitest'
import { BASIC, CHANNEL, QUEUE } from '../../src/amqp/codec/methods.ts'
import type { FieldTable } from '../../src/core/field-table.ts'
import type { AmqpGateway } from '../support/amqp-gateway.ts'
import {
  CONSUME_VALUES,
  channelClosed,
  DELETE_VALUES,
  declareQueue,
  nothingMoreLater,
  QUEUE_VALUES,
  startAmqp
} from '../support/amqp-moves.ts'
import type { RawAmqp } from '../support/raw-amqp.ts'

const SINGLE: FieldTable = [['x-single-active-consumer', { type: 't', value: true }]]

let gateway: AmqpGateway
let client: RawAmqp

beforeEach(async () => {
  ;({ gateway, client } = await startAmqp())
  await declareQueue(client, { arguments: SINGLE })
})

async function consume(peer: RawAmqp, tag: string, priority = 0, channel = 1): Promise<void> {
  const table: FieldTable = priority === 0 ? [] : [['x-priority', { type: 'I', value: priority }]]
  const values = { ...CONSUME_VALUES, consumerTag: tag, arguments: table }
  await peer.call(BASIC.consume, values, BASIC.consumeOk, channel)
}

/** The next delivery as `consumer tag:body`, with `!` when it is a redelivery. */
async function next(peer: RawAmqp, channel = 1): Promise<string> {
  const { values, body } = await peer.content(BASIC.deliver, channel)
  return `${values.consumerTag}:${body}${values.redelivered ? '!' : ''}`
}

describe('a queue with a single active consumer', () => {
  it('gives everything to the first that came, the others stand by', async () => {
    const other = await gateway.connect()
    await consume(client, 'first')
    await consume(other, 'second')
    for (const body of ['1', '2', '3']) client.publish('', 'q', body)
    expect([await next(client), await next(client), await next(client)]).toEqual([
      'first:1',
      'first:2',
      'first:3'
    ])
    await nothingMoreLater(other)
  })

  it('passes to the next when the active one cancels; what is open stays with it until it is settled', async () => {
    const other = await gateway.connect()
    await client.call(BASIC.qos, { prefetchSize: 0, prefetchCount: 2, global: false }, BASIC.qosOk)
    await consume(client, 'first')
    await consume(other, 'second')
    for (const body of ['1', '2', '3']) client.publish('', 'q', body)
    expect([await next(client), await next(client)]).toEqual(['first:1', 'first:2'])
    await nothingMoreLater(other)
    await client.call(BASIC.cancel, { consumerTag: 'first', noWait: false }, BASIC.cancelOk)
    expect(await next(other)).toBe('second:3')
    client.method(BASIC.ack, 1, { deliveryTag: 1, multiple: false })
    client.method(BASIC.nack, 1, { deliveryTag: 2, multiple: false, requeue: true })
    expect(await next(other)).toBe('second:2!')
    await nothingMoreLater(other)
  })

  it('passes on when the channel or the connection of the active one ends, with what it held, in order', async () => {
    const other = await gateway.connect()
    await other.openChannel(2)
    await client.openChannel(2)
    await consume(client, 'first', 0, 2)
    await consume(other, 'second')
    await consume(other, 'third', 0, 2)
    client.publish('', 'q', '1')
    client.publish('', 'q', '2')
    expect([await next(client, 2), await next(client, 2)]).toEqual(['first:1', 'first:2'])
    const close = { replyCode: 200, replyText: '', classId: 0, methodId: 0 }
    await client.call(CHANNEL.close, close, CHANNEL.closeOk, 2)
    expect([await next(other), await next(other)]).toEqual(['second:1!', 'second:2!'])
    await consume(client, 'last')
    // Both consumers of the other connection go with it: neither is given what the other had.
    other.destroy()
    expect([await next(client), await next(client)]).toEqual(['last:1!', 'last:2!'])
  })

  it('lets the active one finish without credit: who stands by gets nothing', async () => {
    const other = await gateway.connect()
    await client.call(BASIC.qos, { prefetchSize: 0, prefetchCount: 1, global: false }, BASIC.qosOk)
    await consume(client, 'first')
    await consume(other, 'second')
    client.publish('', 'q', '1')
    client.publish('', 'q', '2')
    expect(await next(client)).toBe('first:1')
    await nothingMoreLater(other)
    client.method(BASIC.ack, 1, { deliveryTag: 1, multiple: false })
    expect(await next(client)).toBe('first:2')
  })

  it('stays with the active one when a higher priority comes; the highest of those standing by is next', async () => {
    const other = await gateway.connect()
    await consume(client, 'first')
    await consume(other, 'low')
    await consume(other, 'high', 5)
    await consume(other, 'high too', 5)
    client.publish('', 'q', '1')
    expect(await next(client)).toBe('first:1')
    await client.call(BASIC.cancel, { consumerTag: 'first', noWait: false }, BASIC.cancelOk)
    client.publish('', 'q', '2')
    expect(await next(other)).toBe('high:2')
    await other.call(BASIC.cancel, { consumerTag: 'high', noWait: false }, BASIC.cancelOk)
    client.publish('', 'q', '3')
    expect(await next(other)).toBe('high too:3')
    await other.call(BASIC.cancel, { consumerTag: 'high too', noWait: false }, BASIC.cancelOk)
    client.publish('', 'q', '4')
    expect(await next(other)).toBe('low:4')
  })

  it('forgets who stood by and left', async () => {
    const other = await gateway.connect()
    await consume(client, 'first')
    await consume(other, 'second')
    await consume(client, 'third')
    await other.call(BASIC.cancel, { consumerTag: 'second', noWait: false }, BASIC.cancelOk)
    await client.call(BASIC.cancel, { consumerTag: 'first', noWait: false }, BASIC.cancelOk)
    client.publish('', 'q', '1')
    expect(await next(client)).toBe('third:1')
    const { consumerCount } = await client.call(
      QUEUE.declare,
      { ...QUEUE_VALUES, passive: true },
      QUEUE.declareOk
    )
    expect(consumerCount).toBe(1)
  })

  it('tells all of them when it is deleted', async () => {
    await consume(client, 'first')
    await consume(client, 'second')
    client.method(QUEUE.delete, 1, DELETE_VALUES)
    expect((await client.expect(BASIC.cancel)).consumerTag).toBe('first')
    expect((await client.expect(BASIC.cancel)).consumerTag).toBe('second')
    await client.expect(QUEUE.deleteOk)
  })

  it('R13: cannot be consumed exclusively: 403, with and without others', async () => {
    client.method(BASIC.consume, 1, { ...CONSUME_VALUES, exclusive: true })
    const text = "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use"
    await channelClosed(client, 403, BASIC.consume, text)
  })

  it('R16: has no basic.get: 405', async () => {
    client.method(BASIC.get, 1, { reserved: 0, queue: 'q', noAck: true })
    await channelClosed(
      client,
      405,
      BASIC.get,
      "RESOURCE_LOCKED - cannot obtain access to locked queue 'q' in vhost '/'. basic.get operations are not " +
        'supported by quorum queues with single active consumer'
    )
  })

  it('is declared with a boolean, else 406', async () => {
    const table: FieldTable = [['x-single-active-consumer', { type: 'S', value: 'true' }]]
    client.method(QUEUE.declare, 1, { ...QUEUE_VALUES, queue: 'r', arguments: table })
    expect((await client.expect(CHANNEL.close)).replyCode).toBe(406)
  })
})
