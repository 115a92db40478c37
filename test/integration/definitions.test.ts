/** Definitions in RabbitMQ's JSON, out and in: ours into a RabbitMQ, a RabbitMQ's into us. */
import { createHash } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { connect } from 'amqplib'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { ImportReport } from '../../src/admin/definitions-import.ts'
import { CONNECTION } from '../../src/amqp/codec/methods.ts'
import { RabbitMq } from '../support/rabbitmq.ts'
import { requireProgram } from '../support/require.ts'
import { WholeServer } from '../support/whole-server.ts'

type Definitions = Record<string, Record<string, unknown>[]>

let server: WholeServer

beforeEach(() => {
  server = new WholeServer()
})
afterEach(() => server.close())

function hash(algorithm: 'sha256' | 'sha512', password: string): string {
  const salt = Buffer.from([1, 2, 3, 4])
  const digest = createHash(algorithm).update(salt).update(password).digest()
  return Buffer.concat([salt, digest]).toString('base64')
}

/** As RabbitMQ 3.10 writes it. */
const FIELD = {
  rabbit_version: '3.10.8',
  rabbitmq_version: '3.10.8',
  product_name: 'RabbitMQ',
  product_version: '3.10.8',
  users: [
    {
      name: 'ann',
      password_hash: hash('sha256', 's3cret'),
      hashing_algorithm: 'rabbit_password_hashing_sha256',
      tags: ['administrator'],
      limits: {}
    },
    {
      name: 'ben',
      password_hash: hash('sha512', 'other'),
      hashing_algorithm: 'rabbit_password_hashing_sha512',
      tags: [],
      limits: {}
    }
  ],
  vhosts: [
    { name: '/', description: 'Default virtual host', tags: [] },
    { name: 'field', description: 'devices', tags: ['a'] }
  ],
  permissions: [
    { user: 'ann', vhost: 'field', configure: '.*', write: '.*', read: '.*' },
    { user: 'ben', vhost: '/', configure: '', write: '^amq\\.topic$', read: '' }
  ],
  topic_permissions: [
    { user: 'ann', vhost: 'field', exchange: 'amq.topic', write: '^a', read: '.*' }
  ],
  parameters: [
    {
      component: 'operator_policy',
      vhost: 'field',
      name: 'cap',
      value: { pattern: '', 'apply-to': 'queues', definition: { 'max-length': 9 }, priority: 0 }
    }
  ],
  global_parameters: [],
  policies: [
    {
      vhost: 'field',
      name: 'short',
      pattern: '^q',
      'apply-to': 'queues',
      definition: { 'max-length': 5, overflow: 'reject-publish' },
      priority: 2
    }
  ],
  queues: [
    {
      name: 'q',
      vhost: 'field',
      durable: true,
      auto_delete: false,
      arguments: { 'x-queue-type': 'classic', 'x-max-length-bytes': 100000, 'x-note': true }
    }
  ],
  exchanges: [
    {
      name: 'e',
      vhost: 'field',
      type: 'headers',
      durable: true,
      auto_delete: false,
      internal: false,
      arguments: { 'alternate-exchange': 'amq.fanout' }
    }
  ],
  bindings: [
    {
      source: 'amq.topic',
      vhost: 'field',
      destination: 'q',
      destination_type: 'queue',
      routing_key: 'a.#',
      arguments: {}
    },
    {
      source: 'amq.topic',
      vhost: 'field',
      destination: 'e',
      destination_type: 'exchange',
      routing_key: '#',
      arguments: {}
    },
    {
      source: 'e',
      vhost: 'field',
      destination: 'q',
      destination_type: 'queue',
      routing_key: '',
      arguments: { 'x-match': 'any', site: 'north', floor: 3, dry: true }
    }
  ]
}

function take(definitions: object, vhost = ''): Promise<ImportReport> {
  return server.ask('POST', `/api/definitions${vhost}`, definitions) as Promise<ImportReport>
}

function give(): Promise<Definitions> {
  return server.ask('GET', '/api/definitions') as Promise<Definitions>
}

async function login(username: string, password: string, vhost: string): Promise<boolean> {
  const client = await server.dialAmqp()
  client.send('AMQP\0\0\x09\x01')
  await client.expect(CONNECTION.start, 0)
  client.startOk({ username, password })
  const frame = await client.frame()
  if (frame?.payload.readUInt32BE(0) !== CONNECTION.tune.id) return false
  client.method(CONNECTION.tuneOk, 0, { channelMax: 10, frameMax: 8192, heartbeat: 0 })
  client.method(CONNECTION.open, 0, { virtualHost: vhost, reserved1: '', reserved2: false })
  const answer = await client.frame()
  return answer?.payload.readUInt32BE(0) === CONNECTION.openOk.id
}

