/** What comes back: its count over a kill, and delayed retry, over restarts, checkpoints and cold chunks. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { decodeProperties, encodeProperties } from '../../src/amqp/properties.ts'
import type { Broker } from '../../src/broker/broker.ts'
import { deleteQueue, purgeQueue } from '../../src/broker/queues.ts'
import { get } from '../../src/broker/get.ts'
import { setPolicy } from '../../src/broker/policies.ts'
import { requeue, settle } from '../../src/broker/settle.ts'
import { cool } from '../../src/broker/spill.ts'
import { fieldOf } from '../../src/core/field-table.ts'
import { heldOf } from '../../src/core/held.ts'
import { FORM_AMQP, type Message } from '../../src/core/message.ts'
import { type Queue, unackedOf } from '../../src/core/queue.ts'
import { table } from '../support/amqp-dead.ts'
import { Backend, openRig, type Rig } from '../support/broker-rig.ts'
import { declaredQueue } from '../support/declared-queue.ts'

let rig: Rig
let backend: Backend

function withFrontEnds(broker: Broker): void {
  broker.propertyDecoders[FORM_AMQP] = decodeProperties
  broker.propertyEncoders[FORM_AMQP] = encodeProperties
}

beforeEach(async () => {
  rig = await openRig({ onReplayed: withFrontEnds })
  backend = new Backend(rig)
})

afterEach(async () => {
  await rig.close()
})

const WHO = { principal: null, owner: null }
const RETRY = {
  'x-delayed-retry-type': 'all',
  'x-delayed-retry-min': 1_000,
  'x-delayed-retry-max': 2_500
}

function declare(name: string, args: Record<string, string | number> = {}): Queue {
  return declaredQueue(rig, name, { arguments: table(args) })
}

async function again(how: 'crash' | 'restart' = 'crash'): Promise<void> {
  await rig.flush()
  rig = how === 'crash' ? await rig.crash() : await rig.restart()
  backend = new Backend(rig)
}

interface Taken {
  sequence: number
  payload: string
  /** x-delivery-count; 0 = it has none. */
  count: number
}

function take(name: string): Promise<Taken | null> {
  return new Promise(resolve => {
    const onGot = (message: Message | null, sequence: number): void => {
      if (message === null) {
        resolve(null)
        return
      }
      const { source, propertiesStart, propertiesEnd, payloadStart, payloadEnd } = message
      const { headers } = decodeProperties(source, propertiesStart, propertiesEnd)
      const count = Number(fieldOf(headers, 'x-delivery-count')?.value ?? 0)
      resolve({ sequence, payload: source.toString('utf8', payloadStart, payloadEnd), count })
    }
    get(rig.broker, rig.queue(name), { onGot }, false)
  })
}

/** Takes the next and puts it back; its count. */
async function bounce(name: string): Promise<number> {
  const taken = await take(name)
  if (taken !== null) requeue(rig.broker, rig.queue(name), taken.sequence)
  return taken?.count ?? -1
}

function counts(name: string): [ready: number, held: number, open: number] {
  const queue = rig.queue(name)
  const held = heldOf(queue)
  return [queue.readyCount, held, unackedOf(queue) - held]
}

describe('the delivery count of a message', () => {
  const LIMIT = {
    'x-delivery-limit': 3,
    'x-dead-letter-exchange': '',
    'x-dead-letter-routing-key': 'd'
  }

  it('is what it was after a kill, so that its limit holds', async () => {
    declare('q', LIMIT)
    declare('d')
    backend.publish('', 'q', 'poison')
    expect([await bounce('q'), await bounce('q')]).toEqual([0, 1])
    await again()
    expect([await bounce('q'), await bounce('q')]).toEqual([2, 3])
    await rig.pass(0)
    expect([rig.queue('q').count, rig.queue('d').readyCount]).toEqual([0, 1])
  })

  it('goes up when each delivery ends with a kill of the broker', async () => {
    declare('q', LIMIT)
    declare('d')
    backend.publish('', 'q', 'poison')
    const found: number[] = []
    for (let round = 0; round < 10; round++) {
      const taken = await take('q')
      if (taken === null) break
      found.push(taken.count)
      await again()
    }
    // Nobody knows of the first one: it might have been any that waited.
    expect(found).toEqual([0, 0, 1, 2, 3])
    await rig.pass(0)
    expect(rig.queue('d').readyCount).toBe(1)
  })

  it('comes through a checkpoint, cold chunks and a second kill', async () => {
    const queue = declare('q', { 'x-delivery-limit': 100 })
    for (let i = 0; i < 4_000; i++) backend.publish('', 'q', String(i))
    const taken = await many(2_000)
    for (const sequence of taken) requeue(rig.broker, queue, sequence)
    await rig.flush()
    for (const chunk of queue.chunks.filter(each => queue.isCoolable(each))) {
      cool(rig.broker, queue, chunk)
    }
    await rig.journal.checkpoint()
    // Read back, and delivered twice since: of their chunk the checkpoint knows the name alone.
    for (let round = 0; round < 2; round++) {
      for (const sequence of await many(10)) requeue(rig.broker, queue, sequence)
    }
    await again()
    await again()
    expect((await take('q'))!.count).toBe(3)
    await many(9)
    expect((await take('q'))!.count).toBe(1)
  })

  it('is not written down for a queue that does not count', async () => {
    declare('q')
    backend.publish('', 'q', 'x')
    await bounce('q')
    const { ticket } = rig.journal
    await bounce('q')
    expect(rig.journal.ticket).toBe(ticket)
  })
})

