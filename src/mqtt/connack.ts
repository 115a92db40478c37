/** The CONNACK: what the client may expect of us (MQTT 5 §3.2), and what begins when it leaves. */
import { resume } from '../broker/sessions.ts'
import { type OwedTask, send } from './answers.ts'
import type { ConnectPacket } from './codec/packet.ts'
import type { ConnackProperties } from './codec/write.ts'
import type { MqttConnection } from './connection.ts'
import { responseInformationOf } from './options.ts'
import { PAUSED_LOGIN } from './paused.ts'

/** What a version 5 client must know (§3.2.2.3). */
export function tell(
  connection: MqttConnection,
  packet: ConnectPacket,
  expirySeconds: number,
  keepalive: number
): ConnackProperties {
  const { limits } = connection.context.broker
  const properties: ConnackProperties = {
    receiveMaximum: limits.receiveMaximum,
    maximumPacketSize: limits.mqttPacketBytesMax,
    topicAliasMaximum: limits.topicAliasMax
  }
  const { authentication } = connection
  if (authentication !== null) {
    // [MQTT-4.12.0-5]
    properties.authenticationMethod = authentication.method
    properties.authenticationData = authentication.lastData
  }
  if (limits.retainedMax === 0) properties.retainAvailable = false
  if (limits.wildcardSubscriptionsMax === 0) properties.wildcardSubscriptionAvailable = false
  if (packet.wantsResponseInformation) {
    const information = responseInformationOf(connection.context.options, connection.clientId)
    if (information !== '') properties.responseInformation = information
  }
  if (packet.clientId === '') properties.assignedClientIdentifier = connection.clientId
  if (expirySeconds !== packet.sessionExpirySeconds) {
    properties.sessionExpiryInterval = expirySeconds
  }
  if (keepalive !== packet.keepaliveSeconds) properties.serverKeepAlive = keepalive
  return properties
}

/** Seconds that hold for it; 0 = no timeout. Older versions were refused where this differs. */
export function keepaliveOf(connection: MqttConnection, packet: ConnectPacket): number {
  const max = connection.context.broker.limits.maxKeepaliveSeconds
  const asked = packet.keepaliveSeconds
  return max > 0 && (asked === 0 || asked > max) ? max : asked
}

/** The CONNACK leaves: from here on the client is one. */
export class ConnackTask implements OwedTask {
  private readonly connection: MqttConnection
  private readonly packet: Buffer
  private readonly keepaliveSeconds: number

  constructor(connection: MqttConnection, packet: Buffer, keepaliveSeconds: number) {
    this.connection = connection
    this.packet = packet
    this.keepaliveSeconds = keepaliveSeconds
  }

  run(): void {
    const { connection } = this
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
    send(connection, this.packet)
    connection.opened(this.keepaliveSeconds)
    const user = connection.principal.name
    connection.log.info({ ...connection.who, version: connection.version, user }, 'connected')
    broker.events.emit('clientConnected', { clientId, protocol: options.protocol, peer, user })
    resume(broker, session)
    connection.resume(PAUSED_LOGIN)
    connection.resumeSplitting()
  }
}
