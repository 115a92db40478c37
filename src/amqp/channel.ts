/**
 * A channel: its consumers, its open deliveries, the confirms it owes its publisher, and the replies that
 * wait for the disk. Replies leave in the order of their methods, whatever each of them waits for.
 */
import type { Logger } from 'pino'
import type { Broker } from '../broker/broker.ts'
import type { Origin, Publisher } from '../broker/consumer.ts'
import { cancelAll } from '../broker/consumers.ts'
import { allBack, putBack, reject, requeue, settle } from '../broker/settle.ts'
import { notOfStreams } from '../broker/stream-refusals.ts'
import type { Exchange } from '../core/exchange.ts'
import type { Message } from '../core/message.ts'
import type { Principal } from '../core/principal.ts'
import type { Queue } from '../core/queue.ts'
import type { Session } from '../core/session.ts'
import type { Vhost } from '../core/vhost.ts'
import { ContentAssembler } from './codec/content.ts'
import { BASIC } from './codec/methods.ts'
import type { ConfirmRing, ConfirmSink } from './confirm-ring.ts'
import { explain } from './explain.ts'
import { type ChannelConsumer, type Holder, Holders } from './holders.ts'
import { type FrameTarget, writeConfirm } from './outbound.ts'
import { FAIL, type Outcome, REQUEUE, SETTLE } from './outcome.ts'
import { AmqpError, REPLY } from './reply-codes.ts'
import type { DeliveryAges } from './delivery-ages.ts'
import type { ChannelRooms } from './channel-room.ts'
import type { Transaction } from './transaction.ts'
import { Unacked } from './unacked.ts'

/** What a channel asks of its connection. */
export interface ChannelConnection extends Publisher, FrameTarget {
  readonly broker: Broker
  readonly context: ReplyConsumers & { readonly channelRooms: ChannelRooms }
  readonly log: Logger
  readonly client: ClientCapabilities
  /** Largest payload of a frame that we take. */
  readonly payloadBytesMax: number
  /** The one message that is being published. */
  readonly message: Message
  /** Exchange and key of the last publish: the next one is often the same. */
  lastExchangeName: string
  lastKey: string
  /** Permission to publish to it was asked. */
  lastExchange: Exchange | null
  /** It declared some: they end with it. */
  hasExclusiveQueues: boolean
  /** Channels with confirms that wait for nothing: released when all frames are read. */
  readonly dirtyChannels: AmqpChannel[]
  writeFrame(frame: Buffer): void
  openChannel(id: number): void
  removeChannel(channel: AmqpChannel): void
  /** Whether a publish may be taken now; if not, its frame is to be held. */
  mayPublish(): boolean
  /** A consumer may have credit again. */
  wake(consumer: ChannelConsumer): void
  /** Goes on with frames that were held. */
  resume(): void
  /** Answers what a handler threw while it worked on a method. */
  fail(error: unknown, channel: AmqpChannel | null, classId: number, methodId: number): void
}

/** What the client said of itself. */
export interface ClientCapabilities {
  name: string
  authenticationFailureClose: boolean
  consumerCancelNotify: boolean
  connectionBlocked: boolean
}

/** Who awaits the answers to a channel's requests: see direct-reply-to.ts. */
export interface ReplyConsumer {
  readonly channel: AmqpChannel
  readonly tag: string
  /** The reply-to of its requests. */
  readonly name: string
  /** False: it cannot take the message. */
  deliver(message: Message): boolean
  /** Nothing more comes. */
  end(): void
}

/** Those of all connections, by name. */
export interface ReplyConsumers {
  readonly replyConsumers: Map<string, ReplyConsumer>
}

/** A reply in its place of the order. */
interface OwedReply {
  readonly ticket: number
  /** Null: no-wait, nothing is sent; what hangs on it still has its place. */
  readonly frame: Buffer | null
  /** It may be given deliveries once its consume-ok has left. */
  readonly consumer: ChannelConsumer | null
  /** channel.close-ok: the channel ends with it. */
  readonly isLast: boolean
}

