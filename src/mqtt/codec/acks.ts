/** PUBACK, PUBREC, PUBREL and PUBCOMP (MQTT 5 §3.4 to §3.7): read in place, written by hand. */
import { PUBREC } from './packet-types.ts'
import { ACK_RULES, walkProperties } from './property-rules.ts'
import { MALFORMED, ProtocolError } from './protocol-error.ts'

/** What the last `readAck` read. */
export const ack = {
  packetId: 0,
  /** Reason code; 0 for 3.1.1. */
  reason: 0
}

const PUBLISH_REASONS = new Set([0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99])
const RELEASE_REASONS = new Set([0x00, 0x92])

/** The most bytes that `writeAck` writes. */
export const ACK_BYTES_MAX = 5

/** Reads the body `buffer[start..end)` of a packet of `type` into `ack`. Throws a `ProtocolError`. */
export function readAck(
  type: number,
  buffer: Buffer,
  start: number,
  end: number,
  version: number,
  userPropertiesMax: number
): void {
  const bytes = end - start
  if (bytes < 2 || (bytes > 2 && version !== 5)) {
    throw new ProtocolError(MALFORMED, 'length of an acknowledgement')
  }
  const packetId = (buffer[start]! << 8) | buffer[start + 1]!
  if (packetId === 0) throw new ProtocolError(MALFORMED, 'packet identifier 0')
  ack.packetId = packetId
  ack.reason = 0
  if (bytes === 2) return
  const reason = buffer[start + 2]!
  const reasons = type <= PUBREC ? PUBLISH_REASONS : RELEASE_REASONS
  if (!reasons.has(reason)) throw new ProtocolError(MALFORMED, 'reason code')
  ack.reason = reason
  if (bytes === 3) return
  const stop = walkProperties(buffer, start + 3, end, ACK_RULES, userPropertiesMax)
  if (stop !== end) throw new ProtocolError(MALFORMED, 'trailing bytes')
}

/** Bytes of an acknowledgement: the reason code is left out when it is 0. */
export function ackBytes(reason: number): number {
  return reason === 0 ? 4 : 5
}

/** Writes an acknowledgement at `at`: `first` is its first byte, `reason` 0 for 3.1.1. */
export function writeAck(
  buffer: Buffer,
  at: number,
  first: number,
  packetId: number,
  reason: number
): void {
  buffer[at] = first
  buffer[at + 1] = reason === 0 ? 2 : 3
  buffer[at + 2] = packetId >> 8
  buffer[at + 3] = packetId & 255
  if (reason !== 0) buffer[at + 4] = reason
}
