import { beforeEach, describe, expect, it } from 'vitest'
import {
  BASIC,
  CHANNEL,
  CONFIRM,
  CONNECTION,
  EXCHANGE,
  QUEUE,
  TX
} from '../../src/amqp/codec/methods.ts'
import { Principal } from '../../src/core/principal.ts'
import type { AmqpGateway } from '../support/amqp-gateway.ts'
import {
  CONSUME_VALUES,
  channelClosed,
  declareQueue,
  nothingMore,
  nothingMoreLater,
  startAmqp
} from '../support/amqp-moves.ts'
import { type PublishOptions, publishFrames, type RawAmqp } from '../support/raw-amqp.ts'

let gateway: AmqpGateway
let client: RawAmqp

beforeEach(async () => {
  ;({ gateway, client } = await startAmqp())
  await declareQueue(client)
  await client.call(TX.select, {}, TX.selectOk)
})

function publish(body: string, options: PublishOptions = {}): void {
  client.publish('', 'q', body, options)
}

async function commit(): Promise<void> {
  await client.call(TX.commit, {}, TX.commitOk)
}

async function rollback(): Promise<void> {
  await client.call(TX.rollback, {}, TX.rollbackOk)
}

function ready(queue = 'q'): number {
  return gateway.broker.vhosts.get('/')!.queues.get(queue)!.readyCount
}

function unacked(queue = 'q'): number {
  return gateway.broker.vhosts.get('/')!.queues.get(queue)!.unackedCount
}

/** What basic.get of another connection finds, until the queue is empty. */
async function contents(queue = 'q'): Promise<string[]> {
  const other = await gateway.connect()
  const found: string[] = []
  for (;;) {
    other.method(BASIC.get, 1, { reserved: 0, queue, noAck: true })
    const count = ready(queue)
    await expect.poll(() => count === 0 || ready(queue) < count).toBe(true)
    if (count === 0) break
    found.push((await other.content(BASIC.getOk)).body.toString())
  }
  other.destroy()
  return found
}

async function consume(): Promise<void> {
  await client.call(BASIC.consume, CONSUME_VALUES, BASIC.consumeOk)
}

async function next(): Promise<string> {
  const { values, body } = await client.content(BASIC.deliver)
  return `${values.deliveryTag}:${body}${values.redelivered ? '!' : ''}`
}

