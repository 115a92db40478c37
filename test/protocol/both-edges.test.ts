/** Where MQTT and AMQP meet at their edges: keys and topics, dead letters, delayed wills, virtual hosts. */
import { type Channel, type ChannelModel, connect, type GetMessage } from 'amqplib'
import { connectAsync, type IClientOptions, type IPublishPacket, type MqttClient } from 'mqtt'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { WholeServer } from '../support/whole-server.ts'

const SOON = { timeout: 20_000, interval: 5 }

let server: WholeServer
let channel: Channel
const models: ChannelModel[] = []
const clients: MqttClient[] = []

beforeEach(async () => {
  server = await new WholeServer().start()
  channel = await amqp()
})
afterEach(async () => {
  for (const client of clients.splice(0)) client.end(true)
  for (const model of models.splice(0)) await model.close().catch(() => undefined)
  await server.close()
})

async function amqp(vhost = '/'): Promise<Channel> {
  const address = `amqp://127.0.0.1:${server.port(1)}/${encodeURIComponent(vhost)}`
  const model = await connect(address)
  models.push(model)
  const channel = await model.createChannel()
  // Told by what was asked, too.
  channel.on('error', () => undefined)
  return channel
}

async function mqtt(clientId: string, options: Partial<IClientOptions> = {}): Promise<MqttClient> {
  const url = `mqtt://127.0.0.1:${server.port(0)}`
  const common = { protocolVersion: 5, clientId, reconnectPeriod: 0 } as const
  const client = await connectAsync(url, { ...common, ...options })
  clients.push(client)
  return client
}

async function bound(queue: string, key: string, on = channel): Promise<void> {
  await on.assertQueue(queue)
  await on.bindQueue(queue, 'amq.topic', key)
}

async function got(queue: string, on = channel): Promise<GetMessage> {
  return await vi.waitFor(async () => {
    const message = await on.get(queue, { noAck: true })
    if (message === false) throw new Error('nothing there')
    return message
  }, SOON)
}

function next(client: MqttClient): Promise<IPublishPacket> {
  return new Promise(resolve => client.once('message', (_topic, _body, packet) => resolve(packet)))
}

describe('a key and its topic', () => {
  it.each([
    ['a/b', 'a.b'],
    ['a.b/c', 'a/b.c'],
    ['/a//b/', '.a..b.'],
    ['/', '.'],
    ['.', '/'],
    ['a/*/b', 'a.*.b'],
    ['192.168.0.1/up', '192/168/0/1.up'],
    ['ü/日本/🙂', 'ü.日本.🙂'],
    [' a / b ', ' a . b ']
  ])('%j is %j, there and back', async (topic, key) => {
    const client = await mqtt('m')
    await bound('q', key.replaceAll('*', '#'))
    await client.publishAsync(topic, 'x', { qos: 1 })
    expect((await got('q')).fields.routingKey).toBe(key)
    await client.subscribeAsync(topic, { qos: 1 })
    const packet = next(client)
    channel.publish('amq.topic', key, Buffer.from('x'))
    expect((await packet).topic).toBe(topic)
  })

  it('that is no topic, or begins with $, reaches queues and no MQTT client', async () => {
    const client = await mqtt('m')
    const topics: string[] = []
    client.on('message', topic => topics.push(topic))
    await client.subscribeAsync(['#', '+', '+/#', '$a/#'], { qos: 1 }).catch(() => undefined)
    await bound('q', '#')
    await bound('dollars', '$a.#')
    const odd = ['a.#', 'a.+', 'a+b', '#', '']
    for (const key of [...odd, '$a.b', 'end']) channel.publish('amq.topic', key, Buffer.from(key))
    for (const key of [...odd, 'end']) expect((await got('q')).fields.routingKey).toBe(key)
    expect((await got('dollars')).fields.routingKey).toBe('$a.b')
    await vi.waitFor(() => expect(topics).toEqual(['end']), SOON)
    expect(server.running.broker.counters.dropped.get('topic_not_mqtt')).toBeGreaterThan(0)
  })
})

