/** What a queue holds beside what is ready and what is delivered: of all its levels together. */
import type { DueEntries } from './due-entries.ts'
import { type Queue, readyBytesOf, readyOf } from './queue.ts'

/** Messages that came back and wait for their time (delayed retry). */
export function heldOf(queue: Queue): number {
  if (queue.levels === null) return countOf(queue.held)
  let count = 0
  for (const level of queue.levels.used) count += countOf(level.held)
  return count
}

/** Dead letters that nobody took yet (at-least-once). */
export function lettersOf(queue: Queue): number {
  if (queue.levels === null) return countOf(queue.letters)
  let count = 0
  for (const level of queue.levels.used) count += countOf(level.letters)
  return count
}

/** Payload bytes of both. */
export function heldBytesOf(queue: Queue): number {
  let bytes = 0
  for (const level of queue.levels === null ? [queue] : queue.levels.used) {
    bytes += (level.held?.bytes ?? 0) + (level.letters?.bytes ?? 0)
  }
  return bytes
}

/** All that there is for who comes now, of a stream what its files hold, too. */
export function messagesOf(queue: Queue): number {
  return queue.stream === null ? readyOf(queue) : queue.stream.count
}

export function bytesOf(queue: Queue): number {
  return queue.stream === null ? readyBytesOf(queue) : queue.stream.bytes
}

/** All that waits in a queue: what is ready, and what is held. */
export function waitingOf(queue: Queue): number {
  return messagesOf(queue) + heldOf(queue) + lettersOf(queue)
}

/** Of this level alone: what is held, and dead letters. */
export function* heldSequences(queue: Queue): Generator<number, void, void> {
  for (const entries of [queue.held, queue.letters]) {
    for (let is = entries?.first(); is; is = entries!.after(entries!.dueAt, entries!.sequence)) {
      yield entries!.sequence
    }
  }
}

function countOf(entries: DueEntries | null): number {
  return entries === null ? 0 : entries.count
}
