/** The queue of an MQTT session as AMQP clients and operators see it: by name, with its counts, and no more. */
import { createHash } from 'node:crypto'
import type { Queue } from '../core/queue.ts'
import type { Vhost } from '../core/vhost.ts'

const PREFIX = 'amq.mqtt.'
/** A queue's name is a short string. */
const NAME_BYTES_MAX = 255

/** `amq.mqtt.` and the client id; hashed where that would be too long. */
export function sessionQueueName(clientId: string): string {
  const name = PREFIX + clientId
  if (Buffer.byteLength(name) <= NAME_BYTES_MAX) return name
  return PREFIX + createHash('sha256').update(clientId).digest('base64url')
}

/** Null: no session has it. */
export function sessionQueueNamed(vhost: Vhost, name: string): Queue | null {
  if (!name.startsWith(PREFIX)) return null
  const session = vhost.sessions.get(name.slice(PREFIX.length))
  if (session !== undefined) return session.queue
  for (const { clientId, queue } of vhost.sessions.values()) {
    const isLong = PREFIX.length + clientId.length * 3 > NAME_BYTES_MAX
    if (isLong && sessionQueueName(clientId) === name) return queue
  }
  return null
}
