/** `queues:` of the config file: declared when missing, never changed, never taken away. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect } from 'amqplib'
import { connectAsync } from 'mqtt'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { MotemqProcess, runMotemq } from '../support/motemq-process.ts'

let cwd = ''
let running: MotemqProcess | null = null

beforeEach(() => {
  cwd = mkdtempSync(join(tmpdir(), 'motemq-queues-'))
})
afterEach(async () => {
  await running?.stop('SIGKILL')
  running = null
  rmSync(cwd, { recursive: true, force: true })
})

const LISTEN = ['--listen', 'mqtt://127.0.0.1:0', '--listen', 'amqp://127.0.0.1:0']

function configure(text: string): void {
  writeFileSync(join(cwd, 'motemq.yaml'), text)
}

async function start(): Promise<string[]> {
  running = new MotemqProcess(['start', '--data', 'd', ...LISTEN], { cwd, env: {} })
  return [...(await running.ready())]
}

const TELEMETRY = `queues:
  - name: telemetry
    bindings: ["sensors/+/t", { exchange: amq.direct, key: direct }]
    arguments: { x-max-length: 10 }
`

describe('a queue of the config file', () => {
  it('is there at the first start, bound to its filters and keys, and keeps what devices publish', async () => {
    configure(TELEMETRY)
    const [mqttUrl = '', amqpUrl = ''] = await start()
    const device = await connectAsync(mqttUrl)
    await device.publishAsync('sensors/a/t', 'one', { qos: 1 })
    await device.publishAsync('sensors/a/other', 'not bound', { qos: 1 })
    await device.endAsync()
    const backend = await connect(amqpUrl.replace('//', '//guest:guest@'))
    const channel = await backend.createConfirmChannel()
    channel.publish('amq.direct', 'direct', Buffer.from('two'), { persistent: true })
    await channel.waitForConfirms()
    for (const expected of ['one', 'two']) {
      const message = await channel.get('telemetry', { noAck: true })
      expect(message === false ? 'nothing' : message.content.toString()).toBe(expected)
    }
    expect(await channel.get('telemetry')).toBe(false)
    await backend.close()
  })

  it('with other arguments than those that are there refuses the start, and names both values', async () => {
    configure(TELEMETRY)
    await start()
    await running?.stop()
    configure(TELEMETRY.replace('10', '20'))
    const { code, stderr } = await runMotemq(['start', '--data', 'd', ...LISTEN], { cwd })
    expect(code).toBe(2)
    expect(stderr).toMatch(/x-max-length.*telemetry.*'20'.*'10'/)
    configure(TELEMETRY)
    expect(await start()).toHaveLength(2)
  })

  it('stays when it is gone from the file, and a line says so', async () => {
    configure(TELEMETRY)
    await start()
    await running?.stop()
    configure('queues: []\n')
    const [, amqpUrl = ''] = await start()
    const lines = running!.stdout
      .trimEnd()
      .split('\n')
      .map(line => JSON.parse(line))
    expect(lines.filter(line => line.queue === 'telemetry')).toHaveLength(1)
    const backend = await connect(amqpUrl.replace('//', '//guest:guest@'))
    const channel = await backend.createChannel()
    expect((await channel.checkQueue('telemetry')).messageCount).toBe(0)
    await backend.close()
  })
})
