/** Users as things to make, change and list. Where they are kept is the store's matter. */
import { randomBytes } from 'node:crypto'
import { BrokerError } from '../core/errors.ts'
import { compileResourcePattern } from '../core/permissions.ts'
import type { ResourceRule, TopicPermission, User } from '../core/principal.ts'
import { type Hasher, hashPassword } from './password.ts'

const NAME_BYTES_MAX = 256
const PASSWORD_BYTES_MAX = 65_535
const TAGS_MAX = 16
const GENERATED_BYTES = 18

/** Where users are kept: the journal of a running broker, or of a stopped one that was opened for this. */
export interface UserStore {
  /** All of them, those of the config file included. */
  users(): ReadonlyMap<string, User>
  /** Whether the user stands in the config file: it can only be changed there. */
  isConfigured(name: string): boolean
  hasVhost(name: string): boolean
  /** The configuration has rules for everybody. */
  readonly hasCommonRules: boolean
  /** Adds or replaces; resolves when it is on the disk. */
  putUser(user: User): Promise<void>
  /** Resolves when it is on the disk. */
  deleteUser(name: string): Promise<void>
}

/** A user's rule that is not there. */
function noRule(name: string, vhost: string): BrokerError {
  return new BrokerError('notFound', `user ${name} has no such permission in '${vhost}'`)
}

/** @throws BrokerError argumentInvalid */
function checkPattern(pattern: string): void {
  if (compileResourcePattern(pattern) !== null) return
  throw new BrokerError('argumentInvalid', `${JSON.stringify(pattern)} is no regular expression`)
}

export interface UserSummary {
  readonly name: string
  readonly tags: readonly string[]
  readonly hasPassword: boolean
  readonly isConfigured: boolean
}

/** What the command line asks, of a running broker through its socket or of the store itself. */
export interface UserAdmin {
  list(): Promise<readonly UserSummary[]>
  /** @throws BrokerError preconditionFailed when the name is taken, argumentInvalid */
  add(name: string, password: Uint8Array, tags: readonly string[]): Promise<void>
  /** @throws BrokerError notFound */
  setPassword(name: string, password: Uint8Array): Promise<void>
  /** @throws BrokerError notFound */
  remove(name: string): Promise<void>
  close(): Promise<void>
}

export class StoredUsers implements UserAdmin {
  readonly #store: UserStore
  readonly #hasher: Hasher
  /** One change at a time: a name is not given twice. */
  #last: Promise<unknown> = Promise.resolve()

  constructor(store: UserStore, hasher: Hasher) {
    this.#store = store
    this.#hasher = hasher
  }

