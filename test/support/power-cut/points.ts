/**
 * Cuts the power again at chosen moments of a recording: builds the disk as it may have been, starts the broker on it,
 * brings every client back with what it remembered then, lets all finish and has the checker judge the whole history.
 */
import { writeFileSync } from 'node:fs'
import { checkHistory, describeViolations } from '../checker.ts'
import { History, type HistoryEvent } from '../history.ts'
import { Program } from '../program.ts'
import { between, type Random, seededRandom } from '../random.ts'
import { Workload } from '../workload.ts'
import { CutDisk, LOSSES, type Loss } from './disk-log.ts'
import { type PowerFolder, withImage } from './power-disk.ts'
import { FLAGS, LOAD, type Recording, type Round } from './recording.ts'

/** A consumer's acknowledgement is synced at most 250 ms later; the rest is for a busy machine. */
const ACK_GRACE_MS = 900
const QUIET_MS = 2_000
/** As pino counts. */
const WARNING = 40
const EMPTY = { outgoing: new Map(), incoming: new Set<number>() }

/** What a moment was chosen by. */
export const MOMENTS = ['acknowledged', 'written', 'flushing', 'flushed', 'any', 'start'] as const
type Moment = (typeof MOMENTS)[number]
const CHOICES: readonly Moment[] = [
  'acknowledged',
  'acknowledged',
  'acknowledged',
  'flushed',
  'flushed',
  'flushing',
  'flushing',
  'written',
  'written',
  'any',
  'start'
]

export interface Point {
  readonly round: number
  readonly time: number
  readonly moment: Moment
  readonly loss: Loss
  readonly seed: number
}

export interface PointResult {
  readonly point: Point
  /** Writes that no finished flush covered. */
  readonly unflushed: number
  /** Acknowledged before the cut. */
  readonly acked: number
  /** '': nothing was lost, doubled, or made up. */
  readonly fault: string
  /** What the broker warned of, or reported as an error, when it came back. */
  readonly said: readonly string[]
}

interface Judged extends Omit<PointResult, 'point' | 'unflushed'> {
  readonly events: readonly HistoryEvent[]
}

function chooseTime(moment: Moment, round: Round, acks: readonly number[], random: Random): number {
  const { from, to, readyAt, againAt, log } = round
  const pick = <T>(list: readonly T[]): T => list[between(random, 0, list.length - 1)]!
  const shortly = () => between(random, 0, 30_000)
  if (moment === 'start') {
    const begin = againAt > 0 && random() < 0.5 ? againAt : from
    const length = (begin === from ? readyAt - from : 400e6) * 1.1
    return begin + Math.floor(random() * length)
  }
  if (moment === 'acknowledged' && acks.length > 0) return pick(acks) + shortly()
  if (moment === 'any' || log.flushes.length === 0) return from + Math.floor(random() * (to - from))
  if (moment === 'written') return pick(log.writes).arrived + shortly()
  const { arrived, answered } = pick(log.flushes)
  if (moment === 'flushed') return answered + shortly()
  return arrived + Math.floor(random() * (answered - arrived))
}

/** So many moments of a recording, in the order of time. */
export function choosePoints(
  recording: Recording,
  rounds: readonly Round[],
  count: number,
  random: Random
): Point[] {
  const points: Point[] = []
  const acks = rounds.map(({ from, to }) => {
    const inRound = recording.events.filter(({ t, type }) => type === 'ok' && t >= from && t <= to)
    return inRound.filter(({ f }) => f !== 'recv' && f !== 'get').map(({ t }) => t)
  })
  for (let i = 0; i < count; i++) {
    const round = i % rounds.length
    const moment = CHOICES[between(random, 0, CHOICES.length - 1)]!
    const wanted = chooseTime(moment, rounds[round]!, acks[round]!, random)
    const { from, to } = rounds[round]!
    const time = recording.outsideTurns(Math.min(Math.max(wanted, from), to), random)
    const loss = LOSSES[between(random, 0, LOSSES.length - 1)]!
    points.push({ round, time, moment, loss, seed: between(random, 0, 2 ** 31) })
  }
  return points.sort((a, b) => a.round - b.round || a.time - b.time)
}

