/**
 * CONNECT (MQTT 5 §3.1, 3.1.1 §3.1): who is it, which session, what may it expect. Nothing that follows is
 * looked at before the CONNACK has left; for a session that lasts, or discards one, that is when the disk
 * has it.
 */
import type { IConnackPacket } from 'mqtt-packet'
import type { AuthenticationResult } from '../auth/authenticator.ts'
import { connect, resume } from '../broker/sessions.ts'
import { isDollarTopic, isValidTopic } from '../core/topic.ts'
import { Will } from '../core/will.ts'
import { type ConnectPacket, readConnect, writeConnack } from './codec/packet.ts'
import type { MqttConnection, OwedTask } from './connection.ts'
import { PAUSED_LOGIN } from './paused.ts'
import { REASON, RETURN_CODE, reasonOf, returnCodeOf } from './reason-codes.ts'

type ConnackProperties = NonNullable<IConnackPacket['properties']>

const RANDOM_ID_BYTES = 16

export function handleConnect(
  connection: MqttConnection,
  buffer: Buffer,
  start: number,
  end: number
): void {
  const { context, options, splitter } = connection
  const { limits } = context.broker
  const packet = readConnect(buffer, start, end, limits)
  connection.version = packet.version
  connection.isBridge = packet.isBridge
  splitter.setVersion(packet.version)
  splitter.packetBytesMax = limits.mqttPacketBytesMax
  if (packet.packetBytesMax > 0) connection.outputPacketBytesMax = packet.packetBytesMax
  if (!isAcceptable(connection, packet)) return
  const clientId = packet.clientId === '' ? randomClientId(connection) : packet.clientId
  connection.clientId = clientId
  connection.pause(PAUSED_LOGIN)
  const credentials = {
    protocol: 'mqtt',
    username: packet.username,
    password: packet.password,
    clientId,
    vhost: options.vhost,
    peer: connection.socket.peer,
    isLoopback: options.isTrusted
  } as const
  context.authenticator.authenticate(credentials).then(
    result => guard(connection, () => authenticated(connection, packet, result)),
    error => {
      connection.log.error(
        { err: error, peer: connection.socket.peer },
        'authentication failed to run'
      )
      connection.refuse(REASON.serverUnavailable, 'authentication failed to run')
    }
  )
}

/** What can be judged without knowing who it is. */
function isAcceptable(connection: MqttConnection, packet: ConnectPacket): boolean {
  const { limits } = connection.context.broker
  if (packet.authenticationMethod !== null) {
    connection.refuse(REASON.badAuthenticationMethod, 'unknown authentication method') // §4.12
    return false
  }
  // [MQTT-3.1.3-8]; MQTT 3.1 knows no empty client id.
  const needsId = packet.version === 3 || (packet.version === 4 && !packet.cleanStart)
  if (packet.clientId === '' && needsId) {
    connection.refuse(REASON.clientIdInvalid, 'empty client id')
    return false
  }
  const keepaliveMax = limits.maxKeepaliveSeconds
  const isTooLong = packet.keepaliveSeconds === 0 || packet.keepaliveSeconds > keepaliveMax
  if (packet.version < 5 && keepaliveMax > 0 && isTooLong) {
    connection.refuse(REASON.unspecified, 'keepalive too long', RETURN_CODE.identifierRejected)
    return false
  }
  const { will } = packet
  if (will !== null && isDollarTopic(will.topic)) {
    connection.refuse(REASON.notAuthorized, 'will topic begins with $')
    return false
  }
  if (will !== null && !isValidTopic(will.topic, limits)) {
    if (packet.version === 5) connection.refuse(REASON.topicNameInvalid, 'will topic invalid')
    else connection.close('will topic invalid', 0, 'lost')
    return false
  }
  return true
}

