/**
 * The users of this broker: who may connect, and as whom.
 *
 * No users: only peers on this machine (or on a listener that says `insecure: true`); MQTT clients are
 * anonymous, AMQP and HTTP take guest/guest. The first user turns both off.
 */
import { Principal, type TopicRule, type User } from '../core/principal.ts'
import { DEFAULT_VHOST } from '../core/vhost.ts'
import { randomBytes } from 'node:crypto'
import type {
  AuthenticationExchange,
  AuthenticationResult,
  Authenticator,
  Credentials,
  ExchangeStep
} from './authenticator.ts'
import { LoginBackoff } from './login-backoff.ts'
import { type Hasher, HasherBusyError, PasswordChecker } from './password.ts'
import { parseScram, ScramServer } from './scram.ts'

const GUEST = 'guest'
const NO_PASSWORD = new Uint8Array(0)
const SCRAM = 'SCRAM-SHA-256'
const DISGUISE_BYTES = 32

const BAD: AuthenticationResult = { ok: false, reason: 'bad-credentials' }
const NOT_AUTHORIZED: AuthenticationResult = { ok: false, reason: 'not-authorized' }
const VHOST_REFUSED: AuthenticationResult = { ok: false, reason: 'vhost-refused' }
const BUSY: AuthenticationResult = { ok: false, reason: 'busy' }

export interface AuthenticationCounters {
  succeeded: number
  failed: number
  /** Refused without a look: too many failures, or too many at once. */
  busy: number
}

export class UserAuthenticator implements Authenticator {
  readonly counters: AuthenticationCounters = { succeeded: 0, failed: 0, busy: 0 }
  readonly #passwords: PasswordChecker
  readonly #backoff = new LoginBackoff()
  readonly #nowMs: () => number
  readonly #disguise = randomBytes(DISGUISE_BYTES)
  #users: ReadonlyMap<string, User> = new Map()
  #topics: readonly TopicRule[] = []
  #isUnrestricted = true
  #takesIdentities = false
  #entryVhosts: ReadonlySet<string> = new Set([DEFAULT_VHOST])
  /** Users that were taken away since the start: their connections and sessions are nobody's. */
  readonly #removed = new Set<string>()

  constructor(hasher: Hasher, nowMs: () => number = () => performance.now()) {
    this.#passwords = new PasswordChecker(hasher)
    this.#nowMs = nowMs
  }

  get usersCount(): number {
    return this.#users.size
  }

  /** Takes the users, and the topic rules that hold for each of them, from now on. */
  setUsers(users: ReadonlyMap<string, User>, topics: readonly TopicRule[] = this.#topics): void {
    for (const name of this.#users.keys()) {
      if (users.has(name)) continue
      this.#passwords.forget(name)
      this.#removed.add(name)
    }
    for (const name of users.keys()) this.#removed.delete(name)
    this.#users = users
    this.#topics = topics
    this.#isUnrestricted = topics.length === 0
    for (const user of users.values()) {
      const { topics: own, resources, topicPermissions = [] } = user
      const rules = own.length + resources.length + topicPermissions.length
      if (rules > 0) this.#isUnrestricted = false
    }
  }

  /** Those of the listeners: where users are at home who have no rule about any virtual host. */
  setEntryVhosts(names: Iterable<string>): void {
    this.#entryVhosts = new Set([DEFAULT_VHOST, ...names])
  }

  /** RabbitMQ's rule: a user may enter where it has permissions. While nobody has rules, everywhere. */
  #mayEnter(user: User, vhost: string): boolean {
    if (this.#isUnrestricted) return true
    const { resources, topics, topicPermissions = [] } = user
    const isThere = (rule: { readonly vhost?: string }) => rule.vhost === vhost
    if (resources.some(isThere) || topics.some(isThere) || topicPermissions.some(isThere))
      return true
    return resources.length === 0 && this.#entryVhosts.has(vhost)
  }

  async authenticate(credentials: Credentials): Promise<AuthenticationResult> {
    const result = await this.#decide(credentials)
    if (result.ok) this.counters.succeeded++
    else if (result.reason === 'busy') this.counters.busy++
    else this.counters.failed++
    return result
  }

