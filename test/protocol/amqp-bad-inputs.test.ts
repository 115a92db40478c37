/** Hostile and broken AMQP, one test for each case: what is answered, what closes, and what goes on. */
import { describe, expect, it } from 'vitest'
import { BASIC, CHANNEL, CONNECTION, EXCHANGE, QUEUE } from '../../src/amqp/codec/methods.ts'
import {
  AmqpBadInputs,
  closesChannel,
  closesConnection,
  type Verdict
} from '../support/amqp-bad-inputs.ts'
import {
  BIND_VALUES,
  CONSUME_VALUES,
  declareQueue,
  EXCHANGE_VALUES,
  nothingMore,
  QUEUE_VALUES
} from '../support/amqp-moves.ts'
import { PROTOCOL_HEADER, publishFrames, type RawAmqp, rawFrame } from '../support/raw-amqp.ts'

const TUNED = { channelMax: 2047, frameMax: 131_072, heartbeat: 0 }
const PUBLISH = publishFrames('', 'q', Buffer.from('abc'))

/** A method frame of these bytes. */
const method = (...bytes: (number | Buffer)[]) =>
  rawFrame(
    1,
    1,
    Buffer.concat(bytes.map(part => (typeof part === 'number' ? Buffer.from([part]) : part)))
  )

/** queue.declare of `q` with this table, its length included. */
const declareWith = (table: Buffer) => method(Buffer.from([0, 50, 0, 10, 0, 0, 1, 0x71, 0]), table)

const NO_METHOD = 'UNEXPECTED_FRAME - expected method frame, got non method frame instead'
const NO_HEADER =
  'UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead'
const NO_BODY = 'UNEXPECTED_FRAME - expected content body, got non content body frame instead'

function contentHeader(size: bigint, classId = 60, weight = 0): Buffer {
  const header = Buffer.alloc(14)
  header.writeUInt16BE(weight, 2)
  header.writeUInt16BE(classId, 0)
  header.writeBigUInt64BE(size, 4)
  return rawFrame(2, 1, header)
}

function table(bytes: Buffer, length = bytes.length): Buffer {
  const head = Buffer.alloc(4)
  head.writeUInt32BE(length)
  return Buffer.concat([head, bytes])
}

function nested(depth: number, letter: 'F' | 'A'): Buffer {
  let inner: Buffer = table(Buffer.alloc(0))
  const head = Buffer.from(letter === 'F' ? '\x01kF' : 'A', 'latin1')
  for (let i = 1; i < depth; i++) inner = table(Buffer.concat([head, inner]))
  return letter === 'F' ? inner : table(Buffer.concat([Buffer.from('\x01kA', 'latin1'), inner]))
}

/** One connection that sends these bytes, and what ends it. */
async function ends(sent: Buffer[], verdict: Verdict, lines = 1): Promise<void> {
  const inputs = await AmqpBadInputs.start()
  await inputs.around(lines, async () => {
    const client = await inputs.gateway.connect()
    client.send(...sent)
    await closesConnection(client, verdict)
  })
}

describe('the beginning', () => {
  it.each([
    ['AMQP 1.0', Buffer.from('AMQP\x00\x01\x00\x00')],
    ['AMQP 0-10', Buffer.from('AMQP\x01\x01\x00\x0a')],
    ['HTTP', Buffer.from('GET / HTTP/1.1\r\n\r\n')],
    ['one foreign byte', Buffer.from('X')]
  ])('B92: a header of %s is answered by ours, then the end', async (_what, bytes) => {
    const inputs = await AmqpBadInputs.start()
    await inputs.around(0, async () => {
      const client = await inputs.gateway.dial()
      client.send(bytes)
      expect(await client.bytes(100)).toEqual(PROTOCOL_HEADER)
      await client.ended()
    })
  })

  it.each([0, 1, 4095, 131_073])('B94: a frame-max of %i in tune-ok is 530', async frameMax => {
    const inputs = await AmqpBadInputs.start()
    await inputs.around(1, async () => {
      const client = await inputs.gateway.dial()
      client.send(PROTOCOL_HEADER)
      await client.expect(CONNECTION.start, 0)
      client.startOk()
      await client.expect(CONNECTION.tune, 0)
      client.method(CONNECTION.tuneOk, 0, { ...TUNED, frameMax })
      await closesConnection(client, [530, /^NOT_ALLOWED - negotiated frame_max = /, '10.31'])
    })
  })

  it('B100: open before start-ok is 503', async () => {
    const inputs = await AmqpBadInputs.start()
    await inputs.around(1, async () => {
      const client = await inputs.gateway.dial()
      client.send(PROTOCOL_HEADER)
      await client.expect(CONNECTION.start, 0)
      client.method(CONNECTION.open, 0, { virtualHost: '/', reserved1: '', reserved2: false })
      const text = 'COMMAND_INVALID - unexpected method during the handshake'
      await closesConnection(client, [503, text, '10.40'])
    })
  })
})

