import { availableParallelism } from 'node:os'
import { defineConfig } from 'vitest/config'

/** One project a kind of test, each with its own time limit; `vitest run --project unit` while coding. */
function project(name: string, testTimeout: number, extra: Record<string, unknown> = {}) {
  return {
    extends: true as const,
    test: {
      name,
      include: [`test/${name}/**/*.test.ts`],
      testTimeout,
      hookTimeout: testTimeout,
      ...extra
    }
  }
}

/** Overload with its figures of time: no part of a plain run, `npm run long -- overload [o3]` asks for it. */
const overload = process.env['MOTEMQ_OVERLOAD']
const long = project('long', 900_000, {
  include: [`test/long/overload/${overload === 'all' ? '' : `${overload}-`}*.test.ts`],
  maxWorkers: 1
})

export default defineConfig({
  test: {
    reporters: ['default', './test/support/summary-reporter.ts'],
    pool: 'forks',
    // Half of the files wait most of their time, for timers, disks and peers: more of them than processors.
    maxWorkers: Math.ceil(availableParallelism() * 1.5),
    setupFiles: ['./test/support/fast-check.ts'],
    projects: [
      // They leave nothing behind: a worker loads the sources once for all of them.
      project('unit', 30_000, { isolate: false }),
      project('contract', 30_000),
      project('protocol', 30_000),
      project('integration', 60_000),
      project('model', 120_000),
      project('crash', 300_000),
      ...(overload === undefined ? [] : [long]),
      {
        extends: true,
        test: {
          name: 'types',
          include: [],
          typecheck: {
            enabled: true,
            only: true,
            tsconfig: './tsconfig.json',
            include: ['test/types/**/*.test-d.ts']
          }
        }
      }
    ]
  }
})
