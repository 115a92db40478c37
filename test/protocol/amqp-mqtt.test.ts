/** One message, both protocols: what an MQTT client publishes and an AMQP client gets, and back. */
import { once } from 'node:events'
import { type AddressInfo, createServer, type Server } from 'node:net'
import mqtt from 'mqtt'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { BASIC, EXCHANGE, QUEUE } from '../../src/amqp/codec/methods.ts'
import { decodeProperties } from '../../src/amqp/properties.ts'
import type { FieldTable } from '../../src/core/field-table.ts'
import { Principal } from '../../src/core/principal.ts'
import { MqttServer } from '../../src/mqtt/server.ts'
import { AmqpGateway } from '../support/amqp-gateway.ts'
import type { RawAmqp } from '../support/raw-amqp.ts'

let gateway: AmqpGateway
let listener: Server
let amqp: RawAmqp
let client: mqtt.MqttClient

beforeEach(async () => {
  gateway = await new AmqpGateway({
    authenticate: ({ vhost, username }) =>
      Promise.resolve({
        ok: true,
        principal: new Principal(username ?? '', [], vhost, [], [], true)
      })
  }).start()
  const server = new MqttServer({
    broker: gateway.broker,
    authenticator: gateway.amqp.authenticator,
    sockets: gateway.sockets,
    log: gateway.broker.log
  })
  listener = createServer({ pauseOnConnect: true }, socket =>
    server.accept(socket, {
      vhost: '/',
      isTrusted: true,
      protocol: 'mqtt',
      onClosed: () => undefined
    })
  )
  listener.listen(0, '127.0.0.1')
  await once(listener, 'listening')
  amqp = await gateway.connect()
  const { port } = listener.address() as AddressInfo
  client = await mqtt.connectAsync(`mqtt://127.0.0.1:${port}`, {
    protocolVersion: 5,
    clientId: 'm'
  })
})
afterEach(() => {
  client.end(true)
  gateway.close()
  listener.close()
})

function nextMessage(): Promise<[string, Buffer]> {
  return new Promise(resolve => {
    client.once('message', (topic, payload) => resolve([topic, payload]))
  })
}

async function bound(queue: string, routingKey: string): Promise<void> {
  const flags = {
    passive: false,
    durable: false,
    exclusive: false,
    autoDelete: false,
    noWait: false
  }
  await amqp.call(QUEUE.declare, { reserved: 0, queue, ...flags, arguments: [] }, QUEUE.declareOk)
  const values = {
    reserved: 0,
    queue,
    exchange: 'amq.topic',
    routingKey,
    noWait: false,
    arguments: []
  }
  await amqp.call(QUEUE.bind, values, QUEUE.bindOk)
}

async function get(queue: string) {
  amqp.method(BASIC.get, 1, { reserved: 0, queue, noAck: true })
  const { values, properties, body } = await amqp.content(BASIC.getOk)
  return { values, body, properties: decodeProperties(properties, 0, properties.length) }
}

describe('MQTT to AMQP', () => {
  it('shows user properties to a headers exchange behind the topic exchange', async () => {
    await bound('q', 'unused')
    const rest = { reserved: 0, noWait: false, arguments: [] }
    const between = { ...rest, source: 'amq.topic', destination: 'amq.headers', routingKey: 'a.b' }
    await amqp.call(EXCHANGE.bind, between, EXCHANGE.bindOk)
    const unit: FieldTable = [['unit', { type: 'S', value: 'C' }]]
    const values = { ...rest, queue: 'q', exchange: 'amq.headers', routingKey: '', arguments: unit }
    await amqp.call(QUEUE.bind, values, QUEUE.bindOk)
    for (const value of ['K', 'C', 'F']) {
      const properties = { userProperties: { unit: value } }
      await client.publishAsync('a/b', value, { qos: 1, properties })
    }
    await client.publishAsync('a/b', 'none', { qos: 1 })
    const { body, values: got } = await get('q')
    expect([body.toString(), got.messageCount]).toEqual(['C', 0])
  })

  it('keeps key, payload and properties', async () => {
    await bound('q', 'sensors.*.#')
    await client.publishAsync('sensors/a.b/c', 'on', {
      qos: 1,
      properties: {
        contentType: 'text/plain',
        correlationData: Buffer.from('id'),
        userProperties: { unit: ['C', 'K'] }
      }
    })
    const { values, properties, body } = await get('q')
    expect(values).toMatchObject({ exchange: 'amq.topic', routingKey: 'sensors.a/b.c' })
    expect(body.toString()).toBe('on')
    expect(properties).toMatchObject({
      contentType: 'text/plain',
      correlationId: Buffer.from('id'),
      deliveryMode: 2,
      headers: [
        ['unit', { type: 'S', value: 'C' }],
        ['unit', { type: 'S', value: 'K' }]
      ]
    })
  })

  it('cuts a long topic at a character and keeps it whole in a header', async () => {
    await bound('q', '#')
    const topic = `a/${'ü'.repeat(200)}`
    await client.publishAsync(topic, 'x', { qos: 1 })
    const { values, properties } = await get('q')
    expect(Buffer.byteLength(values.routingKey)).toBe(254)
    expect(properties.headers).toEqual([['x-mqtt-topic', { type: 'S', value: topic }]])
  })

  it('makes a response topic a reply-to that an ordinary worker can answer', async () => {
    await bound('requests', 'ask')
    await client.subscribeAsync('answers/m', { qos: 1 })
    const answer = nextMessage()
    await client.publishAsync('ask', '?', {
      qos: 1,
      properties: { responseTopic: 'answers/m', correlationData: Buffer.from('7') }
    })
    const { properties } = await get('requests')
    expect(properties.responseTopic).toBe('answers/m')
    amqp.publish('', properties.replyTo!, '!', {
      properties: {
        correlationId: properties.correlationId,
        headers: [['h', { type: 'S', value: 'v' }]]
      }
    })
    const [topic, payload] = await answer
    expect([topic, payload.toString()]).toEqual(['answers/m', '!'])
  })
})

describe('AMQP to MQTT', () => {
  it('reaches subscribers under the swapped topic', async () => {
    await client.subscribeAsync('lamp/+/set', { qos: 1 })
    const got = nextMessage()
    amqp.publish('amq.topic', 'lamp.kitchen.set', 'on', { persistent: true })
    const [topic, payload] = await got
    expect([topic, payload.toString()]).toEqual(['lamp/kitchen/set', 'on'])
  })
})
