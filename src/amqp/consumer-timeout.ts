/**
 * A delivery that stays open for too long (amqp-semantics.md §2.3): its channel is closed with 406, and what it
 * held goes back to the queues. Looked at by the timer of all connections; a delivery costs nothing for it.
 */
import type { AmqpChannel } from './channel.ts'
import { DeliveryAges } from './delivery-ages.ts'
import type { Holder } from './holders.ts'
import { AmqpError, REPLY } from './reply-codes.ts'

/** Notes of ages in the shortest time that a delivery may stay open. */
const NOTES = 64

/** What is asked of a connection. */
interface TimedConnection {
  readonly context: { readonly options: { readonly consumerTimeoutMs: number } }
  readonly channels: ReadonlyMap<number, AmqpChannel>
  fail(error: unknown, channel: AmqpChannel, classId: number, methodId: number): void
}

/** Closes the channels with a delivery that is open for too long; whether there were any. */
export function closeOverdue(connection: TimedConnection, nowMs: number): boolean {
  const { consumerTimeoutMs } = connection.context.options
  let isChanged = false
  for (const channel of connection.channels.values()) {
    if (channel.isClosed) continue
    const error = overdue(channel, nowMs, consumerTimeoutMs)
    if (error === null) continue
    isChanged = true
    connection.fail(error, channel, 0, 0)
  }
  return isChanged
}

/**
 * What the channel is to be closed with, or null. `nowMs` runs only while the client can be heard; `usualMs` holds
 * for queues without an `x-consumer-timeout`, 0 = never.
 */
function overdue(channel: AmqpChannel, nowMs: number, usualMs: number): AmqpError | null {
  const { unacked } = channel
  if (unacked.count === 0) {
    channel.ages?.clear()
    return null
  }
  let shortest = 0
  let isOne = true
  for (const holder of channel.holders) {
    if (holder.unackedCount === 0) continue
    const ms = timeOf(holder, usualMs)
    if (shortest !== 0 && ms !== shortest) isOne = false
    if (ms > 0 && (shortest === 0 || ms < shortest)) shortest = ms
    if (ms === 0) isOne = false
  }
  if (shortest === 0) return null
  channel.ages ??= new DeliveryAges()
  const { ages } = channel
  // First judged, then noted: what came since the last look is not old yet.
  const tag = ages.tagBefore(nowMs - shortest)
  ages.note(unacked.oldestTag, channel.newestTag, nowMs, shortest / NOTES)
  if (tag < unacked.oldestTag) return null
  if (isOne) return timedOut(channel, shortest)
  return overdueOfSome(channel, ages, nowMs, usualMs)
}

/** Queues with times of their own: the oldest delivery of each holder counts. */
function overdueOfSome(
  channel: AmqpChannel,
  ages: DeliveryAges,
  nowMs: number,
  usualMs: number
): AmqpError | null {
  for (const holder of channel.holders) {
    if (holder.unackedCount === 0) continue
    const ms = timeOf(holder, usualMs)
    if (ms === 0) continue
    const oldest = channel.unacked.oldestTagOf(holder.index)
    if (oldest > 0 && ages.tagBefore(nowMs - ms) >= oldest) return timedOut(channel, ms)
  }
  return null
}

function timeOf(holder: Holder, usualMs: number): number {
  const { consumerTimeoutMs } = holder.queue.options
  return consumerTimeoutMs < 0 ? usualMs : consumerTimeoutMs
}

/** RabbitMQ's words: programs look for them. */
function timedOut(channel: AmqpChannel, ms: number): AmqpError {
  return new AmqpError(
    REPLY.preconditionFailed,
    `delivery acknowledgement on channel ${channel.id} timed out. Timeout value used: ${ms} ms. ` +
      'This timeout value can be configured, see consumers doc guide to learn more'
  )
}
