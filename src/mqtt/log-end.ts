/** What is said, logged and counted when a connection ends. */
import type { Logger } from 'pino'
import type { MqttContext } from './context.ts'

/** Whose connection it was. */
export interface Who {
  readonly protocol: string
  readonly clientId: string
  readonly peer: string
}

/** `wasOpen`: it had got its CONNACK; of others only so many a second are logged. */
export function logEnd(
  context: MqttContext,
  log: Logger,
  who: Who,
  text: string,
  wasOpen: boolean
): void {
  const { broker } = context
  const { protocol, clientId, peer } = who
  if (wasOpen) {
    broker.counters.mqttConnections--
    log.info({ ...who, reason: text }, 'disconnected')
    broker.events.emit('clientDisconnected', { clientId, protocol, peer, reason: text })
  } else if (context.strangerLines > 0) {
    context.strangerLines--
    log.info({ reason: text, peer, clientId }, 'refused')
  }
}
