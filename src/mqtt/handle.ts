/** May this packet come now, and who handles it. */
import {
  AUTH,
  CONNECT,
  DISCONNECT,
  PINGREQ,
  PINGRESP,
  PUBACK,
  PUBCOMP,
  PUBLISH,
  PUBREC,
  PUBREL,
  SUBSCRIBE,
  UNSUBSCRIBE,
  type Version
} from './codec/packet-types.ts'
import { readAck } from './codec/acks.ts'
import { readAuth, readDisconnect } from './codec/packet.ts'
import { MALFORMED, PROTOCOL_ERROR, ProtocolError } from './codec/protocol-error.ts'
import type { MqttConnection } from './connection.ts'
import { handlePuback, handlePubcomp, handlePubrec, handlePubrel } from './handle-acks.ts'
import { handleAuth } from './handle-auth.ts'
import { handleConnect } from './handle-connect.ts'
import { handlePublish } from './handle-publish.ts'
import { handleSubscribe, handleUnsubscribe } from './handle-subscribe.ts'
import { REASON } from './reason-codes.ts'

/** One packet; false: the rest must wait. Throws a `ProtocolError`. */
export function handlePacket(
  connection: MqttConnection,
  first: number,
  buffer: Buffer,
  start: number,
  end: number
): boolean {
  const type = first >> 4
  if (type === PUBLISH) return handlePublish(connection, first, buffer, start, end)
  connection.context.broker.counters.mqttOthersReceived++
  if (type >= PUBACK && type <= PUBCOMP) {
    const { userPropertiesMax } = connection.context.broker.limits
    readAck(type, buffer, start, end, connection.version, userPropertiesMax)
    return handleAck(connection, type)
  }
  // The splitter lets nothing but a CONNECT through before one, and none behind it.
  if (type === CONNECT) return handleConnect(connection, first, buffer, start, end)
  return handleRare(connection, type, buffer, start, end)
}

function handleAck(connection: MqttConnection, type: number): boolean {
  switch (type) {
    case PUBACK:
      handlePuback(connection)
      break
    case PUBREC:
      handlePubrec(connection)
      break
    case PUBREL:
      handlePubrel(connection)
      break
    default:
      handlePubcomp(connection)
  }
  return true
}

function handleRare(
  connection: MqttConnection,
  type: number,
  buffer: Buffer,
  start: number,
  end: number
): boolean {
  switch (type) {
    case PINGREQ:
      handlePing(connection, end - start)
      return true
    case SUBSCRIBE:
      handleSubscribe(connection, buffer, start, end)
      return true
    case UNSUBSCRIBE:
      handleUnsubscribe(connection, buffer, start, end)
      return true
    case DISCONNECT:
      handleDisconnect(connection, buffer, start, end)
      return false
    case AUTH:
      return handleAuth(connection, readAuth(buffer, start, end, connection.context.broker.limits))
    default:
      throw new ProtocolError(PROTOCOL_ERROR, 'unexpected packet')
  }
}

function handlePing(connection: MqttConnection, bodyBytes: number): void {
  if (bodyBytes > 0) throw new ProtocolError(MALFORMED, 'PINGREQ with a body')
  connection.context.broker.counters.mqttOthersSent++
  const at = connection.socket.reserve(2)
  connection.socket.buffer[at] = PINGRESP << 4
  connection.socket.buffer[at + 1] = 0
}

/** §3.14: reason 0 discards the will; any other publishes it. */
function handleDisconnect(
  connection: MqttConnection,
  buffer: Buffer,
  start: number,
  end: number
): void {
  const { limits } = connection.context.broker
  const { reason, sessionExpirySeconds } = readDisconnect(
    buffer,
    start,
    end,
    connection.version as Version,
    limits
  )
  if (sessionExpirySeconds !== null) {
    if (connection.requestedExpirySeconds === 0 && sessionExpirySeconds > 0) {
      throw new ProtocolError(PROTOCOL_ERROR, 'session expiry after a CONNECT without') // §3.14.2.2.2
    }
    connection.newExpirySeconds = Math.min(sessionExpirySeconds, limits.sessionExpirySecondsMax)
  }
  const how = reason === REASON.success ? 'disconnect' : 'with-will'
  connection.close('client disconnected', 0, how)
}
