/**
 * Watches the memory of the whole process. Each thing that a client may hold has its bound; what
 * thousands of them hold within their bounds adds up, and the kernel ends a process without asking.
 *
 * Levels are percentages of the limit, and each is left half the way to the next lower mark: with 60 and
 * 80, red comes at 80 and goes below 70, yellow comes at 60 and goes below 50. Yellow is only reported.
 * At red no new connection is taken and nobody publishes (see pressure.ts); consumers go on, so it falls.
 *
 * Resident memory alone would never fall: V8 collects nothing while it allocates nothing, and malloc
 * keeps what is freed. So the journal's cache is given up and garbage collected before red is believed
 * and now and then while it lasts, and what malloc keeps for us is not counted: it is there for what comes next. How much that is follows
 * from how much was not V8's when V8 held the most.
 */
import { collectGarbage } from '../lib/collect-garbage.ts'
import type { Broker } from './broker.ts'
import type { Publisher } from './consumer.ts'
import { setMemoryAlarm } from './pressure.ts'

export type MemoryLevel = 'green' | 'yellow' | 'red'

export interface MemoryMarks {
  readonly yellowPercent: number
  /** Above `yellowPercent`. */
  readonly redPercent: number
  readonly limitBytes: number
}

export interface MemorySample {
  readonly residentBytes: number
  /** What V8 holds: its heap, and the buffers outside of it. */
  readonly heldBytes: number
}

/** How memory is read; tests have their own. */
export interface MemoryProbe {
  residentBytes(): number
  sample(): MemorySample
  collect(): void
}

const TICK_MS = 500
/** A collection stops the loop: so many ticks lie between two, at least. */
const COLLECT_TICKS = 10
/** While red, so many of those that are not read are let go on by a read, each tick. */
const BREATHS = 32

/** The level that follows from what is used and from the level before. */
export function memoryLevel(
  usedBytes: number,
  marks: MemoryMarks,
  before: MemoryLevel
): MemoryLevel {
  const { yellowPercent, redPercent, limitBytes } = marks
  const percent = (usedBytes / limitBytes) * 100
  const half = (redPercent - yellowPercent) / 2
  if (percent >= redPercent || (before === 'red' && percent >= redPercent - half)) return 'red'
  if (percent >= yellowPercent) return 'yellow'
  return before !== 'green' && percent >= yellowPercent - half ? 'yellow' : 'green'
}

const PROCESS: MemoryProbe = {
  residentBytes: () => process.memoryUsage.rss(),
  sample: () => {
    const { rss, heapTotal, arrayBuffers } = process.memoryUsage()
    return { residentBytes: rss, heldBytes: heapTotal + arrayBuffers }
  },
  collect: collectGarbage
}

export class MemoryWatch {
  readonly marks: MemoryMarks
  level: MemoryLevel
  readonly #broker: Broker
  readonly #probe: MemoryProbe
  #timer: NodeJS.Timeout | null
  /** It looked red at the tick before. */
  #isSuspect: boolean
  #ticksUntilCollect: number
  /** The most that V8 held so far, and what was resident beside it then. */
  #heldBytesMost: number
  #nativeBytes: number
  /** Who gets the next breath. */
  #breathers: Iterator<Publisher> | null

  constructor(broker: Broker, marks: MemoryMarks, probe: MemoryProbe = PROCESS) {
    this.marks = marks
    this.level = 'green'
    this.#broker = broker
    this.#probe = probe
    this.#timer = null
    this.#isSuspect = false
    this.#ticksUntilCollect = 0
    this.#heldBytesMost = 0
    this.#nativeBytes = 0
    this.#breathers = null
  }

  start(): void {
    if (this.#timer !== null) return
    this.#timer = setInterval(() => this.tick(), TICK_MS)
    this.#timer.unref()
  }

  close(): void {
    if (this.#timer !== null) clearInterval(this.#timer)
    this.#timer = null
  }

  /** Twice a second, by our own timer. */
  tick(): void {
    if (this.#ticksUntilCollect > 0) this.#ticksUntilCollect--
    const { marks, level } = this
    const residentBytes = this.#probe.residentBytes()
    // What is used is never more than what is resident.
    if (level === 'green' && memoryLevel(residentBytes, marks, level) === 'green') {
      this.#isSuspect = false
      return
    }
    const usedBytes = this.#usedBytes()
    const next = memoryLevel(usedBytes, marks, level)
    if (next !== 'red') {
      this.#isSuspect = false
      this.#change(next, usedBytes)
    } else if (level === 'red') {
      this.#collect()
      this.#breathe()
    } else if (this.#isSuspect) {
      this.#change(next, usedBytes)
    } else {
      // A peak is gone by the next tick, and so is garbage.
      this.#isSuspect = true
      this.#collect()
    }
  }

  #usedBytes(): number {
    const { residentBytes, heldBytes } = this.#probe.sample()
    if (heldBytes >= this.#heldBytesMost) {
      this.#heldBytesMost = heldBytes
      this.#nativeBytes = residentBytes - heldBytes
    }
    return Math.min(residentBytes, this.#nativeBytes + heldBytes)
  }

  #collect(): void {
    if (this.#ticksUntilCollect > 0) return
    this.#ticksUntilCollect = COLLECT_TICKS
    this.#broker.journal.shrinkCache()
    this.#probe.collect()
  }

  #change(level: MemoryLevel, usedBytes: number): void {
    if (level === this.level) return
    const wasRed = this.level === 'red'
    this.level = level
    this.#isSuspect = false
    const broker = this.#broker
    const { limitBytes } = this.marks
    broker.log.warn({ memoryLevel: level, usedBytes, limitBytes }, 'memory of the process')
    if (wasRed !== (level === 'red')) setMemoryAlarm(broker, level === 'red')
  }

  /**
   * Who is not read is not seen leaving, and keeps what it holds: some at a time read on until their
   * next PUBLISH, in turn. Their pings are answered by that too.
   */
  #breathe(): void {
    for (let left = Math.min(BREATHS, this.#broker.publishers.size); left > 0; left--) {
      this.#breathers ??= this.#broker.publishers.values()
      const { value, done } = this.#breathers.next()
      if (done === true) this.#breathers = null
      else value.onResume()
    }
  }
}
