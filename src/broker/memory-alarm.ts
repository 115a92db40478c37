/**
 * The alarm of memory: while the process holds more than its share, whoever publishes is not read, over every
 * protocol, so that consumers can catch up. It is raised at the bound and taken back well below it: memory that
 * was freed comes back late.
 */
import { totalmem } from 'node:os'
import type { Broker } from './broker.ts'

const LOOK_MS = 1_000
/** Of the cgroup's or the machine's memory. */
const RED_SHARE = 0.8
/** Of the bound. */
const CLEAR_SHARE = 0.95

/** What the bound is when the operator chose none: part of what this process may have at most. */
export function memoryShare(): number {
  const constrained = process.constrainedMemory()
  const most = constrained > 0 ? Math.min(constrained, totalmem()) : totalmem()
  return Math.floor(most * RED_SHARE)
}

export class MemoryAlarm {
  readonly #broker: Broker
  readonly #redBytes: number
  readonly #usedBytes: () => number
  #timer: NodeJS.Timeout | null

  /** `usedBytes`: what the process holds; a test says what it wants. */
  constructor(
    broker: Broker,
    redBytes: number,
    usedBytes: () => number = () => process.memoryUsage.rss()
  ) {
    this.#broker = broker
    this.#redBytes = redBytes
    this.#usedBytes = usedBytes
    this.#timer = null
  }

  start(): void {
    this.#timer = setInterval(() => this.look(), LOOK_MS)
    this.#timer.unref()
  }

  close(): void {
    if (this.#timer !== null) clearInterval(this.#timer)
    this.#timer = null
  }

  look(): void {
    const broker = this.#broker
    const used = this.#usedBytes()
    const bound = broker.memoryAlarm ? this.#redBytes * CLEAR_SHARE : this.#redBytes
    const raised = used > bound
    if (raised === broker.memoryAlarm) return
    broker.log.warn(
      { usedBytes: used, redBytes: this.#redBytes },
      raised ? 'memory alarm: publishers are held' : 'memory alarm is over'
    )
    broker.memoryAlarm = raised
    broker.judgePause()
  }
}
