/** amqplib and rabbitmq-client against the started program, and MQTT and AMQP into each other. */
import { type ChannelModel, type ConfirmChannel, connect, type ConsumeMessage } from 'amqplib'
import { connectAsync } from 'mqtt'
import { Connection } from 'rabbitmq-client'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Program } from '../support/program.ts'

let program: Program

beforeAll(async () => {
  program = await Program.start()
})

afterAll(async () => {
  await program.remove()
})

const amqpUrl = () => `amqp://guest:guest@127.0.0.1:${program.port('amqp')}`

interface Opened {
  readonly connection: ChannelModel
  readonly channel: ConfirmChannel
}

async function open(): Promise<Opened> {
  const connection = await connect(amqpUrl())
  connection.on('error', () => undefined)
  return { connection, channel: await connection.createConfirmChannel() }
}

/** Consumes `count` messages with acknowledgements, then cancels. */
async function take(
  channel: ConfirmChannel,
  queue: string,
  count: number
): Promise<ConsumeMessage[]> {
  const got: ConsumeMessage[] = []
  await channel.prefetch(5)
  let enough: () => void
  const all = new Promise<void>(resolve => {
    enough = resolve
  })
  const { consumerTag } = await channel.consume(queue, message => {
    if (message === null) return
    got.push(message)
    channel.ack(message)
    if (got.length === count) enough()
  })
  await all
  await channel.cancel(consumerTag)
  return got
}

const texts = (messages: readonly ConsumeMessage[]) =>
  messages.map(({ content }) => String(content))

describe('amqplib', () => {
  it('declares, binds, publishes with confirms and consumes with acknowledgements', async () => {
    const { connection, channel } = await open()
    await channel.assertExchange('orders', 'topic', { durable: true })
    await channel.assertQueue('orders.eu', { durable: true })
    await channel.bindQueue('orders.eu', 'orders', 'eu.*.new')
    for (const key of ['eu.de.new', 'us.ny.new', 'eu.fr.new']) {
      channel.publish('orders', key, Buffer.from(key), {
        persistent: true,
        contentType: 'text/plain',
        headers: { number: 7, name: 'x', nested: { flag: true } }
      })
    }
    await channel.waitForConfirms()
    const got = await take(channel, 'orders.eu', 2)
    expect(texts(got)).toEqual(['eu.de.new', 'eu.fr.new'])
    expect(got[0]?.properties).toMatchObject({
      contentType: 'text/plain',
      deliveryMode: 2,
      headers: { number: 7, name: 'x', nested: { flag: true } }
    })
    expect((await channel.checkQueue('orders.eu')).messageCount).toBe(0)
    await connection.close()
  })

  it('gets back, marked, what it left unacknowledged', async () => {
    const first = await open()
    await first.channel.assertQueue('unacked', { durable: true })
    for (const text of ['a', 'b']) first.channel.sendToQueue('unacked', Buffer.from(text))
    await first.channel.waitForConfirms()
    const got = await first.channel.get('unacked')
    expect(got).toMatchObject({ fields: { redelivered: false } })
    await first.connection.close()
    const second = await open()
    const again = await take(second.channel, 'unacked', 2)
    expect(texts(again)).toEqual(['a', 'b'])
    expect(again.map(({ fields }) => fields.redelivered)).toEqual([true, false])
    await second.connection.close()
  })

  it('is told about a mandatory message that no queue wants, before its confirm', async () => {
    const { connection, channel } = await open()
    const seen: string[] = []
    channel.on('return', message => seen.push(`returned ${message.fields.routingKey}`))
    await new Promise<void>(resolve => {
      channel.publish('amq.direct', 'nowhere', Buffer.from('x'), { mandatory: true }, () => {
        seen.push('confirmed')
        resolve()
      })
    })
    expect(seen).toEqual(['returned nowhere', 'confirmed'])
    await connection.close()
  })

  it('loses only its channel over a queue that does not exist', async () => {
    const { connection, channel } = await open()
    const closed = new Promise<Error>(resolve => channel.on('error', resolve))
    await expect(channel.checkQueue('no.such.queue')).rejects.toThrow()
    expect(await closed).toMatchObject({ code: 404 })
    const other = await connection.createChannel()
    await other.assertQueue('', { exclusive: true })
    await connection.close()
  })

  it('finds queues, bindings and persistent messages after a kill', async () => {
    const before = await open()
    await before.channel.assertQueue('lasting', { durable: true })
    await before.channel.bindQueue('lasting', 'amq.direct', 'key')
    const wanted = Array.from({ length: 200 }, (_, index) => `m${index}`)
    for (const text of wanted)
      before.channel.publish('amq.direct', 'key', Buffer.from(text), { persistent: true })
    await before.channel.waitForConfirms()
    await program.kill()
    await program.restart()
    const after = await open()
    after.channel.publish('amq.direct', 'key', Buffer.from('last'), { persistent: true })
    await after.channel.waitForConfirms()
    expect(texts(await take(after.channel, 'lasting', 201))).toEqual([...wanted, 'last'])
    await after.connection.close()
  })
})

