/** The header that tells a consumer how often a message came back (RabbitMQ's quorum queues). */
import { Message } from '../core/message.ts'
import { ENTRY_COUNT, ENTRY_COUNT_SHIFT } from '../core/queue-entry.ts'
import type { Queue } from '../core/queue.ts'
import type { Broker } from './broker.ts'
import { manyOf } from './queue-life.ts'
import { propertiesOf, rewrite, routingKeyOf } from './rewrite.ts'

const HEADER = 'x-delivery-count'

const counted = new Message()

/** The message with its count, true for this turn; itself when it was never delivered before. */
export function withDeliveryCount(
  broker: Broker,
  queue: Queue,
  sequence: number,
  flags: number,
  message: Message
): Message {
  const count = manyOf(queue, sequence) || (flags & ENTRY_COUNT) >> ENTRY_COUNT_SHIFT
  if (count === 0) return message
  const properties = propertiesOf(broker, message)
  const key = routingKeyOf(message, properties)
  properties.headers = properties.headers.filter(([name]) => name !== HEADER)
  properties.headers.push([HEADER, { type: 'l', value: BigInt(count) }])
  if (message.expiresAt > 0) {
    properties.expiration ??= String(Math.max(0, message.expiresAt - broker.nowMs))
  }
  rewrite(broker, counted, message, key, properties)
  return counted
}
