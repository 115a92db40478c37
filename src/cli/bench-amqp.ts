/**
 * The AMQP connections of `motemq bench --amqp`. Pairs have a queue each, the consumers of a fan-in have one together,
 * those of a fan-out one each behind a fanout exchange. All queues are deleted at the end.
 */
import {
  AmqpClient,
  type AmqpClientError,
  type AmqpHandler,
  publishFrames
} from '../client/amqp-client.ts'
import {
  type Load,
  type LoadPeer,
  type LoadPeers,
  type LoadPublisher,
  MARK_AT,
  PUBLISHER_AT,
  Window
} from './bench-load.ts'
import { CommandError } from './exit.ts'

/** How long the far side may take to delete a queue and to say goodbye. */
const CLOSE_MS = 2_000

class AmqpPeer implements LoadPeer, AmqpHandler {
  protected readonly load: Load
  protected client!: AmqpClient
  /** Declared here: deleted at the end. */
  protected readonly queues: string[]
  private isClosing: boolean

  constructor(load: Load) {
    this.load = load
    this.queues = []
    this.isClosing = false
  }

  async open(): Promise<void> {
    const { amqp } = this.load.options
    try {
      this.client = await AmqpClient.open(amqp!, this.load.sockets)
      this.client.handle(this)
      await this.opened()
    } catch (error) {
      throw new CommandError(`no connection: ${(error as Error).message}`)
    }
  }

  protected async opened(): Promise<void> {
    // One that does nothing.
  }

  async close(): Promise<void> {
    this.isClosing = true
    if (this.client === undefined || this.client.error !== null) return
    const done = (async () => {
      for (const queue of this.queues) await this.client.deleteQueue(queue)
      await this.client.close()
    })()
    const late = new Promise<void>(resolve => setTimeout(resolve, CLOSE_MS).unref())
    // Whoever ends it first: there is nothing more to be done with it.
    await Promise.race([done.catch(() => undefined), late])
  }

  /** `index`: of the publisher, with fan-out of the subscriber. */
  protected async declare(index: number): Promise<string> {
    const { layout, topic, durable } = this.load.options
    const queue = layout === 'fan-in' ? `${topic}/all` : `${topic}/${index}`
    await this.client.declareQueue(queue, durable)
    this.queues.push(queue)
    return queue
  }

  onBody(_buffer: Buffer, _start: number, _end: number): void {
    // Only consumers get any.
  }

  onConfirm(_sequence: number, _multiple: boolean, _isAck: boolean): void {
    // Only publishers are told.
  }

  onRoom(): void {
    // Only publishers wait for it.
  }

  onEnd(_error: AmqpClientError): void {
    if (!this.isClosing) this.load.lostConnections++
  }
}

class AmqpSubscriber extends AmqpPeer {
  private readonly index: number

  constructor(load: Load, index: number) {
    super(load)
    this.index = index
  }

  protected override async opened(): Promise<void> {
    const { layout, publishers, subscribers, qos, prefetch, topic } = this.load.options
    const queues: string[] = []
    if (layout === 'pairs') {
      for (let i = this.index; i < publishers; i += subscribers) queues.push(await this.declare(i))
    } else queues.push(await this.declare(this.index))
    if (layout === 'fan-out') {
      await this.client.declareExchange(topic, 'fanout', true)
      await this.client.bindQueue(queues[0]!, topic, '')
    }
    for (const queue of queues) await this.client.consumeRaw(queue, prefetch, qos === 0)
  }

  override onBody(buffer: Buffer, start: number, end: number): void {
    this.load.onDelivery(buffer, start, end - start, this.index)
  }
}

class AmqpPublisher extends AmqpPeer implements LoadPublisher {
  private readonly index: number
  private frames: Buffer
  private payloadAt: number
  /** Without subscribers: of those that are not confirmed. */
  readonly window: Window
  private confirmed: number

  constructor(load: Load, index: number) {
    super(load)
    this.index = index
    this.frames = Buffer.alloc(0)
    this.payloadAt = 0
    this.window = new Window(load, this)
    this.confirmed = 0
  }

  protected override async opened(): Promise<void> {
    const { layout, size, topic, durable, qos } = this.load.options
    const isFanOut = layout === 'fan-out'
    if (isFanOut) await this.client.declareExchange(topic, 'fanout', true)
    const key = isFanOut ? '' : await this.declare(this.index)
    if (qos > 0) await this.client.selectConfirms()
    const payload = Buffer.alloc(size, 'x')
    payload.writeUInt32BE(this.index, PUBLISHER_AT)
    payload.writeUInt32BE(this.load.mark, MARK_AT)
    const { frames, at } = publishFrames(isFanOut ? topic : '', key, durable, payload)
    this.frames = frames
    this.payloadAt = at
  }

  publishOne(): boolean {
    this.frames.writeDoubleBE(performance.now(), this.payloadAt)
    if (!this.client.send(this.frames)) return false
    this.load.published++
    const { subscribers, qos } = this.load.options
    if (subscribers > 0 || qos > 0) this.window.outstanding++
    return true
  }

  override onConfirm(sequence: number, multiple: boolean, isAck: boolean): void {
    const count = multiple ? sequence - this.confirmed : 1
    if (multiple) this.confirmed = sequence
    else if (sequence === this.confirmed + 1) this.confirmed = sequence
    if (isAck) this.load.acknowledged += count
    if (this.load.options.subscribers > 0) return
    this.window.onArrived(count)
  }

  override onRoom(): void {
    this.window.fill()
  }
}

export const AMQP_PEERS: LoadPeers = {
  publisher: (load, index) => new AmqpPublisher(load, index),
  subscriber: (load, index) => new AmqpSubscriber(load, index),
  idle: load => new AmqpPeer(load)
}
