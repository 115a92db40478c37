/** `/api/bridges` on the admin socket: what `motemq bridge` asks of a running broker. */
import { BRIDGE_ORDERS, type BridgeOrder } from '../broker/bridges.ts'
import type { Broker } from '../broker/broker.ts'
import { HttpError, json, type Route } from './router.ts'

export function bridgeRoutes(broker: Broker): Route[] {
  return [
    { path: '/api/bridges', methods: { GET: () => json(broker.bridges?.list() ?? []) } },
    {
      path: '/api/bridges/:name/:order',
      methods: {
        POST: ({ parts }) => {
          const [, , name = '', order = ''] = parts
          if (!(BRIDGE_ORDERS as readonly string[]).includes(order)) {
            throw new HttpError(404, `an order is one of ${BRIDGE_ORDERS.join(', ')}`)
          }
          const done = broker.bridges?.order(name, order as BridgeOrder) ?? null
          if (done === null) {
            throw new HttpError(404, `there is no bridge ${JSON.stringify(name)}`)
          }
          return json(done)
        }
      }
    }
  ]
}
