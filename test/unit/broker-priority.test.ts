/** Queues with priorities: x-max-priority. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { cancel, consume } from '../../src/broker/consumers.ts'
import { declareQueue, deleteQueue, purgeQueue } from '../../src/broker/queues.ts'
import { ready } from '../../src/broker/deliver.ts'
import { get } from '../../src/broker/get.ts'
import { setPolicy } from '../../src/broker/policies.ts'
import { Report } from '../../src/broker/report.ts'
import { reject, requeue, settle } from '../../src/broker/settle.ts'
import { cool } from '../../src/broker/spill.ts'
import { ERROR_CODES } from '../../src/core/errors.ts'
import type { FieldTable } from '../../src/core/field-table.ts'
import { type Queue, readyOf, unackedOf } from '../../src/core/queue.ts'
import { Backend, openRig, type Rig, turns, Worker } from '../support/broker-rig.ts'
import { declaredQueue } from '../support/declared-queue.ts'
import { chargedBytes, liveBytes } from '../support/lasting-state.ts'

let rig: Rig
let backend: Backend

beforeEach(async () => {
  await open()
})

afterEach(async () => {
  await rig.close()
})

async function open(options: Parameters<typeof openRig>[0] = {}): Promise<void> {
  rig = await openRig(options)
  backend = new Backend(rig)
}

function declare(max: number, more: FieldTable = [], durable = true, name = 'q'): Queue {
  const table: FieldTable = [['x-max-priority', { type: 'I', value: max }], ...more]
  return declaredQueue(rig, name, { durable, arguments: table })
}

/** Each word is a payload; the digits behind its letter are its priority. */
function publish(words: string, name = 'q'): number[] {
  return words
    .split(' ')
    .map(word => backend.publish('', name, word, true, null, Number(word.slice(1))))
}

function consumer(credit = 1_000_000, noAck = false): Worker {
  const worker = new Worker(credit, noAck)
  consume(rig.broker, rig.queue('q'), worker, { exclusive: false, priority: 0 })
  return worker
}

async function drain(): Promise<string> {
  const queue = rig.queue('q')
  const worker = consumer(1_000_000, true)
  for (let left = 20_000; left > 0 && readyOf(queue) > 0; left--) await turns(1)
  cancel(rig.broker, queue, worker)
  return worker.payloads.join(' ')
}

function got(noAck = true): string {
  let text = ''
  const taker = {
    onGot: (message: { source: Buffer; payloadStart: number; payloadEnd: number } | null) => {
      if (message === null) return
      text = message.source.toString('utf8', message.payloadStart, message.payloadEnd)
    }
  }
  get(rig.broker, rig.queue('q'), taker, noAck)
  return text
}

