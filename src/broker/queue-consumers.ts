/**
 * The consumers of a queue: who gets the next delivery. A consumer of a higher priority goes first while it
 * has credit; inside one priority they take turns. Nearly always all have the same one: then there are
 * no levels to look through.
 */
import type { Queue } from '../core/queue.ts'
import type { Session } from '../core/session.ts'
import type { Broker, TurnTask } from './broker.ts'
import type { Consumer } from './consumer.ts'

/** Beyond so many it is remembered that nobody had credit: until somebody says to have some again, all are passed by. */
const MANY = 1_000

/** Consumers of one priority. */
class Level {
  readonly priority: number
  readonly consumers: Consumer[]
  #next: number

  constructor(priority: number, consumers: Consumer[]) {
    this.priority = priority
    this.consumers = consumers
    this.#next = 0
  }

  /** The next one with credit; null when nobody has any. */
  pick(): Consumer | null {
    const consumers = this.consumers
    const count = consumers.length
    for (let i = 0; i < count; i++) {
      if (this.#next >= count) this.#next = 0
      const consumer = consumers[this.#next]!
      if (consumer.hasCredit()) return consumer
      this.#next++
    }
    return null
  }

  passTurn(): void {
    this.#next++
  }

  remove(consumer: Consumer): boolean {
    const at = this.consumers.indexOf(consumer)
    if (at < 0) return false
    this.consumers.splice(at, 1)
    // Whoever's turn it is keeps it.
    if (at < this.#next) this.#next--
    return true
  }

  /** Many of them, in one go through all; returns how many there were. */
  removeAll(gone: ReadonlySet<Consumer>): number {
    const consumers = this.consumers
    const next = this.#next
    let count = 0
    for (let i = 0; i < consumers.length; i++) {
      if (!gone.has(consumers[i]!)) consumers[count++] = consumers[i]!
      else if (i < next) this.#next--
    }
    const removed = consumers.length - count
    consumers.length = count
    return removed
  }
}

/** Who stands by for a single active consumer. */
interface StandingBy {
  readonly consumer: Consumer
  readonly priority: number
}

/** What the broker hangs on a queue while it is used. */
export class Consumers implements TurnTask {
  readonly broker: Broker
  readonly queue: Queue
  /** The session whose queue it is; its connection is the one consumer. */
  readonly session: Session | null
  /** All of them; of a session its connection alone. */
  list: Consumer[]
  /** The one level while all have the same priority; of a single active consumer, it alone. */
  #all: Level
  /** The highest priority first; null while all have the same. */
  #levels: Level[] | null
  /** Of whom `pick` named, while there are several. */
  #picked: Level
  /** x-single-active-consumer: the others, who goes first first. Null for any other queue. */
  #standingBy: StandingBy[] | null
  exclusive: Consumer | null
  /** `deliver` will be called again for it. */
  isScheduled: boolean
  /** A block is being read for its next delivery. */
  isLoading: boolean
  /** Of very many nobody had credit, and nobody has said since to have some again. */
  isStarved: boolean
  readonly #deliver: (broker: Broker, consumers: Consumers) => void

  constructor(
    broker: Broker,
    queue: Queue,
    session: Session | null,
    deliver: (broker: Broker, consumers: Consumers) => void
  ) {
    this.broker = broker
    this.queue = queue
    this.session = session
    this.list = []
    this.#all = new Level(0, this.list)
    this.#levels = null
    this.#picked = this.#all
    this.#standingBy = queue.options.hasSingleActiveConsumer ? [] : null
    this.exclusive = null
    this.isScheduled = false
    this.isLoading = false
    this.isStarved = false
    this.#deliver = deliver
  }

  /**
   * The consumer with credit whose turn it is, of the highest priority that has one; null when nobody has
   * any. It stays its turn until `passTurn`: a message may turn out to be expired, or on the disk.
   */
  pick(): Consumer | null {
    if (this.isStarved) return null
    const levels = this.#levels
    if (levels === null) {
      const consumer = this.#all.pick()
      if (consumer === null && this.list.length > MANY) this.isStarved = true
      return consumer
    }
    for (let i = 0; i < levels.length; i++) {
      const consumer = levels[i]!.pick()
      if (consumer === null) continue
      this.#picked = levels[i]!
      return consumer
    }
    if (this.list.length > MANY) this.isStarved = true
    return null
  }

  /** Whom `pick` named gets a delivery. */
  passTurn(): void {
    if (this.#levels === null) this.#all.passTurn()
    else this.#picked.passTurn()
  }

  /** The one that gets all, where a queue has one only; null where all do. */
  get active(): Consumer | null {
    return this.#standingBy === null ? null : (this.#all.consumers[0] ?? null)
  }

  /** `priority`: any whole number, higher first. */
  add(consumer: Consumer, priority: number): void {
    if (this.#standingBy !== null) {
      this.#addSingle(this.#standingBy, consumer, priority)
      return
    }
    if (this.list.length === 0) {
      // A session has one connection: an array that was pushed to would hold room for 17.
      this.list = [consumer]
      this.#all = new Level(priority, this.list)
      this.#levels = null
      return
    }
    if (this.#levels === null && priority !== this.#all.priority) {
      this.#levels = [new Level(this.#all.priority, [...this.list])]
    }
    this.list.push(consumer)
    if (this.#levels !== null) enter(this.#levels, consumer, priority)
  }

  /** Who is active stays so, whatever the priority of who comes: as RabbitMQ's classic queues have it. */
  #addSingle(standingBy: StandingBy[], consumer: Consumer, priority: number): void {
    this.list.push(consumer)
    if (this.list.length === 1) {
      this.#all = new Level(priority, [consumer])
      return
    }
    let at = standingBy.length
    while (at > 0 && standingBy[at - 1]!.priority < priority) at--
    standingBy.splice(at, 0, { consumer, priority })
  }

  #removeSingle(standingBy: StandingBy[], consumer: Consumer): boolean {
    const at = this.list.indexOf(consumer)
    if (at < 0) return false
    this.list.splice(at, 1)
    if (!this.#all.remove(consumer)) {
      standingBy.splice(
        standingBy.findIndex(each => each.consumer === consumer),
        1
      )
      return true
    }
    const next = standingBy.shift()
    if (next === undefined) return true
    this.#all = new Level(next.priority, [next.consumer])
    // It was never asked for credit: nobody else would tell it of what is ready.
    this.schedule()
    return true
  }

  #removeAllSingle(standingBy: readonly StandingBy[], gone: ReadonlySet<Consumer>): number {
    const before = this.list.length
    this.list = this.list.filter(consumer => !gone.has(consumer))
    const left = standingBy.filter(({ consumer }) => !gone.has(consumer))
    this.#standingBy = left
    if (this.active === null || !gone.has(this.active)) return before - this.list.length
    const next = left.shift()
    this.#all = new Level(next?.priority ?? 0, next === undefined ? [] : [next.consumer])
    // As when it goes alone: nobody else would tell it of what is ready.
    if (next !== undefined) this.schedule()
    return before - this.list.length
  }

  /** Returns how many of them it had. */
  removeAll(gone: ReadonlySet<Consumer>): number {
    if (this.#standingBy !== null) return this.#removeAllSingle(this.#standingBy, gone)
    const count = this.#all.removeAll(gone)
    if (this.exclusive !== null && gone.has(this.exclusive)) this.exclusive = null
    if (this.#levels === null) return count
    for (const level of this.#levels) level.removeAll(gone)
    this.#levels = this.#levels.filter(level => level.consumers.length > 0)
    this.#joinLevels(this.#levels)
    return count
  }

  /** With one left there is nothing to choose. */
  #joinLevels(levels: readonly Level[]): void {
    if (levels.length > 1) return
    this.#all = new Level(levels[0]?.priority ?? 0, this.list)
    this.#levels = null
  }

  remove(consumer: Consumer): boolean {
    if (this.#standingBy !== null) return this.#removeSingle(this.#standingBy, consumer)
    if (!this.#all.remove(consumer)) return false
    if (this.exclusive === consumer) this.exclusive = null
    const levels = this.#levels
    if (levels === null) return true
    const at = levels.findIndex(level => level.remove(consumer))
    if (levels[at]!.consumers.length === 0) levels.splice(at, 1)
    this.#joinLevels(levels)
    return true
  }

  /** Goes on delivering in another turn. */
  schedule(): void {
    this.isStarved = false
    if (this.isScheduled) return
    this.isScheduled = true
    setImmediate(runScheduled, this)
  }

  onTurnEnd(): void {
    this.isScheduled = false
    this.#deliver(this.broker, this)
    this.letGo()
  }

  /** Nobody is left: a queue without consumers is one of very many, and gets another when one comes. */
  letGo(): void {
    if (this.list.length > 0 || this.isLoading || this.isScheduled) return
    if (this.queue.attached !== this) return
    this.queue.attached = null
    this.queue.levels?.attach(null)
  }
}

/** Puts a consumer into the level of its priority, which may have to be made. */
function enter(levels: Level[], consumer: Consumer, priority: number): void {
  let at = 0
  while (at < levels.length && levels[at]!.priority > priority) at++
  const level = levels[at]
  if (level?.priority === priority) level.consumers.push(consumer)
  else levels.splice(at, 0, new Level(priority, [consumer]))
}

function runScheduled(consumers: Consumers): void {
  consumers.onTurnEnd()
}
