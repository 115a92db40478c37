/** The queues that the config file names: declared at a start when they are missing. */
import { BrokerError } from '../core/errors.ts'
import type { FieldTable, FieldValue } from '../core/field-table.ts'
import { filterToBindingKey } from '../core/topic.ts'
import { MQTT_EXCHANGE } from '../core/vhost.ts'
import type { Broker } from './broker.ts'
import { bindQueue } from './bindings.ts'
import { declareQueue } from './queues.ts'

/** What queues of bridges begin with. */
export const BRIDGE_PREFIX = 'bridge.'

export interface DeclaredQueueOption {
  readonly name: string
  readonly vhost: string
  readonly durable: boolean
  readonly arguments: Readonly<Record<string, string | number | boolean>>
  readonly bindings: readonly (
    | { readonly kind: 'filter'; readonly filter: string }
    | { readonly kind: 'exchange'; readonly exchange: string; readonly key: string }
  )[]
}

/** Throws a `BrokerError` that names both values when a queue is there with other arguments. */
export function declareConfigured(broker: Broker, queues: readonly DeclaredQueueOption[]): void {
  for (const option of queues) {
    const vhost = broker.state.vhost(option.vhost)
    if (vhost === null) {
      throw new BrokerError('notFound', `queue ${option.name}: no vhost '${option.vhost}'`)
    }
    declareQueue(broker, vhost, {
      name: option.name,
      passive: false,
      durable: option.durable,
      exclusive: false,
      autoDelete: false,
      arguments: tableOf(option.arguments),
      principal: null,
      owner: null,
      isConfigured: true
    })
    for (const binding of option.bindings) {
      const isFilter = binding.kind === 'filter'
      bindQueue(broker, vhost, {
        queue: option.name,
        exchange: isFilter ? MQTT_EXCHANGE : binding.exchange,
        key: isFilter ? filterToBindingKey(binding.filter) : binding.key,
        arguments: [],
        principal: null,
        owner: null
      })
    }
  }
}

/**
 * A queue that was in the file once stays; a line says that it is no longer there. Returns whether there are queues of
 * bridges: those are the business of bridge/bridges.ts.
 */
export function noteUndeclared(broker: Broker, queues: readonly DeclaredQueueOption[]): boolean {
  let hasBridges = false
  const named = new Set(queues.map(queue => `${queue.vhost}\0${queue.name}`))
  for (const vhost of broker.vhosts.values()) {
    for (const queue of vhost.queues.values()) {
      if (!queue.options.isConfigured || named.has(`${vhost.name}\0${queue.name}`)) continue
      if (queue.name.startsWith(BRIDGE_PREFIX)) {
        hasBridges = true
        continue
      }
      const fields = { vhost: vhost.name, queue: queue.name }
      broker.log.info(fields, 'this queue is no longer in the config file; it stays')
    }
  }
  return hasBridges
}

function tableOf(values: Readonly<Record<string, string | number | boolean>>): FieldTable {
  return Object.entries(values).map(([name, value]) => [name, fieldOf(value)] as const)
}

function fieldOf(value: string | number | boolean): FieldValue {
  if (typeof value === 'string') return { type: 'S', value }
  if (typeof value === 'boolean') return { type: 't', value }
  return Number.isInteger(value) ? { type: 'l', value: BigInt(value) } : { type: 'd', value }
}
