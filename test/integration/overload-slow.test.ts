/**
 * Clients that do not read (O5 of the overload cases, small): they are closed, the others notice nothing, and every
 * message is in the books: what was sent is what arrives, the rest waits or is a counted drop.
 */
import type { Socket } from 'node:net'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type Metrics, readMetrics } from '../support/metrics.ts'
import { Program } from '../support/program.ts'
import { type Qos, RawClient } from '../support/raw-client.ts'
import { openAmqp } from '../support/workload-amqp.ts'

const COUNT = 1_000
const BYTES = 10_240
/** Longer than any test: what it got it never acknowledges. */
const NEVER_MS = 600_000
/** Messages that one write to a socket may hold. */
const WRITE_MESSAGES = 7

let program: Program

beforeEach(async () => {
  program = await Program.start({ flags: ['--limits-drain-timeout-ms', '1000'] })
})

afterEach(async () => {
  await program.remove()
})

async function connected(clientId: string, options: object = {}): Promise<RawClient> {
  const client = new RawClient({ clientId, version: 5, clean: true, ...options })
  await client.connect(program.port('mqtt'))
  return client
}

/** Publishes all, ten at a time, and waits until the witness has got them: it reads, so it misses none. */
async function flood(qos: Qos): Promise<void> {
  const witness = await connected('witness')
  await witness.subscribe('flood', qos)
  const publisher = await connected('publisher')
  let seen = 0
  let open = 0
  let wake: () => void = () => undefined
  witness.onMessage = ({ payload }) => {
    if (payload.readUInt32BE(0) === seen) seen++
    wake()
  }
  for (let number = 0; number < COUNT; number++) {
    const payload = Buffer.alloc(BYTES)
    payload.writeUInt32BE(number)
    if (qos > 0) open++
    publisher.publish('flood', payload, {
      qos,
      onSettled: () => {
        open--
        wake()
      }
    })
    while (open >= 10 || number >= seen + 10) {
      await new Promise<void>(resolve => {
        wake = resolve
      })
    }
  }
  await expect.poll(() => seen, { timeout: 20_000 }).toBe(COUNT)
  await expect.poll(() => open, { timeout: 20_000 }).toBe(0)
  await publisher.end()
  await witness.end()
}

function dropped(metrics: Metrics, ...reasons: string[]): number {
  return reasons.reduce((sum, reason) => sum + metrics.sum('messages_dropped_total', { reason }), 0)
}

/** What was sent to the slow one: to everybody but the witness. */
const sentBeside = (metrics: Metrics, protocol: string) =>
  metrics.sum('messages_sent_total', { protocol }) - (protocol === 'mqtt' ? COUNT : 0)

/** The metrics when the broker has closed all connections. */
async function whenClosed(): Promise<Metrics> {
  const open = async () => (await readMetrics(program)).sum('connections')
  await expect.poll(open, { timeout: 20_000 }).toBe(0)
  return await readMetrics(program)
}

