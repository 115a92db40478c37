/**
 * Whether the arguments of queue.declare make sense: RabbitMQ's checks, one for each name, with its words
 * for what is wrong. Names that it does not know either are the client's own notes.
 */
import { durationMs } from './duration.ts'
import { BrokerError } from './errors.ts'
import { type FieldTable, type FieldValue, fieldOf, fieldTypeName } from './field-table.ts'
import { RETRY_TYPES } from './queue-options.ts'

/** Null: it is right. Else what is wrong, as RabbitMQ prints it. */
type Check = (value: FieldValue, table: FieldTable) => string | null

const PRIORITY_MAX = 255
/** 100 years: what is later is a mistake, and a sum of such numbers stays exact. */
const MS_MAX = 100 * 365 * 24 * 3_600_000

const SEGMENT_BYTES = 'x-stream-max-segment-size-bytes'
/** RabbitMQ's bound. */
const SEGMENT_BYTES_MAX = 3_000_000_000

const INTEGERS: ReadonlySet<string> = new Set(['b', 'B', 's', 'u', 'I', 'i', 'l'])

function numberOf(value: FieldValue): number {
  return Number(value.value)
}

function checkInteger(value: FieldValue): string | null {
  return INTEGERS.has(value.type) ? null : `"expected integer, got ${fieldTypeName(value.type)}"`
}

function checkNotNegative(value: FieldValue): string | null {
  return checkInteger(value) ?? (numberOf(value) < 0 ? `{value_negative,${value.value}}` : null)
}

function checkMs(value: FieldValue): string | null {
  const wrong = checkNotNegative(value)
  return wrong ?? (numberOf(value) > MS_MAX ? `{value_too_large,${value.value}}` : null)
}

function checkExpires(value: FieldValue): string | null {
  const wrong = checkInteger(value)
  return wrong ?? (numberOf(value) === 0 ? '{value_zero,0}' : checkMs(value))
}

function checkPositive(value: FieldValue): string | null {
  return checkNotNegative(value) ?? (numberOf(value) === 0 ? '{value_zero,0}' : null)
}

/** -1, which RabbitMQ writes for a quorum queue without a limit, is taken too. */
function checkDeliveryLimit(value: FieldValue): string | null {
  return checkInteger(value) ?? (numberOf(value) === -1 ? null : checkNotNegative(value))
}

function checkPriorityMax(value: FieldValue): string | null {
  const wrong = checkNotNegative(value)
  return wrong ?? (numberOf(value) > PRIORITY_MAX ? `{max_value_exceeded,${value.value}}` : null)
}

function checkBoolean(value: FieldValue): string | null {
  return value.type === 't' ? null : unacceptable(value)
}

function checkText(value: FieldValue): string | null {
  return value.type === 'S' ? null : unacceptable(value)
}

function checkDeadLetterKey(value: FieldValue, table: FieldTable): string | null {
  if (value.type !== 'S') return unacceptable(value)
  const hasExchange = fieldOf(table, 'x-dead-letter-exchange') !== null
  return hasExchange ? null : 'routing_key_but_no_dlx_defined'
}

function unacceptable(value: FieldValue): string {
  return `{unacceptable_type,${fieldTypeName(value.type)}}`
}

/** One of these words. */
function oneOf(words: readonly string[], wrong: string): Check {
  return value => {
    if (value.type !== 'S') return unacceptable(value)
    return words.includes(value.value) ? null : wrong
  }
}

const TYPES: ReadonlySet<string> = new Set(['classic', 'quorum', 'stream'])

function checkMaxAge(value: FieldValue): string | null {
  if (value.type !== 'S') return unacceptable(value)
  return durationMs(value.value) === null ? 'invalid_max_age' : null
}

function checkType(value: FieldValue): string | null {
  if (value.type !== 'S') return unacceptable(value)
  const isKnown = TYPES.has(value.value)
  return isKnown ? null : `"unsupported queue type '${value.value}'"`
}

function checkVersion(value: FieldValue): string | null {
  const wrong = checkNotNegative(value)
  const version = numberOf(value)
  return wrong ?? (version === 1 || version === 2 ? null : `"unsupported queue version ${version}"`)
}

