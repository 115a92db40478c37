import { expect, test, vi } from 'vitest'
import { SimulatedDisk } from '../support/simulated-disk.ts'
import { faultsAfter, runTraffic } from '../support/sim-disk-trace.ts'

// The planted fault: a segment is used again as soon as nothing in it is live, before the copies of
// its survivors are durable.
vi.mock('../../src/journal/recycling.ts', () => ({ mayRecycle: () => true }))

const SEED = 20_240_601

test('recycling a segment before its copies are durable is found', async () => {
  for (let cut = 0; cut < 200; cut++) {
    const disk = new SimulatedDisk({ seed: SEED + cut })
    disk.intercept = () => (disk.calls === 60 + cut ? { powerOff: true } : null)
    const before = await runTraffic(disk, SEED + (cut % 7), 160)
    const faults = await faultsAfter(before, disk.crash())
    if (faults.length > 0) return
  }
  expect.unreachable('no cut showed the fault')
})
