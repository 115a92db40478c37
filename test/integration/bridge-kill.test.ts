/** Both sides are killed at random, again and again: nothing is lost, order is kept, and what comes twice is known. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect } from 'amqplib'
import { connectAsync } from 'mqtt'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { freePort } from '../support/free-port.ts'
import { MotemqProcess } from '../support/motemq-process.ts'
import { seededRandom } from '../support/random.ts'

/** Each takes a start of a broker. */
const KILLS = Number(process.env['MOTEMQ_TEST_KILLS'] ?? 4)
const KILL_MS = 30_000
const TOPICS = 3

let cwd = ''
let far: MotemqProcess
let near: MotemqProcess

beforeEach(() => {
  cwd = mkdtempSync(join(tmpdir(), 'motemq-bridge-'))
})
afterEach(async () => {
  await near.stop('SIGKILL')
  await far.stop('SIGKILL')
  rmSync(cwd, { recursive: true, force: true })
})

async function start(words: readonly string[]): Promise<MotemqProcess> {
  const started = new MotemqProcess(words, { cwd })
  await started.ready()
  return started
}

it(
  'a bridge loses nothing when either side is killed',
  async () => {
    const [farPort, nearPort] = [await freePort(), await freePort()]
    const farUrl = `amqp://127.0.0.1:${farPort}`
    writeFileSync(
      join(cwd, 'near.yaml'),
      `bridges:\n- { name: cloud, url: "${farUrl}", topics: ["t/#"], window: 50, retryMinMs: 50, retryMaxMs: 300 }\n`
    )
    const farWords = ['--data', 'far', '--listen', farUrl]
    const nearWords = [
      '--config',
      'near.yaml',
      '--data',
      'near',
      '--listen',
      `mqtt://127.0.0.1:${nearPort}`
    ]
    far = await start(farWords)
    const client = await connect(`amqp://guest:guest@127.0.0.1:${farPort}`)
    const setup = await client.createChannel()
    await setup.assertQueue('backend')
    await setup.bindQueue('backend', 'amq.topic', 't.#')
    await client.close()
    near = await start(nearWords)

    const random = seededRandom(Number(process.env['MOTEMQ_TEST_SEED'] ?? 7))
    const acked: Set<string>[] = Array.from({ length: TOPICS }, () => new Set())
    let next = 0
    for (let round = 0; round < KILLS; round++) {
      const device = await connectAsync(`mqtt://127.0.0.1:${nearPort}`, { reconnectPeriod: 0 })
      device.on('error', () => undefined)
      const kill = 20 + Math.floor(random() * 80)
      for (let i = 0; i < 100; i++) {
        const topic = i % TOPICS
        const text = String(next++)
        device.publish(`t/${topic}`, text, { qos: 1 }, error => {
          if (!error) acked[topic]!.add(text)
        })
        if (i === kill && round % 2 === 0) {
          await near.stop('SIGKILL')
          near = await start(nearWords)
          break
        }
        if (i === kill) {
          await far.stop('SIGKILL')
          far = await start(farWords)
        }
        if (random() < 0.3) await new Promise(resolve => setTimeout(resolve, 1))
      }
      if (round % 2 === 1)
        while (acked.reduce((sum, { size }) => sum + size, 0) === 0) await pause()
      await device.endAsync(round % 2 === 0)
    }
    expect(acked.reduce((sum, { size }) => sum + size, 0)).toBeGreaterThan(10 * KILLS)
    await expectAll(farPort, acked)
  },
  (KILLS + 4) * KILL_MS
)

const pause = () => new Promise(resolve => setTimeout(resolve, 20))

/** Reads until all that was acknowledged is there. */
async function expectAll(port: number, acked: readonly Set<string>[]): Promise<void> {
  const client = await connect(`amqp://guest:guest@127.0.0.1:${port}`)
  const channel = await client.createChannel()
  const missing = new Set(acked.flatMap(each => [...each]))
  const byId = new Map<string, string>()
  const last = new Map<string, number>()
  while (missing.size > 0) {
    const got = await channel.get('backend', { noAck: true })
    if (got === false) {
      await pause()
      continue
    }
    const text = got.content.toString()
    const id = String(got.properties.messageId)
    if (byId.has(id)) {
      expect(byId.get(id)).toBe(text)
      continue
    }
    byId.set(id, text)
    missing.delete(text)
    const { routingKey } = got.fields
    expect(Number(text)).toBeGreaterThan(last.get(routingKey) ?? -1)
    last.set(routingKey, Number(text))
  }
  await client.close()
}
