/**
 * Every property in each direction, with ordinary clients (mqtt.js, amqplib): from MQTT 3.1.1 and 5 to AMQP, from AMQP
 * to both, and there and back through an application that publishes again what it consumed; also over kill -9.
 */
import { type Channel, type ChannelModel, connect, type GetMessage, type Options } from 'amqplib'
import {
  connect as mqttConnect,
  connectAsync,
  type IClientPublishOptions,
  type IPublishPacket,
  type MqttClient
} from 'mqtt'
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { Program } from '../support/program.ts'

type MqttProperties = NonNullable<IClientPublishOptions['properties']>

let program: Program
let model: ChannelModel
let channel: Channel
let five: MqttClient
let three: MqttClient
let number = 0
/** Another topic for each test. */
let topic = ''
let queue = ''

beforeAll(async () => {
  program = await Program.start()
  await dial()
}, 60_000)

afterAll(async () => {
  await hangUp()
  await program.remove()
})

beforeEach(async () => {
  number++
  topic = `t${number}/a`
  queue = `q${number}`
  await channel.assertQueue(queue, { durable: true })
  await channel.bindQueue(queue, 'amq.topic', `t${number}.#`)
})

async function dial(): Promise<void> {
  model = await connect(`amqp://127.0.0.1:${program.port('amqp')}`)
  // Kill -9 resets it.
  model.on('error', () => undefined)
  channel = await model.createChannel()
  const url = `mqtt://127.0.0.1:${program.port('mqtt')}`
  five = await connectAsync(url, { protocolVersion: 5, reconnectPeriod: 0, clientId: 'five' })
  three = await connectAsync(url, { protocolVersion: 4, reconnectPeriod: 0, clientId: 'three' })
}

async function hangUp(): Promise<void> {
  five.end(true)
  three.end(true)
  await model.close().catch(() => undefined)
}

async function got(from = queue): Promise<GetMessage> {
  return await vi.waitFor(
    async () => {
      const message = await channel.get(from, { noAck: true })
      if (message === false) throw new Error('nothing there')
      return message
    },
    { timeout: 20_000, interval: 5 }
  )
}

function next(client: MqttClient): Promise<IPublishPacket> {
  return new Promise(resolve => client.once('message', (_topic, _body, packet) => resolve(packet)))
}

/** What an MQTT 5 subscriber gets of this AMQP message. */
async function toFive(options: Options.Publish, key = topic.replaceAll('/', '.')) {
  await five.subscribeAsync(topic, { qos: 2 })
  const packet = next(five)
  channel.publish('amq.topic', key, Buffer.from('x'), options)
  const { properties, ...rest } = await packet
  await five.unsubscribeAsync(topic)
  return { ...rest, properties: properties as MqttProperties | undefined }
}

async function toAmqp(properties: MqttProperties, qos: 0 | 1 | 2 = 1): Promise<GetMessage> {
  await five.publishAsync(topic, 'x', { qos, properties })
  return await got()
}

/** Publishes what it got again, as an application does that moves messages. */
async function again(message: GetMessage, to: string): Promise<void> {
  const { properties } = message
  const options = Object.fromEntries(
    Object.entries(properties as object).filter(([, value]) => value !== undefined)
  ) as Options.Publish
  const persistent = properties.deliveryMode === 2
  channel.publish('amq.topic', to.replaceAll('/', '.'), message.content, { ...options, persistent })
}

const BINARY = Buffer.from([0xff, 0x00, 0xfe, 0x80])

