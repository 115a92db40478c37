import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ready } from '../../src/broker/deliver.ts'
import {
  type MemoryLevel,
  memoryLevel,
  type MemoryProbe,
  MemoryWatch
} from '../../src/broker/memory-watch.ts'
import { Owner } from '../../src/broker/owner.ts'
import { subscribe } from '../../src/broker/sessions.ts'
import { Client, openRig, type Rig } from '../support/broker-rig.ts'

const SUBSCRIBE_OPTIONS = {
  qos: 1,
  noLocal: false,
  retainAsPublished: false,
  retainHandling: 2,
  identifier: 0
}
const MARKS = { yellowPercent: 60, redPercent: 80, limitBytes: 1_000 }

/** 200 bytes are native; what was resident once stays so. */
class FakeProbe implements MemoryProbe {
  heldBytes = 100
  garbageBytes = 0
  collections = 0
  samples = 0
  #most = 0

  residentBytes(): number {
    this.#most = Math.max(this.#most, 200 + this.heldBytes + this.garbageBytes)
    return this.#most
  }

  sample() {
    this.samples++
    return { residentBytes: this.residentBytes(), heldBytes: this.heldBytes + this.garbageBytes }
  }

  collect(): void {
    this.collections++
    this.garbageBytes = 0
  }
}

let rig: Rig
let client: Client
let probe: FakeProbe
let watch: MemoryWatch

beforeEach(async () => {
  rig = await openRig()
  client = new Client(rig, 'client')
  rig.broker.publishers.add(client)
  probe = new FakeProbe()
  watch = new MemoryWatch(rig.broker, MARKS, probe)
})

afterEach(async () => {
  await rig.close()
})

function ticks(count: number): void {
  for (let i = 0; i < count; i++) watch.tick()
}

function lines(): unknown[] {
  return rig.lines.filter(line => 'memoryLevel' in line).map(line => line['memoryLevel'])
}

describe('the level of memory', () => {
  it.each<[number, MemoryLevel, MemoryLevel]>([
    [599, 'green', 'green'],
    [600, 'green', 'yellow'],
    [500, 'yellow', 'yellow'],
    [499, 'yellow', 'green'],
    [799, 'yellow', 'yellow'],
    [800, 'yellow', 'red'],
    [800, 'green', 'red'],
    [700, 'red', 'red'],
    [699, 'red', 'yellow'],
    [500, 'red', 'yellow'],
    [499, 'red', 'green']
  ])('with %i of 1000 bytes used, after %s, is %s', (used, before, level) => {
    expect(memoryLevel(used, MARKS, before)).toBe(level)
  })
})

describe('the watch over memory', () => {
  it('looks at nothing but the resident size while all is green', () => {
    ticks(100)
    expect(probe.samples).toBe(0)
    expect(probe.collections).toBe(0)
    expect(lines()).toEqual([])
  })

  it('is red at the second tick, refuses and pauses, and says so once', () => {
    probe.heldBytes = 650
    ticks(1)
    expect(rig.broker.memoryAlarm).toBe(false)
    ticks(1)
    expect(watch.level).toBe('red')
    expect(rig.broker.memoryAlarm).toBe(true)
    expect(rig.broker.isPaused).toBe(true)
    expect(client.events).toEqual(['alarm', 'pause'])
    ticks(5)
    expect(lines()).toEqual(['red'])
  })

  it('takes a peak of one tick for none', () => {
    probe.heldBytes = 650
    ticks(1)
    probe.heldBytes = 100
    ticks(1)
    probe.heldBytes = 650
    ticks(1)
    expect(client.events).toEqual([])
    expect(rig.broker.memoryAlarm).toBe(false)
  })

  it('takes garbage for none', () => {
    probe.garbageBytes = 900
    ticks(2)
    expect(probe.collections).toBe(1)
    expect(rig.broker.memoryAlarm).toBe(false)
  })

  it('gives up what the journal keeps for later reads, and reads it again', async () => {
    const reader = new Client(rig, 'reader').open({ expiry: 3_600 })
    subscribe(rig.broker, reader.session!, 'a', SUBSCRIBE_OPTIONS)
    reader.takes = false
    for (let i = 0; i < 20; i++) client.publish('a', `${i}`.padEnd(60_000), { qos: 1 })
    await rig.flush()
    const before = rig.journal.stats.cachedBytes
    expect(before).toBeGreaterThan(1_000_000)
    probe.heldBytes = 650
    ticks(1)
    expect(rig.journal.stats.cachedBytes).toBeLessThan(before / 4)
    reader.takes = true
    ready(rig.broker, reader.session!.queue)
    while (reader.got.length < 20) await rig.flush()
    expect(reader.payloads.map(payload => Number(payload))).toEqual([...Array(20).keys()])
  })

  it('does not collect more often than every tenth tick', () => {
    probe.heldBytes = 650
    ticks(100)
    expect(probe.collections).toBe(10)
  })

  it('ends by itself when clients let go, though what was freed stays resident', () => {
    probe.heldBytes = 700
    ticks(2)
    probe.heldBytes = 100
    probe.garbageBytes = 600
    ticks(10)
    expect(rig.broker.memoryAlarm).toBe(false)
    expect(rig.broker.isPaused).toBe(false)
    expect(watch.level).toBe('green')
    expect(client.events.slice(0, 2)).toEqual(['alarm', 'pause'])
    expect(client.events.slice(-2)).toEqual(['no alarm', 'resume'])
    expect(probe.residentBytes()).toBe(900)
    expect(lines()).toEqual(['red', 'green'])
  })

  it('lets some who are not read go on in turn, so that it sees who has left', () => {
    const others = Array.from({ length: 99 }, (_, i) => new Client(rig, `other-${i}`))
    for (const other of others) rig.broker.publishers.add(other)
    probe.heldBytes = 650
    ticks(2)
    const resumed = () => others.filter(other => other.events.includes('resume')).length
    expect(resumed()).toBe(0)
    ticks(1)
    expect(resumed()).toBeLessThan(33)
    ticks(4)
    expect(resumed()).toBe(99)
    expect(rig.broker.isPaused).toBe(true)
  })
})

describe('two causes of a pause', () => {
  it('do not end each other', () => {
    const owner = new Owner(rig.broker)
    owner.onBackpressure(true)
    probe.heldBytes = 650
    ticks(2)
    expect(client.events).toEqual(['pause', 'alarm'])
    owner.onBackpressure(false)
    expect(rig.broker.isPaused).toBe(true)
    owner.onBackpressure(true)
    probe.heldBytes = 100
    ticks(1)
    expect(rig.broker.isPaused).toBe(true)
    expect(client.events).toEqual(['pause', 'alarm', 'no alarm'])
    owner.onBackpressure(false)
    expect(rig.broker.isPaused).toBe(false)
    expect(client.events.at(-1)).toBe('resume')
  })

  it('do not end the alarm of the other', () => {
    const owner = new Owner(rig.broker)
    owner.onDiskLevel('red')
    probe.heldBytes = 650
    ticks(2)
    owner.onDiskLevel('green')
    expect(client.events).toEqual(['alarm', 'pause'])
    expect(rig.broker.refusal).toBe(0)
    probe.heldBytes = 100
    ticks(1)
    expect(client.events).toEqual(['alarm', 'pause', 'no alarm', 'resume'])
  })
})
