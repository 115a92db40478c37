import { describe, expect, test } from 'vitest'
import { LAZY } from '../../src/journal/journal.ts'
import { SimulatedDisk } from '../support/simulated-disk.ts'
import {
  FOLDER,
  openToy,
  type TestTimers,
  type ToyStore,
  turns
} from '../support/sim-disk-store.ts'

const BLOCK = 65_536

function newDisk(capacityBytes = 2 ** 40): SimulatedDisk {
  return new SimulatedDisk({ seed: 1, capacityBytes })
}

async function putAll(store: ToyStore, from: number, to: number, bytes: number): Promise<void> {
  for (let id = from; id <= to; id++) {
    store.put(id, bytes)
    if (id % 16 === 0) await store.journal.flush()
  }
  await store.journal.flush()
}

async function expectAll(store: ToyStore, ids: readonly number[]): Promise<void> {
  expect([...store.messages.keys()].sort((a, b) => a - b)).toEqual(ids)
  for (const id of ids) expect(await store.read(id), `message ${id}`).toBe('right')
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from + 1 }, (_, i) => from + i)
}

describe('a journal', () => {
  test('reports a record durable after its sync and finds it again after a restart', async () => {
    const disk = newDisk()
    const { store, journal, recovery } = await openToy(disk)
    expect(recovery.isNew).toBe(true)
    const ticket = store.put(1, 100)
    expect(store.durable).toBe(0)
    await journal.flush()
    expect(store.durable).toBe(ticket)
    const again = await openToy(disk.crash())
    expect(again.recovery).toMatchObject({ isNew: false, records: 1, damagedBatches: 0 })
    await expectAll(again.store, [1])
  })

  test('shares one sync among the records of a turn', async () => {
    const { store, journal } = await openToy(newDisk())
    for (let id = 1; id <= 1000; id++) store.put(id, 100)
    await journal.flush()
    expect(journal.stats).toMatchObject({ syncs: 1, records: 1000 })
  })

  test('gathers what comes during a sync into the next one', async () => {
    const disk = newDisk()
    const { store, journal } = await openToy(disk)
    await turns(20)
    let release = () => {}
    const until = new Promise<void>(resolve => {
      release = resolve
    })
    disk.intercept = call => (call === 'sync' ? { until } : null)
    store.put(1, 100)
    await turns()
    for (let id = 2; id <= 50; id++) store.put(id, 100)
    await turns()
    expect(store.durable).toBe(0)
    disk.intercept = null
    release()
    await journal.flush()
    expect(journal.stats).toMatchObject({ syncs: 2, batches: 2 })
  })

  test('writes lazy records within 50 ms, syncs them after a second, and then has no timer', async () => {
    const disk = newDisk()
    const { store, journal, timers } = await openToy(disk)
    await turns(20)
    store.put(1, 100, LAZY)
    await turns()
    expect(journal.stats.batches).toBe(0)
    timers.advance(25)
    await turns()
    expect(journal.stats.batches).toBe(1)
    expect(store.durable).toBe(0)
    timers.advance(975)
    await turns()
    expect(store.durable).toBe(1)
    expect(timers.armed.size).toBe(0)
    const { calls } = disk
    timers.advance(3_600_000)
    await turns()
    expect(disk.calls).toBe(calls)
  })

  test('takes lazy records along with the next one that somebody waits for', async () => {
    const { store, journal } = await openToy(newDisk())
    store.put(1, 100, LAZY)
    store.put(2, 100)
    await journal.flush()
    expect(journal.stats).toMatchObject({ syncs: 1, batches: 1, records: 2 })
  })

  test('never lets a record of up to 32 KiB cross a block, nor an abandoned one be seen', async () => {
    const { store, journal } = await openToy(newDisk())
    for (let id = 1; id <= 40; id++) {
      journal.begin(5000)
      journal.abandon()
      store.put(id, 1 + ((id * 7919) % 32_768) + 4)
      const { offset, bytes } = store.messages.get(id)!
      if (bytes <= 32_768) {
        expect(Math.floor(offset / BLOCK)).toBe(Math.floor((offset + bytes - 1) / BLOCK))
      }
    }
    await journal.flush()
    await expectAll(store, range(1, 40))
  })

  test.each([33 * 1024, 5 * 2 ** 20, 20 * 2 ** 20])('keeps a record of %i bytes', async bytes => {
    const disk = newDisk()
    const { store, journal } = await openToy(disk, { limits: { segmentBytes: 16 * 2 ** 20 } })
    store.put(1, 100)
    store.put(2, bytes)
    store.put(3, 100)
    await journal.flush()
    const again = await openToy(disk.crash(), { limits: { segmentBytes: 16 * 2 ** 20 } })
    expect(again.recovery).toMatchObject({ damagedBatches: 0, cutBytes: 0 })
    await expectAll(again.store, [1, 2, 3])
  })

  test('takes a file of its own away when its record is settled', async () => {
    const disk = newDisk()
    const { store, journal } = await openToy(disk)
    store.put(1, 200_000)
    await journal.flush()
    expect((await disk.list(FOLDER)).some(name => name.startsWith('record-'))).toBe(true)
    store.settle(1)
    // The third begins behind the settlement, with one more before it that does.
    for (let i = 0; i < 3; i++) {
      await journal.checkpoint()
      await putAll(store, 1000 + i * 40, 1039 + i * 40, 10_000)
      await turns(40)
    }
    await turns(40)
    expect((await disk.list(FOLDER)).filter(name => name.startsWith('record-'))).toEqual([])
  })

  test('takes a file of its own that was cut short for want of room, and writes it again', async () => {
    const disk = newDisk()
    const { store, journal, timers } = await openToy(disk)
    await turns(20)
    disk.intercept = (call, path) =>
      call === 'write' && path.includes('record-') ? { bytes: 4096 } : null
    store.put(1, 200_000)
    const flushed = journal.flush()
    await turns(20)
    expect(store).toMatchObject({ durable: 0, level: 'red' })
    disk.intercept = null
    timers.advance(5000)
    await flushed
    expect(store.failures).toEqual([])
    await expectAll((await openToy(disk.crash())).store, [1])
  })

  test('syncs a segment that nobody waited for before it reports what lies behind it', async () => {
    for (let seed = 1; seed <= 5; seed++) {
      const disk = new SimulatedDisk({ seed })
      const { store, journal, timers } = await openToy(disk)
      for (let id = 1; id <= 60; id++) store.put(id, 8000, LAZY)
      // One write for each segment, and no sync.
      for (let i = 0; i < 2; i++) {
        timers.advance(50)
        await turns()
      }
      store.put(61, 100)
      await journal.flush()
      await expectAll((await openToy(disk.crash())).store, range(1, 61))
    }
  })

  test('does not use a segment again while a block of it is being read', async () => {
    const disk = newDisk()
    const { store, journal } = await openToy(disk, { limits: { cacheBytes: BLOCK } })
    await putAll(store, 1, 100, 3000)
    const { segment, offset } = store.messages.get(1)!
    expect(journal.view(segment, offset)).toBe(false)
    let release = () => {}
    const until = new Promise<void>(resolve => {
      release = resolve
    })
    disk.intercept = call => (call === 'read' ? { until } : null)
    const isRead = store.read(1)
    await turns()
    disk.intercept = null
    for (let id = 1; id <= 100; id++) store.settle(id)
    for (let i = 1; i <= 4; i++) {
      await journal.checkpoint()
      await putAll(store, i * 1000, i * 1000 + 160, 3000)
      await turns(40)
    }
    expect(journal.stats.segmentsRecycled).toBe(0)
    release()
    expect(await isRead).toBe('right')
    await journal.checkpoint()
    await putAll(store, 5000, 5160, 3000)
    await turns(40)
    expect(journal.stats.segmentsRecycled).toBeGreaterThan(0)
  })

  test('loads blocks that were evicted, a few ahead, and stays within its cache', async () => {
    const disk = newDisk()
    const { store, journal } = await openToy(disk, {
      limits: { cacheBytes: 4 * BLOCK, checkpointBytes: 2 ** 30 }
    })
    await putAll(store, 1, 400, 3000)
    const { segment, offset } = store.messages.get(1)!
    expect(journal.view(segment, offset)).toBe(false)
    await expectAll(store, range(1, 400))
    expect(journal.stats.cachedBytes).toBeLessThanOrEqual(4 * BLOCK)
    expect(journal.stats.blocksRead).toBeGreaterThan(10)
    expect(disk.counts.get('read')).toBeLessThan(journal.stats.blocksRead / 2)
  })

  test('answers false for a position that is unknown, whether viewed or loaded', async () => {
    const { store, journal } = await openToy(newDisk())
    store.put(1, 100)
    await journal.flush()
    expect(journal.view(99, 100)).toBe(false)
    expect(journal.view(1, 200_000)).toBe(false)
    const answers: boolean[] = []
    const waiter = { onBlock: (_s: number, _o: number, ok: boolean) => answers.push(ok) }
    journal.load(99, 100, waiter)
    journal.load(1, 200_000, waiter)
    expect(answers).toEqual([])
    await turns()
    expect(answers).toEqual([false, false])
  })

  test('reads one block at a time from the disk', async () => {
    const disk = newDisk()
    const { store } = await openToy(disk, { limits: { cacheBytes: BLOCK } })
    await putAll(store, 1, 300, 3000)
    let reading = 0
    let most = 0
    disk.intercept = call => {
      if (call !== 'read') return null
      most = Math.max(most, ++reading)
      return { until: turns(1).then(() => void reading--) }
    }
    expect(await Promise.all(range(1, 300).map(id => store.read(id)))).toContain('right')
    expect(most).toBe(1)
  })

  test('tells the owner to read no publishers above the bound, and to go on at half', async () => {
    const { store, journal } = await openToy(newDisk(), { limits: { pendingBytesMax: 4 * BLOCK } })
    for (let id = 1; id <= 30; id++) store.put(id, 30_000)
    expect(store.isFull).toBe(false) // never within a call
    expect(store.fullCount).toBe(0)
    await turns(1)
    expect(store.fullCount).toBe(1)
    await journal.flush()
    expect(store.isFull).toBe(false)
    expect(store.fullCount).toBe(1)
  })

  test('goes on only when half of the bound is durable', async () => {
    const { store, journal } = await openToy(newDisk(), { limits: { pendingBytesMax: 8 * BLOCK } })
    const pending: unknown[] = []
    store.onBackpressure = full => {
      if (!full) pending.push(Reflect.get(journal, 'pendingBytes'))
    }
    for (let id = 1; id <= 30; id++) store.put(id, 30_000)
    await journal.flush()
    expect(pending).toHaveLength(1)
    expect(pending[0]).toBeLessThanOrEqual(4 * BLOCK)
  })

  test('refuses use against its order as a bug', async () => {
    const { journal } = await openToy(newDisk())
    const at = journal.begin(10)
    expect(() => journal.begin(10)).toThrow(/open already/)
    expect(() => journal.end(8, at + 11, LAZY)).toThrow(/outside/)
    journal.abandon()
    expect(() => journal.end(8, at, LAZY)).toThrow(/outside/)
  })

  test('closes twice as once, with a checkpoint, and needs no replay afterwards', async () => {
    const disk = newDisk()
    const { store, journal } = await openToy(disk)
    await putAll(store, 1, 100, 500)
    await Promise.all([journal.close(), journal.close()])
    const again = await openToy(disk.crash())
    expect(again.recovery).toMatchObject({ usedCheckpoint: true, records: 2, cutBytes: 0 })
    await expectAll(again.store, range(1, 100))
  })
})

