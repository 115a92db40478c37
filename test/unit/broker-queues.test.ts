import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { cancel, consume } from '../../src/broker/consumers.ts'
import { bindQueue, unbindQueue } from '../../src/broker/bindings.ts'
import { declareExchange, deleteExchange } from '../../src/broker/exchanges.ts'
import {
  connectionClosed,
  type DeclareQueue,
  declareQueue,
  deleteQueue,
  purgeQueue
} from '../../src/broker/queues.ts'
import { ready } from '../../src/broker/deliver.ts'
import { get } from '../../src/broker/get.ts'
import { subscribe } from '../../src/broker/sessions.ts'
import { inboundTicket, received, reject, requeue, settle } from '../../src/broker/settle.ts'
import { cool } from '../../src/broker/spill.ts'
import { ERROR_CODES } from '../../src/core/errors.ts'
import type { FieldTable } from '../../src/core/field-table.ts'
import { COLD, type Queue } from '../../src/core/queue.ts'
import { Backend, Client, openRig, type Rig, turns, Worker } from '../support/broker-rig.ts'
import { bindTo, declaredQueue } from '../support/declared-queue.ts'
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

function declare(name: string, fields: Partial<DeclareQueue> = {}): Queue {
  return declaredQueue(rig, name, fields)
}

function bind(queue: string, exchange: string, key: string): void {
  bindTo(rig, queue, exchange, key)
}

function consumer(queue: Queue, credit?: number, noAck = false): Worker {
  const worker = new Worker(credit, noAck)
  consume(rig.broker, queue, worker, { exclusive: false, priority: 0 })
  return worker
}

const codeOf = (verb: () => unknown): string => {
  try {
    verb()
  } catch (error) {
    return (error as { code: string }).code
  }
  return 'none'
}

const limited = (max: number, overflow: string): FieldTable => [
  ['x-max-length', { type: 'I', value: max }],
  ['x-overflow', { type: 'S', value: overflow }]
]

