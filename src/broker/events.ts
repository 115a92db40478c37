/** What happened, for programs that embed Motemq and for operators: never one a message. */
import { EventEmitter } from 'node:events'

export interface BrokerEventMap {
  clientConnected: [{ clientId: string; protocol: string; peer: string; user: string }]
  clientDisconnected: [{ clientId: string; protocol: string; peer: string; reason: string }]
  sessionEnded: [{ clientId: string; reason: string }]
  queueDeclared: [{ vhost: string; name: string }]
  queueDeleted: [{ vhost: string; name: string }]
  vhostCreated: [{ name: string }]
  vhostDeleted: [{ name: string }]
  /** Null: there is no such bridge any more. */
  bridgeState: [{ name: string; isUp: boolean | null }]
  diskLevel: [{ level: string }]
  journalFailed: [{ message: string }]
}

export class BrokerEvents extends EventEmitter<BrokerEventMap> {}
