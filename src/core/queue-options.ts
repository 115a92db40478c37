/**
 * What a queue's arguments mean. A declaration is judged in queue-arguments.ts; here it is only read,
 * and whatever makes no sense stands for nothing: a record of an earlier version must always load.
 */
import { durationMs } from './duration.ts'
import { EMPTY_TABLE, type FieldTable, fieldOf, integerOf } from './field-table.ts'

export type Overflow = 'drop-head' | 'reject-publish' | 'reject-publish-dlx'
export type QueueType = 'classic' | 'quorum' | 'stream'
export type DeadLetterStrategy = 'at-most-once' | 'at-least-once'
export const RETRY_TYPES = ['disabled', 'all', 'failed', 'returned'] as const
/** What of that which comes back is held for a time: all, what was rejected or lost with its consumer, or what was not. */
export type RetryType = (typeof RETRY_TYPES)[number]

/** What a policy may set as well as an argument. Numbers: -1 is none, but for `expiresMs`, where 0 is. */
export interface QueueSettings {
  /** x-max-length: ready messages. */
  readonly messagesMax: number
  /** x-max-length-bytes: payloads of ready messages. */
  readonly bytesMax: number
  /** x-overflow. */
  readonly overflow: Overflow
  /** x-message-ttl. */
  readonly messageTtlMs: number
  /** x-expires: a queue that nobody uses for so long is deleted; 0 = never. */
  readonly expiresMs: number
  /** x-dead-letter-exchange; '' is the default exchange, null: dead letters are dropped. */
  readonly deadLetterExchange: string | null
  /** x-dead-letter-routing-key; null: the message's own keys. */
  readonly deadLetterKey: string | null
  /** x-dead-letter-strategy. */
  readonly deadLetterStrategy: DeadLetterStrategy
  /** x-delayed-retry-type. */
  readonly retryType: RetryType
  /** x-delayed-retry-min: for each delivery so far. */
  readonly retryMinMs: number
  /** x-delayed-retry-max: no longer than this. */
  readonly retryMaxMs: number
  /** x-delivery-limit: deliveries beyond the first. */
  readonly deliveryLimit: number
  /** x-consumer-timeout; -1: the broker's. */
  readonly consumerTimeoutMs: number
  /** x-max-age of a stream. */
  readonly maxAgeMs: number
  /** x-stream-max-segment-size-bytes. */
  readonly segmentBytesMax: number
}

/** What a declaration says, with the arguments' meaning (RabbitMQ's names). */
export interface QueueOptions extends QueueSettings {
  readonly isDurable: boolean
  readonly isExclusive: boolean
  readonly isAutoDelete: boolean
  /** The config file named it. */
  readonly isConfigured: boolean
  /** As declared. */
  readonly arguments: FieldTable
  /** What was declared, when a policy changed something of it; null: this is what was declared. */
  readonly declared: QueueOptions | null
  /** It has a bound: `messagesMax` or `bytesMax`. That of a stream is its files' alone. */
  readonly isBounded: boolean
  /** A dead letter that nobody takes stays: at-least-once, which needs a queue that refuses when it is full. */
  readonly keepsLetters: boolean
  /** A new message is looked at: the queue has a bound, refuses duplicates, or is a stream. */
  readonly isGuarded: boolean
  /** x-queue-type. */
  readonly type: QueueType
  /** Consumers are told how often a message came back: with a limit, with delayed retry, or a quorum queue. */
  readonly countsDeliveries: boolean
  /** x-max-priority; 0 = it has no priorities. */
  readonly priorityMax: number
  /** x-single-active-consumer. */
  readonly hasSingleActiveConsumer: boolean
  /** x-message-deduplication. */
  readonly deduplicates: boolean
}

export interface QueueFlags {
  readonly isDurable: boolean
  readonly isExclusive: boolean
  readonly isAutoDelete: boolean
  readonly isConfigured: boolean
}

/** Never throws: see `checkQueueArguments`. Queues without arguments share their options. */
export function queueOptions(flags: QueueFlags, table: FieldTable): QueueOptions {
  if (table.length > 0) return read(flags, table)
  const { isDurable, isExclusive, isAutoDelete, isConfigured } = flags
  const bits =
    (isDurable ? 1 : 0) | (isExclusive ? 2 : 0) | (isAutoDelete ? 4 : 0) | (isConfigured ? 8 : 0)
  PLAIN[bits] ??= read(flags, EMPTY_TABLE)
  return PLAIN[bits]
}

const PLAIN: (QueueOptions | undefined)[] = []

