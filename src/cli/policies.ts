/** `motemq policy ...`. */
import type { LoadInput } from '../config/load.ts'
import { printable } from '../lib/printable.ts'
import { askStore, pathOf, say, sayRows } from './ask-store.ts'
import { CommandError, EXIT_USAGE } from './exit.ts'

export interface PolicyFlags {
  readonly p?: string
  readonly operator?: boolean
  readonly priority?: string
  readonly applyTo?: string
}

export async function setPolicy(
  input: LoadInput,
  name: string,
  pattern: string,
  definition: string,
  flags: PolicyFlags
): Promise<void> {
  const priority = Number(flags.priority ?? 0)
  if (!Number.isSafeInteger(priority)) {
    throw new CommandError('--priority is no whole number', EXIT_USAGE)
  }
  const body = {
    pattern,
    definition: parseDefinition(definition),
    priority,
    'apply-to': flags.applyTo ?? 'all'
  }
  const question = { method: 'PUT', path: pathOfPolicy(name, flags), body } as const
  const { ignored } = (await askStore(input, question)) as { ignored: string[] }
  say(`policy ${printable(name)} set`)
  if (ignored.length > 0) say(`without effect in this broker: ${ignored.join(', ')}`)
}

function parseDefinition(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error
    throw new CommandError('the definition is no JSON such as {"max-length": 1000}', EXIT_USAGE)
  }
}

function kindOf({ operator }: PolicyFlags): string {
  return operator === true ? 'operator-policies' : 'policies'
}

function pathOfPolicy(name: string, flags: PolicyFlags): string {
  return pathOf(kindOf(flags), flags.p ?? '/', name)
}

export async function clearPolicy(
  input: LoadInput,
  name: string,
  flags: PolicyFlags
): Promise<void> {
  await askStore(input, { method: 'DELETE', path: pathOfPolicy(name, flags) })
  say(`policy ${printable(name)} cleared`)
}

interface ListedPolicy {
  readonly vhost: string
  readonly name: string
  readonly pattern: string
  readonly 'apply-to': string
  readonly definition: unknown
  readonly priority: number
}

export async function listPolicies(input: LoadInput, isJson: boolean): Promise<void> {
  const get = (path: string) => askStore(input, { method: 'GET', path: pathOf(path) })
  const policies = (await get('policies')) as ListedPolicy[]
  const operator = (await get('operator-policies')) as ListedPolicy[]
  if (isJson) {
    say(JSON.stringify({ policies, operator_policies: operator }))
    return
  }
  if (policies.length + operator.length === 0) say('no policies')
  const row = (kind: string) => (policy: ListedPolicy) => [
    printable(policy.vhost),
    printable(policy.name),
    kind,
    JSON.stringify(policy.pattern),
    policy['apply-to'],
    `priority ${policy.priority}`,
    JSON.stringify(policy.definition)
  ]
  sayRows([...policies.map(row('policy')), ...operator.map(row('operator policy'))])
}
