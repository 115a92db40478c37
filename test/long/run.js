/**
 * The long tier: `npm run long -- NAME [COUNT]`. Each name is a test file run with larger numbers; its table goes into
 * docs/ with date and commit.
 */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/** What a name runs: vitest's project and file, the variable that takes the count, and the count without one. */
const runs = {
  kill: { project: 'crash', file: 'test/crash/kill.test.ts', variable: 'MOTEMQ_KILLS', count: 100 },
  cuts: {
    project: 'crash',
    file: 'test/crash/simulated-broker.test.ts',
    variable: 'MOTEMQ_CUTS',
    count: 20_000
  },
  powercut: {
    project: 'crash',
    file: 'test/crash/power-cut.test.ts',
    variable: 'MOTEMQ_POWER_CUTS',
    count: 1_000
  },
  replay: {
    project: 'model',
    file: 'test/model/replay.test.ts',
    variable: 'MOTEMQ_REPLAY_RUNS',
    count: 2_000
  },
  walks: {
    project: 'model',
    file: 'test/model/walks.test.ts',
    variable: 'MOTEMQ_WALKS',
    count: 20_000
  },
  machines: {
    project: 'integration',
    file: 'test/integration/tarball.test.ts',
    variable: 'MOTEMQ_MACHINES',
    count: 3
  },
  // Of each protocol; the path is the begin of three files.
  fuzz: {
    project: 'model',
    file: 'test/model/fuzz-',
    variable: 'MOTEMQ_FUZZ',
    count: 200_000
  },
  // Its COUNT is a case, `o3`.
  overload: {
    project: 'long',
    file: 'test/long/overload',
    variable: 'MOTEMQ_OVERLOAD',
    count: 'all'
  }
}

const root = fileURLToPath(new URL('../..', import.meta.url))
const [name = '', count] = process.argv.slice(2)
const chosen = Object.hasOwn(runs, name) ? runs[name] : undefined

if (chosen === undefined) {
  process.stderr.write(`usage: npm run long -- ${Object.keys(runs).join('|')} [COUNT]\n`)
  process.exit(2)
}
if (!existsSync(`${root}/dist/cli/main.js`)) {
  process.stderr.write('not built yet: run "npm run build" first\n')
  process.exit(1)
}
const { status } = spawnSync(
  process.execPath,
  ['node_modules/vitest/vitest.mjs', 'run', '--project', chosen.project, chosen.file],
  {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, [chosen.variable]: count ?? String(chosen.count) }
  }
)
process.exit(status ?? 1)
