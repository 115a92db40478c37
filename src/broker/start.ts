/** After replay, before anybody connects: clients are gone, deadlines run, wills wait. */
import { type Chunk, coldReleased } from '../core/chunk.ts'
import type { Queue } from '../core/queue.ts'
import { writeCounters } from '../core/records/counters.ts'
import { KIND } from '../core/records/kinds.ts'
import { writeSession, writeWill } from '../core/records/session.ts'
import type { Session } from '../core/session.ts'
import { type BlockWaiter, LAZY } from '../journal/journal.ts'
import { Deadline } from '../lib/deadline-heap.ts'
import { append } from './append.ts'
import type { Broker, Timed } from './broker.ts'
import { connectionOf } from './consumer.ts'
import { bury } from './dead-letter.ts'
import { afterIndexRead } from './deliver.ts'
import { applyPolicies } from './policies.ts'
import { wakeHeld } from './held.ts'
import { queueClockOf } from './queue-clock.ts'
import { expireSoon, type QueueLife, used } from './queue-life.ts'
import { attachDelay } from './release-delayed.ts'
import { scheduleEnd } from './sessions.ts'
import { wakeGroups } from './shared-groups.ts'
import { dropUnfinished } from './transaction.ts'
import { startStreams } from './streams.ts'
import { GROWTH_NOTED, spill } from './spill.ts'
import { OrphanWillDue, scheduleWill } from './wills.ts'

/** How often deadlines are looked at, in milliseconds. */
const TICK_MS = 200

/** Call once, with the journal open and replayed. */
export function startBroker(broker: Broker): void {
  const { hasStopped } = broker.state
  dropUnfinished(broker)
  if (broker.journal.level === 'red') broker.diskAlarm = true
  broker.judge()
  const knowsDelivered = hasStopped && noteRunning(broker)
  broker.bury = (life, most) => bury(life as QueueLife, most)
  startStreams(broker)
  for (const vhost of broker.vhosts.values()) {
    if (vhost.policies.size + vhost.operatorPolicies.size > 0) applyPolicies(broker, vhost)
  }
  broker.state.deduplication.restore(broker.limits.deduplicationKeysMax)
  for (const session of broker.state.sessions.values()) wake(broker, session)
  wakeGroups(broker)
  wakeOrphans(broker)
  for (const store of broker.state.delays.stores.values()) attachDelay(broker, store)
  for (const queue of broker.state.queues.values()) {
    for (const chunk of queue.chunks) {
      if (coldReleased(chunk).length > 0) new ReleasedWaiter(broker, queue, chunk).ask()
    }
    if (queue.stream !== null) continue
    if (!queue.isSession) {
      if (!knowsDelivered || broker.state.groups.has(queue.id)) {
        queue.redeliveredBelow = queue.nextSequence
      }
      used(broker, queue)
      wakeHeld(broker, queue)
      if (queue.mayExpire && queue.readyCount > 0) expireSoon(broker, queue)
    }
    if (queue.hotEntries >= GROWTH_NOTED) broker.longQueues.add(queue)
  }
  if (broker.longQueues.size > 0) spill(broker)
  broker.ticker = setInterval(tick, TICK_MS, broker)
  broker.ticker.unref()
}

/** The record of the stop is the last one no more: after a crash nobody knows what was delivered. False: it cannot be written. */
function noteRunning(broker: Broker): boolean {
  if (broker.refusal !== 0) return false
  writeCounters(broker.writer, broker.state)
  append(broker, KIND.counters, LAZY)
  return true
}

/** A delivery whose PUBREC is recorded must be known when its client is back: its chunk is read now. */
class ReleasedWaiter implements BlockWaiter {
  readonly #broker: Broker
  readonly #queue: Queue
  readonly #chunk: Chunk

  constructor(broker: Broker, queue: Queue, chunk: Chunk) {
    this.#broker = broker
    this.#queue = queue
    this.#chunk = chunk
  }

  ask(): void {
    this.#broker.journal.load(this.#chunk.segment, this.#chunk.offset, this)
  }

  onBlock(segment: number, offset: number, ok: boolean): void {
    const broker = this.#broker
    const released = coldReleased(this.#chunk)
    if (this.#queue.isDeleted || this.#queue.coldChunkOf(this.#chunk.start) !== this.#chunk) return
    afterIndexRead(broker, this.#queue, this.#chunk, segment, offset, ok)
    if (this.#queue.coldChunkOf(this.#chunk.start) === this.#chunk) {
      // Compaction moved its index meanwhile.
      this.ask()
      return
    }
    const session = broker.state.sessions.get(this.#queue.id)
    if (!ok || session === undefined) return
    for (const sequence of released) connectionOf(session)?.resendRelease(sequence)
  }
}

function wake(broker: Broker, session: Session): void {
  const { queue } = session
  if (session.wasConnected) {
    session.wasConnected = false
    session.endsAt = broker.nowMs + session.expirySeconds * 1_000
    if (broker.refusal === 0) {
      writeSession(broker.writer, session, false)
      append(broker, KIND.session, LAZY)
    }
  }
  // Only so many can have been sent and not acknowledged.
  queue.redeliveredBelow = queue.lastOfFirst(broker.limits.inflightMax) + 1
  scheduleEnd(broker, session)
  const { will } = session
  if (will === null) return
  const grace = broker.nowMs + broker.limits.willRestartGraceMs
  const isRecorded = will.dueAt > 0
  will.dueAt = isRecorded ? Math.max(will.dueAt, grace) : grace + will.delaySeconds * 1_000
  // Its delay has begun: the next start does not begin it anew.
  if (!isRecorded && will.delaySeconds > 0 && broker.refusal === 0) {
    const { id, clientId, vhost, user } = session
    writeWill(broker.writer, id, clientId, vhost, user, will)
    append(broker, KIND.will, LAZY)
  }
  scheduleWill(broker, session)
}

function wakeOrphans(broker: Broker): void {
  for (const orphan of broker.state.orphanWills.values()) {
    const due = broker.nowMs + broker.limits.willRestartGraceMs
    broker.deadlines.set(new Deadline<Timed>(new OrphanWillDue(orphan)), due)
  }
}

function tick(broker: Broker): void {
  queueClockOf(broker).run()
  if (broker.deadlines.peek() === null) return
  const now = broker.nowMs
  // Bounded: ten thousand sessions that end in one second must not stop everybody.
  for (let left = 1_000; left > 0; left--) {
    const due = broker.deadlines.takeDue(now)
    if (due === null) return
    due.owner.onDue(broker)
  }
}

/** Nothing durable is taken from here on; what was taken is for the journal to write out. */
export function stopBroker(broker: Broker): void {
  broker.isStopping = true
  broker.judge()
  if (broker.ticker !== null) clearInterval(broker.ticker)
  broker.ticker = null
  queueClockOf(broker).stop()
}
