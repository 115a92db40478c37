/**
 * A broker under the mixed load on a disk whose power is cut at the end of every round; the next round goes on with what
 * the disk may have been left with. What the clients did and saw, what they must remember and what the disk was asked
 * to do stand on one clock, so that every moment of it can be cut again afterwards.
 */
import { rmSync } from 'node:fs'
import { History, type HistoryEvent, type NewEvent } from '../history.ts'
import { readMetrics } from '../metrics.ts'
import { Program } from '../program.ts'
import { between, type Random } from '../random.ts'
import type { ClientChange, ClientState, OpenPublish } from '../raw-client.ts'
import { Workload } from '../workload.ts'
import { CutDisk, type DiskLog, LOSSES, readDiskLog } from './disk-log.ts'
import { PowerDisk, type PowerFolder } from './power-disk.ts'

/** Fewer and larger messages than the kill test makes: more syncs to cut at, and segments are soon used again. */
export const LOAD = { burst: 2, switches: true, payloadBytes: 4_000 }
export const FLAGS = ['--sync-idle-ms', '200']
/** Short of space all the time: it writes checkpoints, compacts and recycles as soon as there is anything to gain. */
const SHORT_OF_SPACE = ['--disk-yellow-free-bytes', '1GiB']

interface TimedChange {
  readonly t: number
  readonly clientId: string
  readonly change: ClientChange
}

/**
 * A history that also knows what the clients must remember, and between which moments they were at work: within one
 * turn a client may have noted one thing and not yet the next, so no cut is made there.
 */
export class Recording extends History {
  readonly #changes: TimedChange[] = []
  readonly #turnBegins: number[] = []
  readonly #turnEnds: number[] = []

  constructor(run: string) {
    super(run)
    this.onClientChange = (clientId, change) => {
      const t = Number(process.hrtime.bigint())
      this.#changes.push({ t, clientId, change })
      this.#inTurn(t)
    }
  }

  /** With its disk gone the broker shows retained values that are not durable, rather than none: no reading counts. */
  isCut = false

  override record(event: NewEvent): void {
    if (this.isCut && event.f === 'get') return
    super.record(event)
    this.#inTurn(this.events.at(-1)!.t)
  }

