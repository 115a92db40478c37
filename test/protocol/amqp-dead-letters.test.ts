/** Dead letters (RabbitMQ's x-death), over a real socket. */
import { beforeEach, describe, expect, it } from 'vitest'
import { BASIC, CHANNEL, QUEUE } from '../../src/amqp/codec/methods.ts'
import type { FieldValue } from '../../src/core/field-table.ts'
import { Principal } from '../../src/core/principal.ts'
import {
  bind,
  declare,
  declareExchange,
  delivery,
  get,
  later,
  readyIn,
  table
} from '../support/amqp-dead.ts'
import type { AmqpGateway } from '../support/amqp-gateway.ts'
import { CONSUME_VALUES, nothingMoreLater, QUEUE_VALUES, startAmqp } from '../support/amqp-moves.ts'
import type { RawAmqp } from '../support/raw-amqp.ts'

let gateway: AmqpGateway
let client: RawAmqp

beforeEach(async () => {
  ;({ gateway, client } = await startAmqp())
})

function reject(deliveryTag: number, requeue = false): void {
  client.method(BASIC.reject, 1, { deliveryTag, requeue })
}

/** Takes the next one of a queue and rejects it. */
async function rejectOne(queue: string): Promise<void> {
  const got = await get(client, queue, false)
  reject(got!.tag)
  await nothingMoreLater(client)
}

function dropped(reason: Parameters<AmqpGateway['broker']['counters']['drop']>[0]): number {
  return gateway.broker.counters.dropped.get(reason)!
}

describe('a rejected message', () => {
  it('goes to the dead letter exchange with its own key and the history of its death', async () => {
    await declareExchange(client, 'dlx', 'topic')
    await declare(client, 'q', { 'x-dead-letter-exchange': 'dlx' })
    await declare(client, 'd')
    await bind(client, 'd', 'dlx', '#')
    await bind(client, 'q', 'amq.direct', 'orders')
    client.publish('amq.direct', 'orders', 'x', {
      properties: { messageId: 'm1', headers: [['mine', { type: 'l', value: 7n }]] }
    })
    await rejectOne('q')
    const dead = await get(client, 'd')
    expect(dead).toMatchObject({ body: 'x', exchange: 'dlx', key: 'orders', redelivered: false })
    expect(dead!.properties.messageId).toBe('m1')
    expect(dead!.headers).toEqual({
      mine: 7,
      'x-death': [
        {
          count: 1,
          exchange: 'amq.direct',
          queue: 'q',
          reason: 'rejected',
          'routing-keys': ['orders'],
          time: 1_700_000_000
        }
      ],
      'x-first-death-exchange': 'amq.direct',
      'x-first-death-queue': 'q',
      'x-first-death-reason': 'rejected',
      'x-last-death-exchange': 'amq.direct',
      'x-last-death-queue': 'q',
      'x-last-death-reason': 'rejected'
    })
    expect(await readyIn(client, 'q')).toBe(0)
    expect(gateway.broker.counters.deadLettered.rejected).toBe(1)
    expect(dropped('rejected')).toBe(0)
  })

  it('goes under x-dead-letter-routing-key when there is one, and loses its CC', async () => {
    await declare(client, 'q', {
      'x-dead-letter-exchange': '',
      'x-dead-letter-routing-key': 'd'
    })
    await declare(client, 'd')
    await declare(client, 'e')
    const cc = { type: 'A', value: [{ type: 'S', value: 'e' }] } as const
    client.publish('', 'q', 'x', { properties: { headers: [['CC', cc]] } })
    await rejectOne('q')
    const dead = await get(client, 'd')
    expect(dead).toMatchObject({ key: 'd', exchange: '', deaths: ['q rejected×1  q,e'] })
    expect(dead!.headers['CC']).toBeUndefined()
    // The copy that CC had asked for, and no other.
    expect(await readyIn(client, 'e')).toBe(1)
  })

  it('keeps its CC keys without another key, and goes under them, too', async () => {
    await declareExchange(client, 'dlx', 'direct')
    await declare(client, 'q', { 'x-dead-letter-exchange': 'dlx' })
    await declare(client, 'a')
    await declare(client, 'b')
    await bind(client, 'a', 'dlx', 'q')
    await bind(client, 'b', 'dlx', 'other')
    const cc = { type: 'A', value: [{ type: 'S', value: 'other' }] } as const
    client.publish('', 'q', 'x', { properties: { headers: [['CC', cc]] } })
    await rejectOne('q')
    expect((await get(client, 'a'))!.deaths).toEqual(['q rejected×1  q,other'])
    expect((await get(client, 'b'))!.headers['CC']).toEqual(['other'])
  })

  it.each([false, true])(
    'goes under its BCC keys as well, of which nobody is told (durable: %s)',
    async durable => {
      await declareExchange(client, 'dlx', 'direct', true)
      const args = { 'x-dead-letter-exchange': 'dlx' }
      await declare(client, 'q', args, { durable })
      for (const key of ['q', 'cc', 'bcc']) {
        await declare(client, `on-${key}`, args, { durable })
        await bind(client, `on-${key}`, 'dlx', key)
      }
      const keys = (key: string) => ({ type: 'A', value: [{ type: 'S', value: key }] }) as const
      const headers: [string, FieldValue][] = [
        ['CC', keys('cc')],
        ['BCC', keys('bcc')]
      ]
      client.publish('', 'q', 'x', { properties: { headers } })
      await rejectOne('q')
      for (const key of ['q', 'cc', 'bcc']) {
        const dead = await get(client, `on-${key}`, false)
        expect(dead).toMatchObject({ key: 'q', body: 'x', deaths: ['q rejected×1  q,cc'] })
        expect([dead!.headers['CC'], dead!.headers['BCC']]).toEqual([['cc'], undefined])
        // Dead again in one of them, it goes to all three again.
        if (key === 'bcc') reject(dead!.tag)
      }
      await nothingMoreLater(client)
      for (const key of ['q', 'cc', 'bcc']) expect(await readyIn(client, `on-${key}`)).toBe(1)
    }
  )

  it('by nack, several at once, goes in its order', async () => {
    await declare(client, 'q', { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'd' })
    await declare(client, 'd')
    for (let i = 0; i < 5; i++) client.publish('', 'q', `${i}`)
    for (let i = 0; i < 5; i++) await get(client, 'q', false)
    client.method(BASIC.nack, 1, { deliveryTag: 4, multiple: true, requeue: false })
    await nothingMoreLater(client)
    expect(await readyIn(client, 'd')).toBe(4)
    for (let i = 0; i < 4; i++) expect((await get(client, 'd'))!.body).toBe(`${i}`)
  })

  it('without a dead letter exchange, or with one that is not there, is dropped and counted', async () => {
    await declare(client, 'q', { 'x-dead-letter-exchange': 'nowhere' })
    await declare(client, 'p')
    client.publish('', 'q', 'x')
    client.publish('', 'p', 'x')
    await rejectOne('q')
    await rejectOne('p')
    expect([await readyIn(client, 'q'), dropped('rejected')]).toEqual([0, 2])
    expect(gateway.broker.counters.deadLettered.rejected).toBe(0)
  })

  it('that nobody is bound for is dropped and counted', async () => {
    await declare(client, 'q', { 'x-dead-letter-exchange': 'amq.fanout' })
    client.publish('', 'q', 'x')
    await rejectOne('q')
    expect([await readyIn(client, 'q'), dropped('rejected')]).toEqual([0, 1])
  })

  it('reaches whoever a headers exchange chooses, and one behind another', async () => {
    await declareExchange(client, 'dlx', 'headers')
    await declare(client, 'q', { 'x-dead-letter-exchange': 'dlx' })
    await declare(client, 'd')
    await bind(client, 'd', 'dlx', '', table({ 'x-match': 'all', kind: 'bad' }))
    client.publish('', 'q', 'no')
    const headers = table({ kind: 'bad' }) as [string, never][]
    client.publish('', 'q', 'yes', { properties: { headers } })
    await rejectOne('q')
    await rejectOne('q')
    expect(await readyIn(client, 'd')).toBe(1)
    expect((await get(client, 'd'))!.body).toBe('yes')
  })
})

