/** Duplicates: what is known of a message that was sent before, over restarts and crashes, and within bounds. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { bindExchange, bindQueue } from '../../src/broker/bindings.ts'
import { consume } from '../../src/broker/consumers.ts'
import { declareExchange, deleteExchange } from '../../src/broker/exchanges.ts'
import { declareQueue, deleteQueue, purgeQueue } from '../../src/broker/queues.ts'
import { requeue, settle } from '../../src/broker/settle.ts'
import type { KeyCache } from '../../src/core/deduplication.ts'
import { ERROR_CODES } from '../../src/core/errors.ts'
import type { FieldTable, FieldValue } from '../../src/core/field-table.ts'
import { Backend, openRig, type Rig, turns, Worker } from '../support/broker-rig.ts'
import { DELAYED, int, keyed, text } from '../support/routing.ts'

const SMALL = {
  segmentBytes: 256 * 1024,
  cacheBytes: 512 * 1024,
  checkpointBytes: 128 * 1024,
  deadBytesMax: 1
}
const NOBODY = { principal: null, owner: null }
const YES: FieldValue = { type: 't', value: true }

let rig: Rig
let backend: Backend

async function open(options: Parameters<typeof openRig>[0] = {}): Promise<void> {
  rig = await openRig(options)
  backend = new Backend(rig)
}

beforeEach(async () => {
  await open()
})

afterEach(async () => {
  await rig.close()
})

function once(
  name = 'once',
  { size = 100, ttlMs = 0, persistence = 'disk', durable = true, kind = '' } = {}
): void {
  const ttl: FieldTable = ttlMs === 0 ? [] : [['x-cache-ttl', int(ttlMs)]]
  const table: FieldTable = [
    ['x-cache-size', int(size)],
    ['x-cache-persistence', text(persistence)],
    ...ttl
  ]
  exchange(name, kind || 'x-message-deduplication', kind ? [] : table, durable)
}

function exchange(name: string, kind: string, table: FieldTable, durable = true): void {
  const flags = { passive: false, durable, autoDelete: false, internal: false }
  declareExchange(rig.broker, rig.vhost, {
    name,
    kind,
    ...flags,
    arguments: table,
    principal: null
  })
}

function queue(name: string, table: FieldTable = [], from = '', durable = true): void {
  const flags = { passive: false, durable, exclusive: false, autoDelete: false }
  declareQueue(rig.broker, rig.vhost, { name, ...flags, arguments: table, ...NOBODY })
  if (from === '') return
  bindQueue(rig.broker, rig.vhost, {
    queue: name,
    exchange: from,
    key: '',
    arguments: [],
    ...NOBODY
  })
}

const UNIQUE: FieldTable = [['x-message-deduplication', YES]]

/** The ticket. */
function send(key: string | FieldTable, to = 'once', routingKey = ''): number {
  return backend.publish(to, routingKey, 'x', true, typeof key === 'string' ? keyed(key) : key)
}

async function again(
  how: 'crash' | 'restart' = 'crash',
  options: Parameters<Rig['crash']>[0] = {}
) {
  rig = await rig[how](options)
  backend = new Backend(rig)
}

const ready = (name = 'q'): number => rig.queue(name).readyCount
const cache = (name = 'once'): KeyCache => rig.vhost.exchanges.get(name)!.cache!
const refused = (): number => rig.dropped('deduplicated')

