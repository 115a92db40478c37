import { describe, expect, test } from 'vitest'
import { JournalError } from '../../src/journal/journal-error.ts'
import { requiresAll } from '../support/require.ts'
import { type DiskFault, SimulatedDisk } from '../support/simulated-disk.ts'
import { dropSpares } from '../support/sim-disk-store.ts'
import { faultsAfter, runTraffic } from '../support/sim-disk-trace.ts'

const SEED = Number(process.env['MOTEMQ_TEST_SEED'] ?? 20_240_601)
const CUTS = requiresAll ? 5000 : 500
const STEPS = 160

function diskCutAt(seed: number, call: number): SimulatedDisk {
  const disk = new SimulatedDisk({ seed })
  disk.intercept = () => (disk.calls === call ? { powerOff: true } : null)
  return disk
}

/** Runs until a power cut at each of some calls; the first set of faults that a restart shows. */
async function firstFault(cuts: number, plant: (disk: SimulatedDisk) => void): Promise<string[]> {
  const whole = new SimulatedDisk({ seed: SEED })
  await runTraffic(whole, SEED, STEPS)
  for (let cut = 0; cut < cuts; cut++) {
    const disk = diskCutAt(SEED + cut, 60 + Math.floor((cut / cuts) * whole.calls))
    plant(disk)
    const before = await runTraffic(disk, SEED, STEPS)
    try {
      const faults = await faultsAfter(before, disk.crash())
      if (faults.length > 0) return faults
    } catch (error) {
      if (error instanceof JournalError) return [error.code]
      throw error
    }
  }
  return []
}

describe('a power cut', () => {
  test(`at any of ${CUTS} calls loses nothing that was durable, twice over (seed ${SEED})`, async () => {
    const whole = new SimulatedDisk({ seed: SEED })
    const { journal } = await runTraffic(whole, SEED, STEPS)
    // The traffic must reach all that a cut can fall into.
    expect(journal.stats.checkpoints).toBeGreaterThan(2)
    expect(journal.stats.segmentsRecycled).toBeGreaterThan(2)
    expect(journal.stats.recordsCompacted).toBeGreaterThan(2)
    for (let cut = 0; cut < CUTS / 2; cut++) {
      const seed = SEED + cut
      const call = 1 + Math.floor((cut / (CUTS / 2)) * whole.calls)
      const disk = diskCutAt(seed, call)
      const before = await runTraffic(disk, SEED + (cut % 7), STEPS)
      const second = disk.crash()
      second.intercept = () => (second.calls === 5 + (cut % 90) ? { powerOff: true } : null)
      const between = await runTraffic(second, seed, STEPS / 4)
      const isOpen = between.operations.some(operation => operation.ticket > 0)
      const faults = await faultsAfter(isOpen ? between : before, second.crash())
      expect(faults, `seed ${seed}, power off at call ${call}`).toEqual([])
    }
  })

  test('after a killed process loses nothing that its successor found', async () => {
    for (let cut = 0; cut < 40; cut++) {
      const disk = diskCutAt(SEED + cut, 30 + cut * 3)
      await runTraffic(disk, SEED, STEPS)
      const second = disk.restart()
      const between = await runTraffic(second, SEED + cut, 0)
      const faults = await faultsAfter(between, second.crash())
      expect(faults, `seed ${SEED + cut}`).toEqual([])
    }
  })
})

describe('a start that goes on in the last segment', () => {
  test(`loses nothing over ${CUTS / 2} cuts, of the process or of the power (seed ${SEED})`, async () => {
    const whole = new SimulatedDisk({ seed: SEED })
    await runTraffic(whole, SEED, STEPS)
    for (let cut = 0; cut < CUTS / 2; cut++) {
      const seed = SEED + cut
      const disk = diskCutAt(seed, 40 + Math.floor((cut / (CUTS / 2)) * whole.calls))
      const before = await runTraffic(disk, SEED + (cut % 7), STEPS)
      // What a killed process had written and not synced is there, until the power goes, too.
      const second = cut % 2 === 0 ? disk.restart() : disk.crash()
      dropSpares(second)
      second.intercept = () => (second.calls === 20 + (cut % 120) ? { powerOff: true } : null)
      const between = await runTraffic(second, seed, STEPS / 8)
      const third = second.crash()
      dropSpares(third)
      const isOpen = between.operations.some(operation => operation.ticket > 0)
      const faults = await faultsAfter(isOpen ? between : before, third)
      expect(faults, `seed ${seed}`).toEqual([])
    }
  })
})

describe('a planted fault is found:', () => {
  test('acknowledging before the sync', async () => {
    const faults = await firstFault(100, disk => {
      disk.liesAboutSync = true
    })
    expect(faults).not.toEqual([])
  })

  test('not syncing the folder', async () => {
    const faults = await firstFault(100, disk => {
      disk.liesAboutFolders = true
    })
    expect(faults).not.toEqual([])
  })
})

describe('an error of the disk', () => {
  const kinds: { name: string; call: 'write' | 'sync'; fault: DiskFault }[] = [
    { name: 'EIO at a write', call: 'write', fault: { code: 'EIO' } },
    { name: 'ENOSPC at a write', call: 'write', fault: { code: 'ENOSPC' } },
    { name: 'a short write', call: 'write', fault: { bytes: 4096 } },
    { name: 'EIO at a sync', call: 'sync', fault: { code: 'EIO' } }
  ]
  for (const { name, call, fault } of kinds) {
    test(`${name}, whichever it is, is never followed by a durable report`, async () => {
      const whole = new SimulatedDisk({ seed: SEED })
      await runTraffic(whole, SEED, STEPS / 3)
      let failed = 0
      const count = whole.counts.get(call)!
      for (let n = 8; n <= count; n++) {
        const disk = new SimulatedDisk({ seed: SEED + n })
        let durableAtFault = -1
        const store = await runTraffic(disk, SEED, STEPS / 3, {
          beforeTraffic: opened => {
            disk.intercept = (kind, _path, index) => {
              if (kind !== call || index !== n) return null
              durableAtFault = opened.durable
              return fault
            }
          }
        })
        disk.intercept = null
        if (store.failures.length > 0) {
          failed++
          expect(store.failures.length).toBe(1)
          expect(store.journal.failed).toBe(true)
          expect(store.durable, `${name} ${n}`).toBe(durableAtFault)
        }
        expect(store.durableAfterFailure).toBe(false)
        expect(await faultsAfter(store, disk.crash()), `${name} ${n}`).toEqual([])
      }
      expect(failed).toBeGreaterThan(count / 5)
    })
  }
})
