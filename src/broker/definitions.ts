/**
 * Queues, exchanges and bindings: declared, changed and deleted by AMQP clients, the config file and
 * the admin API. Cold: a refusal is a thrown `BrokerError`. What is durable has a ticket, which the
 * answer waits for; an answer that changes nothing waits for what may have been changed just before.
 */
import { DelayStore } from '../core/delay-store.ts'
import { BrokerError } from '../core/errors.ts'
import { DELAYED_TYPE, Exchange } from '../core/exchange.ts'
import { type FieldTable, fieldOf, fieldTypeName } from '../core/field-table.ts'
import { mayBindingKey, mayFilter, mayResource, type ResourceAccess } from '../core/permissions.ts'
import type { Principal } from '../core/principal.ts'
import { Queue, readyOf } from '../core/queue.ts'
import { checkQueueArguments, isClassicIn, isQueueArgument } from '../core/queue-arguments.ts'
import { declaredOptions, queueOptions } from '../core/queue-options.ts'
import { writeBinding, writeExchange, writeQueue } from '../core/records/definitions.ts'
import { KIND } from '../core/records/kinds.ts'
import { writePurge } from '../core/records/settle.ts'
import { bindingKeyToFilter } from '../core/topic.ts'
import type { Vhost } from '../core/vhost.ts'
import { AWAITED } from '../journal/journal.ts'
import { append } from './append.ts'
import type { Broker } from './broker.ts'
import { consumerCount } from './deliver.ts'
import { endExchange, endUnused } from './end-exchange.ts'
import { endQueue } from './end-queue.ts'
import { governExchange, governQueue } from './policies.ts'
import { sessionQueueNamed } from './session-queues.ts'
import { checkArguments, checkFlag } from './equivalence.ts'
import { used } from './queue-life.ts'
import { ALTERNATE, isExchangeArgument, routingKind } from './exchange-types.ts'
import { attachDelay } from './release-delayed.ts'

export interface DeclareQueue {
  /** '' = the broker makes a name. */
  name: string
  passive: boolean
  durable: boolean
  exclusive: boolean
  autoDelete: boolean
  arguments: FieldTable
  /** Null: the operator, who may do everything. */
  principal: Principal | null
  /** The connection, for what is exclusive to it. */
  owner: object | null
  /** The config file names it. */
  isConfigured?: boolean
  /** A broker that gave it this name exported it: also a reserved one. */
  isImported?: boolean
}

export interface DeclaredQueue {
  queue: Queue
  ticket: number
  messageCount: number
  consumerCount: number
}

export function declareQueue(broker: Broker, vhost: Vhost, request: DeclareQueue): DeclaredQueue {
  const { name, owner, principal } = request
  const existing = name === '' ? undefined : vhost.queues.get(name)
  if (request.passive) {
    const found = existing === undefined ? sessionQueueNamed(vhost, name) : null
    // Which client ids there are is not for everybody.
    if (found !== null) may(principal, 'read', 'queue', name, vhost)
    return describe(broker, found ?? lookupQueue(vhost, name, owner))
  }
  const isReserved = name.startsWith('amq.') && request.isImported !== true
  if (isReserved) throw reserved('queue', name, vhost)
  if (existing !== undefined) {
    may(principal, 'configure', 'queue', name, vhost)
    checkOwner(existing, owner)
    checkSame(existing, request)
    return describe(broker, existing)
  }
  const id = broker.state.nextId
  const ownName = name === '' ? `amq.gen-${broker.random(16).toString('base64url')}` : name
  may(principal, 'configure', 'queue', ownName, vhost)
  checkQueueArguments(request.arguments, ownName, vhost.name)
  const options = queueOptions(
    {
      isDurable: request.durable && !request.exclusive,
      isExclusive: request.exclusive,
      isAutoDelete: request.autoDelete,
      isConfigured: request.isConfigured ?? false
    },
    request.arguments
  )
  if (options.deadLetterExchange !== null) {
    may(principal, 'read', 'queue', ownName, vhost)
    may(principal, 'write', 'exchange', options.deadLetterExchange, vhost)
  }
  if (broker.state.queues.size >= broker.limits.queuesMax) throw quota('queues', vhost)
  if (options.isDurable) checkDisk(broker)
  const queue = new Queue(id, ownName, vhost.name, options, false)
  if (request.exclusive && owner !== null) makeExclusive(broker, queue, owner)
  governQueue(vhost, queue)
  broker.state.addQueue(queue)
  used(broker, queue)
  broker.events.emit('queueDeclared', { vhost: vhost.name, name: ownName })
  let ticket = 0
  if (options.isDurable) {
    writeQueue(broker.writer, queue)
    ticket = append(broker, KIND.queue, AWAITED)
  }
  return { queue, ticket, messageCount: 0, consumerCount: 0 }
}

