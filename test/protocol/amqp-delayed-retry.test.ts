/** Delayed retry (RabbitMQ's x-delayed-retry-type, -min, -max), over a real socket. */
import { beforeEach, describe, expect, it } from 'vitest'
import { BASIC, CHANNEL } from '../../src/amqp/codec/methods.ts'
import { declare, delivery, get, readyIn, table } from '../support/amqp-dead.ts'
import type { AmqpGateway } from '../support/amqp-gateway.ts'
import {
  CONSUME_VALUES,
  channelClosed,
  nothingMoreLater,
  QUEUE_VALUES,
  startAmqp
} from '../support/amqp-moves.ts'
import type { RawAmqp } from '../support/raw-amqp.ts'
import { QUEUE } from '../../src/amqp/codec/methods.ts'

let gateway: AmqpGateway
let client: RawAmqp

beforeEach(async () => {
  ;({ gateway, client } = await startAmqp())
})

const RETRY = { 'x-delayed-retry-min': 1_000, 'x-delayed-retry-max': 5_000 }

async function consume(changes: Partial<typeof CONSUME_VALUES> = {}): Promise<void> {
  await client.call(BASIC.consume, { ...CONSUME_VALUES, ...changes }, BASIC.consumeOk)
}

/** How a delivery goes back. */
const WAYS: Record<string, (tag: number) => void> = {
  'basic.reject': deliveryTag => client.method(BASIC.reject, 1, { deliveryTag, requeue: true }),
  'basic.nack': deliveryTag =>
    client.method(BASIC.nack, 1, { deliveryTag, multiple: false, requeue: true })
}

describe('a message that comes back', () => {
  it('waits for its delay, then reaches the consumer again, before what was behind it', async () => {
    await declare(client, 'q', { ...RETRY, 'x-delayed-retry-type': 'all' })
    client.method(BASIC.qos, 1, { prefetchSize: 0, prefetchCount: 1, global: false })
    await client.expect(BASIC.qosOk)
    await consume()
    for (const body of ['a', 'b', 'c']) client.publish('', 'q', body)
    const first = await delivery(client)
    client.method(BASIC.reject, 1, { deliveryTag: first.tag, requeue: true })
    // The others do not wait for it.
    const second = await delivery(client)
    expect([first.body, second.body]).toEqual(['a', 'b'])
    await gateway.passIn(999)
    await nothingMoreLater(client)
    await gateway.passIn(2)
    client.method(BASIC.ack, 1, { deliveryTag: second.tag, multiple: false })
    const again = await delivery(client)
    expect(again).toMatchObject({ body: 'a', redelivered: true })
    expect(again.headers['x-delivery-count']).toBe(1)
  })

  it.each([
    ['failed', 'basic.reject', 'basic.nack'],
    ['returned', 'basic.nack', 'basic.reject']
  ])('with type %s is delayed by %s, not by %s', async (type, delays, returns) => {
    await declare(client, 'q', { ...RETRY, 'x-delayed-retry-type': type })
    client.publish('', 'q', 'x')
    WAYS[returns]!((await get(client, 'q', false))!.tag)
    expect(await readyIn(client, 'q')).toBe(1)
    WAYS[delays]!((await get(client, 'q', false))!.tag)
    expect(await readyIn(client, 'q')).toBe(0)
    await gateway.passIn(2_001)
    expect(await readyIn(client, 'q')).toBe(1)
  })

  it('because its channel closed has failed', async () => {
    await declare(client, 'q', { ...RETRY, 'x-delayed-retry-type': 'failed' })
    client.publish('', 'q', 'x')
    await get(client, 'q', false)
    client.method(CHANNEL.close, 1, { replyCode: 200, replyText: '', classId: 0, methodId: 0 })
    await client.expect(CHANNEL.closeOk)
    await client.openChannel(1)
    expect(await readyIn(client, 'q')).toBe(0)
    await gateway.passIn(1_001)
    expect(await readyIn(client, 'q')).toBe(1)
  })

  it('waits whatever its queue is: with a single active consumer', async () => {
    await declare(client, 'q', { ...RETRY, 'x-single-active-consumer': true })
    await consume()
    await consume({ consumerTag: 'other' })
    client.publish('', 'q', 'x')
    const { tag } = await delivery(client)
    client.method(BASIC.reject, 1, { deliveryTag: tag, requeue: true })
    await nothingMoreLater(client)
    await gateway.passIn(1_001)
    expect((await delivery(client)).body).toBe('x')
  })
})

describe('the arguments', () => {
  it.each([
    [{ 'x-delayed-retry-type': 'some' }, "'x-delayed-retry-type'", 'invalid_delayed_retry_type'],
    [{ 'x-delayed-retry-min': 0 }, "'x-delayed-retry-min'", '{value_zero,0}']
  ])('%o make no sense', async (values, name, wrong) => {
    client.method(QUEUE.declare, 1, { ...QUEUE_VALUES, arguments: table(values) })
    const text = `PRECONDITION_FAILED - invalid arg ${name} for queue 'q' in vhost '/': ${wrong}`
    await channelClosed(client, 406, QUEUE.declare, text)
  })

  it('without any a message comes back at once', async () => {
    await declare(client, 'q', { 'x-delayed-retry-type': 'disabled', ...RETRY })
    client.publish('', 'q', 'x')
    WAYS['basic.reject']!((await get(client, 'q', false))!.tag)
    expect(await readyIn(client, 'q')).toBe(1)
  })
})
