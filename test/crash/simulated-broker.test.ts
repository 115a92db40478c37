/**
 * The whole broker on a simulated disk, its power cut again and again under a mixed load: nothing that was
 * acknowledged is lost, nothing of QoS 2 is doubled, the order holds. `MOTEMQ_CUTS` says how often, `MOTEMQ_SEED`
 * where to begin: a failure names the seed that shows it at once.
 */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { bindQueue } from '../../src/broker/bindings.ts'
import { declareQueue } from '../../src/broker/queues.ts'
import { setUser } from '../../src/broker/users.ts'
import { SimulatedDisk } from '../support/simulated-disk.ts'
import { ManualClock } from '../../src/lib/clock.ts'
import { requiresAll } from '../support/require.ts'
import { SimBroker } from '../support/sim-broker.ts'
import { dropSpares, turns } from '../support/sim-disk-store.ts'
import { differences } from '../support/lasting-state.ts'
import { dumpOf } from '../support/sim-dump.ts'
import { SimMessages } from '../support/sim-messages.ts'
import { SimMqtt, willOf } from '../support/sim-mqtt.ts'
import { cutWorlds } from '../support/sim-run.ts'

const SEED = Number(process.env['MOTEMQ_SEED'] ?? 20_261)
const CUTS = Number(process.env['MOTEMQ_CUTS'] ?? (requiresAll ? 5_000 : 500))

describe('a broker whose power is cut', () => {
  test(`loses and doubles nothing over ${CUTS} cuts (seed ${SEED})`, async () => {
    const result = await cutWorlds({ seed: SEED, cuts: CUTS })
    // Run for its table: says what it saw.
    if (process.env['MOTEMQ_CUTS'] !== undefined) {
      process.stdout.write(`cuts-${SEED}: ${JSON.stringify(result)}\n`)
    }
    expect(result.violations).toEqual([])
    // The load must reach what a cut can fall into.
    if (CUTS < 100) return
    expect(result.checkpoints).toBeGreaterThan(CUTS / 4)
    expect(result.recycled).toBeGreaterThan(CUTS / 10)
    expect(result.compacted).toBeGreaterThan(CUTS)
    expect(result.acked).toBeGreaterThan(CUTS * 5)
    expect(result.received).toBeGreaterThan(CUTS * 5)
  })
})

describe('a broker whose starts find no prepared slot, as on a full disk,', () => {
  test(`loses and doubles nothing over ${CUTS / 5} cuts (seed ${SEED})`, async () => {
    const world = { plant: { disk: dropSpares } }
    const result = await cutWorlds({ seed: SEED, cuts: CUTS / 5, world })
    expect(result.violations).toEqual([])
  })
})

describe('a checkpoint that takes many turns', () => {
  const OTHERS = 20

  /** A broker with some queues before the one session, so that its turn in a checkpoint comes late. */
  async function slowBroker(): Promise<{ sim: SimBroker; peer: SimMqtt }> {
    const sim = await new SimBroker(new SimulatedDisk({ seed: SEED }), { pieceBytes: 1 }).open()
    const vhost = sim.broker.vhosts.get('/')!
    const flags = { passive: false, durable: true, exclusive: false, autoDelete: false }
    for (let i = 0; i < OTHERS; i++) {
      const request = { ...flags, name: `q${i}`, arguments: [], principal: null, owner: null }
      declareQueue(sim.broker, vhost, request)
    }
    const peer = new SimMqtt('s', 5, new SimMessages())
    peer.will = willOf(Buffer.from('gone'), 3_600)
    peer.connect(sim.dial('mqtt'))
    for (let i = 0; i < 10; i++) {
      await turns(1)
      peer.pump()
    }
    peer.subscribe('s/#', 1)
    await sim.journal.flush()
    return { sim, peer }
  }

  test('keeps one will of a client that is lost meanwhile', async () => {
    const { sim, peer } = await slowBroker()
    const isDone = sim.journal.checkpoint()
    await turns(3)
    peer.lose()
    await isDone
    await sim.journal.flush()
    sim.kill()
    const next = await new SimBroker(sim.disk.restart()).open()
    const session = next.broker.vhosts.get('/')!.sessions.get('s')!
    next.kill()
    expect(next.recovery.usedCheckpoint).toBe(true)
    expect(session.will?.topic).toBe('will/topic')
    expect(next.broker.state.orphanWills.size).toBe(0)
  })

  test('takes nothing away when it is cut off after any of its records', async () => {
    for (let count = 1; count < OTHERS + 8; count++) {
      const { sim } = await slowBroker()
      void sim.journal.checkpoint()
      await turns(count)
      const before = dumpOf(sim.broker)
      await sim.journal.flush()
      sim.kill()
      const next = await new SimBroker(sim.disk.restart()).open()
      next.kill()
      expect(differences(before, dumpOf(next.broker)), `after ${count} turns`).toEqual([])
    }
  })
})

