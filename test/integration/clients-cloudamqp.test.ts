/** @cloudamqp/amqp-client, unchanged, against the started program. */
import { AMQPClient, type AMQPChannel, type AMQPMessage } from '@cloudamqp/amqp-client'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { Program } from '../support/program.ts'

let program: Program
let client: AMQPClient
let channel: AMQPChannel

beforeAll(async () => {
  program = await Program.start()
})

afterAll(async () => {
  await program.remove()
})

beforeEach(async () => {
  client = new AMQPClient(`amqp://guest:guest@127.0.0.1:${program.port('amqp')}`)
  await client.connect()
  channel = await client.channel()
})

afterEach(async () => {
  if (!client.closed) await client.close()
})

/** Resolves when `callback` was called for that many. */
async function consume(
  queue: string,
  count: number,
  callback: (message: AMQPMessage) => Promise<void> | void,
  noAck = false
): Promise<void> {
  let left = count
  let done: () => void
  const all = new Promise<void>(resolve => {
    done = resolve
  })
  const consumer = await channel.basicConsume(queue, { noAck }, async message => {
    await callback(message)
    if (--left === 0) done()
  })
  await all
  await channel.basicCancel(consumer.tag)
}

describe('@cloudamqp/amqp-client', () => {
  it('publishes with confirms, each with its number, and consumes in order', async () => {
    const queue = await channel.queueDeclare('', { exclusive: true })
    expect(queue.name).toMatch(/^amq\.gen-/)
    await channel.confirmSelect()
    const numbers: number[] = []
    for (let i = 0; i < 500; i++) {
      const confirmed = channel.basicPublish('', queue.name, `${i}`, { deliveryMode: 2 })
      void confirmed.then(number => numbers.push(number))
      if (i === 499) await confirmed
    }
    expect(numbers.sort((a, b) => a - b)).toEqual(Array.from({ length: 500 }, (_, i) => i + 1))
    await channel.prefetch(20)
    const got: string[] = []
    await consume(queue.name, 500, async message => {
      got.push(message.bodyToString() ?? '')
      await message.ack()
    })
    expect(got).toEqual(Array.from({ length: 500 }, (_, i) => `${i}`))
  })

  it('carries every property and type of header, and large bodies', async () => {
    const { name } = await channel.queueDeclare('', { exclusive: true })
    const properties = {
      contentType: 'application/json',
      contentEncoding: 'gzip',
      deliveryMode: 2,
      priority: 3,
      correlationId: 'c',
      replyTo: 'r',
      expiration: '60000',
      messageId: 'm',
      timestamp: new Date(1_700_000_000_000),
      type: 't',
      userId: 'guest',
      appId: 'a',
      headers: {
        text: 'ä',
        whole: 42,
        large: 2 ** 40,
        broken: 1.5,
        yes: true,
        nothing: null,
        list: [1, 'two', [3]],
        table: { inner: { deep: 'x' } },
        time: new Date(1_700_000_000_000)
      }
    }
    const body = Buffer.alloc(300_000, 'x')
    await channel.basicPublish('', name, body, properties)
    let got: AMQPMessage | null = null
    while (got === null) got = await channel.basicGet(name, { noAck: false })
    expect(got.properties).toMatchObject(properties)
    expect(Buffer.from(got.body!).equals(body)).toBe(true)
    await got.ack()
    await expect(channel.basicGet(name)).resolves.toBeNull()
  })

  it('is told what was returned, and what closes its channel', async () => {
    const returned = new Promise<AMQPMessage>(resolve => {
      channel.onReturn = resolve
    })
    await channel.basicPublish('amq.direct', 'nobody', 'x', {}, true)
    expect(await returned).toMatchObject({ replyCode: 312, replyText: 'NO_ROUTE' })
    const missing = channel.queueDeclare('missing', { passive: true })
    await expect(missing).rejects.toThrow(/NOT_FOUND - no queue 'missing' in vhost '\/'.*404/)
    expect([channel.closed, client.closed]).toEqual([true, false])
    channel = await client.channel()
    expect((await channel.queueDeclare('', { exclusive: true })).consumerCount).toBe(0)
  })

  it('binds exchanges to exchanges, and takes work back by nack and recover', async () => {
    await channel.exchangeDeclare('cloud.a', 'topic', { autoDelete: false })
    await channel.exchangeDeclare('cloud.b', 'fanout', { autoDelete: false })
    await channel.exchangeBind('cloud.b', 'cloud.a', 'x.#')
    const { name } = await channel.queueDeclare('', { exclusive: true, autoDelete: false })
    await channel.queueBind(name, 'cloud.b', '')
    await channel.confirmSelect()
    await channel.basicPublish('cloud.a', 'x.y', 'one')
    await channel.basicPublish('cloud.a', 'y', 'none')
    const redelivered: boolean[] = []
    await consume(name, 3, async message => {
      redelivered.push(message.redelivered)
      if (redelivered.length === 1) await message.nack(true)
      else if (redelivered.length === 2) await channel.basicRecover(true)
      else await message.ack()
    })
    expect(redelivered).toEqual([false, true, true])
    await channel.exchangeUnbind('cloud.b', 'cloud.a', 'x.#')
    await channel.basicPublish('cloud.a', 'x.y', 'nobody')
    expect((await channel.queuePurge(name)).messageCount).toBe(0)
    await channel.exchangeDelete('cloud.a')
    await channel.exchangeDelete('cloud.b')
  })

  it('has its transactions', async () => {
    const { name } = await channel.queueDeclare('', { exclusive: true })
    const other = await client.channel()
    await channel.txSelect()
    await channel.basicPublish('', name, 'dropped')
    await channel.txRollback()
    await channel.basicPublish('', name, 'kept')
    expect((await other.queueDeclare(name, { passive: true })).messageCount).toBe(0)
    await channel.txCommit()
    expect((await other.queueDeclare(name, { passive: true })).messageCount).toBe(1)
    expect((await channel.basicGet(name, { noAck: true }))?.bodyToString()).toBe('kept')
  })

  it('asks and answers by direct reply-to', async () => {
    const { name } = await channel.queueDeclare('', { exclusive: true })
    const asked = consume(name, 1, async message => {
      const { replyTo, correlationId } = message.properties
      const answer = { correlationId: correlationId! }
      await channel.basicPublish('', replyTo!, `${message.bodyToString()}!`, answer)
      await message.ack()
    })
    const asker = await client.channel()
    const answered = new Promise<AMQPMessage>(resolve => {
      void asker.basicConsume('amq.rabbitmq.reply-to', { noAck: true }, resolve).then(() =>
        asker.basicPublish('', name, 'hello', {
          replyTo: 'amq.rabbitmq.reply-to',
          correlationId: '7'
        })
      )
    })
    const answer = await answered
    await asked
    expect([answer.bodyToString(), answer.properties.correlationId]).toEqual(['hello!', '7'])
  })
})
