/** basic.publish: from the frames to the broker, and what the publisher is told. Hot. */
import { publishTo } from '../broker/publish.ts'
import { topicOf } from '../broker/routing.ts'
import { noteBlindKeys } from '../core/blind-keys.ts'
import { ERROR_CODES, ERROR_NAMES } from '../core/errors.ts'
import type { Exchange } from '../core/exchange.ts'
import { type FieldTable, fieldOf, fieldTypeName, textsIn } from '../core/field-table.ts'
import { FORM_AMQP, type Message } from '../core/message.ts'
import { mayResource, mayTopic } from '../core/permissions.ts'
import { responseTopicIn } from '../core/reply-address.ts'
import { isMqttTopic, swapSeparators } from '../core/topic.ts'
import { MQTT_EXCHANGE } from '../core/vhost.ts'
import type { AmqpChannel, ChannelConnection } from './channel.ts'
import { findContent, found } from './codec/content.ts'
import { RETAIN_HEADER, syntaxError } from './codec/field-table.ts'
import { handReply, isReplyKey, isReplyQueue, withOwnReplyTo } from './direct-reply-to.ts'
import { writeReturn } from './outbound.ts'
import { accessRefused } from './explain.ts'
import {
  asksToRetain,
  decodeProperties,
  encodeProperties,
  parseExpiration,
  readHeaders,
  scanned,
  scanProperties
} from './properties.ts'
import { AmqpError, REPLY } from './reply-codes.ts'
import { bytesOf, type Transaction } from './transaction.ts'

const COPY_HEADERS = ['CC', 'BCC'] as const
/** Keys on the default exchange that may be no queue's: answers to requests. */
const RESERVED_PREFIX = 'amq.'
const MANDATORY = 1
const IMMEDIATE = 2
const PERSISTENT = 2
/** Keys are compared byte by byte with the one before: this many are worth it. */
const SAME_KEY_BYTES_MAX = 64

/**
 * The method of a publish, arguments in `buffer[at..end)`, and its content if that lies behind it. Returns
 * the offset behind what was taken.
 */
export function handlePublish(
  channel: AmqpChannel,
  buffer: Buffer,
  at: number,
  end: number,
  limit: number
): number {
  const connection = channel.connection
  const exchangeStart = at + 3
  const exchangeEnd = exchangeStart + buffer[at + 2]!
  const keyStart = exchangeEnd + 1
  const keyEnd = exchangeEnd < end ? keyStart + buffer[exchangeEnd]! : end
  if (keyEnd + 1 !== end) throw syntaxError('malformed basic.publish')
  const flags = buffer[keyEnd]!
  if ((flags & IMMEDIATE) !== 0) throw new AmqpError(REPLY.notImplemented, 'immediate=true')
  const exchange = sameText(connection.lastExchangeName, buffer, exchangeStart, exchangeEnd)
  const key = sameText(connection.lastKey, buffer, keyStart, keyEnd)
  connection.lastExchangeName = exchange
  connection.lastKey = key
  const isMandatory = (flags & MANDATORY) !== 0
  const bodyBytesMax = connection.broker.limits.amqpMessageBytesMax
  if (!findContent(buffer, end + 1, limit, channel.id, connection.payloadBytesMax, bodyBytesMax)) {
    channel.assembler.open(exchange, key, isMandatory, buffer, keyStart, keyEnd)
    return end + 1
  }
  const next = found.next
  const message = connection.message
  message.source = buffer
  message.key = key
  message.keyStart = keyStart
  message.keyEnd = keyEnd
  message.propertiesStart = found.propertiesStart
  message.propertiesEnd = found.propertiesEnd
  message.payloadStart = found.payloadStart
  message.payloadEnd = found.payloadEnd
  try {
    publishMessage(channel, exchange, message, isMandatory)
  } catch (error) {
    // The content belongs to the method: what was wrong with it does not leave its frames behind.
    connection.fail(error, channel, PUBLISH_CLASS, PUBLISH_METHOD)
  }
  return next
}

export const PUBLISH_CLASS = 60
export const PUBLISH_METHOD = 40

