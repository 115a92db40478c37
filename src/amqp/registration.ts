/** A connection that is logged in is known to the broker: counted, told of alarms, announced. */
import type { Broker } from '../broker/broker.ts'
import type { Publisher } from '../broker/consumer.ts'

export interface Registered extends Publisher {
  readonly broker: Broker
  readonly client: { readonly name: string }
  readonly socket: { readonly peer: string }
}

export function register(connection: Registered): void {
  const { broker } = connection
  broker.publishers.add(connection)
  broker.counters.amqpConnections++
  broker.counters.amqpConnectionsTotal++
  broker.events.emit('clientConnected', {
    clientId: connection.client.name,
    protocol: 'amqp',
    peer: connection.socket.peer,
    user: connection.principal.name
  })
}

/** Nothing happens when it was not logged in. */
export function unregister(connection: Registered): void {
  const { broker } = connection
  if (!broker.publishers.delete(connection)) return
  broker.counters.amqpConnections--
  broker.events.emit('clientDisconnected', {
    clientId: connection.client.name,
    protocol: 'amqp',
    peer: connection.socket.peer,
    reason: 'connection closed'
  })
}
