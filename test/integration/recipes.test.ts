/** The programs of `docs/recipes`, as a reader runs them, against a broker started for each. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { freePort } from '../support/free-port.ts'
import { Program } from '../support/program.ts'
import { requireProgram } from '../support/require.ts'
import { start } from '../support/run.ts'

const FOLDER = fileURLToPath(new URL('../../docs/recipes/', import.meta.url))

/** Arguments that make it short, and what it ends with. */
const RECIPES: readonly [name: string, args: readonly string[], last: string][] = [
  ['peak-shaving', ['2000', '4000'], '2000 orders are done, each of them once'],
  ['decoupling', [], 'the service is back and has all 300, in order'],
  ['rpc', [], 'MQTT: 144 for first'],
  ['severity', [], '  info: stopped'],
  ['ability', [], 'fast: '],
  ['expiring-orders', ['0.005'], 'order '],
  ['priorities', [], '100 reports were done when the alarm came; it was number 101, the mail 102'],
  ['alternate-exchange', [], 'look-at-this: a misspelt one (shop, ordr.new)'],
  ['poison', [], 'good 1, good 2 are done; poison is aside after 3 attempts (delivery_limit)'],
  ['outbox', [], '20 orders, 21 messages, 20 different ones'],
  ['single-active', [], 'first: 50, second: 50, in order: true']
]
const ONCE = 'once'

let program: Program

async function follow(name: string, args: readonly string[], env: Record<string, string> = {}) {
  const running = start(process.execPath, [join(FOLDER, `${name}.mjs`), ...args], {
    timeoutMs: 60_000,
    env: {
      AMQP_URL: `amqp://guest:guest@127.0.0.1:${program.port('amqp')}`,
      MQTT_URL: `mqtt://127.0.0.1:${program.port('mqtt')}`,
      ...env
    }
  })
  const result = await running.result
  expect(result.stderr).toBe('')
  expect(result.code).toBe(0)
  return result.stdout.trimEnd().split('\n').at(-1)
}

describe('recipes', () => {
  beforeAll(async () => {
    program = await Program.start()
  })
  afterAll(async () => {
    await program.remove()
  })

  it.each(RECIPES)('%s does what its page says', async (name, args, last) => {
    expect(await follow(name, args)).toContain(last)
  })

  it('have a page and a program each, and a line in the overview', () => {
    const names = [...RECIPES.map(([name]) => name), ONCE].sort()
    const files = readdirSync(FOLDER)
    const of = (end: string) =>
      files
        .filter(file => file.endsWith(end) && file !== 'README.md')
        .map(file => file.slice(0, -end.length))
    expect(of('.mjs').sort()).toEqual(names)
    expect(of('.md').sort()).toEqual(names)
    const overview = readFileSync(join(FOLDER, 'README.md'), 'utf8')
    for (const name of names) expect(overview).toContain(`(${name}.md)`)
  })

  requireProgram('redis-server')('with Redis', () => {
    it(`${ONCE} does what its page says`, async () => {
      const port = await freePort()
      const words = ['--port', `${port}`, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no']
      const redis = start('redis-server', words, { timeoutMs: 120_000 })
      try {
        await redis.saw('Ready to accept connections')
        const last = await follow(ONCE, [], { REDIS_URL: `redis://127.0.0.1:${port}` })
        expect(last).toBe('110 deliveries, 100 payments')
      } finally {
        redis.kill()
        await redis.result
      }
    })
  })
})