describe('frames', () => {
  it('B93: without their end marker are 501', async () => {
    const frame = rawFrame(1, 1, Buffer.from([0, 20, 0, 20, 1]), 0xcd)
    await ends([frame], [501, 'FRAME_ERROR - frame without its end marker', '0.0'])
  })

  it('B94: above frame-max are 501 at their head, before anything of them is kept', async () => {
    const text = 'FRAME_ERROR - frame of 16777216 bytes, at most 131072 are taken'
    await ends([Buffer.from([3, 0, 1, 1, 0, 0, 0])], [501, text, '0.0'])
  })

  it.each<[string, Buffer[], Verdict]>([
    ['type 4 on a channel', [rawFrame(4, 1, Buffer.alloc(1))], [501, /^FRAME_ERROR - /, '0.0']],
    ['type 4 on channel 0', [rawFrame(4, 0, Buffer.alloc(1))], [501, /^FRAME_ERROR - /, '0.0']],
    [
      'a heartbeat on channel 1',
      [rawFrame(8, 1, Buffer.alloc(0))],
      [505, 'UNEXPECTED_FRAME - frame of type 8 on a channel', '0.0']
    ],
    [
      'a heartbeat with a payload',
      [rawFrame(8, 0, Buffer.from('x'))],
      [501, 'FRAME_ERROR - frame of type 8 on channel 0', '0.0']
    ],
    [
      'a heartbeat with a payload on channel 1',
      [rawFrame(8, 1, Buffer.from('x'))],
      [501, 'FRAME_ERROR - frame of type 8 on a channel', '0.0']
    ]
  ])('B98: %s', async (_what, sent, verdict) => {
    await ends(sent, verdict)
  })

  it('B98: heartbeats that are missed for two intervals end the connection', async () => {
    const inputs = await AmqpBadInputs.start()
    await inputs.around(1, async () => {
      const client = await inputs.gateway.connect({ heartbeat: 10 })
      inputs.gateway.pass(22)
      await client.ended()
    })
  })

  it.each<[string, Buffer[], Verdict]>([
    ['a body first', [PUBLISH[2]!], [505, NO_METHOD, '0.0']],
    ['a header first', [PUBLISH[1]!], [505, NO_METHOD, '0.0']],
    [
      'a body on a channel that is not open',
      [rawFrame(3, 7, Buffer.from('x'))],
      [505, NO_METHOD, '0.0']
    ],
    ['a body in place of the header', [PUBLISH[0]!, PUBLISH[2]!], [505, NO_HEADER, '60.40']],
    [
      'a header in place of the body',
      [PUBLISH[0]!, PUBLISH[1]!, PUBLISH[1]!],
      [505, NO_BODY, '60.40']
    ],
    ['a method in place of the header', [PUBLISH[0]!, PUBLISH[0]!], [505, NO_HEADER, '60.40']],
    [
      'a method in place of the body',
      [PUBLISH[0]!, PUBLISH[1]!, PUBLISH[0]!],
      [505, NO_BODY, '60.40']
    ],
    ['a weight other than 0', [PUBLISH[0]!, contentHeader(3n, 60, 1)], [505, NO_HEADER, '60.40']],
    [
      'a header of the queue class',
      [PUBLISH[0]!, contentHeader(3n, 50)],
      [505, NO_HEADER.replace('non content header frame', 'one for class 50'), '60.40']
    ],
    [
      'more body than the header announced',
      [PUBLISH[0]!, PUBLISH[1]!, rawFrame(3, 1, Buffer.from('abcd'))],
      [501, 'FRAME_ERROR - content body longer than its header announced', '60.40']
    ],
    [
      'a size of 2^63',
      [PUBLISH[0]!, contentHeader(2n ** 63n)],
      [501, /^FRAME_ERROR - content of 92233\d+ bytes$/, '60.40']
    ],
    [
      'a header cut short',
      [PUBLISH[0]!, rawFrame(2, 1, Buffer.from([0, 60, 0, 0, 0]))],
      [502, 'SYNTAX_ERROR - content header cut short', '60.40']
    ]
  ])('B96: %s', async (_what, sent, verdict) => {
    await ends(sent, verdict)
  })

  it('B96: a message above the largest size is 406, and costs the channel only', async () => {
    const inputs = await AmqpBadInputs.start()
    await inputs.around(1, async () => {
      const client = await inputs.gateway.connect()
      client.send(PUBLISH[0]!, contentHeader(16n * 1024n * 1024n + 1n))
      for (let i = 0; i < 20; i++) client.send(rawFrame(3, 1, Buffer.alloc(100_000)))
      const text =
        'PRECONDITION_FAILED - message size 16777217 is larger than configured max size 16777216'
      await closesChannel(client, [406, text, '60.40'])
    })
  })
})

