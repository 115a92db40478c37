/** Queues with priorities (x-max-priority): the level that a message goes to, made when it is first used. */
import type { PriorityLevels, Queue } from '../core/queue.ts'
import { KIND } from '../core/records/kinds.ts'
import { writeQueueLevel } from '../core/records/definitions.ts'
import { LAZY } from '../journal/journal.ts'
import { append } from './append.ts'
import type { Broker } from './broker.ts'

/** What is above the queue's maximum counts as that. With too many queues it is the next level below that is there. */
export function levelFor(broker: Broker, levels: PriorityLevels, priority: number): Queue {
  const { state } = broker
  const wanted = Math.min(priority, levels.max)
  const known = levels.at(wanted)
  if (levels.priorityOf(known) === wanted) return known
  if (state.queues.size >= broker.limits.queuesMax) return known
  const level = state.addLevel(levels.owner, state.nextId, wanted)!
  if (level.isDurable) {
    // The message's own record comes behind it: who waits for that waits for this.
    writeQueueLevel(broker.writer, level)
    append(broker, KIND.queueLevel, LAZY)
  }
  return level
}
