import { describe, expect, it } from 'vitest'
import { BASIC, CHANNEL, QUEUE } from '../../src/amqp/codec/methods.ts'
import type { FieldTable } from '../../src/core/field-table.ts'
import {
  CONSUME_VALUES,
  declareQueue,
  nothingMore,
  QUEUE_VALUES,
  startAmqp
} from '../support/amqp-moves.ts'
import type { RawAmqp } from '../support/raw-amqp.ts'

function textOf(channel: number, ms: number): string {
  return (
    `PRECONDITION_FAILED - delivery acknowledgement on channel ${channel} timed out. Timeout value used: ${ms} ms. ` +
    'This timeout value can be configured, see consumers doc guide to learn more'
  )
}

async function consume(client: RawAmqp, queue = 'q', channel = 1): Promise<void> {
  const values = { ...CONSUME_VALUES, queue, consumerTag: queue }
  await client.call(BASIC.consume, values, BASIC.consumeOk, channel)
}

async function next(client: RawAmqp, channel = 1): Promise<string> {
  const { values, body } = await client.content(BASIC.deliver, channel)
  return `${values.deliveryTag}:${body}${values.redelivered ? '!' : ''}`
}

function timeout(ms: number): FieldTable {
  return [['x-consumer-timeout', { type: 'I', value: ms }]]
}

describe('a delivery that stays open', () => {
  it('R20: for half an hour closes its channel with 406, and comes to another consumer', async () => {
    const { gateway, client } = await startAmqp()
    await declareQueue(client)
    await consume(client)
    client.publish('', 'q', 'one')
    client.publish('', 'q', 'two')
    expect([await next(client), await next(client)]).toEqual(['1:one', '2:two'])
    gateway.pass(29 * 60)
    await nothingMore(client)
    const other = await gateway.connect()
    await consume(other)
    gateway.pass(2 * 60)
    const close = await client.expect(CHANNEL.close)
    expect(close).toMatchObject({ replyCode: 406, classId: 0, methodId: 0 })
    expect(close.replyText).toBe(textOf(1, 1_800_000))
    expect([await next(other), await next(other)]).toEqual(['1:one!', '2:two!'])
    // The connection lives.
    client.method(CHANNEL.closeOk, 1, {})
    await client.openChannel(1)
  })

  it('counts by the oldest of the channel, however many are settled behind it', async () => {
    const { gateway, client } = await startAmqp({ consumerTimeoutMs: 60_000 })
    await declareQueue(client)
    await consume(client)
    client.publish('', 'q', 'stays')
    expect(await next(client)).toBe('1:stays')
    for (let i = 2; i < 58; i++) {
      client.publish('', 'q', `${i}`)
      await next(client)
      client.method(BASIC.ack, 1, { deliveryTag: i, multiple: false })
      await nothingMore(client)
      gateway.pass(1)
    }
    await nothingMore(client)
    gateway.pass(6)
    expect((await client.expect(CHANNEL.close)).replyText).toBe(textOf(1, 60_000))
  })

  it('is not closed while deliveries are settled in time, one after the other', async () => {
    const { gateway, client } = await startAmqp({ consumerTimeoutMs: 10_000 })
    await declareQueue(client)
    await consume(client)
    client.publish('', 'q', '1')
    await next(client)
    for (let i = 1; i < 20; i++) {
      client.publish('', 'q', `${i + 1}`)
      await next(client)
      gateway.pass(5)
      client.method(BASIC.ack, 1, { deliveryTag: i, multiple: false })
      await nothingMore(client)
    }
  })

  it('taken by basic.get counts too; without acknowledgements nothing is open', async () => {
    const { gateway, client } = await startAmqp({ consumerTimeoutMs: 10_000 })
    await declareQueue(client)
    await client.openChannel(2)
    client.publish('', 'q', 'one')
    client.publish('', 'q', 'two')
    client.method(BASIC.get, 2, { reserved: 0, queue: 'q', noAck: true })
    await client.content(BASIC.getOk, 2)
    client.method(BASIC.get, 1, { reserved: 0, queue: 'q', noAck: false })
    await client.content(BASIC.getOk)
    gateway.pass(15)
    expect((await client.expect(CHANNEL.close)).replyText).toBe(textOf(1, 10_000))
    client.method(CHANNEL.closeOk, 1, {})
    await client.openChannel(1)
    gateway.pass(60)
    await client.call(CHANNEL.flow, { active: true }, CHANNEL.flowOk, 2)
  })

  it('with 0 stays open for ever', async () => {
    const { gateway, client } = await startAmqp({ consumerTimeoutMs: 0 })
    await declareQueue(client)
    await consume(client)
    client.publish('', 'q', 'one')
    await next(client)
    gateway.pass(3 * 60 * 60)
    await nothingMore(client)
  })

  it('has the time of its queue, beside others of the same channel', async () => {
    const { gateway, client } = await startAmqp()
    await declareQueue(client, { queue: 'slow' })
    await declareQueue(client, { queue: 'quick', arguments: timeout(20_000) })
    await consume(client, 'slow')
    await consume(client, 'quick')
    client.publish('', 'slow', 'one')
    await next(client)
    gateway.pass(60)
    // Long older than 20 s, but the other queue has half an hour.
    client.publish('', 'quick', 'two')
    await next(client)
    gateway.pass(15)
    await nothingMore(client)
    gateway.pass(10)
    expect((await client.expect(CHANNEL.close)).replyText).toBe(textOf(1, 20_000))
  })

  it('is not counted while its client is not read', async () => {
    const { gateway, client } = await startAmqp({ consumerTimeoutMs: 10_000 })
    await declareQueue(client)
    await consume(client)
    client.publish('', 'q', 'one')
    await next(client)
    gateway.alarm(true)
    client.publish('', 'q', 'held')
    client.method(BASIC.ack, 1, { deliveryTag: 1, multiple: false })
    const held = (): boolean => [...gateway.amqp.connections.keys()].some(one => one.isHeld)
    await expect.poll(held).toBe(true)
    gateway.pass(60)
    gateway.alarm(false)
    await expect.poll(() => gateway.broker.vhosts.get('/')!.queues.get('q')!.unackedCount).toBe(1)
  })

  it('of a queue with the time 0 stays open; a negative one is 406', async () => {
    const { gateway, client } = await startAmqp({ consumerTimeoutMs: 10_000 })
    await declareQueue(client, { arguments: timeout(0) })
    await consume(client)
    client.publish('', 'q', 'one')
    await next(client)
    gateway.pass(600)
    await nothingMore(client)
    client.method(QUEUE.declare, 1, { ...QUEUE_VALUES, queue: 'r', arguments: timeout(-1) })
    expect((await client.expect(CHANNEL.close)).replyCode).toBe(406)
  })
})
