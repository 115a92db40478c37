/**
 * The disk refuses its N-th write or sync, for every N of a trace of the whole broker: nothing that the failed call
 * carried is ever acknowledged, QoS 0 goes on, health says so, and after a restart all that was acknowledged is there.
 */
import { describe, expect, test } from 'vitest'
import { healthRoutes } from '../../src/admin/health.ts'
import type { DiskCall, DiskFault } from '../support/simulated-disk.ts'
import { unbindQueue } from '../../src/broker/bindings.ts'
import { deleteQueue, purgeQueue } from '../../src/broker/queues.ts'
import { turns } from '../support/sim-disk-store.ts'
import { SimMqtt } from '../support/sim-mqtt.ts'
import { World } from '../support/sim-world.ts'

const SEED = Number(process.env['MOTEMQ_SEED'] ?? 77)
const STEPS = 22
const STEPS_AFTER = 8

interface Outcome {
  readonly world: World
  /** The call was made, and refused. */
  isHit: boolean
  durableAtHit: number
}

/** Load whose N-th call of a kind is refused, and a little more load. */
async function traceWith(call: DiskCall, nth: number, fault: DiskFault | null): Promise<Outcome> {
  const world = new World(SEED, { mayFail: true })
  const { disk } = world
  await world.open()
  const before = disk.counts.get(call) ?? 0
  const outcome = { world, isHit: false, durableAtHit: 0 }
  disk.intercept = (kind, _path, count) => {
    if (kind !== call || count !== before + nth || fault === null) return null
    outcome.isHit = true
    outcome.durableAtHit = world.sim.journal.durableTicket
    return fault
  }
  world.connectAll()
  for (let step = 0; step < STEPS && !world.sim.journal.failed; step++) {
    if (step % 5 === 4) world.sim.pass(60)
    await world.step()
  }
  if (fault !== null) for (let step = 0; step < STEPS_AFTER; step++) await world.step()
  return outcome
}

async function callsOf(call: DiskCall): Promise<number> {
  const fresh = new World(SEED, { mayFail: true })
  await fresh.open()
  const before = fresh.disk.counts.get(call) ?? 0
  fresh.sim.kill()
  const { world } = await traceWith(call, 0, null)
  world.sim.kill()
  return (world.disk.counts.get(call) ?? 0) - before
}

/** A new client publishes QoS 0 and another gets it: that needs no disk. */
async function goesOn(world: World): Promise<boolean> {
  const { messages, sim } = world
  const subscriber = new SimMqtt('y', 4, messages, true)
  const publisher = new SimMqtt('z', 5, messages, true)
  subscriber.flow = messages.flow('y')
  for (const peer of [subscriber, publisher]) peer.connect(sim.dial('mqtt'))
  const pump = async () => {
    await turns(3)
    subscriber.pump()
    publisher.pump()
  }
  await pump()
  subscriber.subscribe('zero', 0)
  await pump()
  const message = messages.create('z', 'zero', 0, 50, ['y'])
  publisher.publish(message)
  await pump()
  await pump()
  const isThere = subscriber.flow.has(message)
  subscriber.lose()
  publisher.lose()
  return isThere
}

async function healthOf(world: World): Promise<number> {
  const { broker, journal } = world.sim
  const routes = healthRoutes({
    isServing: () => true,
    stats: () => ({ journalFailed: broker.journal.failed, diskLevel: journal.level })
  })
  const get = routes.find(route => route.path === '/healthz')!.methods['GET']!
  const answer = await get(undefined as never)
  return answer.status
}

describe('the disk refuses one call', () => {
  const kinds: { name: string; call: DiskCall; fault: DiskFault }[] = [
    { name: 'EIO at a write', call: 'write', fault: { code: 'EIO' } },
    { name: 'ENOSPC at a write', call: 'write', fault: { code: 'ENOSPC' } },
    { name: 'a short write', call: 'write', fault: { bytes: 512 } },
    { name: 'EIO at a sync', call: 'sync', fault: { code: 'EIO' } },
    { name: 'ENOSPC at a sync', call: 'sync', fault: { code: 'ENOSPC' } }
  ]
  for (const { name, call, fault } of kinds) {
    test(`${name}, whichever it is, loses nothing that was acknowledged (seed ${SEED})`, async () => {
      const count = await callsOf(call)
      expect(count).toBeGreaterThan(10)
      let failed = 0
      for (let nth = 1; nth <= count; nth++) {
        const outcome = await traceWith(call, nth, fault)
        const { world } = outcome
        const where = `${name} ${nth}`
        if (world.sim.journal.failed) {
          failed++
          expect(world.sim.journal.durableTicket, where).toBe(outcome.durableAtHit)
          expect(await healthOf(world), where).toBe(503)
        }
        expect(await goesOn(world), `${where}: QoS 0`).toBe(true)
        world.disk.intercept = null
        world.crash(false)
        await world.open()
        await world.drain()
        world.sim.kill()
        expect(world.violations, where).toEqual([])
      }
      expect(failed).toBeGreaterThan(count / 8)
    })
  }
})

