/** MQTT and AMQP in one broker, each direction: QoS and delivery mode, expiry, wills, requests, full queues, sessions. */
import { connectAsync, type IPublishPacket, type MqttClient } from 'mqtt'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { BASIC, CHANNEL, QUEUE } from '../../src/amqp/codec/methods.ts'
import { decodeProperties } from '../../src/amqp/properties.ts'
import type { FieldTable } from '../../src/core/field-table.ts'
import type { RawAmqp } from '../support/raw-amqp.ts'
import { WholeServer } from '../support/whole-server.ts'

let server: WholeServer
let amqp: RawAmqp
const clients: MqttClient[] = []

beforeEach(async () => {
  server = await new WholeServer().start()
  amqp = await server.amqp()
})
afterEach(async () => {
  for (const client of clients.splice(0)) client.end(true)
  await server.close()
})

const FLAGS = { reserved: 0, passive: false, durable: true, exclusive: false, autoDelete: false }

async function bound(queue: string, routingKey: string, table: FieldTable = []): Promise<void> {
  const values = { ...FLAGS, queue, noWait: false, arguments: table }
  await amqp.call(QUEUE.declare, values, QUEUE.declareOk)
  const binding = { reserved: 0, queue, exchange: 'amq.topic', routingKey, arguments: [] }
  await amqp.call(QUEUE.bind, { ...binding, noWait: false }, QUEUE.bindOk)
}

async function get(queue: string) {
  amqp.method(BASIC.get, 1, { reserved: 0, queue, noAck: true })
  const { values, properties, body } = await amqp.content(BASIC.getOk)
  const decoded = decodeProperties(properties, 0, properties.length)
  return { values, body: body.toString(), properties: decoded }
}

async function mqtt(clientId: string, options: object = {}): Promise<MqttClient> {
  const url = `mqtt://127.0.0.1:${server.port(0)}`
  const client = await connectAsync(url, {
    protocolVersion: 5,
    clientId,
    reconnectPeriod: 0,
    ...options
  })
  clients.push(client)
  return client
}

function nextPacket(client: MqttClient): Promise<IPublishPacket> {
  return new Promise(resolve => {
    client.once('message', (_topic, _payload, packet) => resolve(packet))
  })
}

describe('MQTT to AMQP', () => {
  it('makes QoS 0 a transient message, QoS 1 and 2 persistent ones', async () => {
    await bound('q', '#')
    const device = await mqtt('d')
    for (const qos of [0, 1, 2] as const) await device.publishAsync('a', `${qos}`, { qos })
    const modes: unknown[] = []
    for (let i = 0; i < 3; i++) {
      const { body, properties } = await get('q')
      modes.push([body, properties.deliveryMode])
    }
    expect(modes).toEqual([
      ['0', 1],
      ['1', 2],
      ['2', 2]
    ])
  })

  it('brings a message that is retained, and a will, to a queue as any other', async () => {
    await bound('q', 'state.#')
    const device = await mqtt('d', {
      will: { topic: 'state/d', payload: Buffer.from('gone'), qos: 1, retain: true }
    })
    await device.publishAsync('state/d', 'here', { qos: 1, retain: true })
    expect((await get('q')).body).toBe('here')
    await bound('ready', 'state.d')
    device.stream.destroy()
    const consumer = { reserved: 0, queue: 'ready', consumerTag: 'c', noLocal: false, noAck: true }
    const flags = { exclusive: false, noWait: false, arguments: [] }
    await amqp.call(BASIC.consume, { ...consumer, ...flags }, BASIC.consumeOk)
    expect((await amqp.content(BASIC.deliver)).body.toString()).toBe('gone')
  })

  it('gives the expiry in milliseconds', async () => {
    await bound('q', '#')
    const device = await mqtt('d')
    await device.publishAsync('a', 'x', { qos: 1, properties: { messageExpiryInterval: 60 } })
    const { expiration } = (await get('q')).properties
    expect(Number(expiration)).toBeGreaterThan(50_000)
    expect(Number(expiration)).toBeLessThanOrEqual(60_000)
  })

  it('answers 0x97 for what a full reject-publish queue refuses', async () => {
    await bound('q', '#', [
      ['x-max-length', { type: 'l', value: 1n }],
      ['x-overflow', { type: 'S', value: 'reject-publish' }]
    ])
    const device = await mqtt('d')
    await device.publishAsync('a', 'fits', { qos: 1 })
    await expect(device.publishAsync('a', 'does not', { qos: 1 })).rejects.toMatchObject({
      code: 0x97
    })
    await expect(device.publishAsync('a', 'does not', { qos: 2 })).rejects.toMatchObject({
      code: 0x97
    })
    expect((await get('q')).body).toBe('fits')
    await device.publishAsync('a', 'again', { qos: 2 })
    expect((await get('q')).body).toBe('again')
  })
})

