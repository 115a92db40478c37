/**
 * CONNECT (MQTT 5 §3.1, 3.1.1 §3.1): who is it, which session, what may it expect. Nothing that follows is
 * looked at before the CONNACK has left; for a session that lasts, or discards one, that is when the disk
 * has it.
 */
import type { AuthenticationResult } from '../auth/authenticator.ts'
import { connect } from '../broker/sessions.ts'
import { isDollarTopic, isValidTopic } from '../core/topic.ts'
import { Will } from '../core/will.ts'
import { oweTask } from './answers.ts'
import { type ConnectPacket, readConnect } from './codec/packet.ts'
import { writeConnack } from './codec/write.ts'
import { ConnackTask, keepaliveOf, tell } from './connack.ts'
import type { MqttConnection } from './connection.ts'
import { beginAuthentication } from './handle-auth.ts'
import { reasonOfDrain, textOfDrain } from './drain.ts'
import { packetBytesMaxOf } from './options.ts'
import { ENCODE_5, ENCODE_5_ALIASED } from './outbound.ts'
import { OutgoingAliases } from './outgoing-aliases.ts'
import { PAUSED_LOGIN } from './paused.ts'
import { REASON, RETURN_CODE, reasonOf, returnCodeOf, textOf } from './reason-codes.ts'
import { refuse } from './refusing.ts'

const RANDOM_ID_BYTES = 16

/** False: nothing behind it is looked at now. */
export function handleConnect(
  connection: MqttConnection,
  first: number,
  buffer: Buffer,
  start: number,
  end: number
): boolean {
  const { context, options, splitter } = connection
  const { limits } = context.broker
  const packet = readConnect(first, buffer, start, end, limits)
  connection.version = packet.version
  connection.isBridge = packet.isBridge
  splitter.setVersion(packet.version)
  splitter.packetBytesMax = limits.mqttPacketBytesMax
  if (packet.version === 5) expect5(connection, packet)
  else connection.outputPacketBytesMax = packetBytesMaxOf(context.options, packet.clientId, options)
  if (!isAcceptable(connection, packet)) return false
  const clientId = packet.clientId === '' ? randomClientId(connection) : packet.clientId
  connection.clientId = clientId
  const credentials = {
    protocol: 'mqtt',
    ...nameAndVhost(connection, packet.username),
    password: packet.password,
    clientId,
    peer: connection.socket.address,
    isLoopback: options.isTrusted,
    identity: options.identity ?? null
  } as const
  const { authenticationMethod: method, authenticationData: data } = packet
  if (method !== null) {
    return beginAuthentication(connection, method, data, credentials, result =>
      guard(connection, () => authenticated(connection, packet, result))
    )
  }
  connection.pause(PAUSED_LOGIN)
  context.authenticator.authenticate(credentials).then(
    result => guard(connection, () => authenticated(connection, packet, result)),
    error => {
      connection.log.error(
        { err: error, peer: connection.socket.peer },
        'authentication failed to run'
      )
      refuse(connection, REASON.serverUnavailable, 'authentication failed to run')
    }
  )
  return false
}

/**
 * The virtual host is the listener's, if that says so; else `vhost:user` in the user name chooses one that exists
 * (RabbitMQ's way, which splits at the last colon).
 */
function nameAndVhost(
  { options, context }: MqttConnection,
  username: string | null
): { username: string | null; vhost: string } {
  const colon = options.isVhostFixed === true ? -1 : (username?.lastIndexOf(':') ?? -1)
  if (username === null || colon < 1) return { username, vhost: options.vhost }
  const vhost = username.slice(0, colon)
  if (!context.broker.vhosts.has(vhost)) return { username, vhost: options.vhost }
  return { username: username.slice(colon + 1), vhost }
}

/** What a version 5 client says of itself (§3.1.2.11). */
function expect5(connection: MqttConnection, packet: ConnectPacket): void {
  const { topicAliasMax, topicAliasBytesMax } = connection.context.broker.limits
  connection.encoding = ENCODE_5
  connection.wantsProblems = packet.wantsProblems
  if (packet.packetBytesMax > 0) connection.outputPacketBytesMax = packet.packetBytesMax
  const aliasMax = Math.min(packet.topicAliasMax, topicAliasMax)
  if (aliasMax > 0) {
    connection.encoding = ENCODE_5_ALIASED
    connection.aliases = new OutgoingAliases(aliasMax, topicAliasBytesMax)
  }
}

