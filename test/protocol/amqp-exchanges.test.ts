/** Exchanges as AMQP clients see them: amqp-semantics 2.4 and 2.5. */
import { beforeEach, describe, expect, it } from 'vitest'
import { BASIC, CHANNEL, CONFIRM, EXCHANGE, QUEUE } from '../../src/amqp/codec/methods.ts'
import { decodeProperties } from '../../src/amqp/properties.ts'
import type { Credentials } from '../../src/auth/authenticator.ts'
import type { FieldTable, FieldValue } from '../../src/core/field-table.ts'
import { Principal } from '../../src/core/principal.ts'
import type { AmqpGateway } from '../support/amqp-gateway.ts'
import {
  BIND_VALUES,
  channelClosed,
  DELETE_VALUES,
  declareQueue,
  EXCHANGE_VALUES,
  nothingMore,
  startAmqp
} from '../support/amqp-moves.ts'
import type { RawAmqp } from '../support/raw-amqp.ts'
import { int, text, VOID } from '../support/routing.ts'

let gateway: AmqpGateway
let client: RawAmqp

beforeEach(async () => {
  ;({ gateway, client } = await startAmqp())
})

const list = (...keys: string[]): FieldValue => ({ type: 'A', value: keys.map(text) })

async function queues(...names: string[]): Promise<void> {
  for (const queue of names) await declareQueue(client, { queue })
}

async function exchange(name: string, changes: Partial<typeof EXCHANGE_VALUES> = {}) {
  await client.call(
    EXCHANGE.declare,
    { ...EXCHANGE_VALUES, exchange: name, ...changes },
    EXCHANGE.declareOk
  )
}

const alternate = (name: string): FieldTable => [['alternate-exchange', text(name)]]

async function bind(queue: string, from: string, routingKey = '', args: FieldTable = []) {
  const values = { ...BIND_VALUES, queue, exchange: from, routingKey, arguments: args }
  await client.call(QUEUE.bind, values, QUEUE.bindOk)
}

const between = (source: string, destination: string, routingKey = '') => ({
  reserved: 0,
  destination,
  source,
  routingKey,
  noWait: false,
  arguments: [] as FieldTable
})

async function join(source: string, destination: string, routingKey = '') {
  await client.call(EXCHANGE.bind, between(source, destination, routingKey), EXCHANGE.bindOk)
}

function deleteValues(name: string, ifUnused = false) {
  return { reserved: 0, exchange: name, ifUnused, noWait: false }
}

/** The bodies that wait in a queue, all of them. */
async function bodies(queue: string): Promise<string[]> {
  const found: string[] = []
  for (;;) {
    client.method(BASIC.get, 1, { reserved: 0, queue, noAck: true })
    const frame = await client.frame()
    if (frame!.payload.readUInt32BE(0) === BASIC.getEmpty.id) return found
    await client.frame()
    found.push((await client.frame())!.payload.toString())
  }
}

