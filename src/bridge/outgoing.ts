/** A message of ours as it leaves: bytes of its own, its identifier and what the mapping adds in its headers. */
import { FORM_AMQP, type Message } from '../core/message.ts'
import { MessageProperties } from '../core/properties.ts'
import { propertiesIn } from '../broker/rewrite.ts'
import type { Broker } from '../broker/broker.ts'
import { topicOf } from '../broker/routing.ts'
import { cutUtf8 } from '../lib/bytes.ts'
import type { Outgoing } from './link.ts'
import type { Mapping } from './mapping.ts'
import { type MessageId, writeId } from './message-id.ts'

const KEY_BYTES_MAX = 255
/** As where the broker itself hands MQTT messages to AMQP clients. */
const TOPIC_HEADER = 'x-mqtt-topic'

export function outgoingOf(
  broker: Broker,
  mapping: Mapping,
  message: Message,
  id: MessageId
): Outgoing {
  const properties = propertiesIn(broker, message) ?? new MessageProperties()
  // What was kept here over power cuts is not to be lost there.
  properties.deliveryMode = 2
  if (message.expiresAt > 0) {
    properties.expiration = String(Math.max(0, message.expiresAt - broker.nowMs))
  }
  const topic = topicOf(message.form, message.keyText())
  let target = mapping.targetOf(topic, message.exchange)
  if (message.form === FORM_AMQP && message.priority > 0) properties.priority = message.priority
  const key = cutUtf8(target.key, KEY_BYTES_MAX)
  if (key !== target.key) {
    target = { ...target, key }
    properties.headers.push([TOPIC_HEADER, { type: 'S', value: topic }])
  }
  if (target.headers.length > 0) {
    const names = new Set(target.headers.map(([name]) => name))
    properties.headers = properties.headers.filter(([name]) => !names.has(name))
    for (const [name, value] of target.headers) {
      properties.headers.push([name, { type: 'S', value }])
    }
  }
  writeId(properties, id)
  const { source, payloadStart, payloadEnd } = message
  const payload = Buffer.from(source.subarray(payloadStart, payloadEnd))
  return { sequence: id.sequence, id, target, properties, payload }
}
