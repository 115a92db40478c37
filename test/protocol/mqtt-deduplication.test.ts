/** Duplicates of MQTT publishers: the key is a user property. */
import { connectAsync, type MqttClient } from 'mqtt'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { BASIC, EXCHANGE, QUEUE } from '../../src/amqp/codec/methods.ts'
import { BIND_VALUES, declareQueue, EXCHANGE_VALUES } from '../support/amqp-moves.ts'
import type { RawAmqp } from '../support/raw-amqp.ts'
import { int } from '../support/routing.ts'
import { WholeServer } from '../support/whole-server.ts'

let server: WholeServer
let amqp: RawAmqp
let device: MqttClient

beforeEach(async () => {
  server = await new WholeServer().start()
  amqp = await server.amqp()
  const url = `mqtt://127.0.0.1:${server.port(0)}`
  device = await connectAsync(url, { protocolVersion: 5, clientId: 'd', reconnectPeriod: 0 })
})
afterEach(async () => {
  device.end(true)
  await server.close()
})

function publish(topic: string, body: string, key: string) {
  const userProperties = { 'x-deduplication-header': key }
  return device.publishAsync(topic, body, { qos: 1, properties: { userProperties } })
}

async function get(queue: string): Promise<string> {
  amqp.method(BASIC.get, 1, { reserved: 0, queue, noAck: true })
  return (await amqp.content(BASIC.getOk)).body.toString()
}

it('are acknowledged and dropped by an exchange behind amq.topic, and by a queue', async () => {
  const exchange = {
    ...EXCHANGE_VALUES,
    exchange: 'once',
    type: 'x-message-deduplication',
    arguments: [['x-cache-size', int(10)] as const]
  }
  await amqp.call(EXCHANGE.declare, exchange, EXCHANGE.declareOk)
  const binding = {
    reserved: 0,
    destination: 'once',
    source: 'amq.topic',
    noWait: false,
    arguments: []
  }
  await amqp.call(EXCHANGE.bind, { ...binding, routingKey: 'e.#' }, EXCHANGE.bindOk)
  await declareQueue(amqp, { queue: 'q', durable: true })
  await amqp.call(QUEUE.bind, { ...BIND_VALUES, exchange: 'once', queue: 'q' }, QUEUE.bindOk)
  const unique = [['x-message-deduplication', { type: 't', value: true }] as const]
  await declareQueue(amqp, { queue: 'u', durable: true, arguments: unique })
  const toQueue = { ...BIND_VALUES, exchange: 'amq.topic', queue: 'u', routingKey: 'u.#' }
  await amqp.call(QUEUE.bind, toQueue, QUEUE.bindOk)
  for (const topic of ['e/x', 'u/x']) {
    await publish(topic, '1', 'a')
    await publish(topic, 'twice', 'a')
    await publish(topic, '2', 'b')
  }
  for (const queue of ['q', 'u']) expect([await get(queue), await get(queue)]).toEqual(['1', '2'])
  // From AMQP the same key is the same.
  amqp.publish('once', '', 'thrice', {
    properties: { headers: [['x-deduplication-header', { type: 'S', value: 'a' }]] }
  })
  amqp.method(BASIC.get, 1, { reserved: 0, queue: 'q', noAck: true })
  await amqp.expect(BASIC.getEmpty)
})
