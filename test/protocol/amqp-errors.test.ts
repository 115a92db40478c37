/** Which mistake closes what, with which code and text: one row for each line of RabbitMQ's table. */
import { beforeEach, describe, expect, it } from 'vitest'
import { BASIC, CHANNEL, EXCHANGE, type Method, QUEUE } from '../../src/amqp/codec/methods.ts'
import type { Credentials } from '../../src/auth/authenticator.ts'
import { Principal, type ResourceRule } from '../../src/core/principal.ts'
import type { AmqpGateway } from '../support/amqp-gateway.ts'
import {
  BIND_VALUES,
  CONSUME_VALUES,
  channelClosed,
  DELETE_VALUES,
  declareQueue,
  EXCHANGE_VALUES,
  QUEUE_VALUES,
  startAmqp
} from '../support/amqp-moves.ts'
import { publishFrames, type RawAmqp, rawFrame } from '../support/raw-amqp.ts'

let gateway: AmqpGateway
let client: RawAmqp

beforeEach(async () => {
  ;({ gateway, client } = await startAmqp())
})

describe('404', () => {
  it('R01: publish to an exchange that does not exist', async () => {
    client.publish('no', 'k', 'x')
    await channelClosed(client, 404, BASIC.publish, "NOT_FOUND - no exchange 'no' in vhost '/'")
  })

  it('R01: publish to such an exchange whose content comes in another read', async () => {
    const [method, ...content] = publishFrames('no', 'k', Buffer.from('x'))
    client.send(method!)
    // Its answer says that the method was read alone.
    client.method(CHANNEL.open, 2, { reserved: '' })
    await client.expect(CHANNEL.openOk, 2)
    client.send(...content)
    await channelClosed(client, 404, BASIC.publish, "NOT_FOUND - no exchange 'no' in vhost '/'")
  })

  it('R01: consume from a queue that does not exist', async () => {
    client.method(BASIC.consume, 1, CONSUME_VALUES)
    await channelClosed(client, 404, BASIC.consume, "NOT_FOUND - no queue 'q' in vhost '/'")
  })

  it('R01: get, bind, purge and passive declare of such a queue', async () => {
    const text = "NOT_FOUND - no queue 'q' in vhost '/'"
    client.method(BASIC.get, 1, { reserved: 0, queue: 'q', noAck: true })
    await channelClosed(client, 404, BASIC.get, text)
    client.method(QUEUE.bind, 1, BIND_VALUES)
    await channelClosed(client, 404, QUEUE.bind, text)
    client.method(QUEUE.purge, 1, { reserved: 0, queue: 'q', noWait: false })
    await channelClosed(client, 404, QUEUE.purge, text)
    client.method(QUEUE.declare, 1, { ...QUEUE_VALUES, passive: true })
    await channelClosed(client, 404, QUEUE.declare, text)
  })

  it('R01: bind to, and passive declare of, an exchange that does not exist', async () => {
    await declareQueue(client)
    client.method(QUEUE.bind, 1, { ...BIND_VALUES, exchange: 'no' })
    await channelClosed(client, 404, QUEUE.bind, "NOT_FOUND - no exchange 'no' in vhost '/'")
    client.method(EXCHANGE.declare, 1, { ...EXCHANGE_VALUES, passive: true })
    await channelClosed(client, 404, EXCHANGE.declare, "NOT_FOUND - no exchange 'e' in vhost '/'")
  })

  it('R02: an empty queue name when none was declared', async () => {
    client.method(BASIC.consume, 1, { ...CONSUME_VALUES, queue: '' })
    await channelClosed(client, 404, BASIC.consume, 'NOT_FOUND - no previously declared queue')
  })
})

