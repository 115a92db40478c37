/** `motemq demo` and `motemq bench`: their sums are those of the broker and of other programs. */
import { connect as connectAmqplib } from 'amqplib'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { LossyRelay } from '../support/lossy-relay.ts'
import { readMetrics } from '../support/metrics.ts'
import { runMotemq } from '../support/motemq-process.ts'
import { Program } from '../support/program.ts'
import { requireProgram } from '../support/require.ts'
import { start } from '../support/run.ts'

let program: Program
let cwd: string

beforeAll(async () => {
  program = await Program.start()
  cwd = mkdtempSync(join(tmpdir(), 'motemq-demo-test-'))
})

afterAll(async () => {
  await program.remove()
  rmSync(cwd, { recursive: true, force: true })
})

const mqttUrl = () => `mqtt://127.0.0.1:${program.port('mqtt')}`
const demo = (url: string, ...flags: string[]) =>
  runMotemq(
    [
      ...['demo', '--seconds', '2', '--url', url],
      ...['--amqp', `amqp://127.0.0.1:${program.port('amqp')}`],
      ...['--metrics', `http://127.0.0.1:${program.port('http')}/metrics`],
      ...flags
    ],
    { cwd }
  )

const SUM = /^(\d+) published (=|≠) (\d+) received \+ (\d+) waiting \+ (\d+) dropped(.*)$/

function lastLine(stdout: string): RegExpExecArray {
  const line = stdout.trimEnd().split('\n').at(-1) ?? ''
  const found = SUM.exec(line)
  if (found === null) throw new Error(`no sum: ${stdout}`)
  return found
}

