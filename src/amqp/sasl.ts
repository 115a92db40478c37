/**
 * SASL mechanisms of connection.start-ok: PLAIN (RFC 4616), RabbitMQ's AMQPLAIN, and EXTERNAL (RFC 4422) where TLS
 * has verified who the client is.
 */
import { isUtf8 } from 'node:buffer'
import { fieldOf } from '../core/field-table.ts'
import { readTable, syntaxError } from './codec/field-table.ts'
import { AmqpError, REPLY } from './reply-codes.ts'

export const MECHANISMS = 'PLAIN AMQPLAIN'
/** Offered to a peer with a certificate, or a pre-shared key, that names a user. */
export const MECHANISMS_WITH_EXTERNAL = `EXTERNAL ${MECHANISMS}`

export interface Login {
  /** Null: the one that TLS has verified. */
  readonly username: string | null
  readonly password: Buffer | null
}

/** What the client says beside it is not looked at: its certificate speaks for it. */
const EXTERNAL: Login = { username: null, password: null }

/** Throws 503 for a mechanism that was not offered, 502 for a response that is not of its form. */
export function readLogin(
  mechanism: string,
  response: Buffer,
  identity: string | null = null
): Login {
  if (mechanism === 'PLAIN') return readPlain(response)
  if (mechanism === 'AMQPLAIN') return readAmqplain(response)
  if (mechanism === 'EXTERNAL' && identity !== null) return EXTERNAL
  throw new AmqpError(REPLY.commandInvalid, `unknown authentication mechanism '${mechanism}'`)
}

/** `[authorization identity] NUL user NUL password`. The identity is ignored, as RabbitMQ does. */
function readPlain(response: Buffer): Login {
  const first = response.indexOf(0)
  const second = first < 0 ? -1 : response.indexOf(0, first + 1)
  if (second < 0) throw syntaxError('malformed PLAIN response')
  return login(response.subarray(first + 1, second), response.subarray(second + 1))
}

/** The entries of a field table, without the table's length. */
function readAmqplain(response: Buffer): Login {
  const table = Buffer.alloc(4 + response.length)
  table.writeUInt32BE(response.length, 0)
  response.copy(table, 4)
  const fields = readTable(table, 0, table.length)
  const username = fieldOf(fields, 'LOGIN')
  const password = fieldOf(fields, 'PASSWORD')
  if (username?.type !== 'S' || (password?.type !== 'S' && password?.type !== 'x')) {
    throw syntaxError('malformed AMQPLAIN response')
  }
  return login(Buffer.from(username.value), Buffer.from(password.value as string))
}

function login(username: Buffer, password: Buffer): Login {
  if (!isUtf8(username)) throw syntaxError('the user name is not UTF-8')
  return { username: username.toString('utf8'), password: Buffer.from(password) }
}