describe('an alternate exchange', () => {
  it('gets what its exchange matches nothing of, and nothing else', async () => {
    await queues('q', 'lost')
    await exchange('ae', { type: 'fanout' })
    await exchange('e', { arguments: alternate('ae') })
    await bind('q', 'e', 'k')
    await bind('lost', 'ae')
    client.publish('e', 'k', 'routed')
    client.publish('e', 'other', 'lost')
    expect(await bodies('q')).toEqual(['routed'])
    expect(await bodies('lost')).toEqual(['lost'])
  })

  it('counts as routed: a mandatory message does not come back', async () => {
    await queues('lost')
    await exchange('ae', { type: 'fanout' })
    await exchange('e', { arguments: alternate('ae') })
    client.publish('e', 'k', 'first', { mandatory: true })
    expect((await client.content(BASIC.return)).values).toMatchObject({
      replyCode: 312,
      replyText: 'NO_ROUTE',
      exchange: 'e',
      routingKey: 'k'
    })
    await bind('lost', 'ae')
    client.publish('e', 'k', 'second', { mandatory: true })
    expect(await bodies('lost')).toEqual(['second'])
    await nothingMore(client)
  })

  it('is not asked when an exchange behind matched nothing: the binding itself did', async () => {
    await queues('lost')
    await exchange('ae', { type: 'fanout' })
    await exchange('e', { arguments: alternate('ae') })
    await exchange('empty')
    await bind('lost', 'ae')
    await join('e', 'empty', 'k')
    client.publish('e', 'k', 'x', { mandatory: true })
    await client.content(BASIC.return)
    expect(await bodies('lost')).toEqual([])
  })

  it('may have one itself; the chain stops where it has been', async () => {
    await queues('q')
    await exchange('a', { arguments: alternate('b') })
    await exchange('b', { arguments: alternate('c') })
    await exchange('c', { arguments: alternate('a') })
    client.publish('a', 'k', 'nowhere', { mandatory: true })
    await client.content(BASIC.return)
    await bind('q', 'c', 'k')
    client.publish('a', 'k', 'x')
    client.publish('b', 'k', 'y')
    expect(await bodies('q')).toEqual(['x', 'y'])
  })

  it('may be declared later, deleted, and declared again', async () => {
    await queues('lost')
    await exchange('e', { arguments: alternate('ae') })
    client.publish('e', 'k', 'before')
    await exchange('ae', { type: 'fanout' })
    await bind('lost', 'ae')
    client.publish('e', 'k', 'one')
    await client.call(EXCHANGE.delete, deleteValues('ae'), EXCHANGE.deleteOk)
    client.publish('e', 'k', 'between')
    await exchange('ae', { type: 'fanout' })
    await bind('lost', 'ae')
    client.publish('e', 'k', 'two')
    expect(await bodies('lost')).toEqual(['one', 'two'])
  })

  it('belongs to what is compared when the exchange is declared again', async () => {
    await exchange('e', { arguments: alternate('ae') })
    await exchange('e', { arguments: [...alternate('ae'), ['note', int(1)]] })
    client.method(EXCHANGE.declare, 1, { ...EXCHANGE_VALUES, arguments: alternate('other') })
    await channelClosed(
      client,
      406,
      EXCHANGE.declare,
      "PRECONDITION_FAILED - inequivalent arg 'alternate-exchange' for exchange 'e' in vhost '/': " +
        "received 'other' but current is 'ae'"
    )
    client.method(EXCHANGE.declare, 1, EXCHANGE_VALUES)
    expect((await client.expect(CHANNEL.close)).replyText).toMatch(/received none but current is/)
  })

  it('is named by a string', async () => {
    client.method(EXCHANGE.declare, 1, {
      ...EXCHANGE_VALUES,
      arguments: [['alternate-exchange', int(1)]]
    })
    await channelClosed(
      client,
      406,
      EXCHANGE.declare,
      "PRECONDITION_FAILED - invalid type 'signedint' for arg 'alternate-exchange' in exchange 'e' in vhost '/'"
    )
  })

  it('needs permission to read the exchange and to write the alternate', async () => {
    async function declareWith(read: string, write: string): Promise<RawAmqp> {
      const rules = [{ vhost: '/', configure: '.*', write, read }]
      gateway.amqp.authenticator.authenticate = ({ vhost }: Credentials) =>
        Promise.resolve({ ok: true, principal: new Principal('u', [], vhost, rules, [], false) })
      const user = await gateway.connect()
      user.method(EXCHANGE.declare, 1, { ...EXCHANGE_VALUES, arguments: alternate('ae') })
      return user
    }
    const refused = (access: string, name: string) =>
      `ACCESS_REFUSED - ${access} access to exchange '${name}' in vhost '/' refused for user 'u'`
    await channelClosed(await declareWith('x', '.*'), 403, EXCHANGE.declare, refused('read', 'e'))
    const writer = await declareWith('.*', '^e$')
    await channelClosed(writer, 403, EXCHANGE.declare, refused('write', 'ae'))
    await (await declareWith('^e$', '^ae$')).expect(EXCHANGE.declareOk)
  })
})

