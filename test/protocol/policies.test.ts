/** Policies and operator policies, as RabbitMQ has them, set while clients are connected. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { CONFIRM, EXCHANGE, QUEUE } from '../../src/amqp/codec/methods.ts'
import type { FieldTable } from '../../src/core/field-table.ts'
import type { RawAmqp } from '../support/raw-amqp.ts'
import { WholeServer } from '../support/whole-server.ts'

let server: WholeServer
let client: RawAmqp

beforeEach(async () => {
  server = await new WholeServer().start()
  client = await server.amqp()
})
afterEach(() => server.close())

const FLAGS = { reserved: 0, passive: false, durable: true, noWait: false, autoDelete: false }

function declare(queue: string, table: FieldTable = []) {
  const values = { ...FLAGS, queue, exclusive: false, arguments: table }
  return client.call(QUEUE.declare, values, QUEUE.declareOk)
}

/** Ready messages, by a passive declaration. */
async function countOf(queue: string): Promise<number> {
  const values = { ...FLAGS, queue, passive: true, exclusive: false, arguments: [] }
  return (await client.call(QUEUE.declare, values, QUEUE.declareOk)).messageCount
}

function set(name: string, body: object, kind = 'policies', vhost = '%2F'): Promise<unknown> {
  return server.ask('PUT', `/api/${kind}/${vhost}/${name}`, body)
}

function optionsOf(name: string, vhost = '/') {
  return server.running.broker.state.vhost(vhost)!.queues.get(name)!.options
}

const long = (value: number) => ({ type: 'l', value: BigInt(value) }) as const

