import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { BASIC, CHANNEL, CONNECTION, QUEUE } from '../../src/amqp/codec/methods.ts'
import { fieldOf } from '../../src/core/field-table.ts'
import { AmqpGateway } from '../support/amqp-gateway.ts'
import { PROTOCOL_HEADER, publishFrames, type RawAmqp, rawFrame } from '../support/raw-amqp.ts'

let gateway: AmqpGateway

beforeEach(async () => {
  gateway = await new AmqpGateway().start()
})
afterEach(() => gateway.close())

/** connection.close with this code; the connection ends after close-ok. */
async function closedWith(client: RawAmqp, code: number): Promise<string> {
  const { replyCode, replyText } = await client.expect(CONNECTION.close, 0)
  expect(replyCode, replyText).toBe(code)
  client.method(CONNECTION.closeOk, 0, {})
  await client.ended()
  return replyText
}

const TUNED = { channelMax: 2047, frameMax: 131_072, heartbeat: 0 }

describe('the protocol header', () => {
  it.each([
    ['HTTP', 'GET / HTTP/1.1\r\n\r\n'],
    ['AMQP 1.0', 'AMQP\0\x01\0\0'],
    ['an MQTT CONNECT', '\x10\x0c\0\x04MQTT\x04\x02\0\x3c\0\0'],
    ['a TLS hello', '\x16\x03\x01\x02\0']
  ])('of %s is answered by ours, then the end', async (_what, bytes) => {
    const client = await gateway.dial()
    client.send(bytes)
    expect(await client.bytes(100)).toEqual(PROTOCOL_HEADER)
    await client.ended()
  })

  it('of 0-9 is taken', async () => {
    const client = await gateway.dial()
    client.send('AMQP\x01\x01\0\x09')
    await client.expect(CONNECTION.start, 0)
  })

  it('may come byte by byte', async () => {
    const client = await gateway.dial()
    for (const byte of PROTOCOL_HEADER) client.send(Buffer.from([byte]))
    await client.expect(CONNECTION.start, 0)
  })

  it('is awaited for ten seconds', async () => {
    const client = await gateway.dial()
    client.send('AMQP')
    await expect.poll(() => gateway.amqp.connections.size).toBe(1)
    gateway.pass(9)
    expect(client.isEnded).toBe(false)
    gateway.pass(1)
    await client.ended()
  })

  it('that never comes is a health check: nothing is logged', async () => {
    const client = await gateway.dial()
    await expect.poll(() => gateway.amqp.connections.size).toBe(1)
    client.socket.end()
    await client.ended()
    await expect.poll(() => gateway.closed).toBe(1)
    expect(gateway.lines).toEqual([])
  })
})

describe('connection.start', () => {
  it('says what clients rely on', async () => {
    const client = await gateway.dial()
    client.send(PROTOCOL_HEADER)
    const start = await client.expect(CONNECTION.start, 0)
    expect([start.versionMajor, start.versionMinor]).toEqual([0, 9])
    expect(start.mechanisms.toString()).toBe('PLAIN AMQPLAIN')
    expect(start.locales.toString()).toBe('en_US')
    expect(fieldOf(start.serverProperties, 'product')?.value).toBe('RabbitMQ')
    expect(fieldOf(start.serverProperties, 'version')?.value).toBe('3.13.7')
    expect(fieldOf(start.serverProperties, 'platform')?.value).toBe('Motemq 0.0.0')
    const capabilities = fieldOf(start.serverProperties, 'capabilities')
    expect(capabilities?.type === 'F' && capabilities.value.length).toBe(9)
  })
})

