/** Where a message goes: routes are looked up, or compiled and remembered. */
import { blindNumbersOf } from '../core/blind-keys.ts'
import type { Exchange } from '../core/exchange.ts'
import type { FieldTable } from '../core/field-table.ts'
import { FORM_AMQP, FORM_MQTT, type Message } from '../core/message.ts'
import { mayTopic } from '../core/permissions.ts'
import { HASHED_PROPERTIES, PROPERTY_PREFIX } from '../core/pick-binding.ts'
import type { Queue } from '../core/queue.ts'
import { compileRoute, type Detour, NO_GROUPS, Route, TRACED } from '../core/route.ts'
import { Routes, routeAll } from '../core/route-all.ts'
import type { Session, Subscription } from '../core/session.ts'
import type { SharedGroup } from '../core/shared-group.ts'
import { isMqttTopic, swapSeparators } from '../core/topic.ts'
import type { Vhost } from '../core/vhost.ts'
import type { Broker } from './broker.ts'
import { connectionOf } from './consumer.ts'
import { keyIn, keyTtlIn } from './deduplicate.ts'
import { headersOf, propertiesIn } from './rewrite.ts'

const found = new Routes()

/** The route of a message to an MQTT topic. For the hot path. */
export function routeTopic(broker: Broker, vhost: Vhost, topic: string, message: Message): Route {
  const cache = vhost.topicRoutes
  const route = cache.routes.get(topic)
  if (route !== undefined && route.version === cache.exchange.version) return route
  if (cache.exchange.readsHeaders) {
    // User properties are headers to an exchange behind the topic exchange that looks at them.
    const headers = withProperties(broker, cache.exchange, message, headersOf(broker, message))
    return compile(broker, vhost, cache.exchange, topic, topic, headers, null)
  }
  const compiled = compile(broker, vhost, cache.exchange, topic, topic, null, null)
  cache.remember(cache.routes, topic, compiled, broker.limits.routeCacheMax)
  return compiled
}

/** Who subscribes to a topic of ours, below `$SYS`: no queue gets it, and it is not remembered. */
export function routeSys(broker: Broker, vhost: Vhost, topic: string): Route {
  const exchange = vhost.topicExchange
  found.clear()
  routeAll(exchange, topic, null, found, null)
  const subscriptions = found.subscriptions as unknown as (Subscription | SharedGroup)[]
  const route = compileRoute(subscriptions, [], exchange.version, session =>
    mayRead(broker, vhost, session, topic)
  )
  found.clear()
  return route
}

/** Headers, and for an exchange that hashes them also some properties, under names that no header has. */
function withProperties(
  broker: Broker,
  exchange: Exchange,
  message: Message | null,
  headers: FieldTable | null
): FieldTable | null {
  if (message === null || !exchange.readsProperties) return headers
  const properties = propertiesIn(broker, message)
  if (properties === null) return headers
  const { messageId, correlationId, timestamp } = properties
  const values = [messageId, correlationId?.toString('latin1'), timestamp]
  const all = [...(headers ?? [])]
  for (const [i, name] of HASHED_PROPERTIES.entries()) {
    const value = values[i] ?? null
    if (value !== null) all.push([PROPERTY_PREFIX + name, { type: 'S', value: String(value) }])
  }
  return all
}

function withoutProperties(headers: FieldTable): FieldTable {
  return headers.filter(([name]) => !name.startsWith(PROPERTY_PREFIX))
}

/** The route of a message that was held back by `exchange` until now. */
export function routeDue(
  broker: Broker,
  vhost: Vhost,
  exchange: Exchange,
  message: Message,
  headers: FieldTable,
  moreKeys: readonly string[] | null
): Route {
  const text = message.keyText()
  const key = message.form === FORM_MQTT ? swapSeparators(text) : text
  const all = withProperties(broker, exchange, message, headers)
  return compileKey(broker, vhost, exchange, key, all, moreKeys)
}

/** The route of an AMQP publish. `headers` are given where `exchange.readsHeaders`. */
export function routeKey(
  broker: Broker,
  vhost: Vhost,
  exchange: Exchange,
  key: string,
  headers: FieldTable | null,
  moreKeys: readonly string[] | null,
  message: Message | null = null
): Route {
  if (exchange.name === '' && moreKeys === null) return routeToQueue(broker, vhost, exchange, key)
  if (moreKeys !== null || exchange.readsHeaders) {
    const all = withProperties(broker, exchange, message, headers)
    return compileKey(broker, vhost, exchange, key, all, moreKeys)
  }
  const cache = vhost.routesOf(exchange)
  const map = exchange.kind === 'topic' ? cache.routesByAmqpKey : cache.routes
  const route = map.get(key)
  if (route !== undefined && route.version === exchange.version) return route
  const compiled = compileKey(broker, vhost, exchange, key, null, null)
  cache.remember(map, key, compiled, broker.limits.routeCacheMax)
  return compiled
}

