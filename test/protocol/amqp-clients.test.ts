/** The clients that people have, unchanged, as publishers and consumers. */
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import amqplib from 'amqplib'
import { Connection } from 'rabbitmq-client'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { AmqpGateway } from '../support/amqp-gateway.ts'
import { PYTHON, requireProgram } from '../support/require.ts'

let gateway: AmqpGateway

beforeEach(async () => {
  gateway = await new AmqpGateway().start()
})
afterEach(() => gateway.close())

describe('amqplib', () => {
  it('publishes with confirms and consumes with acks', async () => {
    const connection = await amqplib.connect(gateway.url)
    const publisher = await connection.createConfirmChannel()
    await publisher.assertQueue('q', { durable: true })
    const count = 500
    for (let i = 0; i < count; i++) {
      publisher.sendToQueue('q', Buffer.from(`${i}`), {
        persistent: true,
        headers: { i, list: [1, 'a'] }
      })
    }
    await publisher.waitForConfirms()
    const channel = await connection.createChannel()
    await channel.prefetch(20)
    const seen: number[] = []
    await new Promise<void>((resolve, reject) => {
      channel
        .consume('q', message => {
          if (message === null) return reject(new Error('cancelled'))
          expect(message.properties.headers).toEqual({ i: seen.length, list: [1, 'a'] })
          seen.push(Number(message.content.toString()))
          channel.ack(message)
          if (seen.length === count) resolve()
        })
        .catch(reject)
    })
    expect(seen).toEqual(Array.from({ length: count }, (_, i) => i))
    // Its close of the connection overtakes acks that it has not written yet.
    await channel.close()
    await connection.close()
    expect(gateway.broker.state.vhost('/')!.queues.get('q')!.count).toBe(0)
  })

  it('gets its returns, cancels and errors as it knows them', async () => {
    const connection = await amqplib.connect(gateway.url)
    connection.on('error', () => undefined)
    const channel = await connection.createConfirmChannel()
    const returned = new Promise<string>(resolve => {
      channel.on('return', message => resolve(message.content.toString()))
    })
    channel.publish('amq.direct', 'nowhere', Buffer.from('back'), { mandatory: true })
    await channel.waitForConfirms()
    expect(await returned).toBe('back')
    await channel.assertQueue('q')
    const cancelled = new Promise<unknown>((resolve, reject) => {
      channel.consume('q', resolve).catch(reject)
    })
    await channel.assertQueue('q')
    await channel.deleteQueue('q')
    expect(await cancelled).toBeNull()
    const failing = await connection.createChannel()
    const failed = new Promise<Error>(resolve => failing.on('error', resolve))
    await expect(failing.checkQueue('missing')).rejects.toThrow(/404/)
    expect((await failed).message).toContain("NOT_FOUND - no queue 'missing' in vhost '/'")
    await connection.close()
  })

  it('gets the answers to its requests without a queue for them', async () => {
    const connection = await amqplib.connect(gateway.url)
    const worker = await connection.createChannel()
    await worker.assertQueue('rpc')
    await worker.consume('rpc', message => {
      if (message === null) return
      const { replyTo, correlationId } = message.properties
      worker.sendToQueue(replyTo, Buffer.from(`${message.content}!`), { correlationId })
      worker.ack(message)
    })
    const client = await connection.createChannel()
    const answers = new Map<string, string>()
    await client.consume(
      'amq.rabbitmq.reply-to',
      message => {
        if (message !== null)
          answers.set(message.properties.correlationId, message.content.toString())
      },
      { noAck: true }
    )
    const wanted = new Map<string, string>()
    for (let i = 0; i < 200; i++) {
      const options = { replyTo: 'amq.rabbitmq.reply-to', correlationId: `id${i}` }
      client.sendToQueue('rpc', Buffer.from(`${i}`), options)
      wanted.set(`id${i}`, `${i}!`)
    }
    await expect.poll(() => answers.size).toBe(200)
    expect(answers).toEqual(wanted)
    await connection.close()
  })

  it('gives a consumer of a higher priority what there is', async () => {
    const connection = await amqplib.connect(gateway.url)
    const channel = await connection.createChannel()
    await channel.assertQueue('q')
    const seen: string[] = []
    for (const [name, priority] of [
      ['low', -1],
      ['high', 3],
      ['usual', 0]
    ] as const) {
      await channel.consume('q', () => seen.push(name), { priority, noAck: true })
    }
    for (let i = 0; i < 3; i++) channel.sendToQueue('q', Buffer.from('x'))
    await expect.poll(() => seen).toEqual(['high', 'high', 'high'])
    await connection.close()
  })

  it('is told of a wrong password', async () => {
    const url = gateway.url.replace('guest:guest', 'guest:wrong')
    await expect(amqplib.connect(url)).rejects.toThrow(/403/)
  })

  it('carries a message of many frames', async () => {
    const connection = await amqplib.connect(`${gateway.url}?frameMax=8192`)
    const channel = await connection.createChannel()
    await channel.assertQueue('q')
    const body = Buffer.alloc(1_000_000, 'motemq')
    channel.sendToQueue('q', body)
    await channel.checkQueue('q')
    const got = await channel.get('q', { noAck: true })
    expect(got !== false && got.content.equals(body)).toBe(true)
    expect(await channel.get('q', { noAck: true })).toBe(false)
    await connection.close()
  })
})