describe('a will', () => {
  const LARGE = 40_000

  /** A client with a large will, bound for a queue, is lost, and the power goes at a call of the disk. */
  async function cutAt(calls: number): Promise<SimulatedDisk> {
    const disk = new SimulatedDisk({ seed: SEED + calls })
    const sim = await new SimBroker(disk).open()
    const vhost = sim.broker.vhosts.get('/')!
    const common = { principal: null, owner: null, arguments: [] }
    const flags = { passive: false, durable: true, exclusive: false, autoDelete: false }
    declareQueue(sim.broker, vhost, { ...flags, ...common, name: 'wills' })
    bindQueue(sim.broker, vhost, {
      ...common,
      queue: 'wills',
      exchange: 'amq.topic',
      key: 'will.#'
    })
    const peer = new SimMqtt('w', 5, new SimMessages(), true)
    peer.will = willOf(Buffer.alloc(LARGE, 1), 0)
    peer.connect(sim.dial('mqtt'))
    await turns(10)
    await sim.journal.flush()
    const at = disk.calls + calls
    disk.intercept = () => (disk.calls >= at ? { powerOff: true } : null)
    peer.lose()
    await turns(20)
    sim.kill()
    return disk.crash()
  }

  test('is in its queue, or still waits, wherever the power goes', async () => {
    for (let cut = 0; cut < 60; cut++) {
      const sim = await new SimBroker(await cutAt(1 + (cut % 6))).open()
      sim.kill()
      const queued = sim.broker.vhosts.get('/')!.queues.get('wills')!.count
      expect(queued + sim.broker.state.orphanWills.size, `cut ${cut}`).toBeGreaterThan(0)
    }
  })
})

describe('a clock that jumps', () => {
  const NOW = 1_700_000_000_000
  const HOUR = 3_600_000
  const YEAR = 365 * 24 * HOUR

  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
  })

  afterEach(() => {
    vi.useRealTimers()
  })

  /** A client whose session lasts an hour behind its connection is there, and is gone again. */
  async function leaveSession(sim: SimBroker): Promise<void> {
    const peer = new SimMqtt('s', 5, new SimMessages())
    peer.expirySeconds = 3_600
    peer.connect(sim.dial('mqtt'))
    await turns(10)
    peer.pump()
    expect(peer.isOpen).toBe(true)
    peer.lose()
    await turns(3)
    await sim.journal.flush()
  }

  /** Time passes, and what is due happens. */
  async function pass(sim: SimBroker, ms: number): Promise<void> {
    sim.pass(ms)
    await turns(2)
    vi.advanceTimersByTime(200)
    await turns(2)
  }

  function hasSession(sim: SimBroker): boolean {
    return sim.broker.vhosts.get('/')!.sessions.has('s')
  }

  /** The power goes and comes back: the machine's own clocks begin anew. */
  async function reboot(sim: SimBroker, wallMs: number): Promise<SimBroker> {
    sim.kill()
    return new SimBroker(sim.disk.crash(), { clock: new ManualClock(5, wallMs) }).open()
  }

  async function freshBroker(): Promise<SimBroker> {
    const clock = new ManualClock(1_000, NOW)
    return new SimBroker(new SimulatedDisk({ seed: SEED }), { clock }).open()
  }

  test('lets a session end when its time has passed, over a restart too', async () => {
    let sim = await freshBroker()
    await leaveSession(sim)
    await pass(sim, HOUR / 2)
    expect(hasSession(sim)).toBe(true)
    sim = await reboot(sim, NOW + 0.9 * HOUR)
    await pass(sim, 1_000)
    expect(hasSession(sim)).toBe(true)
    await pass(sim, 0.2 * HOUR)
    expect(hasSession(sim)).toBe(false)
    sim.kill()
  })

  test('by years while the broker runs ends nothing', async () => {
    const sim = await freshBroker()
    await leaveSession(sim)
    for (const years of [50, -70, 0]) {
      sim.clock.setWall(NOW + years * YEAR)
      await pass(sim, 1_000)
      expect(hasSession(sim), `${years} years`).toBe(true)
    }
    sim.kill()
  })

  test('ends nothing at a boot in 1970, nor when it is set right, nor at the boot after', async () => {
    let sim = await freshBroker()
    await leaveSession(sim)
    await pass(sim, HOUR / 4)
    sim = await reboot(sim, 10_000)
    await pass(sim, 1_000)
    expect(hasSession(sim), 'booted in 1970').toBe(true)
    sim.clock.setWall(NOW + HOUR / 2)
    await pass(sim, 1_000)
    expect(hasSession(sim), 'set right').toBe(true)
    await sim.journal.flush()
    sim = await reboot(sim, NOW + HOUR / 2 + 10_000)
    await pass(sim, 1_000)
    expect(hasSession(sim), 'booted again').toBe(true)
    await pass(sim, HOUR)
    expect(hasSession(sim), 'an hour later').toBe(false)
    sim.kill()
  })

  test('from 1970 to now between two boots ends nothing', async () => {
    let sim = await freshBroker()
    await leaveSession(sim)
    sim = await reboot(sim, 10_000)
    await pass(sim, 1_000)
    // Something is written while the clock is wrong.
    setUser(sim.broker, EVERYBODY)
    await sim.journal.flush()
    sim = await reboot(sim, NOW + HOUR / 2)
    await pass(sim, 1_000)
    expect(hasSession(sim)).toBe(true)
    sim.kill()
  })

  test('gains thirty days at most', async () => {
    let sim = await freshBroker()
    const before = sim.broker.journal.storeTime()
    setUser(sim.broker, EVERYBODY)
    await sim.journal.flush()
    sim = await reboot(sim, NOW + 10 * YEAR)
    const gain = sim.broker.journal.storeTime() - before
    expect(gain).toBeGreaterThanOrEqual(30 * 24 * HOUR)
    expect(gain).toBeLessThan(30 * 24 * HOUR + 10_000)
    sim.kill()
  })
})

const EVERYBODY = { name: 'u', tags: [], passwordHash: '', scram: '', resources: [], topics: [] }