describe('a failed write or sync', () => {
  test.each(['write', 'sync'] as const)('%s: is reported once and final', async kind => {
    const disk = newDisk()
    const { store, journal } = await openToy(disk)
    await turns(20)
    disk.intercept = call => (call === kind ? { code: 'EIO' } : null)
    store.put(1, 100)
    await expect(journal.flush()).rejects.toMatchObject({ code: 'failed' })
    disk.intercept = null
    const writes = disk.counts.get('write')
    store.put(2, 100)
    await turns(20)
    expect(store).toMatchObject({ durable: 0, durableAfterFailure: false })
    expect(store.failures).toHaveLength(1)
    expect(journal.failed).toBe(true)
    expect(disk.counts.get('write')).toBe(writes)
    await journal.close()
  })
})

describe('a full disk', () => {
  const CAPACITY = 4 * 2 ** 20

  async function fill(store: ToyStore): Promise<number> {
    let id = 0
    while (store.level !== 'red' && id < 10_000) {
      store.put(++id, 4000)
      if (id % 8 === 0) await store.journal.flush()
      await turns(2)
    }
    return id
  }

  test('is red before an append must wait, and settling and checkpoints go on', async () => {
    const disk = newDisk(CAPACITY)
    const { store, journal } = await openToy(disk)
    const last = await fill(store)
    expect(store.failures).toEqual([])
    await journal.flush()
    for (let id = 1; id < last; id++) store.settle(id, 1)
    await journal.flush()
    await journal.checkpoint()
    const again = await openToy(disk.crash())
    await expectAll(again.store, [last])
  })

  test('becomes green by itself when its messages are settled', async () => {
    const { store, journal, timers } = await openToy(newDisk(CAPACITY))
    const last = await fill(store)
    for (let id = 1; id <= last; id++) store.settle(id, 1)
    await journal.flush()
    for (let i = 0; i < 50 && store.level !== 'green'; i++) {
      timers.advance(5000)
      await turns(20)
    }
    expect(store.level).toBe('green')
    expect(store.failures).toEqual([])
    await putAll(store, 50_001, 50_050, 4000)
    await expectAll(store, range(50_001, 50_050))
  })

  test('holds an append back when even the reserve is used, until there is room', async () => {
    const disk = newDisk(CAPACITY)
    const { store, journal, timers } = await openToy(disk)
    const last = await fill(store)
    for (let id = last + 1; id <= last + 400; id++) store.put(id, 4000)
    const flushed = journal.flush()
    await turns(100)
    expect(store.durable).toBeLessThan(journal.ticket)
    expect(store.failures).toEqual([])
    disk.capacityBytes *= 4
    timers.advance(5000)
    await flushed
    expect(store.durable).toBeGreaterThanOrEqual(last + 400)
    await expectAll(store, range(1, last + 400))
  })

  test('that refuses a new segment is an alarm, not a failure', async () => {
    const disk = newDisk()
    const { store, journal, timers } = await openToy(disk)
    await turns(50)
    const made = new Set((await disk.list(FOLDER)).map(name => `${FOLDER}/${name}`))
    disk.intercept = (call, path) =>
      call === 'write' && !made.has(path) ? { code: 'ENOSPC' } : null
    await putAll(store, 1, 100, 4000)
    await turns(20)
    expect(store).toMatchObject({ level: 'red', failures: [] })
    disk.intercept = null
    timers.advance(5000)
    await turns(50)
    expect(store.level).toBe('green')
    await putAll(store, 101, 500, 4000)
    await expectAll(store, range(1, 500))
    expect(journal.failed).toBe(false)
  })

  test('leaves room for three segments of log from the first start on', async () => {
    const disk = newDisk()
    const { store, journal } = await openToy(disk)
    await turns(50)
    disk.capacityBytes -= (await disk.space(FOLDER)).freeBytes
    await putAll(store, 1, 150, 4000)
    for (let id = 2; id <= 150; id++) store.settle(id)
    await journal.checkpoint()
    expect(store.failures).toEqual([])
    await expectAll((await openToy(disk.crash())).store, [1])
  })

  test('can be closed, and opened again', async () => {
    const disk = newDisk(CAPACITY)
    const { store, journal } = await openToy(disk)
    const last = await fill(store)
    await journal.flush()
    for (let id = last + 1; id <= last + 400; id++) store.put(id, 4000)
    await turns(50)
    const { durable } = store
    await journal.close()
    const again = await openToy(disk.crash())
    expect(again.journal.ticket).toBeGreaterThanOrEqual(durable)
    for (let id = 1; id <= last; id++) expect(await again.store.read(id)).toBe('right')
  })
})

