/** Names as clients give them. */
import type { AmqpChannel } from './channel.ts'
import { syntaxError } from './codec/field-table.ts'
import { AmqpError, REPLY } from './reply-codes.ts'

/** Line ends are taken out, as RabbitMQ does; U+0000 is refused with 502. */
export function cleanName(name: string): string {
  if (name.includes('\0')) throw syntaxError('a name may not contain U+0000')
  return name.replaceAll('\r', '').replaceAll('\n', '')
}

/** A queue's name; an empty one stands for the queue that the channel declared last (§1.7.2.3). */
export function queueNamed(channel: AmqpChannel, name: string): string {
  if (name !== '') return cleanName(name)
  if (channel.lastQueue === '') throw new AmqpError(REPLY.notFound, 'no previously declared queue')
  return channel.lastQueue
}