function read(flags: QueueFlags, table: FieldTable): QueueOptions {
  const messagesMax = numberIn(table, 'x-max-length', -1)
  const bytesMax = numberIn(table, 'x-max-length-bytes', -1)
  const overflow = textIn(table, 'x-overflow')
  const deliveryLimit = numberIn(table, 'x-delivery-limit', -1)
  const deduplicates = isTrueIn(table, 'x-message-deduplication')
  const type = typeIn(table)
  const maxAge = textIn(table, 'x-max-age')
  const retryMinMs = numberIn(table, 'x-delayed-retry-min', -1)
  const settings = {
    overflow: overflowOf(overflow),
    deadLetterExchange: textIn(table, 'x-dead-letter-exchange'),
    deadLetterStrategy: strategyOf(textIn(table, 'x-dead-letter-strategy'))
  }
  return {
    ...settings,
    keepsLetters: keepsLetters(settings),
    retryType: retryTypeIn(table, retryMinMs),
    retryMinMs,
    retryMaxMs: numberIn(table, 'x-delayed-retry-max', -1),
    isDurable: flags.isDurable,
    isExclusive: flags.isExclusive,
    isAutoDelete: flags.isAutoDelete,
    isConfigured: flags.isConfigured,
    arguments: table,
    declared: null,
    messagesMax,
    bytesMax,
    isBounded: type !== 'stream' && (messagesMax >= 0 || bytesMax >= 0),
    isGuarded: messagesMax >= 0 || bytesMax >= 0 || deduplicates || type === 'stream',
    messageTtlMs: numberIn(table, 'x-message-ttl', -1),
    expiresMs: numberIn(table, 'x-expires', 0),
    deadLetterKey: textIn(table, 'x-dead-letter-routing-key'),
    deliveryLimit,
    countsDeliveries: countsDeliveries({
      deliveryLimit,
      type,
      retryType: retryTypeIn(table, retryMinMs)
    }),
    consumerTimeoutMs: numberIn(table, 'x-consumer-timeout', -1),
    maxAgeMs: maxAge === null ? -1 : (durationMs(maxAge) ?? -1),
    segmentBytesMax: numberIn(table, 'x-stream-max-segment-size-bytes', -1),
    type,
    priorityMax: numberIn(table, 'x-max-priority', 0),
    hasSingleActiveConsumer: isTrueIn(table, 'x-single-active-consumer'),
    deduplicates
  }
}

/** What holds for a queue when a policy is applied to it. `declared` keeps what its declaration said. */
export function withSettings(
  declared: QueueOptions,
  settings: Partial<QueueSettings>
): QueueOptions {
  const merged = { ...declared, ...settings, declared }
  const hasBound = merged.messagesMax >= 0 || merged.bytesMax >= 0
  const isBounded = merged.type !== 'stream' && hasBound
  return {
    ...merged,
    isBounded,
    isGuarded: isBounded || merged.deduplicates || merged.type === 'stream',
    keepsLetters: keepsLetters(merged),
    countsDeliveries: countsDeliveries(merged)
  }
}

function overflowOf(text: string | null): Overflow {
  return text === 'reject-publish' || text === 'reject-publish-dlx' ? text : 'drop-head'
}

function strategyOf(text: string | null): DeadLetterStrategy {
  return text === 'at-least-once' ? text : 'at-most-once'
}

/** Without a type, a time alone asks for it (as LavinMQ takes it). */
function retryTypeIn(table: FieldTable, minMs: number): RetryType {
  const text = textIn(table, 'x-delayed-retry-type')
  return RETRY_TYPES.find(type => type === text) ?? (minMs < 0 ? 'disabled' : 'all')
}

/** As in RabbitMQ, at-least-once holds only where the queue refuses: else letters that wait would push it over its bound. */
function keepsLetters(
  settings: Pick<QueueSettings, 'overflow' | 'deadLetterExchange' | 'deadLetterStrategy'>
): boolean {
  return (
    settings.deadLetterStrategy === 'at-least-once' &&
    settings.overflow === 'reject-publish' &&
    settings.deadLetterExchange !== null
  )
}

function countsDeliveries(of: Pick<QueueOptions, 'deliveryLimit' | 'type' | 'retryType'>): boolean {
  return of.deliveryLimit >= 0 || of.type === 'quorum' || of.retryType !== 'disabled'
}

/** What was declared: what a declaration is compared with, and what is written and exported. */
export function declaredOptions(options: QueueOptions): QueueOptions {
  return options.declared ?? options
}

function typeIn(table: FieldTable): QueueType {
  const type = textIn(table, 'x-queue-type')
  return type === 'quorum' || type === 'stream' ? type : 'classic'
}

function numberIn(table: FieldTable, name: string, none: number): number {
  const value = fieldOf(table, name)
  const number = value === null ? null : integerOf(value)
  return number === null || number < 0 ? none : number
}

function textIn(table: FieldTable, name: string): string | null {
  const value = fieldOf(table, name)
  return value?.type === 'S' ? value.value : null
}

function isTrueIn(table: FieldTable, name: string): boolean {
  const value = fieldOf(table, name)
  return value?.type === 't' && value.value
}

/** The queue of a session: its bounds are the session's. */
export function sessionQueueOptions(isDurable: boolean): QueueOptions {
  return isDurable ? LASTING : PASSING
}

const SESSION = { isExclusive: false, isAutoDelete: false, isConfigured: false }
const LASTING = queueOptions({ ...SESSION, isDurable: true }, EMPTY_TABLE)
const PASSING = queueOptions({ ...SESSION, isDurable: false }, EMPTY_TABLE)