describe('a queue', () => {
  it('gives its messages to its consumers in turn, and again what was put back', async () => {
    const queue = declare('q')
    const workers = [consumer(queue), consumer(queue)]
    await turns()
    for (const text of ['1', '2', '3', '4']) backend.publish('', 'q', text)
    await turns()
    expect(workers.map(({ payloads }) => payloads)).toEqual([
      ['1', '3'],
      ['2', '4']
    ])
    for (const worker of workers) worker.credit = 0
    requeue(rig.broker, queue, workers[0]!.got[0]!.sequence)
    reject(rig.broker, queue, workers[1]!.got[0]!.sequence)
    expect(rig.dropped('rejected')).toBe(1)
    const third = consumer(queue)
    await turns()
    expect(third.got).toEqual([expect.objectContaining({ payload: '1', isRedelivered: true })])
  })

  it('drops its oldest at its bound, or refuses the new one', () => {
    declare('head', { arguments: limited(2, 'drop-head') })
    declare('reject', { arguments: limited(2, 'reject-publish') })
    for (const text of ['1', '2', '3']) backend.publish('', 'head', text)
    expect(rig.queue('head').readyCount).toBe(2)
    expect(rig.dropped('queue_full')).toBe(1)
    expect(backend.publish('', 'reject', '1')).toBeGreaterThan(0)
    expect(backend.publish('', 'reject', '2')).toBeGreaterThan(0)
    expect(backend.publish('', 'reject', '3')).toBe(-ERROR_CODES.queueFull)
    expect(rig.queue('reject').readyCount).toBe(2)
    expect(rig.dropped('queue_full')).toBe(2)
  })

  it('that refuses a QoS 2 message leaves its packet identifier free', () => {
    declare('q', { arguments: limited(1, 'reject-publish') })
    declare('other')
    bind('q', 'amq.topic', '#')
    bind('other', 'amq.topic', '#')
    const client = new Client(rig, 'p').open({ expiry: 60 })
    expect(client.publish('a', '1', { qos: 2, packetId: 1 })).toBeGreaterThan(0)
    expect(client.publish('a', '2', { qos: 2, packetId: 2 })).toBe(-ERROR_CODES.queueFull)
    expect(inboundTicket(client.session!, 2)).toBe(-1)
  })

  it('keeps over a restart what it must, exclusive and passing queues are gone', async () => {
    const owner = {}
    declare('durable')
    declare('passing', { durable: false })
    const mine = declare('mine', { exclusive: true, owner })
    expect(mine.isDurable).toBe(false)
    backend.publish('', 'durable', 'x', false)
    backend.publish('', 'passing', 'x')
    expect(codeOf(() => declare('mine', { exclusive: true, owner: {} }))).toBe('locked')
    expect(codeOf(() => declare('durable', { durable: false }))).toBe('preconditionFailed')
    expect(codeOf(() => declare('amq.x'))).toBe('reserved')
    connectionClosed(rig.broker, owner)
    expect(rig.queue('mine')).toBeUndefined()
    await rig.flush()
    rig = await rig.crash()
    expect([...rig.vhost.queues.keys()]).toEqual(['durable'])
    const worker = consumer(rig.queue('durable'))
    await turns(6)
    expect(worker.got).toEqual([expect.objectContaining({ payload: 'x', isRedelivered: true })])
  })

  it('that is auto-delete goes with its last consumer, and an exchange with its last binding', () => {
    const queue = declare('q', { autoDelete: true })
    for (const name of ['e', 'kept']) {
      declareExchange(rig.broker, rig.vhost, {
        name,
        kind: 'fanout',
        passive: false,
        durable: true,
        autoDelete: name === 'e',
        internal: false,
        arguments: [],
        principal: null
      })
      bind('q', name, '')
    }
    const workers = [consumer(queue), consumer(queue)]
    cancel(rig.broker, queue, workers[0]!)
    expect(rig.queue('q')).toBe(queue)
    cancel(rig.broker, queue, workers[1]!)
    expect(rig.queue('q')).toBeUndefined()
    expect(rig.vhost.exchanges.has('e')).toBe(false)
    expect(rig.vhost.exchanges.has('kept')).toBe(true)
    deleteExchange(rig.broker, rig.vhost, 'kept', { ifUnused: true, principal: null })
    expect(rig.vhost.bindingCount).toBe(0)
  })

  it('tells its consumers when it is deleted, and counts what it held', () => {
    const queue = declare('q')
    const worker = consumer(queue, 0)
    backend.publish('', 'q', 'x')
    const request = { ifUnused: true, ifEmpty: false, principal: null, owner: null }
    expect(codeOf(() => deleteQueue(rig.broker, rig.vhost, 'q', request))).toBe(
      'preconditionFailed'
    )
    deleteQueue(rig.broker, rig.vhost, 'q', { ...request, ifUnused: false })
    expect(worker.isCancelled).toBe(true)
    expect(rig.dropped('queue_deleted')).toBe(1)
    expect(backend.publish('', 'q', 'y')).toBe(0)
    expect(rig.broker.matched).toBe(false)
  })

  it('keeps what was delivered when it is purged, also over a crash', async () => {
    const queue = declare('q')
    for (let i = 1; i <= 30; i++) backend.publish('', 'q', `${i}`)
    // A replay finds it cold, with what was delivered out of it since.
    cool(rig.broker, queue, queue.chunks[0]!)
    const worker = consumer(queue, 2)
    await turns()
    expect(worker.payloads).toEqual(['1', '2'])
    purgeQueue(rig.broker, rig.vhost, 'q', { principal: null, owner: null })
    expect([queue.readyCount, queue.unackedCount]).toEqual([0, 2])
    expect(rig.dropped('purged')).toBe(28)
    await rig.flush()
    rig = await rig.crash()
    expect(rig.queue('q').readyCount).toBe(2)
    expect(chargedBytes(rig.broker)).toEqual(liveBytes(rig.broker, false))
    const again = consumer(rig.queue('q'))
    await turns(6)
    expect(again.payloads).toEqual(worker.payloads)
  })
})

