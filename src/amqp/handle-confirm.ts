/** confirm.select: from here on every publish of the channel is answered by an ack or a nack. */
import type { AmqpChannel } from './channel.ts'
import { type ArgumentsOf, CONFIRM, encodeMethod } from './codec/methods.ts'
import { ConfirmRing } from './confirm-ring.ts'
import { AmqpError, REPLY } from './reply-codes.ts'

export function handleSelect(
  channel: AmqpChannel,
  values: ArgumentsOf<typeof CONFIRM.select.shape>
): void {
  if (channel.tx !== null) {
    throw new AmqpError(REPLY.preconditionFailed, 'cannot switch from tx to confirm mode')
  }
  // A second one changes nothing: the numbers go on.
  channel.confirms ??= new ConfirmRing()
  const frame = values.noWait ? null : encodeMethod(CONFIRM.selectOk, channel.id, {})
  channel.reply(0, frame)
}
