/** Exchanges: declared and deleted by AMQP clients and the admin API; refusals and tickets as in queues.ts. */
import { DEDUPLICATION_TYPE, KeyCache } from '../core/deduplication.ts'
import { DelayStore } from '../core/delay-store.ts'
import { BrokerError } from '../core/errors.ts'
import { DELAYED_TYPE, Exchange } from '../core/exchange.ts'
import { type FieldTable, fieldOf, fieldTypeName } from '../core/field-table.ts'
import type { Principal } from '../core/principal.ts'
import { writeExchange } from '../core/records/definitions.ts'
import { KIND } from '../core/records/kinds.ts'
import type { Vhost } from '../core/vhost.ts'
import { AWAITED } from '../journal/journal.ts'
import { append } from './append.ts'
import type { Broker } from './broker.ts'
import { endExchange } from './end-exchange.ts'
import { checkArguments, checkFlag } from './equivalence.ts'
import {
  ALTERNATE,
  checkCacheArguments,
  isExchangeArgument,
  routingKind
} from './exchange-types.ts'
import { governExchange } from './policies.ts'
import { queueClockOf } from './queue-clock.ts'
import { checkDisk, checkJournal, may, notFound, precondition, reserved } from './refusals.ts'
import { attachDelay } from './release-delayed.ts'

export interface DeclareExchange {
  name: string
  kind: string
  passive: boolean
  durable: boolean
  autoDelete: boolean
  internal: boolean
  arguments: FieldTable
  principal: Principal | null
}

export function declareExchange(
  broker: Broker,
  vhost: Vhost,
  request: DeclareExchange
): { exchange: Exchange; ticket: number } {
  const { name, principal } = request
  const kind = request.passive ? 'direct' : routingKind(request.kind, request.arguments)
  if (name === '') throw reserved('exchange', name, vhost)
  if (request.passive)
    return { exchange: lookupExchange(vhost, name), ticket: broker.definedTicket }
  may(principal, 'configure', 'exchange', name, vhost)
  const existing = vhost.exchanges.get(name)
  if (existing !== undefined) {
    const about = { kind: 'exchange', name, vhost: vhost.name }
    checkFlag(about, 'type', request.kind, existing.type)
    checkFlag(about, 'durable', request.durable, existing.isDurable)
    checkFlag(about, 'auto_delete', request.autoDelete, existing.isAutoDelete)
    checkFlag(about, 'internal', request.internal, existing.isInternal)
    checkArguments(about, request.arguments, existing.arguments, isExchangeArgument)
    return { exchange: existing, ticket: existing.isDurable ? broker.definedTicket : 0 }
  }
  if (name.startsWith('amq.')) throw reserved('exchange', name, vhost)
  if (request.kind === DEDUPLICATION_TYPE) {
    checkCacheArguments(request.arguments, broker.limits.deduplicationKeysMax)
  }
  checkAlternate(vhost, request)
  if (request.durable) checkDisk(broker)
  const exchange = new Exchange({
    name,
    kind,
    isDurable: request.durable,
    isAutoDelete: request.autoDelete,
    isInternal: request.internal,
    arguments: request.arguments,
    delay: request.kind === DELAYED_TYPE ? newDelayStore(broker, vhost, request) : null,
    cache: request.kind === DEDUPLICATION_TYPE ? newCache(broker, vhost, request) : null
  })
  broker.state.addExchange(vhost.name, exchange)
  governExchange(vhost, exchange)
  queueClockOf(broker).routesChanged()
  if (exchange.delay !== null) attachDelay(broker, exchange.delay)
  if (!request.durable) return { exchange, ticket: 0 }
  writeExchange(broker.writer, vhost.name, exchange)
  return { exchange, ticket: append(broker, KIND.exchange, AWAITED) }
}

function newDelayStore(broker: Broker, vhost: Vhost, request: DeclareExchange): DelayStore {
  return new DelayStore(broker.state.nextId, vhost.name, request.name, request.durable)
}

function newCache(broker: Broker, vhost: Vhost, request: DeclareExchange): KeyCache {
  const { name, durable, arguments: table } = request
  return new KeyCache(broker.state.nextId, vhost.name, name, durable, table)
}

/** What nobody may read must not leak through an alternate, nor reach where the user may not write. */
function checkAlternate(
  vhost: Vhost,
  { name, principal, arguments: table }: DeclareExchange
): void {
  const value = fieldOf(table, ALTERNATE)
  if (value === null) return
  if (value.type !== 'S') {
    const what = `invalid type '${fieldTypeName(value.type)}' for arg '${ALTERNATE}' in`
    throw new BrokerError(
      'argumentInvalid',
      `${what} exchange '${name}' in vhost '${vhost.name}'`,
      {
        name,
        argument: ALTERNATE
      }
    )
  }
  may(principal, 'read', 'exchange', name, vhost)
  may(principal, 'write', 'exchange', value.value, vhost)
}

/** Throws `notFound`. */
export function lookupExchange(vhost: Vhost, name: string): Exchange {
  const exchange = vhost.exchanges.get(name)
  if (exchange === undefined) throw notFound('exchange', name, vhost)
  return exchange
}

export function deleteExchange(
  broker: Broker,
  vhost: Vhost,
  name: string,
  request: { ifUnused: boolean; principal: Principal | null }
): { ticket: number } {
  if (name === '') throw reserved('exchange', name, vhost)
  if (name.startsWith('amq.')) {
    const message = `deletion of system exchange '${name}' in vhost '${vhost.name}' not allowed`
    throw new BrokerError('reserved', message, { kind: 'exchange', name, vhost: vhost.name })
  }
  may(request.principal, 'configure', 'exchange', name, vhost)
  const exchange = vhost.exchanges.get(name)
  if (exchange === undefined) return { ticket: broker.definedTicket }
  if (request.ifUnused && exchange.bindingCount > 0) {
    throw precondition('exchange', name, vhost, 'in use')
  }
  if (exchange.isDurable) checkJournal(broker)
  return { ticket: endExchange(broker, vhost, exchange) }
}
