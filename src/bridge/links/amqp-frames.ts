/**
 * basic.publish with its content, as bytes (AMQP 0-9-1 §1.8.3.7, §4.2.6). Property bytes are ours, so that headers
 * keep the types they came with: the library's own encoder would choose others.
 */

const FRAME_METHOD = 1
const FRAME_HEADER = 2
const FRAME_BODY = 3
const FRAME_END = 0xce
/** Type, channel, length; and the end. */
export const FRAME_EXTRA_BYTES = 8
const BASIC = 60
const PUBLISH = 40
/** Class, method, a reserved short, two lengths, flags. */
const METHOD_FIXED_BYTES = 9
/** Class, weight, body size. */
export const HEADER_FIXED_BYTES = 12
const MANDATORY = 1
const TWO_32 = 4294967296

export interface Content {
  readonly exchange: string
  readonly key: string
  /** Flags and values of a content header. */
  readonly properties: Buffer
  readonly payload: Buffer
}

/** `payloadBytesMax`: of one frame. */
export function publishFrames(channel: number, content: Content, payloadBytesMax: number): Buffer {
  const exchange = Buffer.from(content.exchange)
  const key = Buffer.from(content.key)
  const { properties, payload } = content
  const methodBytes = METHOD_FIXED_BYTES + exchange.length + key.length
  const headerBytes = HEADER_FIXED_BYTES + properties.length
  const bodies = Math.ceil(payload.length / payloadBytesMax)
  const bytes = methodBytes + headerBytes + payload.length + (2 + bodies) * FRAME_EXTRA_BYTES
  const out = Buffer.allocUnsafe(bytes)
  let at = head(out, 0, FRAME_METHOD, channel, methodBytes)
  at = out.writeUInt16BE(BASIC, at)
  at = out.writeUInt16BE(PUBLISH, at)
  at = out.writeUInt16BE(0, at)
  at = short(out, at, exchange)
  at = short(out, at, key)
  out[at++] = MANDATORY
  out[at++] = FRAME_END
  at = head(out, at, FRAME_HEADER, channel, headerBytes)
  at = out.writeUInt16BE(BASIC, at)
  at = out.writeUInt16BE(0, at)
  at = out.writeUInt32BE(Math.floor(payload.length / TWO_32), at)
  at = out.writeUInt32BE(payload.length >>> 0, at)
  at += properties.copy(out, at)
  out[at++] = FRAME_END
  for (let start = 0; start < payload.length; start += payloadBytesMax) {
    const end = Math.min(payload.length, start + payloadBytesMax)
    at = head(out, at, FRAME_BODY, channel, end - start)
    at += payload.copy(out, at, start, end)
    out[at++] = FRAME_END
  }
  return out
}

function head(out: Buffer, at: number, type: number, channel: number, bytes: number): number {
  out[at] = type
  at = out.writeUInt16BE(channel, at + 1)
  return out.writeUInt32BE(bytes, at)
}

function short(out: Buffer, at: number, text: Buffer): number {
  out[at++] = text.length
  return at + text.copy(out, at)
}