describe('publishes in a transaction', () => {
  it('are there when it is committed, in their order, and not before', async () => {
    publish('one')
    publish('two', { persistent: true, split: 1 })
    await nothingMore(client)
    expect(ready()).toBe(0)
    await commit()
    expect(await contents()).toEqual(['one', 'two'])
  })

  it('are gone when it is rolled back; the next one is another', async () => {
    publish('one')
    await rollback()
    publish('two')
    await commit()
    await commit()
    expect(await contents()).toEqual(['two'])
  })

  it('are gone with their channel', async () => {
    publish('one')
    const close = { replyCode: 200, replyText: '', classId: 0, methodId: 0 }
    await client.call(CHANNEL.close, close, CHANNEL.closeOk)
    await client.openChannel(1)
    expect(ready()).toBe(0)
  })

  it('keep their properties byte for byte, their headers and their CC keys', async () => {
    await declareQueue(client, { queue: 'copy' })
    client.publish('', 'q', 'x', {
      properties: {
        correlationId: Buffer.from('c'),
        headers: [
          ['a', { type: 'b', value: -1 }],
          ['BCC', { type: 'A', value: [{ type: 'S', value: 'copy' }] }]
        ]
      }
    })
    await commit()
    client.method(BASIC.get, 1, { reserved: 0, queue: 'q', noAck: true })
    const { properties } = await client.content(BASIC.getOk)
    expect(properties.includes('BCC')).toBe(false)
    expect(await contents('copy')).toEqual(['x'])
  })

  it('expire counted from the commit', async () => {
    publish('short', { properties: { expiration: '5000' } })
    await nothingMore(client)
    gateway.pass(4)
    await commit()
    gateway.pass(4)
    await new Promise(resolve => setImmediate(resolve))
    expect(await contents()).toEqual(['short'])
  })

  it('that no queue takes come back with the commit, before commit-ok', async () => {
    client.publish('', 'nowhere', 'lost', { mandatory: true })
    client.publish('amq.fanout', 'k', 'lost too', { mandatory: true })
    await nothingMore(client)
    client.method(TX.commit, 1, {})
    const { values, body } = await client.content(BASIC.return)
    expect(values).toMatchObject({ replyCode: 312, replyText: 'NO_ROUTE', routingKey: 'nowhere' })
    expect(body.toString()).toBe('lost')
    expect((await client.content(BASIC.return)).values.exchange).toBe('amq.fanout')
    await client.expect(TX.commitOk)
  })

  it('to an exchange that goes before the commit have no route', async () => {
    const values = { reserved: 0, exchange: 'e', ifUnused: false, noWait: false }
    const declare = { ...values, type: 'fanout', passive: false, durable: false }
    const flags = { autoDelete: false, internal: false, arguments: [] }
    await client.call(EXCHANGE.declare, { ...declare, ...flags }, EXCHANGE.declareOk)
    client.publish('e', 'k', 'lost', { mandatory: true })
    await client.call(EXCHANGE.delete, values, EXCHANGE.deleteOk)
    client.method(TX.commit, 1, {})
    expect((await client.content(BASIC.return)).values.exchange).toBe('e')
    await client.expect(TX.commitOk)
  })

  it('are judged at once: 404 for an exchange that is not there, and nothing of it stays', async () => {
    publish('one')
    client.publish('nowhere', 'k', 'two')
    const text = "NOT_FOUND - no exchange 'nowhere' in vhost '/'"
    await channelClosed(client, 404, BASIC.publish, text)
    expect(ready()).toBe(0)
  })

  it('are judged at once: 403 without the right to write to the topic', async () => {
    const topics = [{ effect: 'allow', access: 'readwrite', filter: 'mine/#' }] as const
    const rule = { configure: '.*', write: '.*', read: '.*', vhost: '/' }
    const limited = await startAmqp({
      authenticate: () =>
        Promise.resolve({
          ok: true,
          principal: new Principal('guest', [], '/', [rule], topics, false)
        })
    })
    await limited.client.call(TX.select, {}, TX.selectOk)
    limited.client.publish('amq.topic', 'not.mine', 'x')
    expect((await limited.client.expect(CHANNEL.close)).replyCode).toBe(403)
  })

  it('are held by an alarm, and the commit with them', async () => {
    publish('one')
    await nothingMore(client)
    gateway.alarm(true)
    client.method(TX.commit, 1, {})
    await client.expect(CONNECTION.blocked, 0)
    expect(ready()).toBe(0)
    gateway.alarm(false)
    await client.expect(CONNECTION.unblocked, 0)
    await client.expect(TX.commitOk)
    expect(ready()).toBe(1)
  })

  it('to a queue that would refuse one of them are all refused, with 406', async () => {
    await declareQueue(client, {
      queue: 'small',
      arguments: [
        ['x-max-length', { type: 'I', value: 2 }],
        ['x-overflow', { type: 'S', value: 'reject-publish' }]
      ]
    })
    for (const body of ['1', '2', '3']) client.publish('', 'small', body)
    publish('beside')
    client.method(TX.commit, 1, {})
    const text = "PRECONDITION_FAILED - transaction refused: no room in queue 'small' in vhost '/'"
    await channelClosed(client, 406, TX.commit, text)
    expect([ready(), ready('small')]).toEqual([0, 0])
  })

  it('are bounded by 10,000 messages: then 406, and nothing of it stays', async () => {
    const frames = publishFrames('', 'q', Buffer.from('x'))
    const one = Buffer.concat(frames)
    for (let i = 0; i < 100; i++) client.send(Buffer.concat(new Array<Buffer>(100).fill(one)))
    await nothingMore(client)
    client.send(one)
    const text = 'PRECONDITION_FAILED - transaction larger than 10000 messages or 16777216 bytes'
    await channelClosed(client, 406, BASIC.publish, text)
    expect(ready()).toBe(0)
  })

  it('are bounded by 16 MiB', async () => {
    const body = Buffer.alloc(4_000_000)
    for (let i = 0; i < 5; i++) client.publish('', 'q', body)
    expect((await client.expect(CHANNEL.close)).replyText).toContain('16777216 bytes')
  })

  it('10,000 of them are committed at once', async () => {
    const one = Buffer.concat(publishFrames('', 'q', Buffer.from('x'), { persistent: true }))
    for (let i = 0; i < 100; i++) client.send(Buffer.concat(new Array<Buffer>(100).fill(one)))
    await commit()
    expect(ready()).toBe(10_000)
  })
})