  async list(): Promise<readonly UserSummary[]> {
    const users = [...this.#store.users().values()].map(user => ({
      name: user.name,
      tags: user.tags,
      hasPassword: user.passwordHash !== '',
      isConfigured: this.#store.isConfigured(user.name)
    }))
    return users.sort((a, b) => (a.name < b.name ? -1 : 1))
  }

  add(name: string, password: Uint8Array, tags: readonly string[]): Promise<void> {
    return this.#alone(async () => {
      checkUserName(name)
      checkTags(tags)
      if (this.#store.users().has(name)) {
        throw new BrokerError('preconditionFailed', 'there is a user of this name already', {
          name
        })
      }
      await this.#store.putUser(await makeUser(this.#hasher, name, password, tags))
    })
  }

  setPassword(name: string, password: Uint8Array): Promise<void> {
    return this.#alone(async () => {
      const user = this.#changeable(name)
      checkPassword(password)
      const { isLocalOnly: _, ...kept } = user
      await this.#store.putUser({ ...kept, ...(await hashPassword(this.#hasher, password)) })
    })
  }

  remove(name: string): Promise<void> {
    return this.#alone(async () => {
      this.#changeable(name)
      await this.#store.deleteUser(name)
    })
  }

  all(): ReadonlyMap<string, User> {
    return this.#store.users()
  }

  find(name: string): User | null {
    return this.#store.users().get(name) ?? null
  }

  /** Adds or replaces a user as it is. @throws BrokerError argumentInvalid, notAllowed */
  put(user: User): Promise<void> {
    return this.#alone(async () => {
      checkUserName(user.name)
      checkTags(user.tags)
      if (this.#store.users().has(user.name)) this.#changeable(user.name)
      await this.#store.putUser(user)
    })
  }

  secretsOf(password: Uint8Array): Promise<{ passwordHash: string; scram: string }> {
    checkPassword(password)
    return hashPassword(this.#hasher, password)
  }

  permissions(): (ResourceRule & { user: string })[] {
    return [...this.#store.users().values()].flatMap(user =>
      user.resources.map(rule => ({ user: user.name, ...rule }))
    )
  }

  topicPermissions(): (TopicPermission & { user: string })[] {
    return [...this.#store.users().values()].flatMap(user =>
      (user.topicPermissions ?? []).map(permission => ({ user: user.name, ...permission }))
    )
  }

  /** What the user may do in a virtual host. @throws BrokerError notFound, argumentInvalid */
  setPermission(name: string, rule: ResourceRule): Promise<void> {
    return this.#change(name, user => {
      for (const pattern of [rule.configure, rule.write, rule.read]) checkPattern(pattern)
      this.#checkVhost(rule.vhost)
      const others = user.resources.filter(({ vhost }) => vhost !== rule.vhost)
      return { ...user, resources: [...others, rule] }
    })
  }

  /** @throws BrokerError notFound; notAllowed for the last rule of all: without any, everybody may do everything */
  clearPermission(name: string, vhost: string): Promise<void> {
    return this.#change(name, user => {
      const resources = user.resources.filter(rule => rule.vhost !== vhost)
      if (resources.length === user.resources.length) throw noRule(name, vhost)
      const changed = { ...user, resources }
      this.#checkNotLast(changed)
      return changed
    })
  }

  setTopicPermission(name: string, permission: TopicPermission): Promise<void> {
    return this.#change(name, user => {
      for (const pattern of [permission.write, permission.read]) checkPattern(pattern)
      this.#checkVhost(permission.vhost)
      const others = (user.topicPermissions ?? []).filter(
        ({ vhost, exchange }) => vhost !== permission.vhost || exchange !== permission.exchange
      )
      return { ...user, topicPermissions: [...others, permission] }
    })
  }

  /** Of one exchange, or of all. */
  clearTopicPermission(name: string, vhost: string, exchange: string | null): Promise<void> {
    return this.#change(name, user => {
      const before = user.topicPermissions ?? []
      const topicPermissions = before.filter(
        each => each.vhost !== vhost || (exchange !== null && each.exchange !== exchange)
      )
      if (topicPermissions.length === before.length) throw noRule(name, vhost)
      const changed = { ...user, topicPermissions }
      this.#checkNotLast(changed)
      return changed
    })
  }

  async close(): Promise<void> {
    await this.#last
  }

  #change(name: string, change: (user: User) => User): Promise<void> {
    return this.#alone(() => this.#store.putUser(change(this.#changeable(name))))
  }

  #checkVhost(vhost: string): void {
    if (this.#store.hasVhost(vhost)) return
    throw new BrokerError('notFound', `there is no virtual host '${vhost}'`, { vhost })
  }

  #checkNotLast(changed: User): void {
    for (const user of this.#store.users().values()) {
      const {
        topics,
        resources,
        topicPermissions = []
      } = user.name === changed.name ? changed : user
      if (topics.length + resources.length + topicPermissions.length > 0) return
    }
    if (this.#store.hasCommonRules) return
    throw new BrokerError(
      'notAllowed',
      'this is the last permission of all, and without any every user may do everything: set it to "" "" "" instead'
    )
  }

  #changeable(name: string): User {
    const user = this.#store.users().get(name)
    if (user === undefined)
      throw new BrokerError('notFound', 'there is no user of this name', { name })
    if (this.#store.isConfigured(name)) {
      throw new BrokerError('notAllowed', 'this user stands in the config file: change it there', {
        name
      })
    }
    return user
  }

  #alone<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work)
    this.#last = result.catch(() => undefined) // the caller of `work` gets the error
    return result
  }
}

/** A new user with no rules. @throws BrokerError argumentInvalid */
export async function makeUser(
  hasher: Hasher,
  name: string,
  password: Uint8Array,
  tags: readonly string[] = []
): Promise<User> {
  checkUserName(name)
  checkPassword(password)
  const { passwordHash, scram } = await hashPassword(hasher, password)
  return { name, tags: [...tags], passwordHash, scram, resources: [], topics: [] }
}

/** @throws BrokerError argumentInvalid */
export function checkUserName(name: string): void {
  if (name === '') throw new BrokerError('argumentInvalid', 'the user name is empty')
  if (/[\u0000-\u001f\u007f-\u009f]/.test(name)) {
    throw new BrokerError('argumentInvalid', 'the user name holds a control character')
  }
  if (Buffer.byteLength(name) > NAME_BYTES_MAX) {
    throw new BrokerError('argumentInvalid', `the user name is longer than ${NAME_BYTES_MAX} bytes`)
  }
  if (Buffer.from(name).toString('utf8') !== name) {
    throw new BrokerError('argumentInvalid', 'the user name is no valid text')
  }
}

function checkPassword(password: Uint8Array): void {
  if (password.length === 0) throw new BrokerError('argumentInvalid', 'the password is empty')
  if (password.length > PASSWORD_BYTES_MAX) {
    throw new BrokerError(
      'argumentInvalid',
      `the password is longer than ${PASSWORD_BYTES_MAX} bytes`
    )
  }
}

function checkTags(tags: readonly string[]): void {
  if (tags.length > TAGS_MAX) {
    throw new BrokerError('argumentInvalid', `a user has at most ${TAGS_MAX} tags`)
  }
  for (const tag of tags) {
    if (!/^[A-Za-z0-9_.-]{1,64}$/.test(tag)) {
      throw new BrokerError('argumentInvalid', 'a tag is letters, digits, "_", "." and "-"', {
        tag
      })
    }
  }
}

/** A password that nobody has to remember: 144 random bits, safe to paste anywhere. */
export function generatePassword(): string {
  return randomBytes(GENERATED_BYTES).toString('base64url')
}
