/** Answers to requests without a queue: `amq.rabbitmq.reply-to`, with RabbitMQ's codes and texts. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  BASIC,
  CHANNEL,
  CONFIRM,
  CONNECTION,
  type Method,
  QUEUE
} from '../../src/amqp/codec/methods.ts'
import { decodeProperties, encodeProperties } from '../../src/amqp/properties.ts'
import type { FieldTable } from '../../src/core/field-table.ts'
import { type Header, MessageProperties } from '../../src/core/properties.ts'
import { AmqpGateway } from '../support/amqp-gateway.ts'
import { publishFrames, type RawAmqp } from '../support/raw-amqp.ts'

const REPLY_TO = 'amq.rabbitmq.reply-to'
const USUAL = { reserved: 0, exclusive: false, noWait: false, arguments: [] as FieldTable }
const QUEUE_VALUES = {
  ...USUAL,
  queue: 'requests',
  passive: false,
  durable: false,
  autoDelete: false
}
const CONSUME_VALUES = {
  ...USUAL,
  queue: REPLY_TO,
  consumerTag: 'replies',
  noLocal: false,
  noAck: true
}

let gateway: AmqpGateway
/** Asks. */
let client: RawAmqp
/** Answers what lies in the queue `requests`. */
let worker: RawAmqp

beforeEach(async () => {
  gateway = await new AmqpGateway().start()
  client = await gateway.connect()
  worker = await gateway.connect()
  await worker.call(QUEUE.declare, QUEUE_VALUES, QUEUE.declareOk)
})
afterEach(() => gateway.close())

async function consume(changes: Partial<typeof CONSUME_VALUES> = {}, channel = 1): Promise<void> {
  await client.call(BASIC.consume, { ...CONSUME_VALUES, ...changes }, BASIC.consumeOk, channel)
}

async function cancel(channel = 1): Promise<void> {
  const values = { consumerTag: 'replies', noWait: false }
  await client.call(BASIC.cancel, values, BASIC.cancelOk, channel)
}

function request(properties: Partial<MessageProperties> = {}, channel = 1): void {
  client.publish('', 'requests', '?', { channel, properties: { replyTo: REPLY_TO, ...properties } })
}

/** Everything sent before it has been worked on, and nothing else has come. */
async function nothingMore(from = client, channel = 1): Promise<void> {
  await from.call(CHANNEL.flow, { active: true }, CHANNEL.flowOk, channel)
}

async function takeRequest() {
  worker.method(BASIC.get, 1, { reserved: 0, queue: 'requests', noAck: true })
  return await worker.content(BASIC.getOk)
}

/** Asks, and says where the answer is to be sent. */
async function ask(channel = 1): Promise<string> {
  request({}, channel)
  await nothingMore(client, channel)
  const { properties } = await takeRequest()
  return decodeProperties(properties, 0, properties.length).replyTo!
}

const dropped = (reason: 'no_match' | 'slow_consumer') =>
  gateway.broker.counters.dropped.get(reason)!

async function channelClosed(code: number, method: Method, text: string, from = client) {
  const close = await from.expect(CHANNEL.close)
  expect(close.replyText).toBe(text)
  const { classId, methodId } = method
  expect(close).toMatchObject({ replyCode: code, classId, methodId })
  from.method(CHANNEL.closeOk, 1, {})
  await from.openChannel(1)
}

/** The answer comes back to whoever sent it, before its confirm, and is counted. */
async function comesBack(replyTo: string): Promise<void> {
  const before = dropped('no_match')
  worker.publish('', replyTo, 'late', { mandatory: true })
  const { values, body } = await worker.content(BASIC.return)
  const told = { replyCode: 312, replyText: 'NO_ROUTE' }
  expect(values).toEqual({ ...told, exchange: '', routingKey: replyTo })
  expect(body.toString()).toBe('late')
  expect(dropped('no_match')).toBe(before + 1)
}