describe('acknowledgements in a transaction', () => {
  beforeEach(async () => {
    for (const body of ['1', '2', '3', '4']) publish(body)
    await commit()
  })

  it('hold when it is committed: acks, rejects and what goes back', async () => {
    await consume()
    for (let i = 0; i < 4; i++) await next()
    client.method(BASIC.ack, 1, { deliveryTag: 1, multiple: false })
    client.method(BASIC.reject, 1, { deliveryTag: 2, requeue: false })
    client.method(BASIC.nack, 1, { deliveryTag: 4, multiple: true, requeue: true })
    await nothingMore(client)
    expect(unacked()).toBe(4)
    await commit()
    expect([await next(), await next()]).toEqual(['5:3!', '6:4!'])
    expect(unacked()).toBe(2)
    expect(gateway.broker.counters.dropped.get('rejected')).toBe(1)
  })

  it('are unsaid when it is rolled back: the tags are open again, not delivered again', async () => {
    await consume()
    for (let i = 0; i < 4; i++) await next()
    client.method(BASIC.ack, 1, { deliveryTag: 2, multiple: false })
    client.method(BASIC.ack, 1, { deliveryTag: 1, multiple: false })
    client.method(BASIC.nack, 1, { deliveryTag: 4, multiple: false, requeue: true })
    await rollback()
    await nothingMoreLater(client)
    client.method(BASIC.ack, 1, { deliveryTag: 3, multiple: true })
    await commit()
    expect(unacked()).toBe(1)
    client.method(BASIC.ack, 1, { deliveryTag: 4, multiple: false })
    await commit()
    expect(unacked()).toBe(0)
  })

  it('give their credit back with the commit', async () => {
    await client.call(BASIC.qos, { prefetchSize: 0, prefetchCount: 2, global: false }, BASIC.qosOk)
    await consume()
    expect([await next(), await next()]).toEqual(['1:1', '2:2'])
    client.method(BASIC.ack, 1, { deliveryTag: 0, multiple: true })
    await nothingMoreLater(client)
    await commit()
    expect([await next(), await next()]).toEqual(['3:3', '4:4'])
  })

  it('of a tag twice, also in one transaction, are 406', async () => {
    await consume()
    for (let i = 0; i < 4; i++) await next()
    client.method(BASIC.ack, 1, { deliveryTag: 1, multiple: false })
    client.method(BASIC.ack, 1, { deliveryTag: 1, multiple: false })
    await channelClosed(client, 406, BASIC.ack, 'PRECONDITION_FAILED - unknown delivery tag 1')
    // What was told of it goes with the channel: all four wait again.
    expect([ready(), unacked()]).toEqual([4, 0])
  })

  it('leave what was not told of to recover', async () => {
    await consume()
    for (let i = 0; i < 4; i++) await next()
    client.method(BASIC.ack, 1, { deliveryTag: 2, multiple: true })
    client.method(BASIC.recover, 1, { requeue: true })
    await client.expect(BASIC.recoverOk)
    expect([await next(), await next()]).toEqual(['5:3!', '6:4!'])
    await rollback()
    client.method(BASIC.ack, 1, { deliveryTag: 0, multiple: true })
    await commit()
    expect(unacked()).toBe(0)
  })
})

describe('commit-ok', () => {
  it('leaves when all of it is on the disk', async () => {
    await declareQueue(client, { queue: 'lasting', durable: true })
    gateway.journal.isAutomatic = false
    client.publish('', 'lasting', 'one', { persistent: true })
    client.publish('', 'lasting', 'two')
    client.method(TX.commit, 1, {})
    client.method(CHANNEL.flow, 1, { active: true })
    await client.openChannel(2)
    expect(ready('lasting')).toBe(2)
    gateway.journal.sync()
    await client.expect(TX.commitOk)
    await client.expect(CHANNEL.flowOk)
    gateway.journal.isAutomatic = true
  })

  it('waits for acknowledgements alone too', async () => {
    await declareQueue(client, { queue: 'lasting', durable: true })
    client.publish('', 'lasting', 'one', { persistent: true })
    await commit()
    client.method(BASIC.get, 1, { reserved: 0, queue: 'lasting', noAck: false })
    await client.content(BASIC.getOk)
    gateway.journal.isAutomatic = false
    client.method(BASIC.ack, 1, { deliveryTag: 1, multiple: false })
    client.method(TX.commit, 1, {})
    await client.openChannel(2)
    expect(unacked('lasting')).toBe(0)
    gateway.journal.sync()
    await client.expect(TX.commitOk)
    gateway.journal.isAutomatic = true
  })
})

