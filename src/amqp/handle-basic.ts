/** Methods of the basic class (AMQP 0-9-1 §1.8), but for publish and the acknowledgements. */
import { DELIVER_REDELIVERED } from '../broker/consumer.ts'
import { cancel, consume } from '../broker/consumers.ts'
import type { Tracer } from '../broker/trace.ts'
import { requeue } from '../broker/settle.ts'
import { lookupQueue } from '../broker/queues.ts'
import { get } from '../broker/get.ts'
import { endUnused, takeableQueue } from '../broker/group-takers.ts'
import { used } from '../broker/queue-life.ts'
import { notOfStreams } from '../broker/stream-refusals.ts'
import { type FieldTable, fieldOf, fieldTypeName, integerOf } from '../core/field-table.ts'
import type { Message } from '../core/message.ts'
import { mayResource } from '../core/permissions.ts'
import type { Queue } from '../core/queue.ts'
import type { AmqpChannel } from './channel.ts'
import { type ArgumentsOf, BASIC, encodeMethod } from './codec/methods.ts'
import { AmqpConsumer } from './consumer.ts'
import { streamConsumer } from './stream-consumer.ts'
import { consumeReplies, REPLY_QUEUE } from './direct-reply-to.ts'
import { accessRefused } from './explain.ts'
import { queueNamed } from './names.ts'
import { writeGetOk } from './outbound.ts'
import { AmqpError, REPLY } from './reply-codes.ts'

const TAG_RANDOM_BYTES = 16

export function handleQos(channel: AmqpChannel, values: ArgumentsOf<typeof BASIC.qos.shape>): void {
  if (values.prefetchSize !== 0) {
    throw new AmqpError(REPLY.notImplemented, `prefetch_size!=0 (${values.prefetchSize})`)
  }
  if (values.global) channel.setGlobalPrefetch(values.prefetchCount)
  else channel.prefetchCount = values.prefetchCount
  channel.reply(0, encodeMethod(BASIC.qosOk, channel.id, {}))
}

export function handleConsume(
  channel: AmqpChannel,
  values: ArgumentsOf<typeof BASIC.consume.shape>
): void {
  const { connection } = channel
  const { broker } = connection
  const wantsReplies = values.queue === REPLY_QUEUE
  if (
    channel.consumers.has(values.consumerTag) ||
    (!wantsReplies && channel.replyConsumer?.tag === values.consumerTag)
  ) {
    const explanation = `attempt to reuse consumer tag '${values.consumerTag}'`
    throw new AmqpError(REPLY.notAllowed, explanation)
  }
  const tag = values.consumerTag === '' ? generatedTag(channel) : values.consumerTag
  if (wantsReplies) {
    consumeReplies(channel, tag, values)
    return
  }
  const queue = readableQueue(channel, values.queue, true)
  let consumer: AmqpConsumer | null = null
  try {
    const isStream = queue.options.type === 'stream'
    const priority = isStream ? 0 : priorityOf(queue, values.arguments)
    consumer = isStream
      ? streamConsumer(channel, queue, tag, values)
      : new AmqpConsumer(channel, queue, tag, values.noAck)
    consume(broker, queue, consumer, { exclusive: values.exclusive, priority })
  } catch (error) {
    if (consumer !== null) channel.holders.forget(consumer.holder)
    endUnused(broker, queue)
    throw error
  }
  channel.consumers.set(tag, consumer)
  const frame = values.noWait
    ? null
    : encodeMethod(BASIC.consumeOk, channel.id, { consumerTag: tag })
  channel.replyConsume(consumer, frame)
}

/** `x-priority`, 0 without. Throws 406 when it is not a whole number. */
function priorityOf(queue: Queue, table: FieldTable): number {
  const value = fieldOf(table, 'x-priority')
  if (value === null) return 0
  // Beyond 2^53 neighbours count as one: nobody has that many priorities.
  if (value.type === 'l') return Number(value.value)
  const number = value.type === 'T' ? null : integerOf(value)
  if (number !== null) return number
  throw new AmqpError(
    REPLY.preconditionFailed,
    `invalid arg 'x-priority' for queue '${queue.name}' in vhost '${queue.vhost}': ` +
      `"expected integer, got ${fieldTypeName(value.type)}"`
  )
}

function generatedTag(channel: AmqpChannel): string {
  const random = channel.connection.broker.random(TAG_RANDOM_BYTES)
  return `amq.ctag-${random.toString('base64url')}`
}