describe('a request', () => {
  it('carries a name of its channel, all else byte for byte', async () => {
    await consume()
    const properties: Partial<MessageProperties> = {
      contentType: 'text/plain',
      correlationId: Buffer.from('7'),
      messageId: 'm',
      timestamp: 5n,
      userId: 'guest',
      expiration: '60000',
      headers: [
        ['x-correlation-id', { type: 'S', value: 'kept' }],
        ['x-reply-to-topic', { type: 'S', value: 'kept.too' }]
      ]
    }
    request(properties)
    await nothingMore()
    const got = await takeRequest()
    const { replyTo } = decodeProperties(got.properties, 0, got.properties.length)
    expect(replyTo).toMatch(/^amq\.rabbitmq\.reply-to\.g1\.[\w+/]{22}==$/)
    const expected = Object.assign(new MessageProperties(), properties, { replyTo })
    expect(got.properties).toEqual(encodeProperties(expected))
    expect(got.body.toString()).toBe('?')
    expect(got.values).toMatchObject({ exchange: '', routingKey: 'requests' })
  })

  it('carries it wherever it is published to, and however it is cut on its way', async () => {
    await consume()
    const values = {
      reserved: 0,
      queue: 'requests',
      exchange: 'amq.fanout',
      routingKey: '',
      noWait: false,
      arguments: []
    }
    await worker.call(QUEUE.bind, values, QUEUE.bindOk)
    const bytes = Buffer.concat(
      publishFrames('amq.fanout', 'k', Buffer.from('?'), {
        properties: { replyTo: REPLY_TO, headers: [['h', { type: 'S', value: 'v' }]] }
      })
    )
    const replyTo = await ask()
    for (let cut = 1; cut < bytes.length; cut += 7) {
      client.send(bytes.subarray(0, cut))
      await nothingMore(worker)
      client.send(bytes.subarray(cut))
      await nothingMore()
      const { properties, values: got } = await takeRequest()
      expect(decodeProperties(properties, 0, properties.length)).toMatchObject({
        replyTo,
        headers: [['h', { type: 'S', value: 'v' }]]
      })
      expect(got.routingKey).toBe('k')
    }
  })

  it('is routed by its headers all the same', async () => {
    await consume()
    await worker.call(QUEUE.declare, { ...QUEUE_VALUES, queue: 'copy' }, QUEUE.declareOk)
    const names = [{ type: 'S' as const, value: 'copy' }]
    request({ headers: [['CC', { type: 'A', value: names }]] })
    await nothingMore()
    await takeRequest()
    worker.method(BASIC.get, 1, { reserved: 0, queue: 'copy', noAck: true })
    expect((await worker.content(BASIC.getOk)).body.toString()).toBe('?')
  })

  it('with any other reply-to is left alone', async () => {
    for (const replyTo of ['amq.rabbitmq.reply-tO', 'answers', `${REPLY_TO}.mine`, '']) {
      request({ replyTo })
      await nothingMore()
      const { properties } = await takeRequest()
      expect(decodeProperties(properties, 0, properties.length).replyTo).toBe(replyTo)
    }
  })

  it('of a channel that does not consume replies is 406', async () => {
    const text = 'PRECONDITION_FAILED - fast reply consumer does not exist'
    request()
    await channelClosed(406, BASIC.publish, text)
    await client.openChannel(2)
    await consume({}, 2)
    request()
    await channelClosed(406, BASIC.publish, text)
    await ask(2)
    await cancel(2)
    request({}, 2)
    expect((await client.expect(CHANNEL.close, 2)).replyText).toBe(text)
    const queue = gateway.broker.state.vhost('/')!.queues.get('requests')!
    expect(queue.readyCount).toBe(0)
  })

  it('to an exchange that does not exist is 404 first', async () => {
    client.publish('none', 'k', '?', { properties: { replyTo: REPLY_TO } })
    await channelClosed(404, BASIC.publish, "NOT_FOUND - no exchange 'none' in vhost '/'")
  })
})