/** What two exports must have in common, whatever else a broker says of it. */
function essence(definitions: Definitions): Definitions {
  const pick = (list: Record<string, unknown>[] = [], keys: readonly string[]) =>
    list
      .filter(entry => entry['vhost'] !== '/' && entry['name'] !== 'guest')
      .map(entry => Object.fromEntries(keys.map(key => [key, entry[key]])))
      .sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1))
  return {
    users: pick(definitions['users'], ['name', 'password_hash', 'hashing_algorithm', 'tags']),
    permissions: pick(definitions['permissions'], ['user', 'vhost', 'configure', 'write', 'read']),
    topics: pick(definitions['topic_permissions'], ['user', 'vhost', 'exchange', 'write', 'read']),
    parameters: pick(definitions['parameters'], ['component', 'vhost', 'name', 'value']),
    policies: pick(definitions['policies'], ['vhost', 'name', 'pattern', 'apply-to', 'definition']),
    queues: pick(definitions['queues'], ['name', 'vhost', 'auto_delete', 'arguments']),
    exchanges: pick(definitions['exchanges'], ['name', 'type', 'arguments']),
    bindings: pick(definitions['bindings'], ['source', 'destination', 'routing_key', 'arguments'])
  }
}

describe('definitions', () => {
  it('are taken whole, and given as they were taken, over a restart', async () => {
    await server.start()
    const report = await take(FIELD)
    expect(report).toMatchObject({ refused: [], notes: [] })
    expect(report.taken).toEqual({
      ...{ vhosts: 2, users: 2, permissions: 2, topic_permissions: 1, parameters: 1 },
      ...{ policies: 1, exchanges: 1, queues: 1, bindings: 3 }
    })
    expect(essence(await give())).toEqual(essence(FIELD as unknown as Definitions))
    expect(await take(await give())).toMatchObject({ refused: [], taken: report.taken })
    await server.stop()
    await server.start()
    expect(essence(await give())).toEqual(essence(FIELD as unknown as Definitions))
    const { options } = server.running.broker.state.vhost('field')!.queues.get('q')!
    expect(options).toMatchObject({ messagesMax: 5, bytesMax: 100_000, overflow: 'reject-publish' })
  })

  it("let RabbitMQ's users log in with their passwords, and with no others", async () => {
    await server.start()
    await take(FIELD)
    expect(await login('ann', 's3cret', 'field')).toBe(true)
    expect(await login('ann', 'other', 'field')).toBe(false)
    expect(await login('ann', 's3cret', '/')).toBe(false)
    expect(await login('ben', 'other', '/')).toBe(true)
    expect(await login('ben', 's3cret', '/')).toBe(false)
    const phone = await server.mqtt()
    const ben = { username: 'ben', password: Buffer.from('other'), clientId: 'p' }
    expect((await phone.connect(4, ben))[3]).toBe(0)
  })

  it('keep what is ours: scrypt hashes and topic rules', async () => {
    await server.start()
    const password = Buffer.from('pw').toString('base64')
    await server.ask('POST', '/api/users', { name: 'cat', password, tags: [] })
    const given = await give()
    const [cat] = given['users']!
    expect(cat).toMatchObject({ name: 'cat', password_hash: '' })
    await server.ask('DELETE', '/api/users/cat')
    await take({
      users: [
        {
          ...cat,
          motemq: {
            ...(cat!['motemq'] as object),
            topics: [{ effect: 'allow', access: 'read', filter: 'a/#' }]
          }
        }
      ]
    })
    expect(await login('cat', 'pw', '/')).toBe(true)
    const [again] = (await give())['users']!
    expect(again).toMatchObject({ motemq: { topics: [{ filter: 'a/#' }] } })
  })

  it('report what is not known, has no meaning here, or makes no sense, and take the rest', async () => {
    await server.start()
    const report = await take({
      ...FIELD,
      surprise: 1,
      global_parameters: [{ name: 'cluster_name', value: 'c' }],
      parameters: [{ component: 'shovel', vhost: '/', name: 's', value: {} }],
      exchanges: [{ name: 'odd', vhost: '/', type: 'x-none', durable: true }, 7],
      queues: [
        { name: 'good', vhost: '/', durable: true, colour: 'red', arguments: [] },
        { name: 'lost', vhost: 'none', durable: true, arguments: {} },
        { name: 'bad', vhost: '/', durable: true, arguments: { 'x-max-length': 'many' } }
      ],
      bindings: [
        {
          source: 'none',
          vhost: '/',
          destination: 'good',
          destination_type: 'queue',
          routing_key: ''
        }
      ],
      users: [
        ...FIELD.users,
        { name: 'guest', password_hash: hash('sha256', 'guest'), tags: 'administrator' },
        {
          name: 'md5',
          password_hash: 'AAAA',
          hashing_algorithm: 'rabbit_password_hashing_md5',
          tags: ''
        }
      ],
      policies: [
        { vhost: '/', name: 'ha', pattern: '', definition: { 'ha-mode': 'all' } },
        { vhost: '/', name: 'odd', pattern: '', definition: { odd: 1 } }
      ]
    })
    expect(report.notes.join('\n')).toMatch(/cluster_name.*\n.*surprise/)
    expect(report.notes.join('\n')).toContain('"colour" is not known')
    expect(report.notes.join('\n')).toContain('"guest": may log in from this machine only')
    expect(report.notes.join('\n')).toContain('"ha": ha-mode without effect')
    const about = ['md5', 'shovel', 'odd', 'odd', 'without a name', 'lost', 'bad', '"none"']
    expect(report.refused).toHaveLength(about.length)
    for (const word of about) expect(report.refused.join('\n')).toContain(word)
    expect(report.taken).toMatchObject({ queues: 1, policies: 1, users: 3 })
    expect(server.running.broker.state.vhost('/')!.queues.has('good')).toBe(true)
  })

  it('of one virtual host are taken into another', async () => {
    await server.start()
    await server.ask('PUT', '/api/vhosts/b')
    const queues = [{ name: 'q', durable: true, auto_delete: false, arguments: {} }]
    expect((await take({ queues })).refused).toHaveLength(1)
    expect((await take({ queues }, '/b')).refused).toEqual([])
    expect(server.running.broker.state.vhost('b')!.queues.has('q')).toBe(true)
  })

  it('of a file are taken at each start; one that cannot be read refuses it', async () => {
    const file = join(server.folder, 'definitions.json')
    const yaml = `definitions: ${file}\n`
    await expect(server.start(yaml)).rejects.toThrow('ENOENT')
    writeFileSync(file, '{')
    await expect(server.start(yaml)).rejects.toThrow('no JSON object')
    writeFileSync(file, JSON.stringify(FIELD))
    await server.start(yaml)
    expect(server.running.usersCount).toBe(2)
    expect(await login('ann', 's3cret', 'field')).toBe(true)
    await server.stop()
    await server.start(yaml)
    expect(essence(await give())).toEqual(essence(FIELD as unknown as Definitions))
  })
})

