/** At-least-once dead-lettering: what nobody takes stays with its queue, and is tried again. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { decodeProperties, encodeProperties } from '../../src/amqp/properties.ts'
import { bindQueue } from '../../src/broker/bindings.ts'
import type { Broker } from '../../src/broker/broker.ts'
import { declareExchange } from '../../src/broker/exchanges.ts'
import { get } from '../../src/broker/get.ts'
import { setPolicy } from '../../src/broker/policies.ts'
import { declareQueue, deleteQueue, purgeQueue } from '../../src/broker/queues.ts'
import { reject, settle } from '../../src/broker/settle.ts'
import { lettersOf } from '../../src/core/held.ts'
import { FORM_AMQP, type Message } from '../../src/core/message.ts'
import { type Queue, unackedOf } from '../../src/core/queue.ts'
import { table } from '../support/amqp-dead.ts'
import { Backend, openRig, type Rig } from '../support/broker-rig.ts'

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
const KEEPS = {
  'x-overflow': 'reject-publish',
  'x-dead-letter-strategy': 'at-least-once',
  'x-dead-letter-exchange': '',
  'x-dead-letter-routing-key': 'd'
}
const FULL = { 'x-max-length': 1, 'x-overflow': 'reject-publish' }

function declare(name: string, args: Record<string, string | number> = {}): Queue {
  const flags = { passive: false, durable: true, exclusive: false, autoDelete: false }
  return declareQueue(rig.broker, rig.vhost, { name, ...flags, ...WHO, arguments: table(args) })
    .queue
}

async function again(how: 'crash' | 'restart' = 'crash'): Promise<void> {
  await rig.flush()
  rig = how === 'crash' ? await rig.crash() : await rig.restart()
  backend = new Backend(rig)
}

interface Taken {
  sequence: number
  payload: string
}

function take(name: string): Promise<Taken | null> {
  return new Promise(resolve => {
    const onGot = (message: Message | null, sequence: number): void => {
      const { source, payloadStart, payloadEnd } = message ?? rig.broker.stored
      const payload = source.toString('utf8', payloadStart, payloadEnd)
      resolve(message === null ? null : { sequence, payload })
    }
    get(rig.broker, rig.queue(name), { onGot }, false)
  })
}

/** Publishes to `q` and rejects it there. */
async function die(payload: string): Promise<void> {
  backend.publish('', 'q', payload)
  reject(rig.broker, rig.queue('q'), (await take('q'))!.sequence)
  await rig.pass(0)
}

function counts(name: string): [ready: number, letters: number, open: number] {
  const queue = rig.queue(name)
  const letters = lettersOf(queue)
  return [queue.readyCount, letters, unackedOf(queue) - letters]
}

/** Time passes in steps, so that every round has its turns. */
async function passSlowly(ms: number): Promise<void> {
  for (let left = ms; left > 0; left -= 250) await rig.pass(250)
}

