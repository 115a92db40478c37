/**
 * The firehose (RabbitMQ's): while a virtual host is traced, each message that a client publishes and each that one is
 * given is published once more, to `amq.rabbitmq.trace`, with the key `publish.<exchange>` or `deliver.<queue>` and
 * headers that tell about it. Traces are gathered and leave at the end of the turn.
 *
 * When nobody traces it costs nothing: routes of a traced virtual host are made with a detour, and its consumers'
 * `deliver` is replaced by one that traces.
 */
import { hostname } from 'node:os'
import type { FieldTable, FieldValue } from '../core/field-table.ts'
import { FORM_AMQP, Message } from '../core/message.ts'
import { MessageProperties } from '../core/properties.ts'
import type { Route } from '../core/route.ts'
import { swapSeparators } from '../core/topic.ts'
import { TRACE_EXCHANGE, type Vhost } from '../core/vhost.ts'
import { cutUtf8 } from '../lib/bytes.ts'
import type { Broker, TurnTask } from './broker.ts'
import {
  type Consumer,
  connectionOf,
  DELIVER_REDELIVERED,
  type Origin,
  type SessionConnection
} from './consumer.ts'
import { OwnPublisher } from './own-publisher.ts'
import { propertiesOf, rewrite } from './rewrite.ts'
import { routeKey } from './routing.ts'
import { sessionQueueName } from './session-queues.ts'

const KEY_BYTES_MAX = 255
/** What one turn may gather; more is dropped, counted. */
const TRACES_MAX = 10_000
const BYTES_MAX = 16 * 1024 * 1024
const INT32_MAX = 0x7fffffff
const COPY_HEADERS = ['CC', 'BCC']

/** Publishes what was gathered: the broker hands in its own verb. */
type Publish = (message: Message, publisher: OwnPublisher, route: Route) => void

interface Attached {
  readonly list: readonly Consumer[]
}

/** Of one virtual host while it is traced. */
export class Tracer implements TurnTask {
  readonly #broker: Broker
  readonly #vhost: Vhost
  readonly #publish: Publish
  readonly #node: string
  readonly #watched: WeakSet<Consumer>
  #isOn: boolean
  #gathered: Message[]
  #bytes: number

  constructor(broker: Broker, vhost: Vhost, publish: Publish) {
    this.#broker = broker
    this.#vhost = vhost
    this.#publish = publish
    this.#node = `motemq@${hostname()}`
    this.#watched = new WeakSet()
    this.#isOn = true
    this.#gathered = []
    this.#bytes = 0
  }

  start(): void {
    const { queues, sessions } = this.#vhost
    for (const queue of queues.values()) {
      for (const consumer of (queue.attached as Attached | null)?.list ?? []) this.watch(consumer)
    }
    for (const session of sessions.values()) {
      const connection = connectionOf(session)
      if (connection !== null) this.watch(connection)
    }
  }

  stop(): void {
    this.#isOn = false
  }

