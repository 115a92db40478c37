/**
 * Which MQTT clients are there, in two topics each: `$SYS/broker/connection/client/ID/state` is `1` or
 * `0`, as Mosquitto's plugin for it says, and `…/event` is JSON with the time and the reason. Kept in
 * memory for a bounded number of clients; who was away longest is forgotten first.
 */
import type { BrokerEventMap, BrokerEvents } from './events.ts'
import type { SysValue } from './sys-values.ts'

const PREFIX = '$SYS/broker/connection/client/'
/** Those that are connected stay beyond it: they have a bound of their own. */
const AWAY_MAX = 10_000

interface ClientState {
  readonly isOnline: boolean
  readonly atMs: number
  readonly protocol: string
  readonly user: string
  readonly peer: string
  /** Why it went; '' while it is online. */
  readonly reason: string
}

export class ClientStates {
  onChange: (topic: string, payload: string) => void
  readonly #events: BrokerEvents
  readonly #online: Map<string, ClientState>
  /** Who went last stands last. */
  readonly #away: Map<string, ClientState>

  constructor(events: BrokerEvents) {
    this.onChange = () => undefined
    this.#events = events
    this.#online = new Map()
    this.#away = new Map()
    events.on('clientConnected', this.#onConnected)
    events.on('clientDisconnected', this.#onDisconnected)
  }

  close(): void {
    this.#events.off('clientConnected', this.#onConnected)
    this.#events.off('clientDisconnected', this.#onDisconnected)
  }

  *values(): Generator<SysValue> {
    for (const states of [this.#online, this.#away]) {
      for (const [clientId, state] of states) {
        yield { topic: topicOf(clientId, 'state'), payload: state.isOnline ? '1' : '0' }
        yield { topic: topicOf(clientId, 'event'), payload: eventOf(clientId, state) }
      }
    }
  }

  readonly #onConnected = (client: BrokerEventMap['clientConnected'][0]): void => {
    const { clientId, protocol, user, peer } = client
    if (isAmqp(protocol)) return
    this.#away.delete(clientId)
    const state = { isOnline: true, atMs: Date.now(), protocol, user, peer, reason: '' }
    this.#online.set(clientId, state)
    this.#tell(clientId, state)
  }

  readonly #onDisconnected = (client: BrokerEventMap['clientDisconnected'][0]): void => {
    const { clientId, protocol, peer, reason } = client
    if (isAmqp(protocol)) return
    const online = this.#online.get(clientId)
    // Taken over: the newer connection is there already.
    if (online === undefined || online.peer !== peer) return
    this.#online.delete(clientId)
    const state = { ...online, isOnline: false, atMs: Date.now(), reason }
    this.#away.set(clientId, state)
    this.#tell(clientId, state)
    if (this.#away.size <= AWAY_MAX) return
    for (const oldest of this.#away.keys()) {
      this.#away.delete(oldest)
      this.onChange(topicOf(oldest, 'state'), '')
      this.onChange(topicOf(oldest, 'event'), '')
      return
    }
  }

  #tell(clientId: string, state: ClientState): void {
    this.onChange(topicOf(clientId, 'state'), state.isOnline ? '1' : '0')
    this.onChange(topicOf(clientId, 'event'), eventOf(clientId, state))
  }
}

function isAmqp(protocol: string): boolean {
  return protocol.startsWith('amqp')
}

/** A client id as one level of a topic: what would part or match topics is written %XX. */
function topicOf(clientId: string, name: string): string {
  const level = clientId.replaceAll(
    /[%/+#\u0000-\u001f\u007f]/g,
    character => `%${character.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`
  )
  return `${PREFIX}${level}/${name}`
}

function eventOf(clientId: string, state: ClientState): string {
  const { isOnline, atMs, protocol, user, peer, reason } = state
  const time = new Date(atMs).toISOString()
  const common = { event: isOnline ? 'online' : 'offline', time, clientId, user, peer, protocol }
  return JSON.stringify(isOnline ? common : { ...common, reason })
}
