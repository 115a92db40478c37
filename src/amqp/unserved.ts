/** What is said to a method that nobody may send here and now. */
import {
  ACCESS,
  BASIC,
  CHANNEL,
  CONFIRM,
  CONNECTION,
  EXCHANGE,
  type Method,
  QUEUE,
  TX
} from './codec/methods.ts'
import { AmqpError, REPLY } from './reply-codes.ts'

const METHODS = [CONNECTION, CHANNEL, ACCESS, EXCHANGE, QUEUE, BASIC, CONFIRM, TX].flatMap(
  (methods): Method[] => Object.values(methods)
)
const IDS: ReadonlySet<number> = new Set(METHODS.map(method => method.id))
const CLASSES: ReadonlySet<number> = new Set(METHODS.map(method => method.classId))

/** On a channel: an answer that nothing was asked for, a method of the server's, or one that does not exist. */
export function unservedMethod(id: number): AmqpError {
  if (IDS.has(id)) return new AmqpError(REPLY.commandInvalid, 'unimplemented method')
  const classId = id >>> 16
  return new AmqpError(
    CLASSES.has(classId) ? REPLY.commandInvalid : REPLY.notImplemented,
    `unknown method ${classId}.${id & 0xffff}`
  )
}

/** On channel 0 of an open connection: one of the handshake's, of a channel's, or one that does not exist. */
export function misplacedMethod(id: number): AmqpError {
  if (!IDS.has(id)) return unservedMethod(id)
  return new AmqpError(REPLY.channelError, 'unexpected method in connection state running')
}
