/** Methods on a channel: the ones that make the traffic are read in place, the others from the table. */
import type { AmqpChannel, ChannelConnection } from './channel.ts'
import { HOLD } from './codec/frame-splitter.ts'
import { syntaxError } from './codec/field-table.ts'
import {
  ACCESS,
  type ArgumentsOf,
  BASIC,
  CHANNEL,
  CONFIRM,
  encodeMethod,
  EXCHANGE,
  type Method,
  QUEUE,
  readArguments,
  type Shape,
  TX
} from './codec/methods.ts'
import { isReplyQueue } from './direct-reply-to.ts'
import {
  handleCancel,
  handleConsume,
  handleGet,
  handleQos,
  handleRecover,
  handleRecoverAsync
} from './handle-basic.ts'
import { handleAccess, handleFlow } from './handle-channel.ts'
import { handleSelect } from './handle-confirm.ts'
import {
  handleExchangeBind,
  handleExchangeDeclare,
  handleExchangeDelete,
  handleExchangeUnbind
} from './handle-exchange.ts'
import { handlePublish } from './handle-publish.ts'
import { handleTxCommit, handleTxRollback, handleTxSelect } from './handle-tx.ts'
import {
  handleQueueBind,
  handleQueueDeclare,
  handleQueueDelete,
  handleQueuePurge,
  handleQueueUnbind
} from './handle-queue.ts'
import { FAIL, REJECT, REQUEUE, SETTLE } from './outcome.ts'
import { AmqpError, notOpen, REPLY } from './reply-codes.ts'
import { unservedMethod } from './unserved.ts'

const TWO_32 = 4294967296

type Handler = (channel: AmqpChannel, buffer: Buffer, at: number, end: number) => void

const handlers = new Map<number, Handler>()
function on<S extends Shape>(
  method: Method<S>,
  handle: (channel: AmqpChannel, values: ArgumentsOf<S>) => void
): void {
  handlers.set(method.id, (channel, buffer, at, end) =>
    handle(channel, readArguments(method, buffer, at, end))
  )
}

on(CHANNEL.flow, handleFlow)
on(ACCESS.request, handleAccess)
on(EXCHANGE.declare, handleExchangeDeclare)
on(EXCHANGE.delete, handleExchangeDelete)
on(EXCHANGE.bind, handleExchangeBind)
on(EXCHANGE.unbind, handleExchangeUnbind)
on(QUEUE.declare, handleQueueDeclare)
on(QUEUE.bind, handleQueueBind)
on(QUEUE.unbind, handleQueueUnbind)
on(QUEUE.purge, handleQueuePurge)
on(QUEUE.delete, handleQueueDelete)
on(BASIC.qos, handleQos)
on(BASIC.consume, handleConsume)
on(BASIC.cancel, handleCancel)
on(BASIC.get, handleGet)
on(BASIC.recover, handleRecover)
on(BASIC.recoverAsync, handleRecoverAsync)
on(CONFIRM.select, handleSelect)
on(TX.select, handleTxSelect)
on(TX.commit, handleTxCommit)
on(TX.rollback, handleTxRollback)

const BASIC_CLASS = BASIC.ack.classId

/**
 * A method frame's payload `buffer[start..end)`, four bytes at least. Returns the offset behind what was
 * taken, or HOLD.
 */
export function handleMethod(
  connection: ChannelConnection,
  channel: AmqpChannel | null,
  channelId: number,
  buffer: Buffer,
  start: number,
  end: number,
  limit: number
): number {
  const classId = (buffer[start]! << 8) | buffer[start + 1]!
  const methodId = (buffer[start + 2]! << 8) | buffer[start + 3]!
  const at = start + 4
  if (channel === null) {
    if (((classId << 16) | methodId) !== CHANNEL.open.id) throw notOpen()
    connection.openChannel(channelId)
    return end + 1
  }
  if (channel.isClosing || channel.isClosed) {
    handleWhileClosing(channel, (classId << 16) | methodId)
    return end + 1
  }
  if (channel.assembler.isOpen) throw channel.assembler.unexpected()
  if (channel.isGetting) return HOLD
  if (classId === BASIC_CLASS) {
    switch (methodId) {
      case BASIC.publish.methodId:
        if (!connection.mayPublish()) return HOLD
        return handlePublish(channel, buffer, at, end, limit)
      case BASIC.ack.methodId:
        if (end - at !== 9) throw syntaxError('malformed basic.ack')
        channel.finish(readTag(buffer, at), (buffer[at + 8]! & 1) !== 0, SETTLE)
        return end + 1
      case BASIC.nack.methodId: {
        if (end - at !== 9) throw syntaxError('malformed basic.nack')
        const flags = buffer[at + 8]!
        const outcome = (flags & 2) !== 0 ? REQUEUE : REJECT
        channel.finish(readTag(buffer, at), (flags & 1) !== 0, outcome)
        return end + 1
      }
      case BASIC.reject.methodId:
        if (end - at !== 9) throw syntaxError('malformed basic.reject')
        channel.finish(readTag(buffer, at), false, (buffer[at + 8]! & 1) !== 0 ? FAIL : REJECT)
        return end + 1
      case BASIC.get.methodId:
        // Its answer is written at once: it waits for the replies before it.
        if (channel.owedCount > 0) return HOLD
        break
      case BASIC.consume.methodId:
        // Its replies wait for nothing, and may not overtake its consume-ok.
        if (channel.owedCount > 0 && isReplyQueue(buffer, at + 2, end)) return HOLD
        break
    }
  }
  const id = (classId << 16) | methodId
  // Its publishes are taken here and now.
  const isPublishing = id === TX.commit.id && channel.tx !== null && channel.tx.publishes.length > 0
  if (isPublishing && !connection.mayPublish()) return HOLD
  handleCold(channel, id, buffer, at, end)
  return end + 1
}

/** Tags are exact up to 2^53. */
function readTag(buffer: Buffer, at: number): number {
  return buffer.readUInt32BE(at) * TWO_32 + buffer.readUInt32BE(at + 4)
}

function handleCold(
  channel: AmqpChannel,
  id: number,
  buffer: Buffer,
  at: number,
  end: number
): void {
  const handler = handlers.get(id)
  if (handler !== undefined) {
    handler(channel, buffer, at, end)
    return
  }
  if (id === CHANNEL.close.id) {
    channel.close()
    channel.replyLast(encodeMethod(CHANNEL.closeOk, channel.id, {}))
    return
  }
  if (id === CHANNEL.open.id) throw new AmqpError(REPLY.channelError, "second 'channel.open' seen")
  // The answer to a cancel of ours, which asked for none; nothing depends on it.
  if (id === BASIC.cancelOk.id && channel.cancelsSent > 0) channel.cancelsSent--
  else throw unservedMethod(id)
}

/** Both sides may close at once: each close is answered, ours ends the channel when it is. */
function handleWhileClosing(channel: AmqpChannel, id: number): void {
  if (!channel.isClosing) return
  if (id === CHANNEL.closeOk.id) channel.connection.removeChannel(channel)
  else if (id === CHANNEL.close.id) {
    channel.reply(0, encodeMethod(CHANNEL.closeOk, channel.id, {}))
  }
}
