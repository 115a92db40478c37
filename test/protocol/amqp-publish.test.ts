import { beforeEach, describe, expect, it } from 'vitest'
import {
  BASIC,
  CHANNEL,
  CONFIRM,
  CONNECTION,
  EXCHANGE,
  QUEUE
} from '../../src/amqp/codec/methods.ts'
import { decodeProperties } from '../../src/amqp/properties.ts'
import type { FieldTable } from '../../src/core/field-table.ts'
import type { MessageProperties } from '../../src/core/properties.ts'
import type { AmqpGateway } from '../support/amqp-gateway.ts'
import {
  BIND_VALUES,
  CONSUME_VALUES,
  DELETE_VALUES,
  declareQueue,
  nothingMore,
  QUEUE_VALUES,
  startAmqp
} from '../support/amqp-moves.ts'
import { publishFrames, type RawAmqp, rawFrame } from '../support/raw-amqp.ts'

let gateway: AmqpGateway
let client: RawAmqp

beforeEach(async () => {
  ;({ gateway, client } = await startAmqp())
})

async function declare(queue: string, durable = false, args: FieldTable = []): Promise<void> {
  await declareQueue(client, { queue, durable, arguments: args })
}

async function get(queue: string) {
  client.method(BASIC.get, 1, { reserved: 0, queue, noAck: true })
  return await client.content(BASIC.getOk)
}

async function bind(queue: string, exchange: string, routingKey: string, args: FieldTable = []) {
  const values = { ...BIND_VALUES, queue, exchange, routingKey, arguments: args }
  await client.call(QUEUE.bind, values, QUEUE.bindOk)
}

describe('content', () => {
  it('is delivered as it was published, with its properties byte for byte', async () => {
    await declare('q')
    const properties: Partial<MessageProperties> = {
      contentType: 'text/plain',
      deliveryMode: 1,
      priority: 3,
      timestamp: 17n,
      headers: [
        ['b', { type: 'B', value: 7 }],
        ['b', { type: 'D', scale: 1, value: 5 }]
      ]
    }
    client.publish('', 'q', 'hello', { properties })
    const { values, properties: bytes, body } = await get('q')
    expect(values).toMatchObject({
      exchange: '',
      routingKey: 'q',
      redelivered: false,
      messageCount: 0
    })
    expect(body.toString()).toBe('hello')
    expect(decodeProperties(bytes, 0, bytes.length)).toMatchObject(properties)
  })

  it('may be cut anywhere on its way', async () => {
    await declare('q')
    const bytes = Buffer.concat(publishFrames('', 'q', Buffer.from('0123456789'), { split: 4 }))
    for (let cut = 1; cut < bytes.length; cut += 3) {
      client.send(bytes.subarray(0, cut))
      await new Promise(resolve => setImmediate(resolve))
      client.send(bytes.subarray(cut))
      expect((await get('q')).body.toString()).toBe('0123456789')
    }
  })

  it('of two channels may come interleaved', async () => {
    await declare('q')
    await client.openChannel(2)
    const one = publishFrames('', 'q', Buffer.from('first!'), { split: 2 })
    const two = publishFrames('', 'q', Buffer.from('second'), { split: 2, channel: 2 })
    client.send(...one.flatMap((frame, i) => [frame, two[i]!]))
    expect((await get('q')).body.toString()).toBe('first!')
    expect((await get('q')).body.toString()).toBe('second')
  })

  it('may be empty', async () => {
    await declare('q')
    client.publish('', 'q', '')
    client.send(...publishFrames('', 'q', Buffer.alloc(0)).slice(0, 1))
    client.send(...publishFrames('', 'q', Buffer.alloc(0)).slice(1))
    expect((await get('q')).frames).toBe(0)
    expect((await get('q')).frames).toBe(0)
  })

  it('of many megabytes is split at the frame-max of whoever gets it', async () => {
    const small = await gateway.connect({ frameMax: 4096 })
    await declare('q')
    const body = Buffer.alloc(5_000_000, 'abcdefg')
    client.publish('', 'q', body)
    client.publish('', 'q', 'behind')
    await nothingMore(client)
    small.method(BASIC.get, 1, { reserved: 0, queue: 'q', noAck: true })
    const got = await small.content(BASIC.getOk)
    expect(got.frames).toBe(Math.ceil(body.length / 4088))
    expect(got.body.equals(body)).toBe(true)
    expect((await get('q')).body.toString()).toBe('behind')
  })

  it('with headers that a small frame cannot hold is delivered without them', async () => {
    const small = await gateway.connect({ frameMax: 4096 })
    await declare('q')
    const headers: MessageProperties['headers'] = [['big', { type: 'S', value: 'x'.repeat(5000) }]]
    client.publish('', 'q', 'x', { properties: { headers, type: 'kept' } })
    await nothingMore(client)
    small.method(BASIC.get, 1, { reserved: 0, queue: 'q', noAck: true })
    const { properties } = await small.content(BASIC.getOk)
    const decoded = decodeProperties(properties, 0, properties.length)
    expect(decoded.type).toBe('kept')
    expect(decoded.headers).toEqual([['x-headers-omitted', { type: 't', value: true }]])
  })
})

