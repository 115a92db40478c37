/** Virtual hosts over both protocols: each with its own names, sessions, retained messages and permissions. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { CHANNEL, CONNECTION, EXCHANGE, QUEUE } from '../../src/amqp/codec/methods.ts'
import { Report, type ServerCounts } from '../../src/broker/report.ts'
import type { FieldTable } from '../../src/core/field-table.ts'
import { text } from '../support/raw-mqtt.ts'
import { WholeServer } from '../support/whole-server.ts'

let server: WholeServer

beforeEach(() => {
  server = new WholeServer()
})
afterEach(() => server.close())

const DECLARE = {
  reserved: 0,
  queue: 'q',
  passive: false,
  durable: true,
  exclusive: false,
  autoDelete: false,
  noWait: false,
  arguments: []
}

const SUBSCRIBE_ALL = Buffer.from([0x82, 6, 0, 1, 0, 1, 0x23, 1])

async function addUser(name: string): Promise<void> {
  const password = Buffer.from('pw').toString('base64')
  await server.ask('POST', '/api/users', { name, password, tags: [] })
}

function permit(user: string, vhost: string, rule = { configure: '.*', write: '.*', read: '.*' }) {
  return server.ask('PUT', `/api/permissions/${encodeURIComponent(vhost)}/${user}`, rule)
}

/** Opens a virtual host on a connection that is tuned; returns what is not open-ok. */
async function openVhost(virtualHost: string, username = 'guest', password = 'guest') {
  const client = await server.dialAmqp()
  client.send('AMQP\0\0\x09\x01')
  await client.expect(CONNECTION.start, 0)
  client.startOk({ username, password })
  const { channelMax, frameMax } = await client.expect(CONNECTION.tune, 0)
  client.method(CONNECTION.tuneOk, 0, { channelMax, frameMax, heartbeat: 0 })
  client.method(CONNECTION.open, 0, { virtualHost, reserved1: '', reserved2: false })
  return client
}

