/**
 * The whole broker on a simulated disk, its power cut again and again under a mixed load: nothing that was
 * acknowledged is lost, nothing of QoS 2 is doubled, the order holds. `MOTEMQ_CUTS` says how often, `MOTEMQ_SEED`
 * where to begin: a failure names the seed that shows it at once.
 */
import { describe, expect, test } from 'vitest'
import { requiresAll } from '../support/require.ts'
import { cutWorlds } from '../support/sim-run.ts'

const SEED = Number(process.env['MOTEMQ_SEED'] ?? Date.now() % 1_000_000)
const CUTS = Number(process.env['MOTEMQ_CUTS'] ?? (requiresAll ? 5_000 : 500))

describe('a broker whose power is cut', () => {
  test(`loses and doubles nothing over ${CUTS} cuts (seed ${SEED})`, async () => {
    const result = await cutWorlds({ seed: SEED, cuts: CUTS })
    expect(result.violations).toEqual([])
    // The load must reach what a cut can fall into.
    if (CUTS < 100) return
    expect(result.checkpoints).toBeGreaterThan(CUTS / 4)
    expect(result.recycled).toBeGreaterThan(CUTS / 10)
    expect(result.compacted).toBeGreaterThan(CUTS)
    expect(result.acked).toBeGreaterThan(CUTS * 5)
    expect(result.received).toBeGreaterThan(CUTS * 5)
  })
})
