/** Methods of the queue class (AMQP 0-9-1 §1.7). */
import { bindQueue, unbindQueue } from '../broker/bindings.ts'
import { declareQueue, deleteQueue, purgeQueue } from '../broker/queues.ts'
import type { AmqpChannel } from './channel.ts'
import { type ArgumentsOf, encodeMethod, QUEUE } from './codec/methods.ts'
import { declareReplies, REPLY_QUEUE } from './direct-reply-to.ts'
import { cleanName, queueNamed } from './names.ts'

export function handleQueueDeclare(
  channel: AmqpChannel,
  values: ArgumentsOf<typeof QUEUE.declare.shape>
): void {
  if (values.queue.startsWith(REPLY_QUEUE)) {
    declareReplies(channel, values)
    return
  }
  const { connection } = channel
  if (values.exclusive) connection.hasExclusiveQueues = true
  const isShortcut = values.passive && values.queue === ''
  const declared = declareQueue(connection.broker, connection.vhost, {
    name: isShortcut ? queueNamed(channel, '') : cleanName(values.queue),
    passive: values.passive,
    durable: values.durable,
    exclusive: values.exclusive,
    autoDelete: values.autoDelete,
    arguments: values.arguments,
    principal: connection.principal,
    owner: connection
  })
  const { messageCount, consumerCount } = declared
  // An MQTT session's has another name here.
  const queue = declared.queue.isSession ? values.queue : declared.queue.name
  channel.lastQueue = queue
  const counts = { queue, messageCount, consumerCount }
  const frame = values.noWait ? null : encodeMethod(QUEUE.declareOk, channel.id, counts)
  channel.reply(declared.ticket, frame)
}

export function handleQueueBind(
  channel: AmqpChannel,
  values: ArgumentsOf<typeof QUEUE.bind.shape>
): void {
  const { connection } = channel
  // Both empty: the key is the name of the queue that was declared last.
  const isShortcut = values.queue === '' && values.routingKey === ''
  const queue = queueNamed(channel, values.queue)
  const { ticket } = bindQueue(connection.broker, connection.vhost, {
    queue,
    exchange: cleanName(values.exchange),
    key: isShortcut ? queue : values.routingKey,
    arguments: values.arguments,
    principal: connection.principal,
    owner: connection
  })
  channel.reply(ticket, values.noWait ? null : encodeMethod(QUEUE.bindOk, channel.id, {}))
}

export function handleQueueUnbind(
  channel: AmqpChannel,
  values: ArgumentsOf<typeof QUEUE.unbind.shape>
): void {
  const { connection } = channel
  const isShortcut = values.queue === '' && values.routingKey === ''
  const queue = queueNamed(channel, values.queue)
  const { ticket } = unbindQueue(connection.broker, connection.vhost, {
    queue,
    exchange: cleanName(values.exchange),
    key: isShortcut ? queue : values.routingKey,
    arguments: values.arguments,
    principal: connection.principal,
    owner: connection
  })
  channel.reply(ticket, encodeMethod(QUEUE.unbindOk, channel.id, {}))
}

export function handleQueuePurge(
  channel: AmqpChannel,
  values: ArgumentsOf<typeof QUEUE.purge.shape>
): void {
  const { connection } = channel
  const { messageCount, ticket } = purgeQueue(
    connection.broker,
    connection.vhost,
    queueNamed(channel, values.queue),
    { principal: connection.principal, owner: connection }
  )
  const frame = values.noWait ? null : encodeMethod(QUEUE.purgeOk, channel.id, { messageCount })
  channel.reply(ticket, frame)
}

export function handleQueueDelete(
  channel: AmqpChannel,
  values: ArgumentsOf<typeof QUEUE.delete.shape>
): void {
  const { connection } = channel
  const { messageCount, ticket } = deleteQueue(
    connection.broker,
    connection.vhost,
    queueNamed(channel, values.queue),
    {
      ifUnused: values.ifUnused,
      ifEmpty: values.ifEmpty,
      principal: connection.principal,
      owner: connection
    }
  )
  const frame = values.noWait ? null : encodeMethod(QUEUE.deleteOk, channel.id, { messageCount })
  channel.reply(ticket, frame)
}
