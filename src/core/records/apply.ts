/** Replay: from a record's kind to the one function that applies it. */
import { BytesError, BytesReader } from '../../lib/bytes-reader.ts'
import { BrokerError } from '../errors.ts'
import { Message } from '../message.ts'
import type { State } from '../state.ts'
import { applyCounters } from './counters.ts'
import * as deduplication from './deduplication.ts'
import * as delays from './delay.ts'
import * as definitions from './definitions.ts'
import * as held from './held.ts'
import { KIND } from './kinds.ts'
import { applyMessage } from './message.ts'
import * as entries from './queue-entries.ts'
import * as policies from './policy.ts'
import * as retained from './retained.ts'
import * as sessions from './session.ts'
import * as settles from './settle.ts'
import * as shared from './shared-group.ts'
import * as users from './user.ts'
import * as vhosts from './vhost.ts'

const message = new Message()

/** False: it names something unknown or makes no sense; the caller counts it. Never throws for content. */
export function applyRecord(
  state: State,
  kind: number,
  buffer: Buffer,
  start: number,
  end: number,
  segment: number,
  offset: number
): boolean {
  state.hasStopped = kind === KIND.stopped
  if (kind === KIND.message) {
    return applyMessage(state, buffer, start, end, segment, offset, message)
  }
  if (kind === KIND.settle) return settles.applySettle(state, buffer, start, end)
  if (kind === KIND.transient || kind === KIND.transientIndex) return true
  if (kind === KIND.received) return settles.applyReceived(state, buffer, start, end)
  if (kind === KIND.release) return settles.applyRelease(state, buffer, start, end)
  try {
    const reader = new BytesReader(buffer, start, end)
    if (kind === KIND.queueIndex) return entries.applyIndex(state, reader, segment, offset)
    const apply = COLD[kind]
    return apply === undefined ? false : apply(state, reader)
  } catch (error) {
    // Bytes that make no sense, or an argument that this version does not know: kept aside, skipped.
    if (error instanceof BytesError || error instanceof BrokerError) return false
    throw error
  }
}

const COLD: Readonly<Record<number, (state: State, reader: BytesReader) => boolean>> = {
  [KIND.purge]: settles.applyPurge,
  [KIND.inbound]: settles.applyInbound,
  [KIND.queue]: definitions.applyQueue,
  [KIND.queueLevel]: definitions.applyQueueLevel,
  [KIND.queueDelete]: definitions.applyQueueDelete,
  [KIND.queueEntries]: entries.applyEntries,
  [KIND.queueCold]: entries.applyCold,
  [KIND.returned]: held.applyReturned,
  [KIND.held]: held.applyHeld,
  [KIND.unheld]: held.applyUnheld,
  [KIND.exchange]: definitions.applyExchange,
  [KIND.exchangeDelete]: definitions.applyExchangeDelete,
  [KIND.bind]: (state, reader) => definitions.applyBinding(state, reader, true),
  [KIND.unbind]: (state, reader) => definitions.applyBinding(state, reader, false),
  [KIND.delays]: delays.applyDelays,
  [KIND.delayEnd]: delays.applyDelayEnd,
  [KIND.keys]: deduplication.applyKeys,
  [KIND.session]: sessions.applySession,
  [KIND.sessionEnd]: sessions.applySessionEnd,
  [KIND.subscribe]: sessions.applySubscribe,
  [KIND.unsubscribe]: sessions.applyUnsubscribe,
  [KIND.will]: sessions.applyWill,
  [KIND.willClear]: sessions.applyWillClear,
  [KIND.retained]: retained.applyRetained,
  [KIND.retainedClear]: retained.applyRetainedClear,
  [KIND.sharedGroup]: shared.applyGroup,
  [KIND.sharedGroupEnd]: shared.applyGroupEnd,
  [KIND.sharedMember]: shared.applyMember,
  [KIND.sharedMove]: shared.applyMove,
  [KIND.sharedMoveBack]: shared.applyMoveBack,
  [KIND.user]: users.applyUser,
  [KIND.userDelete]: users.applyUserDelete,
  [KIND.vhost]: vhosts.applyVhost,
  [KIND.vhostEnd]: vhosts.applyVhostEnd,
  [KIND.policy]: policies.applyPolicy,
  [KIND.policyEnd]: policies.applyPolicyEnd,
  [KIND.stopped]: () => true,
  [KIND.counters]: applyCounters
}
