/** After replay, before anybody connects: clients are gone, deadlines run, wills wait. */
import { NOTHING } from '../core/queue.ts'
import { KIND } from '../core/records/kinds.ts'
import { writeSession } from '../core/records/session.ts'
import type { Session } from '../core/session.ts'
import { LAZY } from '../journal/journal.ts'
import { Deadline } from '../lib/deadline-heap.ts'
import { append } from './append.ts'
import type { Broker, Timed } from './broker.ts'
import { scheduleEnd } from './sessions.ts'
import { LONG_QUEUE, spill } from './spill.ts'
import { OrphanWillDue, scheduleWill } from './wills.ts'

/** How often deadlines are looked at, in milliseconds. */
const TICK_MS = 200

/** Call once, with the journal open and replayed. */
export function startBroker(broker: Broker): void {
  if (broker.journal.level === 'red') broker.diskAlarm = true
  broker.judge()
  for (const session of broker.state.sessions.values()) wake(broker, session)
  wakeOrphans(broker)
  for (const queue of broker.state.queues.values()) {
    if (!queue.isSession) queue.redeliveredBelow = queue.nextSequence
    if (queue.hotEntries > LONG_QUEUE) broker.longQueues.add(queue)
  }
  if (broker.longQueues.size > 0) spill(broker)
  broker.ticker = setInterval(tick, TICK_MS, broker)
  broker.ticker.unref()
}

function wake(broker: Broker, session: Session): void {
  const { queue } = session
  if (session.wasConnected) {
    session.wasConnected = false
    session.endsAt = broker.nowMs + session.expirySeconds * 1_000
    if (broker.refusal === 0) {
      writeSession(broker.writer, session, false, false)
      append(broker, KIND.session, LAZY)
    }
  }
  // Only so many can have been sent and not acknowledged.
  let last = NOTHING
  let left = broker.limits.inflightMax
  for (let at = queue.after(0); at !== NOTHING && left > 0; at = queue.after(at), left--) last = at
  queue.redeliveredBelow = last + 1
  scheduleEnd(broker, session)
  const { will } = session
  if (will === null) return
  const grace = broker.nowMs + broker.limits.willRestartGraceMs
  will.dueAt = will.dueAt > 0 ? Math.max(will.dueAt, grace) : grace + will.delaySeconds * 1_000
  scheduleWill(broker, session)
}

function wakeOrphans(broker: Broker): void {
  for (const orphan of broker.state.orphanWills.values()) {
    const due = broker.nowMs + broker.limits.willRestartGraceMs
    broker.deadlines.set(new Deadline<Timed>(new OrphanWillDue(orphan)), due)
  }
}

function tick(broker: Broker): void {
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
}
