/** Bindings of queues and of exchanges to exchanges: entered and removed; refusals and tickets as in queues.ts. */
import { BrokerError } from '../core/errors.ts'
import { Exchange } from '../core/exchange.ts'
import type { FieldTable } from '../core/field-table.ts'
import { mayBindingKey, mayFilter } from '../core/permissions.ts'
import type { Principal } from '../core/principal.ts'
import type { Queue } from '../core/queue.ts'
import { writeBinding } from '../core/records/definitions.ts'
import { KIND } from '../core/records/kinds.ts'
import { bindingKeyToFilter } from '../core/topic.ts'
import type { Vhost } from '../core/vhost.ts'
import { AWAITED } from '../journal/journal.ts'
import { append } from './append.ts'
import type { Broker } from './broker.ts'
import { endUnused } from './end-exchange.ts'
import { lookupExchange } from './exchanges.ts'
import { checkOwner, lookupQueue } from './queues.ts'
import { queueClockOf } from './queue-clock.ts'
import { checkDisk, may, quota, reserved } from './refusals.ts'

export interface BindQueue {
  queue: string
  exchange: string
  /** In AMQP form. */
  key: string
  arguments: FieldTable
  principal: Principal | null
  owner: object | null
}

export function bindQueue(broker: Broker, vhost: Vhost, request: BindQueue): { ticket: number } {
  may(request.principal, 'write', 'queue', request.queue, vhost)
  may(request.principal, 'read', 'exchange', request.exchange, vhost)
  const exchange = lookupExchange(vhost, request.exchange)
  const queue = lookupQueue(vhost, request.queue, request.owner)
  mayBindFrom(vhost, exchange, request)
  return changeBinding(broker, vhost, exchange, queue, request.key, request.arguments, true)
}

/** A binding that is not there is removed already. */
export function unbindQueue(broker: Broker, vhost: Vhost, request: BindQueue): { ticket: number } {
  may(request.principal, 'write', 'queue', request.queue, vhost)
  may(request.principal, 'read', 'exchange', request.exchange, vhost)
  const queue = vhost.queues.get(request.queue)
  const exchange = vhost.exchanges.get(request.exchange)
  if (queue === undefined || exchange === undefined) return { ticket: broker.definedTicket }
  checkOwner(queue, request.owner)
  return changeBinding(broker, vhost, exchange, queue, request.key, request.arguments, false)
}

export interface BindExchange {
  destination: string
  source: string
  key: string
  arguments: FieldTable
  principal: Principal | null
}

export function bindExchange(
  broker: Broker,
  vhost: Vhost,
  request: BindExchange
): { ticket: number } {
  may(request.principal, 'write', 'exchange', request.destination, vhost)
  may(request.principal, 'read', 'exchange', request.source, vhost)
  const source = lookupExchange(vhost, request.source)
  const target = lookupExchange(vhost, request.destination)
  mayBindFrom(vhost, source, request)
  return changeBinding(broker, vhost, source, target, request.key, request.arguments, true)
}

/** Of a topic exchange also what the binding would let through must be readable, as for a subscription. */
function mayBindFrom(
  vhost: Vhost,
  source: Exchange,
  { principal, key }: { principal: Principal | null; key: string }
): void {
  if (source.kind !== 'topic' || principal === null || !principal.judgesTopics) return
  const hasRules = principal.topics.length > 0
  const isCovered = !hasRules || mayFilter(principal, bindingKeyToFilter(key), '') === 'all'
  if (isCovered && mayBindingKey(principal, source.name, key)) return
  const what = `read access to topic '${key}' in exchange '${source.name}' in vhost '${vhost.name}'`
  throw new BrokerError('notAuthorized', `${what} refused for user '${principal.name}'`)
}

export function unbindExchange(
  broker: Broker,
  vhost: Vhost,
  request: BindExchange
): { ticket: number } {
  may(request.principal, 'write', 'exchange', request.destination, vhost)
  may(request.principal, 'read', 'exchange', request.source, vhost)
  const target = vhost.exchanges.get(request.destination)
  const source = vhost.exchanges.get(request.source)
  if (target === undefined || source === undefined) return { ticket: broker.definedTicket }
  return changeBinding(broker, vhost, source, target, request.key, request.arguments, false)
}

function changeBinding(
  broker: Broker,
  vhost: Vhost,
  source: Exchange,
  target: Queue | Exchange,
  key: string,
  table: FieldTable,
  isBind: boolean
): { ticket: number } {
  if (source.name === '' || (target instanceof Exchange && target.name === '')) {
    throw reserved('exchange', '', vhost)
  }
  if (isBind && vhost.bindingCount >= broker.limits.bindingsMax) throw quota('bindings', vhost)
  const isDurable = source.isDurable && target.isDurable
  if (isDurable) checkDisk(broker)
  const isChanged = broker.state.changeBinding(vhost, source, target, key, table, isBind)
  if (isBind) queueClockOf(broker).routesChanged()
  if (!isDurable) {
    if (!isBind) endUnused(broker, vhost)
    return { ticket: 0 }
  }
  if (!isChanged) return { ticket: broker.definedTicket }
  writeBinding(broker.writer, vhost.name, source, target, key, table)
  const ticket = append(broker, isBind ? KIND.bind : KIND.unbind, AWAITED)
  if (!isBind) endUnused(broker, vhost)
  return { ticket }
}