describe('a login', () => {
  async function started(): Promise<RawAmqp> {
    const client = await gateway.dial()
    client.send(PROTOCOL_HEADER)
    await client.expect(CONNECTION.start, 0)
    return client
  }

  it('that fails is told to a client that understands it', async () => {
    const client = await started()
    client.startOk({ password: 'wrong' })
    expect(await closedWith(client, 403)).toBe(
      'ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile.'
    )
    expect(gateway.broker.counters.loginFailures).toBe(1)
  })

  it('that fails ends the connection of any other, late and without a word', async () => {
    const client = await started()
    client.startOk({ password: 'wrong', capabilities: [] })
    await expect.poll(() => gateway.broker.counters.loginFailures).toBe(1)
    gateway.pass(2)
    // Nothing is read or answered meanwhile.
    client.startOk()
    await new Promise(resolve => setImmediate(resolve))
    expect(client.isEnded).toBe(false)
    gateway.pass(1)
    expect(await client.frame()).toBeNull()
  })

  it('by a mechanism that was not offered is 503, a malformed one 502', async () => {
    const other = await started()
    const values = {
      clientProperties: [],
      mechanism: 'EXTERNAL',
      response: Buffer.alloc(0),
      locale: ''
    }
    other.method(CONNECTION.startOk, 0, values)
    await closedWith(other, 503)
    const malformed = await started()
    malformed.method(CONNECTION.startOk, 0, { ...values, mechanism: 'PLAIN' })
    await closedWith(malformed, 502)
  })

  it('may have tune-ok and open behind each other in one write', async () => {
    const client = await started()
    client.startOk()
    await client.expect(CONNECTION.tune, 0)
    client.socket.cork()
    client.method(CONNECTION.tuneOk, 0, TUNED)
    client.method(CONNECTION.open, 0, { virtualHost: '/', reserved1: '', reserved2: false })
    client.method(CHANNEL.open, 1, { reserved: '' })
    client.socket.uncork()
    await client.expect(CONNECTION.openOk, 0)
    await client.expect(CHANNEL.openOk)
  })

  it('holds what was sent before its answer, and reads it then', async () => {
    const client = await started()
    client.socket.cork()
    client.startOk()
    client.method(CONNECTION.tuneOk, 0, TUNED)
    client.method(CONNECTION.open, 0, { virtualHost: '/', reserved1: '', reserved2: false })
    client.socket.uncork()
    await client.expect(CONNECTION.tune, 0)
    await client.expect(CONNECTION.openOk, 0)
  })

  it('for a vhost that does not exist is 530', async () => {
    const client = await started()
    client.startOk()
    await client.expect(CONNECTION.tune, 0)
    client.method(CONNECTION.tuneOk, 0, TUNED)
    client.method(CONNECTION.open, 0, { virtualHost: 'no', reserved1: '', reserved2: false })
    expect(await closedWith(client, 530)).toBe('NOT_ALLOWED - vhost no not found')
  })

  it.each([
    ['frame_max', { frameMax: 4095 }, 'lower than the minimum allowed value (4096)'],
    ['frame_max', { frameMax: 0 }, 'higher than the maximum allowed value (131072)'],
    ['frame_max', { frameMax: 131_073 }, 'higher than the maximum allowed value (131072)'],
    ['channel_max', { channelMax: 2048 }, 'higher than the maximum allowed value (2047)'],
    ['channel_max', { channelMax: 0 }, 'higher than the maximum allowed value (2047)']
  ])('with a %s out of bounds is 530', async (name, changed, text) => {
    const client = await started()
    client.startOk()
    await client.expect(CONNECTION.tune, 0)
    client.method(CONNECTION.tuneOk, 0, { ...TUNED, ...changed })
    const reply = await closedWith(client, 530)
    expect(reply).toContain(`NOT_ALLOWED - negotiated ${name} = `)
    expect(reply).toContain(text)
  })

  it('with a frame-max of 4096 is taken', async () => {
    await gateway.connect({ frameMax: 4096 })
  })

  it('that sends open before start-ok is 503', async () => {
    const client = await started()
    client.method(CONNECTION.open, 0, { virtualHost: '/', reserved1: '', reserved2: false })
    await closedWith(client, 503)
  })

  it('cannot make us keep much, many strangers together', async () => {
    gateway.close()
    gateway = await new AmqpGateway({ limits: { preLoginTotalBytesMax: 1_000 } }).start()
    const partial = Buffer.concat([Buffer.from([1, 0, 0, 0, 0, 2, 0]), Buffer.alloc(500)])
    const first = await started()
    first.send(partial)
    const second = await started()
    second.send(partial)
    await Promise.race([first.ended(), second.ended()])
    await expect.poll(() => gateway.amqp.connections.size).toBe(1)
    const third = await started()
    third.startOk()
    await third.expect(CONNECTION.tune, 0)
  })

  it('cannot send a frame above 64 KiB', async () => {
    const client = await started()
    client.send(Buffer.from([1, 0, 0, 0, 1, 0, 1]))
    expect((await client.expect(CONNECTION.close, 0)).replyCode).toBe(501)
    await client.ended()
  })
})