export class AmqpChannel implements Publisher, ConfirmSink {
  readonly connection: ChannelConnection
  readonly id: number
  /** channel.close was sent: everything but its close-ok is thrown away. */
  isClosing: boolean
  /** It holds nothing any more. */
  isClosed: boolean
  readonly assembler: ContentAssembler
  /** Null until confirm.select. */
  confirms: ConfirmRing | null
  hasReadyConfirms: boolean
  /** Null until tx.select. */
  tx: Transaction | null
  readonly unacked: Unacked
  /** Null until something was open when the timer looked. */
  ages: DeliveryAges | null
  readonly consumers: Map<string, ChannelConsumer>
  /** Null: it asks for no direct replies. */
  replyConsumer: ReplyConsumer | null
  readonly holders: Holders
  /** For consumers to come; 0 = unlimited. */
  prefetchCount: number
  /** For all of the channel together; 0 = unlimited. */
  globalPrefetchCount: number
  /** Open deliveries of consumers: basic.get does not count against a prefetch. */
  consumedCount: number
  /** Of ours that the client has not answered; it need not. */
  cancelsSent: number
  /** One of its consumers was a stream's. */
  readsStreams: boolean
  /** The queue that was declared last: what an empty name stands for. */
  lastQueue: string
  /** A basic.get waits for the disk: nothing further is read meanwhile. */
  isGetting: boolean
  /** Several deliveries are being settled or given back. */
  private isFinishing: boolean
  /** Queues that got some of them back. */
  private readonly returned: Set<Queue>
  private lastTag: number
  private owed: OwedReply[]
  private isWaiting: boolean

  constructor(connection: ChannelConnection, id: number) {
    this.connection = connection
    this.id = id
    this.isClosing = false
    this.isClosed = false
    this.assembler = new ContentAssembler(connection.context.channelRooms.of(connection))
    this.confirms = null
    this.hasReadyConfirms = false
    this.tx = null
    this.unacked = new Unacked()
    this.ages = null
    this.consumers = new Map()
    this.replyConsumer = null
    this.holders = new Holders()
    this.prefetchCount = 0
    this.globalPrefetchCount = 0
    this.consumedCount = 0
    this.cancelsSent = 0
    this.readsStreams = false
    this.lastQueue = ''
    this.isGetting = false
    this.isFinishing = false
    this.returned = new Set()
    this.lastTag = 0
    this.owed = []
    this.isWaiting = false
  }

  get principal(): Principal {
    return this.connection.principal
  }

  get clientId(): string {
    return ''
  }

  get vhost(): Vhost {
    return this.connection.vhost
  }

  get session(): Session | null {
    return null
  }

  origin(): Origin {
    const { socket, principal } = this.connection
    return { connection: socket.peer, channel: this.id, user: principal.name }
  }

  /** Replies that have not left. */
  get owedCount(): number {
    return this.owed.length
  }

  // Replies

  /** A reply that may leave when `ticket` is durable (0: now), after those before it. */
  reply(ticket: number, frame: Buffer | null): void {
    this.enqueue({ ticket, frame, consumer: null, isLast: false })
  }

  /** consume-ok, or with no-wait nothing; then the consumer may be given deliveries. */
  replyConsume(consumer: ChannelConsumer, frame: Buffer | null): void {
    this.enqueue({ ticket: 0, frame, consumer, isLast: false })
  }

  /** close-ok. */
  replyLast(frame: Buffer): void {
    this.enqueue({ ticket: 0, frame, consumer: null, isLast: true })
  }

  private enqueue(reply: OwedReply): void {
    if (this.owed.length === 0 && reply.ticket <= this.connection.broker.journal.durableTicket) {
      this.send(reply)
      return
    }
    this.owed.push(reply)
    this.wait()
  }

  private send(reply: OwedReply): void {
    if (reply.frame !== null) this.connection.writeFrame(reply.frame)
    if (reply.isLast) this.connection.removeChannel(this)
    reply.consumer?.start()
  }

  private wait(): void {
    if (this.isWaiting) return
    this.isWaiting = true
    this.connection.broker.waiting.add(this)
  }

  // Publisher

  onDurable(ticket: number): void {
    const owed = this.owed
    let count = 0
    while (count < owed.length && owed[count]!.ticket <= ticket) this.send(owed[count++]!)
    if (count > 0) owed.splice(0, count)
    if (!this.isClosed) this.confirms?.release(ticket, this)
    if (owed.length === 0 && (this.isClosed || !this.confirms?.isWaiting)) this.stopWaiting()
    if (count > 0) this.connection.resume()
  }

  private stopWaiting(): void {
    if (!this.isWaiting) return
    this.isWaiting = false
    this.connection.broker.waiting.delete(this)
  }

  /** Reading is the connection's. */
  onPause(): void {
    this.connection.onPause()
  }

