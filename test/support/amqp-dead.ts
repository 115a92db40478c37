/** What the tests of dead letters and expiry say again and again. */
import { BASIC, EXCHANGE, QUEUE } from '../../src/amqp/codec/methods.ts'
import { decodeProperties } from '../../src/amqp/properties.ts'
import type { FieldTable, FieldValue } from '../../src/core/field-table.ts'
import type { MessageProperties } from '../../src/core/properties.ts'
import { BIND_VALUES, declareQueue, EXCHANGE_VALUES, QUEUE_VALUES } from './amqp-moves.ts'
import type { RawAmqp } from './raw-amqp.ts'

export interface Got {
  readonly tag: number
  readonly body: string
  readonly exchange: string
  readonly key: string
  readonly redelivered: boolean
  readonly properties: MessageProperties
  /** Headers by name, plain. */
  readonly headers: Record<string, unknown>
  /** `x-death`, one line for each: `queue reason×count exchange key,key [expiration]`. */
  readonly deaths: string[]
}

const TEXT = (value: string): FieldValue => ({ type: 'S', value })

/** Queue arguments: numbers, texts and booleans. */
export function table(values: Record<string, string | number | boolean>): FieldTable {
  return Object.entries(values).map(([name, value]) => {
    if (typeof value === 'string') return [name, TEXT(value)]
    if (typeof value === 'boolean') return [name, { type: 't', value }]
    return [name, { type: 'l', value: BigInt(value) }]
  })
}

export async function declare(
  client: RawAmqp,
  queue: string,
  values: Record<string, string | number | boolean> = {},
  changes: Partial<typeof QUEUE_VALUES> = {}
): Promise<void> {
  await declareQueue(client, { queue, arguments: table(values), ...changes })
}

export async function declareExchange(
  client: RawAmqp,
  exchange: string,
  type: string,
  durable = false
): Promise<void> {
  const values = { ...EXCHANGE_VALUES, exchange, type, durable }
  await client.call(EXCHANGE.declare, values, EXCHANGE.declareOk)
}

export async function bind(
  client: RawAmqp,
  queue: string,
  exchange: string,
  routingKey: string,
  headers: FieldTable = []
): Promise<void> {
  const values = { ...BIND_VALUES, queue, exchange, routingKey, arguments: headers }
  await client.call(QUEUE.bind, values, QUEUE.bindOk)
}

/** basic.get: null when the queue is empty. */
export async function get(client: RawAmqp, queue: string, noAck = true): Promise<Got | null> {
  client.method(BASIC.get, 1, { reserved: 0, queue, noAck })
  const frame = await client.peek()
  if (frame === BASIC.getEmpty.id) {
    await client.expect(BASIC.getEmpty)
    return null
  }
  const { values, properties, body } = await client.content(BASIC.getOk)
  return gotOf(values, properties, body)
}

/** The next delivery. */
export async function delivery(client: RawAmqp): Promise<Got> {
  const { values, properties, body } = await client.content(BASIC.deliver)
  return gotOf(values, properties, body)
}

function gotOf(
  values: { deliveryTag: number; exchange: string; routingKey: string; redelivered: boolean },
  bytes: Buffer,
  body: Buffer
): Got {
  const properties = decodeProperties(bytes, 0, bytes.length)
  const headers = plainTable(properties.headers)
  const given = headers['x-death']
  const deaths = (Array.isArray(given) ? given : []) as Record<string, unknown>[]
  return {
    tag: values.deliveryTag,
    body: body.toString(),
    exchange: values.exchange,
    key: values.routingKey,
    redelivered: values.redelivered,
    properties,
    headers,
    deaths: deaths.map(death => {
      const expiration = death['original-expiration']
      const keys = (death['routing-keys'] as string[]).join(',')
      const line = `${death['queue']} ${death['reason']}×${death['count']} ${death['exchange']} ${keys}`
      return expiration === undefined ? line : `${line} ${expiration}`
    })
  }
}

function plainTable(fields: FieldTable): Record<string, unknown> {
  return Object.fromEntries(fields.map(([name, value]) => [name, plain(value)]))
}

function plain(value: FieldValue): unknown {
  if (value.type === 'A') return value.value.map(plain)
  if (value.type === 'F') return plainTable(value.value)
  return typeof value.value === 'bigint' ? Number(value.value) : value.value
}

/** Ready messages of a queue, as a passive declaration says. */
export async function readyIn(client: RawAmqp, queue: string): Promise<number> {
  const values = { ...QUEUE_VALUES, queue, passive: true }
  const { messageCount } = await client.call(QUEUE.declare, values, QUEUE.declareOk)
  return messageCount
}

/** Some turns of the loop: what the broker does in a turn of its own is done. */
export async function later(count = 6): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise(resolve => setImmediate(resolve))
}