/** Takes so many of `q`. */
async function many(count: number): Promise<number[]> {
  const taken: number[] = []
  for (let i = 0; i < count; i++) taken.push((await take('q'))!.sequence)
  return taken
}

describe('delayed retry', () => {
  it('holds a message back for each delivery so far, up to the most, and gives it in its old place', async () => {
    declare('q', RETRY)
    for (const payload of ['a', 'b']) backend.publish('', 'q', payload)
    for (const ms of [1_000, 2_000, 2_500, 2_500]) {
      await bounce('q')
      expect(counts('q')).toEqual([1, 1, 0])
      await rig.pass(ms - 1)
      expect(counts('q')).toEqual([1, 1, 0])
      await rig.pass(2)
      expect(counts('q')).toEqual([2, 0, 0])
    }
    expect([await take('q'), await take('q')]).toMatchObject([
      { payload: 'a', count: 4 },
      { payload: 'b', count: 0 }
    ])
  })

  it.each(['crash', 'restart'] as const)(
    'waits on over a %s, for what is left of its time',
    async how => {
      declare('q', RETRY)
      backend.publish('', 'q', 'a')
      await bounce('q')
      await rig.pass(600)
      await again(how)
      expect(counts('q')).toEqual([0, 1, 0])
      await rig.pass(399)
      expect(counts('q')).toEqual([0, 1, 0])
      await rig.pass(2)
      expect(counts('q')).toEqual([1, 0, 0])
      expect(await take('q')).toMatchObject({ payload: 'a', count: 1 })
    }
  )

  it('is held again after a kill no shorter than before it', async () => {
    declare('q', RETRY)
    backend.publish('', 'q', 'a')
    await bounce('q')
    await rig.pass(1_001)
    await bounce('q')
    await again()
    await rig.pass(1_990)
    expect(counts('q')).toEqual([0, 1, 0])
    await rig.pass(20)
    expect(counts('q')).toEqual([1, 0, 0])
  })

  it('is none of what was let go and taken before a kill', async () => {
    declare('q', RETRY)
    backend.publish('', 'q', 'a')
    backend.publish('', 'q', 'b')
    await bounce('q')
    await bounce('q')
    await rig.pass(1_001)
    settle(rig.broker, rig.queue('q'), (await take('q'))!.sequence)
    await again()
    expect(counts('q')).toEqual([1, 0, 0])
    expect(rig.broker.state.heldCount).toBe(0)
    expect(await take('q')).toMatchObject({ payload: 'b', count: 1 })
  })

  it('holds over a checkpoint, and a wall clock that is set changes nothing', async () => {
    declare('q', RETRY)
    for (let i = 0; i < 1_500; i++) backend.publish('', 'q', String(i))
    for (let i = 0; i < 1_200; i++) await bounce('q')
    await rig.flush()
    await rig.journal.checkpoint()
    rig.clock.setWall(0)
    await again()
    expect(counts('q')).toEqual([300, 1_200, 0])
    expect(rig.broker.state.heldCount).toBe(1_200)
    for (let turn = 0; turn < 20; turn++) await rig.pass(60)
    expect(counts('q')).toEqual([1_500, 0, 0])
    expect(await take('q')).toMatchObject({ payload: '0', count: 1 })
  })

  it('delays only what failed, or only what was handed back', async () => {
    for (const [type, isFailure] of [
      ['failed', true],
      ['returned', false]
    ] as const) {
      declare(type, { ...RETRY, 'x-delayed-retry-type': type })
      backend.publish('', type, 'x')
      requeue(rig.broker, rig.queue(type), (await take(type))!.sequence, !isFailure)
      expect(counts(type)).toEqual([1, 0, 0])
      requeue(rig.broker, rig.queue(type), (await take(type))!.sequence, isFailure)
      expect(counts(type)).toEqual([0, 1, 0])
    }
  })

  it('ends with the delivery limit: the message is dead at once', async () => {
    const dead = { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'd' }
    declare('q', { ...RETRY, ...dead, 'x-delivery-limit': 1 })
    declare('d')
    backend.publish('', 'q', 'x')
    await bounce('q')
    await rig.pass(1_001)
    await bounce('q')
    await rig.pass(0)
    expect([...counts('q'), rig.queue('d').readyCount]).toEqual([0, 0, 0, 1])
  })

  it('is not longer than the message lives', async () => {
    declare('q', { ...RETRY, 'x-message-ttl': 300 })
    backend.publish('', 'q', 'x')
    await bounce('q')
    await rig.pass(301)
    await rig.pass(100)
    expect(counts('q')).toEqual([0, 0, 0])
    expect(rig.broker.counters.dropped.get('expired')).toBe(1)
  })

  it('goes with a purge, which counts it, and with its queue', async () => {
    declare('q', RETRY)
    for (const payload of ['a', 'b', 'c']) backend.publish('', 'q', payload)
    await bounce('q')
    const open = (await take('q'))!
    expect(purgeQueue(rig.broker, rig.vhost, 'q', WHO).messageCount).toBe(2)
    expect(counts('q')).toEqual([0, 0, 1])
    expect(rig.broker.state.heldCount).toBe(0)
    requeue(rig.broker, rig.queue('q'), open.sequence)
    await again()
    expect(counts('q')).toEqual([0, 1, 0])
    const request = { ifUnused: false, ifEmpty: true, ...WHO }
    expect(() => deleteQueue(rig.broker, rig.vhost, 'q', request)).toThrow('not empty')
    deleteQueue(rig.broker, rig.vhost, 'q', { ...request, ifEmpty: false })
    expect(rig.broker.state.heldCount).toBe(0)
    await rig.pass(5_000)
  })

  it('counts toward the bounds of a queue that refuses', async () => {
    declare('q', { ...RETRY, 'x-max-length': 2, 'x-overflow': 'reject-publish' })
    for (const payload of ['a', 'b', 'c']) backend.publish('', 'q', payload)
    await bounce('q')
    backend.publish('', 'q', 'd')
    expect(counts('q')).toEqual([1, 1, 0])
    expect(rig.broker.counters.dropped.get('queue_full')).toBe(2)
  })

  it('works at every level of a queue with priorities', async () => {
    declare('q', { ...RETRY, 'x-max-priority': 3 })
    backend.publish('', 'q', 'low', true, null, 0)
    backend.publish('', 'q', 'high', true, null, 3)
    await bounce('q')
    expect((await take('q'))!.payload).toBe('low')
    await again()
    expect(heldOf(rig.queue('q'))).toBe(1)
    await rig.pass(1_001)
    expect(await take('q')).toMatchObject({ payload: 'high', count: 1 })
  })

  it('can be a policy, and goes with it', async () => {
    declare('q')
    backend.publish('', 'q', 'x')
    const fields = {
      name: 'p',
      pattern: '^q$',
      applyTo: 'queues',
      priority: 0,
      isOperator: false
    } as const
    const definition = { 'delayed-retry-type': 'all', 'delayed-retry-min': 1_000 }
    setPolicy(rig.broker, rig.vhost, { ...fields, definition })
    await bounce('q')
    expect(counts('q')).toEqual([0, 1, 0])
    setPolicy(rig.broker, rig.vhost, { ...fields, definition: { 'max-length': 5 } })
    await rig.pass(1_001)
    await bounce('q')
    expect(counts('q')).toEqual([1, 0, 0])
  })

  it('holds no more than the broker has room for: what is too much comes back at once', async () => {
    await rig.close()
    rig = await openRig({ onReplayed: withFrontEnds, limits: { delayedMessagesMax: 2 } })
    backend = new Backend(rig)
    declare('q', RETRY)
    for (const payload of ['a', 'b', 'c']) backend.publish('', 'q', payload)
    for (let i = 0; i < 3; i++) await bounce('q')
    expect(counts('q')).toEqual([1, 2, 0])
  })
})
