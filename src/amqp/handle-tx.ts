/**
 * Methods of the tx class (AMQP 0-9-1 §1.10). A commit is one transaction of the journal: all of its publishes and
 * outcomes are on the disk when commit-ok leaves, and no crash keeps a part of them. What could be refused is looked
 * at before anything is done.
 */
import { routeKey } from '../broker/routing.ts'
import { beginTransaction, endTransaction } from '../broker/transaction.ts'
import { ERROR_CODES } from '../core/errors.ts'
import { FORM_AMQP } from '../core/message.ts'
import { heldBytesOf, waitingOf } from '../core/held.ts'
import { type Queue, readyBytesOf } from '../core/queue.ts'
import type { AmqpChannel } from './channel.ts'
import { encodeMethod, TX } from './codec/methods.ts'
import { publishReply, publishRouted } from './handle-publish.ts'
import { writeReturn } from './outbound.ts'
import { AmqpError, REPLY } from './reply-codes.ts'
import { openStaged, type StagedPublish, Transaction } from './transaction.ts'

export function handleTxSelect(channel: AmqpChannel): void {
  if (channel.confirms !== null) {
    throw new AmqpError(REPLY.preconditionFailed, 'cannot switch from confirm to tx mode')
  }
  const { connection } = channel
  channel.tx ??= new Transaction(connection.context.channelRooms.of(connection))
  channel.reply(0, encodeMethod(TX.selectOk, channel.id, {}))
}

export function handleTxCommit(channel: AmqpChannel): void {
  const tx = transactionOf(channel)
  checkRoom(channel, tx)
  const { broker } = channel.connection
  const began = beginTransaction(broker)
  for (const staged of tx.publishes) publishStaged(channel, staged)
  channel.finishKept(tx)
  const ticket = endTransaction(broker, began)
  tx.clear()
  channel.reply(ticket, encodeMethod(TX.commitOk, channel.id, {}))
}

export function handleTxRollback(channel: AmqpChannel): void {
  channel.rollback(transactionOf(channel))
  channel.reply(0, encodeMethod(TX.rollbackOk, channel.id, {}))
}

function transactionOf(channel: AmqpChannel): Transaction {
  if (channel.tx !== null) return channel.tx
  throw new AmqpError(REPLY.preconditionFailed, 'channel is not transactional')
}

function publishStaged(channel: AmqpChannel, staged: StagedPublish): void {
  const { connection } = channel
  const { message, broker } = connection
  const { exchange, headers, moreKeys } = staged
  openStaged(staged, message, connection.nowMs)
  message.form = FORM_AMQP
  if (connection.vhost.exchanges.get(exchange.name) !== exchange) {
    // It was deleted after the publish: there is no way to anybody.
    broker.matched = false
    broker.counters.drop('no_match')
  } else if (staged.isReply && moreKeys === null) publishReply(channel, message)
  else publishRouted(channel, exchange, message, headers, moreKeys)
  if (staged.isMandatory && !broker.matched) {
    writeReturn(connection, channel.id, REPLY.noRoute, 'NO_ROUTE', message)
  }
}

/** Room that the queues which refuse publishes still need, as the whole transaction has it. */
class Needs {
  messages = 0
  bytes = 0
}

/** Throws when a part of it would be refused: then nothing of it happens. */
function checkRoom(channel: AmqpChannel, tx: Transaction): void {
  const { broker, vhost } = channel.connection
  const needs = new Map<Queue, Needs>()
  let needsDisk = false
  let bytes = 0
  let retained = 0
  for (const staged of tx.publishes) {
    const { exchange, key, headers, moreKeys } = staged
    if (vhost.exchanges.get(exchange.name) !== exchange) continue
    const route = routeKey(broker, vhost, exchange, key, headers, moreKeys)
    if (route.hasDurableQueue || route.hasLastingSession || staged.retain) needsDisk = true
    if (staged.retain) retained += staged.bytes.length
    bytes += staged.bytes.length
    for (const queue of route.queues) {
      if (queue.options.isBounded && queue.options.overflow !== 'drop-head') {
        need(needs, queue, staged.bytes.length - staged.propertiesEnd)
      }
    }
  }
  // Each counts as one more: what it replaces is not looked for.
  if (retained > 0 && vhost.retained.bytes + retained > broker.limits.retainedBytesMax) {
    throw new AmqpError(
      REPLY.preconditionFailed,
      'transaction refused: no room for retained messages'
    )
  }
  if (needsDisk && broker.refusal !== 0) throw refused(broker.refusal)
  if (needsDisk && !broker.journal.hasRoomFor(bytes)) throw refused(ERROR_CODES.diskAlarm)
}

function need(needs: Map<Queue, Needs>, queue: Queue, bytes: number): void {
  let its = needs.get(queue)
  if (its === undefined) {
    its = new Needs()
    needs.set(queue, its)
  }
  its.messages++
  its.bytes += bytes
  const { messagesMax, bytesMax } = queue.options
  const isFull = messagesMax >= 0 && waitingOf(queue) + its.messages > messagesMax
  if (
    isFull ||
    (bytesMax >= 0 && readyBytesOf(queue) + heldBytesOf(queue) + its.bytes > bytesMax)
  ) {
    throw new AmqpError(
      REPLY.preconditionFailed,
      `transaction refused: no room in queue '${queue.name}' in vhost '${queue.vhost}'`
    )
  }
}

function refused(code: number): AmqpError {
  if (code === ERROR_CODES.shuttingDown) {
    return new AmqpError(REPLY.connectionForced, 'broker forced connection closure: shutting down')
  }
  if (code === ERROR_CODES.journalFailed) {
    return new AmqpError(REPLY.internalError, 'transaction refused: the journal failed')
  }
  return new AmqpError(REPLY.preconditionFailed, 'transaction refused: the disk is full')
}