describe('an answer', () => {
  it('is handed straight to the channel that asked; nothing is stored', async () => {
    await consume()
    const replyTo = await ask()
    await worker.call(CONFIRM.select, { noWait: false }, CONFIRM.selectOk)
    gateway.journal.isAutomatic = false
    const { ticket } = gateway.journal
    const queues = gateway.broker.state.queues.size
    const properties = { correlationId: Buffer.from('7'), contentType: 'text/plain' }
    worker.publish('', replyTo, '!', { persistent: true, mandatory: true, properties })
    expect(await worker.expect(BASIC.ack)).toEqual({ deliveryTag: 1, multiple: false })
    const got = await client.content(BASIC.deliver)
    expect(got.values).toEqual({
      consumerTag: 'replies',
      deliveryTag: 1,
      redelivered: false,
      exchange: '',
      routingKey: replyTo
    })
    expect(got.body.toString()).toBe('!')
    const expected = Object.assign(new MessageProperties(), properties, { deliveryMode: 2 })
    expect(got.properties).toEqual(encodeProperties(expected))
    expect(gateway.journal.ticket).toBe(ticket)
    expect(gateway.broker.state.queues.size).toBe(queues)
    expect(gateway.broker.counters.amqpReceived).toEqual([1, 1, 0])
    expect(dropped('no_match')).toBe(0)
  })

  it('comes in order, any number of times, with tags of the channel', async () => {
    await consume()
    const replyTo = await ask()
    for (let i = 1; i <= 300; i++) worker.publish('', replyTo, `${i}`)
    for (let i = 1; i <= 300; i++) {
      const { values, body } = await client.content(BASIC.deliver)
      expect([values.deliveryTag, body.toString()]).toEqual([i, `${i}`])
    }
    client.method(BASIC.ack, 1, { deliveryTag: 300, multiple: false })
    await channelClosed(406, BASIC.ack, 'PRECONDITION_FAILED - unknown delivery tag 300')
  })

  it('of the asking channel itself, with headers and many frames, comes too', async () => {
    gateway.close()
    gateway = await new AmqpGateway().start()
    client = await gateway.connect({ frameMax: 4096 })
    worker = await gateway.connect()
    await worker.call(QUEUE.declare, QUEUE_VALUES, QUEUE.declareOk)
    await consume()
    const replyTo = await ask()
    const body = Buffer.alloc(20_000, 'motemq')
    const headers: Header[] = [['h', { type: 'I', value: 1 }]]
    client.send(...publishFrames('', replyTo, body, { split: 4_000, properties: { headers } }))
    const got = await client.content(BASIC.deliver)
    expect(got.body.equals(body)).toBe(true)
    expect(got.properties).toEqual(
      encodeProperties(Object.assign(new MessageProperties(), { headers }))
    )
  })

  it('to another exchange under that key is none', async () => {
    await consume()
    const replyTo = await ask()
    worker.publish('amq.direct', replyTo, '!', { mandatory: true })
    await worker.content(BASIC.return)
    await nothingMore()
  })

  it('goes with CC and BCC to queues and to channels that asked', async () => {
    await consume()
    await client.openChannel(2)
    await consume({}, 2)
    const [first, second] = [await ask(1), await ask(2)]
    const keys = (...names: string[]) => ({
      type: 'A' as const,
      value: names.map(value => ({ type: 'S' as const, value }))
    })
    worker.publish('', first, 'a', {
      mandatory: true,
      properties: { headers: [['CC', keys('requests')]] }
    })
    expect((await client.content(BASIC.deliver)).body.toString()).toBe('a')
    expect((await takeRequest()).body.toString()).toBe('a')
    const headers: Header[] = [['BCC', keys(first, second, second)]]
    worker.publish('', 'requests', 'b', { mandatory: true, properties: { headers } })
    const copy = await client.content(BASIC.deliver)
    expect(copy.body.toString()).toBe('b')
    expect(decodeProperties(copy.properties, 0, copy.properties.length).headers).toEqual([])
    expect((await client.content(BASIC.deliver, 2)).body.toString()).toBe('b')
    expect((await takeRequest()).body.toString()).toBe('b')
    worker.publish('', 'nowhere', 'c', {
      mandatory: true,
      properties: { headers: [['CC', keys(second)]] }
    })
    expect((await client.content(BASIC.deliver, 2)).body.toString()).toBe('c')
    await nothingMore(client, 2)
    await nothingMore(worker)
  })

  it('to a client that does not read is bounded, counted and comes back', async () => {
    await consume()
    const replyTo = await ask()
    client.socket.pause()
    await worker.call(CONFIRM.select, { noWait: false }, CONFIRM.selectOk)
    const body = Buffer.alloc(100_000, 'x')
    let sent = 0
    while (dropped('slow_consumer') === 0 && sent < 1_000) {
      worker.publish('', replyTo, body)
      await worker.expect(BASIC.ack)
      sent++
    }
    expect(dropped('slow_consumer')).toBe(1)
    worker.publish('', replyTo, 'back', { mandatory: true })
    expect((await worker.content(BASIC.return)).body.toString()).toBe('back')
    await worker.expect(BASIC.ack)
    client.socket.resume()
    for (let i = 1; i < sent; i++) {
      expect((await client.content(BASIC.deliver)).values.deliveryTag).toBe(i)
    }
    await nothingMore()
    worker.publish('', replyTo, 'again')
    expect((await client.content(BASIC.deliver)).values.deliveryTag).toBe(sent)
  })
})

