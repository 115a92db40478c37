/**
 * A client inside the process: it publishes and subscribes through the interfaces of consumer.ts, with
 * no socket and no codec. Every subscription is a session of its own that ends with the process. Nothing
 * of its caller runs inside a verb of the broker: deliveries gather and are handed over in a later turn.
 */
import { BrokerError, ERROR_NAMES } from '../core/errors.ts'
import { FORM_MQTT, Message } from '../core/message.ts'
import { Principal } from '../core/principal.ts'
import { MessageProperties } from '../core/properties.ts'
import type { Queue } from '../core/queue.ts'
import type { Session } from '../core/session.ts'
import { isValidTopic } from '../core/topic.ts'
import type { Vhost } from '../core/vhost.ts'
import type { Broker } from './broker.ts'
import { DELIVER_QOS, DELIVER_RETAIN, type Publisher, type SessionConnection } from './consumer.ts'
import { wakeSession } from './group-member.ts'
import { publish } from './publish.ts'
import { replayRetained } from './retained-replay.ts'
import { topicOf } from './routing.ts'
import { connect, disconnect, resume, subscribe } from './sessions.ts'
import { settle } from './settle.ts'

/** Messages that wait for the disk's pressure to pass; beyond it publishing is refused. */
const DEFERRED_MAX = 10_000
/** Handlers that run before other work of the process gets its turn. */
const HANDLED_A_TURN = 64
const ID_BYTES = 9

export interface LocalPublish {
  readonly topic: string
  readonly payload: Uint8Array
  readonly qos: number
  readonly retain: boolean
  /** Property bytes in MQTT's form, without the expiry. */
  readonly properties: Uint8Array
  /** 0 = never. */
  readonly expirySeconds: number
}

/** What a subscription gets: bytes of its own, kept as long as the receiver likes. */
export interface LocalDelivery {
  readonly topic: string
  readonly payload: Buffer
  readonly qos: 0 | 1
  readonly retain: boolean
  readonly properties: MessageProperties
  /** Whole seconds that are left, at least 1; null: it never expires. */
  readonly expirySeconds: number | null
}

export type LocalHandler = (delivery: LocalDelivery) => unknown

export interface LocalSubscribe {
  readonly qos: 0 | 1
  /** Whether what is retained now comes first. */
  readonly retained: boolean
  readonly handler: LocalHandler
}

interface Pending {
  readonly message: Message
  readonly resolve: () => void
  readonly reject: (error: BrokerError) => void
}

interface Waiting {
  readonly ticket: number
  readonly pending: Pending
}

export class LocalClient implements Publisher {
  readonly principal: Principal
  readonly clientId: string
  readonly vhost: Vhost
  readonly session = null
  readonly #broker: Broker
  /** Taken, not yet durable, in the order of their tickets. */
  #waiting: Waiting[]
  /** Not yet given to the broker. */
  #deferred: Pending[]
  readonly #subscriptions: Set<LocalSubscription>
  #lastSubscription: number
  #isClosed: boolean
  readonly #onJournalFailed: () => void

