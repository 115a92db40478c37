/**
 * A backlog (O7 of the overload cases, small): most of it is index records in the journal, as a million messages would
 * be; it is all there after a kill, in order, and its bounds hold.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { afterEach, expect, it } from 'vitest'
import { publishAcked } from '../support/acked-publisher.ts'
import { readMetrics } from '../support/metrics.ts'
import { Program } from '../support/program.ts'
import { Readers } from '../support/readers.ts'

const COUNT = 20_000
const BYTES = 200
/** More than the 8,192 below which a queue keeps all its places in memory. */
const SESSION_MAX = 12_000

let program: Program
let child: ChildProcess | null = null

afterEach(async () => {
  child?.kill('SIGKILL')
  await program.remove()
})

async function start(...flags: string[]): Promise<void> {
  program = await Program.start({ flags: ['--limits-hot-entries-max', '1000', ...flags] })
}

function reader(protocol: 'mqtt' | 'amqp', queueBytesMax = 0): Readers {
  const run = ([command = '', ...words]: readonly string[]) => {
    child = spawn(command, words, { stdio: ['pipe', 'pipe', 'pipe'] })
    return child
  }
  const port = program.port(protocol)
  const filter = 'back/log'
  const base = { protocol, clients: 1, prefix: 'backlog', filter, qos: 1, clean: false } as const
  return new Readers(run, { ...base, port, queueBytesMax })
}

/** Comes, so that its session or queue is there, and goes. */
async function visit(protocol: 'mqtt' | 'amqp', queueBytesMax = 0): Promise<void> {
  const first = reader(protocol, queueBytesMax)
  await first.until(({ up }) => up === 1, 20_000)
  first.tell('end')
  await expect.poll(() => metric('connections'), { timeout: 10_000 }).toBe(0)
}

function publish(count: number): Promise<void> {
  const port = program.port('mqtt')
  return publishAcked({ port, topic: 'back/log', number: 0, count, bytes: BYTES, window: 50 })
}

async function metric(name: string, labels: Record<string, string> = {}): Promise<number> {
  return (await readMetrics(program)).sum(name, labels)
}

for (const protocol of ['amqp', 'mqtt'] as const) {
  const what = protocol === 'amqp' ? 'a queue' : 'a session that is away'
  const waiting = protocol === 'amqp' ? 'messages_ready' : 'session_messages'

  it(`what waits in ${what} is there after a kill, in order`, async () => {
    await start()
    await visit(protocol)
    await publish(COUNT)
    await program.kill()
    await program.restart()
    expect(await metric(waiting)).toBe(COUNT)
    const report = await reader(protocol).until(({ received }) => received >= COUNT, 60_000)
    expect(report).toMatchObject({ received: COUNT, disorder: 0 })
    await expect.poll(() => metric(waiting), { timeout: 10_000 }).toBe(0)
  })

  it(`the bound of ${what} holds when most of it is on the disk: the oldest go, counted`, async () => {
    await start('--limits-session-messages-max', String(SESSION_MAX))
    await visit(protocol, SESSION_MAX * BYTES)
    await publish(COUNT)
    expect(await metric(waiting)).toBeLessThanOrEqual(SESSION_MAX)
    expect(await metric('messages_dropped_total', { reason: 'queue_full' })).toBe(
      COUNT - (await metric(waiting))
    )
    const kept = await metric(waiting)
    const report = await reader(protocol, SESSION_MAX * BYTES).until(
      ({ received }) => received >= kept,
      60_000
    )
    expect(report).toMatchObject({ received: kept, disorder: 0 })
  })
}
