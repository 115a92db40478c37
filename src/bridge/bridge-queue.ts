/** The queues of a bridge: the one that it reads, bound to what it carries, and the one for what nobody takes. */
import type { Broker } from '../broker/broker.ts'
import { bindQueue, unbindQueue } from '../broker/bindings.ts'
import { OwnPublisher } from '../broker/own-publisher.ts'
import { publishTo } from '../broker/publish.ts'
import { declareQueue, lookupQueue } from '../broker/queues.ts'
import { BrokerError } from '../core/errors.ts'
import type { FieldTable, FieldValue } from '../core/field-table.ts'
import { FORM_AMQP, Message } from '../core/message.ts'
import type { Queue } from '../core/queue.ts'
import { filterToBindingKey } from '../core/topic.ts'
import { MQTT_EXCHANGE, type Vhost } from '../core/vhost.ts'
import type { Outgoing, Refusal } from './link.ts'
import { type BridgeSettings, deadNameOf, queueNameOf } from './settings.ts'

/** Bounds of a dead letter queue; the oldest go first. */
const DEAD_MESSAGES_MAX = 100_000
const DEAD_BYTES_MAX = 256 * 1024 * 1024

/** Throws a `BrokerError`: no such vhost or queue, another queue of that name, the disk's alarm. */
export function openQueue(broker: Broker, settings: BridgeSettings): Queue {
  const vhost = vhostOf(broker, settings)
  const name = queueNameOf(settings)
  if (settings.queue !== '') return lookupQueue(vhost, name, null)
  const { queue } = declareQueue(broker, vhost, {
    ...OURS,
    name,
    arguments: boundsOf(settings)
  })
  bindOnly(broker, vhost, queue, bindingsOf(settings))
  return queue
}

const OURS = {
  passive: false,
  durable: true,
  exclusive: false,
  autoDelete: false,
  principal: null,
  owner: null,
  isConfigured: true
} as const

function vhostOf(broker: Broker, settings: BridgeSettings): Vhost {
  const vhost = broker.state.vhost(settings.vhost)
  if (vhost !== null) return vhost
  throw new BrokerError('notFound', `there is no virtual host '${settings.vhost}'`)
}

function boundsOf({ limits }: BridgeSettings): FieldTable {
  const table: [string, FieldValue][] = []
  const whole = (name: string, value: number) => {
    if (value > 0) table.push([name, { type: 'l', value: BigInt(value) }])
  }
  whole('x-max-length', limits.messages)
  whole('x-max-length-bytes', limits.bytes)
  whole('x-message-ttl', limits.ageMs)
  if (limits.messages > 0 || limits.bytes > 0) {
    const overflow = limits.overflow === 'refuse' ? 'reject-publish' : 'drop-head'
    table.push(['x-overflow', { type: 'S', value: overflow }])
  }
  return table
}

interface Bound {
  readonly exchange: string
  readonly key: string
}

function bindingsOf(settings: BridgeSettings): Bound[] {
  const topics = settings.topics.map(filter => ({
    exchange: MQTT_EXCHANGE,
    key: filterToBindingKey(filter)
  }))
  return [...topics, ...settings.bindings]
}

/** New ones first: what both the old and the new ones match is not missed. */
function bindOnly(broker: Broker, vhost: Vhost, queue: Queue, wanted: readonly Bound[]): void {
  const rest = { queue: queue.name, arguments: [], principal: null, owner: null }
  const before: Bound[] = []
  for (const exchange of vhost.exchanges.values()) {
    if (exchange.name === '') continue
    for (const { key } of exchange.bindingsOf(queue)) before.push({ exchange: exchange.name, key })
  }
  for (const { exchange, key } of wanted) bindQueue(broker, vhost, { ...rest, exchange, key })
  for (const { exchange, key } of before) {
    const isWanted = wanted.some(each => each.exchange === exchange && each.key === key)
    if (!isWanted) unbindQueue(broker, vhost, { ...rest, exchange, key })
  }
}

/** Its bridge is gone: what waits stays, nothing more comes. */
export function unbindAll(broker: Broker, vhost: Vhost, queue: Queue): void {
  bindOnly(broker, vhost, queue, [])
}

/**
 * Puts it into the bridge's dead letter queue, with where it was to go and why it did not. False: not now. The
 * settlement that follows stands behind it in the journal: it is never in neither queue.
 */
export function buryAtFarSide(
  broker: Broker,
  settings: BridgeSettings,
  outgoing: Outgoing,
  refusal: Refusal
): boolean {
  const name = deadNameOf(settings)
  try {
    const vhost = vhostOf(broker, settings)
    const isThere = vhost.queues.has(name)
    if (!isThere) declareQueue(broker, vhost, { ...OURS, name, arguments: DEAD_BOUNDS })
    const message = deadLetterOf(broker, settings, outgoing, refusal, name)
    return publishTo(broker, vhost.exchanges.get('')!, message, new OwnPublisher(vhost)) >= 0
  } catch (error) {
    // The disk's alarm, or too many queues: it is tried again.
    if (error instanceof BrokerError) return false
    throw error
  }
}

const DEAD_BOUNDS: FieldTable = [
  ['x-max-length', { type: 'l', value: BigInt(DEAD_MESSAGES_MAX) }],
  ['x-max-length-bytes', { type: 'l', value: BigInt(DEAD_BYTES_MAX) }]
]

function deadLetterOf(
  broker: Broker,
  settings: BridgeSettings,
  { properties, target, payload }: Outgoing,
  { reason }: Refusal,
  queue: string
): Message {
  const text = (name: string, value: string) =>
    properties.headers.push([name, { type: 'S', value }])
  text('x-motemq-bridge', settings.name)
  text('x-motemq-refusal', reason)
  text('x-motemq-exchange', target.exchange)
  text('x-motemq-key', target.key)
  properties.expiration = null
  const key = Buffer.from(queue)
  const bytes = broker.propertyEncoders[FORM_AMQP]?.(properties) ?? Buffer.alloc(2)
  const message = new Message()
  message.renew()
  message.source = Buffer.concat([key, bytes, payload])
  message.key = queue
  message.keyEnd = key.length
  message.propertiesStart = key.length
  message.propertiesEnd = key.length + bytes.length
  message.payloadStart = message.propertiesEnd
  message.payloadEnd = message.source.length
  message.form = FORM_AMQP
  message.qos = 1
  return message
}
