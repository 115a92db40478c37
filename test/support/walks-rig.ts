/** The broker of a walk: all of it on a simulated disk, and a loop that runs until nothing is left to do. */
import { stopBroker } from '../../src/broker/start.ts'
import type { Broker } from '../../src/broker/broker.ts'
import { ManualClock } from '../../src/lib/clock.ts'
import { FuzzLoop } from './fuzz-loop.ts'
import { SimBroker } from './sim-broker.ts'
import { SimulatedDisk } from './simulated-disk.ts'
import type { Wire } from './sim-wire.ts'
import { INFLIGHT_MAX } from './walks-model.ts'

const realSetImmediate = globalThis.setImmediate
const TURNS_MAX = 20_000
/** What a retained replay waits for credit, and more. */
const SHORT_MS = 25
/** One of this many steps lasts without anything to do: then all is quiet. */
const QUIET_TURNS = 2

const LIMITS = { inflightMax: INFLIGHT_MAX }
const JOURNAL_LIMITS = {
  segmentBytes: 64 * 1024,
  cacheBytes: 128 * 1024,
  checkpointBytes: 8 * 1024,
  deadBytesMax: 8 * 1024,
  reserveSegments: 1
}

export class WalkRig {
  readonly loop = new FuzzLoop()
  readonly clock = new ManualClock(1_000, 1_700_000_000_000)
  #disk: SimulatedDisk
  sim!: SimBroker
  /** Planted into each broker that starts. */
  readonly #plant: (broker: Broker) => void

  constructor(seed: number, plant: (broker: Broker) => void = () => undefined) {
    this.#disk = new SimulatedDisk({ seed })
    this.#plant = plant
  }

  /** From here on to `uninstall` the broker's timers and turns are the loop's. */
  install(): void {
    this.loop.install()
  }

  uninstall(): void {
    this.loop.uninstall()
    this.loop.clear()
  }

  async open(): Promise<void> {
    const options = { clock: this.clock, limits: LIMITS, journalLimits: JOURNAL_LIMITS }
    this.sim = new SimBroker(this.#disk, options)
    this.#plant(this.sim.broker)
    let failure: unknown = null
    this.sim.open().catch((error: unknown) => {
      failure = error
    })
    for (let i = 0; i < TURNS_MAX && !this.sim.isOpen && failure === null; i++) {
      await this.settle()
      if (!this.sim.isOpen) this.loop.pass(SHORT_MS)
    }
    if (failure !== null) throw failure
    if (!this.sim.isOpen) throw new Error('the broker does not open')
  }

  dial(): Wire {
    return this.sim.dial('mqtt')
  }

  /** Turns pass until nothing is left to do but to wait. */
  async settle(): Promise<void> {
    let quiet = 0
    for (let i = 0; quiet < QUIET_TURNS; i++) {
      if (i > TURNS_MAX) throw new Error('work without end')
      await new Promise<void>(resolve => realSetImmediate(() => resolve()))
      if (this.loop.isIdle) quiet++
      else {
        quiet = 0
        this.loop.turn()
      }
    }
  }

  /** And what tries again after a moment has tried. */
  async settleAll(): Promise<void> {
    await this.settle()
    if (this.loop.timers === 0) return
    this.loop.pass(SHORT_MS)
    await this.settle()
  }

  async second(): Promise<void> {
    const { sim } = this
    sim.pass(1_000)
    this.loop.pass(1_000)
    const { deadlines, nowMs } = sim.broker
    for (let due = deadlines.takeDue(nowMs); due !== null; due = deadlines.takeDue(nowMs)) {
      due.owner.onDue(sim.broker)
    }
    await this.settle()
  }

  get ticket(): number {
    return this.sim.journal.ticket
  }

  get durableTicket(): number {
    return this.sim.journal.durableTicket
  }

  /** A stop as `motemq` does it, and a start. */
  async stop(): Promise<void> {
    const { sim } = this
    stopBroker(sim.broker)
    void sim.mqtt.close()
    await this.settle()
    let isClosed = false
    void sim.journal.close().then(() => {
      isClosed = true
    })
    for (let i = 0; i < 100 && !isClosed; i++) {
      sim.timers.advance(SHORT_MS)
      this.loop.pass(SHORT_MS)
      await this.settle()
    }
    if (!isClosed) throw new Error('the journal does not close')
    sim.kill()
    this.#disk = this.#disk.restart()
    this.loop.clear()
    await this.open()
  }

  /** The power goes at a disk call from now on. */
  arm(calls: number): void {
    const disk = this.#disk
    const at = disk.calls + calls
    disk.intercept = () => (disk.calls >= at ? { powerOff: true } : null)
  }

  async crash(): Promise<void> {
    this.sim.kill()
    this.#disk = this.#disk.crash()
    this.loop.clear()
    await this.open()
  }

  /** What the broker logged as an error, or counted as a bug of its own. */
  get faults(): string[] {
    const errors = this.sim.lines.filter(({ level }) => level >= 50).map(({ msg }) => msg)
    if (this.sim.mqtt.bugs > 0) errors.push('a bug closed a connection')
    return errors
  }
}
