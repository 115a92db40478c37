/** Worlds, one seed after the other, until enough cuts were made or something is wrong. */
import { JournalError } from '../../src/journal/journal-error.ts'
import { World, type WorldOptions } from './sim-world.ts'

/** A world's cuts: after that its log is long enough, and another seed tells more. */
const CUTS_A_WORLD = 10
const DRAIN_EVERY = 3

export interface CutOptions {
  readonly seed: number
  readonly cuts: number
  readonly world?: WorldOptions
}

export interface CutResult {
  readonly violations: string[]
  cuts: number
  checkpoints: number
  recycled: number
  compacted: number
  skipped: number
  messages: number
  acked: number
  received: number
}

export async function cutWorlds(options: CutOptions): Promise<CutResult> {
  const sum: CutResult = {
    violations: [],
    cuts: 0,
    checkpoints: 0,
    recycled: 0,
    compacted: 0,
    skipped: 0,
    messages: 0,
    acked: 0,
    received: 0
  }
  for (let seed = options.seed; sum.cuts < options.cuts; seed++) {
    const world = new World(seed, options.world)
    await runWorld(world)
    add(sum, world)
    for (const violation of world.violations) {
      sum.violations.push(`MOTEMQ_SEED=${seed}, cut ${world.cuts}: ${violation}`)
    }
    if (sum.violations.length > 0) break
  }
  return sum
}

async function runWorld(world: World): Promise<void> {
  const { violations } = world
  await world.open()
  try {
    while (world.cuts < CUTS_A_WORLD && violations.length === 0) {
      await world.cut()
      if (world.cuts % DRAIN_EVERY === 0 && violations.length === 0) await world.drain()
    }
    if (violations.length === 0) await world.drain()
  } catch (error) {
    // A store that does not open any more has lost everything.
    if (!(error instanceof JournalError)) throw error
    violations.push(error.message)
  }
  world.sim.kill()
}

function add(sum: CutResult, world: World): void {
  sum.cuts += world.cuts
  sum.checkpoints += world.checkpoints
  sum.recycled += world.recycled
  sum.compacted += world.compacted
  sum.skipped += world.skipped
  sum.messages += world.messages.all.size
  for (const message of world.messages.all.values()) if (message.isAcked) sum.acked++
  for (const flow of world.messages.flows.values()) sum.received += flow.counts.size
}
