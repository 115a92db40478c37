/** A message of its own bytes, with other headers: of one that another's turn lends. */
import type { FieldTable } from '../core/field-table.ts'
import { Message } from '../core/message.ts'
import type { MessageProperties } from '../core/properties.ts'
import type { Broker } from './broker.ts'

/** Its headers, whatever protocol wrote them. */
export function headersOf(broker: Broker, message: Message): FieldTable {
  return propertiesOf(broker, message)?.headers ?? []
}

/** Null: nobody here can read them, or there are none. */
export function propertiesOf(broker: Broker, message: Message): MessageProperties | null {
  const { form, source, propertiesStart, propertiesEnd } = message
  if (propertiesStart === propertiesEnd) return null
  return broker.propertyDecoders[form]?.(source, propertiesStart, propertiesEnd) ?? null
}

/** A copy, with these headers instead of its own unless they are null. Nothing of it is lent. */
export function rebuild(broker: Broker, message: Message, headers: FieldTable | null): Message {
  const { source, form } = message
  let properties = source.subarray(message.propertiesStart, message.propertiesEnd)
  const encode = broker.propertyEncoders[form]
  const decoded = headers === null || encode === undefined ? null : propertiesOf(broker, message)
  if (decoded !== null) {
    decoded.headers = [...headers!] as MessageProperties['headers']
    properties = encode!(decoded)
  }
  const key = source.subarray(message.keyStart, message.keyEnd)
  const payload = source.subarray(message.payloadStart, message.payloadEnd)
  const copy = new Message()
  copy.renew()
  copy.source = Buffer.concat([key, properties, payload])
  copy.key = message.key
  copy.keyEnd = key.length
  copy.propertiesStart = key.length
  copy.propertiesEnd = key.length + properties.length
  copy.payloadStart = copy.propertiesEnd
  copy.payloadEnd = copy.source.length
  copy.form = form
  copy.qos = message.qos
  copy.expiresAt = message.expiresAt
  copy.priority = message.priority
  copy.exchange = message.exchange
  copy.publisherId = message.publisherId
  copy.isAwaited = message.isAwaited
  return copy
}
