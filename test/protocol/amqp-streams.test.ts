/** Streams over AMQP 0-9-1: what RabbitMQ 3.10 answered to the same, but where a line says otherwise. */
import {
  type Channel,
  type ChannelModel,
  type ConfirmChannel,
  connect,
  type ConsumeMessage
} from 'amqplib'
import { connectAsync } from 'mqtt'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { WholeServer } from '../support/whole-server.ts'

const STREAM = { 'x-queue-type': 'stream' }

const server = new WholeServer()
const connections: ChannelModel[] = []
let count = 0

beforeAll(async () => {
  await server.start()
})

afterEach(async () => {
  for (const connection of connections.splice(0)) await connection.close().catch(() => undefined)
})

afterAll(async () => {
  await server.close()
})

async function open(): Promise<ChannelModel> {
  const connection = await connect(`amqp://guest:guest@127.0.0.1:${server.port(1)}`)
  connection.on('error', () => undefined)
  connections.push(connection)
  return connection
}

async function channelOf(connection?: ChannelModel): Promise<ConfirmChannel> {
  const channel = await (connection ?? (await open())).createConfirmChannel()
  channel.on('error', () => undefined)
  return channel
}

/** A new stream with so many messages `0`, `1` and so on. */
async function filled(messages: number, args: Record<string, unknown> = {}): Promise<string> {
  const channel = await channelOf()
  const name = `s${++count}`
  await channel.assertQueue(name, { durable: true, arguments: { ...STREAM, ...args } })
  for (let i = 0; i < messages; i++) channel.sendToQueue(name, Buffer.from(String(i)))
  await channel.waitForConfirms()
  return name
}

interface Reading {
  readonly got: ConsumeMessage[]
  readonly channel: Channel
  until(messages: number): Promise<void>
  /** `body@offset` of each. */
  readonly lines: string[]
}

async function read(
  queue: string,
  args: Record<string, unknown> = {},
  prefetch = 100,
  acks = true
): Promise<Reading> {
  const channel = await channelOf()
  await channel.prefetch(prefetch)
  const got: ConsumeMessage[] = []
  let onMore = (): void => undefined
  const onMessage = (message: ConsumeMessage | null): void => {
    if (message === null) return
    got.push(message)
    if (acks) channel.ack(message)
    onMore()
  }
  await channel.consume(queue, onMessage, { arguments: args })
  return {
    got,
    channel,
    until: async messages => {
      while (got.length < messages) {
        await new Promise<void>(resolve => {
          onMore = resolve
        })
      }
    },
    get lines() {
      return got.map(({ content, properties }) => {
        return `${content}@${properties.headers!['x-stream-offset']}`
      })
    }
  }
}

function range(from: number, to: number): string[] {
  return Array.from({ length: to - from + 1 }, (_, i) => `${from + i}@${from + i}`)
}

/** What closed the channel or the connection. */
async function refusal(act: (channel: ConfirmChannel) => unknown): Promise<string> {
  const connection = await open()
  const channel = await channelOf(connection)
  const error = new Promise<Error>(resolve => {
    connection.on('error', resolve)
    channel.on('error', resolve)
  })
  await Promise.resolve(act(channel)).catch(() => undefined)
  return (await error).message
}