/** In RabbitMQ's order: of several mistakes the first is named. */
const CHECKS: ReadonlyMap<string, Check> = new Map<string, Check>([
  ['x-expires', checkExpires],
  ['x-message-ttl', checkMs],
  ['x-dead-letter-exchange', checkText],
  ['x-dead-letter-routing-key', checkDeadLetterKey],
  ['x-dead-letter-strategy', oneOf(['at-most-once', 'at-least-once'], 'invalid_dlx_strategy')],
  ['x-max-length', checkNotNegative],
  ['x-max-length-bytes', checkNotNegative],
  ['x-max-in-memory-length', checkNotNegative],
  ['x-max-in-memory-bytes', checkNotNegative],
  ['x-max-priority', checkPriorityMax],
  ['x-overflow', oneOf(['drop-head', 'reject-publish', 'reject-publish-dlx'], 'invalid_overflow')],
  ['x-queue-mode', oneOf(['default', 'lazy'], 'invalid_queue_mode')],
  ['x-queue-version', checkVersion],
  ['x-single-active-consumer', checkBoolean],
  ['x-queue-type', checkType],
  ['x-quorum-initial-group-size', checkPositive],
  ['x-initial-cluster-size', checkPositive],
  [
    'x-queue-leader-locator',
    oneOf(['client-local', 'balanced', 'random', 'least-leaders'], 'invalid_queue_locator_arg')
  ],
  ['x-queue-master-locator', checkText],
  ['x-delivery-limit', checkDeliveryLimit],
  ['x-delayed-retry-type', oneOf(RETRY_TYPES, 'invalid_delayed_retry_type')],
  ['x-delayed-retry-min', checkExpires],
  ['x-delayed-retry-max', checkExpires],
  ['x-consumer-timeout', checkMs],
  ['x-max-age', checkMaxAge],
  [SEGMENT_BYTES, checkNotNegative],
  ['x-message-deduplication', checkBoolean],
  ['x-cache-size', checkPositive],
  ['x-cache-ttl', checkMs],
  ['x-deduplication-header', checkText]
])

/** What means something for a stream; the other known arguments are refused for one. */
const FOR_STREAMS: ReadonlySet<string> = new Set([
  'x-queue-type',
  'x-max-length-bytes',
  'x-max-age',
  SEGMENT_BYTES,
  'x-initial-cluster-size',
  'x-queue-leader-locator',
  'x-consumer-timeout'
])

/** They mean nothing for any other queue. */
const FOR_STREAMS_ONLY: ReadonlySet<string> = new Set(['x-max-age', SEGMENT_BYTES])

/** They would change what happens to messages, and are not served yet: none is ignored in silence. */
const NOT_SERVED: ReadonlySet<string> = new Set([
  'x-cache-size',
  'x-cache-ttl',
  'x-deduplication-header'
])

/**
 * Throws `argumentInvalid` for a value that makes no sense, and `notImplemented` for an argument that
 * would change what happens to messages and is not served.
 */
export function checkQueueArguments(table: FieldTable, queue: string, vhost: string): void {
  if (table.length === 0) return
  const type = queueTypeIn(table)
  for (const [name, check] of CHECKS) {
    const value = fieldOf(table, name)
    if (value === null) continue
    const isRefused = type === 'stream' ? !FOR_STREAMS.has(name) : FOR_STREAMS_ONLY.has(name)
    if (isRefused) throw refusedByType(name, queue, vhost, type)
    const wrong = check(value, table)
    if (wrong !== null) throw invalid(name, queue, vhost, wrong)
    if (name === SEGMENT_BYTES && numberOf(value) > SEGMENT_BYTES_MAX) {
      const message = `Exceeded max value for ${name}`
      throw new BrokerError('argumentInvalid', message, { kind: 'queue', argument: name, vhost })
    }
    if (NOT_SERVED.has(name)) {
      const what = `queue argument ${name} (${String(value.value)}) is not served yet`
      throw new BrokerError('notImplemented', what, { argument: name })
    }
  }
}

/** RabbitMQ's words for an argument that this type of queue does not have. */
export function refusedByType(
  argument: string,
  name: string,
  vhost: string,
  type: string
): BrokerError {
  return new BrokerError(
    'argumentInvalid',
    `invalid arg '${argument}' for queue '${name}' in vhost '${vhost}' of queue type rabbit_${type}_queue`,
    { kind: 'queue', argument, name, vhost }
  )
}

function invalid(argument: string, name: string, vhost: string, wrong: string): BrokerError {
  return new BrokerError(
    'argumentInvalid',
    `invalid arg '${argument}' for queue '${name}' in vhost '${vhost}': ${wrong}`,
    { kind: 'queue', argument, name, vhost }
  )
}

/** What a declaration says, which need not make sense. */
function queueTypeIn(table: FieldTable): string {
  const type = fieldOf(table, 'x-queue-type')
  return type?.type === 'S' && TYPES.has(type.value) ? type.value : 'classic'
}

/** A queue of these arguments is a classic one. */
export function isClassicIn(table: FieldTable): boolean {
  const type = fieldOf(table, 'x-queue-type')
  return type === null || type.value === 'classic'
}

/** It must be the same in a second declaration: RabbitMQ compares only the arguments that it knows. */
export function isQueueArgument(name: string): boolean {
  return CHECKS.has(name)
}
