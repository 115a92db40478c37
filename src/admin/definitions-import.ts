/**
 * Definitions in RabbitMQ's JSON: what can be taken is taken, in an order in which everything finds what it needs;
 * what cannot, or has no meaning here, is reported. What is there already stays.
 */
import type { StoredUsers } from '../auth/users.ts'
import type { Broker } from '../broker/broker.ts'
import { bindExchange, bindQueue } from '../broker/bindings.ts'
import { declareExchange } from '../broker/exchanges.ts'
import { declareQueue } from '../broker/queues.ts'
import { setPolicy } from '../broker/policies.ts'
import { putVhost } from '../broker/vhosts.ts'
import { BrokerError } from '../core/errors.ts'
import type { FieldTable } from '../core/field-table.ts'
import { keysWithoutEffect } from '../core/policy.ts'
import { readUserEntry } from './definitions-users.ts'
import { isObject, isTexts, type JsonObject } from './json-body.ts'
import { jsonToTable } from './json-fields.ts'
import { readPolicy, vhostOf } from './policies.ts'
import { HttpError } from './router.ts'

export interface ImportReport {
  /** By section, how many entries were taken, those included that were there already. */
  readonly taken: Readonly<Record<string, number>>
  /** What was not taken, a sentence each. */
  readonly refused: readonly string[]
  /** What was taken but for a part that has no meaning here. */
  readonly notes: readonly string[]
}

export interface ImportTarget {
  readonly broker: Broker
  readonly users: StoredUsers
}

/** They say where the file comes from, nothing that could be taken. */
const ABOUT: ReadonlySet<string> = new Set([
  'rabbit_version',
  'rabbitmq_version',
  'rabbitmq_definition_format',
  'product_name',
  'product_version',
  'original_vhost_name',
  'original_cluster_name',
  'explanation',
  'description',
  'metadata',
  'default_queue_type'
])

/** Entries between two waits for the disk, with a turn for everybody else. */
const PIECE = 200
/** Sentences of a report; a file of a hundred thousand mistakes makes no answer of as many. */
const SENTENCES_MAX = 1_000

type Take = (entry: JsonObject, session: Import) => void | Promise<void>

const SECTIONS: readonly (readonly [string, readonly string[], Take])[] = [
  [
    'vhosts',
    ['name', 'description', 'tags', 'metadata', 'limits', 'tracing', 'default_queue_type'],
    takeVhost
  ],
  [
    'users',
    ['name', 'password_hash', 'hashing_algorithm', 'password', 'tags', 'limits', 'motemq'],
    takeUser
  ],
  ['permissions', ['user', 'vhost', 'configure', 'write', 'read'], takePermission],
  ['topic_permissions', ['user', 'vhost', 'exchange', 'write', 'read'], takeTopicPermission],
  ['parameters', ['component', 'vhost', 'name', 'value'], takeParameter],
  ['policies', ['vhost', 'name', 'pattern', 'apply-to', 'definition', 'priority'], takePolicy],
  [
    'exchanges',
    ['name', 'vhost', 'type', 'durable', 'auto_delete', 'internal', 'arguments'],
    takeExchange
  ],
  ['queues', ['name', 'vhost', 'durable', 'auto_delete', 'type', 'arguments'], takeQueue],
  [
    'bindings',
    [
      'source',
      'vhost',
      'destination',
      'destination_type',
      'routing_key',
      'arguments',
      'properties_key'
    ],
    takeBinding
  ]
]

/** `vhostName`: of entries that name none, as in RabbitMQ's export of one virtual host; null: there are none such. */
export async function importDefinitions(
  target: ImportTarget,
  definitions: JsonObject,
  vhostName: string | null = null
): Promise<ImportReport> {
  const session = new Import(target, vhostName)
  const names = SECTIONS.map(([name]) => name)
  for (const [name, value] of Object.entries(definitions)) {
    if (names.includes(name) || ABOUT.has(name)) continue
    const isEmpty = Array.isArray(value) && value.length === 0
    if (name !== 'global_parameters') session.note(`${name} is not known`)
    else if (!isEmpty) noteGlobals(value, session)
  }
  for (const [name, keys, take] of SECTIONS)
    await session.takeAll(name, definitions[name], keys, take)
  await target.broker.journal.flush()
  return session.report()
}

