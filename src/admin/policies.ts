/** `/api/policies` and `/api/operator-policies` on the admin socket, with RabbitMQ's names: what `motemq policy` asks. */
import type { Broker } from '../broker/broker.ts'
import { clearPolicy, setPolicy } from '../broker/policies.ts'
import { BrokerError } from '../core/errors.ts'
import { APPLIES_TO, type AppliesTo, keysWithoutEffect, type PolicyFields } from '../core/policy.ts'
import type { Vhost } from '../core/vhost.ts'
import { isObject, type JsonObject, readObject } from './json-body.ts'
import { HttpError, json, type Route } from './router.ts'

const KEYS = ['pattern', 'definition', 'priority', 'apply-to', 'vhost', 'name']

export function policyRoutes(broker: Broker): Route[] {
  return [false, true].flatMap(isOperator => {
    const path = isOperator ? '/api/operator-policies' : '/api/policies'
    return [
      { path, methods: { GET: () => json(listPolicies(broker, isOperator)) } },
      {
        path: `${path}/:vhost/:name`,
        methods: {
          PUT: async request => {
            const [, , vhostName, name] = request.parts as [string, string, string, string]
            const body = await readObject(request, KEYS)
            const fields = readPolicy(name, body, isOperator)
            setPolicy(broker, vhostOf(broker, vhostName), fields)
            await broker.journal.flush()
            return json({ vhost: vhostName, name, ignored: keysWithoutEffect(fields.definition) })
          },
          DELETE: async request => {
            const [, , vhostName, name] = request.parts as [string, string, string, string]
            clearPolicy(broker, vhostOf(broker, vhostName), name, isOperator)
            await broker.journal.flush()
            return json(null, 204)
          }
        }
      } satisfies Route
    ]
  })
}

export function listPolicies(broker: Broker, isOperator: boolean): JsonObject[] {
  return [...broker.vhosts.values()].flatMap(vhost =>
    [...vhost.policiesOf(isOperator).values()].map(policy => ({
      vhost: vhost.name,
      name: policy.name,
      pattern: policy.pattern,
      'apply-to': policy.applyTo,
      definition: policy.definition,
      priority: policy.priority
    }))
  )
}

/** What RabbitMQ's JSON says of a policy. @throws HttpError 400 */
export function readPolicy(name: string, body: JsonObject, isOperator: boolean): PolicyFields {
  const { pattern, definition, priority = 0, 'apply-to': appliesTo = 'all' } = body
  if (typeof pattern !== 'string') throw new HttpError(400, 'pattern is missing, or no text')
  if (!isObject(definition)) throw new HttpError(400, 'definition is missing, or no object')
  if (typeof priority !== 'number') throw new HttpError(400, 'priority is no number')
  if (!APPLIES_TO.includes(appliesTo as AppliesTo)) {
    throw new HttpError(400, `apply-to is not one of ${APPLIES_TO.join(', ')}`)
  }
  const checked = definition as PolicyFields['definition']
  const applyTo = appliesTo as AppliesTo
  return { name, pattern, applyTo, priority, definition: checked, isOperator }
}

export function vhostOf(broker: Broker, name: string): Vhost {
  const vhost = broker.state.vhost(name)
  if (vhost === null) throw new BrokerError('notFound', `there is no virtual host '${name}'`)
  return vhost
}
