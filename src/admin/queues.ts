/** `/api/queues` on the admin socket: queues and the queues of sessions with their counts, for `motemq queue list`. */
import type { Broker } from '../broker/broker.ts'
import { policiesOfQueue } from '../broker/policies.ts'
import type { Consumers } from '../broker/queue-consumers.ts'
import { sessionQueueName } from '../broker/session-queues.ts'
import { bytesOf, heldOf, lettersOf, messagesOf } from '../core/held.ts'
import { type Queue, unackedOf } from '../core/queue.ts'
import { json, type Route } from './router.ts'

/** Of a broker with more the rest is left out. */
const QUEUES_MAX = 100_000

export interface QueueSummary {
  readonly vhost: string
  readonly name: string
  /** classic, quorum or stream. */
  readonly type: string
  readonly durable: boolean
  /** An MQTT session's: only its client consumes it. */
  readonly session: boolean
  readonly ready: number
  readonly unacked: number
  /** Came back, and wait for their time. */
  readonly delayed: number
  /** Dead letters that nobody took yet. */
  readonly letters: number
  readonly bytes: number
  readonly consumers: number
  /** '' is none. */
  readonly policy: string
  readonly operatorPolicy: string
}

export function queueRoutes(broker: Broker): Route[] {
  return [{ path: '/api/queues', methods: { GET: () => json(listQueues(broker)) } }]
}

function listQueues(broker: Broker): QueueSummary[] {
  const found: QueueSummary[] = []
  for (const vhost of broker.vhosts.values()) {
    for (const queue of vhost.queues.values()) {
      if (found.length >= QUEUES_MAX) return found
      const [policy, operator] = policiesOfQueue(vhost, queue)
      found.push(summaryOf(queue, queue.name, policy?.name ?? '', operator?.name ?? ''))
    }
    for (const { queue } of vhost.groups.values()) {
      if (found.length >= QUEUES_MAX) return found
      found.push(summaryOf(queue, queue.name, '', ''))
    }
    for (const { clientId, queue } of vhost.sessions.values()) {
      if (found.length >= QUEUES_MAX) return found
      found.push(summaryOf(queue, sessionQueueName(clientId), '', ''))
    }
  }
  return found
}

function summaryOf(
  queue: Queue,
  name: string,
  policy: string,
  operatorPolicy: string
): QueueSummary {
  return {
    vhost: queue.vhost,
    name,
    type: queue.options.type,
    durable: queue.isDurable,
    session: queue.isSession,
    ready: messagesOf(queue),
    unacked: unackedOf(queue) - heldOf(queue) - lettersOf(queue),
    delayed: heldOf(queue),
    letters: lettersOf(queue),
    bytes: bytesOf(queue),
    consumers: (queue.attached as Consumers | null)?.list.length ?? 0,
    policy,
    operatorPolicy
  }
}