/** The default exchange: the key is a queue's name. */
function routeToQueue(broker: Broker, vhost: Vhost, exchange: Exchange, key: string): Route {
  const cache = vhost.routesOf(exchange)
  const route = cache.routes.get(key)
  if (route !== undefined) return route
  const queue = vhost.queues.get(key)
  if (queue === undefined) return vhost.tracer === null ? NO_ROUTE : TRACED_NO_ROUTE
  const compiled = new Route([], [queue], 0, NO_GROUPS, tracedIn(vhost))
  cache.remember(cache.routes, key, compiled, broker.limits.routeCacheMax)
  return compiled
}

const NO_ROUTE = new Route([], [], 0)
const TRACED_NO_ROUTE = new Route([], [], 0, NO_GROUPS, TRACED)

function tracedIn(vhost: Vhost): Detour | null {
  return vhost.tracer === null ? null : TRACED
}

function compileKey(
  broker: Broker,
  vhost: Vhost,
  exchange: Exchange,
  key: string,
  headers: FieldTable | null,
  moreKeys: readonly string[] | null
): Route {
  const isTopic = exchange.kind === 'topic'
  const topic = swapSeparators(key)
  const own = isTopic ? topic : key
  const more = moreKeys !== null && isTopic ? moreKeys.map(swapSeparators) : moreKeys
  const blind = blindNumbersOf(moreKeys)
  if (exchange.name === '') return routeDefault(vhost, key, moreKeys, blind)
  return compile(broker, vhost, exchange, own, topic, headers, more, blind)
}

function routeDefault(
  vhost: Vhost,
  key: string,
  moreKeys: readonly string[] | null,
  blind: readonly number[] | null
): Route {
  const queues = new Set<Queue>()
  for (const name of [key, ...(moreKeys ?? [])]) {
    const queue = vhost.queues.get(name)
    if (queue !== undefined) queues.add(queue)
  }
  found.clear()
  return new Route([], [...queues], 0, NO_GROUPS, detourOf([], vhost.tracer !== null, blind))
}

function compile(
  broker: Broker,
  vhost: Vhost,
  exchange: Exchange,
  key: string,
  topic: string,
  headers: FieldTable | null,
  moreKeys: readonly string[] | null,
  blind: readonly number[] | null = null
): Route {
  found.clear()
  if (headers !== null && headers.length > 0) {
    found.key = keyIn(headers)
    found.nowMs = broker.nowMs
  }
  routeAll(exchange, key, headers, found, moreKeys)
  let subscriptions = found.subscriptions as unknown as (Subscription | SharedGroup)[]
  if (subscriptions.length > 0 && !isMqttTopic(topic, broker.limits)) {
    broker.counters.drop('topic_not_mqtt', subscriptions.length)
    subscriptions = []
  }
  const queues = (found.queues as unknown as Queue[]).slice()
  const route = compileRoute(
    subscriptions,
    queues,
    exchange.version,
    session => mayRead(broker, vhost, session, topic),
    detourOf(headers ?? [], vhost.tracer !== null, blind)
  )
  found.clear()
  return route
}

/** Of the route that was found; null: nothing on it asks for more than to be routed. */
function detourOf(
  headers: FieldTable,
  isTraced: boolean,
  blind: readonly number[] | null
): Detour | null {
  const { delays, key, newIn, refusedBy } = found
  if (blind === null && delays.length + newIn.length + refusedBy.length === 0) {
    return isTraced ? TRACED : null
  }
  return {
    stores: delays.slice(),
    headers: withoutProperties(headers),
    key,
    keyTtlMs: keyTtlIn(headers),
    newIn: newIn.slice(),
    refusedBy: refusedBy.slice(),
    isTraced,
    blind
  }
}

/** Reading is judged when the route is made; a change of permissions forgets all routes. */
export function mayRead(broker: Broker, vhost: Vhost, session: Session, topic: string): boolean {
  const connection = connectionOf(session)
  const principal = connection?.principal ?? broker.principalOf(session.user, vhost.name)
  return principal !== null && mayTopic(principal, 'read', topic, session.clientId)
}

/** The form of the key as `Message` has it says which way the topic is written. */
export function topicOf(form: number, key: string): string {
  return form === FORM_AMQP ? swapSeparators(key) : key
}
