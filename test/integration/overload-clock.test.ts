/**
 * The wall clock jumps under the built program: nothing expires and nobody is closed for it, deadlines run on (O13).
 * Debian's libfaketime fakes the wall clock only; what it says stands in a file that changes while the program runs.
 */
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import type { IConnectPacket } from 'mqtt-packet'
import mqttPacket from 'mqtt-packet'
import { readMetrics } from '../support/metrics.ts'
import { sleep, until } from '../support/overload.ts'
import { Program } from '../support/program.ts'
import { RawMqtt } from '../support/raw-mqtt.ts'
import { requireProgram } from '../support/require.ts'

const HOUR = 3_600
const YEAR = 365 * 24 * HOUR
const DAY = 24 * HOUR
/** More than the second after which deadlines are looked at. */
const LOOK_MS = 1_200
const WAITING = 5
const EXPIRY_SECONDS = 120

/** Debian's package `faketime` brings the library of this machine's architecture. */
function findLibrary(): string {
  for (const folder of readdirSync('/usr/lib')) {
    const library = `/usr/lib/${folder}/faketime/libfaketime.so.1`
    if (existsSync(library)) return library
  }
  throw new Error('faketime without its library')
}

requireProgram('faketime')('when the wall clock jumps', () => {
  let folder: string
  let program: Program
  const clients: RawMqtt[] = []

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'motemq-clock-'))
  })
  afterEach(async () => {
    for (const client of clients.splice(0)) client.destroy()
    await program.remove()
    rmSync(folder, { recursive: true, force: true })
  })

  /** Seconds beside the true time, or an absolute time from which the clock runs on. */
  function setClock(to: number | string): void {
    const text = typeof to === 'string' ? to : `${to < 0 ? '' : '+'}${to}`
    writeFileSync(join(folder, 'clock'), `${text}\n`)
  }

  async function start(): Promise<void> {
    program = await Program.start({
      dataDir: join(folder, 'data'),
      flags: ['--session-expiry-seconds-max', `${90 * DAY}`],
      env: {
        LD_PRELOAD: findLibrary(),
        FAKETIME_TIMESTAMP_FILE: join(folder, 'clock'),
        FAKETIME_NO_CACHE: '1',
        FAKETIME_DONT_FAKE_MONOTONIC: '1',
        DONT_FAKE_MONOTONIC: '1',
        NO_FAKE_STAT: '1'
      }
    })
  }

  async function connect(
    clientId: string,
    options: Partial<IConnectPacket> = {}
  ): Promise<{ raw: RawMqtt; isPresent: boolean }> {
    const raw = await RawMqtt.dial(program.port('mqtt'))
    clients.push(raw)
    const connack = await raw.connect(5, { clientId, ...options })
    expect(connack[3]).toBe(0)
    return { raw, isPresent: connack[2] === 1 }
  }

  const lasting = (seconds: number) => ({
    clean: false,
    properties: { sessionExpiryInterval: seconds }
  })

  async function subscribe(raw: RawMqtt, topic: string): Promise<void> {
    const subscriptions = [{ topic, qos: 1 as const, rh: 0 as const }]
    raw.send(
      mqttPacket.generate({ cmd: 'subscribe', messageId: 1, subscriptions }, { protocolVersion: 5 })
    )
    expect((await raw.next())[0]).toBe(0x90)
  }

  async function publish(
    raw: RawMqtt,
    topic: string,
    payload: string,
    expirySeconds: number,
    retain = false
  ): Promise<void> {
    raw.send(
      mqttPacket.generate(
        {
          cmd: 'publish',
          topic,
          payload,
          qos: 1,
          retain,
          dup: false,
          messageId: 1,
          properties: { messageExpiryInterval: expirySeconds }
        },
        { protocolVersion: 5 }
      )
    )
    expect((await raw.next())[0]).toBe(0x40)
  }

  /** Everything that has a deadline, and a client with a keepalive; what the jumps must not touch. */
  async function prepare(): Promise<{ watcher: RawMqtt }> {
    const { raw: sleeper } = await connect('sleeper', lasting(10 * 60))
    await subscribe(sleeper, 'kept/#')
    sleeper.destroy()
    const { raw: publisher } = await connect('publisher')
    for (let i = 0; i < WAITING; i++) await publish(publisher, 'kept/a', `${i}`, EXPIRY_SECONDS)
    await publish(publisher, 'retained/a', 'r', EXPIRY_SECONDS, true)
    const will = {
      topic: 'wills/a',
      payload: Buffer.from('gone'),
      qos: 1 as const,
      retain: false,
      properties: { willDelayInterval: 10 * 60 }
    }
    const { raw: dying } = await connect('dying', { ...lasting(HOUR), will })
    dying.destroy()
    const { raw: watcher } = await connect('watcher', { keepalive: 30 })
    await subscribe(watcher, 'wills/#')
    return { watcher }
  }

  /** Nothing of what was prepared is gone. */
  async function check(watcher: RawMqtt | null): Promise<void> {
    // Still connected, and no will has come.
    if (watcher !== null) await watcher.quiet()
    const { raw: sleeper, isPresent } = await connect('sleeper', lasting(10 * 60))
    expect(isPresent).toBe(true)
    for (let i = 0; i < WAITING; i++) {
      const found = await sleeper.read()
      expect(found).toMatchObject({ cmd: 'publish', topic: 'kept/a' })
      if (found.cmd !== 'publish') continue
      expect(`${found.payload}`).toBe(`${i}`)
      const left = found.properties?.messageExpiryInterval ?? 0
      expect(left).toBeGreaterThan(EXPIRY_SECONDS / 2)
      expect(left).toBeLessThanOrEqual(EXPIRY_SECONDS)
    }
    const { raw: reader } = await connect('reader')
    await subscribe(reader, 'retained/#')
    expect(await reader.read()).toMatchObject({ cmd: 'publish', topic: 'retained/a' })
    const metrics = await readMetrics(program)
    expect(metrics.sum('messages_dropped_total', { reason: 'expired' })).toBe(0)
  }

  /** And what is due is due: the deadlines have not stopped. */
  async function checkDeadlines(): Promise<void> {
    const { raw: brief } = await connect('brief', lasting(HOUR))
    await subscribe(brief, 'brief/#')
    brief.destroy()
    const { raw: watcher } = await connect('watcher-2')
    await subscribe(watcher, 'wills/soon')
    const { raw: publisher } = await connect('publisher-2')
    await publish(publisher, 'brief/a', 'x', 1)
    const will = {
      topic: 'wills/soon',
      payload: Buffer.from('gone'),
      qos: 0 as const,
      retain: false,
      properties: { willDelayInterval: 1 }
    }
    const { raw: dying } = await connect('dying-2', { ...lasting(HOUR), will })
    dying.destroy()
    expect(await watcher.read()).toMatchObject({ cmd: 'publish', topic: 'wills/soon' })
    await sleep(LOOK_MS)
    const { raw: back, isPresent } = await connect('brief', lasting(HOUR))
    expect(isPresent).toBe(true)
    await back.quiet()
  }

  it('an hour, ten years, ahead and back: nothing expires, nobody is closed, deadlines run on', async () => {
    setClock(0)
    await start()
    const { watcher } = await prepare()
    for (const seconds of [HOUR, -HOUR, 10 * YEAR, -10 * YEAR]) {
      setClock(seconds)
      await sleep(LOOK_MS)
      // The program has seen it: else nothing is shown here.
      await connect('prober')
      await program.waitForLog(line => {
        const offBy = Date.parse(String(line['time'])) - Date.now() - seconds * 1_000
        return Math.abs(offBy) < 60_000
      })
      await watcher.quiet()
    }
    await check(watcher)
    await checkDeadlines()
  })

  it('back again and again, a hundred times: nothing expires, and deadlines run on', async () => {
    setClock(0)
    await start()
    const { watcher } = await prepare()
    for (let round = 1; round <= 100; round++) {
      setClock(-round * 60)
      await sleep(15)
    }
    await sleep(LOOK_MS)
    await check(watcher)
    await checkDeadlines()
  })

  it('a start an hour back, one in 1970 and then the right time: nothing expires', async () => {
    setClock(0)
    await start()
    await prepare()
    for (const to of [-HOUR, '@1970-01-01 00:01:00']) {
      await program.kill()
      setClock(to)
      await program.restart()
    }
    const { raw: watcher } = await connect('watcher', { keepalive: 30 })
    await subscribe(watcher, 'wills/#')
    await sleep(LOOK_MS)
    setClock(0)
    await sleep(LOOK_MS)
    await check(watcher)
    await checkDeadlines()
  })

  it('a start with the clock ten years ahead gains thirty days, no more', async () => {
    setClock(0)
    await start()
    for (const [clientId, days] of [
      ['20 days', 20],
      ['60 days', 60]
    ] as const) {
      const { raw } = await connect(clientId, lasting(days * DAY))
      raw.destroy()
    }
    await until(
      async () => (await readMetrics(program)).sum('sessions', { state: 'offline' }) === 2,
      5_000,
      'both are away'
    )
    await program.kill()
    setClock(10 * YEAR)
    await program.restart()
    await sleep(LOOK_MS)
    expect((await connect('20 days', lasting(20 * DAY))).isPresent).toBe(false)
    expect((await connect('60 days', lasting(60 * DAY))).isPresent).toBe(true)
  })
})