describe('no error', () => {
  it('R03: delete of a queue or an exchange that does not exist', async () => {
    const deleted = await client.call(QUEUE.delete, DELETE_VALUES, QUEUE.deleteOk)
    expect(deleted.messageCount).toBe(0)
    const values = { reserved: 0, exchange: 'no', ifUnused: false, noWait: false }
    await client.call(EXCHANGE.delete, values, EXCHANGE.deleteOk)
  })

  it('R03: unbind of a binding that does not exist', async () => {
    await declareQueue(client)
    const { noWait: _, ...values } = BIND_VALUES
    await client.call(QUEUE.unbind, values, QUEUE.unbindOk)
  })

  it('cancel of an unknown consumer', async () => {
    const answer = await client.call(
      BASIC.cancel,
      { consumerTag: 'no', noWait: false },
      BASIC.cancelOk
    )
    expect(answer.consumerTag).toBe('no')
  })

  it('R10: declare of a system exchange that exists', async () => {
    const values = { ...EXCHANGE_VALUES, exchange: 'amq.direct', durable: true }
    await client.call(EXCHANGE.declare, values, EXCHANGE.declareOk)
  })

  it('R15: ack of everything when nothing is open', async () => {
    client.method(BASIC.ack, 1, { deliveryTag: 0, multiple: true })
    await client.call(CHANNEL.flow, { active: true }, CHANNEL.flowOk)
  })
})

describe('406', () => {
  it('R04: delete of a queue in use, or not empty, when that was asked for', async () => {
    await declareQueue(client)
    client.publish('', 'q', 'x')
    client.method(QUEUE.delete, 1, { ...DELETE_VALUES, ifEmpty: true })
    await channelClosed(
      client,
      406,
      QUEUE.delete,
      "PRECONDITION_FAILED - queue 'q' in vhost '/' not empty"
    )
    await client.call(QUEUE.purge, { reserved: 0, queue: 'q', noWait: false }, QUEUE.purgeOk)
    const other = await gateway.connect()
    await other.call(BASIC.consume, CONSUME_VALUES, BASIC.consumeOk)
    client.method(QUEUE.delete, 1, { ...DELETE_VALUES, ifUnused: true })
    await channelClosed(
      client,
      406,
      QUEUE.delete,
      "PRECONDITION_FAILED - queue 'q' in vhost '/' in use"
    )
  })

  it('R04: delete of an exchange in use', async () => {
    await client.call(EXCHANGE.declare, EXCHANGE_VALUES, EXCHANGE.declareOk)
    await declareQueue(client)
    await client.call(QUEUE.bind, { ...BIND_VALUES, exchange: 'e' }, QUEUE.bindOk)
    client.method(EXCHANGE.delete, 1, { reserved: 0, exchange: 'e', ifUnused: true, noWait: false })
    await channelClosed(
      client,
      406,
      EXCHANGE.delete,
      "PRECONDITION_FAILED - exchange 'e' in vhost '/' in use"
    )
  })

  it('R05: declare again with other flags or arguments', async () => {
    await declareQueue(client)
    client.method(QUEUE.declare, 1, { ...QUEUE_VALUES, durable: true })
    await channelClosed(
      client,
      406,
      QUEUE.declare,
      "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/': received 'true' but current is 'false'"
    )
    await declareQueue(client, {
      queue: 'a',
      arguments: [['x-max-length', { type: 'l', value: 1n }]]
    })
    client.method(QUEUE.declare, 1, { ...QUEUE_VALUES, queue: 'a' })
    await channelClosed(
      client,
      406,
      QUEUE.declare,
      "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'a' in vhost '/': received none but current is the value '1' of type 'long'"
    )
    await declareQueue(client, {
      queue: 'a',
      arguments: [['x-max-length', { type: 'b', value: 1 }]]
    })
    await client.call(EXCHANGE.declare, EXCHANGE_VALUES, EXCHANGE.declareOk)
    client.method(EXCHANGE.declare, 1, { ...EXCHANGE_VALUES, type: 'fanout' })
    await channelClosed(
      client,
      406,
      EXCHANGE.declare,
      "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'e' in vhost '/': received 'fanout' but current is 'direct'"
    )
  })

  it.each([
    ['ack', BASIC.ack, { deliveryTag: 1, multiple: false }],
    ['ack of several', BASIC.ack, { deliveryTag: 1, multiple: true }],
    ['ack of tag 0', BASIC.ack, { deliveryTag: 0, multiple: false }],
    ['nack', BASIC.nack, { deliveryTag: 1, multiple: false, requeue: true }],
    ['reject', BASIC.reject, { deliveryTag: 1, requeue: false }]
  ])('R15: %s of an unknown delivery tag', async (_what, method, values) => {
    client.method(method as Method, 1, values)
    const text = `PRECONDITION_FAILED - unknown delivery tag ${values.deliveryTag}`
    await channelClosed(client, 406, method, text)
  })

  it('R15: ack twice, and on another channel', async () => {
    await declareQueue(client)
    client.publish('', 'q', 'x')
    client.method(BASIC.get, 1, { reserved: 0, queue: 'q', noAck: false })
    await client.content(BASIC.getOk)
    await client.openChannel(2)
    client.method(BASIC.ack, 2, { deliveryTag: 1, multiple: false })
    expect((await client.expect(CHANNEL.close, 2)).replyCode).toBe(406)
    client.method(BASIC.ack, 1, { deliveryTag: 1, multiple: false })
    client.method(BASIC.ack, 1, { deliveryTag: 1, multiple: false })
    await channelClosed(client, 406, BASIC.ack, 'PRECONDITION_FAILED - unknown delivery tag 1')
  })

  it.each([
    ['ten', 'no_integer'],
    ['', 'no_integer'],
    ['-1', '{value_negative,-1}'],
    ['1.5', '{leftover_string,".5"}'],
    ['1\n', '{leftover_string,"\n"}']
  ])('R17: expiration %j', async (expiration, why) => {
    await declareQueue(client)
    client.publish('', 'q', 'x', { properties: { expiration } })
    const text = `PRECONDITION_FAILED - invalid expiration '${expiration}': ${why}`
    await channelClosed(client, 406, BASIC.publish, text)
  })

  it('R17: the user-id of somebody else', async () => {
    client.publish('', 'q', 'x', { properties: { userId: 'root' } })
    await channelClosed(
      client,
      406,
      BASIC.publish,
      "PRECONDITION_FAILED - user_id property set to 'root' but authenticated user was 'guest'"
    )
    client.publish('', 'q', 'x', { properties: { userId: 'guest' } })
    await client.call(CHANNEL.flow, { active: true }, CHANNEL.flowOk)
  })

  it('a message above the largest size', async () => {
    const header = Buffer.alloc(14)
    header.writeUInt16BE(60, 0)
    header.writeBigUInt64BE(16n * 1024n * 1024n + 1n, 4)
    client.send(publishFrames('', 'q', Buffer.alloc(0))[0]!, rawFrame(2, 1, header))
    // Its bodies are on their way already: they are thrown away.
    client.send(rawFrame(3, 1, Buffer.alloc(1000)))
    const text =
      'PRECONDITION_FAILED - message size 16777217 is larger than configured max size 16777216'
    const close = await client.expect(CHANNEL.close)
    expect(close.replyText).toBe(text)
  })
})