describe('MQTT 5 to AMQP', () => {
  it('content type, payload format, correlation data and user properties', async () => {
    const { properties } = await toAmqp({
      contentType: 'text/plain; charset=utf-8',
      payloadFormatIndicator: true,
      correlationData: Buffer.from('id-7'),
      userProperties: { unit: 'C', 'x-own': 'ü', '': 'no name', many: ['1', '2'] }
    })
    expect(properties).toMatchObject({
      contentType: 'text/plain; charset=utf-8',
      correlationId: 'id-7',
      deliveryMode: 2
    })
    // What amqplib makes of a name that is repeated is the last one.
    const headers = { unit: 'C', 'x-own': 'ü', '': 'no name', many: '2' }
    expect(properties.headers).toEqual({ ...headers, 'x-mqtt-payload-format': 1 })
  })

  it('what is too long or no text for AMQP stands in headers', async () => {
    const contentType = `text/${'x'.repeat(300)}`
    const { properties } = await toAmqp({ contentType, correlationData: BINARY })
    expect(properties.contentType).toBeUndefined()
    expect(properties.correlationId).toBeUndefined()
    expect(properties.headers).toEqual({
      'x-content-type': contentType,
      'x-correlation-id': BINARY
    })
  })

  it('QoS is the delivery mode, the expiry milliseconds', async () => {
    const modes: unknown[] = []
    for (const qos of [0, 1, 2] as const) {
      const { properties } = await toAmqp({ messageExpiryInterval: 100 }, qos)
      modes.push(properties.deliveryMode)
      expect(Number(properties.expiration)).toBeGreaterThan(10_000)
      expect(Number(properties.expiration)).toBeLessThanOrEqual(100_000)
    }
    expect(modes).toEqual([1, 2, 2])
  })

  it('of 3.1.1 there is nothing but key, payload and delivery mode', async () => {
    await three.publishAsync(topic, 'x', { qos: 0, retain: true })
    const { fields, properties, content } = await got()
    expect(fields).toMatchObject({ exchange: 'amq.topic', routingKey: topic.replaceAll('/', '.') })
    expect(content.toString()).toBe('x')
    const there = Object.entries(properties as object).filter(([, value]) => value !== undefined)
    expect(there).toEqual([['deliveryMode', 1]])
  })
})

describe('AMQP to MQTT 5', () => {
  it('headers of every type are texts', async () => {
    const { properties } = await toFive({
      headers: {
        text: 'ü',
        yes: true,
        small: 7,
        large: 2 ** 40,
        half: 0.5,
        nothing: null as unknown as string,
        time: { '!': 'timestamp', value: 1_700_000_000 },
        money: { '!': 'decimal', value: { digits: 12_345, places: 2 } },
        single: { '!': 'float', value: 1.5 },
        bytes: BINARY,
        words: Buffer.from('words'),
        list: ['a', 1, { deep: [true, null, BINARY] }],
        'x-own': 'kept'
      }
    })
    expect({ ...properties?.userProperties }).toEqual({
      text: 'ü',
      yes: 'true',
      small: '7',
      large: String(2 ** 40),
      half: '0.5',
      nothing: '',
      time: '1700000000',
      money: '123.45',
      single: '1.5',
      bytes: BINARY.toString('base64'),
      words: 'words',
      list: `["a",1,{"deep":[true,null,"${BINARY.toString('base64')}"]}]`,
      'x-own': 'kept'
    })
  })

  it('properties that only AMQP has are user properties', async () => {
    const { properties, qos, retain } = await toFive({
      persistent: true,
      contentType: 'application/json',
      contentEncoding: 'gzip',
      messageId: 'm1',
      timestamp: 1_700_000_000,
      type: 'order',
      appId: 'shop',
      userId: 'guest',
      priority: 5,
      correlationId: 'c1',
      expiration: '90000'
    })
    expect([qos, retain]).toEqual([1, false])
    expect(properties).toMatchObject({
      contentType: 'application/json',
      correlationData: Buffer.from('c1')
    })
    expect(properties?.messageExpiryInterval).toBeGreaterThan(10)
    expect(properties?.messageExpiryInterval).toBeLessThanOrEqual(90)
    expect({ ...properties?.userProperties }).toEqual({
      'x-amqp-content-encoding': 'gzip',
      'x-amqp-message-id': 'm1',
      'x-amqp-timestamp': '1700000000',
      'x-amqp-type': 'order',
      'x-amqp-app-id': 'shop',
      'x-amqp-user-id': 'guest',
      'x-amqp-priority': '5'
    })
  })

  it('a header named as ours stays one where the property is there', async () => {
    const { properties } = await toFive({
      correlationId: 'c1',
      contentType: 'a/b',
      headers: { 'x-correlation-id': 'trace', 'x-content-type': 'c/d' }
    })
    expect(properties).toMatchObject({
      contentType: 'a/b',
      correlationData: Buffer.from('c1'),
      userProperties: { 'x-correlation-id': 'trace', 'x-content-type': 'c/d' }
    })
  })

  it('to 3.1.1 goes the payload, with QoS by the delivery mode', async () => {
    await three.subscribeAsync(topic, { qos: 2 })
    for (const [persistent, qos] of [
      [true, 1],
      [false, 0]
    ] as const) {
      const packet = next(three)
      channel.publish('amq.topic', topic.replaceAll('/', '.'), BINARY, {
        persistent,
        headers: { a: 1 },
        expiration: '60000'
      })
      expect(await packet).toMatchObject({ topic, payload: BINARY, qos, retain: false })
    }
  })
})

