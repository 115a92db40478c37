/** Bounds of a queue, and what a full one does: x-max-length, x-max-length-bytes, x-overflow. */
import { beforeEach, describe, expect, it } from 'vitest'
import { BASIC, CONFIRM, encodeMethod } from '../../src/amqp/codec/methods.ts'
import { optionsChanged } from '../../src/broker/queue-life.ts'
import { withSettings } from '../../src/core/queue-options.ts'
import { declare, delivery, get, later, readyIn } from '../support/amqp-dead.ts'
import type { AmqpGateway } from '../support/amqp-gateway.ts'
import { CONSUME_VALUES, nothingMoreLater, startAmqp } from '../support/amqp-moves.ts'
import { publishFrames, type RawAmqp } from '../support/raw-amqp.ts'

let gateway: AmqpGateway
let client: RawAmqp

beforeEach(async () => {
  ;({ gateway, client } = await startAmqp())
})

const NACK = { multiple: false, requeue: true }
const DEAD = { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'd' }

async function publishAll(...bodies: string[]): Promise<void> {
  for (const body of bodies) client.publish('', 'q', body)
  await nothingMoreLater(client)
}

async function bodiesIn(queue: string): Promise<string[]> {
  const bodies: string[] = []
  for (;;) {
    const got = await get(client, queue)
    if (got === null) return bodies
    bodies.push(got.body)
  }
}

function dropped(): number {
  return gateway.broker.counters.dropped.get('queue_full')!
}

describe('drop-head', () => {
  it('gives the oldest to the dead letter exchange, for maxlen', async () => {
    await declare(client, 'q', { 'x-max-length': 2, ...DEAD })
    await declare(client, 'd')
    await publishAll('1', '2', '3', '4')
    expect((await get(client, 'd'))!.deaths).toEqual(['q maxlen×1  q'])
    expect(await bodiesIn('d')).toEqual(['2'])
    expect(await bodiesIn('q')).toEqual(['3', '4'])
    expect([dropped(), gateway.broker.counters.deadLettered.maxlen]).toEqual([0, 2])
  })

  it('without one drops them, counted', async () => {
    await declare(client, 'q', { 'x-max-length': 2 })
    await publishAll('1', '2', '3', '4')
    expect(await bodiesIn('q')).toEqual(['3', '4'])
    expect(dropped()).toBe(2)
  })

  it('counts only what is ready, not what is delivered', async () => {
    await declare(client, 'q', { 'x-max-length': 1 })
    await publishAll('1')
    await get(client, 'q', false)
    await publishAll('2')
    expect(dropped()).toBe(0)
    await publishAll('3')
    expect(dropped()).toBe(1)
  })

  it.each([
    ['each by itself', false],
    ['all of the channel', true]
  ])('takes what goes back, %s, when the queue has filled up meanwhile', async (_how, isAll) => {
    await declare(client, 'q', { 'x-max-length': 2, ...DEAD })
    await declare(client, 'd')
    await publishAll('1', '2')
    const tags = [(await get(client, 'q', false))!.tag, (await get(client, 'q', false))!.tag]
    await publishAll('3', '4')
    if (isAll) client.method(BASIC.recoverAsync, 1, { requeue: true })
    else for (const deliveryTag of tags) client.method(BASIC.nack, 1, { ...NACK, deliveryTag })
    expect(await bodiesIn('q')).toEqual(['3', '4'])
    await nothingMoreLater(client)
    expect(await bodiesIn('d')).toEqual(['1', '2'])
  })

  it('bounds the bytes of the bodies alone', async () => {
    await declare(client, 'q', { 'x-max-length-bytes': 10 })
    const properties = { messageId: 'a'.repeat(100) }
    client.publish('', 'q', '12345', { properties })
    client.publish('', 'q', '67890', { properties })
    client.publish('', 'q', 'x', { properties })
    await nothingMoreLater(client)
    expect(await bodiesIn('q')).toEqual(['67890', 'x'])
  })

  it('of a message that is too large for the queue takes that one, too', async () => {
    await declare(client, 'q', { 'x-max-length-bytes': 3, ...DEAD })
    await declare(client, 'd')
    await publishAll('ab', 'abcd')
    expect(await bodiesIn('q')).toEqual([])
    expect(await bodiesIn('d')).toEqual(['ab', 'abcd'])
  })

  it('with a length of 0 keeps nothing, but delivers to who takes it', async () => {
    await declare(client, 'q', { 'x-max-length': 0 })
    await publishAll('nobody')
    expect([await readyIn(client, 'q'), dropped()]).toEqual([0, 1])
    await client.call(BASIC.consume, { ...CONSUME_VALUES, noAck: true }, BASIC.consumeOk)
    await later()
    client.publish('', 'q', 'somebody')
    expect((await delivery(client)).body).toBe('somebody')
  })

  it('with a length of 0 has nothing for a get that comes in the same read', async () => {
    await declare(client, 'q', { 'x-max-length': 0, ...DEAD })
    await declare(client, 'd')
    const ask = encodeMethod(BASIC.get, 1, { reserved: 0, queue: 'q', noAck: true })
    client.send(...publishFrames('', 'q', Buffer.from('1')), ask)
    await client.expect(BASIC.getEmpty)
    await nothingMoreLater(client)
    expect(await bodiesIn('d')).toEqual(['1'])
  })

  it('goes round two full queues without end, but not for ever: the cycle is cut', async () => {
    const to = (queue: string) => ({
      'x-max-length': 1,
      'x-dead-letter-exchange': '',
      'x-dead-letter-routing-key': queue
    })
    await declare(client, 'q', to('p'))
    await declare(client, 'p', to('q'))
    await publishAll('1', '2', '3', '4', '5')
    expect([await bodiesIn('q'), await bodiesIn('p')]).toEqual([['5'], ['4']])
    expect(dropped()).toBe(3)
  })

  it('takes what is too much at once when the bound is lowered', async () => {
    await declare(client, 'q', DEAD)
    await declare(client, 'd')
    await publishAll('1', '2', '3', '4')
    const queue = gateway.broker.state.vhost('/')!.queues.get('q')!
    queue.options = withSettings(queue.options, { messagesMax: 1 })
    optionsChanged(gateway.broker, queue)
    await later()
    expect(await bodiesIn('q')).toEqual(['4'])
    expect(await bodiesIn('d')).toEqual(['1', '2', '3'])
  })
})

