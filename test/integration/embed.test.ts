/** The broker inside a program: what `src/index.ts` promises. */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { connect as connectAmqp } from 'amqplib'
import { connectAsync } from 'mqtt'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  BrokerError,
  type BrokerOptions,
  ConfigError,
  createBroker,
  type EmbeddedBroker,
  JournalError,
  ListenError,
  type ReceivedMessage,
  StartRefusedError
} from '../../src/index.ts'

let folder = ''
const running: EmbeddedBroker[] = []

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'motemq-embed-'))
})
afterEach(async () => {
  for (const broker of running.splice(0)) await broker.stop()
  rmSync(folder, { recursive: true, force: true })
})

async function start(options: Partial<BrokerOptions> = {}): Promise<EmbeddedBroker> {
  const broker = createBroker({ data: join(folder, 'data'), log: 'silent', ...options })
  await broker.start()
  running.push(broker)
  return broker
}

/** Gathers what a subscription gets; `next` resolves with one message after the other. */
function gather(broker: EmbeddedBroker, filter: string, options = {}) {
  const got: ReceivedMessage[] = []
  const waiting: ((message: ReceivedMessage) => void)[] = []
  const unsubscribe = broker.subscribe(
    filter,
    message => {
      const waiter = waiting.shift()
      if (waiter === undefined) got.push(message)
      else waiter(message)
    },
    options
  )
  const next = () =>
    new Promise<ReceivedMessage>(resolve => {
      const first = got.shift()
      if (first === undefined) waiting.push(resolve)
      else resolve(first)
    })
  return { next, unsubscribe, got }
}

const codeOf = (promise: Promise<unknown>) =>
  promise.then(
    () => 'fulfilled',
    (error: BrokerError) => error.code
  )

/** Publishes one, prints when it is durable, and waits to be killed. */
const PUBLISHER = `
const { createBroker } = await import(process.argv[2])
const broker = createBroker({
  data: process.argv[3],
  log: 'silent',
  queues: [{ name: 'telemetry', bindings: ['sensors/#'] }]
})
await broker.start()
await broker.publish('sensors/a', 'kept', { qos: 1 })
await broker.publish('state/a', 'on', { retain: true })
process.send('durable')
setInterval(() => undefined, 1000)
`