describe('store time', () => {
  const DAY = 24 * 3600 * 1000

  async function storeTimeAfter(gap: (wall: number) => number): Promise<number> {
    const disk = newDisk()
    let wall = 2_000 * DAY
    const options = { wallMs: () => wall }
    const { store, journal, timers } = await openToy(disk, options)
    timers.advance(60_000)
    store.put(1, 10)
    await journal.flush()
    const before = journal.storeTime()
    wall = gap(wall)
    const again = await openToy(disk.crash(), options)
    return again.journal.storeTime() - before
  }

  test('gains what passed between two starts', async () => {
    expect(await storeTimeAfter(wall => wall + 5000)).toBe(5000)
  })

  test('gains at most 30 days', async () => {
    expect(await storeTimeAfter(wall => wall + 400 * DAY)).toBe(30 * DAY)
  })

  test('gains nothing when the wall clock went back', async () => {
    expect(await storeTimeAfter(() => 1000)).toBe(0)
  })

  test('gains nothing while the clock is behind the newest time seen, over a boot in 1970', async () => {
    const disk = newDisk()
    let wall = 2_000 * DAY
    const options = { wallMs: () => wall }
    const first = await openToy(disk, options)
    first.store.put(1, 10)
    await first.journal.close()
    wall = 0
    const second = await openToy(disk.crash(), options)
    second.store.put(2, 10)
    await second.journal.close()
    const before = second.journal.storeTime()
    wall = 1_000 * DAY
    const third = await openToy(disk.crash(), options)
    expect(third.journal.storeTime()).toBe(before)
  })

  test('does not follow jumps of the wall clock while it runs', async () => {
    let wall = 5_000
    const { journal, timers } = await openToy(newDisk(), { wallMs: () => wall })
    const before = journal.storeTime()
    wall += 400 * DAY
    ;(timers as TestTimers).now += 250
    expect(journal.storeTime() - before).toBe(250)
  })
})