/** A content that came in several reads is complete. */
export function handleAssembled(channel: AmqpChannel): void {
  const { assembler } = channel
  const { message } = channel.connection
  message.source = assembler.buffer
  message.key = assembler.key
  message.keyStart = 0
  message.keyEnd = assembler.keyEnd
  message.propertiesStart = assembler.keyEnd
  message.propertiesEnd = assembler.propertiesEnd
  message.payloadStart = assembler.propertiesEnd
  message.payloadEnd = assembler.end
  const { exchange, isMandatory } = assembler
  try {
    publishMessage(channel, exchange, message, isMandatory)
  } catch (error) {
    // The frame was a content's; what was wrong is the method that it belongs to.
    channel.connection.fail(error, channel, PUBLISH_CLASS, PUBLISH_METHOD)
  } finally {
    assembler.reset()
  }
}

function publishMessage(
  channel: AmqpChannel,
  exchangeName: string,
  message: Message,
  isMandatory: boolean
): void {
  const { connection } = channel
  const { broker } = connection
  message.renew()
  message.form = FORM_AMQP
  message.retain = false
  message.publisherId = 0
  message.packetId = 0
  message.exchange = exchangeName
  readProperties(message, connection)
  let exchange = writableExchange(channel, exchangeName)
  if (scanned.hasRetain) takeRetain(connection, message)
  if (scanned.replyToStart >= 0) nameReplyTo(channel, message)
  let isReply = false
  if (exchangeName === '' && message.key.startsWith(RESERVED_PREFIX)) {
    isReply = isReplyKey(message.key)
    if (!isReply) exchange = redirectReply(channel, message, exchange)
  }
  const { confirms } = channel
  message.isAwaited = message.qos > 0 && confirms !== null
  if (confirms === null && channel.tx !== null) {
    stage(channel, channel.tx, exchange, message, isReply, isMandatory)
    return
  }
  let ticket: number
  if (isReply && !scanned.hasCopies) ticket = publishReply(channel, message)
  else if (scanned.headersStart < 0) ticket = publishTo(broker, exchange, message, channel)
  else ticket = publishWithHeaders(channel, exchange, message)
  if (ticket < 0) {
    refuse(channel, exchangeName, message.key, -ticket)
    return
  }
  if (isMandatory && !broker.matched) {
    writeReturn(connection, channel.id, REPLY.noRoute, 'NO_ROUTE', message)
  }
  channel.confirm(ticket)
}

/** Headers are read only where somebody looks at them: a headers exchange, or CC and BCC keys. */
function publishWithHeaders(channel: AmqpChannel, exchange: Exchange, message: Message): number {
  const { broker } = channel.connection
  if (!exchange.readsHeaders && !scanned.hasCopies)
    return publishTo(broker, exchange, message, channel)
  const headers = readHeaders(message.source, scanned.headersStart, scanned.headersEnd)
  const keys = scanned.hasCopies ? takeCopies(message, headers) : null
  return publishRouted(channel, exchange, message, headers, keys)
}

/** With headers and further keys as they were read. Returns a ticket, or a negated error code. */
export function publishRouted(
  channel: AmqpChannel,
  exchange: Exchange,
  message: Message,
  headers: FieldTable | null,
  keys: readonly string[] | null
): number {
  const { broker } = channel.connection
  const isHanded = keys !== null && exchange.name === '' && handCopies(channel, message, keys)
  const ticket = publishTo(broker, exchange, message, channel, headers, keys)
  if (isHanded) broker.matched = true
  return ticket
}

/** In tx mode: what was judged of the publish holds, all else comes with the commit. */
function stage(
  channel: AmqpChannel,
  tx: Transaction,
  exchange: Exchange,
  message: Message,
  isReply: boolean,
  isMandatory: boolean
): void {
  const { principal } = channel
  if (exchange.kind === 'topic' && principal.topics.length > 0) {
    const topic = topicOf(FORM_AMQP, message.key)
    if (!topic.startsWith('$') && !mayTopic(principal, 'write', topic, channel.clientId)) {
      refuse(channel, exchange.name, message.key, ERROR_CODES.notAuthorized)
    }
  }
  const hasHeaders = scanned.headersStart >= 0
  const headers = hasHeaders
    ? readHeaders(message.source, scanned.headersStart, scanned.headersEnd)
    : null
  const moreKeys = headers !== null && scanned.hasCopies ? takeCopies(message, headers) : null
  const propertyBytes = message.propertiesEnd - message.propertiesStart
  const keyEnd = message.keyEnd - message.keyStart
  tx.add({
    exchange,
    exchangeName: message.exchange,
    key: message.key,
    isMandatory,
    isReply,
    retain: message.retain,
    headers,
    moreKeys,
    qos: message.qos,
    priority: message.priority,
    expiresInMs: message.expiresAt === 0 ? 0 : message.expiresAt - channel.connection.nowMs,
    bytes: bytesOf(message),
    keyEnd,
    propertiesEnd: keyEnd + propertyBytes
  })
}