describe('there and back', () => {
  it('MQTT 5, a queue, an application that publishes again, MQTT 5: all is as it was', async () => {
    const there: MqttProperties = {
      contentType: 'text/plain',
      payloadFormatIndicator: true,
      responseTopic: 'answers/a.b/c',
      correlationData: BINARY,
      userProperties: { unit: 'C', 'x-amqp-message-id': 'm', 'x-amqp-timestamp': '12' }
    }
    const message = await toAmqp(there)
    expect(message.properties).toMatchObject({ messageId: 'm', timestamp: 12 })
    await five.subscribeAsync('back/a', { qos: 1 })
    const packet = next(five)
    await again(message, 'back/a')
    const { properties, qos } = await packet
    expect(qos).toBe(1)
    expect(properties).toMatchObject(there)
    expect(Object.keys(properties!).sort()).toEqual(Object.keys(there).sort())
  })

  it('AMQP, MQTT 5 that publishes again, AMQP: what MQTT has no place for, too', async () => {
    const sent = {
      persistent: true,
      contentType: 'a/b',
      contentEncoding: 'gzip',
      messageId: 'm1',
      timestamp: 1_700_000_000,
      type: 'order',
      appId: 'shop',
      correlationId: 'c1',
      replyTo: 'answers',
      headers: { h: 'v' }
    }
    const { properties } = await toFive(sent)
    await got()
    await five.publishAsync(topic, 'x', { qos: 1, properties: properties! })
    const { persistent, ...rest } = sent
    expect((await got()).properties).toMatchObject({ ...rest, deliveryMode: persistent ? 2 : 1 })
  })

  it('over kill -9 a queue and a session give each other what they had', async () => {
    const lasting = {
      protocolVersion: 5 as const,
      clean: false,
      clientId: 'lasting',
      reconnectPeriod: 0,
      properties: { sessionExpiryInterval: 600 }
    }
    const url = (): string => `mqtt://127.0.0.1:${program.port('mqtt')}`
    const before = await connectAsync(url(), lasting)
    await before.subscribeAsync('kept/#', { qos: 2 })
    await before.endAsync()
    const confirmed = await model.createConfirmChannel()
    await new Promise<void>((resolve, reject) => {
      const options = { persistent: true, replyTo: 'r', headers: { n: [1] }, expiration: '600000' }
      const done = (error: Error | null): void => (error === null ? resolve() : reject(error))
      confirmed.publish('amq.topic', 'kept.a', Buffer.from('to mqtt'), options, done)
    })
    const properties = { correlationData: BINARY, responseTopic: 'r', messageExpiryInterval: 600 }
    await five.publishAsync(topic, 'to amqp', { qos: 2, properties })
    await program.kill()
    await program.restart()
    await hangUp()
    await dial()
    const { properties: amqp, content, fields } = await got()
    expect([content.toString(), fields.redelivered]).toEqual(['to amqp', true])
    expect(amqp.headers).toEqual({ 'x-correlation-id': BINARY, 'x-reply-to-topic': 'r' })
    expect(Number(amqp.expiration)).toBeGreaterThan(100_000)
    const after = mqttConnect(url(), lasting)
    const packet = await next(after)
    after.end(true)
    expect(packet.payload.toString()).toBe('to mqtt')
    expect(packet.properties).toMatchObject({
      responseTopic: '$reply-to/r',
      userProperties: { n: '[1]' }
    })
    expect(packet.properties?.messageExpiryInterval).toBeGreaterThan(100)
  })
})