describe('an MQTT subscriber that does not read is closed, and', () => {
  /** Numbers of what a paused subscriber gets when it reads at last. */
  async function slow(qos: Qos, clean: boolean) {
    const client = await connected('slow', { clean, ackDelayMs: NEVER_MS })
    const got: number[] = []
    let isClosed = false
    client.onMessage = ({ payload }) => void got.push(payload.readUInt32BE(0))
    client.onClose = () => {
      isClosed = true
    }
    await client.subscribe('flood', qos)
    client.pause()
    await flood(qos)
    const metrics = await whenClosed()
    client.resume()
    await expect.poll(() => isClosed, { timeout: 20_000 }).toBe(true)
    return { client, got, metrics }
  }

  it('of QoS 0 has got what counts as sent, and the rest was counted', async () => {
    const { got, metrics } = await slow(0, true)
    expect(sentBeside(metrics, 'mqtt')).toBe(got.length)
    expect(dropped(metrics, 'closed')).toBeGreaterThan(0)
    expect(got.length + dropped(metrics, 'closed', 'slow_consumer')).toBe(COUNT)
  })

  it('of QoS 1 in a session that ends has got what counts as sent; the rest was counted', async () => {
    const { got, metrics } = await slow(1, true)
    expect(sentBeside(metrics, 'mqtt')).toBe(got.length)
    expect(dropped(metrics, 'closed')).toBeGreaterThan(0)
    expect(got.length + dropped(metrics, 'closed', 'session_ended')).toBe(COUNT)
    expect(metrics.sum('session_messages')).toBe(0)
  })

  it('of QoS 1 in a session that lasts finds everything there, in order', async () => {
    const { got, metrics } = await slow(1, false)
    expect(sentBeside(metrics, 'mqtt')).toBe(got.length)
    expect(dropped(metrics, 'closed', 'session_ended', 'slow_consumer')).toBe(0)
    expect(metrics.sum('session_messages')).toBe(COUNT)
    const again = new RawClient({ clientId: 'slow', version: 5 })
    const numbers: number[] = []
    again.onMessage = ({ payload }) => void numbers.push(payload.readUInt32BE(0))
    await again.connect(program.port('mqtt'))
    await expect.poll(() => numbers.length, { timeout: 20_000 }).toBe(COUNT)
    expect(numbers).toEqual(Array.from({ length: COUNT }, (_, number) => number))
    await again.end()
  })
})

describe('an AMQP consumer without prefetch that does not read is closed, and', () => {
  /** Frames of content that a paused consumer gets when it reads at last: each message is one. */
  async function slow(noAck: boolean) {
    const connection = await openAmqp(program.port('amqp'))
    const channel = await connection.createChannel()
    channel.on('error', () => undefined)
    await channel.assertQueue('flood', { durable: true })
    await channel.bindQueue('flood', 'amq.topic', 'flood')
    await channel.consume('flood', () => undefined, { noAck })
    const { stream } = connection.connection as unknown as { stream: Socket }
    // amqplib reads when the stream says that it can: a paused stream would still be read.
    stream.removeAllListeners('readable')
    stream.pause()
    await flood(1)
    const metrics = await whenClosed()
    const closed = new Promise(resolve => stream.once('close', resolve))
    const chunks: Buffer[] = []
    stream.on('data', (chunk: Buffer) => chunks.push(chunk))
    stream.resume()
    await closed
    return { got: bodies(Buffer.concat(chunks)), metrics }
  }

  function bodies(bytes: Buffer): number {
    let count = 0
    for (let at = 0; at + 8 <= bytes.length; ) {
      const end = at + 8 + bytes.readUInt32BE(at + 3)
      if (end <= bytes.length && bytes[at] === 3) count++
      at = end
    }
    return count
  }

  it('without acknowledgements has got what counts as sent, and the rest waits or was counted', async () => {
    const { got, metrics } = await slow(true)
    const sent = sentBeside(metrics, 'amqp')
    expect(dropped(metrics, 'closed')).toBeGreaterThan(0)
    expect(sent + dropped(metrics, 'closed') + metrics.sum('messages_ready')).toBe(COUNT)
    expect(got).toBeGreaterThanOrEqual(sent)
    expect(got).toBeLessThanOrEqual(sent + WRITE_MESSAGES)
  })

  it('with acknowledgements has got what counts as sent, and everything waits', async () => {
    const { got, metrics } = await slow(false)
    const sent = sentBeside(metrics, 'amqp')
    expect(dropped(metrics, 'closed', 'slow_consumer')).toBe(0)
    expect(metrics.sum('messages_ready')).toBe(COUNT)
    expect(got).toBeGreaterThanOrEqual(sent)
    expect(got).toBeLessThanOrEqual(sent + WRITE_MESSAGES)
  })
})

it('a large message that was taken is not counted as dropped when its subscriber leaves', async () => {
  const client = await connected('large')
  let got = 0
  client.onMessage = ({ payload }) => {
    got += payload.length
  }
  await client.subscribe('large', 0)
  client.publish('large', Buffer.alloc(40_000), { qos: 0 })
  await expect.poll(() => got).toBe(40_000)
  await client.end()
  const metrics = await whenClosed()
  expect(dropped(metrics, 'closed')).toBe(0)
  expect(metrics.sum('messages_sent_total')).toBe(1)
})
