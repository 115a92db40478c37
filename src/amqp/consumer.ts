/** An AMQP consumer: what a queue delivers to on a channel. */
import { DELIVER_REDELIVERED, type Origin } from '../broker/consumer.ts'
import { goOn, ready } from '../broker/deliver.ts'
import type { Message } from '../core/message.ts'
import type { Queue } from '../core/queue.ts'
import type { AmqpChannel } from './channel.ts'
import type { ChannelConsumer, Holder } from './holders.ts'
import { BASIC, encodeMethod } from './codec/methods.ts'
import { writeDeliver } from './outbound.ts'

export class AmqpConsumer implements ChannelConsumer {
  readonly channel: AmqpChannel
  readonly queue: Queue
  readonly tag: string
  readonly noAck: boolean
  /** The prefetch that held when it began; 0 = unlimited. */
  readonly prefetchCount: number
  readonly holder: Holder
  isCancelled: boolean
  isStarved: boolean
  isWaking: boolean
  hasSharedPrefetch: boolean
  /** Its consume-ok has left. */
  protected isStarted: boolean
  /** The tag as a short string, its length before it. */
  private readonly tagBytes: Buffer

  constructor(channel: AmqpChannel, queue: Queue, tag: string, noAck: boolean) {
    this.channel = channel
    this.queue = queue
    this.tag = tag
    this.noAck = noAck
    this.prefetchCount = noAck ? 0 : channel.prefetchCount
    this.isCancelled = false
    this.isStarved = false
    this.isWaking = false
    this.hasSharedPrefetch = channel.globalPrefetchCount > 0
    this.isStarted = false
    const bytes = Buffer.from(tag)
    this.tagBytes = Buffer.concat([Buffer.from([bytes.length]), bytes])
    this.holder = channel.holders.add(queue, this)
  }

  /** Its consume-ok has left (AMQP 0-9-1 §1.8.3.3): deliveries may follow. */
  start(): void {
    if (this.isCancelled || this.isStarted) return
    this.isStarted = true
    ready(this.channel.connection.broker, this.queue)
  }

  /** It may have credit again, and its queue knows that. */
  onCredit(): void {
    goOn(this.channel.connection.broker, this.queue)
  }

  hasCredit(): boolean {
    if (this.isStarted && !this.isCancelled && this.hasRoom()) return true
    this.isStarved = true
    return false
  }

  private hasRoom(): boolean {
    if (this.channel.connection.socket.isStuck) return false
    // Without acknowledgements it takes no place, but waits for one all the same, as RabbitMQ has it.
    if (this.noAck) return !this.hasSharedPrefetch || !this.channel.isAtPrefetch
    if (this.prefetchCount > 0 && this.holder.unackedCount >= this.prefetchCount) return false
    return this.channel.hasRoom
  }

  deliver(message: Message, _queue: Queue, sequence: number, flags: number): void {
    const { channel } = this
    const { connection } = channel
    const tag = channel.nextTag()
    connection.broker.counters.amqpSent[this.noAck ? 0 : 1]!++
    if (!this.noAck) channel.hold(this.holder, tag, sequence)
    const isRedelivered = (flags & DELIVER_REDELIVERED) !== 0
    writeDeliver(connection, channel.id, this.tagBytes, tag, isRedelivered, message)
    connection.socket.units[this.noAck ? 0 : 1]!++
  }

  origin(): Origin {
    return this.channel.origin()
  }

  /** The queue is gone or may not be read any more: said to those who asked to be told. */
  onCancelled(_queue: Queue): void {
    if (this.isCancelled) return
    this.isCancelled = true
    this.channel.consumers.delete(this.tag)
    this.channel.holders.forget(this.holder)
    if (!this.channel.connection.client.consumerCancelNotify || this.channel.isClosed) return
    this.channel.cancelsSent++
    const values = { consumerTag: this.tag, noWait: true }
    this.channel.reply(0, encodeMethod(BASIC.cancel, this.channel.id, values))
  }
}