function makeExclusive(broker: Broker, queue: Queue, owner: object): void {
  queue.owner = owner
  const queues = broker.exclusiveQueues.get(owner)
  if (queues === undefined) broker.exclusiveQueues.set(owner, new Set([queue]))
  else queues.add(queue)
}

function describe(broker: Broker, queue: Queue): DeclaredQueue {
  used(broker, queue)
  // An earlier declaration may not be durable yet: what is answered must be.
  const ticket = queue.isDurable ? broker.definedTicket : 0
  return { queue, ticket, messageCount: readyOf(queue), consumerCount: consumerCount(queue) }
}

/** Throws `notFound`, or `locked` when it is exclusive to another connection. */
export function lookupQueue(vhost: Vhost, name: string, owner: object | null): Queue {
  const queue = vhost.queues.get(name)
  if (queue === undefined) {
    checkNoSession(vhost, name)
    throw notFound('queue', name, vhost)
  }
  checkOwner(queue, owner)
  return queue
}

/** A session's queue is consumed, bound, purged and deleted by its client alone. */
function checkNoSession(vhost: Vhost, name: string): void {
  if (sessionQueueNamed(vhost, name) === null) return
  const about = { kind: 'queue', name, vhost: vhost.name }
  throw new BrokerError('locked', `queue '${name}' is an MQTT session's`, about)
}

/** Throws `notFound`. */
export function lookupExchange(vhost: Vhost, name: string): Exchange {
  const exchange = vhost.exchanges.get(name)
  if (exchange === undefined) throw notFound('exchange', name, vhost)
  return exchange
}

function checkOwner(queue: Queue, owner: object | null): void {
  if (queue.owner === null || queue.owner === owner) return
  const { name, vhost } = queue
  throw new BrokerError('locked', `queue '${name}' is exclusive to another connection`, {
    kind: 'queue',
    name,
    vhost
  })
}

/** Exclusive use is judged before everything else, as RabbitMQ does. */
function checkSame(queue: Queue, request: DeclareQueue): void {
  const about = { kind: 'queue', name: queue.name, vhost: queue.vhost }
  const options = declaredOptions(queue.options)
  if (request.exclusive !== options.isExclusive) {
    throw new BrokerError('locked', `queue '${queue.name}' is not declared like this`, about)
  }
  checkFlag(about, 'durable', request.durable && !request.exclusive, options.isDurable)
  checkFlag(about, 'auto_delete', request.autoDelete, options.isAutoDelete)
  // No type is the classic one.
  const isClassic = options.type === 'classic' && isClassicIn(request.arguments)
  checkArguments(about, request.arguments, options.arguments, argument =>
    argument === 'x-queue-type' ? !isClassic : isQueueArgument(argument)
  )
}

export interface DeleteQueue {
  ifUnused: boolean
  ifEmpty: boolean
  principal: Principal | null
  owner: object | null
}

/** A queue that is not there is deleted already: 0. */
export function deleteQueue(
  broker: Broker,
  vhost: Vhost,
  name: string,
  request: DeleteQueue
): { messageCount: number; ticket: number } {
  may(request.principal, 'configure', 'queue', name, vhost)
  const queue = vhost.queues.get(name)
  if (queue === undefined) {
    checkNoSession(vhost, name)
    return { messageCount: 0, ticket: broker.definedTicket }
  }
  checkOwner(queue, request.owner)
  if (request.ifUnused && consumerCount(queue) > 0) {
    throw precondition('queue', name, vhost, 'in use')
  }
  if (request.ifEmpty && readyOf(queue) > 0) throw precondition('queue', name, vhost, 'not empty')
  if (queue.isDurable) checkJournal(broker)
  const messageCount = readyOf(queue)
  return { messageCount, ticket: endQueue(broker, queue) }
}

