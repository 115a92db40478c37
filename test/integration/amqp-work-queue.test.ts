/**
 * A work queue of a hundred consumers that are killed at random: every message is settled, what comes again says so,
 * and what the broker knows to be settled never comes again.
 */
import { type ChannelModel, connect, type ConsumeMessage } from 'amqplib'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { Program } from '../support/program.ts'
import { between, seededRandom } from '../support/random.ts'
import { requiresAll } from '../support/require.ts'

const CONSUMERS = 100
const MESSAGES = requiresAll ? 10_000 : 2_000
const KILLS = requiresAll ? 200 : 60
const SEED = Number(process.env['MOTEMQ_SEED'] ?? Date.now() % 1_000_000)

let program: Program

beforeAll(async () => {
  program = await Program.start({ listen: ['amqp://127.0.0.1:0'] })
})

afterAll(async () => {
  await program.remove()
})

interface Job {
  deliveries: number
  /** An acknowledgement was sent. */
  isAcked: boolean
  /** The broker has read it. */
  isSettled: boolean
}

class WorkQueue {
  readonly jobs: Job[] = Array.from({ length: MESSAGES }, () => ({
    deliveries: 0,
    isAcked: false,
    isSettled: false
  }))
  readonly faults: string[] = []
  readonly random = seededRandom(SEED)
  /** What ends once nobody is killed any more: null then. Until then half of the jobs do not end, so the killed hold some. */
  #unfinished: (() => void)[] | null = []
  readonly #url: string

  constructor(url: string) {
    this.#url = url
  }

  get done(): number {
    return this.jobs.filter(job => job.isAcked).length
  }

  get again(): number {
    return this.jobs.filter(job => job.deliveries > 1).length
  }

  /** The killing is over. */
  calm(): void {
    const unfinished = this.#unfinished ?? []
    this.#unfinished = null
    for (const finish of unfinished) finish()
  }

  async open(): Promise<ChannelModel> {
    const connection = await connect(this.#url)
    // Killed ones say so.
    connection.on('error', () => undefined)
    return connection
  }

  async publish(): Promise<void> {
    const connection = await this.open()
    const channel = await connection.createConfirmChannel()
    await channel.assertQueue('work', { durable: true })
    for (let id = 0; id < MESSAGES; id++) {
      channel.sendToQueue('work', Buffer.from(String(id)), { persistent: true })
      if (id % 200 === 199) await channel.waitForConfirms()
    }
    await channel.waitForConfirms()
    await connection.close()
  }

  /** A consumer; what it returns kills it, without a word to the broker. */
  async consume(): Promise<Worker> {
    const connection = await this.open()
    const channel = await connection.createChannel()
    channel.on('error', () => undefined)
    await channel.assertQueue('work', { durable: true })
    await channel.prefetch(between(this.random, 1, 5))
    const worker: Worker = { isAlive: true, sent: [], kill, settle }
    function kill(): void {
      worker.isAlive = false
      // The stream beneath: no close is sent.
      ;(connection.connection as unknown as { stream: { destroy(): void } }).stream.destroy()
    }
    const { jobs } = this
    /** What was acknowledged before an answer has been read by the broker. */
    async function settle(): Promise<void> {
      const sent = worker.sent.splice(0)
      await channel.checkQueue('work')
      for (const id of sent) jobs[id]!.isSettled = true
    }
    await channel.consume('work', message => {
      if (message === null) return
      const id = this.#onDelivery(message)
      const finish = () => {
        if (!worker.isAlive) return
        jobs[id]!.isAcked = true
        worker.sent.push(id)
        channel.ack(message)
      }
      if (this.#unfinished !== null && between(this.random, 0, 1) === 0) {
        this.#unfinished.push(finish)
      } else setTimeout(finish, between(this.random, 0, 300))
    })
    return worker
  }

  #onDelivery({ content, fields }: ConsumeMessage): number {
    const id = Number(content.toString())
    const job = this.jobs[id]!
    job.deliveries++
    if (job.isSettled) this.faults.push(`${id} came again although it was settled`)
    if (job.deliveries > 1 && !fields.redelivered)
      this.faults.push(`${id} came again without saying so`)
    return id
  }
}

interface Worker {
  isAlive: boolean
  readonly sent: number[]
  kill(): void
  settle(): Promise<void>
}

it(`settles every message of a hundred consumers of which ${KILLS} are killed (seed ${SEED})`, async () => {
  const work = new WorkQueue(`amqp://guest:guest@127.0.0.1:${program.port('amqp')}`)
  await work.publish()
  const workers = await Promise.all(Array.from({ length: CONSUMERS }, () => work.consume()))
  for (let i = 0; i < KILLS; i++) {
    const at = between(work.random, 0, CONSUMERS - 1)
    await workers[between(work.random, 0, CONSUMERS - 1)]!.settle().catch(() => undefined)
    workers[at]!.kill()
    workers[at] = await work.consume()
  }
  work.calm()
  await expect.poll(() => work.done, { timeout: 40_000 }).toBe(MESSAGES)
  await Promise.all(workers.map(worker => worker.settle()))
  expect(work.faults).toEqual([])
  const connection = await work.open()
  const channel = await connection.createChannel()
  for (const worker of workers) worker.kill()
  await expect
    .poll(async () => (await channel.checkQueue('work')).consumerCount, { timeout: 20_000 })
    .toBe(0)
  expect((await channel.checkQueue('work')).messageCount).toBe(0)
  expect(work.again).toBeGreaterThan(KILLS)
  await connection.close()
})
