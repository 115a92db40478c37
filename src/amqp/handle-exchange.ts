/** Methods of the exchange class (AMQP 0-9-1 §1.6), with RabbitMQ's bindings between exchanges. */
import { bindExchange, unbindExchange } from '../broker/bindings.ts'
import { declareExchange, deleteExchange } from '../broker/exchanges.ts'
import type { AmqpChannel } from './channel.ts'
import { type ArgumentsOf, EXCHANGE, encodeMethod } from './codec/methods.ts'
import { cleanName } from './names.ts'

export function handleExchangeDeclare(
  channel: AmqpChannel,
  values: ArgumentsOf<typeof EXCHANGE.declare.shape>
): void {
  const { connection } = channel
  const { ticket } = declareExchange(connection.broker, connection.vhost, {
    name: cleanName(values.exchange),
    kind: values.type,
    passive: values.passive,
    durable: values.durable,
    autoDelete: values.autoDelete,
    internal: values.internal,
    arguments: values.arguments,
    principal: connection.principal
  })
  channel.reply(ticket, values.noWait ? null : encodeMethod(EXCHANGE.declareOk, channel.id, {}))
}

export function handleExchangeDelete(
  channel: AmqpChannel,
  values: ArgumentsOf<typeof EXCHANGE.delete.shape>
): void {
  const { connection } = channel
  const { ticket } = deleteExchange(
    connection.broker,
    connection.vhost,
    cleanName(values.exchange),
    { ifUnused: values.ifUnused, principal: connection.principal }
  )
  channel.reply(ticket, values.noWait ? null : encodeMethod(EXCHANGE.deleteOk, channel.id, {}))
}

export function handleExchangeBind(
  channel: AmqpChannel,
  values: ArgumentsOf<typeof EXCHANGE.bind.shape>
): void {
  const { connection } = channel
  const { ticket } = bindExchange(connection.broker, connection.vhost, bindingOf(channel, values))
  channel.reply(ticket, values.noWait ? null : encodeMethod(EXCHANGE.bindOk, channel.id, {}))
}

export function handleExchangeUnbind(
  channel: AmqpChannel,
  values: ArgumentsOf<typeof EXCHANGE.unbind.shape>
): void {
  const { connection } = channel
  const { ticket } = unbindExchange(connection.broker, connection.vhost, bindingOf(channel, values))
  channel.reply(ticket, values.noWait ? null : encodeMethod(EXCHANGE.unbindOk, channel.id, {}))
}

function bindingOf(channel: AmqpChannel, values: ArgumentsOf<typeof EXCHANGE.bind.shape>) {
  return {
    destination: cleanName(values.destination),
    source: cleanName(values.source),
    key: values.routingKey,
    arguments: values.arguments,
    principal: channel.principal
  }
}
