/**
 * Routes that are remembered for one exchange, so that a message costs one look-up. A route is right
 * while its version is the exchange's; an exact binding that comes or goes drops only its own key.
 *
 * Bounded twice: in routes, and in the destinations of all of them together, for a thousand subscribers
 * of everything stand in every route. With a new version all of them go, for none is right any more, and
 * each would keep sessions that have ended in memory.
 */
import type { Exchange } from './exchange.ts'
import type { Route } from './route.ts'

/** The bound in destinations is this many times the bound in routes. */
const DESTINATIONS_A_ROUTE = 10

export class RouteCache {
  readonly exchange: Exchange
  /** By key in the exchange's own form. */
  readonly routes: Map<string, Route>
  /** Of a topic exchange, by key as AMQP clients write it. */
  readonly routesByAmqpKey: Map<string, Route>
  /** Of all routes in both. */
  #destinations: number
  /** Version of the exchange that the routes are of. */
  #version: number

  constructor(exchange: Exchange) {
    this.exchange = exchange
    this.routes = new Map()
    this.routesByAmqpKey = new Map()
    this.#destinations = 0
    this.#version = exchange.version
    exchange.onExactChange = key => {
      this.forget(key)
      for (const route of this.routesByAmqpKey.values()) this.#destinations -= sizeOf(route)
      this.routesByAmqpKey.clear()
    }
  }

  /** Enters a route into one of the two maps; the oldest of that map go when there are more than `max`. */
  remember(map: Map<string, Route>, key: string, route: Route, max: number): void {
    if (this.#version !== this.exchange.version) {
      this.clear()
      this.#version = this.exchange.version
    }
    this.#remove(map, key)
    const destinations = sizeOf(route)
    const destinationsMax = max * DESTINATIONS_A_ROUTE
    while (
      map.size > 0 &&
      (map.size >= max || this.#destinations + destinations > destinationsMax)
    ) {
      this.#remove(map, map.keys().next().value as string)
    }
    // What is left lies in the other map. A route that is larger than the bound is kept alone.
    if (this.#destinations + destinations > destinationsMax) this.clear()
    map.set(key, route)
    this.#destinations += destinations
  }

  /** Forgets the route of one key in the exchange's own form. */
  forget(key: string): void {
    this.#remove(this.routes, key)
  }

  clear(): void {
    this.routes.clear()
    this.routesByAmqpKey.clear()
    this.#destinations = 0
  }

  #remove(map: Map<string, Route>, key: string): void {
    const route = map.get(key)
    if (route === undefined) return
    map.delete(key)
    this.#destinations -= sizeOf(route)
  }
}

function sizeOf(route: Route): number {
  return route.sessions.length + route.queues.length
}