describe('field tables', () => {
  const DECLARE = '50.10'

  it.each<[string, Buffer, string]>([
    ['tables nested 10,000 deep', nested(10_000, 'F'), 'field table nested too deeply'],
    ['arrays nested 10,000 deep', nested(10_000, 'A'), 'field table nested too deeply'],
    ['33 deep', nested(33, 'F'), 'field table nested too deeply'],
    ['a length beyond the method', table(Buffer.alloc(4), 5), 'method cut short'],
    ['a length of 2^32 - 1', table(Buffer.alloc(4), 0xffffffff), 'method cut short'],
    ['a length within its last value', table(Buffer.from('\x01kS\0\0\0\x01a'), 7), 'field value'],
    ['a long string beyond its table', table(Buffer.from('\x01kS\0\0\0\x09a')), 'field value'],
    ['a long string of 2^32 - 1', table(Buffer.from('\x01kS\xff\xff\xff\xffa', 'latin1')), 'field'],
    ['a table beyond its table', table(Buffer.from('\x01kF\0\0\0\x09a')), 'field table longer'],
    ['a name beyond its table', table(Buffer.from('\x40kV')), 'field table cut short'],
    ['a name without a value', table(Buffer.from('\x01k')), 'field table cut short'],
    ['an integer cut short', table(Buffer.from('\x01kl\0\0')), 'field value longer'],
    ['an unknown type', table(Buffer.from('\x01kz')), 'unknown field type 122']
  ])('B97: %s', async (_what, bytes, text) => {
    const verdict = [502, new RegExp(`^SYNTAX_ERROR - ${text}`), DECLARE] as const
    await ends([declareWith(bytes)], verdict)
  })

  it('B97: as many names as a frame holds, all the same, are read', async () => {
    const inputs = await AmqpBadInputs.start()
    await inputs.around(0, async () => {
      const client = await inputs.gateway.connect()
      client.send(declareWith(table(Buffer.concat(Array(40_000).fill(Buffer.from('\x01kV'))))))
      await client.expect(QUEUE.declareOk)
      await client.call(QUEUE.delete, { ...DELETE, queue: 'q' }, QUEUE.deleteOk)
    })
  })

  it('B97: 32 deep is read', async () => {
    const inputs = await AmqpBadInputs.start()
    await inputs.around(0, async () => {
      const client = await inputs.gateway.connect()
      client.send(declareWith(nested(32, 'F')))
      await client.expect(QUEUE.declareOk)
    })
  })

  it('B97: a bomb in the headers of a message, or in client-properties', async () => {
    const inputs = await AmqpBadInputs.start()
    const bomb = nested(1_000, 'F')
    await inputs.around(1, async () => {
      const client = await inputs.gateway.connect()
      const header = Buffer.concat([Buffer.alloc(12), Buffer.from([0x20, 0]), bomb])
      header.writeUInt16BE(60, 0)
      client.send(PUBLISH[0]!, rawFrame(2, 1, header))
      const text = 'SYNTAX_ERROR - field table nested too deeply'
      await closesConnection(client, [502, text, '60.40'])
    })
    await inputs.around(1, async () => {
      const client = await inputs.gateway.dial()
      client.send(PROTOCOL_HEADER)
      await client.expect(CONNECTION.start, 0)
      client.send(rawFrame(1, 0, Buffer.concat([Buffer.from([0, 10, 0, 11]), bomb])))
      const text = 'SYNTAX_ERROR - field table nested too deeply'
      await closesConnection(client, [502, text, '10.11'])
    })
  })
})