describe('405', () => {
  const TEXT =
    "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration."

  it('R06: any use of the exclusive queue of another connection', async () => {
    const owner = await gateway.connect()
    await declareQueue(owner, { exclusive: true })
    client.method(QUEUE.declare, 1, { ...QUEUE_VALUES, exclusive: true })
    await channelClosed(client, 405, QUEUE.declare, TEXT)
    client.method(QUEUE.declare, 1, { ...QUEUE_VALUES, passive: true })
    await channelClosed(client, 405, QUEUE.declare, TEXT)
    client.method(BASIC.consume, 1, CONSUME_VALUES)
    await channelClosed(client, 405, BASIC.consume, TEXT)
    client.method(BASIC.get, 1, { reserved: 0, queue: 'q', noAck: true })
    await channelClosed(client, 405, BASIC.get, TEXT)
    client.method(QUEUE.bind, 1, BIND_VALUES)
    await channelClosed(client, 405, QUEUE.bind, TEXT)
    client.method(QUEUE.delete, 1, DELETE_VALUES)
    await channelClosed(client, 405, QUEUE.delete, TEXT)
  })

  it('R06: declare again without its exclusive flag', async () => {
    await declareQueue(client, { exclusive: true })
    client.method(QUEUE.declare, 1, QUEUE_VALUES)
    await channelClosed(client, 405, QUEUE.declare, TEXT)
  })
})

