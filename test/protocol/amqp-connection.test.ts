import { beforeEach, describe, expect, it } from 'vitest'
import { BASIC, CHANNEL, CONNECTION } from '../../src/amqp/codec/methods.ts'
import type { Credentials } from '../../src/auth/authenticator.ts'
import { MemoryAlarm, memoryShare } from '../../src/broker/memory-alarm.ts'
import { Principal } from '../../src/core/principal.ts'
import type { AmqpGateway } from '../support/amqp-gateway.ts'
import { declareQueue, nothingMore, startAmqp } from '../support/amqp-moves.ts'
import { PROTOCOL_HEADER, type RawAmqp } from '../support/raw-amqp.ts'

describe('the alarm of memory', () => {
  let gateway: AmqpGateway
  let client: RawAmqp
  let alarm: MemoryAlarm
  let used: number

  beforeEach(async () => {
    ;({ gateway, client } = await startAmqp())
    used = 0
    alarm = new MemoryAlarm(gateway.broker, 1_000, () => used)
    await declareQueue(client)
  })

  function use(bytes: number): void {
    used = bytes
    alarm.look()
  }

  async function got(body: string): Promise<void> {
    client.method(BASIC.get, 1, { reserved: 0, queue: 'q', noAck: true })
    expect((await client.content(BASIC.getOk)).body.toString()).toBe(body)
  }

  it('holds who publishes and tells it, until memory is well below the bound', async () => {
    use(1_000)
    expect(gateway.broker.memoryAlarm).toBe(false)
    use(1_001)
    client.publish('', 'q', 'held')
    expect((await client.expect(CONNECTION.blocked, 0)).reason).toBe('low on memory')
    use(960)
    expect(gateway.broker.memoryAlarm).toBe(true)
    use(940)
    await client.expect(CONNECTION.unblocked, 0)
    await got('held')
  })

  it('and that of the disk are told once, until both are over', async () => {
    gateway.alarm(true)
    use(2_000)
    client.publish('', 'q', 'held')
    expect((await client.expect(CONNECTION.blocked, 0)).reason).toBe('low on memory & disk')
    gateway.alarm(false)
    use(2_000)
    gateway.alarm(true)
    use(0)
    gateway.alarm(false)
    await client.expect(CONNECTION.unblocked, 0)
    await got('held')
    await nothingMore(client)
  })

  it('is told to who is held for another reason already', async () => {
    const { broker } = gateway
    broker.isCrowded = true
    broker.judgePause()
    client.publish('', 'q', 'held')
    const held = (): boolean => [...gateway.amqp.connections.keys()].some(one => one.isHeld)
    await expect.poll(held).toBe(true)
    use(2_000)
    await client.expect(CONNECTION.blocked, 0)
    broker.isCrowded = false
    broker.judgePause()
    use(0)
    await client.expect(CONNECTION.unblocked, 0)
    await got('held')
  })

  it('has its bound below what this process may have', () => {
    expect(memoryShare()).toBeGreaterThan(64 * 1024 * 1024)
    expect(memoryShare()).toBeLessThan(Number.MAX_SAFE_INTEGER)
  })
})

describe('a client with a certificate', () => {
  let seen: Credentials[]

  async function dial(identity?: string): Promise<RawAmqp> {
    seen = []
    const { gateway } = await startAmqp({
      ...(identity === undefined ? {} : { identity }),
      authenticate: credentials => {
        seen.push(credentials)
        const name = credentials.identity ?? credentials.username ?? ''
        const principal = new Principal(name, [], credentials.vhost, [], [], true)
        return Promise.resolve({ ok: true, principal })
      }
    })
    const client = await gateway.dial()
    client.send(PROTOCOL_HEADER)
    return client
  }

  function startOk(client: RawAmqp, mechanism: string): void {
    const response = Buffer.alloc(0)
    client.method(CONNECTION.startOk, 0, {
      clientProperties: [],
      mechanism,
      response,
      locale: 'en_US'
    })
  }

  it('is offered EXTERNAL, and is who its certificate says', async () => {
    const client = await dial('gateway 7')
    const start = await client.expect(CONNECTION.start, 0)
    expect(start.mechanisms.toString()).toBe('EXTERNAL PLAIN AMQPLAIN')
    seen.length = 0
    startOk(client, 'EXTERNAL')
    await client.expect(CONNECTION.tune, 0)
    expect(seen[0]).toMatchObject({ identity: 'gateway 7', username: null, password: null })
  })

  it('that has none is not offered it, and gets 503 for it', async () => {
    const client = await dial()
    const start = await client.expect(CONNECTION.start, 0)
    expect(start.mechanisms.toString()).toBe('PLAIN AMQPLAIN')
    startOk(client, 'EXTERNAL')
    expect((await client.expect(CONNECTION.close, 0)).replyCode).toBe(503)
  })
})

describe('connection.update-secret', () => {
  it('is answered, and what the user may do is looked up again', async () => {
    const rules = [{ vhost: '/', configure: '.*', write: '^$', read: '.*' }]
    const none = new Principal('guest', [], '/', rules, [], false)
    const { client } = await startAmqp({ principalOf: () => none })
    await declareQueue(client)
    client.publish('', 'q', 'one')
    const secret = { newSecret: Buffer.from('s'), reason: 'it is time' }
    await client.call(CONNECTION.updateSecret, secret, CONNECTION.updateSecretOk, 0)
    client.publish('', 'q', 'two')
    expect((await client.expect(CHANNEL.close)).replyCode).toBe(403)
  })
})
