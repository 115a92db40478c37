/**
 * The disk refuses its N-th write or sync, for every N of a trace of the whole broker: nothing that the failed call
 * carried is ever acknowledged, QoS 0 goes on, health says so, and after a restart all that was acknowledged is there.
 */
import { describe, expect, test } from 'vitest'
import { healthRoutes } from '../../src/admin/health.ts'
import type { DiskCall, DiskFault } from '../../src/journal/simulated-disk.ts'
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
  const get = routes.find(route => route.path === '/healthz')!.methods.GET!
  const answer = await get(undefined as never)
  return answer.status
}

describe('the disk refuses one call', () => {
  const kinds: { name: string; call: DiskCall; fault: DiskFault }[] = [
    { name: 'EIO at a write', call: 'write', fault: { code: 'EIO' } },
    { name: 'ENOSPC at a write', call: 'write', fault: { code: 'ENOSPC' } },
    { name: 'a short write', call: 'write', fault: { bytes: 4096 } },
    { name: 'EIO at a sync', call: 'sync', fault: { code: 'EIO' } },
    { name: 'ENOSPC at a sync', call: 'sync', fault: { code: 'ENOSPC' } }
  ]
  for (const { name, call, fault } of kinds) {
    test(`${name}, whichever it is, loses nothing that was acknowledged (seed ${SEED})`, async () => {
      const count = await callsOf(call)
      expect(count).toBeGreaterThan(20)
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
      expect(failed).toBeGreaterThan(count / 4)
    })
  }
})
