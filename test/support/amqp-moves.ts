/** The moves of which the AMQP protocol tests are made, and the values of methods from which they differ. */
import { expect, onTestFinished } from 'vitest'
import { CHANNEL, type Method, QUEUE } from '../../src/amqp/codec/methods.ts'
import type { FieldTable } from '../../src/core/field-table.ts'
import { AmqpGateway, type AmqpGatewayOptions } from './amqp-gateway.ts'
import type { RawAmqp } from './raw-amqp.ts'

/** queue.declare */
export const QUEUE_VALUES = {
  reserved: 0,
  queue: 'q',
  passive: false,
  durable: false,
  exclusive: false,
  autoDelete: false,
  noWait: false,
  arguments: [] as FieldTable
}

/** exchange.declare */
export const EXCHANGE_VALUES = {
  reserved: 0,
  exchange: 'e',
  type: 'direct',
  passive: false,
  durable: false,
  autoDelete: false,
  internal: false,
  noWait: false,
  arguments: [] as FieldTable
}

/** basic.consume */
export const CONSUME_VALUES = {
  reserved: 0,
  queue: 'q',
  consumerTag: 'c',
  noLocal: false,
  noAck: false,
  exclusive: false,
  noWait: false,
  arguments: [] as FieldTable
}

/** queue.bind */
export const BIND_VALUES = {
  reserved: 0,
  queue: 'q',
  exchange: 'amq.direct',
  routingKey: 'k',
  noWait: false,
  arguments: [] as FieldTable
}

/** queue.delete */
export const DELETE_VALUES = {
  reserved: 0,
  queue: 'q',
  ifUnused: false,
  ifEmpty: false,
  noWait: false
}

/** A gateway that is closed when the test is over, and a connection to it with channel 1 open. */
export async function startAmqp(
  options: AmqpGatewayOptions = {}
): Promise<{ gateway: AmqpGateway; client: RawAmqp }> {
  const gateway = await new AmqpGateway(options).start()
  onTestFinished(() => gateway.close())
  return { gateway, client: await gateway.connect() }
}

export async function declareQueue(
  client: RawAmqp,
  changes: Partial<typeof QUEUE_VALUES> = {}
): Promise<void> {
  await client.call(QUEUE.declare, { ...QUEUE_VALUES, ...changes }, QUEUE.declareOk)
}

/** Whatever came before it is read: the answer proves that nothing else was sent. */
export async function nothingMore(client: RawAmqp): Promise<void> {
  await client.call(CHANNEL.flow, { active: true }, CHANNEL.flowOk)
}

/** The same some turns later. */
export async function nothingMoreLater(client: RawAmqp): Promise<void> {
  for (let i = 0; i < 5; i++) await new Promise(resolve => setImmediate(resolve))
  await nothingMore(client)
}

/** channel.close with this code, the ids of the method, and the text in full. */
export async function channelClosed(
  client: RawAmqp,
  code: number,
  method: Method,
  text: string
): Promise<void> {
  const close = await client.expect(CHANNEL.close)
  expect(close.replyText).toBe(text)
  expect(close).toMatchObject({
    replyCode: code,
    classId: method.classId,
    methodId: method.methodId
  })
  // Everything is thrown away until close-ok; then the number is free and the connection lives.
  client.publish('', 'q', 'thrown away')
  client.method(CHANNEL.closeOk, 1, {})
  await client.openChannel(1)
}
