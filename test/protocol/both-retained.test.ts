/** Retained messages where the protocols meet (amqp-semantics §3.4: `x-mqtt-retain`), with ordinary clients. */
import { type ChannelModel, type ConfirmChannel, connect } from 'amqplib'
import { connectAsync, type IPublishPacket, type MqttClient } from 'mqtt'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { TX } from '../../src/amqp/codec/methods.ts'
import { WholeServer } from '../support/whole-server.ts'

let server: WholeServer
let model: ChannelModel
let channel: ConfirmChannel
const clients: MqttClient[] = []

async function dial(): Promise<void> {
  model = await connect(`amqp://127.0.0.1:${server.port(1)}`)
  channel = await model.createConfirmChannel()
}

beforeEach(async () => {
  server = await new WholeServer().start('limits:\n  retainedMax: 5\n')
  await dial()
})
afterEach(async () => {
  for (const client of clients.splice(0)) client.end(true)
  await model.close().catch(() => undefined)
  await server.close()
})

async function mqtt(protocolVersion: 4 | 5 = 5): Promise<MqttClient> {
  const url = `mqtt://127.0.0.1:${server.port(0)}`
  const client = await connectAsync(url, { protocolVersion, reconnectPeriod: 0 })
  clients.push(client)
  return client
}

/** What a new subscriber finds, by topic, up to a marker that is asked for behind them. */
async function found(filter: string, protocolVersion: 4 | 5 = 5): Promise<IPublishPacket[]> {
  const client = await mqtt(protocolVersion)
  const packets: IPublishPacket[] = []
  const end = new Promise<void>(resolve => {
    client.on('message', (topic, _payload, packet) => {
      if (topic === 'end') resolve()
      else packets.push(packet)
    })
  })
  await client.subscribeAsync(filter, { qos: 1 })
  // Replays come one after the other: this one's behind that of the filter.
  await client.publishAsync('end', 'x', { qos: 1, retain: true })
  await client.subscribeAsync('end', { qos: 1 })
  await end
  client.end(true)
  return packets.sort((a, b) => (a.topic < b.topic ? -1 : 1))
}

function publish(key: string, body: string, options: object = {}, exchange = 'amq.topic') {
  return new Promise<void>((resolve, reject) => {
    const { headers, ...rest } = options as { headers?: object }
    const all = { persistent: true, headers: { 'x-mqtt-retain': true, ...headers }, ...rest }
    channel.publish(exchange, key, Buffer.from(body), all, error =>
      error === null ? resolve() : reject(error)
    )
  })
}

async function dropped(reason: string): Promise<number> {
  const { dropped } = server.running.broker.counters
  await Promise.resolve()
  return dropped.get(reason as never) ?? 0
}

