/** channel.flow (AMQP 0-9-1 §1.5.2.3), and access.request. Open and close stand with the dispatch of methods. */
import type { AmqpChannel } from './channel.ts'
import { ACCESS, type ArgumentsOf, CHANNEL, encodeMethod } from './codec/methods.ts'
import { AmqpError, REPLY } from './reply-codes.ts'

export function handleFlow(
  channel: AmqpChannel,
  values: ArgumentsOf<typeof CHANNEL.flow.shape>
): void {
  if (!values.active) throw new AmqpError(REPLY.notImplemented, 'active=false')
  channel.reply(0, encodeMethod(CHANNEL.flowOk, channel.id, { active: true }))
}

/** Every ticket is the same, and nobody looks at it: permissions belong to the user. */
export function handleAccess(channel: AmqpChannel): void {
  channel.reply(0, encodeMethod(ACCESS.requestOk, channel.id, { ticket: 1 }))
}
