/** Delayed messages over restarts, crashes and wrong clocks, and when the disk takes nothing. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { declareExchange } from '../../src/broker/exchanges.ts'
import { ERROR_CODES } from '../../src/core/errors.ts'
import type { DelayStore } from '../../src/core/delay-store.ts'
import type { FieldTable } from '../../src/core/field-table.ts'
import { Backend, openRig, type Rig, turns, Worker } from '../support/broker-rig.ts'
import { bindTo, declaredQueue } from '../support/declared-queue.ts'
import { chargedBytes, lastingState, liveBytes } from '../support/lasting-state.ts'
import { consume } from '../../src/broker/consumers.ts'
import { text } from '../support/routing.ts'

const DAY = 24 * 3_600 * 1_000
const SMALL = {
  segmentBytes: 256 * 1024,
  cacheBytes: 512 * 1024,
  checkpointBytes: 128 * 1024,
  deadBytesMax: 1
}

let rig: Rig
let backend: Backend

async function open(options: Parameters<typeof openRig>[0] = {}): Promise<void> {
  rig = await openRig(options)
  backend = new Backend(rig)
  declare('later', true)
  queue('q', 'later')
}

beforeEach(async () => {
  await open()
})

afterEach(async () => {
  await rig.close()
})

function declare(name: string, durable: boolean): void {
  declareExchange(rig.broker, rig.vhost, {
    name,
    kind: 'x-delayed-message',
    passive: false,
    durable,
    autoDelete: false,
    internal: false,
    arguments: [['x-delayed-type', text('fanout')]],
    principal: null
  })
}

function queue(name: string, from: string, durable = true): void {
  declaredQueue(rig, name, { durable })
  bindTo(rig, name, from, '')
}

const delay = (ms: number): FieldTable => [['x-delay', { type: 'l', value: BigInt(ms) }]]

function later(payload: string, ms: number, to = 'later'): number {
  return backend.publish(to, 'k', payload, true, delay(ms))
}

async function again(how: 'crash' | 'restart', options: Parameters<Rig['crash']>[0] = {}) {
  await rig.flush()
  rig = await rig[how](options)
  backend = new Backend(rig)
}

const store = (name = 'later'): DelayStore => rig.vhost.exchanges.get(name)!.delay!
const ready = (name = 'q'): number => rig.queue(name).readyCount

describe('a delayed message', () => {
  it('is confirmed when it is on the disk, and is due after a crash and after a restart', async () => {
    const ticket = later('a', 60_000)
    expect(ticket).toBe(rig.journal.ticket)
    later('b', 3_000)
    await again('crash')
    expect([store().count, ready()]).toEqual([2, 0])
    await rig.pass(3_000)
    expect([store().count, ready()]).toEqual([1, 1])
    await again('restart')
    await rig.pass(57_000)
    expect([store().count, ready()]).toEqual([0, 2])
    await again('crash')
    expect([store().count, ready()]).toEqual([0, 2])
    expect(rig.recovery.skippedRecords).toBe(0)
  })

  it('has no ticket for whom nobody waits', () => {
    expect(backend.publish('later', 'k', 'x', false, delay(5))).toBe(0)
    expect(store().count).toBe(1)
  })

  it('that was due while nobody ran leaves at the start; a clock that was set changes nothing', async () => {
    later('a', 10 * DAY)
    later('b', 20 * DAY)
    later('c', 3_650 * DAY)
    await rig.flush()
    // The wall clock jumps by decades, forth and back: store time does not.
    rig.clock.setWall(2_700_000_000_000)
    await rig.pass(1_000)
    rig.clock.setWall(0)
    await rig.pass(1_000)
    expect(store().count).toBe(3)
    await again('crash')
    await rig.pass(1_000)
    expect(store().count).toBe(3)
    // Switched off for longer than is believed: thirty days.
    rig.clock.setWall(2_700_000_000_000 + 40 * 365 * DAY)
    await again('crash')
    await rig.pass(1)
    expect([store().count, ready()]).toEqual([1, 2])
  })

  it('of a passing exchange ends with the process, and is in no record', async () => {
    declare('passing', false)
    queue('p', 'passing', false)
    expect(later('x', 1_000, 'passing')).toBe(0)
    const { records } = rig.journal.stats
    later('y', 2_000, 'passing')
    expect(rig.journal.stats.records).toBe(records)
    await rig.pass(1_000)
    expect([store('passing').count, ready('p')]).toEqual([1, 1])
    await again('crash')
    expect(rig.broker.state.delays.count).toBe(0)
  })

  it('beyond the share of memory lies on the disk until the process ends', async () => {
    await rig.close()
    await open({ limits: { memoryBytesMax: 64 * 1024 } })
    declare('passing', false)
    queue('p', 'passing')
    for (let i = 0; i < 40; i++) later('x'.repeat(8_000), 1_000, 'passing')
    expect(rig.broker.slabs.bytes).toBeLessThanOrEqual(128 * 1024)
    await rig.pass(1_000)
    await turns(40)
    expect([store('passing').count, ready('p')]).toEqual([0, 40])
  })

  it('is taken by no full disk; what is due waits for the alarm to end', async () => {
    later('x', 1_000)
    rig.broker.diskAlarm = true
    rig.broker.judge()
    expect(later('y', 1_000)).toBe(-ERROR_CODES.diskAlarm)
    await rig.pass(2_000)
    expect([store().count, ready()]).toEqual([1, 0])
    rig.broker.diskAlarm = false
    rig.broker.judge()
    await expect.poll(() => ready(), { timeout: 10_000 }).toBe(1)
  })

  it('that is damaged is given up, counted', async () => {
    later('x', 1_000)
    store().insert(store().next, 1, 9_999, 4_100, 1, 1)
    await rig.pass(1_000)
    await expect.poll(() => store().count).toBe(0)
    expect(rig.dropped('damaged')).toBe(1)
  })
})

it('goes on when the alarm of memory is over, though nothing is on its way to the disk', async () => {
  later('x', 1)
  await rig.flush()
  rig.broker.memoryAlarm = true
  rig.broker.judgePause()
  await rig.pass(10)
  await rig.flush()
  expect([ready(), store().count]).toEqual([0, 1])
  rig.broker.memoryAlarm = false
  rig.broker.judgePause()
  await expect.poll(() => ready(), { timeout: 20_000 }).toBe(1)
})

describe('many delayed messages', () => {
  it('that are due at once leave over several turns', async () => {
    for (let i = 0; i < 3_000; i++) later('x', 1_000)
    await rig.pass(1_000)
    expect(store().count).toBeGreaterThan(0)
    await expect.poll(() => ready(), { timeout: 20_000 }).toBe(3_000)
    expect(store().count).toBe(0)
  })

  it('that are due at once leave in order, also from the disk', async () => {
    await rig.close()
    await open({ journalLimits: SMALL })
    for (let i = 0; i < 3_000; i++) later(`${i} ${'.'.repeat(700)}`, 60_000 + ((i * 7) % 500))
    await rig.flush()
    await rig.journal.checkpoint()
    await again('crash')
    expect(store().count).toBe(3_000)
    const worker = new Worker()
    consume(rig.broker, rig.queue('q'), worker, { exclusive: false, priority: 0 })
    await rig.pass(61_000)
    await expect.poll(() => worker.got.length, { timeout: 20_000 }).toBe(3_000)
    const numbers = worker.payloads.map(each => Number(each.split(' ')[0]))
    const expected = numbers
      .map((_, i) => i)
      .sort((a, b) => ((a * 7) % 500) - ((b * 7) % 500) || a - b)
    expect(numbers).toEqual(expected)
  })

  it('stay what they are while their segments are emptied', async () => {
    await rig.close()
    await open({ journalLimits: SMALL })
    const publish = (i: number) => later(`${i} ${'.'.repeat(700)}`, i % 10 === 0 ? 1_000 * DAY : 1)
    publish(0)
    // Before anything is emptied: that begins as soon as something of a segment is dead.
    store().first()
    const { segment } = store()
    for (let i = 1; i < 2_000; i++) publish(i)
    await rig.pass(10)
    await expect.poll(() => store().count, { timeout: 20_000 }).toBe(200)
    const worker = new Worker(1_000_000, true)
    consume(rig.broker, rig.queue('q'), worker, { exclusive: false, priority: 0 })
    await expect.poll(() => worker.got.length, { timeout: 20_000 }).toBe(1_800)
    for (let i = 0; i < 4; i++) {
      await rig.flush()
      await rig.journal.checkpoint()
      await turns(200)
    }
    expect(rig.journal.stats.recordsCompacted).toBeGreaterThan(100)
    store().first()
    expect(store().segment).toBeGreaterThan(segment)
    expect(chargedBytes(rig.broker)).toEqual(liveBytes(rig.broker, false))
    const before = (await lastingState(rig.broker)).filter(line => line.startsWith('delay'))
    expect(before.length).toBe(201)
    await again('crash')
    const after = (await lastingState(rig.broker)).filter(line => line.startsWith('delay'))
    expect(after).toEqual(before)
  })
})