async function drain(name: string): Promise<string[]> {
  const queue = rig.queue(name)
  const worker = consumer(queue, 1_000_000, true)
  for (let left = 20_000; left > 0 && queue.readyCount > 0; left--) await turns(1)
  cancel(rig.broker, queue, worker)
  return worker.payloads
}

function sumOf(bytes: Map<number, number>): number {
  return [...bytes.values()].reduce((sum, each) => sum + each, 0)
}

describe('an answer that changes nothing', () => {
  const nobody = { principal: null, owner: null }

  const answers = (): Record<string, number> => {
    const { broker, vhost } = rig
    const queue = { name: 'q', passive: false, durable: true, exclusive: false, autoDelete: false }
    const exchange = { name: 'e', kind: 'fanout', passive: false, durable: true, internal: false }
    const flags = { ...nobody, arguments: [] }
    const binding = { ...flags, queue: 'q', exchange: 'e', key: 'k' }
    const deleting = { ...nobody, ifUnused: false, ifEmpty: false }
    return {
      declare: declareQueue(broker, vhost, { ...flags, ...queue }).ticket,
      passive: declareQueue(broker, vhost, { ...flags, ...queue, passive: true }).ticket,
      exchange: declareExchange(broker, vhost, { ...flags, ...exchange, autoDelete: false }).ticket,
      passiveExchange: declareExchange(broker, vhost, {
        ...flags,
        ...exchange,
        autoDelete: false,
        passive: true
      }).ticket,
      bind: bindQueue(broker, vhost, binding).ticket,
      unbind: unbindQueue(broker, vhost, { ...binding, queue: 'gone' }).ticket,
      purge: purgeQueue(broker, vhost, 'q', nobody).ticket,
      delete: deleteQueue(broker, vhost, 'gone', deleting).ticket,
      deleteExchange: deleteExchange(broker, vhost, 'gone', deleting).ticket
    }
  }

  it('waits for what may have been changed just before, and not for what nobody waits for', async () => {
    const queue = declare('q')
    answers()
    backend.publish('', 'q', 'x')
    deleteQueue(rig.broker, rig.vhost, declare('gone').name, {
      ...nobody,
      ifUnused: false,
      ifEmpty: false
    })
    const { journal } = rig
    expect(purgeQueue(rig.broker, rig.vhost, 'q', nobody).ticket).toBe(journal.ticket)
    const before = journal.ticket
    expect(new Set(Object.values(answers()))).toEqual(new Set([before]))
    expect(before).toBeGreaterThan(journal.durableTicket)
    await rig.flush()
    backend.publish('', 'q', 'y', false)
    consumer(queue, 10, true)
    await turns(1)
    expect(journal.ticket).toBeGreaterThan(journal.durableTicket)
    for (const [name, ticket] of Object.entries(answers())) {
      expect(ticket, name).toBeLessThanOrEqual(journal.durableTicket)
    }
  })
})

