/** Request and response across the two protocols, with ordinary clients (amqplib, mqtt.js). */
import { type Channel, type ChannelModel, type ConsumeMessage, connect } from 'amqplib'
import { connectAsync, type IClientOptions, type MqttClient } from 'mqtt'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Hasher, hashPassword } from '../../src/auth/password.ts'
import { WholeServer } from '../support/whole-server.ts'

const BINARY = Buffer.from([0xff, 0x00, 0xfe])

let server: WholeServer
let model: ChannelModel
let channel: Channel
const clients: MqttClient[] = []

async function open(yaml = ''): Promise<void> {
  server = await new WholeServer().start(yaml)
  const login = yaml === '' ? '' : 'boss:pw@'
  model = await connect(`amqp://${login}127.0.0.1:${server.port(1)}`)
  channel = await model.createChannel()
}

async function shut(): Promise<void> {
  for (const client of clients.splice(0)) client.end(true)
  await model.close().catch(() => undefined)
  await server.close()
}

beforeEach(() => open())
afterEach(shut)

async function mqtt(clientId: string, options: Partial<IClientOptions> = {}): Promise<MqttClient> {
  const url = `mqtt://127.0.0.1:${server.port(0)}`
  const common = { protocolVersion: 5, clientId, reconnectPeriod: 0 } as const
  const client = await connectAsync(url, { ...common, ...options })
  clients.push(client)
  return client
}

/** Answers what comes to `ask`, as MQTT 5 has it. Returns what became of each answer. */
async function responder(qos: 0 | 1 | 2, options: Partial<IClientOptions> = {}) {
  const client = await mqtt('responder', options)
  const answers: Promise<unknown>[] = []
  client.on('message', (_topic, payload, { properties }) => {
    const { responseTopic, correlationData } = properties ?? {}
    const own = correlationData === undefined ? {} : { correlationData }
    answers.push(
      client
        .publishAsync(responseTopic!, `re: ${payload.toString()}`, {
          qos,
          properties: { ...own, contentType: 'text/plain', messageExpiryInterval: 100 }
        })
        .catch((error: unknown) => error)
    )
  })
  await client.subscribeAsync('ask/#', { qos: 1 })
  return answers
}

/** The next message of a queue. */
async function answerOn(queue: string, noAck = true): Promise<() => Promise<ConsumeMessage>> {
  const waiting: ((message: ConsumeMessage) => void)[] = []
  const come: ConsumeMessage[] = []
  await channel.consume(
    queue,
    message => {
      if (message === null) return
      const taker = waiting.shift()
      if (taker === undefined) come.push(message)
      else taker(message)
    },
    { noAck }
  )
  return () => {
    const first = come.shift()
    if (first !== undefined) return Promise.resolve(first)
    return new Promise(resolve => waiting.push(resolve))
  }
}

