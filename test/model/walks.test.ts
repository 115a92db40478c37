/**
 * Random walks of MQTT: a few clients of both versions do what clients do, and the broker what brokers do, stops and
 * crashes among it; after each step what everybody got is held against a naive model of the specification. A walk
 * that fails is printed, shrunk, with its seed and its path: MOTEMQ_SEED and MOTEMQ_PATH replay it.
 */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { requiresAll } from '../support/require.ts'
import { walk } from '../support/walks-moves.ts'
import { newStats, runWalk } from '../support/walks-run.ts'

const WALKS = Number(process.env['MOTEMQ_WALKS'] ?? (requiresAll ? 3_000 : 300))
const path = process.env['MOTEMQ_PATH']
/** Two milliseconds each, and a slow machine. */
const TIMEOUT_MS = 60_000 + WALKS * 200

test(
  'every client gets what MQTT says it gets, on any walk with losses, stops and crashes',
  async () => {
    const stats = newStats()
    const property = fc.asyncProperty(walk, fc.nat({ max: 1_000_000 }), async (moves, seed) => {
      await runWalk(moves, seed, { stats })
    })
    const started = performance.now()
    await fc.assert(property, { numRuns: WALKS, ...(path === undefined ? {} : { path }) })
    const seconds = ((performance.now() - started) / 1_000).toFixed(1)
    const seed = fc.readConfigureGlobal()?.seed
    process.stdout.write(`walks: seed ${seed}, ${seconds} s, ${JSON.stringify(stats)}\n`)
    if (path !== undefined) return
    expect(stats.walks).toBe(WALKS)
    expect(stats.packets).toBeGreaterThan(WALKS * 10)
    expect(stats.restarts + stats.crashes).toBeGreaterThan(WALKS / 20)
  },
  TIMEOUT_MS
)
