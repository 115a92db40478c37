/** What a client asked for and did not get, while its connection goes on: said once each, but not in a flood. */
import { ERROR_CODES } from '../core/errors.ts'
import type { MqttConnection } from './connection.ts'
import { textOfReason } from './reason-codes.ts'

/** A topic is shown up to here, characters. */
const SHOWN_MAX = 256

/** `reason`: of a SUBACK, PUBACK or PUBREC, also for those that cannot be told. */
export function logDenied(
  connection: MqttConnection,
  action: 'publish' | 'subscribe',
  topic: string,
  reason: number
): void {
  const { context, principal, who } = connection
  if (context.deniedLines === 0) return
  context.deniedLines--
  const text = textOfReason(reason) || `reason code 0x${reason.toString(16)}`
  const shown = topic.length > SHOWN_MAX ? `${topic.slice(0, SHOWN_MAX)}…` : topic
  connection.log.warn(
    { ...who, user: principal.name, action, topic: shown, reason: text },
    'denied'
  )
}

/** Whether a refused PUBLISH is the publisher's doing: a full disk, say, has lines of its own. */
export function isDenial(code: number): boolean {
  return code === ERROR_CODES.notAuthorized || code === ERROR_CODES.quotaExceeded
}
