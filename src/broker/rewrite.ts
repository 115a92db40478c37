/** A message with other headers: what the broker itself writes into one, in AMQP's form, whoever published it. */
import { FORM_AMQP, type Message } from '../core/message.ts'
import { MessageProperties } from '../core/properties.ts'
import { swapSeparators } from '../core/topic.ts'
import { cutUtf8 } from '../lib/bytes.ts'
import type { Broker } from './broker.ts'

const KEY_BYTES_MAX = 255
const TOPIC_HEADER = 'x-mqtt-topic'
/** No flags. */
const NO_PROPERTIES = Buffer.alloc(2)

/** Its properties, to be changed and written by `rewrite`. */
export function propertiesOf(broker: Broker, message: Message): MessageProperties {
  const { source, propertiesStart, propertiesEnd, form } = message
  const decode = broker.propertyDecoders[form]
  const properties =
    decode === undefined || propertiesStart === propertiesEnd
      ? new MessageProperties()
      : decode(source, propertiesStart, propertiesEnd)
  if (form !== FORM_AMQP) properties.deliveryMode ??= message.qos > 0 ? 2 : 1
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

/** Fills `into` with a message of this key and these properties, in a buffer of its own. */
export function rewrite(
  broker: Broker,
  into: Message,
  message: Message,
  key: string,
  properties: MessageProperties
): void {
  const keyBytes = Buffer.from(key)
  const propertyBytes = broker.propertyEncoders[FORM_AMQP]?.(properties) ?? NO_PROPERTIES
  const payload = message.source.subarray(message.payloadStart, message.payloadEnd)
  const { qos, priority, exchange, expiresAt } = message
  into.renew()
  into.source = Buffer.concat([keyBytes, propertyBytes, payload])
  into.key = key
  into.keyStart = 0
  into.keyEnd = keyBytes.length
  into.propertiesStart = keyBytes.length
  into.propertiesEnd = keyBytes.length + propertyBytes.length
  into.payloadStart = into.propertiesEnd
  into.payloadEnd = into.source.length
  into.form = FORM_AMQP
  into.qos = qos
  into.retain = false
  into.expiresAt = expiresAt
  into.priority = priority
  into.exchange = exchange
  into.publisherId = 0
  into.packetId = 0
  into.isAwaited = false
}