function noteGlobals(value: unknown, session: Import): void {
  for (const entry of Array.isArray(value) ? value : [value]) {
    session.note(`global parameter ${nameIn(entry)} has no meaning here`)
  }
}

function nameIn(entry: unknown): string {
  const name = isObject(entry) ? (entry['name'] ?? entry['source'] ?? entry['user']) : entry
  return typeof name === 'string' ? JSON.stringify(name) : 'without a name'
}

/** One import under way. */
export class Import {
  readonly broker: Broker
  readonly users: StoredUsers
  readonly #vhost: string | null
  readonly #taken: Record<string, number> = {}
  readonly #refused: string[] = []
  readonly #notes: string[] = []
  #left = PIECE

  constructor({ broker, users }: ImportTarget, vhost: string | null) {
    this.broker = broker
    this.users = users
    this.#vhost = vhost
  }

  note(sentence: string): void {
    if (this.#notes.length < SENTENCES_MAX) this.#notes.push(sentence)
  }

  refuse(sentence: string): void {
    if (this.#refused.length < SENTENCES_MAX) this.#refused.push(sentence)
  }

  report(): ImportReport {
    return { taken: this.#taken, refused: this.#refused, notes: this.#notes }
  }

  async takeAll(
    section: string,
    list: unknown,
    keys: readonly string[],
    take: Take
  ): Promise<void> {
    if (list === undefined) return
    if (!Array.isArray(list)) {
      this.refuse(`${section} is no list`)
      return
    }
    for (const entry of list) {
      await this.#takeOne(section, entry, keys, take)
      if (--this.#left > 0) continue
      this.#left = PIECE
      await this.broker.journal.flush()
    }
  }

  async #takeOne(
    section: string,
    entry: unknown,
    keys: readonly string[],
    take: Take
  ): Promise<void> {
    const about = `${section}: ${nameIn(entry)}`
    try {
      if (!isObject(entry)) throw new HttpError(400, 'is no object')
      for (const key of Object.keys(entry)) {
        if (!keys.includes(key)) this.note(`${about}: ${JSON.stringify(key)} is not known`)
      }
      const vhost = this.#vhost
      await take(vhost !== null && entry['vhost'] === undefined ? { ...entry, vhost } : entry, this)
      this.#taken[section] = (this.#taken[section] ?? 0) + 1
    } catch (error) {
      if (!(error instanceof BrokerError || error instanceof HttpError)) throw error
      this.refuse(`${about}: ${error.message}`)
    }
  }
}

function textIn(entry: JsonObject, key: string): string {
  const value = entry[key]
  if (typeof value !== 'string') throw new HttpError(400, `${key} is missing, or no text`)
  return value
}

function flagIn(entry: JsonObject, key: string, absent: boolean): boolean {
  const value = entry[key] ?? absent
  if (typeof value !== 'boolean') throw new HttpError(400, `${key} is neither true nor false`)
  return value
}

function tableIn(entry: JsonObject): FieldTable {
  const value = entry['arguments'] ?? {}
  // RabbitMQ's writer of JSON takes an empty table for a list.
  if (Array.isArray(value) && value.length === 0) return []
  const table = isObject(value) ? jsonToTable(value) : null
  if (table === null) throw new HttpError(400, 'arguments are no object of values')
  return table
}

function isEmpty(value: unknown): boolean {
  if (value === undefined || value === null || value === '' || value === false) return true
  if (Array.isArray(value)) return value.length === 0
  return isObject(value) && Object.keys(value).length === 0
}

function takeVhost(entry: JsonObject, session: Import): void {
  const name = textIn(entry, 'name')
  const metadata = isObject(entry['metadata']) ? entry['metadata'] : {}
  const description = entry['description'] ?? metadata['description'] ?? ''
  const tags = entry['tags'] ?? metadata['tags'] ?? []
  for (const key of ['limits', 'tracing'] as const) {
    if (!isEmpty(entry[key])) session.note(`vhosts: "${name}": ${key} have no effect`)
  }
  const text = typeof description === 'string' ? description : ''
  putVhost(session.broker, name, { description: text, tags: isTexts(tags) ? tags : [] })
}

async function takeUser(entry: JsonObject, session: Import): Promise<void> {
  const name = textIn(entry, 'name')
  if (!isEmpty(entry['limits'])) session.note(`users: "${name}": limits have no effect`)
  const { user, notes } = await readUserEntry(name, entry, session.users)
  for (const note of notes) session.note(`users: "${name}": ${note}`)
  await session.users.put(user)
}

function takePermission(entry: JsonObject, session: Import): Promise<void> {
  const [configure, write, read] = ['configure', 'write', 'read'].map(key => textIn(entry, key))
  const rule = { vhost: textIn(entry, 'vhost'), configure: configure!, write: write!, read: read! }
  return session.users.setPermission(textIn(entry, 'user'), rule)
}

function takeTopicPermission(entry: JsonObject, session: Import): Promise<void> {
  return session.users.setTopicPermission(textIn(entry, 'user'), {
    vhost: textIn(entry, 'vhost'),
    exchange: textIn(entry, 'exchange'),
    write: textIn(entry, 'write'),
    read: textIn(entry, 'read')
  })
}

/** Operator policies stand among the parameters. */
function takeParameter(entry: JsonObject, session: Import): void {
  const { component, value } = entry
  if (component !== 'operator_policy' || !isObject(value)) {
    throw new HttpError(400, `parameters of ${JSON.stringify(component)} have no meaning here`)
  }
  putPolicy(textIn(entry, 'name'), textIn(entry, 'vhost'), value, true, session)
}

function takePolicy(entry: JsonObject, session: Import): void {
  putPolicy(textIn(entry, 'name'), textIn(entry, 'vhost'), entry, false, session)
}

function putPolicy(
  name: string,
  vhostName: string,
  body: JsonObject,
  isOperator: boolean,
  session: Import
): void {
  const fields = readPolicy(name, body, isOperator)
  setPolicy(session.broker, vhostOf(session.broker, vhostName), fields)
  const idle = keysWithoutEffect(fields.definition)
  if (idle.length > 0) session.note(`policies: "${name}": ${idle.join(', ')} without effect`)
}

function takeExchange(entry: JsonObject, session: Import): void {
  const { broker } = session
  declareExchange(broker, vhostOf(broker, textIn(entry, 'vhost')), {
    name: textIn(entry, 'name'),
    kind: textIn(entry, 'type'),
    passive: false,
    durable: flagIn(entry, 'durable', true),
    autoDelete: flagIn(entry, 'auto_delete', false),
    internal: flagIn(entry, 'internal', false),
    arguments: tableIn(entry),
    principal: null
  })
}

function takeQueue(entry: JsonObject, session: Import): void {
  const { broker } = session
  const type = entry['type']
  const table = tableIn(entry)
  const names = table.map(([name]) => name)
  const isTyped = typeof type === 'string' && type !== 'classic' && !names.includes('x-queue-type')
  declareQueue(broker, vhostOf(broker, textIn(entry, 'vhost')), {
    name: textIn(entry, 'name'),
    passive: false,
    durable: flagIn(entry, 'durable', true),
    exclusive: false,
    autoDelete: flagIn(entry, 'auto_delete', false),
    arguments: isTyped ? [...table, ['x-queue-type', { type: 'S', value: type }]] : table,
    principal: null,
    owner: null,
    isImported: true
  })
}

function takeBinding(entry: JsonObject, session: Import): void {
  const { broker } = session
  const vhost = vhostOf(broker, textIn(entry, 'vhost'))
  const source = textIn(entry, 'source')
  const destination = textIn(entry, 'destination')
  const kind = entry['destination_type'] ?? 'queue'
  const key = textIn(entry, 'routing_key')
  const binding = { key, arguments: tableIn(entry), principal: null }
  // Every queue is bound to the default exchange without saying so.
  if (source === '') return
  if (kind === 'queue') {
    bindQueue(broker, vhost, { ...binding, queue: destination, exchange: source, owner: null })
  } else if (kind === 'exchange') bindExchange(broker, vhost, { ...binding, destination, source })
  else throw new HttpError(400, 'destination_type is neither queue nor exchange')
}
