/**
 * When the dead letters of a queue that nobody took (at-least-once) are tried again. Where they are stands in
 * `Queue.letters`; here is how far a round over them has come. A round ends when it has tried all, or when so many
 * were refused that the others would be, too; the next one begins behind those, later each time that none went
 * out.
 */
import { Deadline } from '../lib/deadline-heap.ts'
import type { Timed } from './broker.ts'

const BACKOFF_MIN_MS = 250
const BACKOFF_MAX_MS = 5_000
/** Letters that are refused in one round. */
const REFUSED_MAX = 64

export class KeptLetters implements Timed {
  readonly deadline: Deadline<Timed>
  /** A round is going on. */
  isTrying: boolean
  /** The last one that was refused. */
  sequence: number
  backoffMs: number
  #refused: number
  #hasSent: boolean
  readonly #wake: () => void

  /** `wake` has the queue's work done in a turn of its own. */
  constructor(wake: () => void) {
    this.deadline = new Deadline<Timed>(this)
    this.isTrying = false
    this.sequence = 0
    this.backoffMs = BACKOFF_MIN_MS
    this.#refused = 0
    this.#hasSent = false
    this.#wake = wake
  }

  /** A round begins, unless one is going on. */
  onDue(): void {
    if (this.isTrying) return
    this.isTrying = true
    this.#refused = 0
    this.#hasSent = false
    this.#wake()
  }

  /** Exchanges, bindings, queues or policies have changed: all are tried. */
  changed(): void {
    this.sequence = 0
    this.backoffMs = BACKOFF_MIN_MS
    this.onDue()
  }

  sent(): void {
    this.#hasSent = true
  }

  /** False: enough were refused for this time. */
  refused(sequence: number): boolean {
    this.sequence = sequence
    return ++this.#refused < REFUSED_MAX
  }

  /** The round is over; `isAll`: the next one begins at the first. */
  end(isAll: boolean): void {
    this.isTrying = false
    if (isAll) this.sequence = 0
    this.backoffMs = this.#hasSent ? BACKOFF_MIN_MS : Math.min(this.backoffMs * 2, BACKOFF_MAX_MS)
  }
}