describe('amqplib and a queue with priorities', () => {
  it('finds it after a kill as it was, what was delivered too, each level in its order', async () => {
    const before = await open()
    await before.channel.assertQueue('levels', { durable: true, maxPriority: 9 })
    const publish = (channel: ConfirmChannel, text: string, priority: number) =>
      channel.sendToQueue('levels', Buffer.from(text), { persistent: true, priority })
    for (let i = 0; i < 300; i++) publish(before.channel, `${i % 3}:${i}`, i % 3)
    await before.channel.waitForConfirms()
    const first = await before.channel.get('levels', { noAck: false })
    if (first === false) throw new Error('nothing there')
    expect([String(first.content), first.properties.priority]).toEqual(['2:2', 2])
    await program.kill()
    await program.restart()
    const after = await open()
    publish(after.channel, 'high', 200)
    await after.channel.waitForConfirms()
    expect(await after.channel.checkQueue('levels')).toMatchObject({ messageCount: 301 })
    const got = await take(after.channel, 'levels', 301)
    const level = (of: number) => Array.from({ length: 100 }, (_, i) => `${of}:${i * 3 + of}`)
    expect(texts(got)).toEqual(['high', ...level(2), ...level(1), ...level(0)])
    expect(got.map(({ fields }) => fields.redelivered)).toEqual([
      false,
      ...Array.from({ length: 300 }, () => true)
    ])
    await after.channel.deleteQueue('levels')
    await after.connection.close()
  })
})

describe('rabbitmq-client', () => {
  it('publishes with confirms, consumes, and gets the answer to its request', async () => {
    const connection = new Connection(amqpUrl())
    connection.on('error', () => undefined)
    const got: unknown[] = []
    const worker = connection.createConsumer(
      { queue: 'rpc', queueOptions: { durable: true }, qos: { prefetchCount: 2 } },
      async (message, reply) => {
        got.push(message.body)
        if (message.replyTo !== undefined) await reply({ twice: Number(message.body) * 2 })
      }
    )
    worker.on('error', () => undefined)
    await new Promise<void>(resolve => worker.once('ready', () => resolve()))
    const client = connection.createRPCClient({ confirm: true })
    expect((await client.send('rpc', 21)).body).toEqual({ twice: 42 })
    const publisher = connection.createPublisher({ confirm: true, maxAttempts: 2 })
    await publisher.send('rpc', 5)
    await expect.poll(() => got, { timeout: 10_000 }).toEqual([21, 5])
    await publisher.close()
    await client.close()
    await worker.close()
    await connection.close()
  })
})

describe('MQTT and AMQP into each other', () => {
  it('a durable queue bound to amq.topic has what devices published, over a restart', async () => {
    const before = await open()
    await before.channel.assertQueue('telemetry', { durable: true })
    await before.channel.bindQueue('telemetry', 'amq.topic', 'sensors.#')
    const device = await connectAsync(program.url('mqtt').href)
    for (const qos of [0, 1, 2] as const)
      await device.publishAsync(`sensors/room.1/${qos}`, `v${qos}`, { qos })
    await device.publishAsync('other/topic', 'not for the queue', { qos: 1 })
    await device.endAsync()
    await before.connection.close()
    await program.stop()
    await program.restart()
    const after = await open()
    const got = await take(after.channel, 'telemetry', 3)
    expect(texts(got)).toEqual(['v0', 'v1', 'v2'])
    expect(got.map(({ fields }) => fields.routingKey)).toEqual(
      [0, 1, 2].map(qos => `sensors.room/1.${qos}`)
    )
    expect(got.map(({ fields }) => fields.exchange)).toEqual([
      'amq.topic',
      'amq.topic',
      'amq.topic'
    ])
    await after.connection.close()
  })

  it('an MQTT subscriber gets what AMQP published to amq.topic', async () => {
    const { connection, channel } = await open()
    const device = await connectAsync(program.url('mqtt').href, { protocolVersion: 5 })
    const got: string[] = []
    device.on('message', (topic, payload, { qos }) => got.push(`${topic} ${qos} ${payload}`))
    await device.subscribeAsync('commands/+/set', { qos: 2 })
    channel.publish('amq.topic', 'commands.lamp.set', Buffer.from('on'), { persistent: true })
    channel.publish('amq.topic', 'commands.lamp.get', Buffer.from('no'), { persistent: true })
    await channel.waitForConfirms()
    await expect.poll(() => got, { timeout: 10_000 }).toEqual(['commands/lamp/set 1 on'])
    await device.endAsync()
    await connection.close()
  })
})