describe('a declaration', () => {
  const refused: [object, string][] = [
    [
      { durable: false },
      "406 (PRECONDITION-FAILED) with message \"PRECONDITION_FAILED - invalid property 'non-durable' for queue 'x' in vhost '/'\""
    ],
    [{ exclusive: true }, "invalid property 'exclusive-owner' for queue 'x' in vhost '/'"],
    [{ autoDelete: true }, "invalid property 'auto-delete' for queue 'x' in vhost '/'"],
    ...['x-max-priority', 'x-message-ttl', 'x-expires', 'x-max-length', 'x-delivery-limit'].map(
      (name): [object, string] => [
        { arguments: { ...STREAM, [name]: 5 } },
        `PRECONDITION_FAILED - invalid arg '${name}' for queue 'x' in vhost '/' of queue type rabbit_stream_queue`
      ]
    ),
    ...['x-dead-letter-exchange', 'x-overflow', 'x-queue-mode'].map((name): [object, string] => [
      { arguments: { ...STREAM, [name]: 'lazy' } },
      `invalid arg '${name}' for queue 'x' in vhost '/' of queue type rabbit_stream_queue`
    ]),
    [
      { arguments: { ...STREAM, 'x-single-active-consumer': true } },
      'of queue type rabbit_stream_queue'
    ],
    [
      { arguments: { ...STREAM, 'x-max-age': '1w' } },
      "invalid arg 'x-max-age' for queue 'x' in vhost '/': invalid_max_age"
    ],
    [{ arguments: { ...STREAM, 'x-max-length-bytes': -1 } }, '{value_negative,-1}'],
    [
      { arguments: { ...STREAM, 'x-stream-max-segment-size-bytes': 4e9 } },
      'PRECONDITION_FAILED - Exceeded max value for x-stream-max-segment-size-bytes'
    ],
    [
      { arguments: { 'x-max-age': '1h' } },
      "invalid arg 'x-max-age' for queue 'x' in vhost '/' of queue type rabbit_classic_queue"
    ]
  ]

  it.each(refused)('with %j is refused', async (options, text) => {
    const full = { durable: true, arguments: STREAM, ...options }
    expect(await refusal(channel => channel.assertQueue('x', full))).toContain(text)
  })

  it('without a name, and a second one that differs, are refused; the same is taken', async () => {
    const name = await filled(2)
    const channel = await channelOf()
    const same = await channel.assertQueue(name, { durable: true, arguments: STREAM })
    expect(same).toEqual({ queue: name, messageCount: 2, consumerCount: 0 })
    const args = { durable: true, arguments: { ...STREAM, 'x-max-age': '1h' } }
    expect(await refusal(other => other.assertQueue(name, args))).toContain(
      `inequivalent arg 'x-max-age' for queue '${name}' in vhost '/': received the value '1h' of type 'longstr' but current is none`
    )
    expect(await refusal(other => other.assertQueue(name, { durable: true }))).toContain(
      `inequivalent arg 'x-queue-type' for queue '${name}' in vhost '/': received none but current is the value 'stream' of type 'longstr'`
    )
    expect(await refusal(other => other.assertQueue('', { arguments: STREAM }))).toContain(
      'Cannot declare a server-named queue for type rabbit_stream_queue'
    )
  })
})

describe('what has no meaning for a stream closes', () => {
  it('the connection: get, purge, no-ack, nack and reject', async () => {
    const name = await filled(3)
    const about = `queues queue '${name}' in vhost '/'`
    const tells = async (act: (channel: ConfirmChannel) => unknown, text: string) =>
      expect(await refusal(act)).toContain(
        `NOT_IMPLEMENTED - ${text} not supported by stream ${about}`
      )
    await tells(channel => channel.get(name), 'basic.get')
    await tells(channel => channel.purgeQueue(name), 'queue.purge')
    const consume = async (
      channel: ConfirmChannel,
      act: (message: ConsumeMessage) => void,
      noAck = false
    ) => {
      await channel.prefetch(2)
      const options = { noAck, arguments: { 'x-stream-offset': 'first' } }
      await channel.consume(name, message => act(message!), options)
    }
    await tells(channel => consume(channel, () => undefined, true), 'automatic acknowledgement')
    const nack = 'basic.nack and basic.reject'
    await tells(channel => consume(channel, message => channel.nack(message)), nack)
    await tells(channel => consume(channel, () => channel.nackAll()), nack)
    await tells(channel => consume(channel, message => channel.reject(message, false)), nack)
    // RabbitMQ closes with 541 here.
    await tells(
      channel => consume(channel, () => void channel.recover().catch(() => undefined)),
      nack
    )
  })

  it('the channel: no prefetch, a priority, an offset that is none', async () => {
    const name = await filled(1)
    const noPrefetch = `PRECONDITION_FAILED - consumer prefetch count is not set for 'queue '${name}' in vhost '/''`
    expect(await refusal(channel => channel.consume(name, () => undefined))).toContain(noPrefetch)
    const global = async (channel: Channel) => {
      await channel.prefetch(5, true)
      await channel.consume(name, () => undefined)
    }
    expect(await refusal(global)).toContain(noPrefetch)
    const withArgs = (args: object) => async (channel: Channel) => {
      await channel.prefetch(5)
      await channel.consume(name, () => undefined, { arguments: args })
    }
    expect(await refusal(withArgs({ 'x-priority': 3 }))).toContain(
      `invalid arg 'x-priority' for queue '${name}' in vhost '/' of queue type rabbit_stream_queue`
    )
    for (const offset of ['5', '1w', '0s']) {
      expect(await refusal(withArgs({ 'x-stream-offset': offset }))).toContain(
        `invalid arg 'x-stream-offset' for queue '${name}' in vhost '/': {invalid_stream_offset_arg,{longstr,<<"${offset}">>}}`
      )
    }
  })
})

