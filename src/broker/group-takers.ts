/**
 * AMQP consumers of a shared subscription (docs/decisions/0021): they consume its queue under the name that MQTT
 * clients subscribe to, `$share/NAME/FILTER`, in turn with the members. Consuming is subscribing: a group that is
 * not there begins with it, and one without members ends with its last consumer.
 */
import { BrokerError } from '../core/errors.ts'
import { mayBindingKey, mayFilter } from '../core/permissions.ts'
import type { Principal } from '../core/principal.ts'
import type { Queue } from '../core/queue.ts'
import type { SharedGroup } from '../core/shared-group.ts'
import { filterToBindingKey, isDollarTopic, parseSharedFilter } from '../core/topic.ts'
import { MQTT_EXCHANGE, type Vhost } from '../core/vhost.ts'
import type { Broker } from './broker.ts'
import { consumersOf } from './deliver.ts'
import { judgeGroup } from './group-life.ts'
import { may, quota } from './refusals.ts'
import { createdGroup } from './shared-groups.ts'

/** The name of a queue that a shared subscription has, or would have. */
export function isSharedName(name: string): boolean {
  return name.startsWith('$share/')
}

/** Null: there is no such group, or a declared queue has that name. */
export function sharedQueueNamed(vhost: Vhost, name: string): Queue | null {
  if (!isSharedName(name) || vhost.queues.has(name)) return null
  return vhost.groups.get(name)?.queue ?? null
}

/**
 * The same for whoever wants to take from it: throws `notAuthorized` unless all that the filter matches may be
 * read, as for a binding. With `begins` a group that is not there is made; then `consume` follows, or `endUnused`.
 */
export function takeableQueue(
  broker: Broker,
  vhost: Vhost,
  name: string,
  principal: Principal,
  begins: boolean
): Queue | null {
  if (!isSharedName(name) || vhost.queues.has(name)) return null
  const shared = parseSharedFilter(name, broker.limits)
  if (shared === null || shared === 'invalid') return null
  may(principal, 'read', 'exchange', MQTT_EXCHANGE, vhost)
  mayTake(vhost, shared.filter, principal)
  const group = vhost.groups.get(name) ?? (begins ? createdGroup(broker, vhost, name) : undefined)
  if (group === undefined) return null
  if (group === null) throw quota('queues', vhost)
  if (begins && group.takerCount >= broker.limits.sharedMembersMax) throw quota('consumers', vhost)
  return group.queue
}

/** Nobody judges message by message what an AMQP consumer gets. `$` topics are for no AMQP client. */
function mayTake(vhost: Vhost, filter: string, principal: Principal): void {
  const key = filterToBindingKey(filter)
  const isCovered = principal.topics.length === 0 || mayFilter(principal, filter, '') === 'all'
  const isJudged = principal.judgesTopics
  if (!isDollarTopic(filter)) {
    if (!isJudged || (isCovered && mayBindingKey(principal, MQTT_EXCHANGE, key))) return
  }
  const what = `read access to topic '${key}' in exchange '${MQTT_EXCHANGE}' in vhost '${vhost.name}'`
  throw new BrokerError('notAuthorized', `${what} refused for user '${principal.name}'`)
}

/** Nobody consumes it after all: a group that was made for that ends. */
export function endUnused(broker: Broker, queue: Queue): void {
  const group = broker.state.groups.get(queue.id)
  if (group !== undefined) judgeGroup(broker, group)
}

/** An AMQP consumer of the group's queue is there. */
export function addTaker(broker: Broker, group: SharedGroup): void {
  group.takers++
  broker.state.enterGroup(group)
}

/** It is gone; what it was sent and gives back goes to the others, if there are any. */
export function removeTaker(broker: Broker, group: SharedGroup): void {
  group.takers--
  broker.state.enterGroup(group)
  judgeGroup(broker, group)
  const { queue } = group
  // Members that let it have what they may not read wait for nobody any more.
  if (!queue.isDeleted && queue.readyCount > 0) consumersOf(broker, queue).schedule()
}
