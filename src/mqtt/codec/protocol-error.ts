/** The peer broke the protocol: its connection is closed, with `reason` where MQTT 5 lets us say it. */
export class ProtocolError extends Error {
  /** MQTT 5 reason code (§2.4). */
  readonly reason: number
  /** In a CONNECT: the version whose CONNACK can carry the reason; 0 = close without an answer. */
  connackVersion: number

  constructor(reason: number, message: string, connackVersion = 0) {
    super(message)
    this.name = 'ProtocolError'
    this.reason = reason
    this.connackVersion = connackVersion
  }
}

export const MALFORMED = 0x81
export const PROTOCOL_ERROR = 0x82
export const UNSUPPORTED_VERSION = 0x84
export const CLIENT_ID_INVALID = 0x85
export const TOPIC_NAME_INVALID = 0x90
export const TOPIC_ALIAS_INVALID = 0x94
export const PACKET_TOO_LARGE = 0x95
export const QUOTA_EXCEEDED = 0x97
