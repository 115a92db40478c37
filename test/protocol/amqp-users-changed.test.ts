/** Users and their permissions change while their AMQP connections are open. */
import { beforeEach, describe, expect, it } from 'vitest'
import { BASIC, CHANNEL, CONNECTION, QUEUE } from '../../src/amqp/codec/methods.ts'
import { PROTOCOL_HEADER } from '../../src/amqp/codec/protocol-header.ts'
import type { AuthenticationResult, Credentials } from '../../src/auth/authenticator.ts'
import { Principal, type ResourceRule, type TopicRule } from '../../src/core/principal.ts'
import type { AmqpGateway } from '../support/amqp-gateway.ts'
import {
  channelClosed,
  CONSUME_VALUES,
  declareQueue,
  nothingMore,
  QUEUE_VALUES,
  startAmqp
} from '../support/amqp-moves.ts'
import type { RawAmqp } from '../support/raw-amqp.ts'

const ALL = { configure: '.*', write: '.*', read: '.*' }
const FORCED = "CONNECTION_FORCED - broker forced connection closure with reason 'user"

let users: Map<string, { rule: Omit<ResourceRule, 'vhost'>; topics: TopicRule[] }>
let gateway: AmqpGateway
let client: RawAmqp
/** A login waits for it. */
let checking: Promise<void>

function principalOf(name: string, vhost: string): Principal | null {
  const user = users.get(name)
  if (user === undefined) return null
  return new Principal(name, [], vhost, [{ vhost, ...user.rule }], user.topics, false)
}

async function authenticate({ username, vhost }: Credentials): Promise<AuthenticationResult> {
  const principal = principalOf(username ?? '', vhost)
  await checking
  return principal === null ? { ok: false, reason: 'bad-credentials' } : { ok: true, principal }
}

beforeEach(async () => {
  const topics: TopicRule[] = [{ effect: 'allow', access: 'readwrite', filter: '#' }]
  users = new Map(['guest', 'ben'].map(name => [name, { rule: ALL, topics }]))
  checking = Promise.resolve()
  ;({ gateway, client } = await startAmqp({ authenticate, principalOf }))
})

function allow(name: string, rule: Partial<ResourceRule>, topics?: TopicRule[]): void {
  const old = users.get(name)!
  users.set(name, { rule: { ...old.rule, ...rule }, topics: topics ?? old.topics })
  gateway.amqp.permissionsChanged()
}

function remove(name: string): void {
  users.delete(name)
  gateway.amqp.permissionsChanged()
}

function refused(access: string, what: string): string {
  return `ACCESS_REFUSED - ${access} access to ${what} in vhost '/' refused for user 'guest'`
}

describe('a permission that is taken away', () => {
  it('counts for what is declared, consumed and published from then on', async () => {
    await declareQueue(client)
    client.publish('amq.direct', 'k', 'x')
    await nothingMore(client)
    allow('guest', { configure: '', read: '', write: '' })
    client.publish('amq.direct', 'k', 'x')
    await channelClosed(client, 403, BASIC.publish, refused('write', "exchange 'amq.direct'"))
    client.method(BASIC.consume, 1, CONSUME_VALUES)
    await channelClosed(client, 403, BASIC.consume, refused('read', "queue 'q'"))
    client.method(QUEUE.declare, 1, { ...QUEUE_VALUES, queue: 'new' })
    await channelClosed(client, 403, QUEUE.declare, refused('configure', "queue 'new'"))
  })

  it('counts for topics too', async () => {
    client.publish('amq.topic', 'a.b', 'x')
    await nothingMore(client)
    allow('guest', {}, [{ effect: 'deny', access: 'write', filter: 'a/b' }])
    client.publish('amq.topic', 'a.b', 'x')
    const close = await client.expect(CHANNEL.close)
    expect(close.replyCode).toBe(403)
  })

  it('comes back on the same connection', async () => {
    allow('guest', { write: '' })
    client.publish('amq.direct', 'k', 'x')
    await channelClosed(client, 403, BASIC.publish, refused('write', "exchange 'amq.direct'"))
    allow('guest', ALL)
    client.publish('amq.direct', 'k', 'x')
    await nothingMore(client)
  })
})

describe('a user that is deleted', () => {
  it('is sent away from all connections with 320, and nobody else', async () => {
    const ben = await gateway.connect({ username: 'ben' })
    const second = await gateway.connect()
    await client.call(QUEUE.declare, { ...QUEUE_VALUES, exclusive: true }, QUEUE.declareOk)
    remove('guest')
    for (const each of [client, second]) {
      const close = await each.expect(CONNECTION.close, 0)
      expect(close.replyCode).toBe(320)
      expect(close.replyText).toBe(`${FORCED} 'guest' is no longer authorized'`)
      each.method(CONNECTION.closeOk, 0, {})
      await each.ended()
    }
    expect(gateway.broker.vhosts.get('/')!.queues.size).toBe(0)
    await nothingMore(ben)
  })

  it('is sent away before its connection is open, too', async () => {
    const late = await gateway.dial()
    late.send(PROTOCOL_HEADER)
    await late.expect(CONNECTION.start, 0)
    late.startOk({ username: 'ben' })
    await late.expect(CONNECTION.tune, 0)
    remove('ben')
    expect((await late.expect(CONNECTION.close, 0)).replyCode).toBe(320)
  })

  it('does not come in when its login for another vhost was under way', async () => {
    const vhosts = gateway.broker.vhosts as Map<string, unknown>
    vhosts.set('other', vhosts.get('/'))
    const late = await gateway.dial()
    late.send(PROTOCOL_HEADER)
    await late.expect(CONNECTION.start, 0)
    late.startOk({ username: 'ben' })
    const { channelMax, frameMax } = await late.expect(CONNECTION.tune, 0)
    late.method(CONNECTION.tuneOk, 0, { channelMax, frameMax, heartbeat: 0 })
    let go = () => {}
    let asked = 0
    checking = new Promise(resolve => {
      go = resolve
    })
    const { authenticator } = gateway.amqp
    authenticator.authenticate = credentials => {
      asked++
      return authenticate(credentials)
    }
    late.method(CONNECTION.open, 0, { virtualHost: 'other', reserved1: '', reserved2: false })
    await expect.poll(() => asked).toBe(1)
    remove('ben')
    go()
    expect((await late.expect(CONNECTION.close, 0)).replyCode).toBe(320)
    late.method(CONNECTION.closeOk, 0, {})
    await late.ended()
  })
})