describe('AMQP to MQTT', () => {
  it('makes a persistent message QoS 1, a transient one QoS 0, whatever was subscribed', async () => {
    const device = await mqtt('d')
    await device.subscribeAsync('a', { qos: 2 })
    for (const [persistent, qos] of [
      [true, 1],
      [false, 0]
    ] as const) {
      const packet = nextPacket(device)
      amqp.publish('amq.topic', 'a', 'x', { persistent })
      expect((await packet).qos).toBe(qos)
    }
  })

  it('keeps content type, correlation, headers and what is left of the expiry', async () => {
    const device = await mqtt('d')
    await device.subscribeAsync('a', { qos: 1 })
    const packet = nextPacket(device)
    amqp.publish('amq.topic', 'a', 'x', {
      persistent: true,
      properties: {
        contentType: 'text/plain',
        correlationId: Buffer.from('c7'),
        expiration: '90000',
        headers: [
          ['unit', { type: 'S', value: 'C' }],
          ['n', { type: 'I', value: 5 }],
          ['ok', { type: 't', value: true }]
        ]
      }
    })
    const { properties } = await packet
    expect(properties).toMatchObject({
      contentType: 'text/plain',
      correlationData: Buffer.from('c7'),
      userProperties: { unit: 'C', n: '5', ok: 'true' }
    })
    expect(properties?.messageExpiryInterval).toBeGreaterThan(80)
    expect(properties?.messageExpiryInterval).toBeLessThanOrEqual(90)
  })

  it('lets an MQTT 5 client answer a request: x-reply-to-topic is its response topic', async () => {
    await bound('answers', 'answers.7')
    const device = await mqtt('worker')
    await device.subscribeAsync('ask', { qos: 1 })
    const request = nextPacket(device)
    amqp.publish('amq.topic', 'ask', '?', {
      persistent: true,
      properties: {
        correlationId: Buffer.from('7'),
        headers: [['x-reply-to-topic', { type: 'S', value: 'answers.7' }]]
      }
    })
    const { properties } = await request
    expect(properties?.responseTopic).toBe('answers/7')
    await device.publishAsync(properties!.responseTopic!, '!', {
      qos: 1,
      properties: { correlationData: properties!.correlationData! }
    })
    const { body, properties: answer } = await get('answers')
    expect([body, answer.correlationId]).toEqual(['!', Buffer.from('7')])
  })
})

describe('the queue of a session', () => {
  const passive = { ...FLAGS, passive: true, noWait: false, arguments: [] }

  it('is seen under amq.mqtt and its client id, with its counts', async () => {
    const session = { clean: false, properties: { sessionExpiryInterval: 100 } }
    const device = await mqtt('lamp', session)
    await device.subscribeAsync('a', { qos: 1 })
    const queue = 'amq.mqtt.lamp'
    const connected = await amqp.call(QUEUE.declare, { ...passive, queue }, QUEUE.declareOk)
    expect(connected).toMatchObject({ messageCount: 0, consumerCount: 1 })
    await device.endAsync()
    const publisher = await mqtt('p')
    for (const payload of ['1', '2']) await publisher.publishAsync('a', payload, { qos: 1 })
    const found = await amqp.call(QUEUE.declare, { ...passive, queue }, QUEUE.declareOk)
    expect(found).toMatchObject({ queue, messageCount: 2, consumerCount: 0 })
    const listed = (await server.ask('GET', '/api/queues')) as { name: string }[]
    expect(listed.find(({ name }) => name === queue)).toMatchObject({ session: true, ready: 2 })
  })

  it('with a long client id has a name that fits', async () => {
    await mqtt('x'.repeat(256))
    const [{ name } = { name: '' }] = (await server.ask('GET', '/api/queues')) as { name: string }[]
    expect(name).toMatch(/^amq\.mqtt\.[A-Za-z0-9_-]{43}$/)
    await amqp.call(QUEUE.declare, { ...passive, queue: name }, QUEUE.declareOk)
  })

  it('is not for AMQP clients to consume, bind, purge or delete', async () => {
    await mqtt('lamp')
    const queue = 'amq.mqtt.lamp'
    const rest = { reserved: 0, queue, noWait: false }
    const consume = { ...rest, consumerTag: '', noLocal: false, noAck: true, exclusive: false }
    const binding = { ...rest, exchange: 'amq.topic', routingKey: 'b', arguments: [] }
    const attempts: ((client: RawAmqp) => void)[] = [
      client => client.method(BASIC.get, 1, { reserved: 0, queue, noAck: true }),
      client => client.method(BASIC.consume, 1, { ...consume, arguments: [] }),
      client => client.method(QUEUE.bind, 1, binding),
      client => client.method(QUEUE.purge, 1, rest),
      client => client.method(QUEUE.delete, 1, { ...rest, ifUnused: false, ifEmpty: false })
    ]
    for (const attempt of attempts) {
      const client = await server.amqp()
      attempt(client)
      const { replyCode, replyText } = await client.expect(CHANNEL.close)
      expect(replyCode).toBe(405)
      expect(replyText).toContain(`locked queue '${queue}' in vhost '/'`)
    }
  })
})
