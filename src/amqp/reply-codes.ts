/**
 * Reply codes of AMQP 0-9-1 (§1.3) with RabbitMQ's names, the errors that carry them, and the one table
 * from the broker's reasons to them. Clients read the name out of the reply text, so its form is fixed:
 * `CODE_NAME - explanation`.
 */
import type { ErrorName } from '../core/errors.ts'

export const REPLY = {
  success: 200,
  noRoute: 312,
  connectionForced: 320,
  accessRefused: 403,
  notFound: 404,
  resourceLocked: 405,
  preconditionFailed: 406,
  frameError: 501,
  syntaxError: 502,
  commandInvalid: 503,
  channelError: 504,
  unexpectedFrame: 505,
  resourceError: 506,
  notAllowed: 530,
  notImplemented: 540,
  internalError: 541
} as const
export type ReplyCode = (typeof REPLY)[keyof typeof REPLY]

const REPLY_NAMES = {
  200: 'OK',
  312: 'NO_ROUTE',
  320: 'CONNECTION_FORCED',
  403: 'ACCESS_REFUSED',
  404: 'NOT_FOUND',
  405: 'RESOURCE_LOCKED',
  406: 'PRECONDITION_FAILED',
  501: 'FRAME_ERROR',
  502: 'SYNTAX_ERROR',
  503: 'COMMAND_INVALID',
  504: 'CHANNEL_ERROR',
  505: 'UNEXPECTED_FRAME',
  506: 'RESOURCE_ERROR',
  530: 'NOT_ALLOWED',
  540: 'NOT_IMPLEMENTED',
  541: 'INTERNAL_ERROR'
} as const satisfies Record<ReplyCode, string>

/** The codes that close a channel only; every other one closes the connection. */
const CHANNEL_CODES: ReadonlySet<number> = new Set([403, 404, 405, 406])

/** What a peer did wrong, or may not do: answered by channel.close or connection.close. */
export class AmqpError extends Error {
  readonly replyCode: ReplyCode
  /** True: the connection is closed; false: only the channel. */
  readonly closesConnection: boolean

  constructor(replyCode: ReplyCode, explanation: string, closesConnection?: boolean) {
    super(`${REPLY_NAMES[replyCode]} - ${explanation}`)
    this.name = 'AmqpError'
    this.replyCode = replyCode
    this.closesConnection = closesConnection ?? !CHANNEL_CODES.has(replyCode)
  }
}

/** Something came on a channel that is not open. */
export function notOpen(): AmqpError {
  return new AmqpError(REPLY.channelError, "expected 'channel.open'")
}

/** A content frame where a method has to come first. */
export function expectedMethod(): AmqpError {
  const explanation = 'expected method frame, got non method frame instead'
  return new AmqpError(REPLY.unexpectedFrame, explanation)
}

/**
 * A frame where it may not be, or of a type that does not exist (AMQP 0-9-1 §4.2.3); a heartbeat that is not
 * empty (§4.2.7) is none either.
 */
export function unexpectedFrame(type: number, bytes: number, where: string): AmqpError {
  const isKnown = FRAME_TYPES.has(type) && (type !== HEARTBEAT || bytes === 0)
  const code = isKnown ? REPLY.unexpectedFrame : REPLY.frameError
  return new AmqpError(code, `frame of type ${type} ${where}`)
}

/** Method, header, body, heartbeat. */
const FRAME_TYPES: ReadonlySet<number> = new Set([1, 2, 3, 8])
const HEARTBEAT = 8

/** The reply code of each of the broker's reasons. */
export const REPLY_OF = {
  notAuthorized: REPLY.accessRefused,
  notFound: REPLY.notFound,
  preconditionFailed: REPLY.preconditionFailed,
  locked: REPLY.resourceLocked,
  reserved: REPLY.accessRefused,
  topicInvalid: REPLY.preconditionFailed,
  filterInvalid: REPLY.preconditionFailed,
  tooLarge: REPLY.preconditionFailed,
  quotaExceeded: REPLY.preconditionFailed,
  queueFull: REPLY.preconditionFailed,
  diskAlarm: REPLY.preconditionFailed,
  journalFailed: REPLY.internalError,
  clientIdInvalid: REPLY.preconditionFailed,
  clientIdTaken: REPLY.resourceLocked,
  badCredentials: REPLY.accessRefused,
  shuttingDown: REPLY.connectionForced,
  notAllowed: REPLY.notAllowed,
  notImplemented: REPLY.notImplemented,
  argumentInvalid: REPLY.preconditionFailed
} as const satisfies Record<ErrorName, ReplyCode>