describe('a dead letter', () => {
  const dead = { deadLetterExchange: 'amq.topic', deadLetterRoutingKey: 'dead.letters' }

  it('shows an MQTT 5 subscriber its history, and expires no more', async () => {
    const client = await mqtt('m')
    await client.subscribeAsync('dead/#', { qos: 1 })
    await channel.assertQueue('q', dead)
    const packet = next(client)
    channel.sendToQueue('q', Buffer.from('x'), { expiration: '20', headers: { own: 1 } })
    const { topic, properties, payload } = await packet
    expect([topic, payload.toString()]).toEqual(['dead/letters', 'x'])
    expect(properties?.messageExpiryInterval).toBeUndefined()
    const own = { ...properties?.userProperties } as Record<string, string>
    expect(own).toMatchObject({
      own: '1',
      'x-first-death-queue': 'q',
      'x-first-death-reason': 'expired'
    })
    expect(JSON.parse(own['x-death']!)).toMatchObject([
      {
        count: 1,
        reason: 'expired',
        queue: 'q',
        exchange: '',
        'routing-keys': ['q'],
        'original-expiration': '20'
      }
    ])
  })

  it('of an MQTT message has its properties, its topic as key and no expiry', async () => {
    const client = await mqtt('m')
    await channel.assertQueue('q', { deadLetterExchange: 'amq.fanout' })
    await channel.bindQueue('q', 'amq.topic', 'a.#')
    await channel.assertQueue('graves')
    await channel.bindQueue('graves', 'amq.fanout', '')
    await client.publishAsync('a/b.c', 'x', {
      qos: 2,
      properties: {
        messageExpiryInterval: 1,
        contentType: 'a/b',
        correlationData: Buffer.from([0xff]),
        userProperties: { own: ['1', '2'] }
      }
    })
    const { fields, properties } = await got('graves')
    expect(fields).toMatchObject({ exchange: 'amq.fanout', routingKey: 'a.b/c' })
    expect(properties).toMatchObject({ contentType: 'a/b', deliveryMode: 2 })
    expect(properties.expiration).toBeUndefined()
    expect(properties.headers).toMatchObject({
      own: '2',
      'x-correlation-id': Buffer.from([0xff]),
      'x-death': [{ reason: 'expired', exchange: 'amq.topic', 'routing-keys': ['a.b/c'] }]
    })
  })
})

describe('a will', () => {
  it('with a delay reaches a queue when that is over, with its properties', async () => {
    await bound('wills', 'gone.#')
    const client = await mqtt('m', {
      properties: { sessionExpiryInterval: 100 },
      will: {
        topic: 'gone/m',
        payload: Buffer.from('lost'),
        qos: 2,
        retain: true,
        properties: {
          willDelayInterval: 1,
          messageExpiryInterval: 50,
          contentType: 'a/b',
          responseTopic: 'r',
          userProperties: { own: '1' }
        }
      }
    })
    client.stream.destroy()
    expect((await channel.checkQueue('wills')).messageCount).toBe(0)
    const { properties, content, fields } = await got('wills')
    expect([content.toString(), fields.routingKey]).toEqual(['lost', 'gone.m'])
    expect(properties).toMatchObject({ contentType: 'a/b', deliveryMode: 2 })
    expect(properties.headers).toEqual({ own: '1', 'x-reply-to-topic': 'r' })
    expect(Number(properties.expiration)).toBeLessThanOrEqual(50_000)
    const late = await mqtt('late')
    const packet = next(late)
    await late.subscribeAsync('gone/#', { qos: 1 })
    expect(await packet).toMatchObject({ topic: 'gone/m', retain: true })
  })
})

describe('virtual hosts keep MQTT and AMQP together, and apart from the others', () => {
  it('messages, retained ones, answers and shared subscriptions', async () => {
    await server.ask('PUT', '/api/vhosts/b', { description: '' })
    const there = await amqp('b')
    const [here, other] = [await mqtt('m'), await mqtt('m', { username: 'b:guest' })]
    const seen: string[] = []
    for (const [name, client] of [
      ['/', here],
      ['b', other]
    ] as const) {
      client.on('message', (topic, payload) => seen.push(`${name} ${topic} ${payload.toString()}`))
      await client.subscribeAsync('a/#', { qos: 1 })
    }
    await bound('q', '#')
    await bound('q', '#', there)
    // MQTT to AMQP, AMQP to MQTT, retained by AMQP, in b.
    await other.publishAsync('a/1', 'mqtt', { qos: 1 })
    expect((await got('q', there)).content.toString()).toBe('mqtt')
    there.publish('amq.topic', 'a.2', Buffer.from('amqp'), { headers: { 'x-mqtt-retain': true } })
    expect((await got('q', there)).content.toString()).toBe('amqp')
    await vi.waitFor(() => expect(seen).toEqual(['b a/1 mqtt', 'b a/2 amqp']), SOON)
    await here.subscribeAsync('a/2', { qos: 1 })
    // An answer goes to the queue of that name in its own virtual host, or to a channel there.
    await other.publishAsync('$reply-to/q', 'answer', { qos: 1 })
    expect((await got('q', there)).content.toString()).toBe('answer')
    const asked = next(other)
    let answers = 0
    await there.consume('amq.rabbitmq.reply-to', () => answers++, { noAck: true })
    there.publish('amq.topic', 'a.3', Buffer.from('?'), { replyTo: 'amq.rabbitmq.reply-to' })
    const address = (await asked).properties!.responseTopic!
    await here.publishAsync(address, 'from outside', { qos: 1 })
    await other.publishAsync(address, 'from inside', { qos: 1 })
    await vi.waitFor(() => expect(answers).toBe(1), SOON)
    // A shared subscription of one name is another group there.
    await there.consume('$share/g/a/#', message => message !== null && there.ack(message))
    await expect(there.checkQueue('$share/g/a/#')).resolves.toMatchObject({ consumerCount: 1 })
    await expect(channel.checkQueue('q')).resolves.toMatchObject({ messageCount: 0 })
    await expect(channel.checkQueue('$share/g/a/#')).rejects.toThrow('NOT_FOUND')
    expect(seen.filter(line => line.startsWith('/'))).toEqual([])
  })
})