/** An answer to a channel that asked for direct replies: nothing is stored, nothing to wait for. */
export function publishReply(channel: AmqpChannel, message: Message): number {
  const { broker } = channel.connection
  broker.counters.amqpReceived[message.isAwaited ? 1 : 0]!++
  broker.matched = handReply(channel, message.key, message)
  return 0
}

/** The same where further keys are given: any of them may be such a channel's. */
function handCopies(channel: AmqpChannel, message: Message, keys: readonly string[]): boolean {
  let isHanded = false
  for (const key of new Set([message.key, ...keys])) {
    if (isReplyKey(key) && handReply(channel, key, message)) isHanded = true
  }
  return isHanded
}

/** A request that asks for direct replies is told where they are to be sent. */
function nameReplyTo(channel: AmqpChannel, message: Message): void {
  const { source, propertiesEnd, payloadStart, payloadEnd } = message
  if (!isReplyQueue(source, scanned.replyToStart, propertiesEnd)) return
  const properties = withOwnReplyTo(channel, message, scanned.replyToStart)
  rebuild(message, message.key, properties, source, payloadStart, payloadEnd)
  // The places that were found hold no longer.
  scanProperties(message.source, message.propertiesStart, message.propertiesEnd)
}

/** Further keys (RabbitMQ's sender-selected distribution); BCC is taken out of what is delivered. */
function takeCopies(message: Message, headers: FieldTable): string[] {
  const keys: string[] = []
  for (const name of COPY_HEADERS) {
    const value = fieldOf(headers, name)
    if (value === null) continue
    if (value.type !== 'A') {
      const type = fieldTypeName(value.type)
      const explanation = `invalid message: {unacceptable_type_in_header,"${name}",${type}}`
      throw new AmqpError(REPLY.preconditionFailed, explanation)
    }
    keys.push(...textsIn(value))
  }
  const blind = fieldOf(headers, 'BCC')
  if (blind === null) return keys
  noteBlindKeys(keys, textsIn(blind))
  const { source, propertiesStart, propertiesEnd, payloadStart, payloadEnd } = message
  const properties = decodeProperties(source, propertiesStart, propertiesEnd, true)
  properties.headers = properties.headers.filter(([name]) => name !== 'BCC')
  rebuild(message, message.key, encodeProperties(properties), source, payloadStart, payloadEnd)
  return keys
}

/** Puts the message into a buffer of its own, with another key or other properties. */
function rebuild(
  message: Message,
  key: string,
  properties: Buffer,
  payload: Buffer,
  payloadStart: number,
  payloadEnd: number
): void {
  const keyBytes = Buffer.from(key)
  const source = Buffer.concat([keyBytes, properties, payload.subarray(payloadStart, payloadEnd)])
  message.compose(source, key, keyBytes.length, keyBytes.length + properties.length)
}

/** Checks the properties and takes over those that the broker acts on. */
function readProperties(message: Message, connection: ChannelConnection): void {
  const { source } = message
  scanProperties(source, message.propertiesStart, message.propertiesEnd)
  message.qos = scanned.deliveryMode === PERSISTENT ? 1 : 0
  message.priority = scanned.priority
  message.expiresAt = 0
  if (scanned.expirationStart >= 0) {
    const ms = parseExpiration(source, scanned.expirationStart, scanned.expirationEnd)
    if (ms < 0) {
      const text = source.toString('utf8', scanned.expirationStart, scanned.expirationEnd)
      throw new AmqpError(REPLY.preconditionFailed, badExpiration(text))
    }
    // 0 stands for "never": the first millisecond of all is as good.
    message.expiresAt = Math.max(1, Math.min(connection.nowMs + ms, Number.MAX_SAFE_INTEGER))
  }
  if (scanned.userIdStart >= 0) {
    const user = source.toString('utf8', scanned.userIdStart, scanned.userIdEnd)
    const { name } = connection.principal
    if (user !== name) {
      const explanation = `user_id property set to '${user}' but authenticated user was '${name}'`
      throw new AmqpError(REPLY.preconditionFailed, explanation)
    }
  }
}