describe('the log', () => {
  it('is kept short by moving what stays, waiting or retained', async () => {
    await rig.close()
    const bytes = 256 * 1024
    const journalLimits = { segmentBytes: bytes, checkpointBytes: bytes, deadBytesMax: bytes / 2 }
    await open({ journalLimits })
    new Client(rig, 'p').open().publish('r', 'value', { retain: true, qos: 1 })
    const kept = declare('kept')
    backend.publish('', 'kept', 'first')
    consumer(declare('q'), 1_000_000, true)
    for (let i = 0; i < 4_000; i++) {
      backend.publish('', 'q', 'x'.repeat(1_000))
      if (i % 50 === 0) await rig.flush()
    }
    await rig.flush()
    await turns(100)
    const { stats } = rig.journal
    expect(stats.segmentsRecycled).toBeGreaterThan(5)
    expect(stats.segments).toBeLessThan(12)
    expect(rig.vhost.retained.get('r')!.segment).toBeGreaterThan(1)
    expect(kept.find(kept.after(0))).toBe(true)
    expect(kept.segment).toBeGreaterThan(1)
  })

  it('takes what ends with the process beyond its share of memory, and forgets it at a start', async () => {
    await rig.close()
    await open({ limits: { memoryBytesMax: 128 * 1024 } })
    const queue = declare('q', { durable: false })
    const payloads = Array.from({ length: 400 }, (_, i) => `${i} ${'x'.repeat(1_000)}`)
    for (const payload of payloads) backend.publish('', 'q', payload)
    expect(rig.broker.slabs.bytes).toBeLessThan(256 * 1024)
    expect(rig.journal.ticket).toBeGreaterThan(200)
    const worker = consumer(queue, 400, true)
    await turns(50)
    expect(worker.payloads).toEqual(payloads)
    for (const payload of payloads) backend.publish('', 'q', payload)
    await rig.flush()
    rig = await rig.crash()
    expect(rig.recovery.records).toBeGreaterThan(400)
    expect(rig.vhost.queues.has('q')).toBe(false)
    expect(rig.refused).toEqual([])
    expect(sumOf(chargedBytes(rig.broker))).toBe(0)
  })

  it('gets a checkpoint in pieces, between which others have their turn', async () => {
    for (let i = 0; i < 50; i++) declare(`q${i}`)
    await rig.flush()
    const before = rig.journal.ticket
    const isDone = rig.journal.checkpoint()
    await turns(2)
    expect(rig.journal.ticket - before).toBeLessThan(40)
    await isDone
    expect(rig.journal.ticket - before).toBeGreaterThan(50)
  })
})

