/**
 * Transactions on a simulated disk whose power is cut anywhere: what is there afterwards is the state after some
 * whole transaction, never one in between, and never one before what was promised.
 */
import { describe, expect, it } from 'vitest'
import { consume } from '../../src/broker/consumers.ts'
import { declareQueue } from '../../src/broker/queues.ts'
import { reject, requeue, settle } from '../../src/broker/settle.ts'
import { beginTransaction, endTransaction } from '../../src/broker/transaction.ts'
import type { Queue } from '../../src/core/queue.ts'
import { Backend, openRig, type Rig, turns, Worker } from '../support/broker-rig.ts'
import { differences, lastingState } from '../support/lasting-state.ts'
import { between, type Random, seededRandom } from '../support/random.ts'
import { requiresAll } from '../support/require.ts'

const SEED = Number(process.env['MOTEMQ_SEED'] ?? 20_261)
const CUTS = requiresAll ? 200 : 24
const STEPS = 14
const STARTS = 3
const QUEUES = ['a', 'b', 'c']
const JOURNAL = { segmentBytes: 256 * 1024, checkpointBytes: 128 * 1024, deadBytesMax: 1 }

/** A state that was, and the ticket with which it is durable. */
interface Moment {
  readonly ticket: number
  readonly state: readonly string[]
}

class Run {
  readonly random: Random
  rig!: Rig
  moments: Moment[] = []
  workers = new Map<Queue, Worker>()
  backend!: Backend
  /** Transactions of which some records, and not the end, were on the disk. */
  torn = 0
  #count = 0

  constructor(seed: number) {
    this.random = seededRandom(seed)
  }

  async start(): Promise<void> {
    this.rig = await openRig({ seed: between(this.random, 1, 1e9), journalLimits: JOURNAL })
    const flags = { passive: false, durable: true, exclusive: false, autoDelete: false }
    for (const name of QUEUES) {
      const request = { ...flags, name, arguments: [], principal: null, owner: null }
      declareQueue(this.rig.broker, this.rig.vhost, request)
    }
    await this.rig.flush()
    this.#attach()
  }

  #attach(): void {
    this.backend = new Backend(this.rig)
    this.workers.clear()
    for (const name of QUEUES) {
      const worker = new Worker()
      this.workers.set(this.rig.queue(name), worker)
      const options = { exclusive: false, priority: 0 }
      consume(this.rig.broker, this.rig.queue(name), worker, options)
    }
  }

  #publish(): void {
    const { random } = this
    const dice = random()
    const bytes = dice < 0.1 ? 40_000 : dice < 0.3 ? 9_000 : between(random, 1, 300)
    const key = QUEUES[between(random, 0, 2)]!
    const body = `${++this.#count} `.padEnd(bytes, '.')
    this.backend.publish(random() < 0.2 ? 'amq.fanout' : '', key, body, false)
  }

  #finishSome(): void {
    const { broker } = this.rig
    for (const [queue, worker] of this.workers) {
      for (const { sequence } of worker.got.splice(0, between(this.random, 0, 3))) {
        const dice = this.random()
        if (dice < 0.6) settle(broker, queue, sequence)
        else if (dice < 0.8) reject(broker, queue, sequence)
        else requeue(broker, queue, sequence)
      }
    }
  }

  async note(): Promise<void> {
    const { journal, broker } = this.rig
    this.moments.push({ ticket: journal.ticket, state: await lastingState(broker) })
  }

  /** Transactions until the power goes. */
  async work(): Promise<void> {
    const { disk } = this.rig
    this.moments = []
    await this.note()
    let calls = between(this.random, 1, 30)
    disk.intercept = call => {
      if (call !== 'write' && call !== 'sync') return null
      return --calls === 0 ? { powerOff: true } : null
    }
    for (let step = 0; step < STEPS && !disk.isOff; step++) {
      // Others publish too: what comes right behind a start is no part of what the last one began.
      if (step === 0 || this.random() < 0.2) {
        this.#publish()
        await this.note()
        if (this.random() < 0.5) await Promise.race([this.rig.journal.flush(), turns(40)])
        if (disk.isOff) break
      }
      const began = beginTransaction(this.rig.broker)
      for (let i = between(this.random, 0, 12); i > 0; i--) this.#publish()
      this.#finishSome()
      endTransaction(this.rig.broker, began)
      await this.note()
      await turns(between(this.random, 0, 3))
      if (this.random() < 0.1) this.rig.journal.checkpoint().catch(() => undefined)
    }
  }

  async again(): Promise<void> {
    const { durableTicket } = this.rig.journal
    const { moments } = this
    let state: string[] = []
    this.rig = await this.rig.crash({
      onReplayed: async broker => {
        if (broker.replayed.isOpen) this.torn++
        state = await lastingState(broker)
      }
    })
    expect(this.rig.recovery.damagedBatches).toBe(0)
    expect(this.rig.recovery.skippedRecords).toBe(0)
    const promised = moments.findLastIndex(moment => moment.ticket <= durableTicket)
    const found = moments.findLastIndex(moment => differences(moment.state, state).length === 0)
    expect(found, 'the state of a whole transaction').toBeGreaterThanOrEqual(0)
    expect(found, 'what was promised').toBeGreaterThanOrEqual(promised)
    this.#attach()
  }
}

describe('transactions', () => {
  it(`are there whole or not at all, over ${CUTS * STARTS} cuts (seed ${SEED})`, async () => {
    let torn = 0
    for (let i = 0; i < CUTS; i++) {
      const run = new Run(SEED + i)
      await run.start()
      for (let start = 0; start < STARTS; start++) {
        await run.work()
        await run.again()
      }
      // The log that was cut, gone on with and cut again holds nothing of what never was.
      run.rig.disk.intercept = null
      torn += run.torn
      await run.rig.close()
    }
    // A cut must fall into some of them.
    expect(torn).toBeGreaterThan(CUTS / 10)
  })
})
