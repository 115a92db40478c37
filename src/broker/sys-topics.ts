/**
 * `$SYS`: what the broker says of itself, in topics with Mosquitto's names and meaning. Values are made
 * when they are read: a SUBSCRIBE gets those of the moment as retained messages, and once an interval
 * whoever subscribes gets those that have changed. They are QoS 0, never in the journal, and reach no
 * AMQP queue (design.md §2).
 */
import { FORM_MQTT, Message } from '../core/message.ts'
import type { Session, Subscription } from '../core/session.ts'
import { filterMatches, hasWildcard } from '../core/topic.ts'
import type { Vhost } from '../core/vhost.ts'
import { bridgePayload, bridgeTopic } from './bridges.ts'
import type { Broker } from './broker.ts'
import type { BrokerEventMap } from './events.ts'
import { ClientStates } from './client-states.ts'
import { connectionOf, type SessionConnection } from './consumer.ts'
import { giveDirect } from './group-member.ts'
import { mayRead, routeSys } from './routing.ts'
import type { StatsSource } from './stats.ts'
import { SysLoad } from './sys-load.ts'
import { type SysValue, sysValues } from './sys-values.ts'

export interface SysOptions {
  /** Seconds between two looks; 0: no `$SYS` at all. */
  readonly intervalSeconds: number
  /** Which clients are there, below `$SYS/broker/connection/client`. */
  readonly clientStates: boolean
}

/** Topics of one replay in one turn. */
const PIECE = 64
/** A client that takes nothing now is asked again after this, milliseconds. */
const RETRY_MS = 20
const MS_A_SECOND = 1_000

export class SysTopics {
  readonly #broker: Broker
  readonly #stats: StatsSource
  readonly #options: SysOptions
  readonly #load: SysLoad
  readonly #clients: ClientStates | null
  readonly #version: string
  /** What each topic said when it was published last. */
  readonly #published: Map<string, string>
  /** The values of this turn: a SUBSCRIBE with a thousand filters asks for them a thousand times. */
  #made: SysValue[] | null
  #heapMax: number
  #clientsMax: number
  #timer: NodeJS.Timeout | null

  constructor(broker: Broker, stats: StatsSource, version: string, options: SysOptions) {
    this.#broker = broker
    this.#stats = stats
    this.#version = version
    this.#options = options
    this.#load = new SysLoad(performance.now())
    this.#clients = options.clientStates ? new ClientStates(broker.events) : null
    this.#published = new Map()
    this.#made = null
    this.#heapMax = 0
    this.#clientsMax = 0
    this.#timer = null
  }