describe('a message that dies again', () => {
  it('in the same way is counted, its entry the first; the first death stays', async () => {
    await declare(client, 'q', { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'r' })
    await declare(client, 'r', { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'q' })
    client.publish('', 'q', 'x')
    await rejectOne('q')
    gateway.clock.advance(5_000)
    await rejectOne('r')
    await rejectOne('q')
    const got = await get(client, 'r')
    expect(got!.deaths).toEqual(['q rejected×2  q', 'r rejected×1  r'])
    const times = (got!.headers['x-death'] as { time: number }[]).map(({ time }) => time)
    expect(times).toEqual([1_700_000_000, 1_700_000_005])
    expect(got!.headers).toMatchObject({
      'x-first-death-queue': 'q',
      'x-last-death-queue': 'q',
      'x-last-death-reason': 'rejected'
    })
  })

  it('by expiry alone never comes to a queue again in which it died', async () => {
    await declare(client, 'q', {
      'x-message-ttl': 10,
      'x-dead-letter-exchange': '',
      'x-dead-letter-routing-key': 'r'
    })
    await declare(client, 'r', {
      'x-message-ttl': 10,
      'x-dead-letter-exchange': '',
      'x-dead-letter-routing-key': 'q'
    })
    client.publish('', 'q', 'x')
    await nothingMoreLater(client)
    await gateway.passIn(20)
    expect([await readyIn(client, 'q'), await readyIn(client, 'r')]).toEqual([0, 1])
    await gateway.passIn(20)
    expect([await readyIn(client, 'q'), await readyIn(client, 'r')]).toEqual([0, 0])
    expect(dropped('expired')).toBe(1)
  })

  it('goes round again when somebody rejected it on the way: a retry', async () => {
    await declare(client, 'work', {
      'x-dead-letter-exchange': '',
      'x-dead-letter-routing-key': 'wait'
    })
    await declare(client, 'wait', {
      'x-message-ttl': 10,
      'x-dead-letter-exchange': '',
      'x-dead-letter-routing-key': 'work'
    })
    client.publish('', 'work', 'x')
    for (let i = 1; i <= 3; i++) {
      await rejectOne('work')
      await gateway.passIn(20)
    }
    expect((await get(client, 'work'))!.deaths).toEqual([
      'wait expired×3  wait',
      'work rejected×3  work'
    ])
  })

  it('reads its history also from a header that a client published again', async () => {
    await declare(client, 'q', { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'd' })
    await declare(client, 'd')
    client.publish('', 'q', 'x')
    await rejectOne('q')
    const { properties } = (await get(client, 'd'))!
    client.publish('', 'q', 'x', { properties })
    await rejectOne('q')
    expect((await get(client, 'd'))!.deaths).toEqual(['q rejected×2  q'])
  })

  it('replaces an x-death that is no history', async () => {
    await declare(client, 'q', { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'd' })
    await declare(client, 'd')
    const headers: [string, never][] = [['x-death', { type: 'S', value: 'mine' } as never]]
    client.publish('', 'q', 'x', { properties: { headers } })
    await rejectOne('q')
    expect((await get(client, 'd'))!.deaths).toEqual(['q rejected×1  q'])
  })
})