describe('an exchange of type x-message-deduplication', () => {
  beforeEach(() => {
    once()
    queue('q', [], 'once')
  })

  it('routes to every binding a key that it has not seen, and a message without one always', () => {
    queue('r', [], 'once')
    for (const key of ['a', 'b', 'a', 'a']) send(key)
    send([])
    send([])
    expect([ready('q'), ready('r'), refused()]).toEqual([4, 4, 2])
  })

  it('confirms a duplicate when the first one is durable, not before', async () => {
    const first = send('a')
    expect(first).toBe(rig.journal.ticket)
    expect(send('a')).toBe(first)
    backend.publish('once', '', 'x', false, keyed('b'))
    expect(send('b')).toBe(rig.journal.ticket)
    await rig.flush()
    expect(rig.journal.durableTicket).toBe(rig.journal.ticket)
  })

  it('tells a text from a number, and no number from its width', () => {
    const key = (value: FieldValue): FieldTable => [['x-deduplication-header', value]]
    send(key(text('1')))
    send(key(int(1)))
    send(key({ type: 'l', value: 1n }))
    send(key({ type: 'B', value: 1 }))
    send(key({ type: 'd', value: 1 }))
    send(key({ type: 't', value: true }))
    send(key({ type: 'V', value: null }))
    send(key({ type: 'V', value: null }))
    expect([ready(), refused()]).toEqual([5, 3])
  })

  it('remembers a long key and a nested one in few bytes', () => {
    const long = 'k'.repeat(100_000)
    const nested: FieldTable = [
      [
        'x-deduplication-header',
        { type: 'A', value: [text(long), { type: 'F', value: keyed('a') }] }
      ]
    ]
    for (const key of [long, `${long}l`, long]) send(key)
    send(nested)
    send(nested)
    expect([ready(), refused()]).toEqual([3, 2])
    for (const key of cache().keys.keys()) expect(key.length).toBeLessThan(70)
  })

  it('forgets the oldest when it is full, and what has expired before that', async () => {
    once('small', { size: 3 })
    queue('s', [], 'small')
    for (const key of ['a', 'b', 'c', 'd', 'b', 'a']) send(key, 'small')
    expect([ready('s'), [...cache('small').keys.keys()]]).toEqual([5, ['Sc', 'Sd', 'Sa']])
    once('timed', { size: 2, ttlMs: 1_000 })
    queue('t', [], 'timed')
    send('a', 'timed')
    await rig.pass(600)
    send('b', 'timed')
    await rig.pass(600)
    send('c', 'timed')
    expect([...cache('timed').keys.keys()]).toEqual(['Sb', 'Sc'])
    send('b', 'timed')
    send('a', 'timed')
    expect(ready('t')).toBe(4)
  })

  it('takes the time to live of a message before its own', async () => {
    const own = (key: string, ttl: FieldValue): FieldTable => [...keyed(key), ['x-cache-ttl', ttl]]
    send(own('a', int(500)))
    send(own('b', text('soon')))
    await rig.pass(600)
    send('a')
    send('b')
    expect([ready(), refused()]).toEqual([3, 1])
  })

  it('makes a short time to live no reason to forget a long one', async () => {
    once('mixed', { size: 10, ttlMs: 3_600_000 })
    queue('m', [], 'mixed')
    send('long', 'mixed')
    for (let i = 0; i < 100; i++) {
      send([...keyed(`${i}`), ['x-cache-ttl', int(10)]], 'mixed')
      await rig.pass(20)
    }
    send('long', 'mixed')
    expect([ready('m'), refused()]).toEqual([101, 1])
    expect(cache('mixed').size).toBeLessThanOrEqual(10)
    await rig.flush()
    await again()
    send('long', 'mixed')
    expect([ready('m'), refused()]).toEqual([101, 1])
  })

  it('remembers nothing of what nobody got, or of what a queue refused', async () => {
    once('alone')
    send('a', 'alone')
    queue(
      'full',
      [
        ['x-max-length', int(1)],
        ['x-overflow', text('reject-publish')]
      ],
      'alone'
    )
    expect(send('a', 'alone')).toBeGreaterThan(0)
    expect(send('b', 'alone')).toBe(-ERROR_CODES.queueFull)
    await settleOne('full')
    expect(send('b', 'alone')).toBeGreaterThan(0)
    expect(ready('full')).toBe(1)
  })

  it('hands a duplicate to its alternate exchange', () => {
    exchange('twice', 'fanout', [])
    queue('t', [], 'twice')
    exchange('b', 'x-message-deduplication', [
      ['x-cache-size', int(9)],
      ['alternate-exchange', text('twice')]
    ])
    queue('u', [], 'b')
    send('a', 'b')
    send('a', 'b')
    expect([ready('u'), ready('t'), refused()]).toEqual([1, 1, 0])
  })

  it('works behind another exchange, and before one that delays', async () => {
    exchange('front', 'fanout', [])
    exchange('later', 'x-delayed-message', DELAYED)
    for (const [destination, source] of [
      ['once', 'front'],
      ['later', 'once']
    ] as const) {
      bindExchange(rig.broker, rig.vhost, {
        destination,
        source,
        key: '',
        arguments: [],
        principal: null
      })
    }
    queue('l', [], 'later')
    const delayed: FieldTable = [...keyed('a'), ['x-delay', int(1_000)]]
    send(delayed, 'front')
    send(delayed, 'front')
    await rig.flush()
    await again()
    send(delayed, 'front')
    expect([ready('q'), ready('l')]).toEqual([1, 0])
    await rig.pass(1_000)
    await turns(4)
    expect([ready('q'), ready('l'), rig.broker.state.delays.count]).toEqual([1, 1, 0])
  })

  it('knows after a crash every key whose message is there, and no other', async () => {
    for (let i = 0; i < 50; i++) send(`${i}`)
    await rig.flush()
    // On its way to the disk, and lost.
    send('late')
    await again()
    expect(ready()).toBe(50)
    for (let i = 0; i < 50; i++) send(`${i}`)
    expect([ready(), refused()]).toEqual([50, 50])
    send('late')
    expect(ready()).toBe(51)
    expect(rig.recovery.skippedRecords).toBe(0)
  })

  it('knows them from a checkpoint, too, whatever became of the messages', async () => {
    await rig.close()
    await open({ journalLimits: SMALL })
    once('once', { size: 4_000 })
    queue('q', [], 'once')
    const worker = new Worker(1_000_000, true)
    consume(rig.broker, rig.queue('q'), worker, { exclusive: false, priority: 0 })
    for (let i = 0; i < 3_000; i++) {
      send(`${i}`)
      if (i % 250 !== 0) continue
      await rig.flush()
      await rig.journal.checkpoint()
    }
    await rig.flush()
    expect(rig.journal.stats.segmentsRecycled).toBeGreaterThan(0)
    await again()
    for (let i = 0; i < 3_000; i += 7) send(`${i}`)
    expect([ready(), cache().size, cache().nextSequence]).toEqual([0, 3_000, 3_001])
    await again('restart')
    for (let i = 0; i < 3_000; i += 7) send(`${i}`)
    expect(ready()).toBe(0)
    // The order in which they leave is that in which they came.
    for (let i = 0; i < 1_500; i++) send(`more ${i}`)
    expect(cache().has('S499', rig.broker.nowMs)).toBe(false)
    expect(cache().has('S500', rig.broker.nowMs)).toBe(true)
  })

  it('forgets in a crash what it keeps in memory, and all when it is not durable', async () => {
    once('memory', { persistence: 'memory' })
    queue('m', [], 'memory')
    once('passing', { durable: false })
    queue('p', [], 'passing')
    send('a', 'memory')
    send('a', 'memory')
    send('a', 'passing')
    expect([ready('m'), ready('p')]).toEqual([1, 1])
    await rig.flush()
    await again()
    send('a', 'memory')
    expect([ready('m'), rig.vhost.exchanges.has('passing')]).toEqual([2, false])
    expect(cache('memory').exchange).toBe('memory')
  })

  it('does not know a key whose message no disk has, after a crash', async () => {
    once('both')
    queue('passing', [], 'both', false)
    send('a', 'both')
    send('a', 'both')
    await rig.flush()
    await again()
    queue('passing', [], 'both', false)
    send('a', 'both')
    expect(ready('passing')).toBe(1)
  })

  it('lets keys expire by store time: neither a wrong clock nor a restart makes them shorter', async () => {
    once('timed', { ttlMs: 10_000 })
    queue('t', [], 'timed')
    send('a', 'timed')
    await rig.flush()
    rig.clock.setWall(2_700_000_000_000)
    send('a', 'timed')
    rig.clock.setWall(0)
    await again()
    send('a', 'timed')
    expect(ready('t')).toBe(1)
    await rig.pass(10_000)
    send('a', 'timed')
    expect(ready('t')).toBe(2)
  })

  it('ends with its keys', () => {
    send('a')
    expect(rig.broker.state.deduplication.count).toBe(1)
    deleteExchange(rig.broker, rig.vhost, 'once', { ifUnused: false, principal: null })
    expect(rig.broker.state.deduplication.count).toBe(0)
    once()
    bindQueue(rig.broker, rig.vhost, {
      queue: 'q',
      exchange: 'once',
      key: '',
      arguments: [],
      ...NOBODY
    })
    send('a')
    expect(ready()).toBe(2)
  })
})