describe('motemq demo', () => {
  it('comes out even on a broker that is there, shows a will, and leaves nothing behind', async () => {
    const { code, stdout } = await demo(mqttUrl())
    const [, published, sign, received, waiting, dropped] = lastLine(stdout)
    expect([code, sign, waiting, dropped]).toEqual([0, '=', '0', '0'])
    expect(Number(published)).toBeGreaterThan(50)
    expect(received).toBe(published)
    expect(stdout).toMatch(/the will of door-06/)
    // A line a second, as nobody watches.
    expect(stdout.match(/^published \d+ {2}received \d+/gm)!.length).toBeGreaterThan(1)
    const metrics = await readMetrics(program)
    expect(metrics.sum('queues')).toBe(0)
    expect(metrics.sum('retained_messages')).toBe(0)
    // The broker counted as many: those of the sensors, those that clear the retained ones, no will.
    const sensors = Number(published) - 1
    expect(metrics.sum('messages_received_total', { protocol: 'mqtt' })).toBe(sensors + 13)
  })

  it('ends with 1 and says so when a message is lost on the way', async () => {
    const relay = await LossyRelay.start(program.port('mqtt'), 1)
    const { code, stdout } = await demo(`mqtt://127.0.0.1:${relay.port}`)
    relay.close()
    expect(relay.lost).toBe(1)
    expect([code, lastLine(stdout)[2], lastLine(stdout)[6]]).toEqual([1, '≠', ': 1 lost'])
  })

  it('starts a broker of its own where none is, and removes it', async () => {
    const { code, stdout } = await runMotemq(
      ['demo', '--seconds', '1', '--url', 'mqtt://127.0.0.1:1'],
      { cwd }
    )
    expect(stdout).toContain('no broker is at mqtt://127.0.0.1:1')
    expect(lastLine(stdout)[2]).toBe('=')
    expect(code).toBe(0)
    const url = /runs at (mqtt:\S+),/.exec(stdout)?.[1] ?? ''
    await expect(fetch(url.replace('mqtt:', 'http:'))).rejects.toThrow()
  })

  it('counts over MQTT where nothing speaks AMQP', async () => {
    const { code, stdout } = await demo(mqttUrl(), '--amqp', 'amqp://127.0.0.1:1')
    expect(stdout).toContain('nothing speaks AMQP')
    expect([code, lastLine(stdout)[2]]).toEqual([0, '='])
  })

  const amqpUrl = () => `amqp://127.0.0.1:${program.port('amqp')}`

  async function benchAmqp(...flags: string[]): Promise<Report> {
    const words = ['bench', '--amqp', amqpUrl(), '--seconds', '1', '--pid', String(program.pid)]
    const { code, stdout, stderr } = await runMotemq([...words, '--json', ...flags], { cwd })
    if (code !== 0) throw new Error(`bench ended with ${code}: ${stdout}${stderr}`)
    return JSON.parse(stdout) as Report
  }

  const amqpLoads: [name: string, flags: string[], deliveries: number][] = [
    ['pairs', ['--publishers', '4'], 1],
    [
      'pairs with fewer consumers, acknowledgements, prefetch',
      ['--publishers', '5', '--subscribers', '2', '--qos', '1', '--prefetch', '10'],
      1
    ],
    [
      'a work queue, durable',
      ['--layout', 'fan-in', '--qos', '1', '--durable', '--subscribers', '3'],
      1
    ],
    ['fan-out', ['--layout', 'fan-out', '--subscribers', '7', '--qos', '1'], 7],
    ['confirms alone', ['--subscribers', '0', '--qos', '1', '--durable'], 0],
    [
      'large payloads',
      ['--size', '200000', '--window', '5', '--qos', '1', '--connections', '3'],
      1
    ],
    ['a rate', ['--rate', '300', '--qos', '1'], 1]
  ]
  it.each(amqpLoads)('counts every message over AMQP: %s', async (_, flags, deliveries) => {
    const before = await readMetrics(program)
    const report = await benchAmqp(...flags)
    const after = await readMetrics(program)
    const counted = (name: string) =>
      after.sum(name, { protocol: 'amqp' }) - before.sum(name, { protocol: 'amqp' })
    expect(report.published).toBe(counted('messages_received_total'))
    expect(report.received).toBe(counted('messages_sent_total'))
    expect(report.received).toBe(report.published * deliveries)
    expect(report.lost).toBe(0)
    if (flags.includes('--qos')) expect(report.acknowledged).toBe(report.published)
    // It deletes its queues.
    expect(after.sum('queues')).toBe(before.sum('queues'))
  })

  it('over AMQP publishes what amqplib counts', async () => {
    const connection = await connectAmqplib(amqpUrl())
    const channel = await connection.createChannel()
    await channel.assertExchange('counted', 'fanout', { durable: false, autoDelete: true })
    await channel.assertQueue('beside', { exclusive: true })
    await channel.bindQueue('beside', 'counted', '')
    let count = 0
    await channel.consume('beside', () => count++, { noAck: true })
    const flags = ['--layout', 'fan-out', '--subscribers', '2', '--rate', '300', '--qos', '1']
    const { published, received } = await benchAmqp('--topic', 'counted', ...flags)
    await expect.poll(() => count).toBe(published)
    expect(received).toBe(2 * published)
    await connection.close()
  })

  it('refuses wrong flags', async () => {
    for (const flags of [
      ['--amqp', 'http://127.0.0.1'],
      ['--amqp', amqpUrl(), '--qos', '2'],
      ['--amqp', amqpUrl(), '--mqtt', '5'],
      ['--amqp', amqpUrl(), '--prefetch', '-1']
    ]) {
      const { code } = await runMotemq(['bench', ...flags], { cwd })
      expect(code).toBe(2)
    }
    for (const flags of [['--seconds', 'x'], ['--url', 'foo://x'], ['--nonsense']]) {
      expect((await runMotemq(['demo', ...flags], { cwd })).code).toBe(2)
    }
  })
})

interface Report {
  published: number
  received: number
  expected: number
  lost: number
  acknowledged: number
  latencyUs: { p50: number; p99: number; p999: number; max: number }
  bytesOut: number
  generator: { cpuShare: number; isBottleneck: boolean }
  broker: { cpuUsPerDelivery: number; residentBytes: number }
}

async function bench(...flags: string[]): Promise<Report> {
  const words = [
    'bench',
    '--url',
    mqttUrl(),
    '--seconds',
    '1',
    '--pid',
    String(program.pid),
    '--json'
  ]
  const { code, stdout, stderr } = await runMotemq([...words, ...flags], { cwd })
  if (code !== 0) throw new Error(`bench ended with ${code}: ${stdout}${stderr}`)
  return JSON.parse(stdout) as Report
}

