/** When something is due in a queue: one timer for all of them, on store time (journal.md §3). */
import { Deadline, DeadlineHeap } from '../lib/deadline-heap.ts'
import { Fifo } from '../lib/fifo.ts'
import type { Broker, Timed } from './broker.ts'
import type { KeptLetters } from './kept-letters.ts'

/** Deadlines that are looked at in one turn. */
const DUE_A_TURN = 512
/** Steps of the work of queues in one turn, all together: a dead letter, the dearest, takes some 10 µs. */
const STEPS_A_TURN = 768
/** A queue that has work gets so many at least, if any are left. */
const STEPS_MIN = 16

/** What is to be done in a queue. */
export interface QueueWork {
  /** At most so many steps; returns how many it took. */
  work(most: number): number
}
/** A timer is set for no longer: store time may run ahead of it. */
const TIMER_MS_MAX = 60_000

/** Changes of what is routed where are waited for: many come together. */
const CHANGES_MS = 50

class QueueClock {
  /** Of queues that have dead letters which nobody took. */
  readonly kept: Set<KeptLetters>
  /** Set when what is routed where has changed. */
  readonly #changed: Deadline<Timed>
  /** Of copies of refused messages that wait for their turn. */
  refusedBytes: number
  readonly #broker: Broker
  readonly #heap: DeadlineHeap<Timed>
  #timer: NodeJS.Timeout | null
  /** What the timer is set for. */
  #setFor: number
  /** Queues that have work, in their order: whoever needs more stands behind the others again. */
  readonly #waiting: Fifo<QueueWork>
  #isWorking: boolean

  constructor(broker: Broker) {
    this.kept = new Set()
    this.#changed = new Deadline<Timed>({ onDue: () => this.#tryKept() })
    this.refusedBytes = 0
    this.#broker = broker
    this.#heap = new DeadlineHeap()
    this.#timer = null
    this.#setFor = Number.POSITIVE_INFINITY
    this.#waiting = new Fifo()
    this.#isWorking = false
  }

  get size(): number {
    return this.#heap.size
  }

  set(deadline: Deadline<Timed>, at: number): void {
    this.#heap.set(deadline, at)
    if (at < this.#setFor) this.#arm(at)
  }

  clear(deadline: Deadline<Timed>): void {
    this.#heap.clear(deadline)
    if (this.#heap.size === 0) this.stop()
  }

  /** Some of the letters that nobody took are there again, or still: they are tried after this. */
  keep(kept: KeptLetters, ms: number): void {
    this.kept.add(kept)
    this.set(kept.deadline, this.#broker.nowMs + ms)
  }

  forget(kept: KeptLetters): void {
    if (!this.kept.delete(kept)) return
    this.clear(kept.deadline)
  }

  /** An exchange, a binding, a queue or a policy has come or gone: somebody may take the letters now. */
  routesChanged(): void {
    if (this.kept.size === 0 || this.#changed.isSet) return
    this.set(this.#changed, this.#broker.nowMs + CHANGES_MS)
  }

  #tryKept(): void {
    for (const kept of this.kept) kept.changed()
  }

  /** It has work, and is not known to have. */
  schedule(queue: QueueWork): void {
    this.#waiting.push(queue)
    if (this.#isWorking) return
    this.#isWorking = true
    setImmediate(work, this)
  }

  /** One turn: bounded, however many queues have work and however much it is. */
  work(): void {
    const waiting = this.#waiting
    let left = STEPS_A_TURN
    for (let count = waiting.size; count > 0 && left > 0; count--) {
      const share = Math.max(STEPS_MIN, Math.floor(left / count))
      // To ask costs, too.
      left -= 1 + waiting.shift()!.work(share)
    }
    this.#isWorking = waiting.size > 0
    if (this.#isWorking) setImmediate(work, this)
  }

  /** Bounded: a hundred thousand queues that are due at once must not stop everybody. */
  run(): void {
    this.stop()
    const broker = this.#broker
    if (broker.isStopping || this.#heap.size === 0) return
    const now = broker.nowMs
    for (let left = DUE_A_TURN; left > 0; left--) {
      const due = this.#heap.takeDue(now)
      if (due === null) break
      due.owner.onDue(broker)
    }
    const next = this.#heap.next
    if (next < Number.POSITIVE_INFINITY && next < this.#setFor) this.#arm(next)
  }

  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
    this.#setFor = Number.POSITIVE_INFINITY
  }

  #arm(at: number): void {
    this.stop()
    if (this.#broker.isStopping) return
    this.#setFor = at
    const ms = Math.min(Math.max(at - this.#broker.nowMs, 0), TIMER_MS_MAX)
    this.#timer = setTimeout(run, Math.ceil(ms), this)
    this.#timer.unref()
  }
}

const clocks = new WeakMap<Broker, QueueClock>()

export function queueClockOf(broker: Broker): QueueClock {
  let clock = clocks.get(broker)
  if (clock === undefined) {
    clock = new QueueClock(broker)
    clocks.set(broker, clock)
  }
  return clock
}

function run(clock: QueueClock): void {
  clock.run()
}

function work(clock: QueueClock): void {
  clock.work()
}