async function settleOne(name: string): Promise<void> {
  const worker = new Worker(1)
  consume(rig.broker, rig.queue(name), worker, { exclusive: false, priority: 0 })
  await turns(2)
  settle(rig.broker, rig.queue(name), worker.got[0]!.sequence)
}

describe.each([0, 3])('a queue declared with x-message-deduplication, levels up to %s', levels => {
  const table: FieldTable = levels === 0 ? UNIQUE : [...UNIQUE, ['x-max-priority', int(levels)]]
  const count = (name = 'u'): number => {
    const each = rig.queue(name)
    return (each.levels?.used ?? [each]).reduce((sum, level) => sum + level.count, 0)
  }
  const push = (key: string, priority = 0): number =>
    backend.publish('', 'u', 'x', true, keyed(key), priority)

  beforeEach(() => {
    queue('u', table)
  })

  it('takes a key again when the message with it was acknowledged, not when it was delivered', async () => {
    push('a', 2)
    expect(push('a')).toBe(rig.journal.ticket)
    const worker = new Worker(2)
    const u = rig.queue('u')
    consume(rig.broker, u, worker, { exclusive: false, priority: 0 })
    await turns(2)
    push('a', 1)
    requeue(rig.broker, u, worker.got[0]!.sequence)
    await turns(2)
    push('a', 3)
    expect([count(), refused()]).toEqual([1, 3])
    settle(rig.broker, u, worker.got[0]!.sequence)
    push('a', 3)
    push('a', 1)
    expect([count(), refused()]).toEqual([1, 4])
  })

  it('takes it again after a purge, an expiry, and being pushed out', async () => {
    push('a')
    purgeQueue(rig.broker, rig.vhost, 'u', NOBODY)
    push('a')
    expect(count()).toBe(1)
    queue('short', [...table, ['x-message-ttl', int(100)], ['x-max-length', int(1)]])
    const short = (key: string) => backend.publish('', 'short', 'x', true, keyed(key))
    for (const key of ['a', 'b', 'a']) short(key)
    expect([count('short'), refused()]).toEqual([1, 0])
    await rig.pass(200)
    await turns(4)
    short('a')
    expect([count('short'), refused()]).toEqual([1, 0])
  })

  it('knows after a crash what is in it, and only that', async () => {
    for (let i = 0; i < 700; i++) push(`${i}`, i % 4)
    await rig.flush()
    await rig.journal.checkpoint()
    for (let i = 700; i < 800; i++) push(`${i}`, i % 4)
    const worker = new Worker(100)
    consume(rig.broker, rig.queue('u'), worker, { exclusive: false, priority: 0 })
    await turns(2)
    expect(worker.got.length).toBe(100)
    for (const { sequence } of worker.got) settle(rig.broker, rig.queue('u'), sequence)
    await rig.flush()
    push('lost')
    await again()
    expect(count()).toBe(700)
    for (let i = 0; i < 800; i++) push(`${i}`, 1)
    expect([count(), refused()]).toEqual([800, 700])
    push('lost')
    expect(count()).toBe(801)
    await again('restart')
    push('lost')
    expect(count()).toBe(801)
  })

  it('knows what left it while very many wait', async () => {
    await rig.close()
    await open({ limits: { hotEntriesMax: 100 } })
    queue('u', table)
    for (let i = 0; i < 3_000; i++) push(`${i}`, 1)
    await turns(4)
    const worker = new Worker(2_000)
    const u = rig.queue('u')
    consume(rig.broker, u, worker, { exclusive: false, priority: 0 })
    await expect.poll(() => worker.got.length, { timeout: 20_000 }).toBe(2_000)
    for (const [i, { sequence }] of worker.got.entries()) {
      if (i % 2 === 0) settle(rig.broker, u, sequence)
    }
    for (let i = 0; i < 200; i++) requeue(rig.broker, u, worker.got[2 * i + 1]!.sequence)
    for (let i = 3_000; i < 6_000; i++) push(`${i}`, 1)
    await turns(4)
    for (let i = 0; i < 2_000; i++) push(`${i}`, 1)
    expect([count(), refused()]).toEqual([6_000, 1_000])
  })

  it('keeps no more keys than it has messages, about, and none when it is gone', () => {
    const u = rig.queue('u')
    for (let i = 0; i < 500; i++) {
      push(`${i}`, i % 4)
      purgeQueue(rig.broker, rig.vhost, 'u', NOBODY)
    }
    const { deduplication } = rig.broker.state
    expect(deduplication.queues.get(u.id)!.size).toBeLessThan(100)
    expect(deduplication.count).toBe(deduplication.queues.get(u.id)!.size)
    deleteQueue(rig.broker, rig.vhost, 'u', { ifUnused: false, ifEmpty: false, ...NOBODY })
    expect([deduplication.count, deduplication.queues.size]).toEqual([0, 0])
  })
})

