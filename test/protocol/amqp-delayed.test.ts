/** Exchanges of type x-delayed-message: amqp-semantics 2.11. */
import { beforeEach, describe, expect, it } from 'vitest'
import { BASIC, CONFIRM, EXCHANGE, QUEUE } from '../../src/amqp/codec/methods.ts'
import { decodeProperties } from '../../src/amqp/properties.ts'
import type { FieldTable, FieldValue } from '../../src/core/field-table.ts'
import type { AmqpGateway } from '../support/amqp-gateway.ts'
import {
  BIND_VALUES,
  CONSUME_VALUES,
  channelClosed,
  declareQueue,
  EXCHANGE_VALUES,
  nothingMore,
  startAmqp
} from '../support/amqp-moves.ts'
import type { RawAmqp } from '../support/raw-amqp.ts'
import { int, text } from '../support/routing.ts'

let gateway: AmqpGateway
let client: RawAmqp

beforeEach(async () => {
  ;({ gateway, client } = await startAmqp())
})

const DELAYED = { ...EXCHANGE_VALUES, exchange: 'later', type: 'x-delayed-message' }
const kind = (name: string): FieldTable => [['x-delayed-type', text(name)]]
const YEAR = 365 * 24 * 3_600 * 1_000

async function later(routes = 'direct', changes: Partial<typeof DELAYED> = {}): Promise<void> {
  const values = { ...DELAYED, arguments: kind(routes), ...changes }
  await client.call(EXCHANGE.declare, values, EXCHANGE.declareOk)
}

async function queue(name: string, from = 'later', routingKey = 'k'): Promise<void> {
  await declareQueue(client, { queue: name })
  const values = { ...BIND_VALUES, queue: name, exchange: from, routingKey }
  await client.call(QUEUE.bind, values, QUEUE.bindOk)
}

function publish(body: string, delay: FieldValue | null, more: [string, FieldValue][] = []): void {
  const headers: [string, FieldValue][] = delay === null ? more : [['x-delay', delay], ...more]
  client.publish('later', 'k', body, { properties: { headers } })
}

async function consume(name: string): Promise<void> {
  const values = { ...CONSUME_VALUES, queue: name, noAck: true }
  await client.call(BASIC.consume, values, BASIC.consumeOk)
}

const delayed = (): number => gateway.broker.state.delays.count

/** Time passes when all that was sent is there. */
async function pass(seconds: number): Promise<void> {
  await nothingMore(client)
  gateway.pass(seconds)
}

async function next() {
  const { properties, body, values } = await client.content(BASIC.deliver)
  return { body: body.toString(), values, ...decodeProperties(properties, 0, properties.length) }
}