describe('rabbitmq-client', () => {
  it('publishes with confirms and consumes with acks', async () => {
    const connection = new Connection(gateway.url)
    const publisher = connection.createPublisher({
      confirm: true,
      exchanges: [{ exchange: 'events', type: 'topic', durable: true }]
    })
    const seen: unknown[] = []
    const consumer = connection.createConsumer(
      {
        queue: 'q',
        queueOptions: { durable: true },
        qos: { prefetchCount: 2 },
        queueBindings: [{ exchange: 'events', routingKey: 'a.*' }],
        exchanges: [{ exchange: 'events', type: 'topic', durable: true }]
      },
      async message => {
        seen.push(message.body)
      }
    )
    await new Promise<void>(resolve => consumer.on('ready', resolve))
    for (let i = 0; i < 20; i++)
      await publisher.send({ exchange: 'events', routingKey: 'a.b', durable: true }, { i })
    await expect.poll(() => seen.length).toBe(20)
    expect(seen).toEqual(Array.from({ length: 20 }, (_, i) => ({ i })))
    await consumer.close()
    await publisher.close()
    await connection.close()
  })

  it('gets the answer to its request', async () => {
    const connection = new Connection(gateway.url)
    const worker = connection.createConsumer({ queue: 'rpc' }, async (message, reply) => {
      await reply({ twice: Number(message.body) * 2 })
    })
    await new Promise<void>(resolve => worker.once('ready', () => resolve()))
    const client = connection.createRPCClient({ confirm: true })
    const answers = await Promise.all([1, 2, 3].map(number => client.send('rpc', number)))
    expect(answers.map(({ body }) => body)).toEqual([{ twice: 2 }, { twice: 4 }, { twice: 6 }])
    await client.close()
    await worker.close()
    await connection.close()
  })

  it('declares, gets and purges', async () => {
    const connection = new Connection(gateway.url)
    await connection.queueDeclare({ queue: 'q', arguments: { 'x-max-length': 10 } })
    await connection.queueDeclare({ queue: 'q', arguments: { 'x-max-length': 10 } })
    await expect(connection.queueDeclare({ queue: 'q' })).rejects.toMatchObject({
      code: 'PRECONDITION_FAILED'
    })
    const publisher = connection.createPublisher({ confirm: true })
    await publisher.send('q', 'text')
    expect((await connection.basicGet('q'))?.body).toBe('text')
    await publisher.send('q', 'gone')
    expect((await connection.queuePurge('q')).messageCount).toBe(1)
    await publisher.close()
    await connection.close()
  })
})

requireProgram('python3:pika')('pika', () => {
  it('publishes with confirms and consumes with acks', async () => {
    const script = join(import.meta.dirname, '..', 'support', 'amqp-pika.py')
    const run = promisify(execFile)
    const { stdout } = await run(PYTHON, [script, String(gateway.port)])
    expect(stdout.trim()).toBe('ok')
  })
})
