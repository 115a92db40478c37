/** Duplicates over sockets: exchanges of type x-message-deduplication, queues declared with x-message-deduplication. */
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
  startAmqp
} from '../support/amqp-moves.ts'
import type { RawAmqp } from '../support/raw-amqp.ts'
import { int, text } from '../support/routing.ts'

let gateway: AmqpGateway
let client: RawAmqp

beforeEach(async () => {
  ;({ gateway, client } = await startAmqp())
})

const TYPE = 'x-message-deduplication'
const SIZE: FieldTable = [['x-cache-size', int(100)]]
const UNIQUE: FieldTable = [[TYPE, { type: 't', value: true }]]
const HEADER = 'x-deduplication-header'

async function once(table: FieldTable = SIZE, exchange = 'once'): Promise<void> {
  const values = { ...EXCHANGE_VALUES, exchange, type: TYPE, arguments: table }
  await client.call(EXCHANGE.declare, values, EXCHANGE.declareOk)
}

async function queue(name: string, table: FieldTable = [], exchange = 'once'): Promise<void> {
  await declareQueue(client, { queue: name, arguments: table })
  const values = { ...BIND_VALUES, queue: name, exchange, routingKey: 'anything' }
  await client.call(QUEUE.bind, values, QUEUE.bindOk)
}

function publish(to: string, body: string, headers: [string, FieldValue][], mandatory = false) {
  const key = to === '' ? 'q' : 'k'
  client.publish(to, key, body, { mandatory, properties: { headers } })
}

const keyed = (key: string): [string, FieldValue][] => [[HEADER, text(key)]]

async function confirms(): Promise<void> {
  await client.call(CONFIRM.select, { noWait: false }, CONFIRM.selectOk)
}

/** What waits in a queue, the oldest first; it is taken out. */
async function taken(name: string): Promise<string[]> {
  const bodies: string[] = []
  const values = { ...QUEUE_PASSIVE, queue: name }
  const { messageCount } = await client.call(QUEUE.declare, values, QUEUE.declareOk)
  for (let left = Number(messageCount); left > 0; left--) {
    client.method(BASIC.get, 1, { reserved: 0, queue: name, noAck: true })
    bodies.push((await client.content(BASIC.getOk)).body.toString())
  }
  return bodies
}

const QUEUE_PASSIVE = {
  reserved: 0,
  passive: true,
  durable: false,
  exclusive: false,
  autoDelete: false,
  noWait: false,
  arguments: [] as FieldTable
}