const DELETE = { reserved: 0, queue: 'q', ifUnused: false, ifEmpty: false, noWait: false }

describe('methods', () => {
  it.each<[string, Buffer[], Verdict]>([
    ['class 99', [method(0, 99, 0, 1)], [540, 'NOT_IMPLEMENTED - unknown method 99.1', '99.1']],
    [
      'a method that does not exist',
      [method(0, 60, 0, 99)],
      [503, 'COMMAND_INVALID - unknown method 60.99', '60.99']
    ],
    [
      'a method of the server',
      [method(0, 50, 0, 11, Buffer.alloc(9))],
      [503, 'COMMAND_INVALID - unimplemented method', '50.11']
    ],
    [
      'a publish before channel.open',
      publishFrames('', 'q', Buffer.from('x'), { channel: 2 }),
      [504, "CHANNEL_ERROR - expected 'channel.open'", '60.40']
    ],
    [
      'a second channel.open',
      [method(0, 20, 0, 10, 0)],
      [504, "CHANNEL_ERROR - second 'channel.open' seen", '20.10']
    ],
    [
      'a method with a byte too many',
      [method(0, 20, 0, 20, 1, 1)],
      [502, 'SYNTAX_ERROR - method longer than its arguments', '20.20']
    ]
  ])('B100: %s', async (_what, sent, verdict) => {
    await ends(sent, verdict)
  })

  it('B99: an unknown tag, a tag twice, and that of another channel are 406', async () => {
    const inputs = await AmqpBadInputs.start()
    await inputs.around(3, async () => {
      const client = await inputs.gateway.connect()
      await declareQueue(client)
      const unknown = (tag: number): Verdict => [
        406,
        `PRECONDITION_FAILED - unknown delivery tag ${tag}`,
        '60.80'
      ]
      client.method(BASIC.ack, 1, { deliveryTag: 7, multiple: false })
      await closesChannel(client, unknown(7))
      client.publish('', 'q', 'x')
      client.method(BASIC.get, 1, { reserved: 0, queue: 'q', noAck: false })
      await client.content(BASIC.getOk)
      await client.openChannel(2)
      client.method(BASIC.ack, 2, { deliveryTag: 1, multiple: false })
      await closesChannel(client, unknown(1), 2)
      client.method(BASIC.ack, 1, { deliveryTag: 1, multiple: false })
      client.method(BASIC.ack, 1, { deliveryTag: 1, multiple: false })
      await closesChannel(client, unknown(1))
      await client.call(QUEUE.delete, DELETE, QUEUE.deleteOk)
    })
  })

  it('B101: a mismatch is 406, a reserved name 403, the exclusive queue of another 405', async () => {
    const inputs = await AmqpBadInputs.start()
    await inputs.around(3, async () => {
      const owner = await inputs.gateway.connect()
      await declareQueue(owner)
      await declareQueue(owner, { queue: 'mine', exclusive: true })
      const client = await inputs.gateway.connect()
      client.method(QUEUE.declare, 1, { ...QUEUE_VALUES, durable: true })
      await closesChannel(client, [
        406,
        /^PRECONDITION_FAILED - inequivalent arg 'durable'/,
        '50.10'
      ])
      client.method(QUEUE.declare, 1, { ...QUEUE_VALUES, queue: 'amq.mine' })
      await closesChannel(client, [403, /^ACCESS_REFUSED - queue name 'amq.mine'/, '50.10'])
      client.method(QUEUE.declare, 1, { ...QUEUE_VALUES, queue: 'mine', exclusive: true })
      await closesChannel(client, [405, /^RESOURCE_LOCKED - .* locked queue 'mine'/, '50.10'])
    })
  })

  it.each<[string, Buffer, string]>([
    ['U+0000', Buffer.from('a\0b'), 'a name may not contain U+0000'],
    ['bytes that are not UTF-8', Buffer.from([0x61, 0xff]), 'a short string is not UTF-8'],
    ['a surrogate', Buffer.from([0xed, 0xa0, 0x80]), 'a short string is not UTF-8']
  ])('B101: %s in a name is 502', async (_what, bytes, text) => {
    const sent = method(0, 50, 0, 10, 0, 0, bytes.length, bytes, 0, Buffer.alloc(4))
    await ends([sent], [502, `SYNTAX_ERROR - ${text}`, '50.10'])
  })

  it('B101: a name longer than what carries it is 502; one of 255 bytes is taken', async () => {
    const name = Buffer.alloc(255, 'n')
    const sent = method(0, 50, 0, 10, 0, 0, 255, name.subarray(0, 254))
    await ends([sent], [502, 'SYNTAX_ERROR - method cut short', '50.10'])
    const inputs = await AmqpBadInputs.start()
    const client = await inputs.gateway.connect()
    await declareQueue(client, { queue: name.toString() })
  })
})