describe('a queue with priorities', () => {
  it('gives the highest first, each level in its order; above the maximum is the maximum', async () => {
    declare(5)
    publish('a0 b5 c1 d0 e9 f255 g4 h5')
    expect(await drain()).toBe('b5 e9 f255 h5 g4 c1 a0 d0')
  })

  it('gives a consumer what is highest when it has room again, whatever came last', async () => {
    const queue = declare(9)
    const worker = consumer(1)
    await turns()
    publish('a0 b0 c7 d0 e9')
    expect(worker.payloads).toEqual(['a0'])
    for (let i = 0; i < 4; i++) {
      worker.credit = 1
      // Whoever publishes comes before the broker has looked at the new credit.
      if (i === 1) publish('f1')
      ready(rig.broker, queue)
    }
    expect(worker.payloads).toEqual(['a0', 'e9', 'c7', 'f1', 'b0'])
  })

  it('does not let a message overtake a higher one that waits for a consumer to be looked at', async () => {
    declare(9)
    const worker = consumer(0)
    await turns()
    publish('a3')
    worker.credit = 5
    publish('b1')
    await turns()
    expect(worker.payloads).toEqual(['a3', 'b1'])
  })

  it('takes back to its place in its level, redelivered', async () => {
    const queue = declare(3)
    publish('a1 b1 c3 d1 e3')
    const worker = consumer(5)
    await turns()
    expect(worker.payloads).toEqual(['c3', 'e3', 'a1', 'b1', 'd1'])
    for (const index of [4, 2, 1]) requeue(rig.broker, queue, worker.got[index]!.sequence)
    expect([readyOf(queue), unackedOf(queue)]).toEqual([3, 2])
    worker.credit = 3
    ready(rig.broker, queue)
    expect(worker.payloads.slice(5)).toEqual(['e3', 'a1', 'd1'])
    expect(worker.got.slice(5).every(({ isRedelivered }) => isRedelivered)).toBe(true)
  })

  it('settles and rejects each delivery once', async () => {
    const queue = declare(3)
    publish('a1 b2 c0')
    const worker = consumer(3)
    await turns()
    const [first, second, third] = worker.got.map(({ sequence }) => sequence)
    expect(settle(rig.broker, queue, first!)).toBe(true)
    expect(settle(rig.broker, queue, first!)).toBe(false)
    expect(reject(rig.broker, queue, second!)).toBe(true)
    expect(reject(rig.broker, queue, second!)).toBe(false)
    expect(settle(rig.broker, queue, third!)).toBe(true)
    expect([readyOf(queue), unackedOf(queue)]).toEqual([0, 0])
    expect(rig.dropped('rejected')).toBe(1)
  })

  it('answers basic.get with the highest, and how many are left in all', () => {
    const queue = declare(3)
    publish('a0 b2 c1')
    const left: number[] = []
    for (let i = 0; i < 4; i++) {
      const onGot = (_: unknown, _sequence: number, _flags: number, remaining: number) =>
        left.push(remaining)
      get(rig.broker, queue, { onGot }, false)
    }
    expect(left).toEqual([2, 1, 0, 0])
    expect(unackedOf(queue)).toBe(3)
  })

  it('is one queue with all that it holds, for whoever looks at it', async () => {
    const queue = declare(3)
    publish('a0 bb2 cc2')
    const worker = consumer(1)
    await turns()
    const { messageCount, consumerCount } = declareQueue(rig.broker, rig.vhost, {
      ...{ name: 'q', passive: true, durable: true, exclusive: false, autoDelete: false },
      ...{ arguments: [], principal: null, owner: null }
    })
    expect([messageCount, consumerCount]).toEqual([2, 1])
    const report = new Report(rig.broker, () => ({}) as never)
    expect(report.queueStats(9)).toEqual([
      {
        vhost: '/',
        name: 'q',
        ready: 2,
        unacked: 1,
        delayed: 0,
        letters: 0,
        bytes: 5,
        consumers: 1
      }
    ])
    const { queueCount, messagesReady, messagesUnacked } = report.stats()
    expect([queueCount, messagesReady, messagesUnacked]).toEqual([1, 2, 1])
    cancel(rig.broker, queue, worker)
    for (const level of queue.levels!.used) expect(level.attached).toBeNull()
  })

  it('costs a queue for each level that was used, and with too many the next below serves', async () => {
    await rig.close()
    await open({ limits: { queuesMax: 3 } })
    declare(200)
    publish('a0 b7 c100 d200 e50 f6')
    expect(rig.broker.state.queues.size).toBe(3)
    expect(await drain()).toBe('c100 d200 b7 e50 a0 f6')
  })

  it('costs a usual queue nothing', () => {
    const { broker, vhost } = rig
    const request = { passive: false, durable: true, exclusive: false, autoDelete: false }
    const rest = { arguments: [], principal: null, owner: null }
    const { queue } = declareQueue(broker, vhost, { name: 'q', ...request, ...rest })
    publish('a5 b9')
    expect(queue.levels).toBeNull()
    expect(broker.state.queues.size).toBe(1)
    expect(queue.readyCount).toBe(2)
  })
})