  onResume(): void {
    this.connection.onResume()
  }

  onDiskAlarm(raised: boolean): void {
    this.connection.onDiskAlarm(raised)
  }

  // Confirms

  /** A publish was taken, its number is the next one; the confirm leaves when `ticket` is durable. */
  confirm(ticket: number): void {
    if (this.confirms === null) return
    this.confirms.push(ticket)
    if (ticket > 0) this.wait()
    else if (!this.hasReadyConfirms) {
      this.hasReadyConfirms = true
      this.connection.dirtyChannels.push(this)
    }
  }

  /** A publish was refused. */
  refuse(): void {
    if (this.confirms === null) return
    writeConfirm(this.connection, this.id, BASIC.nack.methodId, this.confirms.skip(), 0)
  }

  /** Sends the confirms that wait for nothing: once a chunk, so that one frame tells many. */
  releaseConfirms(): void {
    this.hasReadyConfirms = false
    if (!this.isClosed) this.confirms?.release(this.connection.broker.journal.durableTicket, this)
  }

  onConfirm(sequence: number, multiple: boolean): void {
    writeConfirm(this.connection, this.id, BASIC.ack.methodId, sequence, multiple ? 1 : 0)
  }

  // Deliveries

  /** The tag of the next delivery; tags are shared by deliver and get-ok. */
  nextTag(): number {
    return ++this.lastTag
  }

  get newestTag(): number {
    return this.lastTag
  }

  /** A delivery that is to be acknowledged. */
  hold(holder: Holder, tag: number, sequence: number): void {
    this.unacked.push(tag, sequence, holder.index)
    holder.unackedCount++
    if (holder.consumer !== null) this.consumedCount++
  }

  /** basic.ack, basic.nack, basic.reject. Throws 406 for a tag of which nothing is open. */
  finish(tag: number, multiple: boolean, outcome: Outcome): void {
    const { unacked } = this
    if (outcome !== SETTLE && this.readsStreams) this.refuseStreams(tag, multiple)
    if (!multiple) {
      if (!unacked.remove(tag)) throw unknownTag(tag)
      if (this.tx === null) this.finishOne(unacked.holder, unacked.sequence, outcome)
      else this.tx.keep(tag, unacked.sequence, unacked.holder, outcome)
      return
    }
    if (tag !== 0 && !unacked.has(tag)) throw unknownTag(tag)
    const tagMax = tag === 0 ? this.lastTag : tag
    if (this.tx === null) this.finishUpTo(tagMax, outcome)
    else this.keepUpTo(tagMax, outcome, this.tx)
  }

  /** A stream's messages stay where they are: none comes again, none is rejected. */
  private refuseStreams(tag: number, multiple: boolean): void {
    const holder = multiple ? -1 : this.unacked.holderOf(tag)
    for (const { index, queue, unackedCount } of this.holders) {
      if (queue.stream === null || unackedCount === 0) continue
      if (!multiple && index !== holder) continue
      throw explain(notOfStreams('basic.nack and basic.reject', queue), queue.vhost)
    }
  }

  private keepUpTo(tagMax: number, outcome: Outcome, tx: Transaction): void {
    const { unacked } = this
    for (let tag = unacked.oldestTag; unacked.removeFirst(tagMax); tag = unacked.oldestTag) {
      tx.keep(tag, unacked.sequence, unacked.holder, outcome)
    }
  }

  /** tx.commit: what was told of deliveries comes true. */
  finishKept(tx: Transaction): void {
    this.isFinishing = true
    for (let i = 0; i < tx.outcomes.length; i++) {
      this.finishOne(tx.holders[i]!, tx.sequences[i]!, tx.outcomes[i]!)
    }
    this.endFinishing()
  }

  /** tx.rollback: nothing was said; the deliveries are open as they were. */
  rollback(tx: Transaction): void {
    this.unacked.restore(tx.tags, tx.sequences, tx.holders)
    tx.clear()
  }

  /** basic.recover: everything open goes back to its place. */
  recover(): void {
    if (this.readsStreams) this.refuseStreams(0, true)
    this.requeueAll()
  }

  private requeueAll(): void {
    this.finishUpTo(this.lastTag, REQUEUE)
  }

  /** What goes back comes again only when all of it is back, and in its order. */
  private finishUpTo(tagMax: number, outcome: Outcome): void {
    const { unacked } = this
    this.isFinishing = true
    while (unacked.removeFirst(tagMax)) this.finishOne(unacked.holder, unacked.sequence, outcome)
    this.endFinishing()
  }

