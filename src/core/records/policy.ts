/** Records of policies and operator policies: JSON, for they are few and their fields will grow. */
import type { ByteWriter } from '../../lib/byte-writer.ts'
import type { BytesReader } from '../../lib/bytes-reader.ts'
import { APPLIES_TO, Policy, type PolicyFields } from '../policy.ts'
import type { State } from '../state.ts'
import { readJson, textOf } from './json.ts'

export function writePolicy(writer: ByteWriter, vhost: string, policy: PolicyFields): void {
  const { name, pattern, applyTo, priority, definition, isOperator } = policy
  const fields = { vhost, name, pattern, applyTo, priority, definition, isOperator }
  writer.longString(JSON.stringify(fields))
}

export function applyPolicy(state: State, reader: BytesReader): boolean {
  const fields = readJson(reader)
  const vhost = state.vhost(textOf(fields['vhost']))
  const name = textOf(fields['name'])
  if (vhost === null || name === '') return false
  const { definition, priority } = fields
  const isObject = typeof definition === 'object' && definition !== null
  const policy = new Policy({
    name,
    pattern: textOf(fields['pattern']),
    applyTo: APPLIES_TO.find(known => known === fields['applyTo']) ?? 'all',
    priority: typeof priority === 'number' ? priority : 0,
    definition: isObject ? (definition as PolicyFields['definition']) : {},
    isOperator: fields['isOperator'] === true
  })
  vhost.policiesOf(policy.isOperator).set(name, policy)
  return true
}

export function writePolicyEnd(
  writer: ByteWriter,
  vhost: string,
  name: string,
  isOperator: boolean
): void {
  writer.longString(JSON.stringify({ vhost, name, isOperator }))
}

export function applyPolicyEnd(state: State, reader: BytesReader): boolean {
  const fields = readJson(reader)
  const vhost = state.vhost(textOf(fields['vhost']))
  if (vhost === null) return false
  return vhost.policiesOf(fields['isOperator'] === true).delete(textOf(fields['name']))
}
