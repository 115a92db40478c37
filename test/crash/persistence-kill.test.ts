import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, expect, test } from 'vitest'
import { expected, METHODS } from '../support/persistence-moves.mjs'
import { seededRandom } from '../support/random.ts'
import { requiresAll } from '../support/require.ts'

const Memory = createRequire(import.meta.url)(
  'aedes-persistence/asyncPersistence.js'
) as new () => object
const DRIVER = fileURLToPath(new URL('../support/persistence-driver.mjs', import.meta.url))
const SEED = Number(process.env['MOTEMQ_TEST_SEED'] ?? 7001)
const LANES = 4
const SEEDS = requiresAll ? 16 : 6
const KILLS = 4
const root = mkdtempSync(join(tmpdir(), 'motemq-persistence-kill-'))

afterAll(() => rmSync(root, { recursive: true, force: true }))

/** Runs until `calls` have resolved, then kill -9; how often each method resolved, and each lane's calls. */
async function runAndKill(
  folder: string,
  seed: number,
  starts: readonly number[],
  calls: number
): Promise<{ methods: Map<string, number>; resolved: number[] }> {
  const child = spawn(process.execPath, [DRIVER, 'run', folder, `${seed}`, ...starts.map(String)], {
    stdio: ['ignore', 'pipe', 'inherit']
  })
  let text = ''
  child.stdout.on('data', (chunk: Buffer) => {
    text += String(chunk)
    if (text.split('\n').length > calls + 1) child.kill('SIGKILL')
  })
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null]
  expect([code, signal], text.slice(-500)).toEqual([null, 'SIGKILL'])
  const methods = new Map<string, number>()
  const resolved = [...starts]
  for (const line of text.split('\n')) {
    const found = /^(\d) (\w+)$/.exec(line)
    if (found === null) continue
    const lane = Number(found[1])
    resolved[lane] = resolved[lane]! + 1
    methods.set(found[2]!, (methods.get(found[2]!) ?? 0) + 1)
  }
  return { methods, resolved }
}

async function dumpsOf(folder: string): Promise<string[]> {
  const child: ChildProcess = spawn(process.execPath, [DRIVER, 'dump', folder, `${LANES}`], {
    stdio: ['ignore', 'pipe', 'inherit']
  })
  let text = ''
  child.stdout!.on('data', (chunk: Buffer) => {
    text += String(chunk)
  })
  const [code] = (await once(child, 'close')) as [number | null]
  expect(code).toBe(0)
  return JSON.parse(text) as string[]
}

test(`what resolved is there after kill -9, whichever call it was, over ${SEEDS} × ${KILLS} kills (seed ${SEED})`, async () => {
  const seen = new Map<string, number>()
  for (let seed = SEED; seed < SEED + SEEDS; seed++) {
    const folder = join(root, String(seed))
    const random = seededRandom(seed)
    let starts: number[] = new Array(LANES).fill(0)
    for (let kill = 0; kill < KILLS; kill++) {
      const calls = 1 + Math.floor(random() * (kill === KILLS - 1 ? 1500 : 400))
      const { methods, resolved } = await runAndKill(folder, seed, starts, calls)
      for (const [method, count] of methods) seen.set(method, (seen.get(method) ?? 0) + count)
      const dumps = await dumpsOf(folder)
      starts = []
      for (let lane = 0; lane < LANES; lane++) {
        const count = resolved[lane]!
        const [before, after] = await expected(Memory, seed, lane, count)
        const found = dumps[lane]!
        if (found !== after) expect(found, `seed ${seed}, kill ${kill}, lane ${lane}`).toBe(before)
        // The call that was under way when the process died counts if it is there.
        starts.push(found === before ? count : count + 1)
      }
    }
  }
  // Every method was among those that resolved.
  expect(METHODS.filter(method => !seen.has(method))).toEqual([])
})
