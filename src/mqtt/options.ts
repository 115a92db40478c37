/** What the front-end tells its clients, beside the limits that all front-ends share. */
/** PUBLISHes larger than this are not sent to clients whose id matches; versions 3.1 and 3.1.1 only. */
export interface PacketLimit {
  /** A client id; `*` stands for any characters. */
  readonly clientId: string
  readonly bytesMax: number
}

export interface MqttOptions {
  /** Response Information of those who ask for it, `%c` is the client id; '' = none (MQTT 5 §3.2.2.3.15). */
  readonly responseInformation: string
  /** Where clients are sent while this broker drains; '' = nowhere in particular (MQTT 5 §4.11). */
  readonly serverReference: string
  readonly packetLimits: readonly PacketLimit[]
}

export const DEFAULT_MQTT_OPTIONS: MqttOptions = {
  responseInformation: '',
  serverReference: '',
  packetLimits: []
}

/** The Response Information of a client; '' when there is none, or its id is no level of a topic. */
export function responseInformationOf(options: MqttOptions, clientId: string): string {
  const { responseInformation } = options
  if (!responseInformation.includes('%c')) return responseInformation
  return /^[^/+#\0]*$/.test(clientId) ? responseInformation.replaceAll('%c', () => clientId) : ''
}
