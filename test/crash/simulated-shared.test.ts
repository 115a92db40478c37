/**
 * Shared subscriptions under cuts of the power: see test/support/sim-shared.ts. `MOTEMQ_CUTS` says how often,
 * `MOTEMQ_SEED` where to begin.
 */
import { expect, it } from 'vitest'
import { requiresAll } from '../support/require.ts'
import { cutSharedWorlds } from '../support/sim-shared.ts'

const SEED = Number(process.env['MOTEMQ_SEED'] ?? 30_261)
const CUTS = Number(process.env['MOTEMQ_CUTS'] ?? (requiresAll ? 1_000 : 150))

it(`a shared subscription loses and doubles nothing over ${CUTS} cuts (seed ${SEED}), v5 [MQTT-4.8.2-4] [MQTT-4.8.2-5]`, async () => {
  const result = await cutSharedWorlds(SEED, CUTS)
  if (process.env['MOTEMQ_CUTS'] !== undefined) {
    process.stdout.write(`shared-${SEED}: ${JSON.stringify(result)}\n`)
  }
  expect(result.violations).toEqual([])
  if (CUTS < 100) return
  expect(result.checkpoints).toBeGreaterThan(CUTS / 4)
  expect(result.compacted).toBeGreaterThan(CUTS)
  expect(result.received).toBeGreaterThan(CUTS * 5)
})
