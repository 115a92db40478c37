/**
 * What the broker counts, as plain numbers: read by the admin API and `$SYS`, never on the hot path.
 * Whatever ends in `Total` only rises; the rest are states of the moment.
 */
import type { DeathReason } from '../core/death.ts'
import type { DropReason } from '../core/errors.ts'
import type { BridgeStatus } from './bridges.ts'
import type { DiskLevel, JournalStats } from '../journal/journal.ts'

export type Protocol = 'mqtt' | 'amqp'

export interface ProtocolStats {
  readonly protocol: Protocol
  /** Open connections that are logged in. */
  readonly connections: number
  readonly connectionsTotal: number
  /** By QoS 0, 1, 2; AMQP counts unconfirmed as 0, confirmed as 1. */
  readonly receivedTotal: readonly [number, number, number]
  readonly sentTotal: readonly [number, number, number]
}

export interface QueueStats {
  readonly vhost: string
  readonly name: string
  readonly ready: number
  readonly unacked: number
  /** Came back, and wait for their time. */
  readonly delayed: number
  /** Dead letters that nobody took yet. */
  readonly letters: number
  readonly bytes: number
  readonly consumers: number
}

export interface DelayStats {
  readonly vhost: string
  readonly exchange: string
  readonly messages: number
  readonly bytes: number
}

/** What came and went over the network, of all protocols. */
export interface Traffic {
  readonly bytesInTotal: number
  readonly bytesOutTotal: number
  /** Connections that were accepted. */
  readonly socketsTotal: number
}

export interface BrokerStats extends Traffic {
  readonly startedAtMs: number
  readonly protocols: readonly ProtocolStats[]
  /** Deliveries that were acknowledged by their consumer. */
  readonly acknowledgedTotal: number
  readonly droppedTotal: ReadonlyMap<DropReason, number>
  /** Messages that left a queue for its dead letter exchange, and were kept by some queue or session. */
  readonly deadLetteredTotal: Readonly<Record<DeathReason, number>>
  readonly loginFailuresTotal: number
  readonly connectionsOpen: number
  readonly connectionsRefusedTotal: number
  readonly connectionsDelayedTotal: number
  /** Sessions that outlive their connection, with and without a client now. */
  readonly sessionsConnected: number
  readonly sessionsOffline: number
  readonly sessionMessages: number
  readonly sessionBytes: number
  readonly subscriptions: number
  /** Of them, those to a shared group. */
  readonly sharedSubscriptions: number
  readonly retained: number
  readonly retainedBytes: number
  readonly queueCount: number
  readonly messagesReady: number
  readonly messagesUnacked: number
  /** In queues: held for delayed retry, or as dead letters that nobody took yet. */
  readonly messagesHeld: number
  /** Of exchanges that delay, those that hold something; at most a thousand. */
  readonly delayed: readonly DelayStats[]
  readonly journal: JournalStats
  readonly journalFailed: boolean
  readonly diskLevel: DiskLevel
  readonly loopLagP99Ms: number
  readonly bridges: readonly BridgeStatus[]
}

/** Implemented by the broker (with what the server adds). */
export interface StatsSource {
  stats(): BrokerStats
  /** The part of it that costs nothing to ask for. */
  traffic(): Traffic
  /** At most `max` AMQP-visible queues, for metrics by queue. */
  queueStats(max: number): readonly QueueStats[]
}
