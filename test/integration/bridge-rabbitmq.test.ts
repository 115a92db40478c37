/** A gateway in front of a RabbitMQ: what devices publish arrives there, whatever happens to either. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Channel, type ChannelModel, connect, type GetMessage } from 'amqplib'
import { connectAsync, type MqttClient } from 'mqtt'
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest'
import type { BridgeStatus } from '../../src/broker/bridges.ts'
import { askBroker } from '../../src/cli/ask-broker.ts'
import { MotemqProcess, runMotemq } from '../support/motemq-process.ts'
import { RabbitMq } from '../support/rabbitmq.ts'
import { requireProgram } from '../support/require.ts'

let rabbit: RabbitMq
let client: ChannelModel
let channel: Channel
let cwd = ''
let gateway: MotemqProcess
let device: MqttClient
let amqpPort = 0

beforeAll(async () => {
  rabbit = await RabbitMq.start()
  client = await connect(`amqp://guest:guest@127.0.0.1:${rabbit.port}`)
  channel = await client.createChannel()
  await channel.assertExchange('telemetry', 'topic')
}, 120_000)

afterAll(async () => {
  await client?.close()
  await rabbit?.stop()
})

beforeEach(async () => {
  cwd = mkdtempSync(join(tmpdir(), 'motemq-bridge-'))
  await channel.deleteQueue('backend')
  await channel.assertQueue('backend')
})

afterEach(async () => {
  await device?.endAsync(true)
  await gateway?.stop('SIGKILL')
  rmSync(cwd, { recursive: true, force: true })
})

function configure(rest: string, user = 'guest:guest'): void {
  const url = `amqp://${user}@127.0.0.1:${rabbit.port}`
  writeFileSync(
    join(cwd, 'motemq.yaml'),
    `data: d\nlisteners: ['mqtt://127.0.0.1:0', 'amqp://127.0.0.1:0']\nbridges:\n- name: cloud\n  url: ${url}\n${rest}`
  )
}

async function start(): Promise<void> {
  gateway = new MotemqProcess([], { cwd })
  const [mqttUrl, amqpUrl] = await gateway.ready()
  amqpPort = Number(new URL(amqpUrl!).port)
  device = await connectAsync(mqttUrl!, { protocolVersion: 5, reconnectPeriod: 0 })
}

async function status(): Promise<BridgeStatus> {
  return ((await askBroker(join(cwd, 'd'), 'GET', '/api/bridges', null)) as BridgeStatus[])[0]!
}

async function until(is: (status: BridgeStatus) => boolean): Promise<BridgeStatus> {
  for (;;) {
    const now = await status()
    if (is(now)) return now
    await new Promise(resolve => setTimeout(resolve, 50))
  }
}

async function got(): Promise<GetMessage> {
  for (;;) {
    const message = await channel.get('backend', { noAck: true })
    if (message !== false) return message
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}

requireProgram('rabbitmq-server')('a bridge to RabbitMQ', () => {
  it('carries payload and properties by its rule, with an identifier, persistent', async () => {
    await channel.bindQueue('backend', 'telemetry', 'temp.#')
    configure(
      '  topics: [s/#]\n  map: [{ filter: s/+/temp, exchange: telemetry, key: "temp.{1}", headers: { site: "{1}" } }]\n'
    )
    await start()
    await device.publishAsync('s/7/temp', Buffer.from([0, 255, 1]), {
      qos: 1,
      properties: {
        contentType: 'application/octet-stream',
        correlationData: Buffer.from('c'),
        messageExpiryInterval: 100,
        userProperties: { b: ['x', 'y'] }
      }
    })
    const { fields, content, properties } = await got()
    expect(fields).toMatchObject({ exchange: 'telemetry', routingKey: 'temp.7' })
    expect(content).toEqual(Buffer.from([0, 255, 1]))
    expect(properties).toMatchObject({
      contentType: 'application/octet-stream',
      correlationId: 'c',
      deliveryMode: 2
    })
    expect(Number(properties.expiration)).toBeGreaterThan(90_000)
    const { headers } = properties
    expect(headers).toMatchObject({ site: '7', 'x-motemq-sequence': 1 })
    expect(properties.messageId).toBe(
      `${headers!['x-motemq-origin']}-${headers!['x-motemq-epoch']}-1`
    )
    expect(await until(({ messages }) => messages === 0)).toMatchObject({
      state: 'running',
      confirmedTotal: 1
    })
  })

  it('keeps the types of AMQP headers, takes messages of many frames, and minds user ids', async () => {
    await channel.bindQueue('backend', 'amq.topic', 'job.#')
    configure('  bindings: [{ exchange: amq.topic, key: "job.#" }]\n')
    await start()
    const backend = await connect(`amqp://guest:guest@127.0.0.1:${amqpPort}`)
    const producer = await backend.createConfirmChannel()
    const body = Buffer.alloc(700_000, 'x')
    const headers = {
      int: { '!': 'int', value: 5 },
      bytes: Buffer.from([255, 0]),
      time: { '!': 'timestamp', value: 77 },
      float: { '!': 'float', value: 0.5 },
      list: [1, 'two']
    }
    const options = { headers, userId: 'guest', priority: 3, type: 't', appId: 'a', timestamp: 9 }
    producer.publish('amq.topic', 'job.a/b', body, options)
    await producer.waitForConfirms()
    const { fields, content, properties } = await got()
    expect(fields.routingKey).toBe('job.a/b')
    expect(content.equals(body)).toBe(true)
    expect(properties).toMatchObject({
      userId: 'guest',
      priority: 3,
      type: 't',
      appId: 'a',
      timestamp: 9
    })
    expect(properties.headers).toMatchObject({
      int: 5,
      bytes: Buffer.from([255, 0]),
      time: { '!': 'timestamp', value: 77 },
      float: 0.5,
      list: [1, 'two']
    })
    await backend.close()
  })

  it('gives what cannot be routed there to its dead letter queue, and goes on', async () => {
    await channel.bindQueue('backend', 'telemetry', 'good')
    configure(
      '  topics: [s/#]\n  retryMinMs: 20\n  refusalsMax: 2\n  map: [{ filter: s/+, exchange: telemetry, key: "{1}" }]\n'
    )
    await start()
    for (const topic of ['s/good', 's/bad', 's/good']) {
      await device.publishAsync(topic, topic, { qos: 1 })
    }
    await got()
    await got()
    const { refusedTotal } = await until(({ deadLetteredTotal }) => deadLetteredTotal === 1)
    expect(refusedTotal).toBe(2)
    const backend = await connect(`amqp://guest:guest@127.0.0.1:${amqpPort}`)
    const reader = await backend.createChannel()
    const dead = (await reader.get('bridge.cloud.dead', { noAck: true })) as GetMessage
    expect(dead.content.toString()).toBe('s/bad')
    expect(dead.properties.headers).toMatchObject({
      'x-motemq-bridge': 'cloud',
      'x-motemq-refusal': '312 NO_ROUTE',
      'x-motemq-key': 'bad'
    })
    await backend.close()
  })

  it('finds the message for which the far side closes the channel, and gives it up alone', async () => {
    await channel.bindQueue('backend', 'telemetry', '#')
    configure(
      '  topics: [s/#]\n  retryMinMs: 20\n  retryMaxMs: 40\n  refusalsMax: 2\n  map: [{ filter: s/+, exchange: "{1}", key: k }]\n'
    )
    await start()
    const topics = ['s/telemetry', 's/nowhere', 's/telemetry']
    await Promise.all(topics.map((topic, i) => device.publishAsync(topic, `${i}`, { qos: 1 })))
    await until(({ deadLetteredTotal, messages }) => deadLetteredTotal === 1 && messages === 0)
    // What was on its way when the channel was closed may have come twice, and then has one identifier.
    const seen = new Map<unknown, string>()
    while (seen.size < 2) {
      const { content, properties } = await got()
      seen.set(properties.messageId, content.toString())
    }
    expect([...seen.values()].sort()).toEqual(['0', '2'])
  })

  it('says what an operator must mend: a wrong password, an exchange that is not there', async () => {
    configure('  topics: [s/#]\n', 'guest:wrong')
    await start()
    const refused = await until(({ state }) => state === 'failed-config')
    expect(refused.lastError).toContain('ACCESS_REFUSED')
    expect(`${gateway.stdout}${JSON.stringify(refused)}`).not.toContain('wrong@')
    configure('  topics: [s/#]\n  map: [{ filter: "#", exchange: nowhere, key: k }]\n')
    gateway.child.kill('SIGHUP')
    const missing = await until(({ lastError }) => lastError.includes('NOT_FOUND'))
    expect(missing.state).toBe('failed-config')
    await device.publishAsync('s/1', 'kept', { qos: 1 })
    configure(
      '  topics: [s/#]\n  declare: { exchanges: [{ name: made }], bindings: [{ queue: backend, exchange: made, key: k }] }\n  map: [{ filter: "#", exchange: made, key: k }]\n'
    )
    gateway.child.kill('SIGHUP')
    expect((await got()).content.toString()).toBe('kept')
  })

  it('shows itself: status, test, metrics and orders by command', async () => {
    configure('  topics: [s/#]\n')
    await start()
    await until(({ state }) => state === 'running')
    const shown = await runMotemq(['bridge', 'status'], { cwd })
    expect(shown.stdout).toMatch(/^cloud {2}running/)
    const tried = await runMotemq(['bridge', 'test', 's/1', '--json'], { cwd })
    expect(JSON.parse(tried.stdout)).toMatchObject([{ exchange: 'amq.topic', key: 's.1' }])
    expect((await runMotemq(['bridge', 'pause', 'cloud'], { cwd })).code).toBe(0)
    expect((await status()).state).toBe('paused')
    expect((await runMotemq(['bridge', 'resume', 'nobody'], { cwd })).code).toBe(1)
    await runMotemq(['bridge', 'resume', 'cloud'], { cwd })
    await until(({ state }) => state === 'running')
    const topic = '$SYS/broker/connection/cloud/state'
    const said = new Promise(resolve => device.once('message', (_, bytes) => resolve(`${bytes}`)))
    await device.subscribeAsync(topic)
    expect(await said).toBe('1')
  })
})
