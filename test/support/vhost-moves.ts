/** What a model test does with further virtual hosts: they come with all kinds of things in them, and go. */
import { bindQueue } from '../../src/broker/bindings.ts'
import { declareExchange } from '../../src/broker/exchanges.ts'
import { declareQueue } from '../../src/broker/queues.ts'
import { subscribe } from '../../src/broker/sessions.ts'
import { clearPolicy, setPolicy } from '../../src/broker/policies.ts'
import { deleteVhost, putVhost } from '../../src/broker/vhosts.ts'
import type { Vhost } from '../../src/core/vhost.ts'
import { ANYBODY, Backend, Client, type Rig } from './broker-rig.ts'

const SUBSCRIBE = {
  qos: 1,
  noLocal: false,
  retainAsPublished: false,
  retainHandling: 0,
  identifier: 0
}

export function moveVhost(rig: Rig, name: string, b: number): void {
  if (b % 4 === 0) {
    deleteVhost(rig.broker, name)
    return
  }
  const { vhost } = putVhost(rig.broker, name, { description: `${b % 3}`, tags: [] })
  movePolicy(rig, vhost, b)
  const operator = { principal: null, owner: null }
  const flags = { passive: false, durable: true, autoDelete: false, arguments: [] }
  const queue = { ...flags, name: 'q', exclusive: false, ...operator }
  declareQueue(rig.broker, vhost, queue)
  const exchange = { ...flags, name: 'e', kind: 'fanout', internal: false, principal: null }
  declareExchange(rig.broker, vhost, exchange)
  for (const source of ['e', 'amq.topic']) {
    const binding = { queue: 'q', exchange: source, key: 't.#', arguments: [], ...operator }
    bindQueue(rig.broker, vhost, binding)
  }
  new Backend(rig, vhost).publish('e', 'k', `${b}`)
  const client = new Client(rig, `c${b % 2}`, ANYBODY, vhost)
  client.open({ expiry: 100, will: b % 3 === 0 ? { delaySeconds: 50 } : null })
  if (client.session !== null) {
    subscribe(rig.broker, client.session, 't/#', SUBSCRIBE)
    subscribe(rig.broker, client.session, '$share/g/t/#', SUBSCRIBE)
  }
  client.publish('t/1', `${b}`, { qos: 1, retain: b % 2 === 0 })
  if (b % 5 !== 0) client.close(b % 5 === 1 ? 'lost' : 'disconnect')
}

function movePolicy(rig: Rig, vhost: Vhost, b: number): void {
  const isOperator = b % 7 < 2
  const name = `p${b % 2}`
  if (b % 3 === 0 && vhost.policiesOf(isOperator).has(name)) {
    clearPolicy(rig.broker, vhost, name, isOperator)
    return
  }
  const definition = { 'max-length': b % 5 }
  const about = { name, pattern: b % 2 === 0 ? '^q' : '', applyTo: 'all', priority: b % 4 } as const
  setPolicy(rig.broker, vhost, { ...about, definition, isOperator })
}
