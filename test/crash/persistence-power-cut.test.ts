import { createRequire } from 'node:module'
import { describe, expect, test } from 'vitest'
import { JournalError } from '../../src/journal/journal-error.ts'
import type { JournalPersistence } from '../../src/persistence/persistence.ts'
import { makePersistence } from '../support/persistence-rig.ts'
import { call, dump, expected, moves } from '../support/persistence-moves.mjs'
import { requiresAll } from '../support/require.ts'
import { SimulatedDisk } from '../support/simulated-disk.ts'

const Memory = createRequire(import.meta.url)(
  'aedes-persistence/asyncPersistence.js'
) as new () => object
const SEED = Number(process.env['MOTEMQ_TEST_SEED'] ?? 11)
const LANES = 3
const CALLS = 250
const CUTS = requiresAll ? 80 : 20

interface Ran {
  readonly disk: SimulatedDisk
  readonly resolved: number[]
  readonly calls: number
}

/** Lanes that make `CALLS` calls each, until all are done or the disk never answers again. */
async function runUntilCut(disk: SimulatedDisk, seed: number): Promise<Ran> {
  const resolved: number[] = new Array(LANES).fill(0)
  const { persistence, broker } = makePersistence({
    disk,
    seed,
    brokerId: 'model',
    limits: LIMITS
  })
  const setup = persistence.setup(broker)
  const work = setup.then(() =>
    Promise.all(resolved.map((_, lane) => runLane(persistence, seed, lane, resolved)))
  )
  const isDone = await unlessOff(disk, work)
  // What had resolved by then has told its caller.
  await turn()
  if (isDone) {
    // The calls must reach all that a cut can fall into.
    expect(persistence.stats.checkpoints).toBeGreaterThan(2)
    expect(persistence.stats.segmentsRecycled).toBeGreaterThan(1)
    expect(persistence.stats.recordsCompacted).toBeGreaterThan(100)
    // How many calls a run makes varies with the load of the machine: the cut may fall into the end.
    await unlessOff(disk, persistence.close())
  }
  return { disk, resolved, calls: disk.calls }
}

/** False: the power went before `work` was done; a disk without power never answers. */
async function unlessOff(disk: SimulatedDisk, work: Promise<unknown>): Promise<boolean> {
  let isDone = false
  const done = work.then(() => {
    isDone = true
  })
  while (!isDone && !disk.isOff) await Promise.race([done, turn()])
  return isDone
}

async function runLane(
  persistence: JournalPersistence,
  seed: number,
  lane: number,
  resolved: number[]
): Promise<void> {
  for (const move of moves(seed, lane)) {
    if (resolved[lane] === CALLS) return
    await call(persistence, move)
    resolved[lane] = resolved[lane]! + 1
  }
}

function turn(): Promise<void> {
  return new Promise(resolve => setImmediate(resolve))
}

/** What a restart after the cut shows that must not be; empty: nothing. */
async function faultsAfter({ disk, resolved }: Ran, seed: number): Promise<string[]> {
  const { persistence, broker, logged } = makePersistence({
    disk: disk.crash(),
    seed,
    brokerId: 'model',
    limits: LIMITS
  })
  try {
    await persistence.setup(broker)
  } catch (error) {
    if (error instanceof JournalError) return [error.code]
    throw error
  }
  // No record of ours names what replay does not know.
  const faults = logged.filter(line => line.startsWith('error'))
  for (let lane = 0; lane < LANES; lane++) {
    const found = await dump(persistence, lane)
    const states = await expected(Memory, seed, lane, resolved[lane]!)
    if (!states.includes(found)) faults.push(`lane ${lane}:\n${found}\nnot\n${states[0]}`)
  }
  await persistence.close()
  return faults
}

async function runCut(cut: number, plant: (disk: SimulatedDisk) => void): Promise<string[]> {
  const seed = SEED + (cut % 5)
  const whole = await wholeRun(seed)
  const at = 40 + Math.floor(((cut % CUTS) / CUTS) * (whole - 40))
  const disk = new SimulatedDisk({ seed: SEED + cut })
  disk.intercept = () => (disk.calls === at ? { powerOff: true } : null)
  plant(disk)
  return await faultsAfter(await runUntilCut(disk, seed), seed)
}

const LIMITS = {
  segmentBytes: 256 * 1024,
  checkpointBytes: 192 * 1024,
  deadBytesMax: 64 * 1024
}

const wholes = new Map<number, number>()

/** How many calls of the disk a run without a cut makes, about. */
async function wholeRun(seed: number): Promise<number> {
  const known = wholes.get(seed)
  if (known !== undefined) return known
  const { calls } = await runUntilCut(new SimulatedDisk({ seed }), seed)
  wholes.set(seed, calls)
  return calls
}

describe('a power cut', () => {
  test(`at any of ${CUTS} calls of the disk leaves what was resolved (seed ${SEED})`, async () => {
    for (let cut = 0; cut < CUTS; cut++) {
      expect(await runCut(cut, () => undefined), `cut ${cut}`).toEqual([])
    }
  })

  test('is found to lose something on a disk that lies about its syncs', async () => {
    let found = 0
    for (let cut = 0; cut < 20 && found === 0; cut++) {
      const faults = await runCut(cut * 3, disk => {
        disk.liesAboutSync = true
      })
      found += faults.length
    }
    expect(found).toBeGreaterThan(0)
  })
})
