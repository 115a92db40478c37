/**
 * Routes that are remembered for one exchange, so that a message costs one look-up. A route is right
 * while its version is the exchange's; an exact binding that comes or goes drops only its own key.
 *
 * Bounded twice: in routes, and in what all of them together weigh, for a thousand subscribers of
 * everything stand in every route, and a key may have 65,535 bytes. With a new version all of them go, for none is right any more, and
 * each would keep sessions that have ended in memory.
 */
import type { Exchange } from './exchange.ts'
import type { Route } from './route.ts'
import type { Session } from './session.ts'

/** What a destination of a route and a character of its key weigh: bytes, about. */
const DESTINATION_WEIGHT = 80
const CHARACTER_WEIGHT = 1
/** The bound in weight is this many times the bound in routes. */
const WEIGHT_A_ROUTE = 1_024
/** A full cache takes one of so many new keys. */
const ADMITTED_OF = 16

export class RouteCache {
  readonly exchange: Exchange
  /** By key in the exchange's own form. */
  readonly routes: Map<string, Route>
  /** Of a topic exchange, by key as AMQP clients write it. */
  readonly routesByAmqpKey: Map<string, Route>
  /** Of all routes in both. */
  #weight: number
  /** Version of the exchange that the routes are of. */
  #version: number
  /** Routes that came while it was full. */
  #surplus: number
  /** The last route that led to a session alone. */
  readonly #alone: WeakMap<Session, Route>

  constructor(exchange: Exchange) {
    this.exchange = exchange
    this.routes = new Map()
    this.routesByAmqpKey = new Map()
    this.#weight = 0
    this.#version = exchange.version
    this.#surplus = 0
    this.#alone = new WeakMap()
    exchange.onExactChange = key => {
      this.forget(key)
      for (const [each, route] of this.routesByAmqpKey) this.#weight -= weightOf(each, route)
      this.routesByAmqpKey.clear()
    }
  }

  /**
   * Enters a route into one of the two maps; the oldest of that map go when there are more than `max`. When it is full
   * most new ones are not taken: of keys in rotation, more than there is room for, each would else be forgotten just
   * before it comes again, and so none ever found.
   */
  remember(map: Map<string, Route>, key: string, route: Route, max: number): void {
    if (this.#version !== this.exchange.version) {
      this.clear()
      this.#version = this.exchange.version
    }
    this.#remove(map, key)
    const weight = weightOf(key, route)
    const weightMax = max * WEIGHT_A_ROUTE
    const isFull = map.size >= max || this.#weight + weight > weightMax
    if (isFull && this.#surplus++ % ADMITTED_OF !== 0) return
    while (map.size > 0 && (map.size >= max || this.#weight + weight > weightMax)) {
      this.#remove(map, map.keys().next().value as string)
    }
    // What is left lies in the other map. A route that is larger than the bound is kept alone.
    if (this.#weight + weight > weightMax) this.clear()
    map.set(key, this.#shared(route))
    this.#weight += weight
  }

  /**
   * One object for all routes that lead to the same session alone in the same way: a client with ten thousand exact
   * topics is looked up in as little memory as one with ten, and what is small stays in the processor's cache.
   */
  #shared(route: Route): Route {
    if (route.sessions.length !== 1 || !route.isToSessions) return route
    const target = route.sessions[0]!
    if (target.noLocal !== null || target.identifiers !== null) return route
    const known = this.#alone.get(target.session)
    if (known !== undefined && known.version === route.version) {
      const same = known.sessions[0]!
      const isSame = same.qos === target.qos && same.retainAsPublished === target.retainAsPublished
      if (isSame && known.hasLastingSession === route.hasLastingSession) return known
    }
    this.#alone.set(target.session, route)
    return route
  }

  /** Forgets the route of one key in the exchange's own form. */
  forget(key: string): void {
    this.#remove(this.routes, key)
  }

  clear(): void {
    this.routes.clear()
    this.routesByAmqpKey.clear()
    this.#weight = 0
  }

  #remove(map: Map<string, Route>, key: string): void {
    const route = map.get(key)
    if (route === undefined) return
    map.delete(key)
    this.#weight -= weightOf(key, route)
  }
}

function weightOf(key: string, route: Route): number {
  return route.count * DESTINATION_WEIGHT + key.length * CHARACTER_WEIGHT
}