describe('the delivery limit', () => {
  const LIMITED = {
    'x-delivery-limit': 2,
    'x-dead-letter-exchange': '',
    'x-dead-letter-routing-key': 'd'
  }

  it('lets a message come back so often, counts it in x-delivery-count, then it is dead', async () => {
    await declare(client, 'q', LIMITED)
    await declare(client, 'd')
    client.publish('', 'q', 'poison')
    const counts: unknown[] = []
    for (let i = 0; i < 3; i++) {
      const got = await get(client, 'q', false)
      counts.push(got!.headers['x-delivery-count'])
      reject(got!.tag, true)
    }
    expect(counts).toEqual([undefined, 1, 2])
    await nothingMoreLater(client)
    expect(await readyIn(client, 'q')).toBe(0)
    const dead = await get(client, 'd')
    expect(dead!.deaths).toEqual(['q delivery_limit×1  q'])
    expect(dead!.headers['x-delivery-count']).toBeUndefined()
  })

  it('counts what comes back from a consumer that is gone', async () => {
    await declare(client, 'q', { 'x-delivery-limit': 1 })
    client.publish('', 'q', 'poison')
    await nothingMoreLater(client)
    for (let i = 0; i < 2; i++) {
      const other = await gateway.connect()
      await other.call(BASIC.consume, CONSUME_VALUES, BASIC.consumeOk)
      expect((await delivery(other)).redelivered).toBe(i > 0)
      await other.call(
        CHANNEL.close,
        { replyCode: 200, replyText: '', classId: 0, methodId: 0 },
        CHANNEL.closeOk
      )
    }
    await later()
    expect([await readyIn(client, 'q'), dropped('delivery_limit')]).toEqual([0, 1])
  })

  it('counts further than an entry of the queue does', async () => {
    await declare(client, 'q', { 'x-delivery-limit': 300 })
    client.publish('', 'q', 'poison')
    let count = 0
    for (;;) {
      const got = await get(client, 'q', false)
      if (got === null) break
      count++
      reject(got.tag, true)
    }
    expect(count).toBe(301)
  })
})

describe('a declaration with a dead letter exchange', () => {
  const refused = async (allow: Record<string, string>): Promise<string> => {
    const { configure = '.*', write = '.*', read = '.*' } = allow
    const permissions = { vhost: '/', configure, write, read }
    const limited = await startAmqp({
      authenticate: ({ vhost }) =>
        Promise.resolve({
          ok: true,
          principal: new Principal('guest', [], vhost, [permissions as never], [], false)
        })
    })
    const values = { ...QUEUE_VALUES, arguments: table({ 'x-dead-letter-exchange': 'dlx' }) }
    limited.client.method(QUEUE.declare, 1, values)
    if ((await limited.client.peek()) === QUEUE.declareOk.id) return ''
    return (await limited.client.expect(CHANNEL.close)).replyText
  }

  it('needs reading the queue and writing to the exchange', async () => {
    expect(await refused({})).toBe('')
    expect(await refused({ read: '^$' })).toBe(
      "ACCESS_REFUSED - read access to queue 'q' in vhost '/' refused for user 'guest'"
    )
    expect(await refused({ write: '^q$' })).toBe(
      "ACCESS_REFUSED - write access to exchange 'dlx' in vhost '/' refused for user 'guest'"
    )
  })
})
