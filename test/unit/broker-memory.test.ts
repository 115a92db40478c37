import { afterEach, describe, expect, it } from 'vitest'
import { ready } from '../../src/broker/deliver.ts'
import { subscribe } from '../../src/broker/sessions.ts'
import { settle } from '../../src/broker/settle.ts'
import { cool } from '../../src/broker/spill.ts'
import type { FieldTable } from '../../src/core/field-table.ts'
import type { Queue } from '../../src/core/queue.ts'
import { Backend, Client, openRig, type Rig, turns } from '../support/broker-rig.ts'
import { declaredQueue } from '../support/declared-queue.ts'

let rig: Rig

afterEach(async () => {
  await rig.close()
})

/** A client with a session that lasts, with one subscription, gone again. */
function away(clientId: string, filter = clientId): void {
  const client = new Client(rig, clientId).open({ expiry: 600 })
  subscribe(rig.broker, client.session!, filter, {
    qos: 1,
    noLocal: false,
    retainAsPublished: false,
    retainHandling: 2,
    identifier: 0
  })
  client.close()
}

const sessionQueues = (): Queue[] => [...rig.broker.state.sessions.values()].map(one => one.queue)

/** Bytes of all entries that are in memory. */
function entryBytes(queues: readonly Queue[]): number {
  let bytes = 0
  for (const queue of queues) {
    for (const { words } of queue.chunks) bytes += words?.byteLength ?? 0
  }
  return bytes
}

/** All that waits for a session, taken and acknowledged by its client. */
async function drain(clientId: string): Promise<string[]> {
  const client = new Client(rig, clientId).open({ expiry: 600 })
  for (let seen = 0, idle = 0; idle < 20; ) {
    await turns(2)
    idle = client.got.length > seen ? 0 : idle + 1
    for (; seen < client.got.length; seen++) {
      settle(rig.broker, client.session!.queue, client.got[seen]!.sequence)
    }
    ready(rig.broker, client.session!.queue)
  }
  client.close()
  return client.payloads
}

describe('what waits in very many queues of middling length', () => {
  const SESSIONS = 40
  const MESSAGES = 700
  const ENTRIES_MAX = 6_000
  const names = Array.from({ length: SESSIONS }, (_, i) => `c${i}`)

  async function fill(): Promise<void> {
    const limits = { hotEntriesMax: ENTRIES_MAX }
    rig = await openRig({ limits, journalLimits: { segmentBytes: 1024 * 1024 } })
    for (const name of names) away(name)
    const publisher = new Client(rig, 'p').open()
    for (let i = 0; i < MESSAGES; i++) {
      for (const name of names) publisher.publish(name, `${name} ${i}`, { qos: 1 })
      await turns(1)
    }
    publisher.close()
    await rig.flush()
  }

  /** So long each may be without being asked for anything, beside what the bound lets all have. */
  const expectFewInMemory = () => {
    const queues = sessionQueues()
    const hot = queues.reduce((sum, queue) => sum + queue.hotEntries, 0)
    expect(hot).toBeLessThan(ENTRIES_MAX + SESSIONS * 256)
    expect(entryBytes(queues)).toBeLessThan((ENTRIES_MAX + SESSIONS * 256) * 16 * 2)
  }

  const expected = (name: string) => Array.from({ length: MESSAGES }, (_, i) => `${name} ${i}`)

  it('is for the most part on the disk, and delivered in order', async () => {
    await fill()
    expect(sessionQueues().every(queue => queue.readyCount === MESSAGES)).toBe(true)
    expectFewInMemory()
    for (const name of names) expect(await drain(name)).toEqual(expected(name))
    expect(sessionQueues().every(queue => queue.count === 0)).toBe(true)
  }, 30_000)

  it('is there after a crash, in order, and as little of it in memory', async () => {
    await fill()
    rig = await rig.crash()
    await turns(20)
    expectFewInMemory()
    for (const name of names) expect(await drain(name)).toEqual(expected(name))
  }, 30_000)
})

describe('a bounded queue', () => {
  it('keeps its bound, counted and in order, also when its oldest lie on the disk', async () => {
    rig = await openRig({
      limits: { hotEntriesMax: 1_000 },
      journalLimits: { segmentBytes: 1024 * 1024, cacheBytes: 1024 * 1024 }
    })
    const table: FieldTable = [['x-max-length', { type: 'I', value: 10_000 }]]
    const queue = declaredQueue(rig, 'q', { arguments: table })
    const backend = new Backend(rig)
    for (let i = 0; i < 40_000; i++) {
      backend.publish('', 'q', `${i}`)
      if (i % 500 === 0) await turns(3)
    }
    await turns(40)
    expect(queue.readyCount).toBe(10_000)
    expect(rig.dropped('queue_full')).toBe(30_000)
    expect(queue.hotEntries).toBeLessThan(8_000)
  }, 30_000)
})

describe('a session whose client is away', () => {
  it('keeps nothing that only its deliveries need', async () => {
    rig = await openRig()
    away('c')
    expect(rig.session('c').queue.attached).toBeNull()
    const publisher = new Client(rig, 'p').open()
    publisher.publish('c', 'later', { qos: 1 })
    expect(await drain('c')).toEqual(['later'])
  })

  it('is told that a message may have come before, also when its entry is cold after a crash', async () => {
    rig = await openRig()
    away('c')
    const publisher = new Client(rig, 'p').open()
    for (let i = 0; i < 3; i++) publisher.publish('c', `${i}`, { qos: 1 })
    const { queue } = rig.session('c')
    cool(rig.broker, queue, queue.chunks[0]!)
    const client = new Client(rig, 'c').open({ expiry: 600 })
    await turns(4)
    expect(client.got.map(({ isRedelivered }) => isRedelivered)).toEqual([false, false, false])
    await rig.flush()
    rig = await rig.crash()
    const again = new Client(rig, 'c').open({ expiry: 600 })
    await turns(10)
    expect(again.payloads).toEqual(['0', '1', '2'])
    expect(again.got.map(({ isRedelivered }) => isRedelivered)).toEqual([true, true, true])
  })
})

describe('a drained backlog', () => {
  it('gives its segments back though nothing more is written', async () => {
    const segmentBytes = 256 * 1024
    rig = await openRig({ journalLimits: { segmentBytes, checkpointBytes: segmentBytes } })
    away('c')
    const publisher = new Client(rig, 'p').open()
    const payload = 'x'.repeat(1_000)
    for (let i = 0; i < 10_000; i++) {
      publisher.publish('c', payload, { qos: 1 })
      if (i % 50 === 0) await turns(2)
    }
    await rig.flush()
    const { stats } = rig.journal
    const before = stats.segmentsRecycled
    expect(await drain('c')).toHaveLength(10_000)
    await rig.flush()
    for (let left = 3_000; left > 0 && stats.segmentsRecycled - before < 31; left--) await turns(1)
    // 10 MB lay in 40 segments or so; what two checkpoints need may stay.
    expect(stats.segmentsRecycled - before).toBeGreaterThan(30)
  }, 30_000)
})