describe('topologies and open deliveries', () => {
  it('B102: queues and bindings above their limit are 406', async () => {
    const inputs = await AmqpBadInputs.start({ limits: { queuesMax: 3, bindingsMax: 2 } })
    await inputs.around(2, async () => {
      const client = await inputs.gateway.connect()
      await declareQueue(client)
      await declareQueue(client, { queue: 'r' })
      client.method(QUEUE.declare, 1, { ...QUEUE_VALUES, queue: 's' })
      await closesChannel(client, [406, /^PRECONDITION_FAILED - .*queues/, '50.10'])
      for (const routingKey of ['1', '2']) {
        await client.call(QUEUE.bind, { ...BIND_VALUES, routingKey }, QUEUE.bindOk)
      }
      client.method(QUEUE.bind, 1, { ...BIND_VALUES, routingKey: '3' })
      await closesChannel(client, [406, /^PRECONDITION_FAILED - .*bindings/, '50.20'])
      await declareQueue(client)
    })
  })

  it('B102: a message goes once round a cycle of exchanges, and once into each queue', async () => {
    const inputs = await AmqpBadInputs.start()
    await inputs.around(0, async () => {
      const client = await inputs.gateway.connect()
      const names = Array.from({ length: 50 }, (_, i) => `e${i}`)
      for (const exchange of names) {
        const values = { ...EXCHANGE_VALUES, exchange, type: 'fanout' }
        await client.call(EXCHANGE.declare, values, EXCHANGE.declareOk)
      }
      await declareQueue(client)
      for (const [i, source] of names.entries()) {
        for (const destination of [names[(i + 1) % 50]!, names[(i * 7) % 50]!]) {
          const between = { reserved: 0, routingKey: '', noWait: false, arguments: [] }
          await client.call(EXCHANGE.bind, { ...between, source, destination }, EXCHANGE.bindOk)
        }
        await client.call(QUEUE.bind, { ...BIND_VALUES, exchange: source }, QUEUE.bindOk)
      }
      client.publish('e0', 'k', 'round')
      const values = { ...QUEUE_VALUES, passive: true }
      const { messageCount } = await client.call(QUEUE.declare, values, QUEUE.declareOk)
      expect(messageCount).toBe(1)
      await client.call(QUEUE.delete, DELETE, QUEUE.deleteOk)
    })
  })

  it('B103: a consumer without a prefetch waits at the limit of open deliveries, and goes on', async () => {
    const inputs = await AmqpBadInputs.start({ limits: { channelUnackedMax: 1_000 } })
    await inputs.around(0, async () => {
      const client = await inputs.gateway.connect()
      await declareQueue(client)
      const frames = publishFrames('', 'q', Buffer.from('x'))
      for (let i = 0; i < 1_500; i++) client.send(...frames)
      await client.call(BASIC.consume, CONSUME_VALUES, BASIC.consumeOk)
      await deliveries(client, 1, 1_000)
      await nothingMore(client)
      client.method(BASIC.ack, 1, { deliveryTag: 400, multiple: true })
      await deliveries(client, 1_001, 1_400)
      await nothingMore(client)
      client.method(BASIC.ack, 1, { deliveryTag: 0, multiple: true })
      await deliveries(client, 1_401, 1_500)
      await client.call(CHANNEL.flow, { active: true }, CHANNEL.flowOk)
      await client.call(QUEUE.delete, DELETE, BASIC.cancel)
    })
  })
})

async function deliveries(client: RawAmqp, first: number, last: number): Promise<void> {
  for (let tag = first; tag <= last; tag++) {
    expect((await client.content(BASIC.deliver)).values.deliveryTag).toBe(tag)
  }
}