describe('a reader', () => {
  const hour = 3_600
  const now = Math.floor(Date.now() / 1_000)
  const starts: [string, unknown, number][] = [
    ['first', 'first', 0],
    ['last', 'last', 9],
    ['next', 'next', 10],
    ['nothing', undefined, 10],
    ['an offset', 4, 4],
    ['the first offset', 0, 0],
    ['a negative offset', -1, 0],
    ['an offset to come', 100, 10],
    ['a time before', { '!': 'timestamp', value: now - hour }, 0],
    ['a time to come', { '!': 'timestamp', value: now + hour }, 10],
    ['an hour ago', '1h', 0],
    ['a year ago', '1Y', 0]
  ]

  it.each(starts)(
    'that begins with %s gets what stands there and what comes',
    async (_, start, first) => {
      const name = await filled(10)
      const args = start === undefined ? {} : { 'x-stream-offset': start }
      const reader = await read(name, args)
      const channel = await channelOf()
      for (let i = 10; i < 12; i++) channel.sendToQueue(name, Buffer.from(String(i)))
      await reader.until(12 - first)
      expect(reader.lines).toEqual(range(first, 11))
      expect(reader.got.map(({ fields }) => fields.redelivered)).not.toContain(true)
      expect((await channel.checkQueue(name)).messageCount).toBe(12)
    }
  )

  it('reads on beside others, each at its own pace, as its prefetch allows', async () => {
    const name = await filled(20)
    const fast = await read(name, { 'x-stream-offset': 'first' })
    const slow = await read(name, { 'x-stream-offset': 'first' }, 3, false)
    await fast.until(20)
    await slow.until(3)
    const channel = await channelOf()
    channel.sendToQueue(name, Buffer.from('20'))
    await fast.until(21)
    expect(slow.lines).toEqual(range(0, 2))
    slow.channel.ack(slow.got[1]!, true)
    await slow.until(5)
    slow.channel.ackAll()
    await slow.until(8)
    expect(slow.lines).toEqual(range(0, 7))
    expect((await channel.checkQueue(name)).consumerCount).toBe(2)
  })

  it('that goes leaves everything to the next one', async () => {
    const name = await filled(5)
    const first = await read(name, { 'x-stream-offset': 'first' }, 2, false)
    await first.until(2)
    await first.channel.close()
    const second = await read(name, { 'x-stream-offset': 'first' })
    await second.until(5)
    expect(second.lines).toEqual(range(0, 4))
    expect(second.got[0]!.fields.redelivered).toBe(false)
  })

  it('is told when its stream is deleted, and by an exclusive one that it is refused', async () => {
    const name = await filled(1)
    const channel = await channelOf()
    await channel.prefetch(1)
    const cancelled = new Promise<void>(resolve => {
      const onMessage = (message: ConsumeMessage | null) => (message === null ? resolve() : null)
      void channel.consume(name, onMessage, { exclusive: true })
    })
    await channel.checkQueue(name)
    expect(
      await refusal(async other => {
        await other.prefetch(1)
        await other.consume(name, () => undefined)
      })
    ).toContain(`ACCESS_REFUSED - queue '${name}' in vhost '/' in exclusive use`)
    // RabbitMQ 3.10 tells no count.
    expect(await (await channelOf()).deleteQueue(name)).toEqual({ messageCount: 1 })
    await cancelled
  })
})

