/**
 * Power cuts on a block device: ext4 on a loop device whose writes are volatile until a flush, a real broker on it under
 * a mixed load. Every point cuts the power at one moment: what was not flushed is kept, dropped or torn, ext4 and the
 * broker recover, and the checker compares with what was acknowledged before. `MOTEMQ_POWER_CUTS` and `MOTEMQ_SEED`
 * choose how many and which; `npm run long -- powercut` is this file with more of them.
 */
import { closeSync, fdatasyncSync, openSync, readFileSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'
import { CutDisk, LOSSES, readDiskLog } from '../support/power-cut/disk-log.ts'
import {
  choosePoints,
  judgePoints,
  MOMENTS,
  type PointResult
} from '../support/power-cut/points.ts'
import {
  PowerDisk,
  PowerFolder,
  requirePowerDisk,
  withImage
} from '../support/power-cut/power-disk.ts'
import { Recording, record, type Upkeep } from '../support/power-cut/recording.ts'
import { seededRandom } from '../support/random.ts'

const cuts = Number(process.env['MOTEMQ_POWER_CUTS'] ?? 30)
const seed = Number(process.env['MOTEMQ_SEED'] ?? 20_261)
const JOBS = 3
const POINTS_A_RECORDING = 50
const UPKEEP = ['checkpoints', 'recycled', 'compacted'] as const
const EAGER = fileURLToPath(new URL('../support/power-cut/eager-sync.js', import.meta.url))

async function withFolder(use: (folder: PowerFolder) => Promise<void>): Promise<void> {
  const folder = await PowerFolder.make()
  try {
    await use(folder)
  } finally {
    folder.remove()
  }
}

interface Cut {
  readonly results: PointResult[]
  readonly upkeep: Upkeep
}

/** Records and cuts until there are so many points; a new recording every fifty. */
async function run(
  count: number,
  options: {
    rounds?: number
    script?: string
    mountOptions?: string
    stopsAtFault?: boolean
  } = {}
): Promise<Cut> {
  const results: PointResult[] = []
  const upkeep: Upkeep = { checkpoints: 0, recycled: 0, compacted: 0 }
  for (let number = 0; results.length < count; number++) {
    await withFolder(async folder => {
      const random = seededRandom(seed + number)
      const recording = new Recording(`power-${seed + number}`)
      const keepIn = options.stopsAtFault ? '' : join(tmpdir(), `motemq-power-cut-${seed + number}`)
      const rounds = await record(recording, {
        folder,
        random,
        rounds: Math.min(4, Math.ceil(count / 10)),
        roundMs: 1_200,
        ...options
      }).catch((error: unknown) => {
        // A round did not come back from the cut before it: that is a fault too.
        if (keepIn !== '') recording.write(`${keepIn}.jsonl`)
        throw error
      })
      for (const round of rounds) {
        for (const name of UPKEEP) upkeep[name] += round.upkeep[name]
      }
      const wanted = Math.min(POINTS_A_RECORDING, count - results.length)
      const points = choosePoints(recording, rounds, wanted, random)
      const { stopsAtFault = false } = options
      const judged = await judgePoints(recording, rounds, points, {
        folder,
        jobs: JOBS,
        stopsAtFault,
        keepIn
      })
      results.push(...judged)
    })
    if (options.stopsAtFault && results.some(({ fault }) => fault !== '')) break
  }
  return { results, upkeep }
}

/** What was cut, by the moment and by what became of the writes that were not flushed. */
function table(results: readonly PointResult[]): string {
  const line = (name: string, chosen: readonly PointResult[]) => {
    const sum = (value: (result: PointResult) => number) =>
      chosen.reduce((total, result) => total + value(result), 0)
    const faults = chosen.filter(({ fault }) => fault !== '').length
    const unflushed = (sum(each => each.unflushed) / Math.max(1, chosen.length)).toFixed(1)
    return `| ${name} | ${chosen.length} | ${unflushed} | ${sum(each => each.acked)} | ${faults} |`
  }
  const by = (name: string, key: 'moment' | 'loss', value: string) =>
    line(
      `${name} ${value}`,
      results.filter(({ point }) => point[key] === value)
    )
  return [
    '| | points | unflushed writes a point | acknowledged before, in all | faults |',
    '|---|---|---|---|---|',
    ...MOMENTS.map(each => by('cut:', 'moment', each)),
    ...[...new Set(LOSSES)].map(each => by('kept:', 'loss', each)),
    line('all points', results)
  ].join('\n')
}

/** How often the broker warned of what when it came back. */
function sayings(results: readonly PointResult[]): string {
  const counts = new Map<string, number>()
  for (const { said } of results) {
    for (const text of said) counts.set(text, (counts.get(text) ?? 0) + 1)
  }
  return [...counts].map(([text, count]) => `said ${count} times: ${text}`).join('\n')
}

requirePowerDisk('a power cut on ext4', () => {
  it('is made on a disk that sees every write and every flush in its order', async () => {
    await withFolder(async folder => {
      const base = await folder.freshImage()
      const disk = await PowerDisk.open(folder, base, seed)
      const file = openSync(join(disk.mounted, 'file'), 'w')
      const pages: Buffer[] = []
      for (let page = 0; page < 20; page++) {
        pages.push(Buffer.alloc(4096, page + 1))
        writeSync(file, pages[page]!, 0, 4096, page * 4096)
        fdatasyncSync(file)
      }
      const synced = Number(process.hrtime.bigint())
      closeSync(file)
      const left = await disk.close()
      const log = readDiskLog(disk.logFile)
      expect(log.flushes.filter(({ answered }) => answered < synced).length).toBeGreaterThan(20)
      const random = seededRandom(seed)
      const end = Number.POSITIVE_INFINITY
      expect(new CutDisk(base, log).at(end, 'all', random).image.equals(left!)).toBe(true)
      // What was synced is there when everything else is dropped.
      const { image } = new CutDisk(base, log).at(synced, 'none', random)
      await withImage(folder, image, mounted => {
        expect(readFileSync(join(mounted, 'file')).equals(Buffer.concat(pages))).toBe(true)
        return Promise.resolve()
      })
    })
  })

  it(`loses and doubles nothing at ${cuts} points (seed ${seed})`, {
    timeout: 60_000 + cuts * 10_000
  }, async () => {
    const { results, upkeep } = await run(cuts)
    process.stdout.write(`${table(results)}\n${JSON.stringify(upkeep)}\n${sayings(results)}\n`)
    const faults = results.filter(({ fault }) => fault !== '')
    const shown = faults.map(({ point, fault }) => `${JSON.stringify(point)}\n${fault}`)
    expect(shown).toEqual([])
    expect(results).toHaveLength(cuts)
  })

  it('catches a broker that acknowledges before the sync', async () => {
    const { results } = await run(120, { script: EAGER, rounds: 1, stopsAtFault: true })
    const faults = results.filter(({ fault }) => fault !== '')
    process.stdout.write(`acknowledged before the sync: caught at point ${results.length}\n`)
    expect(faults.length).toBeGreaterThan(0)
  })

  it('catches a file system that flushes nothing', async () => {
    const { results } = await run(120, { mountOptions: 'nobarrier', rounds: 1, stopsAtFault: true })
    const faults = results.filter(({ fault }) => fault !== '')
    process.stdout.write(`without flushes: caught at point ${results.length}\n`)
    expect(faults.length).toBeGreaterThan(0)
  })
})
