/**
 * Deliveries, written straight into the socket's buffer: a method, a header and the bodies, contiguous,
 * bodies split at the peer's frame-max (AMQP 0-9-1 §4.2.6). A message that came in over AMQP is copied
 * from where it lies. One that came in over MQTT is put into AMQP's form once for all who get it.
 */
import { type Message, FORM_AMQP } from '../core/message.ts'
import { MessageProperties, type PropertiesDecoder } from '../core/properties.ts'
import { swapSeparators } from '../core/topic.ts'
import { copyBytes } from '../lib/bytes.ts'
import type { PeerSocket } from '../net/socket.ts'
import {
  BASIC,
  cutShort,
  FRAME_BODY,
  FRAME_END,
  FRAME_EXTRA_BYTES,
  FRAME_HEAD_BYTES,
  FRAME_HEADER,
  FRAME_METHOD
} from './codec/methods.ts'
import { decodeProperties, encodeProperties } from './properties.ts'

/** Class, weight, body size. */
const HEADER_FIXED_BYTES = 12
/** Bodies above it are reserved frame by frame: the output buffer stays small. */
const ONE_PIECE_BYTES_MAX = 16 * 1024
const TOPIC_HEADER = 'x-mqtt-topic'
const TWO_32 = 4294967296
const EMPTY = Buffer.alloc(0)

/** Where the parts of the message lie that is being written; filled by `open`. */
let keySource: Buffer = EMPTY
let keyStart = 0
let keyEnd = 0
let propertySource: Buffer = EMPTY
let propertyStart = 0
let propertyEnd = 0
let exchangeBytes: Buffer = EMPTY
let exchangeName = ''

/** The message that was converted last, for the others who get it. */
let convertedSerial = -1
let convertedKey: Buffer = EMPTY
let convertedProperties: Buffer = EMPTY

/** What every frame of one connection needs. */
export interface FrameTarget {
  readonly socket: PeerSocket
  /** Largest payload of a frame that the peer takes. */
  readonly payloadBytesOut: number
  readonly decoders: readonly PropertiesDecoder[]
  /** Store time, milliseconds. */
  readonly nowMs: number
}

/** basic.deliver; `tag` is the consumer tag as a short string with its length. */
export function writeDeliver(
  target: FrameTarget,
  channel: number,
  tag: Buffer,
  deliveryTag: number,
  isRedelivered: boolean,
  message: Message
): void {
  open(message, target)
  const bytes = 4 + tag.length + 9 + 2 + exchangeBytes.length + (keyEnd - keyStart)
  let at = startMethod(target, channel, bytes, message.payloadEnd - message.payloadStart)
  const out = target.socket.buffer
  at = methodId(out, at, BASIC.deliver.methodId)
  at = copyBytes(tag, 0, tag.length, out, at)
  at = u64(out, at, deliveryTag)
  out[at++] = isRedelivered ? 1 : 0
  at = exchangeAndKey(out, at)
  out[at++] = FRAME_END
  writeContent(target, channel, at, message)
}

/** basic.get-ok. */
export function writeGetOk(
  target: FrameTarget,
  channel: number,
  deliveryTag: number,
  isRedelivered: boolean,
  message: Message,
  messageCount: number
): void {
  open(message, target)
  const bytes = 4 + 9 + 2 + exchangeBytes.length + (keyEnd - keyStart) + 4
  let at = startMethod(target, channel, bytes, message.payloadEnd - message.payloadStart)
  const out = target.socket.buffer
  at = methodId(out, at, BASIC.getOk.methodId)
  at = u64(out, at, deliveryTag)
  out[at++] = isRedelivered ? 1 : 0
  at = exchangeAndKey(out, at)
  at = u32(out, at, messageCount)
  out[at++] = FRAME_END
  writeContent(target, channel, at, message)
}

/** basic.return of a message that the publisher wants back. */
export function writeReturn(
  target: FrameTarget,
  channel: number,
  replyCode: number,
  replyText: string,
  message: Message
): void {
  open(message, target)
  const bytes = 4 + 2 + 1 + replyText.length + 2 + exchangeBytes.length + (keyEnd - keyStart)
  let at = startMethod(target, channel, bytes, message.payloadEnd - message.payloadStart)
  const out = target.socket.buffer
  at = methodId(out, at, BASIC.return.methodId)
  out[at++] = replyCode >> 8
  out[at++] = replyCode & 0xff
  out[at++] = replyText.length
  at += out.write(replyText, at, 'latin1')
  at = exchangeAndKey(out, at)
  out[at++] = FRAME_END
  writeContent(target, channel, at, message)
}

/** basic.ack or basic.nack to a publisher. */
export function writeConfirm(
  target: FrameTarget,
  channel: number,
  methodIdOut: number,
  sequence: number,
  flags: number
): void {
  let at = target.socket.reserve(FRAME_EXTRA_BYTES + 13)
  const out = target.socket.buffer
  at = frameHead(out, at, FRAME_METHOD, channel, 13)
  at = methodId(out, at, methodIdOut)
  at = u64(out, at, sequence)
  out[at] = flags
  out[at + 1] = FRAME_END
}

