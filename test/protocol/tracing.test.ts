/** The firehose: what is published and delivered in a traced virtual host, as RabbitMQ 3.10 tells it. */
import { hostname } from 'node:os'
import { connectAsync, type MqttClient } from 'mqtt'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { BASIC, CHANNEL, QUEUE } from '../../src/amqp/codec/methods.ts'
import { decodeProperties } from '../../src/amqp/properties.ts'
import type { FieldTable, FieldValue } from '../../src/core/field-table.ts'
import {
  BIND_VALUES,
  CONSUME_VALUES,
  declareQueue,
  nothingMoreLater
} from '../support/amqp-moves.ts'
import type { RawAmqp } from '../support/raw-amqp.ts'
import { int, text } from '../support/routing.ts'
import { WholeServer } from '../support/whole-server.ts'

let server: WholeServer
let client: RawAmqp
/** Of another connection: what it does shows in no other's numbers. */
let listener: RawAmqp
const clients: MqttClient[] = []

beforeEach(async () => {
  server = await new WholeServer().start()
  client = await server.amqp()
  listener = await server.amqp()
  await declareQueue(listener, { queue: 'traces', exclusive: true })
  await bind(listener, 'traces', 'amq.rabbitmq.trace', '#')
  const values = { ...CONSUME_VALUES, queue: 'traces', noAck: true }
  await listener.call(BASIC.consume, values, BASIC.consumeOk)
})
afterEach(async () => {
  for (const each of clients.splice(0)) each.end(true)
  await server.close()
})

async function bind(on: RawAmqp, queue: string, exchange: string, routingKey: string) {
  await on.call(QUEUE.bind, { ...BIND_VALUES, queue, exchange, routingKey }, QUEUE.bindOk)
}

const trace = (on: boolean, name = '%2F') =>
  server.ask('PUT', `/api/vhosts/${name}/tracing`, { on })

interface Trace {
  key: string
  body: string
  headers: Record<string, unknown>
  names: string[]
}

function plain(value: FieldValue): unknown {
  if (value.type === 'A') return value.value.map(plain)
  if (value.type === 'F')
    return Object.fromEntries(value.value.map(([name, each]) => [name, plain(each)]))
  return value.value
}

/** The next trace. */
async function next(): Promise<Trace> {
  const { values, properties, body } = await listener.content(BASIC.deliver)
  expect(values['exchange']).toBe('amq.rabbitmq.trace')
  const { headers } = decodeProperties(properties, 0, properties.length)
  return {
    key: String(values['routingKey']),
    body: body.toString(),
    headers: Object.fromEntries(headers.map(([name, value]) => [name, plain(value)])),
    names: headers.map(([name]) => name)
  }
}

async function none(): Promise<void> {
  await nothingMoreLater(client)
  await nothingMoreLater(listener)
}

const PUBLISHED = [
  'exchange_name',
  'routing_keys',
  'properties',
  'node',
  'vhost',
  'connection',
  'channel',
  'user',
  'routed_queues'
]
const DELIVERED = [
  'exchange_name',
  'routing_keys',
  'properties',
  'node',
  'redelivered',
  'vhost',
  'connection',
  'channel',
  'user'
]
const ANY_PEER = expect.stringMatching(/^127\.0\.0\.1:\d+$/)
const ABOUT = {
  node: `motemq@${hostname()}`,
  vhost: '/',
  connection: ANY_PEER,
  channel: 1,
  user: 'guest'
}

async function mqtt(clientId: string): Promise<MqttClient> {
  const url = `mqtt://127.0.0.1:${server.port(0)}`
  const made = await connectAsync(url, { protocolVersion: 5, clientId, reconnectPeriod: 0 })
  clients.push(made)
  return made
}