describe('exchanges behind exchanges', () => {
  it('give one copy a queue, in circles too', async () => {
    await queues('q')
    await exchange('a', { type: 'fanout' })
    await exchange('b', { type: 'fanout' })
    await exchange('c', { type: 'topic' })
    for (const [from, to] of [
      ['a', 'b'],
      ['b', 'a'],
      ['a', 'c'],
      ['c', 'b']
    ] as const) {
      await join(from, to, from === 'c' ? '#' : '')
    }
    await bind('q', 'a')
    await bind('q', 'b')
    await bind('q', 'c', '#.b.#')
    client.publish('a', 'a.b.c', 'one')
    client.publish('c', 'a.b.c', 'two')
    expect(await bodies('q')).toEqual(['one', 'two'])
    await client.call(EXCHANGE.unbind, between('c', 'b', '#'), EXCHANGE.unbindOk)
    client.publish('c', 'x', 'gone')
    expect(await bodies('q')).toEqual([])
  })

  it('may be internal: no client publishes to them', async () => {
    await queues('q')
    await exchange('in', { internal: true })
    await bind('q', 'in', 'k')
    await join('amq.direct', 'in', 'k')
    client.publish('amq.direct', 'k', 'x')
    expect(await bodies('q')).toEqual(['x'])
  })

  it('that look at headers see them, however far behind', async () => {
    await queues('q', 'r')
    await exchange('far', { type: 'fanout' })
    await join('amq.direct', 'far', 'k')
    await join('far', 'amq.headers')
    await bind('q', 'amq.headers', '', [['a', int(1)]])
    await bind('r', 'far')
    const publish = (value: number) =>
      client.publish('amq.direct', 'k', String(value), {
        properties: { headers: [['a', int(value)]] }
      })
    publish(1)
    publish(2)
    expect(await bodies('q')).toEqual(['1'])
    expect(await bodies('r')).toEqual(['1', '2'])
  })
})

describe('auto-delete', () => {
  it('exchanges go with their last binding as a source, never before a first', async () => {
    await queues('q')
    await exchange('a', { autoDelete: true })
    await exchange('b', { autoDelete: true, type: 'fanout' })
    await join('amq.fanout', 'b')
    await exchange('b', { passive: true })
    await bind('q', 'b')
    await join('a', 'b', 'k')
    await client.call(
      QUEUE.unbind,
      { reserved: 0, queue: 'q', exchange: 'b', routingKey: '', arguments: [] },
      QUEUE.unbindOk
    )
    // `a` had its only binding to `b`.
    for (const name of ['a', 'b']) {
      client.method(EXCHANGE.declare, 1, { ...EXCHANGE_VALUES, exchange: name, passive: true })
      const text = `NOT_FOUND - no exchange '${name}' in vhost '/'`
      await channelClosed(client, 404, EXCHANGE.declare, text)
    }
  })

  it('exchanges go when their last queue is deleted', async () => {
    await queues('q')
    await exchange('a', { autoDelete: true })
    await bind('q', 'a', 'k')
    await client.call(QUEUE.delete, DELETE_VALUES, QUEUE.deleteOk)
    client.method(EXCHANGE.declare, 1, { ...EXCHANGE_VALUES, exchange: 'a', passive: true })
    expect((await client.expect(CHANNEL.close)).replyCode).toBe(404)
  })
})

