/** The types that exchange.declare may name, and what their arguments must be. */
import { BrokerError } from '../core/errors.ts'
import { DELAYED_TYPE, EXCHANGE_KINDS, type ExchangeKind } from '../core/exchange.ts'
import { type FieldTable, fieldOf } from '../core/field-table.ts'
import { CONSISTENT_HASH, checkHashArguments } from '../core/pick-binding.ts'

export const ALTERNATE = 'alternate-exchange'
const DELAYED_KIND = 'x-delayed-type'
const KINDS: ReadonlySet<string> = new Set(EXCHANGE_KINDS)

/** How an exchange of this type routes. Throws RabbitMQ's words for what is no type. */
export function routingKind(type: string, table: FieldTable): ExchangeKind {
  if (type === DELAYED_TYPE) return delayedKind(table)
  if (type === CONSISTENT_HASH) checkHashArguments(table)
  if (KINDS.has(type)) return type as ExchangeKind
  throw precondition(`unknown exchange type '${type}'`)
}

function delayedKind(table: FieldTable): ExchangeKind {
  const value = fieldOf(table, DELAYED_KIND)
  if (value?.type !== 'S') {
    throw precondition("Invalid argument, 'x-delayed-type' must be an existing exchange type")
  }
  if (value.value === DELAYED_TYPE) {
    throw precondition("Invalid argument, 'x-delayed-message' can't be used for 'x-delayed-type'")
  }
  return routingKind(value.value, table)
}

/** The arguments that a second declaration must give alike. */
export function isExchangeArgument(name: string): boolean {
  return name === ALTERNATE || name === DELAYED_KIND
}

function precondition(message: string): BrokerError {
  return new BrokerError('preconditionFailed', message, { kind: 'exchange' })
}