describe('an answer that comes too late', () => {
  it('after cancel is unroutable; nothing follows cancel-ok', async () => {
    await consume()
    const replyTo = await ask()
    await cancel()
    await comesBack(replyTo)
    await nothingMore()
    await consume()
    expect(await ask()).not.toBe(replyTo)
    await comesBack(replyTo)
    await nothingMore()
  })

  it('is told by its end: cancel while its body is on the way', async () => {
    await consume()
    const replyTo = await ask()
    await worker.call(CONFIRM.select, { noWait: false }, CONFIRM.selectOk)
    const [method, header, body] = publishFrames('', replyTo, Buffer.from('!'), { mandatory: true })
    worker.send(method!, header!)
    await worker.openChannel(2)
    client.method(BASIC.cancel, 1, { consumerTag: 'replies', noWait: true })
    await nothingMore()
    worker.send(body!)
    expect((await worker.content(BASIC.return)).values.routingKey).toBe(replyTo)
    expect(await worker.expect(BASIC.ack)).toEqual({ deliveryTag: 1, multiple: false })
    await nothingMore()
  })

  it('without mandatory is confirmed, and counted', async () => {
    await worker.call(CONFIRM.select, { noWait: false }, CONFIRM.selectOk)
    for (const key of [`${REPLY_TO}.`, `${REPLY_TO}.nobody`]) {
      worker.publish('', key, '!', { persistent: true })
      await worker.expect(BASIC.ack)
    }
    expect(dropped('no_match')).toBe(2)
  })

  it('after the close of the channel, by either side, or of the connection', async () => {
    await consume()
    const first = await ask()
    const close = { replyCode: 200, replyText: '', classId: 0, methodId: 0 }
    await client.call(CHANNEL.close, close, CHANNEL.closeOk)
    await comesBack(first)
    await client.openChannel(1)
    await consume()
    const second = await ask()
    client.method(BASIC.get, 1, { reserved: 0, queue: 'none', noAck: true })
    await client.expect(CHANNEL.close)
    await comesBack(second)
    client.method(CHANNEL.closeOk, 1, {})
    await client.openChannel(1)
    await consume()
    const third = await ask()
    client.destroy()
    await expect.poll(() => gateway.closed).toBe(1)
    await comesBack(third)
    expect(gateway.amqp.replyConsumers.size).toBe(0)
  })
})

