/** `motemq bench --amqp`: what it says is what another client counts, over TCP and over TLS. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect } from 'amqplib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Report } from '../../src/cli/bench.ts'
import { Authority } from '../support/certs.ts'
import { runMotemq } from '../support/motemq-process.ts'
import { Program } from '../support/program.ts'

const LOAD = ['--publishers', '3', '--seconds', '1', '--rate', '600', '--json']

let program: Program
let folder: string

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'motemq-bench-'))
  const authority = new Authority()
  const { cert, key } = authority.server()
  const files = { 'server.crt': cert, 'server.key': key, 'ca.crt': authority.own.cert }
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text)
  program = await Program.start({
    listen: ['amqp://127.0.0.1:0', 'amqps://127.0.0.1:0'],
    flags: ['--tls-cert', join(folder, 'server.crt'), '--tls-key', join(folder, 'server.key')]
  })
})

afterAll(async () => {
  await program.remove()
  rmSync(folder, { recursive: true, force: true })
})

const urlOf = (scheme: string): string =>
  `${scheme}://localhost:${program.urls
    .find(url => url.startsWith(`${scheme}:`))!
    .split(':')
    .at(-1)}`

async function bench(scheme: string, ...words: string[]): Promise<Report> {
  const env = { NODE_EXTRA_CA_CERTS: join(folder, 'ca.crt') }
  const command = ['bench', '--amqp', urlOf(scheme), ...LOAD, ...words]
  const { code, stdout, stderr } = await runMotemq(command, { cwd: folder, env })
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  return JSON.parse(stdout) as Report
}

describe.each(['amqp', 'amqps'])('motemq bench --amqp %s://…', scheme => {
  it('publishes what amqplib gets beside its own consumers, each as often', async () => {
    const connection = await connect(urlOf('amqp').replace('localhost', '127.0.0.1'))
    const channel = await connection.createChannel()
    const topic = `fan.${scheme}`
    await channel.assertExchange(topic, 'fanout', { durable: false, autoDelete: true })
    const { queue } = await channel.assertQueue('', { exclusive: true })
    await channel.bindQueue(queue, topic, '')
    const words = ['--layout', 'fan-out', '--subscribers', '2', '--qos', '1', '--topic', topic]
    const report = await bench(scheme, ...words)
    expect(report.published).toBeGreaterThan(100)
    expect(report.acknowledged).toBe(report.published)
    expect(report.expected).toBe(2 * report.published)
    expect([report.received, report.lost]).toEqual([2 * report.published, 0])
    expect((await channel.checkQueue(queue)).messageCount).toBe(report.published)
    await connection.close()
  })
})

it('leaves no queue behind, and loses nothing of pairs without acknowledgements', async () => {
  const connection = await connect(urlOf('amqp').replace('localhost', '127.0.0.1'))
  const report = await bench('amqp', '--topic', 'pairs')
  expect(report.received).toBe(report.published)
  const channel = await connection.createChannel()
  channel.on('error', () => undefined)
  await expect(channel.checkQueue('pairs/0')).rejects.toThrow('NOT_FOUND')
  await connection.close()
})
