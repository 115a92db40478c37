/** SUBSCRIBE and UNSUBSCRIBE (MQTT 5 §3.8, §3.10). Their answers wait for the disk where the session lasts. */
import { replayRetained } from '../broker/retained-replay.ts'
import { subscribe, unsubscribe } from '../broker/sessions.ts'
import type { Session } from '../core/session.ts'
import { hasWildcard } from '../core/topic.ts'
import { fitting, type OwedTask, oweTask, send } from './answers.ts'
import { type FilterRequest, readSubscribe, readUnsubscribe } from './codec/packet.ts'
import { writeSuback, writeUnsuback } from './codec/write.ts'
import type { Version } from './codec/packet-types.ts'
import { PROTOCOL_ERROR, ProtocolError } from './codec/protocol-error.ts'
import type { MqttConnection } from './connection.ts'
import { logDenied } from './log-denied.ts'
import { REASON, reasonOf, textOfReason } from './reason-codes.ts'

/** SUBACK of 3.1.1 for whatever is refused (§3.9.3). */
const FAILURE = 0x80

/** A SUBACK, and the retained messages behind it. */
class SubackTask implements OwedTask {
  private readonly connection: MqttConnection
  private readonly packet: Buffer
  private readonly granted: readonly string[]

  constructor(connection: MqttConnection, packet: Buffer, granted: readonly string[]) {
    this.connection = connection
    this.packet = packet
    this.granted = granted
  }

  run(): void {
    const { connection } = this
    send(connection, this.packet)
    const { session } = connection
    if (session === null) return
    for (const filter of this.granted) {
      if (connection.isClosed) return
      replayRetained(connection.context.broker, session, filter)
    }
  }
}

class UnsubackTask implements OwedTask {
  private readonly connection: MqttConnection
  private readonly packet: Buffer

  constructor(connection: MqttConnection, packet: Buffer) {
    this.connection = connection
    this.packet = packet
  }

  run(): void {
    send(this.connection, this.packet)
  }
}

export function handleSubscribe(
  connection: MqttConnection,
  buffer: Buffer,
  start: number,
  end: number
): void {
  const { broker } = connection.context
  const session = connection.session!
  const { version, isBridge } = connection
  const packet = readSubscribe(buffer, start, end, version as Version, isBridge, broker.limits)
  const wildcardsMax = broker.limits.wildcardSubscriptionsMax
  for (const { filter, noLocal } of packet.filters) {
    if (wildcardsMax === 0 && version === 5 && hasWildcard(filter)) {
      // §3.2.2.3.11: the CONNACK said so.
      throw new ProtocolError(REASON.wildcardsNotSupported, 'no wildcards are available')
    }
    if (noLocal && !isBridge && filter.startsWith('$share/')) {
      throw new ProtocolError(PROTOCOL_ERROR, 'no local on a shared subscription') // [MQTT-3.8.3-4]
    }
  }
  let ticket = 0
  const codes: number[] = []
  const granted: string[] = []
  for (const request of packet.filters) {
    const code = subscribeOne(connection, session, request, packet.subscriptionId)
    if (code === REASON.serverShuttingDown) {
      // No code of a SUBACK [MQTT-3.9.3-2]: said as to a publisher, by a DISCONNECT.
      connection.close('the broker stops', REASON.serverShuttingDown, 'lost')
      return
    }
    ticket = Math.max(ticket, session.ticket)
    if (code < FAILURE) granted.push(request.filter)
    else logDenied(connection, 'subscribe', request.filter, code)
    codes.push(answerOf(version, code, request.qos))
  }
  const suback = writeAnswer(connection, packet.packetId, codes)
  oweTask(connection, ticket, new SubackTask(connection, suback, granted))
}

/** The SUBACK, with a reason string if something was refused and it fits [MQTT-3.9.2-1]. */
function writeAnswer(connection: MqttConnection, packetId: number, codes: number[]): Buffer {
  const { version } = connection
  const refused = codes.find(code => code >= FAILURE) ?? 0
  const bare = () => writeSuback(version, packetId, codes)
  if (version !== 5 || refused === 0 || !connection.wantsProblems) return bare()
  const full = writeSuback(version, packetId, codes, textOfReason(refused))
  return fitting(connection, full, bare)
}

/**
 * What a SUBACK may say. 3.1 has no word for a refusal: the client is not told (3.1 §3.8), but closed for a filter that
 * is none.
 */
function answerOf(version: number, code: number, qos: number): number {
  if (version === 5 || code < FAILURE) return code
  if (version === 4) return FAILURE
  if (code === REASON.topicFilterInvalid) throw new ProtocolError(code, 'no topic filter')
  return qos
}

/** The SUBACK's reason code. */
function subscribeOne(
  connection: MqttConnection,
  session: Session,
  request: FilterRequest,
  identifier: number
): number {
  const { broker } = connection.context
  const { qos, noLocal, retainAsPublished, retainHandling } = request
  const options = { qos, noLocal, retainAsPublished, retainHandling, identifier }
  const result = subscribe(broker, session, request.filter, options)
  return result >= 0 ? result : reasonOf(-result)
}

export function handleUnsubscribe(
  connection: MqttConnection,
  buffer: Buffer,
  start: number,
  end: number
): void {
  const { broker } = connection.context
  const session = connection.session!
  const version = connection.version as Version
  const packet = readUnsubscribe(buffer, start, end, version, broker.limits)
  let ticket = 0
  const codes: number[] = []
  for (const filter of packet.filters) {
    const existed = unsubscribe(broker, session, filter)
    ticket = Math.max(ticket, session.ticket)
    codes.push(existed ? REASON.success : REASON.noSubscriptionExisted)
  }
  const unsuback = writeUnsuback(version, packet.packetId, codes)
  oweTask(connection, ticket, new UnsubackTask(connection, unsuback))
}