describe('headers exchanges', () => {
  it.each([
    [
      'all',
      [
        ['a', int(1)],
        ['x-b', int(2)]
      ],
      [['a', int(1)]],
      true
    ],
    [
      'all',
      [
        ['a', int(1)],
        ['b', text('2')]
      ],
      [
        ['a', int(1)],
        ['b', int(2)]
      ],
      false
    ],
    ['all', [['a', VOID]], [['a', text('anything')]], true],
    ['all', [['a', VOID]], [['b', int(1)]], false],
    [
      'any',
      [
        ['a', int(1)],
        ['b', int(2)]
      ],
      [['b', int(2)]],
      true
    ],
    ['any', [['x-a', int(1)]], [['x-a', int(1)]], false],
    [
      'all-with-x',
      [
        ['a', int(1)],
        ['x-b', int(2)]
      ],
      [['a', int(1)]],
      false
    ],
    [
      'all-with-x',
      [
        ['a', int(1)],
        ['x-b', int(2)]
      ],
      [
        ['x-b', int(2)],
        ['a', int(1)]
      ],
      true
    ],
    [
      'any-with-x',
      [
        ['x-a', int(1)],
        ['b', int(2)]
      ],
      [['x-a', int(1)]],
      true
    ],
    ['all', [['a', { type: 'd', value: 1 }]], [['a', int(1)]], false],
    ['all', [['a', { type: 's', value: 1 }]], [['a', { type: 'b', value: 1 }]], true]
  ] as [string, FieldTable, FieldTable, boolean][])(
    'with x-match %s asked for %j take %j: %s',
    async (mode, wanted, headers, isMatch) => {
      await queues('q')
      await bind('q', 'amq.headers', '', [['x-match', text(mode)], ...wanted])
      client.publish('amq.headers', '', 'x', { properties: { headers: [...headers] } as never })
      expect(await bodies('q')).toEqual(isMatch ? ['x'] : [])
    }
  )

  it('refuse an x-match that they do not know', async () => {
    await queues('q')
    const values = { ...BIND_VALUES, exchange: 'amq.match' }
    client.method(QUEUE.bind, 1, { ...values, arguments: [['x-match', text('some')]] })
    await channelClosed(
      client,
      406,
      QUEUE.bind,
      'PRECONDITION_FAILED - Invalid x-match field value <<"some">>; expected all, any, all-with-x, or any-with-x'
    )
    client.method(QUEUE.bind, 1, { ...values, arguments: [['x-match', int(1)]] })
    await channelClosed(
      client,
      406,
      QUEUE.bind,
      'PRECONDITION_FAILED - Invalid x-match field type signedint (value 1); expected longstr'
    )
  })
})

describe('topic exchanges', () => {
  it.each([
    ['#', ['', 'a', 'a.b.c'], []],
    ['#.c', ['c', 'a.c', 'a.b.c'], ['a', 'c.a']],
    ['a.#.c', ['a.c', 'a.b.c', 'a.b.b.c'], ['a', 'c', 'a.b']],
    ['#.b.#', ['b', 'a.b', 'b.a', 'a.b.c', 'b.b'], ['a', '']],
    ['*.#', ['a', 'a.b', ''], []],
    ['#.a.#.a.#', ['a.a', 'x.a.y.a.z'], ['a', 'x.a.y']]
  ] as [string, string[], string[]][])('bound by %s take %j, not %j', async (key, yes, no) => {
    await queues('q')
    await bind('q', 'amq.topic', key)
    for (const each of [...yes, ...no]) client.publish('amq.topic', each, each || 'empty')
    expect(await bodies('q')).toEqual(yes.map(each => each || 'empty'))
  })
})