describe('behind a failed journal', () => {
  /** A world with what can be taken away, whose journal has failed. */
  async function failedWorld(): Promise<World> {
    const world = new World(SEED, { mayFail: true })
    await world.open()
    world.connectAll()
    const [publisher] = world.publishers
    for (const peer of world.subscribers) peer.subscribe('kept/#', 1)
    for (let i = 0; i < 20; i++) {
      await turns(2)
      for (const peer of [...world.publishers, ...world.subscribers]) peer.pump()
    }
    for (const peer of world.subscribers) expect(peer.subscriptions.has('kept/#')).toBe(true)
    const first = world.messages.create(publisher!.clientId, '1/a', 1, 50, ['q.kept'])
    publisher!.publish(first)
    await turns(10)
    publisher!.pump()
    expect(first.isAcked).toBe(true)
    world.disk.intercept = call => (call === 'write' ? { code: 'EIO' } : null)
    publisher!.publish(world.messages.create(publisher!.clientId, '1/a', 1, 50, ['q.kept']))
    await turns(10)
    expect(world.sim.journal.failed).toBe(true)
    return world
  }

  async function comesBack(world: World): Promise<void> {
    world.disk.intercept = null
    world.crash(false)
    await world.open()
    await world.drain()
    world.sim.kill()
    expect(world.violations).toEqual([])
  }

  test('no UNSUBACK leaves for a subscription that a restart brings back', async () => {
    const world = await failedWorld()
    for (const peer of world.subscribers) peer.unsubscribe('kept/#')
    for (let i = 0; i < 10; i++) {
      await turns(2)
      for (const peer of world.subscribers) peer.pump()
    }
    for (const peer of world.subscribers) expect(peer.subscriptions.has('kept/#')).toBe(true)
    await comesBack(world)
  })

  test('no CONNACK leaves for a clean start that would not have discarded the session', async () => {
    const world = await failedWorld()
    const clean = new SimMqtt('s2', 4, world.messages, true)
    clean.connect(world.sim.dial('mqtt'))
    for (let i = 0; i < 10; i++) {
      await turns(2)
      clean.pump()
    }
    expect(clean.isOpen).toBe(false)
    await comesBack(world)
  })

  test('queues and exchanges that last are neither emptied nor deleted', async () => {
    const world = await failedWorld()
    const { broker } = world.sim
    const vhost = broker.vhosts.get('/')!
    const everybody = { principal: null, owner: null }
    const deleting = { ...everybody, ifUnused: false, ifEmpty: false }
    const binding = { ...everybody, queue: 'q.kept', exchange: 'amq.topic', arguments: [] }
    expect(() => purgeQueue(broker, vhost, 'q.kept', everybody)).toThrow(/journal|disk/)
    expect(() => deleteQueue(broker, vhost, 'q.kept', deleting)).toThrow(/journal|disk/)
    expect(() => unbindQueue(broker, vhost, { ...binding, key: '1.*' })).toThrow(/journal|disk/)
    await comesBack(world)
  })
})

describe('a disk without room for another segment', () => {
  test('holds publishers back and goes on by itself when there is room again', async () => {
    const world = new World(SEED, { mayFail: true })
    await world.open()
    world.disk.capacityBytes -= (await world.disk.space('')).freeBytes
    let wasRed = false
    for (let step = 0; step < 400 && !wasRed; step++) {
      world.connectAll()
      await world.step()
      wasRed = world.sim.journal.level === 'red'
    }
    expect(wasRed).toBe(true)
    for (let step = 0; step < 60; step++) {
      world.connectAll()
      await world.step()
    }
    expect(world.sim.journal.failed).toBe(false)
    world.disk.capacityBytes = 2 ** 40
    for (let step = 0; step < 20 && world.sim.journal.level === 'red'; step++) {
      world.sim.pass(1_100)
      await turns(20)
    }
    expect(world.sim.journal.level).toBe('green')
    await world.drain()
    expect(world.violations).toEqual([])
    world.crash(false)
    await world.open()
    await world.drain()
    world.sim.kill()
    expect(world.violations).toEqual([])
  })
})