/** The queue, if it may be read, is there and not another connection's. `begins`: a shared subscription may begin. */
function readableQueue(channel: AmqpChannel, given: string, begins: boolean): Queue {
  const { connection } = channel
  const name = queueNamed(channel, given)
  // Asked first: who may not read it does not learn whether it exists.
  if (!mayResource(connection.principal, 'read', name)) {
    throw accessRefused(connection, 'read', `queue '${name}'`)
  }
  const { broker, vhost, principal } = connection
  const shared = takeableQueue(broker, vhost, name, principal, begins)
  return shared ?? lookupQueue(vhost, name, connection)
}

/** An unknown tag is answered too: a cancel may cross ours on the way. */
export function handleCancel(
  channel: AmqpChannel,
  values: ArgumentsOf<typeof BASIC.cancel.shape>
): void {
  const { consumerTag } = values
  const consumer = channel.consumers.get(consumerTag)
  if (consumer !== undefined) {
    consumer.isCancelled = true
    channel.consumers.delete(consumerTag)
    channel.holders.forget(consumer.holder)
    cancel(channel.connection.broker, consumer.queue, consumer)
  } else if (channel.replyConsumer?.tag === consumerTag) channel.replyConsumer.end()
  const frame = values.noWait ? null : encodeMethod(BASIC.cancelOk, channel.id, { consumerTag })
  channel.reply(0, frame)
}

export function handleGet(channel: AmqpChannel, values: ArgumentsOf<typeof BASIC.get.shape>): void {
  const queue = readableQueue(channel, values.queue, false)
  if (queue.options.hasSingleActiveConsumer) {
    const explanation =
      `cannot obtain access to locked queue '${queue.name}' in vhost '${queue.vhost}'. basic.get operations ` +
      'are not supported by quorum queues with single active consumer'
    throw new AmqpError(REPLY.resourceLocked, explanation)
  }
  if (queue.options.type === 'stream') throw notOfStreams('basic.get', queue)
  channel.isGetting = true
  used(channel.connection.broker, queue)
  get(channel.connection.broker, queue, new Getter(channel, queue, values.noAck), values.noAck)
}

/** Takes the one message that basic.get asked for; it may have to come from the disk. */
class Getter {
  private readonly channel: AmqpChannel
  private readonly queue: Queue
  private readonly noAck: boolean

  constructor(channel: AmqpChannel, queue: Queue, noAck: boolean) {
    this.channel = channel
    this.queue = queue
    this.noAck = noAck
  }

  onGot(message: Message | null, sequence: number, flags: number, remaining: number): void {
    const { channel } = this
    const { connection } = channel
    channel.isGetting = false
    if (channel.isClosed) {
      if (message !== null) this.giveBack(sequence)
      return
    }
    if (message === null) {
      channel.reply(0, encodeMethod(BASIC.getEmpty, channel.id, { reserved: '' }))
    } else {
      ;(connection.vhost.tracer as Tracer | null)?.noteDelivery(
        message,
        this.queue.name,
        flags,
        channel.origin()
      )
      const tag = channel.nextTag()
      connection.broker.counters.amqpSent[this.noAck ? 0 : 1]!++
      if (!this.noAck) channel.hold(channel.holders.ofGet(this.queue), tag, sequence)
      const isRedelivered = (flags & DELIVER_REDELIVERED) !== 0
      writeGetOk(connection, channel.id, tag, isRedelivered, message, remaining)
      connection.socket.units[this.noAck ? 0 : 1]!++
    }
    connection.resume()
  }

  /** The channel closed while the message was read from the disk. */
  private giveBack(sequence: number): void {
    const { broker } = this.channel.connection
    if (this.noAck) broker.counters.dropFrom(this.queue, 'closed')
    else requeue(broker, this.queue, sequence, false)
  }
}

export function handleRecover(
  channel: AmqpChannel,
  values: ArgumentsOf<typeof BASIC.recover.shape>
): void {
  handleRecoverAsync(channel, values)
  channel.reply(0, encodeMethod(BASIC.recoverOk, channel.id, {}))
}

/** The same without an answer. */
export function handleRecoverAsync(
  channel: AmqpChannel,
  values: ArgumentsOf<typeof BASIC.recover.shape>
): void {
  if (!values.requeue) throw new AmqpError(REPLY.notImplemented, 'requeue=false')
  channel.recover()
}
