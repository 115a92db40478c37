/**
 * A message's properties, free of the encoding of the protocol that they came in. Between clients of one
 * protocol the encoded bytes pass through untouched; this form is made only where a message changes
 * protocol, or where the broker itself must read or write a property (headers exchange, dead-lettering).
 */
import type { FieldValue } from './field-table.ts'
import type { MessageForm } from './message.ts'

/** A header: AMQP's typed value; an MQTT user property is a string value ('S'). */
export type Header = [name: string, value: FieldValue]

/** Null: the property is absent. */
export class MessageProperties {
  contentType: string | null
  contentEncoding: string | null
  /** MQTT's correlation data; AMQP's correlation-id, UTF-8. */
  correlationId: Buffer | null
  /** AMQP's reply-to: a queue's name on the default exchange. */
  replyTo: string | null
  /** MQTT's response topic, with `/`; in AMQP the header `x-reply-to-topic`, with `.`. */
  responseTopic: string | null
  messageId: string | null
  type: string | null
  appId: string | null
  userId: string | null
  clusterId: string | null
  /** Seconds since 1970. */
  timestamp: bigint | null
  /** AMQP's expiration as written: milliseconds in decimal. What counts is the message's `expiresAt`. */
  expiration: string | null
  priority: number | null
  deliveryMode: number | null
  /** MQTT's payload format indicator: 1 = the payload is UTF-8 text. */
  payloadFormat: number
  /** In order; names may repeat. */
  headers: Header[]
  /** Short strings of AMQP that are no UTF-8, by the property's name, as they came; null: all are. */
  unreadable: Map<string, Buffer> | null

  constructor() {
    this.contentType = null
    this.contentEncoding = null
    this.correlationId = null
    this.replyTo = null
    this.responseTopic = null
    this.messageId = null
    this.type = null
    this.appId = null
    this.userId = null
    this.clusterId = null
    this.timestamp = null
    this.expiration = null
    this.priority = null
    this.deliveryMode = null
    this.payloadFormat = 0
    this.headers = []
    this.unreadable = null
  }
}

/**
 * Reads `source[start..end)`, the property bytes of a message of one form. Never throws: skips what is damaged.
 * `isToStay`: they are to be written in the same form again. Then what stands in headers for a property that the
 * form does not have is left there, and text that is no UTF-8 keeps its bytes.
 */
export type PropertiesDecoder = (
  source: Buffer,
  start: number,
  end: number,
  isToStay?: boolean
) => MessageProperties

/** Property bytes of one form. */
export type PropertiesEncoder = (properties: MessageProperties) => Buffer

/** One decoder for each form, put there by the front-ends: how one reads what came through another. */
export type PropertiesDecoders = Record<MessageForm, PropertiesDecoder | null>