  /**
   * The principal of a user, with the rules as they are now; null when there is no such user, or not here. '' is whoever connected
   * over MQTT without a name, while there are no users.
   */
  principalOf(name: string, vhost: string): Principal | null {
    if (name === '') return this.#users.size === 0 ? this.#anonymous(vhost) : null
    const user = this.#users.get(name)
    if (user === undefined) {
      const isStranger = this.#takesIdentities && !this.#removed.has(name)
      return isStranger ? this.#stranger(name, vhost) : null
    }
    if (!this.#mayEnter(user, vhost)) return null
    const { tags, resources, topicPermissions = [] } = user
    const keys = topicPermissions.filter(permission => permission.vhost === vhost)
    const topics = rulesOf(vhost, user.topics, this.#topics)
    return new Principal(name, tags, vhost, resources, topics, this.#isUnrestricted, keys)
  }

  /** SCRAM-SHA-256, as soon as there are users. */
  exchange(method: string, credentials: Credentials): AuthenticationExchange | null {
    if (method !== SCRAM || this.#users.size === 0) return null
    const scram = new ScramServer(
      user => parseScram(this.#users.get(user)?.scram ?? ''),
      randomBytes,
      this.#disguise
    )
    let isFirst = true
    const step = (data: Uint8Array): ExchangeStep => {
      if (!isFirst) return this.#finish(scram, data, credentials)
      isFirst = false
      const answer = scram.first(data)
      return answer === null ? this.#failed() : { state: 'continue', data: answer }
    }
    return { step }
  }

  #finish(scram: ScramServer, data: Uint8Array, credentials: Credentials): ExchangeStep {
    const { user } = scram
    const { peer, username, vhost, identity } = credentials
    if (!this.#backoff.begin(peer, user, this.#nowMs())) {
      this.counters.busy++
      return { state: 'failed', reason: 'busy' }
    }
    const answer = scram.final(data)
    // The user may have been taken away between the two messages.
    const principal = this.principalOf(user, vhost)
    const isOther = (username ?? user) !== user || (identity ?? user) !== user
    if (answer === null || principal === null || isOther) {
      this.#backoff.fail(peer, user, this.#nowMs())
      return this.#failed()
    }
    this.#backoff.succeed(peer, user)
    this.counters.succeeded++
    return { state: 'done', data: answer, principal }
  }

  #failed(): ExchangeStep {
    this.counters.failed++
    return { state: 'failed', reason: 'bad-credentials' }
  }

  /** A listener takes users whom TLS has verified: names that are nobody's here are users without rules of their own. */
  takeIdentities(): void {
    this.#takesIdentities = true
  }

  /** Its authority, or its key, answers for it; a user of that name need not be. */
  #admitIdentity(credentials: Credentials, identity: string): AuthenticationResult {
    const { username, vhost } = credentials
    if (username !== null && username !== identity) return NOT_AUTHORIZED
    // Whom it answers for may have been a user once.
    this.#removed.delete(identity)
    const principal = this.principalOf(identity, vhost)
    return principal === null ? VHOST_REFUSED : { ok: true, principal }
  }

  /** Its listener's virtual host is all that it is admitted to. */
  #stranger(name: string, vhost: string): Principal | null {
    if (!this.#isUnrestricted && !this.#entryVhosts.has(vhost)) return null
    const topics = rulesOf(vhost, [], this.#topics)
    return new Principal(name, [], vhost, [], topics, this.#isUnrestricted)
  }

  async #decide(credentials: Credentials): Promise<AuthenticationResult> {
    if (typeof credentials.identity === 'string') {
      return this.#admitIdentity(credentials, credentials.identity)
    }
    if (this.#users.size === 0) return this.#admitLocal(credentials)
    const { username, peer } = credentials
    if (username === null) return NOT_AUTHORIZED
    const password = credentials.password ?? NO_PASSWORD
    const passwordHash = this.#users.get(username)?.passwordHash ?? ''
    if (this.#backoff.isPaused(peer, username, this.#nowMs())) return BUSY
    if (this.#passwords.isRemembered(username, passwordHash, password)) {
      return this.#admit(credentials, username, passwordHash)
    }
    // A site that comes back at once with one password is one attempt, not a thousand.
    if (this.#passwords.isUnderWay(username, passwordHash, password)) {
      const isRight = await this.#passwords
        .check(username, passwordHash, password)
        .catch(busyAsNull)
      if (isRight === null) return BUSY
      return isRight ? this.#admit(credentials, username, passwordHash) : BAD
    }
    if (!this.#backoff.begin(peer, username, this.#nowMs())) return BUSY
    let isRight: boolean | null = null
    try {
      isRight = await this.#passwords.check(username, passwordHash, password).catch(busyAsNull)
    } finally {
      if (isRight === null) this.#backoff.drop(peer, username)
    }
    if (isRight === null) return BUSY
    if (isRight) {
      this.#backoff.succeed(peer, username)
      return this.#admit(credentials, username, passwordHash)
    }
    this.#backoff.fail(peer, username, this.#nowMs())
    return BAD
  }

  /** The user may have been changed or taken away while its password was hashed. */
  #admit(credentials: Credentials, username: string, passwordHash: string): AuthenticationResult {
    const user = this.#users.get(username)
    if (user?.passwordHash !== passwordHash) return BAD
    if (user.isLocalOnly === true && !credentials.isLoopback) return BAD
    const principal = this.principalOf(username, credentials.vhost)
    return principal === null ? VHOST_REFUSED : { ok: true, principal }
  }

  #admitLocal(credentials: Credentials): AuthenticationResult {
    if (!credentials.isLoopback) return NOT_AUTHORIZED
    const { protocol, username, password, vhost } = credentials
    if (protocol === 'mqtt') return { ok: true, principal: this.#anonymous(vhost) }
    if (username !== GUEST || password === null || !Buffer.from(GUEST).equals(password)) return BAD
    return { ok: true, principal: this.#local(GUEST, ['administrator'], vhost) }
  }

  /** What it reads of `$SYS` is no secret on this machine. */
  #anonymous(vhost: string): Principal {
    return this.#local('', ['monitoring'], vhost)
  }

  /** While there are no users, the rules that hold for everybody are all there are. */
  #local(name: string, tags: readonly string[], vhost: string): Principal {
    const topics = rulesOf(vhost, [], this.#topics)
    return new Principal(name, tags, vhost, [], topics, this.#topics.length === 0)
  }
}

/** Those that hold in a virtual host: the user's, then everybody's. */
function rulesOf(
  vhost: string,
  own: readonly TopicRule[],
  common: readonly TopicRule[]
): readonly TopicRule[] {
  const rules = common.length === 0 ? own : [...own, ...common]
  if (rules.every(rule => rule.vhost === undefined)) return rules
  return rules.filter(rule => rule.vhost === undefined || rule.vhost === vhost)
}

/** Too many wait: no result. Anything else that fails is the caller's to see. */
function busyAsNull(error: unknown): null {
  if (error instanceof HasherBusyError) return null
  throw error
}
