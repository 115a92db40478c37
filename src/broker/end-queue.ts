/** The end of a queue: its messages counted, its consumers told, its record written. */
import { KIND } from '../core/records/kinds.ts'
import { waitingOf } from '../core/held.ts'
import type { Queue } from '../core/queue.ts'
import { AWAITED } from '../journal/journal.ts'
import { append } from './append.ts'
import type { Broker } from './broker.ts'
import { endUnused } from './end-exchange.ts'
import type { Consumers } from './queue-consumers.ts'

/** Returns the ticket of the record, 0 when the queue was not on the disk. */
export function endQueue(broker: Broker, queue: Queue): number {
  if (queue.isDeleted) return 0
  const lost = waitingOf(queue)
  if (lost > 0) broker.counters.dropFrom(queue, 'queue_deleted', lost)
  broker.state.removeQueue(queue)
  if (queue.owner !== null) broker.exclusiveQueues.get(queue.owner)?.delete(queue)
  const consumers = queue.attached as Consumers | null
  if (consumers !== null) {
    for (const consumer of consumers.list.splice(0)) consumer.onCancelled(queue)
    consumers.exclusive = null
  }
  broker.events.emit('queueDeleted', { vhost: queue.vhost, name: queue.name })
  let ticket = 0
  if (queue.isDurable && !broker.journal.failed) {
    broker.writer.varint(queue.id)
    ticket = append(broker, KIND.queueDelete, AWAITED)
  }
  queue.stream?.end(ticket)
  const vhost = broker.state.vhost(queue.vhost)
  if (vhost !== null) endUnused(broker, vhost)
  return ticket
}
