/**
 * Enhanced authentication (MQTT 5 §4.12): the AUTH packets of a login that takes several messages, before
 * the CONNACK and, when the client wants to show anew who it is, while it is connected.
 */
import type { AuthenticationResult, Credentials, ExchangeStep } from '../auth/authenticator.ts'
import { send } from './answers.ts'
import { Authentication } from './authentication.ts'
import type { AuthPacket } from './codec/packet.ts'
import { PROTOCOL_ERROR, ProtocolError } from './codec/protocol-error.ts'
import { writeAuth } from './codec/write.ts'
import type { MqttConnection } from './connection.ts'
import { PAUSED_LOGIN } from './paused.ts'
import { REASON } from './reason-codes.ts'
import { refuse } from './refusing.ts'

const SUCCESS = 0x00
const CONTINUE = 0x18
const REAUTHENTICATE = 0x19
const NO_DATA = Buffer.alloc(0)

/** Begins what a CONNECT with an Authentication Method asks for. False: take no more packets now. */
export function beginAuthentication(
  connection: MqttConnection,
  method: string,
  data: Buffer | null,
  credentials: Credentials,
  onResult: (result: AuthenticationResult) => void
): boolean {
  const exchange = connection.context.authenticator.exchange(method, credentials)
  if (exchange === null) {
    refuse(connection, REASON.badAuthenticationMethod, 'unknown authentication method')
    return false
  }
  const authentication = new Authentication(method, credentials, exchange, onResult)
  connection.authentication = authentication
  // Until it has logged in, it may not make us buffer more than any other stranger.
  connection.splitter.packetBytesMax = connection.context.broker.limits.preLoginBytesMax
  connection.splitter.allowAuthentication()
  if (data !== null) return advance(connection, authentication, exchange.step(data))
  // It waits for us to begin, and we for it: asked without a word.
  send(connection, writeAuth(CONTINUE, method, NO_DATA))
  return true
}

/** False: take no more packets now. Throws a `ProtocolError`. */
export function handleAuth(connection: MqttConnection, packet: AuthPacket): boolean {
  const { authentication } = connection
  if (authentication === null || packet.reason === SUCCESS) {
    throw new ProtocolError(PROTOCOL_ERROR, 'AUTH without enhanced authentication') // §4.12
  }
  // [MQTT-4.12.0-5]
  if (packet.method !== authentication.method) {
    throw new ProtocolError(PROTOCOL_ERROR, 'another authentication method')
  }
  if (packet.reason === REAUTHENTICATE) {
    const { authenticator } = connection.context
    // [MQTT-4.12.1-1]: only once the CONNACK has left.
    if (!connection.isOpen || authentication.exchange !== null) {
      throw new ProtocolError(PROTOCOL_ERROR, 're-authentication inside an authentication')
    }
    const { method, credentials } = authentication
    authentication.exchange = authenticator.exchange(method, credentials)
  }
  const { exchange } = authentication
  if (exchange === null) throw new ProtocolError(PROTOCOL_ERROR, 'AUTH out of place')
  return advance(connection, authentication, exchange.step(packet.data))
}

function advance(
  connection: MqttConnection,
  authentication: Authentication,
  step: ExchangeStep
): boolean {
  const { method } = authentication
  if (step.state === 'continue') {
    send(connection, writeAuth(CONTINUE, method, step.data)) // [MQTT-4.12.0-2]
    return true
  }
  authentication.exchange = null
  if (connection.isOpen) return finishAgain(connection, authentication, step)
  const result: AuthenticationResult =
    step.state === 'done'
      ? { ok: true, principal: step.principal }
      : { ok: false, reason: step.reason }
  if (step.state === 'done') authentication.lastData = step.data
  const { splitter, context } = connection
  splitter.packetBytesMax = context.broker.limits.mqttPacketBytesMax
  splitter.setVersion(connection.version)
  connection.pause(PAUSED_LOGIN)
  // What follows resumes the splitter, which must have stopped by then.
  queueMicrotask(() => authentication.onResult(result))
  return false
}

/** §4.12.1: while it is done, and when it fails, the session goes on as it was or ends with a DISCONNECT. */
function finishAgain(
  connection: MqttConnection,
  authentication: Authentication,
  step: Exclude<ExchangeStep, { state: 'continue' }>
): boolean {
  // The session and the client id are one user's.
  if (step.state === 'failed' || step.principal.name !== connection.principal.name) {
    connection.context.broker.counters.loginFailures++
    connection.close('re-authentication failed', REASON.notAuthorized, 'lost')
    return false
  }
  connection.principal = step.principal
  send(connection, writeAuth(SUCCESS, authentication.method, step.data))
  return true
}
