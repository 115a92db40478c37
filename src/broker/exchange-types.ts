/** The types that exchange.declare may name, and what their arguments must be. */
import { DEDUPLICATION_TYPE, wholeOf } from '../core/deduplication.ts'
import { BrokerError } from '../core/errors.ts'
import { DELAYED_TYPE, EXCHANGE_KINDS, type ExchangeKind } from '../core/exchange.ts'
import { type FieldTable, fieldOf } from '../core/field-table.ts'
import { CONSISTENT_HASH, checkHashArguments } from '../core/pick-binding.ts'

export const ALTERNATE = 'alternate-exchange'
const DELAYED_KIND = 'x-delayed-type'
/** 100 years: what is later is a mistake. */
const TTL_MAX_MS = 100 * 365 * 24 * 3_600_000
const KINDS: ReadonlySet<string> = new Set(EXCHANGE_KINDS)

/** How an exchange of this type routes. Throws RabbitMQ's words for what is no type. */
export function routingKind(type: string, table: FieldTable): ExchangeKind {
  if (type === DELAYED_TYPE) return delayedKind(table)
  if (type === DEDUPLICATION_TYPE) return 'fanout'
  if (type === CONSISTENT_HASH) checkHashArguments(table)
  if (KINDS.has(type)) return type as ExchangeKind
  throw precondition(`unknown exchange type '${type}'`)
}

function delayedKind(table: FieldTable): ExchangeKind {
  const value = fieldOf(table, DELAYED_KIND)
  if (value?.type !== 'S') {
    throw precondition("Invalid argument, 'x-delayed-type' must be an existing exchange type")
  }
  if (value.value === DEDUPLICATION_TYPE) {
    throw precondition(
      "Invalid argument, 'x-message-deduplication' can't be used for 'x-delayed-type'"
    )
  }
  if (value.value === DELAYED_TYPE) {
    throw precondition("Invalid argument, 'x-delayed-message' can't be used for 'x-delayed-type'")
  }
  return routingKind(value.value, table)
}

/** The arguments of an exchange of type `x-message-deduplication` make sense: the plugin's checks, with its words. */
export function checkCacheArguments(table: FieldTable, keysMax: number): void {
  const size = wholeOf(table, 'x-cache-size') ?? 0
  if (size < 1) {
    throw precondition(
      "Missing or invalid argument, 'x-cache-size' must be an integer greater than 0"
    )
  }
  if (size > keysMax) {
    throw precondition(`Invalid argument, 'x-cache-size' must not be greater than ${keysMax}`)
  }
  const ttl = fieldOf(table, 'x-cache-ttl')
  const ttlMs = wholeOf(table, 'x-cache-ttl') ?? 0
  if (ttl !== null && (ttlMs < 1 || ttlMs > TTL_MAX_MS)) {
    throw precondition("Invalid argument, 'x-cache-ttl' must be an integer greater than 0")
  }
  const persistence = fieldOf(table, 'x-cache-persistence')
  const isKnown = persistence?.value === 'memory' || persistence?.value === 'disk'
  if (persistence !== null && !isKnown) {
    throw precondition("Invalid argument, 'x-cache-persistence' must be either 'disk' or 'memory'")
  }
}

/** The arguments that a second declaration must give alike. */
export function isExchangeArgument(name: string): boolean {
  return name === ALTERNATE || name === DELAYED_KIND
}

function precondition(message: string): BrokerError {
  return new BrokerError('preconditionFailed', message, { kind: 'exchange' })
}