describe('a traced virtual host', () => {
  it('tells of each publish: where it went, by whom, with which properties, and the body', async () => {
    await trace(true)
    for (const queue of ['a', 'b']) {
      await declareQueue(client, { queue })
      await bind(client, queue, 'amq.topic', 'k.#')
    }
    const headers: FieldTable = [
      ['h', int(1)],
      ['t', { type: 'F', value: [['x', text('y')]] }]
    ]
    const properties = {
      contentType: 'text/plain',
      headers: [...headers] as [string, FieldValue][],
      deliveryMode: 2,
      priority: 3,
      correlationId: Buffer.from('cid'),
      replyTo: 'rt',
      expiration: '60000',
      messageId: 'mid',
      timestamp: 1_234n,
      type: 'ty',
      userId: 'guest',
      appId: 'app'
    }
    client.publish('amq.topic', 'k.b', 'hi', { properties })
    const { key, body, headers: told, names } = await next()
    expect([key, body, names]).toEqual(['publish.amq.topic', 'hi', PUBLISHED])
    expect(told).toEqual({
      ...ABOUT,
      exchange_name: 'amq.topic',
      routing_keys: ['k.b'],
      routed_queues: ['a', 'b'],
      properties: {
        content_type: 'text/plain',
        headers: { h: 1, t: { x: 'y' } },
        delivery_mode: 2,
        priority: 3,
        correlation_id: 'cid',
        reply_to: 'rt',
        expiration: '60000',
        message_id: 'mid',
        timestamp: 1_234,
        type: 'ty',
        user_id: 'guest',
        app_id: 'app'
      }
    })
  })

  it('tells of what goes nowhere, and of further keys', async () => {
    await trace(true)
    client.publish('', 'nope', 'x')
    expect(await next()).toMatchObject({
      key: 'publish.',
      headers: { routed_queues: [], properties: {} }
    })
    const copies: [string, FieldValue][] = [['CC', { type: 'A', value: [text('traces')] }]]
    client.publish('', 'nope', 'y', { properties: { headers: copies } })
    const found = []
    for (let i = 0; i < 3; i++) found.push(await listener.content(BASIC.deliver))
    const keys = found.map(({ values }) => values['routingKey'])
    expect(keys.sort()).toEqual(['deliver.traces', 'nope', 'publish.'])
  })

  it('tells of each delivery, by consumers and by basic.get, and whether it was one before', async () => {
    await declareQueue(client, { queue: 'q' })
    await client.call(BASIC.consume, { ...CONSUME_VALUES, queue: 'q' }, BASIC.consumeOk)
    await trace(true)
    client.publish('', 'q', 'x')
    expect((await next()).key).toBe('publish.')
    const { key, body, headers, names } = await next()
    expect([key, body, names]).toEqual(['deliver.q', 'x', DELIVERED])
    expect(headers).toEqual({
      ...ABOUT,
      exchange_name: '',
      routing_keys: ['q'],
      redelivered: 0,
      properties: {}
    })
    await client.content(BASIC.deliver)
    await client.call(BASIC.cancel, { consumerTag: 'c', noWait: false }, BASIC.cancelOk)
    client.method(BASIC.nack, 1, { deliveryTag: 1, multiple: false, requeue: true })
    client.method(BASIC.get, 1, { reserved: 0, queue: 'q', noAck: true })
    await client.content(BASIC.getOk)
    expect(await next()).toMatchObject({ key: 'deliver.q', headers: { redelivered: 1 } })
    client.publish('', 'q', 'y')
    await client.call(BASIC.consume, { ...CONSUME_VALUES, queue: 'q' }, BASIC.consumeOk)
    expect([(await next()).key, (await next()).key]).toEqual(['publish.', 'deliver.q'])
  })

  it('tells of what MQTT clients publish and get, at every QoS, those included that came before', async () => {
    const old = await mqtt('old')
    await old.subscribeAsync('m/#', { qos: 0 })
    await trace(true)
    const young = await mqtt('young')
    await young.subscribeAsync('m/+', { qos: 2 })
    for (const qos of [0, 1, 2] as const) {
      await young.publishAsync('m/x', `${qos}`, {
        qos,
        properties: { contentType: 'c', userProperties: { u: 'v' } }
      })
      const seen = [await next(), await next(), await next()]
      expect(seen.map(({ key }) => key).sort()).toEqual([
        'deliver.amq.mqtt.old',
        'deliver.amq.mqtt.young',
        'publish.amq.topic'
      ])
      const published = seen.find(({ key }) => key === 'publish.amq.topic')!
      expect(published.body).toBe(`${qos}`)
      expect(published.headers).toEqual({
        ...ABOUT,
        channel: 0,
        user: '',
        exchange_name: 'amq.topic',
        routing_keys: ['m.x'],
        routed_queues: expect.arrayContaining(['amq.mqtt.old', 'amq.mqtt.young']),
        properties: { content_type: 'c', headers: { u: 'v' }, delivery_mode: qos > 0 ? 2 : 1 }
      })
    }
  })

  it('traces no trace, and takes none from clients', async () => {
    await trace(true)
    client.publish('amq.rabbitmq.trace', 'publish.x', 'forged')
    const close = await client.expect(CHANNEL.close)
    expect(close).toMatchObject({ replyCode: 403 })
    client.method(CHANNEL.closeOk, 1, {})
    await client.openChannel(1)
    client.publish('', 'nope', 'x')
    expect((await next()).key).toBe('publish.')
    await none()
  })

  it('is one of several; it ends when it is told to, and with a restart', async () => {
    await server.ask('PUT', '/api/vhosts/b')
    await trace(true, 'b')
    client.publish('', 'nope', 'x')
    await none()
    await declareQueue(client, { queue: 'q' })
    await client.call(BASIC.consume, { ...CONSUME_VALUES, queue: 'q' }, BASIC.consumeOk)
    // Its route is remembered by now.
    client.publish('', 'q', 'before')
    await client.content(BASIC.deliver)
    await trace(true)
    await trace(true)
    client.publish('', 'q', 'x')
    expect([(await next()).key, (await next()).key]).toEqual(['publish.', 'deliver.q'])
    await trace(false)
    client.publish('', 'q', 'y')
    await client.content(BASIC.deliver)
    await client.content(BASIC.deliver)
    await none()
    const vhosts = (await server.ask('GET', '/api/vhosts')) as { name: string; tracing: boolean }[]
    expect(vhosts.map(({ name, tracing }) => [name, tracing])).toEqual([
      ['/', false],
      ['b', true]
    ])
    await expect(trace(true, 'none')).rejects.toThrow("no virtual host 'none'")
    await expect(server.ask('PUT', '/api/vhosts/b/tracing', { on: 1 })).rejects.toThrow(
      'on is neither'
    )
  })
})