function authenticated(
  connection: MqttConnection,
  packet: ConnectPacket,
  result: AuthenticationResult
): void {
  if (connection.isClosed) return
  const { broker } = connection.context
  if (!result.ok) {
    broker.counters.loginFailures++
    if (result.reason === 'busy') connection.refuse(REASON.serverBusy, 'too many logins')
    else if (result.reason === 'not-authorized') {
      connection.refuse(REASON.notAuthorized, 'not authorized')
    } else connection.refuse(REASON.badCredentials, 'bad credentials')
    return
  }
  const { principal } = result
  const vhost = broker.vhosts.get(principal.vhost)
  if (vhost === undefined) {
    connection.refuse(REASON.notAuthorized, 'no such virtual host')
    return
  }
  connection.principal = principal
  connection.vhost = vhost
  const expirySeconds = expiryOf(packet, broker.limits.sessionExpirySecondsMax)
  const opened = connect(broker, {
    vhost,
    clientId: connection.clientId,
    principal,
    version: packet.version,
    cleanStart: packet.cleanStart,
    expirySeconds,
    will: packet.will === null ? null : new Will(packet.will),
    connection
  })
  if (opened.code !== 0) {
    const returnCode = returnCodeOf(opened.code)
    connection.refuse(reasonOf(opened.code), 'session refused', returnCode)
    return
  }
  connection.session = opened.session
  connection.requestedExpirySeconds = packet.sessionExpirySeconds
  const { inflightMax } = broker.limits
  connection.inflightMax =
    packet.receiveMaximum > 0 ? Math.min(packet.receiveMaximum, inflightMax) : inflightMax
  const keepalive = keepaliveOf(connection, packet)
  const properties = packet.version === 5 ? tell(connection, packet, expirySeconds, keepalive) : {}
  const connack = writeConnack(packet.version, opened.present, REASON.success, properties)
  connection.oweTask(opened.ticket, new ConnackTask(connack, keepalive))
}

/** Session Expiry Interval as granted, seconds; without clean session 3.1.1 asks for the longest. */
function expiryOf(packet: ConnectPacket, max: number): number {
  if (packet.version === 5) return Math.min(packet.sessionExpirySeconds, max)
  return packet.cleanStart ? 0 : max
}

/** What a version 5 client must know (§3.2.2.3). */
function tell(
  connection: MqttConnection,
  packet: ConnectPacket,
  expirySeconds: number,
  keepalive: number
): ConnackProperties {
  const { limits } = connection.context.broker
  const properties: ConnackProperties = {
    receiveMaximum: limits.receiveMaximum,
    maximumPacketSize: limits.mqttPacketBytesMax,
    sharedSubscriptionAvailable: false
  }
  if (packet.clientId === '') properties.assignedClientIdentifier = connection.clientId
  if (expirySeconds !== packet.sessionExpirySeconds) {
    properties.sessionExpiryInterval = expirySeconds
  }
  if (keepalive !== packet.keepaliveSeconds) properties.serverKeepAlive = keepalive
  return properties
}

/** Seconds that hold for it; 0 = no timeout. Older versions were refused where this differs. */
function keepaliveOf(connection: MqttConnection, packet: ConnectPacket): number {
  const max = connection.context.broker.limits.maxKeepaliveSeconds
  const asked = packet.keepaliveSeconds
  return max > 0 && (asked === 0 || asked > max) ? max : asked
}

/** The CONNACK leaves: from here on the client is one. */
class ConnackTask implements OwedTask {
  private readonly packet: Buffer
  private readonly keepaliveSeconds: number

  constructor(packet: Buffer, keepaliveSeconds: number) {
    this.packet = packet
    this.keepaliveSeconds = keepaliveSeconds
  }

  run(connection: MqttConnection): void {
    const { session } = connection
    if (session === null) return
    const { context, clientId, options } = connection
    const { broker } = context
    const { peer } = connection.socket
    if (this.packet.length > connection.outputPacketBytesMax) {
      // [MQTT-3.1.2-24]: it may not be sent, and without it the client may do nothing.
      connection.close('CONNACK over the Maximum Packet Size', 0, 'disconnect')
      return
    }
    connection.send(this.packet)
    connection.opened(this.keepaliveSeconds)
    const user = connection.principal.name
    connection.log.info({ ...connection.who, version: connection.version, user }, 'connected')
    broker.events.emit('clientConnected', { clientId, protocol: options.protocol, peer, user })
    resume(broker, session)
    connection.resume(PAUSED_LOGIN)
    connection.resumeSplitting()
  }
}

function randomClientId(connection: MqttConnection): string {
  return `auto-${connection.context.broker.random(RANDOM_ID_BYTES).toString('hex')}`
}

/** Runs what follows an answer of the authenticator as if it were a packet's handling. */
function guard(connection: MqttConnection, run: () => void): void {
  try {
    run()
  } catch (error) {
    connection.failed(error)
  }
}
