/** Mistakes that close the connection; what is silent after channel.close; no-wait. */
import { beforeEach, describe, expect, it } from 'vitest'
import {
  BASIC,
  CHANNEL,
  CONFIRM,
  CONNECTION,
  EXCHANGE,
  type Method,
  QUEUE
} from '../../src/amqp/codec/methods.ts'
import type { AmqpGateway } from '../support/amqp-gateway.ts'
import {
  BIND_VALUES,
  CONSUME_VALUES,
  channelClosed,
  DELETE_VALUES,
  declareQueue,
  EXCHANGE_VALUES,
  QUEUE_VALUES,
  startAmqp
} from '../support/amqp-moves.ts'
import { publishFrames, type RawAmqp, rawFrame } from '../support/raw-amqp.ts'

let gateway: AmqpGateway
let client: RawAmqp

beforeEach(async () => {
  ;({ gateway, client } = await startAmqp())
})

async function connectionClosed(code: number, method: Method, text: string) {
  const close = await client.expect(CONNECTION.close, 0)
  expect(close.replyText).toBe(text)
  expect(close).toMatchObject({
    replyCode: code,
    classId: method.classId,
    methodId: method.methodId
  })
  client.method(CONNECTION.closeOk, 0, {})
  await client.ended()
}

describe('connection errors', () => {
  it('R14 530: a consumer tag that is in use on the channel', async () => {
    await declareQueue(client)
    await client.call(BASIC.consume, CONSUME_VALUES, BASIC.consumeOk)
    client.method(BASIC.consume, 1, CONSUME_VALUES)
    await connectionClosed(530, BASIC.consume, "NOT_ALLOWED - attempt to reuse consumer tag 'c'")
  })

  it('R18 540: immediate=true', async () => {
    client.publish('', 'q', 'x', { immediate: true })
    await connectionClosed(540, BASIC.publish, 'NOT_IMPLEMENTED - immediate=true')
  })

  it('R18 540: prefetch_size', async () => {
    client.method(BASIC.qos, 1, { prefetchSize: 10, prefetchCount: 1, global: false })
    await connectionClosed(540, BASIC.qos, 'NOT_IMPLEMENTED - prefetch_size!=0 (10)')
  })

  it('R18 540: recover without requeue', async () => {
    client.method(BASIC.recover, 1, { requeue: false })
    await connectionClosed(540, BASIC.recover, 'NOT_IMPLEMENTED - requeue=false')
  })

  it('502: U+0000 in a name', async () => {
    client.method(QUEUE.declare, 1, { ...QUEUE_VALUES, queue: 'a\0b' })
    await connectionClosed(502, QUEUE.declare, 'SYNTAX_ERROR - a name may not contain U+0000')
  })

  it('502: a field table nested 10,000 deep', async () => {
    let table: Buffer = Buffer.alloc(4)
    for (let i = 0; i < 10_000; i++) {
      const length = Buffer.alloc(4)
      length.writeUInt32BE(table.length + 3, 0)
      table = Buffer.concat([length, Buffer.from('\x01kF', 'latin1'), table])
    }
    const method = Buffer.concat([Buffer.from([0, 50, 0, 10, 0, 0, 1, 0x71, 0]), table])
    client.send(rawFrame(1, 1, method))
    await connectionClosed(502, QUEUE.declare, 'SYNTAX_ERROR - field table nested too deeply')
  })

  it('501: a body longer than its header announced, a size of 2^63', async () => {
    const frames = publishFrames('', 'q', Buffer.from('abc'))
    client.send(frames[0]!, frames[1]!, rawFrame(3, 1, Buffer.from('abcd')))
    expect((await client.expect(CONNECTION.close, 0)).replyCode).toBe(501)
    const other = await gateway.connect()
    const header = Buffer.alloc(14)
    header.writeUInt16BE(60, 0)
    header.writeBigUInt64BE(2n ** 63n, 4)
    other.send(frames[0]!, rawFrame(2, 1, header))
    expect((await other.expect(CONNECTION.close, 0)).replyCode).toBe(501)
  })
})

describe('after channel.close', () => {
  it('open deliveries go back to their queue, before close-ok', async () => {
    await declareQueue(client)
    client.publish('', 'q', 'one')
    client.method(BASIC.get, 1, { reserved: 0, queue: 'q', noAck: false })
    await client.content(BASIC.getOk)
    client.publish('no', 'k', 'x')
    await client.expect(CHANNEL.close)
    const other = await gateway.connect()
    other.method(BASIC.get, 1, { reserved: 0, queue: 'q', noAck: true })
    const { values, body } = await other.content(BASIC.getOk)
    expect([values.redelivered, body.toString()]).toEqual([true, 'one'])
  })

  it('a close of the client that crosses ours is answered', async () => {
    client.publish('no', 'k', 'x')
    client.method(CHANNEL.close, 1, { replyCode: 200, replyText: '', classId: 0, methodId: 0 })
    await client.expect(CHANNEL.close)
    await client.expect(CHANNEL.closeOk)
    client.method(CHANNEL.closeOk, 1, {})
    await client.openChannel(1)
  })

  it('other channels go on', async () => {
    await client.openChannel(2)
    client.publish('no', 'k', 'x')
    await client.expect(CHANNEL.close)
    await client.call(CHANNEL.flow, { active: true }, CHANNEL.flowOk, 2)
  })
})

describe('no-wait', () => {
  it('has no answer on any method, but errors as usual', async () => {
    const noWait = true
    client.method(EXCHANGE.declare, 1, { ...EXCHANGE_VALUES, noWait })
    client.method(EXCHANGE.declare, 1, { ...EXCHANGE_VALUES, exchange: 'f', noWait })
    const between = {
      reserved: 0,
      destination: 'e',
      source: 'f',
      routingKey: '',
      noWait,
      arguments: []
    }
    client.method(EXCHANGE.bind, 1, between)
    client.method(EXCHANGE.unbind, 1, between)
    client.method(QUEUE.declare, 1, { ...QUEUE_VALUES, noWait })
    client.method(QUEUE.bind, 1, { ...BIND_VALUES, exchange: 'e', noWait })
    client.method(QUEUE.purge, 1, { reserved: 0, queue: 'q', noWait })
    client.method(CONFIRM.select, 1, { noWait })
    client.method(BASIC.consume, 1, { ...CONSUME_VALUES, consumerTag: '', noWait })
    client.method(BASIC.consume, 1, { ...CONSUME_VALUES, consumerTag: 'c2', noWait })
    client.method(BASIC.cancel, 1, { consumerTag: 'c2', noWait })
    client.method(EXCHANGE.delete, 1, { reserved: 0, exchange: 'f', ifUnused: false, noWait })
    await client.call(CHANNEL.flow, { active: true }, CHANNEL.flowOk)
    client.method(QUEUE.delete, 1, { ...DELETE_VALUES, noWait })
    // The one consumer that is left is told.
    await client.expect(BASIC.cancel)
    client.method(QUEUE.bind, 1, { ...BIND_VALUES, noWait })
    await channelClosed(client, 404, QUEUE.bind, "NOT_FOUND - no queue 'q' in vhost '/'")
  })
})