describe('a virtual host', () => {
  it('has queues, exchanges, bindings, client ids, sessions and retained messages of its own', async () => {
    await server.start('', ['mqtt://127.0.0.1:0', 'amqp://127.0.0.1:0', 'mqtt://127.0.0.1:0'])
    await server.ask('PUT', '/api/vhosts/b', { description: 'the other one' })
    const here = await server.amqp()
    const there = await server.amqp({ vhost: 'b' })
    await here.call(QUEUE.declare, DECLARE, QUEUE.declareOk)
    await there.call(QUEUE.declare, { ...DECLARE, durable: false }, QUEUE.declareOk)
    there.publish('', 'q', 'of b')
    const passive = { ...DECLARE, passive: true }
    const got = await there.call(QUEUE.declare, passive, QUEUE.declareOk)
    expect(got.messageCount).toBe(1)
    expect((await here.call(QUEUE.declare, passive, QUEUE.declareOk)).messageCount).toBe(0)

    const one = await server.mqtt()
    await one.connect(4, { clientId: 'same', username: 'b:any', clean: false })
    const two = await server.mqtt()
    await two.connect(4, { clientId: 'same', username: 'any', clean: false })
    one.send('31 06 00 01', '74 69 6e 62') // retained t: inb
    one.send(SUBSCRIBE_ALL)
    expect((await one.next()).toString('hex')).toBe('9003000101')
    expect((await one.next()).toString()).toContain('inb')
    two.send(SUBSCRIBE_ALL)
    expect((await two.next()).toString('hex')).toBe('9003000101')
    two.send('30 06 00 01', '74 68 65 72')
    expect((await two.next()).toString()).toContain('her')
    const report = new Report(server.running.broker, () => ({}) as ServerCounts)
    expect(report.stats()).toMatchObject({ retained: 1, retainedBytes: 4 })
    const vhosts = (await server.ask('GET', '/api/vhosts')) as Record<string, unknown>[]
    expect(vhosts).toMatchObject([
      { name: '/', queues: 1, messages: 0, sessions: 1, retained: 0 },
      { name: 'b', description: 'the other one', queues: 1, messages: 1, sessions: 1, retained: 1 }
    ])
  })

  it('that is unknown, or not for this user, is refused with 530 [AMQP §1.4]', async () => {
    await server.start()
    await server.ask('PUT', '/api/vhosts/b')
    const stranger = await openVhost('none')
    expect(await stranger.expect(CONNECTION.close, 0)).toMatchObject({
      replyCode: 530,
      replyText: 'NOT_ALLOWED - vhost none not found'
    })
    await addUser('ann')
    await addUser('ben')
    await permit('ann', 'b')
    const ben = await openVhost('b', 'ben', 'pw')
    expect(await ben.expect(CONNECTION.close, 0)).toMatchObject({
      replyCode: 530,
      replyText: "NOT_ALLOWED - access to vhost 'b' refused for user 'ben'"
    })
    const ann = await openVhost('b', 'ann', 'pw')
    await ann.expect(CONNECTION.openOk, 0)
    const annHere = await openVhost('/', 'ann', 'pw')
    expect(await annHere.expect(CONNECTION.close, 0)).toMatchObject({ replyCode: 530 })
    const phone = await server.mqtt()
    const login = { username: 'b:ann', password: Buffer.from('pw') }
    expect((await phone.connect(5, { ...login, clientId: 'p' }))[3]).toBe(0)
    const other = await server.mqtt()
    const refused = await other.connect(5, { ...login, username: 'b:ben', clientId: 'o' })
    expect(refused[3]).toBe(0x87)
  })

  it('gives each user the permissions of that virtual host only', async () => {
    await server.start('vhosts: [b]\n')
    await addUser('ann')
    await permit('ann', '/')
    await permit('ann', 'b', { configure: '^mine', write: '^mine', read: '^mine' })
    const login = { username: 'ann', password: 'pw' }
    const here = await server.amqp(login)
    await here.call(QUEUE.declare, DECLARE, QUEUE.declareOk)
    const there = await server.amqp({ ...login, vhost: 'b' })
    await there.call(QUEUE.declare, { ...DECLARE, queue: 'mine.1' }, QUEUE.declareOk)
    there.method(QUEUE.declare, 1, DECLARE)
    const { replyText } = await there.expect(CHANNEL.close)
    expect(replyText).toContain("access to queue 'q' in vhost 'b' refused for user 'ann'")
    // MQTT is the exchange amq.topic, which is not hers there.
    const phone = await server.mqtt()
    await phone.connect(5, { username: 'b:ann', password: Buffer.from('pw'), clientId: 'p' })
    phone.send('82 07 00 01 00', text('#'), [1])
    expect((await phone.next()).toString('hex')).toBe('900400010087')
    const home = await server.mqtt()
    await home.connect(5, { username: 'ann', password: Buffer.from('pw'), clientId: 'p' })
    home.send('82 07 00 01 00', text('#'), [1])
    expect((await home.next()).toString('hex')).toBe('900400010001')
  })

  it('has topic permissions, as RabbitMQ has them', async () => {
    await server.start()
    await addUser('ann')
    await permit('ann', '/')
    const topics = { exchange: 'amq.topic', write: '^{username}\\.', read: '^(ann|all)\\.' }
    await server.ask('PUT', '/api/topic-permissions/%2F/ann', topics)
    const login = { username: 'ann', password: Buffer.from('pw') }
    const phone = await server.mqtt()
    await phone.connect(5, { ...login, clientId: 'p' })
    const publish = async (topic: string) => {
      phone.send([0x32, topic.length + 5], text(topic), '00 01 00')
      return (await phone.next()).toString('hex')
    }
    expect(await publish('ann/1')).toBe('40030001' + '10')
    expect(await publish('ben/1')).toBe('40030001' + '87')
    const backend = await server.amqp({ username: 'ann', password: 'pw' })
    await backend.call(QUEUE.declare, DECLARE, QUEUE.declareOk)
    const binding = { reserved: 0, queue: 'q', exchange: 'amq.topic', noWait: false, arguments: [] }
    await backend.call(QUEUE.bind, { ...binding, routingKey: 'all.#' }, QUEUE.bindOk)
    await backend.openChannel(2)
    backend.method(QUEUE.bind, 2, { ...binding, routingKey: '#' })
    expect((await backend.expect(CHANNEL.close, 2)).replyCode).toBe(403)
    backend.publish('amq.topic', 'ben.1', 'x')
    expect((await backend.expect(CHANNEL.close)).replyCode).toBe(403)
  })

  it('of a listener is not left by a user name; the default one is', async () => {
    const yaml = `vhosts: [b, c]
listeners:
  - { url: "mqtt://127.0.0.1:0", vhost: b }
  - "mqtt://127.0.0.1:0"
`
    await server.start(yaml, [])
    const vhostOf = async (index: number, username: string) => {
      const client = await server.mqtt(index)
      const clientId = `${index}${username.replaceAll(':', '-')}`
      expect((await client.connect(4, { clientId, username, clean: false }))[3]).toBe(0)
      const { vhosts } = server.running.broker
      return [...vhosts.values()].find(({ sessions }) => sessions.has(clientId))?.name
    }
    expect(await vhostOf(0, 'c:ann')).toBe('b')
    expect(await vhostOf(1, 'c:ann')).toBe('c')
    expect(await vhostOf(1, 'none:ann')).toBe('/')
    expect(await vhostOf(1, 'ann')).toBe('/')
  })
})

