import { describe, expect, test } from 'vitest'
import { LAZY } from '../../src/journal/journal.ts'
import { SimulatedDisk } from '../../src/journal/simulated-disk.ts'
import { openToy, turns } from '../support/sim-disk-store.ts'

function newDisk(): SimulatedDisk {
  return new SimulatedDisk({ seed: 1 })
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
    expect(await store.read(1)).toBe('right')
    const again = await openToy(disk.crash())
    expect(again.recovery).toMatchObject({ isNew: false, records: 1, damagedBatches: 0 })
    expect([...again.store.messages.keys()]).toEqual([1])
    expect(await again.store.read(1)).toBe('right')
  })

  test('shares one sync among the records of a turn', async () => {
    const { store, journal } = await openToy(newDisk())
    for (let id = 1; id <= 1000; id++) store.put(id, 100)
    await journal.flush()
    expect(journal.stats.syncs).toBe(1)
    expect(journal.stats.records).toBe(1000)
  })

  test('writes lazy records after 50 ms and syncs them after a second', async () => {
    const { store, journal, timers } = await openToy(newDisk())
    store.put(1, 100, LAZY)
    await turns()
    expect(journal.stats.batches).toBe(0)
    timers.advance(50)
    await turns()
    expect(journal.stats.batches).toBe(1)
    expect(store.durable).toBe(0)
    timers.advance(950)
    await turns()
    expect(store.durable).toBe(1)
    expect(timers.armed.size).toBe(0)
  })
})
