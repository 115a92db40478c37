/** The broker's counts in the shape that the admin API and metrics read. */
import type { Session } from '../core/session.ts'
import { bytesOf, heldOf, lettersOf, messagesOf } from '../core/held.ts'
import { isUpperLevel, unackedOf } from '../core/queue.ts'
import type { Vhost } from '../core/vhost.ts'
import type { Broker } from './broker.ts'
import type { Consumers } from './queue-consumers.ts'
import type { BrokerStats, DelayStats, QueueStats, StatsSource, Traffic } from './stats.ts'

const EXCHANGES_MAX = 1_000

/** What only the server knows. */
export interface ServerCounts {
  bytesInTotal: number
  bytesOutTotal: number
  socketsTotal: number
  loginFailuresTotal: number
  connectionsOpen: number
  connectionsRefusedTotal: number
  connectionsDelayedTotal: number
  loopLagP99Ms: number
}

export class Report implements StatsSource {
  readonly #broker: Broker
  readonly #startedAtMs: number
  readonly #server: () => ServerCounts

  constructor(broker: Broker, server: () => ServerCounts) {
    this.#broker = broker
    this.#startedAtMs = broker.clock.wallMs()
    this.#server = server
  }

  stats(): BrokerStats {
    const broker = this.#broker
    const { counters, state, journal } = broker
    const sums = this.#sums()
    return {
      startedAtMs: this.#startedAtMs,
      protocols: [
        {
          protocol: 'mqtt',
          connections: counters.mqttConnections,
          connectionsTotal: counters.mqttConnectionsTotal,
          receivedTotal: triple(counters.mqttReceived),
          sentTotal: triple(counters.mqttSent)
        },
        {
          protocol: 'amqp',
          connections: counters.amqpConnections,
          connectionsTotal: counters.amqpConnectionsTotal,
          receivedTotal: triple(counters.amqpReceived),
          sentTotal: triple(counters.amqpSent)
        }
      ],
      acknowledgedTotal: counters.acknowledged,
      droppedTotal: counters.dropped,
      deadLetteredTotal: counters.deadLettered,
      ...sums,
      delayed: this.#delayed(),
      bridges: broker.bridges?.list() ?? [],
      retained: sumOver(state.vhosts.values(), ({ retained }) => retained.count),
      retainedBytes: sumOver(state.vhosts.values(), ({ retained }) => retained.bytes),
      journal: journal.stats,
      journalFailed: journal.failed,
      diskLevel: journal.level,
      ...this.#server()
    }
  }

  traffic(): Traffic {
    return this.#server()
  }

  #sums() {
    const sums = {
      sessionsConnected: 0,
      sessionsOffline: 0,
      sessionMessages: 0,
      sessionBytes: 0,
      subscriptions: 0,
      sharedSubscriptions: 0,
      queueCount: 0,
      messagesReady: 0,
      messagesUnacked: 0,
      messagesHeld: 0
    }
    for (const session of this.#broker.state.sessions.values()) addSession(sums, session)
    for (const queue of this.#broker.state.queues.values()) {
      if (queue.isSession) continue
      if (!isUpperLevel(queue)) sums.queueCount++
      sums.messagesReady += queue.readyCount
      const held = (queue.held?.count ?? 0) + (queue.letters?.count ?? 0)
      sums.messagesUnacked += queue.unackedCount - held
      sums.messagesHeld += held
    }
    return sums
  }

  /** Counts are kept: nothing is walked over. */
  #delayed(): DelayStats[] {
    const found: DelayStats[] = []
    for (const { vhost, exchange, count, bytes } of this.#broker.state.delays.stores.values()) {
      if (found.length >= EXCHANGES_MAX) break
      if (count > 0) found.push({ vhost, exchange, messages: count, bytes })
    }
    return found
  }

  queueStats(max: number): readonly QueueStats[] {
    const found: QueueStats[] = []
    for (const queue of this.#broker.state.queues.values()) {
      if (queue.isSession || isUpperLevel(queue)) continue
      if (found.length >= max) break
      found.push({
        vhost: queue.vhost,
        name: queue.name,
        ready: messagesOf(queue),
        unacked: unackedOf(queue) - heldOf(queue) - lettersOf(queue),
        delayed: heldOf(queue),
        letters: lettersOf(queue),
        bytes: bytesOf(queue),
        consumers: (queue.attached as Consumers | null)?.list.length ?? 0
      })
    }
    return found
  }
}

function addSession(
  sums: {
    sessionsConnected: number
    sessionsOffline: number
    sessionMessages: number
    sessionBytes: number
    subscriptions: number
    sharedSubscriptions: number
  },
  session: Session
): void {
  if (session.connection === null) sums.sessionsOffline++
  else sums.sessionsConnected++
  sums.sessionMessages += session.queue.readyCount
  sums.sessionBytes += session.queue.readyBytes
  sums.subscriptions += session.subscriptions.size
  sums.sharedSubscriptions += session.shared?.length ?? 0
}

function sumOver(vhosts: Iterable<Vhost>, of: (vhost: Vhost) => number): number {
  let sum = 0
  for (const vhost of vhosts) sum += of(vhost)
  return sum
}

function triple(counts: readonly number[]): [number, number, number] {
  return [counts[0]!, counts[1]!, counts[2]!]
}