describe('tx mode', () => {
  it('R19: and confirms do not go together: 406', async () => {
    client.method(CONFIRM.select, 1, { noWait: false })
    const text = 'PRECONDITION_FAILED - cannot switch from tx to confirm mode'
    await channelClosed(client, 406, CONFIRM.select, text)
    await client.call(CONFIRM.select, { noWait: false }, CONFIRM.selectOk)
    client.method(TX.select, 1, {})
    const other = 'PRECONDITION_FAILED - cannot switch from confirm to tx mode'
    await channelClosed(client, 406, TX.select, other)
  })

  it('may be selected again, in the middle of a transaction', async () => {
    publish('one')
    await client.call(TX.select, {}, TX.selectOk)
    await commit()
    expect(ready()).toBe(1)
  })

  it('R19: is a channel’s own: commit and rollback without select are 406', async () => {
    const text = 'PRECONDITION_FAILED - channel is not transactional'
    for (const method of [TX.commit, TX.rollback]) {
      const { client: plain } = await startAmqp()
      plain.method(method, 1, {})
      await channelClosed(plain, 406, method, text)
    }
  })

  it('leaves purge and declarations alone', async () => {
    publish('one')
    const { messageCount } = await client.call(
      QUEUE.purge,
      { reserved: 0, queue: 'q', noWait: false },
      QUEUE.purgeOk
    )
    expect(messageCount).toBe(0)
    await commit()
    expect(ready()).toBe(1)
  })
})

describe('many transactions', () => {
  const BODY = 'x'.repeat(100 * 1024)
  const MESSAGES = 20

  /** Opens a channel in tx mode and publishes to it, 2 MiB in all. */
  async function staged(from: RawAmqp, channel: number): Promise<void> {
    await from.openChannel(channel)
    await from.call(TX.select, {}, TX.selectOk, channel)
    for (let i = 0; i < MESSAGES; i++) from.publish('', 'q', BODY, { channel })
  }

  const flow = (from: RawAmqp, channel: number) =>
    from.call(CHANNEL.flow, { active: true }, CHANNEL.flowOk, channel)

  /** The channel is closed with 406 and may be opened again. */
  async function refused(from: RawAmqp, channel: number, whose: string): Promise<void> {
    const close = await from.expect(CHANNEL.close, channel)
    const text = `PRECONDITION_FAILED - the unfinished messages and transactions of ${whose} hold at most `
    expect([close.replyCode, close.replyText.startsWith(text)]).toEqual([406, true])
    from.method(CHANNEL.closeOk, channel, {})
  }

  it('of one connection, then of all, are bounded together, and give back what they held', async () => {
    const limits = { channelBytesMax: 9 * 1024 * 1024 }
    const { gateway: tight, client: first } = await startAmqp({ limits })
    await declareQueue(first)
    for (const channel of [2, 3]) {
      await staged(first, channel)
      await flow(first, channel)
    }
    await staged(first, 4)
    await refused(first, 4, 'one connection')
    const second = await tight.connect()
    for (const channel of [2, 3]) await staged(second, channel)
    await flow(second, 3)
    const third = await tight.connect()
    await staged(third, 2)
    await refused(third, 2, 'all connections')
    // A commit, a rollback and the end of a connection make room.
    await first.call(TX.commit, {}, TX.commitOk, 2)
    await first.call(TX.rollback, {}, TX.rollbackOk, 3)
    second.destroy()
    await expect.poll(() => tight.amqp.channelRooms.whole.bytes).toBe(0)
    for (const channel of [2, 3]) {
      await staged(third, channel)
      await third.call(TX.commit, {}, TX.commitOk, channel)
    }
    const queue = tight.broker.vhosts.get('/')!.queues.get('q')!
    expect([queue.readyCount, tight.amqp.channelRooms.whole.bytes]).toEqual([3 * MESSAGES, 0])
  })
})