describe('a message', () => {
  it('has its headers and properties, and its offset as the last header', async () => {
    const name = await filled(0)
    const channel = await channelOf()
    channel.sendToQueue(name, Buffer.from('a'), {
      contentType: 'text/plain',
      contentEncoding: 'utf-8',
      headers: { n: 1, t: { deep: [1, 'x'] } },
      persistent: true,
      priority: 3,
      correlationId: 'c',
      expiration: '1',
      appId: 'app'
    })
    channel.sendToQueue(name, Buffer.alloc(200_000, 7), { type: 'large' })
    channel.sendToQueue(name, Buffer.alloc(0), { contentType: 'x' })
    const { got, until } = await read(name, { 'x-stream-offset': 'first' })
    await until(3)
    const [first, second, third] = got.map(({ properties }) => properties)
    expect(first).toMatchObject({
      contentType: 'text/plain',
      contentEncoding: 'utf-8',
      headers: { n: 1, t: { deep: [1, 'x'] }, 'x-stream-offset': 0 },
      deliveryMode: 2,
      priority: 3,
      correlationId: 'c',
      // Nothing expires in a stream.
      expiration: '1',
      appId: 'app'
    })
    expect(Object.keys(first!.headers!)).toEqual(['n', 't', 'x-stream-offset'])
    expect(second).toMatchObject({ headers: { 'x-stream-offset': 1 }, type: 'large' })
    expect(got[1]!.content.equals(Buffer.alloc(200_000, 7))).toBe(true)
    expect(third).toMatchObject({ headers: { 'x-stream-offset': 2 }, contentType: 'x' })
  })

  it('comes from an MQTT client by amq.topic', async () => {
    const name = await filled(0)
    const channel = await (await open()).createChannel()
    await channel.bindQueue(name, 'amq.topic', `t.${name}.#`)
    const mqtt = await connectAsync(`mqtt://127.0.0.1:${server.port(0)}`)
    for (const qos of [0, 1] as const) {
      await mqtt.publishAsync(`t/${name}/a`, `mqtt ${qos}`, { qos })
    }
    await mqtt.endAsync()
    const { until, lines, got } = await read(name, { 'x-stream-offset': 'first' })
    await until(2)
    expect(lines.length).toBe(2)
    expect(got.map(({ content }) => String(content))).toEqual(['mqtt 0', 'mqtt 1'])
    expect(got.map(({ fields }) => fields.routingKey)).toEqual([`t.${name}.a`, `t.${name}.a`])
    expect(got.map(({ properties }) => properties.headers!['x-stream-offset'])).toEqual([0, 1])
  })
})

describe('over a restart', () => {
  it('every message is where it was, and what comes goes on behind it', async () => {
    const name = await filled(300, { 'x-stream-max-segment-size-bytes': 4_096 })
    await server.stop()
    await server.start()
    const channel = await channelOf()
    expect(await channel.checkQueue(name)).toEqual({
      queue: name,
      messageCount: 300,
      consumerCount: 0
    })
    channel.sendToQueue(name, Buffer.from('300'))
    await channel.waitForConfirms()
    const all = await read(name, { 'x-stream-offset': 'first' }, 10)
    await all.until(301)
    expect(all.lines).toEqual(range(0, 300))
    const some = await read(name, { 'x-stream-offset': 123 }, 1)
    await some.until(178)
    expect(some.lines).toEqual(range(123, 300))
    const last = await read(name, { 'x-stream-offset': 'last' })
    await last.until(1)
    expect(last.lines).toEqual(range(300, 300))
  })

  it('is listed as a stream, with what it holds, and exported with its type', async () => {
    const name = await filled(7, { 'x-max-age': '7D' })
    const queues = (await server.ask('GET', '/api/queues')) as { name: string }[]
    expect(queues.find(queue => queue.name === name)).toMatchObject({ type: 'stream', ready: 7 })
    const definitions = (await server.ask('GET', '/api/definitions')) as { queues: object[] }
    expect(definitions.queues).toContainEqual({
      name,
      vhost: '/',
      durable: true,
      auto_delete: false,
      arguments: { 'x-queue-type': 'stream', 'x-max-age': '7D' }
    })
  })
})
