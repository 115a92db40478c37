/** What counts as on its way to the disk. */
import { expect, test, vi } from 'vitest'
import { AWAITED, LAZY } from '../../src/journal/journal.ts'
import { openToy, turns } from '../support/sim-disk-store.ts'
import { SimulatedDisk } from '../support/simulated-disk.ts'

vi.setConfig({ testTimeout: 60_000 })

const LARGE = 100_000 // over a quarter of a segment

function pendingBytes(journal: object): unknown {
  return Reflect.get(journal, 'pendingBytes')
}

test('a record with a file of its own holds publishers back, too, until it is durable', async () => {
  const { store, journal } = await openToy(new SimulatedDisk({ seed: 1 }))
  await turns(20)
  store.put(1, LARGE)
  await turns(1)
  expect(store.fullCount).toBe(0)
  store.put(2, LARGE)
  await turns(1)
  expect(store).toMatchObject({ fullCount: 1, isFull: true })
  await journal.flush()
  expect(store.isFull).toBe(false)
  expect(pendingBytes(journal)).toBe(0)
})

test('nothing counts any more when all is durable, in whatever order it came', async () => {
  for (let seed = 1; seed <= 12; seed++) {
    const disk = new SimulatedDisk({ seed })
    const { store, journal, timers } = await openToy(disk)
    const { random } = disk
    for (let id = 1; id <= 60; id++) {
      const bytes = random() < 0.2 ? LARGE : random() < 0.2 ? 40_000 : 100
      store.put(id, bytes, random() < 0.5 ? AWAITED : LAZY)
      if (random() < 0.3) await turns(1 + Math.floor(random() * 6))
      if (random() < 0.2) timers.advance(50)
      if (random() < 0.1) await journal.flush()
    }
    await journal.flush()
    expect(pendingBytes(journal), `seed ${seed}`).toBe(0)
    expect(store.isFull).toBe(false)
  }
})