describe('motemq bench', () => {
  const loads: [name: string, flags: string[], deliveries: number][] = [
    ['pairs', ['--publishers', '4'], 1],
    ['fan-in at QoS 1', ['--layout', 'fan-in', '--qos', '1', '--publishers', '5'], 1],
    ['fan-out at QoS 2', ['--layout', 'fan-out', '--qos', '2', '--subscribers', '7'], 7],
    ['a rate', ['--rate', '500', '--qos', '1'], 1],
    ['durable sessions', ['--durable', '--qos', '1', '--connections', '5'], 1],
    ['MQTT 3.1.1 with large payloads', ['--mqtt', '3.1.1', '--size', '20000', '--window', '5'], 1]
  ]
  it.each(loads)('counts every message: %s', async (_, flags, deliveries) => {
    const before = await readMetrics(program)
    const report = await bench(...flags)
    const after = await readMetrics(program)
    const counted = (name: string) =>
      after.sum(name, { protocol: 'mqtt' }) - before.sum(name, { protocol: 'mqtt' })
    expect(report.published).toBe(counted('messages_received_total'))
    expect(report.received).toBe(counted('messages_sent_total'))
    expect(report.received).toBe(report.published * deliveries)
    expect(report.lost).toBe(0)
    if (flags.includes('--qos')) expect(report.acknowledged).toBe(report.published)
    const { p50, p99, p999, max } = report.latencyUs
    expect([p50, p99, p999, max].toSorted((a, b) => a - b)).toEqual([p50, p99, p999, max])
    expect(report.bytesOut).toBeGreaterThan(report.published * 16)
    expect(report.broker.residentBytes).toBeGreaterThan(10_000_000)
    const { cpuShare, isBottleneck } = report.generator
    expect(cpuShare).toBeGreaterThan(0)
    // Rounded to three digits in the report.
    if (Math.abs(cpuShare - 0.9) > 0.001) expect(isBottleneck).toBe(cpuShare > 0.9)
    expect(after.sum('sessions', { state: 'offline' })).toBe(
      before.sum('sessions', { state: 'offline' })
    )
  })

  it('refuses wrong flags', async () => {
    for (const flags of [
      ['--qos', '3'],
      ['--layout', 'x'],
      ['--size', '1'],
      ['--pid', '999999999']
    ]) {
      const { code } = await runMotemq(['bench', '--url', mqttUrl(), ...flags], { cwd })
      expect(code).toBe(2)
    }
  })

  it('prints for people', async () => {
    const words = ['bench', '--url', mqttUrl(), '--seconds', '1', '--rate', '100']
    const { stdout } = await runMotemq(words, { cwd })
    expect(stdout).toMatch(/^pairs: 10 publishers, 10 subscribers/)
    expect(stdout).toMatch(/latency {4}p50 [\d.]+ ms {2}p99/)
    expect(stdout).not.toContain('broker  ')
  })
})

requireProgram('mosquitto_sub')('motemq bench beside mosquitto_sub', () => {
  it('published what mosquitto_sub counts', async () => {
    const at = ['-h', '127.0.0.1', '-p', String(program.port('mqtt'))]
    const sub = start('mosquitto_sub', [
      ...at,
      '-t',
      'counted/#',
      '-q',
      '1',
      '-F',
      '%t',
      '-T',
      'counted/ready'
    ])
    while ((await readMetrics(program)).sum('subscriptions') < 1) {
      await new Promise(resolve => setTimeout(resolve, 10))
    }
    const { published } = await bench('--topic', 'counted', '--qos', '1', '--rate', '300')
    const flags = ['pub', ...at, '-t', 'counted/end', '-m', 'end', '-q', '1']
    expect((await runMotemq(flags, { cwd })).code).toBe(0)
    await sub.saw('counted/end')
    sub.kill()
    const { stdout } = await sub.result
    expect(stdout.trimEnd().split('\n')).toHaveLength(published + 1)
  })
})