it('forgets the oldest keys of whoever has the most, when all together are too many', async () => {
  await rig.close()
  await open({ limits: { deduplicationKeysMax: 100 } })
  once('many')
  once('few')
  queue('q', [], 'many')
  queue('r', [], 'few')
  queue('u', UNIQUE)
  for (let i = 0; i < 5; i++) send(`${i}`, 'few')
  for (let i = 0; i < 300; i++) send(`${i}`, 'many')
  for (let i = 0; i < 10; i++) backend.publish('', 'u', 'x', true, keyed(`${i}`))
  const { deduplication } = rig.broker.state
  expect([deduplication.count, cache('many').size, cache('few').size]).toEqual([100, 85, 5])
  await rig.flush()
  await again('crash', { limits: { deduplicationKeysMax: 50 } })
  expect(rig.broker.state.deduplication.count).toBe(50)
  expect(cache('few').size).toBe(5)
})

it('waits for the first one also where the duplicate goes on to somebody else', () => {
  queue('u', UNIQUE)
  queue('p', [], '', false)
  exchange('f', 'fanout', [])
  for (const name of ['u', 'p']) {
    bindQueue(rig.broker, rig.vhost, {
      queue: name,
      exchange: 'f',
      key: '',
      arguments: [],
      ...NOBODY
    })
  }
  const first = send('a', 'f')
  expect(send('a', 'f')).toBeGreaterThan(first)
  expect([ready('u'), ready('p')]).toEqual([1, 2])
})