/** Finds the message's parts in AMQP's form. */
function open(message: Message, target: FrameTarget): void {
  if (message.exchange !== exchangeName) {
    exchangeName = message.exchange
    exchangeBytes = Buffer.from(cutShort(exchangeName))
  }
  if (message.form === FORM_AMQP) {
    keySource = message.source
    keyStart = message.keyStart
    keyEnd = message.keyEnd
    propertySource = message.source
    propertyStart = message.propertiesStart
    propertyEnd = message.propertiesEnd
  } else {
    if (message.serial !== convertedSerial) convert(message, target)
    keySource = convertedKey
    keyStart = 0
    keyEnd = convertedKey.length
    propertySource = convertedProperties
    propertyStart = 0
    propertyEnd = convertedProperties.length
  }
  if (propertyEnd - propertyStart + HEADER_FIXED_BYTES > target.payloadBytesOut) shrinkProperties()
}

function convert(message: Message, target: FrameTarget): void {
  const decode = target.decoders[message.form]
  const properties =
    decode === undefined || message.propertiesStart === message.propertiesEnd
      ? new MessageProperties()
      : decode(message.source, message.propertiesStart, message.propertiesEnd)
  properties.deliveryMode ??= message.qos > 0 ? 2 : 1
  if (message.expiresAt > 0) {
    properties.expiration ??= String(Math.max(0, message.expiresAt - target.nowMs))
  }
  const key = swapSeparators(message.keyText())
  const short = cutShort(key)
  if (short !== key)
    properties.headers.push([TOPIC_HEADER, { type: 'S', value: message.keyText() }])
  convertedKey = Buffer.from(short)
  convertedProperties = encodeProperties(properties)
  convertedSerial = message.serial
}

/** Headers that no frame of this peer can hold are left out: a frame too large would end its connection. */
function shrinkProperties(): void {
  const properties = decodeProperties(propertySource, propertyStart, propertyEnd, true)
  properties.headers = [['x-headers-omitted', { type: 't', value: true }]]
  properties.responseTopic = null
  propertySource = encodeProperties(properties)
  propertyStart = 0
  propertyEnd = propertySource.length
}

/** Room for the method, the header and, if it is small, the body; the method's frame is begun. */
function startMethod(
  target: FrameTarget,
  channel: number,
  methodBytes: number,
  payloadBytes: number
): number {
  const headerBytes = HEADER_FIXED_BYTES + propertyEnd - propertyStart
  let bytes = methodBytes + headerBytes + 2 * FRAME_EXTRA_BYTES
  if (isOnePiece(payloadBytes, target.payloadBytesOut)) bytes += payloadBytes + FRAME_EXTRA_BYTES
  const at = target.socket.reserve(bytes)
  return frameHead(target.socket.buffer, at, FRAME_METHOD, channel, methodBytes)
}

function isOnePiece(payloadBytes: number, payloadBytesOut: number): boolean {
  return payloadBytes > 0 && payloadBytes <= ONE_PIECE_BYTES_MAX && payloadBytes <= payloadBytesOut
}

function writeContent(target: FrameTarget, channel: number, at: number, message: Message): void {
  const { payloadStart, payloadEnd } = message
  const payloadBytes = payloadEnd - payloadStart
  const socket = target.socket
  let out = socket.buffer
  at = frameHead(out, at, FRAME_HEADER, channel, HEADER_FIXED_BYTES + propertyEnd - propertyStart)
  out[at] = 0
  out[at + 1] = BASIC.deliver.classId
  out[at + 2] = 0
  out[at + 3] = 0
  at = u64(out, at + 4, payloadBytes)
  at = copyBytes(propertySource, propertyStart, propertyEnd, out, at)
  out[at++] = FRAME_END
  if (isOnePiece(payloadBytes, target.payloadBytesOut)) {
    at = frameHead(out, at, FRAME_BODY, channel, payloadBytes)
    at = copyBytes(message.source, payloadStart, payloadEnd, out, at)
    out[at] = FRAME_END
    return
  }
  for (let start = payloadStart; start < payloadEnd; ) {
    const end = Math.min(payloadEnd, start + target.payloadBytesOut)
    at = socket.reserve(end - start + FRAME_EXTRA_BYTES)
    out = socket.buffer
    at = frameHead(out, at, FRAME_BODY, channel, end - start)
    message.source.copy(out, at, start, end)
    out[at + end - start] = FRAME_END
    start = end
  }
}

function frameHead(
  out: Buffer,
  at: number,
  type: number,
  channel: number,
  payloadBytes: number
): number {
  out[at] = type
  out[at + 1] = channel >> 8
  out[at + 2] = channel & 0xff
  return u32(out, at + FRAME_HEAD_BYTES - 4, payloadBytes)
}

function methodId(out: Buffer, at: number, id: number): number {
  out[at] = 0
  out[at + 1] = BASIC.deliver.classId
  out[at + 2] = 0
  out[at + 3] = id
  return at + 4
}

function exchangeAndKey(out: Buffer, at: number): number {
  out[at++] = exchangeBytes.length
  at = copyBytes(exchangeBytes, 0, exchangeBytes.length, out, at)
  out[at++] = keyEnd - keyStart
  return copyBytes(keySource, keyStart, keyEnd, out, at)
}

function u32(out: Buffer, at: number, value: number): number {
  out[at] = value >>> 24
  out[at + 1] = (value >>> 16) & 0xff
  out[at + 2] = (value >>> 8) & 0xff
  out[at + 3] = value & 0xff
  return at + 4
}

function u64(out: Buffer, at: number, value: number): number {
  u32(out, at, Math.floor(value / TWO_32))
  return u32(out, at + 4, value >>> 0)
}