describe('routing', () => {
  it('goes through topic, fanout and headers exchanges, and from exchange to exchange', async () => {
    await declare('t')
    await declare('f')
    await declare('h')
    await bind('t', 'amq.topic', 'a.*.#')
    await bind('f', 'amq.fanout', '')
    await bind('h', 'amq.headers', '', [['n', { type: 'l', value: 5n }]])
    const between = {
      reserved: 0,
      destination: 'amq.headers',
      source: 'amq.fanout',
      routingKey: '',
      noWait: false,
      arguments: []
    }
    await client.call(EXCHANGE.bind, between, EXCHANGE.bindOk)
    client.publish('amq.topic', 'a.b', 'topic')
    client.publish('amq.fanout', 'k', 'fanout', {
      properties: { headers: [['n', { type: 'b', value: 5 }]] }
    })
    client.publish('amq.headers', 'k', 'no', {
      properties: { headers: [['n', { type: 'b', value: 6 }]] }
    })
    expect((await get('t')).body.toString()).toBe('topic')
    expect((await get('f')).body.toString()).toBe('fanout')
    const last = await get('h')
    expect(last.body.toString()).toBe('fanout')
    expect(last.values.messageCount).toBe(0)
  })

  it('takes further keys from CC and BCC, and shows CC only', async () => {
    await declare('a')
    await declare('b')
    await declare('c')
    const list = (key: string) => ({ type: 'A', value: [{ type: 'S', value: key }] }) as const
    client.publish('', 'a', 'x', {
      properties: {
        headers: [
          ['CC', list('b')],
          ['BCC', list('c')]
        ]
      }
    })
    for (const queue of ['a', 'b', 'c']) {
      const { properties, body } = await get(queue)
      expect(body.toString()).toBe('x')
      expect(decodeProperties(properties, 0, properties.length).headers).toEqual([
        ['CC', list('b')]
      ])
    }
  })

  it('of an empty queue name and key goes to the queue that was declared last', async () => {
    await declare('q')
    await bind('', 'amq.direct', '')
    client.publish('amq.direct', 'q', 'x')
    expect((await get('')).body.toString()).toBe('x')
  })
})

