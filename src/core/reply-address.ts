/**
 * Where an answer goes when it was asked for over the other protocol. MQTT names a topic, AMQP a queue: each is
 * wrapped into an address of the other kind, which the broker unwraps when somebody publishes to it.
 */

/** Of a reply-to, on the default exchange: behind it a response topic in base64url. */
const KEY_PREFIX = 'amq.mqtt.reply-to.'
/** Of a response topic: behind it a reply-to, percent-encoded, so that it has no wildcards. */
const TOPIC_PREFIX = '$reply-to/'
const KEY_BYTES_MAX = 255

/** The reply-to that stands for a response topic; null when it would be too long. */
export function replyToFor(topic: string): string | null {
  const wrapped = replyToIn(topic)
  if (wrapped !== null) return wrapped
  const key = KEY_PREFIX + Buffer.from(topic).toString('base64url')
  return key.length <= KEY_BYTES_MAX ? key : null
}

/** The response topic (with `/`) that a reply-to, or a key on the default exchange, stands for; null: it is no such. */
export function responseTopicIn(replyTo: string): string | null {
  if (!replyTo.startsWith(KEY_PREFIX)) return null
  const bytes = Buffer.from(replyTo.slice(KEY_PREFIX.length), 'base64url')
  const topic = bytes.toString('utf8')
  return topic !== '' && Buffer.from(topic).equals(bytes) ? topic : null
}

/** The response topic that stands for a reply-to. */
export function responseTopicFor(replyTo: string): string {
  return responseTopicIn(replyTo) ?? TOPIC_PREFIX + encodeURIComponent(replyTo)
}

/** The reply-to that a topic stands for; null: it is no such topic. */
export function replyToIn(topic: string): string | null {
  if (!topic.startsWith(TOPIC_PREFIX)) return null
  const rest = topic.slice(TOPIC_PREFIX.length)
  try {
    const replyTo = decodeURIComponent(rest)
    return replyTo !== '' && Buffer.byteLength(replyTo) <= KEY_BYTES_MAX ? replyTo : null
  } catch (error) {
    if (error instanceof URIError) return null
    throw error
  }
}
