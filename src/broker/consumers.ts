/** Consume and cancel. */
import { BrokerError } from '../core/errors.ts'
import type { Queue } from '../core/queue.ts'
import type { Broker } from './broker.ts'
import type { Consumer } from './consumer.ts'
import { consumersOf } from './deliver.ts'
import { endQueue } from './end-queue.ts'
import { addTaker, removeTaker } from './group-takers.ts'
import type { Consumers } from './queue-consumers.ts'
import { used } from './queue-life.ts'
import type { Tracer } from './trace.ts'

export interface ConsumeOptions {
  exclusive: boolean
  /** Higher first; the usual one is 0. */
  priority: number
}

/**
 * Adds a consumer. Its first delivery comes in another turn, so behind whatever the caller answers
 * now. Throws `notAuthorized` when the queue is in exclusive use, or cannot be for its single active consumer.
 */
export function consume(
  broker: Broker,
  queue: Queue,
  consumer: Consumer,
  options: ConsumeOptions
): void {
  const consumers = consumersOf(broker, queue)
  const group = broker.state.groups.get(queue.id)
  const isShared = queue.options.hasSingleActiveConsumer || group !== undefined
  const isOthers = options.exclusive && (isShared || consumers.list.length > 0)
  if (consumers.exclusive !== null || isOthers) {
    const message = `queue '${queue.name}' in vhost '${queue.vhost}' in exclusive use`
    throw new BrokerError('notAuthorized', message, {
      kind: 'queue',
      name: queue.name,
      vhost: queue.vhost
    })
  }
  consumers.add(consumer, options.priority)
  const vhost = broker.state.vhost(queue.vhost)
  ;((vhost?.tracer ?? null) as Tracer | null)?.watch(consumer)
  if (group !== undefined) addTaker(broker, group)
  if (options.exclusive) consumers.exclusive = consumer
  consumers.schedule()
}

/** What it was sent stays open. An auto-delete queue goes with its last consumer. */
export function cancel(broker: Broker, queue: Queue, consumer: Consumer): void {
  const consumers = consumersOf(broker, queue)
  if (consumers.remove(consumer)) haveLeft(broker, queue, consumers, 1)
}

/** The same for many at once, of any queues: a queue with very many looks through them once. */
export function cancelAll(
  broker: Broker,
  gone: readonly (Consumer & { readonly queue: Queue })[]
): void {
  const byQueue = new Map<Queue, Set<Consumer>>()
  for (const consumer of gone) {
    const others = byQueue.get(consumer.queue)
    if (others === undefined) byQueue.set(consumer.queue, new Set([consumer]))
    else others.add(consumer)
  }
  for (const [queue, those] of byQueue) {
    const consumers = consumersOf(broker, queue)
    const count = consumers.removeAll(those)
    if (count > 0) haveLeft(broker, queue, consumers, count)
  }
}

function haveLeft(broker: Broker, queue: Queue, consumers: Consumers, count: number): void {
  consumers.letGo()
  const group = broker.state.groups.get(queue.id)
  if (group !== undefined) for (let i = 0; i < count; i++) removeTaker(broker, group)
  if (consumers.list.length > 0) return
  if (queue.options.isAutoDelete) endQueue(broker, queue)
  else used(broker, queue)
}