describe('a long queue', () => {
  const COUNT = 50_000
  const limits = { hotEntriesMax: 10_000 }
  const journalLimits = { segmentBytes: 1024 * 1024, cacheBytes: 1024 * 1024 }

  async function fill(names: readonly string[], count: number): Promise<void> {
    for (let i = 0; i < count; i++) {
      backend.publish(names.length > 1 ? 'amq.topic' : '', names[0]!, `${i}`)
      if (i % 2_000 === 0) await turns(2)
    }
    await turns(4)
  }

  it('keeps few entries in memory, and its order, also over a restart', async () => {
    await rig.close()
    await open({ limits, journalLimits })
    const queue = declare('q')
    await fill(['q'], COUNT)
    expect(queue.readyCount).toBe(COUNT)
    expect(queue.hotEntries).toBeLessThan(14_000)
    const expected = Array.from({ length: COUNT }, (_, i) => `${i}`)
    const bytes = expected.reduce((sum, text) => sum + text.length, 0)
    expect(queue.readyBytes).toBe(bytes)
    const half = consumer(queue, COUNT / 2, true)
    for (let left = 2_000; left > 0 && half.credit > 0; left--) await turns(1)
    expect(half.payloads).toEqual(expected.slice(0, COUNT / 2))
    cancel(rig.broker, queue, half)
    rig = await rig.restart()
    expect(rig.queue('q').readyCount).toBe(COUNT / 2)
    expect(rig.queue('q').hotEntries).toBeLessThan(14_000)
    expect(chargedBytes(rig.broker)).toEqual(liveBytes(rig.broker, false))
    expect(await drain('q')).toEqual(expected.slice(COUNT / 2))
    expect(rig.queue('q').readyBytes).toBe(0)
    expect(sumOf(chargedBytes(rig.broker))).toBe(0)
  }, 30_000)

  it('read back after a crash without a checkpoint is the same', async () => {
    await rig.close()
    await open({ limits: { hotEntriesMax: 1_000 }, journalLimits })
    declare('q')
    await fill(['q'], 20_000)
    const taken = consumer(rig.queue('q'), 9_000, true)
    for (let left = 2_000; left > 0 && taken.credit > 0; left--) await turns(1)
    await rig.flush()
    rig = await rig.crash()
    expect(rig.queue('q').readyCount).toBe(11_000)
    const texts = await drain('q')
    expect(texts[0]).toBe('9000')
    expect(texts).toHaveLength(11_000)
    await rig.flush()
    rig = await rig.crash()
    // Read from cold chunks once: all that was settled is known, and charged to nobody.
    expect(rig.queue('q').count).toBe(0)
    expect(rig.queue('q').readyBytes).toBe(0)
    expect(sumOf(chargedBytes(rig.broker))).toBe(0)
  }, 30_000)

  it('can be purged while its next entries are being read', async () => {
    await rig.close()
    await open({
      limits: { hotEntriesMax: 1_000 },
      journalLimits: { ...journalLimits, cacheBytes: 300_000 }
    })
    const queue = declare('q')
    await fill(['q'], 20_000)
    await rig.flush()
    const worker = consumer(queue, 100_000, true)
    let goOn = () => {}
    rig.disk.intercept = call => {
      if (call !== 'read') return null
      const until = new Promise<void>(resolve => {
        goOn = resolve
      })
      return { until }
    }
    for (let left = 2_000; left > 0; left--) {
      await turns(2)
      const { isLoading } = queue.attached as { isLoading: boolean }
      if (isLoading && queue.next() === COLD) break
      goOn()
    }
    expect(queue.next()).toBe(COLD)
    rig.disk.intercept = null
    setImmediate(goOn)
    purgeQueue(rig.broker, rig.vhost, 'q', { principal: null, owner: null })
    await turns(20)
    expect(queue.count).toBe(0)
    expect(queue.hotEntries).toBeLessThanOrEqual(64)
    expect(sumOf(chargedBytes(rig.broker))).toBe(0)
    backend.publish('', 'q', 'next')
    await turns(4)
    expect(worker.payloads.at(-1)).toBe('next')
  })

  it('answers get, and gives up what is damaged, counted', async () => {
    await rig.close()
    await open({ limits: { hotEntriesMax: 1_000 } })
    const queue = declare('q')
    await fill(['q'], 12_000)
    const chunk = queue.chunks.find(({ words }) => words === null)!
    // Its position names another record now.
    chunk.offset = queue.find(1) ? queue.offset : 0
    chunk.segment = queue.segment
    const live = chunk.live
    const got: string[] = []
    const taker = {
      onGot: (message: { source: Buffer; payloadStart: number; payloadEnd: number } | null) => {
        if (message === null) return
        got.push(message.source.toString('utf8', message.payloadStart, message.payloadEnd))
      }
    }
    for (let i = 0; i < 12_000 - live; i++) {
      get(rig.broker, queue, taker, true)
      if (i % 500 === 0) await turns(4)
    }
    await turns(10)
    expect(new Set(got).size).toBe(12_000 - live)
    expect(rig.dropped('damaged')).toBe(live)
    expect(queue.count).toBe(0)
  })

  it('remembers a PUBREC for what is cold again after a crash', async () => {
    const client = new Client(rig, 'c').open({ expiry: 600 })
    subscribe(rig.broker, client.session!, 'a', {
      qos: 2,
      noLocal: false,
      retainAsPublished: false,
      retainHandling: 2,
      identifier: 0
    })
    client.close()
    const publisher = new Client(rig, 'p').open()
    for (let i = 0; i < 10; i++) publisher.publish('a', `${i}`, { qos: 2, packetId: 0 })
    const { queue } = rig.session('c')
    cool(rig.broker, queue, queue.chunks[0]!)
    await rig.flush()
    const online = new Client(rig, 'c').open({ expiry: 600 })
    await turns(4)
    const [first, second] = online.got
    received(rig.broker, online.session!, first!.sequence)
    received(rig.broker, online.session!, second!.sequence)
    settle(rig.broker, queue, second!.sequence)
    await rig.flush()
    rig = await rig.crash()
    expect(rig.session('c').queue.unackedCount).toBe(1)
    expect(rig.session('c').queue.readyCount).toBe(8)
    const again = new Client(rig, 'c').open({ expiry: 600 })
    await turns(6)
    expect(again.resent).toEqual([first!.sequence])
    expect(again.payloads).toEqual(['2', '3', '4', '5', '6', '7', '8', '9'])
    expect(rig.session('c').queue.readyBytes).toBe(0)
    ready(rig.broker, rig.session('c').queue)
  })
})