describe('reject-publish', () => {
  async function confirms(...bodies: string[]): Promise<string> {
    let answers = ''
    for (const body of bodies) {
      client.publish('', 'q', body)
      const id = await client.peek()
      if (id === BASIC.ack.id) await client.expect(BASIC.ack)
      else await client.expect(BASIC.nack)
      answers += id === BASIC.ack.id ? '+' : '-'
    }
    return answers
  }

  beforeEach(async () => {
    await client.call(CONFIRM.select, { noWait: false }, CONFIRM.selectOk)
  })

  it('refuses the new one with a nack', async () => {
    await declare(client, 'q', { 'x-max-length': 2, 'x-overflow': 'reject-publish', ...DEAD })
    await declare(client, 'd')
    expect(await confirms('1', '2', '3')).toBe('++-')
    expect(await bodiesIn('q')).toEqual(['1', '2'])
    expect(await bodiesIn('d')).toEqual([])
    expect(dropped()).toBe(1)
  })

  it('refuses what is too large, also when the queue is empty', async () => {
    await declare(client, 'q', { 'x-max-length-bytes': 3, 'x-overflow': 'reject-publish' })
    expect(await confirms('abcd', 'abc')).toBe('-+')
  })

  it('-dlx gives what it refuses to the dead letter exchange', async () => {
    const full = { 'x-max-length': 1, 'x-overflow': 'reject-publish-dlx' }
    await declare(client, 'q', { ...full, ...DEAD })
    await declare(client, 'd')
    expect(await confirms('1', '2', '3')).toBe('+--')
    await nothingMoreLater(client)
    const dead = await get(client, 'd')
    expect(dead).toMatchObject({ body: '2', deaths: ['q maxlen×1  q'] })
    expect(await bodiesIn('d')).toEqual(['3'])
    expect(await bodiesIn('q')).toEqual(['1'])
    expect([dropped(), gateway.broker.counters.deadLettered.maxlen]).toEqual([0, 2])
  })

  it('of a dead letter’s target loses the letter, counted', async () => {
    await declare(client, 'q', DEAD)
    await declare(client, 'd', { 'x-max-length': 1, 'x-overflow': 'reject-publish' })
    expect(await confirms('1', '2')).toBe('++')
    for (let i = 0; i < 2; i++) {
      const got = await get(client, 'q', false)
      client.method(BASIC.reject, 1, { deliveryTag: got!.tag, requeue: false })
    }
    await nothingMoreLater(client)
    expect(await bodiesIn('d')).toEqual(['1'])
    expect(dropped()).toBe(1)
    expect(gateway.broker.counters.dropped.get('rejected')).toBe(1)
  })
})
