/**
 * The header `x-stream-offset` in a message: put into the encoded properties of one that came in over AMQP, for a
 * reader may go through millions of them. It is the last header, as in RabbitMQ; what a publisher wrote under
 * this name stays before it.
 */
import type { Broker } from '../broker/broker.ts'
import { propertiesOf, rewrite, routingKeyOf } from '../broker/rewrite.ts'
import { FORM_AMQP, Message } from '../core/message.ts'

const NAME = 'x-stream-offset'
/** Its name behind a length, the type, and an int64. */
const ENTRY_BYTES = 1 + NAME.length + 1 + 8
const HAS_CONTENT_TYPE = 0x80
const HAS_CONTENT_ENCODING = 0x40
const HAS_HEADERS = 0x20
/** Further words of flags follow. */
const HAS_MORE_FLAGS = 1
const TWO_32 = 0x1_0000_0000
const SCRATCH_BYTES = 64 * 1024

const told = new Message()
const scratch = Buffer.allocUnsafe(SCRATCH_BYTES)

/** The message with its offset, in AMQP's form; true for this turn, until the next one is asked for. */
export function withOffset(broker: Broker, message: Message, offset: number): Message {
  const { source, propertiesStart, propertiesEnd } = message
  const isPlain =
    message.form === FORM_AMQP &&
    propertiesEnd - propertiesStart >= 2 &&
    (source[propertiesStart + 1]! & HAS_MORE_FLAGS) === 0
  if (isPlain) insert(message, offset)
  else convert(broker, message, offset)
  return told
}

/** Key, properties with one header more, and payload behind each other. */
function insert(message: Message, offset: number): void {
  const { source, keyStart, keyEnd, propertiesStart, propertiesEnd } = message
  const payloadBytes = message.payloadEnd - message.payloadStart
  const bytes = keyEnd - keyStart + propertiesEnd - propertiesStart + 4 + ENTRY_BYTES + payloadBytes
  const target = bytes <= SCRATCH_BYTES ? scratch : Buffer.allocUnsafe(bytes)
  const flags = source[propertiesStart]!
  let at = source.copy(target, 0, keyStart, keyEnd)
  told.renew()
  told.source = target
  told.key = ''
  told.keyStart = 0
  told.keyEnd = at
  told.propertiesStart = at
  // The headers stand behind content type and encoding.
  let from = propertiesStart + 2
  if ((flags & HAS_CONTENT_TYPE) !== 0) from += 1 + source[from]!
  if ((flags & HAS_CONTENT_ENCODING) !== 0) from += 1 + source[from]!
  at += source.copy(target, at, propertiesStart, from)
  target[told.propertiesStart] = flags | HAS_HEADERS
  const tableBytes = (flags & HAS_HEADERS) === 0 ? 0 : source.readUInt32BE(from)
  if ((flags & HAS_HEADERS) !== 0) from += 4
  at = target.writeUInt32BE(tableBytes + ENTRY_BYTES, at)
  at += source.copy(target, at, from, from + tableBytes)
  at = writeEntry(target, at, offset)
  at += source.copy(target, at, from + tableBytes, propertiesEnd)
  told.propertiesEnd = at
  told.payloadStart = at
  at += source.copy(target, at, message.payloadStart, message.payloadEnd)
  told.payloadEnd = at
  told.form = FORM_AMQP
  told.qos = message.qos
  told.priority = message.priority
  told.exchange = message.exchange
}

function writeEntry(target: Buffer, at: number, offset: number): number {
  target[at++] = NAME.length
  at += target.write(NAME, at, 'latin1')
  target[at++] = 0x6c
  at = target.writeUInt32BE(Math.floor(offset / TWO_32), at)
  return target.writeUInt32BE(offset % TWO_32, at)
}

/** One that came in over MQTT, or has properties that no client of today writes. */
function convert(broker: Broker, message: Message, offset: number): void {
  const properties = propertiesOf(broker, message)
  const key = routingKeyOf(message, properties)
  properties.headers.push([NAME, { type: 'l', value: BigInt(offset) }])
  if (message.form !== FORM_AMQP && message.expiresAt > 0) {
    properties.expiration ??= String(Math.max(0, Math.ceil(message.expiresAt - broker.nowMs)))
  }
  rewrite(broker, told, message, key, properties)
}