describe('the bounds of a queue with priorities', () => {
  it('count all levels, and drop the head: that of the highest, as in RabbitMQ', async () => {
    const queue = declare(3, [['x-max-length', { type: 'I', value: 3 }]])
    publish('a0 b3 c1 d0 e0')
    expect(readyOf(queue)).toBe(3)
    expect(rig.dropped('queue_full')).toBe(2)
    expect(await drain()).toBe('a0 d0 e0')
  })

  it('count the bytes of all levels', async () => {
    declare(3, [['x-max-length-bytes', { type: 'I', value: 6 }]])
    publish('a0 b3 c1 d0')
    expect(await drain()).toBe('c1 a0 d0')
  })

  it('may come by a policy, which then holds for every level', async () => {
    const queue = declare(3)
    publish('a0 b3 c1 d0 e0')
    const fields = { name: 'p', pattern: '.*', applyTo: 'queues', priority: 0, isOperator: false }
    const definition = { 'max-length': 3, overflow: 'reject-publish' }
    setPolicy(rig.broker, rig.vhost, { ...fields, definition } as Parameters<typeof setPolicy>[2])
    publish('f2')
    expect(readyOf(queue)).toBe(5)
    for (const level of queue.levels!.used) expect(level.options).toBe(queue.options)
    setPolicy(rig.broker, rig.vhost, {
      ...fields,
      definition: { 'max-length': 3 }
    } as Parameters<typeof setPolicy>[2])
    expect(await drain()).toBe('a0 d0 e0')
  })

  it('refuse what is too much, whatever its priority', () => {
    const queue = declare(3, [
      ['x-max-length', { type: 'I', value: 2 }],
      ['x-overflow', { type: 'S', value: 'reject-publish' }]
    ])
    expect(publish('a0 b1 c3').pop()).toBe(-ERROR_CODES.queueFull)
    expect(readyOf(queue)).toBe(2)
  })

  it('let the oldest of a level be read from the disk', async () => {
    const queue = declare(3, [['x-max-length', { type: 'I', value: 2_000 }]])
    for (let i = 0; i < 2_000; i++) backend.publish('', 'q', `m${i}`, true, null, 2)
    const level = queue.levels!.at(2)
    for (const chunk of [...level.chunks])
      if (level.isCoolable(chunk)) cool(rig.broker, level, chunk)
    publish('x0 y1')
    for (let left = 2_000; left > 0 && readyOf(queue) > 2_000; left--) await turns(1)
    expect(rig.dropped('queue_full')).toBe(2)
    expect((await drain()).split(' ').slice(-3)).toEqual(['m1999', 'y1', 'x0'])
  })
})

describe('messages of a queue with priorities', () => {
  it('expire at the head of their level', async () => {
    declare(3)
    const soon = rig.broker.nowMs + 1_000
    backend.publish('', 'q', 'a1', true, null, 1, soon)
    publish('b1 c3')
    backend.publish('', 'q', 'd0', true, null, 0, soon)
    await rig.pass(2_000)
    expect(got()).toBe('c3')
    expect(await drain()).toBe('b1')
    expect(rig.dropped('expired')).toBe(2)
  })

  it('leave every level as dead letters: expired, too many, refused, back too often', async () => {
    const text = (value: string) => ({ type: 'S', value }) as const
    const number = (value: number) => ({ type: 'I', value }) as const
    declare(3, [], true, 'dead')
    const queue = declare(3, [
      ['x-dead-letter-exchange', text('')],
      ['x-dead-letter-routing-key', text('dead')],
      ['x-message-ttl', number(1_000)],
      ['x-delivery-limit', number(1)],
      ['x-max-length', number(4)]
    ])
    publish('a0 b3 c1 d3 e0')
    const worker = consumer(2)
    await turns(4)
    expect(worker.payloads).toEqual(['d3', 'c1'])
    reject(rig.broker, queue, worker.got[0]!.sequence)
    for (let i = 1; i < 3; i++) {
      worker.credit = i === 1 ? 1 : 0
      requeue(rig.broker, queue, worker.got.at(-1)!.sequence)
    }
    await rig.pass(3_000)
    await turns(8)
    expect([readyOf(queue), unackedOf(queue)]).toEqual([0, 0])
    const all = new Worker()
    consume(rig.broker, rig.queue('dead'), all, { exclusive: false, priority: 0 })
    await turns(4)
    expect(all.payloads.sort()).toEqual(['a0', 'b3', 'c1', 'd3', 'e0'])
    const { deadLettered } = rig.broker.counters
    expect(deadLettered).toEqual({ maxlen: 1, rejected: 1, delivery_limit: 1, expired: 2 })
  })

  it('go with a purge, but for those that were delivered', async () => {
    const queue = declare(3)
    publish('a0 b2 c2 d1')
    const worker = consumer(1)
    await turns()
    const request = { principal: null, owner: null }
    expect(purgeQueue(rig.broker, rig.vhost, 'q', request).messageCount).toBe(3)
    expect([readyOf(queue), unackedOf(queue)]).toEqual([0, 1])
    expect(rig.dropped('purged')).toBe(3)
    await rig.flush()
    rig = await rig.crash()
    expect(await drain()).toBe(worker.payloads.join(' '))
  })

  it('go with their queue, and one of its name begins with none', async () => {
    declare(3)
    publish('a0 b2 c2 d1')
    const request = { ifUnused: false, ifEmpty: true, principal: null, owner: null }
    expect(() => deleteQueue(rig.broker, rig.vhost, 'q', request)).toThrow('not empty')
    const { messageCount } = deleteQueue(rig.broker, rig.vhost, 'q', { ...request, ifEmpty: false })
    expect([messageCount, rig.dropped('queue_deleted')]).toEqual([4, 4])
    expect(rig.broker.state.queues.size).toBe(0)
    expect(liveBytes(rig.broker, false)).toEqual(chargedBytes(rig.broker))
    declare(3)
    publish('e1')
    await rig.flush()
    rig = await rig.crash()
    expect(await drain()).toBe('e1')
    expect(rig.broker.state.queues.size).toBe(2)
  })
})

