/**
 * Policies: what an operator says about the queues and exchanges whose names match (RabbitMQ's rules). Of those
 * that match, the one with the highest priority holds, alone; an operator policy holds beside it. Per key, numbers
 * are the least of argument, policy and operator policy; else the argument goes before the policy.
 */
import { durationMs } from './duration.ts'
import { BrokerError } from './errors.ts'
import type { FieldTable } from './field-table.ts'
import { fieldOf } from './field-table.ts'
import {
  declaredOptions,
  type Overflow,
  type DeadLetterStrategy,
  type QueueOptions,
  type QueueType,
  type QueueSettings,
  RETRY_TYPES,
  type RetryType,
  withSettings
} from './queue-options.ts'

export const APPLIES_TO = [
  'queues',
  'classic_queues',
  'quorum_queues',
  'streams',
  'exchanges',
  'all'
] as const
export type AppliesTo = (typeof APPLIES_TO)[number]

export type PolicyValue = string | number | boolean | readonly unknown[]

/** As it is declared, kept and exported. */
export interface PolicyFields {
  readonly name: string
  readonly pattern: string
  readonly applyTo: AppliesTo
  readonly priority: number
  readonly definition: Readonly<Record<string, PolicyValue>>
  readonly isOperator: boolean
}

/** Why a value cannot be; null: it can. */
type Check = (value: unknown) => string | null

const MS_MAX = 100 * 365 * 24 * 3_600_000
const NAME_BYTES_MAX = 255

const whole =
  (min: number, max = Number.MAX_SAFE_INTEGER): Check =>
  value =>
    Number.isSafeInteger(value) && (value as number) >= min && (value as number) <= max
      ? null
      : `is no whole number from ${min}`
const text: Check = value => (typeof value === 'string' ? null : 'is no text')
const oneOf =
  (...words: readonly string[]): Check =>
  value =>
    words.includes(value as string) ? null : `is not one of ${words.join(', ')}`
const any: Check = () => null
const span: Check = value =>
  typeof value === 'string' && durationMs(value) !== null ? null : 'is no span of time such as 7D'

/** What means something here. */
const SERVED: Readonly<Record<string, Check>> = {
  'message-ttl': whole(0, MS_MAX),
  expires: whole(1, MS_MAX),
  'max-length': whole(0),
  'max-length-bytes': whole(0),
  'max-age': span,
  'stream-max-segment-size-bytes': whole(0),
  'delivery-limit': whole(-1),
  'consumer-timeout': whole(0, MS_MAX),
  'dead-letter-strategy': oneOf('at-most-once', 'at-least-once'),
  'delayed-retry-type': oneOf(...RETRY_TYPES),
  'delayed-retry-min': whole(1, MS_MAX),
  'delayed-retry-max': whole(1, MS_MAX),
  overflow: oneOf('drop-head', 'reject-publish', 'reject-publish-dlx'),
  'dead-letter-exchange': text,
  'dead-letter-routing-key': text,
  'alternate-exchange': text
}

/** What RabbitMQ knows and has no meaning in one broker on one log: taken, kept, shown, without effect. */
const WITHOUT_EFFECT: Readonly<Record<string, Check>> = {
  'queue-mode': oneOf('default', 'lazy'),
  'queue-version': any,
  'queue-master-locator': text,
  'queue-leader-locator': text,
  'initial-cluster-size': whole(1),
  'target-group-size': whole(1),
  'max-in-memory-length': whole(0),
  'max-in-memory-bytes': whole(0),
  'stream-filter-size-bytes': whole(0),
  'ha-mode': text,
  'ha-params': any,
  'ha-sync-mode': text,
  'ha-sync-batch-size': whole(1),
  'ha-promote-on-shutdown': text,
  'ha-promote-on-failure': text,
  'federation-upstream': text,
  'federation-upstream-set': text
}