describe('CC and BCC', () => {
  it('go through any exchange; one copy a queue; BCC is taken out of what is delivered', async () => {
    await queues('a', 'b', 'c')
    for (const name of ['a', 'b', 'c']) await bind(name, 'amq.direct', name)
    const headers: [string, FieldValue][] = [
      ['CC', list('b', 'a')],
      ['BCC', list('c')],
      ['kept', int(7)]
    ]
    for (const to of ['', 'amq.direct']) client.publish(to, 'a', 'x', { properties: { headers } })
    for (const queue of ['a', 'b', 'c']) {
      client.method(BASIC.get, 1, { reserved: 0, queue, noAck: true })
      const { properties, values } = await client.content(BASIC.getOk)
      expect(values).toMatchObject({ routingKey: 'a', messageCount: 1 })
      expect(decodeProperties(properties, 0, properties.length).headers).toEqual([
        ['CC', list('b', 'a')],
        ['kept', int(7)]
      ])
    }
  })

  it('are keys of a topic exchange and of what lies behind; a message routed by one is not returned', async () => {
    await queues('q', 'r')
    await bind('q', 'amq.topic', '*.x')
    await join('amq.topic', 'amq.direct', '#')
    await bind('r', 'amq.direct', 'a/b.x')
    const headers: [string, FieldValue][] = [['CC', list('a/b.x')]]
    client.publish('amq.topic', 'none', 'm', { mandatory: true, properties: { headers } })
    expect([await bodies('q'), await bodies('r')]).toEqual([['m'], ['m']])
  })

  it('of another type than a list are refused; what is no string in the list is passed over', async () => {
    await queues('q')
    client.publish('', 'q', 'x', { properties: { headers: [['CC', text('q')]] } })
    await channelClosed(
      client,
      406,
      BASIC.publish,
      'PRECONDITION_FAILED - invalid message: {unacceptable_type_in_header,"CC",longstr}'
    )
    const mixed: FieldValue = { type: 'A', value: [int(1), text('q')] }
    client.publish('', 'none', 'x', { properties: { headers: [['CC', mixed]] } })
    expect(await bodies('q')).toEqual(['x'])
  })

  it('are shown in what comes back but for BCC, whose first key is the method`s', async () => {
    await client.call(CONFIRM.select, { noWait: false }, CONFIRM.selectOk)
    const headers: [string, FieldValue][] = [
      ['CC', list('b')],
      ['BCC', list('c')]
    ]
    client.publish('amq.direct', 'a', 'x', { mandatory: true, properties: { headers } })
    const { values, properties } = await client.content(BASIC.return)
    expect(values.routingKey).toBe('a')
    expect(decodeProperties(properties, 0, properties.length).headers).toEqual([['CC', list('b')]])
    await client.expect(BASIC.ack)
  })
})

describe('exchanges that pick one queue', () => {
  it('hash a property of the message if told to, behind others too', async () => {
    await queues('a', 'b', 'c')
    const args: FieldTable = [['hash-property', text('message_id')]]
    await exchange('h', { type: 'x-consistent-hash', arguments: args })
    for (const name of ['a', 'b', 'c']) await bind(name, 'h', '1')
    await join('amq.fanout', 'h')
    for (let i = 0; i < 60; i++) {
      const properties = { messageId: String(i % 30) }
      client.publish(i < 30 ? 'h' : 'amq.fanout', 'k', String(i % 30), { properties })
    }
    const found = [await bodies('a'), await bodies('b'), await bodies('c')]
    for (const each of found) {
      const half = each.length / 2
      expect(half).toBeGreaterThan(0)
      expect(each.slice(0, half)).toEqual(each.slice(half))
    }
    expect(found.flat().length).toBe(60)
  })

  it('are delayed as others are', async () => {
    await queues('a', 'b')
    const args: FieldTable = [['x-delayed-type', text('x-random')]]
    await exchange('h', { type: 'x-delayed-message', arguments: args })
    for (const name of ['a', 'b']) await bind(name, 'h')
    const headers: [string, FieldValue][] = [['x-delay', int(500)]]
    for (let i = 0; i < 40; i++) client.publish('h', '', 'x', { properties: { headers } })
    await nothingMore(client)
    gateway.pass(1)
    const found = [await bodies('a'), await bodies('b')]
    expect(found.flat().length).toBe(40)
    for (const each of found) expect(each.length).toBeGreaterThan(0)
  })

  it('take weights as binding keys', async () => {
    await queues('q')
    await exchange('h', { type: 'x-consistent-hash' })
    client.method(QUEUE.bind, 1, { ...BIND_VALUES, exchange: 'h', routingKey: 'k' })
    const explanation = 'PRECONDITION_FAILED - The binding key must be an integer: <<"k">>'
    await channelClosed(client, 406, QUEUE.bind, explanation)
  })
})

describe('refused', () => {
  it('an exchange of an unknown type', async () => {
    client.method(EXCHANGE.declare, 1, { ...EXCHANGE_VALUES, type: 'x-what' })
    const text = "PRECONDITION_FAILED - unknown exchange type 'x-what'"
    await channelClosed(client, 406, EXCHANGE.declare, text)
  })
})
