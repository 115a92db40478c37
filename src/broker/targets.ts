/** The queues that take the message at hand: decided first, then written by one record, then entered. */
import type { Mark } from '../core/deduplication.ts'
import type { Queue } from '../core/queue.ts'
import { ENTRY_HAS_IDS } from '../core/queue-entry.ts'
import { MARK_BYTES_MAX } from '../core/records/deduplication.ts'
import { DESTINATION_BYTES_MAX } from '../core/records/message.ts'

/** One object, filled anew for each message. */
export class Targets {
  count = 0
  readonly queues: Queue[] = []
  readonly flags: number[] = []
  readonly sequences: number[] = []
  readonly identifiers: (readonly number[] | null)[] = []
  /** Nothing below is used, nor `waitFor`. */
  isPlain = true
  /** Some of them have a time of their own (see `timeLast`): only then are these true. */
  hasTimes = false
  readonly times: number[] = []
  /** Deduplication keys that are remembered with the message. */
  readonly marks: Mark[] = []
  /** With it the message is durable that this one is a duplicate of. */
  waitFor = 0
  /** Some of them last. */
  isDurable = false
  bytesMax = 0

  clear(): void {
    this.count = 0
    this.isDurable = false
    this.bytesMax = 0
    if (!this.isPlain) this.#clearRest()
  }

  #clearRest(): void {
    this.isPlain = true
    this.hasTimes = false
    this.marks.length = 0
    this.waitFor = 0
  }

  add(
    queue: Queue,
    flags: number,
    isDurable: boolean,
    identifiers: readonly number[] | null
  ): void {
    const at = this.count++
    this.queues[at] = queue
    this.flags[at] = flags
    this.identifiers[at] = identifiers
    if (this.hasTimes) this.times[at] = 0
    if (isDurable) this.isDurable = true
    this.bytesMax += DESTINATION_BYTES_MAX + (identifiers === null ? 0 : identifiers.length * 5)
  }

  /** BCC keys: for those queues that give their dead letters a message's own keys. */
  keepBlind(numbers: readonly number[]): void {
    for (let i = 0; i < this.count; i++) {
      const queue = this.queues[i]!
      const { deadLetterExchange, deadLetterKey } = queue.options
      if (queue.isSession || deadLetterExchange === null || deadLetterKey !== null) continue
      this.identifiers[i] = numbers
      this.flags[i]! |= ENTRY_HAS_IDS
      this.bytesMax += numbers.length * 5
    }
  }

  /** The store time of the one added last: its expiry there. */
  timeLast(time: number): void {
    this.isPlain = false
    if (!this.hasTimes) {
      this.hasTimes = true
      for (let i = 0; i < this.count; i++) this.times[i] = 0
    }
    this.times[this.count - 1] = time
  }

  mark(mark: Mark): void {
    this.isPlain = false
    this.marks.push(mark)
    this.bytesMax += MARK_BYTES_MAX
  }

  /** It was not taken after all: no exchange is to remember it. */
  unmarkCaches(): void {
    const ofQueues = this.marks.filter(({ cache }) => cache === null)
    this.marks.length = 0
    this.marks.push(...ofQueues)
  }

  /** A queue refused it as a duplicate: the publisher is answered when the first one is durable, as for any other. */
  refused(ticket: number, isDurable: boolean): void {
    this.isPlain = false
    this.waitFor = Math.max(this.waitFor, ticket)
    if (isDurable) this.isDurable = true
  }
}

export const targets = new Targets()
