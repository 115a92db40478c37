/** What a broker holds, to be compared: while connections are open, when they are gone, and when all is tidied up. */
import type { AmqpConnection } from '../../src/amqp/connection.ts'
import { unbindExchange } from '../../src/broker/bindings.ts'
import { deleteExchange } from '../../src/broker/exchanges.ts'
import { deleteQueue } from '../../src/broker/queues.ts'
import type { Binding } from '../../src/core/exchange.ts'
import { RELEASED, ENTRY_STATE } from '../../src/core/queue-entry.ts'
import type { Queue } from '../../src/core/queue.ts'
import type { Consumers } from '../../src/broker/queue-consumers.ts'
import type { AmqpServer } from '../../src/amqp/server.ts'
import type { Broker } from '../../src/broker/broker.ts'
import type { MqttServer } from '../../src/mqtt/server.ts'
import type { Sockets } from '../../src/net/socket.ts'
import type { FuzzLoop } from './fuzz-loop.ts'
import type { MemoryJournal } from './memory-journal.ts'

/** What is looked at. */
export interface Parts {
  readonly broker: Broker
  readonly mqtt: MqttServer
  readonly amqp: AmqpServer
  readonly sockets: Sockets
  readonly journal: MemoryJournal
  readonly loop: FuzzLoop
}

/** Of the witnesses: one connection each. */
const WITNESSES = 1

/** Counts that must be again what they were. */
export type Sizes = Readonly<Record<string, number>>

export function sizes(rig: Parts): Sizes {
  const { broker, mqtt, amqp, sockets, journal, loop } = rig
  const { state, counters } = broker
  const vhost = state.vhost('/')!
  let bindings = 0
  for (const exchange of vhost.exchanges.values()) {
    exchange.forEachBinding(() => {
      bindings++
    })
  }
  return {
    mqttConnections: mqtt.count,
    amqpConnections: amqp.connections.size,
    mqttCounted: counters.mqttConnections,
    amqpCounted: counters.amqpConnections,
    preLogin: sockets.preLoginBytes,
    replyConsumers: amqp.replyConsumers.size,
    publishers: broker.publishers.size,
    waiting: broker.waiting.size,
    untilDurable: broker.untilDurable.size,
    heldSessions: broker.held.size,
    exclusiveOwners: broker.exclusiveQueues.size,
    longQueues: broker.longQueues.size,
    deadlines: broker.deadlines.size,
    queues: state.queues.size,
    namedQueues: vhost.queues.size,
    sessions: state.sessions.size,
    sessionsByName: vhost.sessions.size,
    orphanWills: state.orphanWills.size,
    exchanges: vhost.exchanges.size,
    bindings,
    bindingCount: vhost.bindingCount,
    trie: vhost.topicExchange['trie'].size,
    retained: vhost.retained.count,
    retainedBytes: vhost.retained.bytes,
    slabs: Math.max(0, broker.slabs.bytes - 64 * 1024),
    journalBytes: journal.stats.liveBytes,
    blockedSockets: sockets['blocked'].size,
    dirtySockets: sockets.dirty['count'],
    timers: loop.timers
  }
}

/** '' when nothing does. */
export function differsFrom(base: Sizes, now: Sizes): string {
  const names = Object.keys(base).filter(name => base[name] !== now[name])
  return names.map(name => `${name} ${now[name]} instead of ${base[name]}`).join(', ')
}

/** What is wrong while the connections of an input are still there; '' for nothing. */
export function held(rig: Parts): string {
  const { broker, amqp } = rig
  const open = new Map<Queue, number>()
  for (const connection of amqp.connections.keys()) {
    const wrong = countOpen(connection, open)
    if (wrong !== '') return wrong
  }
  for (const queue of broker.state.queues.values()) {
    const { readyCount, unackedCount, readyBytes, name } = queue
    if (readyCount < 0 || unackedCount < 0 || readyBytes < 0) {
      return `queue ${name}: ${readyCount} ready, ${unackedCount} unacked, ${readyBytes} bytes`
    }
    if (queue.isSession) {
      if (unackedCount > broker.limits.inflightMax)
        return `session ${name}: ${unackedCount} in flight`
    } else if (broker.state.groups.has(queue.id)) {
    } else if (unackedCount !== (open.get(queue) ?? 0)) {
      return `queue ${name}: ${unackedCount} unacked, its channels hold ${open.get(queue) ?? 0}`
    }
  }
  for (const [reason, count] of broker.counters.dropped) {
    if (count < 0) return `${count} dropped for ${reason}`
  }
  for (const { routes, routesByAmqpKey } of [broker.state.vhost('/')!.topicRoutes]) {
    const most = Math.max(routes.size, routesByAmqpKey.size)
    if (most > broker.limits.routeCacheMax) return `${most} routes are remembered`
  }
  return ''
}