describe('over a restart', () => {
  for (const isInOrder of [true, false]) {
    const what = isInOrder ? 'a stop' : 'a crash'
    it(`a queue with priorities has all that it held before ${what}, in its order`, async () => {
      const queue = declare(9)
      publish('a0 b9 c3 d0 e3 f9')
      const worker = consumer(3)
      await turns()
      settle(rig.broker, queue, worker.got[1]!.sequence)
      publish('g3')
      await rig.flush()
      rig = isInOrder ? await rig.restart() : await rig.crash()
      backend = new Backend(rig)
      publish('h9 i3 j0')
      const again = consumer(20)
      await turns(6)
      expect(again.payloads.join(' ')).toBe('b9 h9 c3 e3 g3 i3 a0 d0 j0')
      const redelivered = again.got.filter(({ isRedelivered }) => isRedelivered)
      expect(redelivered.map(({ payload }) => payload)).toEqual('b9 c3 e3 g3 a0 d0'.split(' '))
    })
  }

  it('knows a level that was first used while a checkpoint was written', async () => {
    for (let i = 0; i < 2_000; i++) declare(3, [], true, `other ${i}`)
    declare(3)
    await rig.flush()
    const written = rig.journal.checkpoint()
    await turns(1)
    publish('a2 b0 c3')
    await written
    await rig.flush()
    rig = await rig.crash()
    expect(await drain()).toBe('c3 a2 b0')
  })

  it('a queue that does not last leaves nothing', async () => {
    declare(3, [], false)
    publish('a0 b2')
    await rig.flush()
    rig = await rig.crash()
    expect(rig.queue('q')).toBeUndefined()
    expect(rig.broker.state.queues.size).toBe(0)
  })

  it('long levels are on the disk, are moved, and come back in their order', async () => {
    await rig.close()
    await open({
      limits: { hotEntriesMax: 2_000 },
      journalLimits: { segmentBytes: 256 * 1024, checkpointBytes: 128 * 1024, deadBytesMax: 1 }
    })
    declare(3)
    const expected: string[][] = [[], [], []]
    for (let i = 0; i < 24_000; i++) {
      const level = i % 3
      expected[level]!.push(`${i}`)
      backend.publish('', 'q', `${i}`, true, null, level)
      if (i % 3_000 === 0) await turns(4)
    }
    await rig.flush()
    let hot = 0
    for (const level of rig.queue('q').levels!.used) hot += level.hotEntries
    expect(hot).toBeLessThan(8_000)
    rig = await rig.crash()
    expect(chargedBytes(rig.broker)).toEqual(liveBytes(rig.broker, false))
    expect(await drain()).toBe(expected.reverse().flat().join(' '))
  })
})