describe('an AMQP message with x-mqtt-retain', () => {
  it('is retained, with its properties, for subscribers to come', async () => {
    const live = await mqtt()
    const first = new Promise<IPublishPacket>(resolve =>
      live.once('message', (_topic, _body, packet) => resolve(packet))
    )
    await live.subscribeAsync('state/#', { qos: 1 })
    await publish('state.lamp/1', 'on', {
      contentType: 'text/plain',
      correlationId: 'c',
      headers: { n: 1, 'x-mqtt-retain': 'true' }
    })
    expect(await first).toMatchObject({ topic: 'state/lamp.1', retain: false })
    for (const version of [4, 5] as const) {
      const [packet, ...rest] = await found('state/#', version)
      expect(rest).toEqual([])
      expect(packet).toMatchObject({ topic: 'state/lamp.1', retain: true, qos: 1 })
      expect(packet?.payload.toString()).toBe('on')
      if (version === 4) continue
      expect(packet?.properties).toMatchObject({ contentType: 'text/plain' })
      expect({ ...packet?.properties?.userProperties }).toEqual({ n: '1' })
    }
  })

  it('takes the place of an MQTT one and is replaced by one, and cleared by an empty body', async () => {
    const device = await mqtt()
    await device.publishAsync('a/b', 'mqtt', { qos: 1, retain: true })
    await publish('a.b', 'amqp')
    const payloads = async () => (await found('a/b')).map(({ payload }) => payload.toString())
    expect(await payloads()).toEqual(['amqp'])
    await device.publishAsync('a/b', 'again', { qos: 1, retain: true })
    expect(await payloads()).toEqual(['again'])
    await publish('a.b', 'amqp')
    await publish('a.b', '')
    expect(await payloads()).toEqual([])
  })

  it('is there after a restart, transient or not', async () => {
    await publish('kept.1', 'one', { expiration: '600000' })
    await publish('kept.2', 'two', { persistent: false })
    await publish('kept.3', 'gone', { expiration: '1' })
    for (let round = 0; round < 2; round++) {
      await model.close()
      await server.stop()
      await server.start('limits:\n  retainedMax: 5\n')
      await dial()
      const packets = await found('kept/#')
      expect(packets.map(({ topic, qos }) => [topic, qos])).toEqual([
        ['kept/1', 1],
        ['kept/2', 0]
      ])
      expect(packets[0]?.properties?.messageExpiryInterval).toBeGreaterThan(300)
    }
  })

  it('is refused by a nack when there is no room, and goes to nobody', async () => {
    await channel.assertQueue('q')
    await channel.bindQueue('q', 'amq.topic', 'd')
    for (const key of 'abcxy') await publish(key, key)
    await expect(publish('d', 'd')).rejects.toThrow()
    expect((await channel.checkQueue('q')).messageCount).toBe(0)
    expect(await dropped('retained_quota')).toBe(1)
    await publish('a', 'new')
  })

  it('is not retained under a key that is no topic, or through another exchange', async () => {
    await channel.assertQueue('q')
    for (const exchange of ['amq.topic', 'amq.fanout']) await channel.bindQueue('q', exchange, '#')
    await publish('a.#', 'x')
    await publish('$a', 'x')
    expect(await dropped('topic_not_mqtt')).toBe(2)
    await publish('a.b', 'x', {}, 'amq.fanout')
    await publish('a.c', 'x', { headers: { 'x-mqtt-retain': false } })
    expect((await channel.checkQueue('q')).messageCount).toBe(3)
    expect((await found('+/+')).length).toBe(0)
  })

  it('is retained by the commit of a transaction', async () => {
    const raw = await server.amqp()
    await raw.call(TX.select, {}, TX.selectOk)
    raw.publish('amq.topic', 'in.tx', 'x', {
      properties: { headers: [['x-mqtt-retain', { type: 't', value: true }]] }
    })
    expect(await found('in/#')).toEqual([])
    await raw.call(TX.commit, {}, TX.commitOk)
    expect((await found('in/#')).map(({ topic }) => topic)).toEqual(['in/tx'])
  })
})

describe('a retained message', () => {
  it('is not sent to a queue that is bound later, nor is its flag to one that is there', async () => {
    await channel.assertQueue('there')
    await channel.bindQueue('there', 'amq.topic', 'a.#')
    const device = await mqtt(4)
    await device.publishAsync('a/b', 'x', { qos: 1, retain: true })
    await channel.assertQueue('later')
    await channel.bindQueue('later', 'amq.topic', 'a.#')
    expect((await channel.checkQueue('later')).messageCount).toBe(0)
    const message = await channel.get('there', { noAck: true })
    expect(message === false ? null : message.properties.headers).toBeUndefined()
  })

  it('that has expired is not found any more, whoever published it', async () => {
    await publish('a.b', 'x', { expiration: '30' })
    const device = await mqtt()
    const properties = { messageExpiryInterval: 1 }
    await device.publishAsync('a/c', 'x', { qos: 1, retain: true, properties })
    await device.publishAsync('a/d', 'stays', { qos: 1, retain: true })
    await expect
      .poll(async () => (await found('a/#')).map(({ topic }) => topic), { timeout: 20_000 })
      .toEqual(['a/d'])
  })
})
