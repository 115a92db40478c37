/** Which pages group commit writes and when: a page again until its sync begins, and beside a sync that takes long. */
import { describe, expect, test } from 'vitest'
import { LAZY } from '../../src/journal/journal.ts'
import { openToy, type ToyStore, turns } from '../support/sim-disk-store.ts'
import { SimulatedDisk } from '../support/simulated-disk.ts'

function newDisk(): SimulatedDisk {
  return new SimulatedDisk({ seed: 1 })
}

function held(): { promise: Promise<void>; release: () => void } {
  let release = () => {}
  const promise = new Promise<void>(resolve => {
    release = resolve
  })
  return { promise, release }
}

async function expectAll(store: ToyStore, ids: readonly number[]): Promise<void> {
  expect([...store.messages.keys()].sort((a, b) => a - b)).toEqual(ids)
  for (const id of ids) expect(await store.read(id), `message ${id}`).toBe('right')
}

describe('group commit', () => {
  test('writes a page again, with what comes before its sync, and never after', async () => {
    const disk = newDisk()
    const { store, journal, timers } = await openToy(disk)
    await turns(20)
    for (const id of [1, 2]) {
      store.put(id, 100, LAZY)
      timers.advance(25)
      await turns()
    }
    const rewritten = disk.counts.get('write')
    store.put(3, 100)
    await journal.flush()
    expect(journal.stats).toMatchObject({ batches: 1, records: 3, syncs: 1 })
    expect(disk.counts.get('write')).toBe(rewritten! + 1)
    store.put(4, 100, LAZY)
    timers.advance(25)
    await turns()
    const page = (id: number) => store.messages.get(id)!.offset >>> 12
    expect([1, 2, 3, 4].map(page)).toEqual([0, 0, 0, 1])
    const again = await openToy(disk.restart())
    await expectAll(again.store, [1, 2, 3, 4])
  })

  test.each([40_000, 5 * 2 ** 20])(
    'starts a page of its own behind a record of %i bytes',
    async bytes => {
      const disk = newDisk()
      const { store, journal, timers } = await openToy(disk)
      await turns(20)
      store.put(1, 100, LAZY)
      timers.advance(25)
      await turns()
      store.put(2, bytes, LAZY)
      store.put(3, 100)
      await journal.flush()
      const again = await openToy(disk.restart())
      expect(again.recovery).toMatchObject({ damagedBatches: 0, cutBytes: 0 })
      await expectAll(again.store, [1, 2, 3])
      expect(again.journal.ticket).toBe(journal.ticket)
    }
  )

  test('does not write a page again of which a sync is under way', async () => {
    const disk = newDisk()
    const { store, journal, timers } = await openToy(disk)
    await turns(20)
    const { promise, release } = held()
    disk.intercept = call => (call === 'sync' ? { until: promise } : null)
    store.put(1, 100, LAZY)
    timers.advance(25)
    await turns()
    timers.advance(975)
    await turns()
    store.put(2, 100, LAZY)
    store.put(3, 100)
    disk.intercept = null
    release()
    await journal.flush()
    expect(store.messages.get(1)!.offset >>> 12).not.toBe(store.messages.get(2)!.offset >>> 12)
    expect(journal.stats).toMatchObject({ batches: 2, records: 3, syncs: 2 })
  })

  test('writes what nobody waits for beside a sync that takes long', async () => {
    const disk = newDisk()
    const { store, timers } = await openToy(disk)
    await turns(20)
    disk.intercept = call => (call === 'sync' ? { until: new Promise(() => undefined) } : null)
    store.put(1, 100)
    await turns()
    timers.advance(25) // nothing has come yet
    await turns()
    for (const id of [2, 3]) {
      store.put(id, 100, LAZY)
      timers.advance(25)
      await turns()
    }
    expect(store.durable).toBe(0)
    const again = await openToy(disk.restart())
    await expectAll(again.store, [1, 2, 3])
  })

  test('makes what was written beside a sync durable with the next one', async () => {
    const disk = newDisk()
    const { store, journal, timers } = await openToy(disk)
    await turns(20)
    const { promise, release } = held()
    disk.intercept = call => (call === 'sync' ? { until: promise } : null)
    store.put(1, 100)
    await turns()
    store.put(2, 100, LAZY)
    timers.advance(25)
    await turns()
    // Only the one beside: the other is a write and its sync in one call, and under way.
    expect(journal.stats.batches).toBe(1)
    disk.intercept = null
    release()
    await turns()
    expect(journal.stats.batches).toBe(2)
    expect(store.durable).toBe(1)
    timers.advance(1_000)
    await turns()
    expect(store.durable).toBe(2)
    expect(timers.armed.size).toBe(0)
    const again = await openToy(disk.crash())
    await expectAll(again.store, [1, 2])
  })
})
