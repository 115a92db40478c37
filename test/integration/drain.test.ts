import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { MotemqProcess, runMotemq } from '../support/motemq-process.ts'
import { packet, RawMqtt, text } from '../support/raw-mqtt.ts'

let cwd = ''
let broker: MotemqProcess | null = null

beforeEach(() => {
  cwd = mkdtempSync(join(tmpdir(), 'motemq-drain-'))
})
afterEach(async () => {
  await broker?.stop('SIGKILL')
  broker = null
  rmSync(cwd, { recursive: true, force: true })
})

const drain = (...words: string[]) => runMotemq(['drain', ...words, '--data', 'd'], { cwd })

async function start(...words: string[]): Promise<number> {
  broker = new MotemqProcess(['--data', 'd', '--listen', 'mqtt://127.0.0.1:0', ...words], { cwd })
  const urls = await broker.ready()
  return Number(urls[0]!.split(':').at(-1))
}

describe('motemq drain', () => {
  it('sends clients to another broker, and takes them again with --off', async () => {
    const port = await start('--mqtt-server-reference', 'second:1883')
    const old = await RawMqtt.dial(port)
    await old.connect(5, { clientId: 'old' })
    const told = await drain()
    expect(told).toMatchObject({ code: 0, stderr: '' })
    expect(told.stdout).toBe('draining: 1 MQTT connections are sent away to second:1883\n')
    const reference = { serverReference: 'second:1883' }
    expect(await old.read()).toMatchObject({ reasonCode: 0x9c, properties: reference })
    const moved = await drain('--to', 'third:1', '--moved')
    expect(moved.stdout).toBe('draining: 0 MQTT connections are sent away to third:1 for good\n')
    const fresh = await RawMqtt.dial(port)
    fresh.version = 5
    fresh.send(packet(0x10, text('MQTT'), '05 02 00 3c 00', text('x')))
    const third = { serverReference: 'third:1' }
    expect(await fresh.read()).toMatchObject({ reasonCode: 0x9d, properties: third })
    expect((await drain('--off')).stdout).toBe('not draining: MQTT clients are taken\n')
    const again = await RawMqtt.dial(port)
    expect((await again.connect(5, { clientId: 'x' }))[3]).toBe(0)
    again.destroy()
  })

  it('says in one line what is wrong', async () => {
    const none = await drain()
    expect(none).toMatchObject({ code: 1, stdout: '' })
    expect(none.stderr).toMatch(/^motemq: no broker runs on the data folder .*\n$/)
    expect((await drain('--off', '--moved')).code).toBe(2)
  })
})

describe('over a restart', () => {
  it('sessions end at their time, and wills come after their delay or not at all', async () => {
    const flags = ['--limits-will-restart-grace-ms', '500ms']
    let port = await start(...flags)
    const options = (expiry: number, delay: number, payload: string) => ({
      clean: true,
      properties: { sessionExpiryInterval: expiry },
      will: {
        topic: 'w',
        payload: Buffer.from(payload),
        qos: 1 as const,
        retain: false,
        properties: { willDelayInterval: delay }
      }
    })
    const watcher = await RawMqtt.dial(port)
    await watcher.connect(4, { clientId: 'watcher', clean: false })
    watcher.send(packet(0x82, '00 01', text('w'), '01'))
    await watcher.next()
    // One whose session ends before its will is due, one that is back in time, one that is not.
    for (const [id, expiry, delay] of [
      ['short', 2, 3600],
      // As long as a start may take on a machine that is busy.
      ['back', 3600, 30],
      ['gone', 3600, 2]
    ] as const) {
      const raw = await RawMqtt.dial(port)
      await raw.connect(5, { clientId: id, ...options(expiry, delay, id) })
      raw.destroy()
    }
    await new Promise(resolve => setTimeout(resolve, 300))
    await broker!.stop('SIGKILL')
    port = await start(...flags)
    const again = await RawMqtt.dial(port)
    await again.connect(4, { clientId: 'watcher', clean: false })
    const back = await RawMqtt.dial(port)
    const session = { clean: false, properties: { sessionExpiryInterval: 3600 } }
    expect((await back.connect(5, { clientId: 'back', ...session }))[2]).toBe(1)
    const found = [await again.read(), await again.read()] as { payload: Buffer }[]
    expect(found.map(({ payload }) => payload.toString()).sort()).toEqual(['gone', 'short'])
    const short = await RawMqtt.dial(port)
    expect((await short.connect(5, { clientId: 'short', ...session }))[2]).toBe(0)
    await again.quiet()
    for (const raw of [again, back, short]) raw.destroy()
  })
})