  #inTurn(t: number): void {
    if (this.#turnBegins.length > this.#turnEnds.length) return
    this.#turnBegins.push(t)
    queueMicrotask(() => this.#turnEnds.push(Number(process.hrtime.bigint())))
  }

  /** That moment, or when it lies in a turn, the end of that or the moment before. */
  outsideTurns(time: number, random: Random): number {
    let low = 0
    let high = this.#turnBegins.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (this.#turnBegins[middle]! <= time) low = middle + 1
      else high = middle
    }
    const turn = low - 1
    if (turn < 0 || this.#turnEnds[turn]! < time) return time
    return random() < 0.5 ? this.#turnEnds[turn]! : this.#turnBegins[turn]! - 1
  }

  /** What happened until then. */
  until(time: number): HistoryEvent[] {
    return this.events.slice(0, this.events.findLastIndex(({ t }) => t <= time) + 1)
  }

  /** What the clients remember at that moment, by client id. */
  clientsAt(time: number): Map<string, ClientState> {
    const clients = new Map<string, { outgoing: Map<number, OpenPublish>; incoming: Set<number> }>()
    for (const { t, clientId, change } of this.#changes) {
      if (t > time) break
      let client = clients.get(clientId)
      if (client === undefined) {
        client = { outgoing: new Map(), incoming: new Set() }
        clients.set(clientId, client)
      }
      const { outgoing, incoming } = client
      if (change.what === 'open') outgoing.set(change.id, change.publish)
      else if (change.what === 'settle') outgoing.delete(change.id)
      else if (change.what === 'take') incoming.add(change.id)
      else if (change.what === 'drop') incoming.delete(change.id)
      else if (change.what === 'release') {
        outgoing.set(change.id, { ...outgoing.get(change.id)!, released: true })
      } else if (change.what === 'forget') {
        outgoing.clear()
        incoming.clear()
      }
    }
    return clients
  }
}

export interface Round {
  /** The disk when it began. */
  readonly base: Buffer
  readonly log: DiskLog
  /** Its first and last moment. */
  readonly from: number
  readonly to: number
  /** When the broker was ready. */
  readonly readyAt: number
  /** When it was started again in the middle of the round; 0: never. */
  readonly againAt: number
  readonly upkeep: Upkeep
}

/** What the journal did beside the log itself. */
export interface Upkeep {
  checkpoints: number
  recycled: number
  compacted: number
}

async function addUpkeep(program: Program, upkeep: Upkeep): Promise<void> {
  const { sum } = await readMetrics(program)
  upkeep.checkpoints += sum('journal_checkpoints_total')
  upkeep.recycled += sum('journal_recycled_total')
  upkeep.compacted += sum('journal_compacted_total')
}

export interface RecordOptions {
  readonly folder: PowerFolder
  readonly random: Random
  readonly rounds: number
  readonly roundMs: number
  /** Takes the place of `bin/motemq.js`. */
  readonly script?: string
  readonly mountOptions?: string
}

const wait = (ms: number) => new Promise(resolve => setTimeout(resolve, ms))
const now = () => Number(process.hrtime.bigint())
const ports = (program: Program) => ({ mqtt: program.port('mqtt'), amqp: program.port('amqp') })

/** In the middle of a round the broker is killed, stopped, or goes on. */
async function interrupt(
  how: number,
  program: Program,
  workload: Workload,
  history: History
): Promise<number> {
  if (how === 0) return 0
  if (how === 1) {
    history.record({ f: 'crash', type: 'info', proc: 'broker', how: 'kill' })
    await program.kill()
  } else await program.stop()
  workload.cut()
  const at = now()
  await program.restart()
  history.record({ f: 'start', type: 'ok', proc: 'broker' })
  await workload.connect(ports(program), true)
  workload.start()
  return at
}

/** Runs the rounds, on a fresh disk. */
export async function record(history: Recording, options: RecordOptions): Promise<Round[]> {
  const { folder, random, rounds, roundMs } = options
  const workload = new Workload(history, random, LOAD)
  const done: Round[] = []
  let base = await folder.freshImage()
  for (let round = 0; round < rounds; round++) {
    const from = now()
    const seed = between(random, 0, 2 ** 31)
    const disk = await PowerDisk.open(folder, base, seed, options.mountOptions)
    let program: Program | null = null
    let [readyAt, againAt, to] = [0, 0, 0]
    const upkeep = { checkpoints: 0, recycled: 0, compacted: 0 }
    try {
      const { script } = options
      const flags = round % 2 === 0 ? FLAGS : [...FLAGS, ...SHORT_OF_SPACE]
      const dataDir = `${disk.mounted}/data`
      program = await Program.start({
        dataDir,
        flags,
        ...(script ? { command: [process.execPath, script] } : {})
      })
      readyAt = now()
      history.record({ f: 'start', type: 'ok', proc: 'broker' })
      await workload.connect(ports(program), round % 2 === 0)
      workload.start()
      await wait(between(random, roundMs * 0.4, roundMs * 0.6))
      const how = round % 3
      if (how > 0) await addUpkeep(program, upkeep)
      againAt = await interrupt(how, program, workload, history)
      await wait(between(random, roundMs * 0.4, roundMs * 0.6))
      await addUpkeep(program, upkeep)
      to = now()
      history.isCut = true
      disk.cut()
      await wait(30)
      history.record({ f: 'crash', type: 'info', proc: 'broker', how: 'power' })
      workload.cut()
    } finally {
      workload.cut()
      await program?.kill()
      history.isCut = false
      await disk.close()
    }
    const log = readDiskLog(disk.logFile)
    rmSync(disk.logFile)
    done.push({ base, log, from, to, readyAt, againAt, upkeep })
    const loss = LOSSES[between(random, 0, LOSSES.length - 1)]!
    base = new CutDisk(base, log).at(now(), loss, random).image
  }
  return done
}