describe('a policy', () => {
  it('is applied at once to queues that are there and to those that come, and no more when cleared', async () => {
    await declare('q')
    for (let i = 0; i < 10; i++) client.publish('', 'q', `${i}`)
    expect(await countOf('q')).toBe(10)
    await set('short', { pattern: '^q', definition: { 'max-length': 3 } })
    expect(await countOf('q')).toBe(3)
    await declare('q2')
    for (let i = 0; i < 10; i++) client.publish('', 'q2', `${i}`)
    expect(await countOf('q2')).toBe(3)
    await server.ask('DELETE', '/api/policies/%2F/short')
    for (let i = 0; i < 10; i++) client.publish('', 'q', `${i}`)
    expect(await countOf('q')).toBe(13)
    await expect(server.ask('DELETE', '/api/policies/%2F/short')).rejects.toThrow(
      "no policy 'short'"
    )
  })

  it('holds alone, by priority, where its pattern and kind match', async () => {
    await declare('q.a')
    await declare('quorum', [['x-queue-type', { type: 'S', value: 'quorum' }]])
    await set('low', { pattern: '.*', definition: { 'max-length': 1, expires: 5_000 } })
    await set('high', { pattern: '^q\\.', definition: { 'max-length': 2 }, priority: 1 })
    await set('other', {
      pattern: '',
      definition: { 'max-length': 3 },
      priority: 2,
      'apply-to': 'exchanges'
    })
    const quorum = {
      pattern: '',
      definition: { 'max-length': 4 },
      priority: 2,
      'apply-to': 'quorum_queues'
    }
    await set('quorum', quorum)
    expect(optionsOf('q.a')).toMatchObject({ messagesMax: 2, expiresMs: 0 })
    expect(optionsOf('quorum')).toMatchObject({ messagesMax: 4, expiresMs: 0 })
  })

  it('gives way to an argument, but of numbers the least one holds', async () => {
    await declare('q', [
      ['x-max-length', long(5)],
      ['x-overflow', { type: 'S', value: 'reject-publish' }]
    ])
    const definition = {
      'max-length': 7,
      'message-ttl': 1_000,
      overflow: 'drop-head',
      'dead-letter-exchange': 'theirs',
      'dead-letter-routing-key': 'k'
    }
    await set('p', { pattern: '', definition })
    const merged = {
      messagesMax: 5,
      messageTtlMs: 1_000,
      overflow: 'reject-publish',
      deadLetterExchange: 'theirs',
      deadLetterKey: 'k'
    }
    expect(optionsOf('q')).toMatchObject(merged)
    await set('p', { pattern: '', definition: { ...definition, 'max-length': 2 } })
    expect(optionsOf('q').messagesMax).toBe(2)
    // The declaration is what it was.
    await declare('q', [
      ['x-max-length', long(5)],
      ['x-overflow', { type: 'S', value: 'reject-publish' }]
    ])
  })

  it('of an operator makes bounds tighter, never wider, and takes bounds only', async () => {
    await declare('q', [['x-max-length', long(5)]])
    await set('p', { pattern: '', definition: { 'max-length': 4, expires: 9_000 } })
    await set(
      'o',
      { pattern: '', definition: { 'max-length': 9, 'message-ttl': 10 } },
      'operator-policies'
    )
    expect(optionsOf('q')).toMatchObject({ messagesMax: 4, expiresMs: 9_000, messageTtlMs: 10 })
    await set('o', { pattern: '', definition: { 'max-length': 1 } }, 'operator-policies')
    expect(optionsOf('q')).toMatchObject({ messagesMax: 1, expiresMs: 9_000, messageTtlMs: -1 })
    const wide = { pattern: '', definition: { overflow: 'drop-head' } }
    await expect(set('o', wide, 'operator-policies')).rejects.toThrow(
      'no key of an operator policy'
    )
  })

  it('refuses publishers when it says so, from then on', async () => {
    await declare('q')
    await client.call(CONFIRM.select, { noWait: false }, CONFIRM.selectOk)
    await set('p', { pattern: '', definition: { 'max-length': 0, overflow: 'reject-publish' } })
    client.publish('', 'q', 'x')
    const answer = await client.frame()
    // basic.nack
    expect(answer?.payload.readUInt32BE(0)).toBe((60 << 16) | 120)
  })

  it('gives an exchange its alternate', async () => {
    const exchange = { ...FLAGS, exchange: 'e', type: 'direct', internal: false, arguments: [] }
    await client.call(EXCHANGE.declare, exchange, EXCHANGE.declareOk)
    await declare('unrouted')
    const binding = { reserved: 0, queue: 'unrouted', exchange: 'amq.fanout', routingKey: '' }
    await client.call(QUEUE.bind, { ...binding, noWait: false, arguments: [] }, QUEUE.bindOk)
    await set('ae', { pattern: '^e$', definition: { 'alternate-exchange': 'amq.fanout' } })
    client.publish('e', 'nowhere', 'x')
    expect(await countOf('unrouted')).toBe(1)
    await server.ask('DELETE', '/api/policies/%2F/ae')
    client.publish('e', 'nowhere', 'x')
    expect(await countOf('unrouted')).toBe(1)
  })

  it('is kept over a restart, and is of one virtual host', async () => {
    await declare('q')
    await server.ask('PUT', '/api/vhosts/b')
    await set('p', { pattern: '', definition: { 'max-length': 4 }, priority: 3 })
    await set('p', { pattern: '', definition: { 'max-length': 5 } }, 'policies', 'b')
    await server.stop()
    await server.start()
    client = await server.amqp()
    expect(optionsOf('q').messagesMax).toBe(4)
    const listed = { vhost: '/', name: 'p', pattern: '', 'apply-to': 'all', priority: 3 }
    expect(await server.ask('GET', '/api/policies')).toEqual([
      { ...listed, definition: { 'max-length': 4 } },
      { ...listed, vhost: 'b', priority: 0, definition: { 'max-length': 5 } }
    ])
  })

  it('that makes no sense is refused, and what has no effect here is named', async () => {
    const wrong: [object, string][] = [
      [{ 'max-length': '5' }, 'max-length'],
      [{ 'max-length': -1 }, 'max-length'],
      [{ expires: 0 }, 'expires'],
      [{ overflow: 'drop' }, 'overflow'],
      [{ nonsense: 1 }, 'nonsense is no key'],
      [{ toString: 1 }, 'toString is no key'],
      [{}, 'empty']
    ]
    for (const [definition, why] of wrong) {
      await expect(set('p', { pattern: '', definition })).rejects.toThrow(why)
    }
    await expect(set('p', { pattern: '(', definition: { expires: 1 } })).rejects.toThrow(
      'expression'
    )
    const lazy = { pattern: '', definition: { 'queue-mode': 'lazy', 'max-length': 5 } }
    expect(await set('p', lazy)).toMatchObject({ ignored: ['queue-mode'] })
    expect(await server.ask('GET', '/api/policies')).toHaveLength(1)
  })
})