describe('403', () => {
  it('R10: a queue or exchange named amq.', async () => {
    client.method(QUEUE.declare, 1, { ...QUEUE_VALUES, queue: 'amq.mine' })
    await channelClosed(
      client,
      403,
      QUEUE.declare,
      "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'"
    )
    client.method(EXCHANGE.declare, 1, { ...EXCHANGE_VALUES, exchange: 'amq.mine' })
    await channelClosed(
      client,
      403,
      EXCHANGE.declare,
      "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'"
    )
  })

  it('R11: declare, bind or delete of the default exchange', async () => {
    const text = 'ACCESS_REFUSED - operation not permitted on the default exchange'
    await declareQueue(client)
    client.method(EXCHANGE.declare, 1, { ...EXCHANGE_VALUES, exchange: '' })
    await channelClosed(client, 403, EXCHANGE.declare, text)
    client.method(QUEUE.bind, 1, { ...BIND_VALUES, exchange: '' })
    await channelClosed(client, 403, QUEUE.bind, text)
    client.method(EXCHANGE.delete, 1, { reserved: 0, exchange: '', ifUnused: false, noWait: false })
    await channelClosed(client, 403, EXCHANGE.delete, text)
  })

  it('R11: delete of a system exchange', async () => {
    const values = { reserved: 0, exchange: 'amq.topic', ifUnused: false, noWait: false }
    client.method(EXCHANGE.delete, 1, values)
    const text = "ACCESS_REFUSED - deletion of system exchange 'amq.topic' in vhost '/' not allowed"
    await channelClosed(client, 403, EXCHANGE.delete, text)
  })

  it('R11: publish to an internal exchange', async () => {
    await client.call(EXCHANGE.declare, { ...EXCHANGE_VALUES, internal: true }, EXCHANGE.declareOk)
    client.publish('e', 'k', 'x')
    await channelClosed(
      client,
      403,
      BASIC.publish,
      "ACCESS_REFUSED - cannot publish to internal exchange 'e' in vhost '/'"
    )
  })

  it('R13: a second consumer beside an exclusive one', async () => {
    await declareQueue(client)
    const other = await gateway.connect()
    await other.call(BASIC.consume, { ...CONSUME_VALUES, exclusive: true }, BASIC.consumeOk)
    client.method(BASIC.consume, 1, CONSUME_VALUES)
    const text = "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use"
    await channelClosed(client, 403, BASIC.consume, text)
  })
})

describe('403 without permission', () => {
  async function restricted(rule: Partial<ResourceRule>): Promise<RawAmqp> {
    await declareQueue(client)
    const rules = [{ vhost: '/', configure: '', write: '', read: '', ...rule }]
    gateway.amqp.authenticator.authenticate = ({ vhost }: Credentials) =>
      Promise.resolve({ ok: true, principal: new Principal('u', [], vhost, rules, [], false) })
    return await gateway.connect()
  }

  it('R12: to configure, write or read', async () => {
    const nobody = await restricted({})
    nobody.method(QUEUE.declare, 1, { ...QUEUE_VALUES, queue: 'new' })
    await channelClosed(
      nobody,
      403,
      QUEUE.declare,
      "ACCESS_REFUSED - configure access to queue 'new' in vhost '/' refused for user 'u'"
    )
    nobody.publish('amq.direct', 'k', 'x')
    await channelClosed(
      nobody,
      403,
      BASIC.publish,
      "ACCESS_REFUSED - write access to exchange 'amq.direct' in vhost '/' refused for user 'u'"
    )
    nobody.method(BASIC.consume, 1, CONSUME_VALUES)
    await channelClosed(
      nobody,
      403,
      BASIC.consume,
      "ACCESS_REFUSED - read access to queue 'q' in vhost '/' refused for user 'u'"
    )
    nobody.method(BASIC.get, 1, { reserved: 0, queue: 'q', noAck: true })
    await channelClosed(
      nobody,
      403,
      BASIC.get,
      "ACCESS_REFUSED - read access to queue 'q' in vhost '/' refused for user 'u'"
    )
  })

  it('but what is permitted is served', async () => {
    const reader = await restricted({ read: '^q$', write: '^amq.default$' })
    reader.publish('', 'q', 'x')
    reader.method(BASIC.get, 1, { reserved: 0, queue: 'q', noAck: true })
    expect((await reader.content(BASIC.getOk)).body.toString()).toBe('x')
  })
})