describe('an AMQP request that an MQTT 5 client answers', () => {
  it.each([0, 1, 2] as const)('comes back to a reply queue, QoS %i', async qos => {
    const answers = await responder(qos)
    // Names may have all that topics may not.
    const { queue } = await channel.assertQueue('re/plies #+ ü%', { exclusive: true })
    const next = await answerOn(queue)
    for (const correlationId of ['1', '2', 'ü']) {
      channel.publish('amq.topic', 'ask.x', Buffer.from(correlationId), {
        replyTo: queue,
        correlationId
      })
      const { content, properties, fields } = await next()
      expect(content.toString()).toBe(`re: ${correlationId}`)
      expect(fields).toMatchObject({ exchange: '', routingKey: queue })
      expect(properties).toMatchObject({ correlationId, contentType: 'text/plain' })
      expect(properties.deliveryMode).toBe(qos === 0 ? 1 : 2)
      expect(Number(properties.expiration)).toBeGreaterThan(0)
    }
    expect((await Promise.all(answers)).filter(each => each instanceof Error)).toEqual([])
  })

  it.each([0, 1, 2] as const)('comes back by direct reply-to, QoS %i', async qos => {
    const answers = await responder(qos)
    const next = await answerOn('amq.rabbitmq.reply-to')
    for (const correlationId of ['1', '2', '3']) {
      channel.publish('amq.topic', 'ask.x', Buffer.from(correlationId), {
        replyTo: 'amq.rabbitmq.reply-to',
        correlationId
      })
      const { content, properties } = await next()
      expect([content.toString(), properties.correlationId]).toEqual([
        `re: ${correlationId}`,
        correlationId
      ])
    }
    expect((await Promise.all(answers)).filter(each => each instanceof Error)).toEqual([])
  })

  it('goes nowhere when nobody awaits it: no matching subscribers (0x10)', async () => {
    const client = await mqtt('m')
    for (const name of ['nobody', 'amq.rabbitmq.reply-to.nobody']) {
      for (const qos of [1, 2] as const) {
        const packet = await client.publishAsync(`$reply-to/${name}`, 'x', { qos })
        expect((packet as { reasonCode?: number }).reasonCode ?? 0).toBeOneOf([0, 0x10])
      }
    }
    for (const bad of ['$reply-to/', '$reply-to/%', '$reply-to', `$reply-to/${'x'.repeat(256)}`]) {
      await expect(client.publishAsync(bad, 'x', { qos: 1 }), bad).rejects.toMatchObject({
        code: 0x87
      })
    }
  })

  it('reaches the queue of a durable requester over a restart', async () => {
    await channel.assertQueue('answers', { durable: true })
    const client = await mqtt('m')
    await client.publishAsync('$reply-to/answers', 'kept', { qos: 2 })
    await model.close()
    await server.stop()
    await server.start()
    model = await connect(`amqp://127.0.0.1:${server.port(1)}`)
    channel = await model.createChannel()
    const message = await channel.get('answers', { noAck: true })
    expect(message === false ? '' : message.content.toString()).toBe('kept')
  })

  it('is refused as any other message by a full queue that rejects (0x97)', async () => {
    const queueArguments = { 'x-overflow': 'reject-publish' }
    await channel.assertQueue('full', { maxLength: 1, arguments: queueArguments })
    const client = await mqtt('m')
    await client.publishAsync('$reply-to/full', 'fits', { qos: 1 })
    await expect(client.publishAsync('$reply-to/full', 'no', { qos: 2 })).rejects.toMatchObject({
      code: 0x97
    })
  })
})

describe('an MQTT 5 request that an AMQP worker answers', () => {
  it('comes back to the response topic, with binary correlation data', async () => {
    const client = await mqtt('requester')
    await client.subscribeAsync('answers/requester', { qos: 1 })
    await channel.assertQueue('work', { durable: true })
    await channel.bindQueue('work', 'amq.topic', 'work.#')
    // What the tutorials' worker does, and its correlation id also where that is a header.
    await channel.consume('work', message => {
      if (message === null) return
      const { replyTo, correlationId, headers } = message.properties
      const answer = Buffer.from(`re: ${message.content.toString()}`)
      channel.sendToQueue(replyTo as string, answer, {
        correlationId: correlationId as string,
        headers
      })
      channel.ack(message)
    })
    for (const correlationData of [Buffer.from('7'), BINARY]) {
      const answer = new Promise<[string, string, Buffer | undefined]>(resolve =>
        client.once('message', (topic, payload, { properties }) =>
          resolve([topic, payload.toString(), properties?.correlationData])
        )
      )
      const properties = { responseTopic: 'answers/requester', correlationData }
      await client.publishAsync('work/x', '?', { qos: 1, properties })
      expect(await answer).toEqual(['answers/requester', 're: ?', correlationData])
    }
  })
})

describe('who may answer over MQTT', () => {
  const RULES = {
    boss: "permissions: [{ configure: '.*', write: '.*', read: '.*' }]",
    poor: "permissions: [{ configure: '', write: '^amq.topic$', read: '.*' }]",
    ruled: "topics: [{ allow: readwrite, filter: '#' }]",
    free: "topics: [{ allow: write, filter: '$reply-to/answers' }]"
  }

  it('is who may write to the default exchange, or has a rule that names such topics', async () => {
    await shut()
    const hasher = new Hasher()
    let users = 'users:\n'
    for (const [name, rules] of Object.entries(RULES)) {
      const { passwordHash } = await hashPassword(hasher, Buffer.from('pw'))
      users += `  - name: ${name}\n    passwordHash: "${passwordHash}"\n    ${rules}\n`
    }
    await hasher.close()
    await open(users)
    await channel.assertQueue('answers')
    const outcome: unknown[] = []
    for (const name of Object.keys(RULES)) {
      const client = await mqtt(name, { username: name, password: 'pw' })
      outcome.push(
        await client.publishAsync('$reply-to/answers', 'x', { qos: 1 }).then(
          () => 0,
          (error: { code: number }) => error.code
        )
      )
    }
    expect(outcome).toEqual([0, 0x87, 0x87, 0])
  })
})
