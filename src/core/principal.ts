/** Who is authenticated, with the rules that say what it may do. Immutable: a change makes a new one. */

export type Access = 'read' | 'write'

/** A rule on topics. `%u` and `%c` in the filter stand for the user name and client id, as literals. */
export interface TopicRule {
  readonly effect: 'allow' | 'deny'
  readonly access: Access | 'readwrite'
  readonly filter: string
}

/** RabbitMQ's three regular expressions, matched against the names of queues and exchanges. */
export interface ResourceRule {
  readonly vhost: string
  readonly configure: string
  readonly write: string
  readonly read: string
}

/** A user as it is kept: the stored secrets, never a password. */
export interface User {
  readonly name: string
  readonly tags: readonly string[]
  /** `scrypt$N$r$p$salt$hash`, base64; '' when the user has no password. */
  readonly passwordHash: string
  /** `iterations$salt$storedKey$serverKey`, base64: SCRAM-SHA-256 (RFC 5802), made when the password was set. */
  readonly scram: string
  readonly resources: readonly ResourceRule[]
  readonly topics: readonly TopicRule[]
}

export class Principal {
  /** '' for an anonymous client. */
  readonly name: string
  readonly tags: readonly string[]
  readonly vhost: string
  readonly resources: readonly ResourceRule[]
  readonly topics: readonly TopicRule[]
  /** Everything but admin and `$SYS` is permitted: no rule exists in the whole broker. */
  readonly isUnrestricted: boolean

  constructor(
    name: string,
    tags: readonly string[],
    vhost: string,
    resources: readonly ResourceRule[],
    topics: readonly TopicRule[],
    isUnrestricted: boolean
  ) {
    this.name = name
    this.tags = tags
    this.vhost = vhost
    this.resources = resources
    this.topics = topics
    this.isUnrestricted = isUnrestricted
  }

  get isAdmin(): boolean {
    return this.tags.includes('administrator')
  }

  /** Reads `$SYS` without a rule that says so. */
  get seesSys(): boolean {
    return this.isAdmin || this.tags.includes('monitoring')
  }
}
