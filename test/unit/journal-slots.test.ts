import { describe, expect, test } from 'vitest'
import { openToy, turns } from '../support/sim-disk-store.ts'
import { SimulatedDisk } from '../support/simulated-disk.ts'

describe('a slot that a killed process was still making', () => {
  test('is on the disk before it is used: no later loss of power cuts it short', async () => {
    for (let seed = 1; seed <= 24; seed++) {
      const disk = new SimulatedDisk({ seed })
      // Its last page is written, and the process dies before the sync.
      const slot = `segment-00000${1 + (seed % 4)}`
      disk.intercept = (call, path) =>
        call === 'sync' && path.endsWith(slot) ? { powerOff: true } : null
      void openToy(disk)
      for (let i = 0; i < 200 && !disk.isOff; i++) await turns(1)
      const second = disk.restart()
      const { store, journal } = await openToy(second)
      const count = 6 * seed
      for (let id = 1; id <= count; id++) {
        store.put(id, 100)
        for (let i = 0; i < 100 && journal.durableTicket < journal.ticket; i++) await turns(1)
      }
      const third = await openToy(second.crash())
      expect(third.recovery.damagedBatches, `seed ${seed}`).toBe(0)
      expect(third.store.messages.size).toBe(count)
    }
  })
})
