import { beforeEach, describe, expect, it } from 'vitest'
import { BASIC, CHANNEL, CONNECTION, QUEUE } from '../../src/amqp/codec/methods.ts'
import type { AmqpGateway } from '../support/amqp-gateway.ts'
import {
  BIND_VALUES,
  CONSUME_VALUES,
  DELETE_VALUES,
  declareQueue,
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

async function filled(count: number, changes: Partial<typeof QUEUE_VALUES> = {}): Promise<void> {
  await declareQueue(client, changes)
  for (let i = 1; i <= count; i++) client.publish('', changes.queue ?? 'q', `${i}`)
}

async function consume(changes: Partial<typeof CONSUME_VALUES> = {}, channel = 1): Promise<void> {
  await client.call(BASIC.consume, { ...CONSUME_VALUES, ...changes }, BASIC.consumeOk, channel)
}

async function qos(prefetchCount: number, global = false): Promise<void> {
  await client.call(BASIC.qos, { prefetchSize: 0, prefetchCount, global }, BASIC.qosOk)
}

/** The next delivery as `tag:body`, with `!` when it is a redelivery. */
async function next(channel = 1): Promise<string> {
  const { values, body } = await client.content(BASIC.deliver, channel)
  return `${values.deliveryTag}:${body}${values.redelivered ? '!' : ''}`
}

async function several(count: number): Promise<string[]> {
  const list: string[] = []
  for (let i = 0; i < count; i++) list.push(await next())
  return list
}

function ack(deliveryTag: number, multiple = false): void {
  client.method(BASIC.ack, 1, { deliveryTag, multiple })
}

describe('prefetch', () => {
  it('bounds the open deliveries of each new consumer', async () => {
    await filled(5)
    await qos(2)
    await consume()
    expect(await several(2)).toEqual(['1:1', '2:2'])
    await nothingMoreLater(client)
    ack(2)
    expect(await next()).toBe('3:3')
    await nothingMoreLater(client)
    ack(3, true)
    expect(await several(2)).toEqual(['4:4', '5:5'])
  })

  it('of a consumer is the one that held when it began', async () => {
    await filled(4)
    await qos(1)
    await consume()
    expect(await next()).toBe('1:1')
    await qos(3)
    await nothingMoreLater(client)
    await consume({ consumerTag: 'second' })
    expect(await several(3)).toEqual(['2:2', '3:3', '4:4'])
  })

  it('with global bounds the channel as a whole', async () => {
    await filled(5)
    await qos(3, true)
    await consume()
    expect((await several(3)).length).toBe(3)
    await consume({ consumerTag: 'second' })
    await nothingMoreLater(client)
    ack(1)
    expect(await next()).toBe('4:4')
    client.method(BASIC.qos, 1, { prefetchSize: 0, prefetchCount: 0, global: true })
    await client.expect(BASIC.qosOk)
    expect(await next()).toBe('5:5')
  })

  it('does not bind a consumer without acks, nor basic.get', async () => {
    await filled(5)
    await qos(1)
    await consume({ noAck: true })
    expect((await several(5)).length).toBe(5)
    await client.call(BASIC.cancel, { consumerTag: 'c', noWait: false }, BASIC.cancelOk)
    client.publish('', 'q', 'a')
    client.publish('', 'q', 'b')
    for (const expected of ['a', 'b']) {
      client.method(BASIC.get, 1, { reserved: 0, queue: 'q', noAck: false })
      expect((await client.content(BASIC.getOk)).body.toString()).toBe(expected)
    }
  })

  it('of 0 is the bound of a channel: then it waits, nobody is cancelled', async () => {
    ;({ gateway, client } = await startAmqp({ limits: { channelUnackedMax: 3 } }))
    await filled(5)
    await consume()
    expect((await several(3)).length).toBe(3)
    await nothingMoreLater(client)
    ack(1)
    expect(await next()).toBe('4:4')
  })
})

describe('deliveries', () => {
  it('come in turn to the consumers of a queue', async () => {
    await declareQueue(client)
    const other = await gateway.connect()
    await consume({ noAck: true })
    await other.call(BASIC.consume, { ...CONSUME_VALUES, noAck: true }, BASIC.consumeOk)
    for (let i = 1; i <= 4; i++) client.publish('', 'q', `${i}`)
    expect((await several(2)).length).toBe(2)
    for (let i = 0; i < 2; i++) await other.content(BASIC.deliver)
  })

  it('say through whom they came', async () => {
    await filled(0)
    await client.call(
      QUEUE.bind,
      { ...BIND_VALUES, exchange: 'amq.topic', routingKey: '#' },
      QUEUE.bindOk
    )
    await consume({ consumerTag: 'tag-ü', noAck: true })
    client.publish('amq.topic', 'a.b/c', 'x')
    const { values } = await client.content(BASIC.deliver)
    expect(values).toEqual({
      consumerTag: 'tag-ü',
      deliveryTag: 1,
      redelivered: false,
      exchange: 'amq.topic',
      routingKey: 'a.b/c'
    })
  })

  it('stop with cancel; what is open may still be acknowledged', async () => {
    await filled(2)
    await qos(1)
    await consume()
    expect(await next()).toBe('1:1')
    await client.call(BASIC.cancel, { consumerTag: 'c', noWait: false }, BASIC.cancelOk)
    ack(1)
    await nothingMoreLater(client)
    client.method(BASIC.get, 1, { reserved: 0, queue: 'q', noAck: true })
    const { values, body } = await client.content(BASIC.getOk)
    expect([values.deliveryTag, body.toString()]).toEqual([2, '2'])
  })

  it('of a generated tag are named by it', async () => {
    await filled(1)
    const { consumerTag } = await client.call(
      BASIC.consume,
      { ...CONSUME_VALUES, consumerTag: '' },
      BASIC.consumeOk
    )
    expect(consumerTag).toMatch(/^amq\.ctag-/)
    expect((await client.content(BASIC.deliver)).values.consumerTag).toBe(consumerTag)
  })

  it('are get-empty when there is nothing', async () => {
    await filled(0)
    await client.call(BASIC.get, { reserved: 0, queue: 'q', noAck: true }, BASIC.getEmpty)
  })
})

describe('what is given back', () => {
  it('by nack goes to its place and comes again, marked', async () => {
    await filled(3)
    await qos(3)
    await consume()
    expect(await several(3)).toEqual(['1:1', '2:2', '3:3'])
    client.method(BASIC.nack, 1, { deliveryTag: 2, multiple: true, requeue: true })
    expect((await several(2)).map(each => each.split(':')[1])).toEqual(['1!', '2!'])
    ack(0, true)
    await nothingMoreLater(client)
  })

  it('by reject without requeue is gone, and counted', async () => {
    await filled(1)
    await consume()
    await next()
    client.method(BASIC.reject, 1, { deliveryTag: 1, requeue: false })
    await nothingMoreLater(client)
    expect(gateway.broker.counters.dropped.get('rejected')).toBe(1)
    await client.call(BASIC.get, { reserved: 0, queue: 'q', noAck: true }, BASIC.getEmpty)
  })

  it('by recover is all of the channel, once', async () => {
    await filled(3)
    await qos(3)
    await consume()
    expect(await several(3)).toEqual(['1:1', '2:2', '3:3'])
    client.method(BASIC.recover, 1, { requeue: true })
    await client.expect(BASIC.recoverOk)
    expect((await several(3)).map(each => each.split(':')[1]).sort()).toEqual(['1!', '2!', '3!'])
    await nothingMoreLater(client)
  })

  it('by closing the channel or losing the connection comes to another, in order', async () => {
    await filled(3)
    await consume()
    await several(3)
    client.destroy()
    const other = await gateway.connect()
    await expect.poll(() => gateway.closed).toBe(1)
    await other.call(BASIC.consume, CONSUME_VALUES, BASIC.consumeOk)
    for (const expected of ['1', '2', '3']) {
      const { values, body } = await other.content(BASIC.deliver)
      expect([values.redelivered, body.toString()]).toEqual([true, expected])
    }
  })

  it('of several comes to another in the order of the queue, whatever their tags', async () => {
    await filled(3)
    await qos(3)
    await consume()
    await several(3)
    for (const [deliveryTag, again] of [
      [1, '4:1!'],
      [2, '5:2!']
    ] as const) {
      client.method(BASIC.nack, 1, { deliveryTag, multiple: false, requeue: true })
      expect(await next()).toBe(again)
    }
    const other = await gateway.connect()
    await other.call(BASIC.consume, CONSUME_VALUES, BASIC.consumeOk)
    const bodies = async () => {
      const list: string[] = []
      for (let i = 0; i < 3; i++) list.push((await other.content(BASIC.deliver)).body.toString())
      return list
    }
    client.method(BASIC.nack, 1, { deliveryTag: 0, multiple: true, requeue: true })
    expect(await bodies()).toEqual(['1', '2', '3'])
  })

  it('by a connection that ends never goes to another of its own consumers', async () => {
    await filled(1)
    await consume()
    await next()
    await client.openChannel(2)
    await consume({ consumerTag: 'greedy', noAck: true }, 2)
    client.destroy()
    await expect.poll(() => gateway.closed).toBe(1)
    const other = await gateway.connect()
    other.method(BASIC.get, 1, { reserved: 0, queue: 'q', noAck: true })
    expect((await other.content(BASIC.getOk)).body.toString()).toBe('1')
  })

  it('lets one delivery stay open while many others come and go', async () => {
    await filled(0)
    await qos(2)
    await consume()
    client.publish('', 'q', 'stays')
    expect(await next()).toBe('1:stays')
    for (let tag = 2; tag < 300; tag++) {
      client.publish('', 'q', 'goes')
      expect(await next()).toBe(`${tag}:goes`)
      ack(tag)
    }
    ack(1)
    await nothingMoreLater(client)
  })
})

describe('a queue that ends', () => {
  it('tells its consumers, before delete-ok', async () => {
    await filled(0)
    await consume()
    client.method(QUEUE.delete, 1, DELETE_VALUES)
    expect(await client.expect(BASIC.cancel)).toEqual({ consumerTag: 'c', noWait: true })
    await client.expect(QUEUE.deleteOk)
    // Its answer, and a cancel that crossed ours.
    client.method(BASIC.cancelOk, 1, { consumerTag: 'c' })
    await client.call(BASIC.cancel, { consumerTag: 'c', noWait: false }, BASIC.cancelOk)
  })

  it('tells nobody who did not ask for it', async () => {
    const plain = await gateway.connect({ capabilities: [] })
    await filled(0)
    await plain.call(BASIC.consume, CONSUME_VALUES, BASIC.consumeOk)
    await client.call(QUEUE.delete, DELETE_VALUES, QUEUE.deleteOk)
    await plain.call(CHANNEL.flow, { active: true }, CHANNEL.flowOk)
  })

  it('leaves what was delivered of it to be acknowledged without an error', async () => {
    await filled(1)
    await consume()
    await next()
    client.method(QUEUE.delete, 1, DELETE_VALUES)
    await client.expect(BASIC.cancel)
    await client.expect(QUEUE.deleteOk)
    ack(1)
    await nothingMoreLater(client)
  })

  it('ends with its last consumer if it is auto-delete, by cancel, channel or connection', async () => {
    const passive = { ...QUEUE_VALUES, passive: true }
    for (const how of ['cancel', 'channel', 'connection']) {
      await filled(0, { autoDelete: true })
      const other = await gateway.connect()
      await other.call(BASIC.consume, CONSUME_VALUES, BASIC.consumeOk)
      const close = { replyCode: 200, replyText: '', classId: 0, methodId: 0 }
      if (how === 'cancel') {
        await other.call(BASIC.cancel, { consumerTag: 'c', noWait: false }, BASIC.cancelOk)
      } else if (how === 'channel') await other.call(CHANNEL.close, close, CHANNEL.closeOk)
      else await other.call(CONNECTION.close, close, CONNECTION.closeOk, 0)
      client.method(QUEUE.declare, 1, passive)
      expect((await client.expect(CHANNEL.close)).replyCode).toBe(404)
      client.method(CHANNEL.closeOk, 1, {})
      await client.openChannel(1)
    }
  })
})

describe('a consumer that does not read', () => {
  it('gets no more than its output bound; the rest stays in the queue, in order', async () => {
    await filled(0)
    await consume()
    await nothingMoreLater(client)
    client.socket.pause()
    const publisher = await gateway.connect()
    const body = Buffer.alloc(100_000, 'x')
    const count = 200
    for (let i = 0; i < count; i++)
      publisher.publish('', 'q', Buffer.concat([Buffer.from([i]), body]))
    await publisher.call(CHANNEL.flow, { active: true }, CHANNEL.flowOk)
    const queue = gateway.broker.state.vhost('/')!.queues.get('q')!
    expect(queue.readyCount).toBeGreaterThan(50)
    client.socket.resume()
    for (let i = 0; i < count; i++) {
      const delivery = await client.content(BASIC.deliver)
      expect(delivery.body[0]).toBe(i)
      ack(i + 1)
    }
    await nothingMoreLater(client)
    expect([queue.readyCount, queue.unackedCount]).toEqual([0, 0])
  })
})