/** By queue, what the channels of a connection say they hold of it. Returns what is wrong with one of them. */
function countOpen(connection: AmqpConnection, open: Map<Queue, number>): string {
  for (const channel of connection.channels.values()) {
    let sum = 0
    for (const holder of channel.holders) {
      sum += holder.unackedCount
      open.set(holder.queue, (open.get(holder.queue) ?? 0) + holder.unackedCount)
    }
    const { count } = channel.unacked
    if (sum !== count) return `channel ${channel.id}: ${count} unacked, its consumers hold ${sum}`
  }
  return ''
}

/** What is wrong when the connections of an input are gone; '' for nothing. */
export function gone(rig: Parts): string {
  const { broker, mqtt, amqp } = rig
  const { state, counters } = broker
  if (mqtt.count !== WITNESSES || amqp.connections.size !== WITNESSES)
    return 'a connection is still there'
  if (counters.mqttConnections !== WITNESSES || counters.amqpConnections !== WITNESSES) {
    return `${counters.mqttConnections} and ${counters.amqpConnections} connections are counted`
  }
  if (broker.waiting.size > 0) return `${broker.waiting.size} wait for the disk`
  if (broker.publishers.size !== 2 * WITNESSES)
    return `${broker.publishers.size} publishers are known`
  if (broker.exclusiveQueues.size !== WITNESSES) return 'a connection that is gone owns queues'
  if (rig.sockets.preLoginBytes > 0) return 'bytes from before a login are counted'
  if (amqp.replyConsumers.size > 0) return 'a channel that is gone awaits answers'
  for (const session of state.sessions.values()) {
    if (session.connection !== null || session.clientId === 'witness') continue
    if (!session.isLasting || session.endsAt === 0)
      return `session ${session.clientId} outlasts its connection`
  }
  for (const queue of state.queues.values()) {
    if (queue.name === 'witness') continue
    const consumers = (queue.attached as Consumers | null)?.list.length ?? 0
    if (consumers > 0) return `queue ${queue.name}: a consumer that is gone`
    if (queue.options.isExclusive) return `queue ${queue.name} outlasts its connection`
    const released = queue.isSession ? countReleased(queue) : 0
    if (queue.unackedCount !== released) return `queue ${queue.name}: ${queue.unackedCount} unacked`
  }
  return ''
}

/** QoS 2 deliveries whose PUBREC came: they are the only ones that stay open. */
function countReleased(queue: Queue): number {
  let count = 0
  if (queue.unackedCount === 0) return 0
  for (let at = queue.after(0); at > 0; at = queue.after(at)) {
    if ((queue.flags & ENTRY_STATE) === RELEASED) count++
  }
  return count
}

/** Queues, exchanges and retained messages that an input left, as it may. */
export function clean({ broker }: Parts): void {
  const { state } = broker
  const vhost = state.vhost('/')!
  for (const queue of [...vhost.queues.values()]) {
    if (queue.name === 'witness') continue
    deleteQueue(broker, vhost, queue.name, {
      ifUnused: false,
      ifEmpty: false,
      principal: null,
      owner: null
    })
  }
  for (const { name } of [...vhost.exchanges.values()]) {
    if (name === '' || name.startsWith('amq.')) continue
    deleteExchange(broker, vhost, name, { ifUnused: false, principal: null })
  }
  for (const source of vhost.exchanges.values()) {
    const found: Binding[] = []
    source.forEachBinding(binding => {
      if (binding.exchange !== null) found.push(binding)
    })
    for (const { exchange, key, arguments: table } of found) {
      const destination = exchange!.name
      unbindExchange(broker, vhost, {
        destination,
        source: source.name,
        key,
        arguments: table,
        principal: null
      })
    }
  }
  if (vhost.retained.count > 0) {
    for (const { value } of [...vhost.retained.tree.entries()]) {
      if (value !== null) state.clearRetained('/', value.topic)
    }
  }
}
