/**
 * A full disk (O9 of the overload cases): publishers are held back before the disk is full, consumers and deletes go
 * on, nothing acknowledged is lost over kills and starts on the full disk, and all goes on by itself.
 * `MOTEMQ_DISK_ROUNDS` says how often.
 */
import { join } from 'node:path'
import { afterEach, expect, it } from 'vitest'
import { checkHistory, describeViolations } from '../support/checker.ts'
import { DiskLoad } from '../support/disk-load.ts'
import { History } from '../support/history.ts'
import { readMetrics } from '../support/metrics.ts'
import { Program } from '../support/program.ts'
import { type DiskKind, requireSmallDisk, SmallDisk } from '../support/small-disk.ts'

const BYTES = 32 * 1024 * 1024
const rounds = Number(process.env['MOTEMQ_DISK_ROUNDS'] ?? 1)
/** More than there are segments in reserve: each start takes one, and gives those before it back in a moment. */
const KILLS = 6
const UP_MS = 1_500
const FLOWS = ['five', 'three', 'two', 'two-v3', 'amqp']
const INODES = 64
/** For some more segments. */
const INODES_LEFT = 6
const LEVELS = ['green', 'yellow', 'red']

let disk: SmallDisk
let program: Program
let load: DiskLoad

afterEach(async () => {
  load?.cut()
  await program?.remove()
  disk?.remove()
})

const ports = () => ({ mqtt: program.port('mqtt'), amqp: program.port('amqp') })
const wait = (ms: number) => new Promise<void>(resolve => setTimeout(resolve, ms))

/** The level that the metrics and `/readyz` agree on. */
async function level(): Promise<string> {
  const metrics = await readMetrics(program)
  const response = await fetch(new URL('/readyz', program.url('http')))
  const { diskLevel } = (await response.json()) as { diskLevel: string }
  const found = LEVELS.find(name => metrics.sum('disk_level', { level: name }) === 1)
  const isReady = response.status === 200
  return found === diskLevel && isReady === (found !== 'red')
    ? found
    : `metrics ${found}, readyz ${diskLevel} ${response.status}`
}

async function becomes(wanted: string): Promise<void> {
  await expect.poll(level, { timeout: 30_000, interval: 50 }).toBe(wanted)
}

const acknowledged = () => FLOWS.map(flow => load.count('ok', flow))

/** Every publisher is acknowledged again. */
async function goesOn(before: readonly number[]): Promise<void> {
  const stuck = () => FLOWS.filter((flow, i) => load.count('ok', flow) === before[i])
  await expect.poll(stuck, { timeout: 30_000 }).toEqual([])
}

/** Nobody is acknowledged; each is told, or held, in the way of its protocol. */
async function isHeld(): Promise<void> {
  await wait(300)
  const acked = load.count('ok')
  const refused = load.count('fail', 'five')
  await expect.poll(() => load.count('fail', 'five'), { timeout: 5_000 }).toBeGreaterThan(refused)
  await expect.poll(() => load.amqpSignals.at(-1), { timeout: 5_000 }).toBe('blocked')
  await load.pongs()
  expect(load.count('ok')).toBe(acked)
  expect(load.count('fail', 'three')).toBe(0)
}

function levelLines(): unknown[] {
  return program.logs.filter(line => 'diskLevel' in line).map(line => line['diskLevel'])
}

async function die(): Promise<void> {
  load.history.record({ f: 'crash', type: 'info', proc: 'broker', how: 'kill' })
  await program.kill()
  load.cut()
  await program.restart()
  load.history.record({ f: 'start', type: 'ok', proc: 'broker' })
}

async function round(): Promise<void> {
  await load.declare(ports())
  await load.connect(ports())
  load.start()
  await becomes('yellow')
  // Somebody else takes the rest, while everybody publishes.
  disk.fill()
  await becomes('red')
  await isHeld()
  const held = acknowledged()
  disk.free()
  await goesOn(held)
  expect(load.amqpSignals).toContain('unblocked')
  // Now we fill it.
  await becomes('red')
  expect(disk.freeBytes).toBeGreaterThan(0)
  await isHeld()
  const changes = levelLines()
  expect(changes.slice(-4)).toEqual(['yellow', 'red', 'yellow', 'red'])
  load.stop()
  disk.fill()
  await load.takeFromQueue(50)
  expect(await load.deleteQueue()).toBe(50)
  for (let kill = 0; kill < KILLS; kill++) {
    await die()
    await wait(UP_MS)
    if (kill === 2) await load.takeFromQueue(20)
  }
  await load.takeFromQueue(20)
  expect(await level()).toBe('red')
  disk.free()
  await load.connect(ports())
  load.start()
  await isHeld()
  await load.drain()
  await becomes('green')
  const drained = acknowledged()
  load.start()
  await goesOn(drained)
  await load.drain()
  await load.end()
}

for (const kind of ['ext4', 'tmpfs'] as const satisfies readonly DiskKind[]) {
  requireSmallDisk(kind)(`a full disk of 32 MiB (${kind})`, () => {
    it(`holds publishers before it is full, loses nothing over kills, and goes on by itself, ${rounds} times`, {
      timeout: 60_000 + rounds * 120_000
    }, async () => {
      disk = new SmallDisk(kind, BYTES)
      const history = new History(`disk-${kind}`)
      load = new DiskLoad(history)
      program = await Program.start({ dataDir: join(disk.folder, 'data') })
      for (let count = 0; count < rounds; count++) await round()
      await program.stop()
      const { violations, stats } = checkHistory(history.events, { killGraceMs: 500 })
      expect(describeViolations(violations)).toBe('')
      expect(stats.acked).toBeGreaterThan(2_000 * rounds)
    })
  })
}

requireSmallDisk('ext4')('a disk without inodes left (ext4)', () => {
  it('holds publishers as a full one does, and goes on when it is drained', async () => {
    disk = new SmallDisk('ext4', 2 * BYTES, INODES)
    const history = new History('inodes')
    load = new DiskLoad(history)
    program = await Program.start({ dataDir: join(disk.folder, 'data') })
    await load.declare(ports())
    await load.connect(ports())
    disk.takeInodes(INODES_LEFT)
    load.start()
    await becomes('red')
    expect(disk.freeBytes).toBeGreaterThan(BYTES / 2)
    await isHeld()
    await die()
    // A segment that was being made when it died may be there now: then it is not red at once.
    await load.connect(ports())
    await load.drain()
    await becomes('green')
    const drained = acknowledged()
    load.start()
    await goesOn(drained)
    await load.drain()
    await load.end()
    await program.stop()
    const { violations } = checkHistory(history.events, { killGraceMs: 500 })
    expect(describeViolations(violations)).toBe('')
  })
})