describe('frames', () => {
  it.each([
    ['a wrong end marker', rawFrame(1, 1, Buffer.alloc(4), 0xcd), 501],
    ['a frame above frame-max', Buffer.from([3, 0, 1, 0, 2, 0, 1]), 501],
    ['type 4', rawFrame(4, 1, Buffer.alloc(1)), 501],
    ['type 4 on channel 0', rawFrame(4, 0, Buffer.alloc(1)), 501],
    ['a heartbeat on a channel', rawFrame(8, 1, Buffer.alloc(0)), 505],
    ['a body on channel 0', rawFrame(3, 0, Buffer.alloc(1)), 505],
    ['a header on channel 0', rawFrame(2, 0, Buffer.alloc(20)), 505],
    ['a body without a publish', rawFrame(3, 1, Buffer.alloc(1)), 505],
    ['a header without a publish', rawFrame(2, 1, Buffer.alloc(20)), 505],
    [
      'a method instead of the content',
      Buffer.concat([
        publishFrames('', 'k', Buffer.alloc(0))[0]!,
        rawFrame(1, 1, Buffer.from([0, 60, 0, 80, 0, 0, 0, 0, 0, 0, 0, 1, 0]))
      ]),
      505
    ],
    ['a method of three bytes', rawFrame(1, 1, Buffer.alloc(3)), 502],
    ['a method cut short', rawFrame(1, 1, Buffer.from([0, 50, 0, 10, 0, 0, 9])), 502],
    ['a publish cut short', rawFrame(1, 1, Buffer.from([0, 60, 0, 40, 0, 0, 9])), 502],
    ['an ack cut short', rawFrame(1, 1, Buffer.from([0, 60, 0, 80, 0])), 502],
    ['class 99', rawFrame(1, 1, Buffer.from([0, 99, 0, 1])), 540],
    ['an unknown method of tx', rawFrame(1, 1, Buffer.from([0, 90, 0, 99])), 503],
    ['an unknown method', rawFrame(1, 1, Buffer.from([0, 60, 0, 99])), 503],
    ['a method of ours', rawFrame(1, 1, Buffer.from([0, 50, 0, 11])), 503],
    ['a channel method on channel 0', rawFrame(1, 0, Buffer.from([0, 20, 0, 10, 0])), 504],
    ['a method on a channel that is not open', rawFrame(1, 9, Buffer.from([0, 60, 0, 10])), 504],
    ['a body on a channel that is not open', rawFrame(3, 9, Buffer.alloc(1)), 505],
    ['a second channel.open', rawFrame(1, 1, Buffer.from([0, 20, 0, 10, 0])), 504]
  ])('%s closes the connection', async (_what, bytes, code) => {
    const client = await gateway.connect()
    client.send(bytes)
    const { replyCode, replyText } = await client.expect(CONNECTION.close, 0)
    expect(replyCode, replyText).toBe(code)
    client.method(CONNECTION.closeOk, 0, {})
    await client.ended()
  })

  it('may be eight bytes above frame-max', async () => {
    const client = await gateway.connect({ frameMax: 4096 })
    await client.call(QUEUE.declare, { ...EMPTY_QUEUE, queue: 'q' }, QUEUE.declareOk)
    client.publish('', 'q', Buffer.alloc(4096, 1), { split: 4096 })
    const got = await (async () => {
      client.method(BASIC.get, 1, { reserved: 0, queue: 'q', noAck: true })
      return await client.content(BASIC.getOk)
    })()
    expect(got.body.length).toBe(4096)
    expect(got.frames).toBe(2)
  })

  it('are ignored after connection.close until close-ok', async () => {
    const client = await gateway.connect()
    client.send(rawFrame(3, 0, Buffer.alloc(1)))
    await client.expect(CONNECTION.close, 0)
    client.send(rawFrame(3, 0, Buffer.alloc(1)), ...publishFrames('', 'q', Buffer.from('x')))
    client.method(CONNECTION.closeOk, 0, {})
    expect(await client.frame()).toBeNull()
  })

  it('without a close-ok end after thirty seconds', async () => {
    const client = await gateway.connect()
    client.send(rawFrame(3, 0, Buffer.alloc(1)))
    await client.expect(CONNECTION.close, 0)
    gateway.pass(29)
    expect(client.isEnded).toBe(false)
    gateway.pass(1)
    await client.ended()
  })
})