describe('publish and subscribe in the process', () => {
  it('carry a message with its properties, in a turn of their own', async () => {
    const broker = await start()
    const subscription = gather(broker, 'a/+')
    const properties = {
      contentType: 'text/plain',
      responseTopic: 'answers/1',
      correlationData: Buffer.from([1, 2, 3]),
      isText: true,
      expirySeconds: 60,
      userProperties: [
        ['unit', 'C'],
        ['unit', 'F']
      ]
    } as const
    await broker.publish('a/b', 'hello', { qos: 2, properties })
    const message = await subscription.next()
    expect(message).toEqual({
      topic: 'a/b',
      payload: Buffer.from('hello'),
      qos: 1,
      retain: false,
      properties
    })
  })

  it('keep the order of messages of every QoS, for each handler one after the other', async () => {
    const broker = await start()
    const seen: string[] = []
    let isBusy = false
    const done = new Promise<void>(resolve => {
      broker.subscribe('n', async message => {
        expect(isBusy).toBe(false)
        isBusy = true
        await new Promise(resolve => setImmediate(resolve))
        isBusy = false
        seen.push(String(message.payload))
        if (seen.length === 2_000) resolve()
      })
    })
    const sent: string[] = []
    const published: Promise<void>[] = []
    for (let i = 0; i < 2_000; i++) {
      sent.push(String(i))
      published.push(broker.publish('n', String(i)))
    }
    await Promise.all(published)
    await done
    expect(seen).toEqual(sent)
  })

  it('give each of two subscriptions its own copy, and an ended one nothing', async () => {
    const broker = await start()
    const all = gather(broker, '#')
    const one = gather(broker, 'x')
    await broker.publish('x', '1')
    expect(String((await all.next()).payload)).toBe('1')
    expect(String((await one.next()).payload)).toBe('1')
    one.unsubscribe()
    one.unsubscribe()
    await broker.publish('x', '2')
    expect(String((await all.next()).payload)).toBe('2')
    expect(one.got).toEqual([])
  })

  it('let a handler publish, subscribe and end its own subscription', async () => {
    const broker = await start()
    const answers = gather(broker, 'answer')
    const unsubscribe = broker.subscribe('question', async () => {
      unsubscribe()
      await broker.publish('answer', 'yes')
    })
    await broker.publish('question', '?')
    await broker.publish('question', '?')
    expect(String((await answers.next()).payload)).toBe('yes')
    await broker.publish('answer', 'last')
    expect(String((await answers.next()).payload)).toBe('last')
  })

  it('send what is retained first, unless it is not wanted', async () => {
    const broker = await start()
    await broker.publish('lamp', 'on', { retain: true })
    const wanting = gather(broker, 'lamp')
    const first = await wanting.next()
    expect([String(first.payload), first.retain]).toEqual(['on', true])
    const unwanting = gather(broker, 'lamp', { retained: false })
    await broker.publish('lamp', 'off')
    const live = await unwanting.next()
    expect([String(live.payload), live.retain]).toEqual(['off', false])
  })

  it('drop QoS 0 beyond the bound of a handler that never returns, and go on for others', async () => {
    const broker = await start({ limits: { outputBytesMax: 65_536 } })
    const called: number[] = []
    broker.subscribe(
      'flood',
      message => {
        called.push(message.payload.length)
        return new Promise<void>(() => undefined)
      },
      { qos: 0 }
    )
    const counting = gather(broker, 'end')
    for (let i = 0; i < 100; i++) await broker.publish('flood', Buffer.alloc(10_000), { qos: 0 })
    await broker.publish('end', '')
    await counting.next()
    expect(called).toEqual([10_000])
  })

  it('refuse with a code what is no topic, no filter, reserved or too large', async () => {
    const broker = await start({ limits: { amqpMessageBytesMax: 1_024 } })
    expect(await codeOf(broker.publish('a/#', ''))).toBe('topicInvalid')
    expect(await codeOf(broker.publish('', ''))).toBe('topicInvalid')
    expect(await codeOf(broker.publish('$SYS/x', ''))).toBe('notAuthorized')
    expect(await codeOf(broker.publish('a', Buffer.alloc(2_000)))).toBe('tooLarge')
    const properties = { responseTopic: 'a/+' }
    expect(await codeOf(broker.publish('a', '', { properties }))).toBe('argumentInvalid')
    expect(() => broker.subscribe('a/#/b', () => undefined)).toThrow(BrokerError)
  })

  it('refuse a publish into a full queue that rejects', async () => {
    const table = { 'x-max-length': 1, 'x-overflow': 'reject-publish' }
    const broker = await start({ queues: [{ name: 'q', arguments: table, bindings: ['q'] }] })
    await broker.publish('q', '1')
    expect(await codeOf(broker.publish('q', '2'))).toBe('queueFull')
  })
})

describe('the promise of publish', () => {
  it('is kept over a kill of the process that got it', async () => {
    const script = join(folder, 'publisher.mjs')
    writeFileSync(script, PUBLISHER)
    const entry = fileURLToPath(new URL('../../dist/index.js', import.meta.url))
    const data = join(folder, 'data')
    const child = fork(script, [entry, data])
    expect(await once(child, 'message')).toEqual(['durable', undefined])
    child.kill('SIGKILL')
    await once(child, 'close')
    const broker = await start({ listeners: ['amqp://127.0.0.1:0'] })
    const retained = gather(broker, 'state/a')
    expect(String((await retained.next()).payload)).toBe('on')
    const connection = await connectAmqp(`amqp://127.0.0.1:${broker.addresses[0]!.port}`)
    const channel = await connection.createChannel()
    const message = await channel.get('telemetry', { noAck: true })
    expect(message === false ? null : String(message.content)).toBe('kept')
    await connection.close()
  })
})