describe('a message with x-delay', () => {
  it('is routed when it is due, with its delay negated, the earliest first', async () => {
    await later()
    await queue('q')
    await consume('q')
    publish('third', int(900))
    publish('second', text('600'))
    publish('first', int(300))
    await nothingMore(client)
    expect(delayed()).toBe(3)
    gateway.pass(1)
    const got = [await next(), await next(), await next()]
    expect(got.map(({ body, headers }) => [body, headers])).toEqual([
      ['first', [['x-delay', int(-300)]]],
      ['second', [['x-delay', text('-600')]]],
      ['third', [['x-delay', int(-900)]]]
    ])
    expect(got[0]!.values).toMatchObject({ exchange: 'later', routingKey: 'k', redelivered: false })
    expect(delayed()).toBe(0)
  })

  it('goes at once when that is missing, negative or no number', async () => {
    await later('topic')
    await queue('q', 'later', '#')
    for (const delay of [null, int(0), int(-5), text('soon'), { type: 't', value: true } as const])
      publish('x', delay)
    const { messageCount } = await client.call(
      QUEUE.declare,
      {
        reserved: 0,
        queue: 'q',
        passive: true,
        durable: false,
        exclusive: false,
        autoDelete: false,
        noWait: false,
        arguments: []
      },
      QUEUE.declareOk
    )
    expect([messageCount, delayed()]).toEqual([5, 0])
  })

  it('may wait for years', async () => {
    await later()
    publish('x', { type: 'l', value: BigInt(100 * YEAR) })
    publish('y', { type: 'l', value: 2n ** 63n - 1n })
    await nothingMore(client)
    const store = gateway.broker.state.vhost('/')!.exchanges.get('later')!.delay!
    expect(store.next).toBeGreaterThan(99 * YEAR)
    expect(store.count).toBe(2)
  })

  it('goes where the bindings lead when it is due, not when it was published', async () => {
    await later('fanout')
    await queue('old')
    publish('x', int(1_000))
    await nothingMore(client)
    await queue('new')
    const unbind = { reserved: 0, queue: 'old', exchange: 'later', routingKey: 'k', arguments: [] }
    await client.call(QUEUE.unbind, unbind, QUEUE.unbindOk)
    await consume('new')
    await pass(1)
    expect((await next()).body).toBe('x')
    client.method(BASIC.get, 1, { reserved: 0, queue: 'old', noAck: true })
    await client.expect(BASIC.getEmpty)
  })

  it('does not come back when it is mandatory and nothing is bound', async () => {
    await later()
    await client.call(CONFIRM.select, { noWait: false }, CONFIRM.selectOk)
    const headers: [string, FieldValue][] = [['x-delay', int(10_000)]]
    client.publish('later', 'k', 'x', { mandatory: true, properties: { headers } })
    expect(await client.expect(BASIC.ack)).toMatchObject({ deliveryTag: 1 })
    client.publish('later', 'k', 'x', { mandatory: true })
    await client.content(BASIC.return)
  })

  it('keeps its further keys until then; BCC is taken out of what is delivered', async () => {
    await later()
    for (const name of ['k', 'c', 'b']) await queue(name, 'later', name)
    const list = (key: string): FieldValue => ({ type: 'A', value: [text(key)] })
    publish('x', int(1_000), [
      ['CC', list('c')],
      ['BCC', list('b')]
    ])
    await pass(1)
    for (const name of ['k', 'c', 'b']) {
      await consume(name)
      const { body, headers } = await next()
      expect([body, headers.map(([header]) => header)]).toEqual(['x', ['x-delay', 'CC']])
      await client.call(BASIC.cancel, { consumerTag: 'c', noWait: false }, BASIC.cancelOk)
    }
  })

  it('that came through a binding between exchanges, or as the alternate, is held back too', async () => {
    await later('fanout')
    await queue('q')
    await queue('now', 'amq.direct')
    const between = { reserved: 0, destination: 'later', source: 'amq.direct', routingKey: 'k' }
    await client.call(EXCHANGE.bind, { ...between, noWait: false, arguments: [] }, EXCHANGE.bindOk)
    const values = {
      ...EXCHANGE_VALUES,
      arguments: [['alternate-exchange', text('later')]] as FieldTable
    }
    await client.call(EXCHANGE.declare, values, EXCHANGE.declareOk)
    const properties = { headers: [['x-delay', int(1_000)]] as [string, FieldValue][] }
    client.publish('amq.direct', 'k', 'bound', { properties })
    client.publish('e', 'k', 'alternate', { properties })
    await nothingMore(client)
    expect(delayed()).toBe(2)
    client.method(BASIC.get, 1, { reserved: 0, queue: 'now', noAck: true })
    const { properties: shown } = await client.content(BASIC.getOk)
    expect(decodeProperties(shown, 0, shown.length).headers).toEqual(properties.headers)
    await consume('q')
    await pass(1)
    const got = [await next(), await next()]
    expect(got.map(({ body, values: { exchange } }) => [body, exchange])).toEqual([
      ['bound', 'amq.direct'],
      ['alternate', 'e']
    ])
  })

  it('may be a dead letter: it is tried again after its delay', async () => {
    await later('fanout')
    const table: FieldTable = [['x-dead-letter-exchange', text('later')]]
    await declareQueue(client, { queue: 'q', arguments: table })
    await queue('again')
    const headers: [string, FieldValue][] = [['x-delay', int(1_000)]]
    client.publish('', 'q', 'x', { properties: { headers } })
    client.method(BASIC.get, 1, { reserved: 0, queue: 'q', noAck: false })
    const { values } = await client.content(BASIC.getOk)
    const { deliveryTag } = values
    client.method(BASIC.reject, 1, { deliveryTag, requeue: false })
    await nothingMore(client)
    expect(delayed()).toBe(1)
    await consume('again')
    await pass(1)
    const got = await next()
    expect(got.body).toBe('x')
    expect(got.headers.map(([name]) => name)).toContain('x-death')
    expect(got.headers).toContainEqual(['x-delay', int(-1_000)])
    expect(gateway.broker.state.queues.size).toBe(2)
  })

  it('lives its time from when it is due', async () => {
    await later()
    await queue('q')
    const headers: [string, FieldValue][] = [['x-delay', int(1_000)]]
    client.publish('later', 'k', 'x', { properties: { headers, expiration: '60000' } })
    await consume('q')
    await pass(1)
    expect(await next()).toMatchObject({ body: 'x', expiration: '60000' })
  })

  it('is refused when there are too many: a nack', async () => {
    ;({ gateway, client } = await startAmqp({ limits: { delayedMessagesMax: 1 } }))
    await later()
    await client.call(CONFIRM.select, { noWait: false }, CONFIRM.selectOk)
    publish('x', int(10_000))
    await client.expect(BASIC.ack)
    publish('y', int(10_000))
    await client.expect(BASIC.nack)
    publish('z', null)
    await client.expect(BASIC.ack)
    expect(gateway.broker.counters.dropped.get('queue_full')).toBe(1)
  })
})

