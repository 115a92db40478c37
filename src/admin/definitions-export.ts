/** All that is declared, in RabbitMQ's JSON: a RabbitMQ loads it, and so do we, without a loss. */
import type { Broker } from '../broker/broker.ts'
import { Exchange } from '../core/exchange.ts'
import type { User } from '../core/principal.ts'
import type { Queue } from '../core/queue.ts'
import { declaredOptions } from '../core/queue-options.ts'
import type { Vhost } from '../core/vhost.ts'
import { VERSION } from '../lib/version.ts'
import type { JsonObject } from './json-body.ts'
import { tableToJson } from './json-fields.ts'
import { listPolicies } from './policies.ts'

/** What we add to a user for ourselves; RabbitMQ passes over it. */
export const OUR_USER_KEY = 'motemq'
export const RABBIT_HASHES = {
  rabbit_password_hashing_sha256: 'rabbit-sha256$',
  rabbit_password_hashing_sha512: 'rabbit-sha512$'
} as const

export function exportDefinitions(
  broker: Broker,
  users: ReadonlyMap<string, User>,
  rabbitVersion: string
): JsonObject {
  const vhosts = [...broker.vhosts.values()]
  return {
    rabbit_version: rabbitVersion,
    rabbitmq_version: rabbitVersion,
    product_name: 'Motemq',
    product_version: VERSION,
    users: [...users.values()].map(exportUser),
    vhosts: vhosts.map(({ name, description, tags }) => {
      return { name, description, tags, metadata: { description, tags }, limits: [] }
    }),
    permissions: [...users.values()].flatMap(user =>
      user.resources.map(rule => ({ user: user.name, ...rule }))
    ),
    topic_permissions: [...users.values()].flatMap(user =>
      (user.topicPermissions ?? []).map(permission => ({ user: user.name, ...permission }))
    ),
    parameters: listPolicies(broker, true).map(({ vhost, name, ...value }) => {
      return { component: 'operator_policy', vhost, name, value }
    }),
    global_parameters: [],
    policies: listPolicies(broker, false),
    queues: vhosts.flatMap(exportQueues),
    exchanges: vhosts.flatMap(exportExchanges),
    bindings: vhosts.flatMap(exportBindings)
  }
}

/** A hash of ours says nothing to RabbitMQ, which takes the user as one without a password. */
function exportUser(user: User): JsonObject {
  const { name, tags, passwordHash, scram, topics } = user
  let algorithm = 'rabbit_password_hashing_sha256'
  let hash = ''
  for (const [rabbit, prefix] of Object.entries(RABBIT_HASHES)) {
    if (!passwordHash.startsWith(prefix)) continue
    algorithm = rabbit
    hash = passwordHash.slice(prefix.length)
  }
  const ours: Record<string, unknown> = {}
  if (hash === '' && passwordHash !== '') Object.assign(ours, { passwordHash, scram })
  if (topics.length > 0) ours['topics'] = topics
  return {
    name,
    password_hash: hash,
    hashing_algorithm: algorithm,
    tags,
    limits: {},
    ...(Object.keys(ours).length > 0 ? { [OUR_USER_KEY]: ours } : {})
  }
}

function exportQueues(vhost: Vhost): JsonObject[] {
  return [...vhost.queues.values()].filter(isExported).map(queue => {
    const { isAutoDelete, arguments: table } = declaredOptions(queue.options)
    return {
      name: queue.name,
      vhost: vhost.name,
      durable: true,
      auto_delete: isAutoDelete,
      arguments: tableToJson(table)
    }
  })
}

function isExported(queue: Queue): boolean {
  return queue.isDurable && !queue.options.isExclusive
}

function isPredeclared(name: string): boolean {
  return name === '' || name.startsWith('amq.')
}

function exportExchanges(vhost: Vhost): JsonObject[] {
  const found = [...vhost.exchanges.values()].filter(
    exchange => exchange.isDurable && !isPredeclared(exchange.name)
  )
  return found.map(({ name, kind, isAutoDelete, isInternal, arguments: table }) => ({
    name,
    vhost: vhost.name,
    type: kind,
    durable: true,
    auto_delete: isAutoDelete,
    internal: isInternal,
    arguments: tableToJson(table)
  }))
}

function exportBindings(vhost: Vhost): JsonObject[] {
  const found: JsonObject[] = []
  for (const exchange of vhost.exchanges.values()) {
    if (!exchange.isDurable) continue
    exchange.forEachBinding(({ target, key, arguments: table }) => {
      const to = target as Queue | Exchange
      const isExchange = to instanceof Exchange
      if (!(isExchange ? to.isDurable : isExported(to))) return
      found.push({
        source: exchange.name,
        vhost: vhost.name,
        destination: to.name,
        destination_type: isExchange ? 'exchange' : 'queue',
        routing_key: key,
        arguments: tableToJson(table)
      })
    })
  }
  return found
}
