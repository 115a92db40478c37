/** Policies and operator policies: kept, and applied live to what is there and to what comes. Who asks, may. */
import { BrokerError } from '../core/errors.ts'
import type { Exchange } from '../core/exchange.ts'
import { checkPolicy, optionsUnder, Policy, type PolicyFields, strongest } from '../core/policy.ts'
import type { Queue } from '../core/queue.ts'
import { KIND } from '../core/records/kinds.ts'
import { writePolicy, writePolicyEnd } from '../core/records/policy.ts'
import type { Vhost } from '../core/vhost.ts'
import { AWAITED } from '../journal/journal.ts'
import { append } from './append.ts'
import type { Broker } from './broker.ts'
import { queueClockOf } from './queue-clock.ts'
import { optionsChanged } from './queue-life.ts'

/** Of each kind, in a virtual host: each is asked about each queue that is declared. */
const POLICIES_MAX = 1_000

/** Adds or replaces one. Throws `argumentInvalid` and `quotaExceeded`. Returns the ticket. */
export function setPolicy(broker: Broker, vhost: Vhost, fields: PolicyFields): number {
  checkPolicy(fields)
  const policies = vhost.policiesOf(fields.isOperator)
  if (!policies.has(fields.name) && policies.size >= POLICIES_MAX) {
    const message = `a virtual host has at most ${POLICIES_MAX} policies`
    throw new BrokerError('quotaExceeded', message, { vhost: vhost.name })
  }
  if (broker.refusal !== 0) {
    const code = broker.journal.failed ? 'journalFailed' : 'diskAlarm'
    throw new BrokerError(code, 'no policy can be kept: the disk is full or failed')
  }
  const policy = new Policy(fields)
  policies.set(policy.name, policy)
  writePolicy(broker.writer, vhost.name, policy)
  const ticket = append(broker, KIND.policy, AWAITED)
  applyPolicies(broker, vhost)
  return ticket
}

/** Throws `notFound`. Returns the ticket. */
export function clearPolicy(
  broker: Broker,
  vhost: Vhost,
  name: string,
  isOperator: boolean
): number {
  if (!vhost.policiesOf(isOperator).delete(name)) {
    const message = `there is no ${isOperator ? 'operator ' : ''}policy '${name}' in vhost '${vhost.name}'`
    throw new BrokerError('notFound', message, { name, vhost: vhost.name })
  }
  writePolicyEnd(broker.writer, vhost.name, name, isOperator)
  const ticket = append(broker, KIND.policyEnd, AWAITED)
  applyPolicies(broker, vhost)
  return ticket
}

/** To all that is there: after a change, and after a start. */
export function applyPolicies(broker: Broker, vhost: Vhost): void {
  for (const exchange of vhost.exchanges.values()) governExchange(vhost, exchange)
  for (const queue of [...vhost.queues.values()]) {
    const before = queue.options
    governQueue(vhost, queue)
    if (queue.options !== before) optionsChanged(broker, queue)
  }
  queueClockOf(broker).routesChanged()
}

/** Gives a queue the options that hold under the policies of its virtual host. */
export function governQueue(vhost: Vhost, queue: Queue): void {
  if (vhost.policies.size + vhost.operatorPolicies.size === 0 && queue.options.declared === null) {
    return
  }
  const [policy, operatorPolicy] = policiesOfQueue(vhost, queue)
  queue.options = optionsUnder(queue.options, policy, operatorPolicy)
  queue.levels?.setOptions(queue.options)
}

export function policiesOfQueue(vhost: Vhost, queue: Queue): [Policy | null, Policy | null] {
  const { type } = queue.options
  return [
    strongest(vhost.policies, type, queue.name),
    strongest(vhost.operatorPolicies, type, queue.name)
  ]
}

/** Alternate exchanges are all that a policy says of an exchange; the default one has none. */
export function governExchange(vhost: Vhost, exchange: Exchange): void {
  if (exchange.name === '') return
  const policy = strongest(vhost.policies, 'exchange', exchange.name)
  const alternate = policy?.definition['alternate-exchange']
  vhost.setPolicyAlternate(exchange, typeof alternate === 'string' ? alternate : null)
}