  private endFinishing(): void {
    for (const queue of this.returned) allBack(this.connection.broker, queue)
    this.returned.clear()
    this.isFinishing = false
    this.wakeAll()
  }

  /** A delivery that `unacked` took out. */
  private finishOne(index: number, sequence: number, outcome: Outcome): void {
    const holder = this.holders.at(index)
    const { broker } = this.connection
    if (outcome === SETTLE) settle(broker, holder.queue, sequence)
    else if (outcome === REQUEUE) this.giveBack(holder.queue, sequence, false)
    else if (outcome === FAIL) this.giveBack(holder.queue, sequence, true)
    else reject(broker, holder.queue, sequence)
    holder.unackedCount--
    const consumer = holder.consumer
    if (consumer === null || consumer.isCancelled) this.holders.forget(holder)
    if (consumer === null) return
    const wasFull = this.isShared(this.consumedCount)
    this.consumedCount--
    // One of the channel's places is free: whoever waits for it may have it.
    if (wasFull) this.passTurn(consumer)
    else if (consumer.isStarved && !consumer.isCancelled) this.connection.wake(consumer)
  }

  /** Wakes all of them, last the one that had a place: else its queue would always be the first to have it. */
  private passTurn(consumer: ChannelConsumer): void {
    if (this.consumers.delete(consumer.tag)) this.consumers.set(consumer.tag, consumer)
    this.wakeAll()
  }

  /** One of several: delivering waits for the others. Their tags may be in another order than they are. */
  private giveBack(queue: Queue, sequence: number, isFailure: boolean): void {
    if (!this.isFinishing) {
      requeue(this.connection.broker, queue, sequence, isFailure)
      return
    }
    putBack(this.connection.broker, queue, sequence, isFailure)
    this.returned.add(queue)
  }

  /** With this many open deliveries the channel as a whole took no more. */
  private isShared(count: number): boolean {
    const most = this.globalPrefetchCount
    return (most > 0 && count >= most) || count >= this.connection.broker.limits.channelUnackedMax
  }

  /** Room for one more delivery, as far as the channel as a whole goes. */
  get hasRoom(): boolean {
    return !this.isClosed && !this.isFinishing && !this.isShared(this.consumedCount)
  }

  /** The channel as a whole has as many open deliveries as its prefetch lets it have. */
  get isAtPrefetch(): boolean {
    return this.globalPrefetchCount > 0 && this.consumedCount >= this.globalPrefetchCount
  }

  /** The prefetch of the channel as a whole; 0 = unlimited. */
  setGlobalPrefetch(count: number): void {
    this.globalPrefetchCount = count
    for (const consumer of this.consumers.values()) consumer.hasSharedPrefetch = count > 0
    this.wakeAll()
  }

  wakeAll(): void {
    for (const consumer of this.consumers.values()) {
      if (consumer.isStarved) this.connection.wake(consumer)
    }
  }

  // End

  /** Its consumers go into `into`, cancelled; their queues are told by the caller. */
  takeConsumers(into: ChannelConsumer[]): void {
    this.replyConsumer?.end()
    for (const consumer of this.consumers.values()) {
      consumer.isCancelled = true
      into.push(consumer)
    }
    this.consumers.clear()
  }

  /** Cancels the consumers and gives back what is open. Nothing is sent. Idempotent. */
  close(): void {
    if (this.isClosed) return
    cancelConsumers(this.connection.broker, [this])
    this.isClosed = true
    this.assembler.reset()
    if (this.tx !== null) this.rollback(this.tx)
    this.finishUpTo(this.lastTag, FAIL)
    if (this.owed.length === 0) this.stopWaiting()
  }

  /** The connection is gone: replies have nobody to go to. */
  drop(): void {
    this.close()
    this.owed.length = 0
    this.stopWaiting()
  }
}

/** Of a whole connection at once, so that none of them is given what another one gives back. */
export function cancelConsumers(broker: Broker, channels: Iterable<AmqpChannel>): void {
  const consumers: ChannelConsumer[] = []
  for (const channel of channels) channel.takeConsumers(consumers)
  cancelAll(broker, consumers)
}

function unknownTag(tag: number): AmqpError {
  return new AmqpError(REPLY.preconditionFailed, `unknown delivery tag ${tag}`)
}
