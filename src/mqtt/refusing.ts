/** What went wrong with a connection, and what its client is told of it. */
import type { Logger } from 'pino'
import { isFrontEndBug } from '../broker/front-end-bug.ts'
import { type Answering, fitting, send } from './answers.ts'
import { type ConnackProperties, writeConnack, writeDisconnect } from './codec/write.ts'
import { ProtocolError } from './codec/protocol-error.ts'
import type { Who } from './log-end.ts'
import { REASON, returnCodeOfReason } from './reason-codes.ts'

/** The parts of a connection that refusing needs. */
export interface Refusable extends Answering {
  readonly log: Logger
  readonly who: Who
  readonly isOpen: boolean
  version: number
  close(text: string, reason: number, how: 'disconnect' | 'with-will' | 'lost'): void
}

/** What a packet's handling threw. */
export function failed(connection: Refusable, error: unknown): void {
  if (error instanceof ProtocolError) {
    // Version 5 is known: in an enhanced authentication.
    if (!connection.isOpen && (error.connackVersion > 0 || connection.version === 5)) {
      if (error.connackVersion > 0) connection.version = error.connackVersion
      refuse(connection, error.reason, error.message)
    } else {
      connection.close(error.message, error.reason, 'lost')
    }
    return
  }
  if (!isFrontEndBug(error)) throw error
  connection.context.bugs++
  connection.log.error({ ...connection.who, err: error }, 'bug: the connection is closed')
  connection.close('internal error', REASON.unspecified, 'lost')
}

/** Refuses a CONNECT: `reason` is MQTT 5's, older versions get what is nearest to it. */
export function refuse(
  connection: Refusable,
  reason: number,
  text: string,
  returnCode = returnCodeOfReason(reason),
  properties: ConnackProperties = {}
): void {
  if (connection.isClosed) return
  if (connection.version < 5) send(connection, writeConnack(connection.version, false, returnCode))
  else {
    const full = writeConnack(5, false, reason, { reasonString: text, ...properties })
    const short = () => fitting(connection, writeConnack(5, false, reason, properties), bare)
    const bare = () => writeConnack(5, false, reason)
    // [MQTT-3.2.2-19]
    send(connection, fitting(connection, full, short))
  }
  connection.close(text, 0, 'lost')
}

/** DISCONNECT to an open client of version 5, with a reason string if that fits [MQTT-3.14.2-3]. */
export function sayGoodbye(connection: Answering, reason: number, text: string): void {
  const isSentAway = reason === REASON.useAnotherServer || reason === REASON.serverMoved
  const reference = isSentAway ? (connection.context.drain?.reference ?? '') : ''
  const full = writeDisconnect(reason, text, reference)
  const short = () => fitting(connection, writeDisconnect(reason, '', reference), bare)
  const bare = () => writeDisconnect(reason)
  send(connection, fitting(connection, full, short))
}
