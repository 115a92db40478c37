/** Consumer priorities: `x-priority` of basic.consume. */
import { beforeEach, describe, expect, it } from 'vitest'
import { BASIC, CHANNEL, QUEUE } from '../../src/amqp/codec/methods.ts'
import type { FieldTable, FieldValue } from '../../src/core/field-table.ts'
import {
  CONSUME_VALUES,
  declareQueue,
  nothingMoreLater,
  QUEUE_VALUES,
  startAmqp
} from '../support/amqp-moves.ts'
import type { RawAmqp } from '../support/raw-amqp.ts'

let client: RawAmqp

beforeEach(async () => {
  ;({ client } = await startAmqp())
  await declareQueue(client)
})

function consumeValues(consumerTag: string, priority: FieldValue | null) {
  return {
    ...CONSUME_VALUES,
    consumerTag,
    arguments: priority === null ? [] : ([['x-priority', priority]] as FieldTable)
  }
}

async function consume(tag: string, priority: number | null, prefetchCount = 0): Promise<void> {
  await client.call(BASIC.qos, { prefetchSize: 0, prefetchCount, global: false }, BASIC.qosOk)
  const value: FieldValue | null = priority === null ? null : { type: 'I', value: priority }
  await client.call(BASIC.consume, consumeValues(tag, value), BASIC.consumeOk)
}

/** Through whom the next deliveries came. */
async function takers(count: number): Promise<string> {
  let tags = ''
  for (let i = 0; i < count; i++) tags += (await client.content(BASIC.deliver)).values.consumerTag
  return tags
}

function publish(count: number): void {
  for (let i = 0; i < count; i++) client.publish('', 'q', `${i}`)
}

describe('consumers of a higher priority', () => {
  it('get everything while they have credit, in turn; 0 is the usual one', async () => {
    await consume('l', -1)
    await consume('a', 10)
    await consume('m', null)
    await consume('b', 10)
    publish(6)
    expect(await takers(6)).toBe('ababab')
    await nothingMoreLater(client)
  })

  it('leave to the others what they have no credit for, and come first again', async () => {
    await consume('l', -5, 2)
    await consume('m', null, 1)
    await consume('h', 5, 2)
    publish(7)
    expect(await takers(5)).toBe('hhmll')
    await nothingMoreLater(client)
    client.method(BASIC.ack, 1, { deliveryTag: 4, multiple: false })
    expect(await takers(1)).toBe('l')
    client.method(BASIC.ack, 1, { deliveryTag: 1, multiple: false })
    expect(await takers(1)).toBe('h')
    client.method(BASIC.ack, 1, { deliveryTag: 0, multiple: true })
    await nothingMoreLater(client)
    publish(3)
    expect(await takers(3)).toBe('hhm')
  })

  it('get first what lies in the queue when they come, not before their consume-ok', async () => {
    await consume('l', 0, 1)
    publish(4)
    expect(await takers(1)).toBe('l')
    await consume('h', 1)
    expect(await takers(3)).toBe('hhh')
  })

  it('leave everything to the others when they go', async () => {
    await consume('a', 0)
    await consume('h', 1)
    await consume('b', 0)
    publish(1)
    expect(await takers(1)).toBe('h')
    await client.call(BASIC.cancel, { consumerTag: 'h', noWait: false }, BASIC.cancelOk)
    publish(4)
    expect(await takers(4)).toBe('abab')
  })
})

describe('x-priority', () => {
  it('may be of any integer type', async () => {
    const values: FieldValue[] = [
      { type: 'b', value: -1 },
      { type: 'B', value: 1 },
      { type: 's', value: 2 },
      { type: 'u', value: 3 },
      { type: 'I', value: 4 },
      { type: 'i', value: 5 },
      { type: 'l', value: 6n },
      { type: 'l', value: 2n ** 62n }
    ]
    for (const [index, value] of values.entries()) {
      await client.call(BASIC.consume, consumeValues(`${index}`, value), BASIC.consumeOk)
    }
    for (let last = values.length - 1; last >= 0; last--) {
      publish(2)
      expect(await takers(2)).toBe(`${last}${last}`)
      const cancel = { consumerTag: `${last}`, noWait: false }
      await client.call(BASIC.cancel, cancel, BASIC.cancelOk)
    }
  })

  it('that is no integer is 406, and nobody consumes', async () => {
    const values: [FieldValue, string][] = [
      [{ type: 'S', value: '5' }, 'longstr'],
      [{ type: 't', value: true }, 'bool'],
      [{ type: 'd', value: 5 }, 'double'],
      [{ type: 'T', value: 5n }, 'timestamp'],
      [{ type: 'V', value: null }, 'void']
    ]
    for (const [value, type] of values) {
      client.method(BASIC.consume, 1, consumeValues('c', value))
      const close = await client.expect(CHANNEL.close)
      expect([close.replyCode, close.replyText, close.classId, close.methodId]).toEqual([
        406,
        `PRECONDITION_FAILED - invalid arg 'x-priority' for queue 'q' in vhost '/': "expected integer, got ${type}"`,
        60,
        20
      ])
      client.method(CHANNEL.closeOk, 1, {})
      await client.openChannel(1)
    }
    const passive = { ...QUEUE_VALUES, passive: true }
    const { consumerCount } = await client.call(QUEUE.declare, passive, QUEUE.declareOk)
    expect(consumerCount).toBe(0)
  })

  it('of a queue that does not exist is 404 first', async () => {
    const values = { ...consumeValues('c', { type: 'S', value: '5' }), queue: 'none' }
    client.method(BASIC.consume, 1, values)
    expect((await client.expect(CHANNEL.close)).replyCode).toBe(404)
  })
})