/** RabbitMQ's words for an expiration that is no whole number. */
function badExpiration(text: string): string {
  const [, digits, rest] = /^(-?\d*)(.*)$/s.exec(text)!
  const isNumber = digits !== '' && digits !== '-'
  if (!isNumber) return `invalid expiration '${text}': no_integer`
  if (rest !== '') return `invalid expiration '${text}': {leftover_string,"${rest}"}`
  return `invalid expiration '${text}': {value_negative,${digits}}`
}

/**
 * `x-mqtt-retain`: as RETAIN over MQTT, where MQTT's exchange is published to under a key that is a topic. An empty body
 * takes away what is retained.
 */
function takeRetain({ broker }: ChannelConnection, message: Message): void {
  if (message.exchange !== MQTT_EXCHANGE) return
  const headers = readHeaders(message.source, scanned.headersStart, scanned.headersEnd)
  const value = fieldOf(headers, RETAIN_HEADER)
  if (value === null || !asksToRetain(value)) return
  if (isMqttTopic(swapSeparators(message.key), broker.limits)) message.retain = true
  else broker.counters.drop('topic_not_mqtt')
}

/** The exchange, if it is there and the channel may publish to it; the last answer is remembered. */
function writableExchange(channel: AmqpChannel, name: string): Exchange {
  const { connection } = channel
  const exchange = connection.vhost.exchanges.get(name)
  if (exchange !== undefined && exchange === connection.lastExchange) return exchange
  const { principal } = connection
  // Asked first: who may not write to it does not learn whether it exists.
  if (!mayResource(principal, 'write', name))
    throw accessRefused(connection, 'write', `exchange '${name}'`)
  if (exchange === undefined) {
    const vhost = connection.vhost.name
    throw new AmqpError(REPLY.notFound, `no exchange '${name}' in vhost '${vhost}'`)
  }
  if (exchange.isInternal) {
    const explanation = `cannot publish to internal exchange '${name}' in vhost '${connection.vhost.name}'`
    throw new AmqpError(REPLY.accessRefused, explanation)
  }
  connection.lastExchange = exchange
  return exchange
}

/** An answer to an MQTT request (design.md §2): its reply-to stands for a response topic. */
function redirectReply(channel: AmqpChannel, message: Message, exchange: Exchange): Exchange {
  const topic = responseTopicIn(message.key)
  if (topic === null) return exchange
  const { source, propertiesStart, propertiesEnd, payloadStart, payloadEnd } = message
  const properties = Buffer.from(source.subarray(propertiesStart, propertiesEnd))
  rebuild(message, swapSeparators(topic), properties, source, payloadStart, payloadEnd)
  // The places that were found hold no longer.
  if (scanned.headersStart >= 0)
    scanProperties(message.source, message.propertiesStart, message.propertiesEnd)
  message.exchange = MQTT_EXCHANGE
  return writableExchange(channel, MQTT_EXCHANGE)
}

/** The broker kept and routed nothing. With confirms the publisher is told by a nack. */
function refuse(channel: AmqpChannel, exchangeName: string, key: string, code: number): void {
  const name = ERROR_NAMES[code - 1]!
  if (code === ERROR_CODES.notAuthorized) {
    throw accessRefused(channel.connection, 'write', `topic '${key}' in exchange '${exchangeName}'`)
  }
  if (code === ERROR_CODES.shuttingDown) {
    throw new AmqpError(REPLY.connectionForced, 'broker forced connection closure: shutting down')
  }
  channel.connection.log.debug({ reason: name, exchange: exchangeName }, 'publish refused')
  channel.refuse()
}

/** The bytes as text; `last` itself if they are the same, which costs less than decoding. */
function sameText(last: string, buffer: Buffer, start: number, end: number): string {
  const length = end - start
  if (length === last.length && length <= SAME_KEY_BYTES_MAX) {
    let i = 0
    // Beyond ASCII no byte equals a character's code, so only equal ASCII texts pass.
    while (i < length && buffer[start + i]! < 0x80 && last.charCodeAt(i) === buffer[start + i]) i++
    if (i === length) return last
  }
  return buffer.toString('utf8', start, end)
}