const EMPTY_QUEUE = {
  reserved: 0,
  queue: '',
  passive: false,
  durable: false,
  exclusive: false,
  autoDelete: false,
  noWait: false,
  arguments: []
}

describe('channels', () => {
  it('above channel-max are 530', async () => {
    gateway.close()
    gateway = await new AmqpGateway({ channelMax: 2 }).start()
    const client = await gateway.connect()
    await client.openChannel(2)
    client.method(CHANNEL.open, 3, { reserved: '' })
    expect(await closedWith(client, 530)).toContain('channel_max (2)')
  })

  it('may be closed and opened again under the same number', async () => {
    const client = await gateway.connect()
    const close = { replyCode: 200, replyText: '', classId: 0, methodId: 0 }
    await client.call(CHANNEL.close, close, CHANNEL.closeOk)
    await client.openChannel(1)
  })

  it('R18: answer flow active=true, and 540 to active=false', async () => {
    const client = await gateway.connect()
    expect((await client.call(CHANNEL.flow, { active: true }, CHANNEL.flowOk)).active).toBe(true)
    client.method(CHANNEL.flow, 1, { active: false })
    await closedWith(client, 540)
  })
})

describe('heartbeats', () => {
  it('are sent before half the interval is over, and life is any byte', async () => {
    const client = await gateway.connect({ heartbeat: 10 })
    for (let i = 0; i < 5; i++) {
      gateway.pass(5)
      const frame = await client.frame()
      expect(frame?.type).toBe(8)
      client.send(rawFrame(8, 0, Buffer.alloc(0)))
      await expect.poll(() => client.socket.bytesWritten > 0).toBe(true)
      await new Promise(resolve => setImmediate(resolve))
    }
    expect(client.isEnded).toBe(false)
  })

  it('that are missed for two whole intervals end the connection', async () => {
    const client = await gateway.connect({ heartbeat: 10 })
    gateway.pass(20)
    expect(client.isEnded).toBe(false)
    gateway.pass(2)
    await client.ended()
  })

  it('of 0 are off', async () => {
    const client = await gateway.connect({ heartbeat: 0 })
    gateway.pass(300)
    await client.call(CHANNEL.flow, { active: true }, CHANNEL.flowOk)
  })
})

describe('connection.close', () => {
  it('is answered when the exclusive queues are gone', async () => {
    const client = await gateway.connect()
    await client.call(
      QUEUE.declare,
      { ...EMPTY_QUEUE, queue: 'mine', exclusive: true },
      QUEUE.declareOk
    )
    const values = { replyCode: 200, replyText: 'bye', classId: 0, methodId: 0 }
    await client.call(CONNECTION.close, values, CONNECTION.closeOk, 0)
    const other = await gateway.connect()
    other.method(QUEUE.declare, 1, { ...EMPTY_QUEUE, queue: 'mine', passive: true })
    expect((await other.expect(CHANNEL.close)).replyCode).toBe(404)
    client.socket.end()
    await client.ended()
  })

  it('leaves the end of the socket to the client: another close is answered, the rest thrown away', async () => {
    const client = await gateway.connect()
    const values = { replyCode: 200, replyText: 'bye', classId: 0, methodId: 0 }
    await client.call(CONNECTION.close, values, CONNECTION.closeOk, 0)
    client.send(...publishFrames('', 'q', Buffer.from('x')), rawFrame(8, 0, Buffer.alloc(0)))
    await client.call(CONNECTION.close, values, CONNECTION.closeOk, 0)
    gateway.pass(29)
    await client.call(CONNECTION.close, values, CONNECTION.closeOk, 0)
    gateway.pass(1)
    await client.ended()
  })

  it('before the login is over ends the socket', async () => {
    const client = await gateway.dial()
    client.send(PROTOCOL_HEADER)
    await client.expect(CONNECTION.start, 0)
    const values = { replyCode: 200, replyText: 'bye', classId: 0, methodId: 0 }
    await client.call(CONNECTION.close, values, CONNECTION.closeOk, 0)
    await client.ended()
  })

  it('is sent with 320 to everybody when we stop', async () => {
    const client = await gateway.connect()
    gateway.amqp.close()
    expect((await client.expect(CONNECTION.close, 0)).replyText).toBe(
      "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'"
    )
    await client.ended()
  })
})
