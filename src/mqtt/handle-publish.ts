/** PUBLISH from a client (MQTT 5 §3.3, 3.1.1 §3.3). The hot path: nothing is allocated. */
import { publish } from '../broker/publish.ts'
import { inboundTicket } from '../broker/settle.ts'
import { ERROR_CODES } from '../core/errors.ts'
import { owe, oweRefusal, PUBACK_FIRST, PUBREC_FIRST } from './answers.ts'
import { ProtocolError } from './codec/protocol-error.ts'
import type { MqttConnection } from './connection.ts'
import { hold, holdAll } from './holding.ts'
import { isDenial, logDenied } from './log-denied.ts'
import { REASON, reasonOf } from './reason-codes.ts'

const VERSION_5 = 5

/** False: the packets behind it must wait. */
export function handlePublish(
  connection: MqttConnection,
  first: number,
  buffer: Buffer,
  start: number,
  end: number
): boolean {
  const { broker, message } = connection.context
  connection.isPublisher = true
  // Too much is on its way to the disk: what the publishers have sent already must not double it.
  if (broker.isPaused && connection.postpones()) return false
  const isAcknowledged = (first & 6) !== 0
  if (isAcknowledged && connection.held.count > 0) {
    // Those behind a held one keep their order.
    hold(connection, first, buffer, start, end)
    return true
  }
  const { version, reader } = connection
  reader.read(message, first, buffer, start, end, version, broker.limits, broker)
  if (!isAcknowledged) {
    const result = publish(broker, message, connection)
    if (result < 0) notTaken(connection, -result)
    return true
  }
  const { packetId } = message
  if (message.qos === 2) {
    const repeated = inboundTicket(connection.session!, packetId)
    if (repeated >= 0) {
      // [MQTT-4.3.3-10]: it was routed when it came first.
      broker.counters.mqttOthersReceived++
      owe(connection, repeated, PUBREC_FIRST, packetId, REASON.success)
      return true
    }
  }
  if (++connection.receivedCount > broker.limits.receiveMaximum && version === VERSION_5) {
    throw new ProtocolError(REASON.receiveMaximumExceeded, 'receive maximum exceeded')
  }
  const ticket = publish(broker, message, connection)
  if (ticket < 0) return refuse(connection, -ticket, first, buffer, start, end)
  if (message.qos === 2) {
    // That nobody subscribes may be said (§3.5.2.1), at the price of a byte a message: Mosquitto does not.
    owe(connection, ticket, PUBREC_FIRST, packetId, REASON.success)
    return true
  }
  const reason = broker.matched ? REASON.success : REASON.noMatchingSubscribers
  owe(connection, ticket, PUBACK_FIRST, packetId, reason)
  return true
}

/** Logged; and who retains where it was told that nothing is retained is closed. */
function notTaken(connection: MqttConnection, code: number): void {
  const { broker, message } = connection.context
  if (message.retain && broker.limits.retainedMax === 0 && connection.version === VERSION_5) {
    throw new ProtocolError(REASON.retainNotSupported, 'no messages are retained') // [MQTT-3.2.2-14]
  }
  if (isDenial(code))
    logDenied(connection, 'publish', connection.context.message.key, reasonOf(code))
}

/** What was not taken. Version 5 is told; older ones can only be acknowledged, held or closed. */
function refuse(
  connection: MqttConnection,
  code: number,
  first: number,
  buffer: Buffer,
  start: number,
  end: number
): boolean {
  const { broker } = connection.context
  const { qos, packetId } = connection.context.message
  const ack = qos === 2 ? PUBREC_FIRST : PUBACK_FIRST
  if (code === ERROR_CODES.shuttingDown) {
    connection.close('the broker stops', REASON.serverShuttingDown, 'lost')
    return false
  }
  notTaken(connection, code)
  if (connection.version === VERSION_5) {
    oweRefusal(connection, ack, packetId, code)
    return true
  }
  switch (code) {
    case ERROR_CODES.notAuthorized:
      // As Mosquitto does: a client that cannot be told is not to repeat it for ever. It is counted.
      owe(connection, 0, ack, packetId, REASON.notAuthorized)
      return true
    case ERROR_CODES.diskAlarm:
      // It waits here; neither received nor dropped until then.
      broker.counters.mqttReceived[qos]!--
      broker.counters.drop('disk_alarm', -1)
      connection.receivedCount--
      hold(connection, first, buffer, start, end)
      return true
    case ERROR_CODES.queueFull:
      // Other queues may have it already, so it is not tried again: the client does, when it is back.
      holdAll(connection, broker.limits.rejectHoldMs)
      return false
    default:
      connection.close('PUBLISH refused', 0, 'lost')
      return false
  }
}
