/** What happens to a delivery: acknowledged, received (PUBREC), put back, rejected; and PUBREL. */
import { KIND } from '../core/records/kinds.ts'
import type { Queue } from '../core/queue.ts'
import { ENTRY_QOS, ENTRY_QOS_SHIFT, ENTRY_STATE, RELEASED, UNACKED } from '../core/queue-entry.ts'
import type { Session } from '../core/session.ts'
import { AWAITED } from '../journal/journal.ts'
import { appendPair } from './append.ts'
import type { Broker } from './broker.ts'
import { ready } from './deliver.ts'
import { finish } from './finish.ts'
import { countOf, holdReturned, noteReturned } from './held.ts'
import { trimReturned } from './overflow.ts'
import { deliveriesOf, discard, headChanged } from './queue-life.ts'

/** PUBACK, PUBCOMP, basic.ack. False: it was not open. */
export function settle(broker: Broker, queue: Queue, sequence: number): boolean {
  const { levels } = queue
  if (levels !== null)
    return settleOne(broker, levels.levelOf(sequence), levels.sequenceOf(sequence))
  return settleOne(broker, queue, sequence)
}

function settleOne(broker: Broker, queue: Queue, sequence: number): boolean {
  const state = queue.stateOf(sequence)
  if (state !== UNACKED && state !== RELEASED) return false
  finish(broker, queue, sequence)
  broker.counters.acknowledged++
  return true
}

/**
 * PUBREC: recorded, so that after a crash PUBREL is sent, not PUBLISH again. Returns the ticket that
 * the PUBREL waits for; 0 when the session ends with its connection; -1 when that delivery is not open.
 */
export function received(broker: Broker, session: Session, sequence: number): number {
  const { queue } = session
  if (!queue.find(sequence) || (queue.flags & ENTRY_QOS) >> ENTRY_QOS_SHIFT !== 2) return -1
  const state = queue.flags & ENTRY_STATE
  if (state === RELEASED) return 0
  if (state !== UNACKED) return -1
  broker.state.markReleased(queue, sequence)
  if (!session.isLasting) return 0
  return appendPair(broker, KIND.received, queue.id, sequence, AWAITED)
}

/** Inbound PUBREL: the packet identifier is free again. Returns PUBCOMP's ticket; -1: it was not known. */
export function release(broker: Broker, session: Session, packetId: number): number {
  if (!broker.state.closeInbound(session.id, packetId)) return -1
  if (!session.isLasting) return 0
  return appendPair(broker, KIND.release, session.id, packetId, AWAITED)
}

/** A repeat of an inbound QoS 2 PUBLISH: the ticket of the first; -1: there was none. */
export function inboundTicket(session: Session, packetId: number): number {
  return session.inbound?.get(packetId) ?? -1
}

/** One of several that go back: call `allBack` when all have, else the first overtakes those that lay before it. */
export function putBack(broker: Broker, queue: Queue, sequence: number, isFailure = true): boolean {
  const { levels } = queue
  if (levels === null) return putBackOne(broker, queue, sequence, isFailure)
  const level = levels.levelOf(sequence)
  return putBackOne(broker, level, levels.sequenceOf(sequence), isFailure)
}

function putBackOne(broker: Broker, queue: Queue, sequence: number, isFailure: boolean): boolean {
  if (isSpent(broker, queue, sequence)) return false
  const { countsDeliveries } = queue.options
  if (countsDeliveries && holdReturned(broker, queue, sequence, isFailure)) return false
  if (!queue.requeue(sequence)) return false
  // Every redelivery is written down when it begins: only the first one's count is not known yet.
  if (countsDeliveries && queue.find(sequence) && countOf(queue, sequence) === 1) {
    noteReturned(broker, queue, sequence, 1)
  }
  if (queue.mayExpire) headChanged(broker, queue)
  return true
}

/** All that go back to this queue have. */
export function allBack(broker: Broker, queue: Queue): void {
  trimReturned(broker, queue)
  ready(broker, queue)
}

/**
 * Back to its original place, and to be delivered again. `isFailure`: it was rejected, or its consumer is gone; else
 * it was only handed back. That is for those queues that delay one or the other.
 */
export function requeue(broker: Broker, queue: Queue, sequence: number, isFailure = true): void {
  if (putBack(broker, queue, sequence, isFailure)) allBack(broker, queue)
}

/** It came back more often than its queue allows (x-delivery-limit), and leaves that now. */
function isSpent(broker: Broker, queue: Queue, sequence: number): boolean {
  const { deliveryLimit } = queue.options
  if (deliveryLimit < 0 || queue.stateOf(sequence) !== UNACKED) return false
  if (deliveriesOf(broker, queue, sequence) <= deliveryLimit) return false
  discard(broker, queue, sequence, 'delivery_limit', false)
  return true
}

/** basic.reject and nack without requeue: to the dead letter exchange, if there is one. */
export function reject(broker: Broker, queue: Queue, sequence: number): boolean {
  const { levels } = queue
  if (levels === null) return rejectOne(broker, queue, sequence)
  return rejectOne(broker, levels.levelOf(sequence), levels.sequenceOf(sequence))
}

function rejectOne(broker: Broker, queue: Queue, sequence: number): boolean {
  if (queue.stateOf(sequence) !== UNACKED) return false
  discard(broker, queue, sequence, 'rejected', false)
  return true
}