/** Drops what is ready; what was delivered stays open. */
export function purgeQueue(
  broker: Broker,
  vhost: Vhost,
  name: string,
  request: { principal: Principal | null; owner: object | null }
): { messageCount: number; ticket: number } {
  may(request.principal, 'read', 'queue', name, vhost)
  const queue = lookupQueue(vhost, name, request.owner)
  const messageCount = readyOf(queue)
  if (messageCount === 0)
    return { messageCount, ticket: queue.isDurable ? broker.definedTicket : 0 }
  if (queue.isDurable) checkJournal(broker)
  broker.counters.dropFrom(name, 'purged', messageCount)
  if (queue.levels === null) return { messageCount, ticket: purge(broker, queue) }
  let ticket = 0
  for (const level of queue.levels.used) {
    if (level.readyCount > 0) ticket = purge(broker, level)
  }
  return { messageCount, ticket }
}

/** Returns the ticket of its record, 0 when the queue is not on the disk. */
function purge(broker: Broker, queue: Queue): number {
  const upTo = queue.nextSequence - 1
  const open = queue.openSequences()
  broker.state.purge(queue, upTo, open)
  if (!queue.isDurable) return 0
  writePurge(broker.writer, queue.id, upTo, open)
  return append(broker, KIND.purge, AWAITED)
}

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
  checkAlternate(vhost, request)
  if (request.durable) checkDisk(broker)
  const exchange = new Exchange({
    name,
    kind,
    isDurable: request.durable,
    isAutoDelete: request.autoDelete,
    isInternal: request.internal,
    arguments: request.arguments,
    delay: request.kind === DELAYED_TYPE ? newDelayStore(broker, vhost, request) : null
  })
  broker.state.addExchange(vhost.name, exchange)
  governExchange(vhost, exchange)
  if (exchange.delay !== null) attachDelay(broker, exchange.delay)
  if (!request.durable) return { exchange, ticket: 0 }
  writeExchange(broker.writer, vhost.name, exchange)
  return { exchange, ticket: append(broker, KIND.exchange, AWAITED) }
}

function newDelayStore(broker: Broker, vhost: Vhost, request: DeclareExchange): DelayStore {
  return new DelayStore(broker.state.nextId, vhost.name, request.name, request.durable)
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

/** A connection ended: the queues that are exclusive to it end. */
export function connectionClosed(broker: Broker, owner: object): void {
  const queues = broker.exclusiveQueues.get(owner)
  if (queues === undefined) return
  broker.exclusiveQueues.delete(owner)
  for (const queue of queues) endQueue(broker, queue)
}

function checkDisk(broker: Broker): void {
  if (broker.refusal === 0) return
  const code = broker.journal.failed ? 'journalFailed' : 'diskAlarm'
  throw new BrokerError(code, 'nothing durable can be declared: the disk is full or failed')
}

/** What a restart would bring back is not taken away: a full disk is no reason, a failed journal is. */
function checkJournal(broker: Broker): void {
  if (broker.journal.failed) checkDisk(broker)
}

function may(
  principal: Principal | null,
  access: ResourceAccess,
  kind: 'queue' | 'exchange',
  name: string,
  vhost: Vhost
): void {
  if (principal === null || mayResource(principal, access, name)) return
  const what = `${access} access to ${kind} '${name}' in vhost '${vhost.name}'`
  throw new BrokerError('notAuthorized', `${what} refused for user '${principal.name}'`, {
    kind,
    name,
    vhost: vhost.name
  })
}

function notFound(kind: string, name: string, vhost: Vhost): BrokerError {
  const message = `no ${kind} '${name}' in vhost '${vhost.name}'`
  return new BrokerError('notFound', message, { kind, name, vhost: vhost.name })
}

function reserved(kind: string, name: string, vhost: Vhost): BrokerError {
  const message =
    name === ''
      ? 'operation not permitted on the default exchange'
      : `${kind} name '${name}' contains reserved prefix 'amq.*'`
  return new BrokerError('reserved', message, { kind, name, vhost: vhost.name })
}

function precondition(kind: string, name: string, vhost: Vhost, why: string): BrokerError {
  const message = `${kind} '${name}' in vhost '${vhost.name}' ${why}`
  return new BrokerError('preconditionFailed', message, { kind, name, vhost: vhost.name })
}

function quota(what: string, vhost: Vhost): BrokerError {
  const message = `no more ${what} in vhost '${vhost.name}': the limit is reached`
  return new BrokerError('quotaExceeded', message, { kind: what, name: '', vhost: vhost.name })
}
