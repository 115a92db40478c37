/**
 * Direct reply-to (amqp-semantics: RabbitMQ's `amq.rabbitmq.reply-to`): answers to requests without a queue.
 * Who asks consumes from that name, without acknowledgements, once a channel; in its requests the name is
 * replaced by one of its own, which nobody can guess. What is published to the default exchange under
 * that name is written straight to the channel that asked. Nothing is kept: who is not there, or does
 * not read its socket, gets no answer, and to the publisher that is a message without a route.
 */
import type { Message } from '../core/message.ts'
import type { Vhost } from '../core/vhost.ts'
import type { AmqpChannel, ReplyConsumer, ReplyConsumers } from './channel.ts'
import { type ArgumentsOf, BASIC, encodeMethod, QUEUE } from './codec/methods.ts'
import { cleanName } from './names.ts'
import { writeDeliver } from './outbound.ts'
import { AmqpError, REPLY } from './reply-codes.ts'

/** Stands for the asking channel's own name. */
export const REPLY_QUEUE = 'amq.rabbitmq.reply-to'
const NAME_PREFIX = `${REPLY_QUEUE}.`
const NAME_RANDOM_BYTES = 16
/** RabbitMQ's names have two parts, the last of which ends in `==`; programs may look for them. */
const NAME_PARTS = 'g1.'

class DirectReplyConsumer implements ReplyConsumer {
  readonly channel: AmqpChannel
  readonly tag: string
  readonly name: string
  /** The tag as a short string, its length before it. */
  private readonly tagBytes: Buffer

  constructor(channel: AmqpChannel, tag: string) {
    const { broker } = channel.connection
    this.channel = channel
    this.tag = tag
    this.name = NAME_PREFIX + NAME_PARTS + broker.random(NAME_RANDOM_BYTES).toString('base64')
    const bytes = Buffer.from(tag)
    this.tagBytes = Buffer.concat([Buffer.from([bytes.length]), bytes])
  }

  deliver(message: Message): boolean {
    const { connection, id } = this.channel
    if (connection.socket.isStuck) return false
    connection.broker.counters.amqpSent[0]!++
    writeDeliver(connection, id, this.tagBytes, this.channel.nextTag(), false, message)
    connection.socket.units[0]++
    return true
  }

  end(): void {
    this.channel.replyConsumer = null
    this.channel.connection.context.replyConsumers.delete(this.name)
  }
}

/**
 * basic.consume of `amq.rabbitmq.reply-to`. No earlier reply of the channel may be owed: answers come as
 * soon as there is a request, and not before consume-ok. Throws 406.
 */
export function consumeReplies(
  channel: AmqpChannel,
  tag: string,
  values: ArgumentsOf<typeof BASIC.consume.shape>
): void {
  if (!values.noAck) {
    throw new AmqpError(REPLY.preconditionFailed, 'reply consumer cannot acknowledge')
  }
  if (channel.replyConsumer !== null) {
    throw new AmqpError(REPLY.preconditionFailed, 'reply consumer already set')
  }
  const consumer = new DirectReplyConsumer(channel, tag)
  channel.replyConsumer = consumer
  channel.connection.context.replyConsumers.set(consumer.name, consumer)
  const consumeOk = encodeMethod(BASIC.consumeOk, channel.id, { consumerTag: tag })
  channel.reply(0, values.noWait ? null : consumeOk)
}

/** queue.declare of such a name, passive or not, asks whether somebody awaits answers. Throws 404. */
export function declareReplies(
  channel: AmqpChannel,
  values: ArgumentsOf<typeof QUEUE.declare.shape>
): void {
  const queue = cleanName(values.queue)
  if (queue !== REPLY_QUEUE && consumerOf(channel, queue) === null) {
    const explanation = `no queue '${queue}' in vhost '${channel.vhost.name}'`
    throw new AmqpError(REPLY.notFound, explanation)
  }
  channel.lastQueue = queue
  const counts = { queue, messageCount: 0, consumerCount: 1 }
  channel.reply(0, values.noWait ? null : encodeMethod(QUEUE.declareOk, channel.id, counts))
}

/** Whether the short string at `at` is `amq.rabbitmq.reply-to`. */
export function isReplyQueue(buffer: Buffer, at: number, end: number): boolean {
  const start = at + 1
  const stop = start + REPLY_QUEUE.length
  if (buffer[at] !== REPLY_QUEUE.length || stop > end) return false
  return buffer.toString('latin1', start, stop) === REPLY_QUEUE
}

/**
 * The properties of a request whose reply-to, a short string at `replyToStart`, is `amq.rabbitmq.reply-to`:
 * with the channel's own name in its place, all else byte for byte. Throws 406 when the channel has none.
 */
export function withOwnReplyTo(
  channel: AmqpChannel,
  message: Message,
  replyToStart: number
): Buffer {
  const consumer = channel.replyConsumer
  if (consumer === null) {
    throw new AmqpError(REPLY.preconditionFailed, 'fast reply consumer does not exist')
  }
  const { source, propertiesStart, propertiesEnd } = message
  const name = Buffer.from(consumer.name)
  return Buffer.concat([
    source.subarray(propertiesStart, replyToStart),
    Buffer.from([name.length]),
    name,
    source.subarray(replyToStart + 1 + REPLY_QUEUE.length, propertiesEnd)
  ])
}

/** Whether such a key on the default exchange names a channel that asked, there or not. */
export function isReplyKey(key: string): boolean {
  return key.startsWith(NAME_PREFIX)
}

/** Hands an answer over. False, and counted: nobody awaits it under this key, or cannot take it. */
export function handReply(channel: AmqpChannel, key: string, message: Message): boolean {
  const consumer = consumerOf(channel, key)
  if (consumer?.deliver(message)) return true
  channel.connection.broker.counters.drop(consumer === null ? 'no_match' : 'slow_consumer')
  return false
}

/** The same of an answer that came over MQTT; what is not handed over its publisher counts. */
export function handAnswer(
  consumers: ReplyConsumers,
  vhost: Vhost,
  key: string,
  message: Message
): boolean {
  return consumerIn(consumers, vhost, key)?.deliver(message) ?? false
}

function consumerOf(channel: AmqpChannel, name: string): ReplyConsumer | null {
  return consumerIn(channel.connection.context, channel.vhost, name)
}

function consumerIn(consumers: ReplyConsumers, vhost: Vhost, name: string): ReplyConsumer | null {
  const consumer = consumers.replyConsumers.get(name)
  return consumer !== undefined && consumer.channel.vhost === vhost ? consumer : null
}
