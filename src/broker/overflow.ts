/** What happens when a queue is full: the oldest goes, counted, or the new one is refused. */
import { NOTHING } from '../core/entries.ts'
import { COLD, type Queue } from '../core/queue.ts'
import type { Broker } from './broker.ts'
import { finish } from './finish.ts'

/**
 * Makes room for one message of `bytes` under the bounds (0 = none), which hold for what is ready.
 * False: the queue refuses (overflow reject-publish).
 */
export function makeRoom(
  broker: Broker,
  queue: Queue,
  bytes: number,
  messagesMax: number,
  bytesMax: number
): boolean {
  while (
    (messagesMax > 0 && queue.readyCount >= messagesMax) ||
    (bytesMax > 0 && queue.readyCount > 0 && queue.readyBytes + bytes > bytesMax)
  ) {
    if (queue.options.overflow === 'reject-publish') return false
    const sequence = queue.next()
    // The oldest are on the disk: one above the bound until a consumer's read brings them back.
    if (sequence === NOTHING || sequence === COLD) return true
    finish(broker, queue, sequence)
    broker.counters.dropFrom(queue.name, 'queue_full')
  }
  return true
}