describe('an exchange of type x-message-deduplication', () => {
  it('routes as a fanout exchange what it has not seen, and confirms what it has', async () => {
    await once()
    await queue('a')
    await queue('b')
    await confirms()
    for (const body of ['1', '2', '3']) publish('once', body, keyed('same'))
    publish('once', '4', [])
    publish('once', '5', [])
    for (let acked = 0n; acked < 5n; ) {
      acked = BigInt((await client.expect(BASIC.ack)).deliveryTag)
    }
    expect([await taken('a'), await taken('b')]).toEqual([
      ['1', '4', '5'],
      ['1', '4', '5']
    ])
  })

  it('delivers the message as it was published', async () => {
    await once()
    await queue('a')
    await client.call(BASIC.consume, { ...CONSUME_VALUES, queue: 'a' }, BASIC.consumeOk)
    publish('once', 'x', keyed('k'))
    const { properties, values } = await client.content(BASIC.deliver)
    expect(values).toMatchObject({ exchange: 'once', routingKey: 'k' })
    expect(decodeProperties(properties, 0, properties.length).headers).toEqual(keyed('k'))
  })

  it('returns a mandatory duplicate as one without a route, as the plugin does', async () => {
    await once()
    await queue('a')
    await confirms()
    publish('once', 'x', keyed('k'), true)
    expect(await client.expect(BASIC.ack)).toMatchObject({ deliveryTag: 1 })
    publish('once', 'x', keyed('k'), true)
    expect((await client.content(BASIC.return)).values).toMatchObject({ replyCode: 312 })
    expect(await client.expect(BASIC.ack)).toMatchObject({ deliveryTag: 2 })
  })

  it('takes sizes and times as numbers of any width and as texts', async () => {
    for (const [i, value] of [int(10), text('10'), { type: 'l', value: 10n } as const].entries()) {
      const table: FieldTable = [
        ['x-cache-size', value],
        ['x-cache-ttl', value],
        ['x-cache-persistence', text(i === 0 ? 'disk' : 'memory')]
      ]
      await once(table, `e${i}`)
    }
    const vhost = gateway.broker.state.vhost('/')!
    const caches = ['e0', 'e1', 'e2'].map(name => vhost.exchanges.get(name)!.cache!)
    expect(caches.map(({ sizeMax, ttlMs }) => [sizeMax, ttlMs])).toEqual(Array(3).fill([10, 10]))
  })

  it.each<[string, FieldTable, string]>([
    [
      'no size',
      [],
      "Missing or invalid argument, 'x-cache-size' must be an integer greater than 0"
    ],
    [
      'a size of 0',
      [['x-cache-size', int(0)]],
      "Missing or invalid argument, 'x-cache-size' must be an integer greater than 0"
    ],
    [
      'a size that is a table',
      [['x-cache-size', { type: 'F', value: [['x-cache-size', int(5)]] }]],
      "Missing or invalid argument, 'x-cache-size' must be an integer greater than 0"
    ],
    [
      'a size that is half a number',
      [['x-cache-size', text('5x')]],
      "Missing or invalid argument, 'x-cache-size' must be an integer greater than 0"
    ],
    [
      'a size beyond what the broker remembers in all',
      [['x-cache-size', { type: 'l', value: 2n ** 62n }]],
      "Missing or invalid argument, 'x-cache-size' must be an integer greater than 0"
    ],
    [
      'a size beyond the limit',
      [['x-cache-size', int(1_000_001)]],
      "Invalid argument, 'x-cache-size' must not be greater than 1000000"
    ],
    [
      'a negative time to live',
      [...SIZE, ['x-cache-ttl', int(-1)]],
      "Invalid argument, 'x-cache-ttl' must be an integer greater than 0"
    ],
    [
      'a time to live beyond all times',
      [...SIZE, ['x-cache-ttl', { type: 'l', value: 2n ** 52n }]],
      "Invalid argument, 'x-cache-ttl' must be an integer greater than 0"
    ],
    [
      'another persistence',
      [...SIZE, ['x-cache-persistence', text('tape')]],
      "Invalid argument, 'x-cache-persistence' must be either 'disk' or 'memory'"
    ],
    [
      'a persistence that is no text',
      [...SIZE, ['x-cache-persistence', int(1)]],
      "Invalid argument, 'x-cache-persistence' must be either 'disk' or 'memory'"
    ]
  ])('is refused with %s', async (_, table, sentence) => {
    const values = { ...EXCHANGE_VALUES, exchange: 'once', type: TYPE, arguments: table }
    client.method(EXCHANGE.declare, 1, values)
    await channelClosed(client, 406, EXCHANGE.declare, `PRECONDITION_FAILED - ${sentence}`)
  })

  it('is not what a delayed exchange routes by', async () => {
    const table: FieldTable = [['x-delayed-type', text(TYPE)], ...SIZE]
    const values = { ...EXCHANGE_VALUES, type: 'x-delayed-message', arguments: table }
    client.method(EXCHANGE.declare, 1, values)
    const sentence = `Invalid argument, '${TYPE}' can't be used for 'x-delayed-type'`
    await channelClosed(client, 406, EXCHANGE.declare, `PRECONDITION_FAILED - ${sentence}`)
  })
})

describe('a queue declared with x-message-deduplication', () => {
  it('confirms a duplicate of what lies in it, returns none, and takes it when that is acknowledged', async () => {
    await declareQueue(client, { arguments: UNIQUE })
    await confirms()
    for (const body of ['1', '2']) publish('', body, keyed('k'), true)
    for (let acked = 0n; acked < 2n; ) {
      acked = BigInt((await client.expect(BASIC.ack)).deliveryTag)
    }
    client.method(BASIC.get, 1, { reserved: 0, queue: 'q', noAck: false })
    const { body, values } = await client.content(BASIC.getOk)
    expect([body.toString(), values['messageCount']]).toEqual(['1', 0])
    publish('', '3', keyed('k'))
    await client.expect(BASIC.ack)
    client.method(BASIC.ack, 1, { deliveryTag: values['deliveryTag'], multiple: false })
    publish('', '4', keyed('k'))
    await client.expect(BASIC.ack)
    expect(await taken('q')).toEqual(['4'])
    expect(gateway.broker.counters.dropped.get('deduplicated')).toBe(2)
  })

  it('passes to its dead letter exchange nothing for a duplicate', async () => {
    await declareQueue(client, { queue: 'dead' })
    const table: FieldTable = [
      ...UNIQUE,
      ['x-dead-letter-exchange', text('')],
      ['x-dead-letter-routing-key', text('dead')]
    ]
    await declareQueue(client, { arguments: table })
    for (const body of ['1', '2']) publish('', body, keyed('k'))
    expect([await taken('q'), await taken('dead')]).toEqual([['1'], []])
  })

  it('is equivalent to itself only', async () => {
    await declareQueue(client, { arguments: UNIQUE })
    client.method(QUEUE.declare, 1, { ...QUEUE_PASSIVE, queue: 'q', passive: false })
    const sentence = `inequivalent arg '${TYPE}' for queue 'q' in vhost '/': received none but current is the value 'true' of type 'bool'`
    await channelClosed(client, 406, QUEUE.declare, `PRECONDITION_FAILED - ${sentence}`)
  })
})