describe('consume', () => {
  it('with acknowledgements is 406', async () => {
    client.method(BASIC.consume, 1, { ...CONSUME_VALUES, noAck: false })
    const text = 'PRECONDITION_FAILED - reply consumer cannot acknowledge'
    await channelClosed(406, BASIC.consume, text)
    expect(gateway.amqp.replyConsumers.size).toBe(0)
  })

  it('a second time is 406, and both are gone', async () => {
    await consume()
    const replyTo = await ask()
    client.method(BASIC.consume, 1, { ...CONSUME_VALUES, consumerTag: 'second' })
    const text = 'PRECONDITION_FAILED - reply consumer already set'
    await channelClosed(406, BASIC.consume, text)
    await comesBack(replyTo)
    await consume()
    client.method(BASIC.consume, 1, CONSUME_VALUES)
    await channelClosed(406, BASIC.consume, text)
  })

  it('under a tag that is in use is 530, whichever was first', async () => {
    const text = "NOT_ALLOWED - attempt to reuse consumer tag 'replies'"
    for (const queues of [
      [REPLY_TO, 'requests'],
      ['requests', REPLY_TO]
    ] as const) {
      client = await gateway.connect()
      await consume({ queue: queues[0] })
      client.method(BASIC.consume, 1, { ...CONSUME_VALUES, queue: queues[1] })
      const close = await client.expect(CONNECTION.close, 0)
      expect([close.replyCode, close.replyText]).toEqual([530, text])
    }
  })

  it('of two channels of a connection gets each its own', async () => {
    await client.openChannel(2)
    await consume()
    await consume({}, 2)
    const [first, second] = [await ask(1), await ask(2)]
    expect(first).not.toBe(second)
    worker.publish('', second, 'two')
    expect((await client.content(BASIC.deliver, 2)).body.toString()).toBe('two')
    worker.publish('', first, 'one')
    expect((await client.content(BASIC.deliver, 1)).body.toString()).toBe('one')
  })

  it('may go without a tag, and without an answer', async () => {
    const values = { ...CONSUME_VALUES, consumerTag: '' }
    const { consumerTag } = await client.call(BASIC.consume, values, BASIC.consumeOk)
    expect(consumerTag).toMatch(/^amq\.ctag-/)
    await client.call(BASIC.cancel, { consumerTag, noWait: false }, BASIC.cancelOk)
    client.method(BASIC.consume, 1, { ...CONSUME_VALUES, noWait: true })
    const replyTo = await ask()
    worker.publish('', replyTo, '!')
    expect((await client.content(BASIC.deliver)).values.consumerTag).toBe('replies')
  })

  it('waits for the replies before it, so that no answer overtakes consume-ok', async () => {
    gateway.journal.isAutomatic = false
    client.method(QUEUE.declare, 1, { ...QUEUE_VALUES, queue: 'lasting', durable: true })
    client.method(BASIC.consume, 1, CONSUME_VALUES)
    request()
    const isHeld = () => [...gateway.amqp.connections.keys()].some(connection => connection.isHeld)
    await expect.poll(isHeld).toBe(true)
    worker.method(BASIC.get, 1, { reserved: 0, queue: 'requests', noAck: true })
    await worker.expect(BASIC.getEmpty)
    gateway.journal.sync()
    await client.expect(QUEUE.declareOk)
    await client.expect(BASIC.consumeOk)
    await nothingMore()
    const { properties } = await takeRequest()
    worker.publish('', decodeProperties(properties, 0, properties.length).replyTo!, '!')
    expect((await client.content(BASIC.deliver)).values.deliveryTag).toBe(1)
  })
})

describe('the name', () => {
  it('may be declared: it is there while its channel consumes', async () => {
    const declared = (queue: string, passive: boolean) =>
      worker.call(QUEUE.declare, { ...QUEUE_VALUES, queue, passive }, QUEUE.declareOk)
    const counts = { messageCount: 0, consumerCount: 1 }
    expect(await declared(REPLY_TO, true)).toEqual({ queue: REPLY_TO, ...counts })
    await consume()
    const replyTo = await ask()
    for (const passive of [true, false]) {
      expect(await declared(replyTo, passive)).toEqual({ queue: replyTo, ...counts })
    }
    worker.method(QUEUE.declare, 1, { ...QUEUE_VALUES, queue: replyTo, noWait: true })
    await nothingMore(worker)
    await cancel()
    for (const queue of [replyTo, `${REPLY_TO}.`, `${REPLY_TO}x`]) {
      for (const passive of [true, false]) {
        worker.method(QUEUE.declare, 1, { ...QUEUE_VALUES, queue, passive })
        const text = `NOT_FOUND - no queue '${queue}' in vhost '/'`
        await channelClosed(404, QUEUE.declare, text, worker)
      }
    }
    expect(gateway.broker.state.vhost('/')!.queues.size).toBe(1)
  })

  it('is no queue: it cannot be got from, purged or bound', async () => {
    await consume()
    const text = `NOT_FOUND - no queue '${REPLY_TO}' in vhost '/'`
    worker.method(BASIC.get, 1, { reserved: 0, queue: REPLY_TO, noAck: true })
    await channelClosed(404, BASIC.get, text, worker)
    worker.method(QUEUE.purge, 1, { reserved: 0, queue: REPLY_TO, noWait: false })
    await channelClosed(404, QUEUE.purge, text, worker)
    const replyTo = await ask()
    worker.method(BASIC.consume, 1, { ...CONSUME_VALUES, queue: replyTo })
    const gone = `NOT_FOUND - no queue '${replyTo}' in vhost '/'`
    await channelClosed(404, BASIC.consume, gone, worker)
  })
})
