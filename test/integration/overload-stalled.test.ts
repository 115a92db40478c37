/**
 * Clients whose process is stopped while they are sent to (O6 of the overload cases, small): their connections are
 * closed, what is for their sessions goes to the disk, and it is all there when they are back.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { publishAcked } from '../support/acked-publisher.ts'
import { readMetrics } from '../support/metrics.ts'
import { Program } from '../support/program.ts'
import { Readers } from '../support/readers.ts'

const CLIENTS = 4
/** More than one output buffer and what the kernel buffers for a peer that does not read. */
const COUNT = 800
const BYTES = 10_240
const SMALL_COUNT = 5_000
/** Few places in memory, so that the backlog of a session is index records. */
const HOT_ENTRIES_MAX = 1_000

let program: Program
let child: ChildProcess | null = null

beforeEach(async () => {
  program = await Program.start({
    flags: [
      '--limits-drain-timeout-ms',
      '2000',
      '--limits-hot-entries-max',
      String(HOT_ENTRIES_MAX)
    ]
  })
})

afterEach(async () => {
  child?.kill('SIGKILL')
  await program.remove()
})

function readers(keepaliveSeconds: number): Readers {
  const start = ([command = '', ...words]: readonly string[]) => {
    child = spawn(command, words, { stdio: ['pipe', 'pipe', 'pipe'] })
    return child
  }
  return new Readers(start, {
    protocol: 'mqtt',
    clients: CLIENTS,
    prefix: 'stalled',
    filter: 'stall/#',
    qos: 1,
    clean: false,
    keepaliveSeconds,
    port: program.port('mqtt')
  })
}

function publish(number: number, count: number, bytes: number): Promise<void> {
  const port = program.port('mqtt')
  return publishAcked({ port, topic: `stall/${number}`, number, count, bytes, window: 20 })
}

async function metric(name: string, labels: Record<string, string> = {}): Promise<number> {
  return (await readMetrics(program)).sum(name, labels)
}

for (const keepaliveSeconds of [2, 0]) {
  const how = keepaliveSeconds > 0 ? 'its keepalive' : 'the write stall'
  it(`a stopped client is closed by ${how}, and gets everything in order when it is back`, async () => {
    const stalled = readers(keepaliveSeconds)
    await stalled.until(({ up }) => up === CLIENTS, 20_000)
    stalled.child.kill('SIGSTOP')
    if (keepaliveSeconds === 0) await publish(1, COUNT, BYTES)
    await expect.poll(() => metric('connections'), { timeout: 20_000 }).toBe(0)
    await publish(2, SMALL_COUNT, 100)
    const count = SMALL_COUNT + (keepaliveSeconds === 0 ? COUNT : 0)
    expect(await metric('session_messages')).toBe(CLIENTS * count)
    await program.kill()
    await program.restart()
    expect(await metric('session_messages')).toBe(CLIENTS * count)
    stalled.child.kill('SIGCONT')
    await stalled.until(({ closed }) => closed === CLIENTS, 20_000)
    stalled.tell('again')
    const report = await stalled.until(({ received }) => received >= CLIENTS * count, 60_000)
    expect(report).toMatchObject({
      received: CLIENTS * count,
      least: count,
      most: count,
      present: CLIENTS,
      disorder: 0
    })
    await expect.poll(() => metric('session_messages'), { timeout: 20_000 }).toBe(0)
    expect(await metric('messages_dropped_total')).toBe(0)
  })
}
