/** What a bridge counts, and how fast its queue grows and shrinks. */
import type { Queue } from '../core/queue.ts'

export class BridgeCounts {
  sent = 0
  confirmed = 0
  refused = 0
  retried = 0
  deadLettered = 0
}

/** Looks that are kept, and how far apart they are at first: about ten seconds of rates. */
const SAMPLE_MS = 1_000
const SAMPLES = 10
/** Marks of how far the queue was when; when they are full every second one goes. */
const MARKS_MAX = 256

interface Sample {
  readonly atMs: number
  readonly arrived: number
  readonly confirmed: number
}

interface Mark {
  readonly atMs: number
  /** What lies before this sequence was there then. */
  readonly below: number
}

export class Rates {
  readonly #samples: Sample[] = []
  #marks: Mark[] = []
  #queueId = 0

  /** Call often: it looks once a second. */
  sample(queue: Queue, confirmed: number, nowMs: number): void {
    if (queue.id !== this.#queueId) {
      this.#queueId = queue.id
      this.#samples.length = 0
      this.#marks = []
    }
    const last = this.#samples.at(-1)
    if (last !== undefined && nowMs - last.atMs < SAMPLE_MS) return
    const arrived = queue.nextSequence
    this.#samples.push({ atMs: nowMs, arrived, confirmed })
    if (this.#samples.length > SAMPLES + 1) this.#samples.shift()
    if (this.#marks.at(-1)?.below === arrived) return
    this.#marks.push({ atMs: nowMs, below: arrived })
    if (this.#marks.length > MARKS_MAX) this.#marks = this.#marks.filter((_, i) => i % 2 === 0)
  }

  get inPerSecond(): number {
    return this.#perSecond(sample => sample.arrived)
  }

  get outPerSecond(): number {
    return this.#perSecond(sample => sample.confirmed)
  }

  #perSecond(of: (sample: Sample) => number): number {
    const first = this.#samples[0]
    const last = this.#samples.at(-1)
    if (first === undefined || last === undefined || last.atMs <= first.atMs) return 0
    return Math.round(((of(last) - of(first)) * 10_000) / (last.atMs - first.atMs)) / 10
  }

  /** When the message of this sequence was in the queue already, at the latest. */
  sinceMs(sequence: number, nowMs: number): number {
    // Marks rise in both: the first one that has it.
    const mark = this.#marks.find(({ below }) => sequence < below)
    return mark?.atMs ?? nowMs
  }
}