describe('the end of a virtual host', () => {
  it('closes its connections and frees all that it held, for good', async () => {
    await server.start()
    await server.ask('PUT', '/api/vhosts/b')
    const { broker } = server.running
    const backend = await server.amqp({ vhost: 'b' })
    await backend.call(QUEUE.declare, DECLARE, QUEUE.declareOk)
    const about = { reserved: 0, type: 'fanout', durable: true, internal: false, noWait: false }
    const exchange = { ...about, exchange: 'e', passive: false, autoDelete: false, arguments: [] }
    await backend.call(EXCHANGE.declare, exchange, EXCHANGE.declareOk)
    backend.publish('', 'q', 'waits')
    const delayed = { ...exchange, exchange: 'late', type: 'x-delayed-message' }
    const kind: FieldTable = [['x-delayed-type', { type: 'S', value: 'direct' }]]
    await backend.call(EXCHANGE.declare, { ...delayed, arguments: kind }, EXCHANGE.declareOk)
    backend.publish('late', 'q', 'held back', {
      persistent: true,
      properties: { headers: [['x-delay', { type: 'I', value: 60_000 }]] }
    })
    await backend.call(QUEUE.declare, DECLARE, QUEUE.declareOk)
    expect(broker.state.delays.stores.size).toBe(1)
    const phone = await server.mqtt()
    await phone.connect(5, {
      username: 'b:any',
      clientId: 'p',
      properties: { sessionExpiryInterval: 1000 },
      will: { topic: 'w', payload: Buffer.from('x'), qos: 1, retain: true }
    })
    phone.send('82 07 00 01 00', text('#'), [1])
    await phone.next()
    phone.send('33 07 00 01', '74 00 01 00', [0x78])
    await phone.next()
    const bystander = await server.mqtt()
    await bystander.connect(4, { clientId: 'p' })
    await server.ask('DELETE', '/api/vhosts/b')
    expect(await backend.expect(CONNECTION.close, 0)).toMatchObject({
      replyCode: 320,
      replyText: "CONNECTION_FORCED - vhost 'b' is deleted"
    })
    const rest = await phone.rest()
    expect(rest.at(-1)?.subarray(0, 3).toString('hex')).toMatch(/^e0..98$/)
    expect(broker.vhosts.has('b')).toBe(false)
    expect(broker.state.queues.size).toBe(1)
    expect(broker.state.delays.stores.size).toBe(0)
    expect(broker.state.sessions.size).toBe(1)
    await expect(server.ask('DELETE', '/api/vhosts/b')).rejects.toThrow('no virtual host')
    await server.ask('PUT', '/api/vhosts/b')
    await server.stop()
    await server.start()
    const [, again] = (await server.ask('GET', '/api/vhosts')) as object[]
    expect(again).toMatchObject({ name: 'b', queues: 0, messages: 0, sessions: 0, retained: 0 })
    bystander.destroy()
  })

  it('is refused for "/" and for those that the configuration names', async () => {
    await server.start('vhosts: [b]\n')
    await expect(server.ask('DELETE', '/api/vhosts/b')).rejects.toThrow('configuration')
    await expect(server.ask('DELETE', '/api/vhosts/%2F')).rejects.toThrow('configuration')
  })

  it('is not the end of how many there may be', async () => {
    await server.start('limits: { vhostsMax: 3 }\n')
    await server.ask('PUT', '/api/vhosts/b')
    await server.ask('PUT', '/api/vhosts/c')
    await expect(server.ask('PUT', '/api/vhosts/d')).rejects.toThrow('limits.vhostsMax')
    await server.ask('PUT', '/api/vhosts/c', { description: 'changed' })
    await server.ask('DELETE', '/api/vhosts/c')
    await server.ask('PUT', '/api/vhosts/d')
    await expect(server.ask('PUT', `/api/vhosts/${'x'.repeat(256)}`)).rejects.toThrow('bytes')
    const names = ((await server.ask('GET', '/api/vhosts')) as { name: string }[]).map(v => v.name)
    expect(names).toEqual(['/', 'b', 'd'])
  })
})
