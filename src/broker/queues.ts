/**
 * Queues: declared, purged and deleted by AMQP clients, the config file and the admin API. Cold: a refusal is
 * a thrown `BrokerError`. What is durable has a ticket, which the answer waits for; an answer that changes
 * nothing waits for what may have been changed just before.
 */
import { BrokerError } from '../core/errors.ts'
import type { FieldTable } from '../core/field-table.ts'
import type { Principal } from '../core/principal.ts'
import { heldSequences, messagesOf, waitingOf } from '../core/held.ts'
import { Queue } from '../core/queue.ts'
import { checkQueueArguments, isClassicIn, isQueueArgument } from '../core/queue-arguments.ts'
import { declaredOptions, queueOptions } from '../core/queue-options.ts'
import { writeQueue } from '../core/records/definitions.ts'
import { KIND } from '../core/records/kinds.ts'
import { writePurge } from '../core/records/settle.ts'
import type { Vhost } from '../core/vhost.ts'
import { AWAITED } from '../journal/journal.ts'
import { append } from './append.ts'
import type { Broker } from './broker.ts'
import { consumerCount } from './deliver.ts'
import { endQueue } from './end-queue.ts'
import { checkArguments, checkFlag } from './equivalence.ts'
import { checkStream, notOfStreams } from './stream-refusals.ts'
import { startStream } from './streams.ts'
import { governQueue } from './policies.ts'
import { isSharedName, sharedQueueNamed } from './group-takers.ts'
import { queueClockOf } from './queue-clock.ts'
import { used } from './queue-life.ts'
import {
  checkDisk,
  checkJournal,
  may,
  notFound,
  precondition,
  quota,
  reserved
} from './refusals.ts'
import { sessionQueueNamed } from './session-queues.ts'

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
    const found = existing === undefined ? clientsQueueNamed(vhost, name) : null
    // Which client ids there are is not for everybody.
    if (found !== null) may(principal, 'read', 'queue', name, vhost)
    return describe(broker, found ?? lookupQueue(vhost, name, owner))
  }
  const isReserved = name.startsWith('amq.') && request.isImported !== true
  if (isReserved) throw reserved('queue', name, vhost)
  if (existing === undefined && isSharedName(name) && request.isImported !== true) {
    throw reserved('queue', name, vhost, '$share/')
  }
  if (existing !== undefined) {
    may(principal, 'configure', 'queue', name, vhost)
    checkOwner(existing, owner)
    checkStream(broker, vhost, request, name)
    checkSame(existing, request)
    return describe(broker, existing)
  }
  const id = broker.state.nextId
  const ownName = name === '' ? `amq.gen-${broker.random(16).toString('base64url')}` : name
  may(principal, 'configure', 'queue', ownName, vhost)
  checkQueueArguments(request.arguments, ownName, vhost.name)
  checkStream(broker, vhost, request, ownName)
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
  if (options.type === 'stream') startStream(broker, queue)
  used(broker, queue)
  queueClockOf(broker).routesChanged()
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
  return { queue, ticket, messageCount: messagesOf(queue), consumerCount: consumerCount(queue) }
}

/** Throws `notFound`, or `locked` when it is exclusive to another connection. */
export function lookupQueue(vhost: Vhost, name: string, owner: object | null): Queue {
  const queue = vhost.queues.get(name)
  if (queue === undefined) {
    checkNoClients(vhost, name)
    throw notFound('queue', name, vhost)
  }
  checkOwner(queue, owner)
  return queue
}

/** A session's queue, or a shared subscription's. Null: neither has this name. */
function clientsQueueNamed(vhost: Vhost, name: string): Queue | null {
  return sessionQueueNamed(vhost, name) ?? sharedQueueNamed(vhost, name)
}

/** Their bindings and their content are their clients' alone. */
function checkNoClients(vhost: Vhost, name: string): void {
  if (clientsQueueNamed(vhost, name) === null) return
  const about = { kind: 'queue', name, vhost: vhost.name }
  throw new BrokerError('locked', `queue '${name}' is MQTT clients'`, about)
}

/** Throws `locked` when the queue is exclusive to another connection. */
export function checkOwner(queue: Queue, owner: object | null): void {
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
    checkNoClients(vhost, name)
    return { messageCount: 0, ticket: broker.definedTicket }
  }
  checkOwner(queue, request.owner)
  if (request.ifUnused && consumerCount(queue) > 0) {
    throw precondition('queue', name, vhost, 'in use')
  }
  const messageCount = waitingOf(queue)
  if (request.ifEmpty && messageCount > 0) throw precondition('queue', name, vhost, 'not empty')
  if (queue.isDurable) checkJournal(broker)
  return { messageCount, ticket: endQueue(broker, queue) }
}

/** Drops what is ready or held; what was delivered stays open. */
export function purgeQueue(
  broker: Broker,
  vhost: Vhost,
  name: string,
  request: { principal: Principal | null; owner: object | null }
): { messageCount: number; ticket: number } {
  may(request.principal, 'read', 'queue', name, vhost)
  const queue = lookupQueue(vhost, name, request.owner)
  if (queue.options.type === 'stream') throw notOfStreams('queue.purge', queue)
  const messageCount = waitingOf(queue)
  if (messageCount === 0)
    return { messageCount, ticket: queue.isDurable ? broker.definedTicket : 0 }
  if (queue.isDurable) checkJournal(broker)
  broker.counters.dropFrom(queue, 'purged', messageCount)
  if (queue.levels === null) return { messageCount, ticket: purge(broker, queue) }
  let ticket = 0
  for (const level of queue.levels.used) {
    if (level.count > 0) ticket = purge(broker, level)
  }
  return { messageCount, ticket }
}

/** Returns the ticket of its record, 0 when the queue is not on the disk. */
function purge(broker: Broker, queue: Queue): number {
  const upTo = queue.nextSequence - 1
  const open = queue.openSequences()
  for (const sequence of heldSequences(queue)) open.delete(sequence)
  broker.state.purge(queue, upTo, open)
  if (!queue.isDurable) return 0
  writePurge(broker.writer, queue.id, upTo, open)
  return append(broker, KIND.purge, AWAITED)
}

/** A connection ended: the queues that are exclusive to it end. */
export function connectionClosed(broker: Broker, owner: object): void {
  const queues = broker.exclusiveQueues.get(owner)
  if (queues === undefined) return
  broker.exclusiveQueues.delete(owner)
  for (const queue of queues) endQueue(broker, queue)
}
