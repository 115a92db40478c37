/**
 * A disk that stands still, under the built program: what waits for it waits, all else goes on (O14 in small; with its
 * figures: `npm run long -- overload o14`).
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { readMetrics } from '../support/metrics.ts'
import { until } from '../support/overload.ts'
import { Program } from '../support/program.ts'
import { packet, RawMqtt, text } from '../support/raw-mqtt.ts'
import { requireProgram } from '../support/require.ts'
import { SlowDisk } from '../support/slow-disk.ts'

const WAIT_MS = 10_000
const PUBLISHERS = 40
const EACH = 5

const publish = (topic: string, payload: string, id: number, first = 0x32) =>
  packet(first, text(topic), id === 0 ? [] : [0, id], Buffer.from(payload))
const subscribe = (filter: string, qos: number) => packet(0x82, [0, 1], text(filter), [qos])
const puback = (id: number) => packet(0x40, [0, id])

requireProgram('gcc')('while the disk stands still', () => {
  let dataDir: string
  let disk: SlowDisk
  let program: Program
  const clients: RawMqtt[] = []

  beforeEach(async () => {
    dataDir = mkdtempSync(join(tmpdir(), 'motemq-slow-data-'))
    disk = new SlowDisk(dataDir)
    program = await Program.start({ dataDir, env: disk.env })
  })
  afterEach(async () => {
    for (const client of clients.splice(0)) client.destroy()
    disk.goOn()
    await program.remove()
    disk.remove()
    rmSync(dataDir, { recursive: true, force: true })
  })

  async function client(clientId: string, clean = true): Promise<RawMqtt> {
    const raw = await RawMqtt.dial(program.port('mqtt'))
    clients.push(raw)
    await raw.connect(4, { clientId, clean })
    return raw
  }

  /** Of the log: files that are prepared meanwhile are synced too. */
  async function syncs(): Promise<number> {
    return (await readMetrics(program)).sum('journal_syncs_total')
  }

  /** A lasting session with this subscription: what matches it must be on the disk. */
  async function lasting(filter: string): Promise<RawMqtt> {
    const raw = await client('lasting', false)
    raw.send(subscribe(filter, 1))
    expect((await raw.next())[0]).toBe(0x90)
    return raw
  }

  it('what it must keep is delivered but not acknowledged, and all else goes on', async () => {
    const kept = await lasting('kept/#')
    const publisher = await client('publisher')
    publisher.send(publish('retained/a', 'old', 1, 0x33))
    expect(await publisher.next()).toEqual(puback(1))

    disk.hold()
    publisher.send(publish('kept/a', 'new', 2))
    expect((await kept.next()).toString('latin1')).toContain('kept/a')
    await until(() => disk.waiting > 0, WAIT_MS, 'the disk is asked')

    // A new client, its subscriptions, what is retained, QoS 0, and QoS 1 that nobody keeps.
    const other = await client('other')
    other.send(subscribe('retained/#', 1), subscribe('live/#', 1))
    const answers = [await other.next(), await other.next(), await other.next()]
    expect(answers.map(([first]) => first! >> 4).sort()).toEqual([3, 9, 9])
    for (let round = 0; round < 50; round++) {
      other.send(publish('live/q0', `${round}`, 0, 0x30))
      expect((await other.next()).toString('latin1')).toContain(`live/q0${round}`)
    }
    const third = await client('third')
    third.send(publish('live/q1', 'x', 1))
    expect(await third.next()).toEqual(puback(1))
    // Nothing but the answer to its ping: its message of before is not acknowledged yet.
    await publisher.quiet()
    expect(disk.waiting).toBeGreaterThan(0)

    disk.goOn()
    expect(await publisher.next()).toEqual(puback(2))
  })

  it('what gathers becomes durable with few syncs', async () => {
    await lasting('kept/#')
    const publishers = await Promise.all(
      Array.from({ length: PUBLISHERS }, (_, index) => client(`publisher-${index}`))
    )
    publishers[0]!.send(publish('kept/first', 'x', 1))
    await publishers[0]!.next()

    disk.hold()
    const before = await syncs()
    publishers[0]!.send(publish('kept/first', 'x', 1))
    await until(() => disk.waiting > 0, WAIT_MS, 'the disk is asked')
    for (const one of publishers) {
      for (let id = 2; id < 2 + EACH; id++) one.send(publish('kept/a', 'x', id))
    }
    for (const one of publishers) await one.quiet()
    disk.goOn()
    expect(await publishers[0]!.next()).toEqual(puback(1))
    for (const one of publishers) {
      for (let id = 2; id < 2 + EACH; id++) expect(await one.next()).toEqual(puback(id))
    }
    // The one that was held, one with all that gathered; one more when a batch was under way.
    expect((await syncs()) - before).toBeLessThanOrEqual(3)
  })

  it('a stop waits for what was taken, and it is there after the start', async () => {
    const kept = await lasting('kept/#')
    const publisher = await client('publisher')
    kept.destroy()
    disk.hold()
    for (let id = 1; id <= 100; id++) publisher.send(publish('kept/a', `<${id}>`, id))
    await publisher.quiet()
    const stopped = program.stop()
    disk.goOn()
    const acknowledged = await publisher.rest()
    expect(acknowledged.filter(one => one[0] === 0x40)).toHaveLength(100)
    await stopped

    await program.restart()
    const back = await RawMqtt.dial(program.port('mqtt'))
    clients.push(back)
    expect((await back.connect(4, { clientId: 'lasting', clean: false }))[2]).toBe(1)
    for (let id = 1; id <= 100; id++) {
      expect((await back.next()).toString('latin1')).toContain(`<${id}>`)
    }
  })
})
