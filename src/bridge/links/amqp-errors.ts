/** What the errors of AMQP servers, TLS and the network mean to a bridge. */
import { LinkError } from '../link.ts'

/** Reply codes by the library's names: an operator must act. */
const CONFIG_CODES: ReadonlySet<string> = new Set([
  'ACCESS_REFUSED',
  'NOT_FOUND',
  'NOT_ALLOWED',
  'PRECONDITION_FAILED',
  'INVALID_PATH',
  'RESOURCE_LOCKED',
  'NOT_IMPLEMENTED',
  'VERSION_MISMATCH',
  'COMMAND_INVALID'
])

/** Of them, and of others, those that one message can bring about while others would pass. */
const MESSAGE_CODES: ReadonlySet<string> = new Set([
  'ACCESS_REFUSED',
  'NOT_FOUND',
  'NOT_ALLOWED',
  'PRECONDITION_FAILED',
  'CONTENT_TOO_LARGE',
  'FRAME_ERROR',
  'SYNTAX_ERROR',
  'NOT_IMPLEMENTED'
])

const TLS_CODES =
  /^(?:CERT_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_|ERR_TLS_|ERR_SSL_|ERR_OSSL_|HOSTNAME_MISMATCH|CRL_|INVALID_|PATH_LENGTH_)/

export function codeOf(error: unknown): string {
  const { code } = (error ?? {}) as { code?: unknown }
  return typeof code === 'string' ? code : ''
}

/** One line for people: what happened, with the code it is looked up by. */
export function reasonOf(error: unknown): string {
  const code = codeOf(error)
  const message = error instanceof Error ? error.message : String(error)
  const [line] = message.split('\n', 1)
  if (code === '' || line!.includes(code)) return line!
  return `${code}: ${line}`
}

export function isConfigError(error: unknown): boolean {
  const code = codeOf(error)
  return CONFIG_CODES.has(code) || TLS_CODES.test(code)
}

export function mayBeMessages(error: unknown): boolean {
  return MESSAGE_CODES.has(codeOf(error))
}

export function linkErrorOf(error: unknown): LinkError {
  if (error instanceof LinkError) return error
  return new LinkError(reasonOf(error), isConfigError(error), error)
}