describe('confirms', () => {
  it('leave when the message is on the disk, many in one frame', async () => {
    await declare('q', true)
    await client.call(CONFIRM.select, { noWait: false }, CONFIRM.selectOk)
    gateway.journal.isAutomatic = false
    for (let i = 0; i < 10; i++) client.publish('', 'q', `${i}`, { persistent: true })
    await nothingMore(client)
    gateway.journal.sync()
    expect(await client.expect(BASIC.ack)).toEqual({ deliveryTag: 10, multiple: true })
  })

  it('of what waits for nothing leave at once, and one by one beyond what waits', async () => {
    await declare('q', true)
    await client.call(CONFIRM.select, { noWait: false }, CONFIRM.selectOk)
    gateway.journal.isAutomatic = false
    client.publish('', 'q', 'waits', { persistent: true })
    client.publish('', 'q', 'transient')
    expect(await client.expect(BASIC.ack)).toEqual({ deliveryTag: 2, multiple: false })
    client.publish('', 'nowhere', 'unroutable', { persistent: true })
    expect(await client.expect(BASIC.ack)).toEqual({ deliveryTag: 3, multiple: false })
    gateway.journal.sync()
    expect(await client.expect(BASIC.ack)).toEqual({ deliveryTag: 1, multiple: false })
  })

  it('of one write of transient messages leave in one frame', async () => {
    await client.call(CONFIRM.select, { noWait: false }, CONFIRM.selectOk)
    const frames = Array.from({ length: 50 }, () => publishFrames('', 'q', Buffer.from('x'))).flat()
    client.send(...frames)
    expect(await client.expect(BASIC.ack)).toEqual({ deliveryTag: 50, multiple: true })
  })

  it('count from the first select, whatever was published before; a second one changes nothing', async () => {
    client.publish('', 'q', 'x')
    await client.call(CONFIRM.select, { noWait: false }, CONFIRM.selectOk)
    client.publish('', 'q', 'x')
    expect((await client.expect(BASIC.ack)).deliveryTag).toBe(1)
    await client.call(CONFIRM.select, { noWait: false }, CONFIRM.selectOk)
    client.publish('', 'q', 'x')
    expect((await client.expect(BASIC.ack)).deliveryTag).toBe(2)
  })

  it('are nacks when the queue refuses', async () => {
    await declare('q', false, [
      ['x-max-length', { type: 'l', value: 1n }],
      ['x-overflow', { type: 'S', value: 'reject-publish' }]
    ])
    await client.call(CONFIRM.select, { noWait: false }, CONFIRM.selectOk)
    client.publish('', 'q', 'in')
    expect((await client.expect(BASIC.ack)).deliveryTag).toBe(1)
    client.publish('', 'q', 'out')
    expect(await client.expect(BASIC.nack)).toEqual({
      deliveryTag: 2,
      multiple: false,
      requeue: false
    })
    client.publish('', 'elsewhere', 'x')
    expect(await client.expect(BASIC.ack)).toEqual({ deliveryTag: 3, multiple: false })
  })
})

describe('a mandatory message', () => {
  it('without a queue comes back, before its confirm', async () => {
    await client.call(CONFIRM.select, { noWait: false }, CONFIRM.selectOk)
    client.publish('amq.direct', 'key', 'back', { mandatory: true, properties: { messageId: 'm' } })
    const { values, body, properties } = await client.content(BASIC.return)
    expect(values).toEqual({
      replyCode: 312,
      replyText: 'NO_ROUTE',
      exchange: 'amq.direct',
      routingKey: 'key'
    })
    expect(body.toString()).toBe('back')
    expect(decodeProperties(properties, 0, properties.length).messageId).toBe('m')
    expect((await client.expect(BASIC.ack)).deliveryTag).toBe(1)
  })

  it('with a queue does not', async () => {
    await declare('q')
    client.publish('', 'q', 'x', { mandatory: true })
    await nothingMore(client)
  })
})