  constructor(broker: Broker, vhost: Vhost) {
    this.#broker = broker
    this.vhost = vhost
    this.clientId = `embedded-${broker.random(ID_BYTES).toString('base64url')}`
    this.principal = new Principal('', ['administrator'], vhost.name, [], [], true)
    this.#waiting = []
    this.#deferred = []
    this.#subscriptions = new Set()
    this.#lastSubscription = 0
    this.#isClosed = false
    this.#onJournalFailed = () => this.#rejectAll('journalFailed', 'the journal failed')
    broker.publishers.add(this)
    broker.events.on('journalFailed', this.#onJournalFailed)
  }

  /** Resolves when what keeps the message is durable; at once with QoS 0. Rejects with a `BrokerError`. */
  publish(request: LocalPublish): Promise<void> {
    return new Promise((resolve, reject) => {
      const message = this.#messageOf(request)
      const pending: Pending = { message, resolve, reject }
      if (!this.#broker.isPaused && this.#deferred.length === 0) this.#send(pending)
      else if (this.#deferred.length < DEFERRED_MAX) this.#deferred.push(pending)
      else reject(new BrokerError('quotaExceeded', `${DEFERRED_MAX} messages wait for the disk`))
    })
  }

  /** The caller's bytes are copied here: they are the caller's own again when this returns. */
  #messageOf(request: LocalPublish): Message {
    const { topic, payload, properties, qos, retain, expirySeconds } = request
    const { limits, nowMs } = this.#broker
    if (this.#isClosed) throw new BrokerError('shuttingDown', 'the broker stops')
    if (!isValidTopic(topic, limits)) {
      throw new BrokerError('topicInvalid', `${JSON.stringify(topic)} is no topic`, { topic })
    }
    const bytesMax = limits.amqpMessageBytesMax
    if (payload.length > bytesMax) {
      const sentence = `a payload of ${payload.length} bytes is more than ${bytesMax}`
      throw new BrokerError('tooLarge', sentence, { bytes: payload.length, bytesMax })
    }
    const key = Buffer.from(topic)
    const message = new Message()
    message.renew()
    const source = Buffer.concat([key, properties, payload])
    message.compose(source, topic, key.length, key.length + properties.length)
    message.form = FORM_MQTT
    message.qos = qos
    message.retain = retain
    if (expirySeconds > 0) message.expiresAt = nowMs + expirySeconds * 1_000
    return message
  }

  #send(pending: Pending): void {
    const broker = this.#broker
    const ticket = publish(broker, pending.message, this)
    if (ticket < 0) {
      const name = ERROR_NAMES[-ticket - 1]!
      const { key } = pending.message
      pending.reject(new BrokerError(name, `the message was refused: ${name}`, { topic: key }))
    } else if (ticket <= broker.journal.durableTicket) pending.resolve()
    else {
      if (this.#waiting.length === 0) broker.waiting.add(this)
      this.#waiting.push({ ticket, pending })
    }
  }

  /** Throws a `BrokerError` for a filter that is none, or when a limit is reached. */
  subscribe(filter: string, request: LocalSubscribe): LocalSubscription {
    if (this.#isClosed) throw new BrokerError('shuttingDown', 'the broker stops')
    const clientId = `${this.clientId}-${++this.#lastSubscription}`
    const subscription = new LocalSubscription(this.#broker, this, clientId, request)
    this.#subscriptions.add(subscription)
    try {
      subscription.open(filter, request)
    } catch (error) {
      subscription.close()
      throw error
    }
    return subscription
  }

  /** For `LocalSubscription`: it ended. */
  forget(subscription: LocalSubscription): void {
    this.#subscriptions.delete(subscription)
  }

  /** Ends the subscriptions; what was published goes on. */
  unsubscribeAll(): void {
    for (const subscription of this.#subscriptions) subscription.close()
  }

  /** Nothing more comes from the broker: whoever still waits is told. Idempotent. */
  close(): void {
    this.#isClosed = true
    this.unsubscribeAll()
    this.#broker.publishers.delete(this)
    this.#broker.events.off('journalFailed', this.#onJournalFailed)
    this.#rejectAll('shuttingDown', 'the broker stopped before the message was durable')
  }

  #rejectAll(code: 'journalFailed' | 'shuttingDown', sentence: string): void {
    const waiting = this.#waiting.splice(0)
    this.#broker.waiting.delete(this)
    for (const { pending } of waiting) pending.reject(new BrokerError(code, sentence))
    for (const pending of this.#deferred.splice(0)) pending.reject(new BrokerError(code, sentence))
  }

  onDurable(ticket: number): void {
    const waiting = this.#waiting
    let count = 0
    while (count < waiting.length && waiting[count]!.ticket <= ticket) count++
    for (const { pending } of waiting.splice(0, count)) pending.resolve()
    if (waiting.length === 0) this.#broker.waiting.delete(this)
  }

  onPause(): void {
    // `publish` asks `broker.isPaused` itself.
  }

  onResume(): void {
    const deferred = this.#deferred
    let count = 0
    // What is sent may fill the disk's buffers again.
    const { journal } = this.#broker
    while (count < deferred.length && !journal.isCrowded) this.#send(deferred[count++]!)
    deferred.splice(0, count)
  }

  onDiskAlarm(): void {
    // A publish is refused with `diskAlarm`; there is nobody to hold back.
  }
}

interface Gathered {
  readonly delivery: LocalDelivery
  /** -1: nothing is to be settled. */
  readonly sequence: number
}

export class LocalSubscription implements SessionConnection {
  readonly noAck = false
  readonly principal: Principal
  readonly clientId: string
  readonly vhost: Vhost
  session: Session | null
  readonly #broker: Broker
  readonly #client: LocalClient
  readonly #handler: LocalHandler
  #gathered: Gathered[]
  #gatheredBytes: number
  #isRunning: boolean
  #isClosed: boolean

  constructor(broker: Broker, client: LocalClient, clientId: string, request: LocalSubscribe) {
    this.#broker = broker
    this.#client = client
    this.#handler = request.handler
    this.principal = client.principal
    this.clientId = clientId
    this.vhost = client.vhost
    this.session = null
    this.#gathered = []
    this.#gatheredBytes = 0
    this.#isRunning = false
    this.#isClosed = false
  }

  open(filter: string, request: LocalSubscribe): void {
    const broker = this.#broker
    const opened = connect(broker, {
      vhost: this.vhost,
      clientId: this.clientId,
      principal: this.principal,
      version: 5,
      cleanStart: true,
      expirySeconds: 0,
      will: null,
      connection: this
    })
    if (opened.session === null) throw refused(opened.code, filter)
    const { session } = opened
    this.session = session
    resume(broker, session)
    const granted = subscribe(broker, session, filter, {
      qos: request.qos,
      noLocal: false,
      retainAsPublished: false,
      retainHandling: request.retained ? 0 : 2,
      identifier: 0
    })
    if (granted < 0) throw refused(-granted, filter)
    replayRetained(broker, session, filter)
  }

  /** Nothing is handed over any more; what waits is dropped, counted. Idempotent. */
  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    const { session } = this
    const unsent = this.#gathered.filter(({ sequence }) => sequence < 0).length
    if (unsent > 0) this.#broker.counters.drop('closed', unsent)
    this.#gathered = []
    this.#client.forget(this)
    if (session !== null) disconnect(this.#broker, session, this, 'disconnect', null)
    this.session = null
  }

  get inflightMax(): number {
    return this.#broker.limits.inflightMax
  }

  hasCredit(): boolean {
    const { session } = this
    return session !== null && session.queue.unackedCount < this.inflightMax
  }

  deliver(message: Message, queue: Queue, sequence: number, flags: number): void {
    const qos = (flags & DELIVER_QOS) === 0 ? 0 : 1
    this.#gather(message, qos, (flags & DELIVER_RETAIN) !== 0, qos === 0 ? -1 : sequence)
    if (qos === 0) settle(this.#broker, queue, sequence)
  }

  deliverDirect(message: Message, retain: boolean): boolean {
    if (this.#isClosed || this.#gatheredBytes > this.#broker.limits.outputBytesMax) return false
    this.#gather(message, 0, retain, -1)
    return true
  }

  #gather(message: Message, qos: 0 | 1, retain: boolean, sequence: number): void {
    const delivery = this.#deliveryOf(message, qos, retain)
    this.#gathered.push({ delivery, sequence })
    this.#gatheredBytes += delivery.payload.length
    if (this.#isRunning) return
    this.#isRunning = true
    setImmediate(run, this)
  }

  #deliveryOf(message: Message, qos: 0 | 1, retain: boolean): LocalDelivery {
    const { source, propertiesStart, propertiesEnd, payloadStart, payloadEnd, expiresAt } = message
    const { propertyDecoders, nowMs } = this.#broker
    const decode = propertyDecoders[message.form]
    const left = Math.max(1, Math.ceil((expiresAt - nowMs) / 1_000))
    return {
      topic: topicOf(message.form, message.keyText()),
      payload: Buffer.from(source.subarray(payloadStart, payloadEnd)),
      qos,
      retain,
      properties: decode?.(source, propertiesStart, propertiesEnd) ?? new MessageProperties(),
      expirySeconds: expiresAt > 0 ? left : null
    }
  }

  /** For `run`: hands over what has gathered, one after the other. */
  async handAll(): Promise<void> {
    let left = HANDLED_A_TURN
    for (let next = this.#take(); next !== null; next = this.#take()) {
      await this.#hand(next)
      if (--left > 0) continue
      left = HANDLED_A_TURN
      await new Promise<void>(resolve => setImmediate(resolve))
    }
    this.#isRunning = false
  }

  #take(): Gathered | null {
    const next = this.#gathered.shift()
    if (next === undefined) return null
    this.#gatheredBytes -= next.delivery.payload.length
    return next
  }

  async #hand({ delivery, sequence }: Gathered): Promise<void> {
    const broker = this.#broker
    broker.counters.mqttSent[delivery.qos]!++
    try {
      await this.#handler(delivery)
    } catch (error) {
      // Not ours to swallow, and not ours to stop for: as when a listener of an EventEmitter throws.
      setImmediate(rethrow, error)
    }
    const { session } = this
    if (sequence < 0 || session === null) return
    settle(broker, session.queue, sequence)
    wakeSession(broker, session)
  }

  resendRelease(): void {
    // QoS 2 is never granted here.
  }

  onCancelled(): void {
    this.#lost()
  }

  onTakenOver(): void {
    this.#lost()
  }

  onSessionEnded(): void {
    this.#lost()
  }

  /** The session is gone without us. */
  #lost(): void {
    this.session = null
    this.close()
  }

  /** `wakeSession` is called after each settlement as it is. */
  onStarved(): void {}
  onDurable(): void {}
  onPause(): void {}
  onResume(): void {}
  onDiskAlarm(): void {}
}

function run(subscription: LocalSubscription): void {
  // It never rejects: what a handler throws is thrown from a turn of its own.
  void subscription.handAll()
}

function rethrow(error: unknown): never {
  throw error
}

function refused(code: number, filter: string): BrokerError {
  const name = ERROR_NAMES[code - 1]!
  return new BrokerError(name, `the subscription was refused: ${name}`, { filter })
}
