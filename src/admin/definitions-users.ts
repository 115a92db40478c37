/** A user of RabbitMQ's JSON. */
import { isPasswordHash } from '../auth/password.ts'
import type { StoredUsers } from '../auth/users.ts'
import type { TopicRule, User } from '../core/principal.ts'
import { isValidRuleFilter } from '../core/permissions.ts'
import { OUR_USER_KEY, RABBIT_HASHES } from './definitions-export.ts'
import { isObject, isTexts, type JsonObject } from './json-body.ts'
import { HttpError } from './router.ts'

/** The rules that a user of this name has already stay with it. */
export async function readUserEntry(
  name: string,
  entry: JsonObject,
  users: StoredUsers
): Promise<{ user: User; notes: readonly string[] }> {
  const notes: string[] = []
  const before = users.find(name)
  const ours = isObject(entry[OUR_USER_KEY]) ? entry[OUR_USER_KEY] : {}
  const { passwordHash, scram } = await readSecrets(entry, ours, users, notes)
  // RabbitMQ's guest, whose password everybody knows, comes from its own machine only.
  const isLocalOnly = name === 'guest'
  if (isLocalOnly) notes.push('may log in from this machine only, until its password is changed')
  const user: User = {
    name,
    tags: tagsOf(entry['tags']),
    passwordHash,
    scram,
    resources: before?.resources ?? [],
    topics: ours['topics'] === undefined ? (before?.topics ?? []) : readRules(ours['topics']),
    topicPermissions: before?.topicPermissions ?? [],
    ...(isLocalOnly ? { isLocalOnly } : {})
  }
  return { user, notes }
}

/** Before RabbitMQ 3.9 one text with commas. */
function tagsOf(tags: unknown): string[] {
  if (tags === undefined || tags === '') return []
  if (typeof tags === 'string') return tags.split(',').map(tag => tag.trim())
  if (isTexts(tags)) return tags
  throw new HttpError(400, 'tags is no list of texts')
}

async function readSecrets(
  entry: JsonObject,
  ours: JsonObject,
  users: StoredUsers,
  notes: string[]
): Promise<{ passwordHash: string; scram: string }> {
  const { password, password_hash: hash = '', hashing_algorithm: named } = entry
  if (typeof password === 'string') return users.secretsOf(Buffer.from(password))
  if (typeof hash !== 'string') throw new HttpError(400, 'password_hash is no text')
  if (hash === '') {
    const { passwordHash, scram } = ours
    if (typeof passwordHash === 'string' && isPasswordHash(passwordHash)) {
      return { passwordHash, scram: typeof scram === 'string' ? scram : '' }
    }
    notes.push('has no password')
    return { passwordHash: '', scram: '' }
  }
  const algorithm = typeof named === 'string' ? named : 'rabbit_password_hashing_sha256'
  const prefix = Object.entries(RABBIT_HASHES).find(([known]) => known === algorithm)?.[1]
  if (prefix === undefined || !isPasswordHash(prefix + hash)) {
    throw new HttpError(
      400,
      `its password hash is none of ${Object.keys(RABBIT_HASHES).join(', ')}`
    )
  }
  return { passwordHash: prefix + hash, scram: '' }
}

function readRules(value: unknown): TopicRule[] {
  if (!Array.isArray(value)) throw new HttpError(400, 'topics is no list')
  return value.map((rule: unknown) => {
    const { effect, access, filter, vhost } = isObject(rule) ? rule : {}
    const isRule =
      (effect === 'allow' || effect === 'deny') &&
      (access === 'read' || access === 'write' || access === 'readwrite') &&
      typeof filter === 'string' &&
      isValidRuleFilter(filter)
    if (!isRule) throw new HttpError(400, 'topics has what is no topic rule')
    return typeof vhost === 'string'
      ? { effect, access, filter, vhost }
      : { effect, access, filter }
  })
}
