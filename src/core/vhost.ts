/** A virtual host: the names, and the routes that are remembered. */
import { Exchange, type ExchangeKind } from './exchange.ts'
import type { Queue } from './queue.ts'
import { Retained } from './retained.ts'
import { RouteCache } from './route-cache.ts'
import type { Session } from './session.ts'
import type { SharedGroup } from './shared-group.ts'

/** What every vhost has (AMQP 0-9-1 §3.1.3, RabbitMQ): the name and kind. */
const PREDECLARED: readonly (readonly [string, ExchangeKind])[] = [
  ['', 'direct'],
  ['amq.direct', 'direct'],
  ['amq.fanout', 'fanout'],
  ['amq.topic', 'topic'],
  ['amq.headers', 'headers'],
  ['amq.match', 'headers'],
  ['amq.rabbitmq.trace', 'topic']
]

/** The exchange to which MQTT publishes and subscribes. */
export const MQTT_EXCHANGE = 'amq.topic'

export class Vhost {
  readonly name: string
  readonly exchanges: Map<string, Exchange>
  /** AMQP queues by name; a session's queue is not among them. */
  readonly queues: Map<string, Queue>
  /** By client identifier. */
  readonly sessions: Map<string, Session>
  /** By `$share/NAME/FILTER`. */
  readonly groups: Map<string, SharedGroup>
  readonly retained: Retained
  readonly topicExchange: Exchange
  readonly topicRoutes: RouteCache
  readonly #routes: Map<Exchange, RouteCache>
  bindingCount: number

  constructor(name: string) {
    this.name = name
    this.exchanges = new Map()
    this.queues = new Map()
    this.sessions = new Map()
    this.groups = new Map()
    this.retained = new Retained()
    this.#routes = new Map()
    this.bindingCount = 0
    for (const [exchangeName, kind] of PREDECLARED) {
      this.exchanges.set(exchangeName, predeclared(exchangeName, kind))
    }
    this.topicExchange = this.exchanges.get(MQTT_EXCHANGE)!
    this.topicRoutes = this.routesOf(this.topicExchange)
  }

  routesOf(exchange: Exchange): RouteCache {
    let cache = this.#routes.get(exchange)
    if (cache === undefined) {
      cache = new RouteCache(exchange)
      this.#routes.set(exchange, cache)
    }
    return cache
  }

  /** Queues come and go: so do the default exchange's routes to them. */
  queueChanged(name: string): void {
    this.#routes.get(this.exchanges.get('')!)?.forget(name)
  }

  exchangeDeleted(exchange: Exchange): void {
    this.#routes.delete(exchange)
  }

  /** Forgets every remembered route: a permission changed. */
  forgetRoutes(): void {
    for (const cache of this.#routes.values()) cache.clear()
  }
}

function predeclared(name: string, kind: ExchangeKind): Exchange {
  return new Exchange({
    name,
    kind,
    isDurable: true,
    isAutoDelete: false,
    isInternal: name === 'amq.rabbitmq.trace'
  })
}