describe('definitions', () => {
  it('are answered when they are on the disk, in the order of the methods', async () => {
    gateway.journal.isAutomatic = false
    const values = { ...QUEUE_VALUES, durable: true }
    client.method(QUEUE.declare, 1, values)
    client.method(BASIC.consume, 1, { ...CONSUME_VALUES, noAck: true })
    client.publish('', 'q', 'first')
    await client.openChannel(2)
    gateway.journal.sync()
    await client.expect(QUEUE.declareOk)
    await client.expect(BASIC.consumeOk)
    expect((await client.content(BASIC.deliver)).body.toString()).toBe('first')
  })

  it('hold a get behind them', async () => {
    gateway.journal.isAutomatic = false
    const values = { ...QUEUE_VALUES, durable: true }
    client.method(QUEUE.declare, 1, values)
    client.publish('', 'q', 'x')
    client.method(BASIC.get, 1, { reserved: 0, queue: 'q', noAck: true })
    await new Promise(resolve => setTimeout(resolve, 20))
    gateway.journal.sync()
    await client.expect(QUEUE.declareOk)
    expect((await client.content(BASIC.getOk)).body.toString()).toBe('x')
  })

  it('count the ready messages of publishes before them', async () => {
    await declare('q')
    for (let i = 0; i < 3; i++) client.publish('', 'q', 'x')
    const values = { ...QUEUE_VALUES, passive: true }
    const declared = await client.call(QUEUE.declare, values, QUEUE.declareOk)
    expect(declared).toEqual({ queue: 'q', messageCount: 3, consumerCount: 0 })
    const purged = await client.call(
      QUEUE.purge,
      { reserved: 0, queue: 'q', noWait: false },
      QUEUE.purgeOk
    )
    expect(purged.messageCount).toBe(3)
    client.publish('', 'q', 'x')
    const deleted = await client.call(QUEUE.delete, DELETE_VALUES, QUEUE.deleteOk)
    expect(deleted.messageCount).toBe(1)
  })

  it('without a name get one', async () => {
    const values = { ...QUEUE_VALUES, queue: '', exclusive: true }
    const { queue } = await client.call(QUEUE.declare, values, QUEUE.declareOk)
    expect(queue).toMatch(/^amq\.gen-/)
  })

  it('lose the line ends in their names', async () => {
    await declare('a\r\nb')
    client.publish('', 'ab', 'x')
    expect((await get('ab')).body.toString()).toBe('x')
  })
})

describe('the disk alarm', () => {
  it('stops reading a connection that publishes, tells it, and goes on where it was', async () => {
    await declare('q')
    gateway.alarm(true)
    client.publish('', 'q', 'held')
    expect((await client.expect(CONNECTION.blocked, 0)).reason).toBe('low on disk')
    client.publish('', 'q', 'held too')
    client.method(CHANNEL.flow, 1, { active: true })
    const other = await gateway.connect()
    other.method(BASIC.get, 1, { reserved: 0, queue: 'q', noAck: true })
    await other.expect(BASIC.getEmpty)
    gateway.alarm(false)
    await client.expect(CONNECTION.unblocked, 0)
    await client.expect(CHANNEL.flowOk)
    expect((await get('q')).body.toString()).toBe('held')
    expect((await get('q')).body.toString()).toBe('held too')
  })

  it('is not told to a client that did not ask, nor does silence while it is held end it', async () => {
    const quiet = await gateway.connect({ capabilities: [], heartbeat: 10 })
    gateway.alarm(true)
    quiet.publish('', 'q', 'x')
    quiet.method(CHANNEL.flow, 1, { active: true })
    await expect.poll(() => isHeld()).toBe(true)
    gateway.pass(60)
    expect(quiet.isEnded).toBe(false)
    gateway.alarm(false)
    await quiet.expect(CHANNEL.flowOk)
  })

  it('does not concern whoever only consumes', async () => {
    gateway.alarm(true)
    await nothingMore(client)
    gateway.alarm(false)
    await nothingMore(client)
  })

  function isHeld(): boolean {
    return [...gateway.amqp.connections.keys()].some(connection => connection.isHeld)
  }
})

describe('a message that is too large in all but its announcement', () => {
  it('costs no more memory than what arrived', async () => {
    const header = Buffer.alloc(14)
    header.writeUInt16BE(60, 0)
    header.writeBigUInt64BE(16n * 1024n * 1024n, 4)
    const before = process.memoryUsage().arrayBuffers
    client.send(
      publishFrames('', 'q', Buffer.alloc(0))[0]!,
      rawFrame(2, 1, header),
      rawFrame(3, 1, Buffer.alloc(10))
    )
    await client.openChannel(2)
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(4 * 1024 * 1024)
  })
})
