/** What a server's CONNACK says that it takes (MQTT 5 §3.2.2.3). */
import type { ClientOptions } from './client-options.ts'
import type { Connack } from './packets.ts'
import { ID, numberOf } from './properties.ts'

export interface ServerLimits {
  /** Unacknowledged PUBLISHes at a time: the smaller of its bound and ours. */
  readonly window: number
  readonly packetBytesMax: number
  readonly qosMax: number
  readonly takesRetained: boolean
  readonly keepaliveMs: number
}

const WINDOW_DEFAULT = 65_535
/** Of the largest Remaining Length (§1.5.5), with what stands before it. */
const PACKET_BYTES_MAX = 268_435_460

/** `properties`: of the CONNACK; none before it, and before version 5. */
export function serverLimits(
  options: ClientOptions,
  properties: Connack['properties']
): ServerLimits {
  const window = numberOf(properties, ID.receiveMaximum, WINDOW_DEFAULT)
  const seconds = numberOf(properties, ID.serverKeepAlive, options.keepaliveSeconds)
  return {
    window: Math.min(options.inflightMax, window),
    packetBytesMax: numberOf(properties, ID.maximumPacketSize, PACKET_BYTES_MAX),
    qosMax: numberOf(properties, ID.maximumQos, 2),
    takesRetained: numberOf(properties, ID.retainAvailable, 1) !== 0,
    keepaliveMs: seconds * 1_000
  }
}