  start(): void {
    if (this.#options.intervalSeconds === 0) return
    this.#broker.sys = this
    if (this.#clients !== null) {
      this.#clients.onChange = (topic, payload) => this.#publishAll(topic, payload)
    }
    this.#broker.events.on('bridgeState', this.#onBridge)
    this.#timer = setInterval(() => this.tick(), this.#options.intervalSeconds * MS_A_SECOND)
    this.#timer.unref()
  }

  /** Idempotent. */
  close(): void {
    if (this.#timer !== null) clearInterval(this.#timer)
    this.#timer = null
    this.#clients?.close()
    this.#broker.events.off('bridgeState', this.#onBridge)
  }

  /** One interval is over: what has changed is published to whoever subscribes. */
  tick(): void {
    this.#load.update(this.#broker.counters, this.#stats.traffic(), performance.now())
    const heard = [...this.#broker.vhosts.values()].filter(isHeard)
    if (heard.length === 0) return
    this.#made = null
    for (const { topic, payload } of this.#values()) {
      if (this.#published.get(topic) === payload) continue
      this.#published.set(topic, payload)
      for (const vhost of heard) this.#publish(vhost, topic, payload)
    }
  }

  /** Sends what a new subscription to a filter that begins with `$SYS` is to get. */
  replay(session: Session, subscription: Subscription): void {
    const connection = connectionOf(session)
    const vhost = this.#broker.state.vhost(session.vhost)
    if (connection === null || vhost === null) return
    const found = this.#matching(subscription.filter)
    new SysReplay(this.#broker, vhost, session, connection, subscription, found).step()
  }

  *#matching(filter: string): Generator<SysValue> {
    for (const value of this.#values()) {
      if (matches(filter, value.topic)) yield value
    }
    for (const { name, state } of this.#broker.bridges?.list() ?? []) {
      const topic = bridgeTopic(name)
      if (matches(filter, topic)) yield { topic, payload: bridgePayload(state) }
    }
    if (this.#clients === null) return
    for (const value of this.#clients.values()) {
      if (matches(filter, value.topic)) yield value
    }
  }

  #values(): SysValue[] {
    if (this.#made !== null) return this.#made
    const made = this.#make()
    this.#made = made
    setImmediate(() => {
      if (this.#made === made) this.#made = null
    })
    return made
  }

  #make(): SysValue[] {
    const stats = this.#stats.stats()
    const { heapUsed, external } = process.memoryUsage()
    this.#heapMax = Math.max(this.#heapMax, heapUsed + external)
    const connected = stats.protocols[0]!.connections
    this.#clientsMax = Math.max(this.#clientsMax, connected)
    return sysValues({
      stats,
      counters: this.#broker.counters,
      load: this.#load,
      version: this.#version,
      uptimeSeconds: Math.floor((this.#broker.clock.wallMs() - stats.startedAtMs) / MS_A_SECOND),
      heapBytes: heapUsed + external,
      heapBytesMax: this.#heapMax,
      clientsMax: this.#clientsMax
    })
  }

  readonly #onBridge = ({ name, isUp }: BrokerEventMap['bridgeState'][0]): void => {
    const payload = isUp === null ? '' : isUp ? '1' : '0'
    this.#publishAll(bridgeTopic(name), payload)
  }

  #publishAll(topic: string, payload: string): void {
    for (const vhost of this.#broker.vhosts.values()) {
      if (isHeard(vhost)) this.#publish(vhost, topic, payload)
    }
  }

  #publish(vhost: Vhost, topic: string, payload: string): void {
    const route = routeSys(this.#broker, vhost, topic)
    if (route.isEmpty) return
    const message = messageOf(topic, payload)
    for (const { session, retainAsPublished, identifiers } of route.sessions) {
      // Who is away or slow gets the next value.
      connectionOf(session)?.deliverDirect(message, retainAsPublished, identifiers)
    }
    for (const group of route.groups) giveDirect(group, message)
  }
}

/** `$SYS` values to a new subscription, no faster than the client takes them. */
class SysReplay {
  readonly #broker: Broker
  readonly #vhost: Vhost
  readonly #session: Session
  readonly #connection: SessionConnection
  readonly #subscription: Subscription
  readonly #found: Iterator<SysValue>
  #next: SysValue | null

  constructor(
    broker: Broker,
    vhost: Vhost,
    session: Session,
    connection: SessionConnection,
    subscription: Subscription,
    found: Iterator<SysValue>
  ) {
    this.#broker = broker
    this.#vhost = vhost
    this.#session = session
    this.#connection = connection
    this.#subscription = subscription
    this.#found = found
    this.#next = null
  }

  step(): void {
    const { subscriptions, connection } = this.#session
    const { filter, identifier } = this.#subscription
    const identifiers = identifier === 0 ? null : [identifier]
    for (let left = PIECE; left > 0; left--) {
      if (connection !== this.#connection || subscriptions.get(filter) !== this.#subscription)
        return
      if (this.#next === null) {
        const { done, value } = this.#found.next()
        if (done === true) return
        this.#next = value as SysValue
      }
      const { topic, payload } = this.#next
      if (mayRead(this.#broker, this.#vhost, this.#session, topic)) {
        if (!this.#connection.deliverDirect(messageOf(topic, payload), true, identifiers)) {
          setTimeout(step, RETRY_MS, this).unref()
          return
        }
      }
      this.#next = null
    }
    setImmediate(step, this)
  }
}

function step(replay: SysReplay): void {
  replay.step()
}

/** Whether somebody may subscribe below `$SYS`. */
function isHeard(vhost: Vhost): boolean {
  return vhost.topicExchange.trie.dollarSize > 0
}

function matches(filter: string, topic: string): boolean {
  return hasWildcard(filter) ? filterMatches(filter, topic) : filter === topic
}

function messageOf(topic: string, payload: string): Message {
  const message = new Message()
  message.renew()
  const key = Buffer.from(topic)
  message.compose(Buffer.concat([key, Buffer.from(payload)]), topic, key.length, key.length)
  message.form = FORM_MQTT
  message.retain = true
  return message
}