  /** A consumer is there: what it gets is traced. With the first delivery after the end it is as it was before. */
  watch(consumer: Consumer | SessionConnection): void {
    if (consumer.origin === undefined || this.#watched.has(consumer)) return
    this.#watched.add(consumer)
    const { deliver } = consumer
    consumer.deliver = (message, queue, sequence, flags, identifiers) => {
      const name = queue.isSession ? sessionQueueName(queue.name) : queue.name
      // It is looked at first: what is handed over may be gone afterwards.
      if (this.#isOn) this.noteDelivery(message, name, flags, consumer.origin!())
      else consumer.deliver = deliver
      deliver.call(consumer, message, queue, sequence, flags, identifiers)
    }
    if ('deliverDirect' in consumer) this.#watchDirect(consumer)
  }

  /** What a session gets that no queue holds. */
  #watchDirect(connection: SessionConnection): void {
    const { deliverDirect } = connection
    connection.deliverDirect = (message, retain, identifiers) => {
      const name = sessionQueueName(connection.clientId)
      if (this.#isOn) this.noteDelivery(message, name, 0, connection.origin!())
      else connection.deliverDirect = deliverDirect
      return deliverDirect.call(connection, message, retain, identifiers)
    }
  }

  notePublish(message: Message, route: Route, origin: Origin): void {
    const names = [
      ...route.queues.map(queue => queue.name),
      ...route.groups.map(group => group.text),
      ...route.sessions.map(({ session }) => sessionQueueName(session.clientId))
    ]
    const queues: FieldValue = { type: 'A', value: names.map(textOf) }
    const more: FieldTable = [...this.#about(origin), ['routed_queues', queues]]
    this.#gather(`publish.${message.exchange}`, message, more)
  }

  noteDelivery(message: Message, queue: string, flags: number, origin: Origin): void {
    // What a queue has of the traces themselves is none.
    if (message.exchange === TRACE_EXCHANGE) return
    const redelivered = (flags & DELIVER_REDELIVERED) === 0 ? 0 : 1
    const more: FieldTable = [
      ['redelivered', { type: 'I', value: redelivered }],
      ...this.#about(origin)
    ]
    this.#gather(`deliver.${queue}`, message, more)
  }

  #about({ connection, channel, user }: Origin): FieldTable {
    return [
      ['vhost', textOf(this.#vhost.name)],
      ['connection', textOf(connection)],
      ['channel', { type: 'I', value: channel }],
      ['user', textOf(user)]
    ]
  }

  #gather(key: string, message: Message, more: FieldTable): void {
    // Nobody listens: nothing is made.
    if (this.#vhost.exchanges.get(TRACE_EXCHANGE)!.bindingCount === 0) return
    const bytes = message.payloadEnd - message.payloadStart
    if (this.#gathered.length >= TRACES_MAX || this.#bytes + bytes > BYTES_MAX) {
      this.#broker.counters.dropIn(this.#vhost.name, TRACE_EXCHANGE, 'queue_full')
      return
    }
    const trace = new Message()
    const properties = new MessageProperties()
    const table = [...this.#headersOf(message), ...more]
    properties.headers = table.map(([name, value]) => [name, value])
    rewrite(this.#broker, trace, message, cutUtf8(key, KEY_BYTES_MAX), properties)
    trace.exchange = TRACE_EXCHANGE
    trace.qos = 0
    trace.priority = 0
    trace.expiresAt = 0
    if (this.#gathered.length === 0) this.#broker.afterTurn(this)
    this.#gathered.push(trace)
    this.#bytes += bytes
  }

  #headersOf(message: Message): FieldTable {
    const own = propertiesOf(this.#broker, message)
    const written = message.keyText()
    const keys = [message.form === FORM_AMQP ? written : swapSeparators(written)]
    for (const [name, value] of own.headers) {
      if (!COPY_HEADERS.includes(name) || value.type !== 'A') continue
      for (const item of value.value) if (item.type === 'S') keys.push(item.value)
    }
    return [
      ['exchange_name', textOf(message.exchange)],
      ['routing_keys', { type: 'A', value: keys.map(textOf) }],
      ['properties', { type: 'F', value: tableOf(own) }],
      ['node', textOf(this.#node)]
    ]
  }

  onTurnEnd(): void {
    const gathered = this.#gathered
    this.#gathered = []
    this.#bytes = 0
    const exchange = this.#vhost.exchanges.get(TRACE_EXCHANGE)
    // The virtual host ended meanwhile.
    if (exchange === undefined) return
    const publisher = new OwnPublisher(this.#vhost)
    for (const trace of gathered) {
      const headers = exchange.readsHeaders ? propertiesOf(this.#broker, trace).headers : null
      const route = routeKey(this.#broker, this.#vhost, exchange, trace.key, headers, null, trace)
      this.#publish(trace, publisher, route)
    }
  }
}

/** RabbitMQ's names; a property that is not there is left out. */
function tableOf(properties: MessageProperties): FieldTable {
  const { headers, correlationId, timestamp } = properties
  const all: [string, FieldValue | null][] = [
    ['content_type', textOrNull(properties.contentType)],
    ['content_encoding', textOrNull(properties.contentEncoding)],
    ['headers', headers.length === 0 ? null : { type: 'F', value: headers }],
    ['delivery_mode', numberOrNull(properties.deliveryMode)],
    ['priority', numberOrNull(properties.priority)],
    ['correlation_id', textOrNull(correlationId?.toString('utf8') ?? null)],
    ['reply_to', textOrNull(properties.replyTo)],
    ['expiration', textOrNull(properties.expiration)],
    ['message_id', textOrNull(properties.messageId)],
    ['timestamp', numberOrNull(timestamp === null ? null : Number(timestamp))],
    ['type', textOrNull(properties.type)],
    ['user_id', textOrNull(properties.userId)],
    ['app_id', textOrNull(properties.appId)],
    ['cluster_id', textOrNull(properties.clusterId)]
  ]
  return all.filter((field): field is [string, FieldValue] => field[1] !== null)
}

function textOf(value: string): FieldValue {
  return { type: 'S', value }
}

function textOrNull(value: string | null): FieldValue | null {
  return value === null ? null : textOf(value)
}

function numberOrNull(value: number | null): FieldValue | null {
  if (value === null) return null
  return value <= INT32_MAX ? { type: 'I', value } : { type: 'l', value: BigInt(value) }
}