describe('a dead letter that its queue keeps', () => {
  it('stays while the target refuses it, and goes when that has room', async () => {
    declare('q', KEEPS)
    declare('d', FULL)
    for (const payload of ['a', 'b', 'c']) await die(payload)
    const got: string[] = []
    for (let left = 3; left > 0; left--) {
      expect(counts('q')).toEqual([0, left - 1, 0])
      expect(rig.queue('d').readyCount).toBe(1)
      const { sequence, payload } = (await take('d'))!
      got.push(payload)
      settle(rig.broker, rig.queue('d'), sequence)
      await passSlowly(5_500)
    }
    expect(got).toEqual(['a', 'b', 'c'])
    expect(rig.broker.counters.droppedByLimits).toBe(0)
    expect(rig.broker.counters.dropped.get('rejected')).toBe(0)
    expect(rig.broker.counters.deadLettered.rejected).toBe(3)
  })

  it.each(['crash', 'restart'] as const)(
    'is still there after a %s, as a letter, and then goes',
    async how => {
      declare('q', KEEPS)
      await die('a')
      await die('b')
      expect(counts('q')).toEqual([0, 2, 0])
      await again(how)
      await rig.pass(0)
      expect(counts('q')).toEqual([0, 2, 0])
      expect(await take('q')).toBeNull()
      await again('crash')
      declare('d')
      await passSlowly(6_000)
      expect([counts('q'), rig.queue('d').readyCount]).toEqual([[0, 0, 0], 2])
      await again('crash')
      await rig.pass(0)
      expect([counts('q'), rig.queue('d').readyCount]).toEqual([[0, 0, 0], 2])
    }
  )

  it('is there after a checkpoint, and its reason with it', async () => {
    declare('q', { ...KEEPS, 'x-message-ttl': 10 })
    backend.publish('', 'q', 'x')
    await rig.pass(11)
    await rig.pass(0)
    expect(counts('q')).toEqual([0, 1, 0])
    await rig.flush()
    await rig.journal.checkpoint()
    await again()
    declare('d')
    await rig.pass(60)
    await rig.pass(0)
    expect(rig.broker.counters.deadLettered.expired).toBe(1)
    expect(rig.queue('d').readyCount).toBe(1)
  })

  it.each([
    ['an exchange', () => declareExchange(rig.broker, rig.vhost, EXCHANGE), true],
    ['a binding', () => bind('dlx'), false]
  ])('goes soon when %s makes a way for it', async (_what, change, needsBinding) => {
    declare('q', { ...KEEPS, 'x-dead-letter-exchange': 'dlx' })
    declare('d')
    if (!needsBinding) declareExchange(rig.broker, rig.vhost, EXCHANGE)
    await die('x')
    await passSlowly(20_000)
    expect(counts('q')).toEqual([0, 1, 0])
    change()
    if (needsBinding) bind('dlx')
    await rig.pass(51)
    await rig.pass(0)
    expect([counts('q'), rig.queue('d').readyCount]).toEqual([[0, 0, 0], 1])
  })

  it('goes to all queues of its route at once, or to none', async () => {
    declare('q', { ...KEEPS, 'x-dead-letter-exchange': 'amq.fanout' })
    declare('d', FULL)
    declare('e')
    bind('amq.fanout', 'd')
    bind('amq.fanout', 'e')
    await die('a')
    await die('b')
    expect([counts('d'), counts('e'), counts('q')]).toEqual([
      [1, 0, 0],
      [1, 0, 0],
      [0, 1, 0]
    ])
    settle(rig.broker, rig.queue('d'), (await take('d'))!.sequence)
    await passSlowly(5_500)
    expect([counts('d'), counts('e'), counts('q')]).toEqual([
      [1, 0, 0],
      [2, 0, 0],
      [0, 0, 0]
    ])
  })

  it('counts toward the bound of its queue, and goes with a purge or with the queue', async () => {
    declare('q', { ...KEEPS, 'x-max-length': 2 })
    await die('a')
    await die('b')
    backend.publish('', 'q', 'c')
    expect(counts('q')).toEqual([0, 2, 0])
    expect(rig.broker.counters.dropped.get('queue_full')).toBe(1)
    expect(purgeQueue(rig.broker, rig.vhost, 'q', WHO).messageCount).toBe(2)
    expect(counts('q')).toEqual([0, 0, 0])
    await die('d')
    await again()
    expect(counts('q')).toEqual([0, 1, 0])
    deleteQueue(rig.broker, rig.vhost, 'q', { ifUnused: false, ifEmpty: false, ...WHO })
    declare('d')
    await passSlowly(6_000)
    expect(rig.queue('d').readyCount).toBe(0)
  })

  it('is dropped when the policy that kept it goes', async () => {
    const { 'x-dead-letter-strategy': _strategy, ...others } = KEEPS
    declare('q', others)
    const fields = {
      name: 'p',
      pattern: '^q$',
      applyTo: 'queues',
      priority: 0,
      isOperator: false
    } as const
    setPolicy(rig.broker, rig.vhost, {
      ...fields,
      definition: { 'dead-letter-strategy': 'at-least-once' }
    })
    await die('a')
    expect(counts('q')).toEqual([0, 1, 0])
    setPolicy(rig.broker, rig.vhost, { ...fields, definition: { 'max-length': 9 } })
    await rig.pass(51)
    await rig.pass(0)
    expect(counts('q')).toEqual([0, 0, 0])
    expect(rig.broker.counters.dropped.get('rejected')).toBe(1)
  })

  it.each([
    ['drop-head', { 'x-overflow': 'drop-head' }],
    ['at-most-once', { 'x-dead-letter-strategy': 'at-most-once' }]
  ])('is not kept with %s', async (_what, changes) => {
    declare('q', { ...KEEPS, ...changes })
    await die('a')
    expect(counts('q')).toEqual([0, 0, 0])
    expect(rig.broker.counters.dropped.get('rejected')).toBe(1)
  })

  it('is not tried all the time: so many in a round, rounds further and further apart', async () => {
    declare('q', KEEPS)
    declare('d', FULL)
    backend.publish('', 'd', 'there')
    for (let i = 0; i < 300; i++) await die(String(i))
    expect(lettersOf(rig.queue('q'))).toBe(300)
    let views = 0
    const { journal } = rig.broker
    const view = journal.view.bind(journal)
    journal.view = (segment, offset) => {
      views++
      return view(segment, offset)
    }
    for (let i = 0; i < 60; i++) await rig.pass(1_000)
    expect(views).toBeGreaterThan(300)
    expect(views).toBeLessThan(64 * 20)
    journal.view = view
    deleteQueue(rig.broker, rig.vhost, 'd', { ifUnused: false, ifEmpty: false, ...WHO })
    declare('d')
    await passSlowly(1_000)
    expect([lettersOf(rig.queue('q')), rig.queue('d').readyCount]).toEqual([0, 300])
  })
})

const EXCHANGE = {
  name: 'dlx',
  kind: 'fanout',
  passive: false,
  durable: true,
  autoDelete: false,
  internal: false,
  arguments: [],
  principal: null
}

function bind(exchange: string, queue = 'd'): void {
  bindQueue(rig.broker, rig.vhost, { queue, exchange, key: '', arguments: [], ...WHO })
}