describe('listeners of an embedded broker', () => {
  it('let MQTT and AMQP clients and the program reach each other', async () => {
    const broker = await start({
      listeners: ['mqtt://127.0.0.1:0', 'amqp://127.0.0.1:0'],
      queues: [{ name: 'telemetry', bindings: ['sensors/#'] }]
    })
    expect(broker.addresses.map(({ scheme, host }) => `${scheme} ${host}`)).toEqual([
      'mqtt 127.0.0.1',
      'amqp 127.0.0.1'
    ])
    const [mqttUrl, amqpUrl] = broker.urls
    const device = await connectAsync(mqttUrl!)
    const backend = await connectAmqp(amqpUrl!)
    const channel = await backend.createChannel()
    const inside = gather(broker, 'sensors/#')
    await device.publishAsync('sensors/kitchen', '21.5', { qos: 1 })
    expect(String((await inside.next()).payload)).toBe('21.5')
    const kept = await channel.get('telemetry', { noAck: true })
    expect(kept === false ? null : kept.fields.routingKey).toBe('sensors.kitchen')
    channel.publish('amq.topic', 'sensors.hall', Buffer.from('19'), {
      headers: { unit: 'C' },
      contentType: 'text/plain'
    })
    const crossed = await inside.next()
    expect(crossed.topic).toBe('sensors/hall')
    expect(crossed.properties).toEqual({
      contentType: 'text/plain',
      userProperties: [['unit', 'C']]
    })
    await device.endAsync()
    await backend.close()
  })

  it('tell of connections by events, until the listener is taken off', async () => {
    const broker = await start({ listeners: ['mqtt://127.0.0.1:0'] })
    const seen: string[] = []
    const note = ({ clientId }: { clientId: string }) => {
      seen.push(clientId)
    }
    broker.on('clientConnected', note)
    const gone = new Promise<void>(resolve => broker.on('clientDisconnected', () => resolve()))
    const first = await connectAsync(broker.urls[0]!, { clientId: 'one' })
    await first.endAsync()
    await gone
    broker.off('clientConnected', note)
    const second = await connectAsync(broker.urls[0]!, { clientId: 'two' })
    await second.endAsync()
    expect(seen).toEqual(['one'])
  })
})

describe('start and stop', () => {
  it('say what cannot be started, as errors with a code', async () => {
    const broker = await start({ listeners: ['mqtt://127.0.0.1:0'] })
    const data = join(folder, 'data')
    const locked = createBroker({ data, log: 'silent' })
    await expect(locked.start()).rejects.toSatisfy(
      error => error instanceof JournalError && error.code === 'locked'
    )
    const other = join(folder, 'other')
    const sameport = createBroker({ data: other, log: 'silent', listeners: broker.urls })
    await expect(sameport.start()).rejects.toSatisfy(
      error => error instanceof ListenError && error.code === 'EADDRINUSE'
    )
    const open = createBroker({ data: other, log: 'silent', listeners: ['mqtt://0.0.0.0:0'] })
    await expect(open.start()).rejects.toBeInstanceOf(StartRefusedError)
    const table = { 'x-max-length': 1 }
    const queues = [{ name: 'q' }]
    await startAndStop(createBroker({ data: other, log: 'silent', queues }))
    const changed = [{ name: 'q', arguments: table }]
    const inequal = createBroker({ data: other, log: 'silent', queues: changed })
    expect(await codeOf(inequal.start())).toBe('preconditionFailed')
    // What failed may be tried again.
    await startAndStop(createBroker({ data: other, log: 'silent', queues }))
  })

  it('throw for options that are wrong, one sentence a mistake, and touch nothing', () => {
    const data = join(folder, 'none')
    const wrong = () =>
      createBroker({ data, listeners: ['mqqt://x'], limits: { retainedMax: -1 }, log: 'silent' })
    expect(wrong).toThrow(ConfigError)
    try {
      wrong()
    } catch (error) {
      expect((error as ConfigError).mistakes).toHaveLength(2)
    }
    expect(existsSync(data)).toBe(false)
  })

  it('may follow each other, and nothing works in between', async () => {
    const broker = await start()
    await broker.publish('a', 'kept', { retain: true })
    await broker.stop()
    expect(broker.isRunning).toBe(false)
    expect(broker.urls).toEqual([])
    expect(await codeOf(broker.publish('a', ''))).toBe('notAllowed')
    expect(() => broker.subscribe('a', () => undefined)).toThrow(BrokerError)
    await broker.start()
    expect(String((await gather(broker, 'a').next()).payload)).toBe('kept')
  })

  it('settle every promise that was given', async () => {
    const broker = await start()
    const outcomes = Array.from({ length: 500 }, (_, i) =>
      codeOf(broker.publish(`t/${i}`, 'x', { retain: true }))
    )
    await broker.stop()
    expect(new Set(await Promise.all(outcomes))).toEqual(new Set(['fulfilled']))
  })
})

async function startAndStop(broker: EmbeddedBroker): Promise<void> {
  await broker.start()
  await broker.stop()
}