describe('an exchange of type x-delayed-message', () => {
  it.each([
    [[], "Invalid argument, 'x-delayed-type' must be an existing exchange type"],
    [
      [['x-delayed-type', int(1)]],
      "Invalid argument, 'x-delayed-type' must be an existing exchange type"
    ],
    [
      kind('x-delayed-message'),
      "Invalid argument, 'x-delayed-message' can't be used for 'x-delayed-type'"
    ],
    [kind('nonsense'), "unknown exchange type 'nonsense'"]
  ] as [FieldTable, string][])('is refused with %j', async (table, reason) => {
    client.method(EXCHANGE.declare, 1, { ...DELAYED, arguments: table })
    await channelClosed(client, 406, EXCHANGE.declare, `PRECONDITION_FAILED - ${reason}`)
  })

  it('may be declared again alike', async () => {
    await later()
    await later()
    client.method(EXCHANGE.declare, 1, { ...DELAYED, type: 'direct', arguments: kind('direct') })
    await channelClosed(
      client,
      406,
      EXCHANGE.declare,
      "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'later' in vhost '/': received 'direct' but current is 'x-delayed-message'"
    )
    client.method(EXCHANGE.declare, 1, { ...DELAYED, arguments: kind('topic') })
    await channelClosed(
      client,
      406,
      EXCHANGE.declare,
      "PRECONDITION_FAILED - inequivalent arg 'x-delayed-type' for exchange 'later' in vhost '/': received 'topic' but current is 'direct'"
    )
  })

  it('loses what it holds when it is deleted, counted', async () => {
    await later()
    publish('x', int(10_000))
    publish('y', int(10_000))
    const values = { reserved: 0, exchange: 'later', ifUnused: false, noWait: false }
    await client.call(EXCHANGE.delete, values, EXCHANGE.deleteOk)
    const { counters, deadlines, slabs } = gateway.broker
    expect(counters.droppedByQueue.get('/\0later\0queue_deleted')).toBe(2)
    expect([delayed(), deadlines.size, slabs.bytes]).toEqual([0, 0, expect.any(Number)])
  })
})
