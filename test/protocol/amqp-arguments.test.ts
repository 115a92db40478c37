/** Arguments of declarations: which are compared, which values are refused, with RabbitMQ's words. */
import { beforeEach, describe, expect, it } from 'vitest'
import { CHANNEL, EXCHANGE, QUEUE } from '../../src/amqp/codec/methods.ts'
import type { FieldTable, FieldValue } from '../../src/core/field-table.ts'
import {
  channelClosed,
  declareQueue,
  EXCHANGE_VALUES,
  QUEUE_VALUES,
  startAmqp
} from '../support/amqp-moves.ts'
import type { RawAmqp } from '../support/raw-amqp.ts'

let client: RawAmqp

beforeEach(async () => {
  ;({ client } = await startAmqp())
})

const text = (value: string): FieldValue => ({ type: 'S', value })
const int = (value: number): FieldValue => ({ type: 'I', value })
const QUEUE_Q = "for queue 'q' in vhost '/'"

async function refused(table: FieldTable, sentence: string): Promise<void> {
  client.method(QUEUE.declare, 1, { ...QUEUE_VALUES, arguments: table })
  await channelClosed(client, 406, QUEUE.declare, `PRECONDITION_FAILED - ${sentence}`)
}

describe('R05 406: a second declaration', () => {
  it('with another value of an argument names both', async () => {
    await declareQueue(client, { arguments: [['x-max-length', int(1)]] })
    const about = `inequivalent arg 'x-max-length' ${QUEUE_Q}`
    await refused([['x-max-length', int(2)]], `${about}: received '2' but current is '1'`)
    await refused([], `${about}: received none but current is the value '1' of type 'signedint'`)
  })

  it('with an argument that the first had not', async () => {
    await declareQueue(client)
    await refused(
      [['x-overflow', text('reject-publish')]],
      `inequivalent arg 'x-overflow' ${QUEUE_Q}: received the value 'reject-publish' of type 'longstr' but current is none`
    )
  })

  it.each(['durable', 'autoDelete', 'internal'] as const)(
    'of an exchange, other in its flag %s',
    async flag => {
      await client.call(EXCHANGE.declare, EXCHANGE_VALUES, EXCHANGE.declareOk)
      client.method(EXCHANGE.declare, 1, { ...EXCHANGE_VALUES, [flag]: true })
      const name = flag === 'autoDelete' ? 'auto_delete' : flag
      const sentence = `inequivalent arg '${name}' for exchange 'e' in vhost '/': received 'true' but current is 'false'`
      await channelClosed(client, 406, EXCHANGE.declare, `PRECONDITION_FAILED - ${sentence}`)
    }
  )
})

describe('R07: what is not compared', () => {
  it('the width of an integer', async () => {
    await declareQueue(client, { arguments: [['x-max-length', int(1)]] })
    for (const type of ['b', 'B', 's', 'u', 'i'] as const) {
      await declareQueue(client, { arguments: [['x-max-length', { type, value: 1 }]] })
    }
    await declareQueue(client, { arguments: [['x-max-length', { type: 'l', value: 1n }]] })
  })

  it('arguments that mean nothing, with x- or without', async () => {
    await declareQueue(client, { arguments: [['note', text('a')]] })
    await declareQueue(client, { arguments: [['x-note', int(1)]] })
    await declareQueue(client)
    const values = { ...EXCHANGE_VALUES, arguments: [['x-note', text('a')]] as FieldTable }
    await client.call(EXCHANGE.declare, values, EXCHANGE.declareOk)
    await client.call(EXCHANGE.declare, EXCHANGE_VALUES, EXCHANGE.declareOk)
  })
})

describe('R08 406: a value that makes no sense', () => {
  it.each<[string, FieldValue, string]>([
    ['x-message-ttl', int(-1), '{value_negative,-1}'],
    ['x-message-ttl', text('1'), '"expected integer, got longstr"'],
    ['x-expires', int(0), '{value_zero,0}'],
    ['x-expires', int(-1), '{value_negative,-1}'],
    ['x-max-length', int(-1), '{value_negative,-1}'],
    ['x-max-length-bytes', { type: 'd', value: 1.5 }, '"expected integer, got double"'],
    ['x-max-priority', int(256), '{max_value_exceeded,256}'],
    ['x-dead-letter-exchange', int(1), '{unacceptable_type,signedint}'],
    ['x-queue-type', text('no'), '"unsupported queue type \'no\'"']
  ])('%s: %o', async (name, value, why) => {
    await refused([[name, value]], `invalid arg '${name}' ${QUEUE_Q}: ${why}`)
  })

  it('a routing key of dead letters without their exchange', async () => {
    client.method(QUEUE.declare, 1, {
      ...QUEUE_VALUES,
      arguments: [['x-dead-letter-routing-key', text('k')]]
    })
    const close = await client.expect(CHANNEL.close)
    expect(close.replyCode).toBe(406)
    expect(close.replyText).toContain("invalid arg 'x-dead-letter-routing-key'")
    expect(close.replyText).toContain('routing_key_but_no_dlx_defined')
  })
})

describe('R09 406: an exchange of a type that does not exist', () => {
  it.each(['nonsense', 'x-nonsense'])('%s', async type => {
    client.method(EXCHANGE.declare, 1, { ...EXCHANGE_VALUES, type })
    const text = `PRECONDITION_FAILED - unknown exchange type '${type}'`
    await channelClosed(client, 406, EXCHANGE.declare, text)
  })
})
