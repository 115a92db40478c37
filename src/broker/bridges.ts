/** What admin, metrics and `$SYS` ask of bridges: the broker knows them by this interface only. */

/**
 * `failed-config`: the far side, or our own side, refuses in a way that an operator must mend; it is tried again all
 * the same. `stalled`: nothing moved for too long; opened anew, and running again with the first confirmation.
 */
export type BridgeState =
  | 'connecting'
  | 'running'
  | 'stalled'
  | 'backing-off'
  | 'failed-config'
  | 'paused'

export interface BridgeStatus {
  readonly name: string
  readonly url: string
  readonly state: BridgeState
  /** In this state. */
  readonly seconds: number
  /** Why it is not running, or was not the last time; '' is nothing. */
  readonly lastError: string
  readonly vhost: string
  readonly queue: string
  readonly deadLetterQueue: string
  /** What is not confirmed: waiting and on its way. */
  readonly messages: number
  readonly bytes: number
  readonly unconfirmed: number
  /** How long the oldest of it waits, at least; null: nothing waits. */
  readonly oldestSeconds: number | null
  readonly inPerSecond: number
  readonly outPerSecond: number
  /** Until nothing waits, at these rates; null: never, or nothing waits. */
  readonly drainSeconds: number | null
  readonly sentTotal: number
  readonly confirmedTotal: number
  readonly refusedTotal: number
  /** Sent again. */
  readonly retriedTotal: number
  readonly deadLetteredTotal: number
  /** Given up before the far side had it, by reason. */
  readonly droppedTotal: Readonly<Record<string, number>>
}

export const BRIDGE_ORDERS = ['pause', 'resume', 'restart', 'purge'] as const
export type BridgeOrder = (typeof BRIDGE_ORDERS)[number]

export interface BridgeControl {
  list(): readonly BridgeStatus[]
  /** Null: there is no such bridge. `purged`: messages that are gone. */
  order(name: string, order: BridgeOrder): { readonly purged: number } | null
}

/** `$SYS/broker/connection/NAME/state`, as Mosquitto calls it. */
export function bridgeTopic(name: string): string {
  return `$SYS/broker/connection/${name}/state`
}

/** `1` while it is open and moves, else `0`. */
export function bridgePayload(state: BridgeState): string {
  return state === 'running' ? '1' : '0'
}
