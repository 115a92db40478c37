/**
 * The one list of reasons for which the broker refuses or drops something. Each front-end has one
 * table from these to its wire codes. Hot verbs return them negated (`-NOT_AUTHORIZED`), cold verbs
 * throw a `BrokerError`.
 */
export const ERROR_CODES = {
  notAuthorized: 1,
  notFound: 2,
  /** The same thing exists with other arguments, is in use, is not empty. */
  preconditionFailed: 3,
  /** Exclusive to another connection. */
  locked: 4,
  /** A name or operation that nobody may use (`amq.` names, the default exchange). */
  reserved: 5,
  topicInvalid: 6,
  filterInvalid: 7,
  tooLarge: 8,
  /** A limit of this client or of the broker is reached. */
  quotaExceeded: 9,
  /** A queue with overflow `reject-publish` is full. */
  queueFull: 10,
  /** The disk's alarm: nothing that lasts is taken now; it resumes by itself. */
  diskAlarm: 11,
  /** The journal failed: nothing that lasts is taken until a restart. */
  journalFailed: 12,
  clientIdInvalid: 13,
  /** The client id belongs to another user. */
  clientIdTaken: 14,
  badCredentials: 15,
  shuttingDown: 16,
  notAllowed: 17,
  notImplemented: 18,
  argumentInvalid: 19
} as const

export type ErrorName = keyof typeof ERROR_CODES
export type ErrorCode = (typeof ERROR_CODES)[ErrorName]

export const ERROR_NAMES: readonly ErrorName[] = Object.keys(ERROR_CODES) as ErrorName[]

/** A valid request that is refused, on the cold verbs. `fields` name what it was about. */
export class BrokerError extends Error {
  readonly code: ErrorName
  readonly fields: Readonly<Record<string, string | number | boolean>>

  constructor(
    code: ErrorName,
    message: string,
    fields: Readonly<Record<string, string | number | boolean>> = {},
    cause?: unknown
  ) {
    super(message, cause === undefined ? undefined : { cause })
    this.name = 'BrokerError'
    this.code = code
    this.fields = fields
  }
}

/** Why a message that was accepted, or could have been, did not reach somebody: each is counted. */
export const DROP_REASONS = [
  'not_authorized',
  'no_match',
  'queue_full',
  'expired',
  'closed',
  'slow_consumer',
  'too_large',
  'offline_qos0',
  'disk_alarm',
  'journal_failed',
  'topic_not_mqtt',
  'queue_deleted',
  'purged',
  'rejected',
  'delivery_limit',
  'session_ended',
  'retained_quota',
  'damaged',
  'deduplicated',
  'memory'
] as const
export type DropReason = (typeof DROP_REASONS)[number]
