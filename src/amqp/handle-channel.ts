/** channel.flow (AMQP 0-9-1 §1.5.2.3). Open and close stand with the dispatch of methods. */
import type { AmqpChannel } from './channel.ts'
import { type ArgumentsOf, CHANNEL, encodeMethod } from './codec/methods.ts'
import { AmqpError, REPLY } from './reply-codes.ts'

export function handleFlow(
  channel: AmqpChannel,
  values: ArgumentsOf<typeof CHANNEL.flow.shape>
): void {
  if (!values.active) throw new AmqpError(REPLY.notImplemented, 'active=false')
  channel.reply(0, encodeMethod(CHANNEL.flowOk, channel.id, { active: true }))
}
