/** A queue by its name and what is not usual of it: durable, nobody's own, without arguments. */
import { bindQueue } from '../../src/broker/bindings.ts'
import { type DeclareQueue, declareQueue } from '../../src/broker/queues.ts'
import type { FieldTable } from '../../src/core/field-table.ts'
import type { Queue } from '../../src/core/queue.ts'
import type { Rig } from './broker-rig.ts'

export function declaredQueue(rig: Rig, name: string, fields: Partial<DeclareQueue> = {}): Queue {
  return declareQueue(rig.broker, rig.vhost, {
    name,
    passive: false,
    durable: true,
    exclusive: false,
    autoDelete: false,
    arguments: [],
    principal: null,
    owner: null,
    ...fields
  }).queue
}

export function bindTo(
  rig: Rig,
  queue: string,
  exchange: string,
  key: string,
  table: FieldTable = []
): void {
  const rest = { arguments: table, principal: null, owner: null }
  bindQueue(rig.broker, rig.vhost, { queue, exchange, key, ...rest })
}
