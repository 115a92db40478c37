/**
 * A message with other headers, in bytes of its own: in its publisher's form (`rebuild`), or in AMQP's, for what the
 * broker itself writes into one, whoever published it (`rewrite`).
 */
import type { FieldTable } from '../core/field-table.ts'
import { FORM_AMQP, Message } from '../core/message.ts'
import { MessageProperties } from '../core/properties.ts'
import { swapSeparators } from '../core/topic.ts'
import { cutUtf8 } from '../lib/bytes.ts'
import type { Broker } from './broker.ts'

const KEY_BYTES_MAX = 255
const TOPIC_HEADER = 'x-mqtt-topic'
/** No flags. */
const NO_PROPERTIES = Buffer.alloc(2)

/**
 * Its properties, whatever protocol wrote them. Null: nobody here can read them, or there are none. `isToStay`: they
 * are to be written in the message's own form again.
 */
export function propertiesIn(
  broker: Broker,
  message: Message,
  isToStay = false
): MessageProperties | null {
  const { form, source, propertiesStart, propertiesEnd } = message
  if (propertiesStart === propertiesEnd) return null
  const decode = broker.propertyDecoders[form]
  return decode?.(source, propertiesStart, propertiesEnd, isToStay) ?? null
}

/** Its headers, whatever protocol wrote them. */
export function headersOf(broker: Broker, message: Message): FieldTable {
  return propertiesIn(broker, message)?.headers ?? []
}

/** Its properties, to be changed and written by `rewrite`. */
export function propertiesOf(broker: Broker, message: Message): MessageProperties {
  const isToStay = message.form === FORM_AMQP
  const properties = propertiesIn(broker, message, isToStay) ?? new MessageProperties()
  if (message.form !== FORM_AMQP) properties.deliveryMode ??= message.qos > 0 ? 2 : 1
  return properties
}

/** The routing key; a topic that is longer than one may be stands in a header, too. */
export function routingKeyOf(message: Message, properties: MessageProperties): string {
  if (message.form === FORM_AMQP) return message.keyText()
  const key = swapSeparators(message.keyText())
  const short = cutUtf8(key, KEY_BYTES_MAX)
  if (short !== key) {
    properties.headers.push([TOPIC_HEADER, { type: 'S', value: message.keyText() }])
  }
  return short
}

/** Fills `into` with a message of this key and these properties, in AMQP's form, that nobody published. */
export function rewrite(
  broker: Broker,
  into: Message,
  message: Message,
  key: string,
  properties: MessageProperties
): void {
  const bytes = broker.propertyEncoders[FORM_AMQP]?.(properties) ?? NO_PROPERTIES
  // A key need not be UTF-8: one that stays has the same bytes.
  const isSame = key === message.keyText()
  const { source, keyStart, keyEnd } = message
  fill(into, message, key, isSame ? source.subarray(keyStart, keyEnd) : Buffer.from(key), bytes)
  into.form = FORM_AMQP
  into.publisherId = 0
  into.isAwaited = false
}

/** A copy, with these headers instead of its own unless they are null. Nothing of it is lent. */
export function rebuild(broker: Broker, message: Message, headers: FieldTable | null): Message {
  const { source, form } = message
  let properties = source.subarray(message.propertiesStart, message.propertiesEnd)
  const encode = broker.propertyEncoders[form]
  const decoded =
    headers === null || encode === undefined ? null : propertiesIn(broker, message, true)
  if (decoded !== null) {
    decoded.headers = [...headers!] as MessageProperties['headers']
    properties = encode!(decoded)
  }
  const copy = new Message()
  const keyBytes = source.subarray(message.keyStart, message.keyEnd)
  fill(copy, message, message.key, keyBytes, properties)
  copy.form = form
  copy.publisherId = message.publisherId
  copy.isAwaited = message.isAwaited
  return copy
}

/** Key, properties and the message's payload behind one another, and what it is apart from them. */
function fill(
  into: Message,
  message: Message,
  key: string,
  keyBytes: Buffer,
  properties: Buffer
): void {
  const payload = message.source.subarray(message.payloadStart, message.payloadEnd)
  // `into` may be the message itself.
  const { qos, priority, exchange, expiresAt } = message
  into.renew()
  const source = Buffer.concat([keyBytes, properties, payload])
  into.compose(source, key, keyBytes.length, keyBytes.length + properties.length)
  into.qos = qos
  into.retain = false
  into.expiresAt = expiresAt
  into.priority = priority
  into.exchange = exchange
  into.packetId = 0
}