const OPERATOR_KEYS: ReadonlySet<string> = new Set([
  'message-ttl',
  'expires',
  'max-length',
  'max-length-bytes',
  'max-in-memory-length',
  'max-in-memory-bytes',
  'delivery-limit'
])

/** Keys of a definition that change nothing here. */
export function keysWithoutEffect(definition: PolicyFields['definition']): string[] {
  return Object.keys(definition).filter(key => Object.hasOwn(WITHOUT_EFFECT, key))
}

export class Policy implements PolicyFields {
  readonly name: string
  readonly pattern: string
  readonly applyTo: AppliesTo
  readonly priority: number
  readonly definition: PolicyFields['definition']
  readonly isOperator: boolean
  /** Null: what an earlier version took is no expression to this one; it matches nothing. */
  readonly #expression: RegExp | null

  constructor(fields: PolicyFields) {
    this.name = fields.name
    this.pattern = fields.pattern
    this.applyTo = fields.applyTo
    this.priority = fields.priority
    this.definition = fields.definition
    this.isOperator = fields.isOperator
    this.#expression = compile(fields.pattern)
  }

  matches(kind: QueueType | 'exchange', name: string): boolean {
    const { applyTo } = this
    const isFor =
      applyTo === 'all' ||
      (kind === 'exchange'
        ? applyTo === 'exchanges'
        : applyTo === 'queues' || applyTo === (kind === 'stream' ? 'streams' : `${kind}_queues`))
    return isFor && (this.#expression?.test(name) ?? false)
  }
}

function compile(pattern: string): RegExp | null {
  try {
    return new RegExp(pattern)
  } catch (error) {
    if (error instanceof SyntaxError) return null
    throw error
  }
}

/** Throws `argumentInvalid` for what makes no sense. */
export function checkPolicy(fields: PolicyFields): void {
  const { name, pattern, definition, priority, isOperator } = fields
  if (name === '' || Buffer.byteLength(name) > NAME_BYTES_MAX) {
    throw invalid(`a policy's name has 1 to ${NAME_BYTES_MAX} bytes`)
  }
  if (compile(pattern) === null)
    throw invalid(`${JSON.stringify(pattern)} is no regular expression`)
  if (!Number.isSafeInteger(priority)) throw invalid('the priority is no whole number')
  const entries = Object.entries(definition)
  if (entries.length === 0) throw invalid('the definition is empty')
  for (const [key, value] of entries) {
    const check = checkOf(key)
    const isKnown = check !== null && (!isOperator || OPERATOR_KEYS.has(key))
    if (!isKnown)
      throw invalid(`${key} is no key of ${isOperator ? 'an operator policy' : 'a policy'}`)
    const wrong = check(value)
    if (wrong !== null) throw invalid(`${key}: ${JSON.stringify(value)} ${wrong}`)
  }
}

function checkOf(key: string): Check | null {
  if (Object.hasOwn(SERVED, key)) return SERVED[key]!
  return Object.hasOwn(WITHOUT_EFFECT, key) ? WITHOUT_EFFECT[key]! : null
}

function invalid(message: string): BrokerError {
  return new BrokerError('argumentInvalid', message)
}

/** Of several that match, the one with the highest priority; of those alike, the first by name. */
export function strongest(
  policies: ReadonlyMap<string, Policy>,
  kind: QueueType | 'exchange',
  name: string
): Policy | null {
  let found: Policy | null = null
  for (const policy of policies.values()) {
    if (!policy.matches(kind, name)) continue
    const isStronger =
      found === null ||
      policy.priority > found.priority ||
      (policy.priority === found.priority && policy.name < found.name)
    if (isStronger) found = policy
  }
  return found
}

const NUMBERS = [
  ['max-length', 'x-max-length', 'messagesMax', -1],
  ['max-length-bytes', 'x-max-length-bytes', 'bytesMax', -1],
  ['message-ttl', 'x-message-ttl', 'messageTtlMs', -1],
  ['expires', 'x-expires', 'expiresMs', 0],
  ['delivery-limit', 'x-delivery-limit', 'deliveryLimit', -1],
  ['stream-max-segment-size-bytes', 'x-stream-max-segment-size-bytes', 'segmentBytesMax', -1]
] as const

/** What of these a stream has; another queue has all but the size of segments. */
const NUMBERS_OF_STREAMS: ReadonlySet<string> = new Set([
  'max-length-bytes',
  'stream-max-segment-size-bytes'
])

/** What holds for a queue under its policies; what was declared itself when they change nothing of it. */
export function optionsUnder(
  options: QueueOptions,
  policy: Policy | null,
  operatorPolicy: Policy | null
): QueueOptions {
  const declared = declaredOptions(options)
  if (policy === null && operatorPolicy === null) return declared
  const settings: { -readonly [K in keyof QueueSettings]?: QueueSettings[K] } = {}
  const definitions = [policy?.definition, operatorPolicy?.definition]
  const isStream = declared.type === 'stream'
  for (const [key, argument, field, none] of NUMBERS) {
    if (isStream && !NUMBERS_OF_STREAMS.has(key)) continue
    const values: number[] = []
    if (fieldOf(declared.arguments, argument) !== null) values.push(declared[field])
    for (const definition of definitions) {
      const value = definition?.[key]
      if (typeof value === 'number') values.push(value)
    }
    const least = leastOf(values, none)
    if (least !== declared[field]) settings[field] = least
  }
  if (isStream) {
    const age = policy?.definition['max-age']
    const theirs = typeof age === 'string' ? (durationMs(age) ?? -1) : -1
    const maxAgeMs = leastOf([declared.maxAgeMs, theirs], -1)
    if (maxAgeMs !== declared.maxAgeMs) settings.maxAgeMs = maxAgeMs
  } else if (policy !== null) takeTexts(declared.arguments, policy.definition, settings)
  return Object.keys(settings).length === 0 ? declared : withSettings(declared, settings)
}

/** A value that stands for "none" is more than any other. */
function leastOf(values: readonly number[], none: number): number {
  const bounds = values.filter(value => value !== none)
  return bounds.length === 0 ? none : Math.min(...bounds)
}

function takeTexts(
  table: FieldTable,
  definition: PolicyFields['definition'],
  settings: { -readonly [K in keyof QueueSettings]?: QueueSettings[K] }
): void {
  const take = (key: string): PolicyValue | undefined =>
    fieldOf(table, `x-${key}`) === null ? definition[key] : undefined
  const overflow = take('overflow')
  if (typeof overflow === 'string') settings.overflow = overflow as Overflow
  const exchange = take('dead-letter-exchange')
  if (typeof exchange === 'string') settings.deadLetterExchange = exchange
  const key = take('dead-letter-routing-key')
  if (typeof key === 'string') settings.deadLetterKey = key
  const timeout = take('consumer-timeout')
  if (typeof timeout === 'number') settings.consumerTimeoutMs = timeout
  const strategy = take('dead-letter-strategy')
  if (typeof strategy === 'string') settings.deadLetterStrategy = strategy as DeadLetterStrategy
  takeRetry(table, take, settings)
}

function takeRetry(
  table: FieldTable,
  take: (key: string) => PolicyValue | undefined,
  settings: { -readonly [K in keyof QueueSettings]?: QueueSettings[K] }
): void {
  const min = take('delayed-retry-min')
  if (typeof min === 'number') settings.retryMinMs = min
  const max = take('delayed-retry-max')
  if (typeof max === 'number') settings.retryMaxMs = max
  const type = take('delayed-retry-type')
  if (typeof type === 'string') settings.retryType = type as RetryType
  // A time alone asks for it here, too.
  else if (typeof min === 'number' && fieldOf(table, 'x-delayed-retry-type') === null) {
    settings.retryType = 'all'
  }
}
