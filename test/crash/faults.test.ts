/**
 * Ways to lose or double what was acknowledged, planted on purpose: the crash tests of the whole broker must find each
 * of them within the cuts that they make anyway (journal.md §7).
 */
import { afterEach, describe, expect, test, vi } from 'vitest'
import type { Plant } from '../support/sim-broker.ts'
import {
  acknowledgeBeforeSync,
  completeEarly,
  identifierApart,
  releaseEarly,
  replayInLogOrder,
  syncNoFolder,
  syncNothing
} from '../support/sim-faults.ts'
import { cutWorlds } from '../support/sim-run.ts'

const recycling = vi.hoisted(() => ({ isEarly: false }))

vi.mock('../../src/journal/recycling.ts', async original => {
  const real = await original<typeof import('../../src/journal/recycling.ts')>()
  const mayRecycle: typeof real.mayRecycle = (segment, older) =>
    recycling.isEarly || real.mayRecycle(segment, older)
  return { ...real, mayRecycle }
})

afterEach(() => {
  recycling.isEarly = false
})

const CUTS = 500
const SEED = Number(process.env['MOTEMQ_SEED'] ?? 20_240_601)

async function firstFault(plant: Plant): Promise<string[]> {
  const { violations, cuts } = await cutWorlds({ seed: SEED, cuts: CUTS, world: { plant } })
  if (process.env['MOTEMQ_SHOW'] !== undefined) {
    process.stderr.write(`${cuts} cuts: ${violations.slice(0, 3).join('; ')}\n`)
  }
  return violations
}

describe(`a planted fault is found within ${CUTS} cuts (seed ${SEED}):`, () => {
  const plants: readonly (readonly [string, Plant])[] = [
    ['acknowledging before the sync', acknowledgeBeforeSync],
    ['a sync that does nothing', syncNothing],
    ['not syncing the folder', syncNoFolder],
    ['the packet identifier of QoS 2 in another record', identifierApart],
    ['PUBCOMP before the release is durable', completeEarly],
    ['PUBREL before the receipt is durable', releaseEarly],
    ['replay in the order of the log after compaction', replayInLogOrder]
  ]
  for (const [name, plant] of plants) {
    test(name, async () => {
      expect(await firstFault(plant)).not.toEqual([])
    })
  }

  test('a segment used again before the copies of what it holds are durable', async () => {
    recycling.isEarly = true
    expect(await firstFault({})).not.toEqual([])
  })
})
