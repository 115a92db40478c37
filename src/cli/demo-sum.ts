/** The sum that `motemq demo` ends with: what was published is received, waiting or a counted drop. */

export interface DemoCounts {
  /** By the sensors, and the will of the one that died. */
  readonly published: number
  readonly received: number
  /** In the queue when its consumer has gone. */
  readonly waiting: number
  /** By the broker's own counters; null: it tells none. */
  readonly dropped: number | null
}

export interface Verdict {
  readonly line: string
  readonly isEven: boolean
}

/** Drops of what goes to MQTT subscribers alone: the queue's messages are none of these. */
const SUBSCRIBERS_REASONS = ['slow_consumer', 'closed', 'offline_qos0', 'session_ended']

export function sumUp(counts: DemoCounts): Verdict {
  const { published, received, waiting, dropped } = counts
  const sum = received + waiting + (dropped ?? 0)
  const isEven = published === sum
  const sign = isEven ? '=' : '≠'
  const drops = dropped === null ? '0 dropped (the broker tells none)' : `${dropped} dropped`
  const missing = isEven
    ? ''
    : sum < published
      ? `: ${published - sum} lost`
      : `: ${sum - published} too many`
  return {
    line: `${published} published ${sign} ${received} received + ${waiting} waiting + ${drops}${missing}`,
    isEven
  }
}

/** The drops in `/metrics` of a Motemq that may concern a queue. */
export function readDropped(metrics: string): number {
  let sum = 0
  const pattern = /^motemq_messages_dropped_total\{reason="(\w+)"\} (\d+)$/gm
  for (const [, reason = '', count = '0'] of metrics.matchAll(pattern)) {
    if (!SUBSCRIBERS_REASONS.includes(reason)) sum += Number(count)
  }
  return sum
}