/** The history of a point: what happened until the cut, and that it came. */
function historyAt(recording: Recording, time: number): History {
  const history = new History(recording.run)
  const kept = new Set<string>()
  for (const event of recording.until(time)) {
    history.events.push(event)
    if (event.f === 'conn') kept.add(event.proc)
  }
  for (const proc of recording.clientsAt(time).keys()) {
    // Its CONNECT is on its way: nobody knows whether it made a session.
    if (!kept.has(proc)) history.events.push({ t: time, f: 'conn', type: 'info', proc })
  }
  history.events.push({ t: time, f: 'crash', type: 'info', proc: 'broker', how: 'power' })
  return history
}

/** Brings the broker and all its clients back, and lets everything finish. What the broker said. */
async function readBack(
  history: History,
  recording: Recording,
  point: Point,
  mounted: string
): Promise<string[]> {
  const clients = recording.clientsAt(point.time)
  const workload = new Workload(history, seededRandom(point.seed), LOAD)
  workload.resume(clientId => clients.get(clientId) ?? EMPTY)
  const program = await Program.start({ dataDir: `${mounted}/data`, flags: FLAGS })
  try {
    history.record({ f: 'start', type: 'ok', proc: 'broker' })
    const ports = { mqtt: program.port('mqtt'), amqp: program.port('amqp') }
    await workload.connect(ports, true)
    await workload.drain({ quietMs: QUIET_MS, graceMs: 100 })
    program.assertAlive()
    const grave = program.logs.filter(({ level }) => Number(level) >= WARNING)
    return grave.map(({ msg }) => String(msg))
  } finally {
    workload.cut()
    await program.remove()
  }
}

async function judge(
  folder: PowerFolder,
  recording: Recording,
  point: Point,
  image: Buffer
): Promise<Judged> {
  const history = historyAt(recording, point.time)
  const acked = history.events.filter(({ f, type }) => f === 'pub' && type === 'ok').length
  let said: string[] = []
  try {
    await withImage(folder, image, async mounted => {
      said = await readBack(history, recording, point, mounted)
    })
  } catch (error) {
    const fault = `it does not come back: ${error instanceof Error ? error.stack : String(error)}`
    return { fault, acked, said, events: history.events }
  }
  const { violations } = checkHistory(history.events, {
    killGraceMs: ACK_GRACE_MS,
    powerGraceMs: ACK_GRACE_MS
  })
  return { fault: describeViolations(violations, 10), acked, said, events: history.events }
}

export interface JudgeOptions {
  readonly folder: PowerFolder
  /** Points at work at the same time. */
  readonly jobs: number
  /** Ends at the first fault; in any order, as the earliest moments have least to lose. */
  readonly stopsAtFault?: boolean
  /** Where what is needed to look into a fault is written. */
  readonly keepIn?: string
}

/** Cuts at every point, a few at a time; one result a point. */
export async function judgePoints(
  recording: Recording,
  rounds: readonly Round[],
  points: readonly Point[],
  options: JudgeOptions
): Promise<PointResult[]> {
  const { folder, jobs, stopsAtFault = false, keepIn = '' } = options
  const disks = rounds.map(({ base, log }) => new CutDisk(base, log))
  const ordered = stopsAtFault ? points.toSorted((a, b) => a.seed - b.seed) : points
  const results: PointResult[] = []
  let next = 0
  let isFaulty = false
  const work = async () => {
    while (next < ordered.length && !(stopsAtFault && isFaulty)) {
      const point = ordered[next++]!
      const { time, loss, seed } = point
      const { base, log } = rounds[point.round]!
      const disk = stopsAtFault ? new CutDisk(base, log) : disks[point.round]!
      const { image, unflushed } = disk.at(time, loss, seededRandom(seed))
      const { events, ...judged } = await judge(folder, recording, point, image)
      results.push({ point, unflushed, ...judged })
      if (judged.fault === '') continue
      isFaulty = true
      if (keepIn !== '') keep(`${keepIn}-${point.seed}`, image, events)
    }
  }
  await Promise.all(Array.from({ length: jobs }, work))
  return results
}

function keep(path: string, image: Buffer, events: readonly HistoryEvent[]): void {
  writeFileSync(`${path}.img`, image)
  const history = new History('')
  history.events.push(...events)
  history.write(`${path}.jsonl`)
}
