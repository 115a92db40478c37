/**
 * Routes that are remembered for one exchange, so that a message costs one look-up. A route is right
 * while its version is the exchange's; an exact binding that comes or goes drops only its own key.
 */
import type { Exchange } from './exchange.ts'
import type { Route } from './route.ts'

export class RouteCache {
  readonly exchange: Exchange
  /** By key in the exchange's own form. */
  readonly routes: Map<string, Route>
  /** Of a topic exchange, by key as AMQP clients write it. */
  readonly routesByAmqpKey: Map<string, Route>

  constructor(exchange: Exchange) {
    this.exchange = exchange
    this.routes = new Map()
    this.routesByAmqpKey = new Map()
    exchange.onExactChange = key => {
      this.routes.delete(key)
      this.routesByAmqpKey.clear()
    }
  }

  /** Enters a route; the oldest goes when there are `max`. */
  remember(map: Map<string, Route>, key: string, route: Route, max: number): void {
    if (map.size >= max) {
      const oldest = map.keys().next()
      if (!oldest.done) map.delete(oldest.value)
    }
    map.set(key, route)
  }

  clear(): void {
    this.routes.clear()
    this.routesByAmqpKey.clear()
  }
}
