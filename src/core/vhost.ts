/** A virtual host: the names, and the routes that are remembered. */
import { BoundQueues } from './bound-queues.ts'
import { alternateName, Exchange, type ExchangeKind } from './exchange.ts'
import type { Policy } from './policy.ts'
import type { Queue } from './queue.ts'
import { Retained } from './retained.ts'
import { RouteCache } from './route-cache.ts'
import type { Session } from './session.ts'
import type { SharedGroup } from './shared-group.ts'

/** Clients do not publish to it: see broker/trace.ts. */
export const TRACE_EXCHANGE = 'amq.rabbitmq.trace'

/** What every vhost has (AMQP 0-9-1 §3.1.3, RabbitMQ): the name and kind. */
const PREDECLARED: readonly (readonly [string, ExchangeKind])[] = [
  ['', 'direct'],
  ['amq.direct', 'direct'],
  ['amq.fanout', 'fanout'],
  ['amq.topic', 'topic'],
  ['amq.headers', 'headers'],
  ['amq.match', 'headers'],
  [TRACE_EXCHANGE, 'topic']
]

/** The virtual host that is always there. */
export const DEFAULT_VHOST = '/'

/** The exchange to which MQTT publishes and subscribes. */
export const MQTT_EXCHANGE = 'amq.topic'

export class Vhost {
  readonly name: string
  /** For operators. */
  description: string
  tags: readonly string[]
  readonly exchanges: Map<string, Exchange>
  /** AMQP queues by name; a session's queue is not among them. */
  readonly queues: Map<string, Queue>
  /** By client identifier. */
  readonly sessions: Map<string, Session>
  /** By `$share/NAME/FILTER`. */
  readonly groups: Map<string, SharedGroup>
  readonly retained: Retained
  readonly policies: Map<string, Policy>
  readonly operatorPolicies: Map<string, Policy>
  readonly topicExchange: Exchange
  readonly topicRoutes: RouteCache
  readonly #routes: Map<Exchange, RouteCache>
  /** By the name of their alternate exchange, whether that exists or not. */
  readonly #withAlternate: Map<string, Set<Exchange>>
  /** What policies name as alternates: an argument has precedence. */
  readonly #policyAlternates: Map<Exchange, string>
  bindingCount: number
  /** What traces its messages, the broker's business; null: nobody does. Gone with a restart. */
  tracer: object | null
  /** Where its queues are bound. */
  readonly bound: BoundQueues
  /** Auto-delete exchanges that have lost their last binding: they are about to end. */
  readonly unused: Set<Exchange>

  constructor(name: string) {
    this.name = name
    this.description = ''
    this.tags = []
    this.exchanges = new Map()
    this.queues = new Map()
    this.sessions = new Map()
    this.groups = new Map()
    this.retained = new Retained()
    this.policies = new Map()
    this.operatorPolicies = new Map()
    this.#routes = new Map()
    this.#withAlternate = new Map()
    this.#policyAlternates = new Map()
    this.bindingCount = 0
    this.tracer = null
    this.bound = new BoundQueues()
    this.unused = new Set()
    for (const [exchangeName, kind] of PREDECLARED) {
      this.exchanges.set(exchangeName, predeclared(exchangeName, kind))
    }
    this.topicExchange = this.exchanges.get(MQTT_EXCHANGE)!
    this.topicRoutes = this.routesOf(this.topicExchange)
  }

  policiesOf(isOperator: boolean): Map<string, Policy> {
    return isOperator ? this.operatorPolicies : this.policies
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

  /** A binding of the exchange is gone. */
  noteUnbound(exchange: Exchange): void {
    if (exchange.isAutoDelete && exchange.bindingCount === 0) this.unused.add(exchange)
  }

  addExchange(exchange: Exchange): void {
    this.exchanges.set(exchange.name, exchange)
    this.#link(exchange)
    for (const source of this.#withAlternate.get(exchange.name) ?? []) source.setAlternate(exchange)
  }

  /** It is out of all bindings: `Exchange.detach`. Those that name it as their alternate have none until it is back. */
  deleteExchange(exchange: Exchange): void {
    this.#unlink(exchange)
    this.#policyAlternates.delete(exchange)
    this.exchanges.delete(exchange.name)
    this.#routes.delete(exchange)
    this.unused.delete(exchange)
  }

  /** A policy gives an exchange this alternate, or none any more. */
  setPolicyAlternate(exchange: Exchange, name: string | null): void {
    this.#unlink(exchange)
    if (name === null) this.#policyAlternates.delete(exchange)
    else this.#policyAlternates.set(exchange, name)
    this.#link(exchange)
  }

  #alternateOf(exchange: Exchange): string | null {
    return alternateName(exchange) ?? this.#policyAlternates.get(exchange) ?? null
  }

  #link(exchange: Exchange): void {
    const name = this.#alternateOf(exchange)
    exchange.setAlternate(name === null ? null : (this.exchanges.get(name) ?? null))
    if (name === null) return
    const sources = this.#withAlternate.get(name)
    if (sources === undefined) this.#withAlternate.set(name, new Set([exchange]))
    else sources.add(exchange)
  }

  #unlink(exchange: Exchange): void {
    const name = this.#alternateOf(exchange)
    if (name === null) return
    const sources = this.#withAlternate.get(name)
    sources?.delete(exchange)
    if (sources?.size === 0) this.#withAlternate.delete(name)
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
    isInternal: name === TRACE_EXCHANGE
  })
}
