/**
 * Loads as `$SYS/broker/load` shows them: averages a minute over the last 1, 5 and 15 minutes, in which
 * what is older weighs less and less (exponentially, as the load of a Unix machine does).
 */
import { type Counters, sumOf } from './counters.ts'
import type { Traffic } from './stats.ts'

const MS_A_MINUTE = 60_000
export const LOAD_MINUTES = [1, 5, 15] as const

/** Their names below `$SYS/broker/load`. */
export const LOAD_NAMES = [
  'messages/received',
  'messages/sent',
  'publish/dropped',
  'publish/received',
  'publish/sent',
  'bytes/received',
  'bytes/sent',
  'sockets',
  'connections'
] as const

export class SysLoad {
  /** By name, then by span. */
  readonly averages: number[][]
  readonly #totals: number[]
  #atMs: number

  /** `nowMs` is of a clock that only goes forward. */
  constructor(nowMs: number) {
    this.averages = LOAD_NAMES.map(() => LOAD_MINUTES.map(() => 0))
    this.#totals = LOAD_NAMES.map(() => 0)
    this.#atMs = nowMs
  }

  /** Takes what was counted since the last call in. */
  update(counters: Counters, traffic: Traffic, nowMs: number): void {
    const minutes = (nowMs - this.#atMs) / MS_A_MINUTE
    if (minutes <= 0) return
    this.#atMs = nowMs
    const totals = [
      counters.mqttPacketsReceived,
      counters.mqttPacketsSent,
      counters.droppedByLimits,
      sumOf(counters.mqttReceived),
      sumOf(counters.mqttSent),
      traffic.bytesInTotal,
      traffic.bytesOutTotal,
      traffic.socketsTotal,
      counters.mqttConnectionsTotal
    ]
    for (let i = 0; i < totals.length; i++) {
      const perMinute = (totals[i]! - this.#totals[i]!) / minutes
      this.#totals[i] = totals[i]!
      const averages = this.averages[i]!
      for (let j = 0; j < LOAD_MINUTES.length; j++) {
        const weight = Math.exp(-minutes / LOAD_MINUTES[j]!)
        averages[j] = perMinute + weight * (averages[j]! - perMinute)
      }
    }
  }
}
