import { describe, expect, it } from 'vitest'
import { consume } from '../../src/broker/consumers.ts'
import { setPolicy } from '../../src/broker/policies.ts'
import { declareQueue } from '../../src/broker/queues.ts'
import type { Stream } from '../../src/broker/stream.ts'
import { StreamCursor } from '../../src/broker/stream-reader.ts'
import { table } from '../support/amqp-dead.ts'
import { Backend, openRig, type Rig, turns, Worker } from '../support/broker-rig.ts'

class Reader extends Worker {
  readonly cursor = new StreamCursor({ from: 'first' })
}

function declare(rig: Rig): void {
  declareQueue(rig.broker, rig.vhost, {
    name: 's',
    passive: false,
    durable: true,
    exclusive: false,
    autoDelete: false,
    arguments: table({ 'x-queue-type': 'stream', 'x-stream-max-segment-size-bytes': 4_096 }),
    principal: null,
    owner: null
  })
}

function streamOf(rig: Rig): Stream {
  return rig.queue('s').stream as Stream
}

async function publish(rig: Rig, from: number, to: number): Promise<void> {
  const backend = new Backend(rig)
  for (let i = from; i <= to; i++) backend.publish('', 's', `${i}:${'x'.repeat(1_000)}`)
  await rig.flush()
}

/** The numbers of all that a reader gets from the first message on. */
async function all(rig: Rig): Promise<number[]> {
  const reader = new Reader()
  consume(rig.broker, rig.queue('s'), reader, { exclusive: false, priority: 0 })
  streamOf(rig).begin(reader)
  for (let i = 0; i < 200; i++) await turns(1)
  return reader.payloads.map(payload => Number.parseInt(payload, 10))
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from + 1 }, (_, i) => from + i)
}

describe('a stream', () => {
  it('that cannot write its files goes on from the journal, and moves when it can', async () => {
    const rig = await openRig()
    declare(rig)
    await publish(rig, 1, 10)
    rig.disk.intercept = (call, path) =>
      path.includes('/streams/') && call === 'write' ? { code: 'EIO' } : null
    await rig.broker.streams!.flush()
    expect(rig.lines.some(({ msg }) => String(msg).includes('cannot be written'))).toBe(true)
    await publish(rig, 11, 20)
    expect(await all(rig)).toEqual(range(1, 20))
    expect([streamOf(rig).log.last, rig.queue('s').readyCount]).toEqual([0, 20])
    rig.disk.intercept = null
    await rig.broker.streams!.flush()
    expect([streamOf(rig).log.last, rig.queue('s').readyCount]).toEqual([20, 0])
    expect(await all(rig)).toEqual(range(1, 20))
    expect(rig.queue('s').stream!.count).toBe(20)
    await rig.close()
  })

  it('goes by a policy for streams: by bytes and by age', async () => {
    const rig = await openRig()
    declare(rig)
    const policy = { pattern: '.', applyTo: 'streams', priority: 0, isOperator: false } as const
    for (let i = 0; i < 10; i++) {
      await publish(rig, i * 5 + 1, i * 5 + 5)
      await rig.broker.streams!.flush()
      await rig.pass(60_000)
    }
    expect(streamOf(rig).first).toBe(1)
    setPolicy(rig.broker, rig.vhost, { ...policy, name: 'p', definition: { 'max-age': '5m' } })
    await rig.broker.streams!.flush()
    const young = streamOf(rig).first
    expect(young).toBeGreaterThan(15)
    expect(young).toBeLessThanOrEqual(26)
    setPolicy(rig.broker, rig.vhost, {
      ...policy,
      name: 'p',
      definition: { 'max-length-bytes': 20_000, 'message-ttl': 1, 'max-length': 1 }
    })
    await rig.broker.streams!.flush()
    expect(streamOf(rig).first).toBeGreaterThan(young)
    expect(streamOf(rig).first).toBeLessThanOrEqual(46)
    // What the policy says of other queues is nothing to a stream.
    await publish(rig, 51, 60)
    expect((await all(rig)).slice(-15)).toEqual(range(46, 60))
    const next = await rig.restart()
    // The stop moves them, and others make room.
    expect((await all(next)).slice(-10)).toEqual(range(51, 60))
    await next.close()
  })
})
