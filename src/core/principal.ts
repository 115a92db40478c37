/** Who is authenticated, with the rules that say what it may do. Immutable: a change makes a new one. */

export type Access = 'read' | 'write'

/** A rule on topics. `%u` and `%c` in the filter stand for the user name and client id, as literals. */
export interface TopicRule {
  readonly effect: 'allow' | 'deny'
  readonly access: Access | 'readwrite'
  readonly filter: string
  /** Where it holds; absent: in every virtual host. */
  readonly vhost?: string
}

/**
 * RabbitMQ's topic permission: regular expressions on the routing keys, in AMQP form, of one exchange.
 * `{username}`, `{vhost}` and `{client_id}` in them stand for the names, as literals.
 */
export interface TopicPermission {
  readonly vhost: string
  readonly exchange: string
  readonly write: string
  readonly read: string
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
  /** `scrypt$N$r$p$salt$hash` or `rabbit-sha256$salted`, base64; '' when the user has no password. */
  readonly passwordHash: string
  /** `iterations$salt$storedKey$serverKey`, base64: SCRAM-SHA-256 (RFC 5802), made when the password was set. */
  readonly scram: string
  readonly resources: readonly ResourceRule[]
  readonly topics: readonly TopicRule[]
  /** Records of before these were served have none. */
  readonly topicPermissions?: readonly TopicPermission[]
  /** It may log in from this machine only: its password is known to everybody. */
  readonly isLocalOnly?: boolean
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
  /** Those of its virtual host. */
  readonly topicPermissions: readonly TopicPermission[]
  /** Each topic has to be judged, even where its exchange is permitted. */
  readonly judgesTopics: boolean

  constructor(
    name: string,
    tags: readonly string[],
    vhost: string,
    resources: readonly ResourceRule[],
    topics: readonly TopicRule[],
    isUnrestricted: boolean,
    topicPermissions: readonly TopicPermission[] = []
  ) {
    this.name = name
    this.tags = tags
    this.vhost = vhost
    this.resources = resources
    this.topics = topics
    this.isUnrestricted = isUnrestricted
    this.topicPermissions = topicPermissions
    this.judgesTopics = topics.length > 0 || topicPermissions.length > 0
  }

  get isAdmin(): boolean {
    return this.tags.includes('administrator')
  }

  /** Reads `$SYS` without a rule that says so. */
  get seesSys(): boolean {
    return this.isAdmin || this.tags.includes('monitoring')
  }
}
