/** A PUBLISH as a client writes it (§3.3), in place. */
import { PUBLISH, type Version } from '../mqtt/codec/packet-types.ts'
import { copyBytes } from '../lib/bytes.ts'

function varintBytes(value: number): number {
  if (value < 128) return 1
  if (value < 16_384) return 2
  return value < 2_097_152 ? 3 : 4
}

function bodyBytes(
  topic: Buffer,
  payloadBytes: number,
  qos: number,
  properties: Buffer,
  version: Version
): number {
  const bytes = 2 + topic.length + (qos > 0 ? 2 : 0) + payloadBytes
  if (version !== 5) return bytes
  return bytes + varintBytes(properties.length) + properties.length
}

/** Bytes of the whole packet. */
export function publishBytes(
  topic: Buffer,
  payload: Buffer,
  qos: number,
  properties: Buffer,
  version: Version
): number {
  const body = bodyBytes(topic, payload.length, qos, properties, version)
  return 1 + varintBytes(body) + body
}

/** Writes a PUBLISH whose payload has `payloadBytes`; `payload` may be empty when it follows by other ways. */
export function writePublish(
  target: Buffer,
  at: number,
  topic: Buffer,
  payloadBytes: number,
  payload: Buffer,
  qos: number,
  retain: boolean,
  packetId: number,
  properties: Buffer,
  version: Version
): void {
  target[at++] = (PUBLISH << 4) | (qos << 1) | (retain ? 1 : 0)
  at = writeVarint(target, at, bodyBytes(topic, payloadBytes, qos, properties, version))
  target[at++] = topic.length >> 8
  target[at++] = topic.length & 255
  at = copyBytes(topic, 0, topic.length, target, at)
  if (qos > 0) {
    target[at++] = packetId >> 8
    target[at++] = packetId & 255
  }
  if (version === 5) {
    at = writeVarint(target, at, properties.length)
    at = copyBytes(properties, 0, properties.length, target, at)
  }
  copyBytes(payload, 0, payload.length, target, at)
}

function writeVarint(target: Buffer, at: number, value: number): number {
  while (value > 127) {
    target[at++] = (value & 127) | 128
    value >>>= 7
  }
  target[at++] = value
  return at
}