requireProgram('rabbitmq-server')('a RabbitMQ', () => {
  it('takes our definitions, and we take what it gives', { timeout: 240_000 }, async () => {
    await server.start()
    await take(FIELD)
    const rabbit = await RabbitMq.start()
    try {
      const ours = join(rabbit.folder, 'ours.json')
      writeFileSync(ours, JSON.stringify(await give()))
      await rabbit.ctl('import_definitions', ours)
      const ann = await connect(`amqp://ann:s3cret@127.0.0.1:${rabbit.port}/field`)
      const channel = await ann.createChannel()
      await channel.assertQueue('native', { arguments: { 'x-max-length': 70 } })
      await channel.bindQueue('native', 'e', '', { 'x-match': 'all', n: 1, t: 'x', b: false })
      await ann.close()
      await rabbit.ctl(
        'eval',
        'rabbit_auth_backend_internal:add_user(<<"dan">>, <<"his">>, <<"me">>), ' +
          'rabbit_auth_backend_internal:set_permissions(' +
          '<<"dan">>, <<"field">>, <<"^a">>, <<"^b">>, <<"^c">>, <<"me">>).'
      )
      const theirs = join(rabbit.folder, 'theirs.json')
      await rabbit.ctl('export_definitions', theirs)
      const given = JSON.parse(readFileSync(theirs, 'utf8')) as Definitions
      await server.close()
      server = await new WholeServer().start()
      const report = await take(given)
      expect(report.refused).toEqual([])
      expect(essence(await give())).toEqual(essence(given))
      expect(await login('dan', 'his', 'field')).toBe(true)
      expect(await login('ann', 's3cret', 'field')).toBe(true)
    } finally {
      await rabbit.stop()
    }
  })
})