/** What can be judged without knowing who it is. */
function isAcceptable(connection: MqttConnection, packet: ConnectPacket): boolean {
  const { broker, drain } = connection.context
  const { limits } = broker
  if (drain !== null) {
    const { reference } = drain
    const properties = reference === '' ? {} : { serverReference: reference }
    const { serverUnavailable } = RETURN_CODE
    refuse(connection, reasonOfDrain(drain), textOfDrain(drain), serverUnavailable, properties)
    return false
  }
  // [MQTT-3.1.3-8]; MQTT 3.1 knows no empty client id.
  const needsId = packet.version === 3 || (packet.version === 4 && !packet.cleanStart)
  if (packet.clientId === '' && needsId) {
    refuse(connection, REASON.clientIdInvalid, 'empty client id')
    return false
  }
  const keepaliveMax = limits.maxKeepaliveSeconds
  const isTooLong = packet.keepaliveSeconds === 0 || packet.keepaliveSeconds > keepaliveMax
  if (packet.version < 5 && keepaliveMax > 0 && isTooLong) {
    refuse(connection, REASON.unspecified, 'keepalive too long', RETURN_CODE.identifierRejected)
    return false
  }
  const { will } = packet
  if (will !== null && isDollarTopic(will.topic)) {
    refuse(connection, REASON.notAuthorized, 'will topic begins with $')
    return false
  }
  if (will?.retain && packet.version === 5 && limits.retainedMax === 0) {
    refuse(connection, REASON.retainNotSupported, 'no messages are retained') // [MQTT-3.2.2-13]
    return false
  }
  if (will !== null && !isValidTopic(will.topic, limits)) {
    if (packet.version === 5) refuse(connection, REASON.topicNameInvalid, 'will topic invalid')
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
    if (result.reason === 'busy') refuse(connection, REASON.serverBusy, 'too many logins')
    else if (result.reason === 'not-authorized') {
      refuse(connection, REASON.notAuthorized, 'not authorized')
    } else if (result.reason === 'vhost-refused') {
      refuse(connection, REASON.notAuthorized, 'this virtual host is not for this user')
    } else refuse(connection, REASON.badCredentials, 'bad credentials')
    return
  }
  const { principal } = result
  const vhost = broker.vhosts.get(principal.vhost)
  if (vhost === undefined) {
    refuse(connection, REASON.notAuthorized, 'no such virtual host')
    return
  }
  connection.principal = principal
  connection.vhost = vhost
  if (mayTakeOver(connection, packet)) openSession(connection, packet)
}

/** False: another connection has this id, and has it for too short a time; it waits for its turn. */
function mayTakeOver(connection: MqttConnection, packet: ConnectPacket): boolean {
  const { context, clientId, vhost, principal } = connection
  const session = vhost.sessions.get(clientId)
  // Another user's is refused at once.
  if (session === undefined || session.connection === null) return true
  if (session.user !== principal.name) return true
  return context.takeovers.admit(`${vhost.name}\0${clientId}`, context.liveMs, () => ({
    get isClosed() {
      return connection.isClosed
    },
    proceed: () => guard(connection, () => openSession(connection, packet)),
    overtaken: () => refuse(connection, REASON.serverBusy, 'another connection has this client id')
  }))
}

function openSession(connection: MqttConnection, packet: ConnectPacket): void {
  const { principal, vhost } = connection
  const { broker } = connection.context
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
    refuse(connection, reasonOf(opened.code), textOf(opened.code), returnCode)
    return
  }
  connection.session = opened.session
  connection.requestedExpirySeconds = packet.sessionExpirySeconds
  const { inflightMax } = broker.limits
  connection.inflightMax =
    packet.receiveMaximum > 0 ? Math.min(packet.receiveMaximum, inflightMax) : inflightMax
  const keepalive = keepaliveOf(connection, packet)
  const properties = packet.version === 5 ? tell(connection, packet, expirySeconds, keepalive) : {}
  // Reserved in 3.1.
  const isPresent = opened.present && packet.version !== 3
  const connack = writeConnack(packet.version, isPresent, REASON.success, properties)
  oweTask(connection, opened.ticket, new ConnackTask(connection, connack, keepalive))
}

/** Session Expiry Interval as granted, seconds; without clean session 3.1.1 asks for the longest. */
function expiryOf(packet: ConnectPacket, max: number): number {
  if (packet.version === 5) return Math.min(packet.sessionExpirySeconds, max)
  return packet.cleanStart ? 0 : max
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
