/**
 * `kill -9` under a mixed load, at moments that a seed chooses, start after start on the same folder: what was
 * acknowledged must be there in the end, exactly as the checker defines it. `MOTEMQ_KILLS` and `MOTEMQ_SEED` choose
 * how often and which; `npm run long -- kill` is this file with more of them.
 */
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { checkHistory, describeViolations } from '../support/checker.ts'
import { History } from '../support/history.ts'
import { Program } from '../support/program.ts'
import { between, seededRandom } from '../support/random.ts'
import { requiresAll } from '../support/require.ts'
import { Workload } from '../support/workload.ts'

const kills = Number(process.env['MOTEMQ_KILLS'] ?? (requiresAll ? 30 : 10))
const seed = Number(process.env['MOTEMQ_SEED'] ?? 20_261)
/** Run for its table: says what it saw. */
const isLong = process.env['MOTEMQ_KILLS'] !== undefined

/**
 * A consumer's acknowledgement may be forgotten when it came in the last 50 ms before the kill, counted from when the
 * broker is known to have read it. Time in which the machine did not let the broker run (`Witness`) is not counted.
 */
const ACK_GRACE_MS = 50

/** Twice what `slow-sync.mjs` adds. */
const SLOW_SYNC_MS = 600
const SLOW_SYNC = new URL('../support/slow-sync.mjs', import.meta.url).href

const ports = (program: Program) => ({ mqtt: program.port('mqtt'), amqp: program.port('amqp') })

const wait = (ms: number) => new Promise(resolve => setTimeout(resolve, ms))

/** What is acknowledged at the moment of the kill: a promise of a moment ago is the first to be broken. */
const TRIGGERS = [
  'one-v3',
  'one-v5',
  'two-v3',
  'two-v5',
  'from-amqp',
  'direct-again',
  'kept',
  'any'
]

/** Waits until the chosen flow, or just anybody, is told `ok`, at most `timeoutMs`, and kills in that very moment. */
async function killAtAcknowledgement(
  program: Program,
  workload: Workload,
  trigger: string,
  timeoutMs: number
): Promise<void> {
  program.assertAlive()
  const { history, witness } = workload
  let killed: Promise<void> | null = null
  const strike = () => {
    history.onRecord = () => undefined
    witness.note()
    history.record({ f: 'crash', type: 'info', proc: 'broker', how: 'kill' })
    killed = program.kill()
  }
  history.onRecord = ({ f, type, flow }) => {
    if ((f === 'pub' || f === 'set') && type === 'ok') {
      if (trigger === 'any' || flow?.startsWith(trigger) === true) strike()
    }
  }
  const deadline = Date.now() + timeoutMs
  while (killed === null && Date.now() < deadline) await wait(1)
  if (killed === null) strike()
  await killed
}

/** Writes the history of a failed run where it can be looked at. */
function judge(history: History): void {
  const { violations, stats } = checkHistory(history.events, { killGraceMs: ACK_GRACE_MS })
  if (isLong) process.stdout.write(`${history.run}: ${JSON.stringify(stats)}\n`)
  if (violations.length === 0) return
  const file = join(tmpdir(), `motemq-history-${history.run}.jsonl`)
  history.write(file)
  const summary = `seed ${seed}, history ${file}, ${JSON.stringify(stats)}`
  expect.fail(`${violations.length} violations (${summary}):\n${describeViolations(violations)}`)
}

/** A load, a kill and a start, again and again; then everything is taken, and the history is judged. */
async function killAgain(program: Program, workload: Workload, rounds: number): Promise<void> {
  const { history } = workload
  const random = seededRandom(seed)
  try {
    for (let round = 0; round < rounds; round++) {
      workload.witness.pid = program.pid
      await workload.connect(ports(program), round % 3 === 0)
      workload.start()
      await wait(between(random, 150, 1200))
      const trigger = TRIGGERS[between(random, 0, TRIGGERS.length - 1)]!
      await killAtAcknowledgement(program, workload, trigger, 300)
      workload.cut()
      if (random() < 0.2) {
        program.spawn()
        await wait(between(random, 20, 250))
        await program.kill()
      }
      await program.restart()
      history.record({ f: 'start', type: 'ok', proc: 'broker' })
    }
    await workload.connect(ports(program), true)
    await workload.drain()
    await workload.end()
    await program.stop()
  } finally {
    workload.cut()
    await program.remove()
  }
  judge(history)
}

describe('a broker under load', () => {
  it(`loses and doubles nothing over ${kills} kills (seed ${seed})`, {
    timeout: 60_000 + kills * 15_000
  }, async () => {
    const workload = new Workload(new History(`kill-${seed}`), seededRandom(seed))
    await killAgain(await Program.start(), workload, kills)
    expect(workload.count).toBeGreaterThan(kills * 20)
  })

  // They wait for syncs most of their time: not for the quick tier, where a unit test says the same.
  const slowKills = Math.floor(kills / 5)

  if (slowKills >= 5) {
    it(`nor over ${slowKills} kills while syncs take long (seed ${seed})`, {
      timeout: 60_000 + slowKills * 30_000
    }, async () => {
      const workload = new Workload(new History(`slow-${seed}`), seededRandom(seed), {
        syncMs: SLOW_SYNC_MS
      })
      const program = await Program.start({ env: { NODE_OPTIONS: `--import=${SLOW_SYNC}` } })
      await killAgain(program, workload, slowKills)
      expect(workload.count).toBeGreaterThan(slowKills * 20)
    })
  }

  it('keeps everything over a SIGTERM and a start', async () => {
    const history = new History(`stop-${seed}`)
    const workload = new Workload(history, seededRandom(seed))
    const program = await Program.start()
    try {
      for (let round = 0; round < 2; round++) {
        await workload.connect(ports(program), round === 0)
        workload.start()
        await wait(400)
        await program.stop()
        workload.cut()
        await program.restart()
      }
      await workload.connect(ports(program), true)
      await workload.drain()
      await workload.end()
    } finally {
      workload.cut()
      await program.remove()
    }
    judge(history)
  })
})
