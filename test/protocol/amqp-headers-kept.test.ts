/** What a publisher wrote into its properties arrives byte for byte, also where the broker had to write them anew. */
import { describe, expect, it, onTestFinished } from 'vitest'
import { BASIC, EXCHANGE, encodeMethod, QUEUE } from '../../src/amqp/codec/methods.ts'
import { bind, declare, declareExchange, later } from '../support/amqp-dead.ts'
import { AmqpGateway } from '../support/amqp-gateway.ts'
import { EXCHANGE_VALUES } from '../support/amqp-moves.ts'
import { type RawAmqp, rawFrame } from '../support/raw-amqp.ts'
import { text } from '../support/routing.ts'

const bytes = (...parts: (number | string | Buffer)[]): Buffer =>
  Buffer.concat(
    parts.map(part =>
      typeof part === 'number'
        ? Buffer.from([part])
        : typeof part === 'string'
          ? Buffer.from(part, 'latin1')
          : part
    )
  )

function long(content: Buffer): Buffer {
  const length = Buffer.alloc(4)
  length.writeUInt32BE(content.length)
  return Buffer.concat([length, content])
}

const short = (content: string): Buffer => bytes(content.length, content)
const entry = (name: string, ...value: (number | string | Buffer)[]): Buffer =>
  bytes(short(name), ...value)

const NO_UTF8 = '\xff\xfe\x00\x80'

/** One of each type; long strings that are no text, arrays in arrays, a name twice. */
const ENTRIES = [
  entry('t', 't', 1),
  entry('b', 'b', 0xff),
  entry('B', 'B', 0xff),
  entry('s', 's\xff\xfe'),
  entry('u', 'u\xff\xfe'),
  entry('I', 'I\x80\0\0\0'),
  entry('i', 'i\xff\xff\xff\xff'),
  entry('l', 'l\x80\0\0\0\0\0\0\0'),
  entry('f', 'f\x3f\xc0\0\0'),
  entry('d', 'd\x80\0\0\0\0\0\0\0'),
  entry('D', 'D\x02\xff\xff\xff\xff'),
  entry('S', 'S', long(Buffer.from('Grüße, 東京 \0'))),
  entry('bytes in S', 'S', long(bytes(NO_UTF8))),
  entry('S', 'S', long(Buffer.alloc(0))),
  entry('A', 'A', long(bytes('A', long(bytes('A', long(bytes('V', 'I\0\0\0\x01'))))))),
  entry('T', 'T\xff\xff\xff\xff\xff\xff\xff\xff'),
  entry('F', 'F', long(entry('F', 'F', long(entry('x', 'S', long(bytes(NO_UTF8))))))),
  entry('V', 'V'),
  entry('x', 'x', long(bytes(NO_UTF8))),
  // What stands for properties of MQTT is a header like any other between AMQP clients.
  entry('x-reply-to-topic', 'S', long(bytes('a.b'))),
  entry('x-content-type', 'S', long(bytes('other'))),
  entry('x-correlation-id', 'x', long(bytes('other')))
]
const ITEMS = bytes(...ENTRIES)

/** Every property but headers, delivery mode and expiration, none of the short strings UTF-8. */
const BEFORE = bytes(short(`type${NO_UTF8}`), short(NO_UTF8.repeat(60)))
const BEHIND = bytes(
  7,
  short(NO_UTF8),
  short(`reply${NO_UTF8}`),
  short(`id${NO_UTF8}`),
  '\xff\xff\xff\xff\xff\xff\xff\xff',
  short(`kind${NO_UTF8}`),
  short('guest'),
  short(`app${NO_UTF8}`),
  short(`cluster${NO_UTF8}`)
)
const FLAGS = 0xfefc

function propertiesWith(items: Buffer): Buffer {
  const flags = Buffer.alloc(2)
  flags.writeUInt16BE(FLAGS)
  return bytes(flags, BEFORE, long(items), 2, BEHIND)
}

function send(client: RawAmqp, exchange: string, routingKey: string, items: Buffer): void {
  const values = { reserved: 0, exchange, routingKey, mandatory: false, immediate: false }
  const properties = propertiesWith(items)
  const header = Buffer.alloc(12)
  header.writeUInt16BE(60, 0)
  header.writeUInt32BE(4, 8)
  client.send(
    encodeMethod(BASIC.publish, 1, values),
    rawFrame(2, 1, Buffer.concat([header, properties])),
    rawFrame(3, 1, Buffer.from('body'))
  )
}

async function get(client: RawAmqp, queue: string) {
  client.method(BASIC.get, 1, { reserved: 0, queue, noAck: false })
  return await client.content(BASIC.getOk)
}

async function open(): Promise<RawAmqp> {
  const gateway = await new AmqpGateway().start()
  onTestFinished(() => gateway.close())
  return await gateway.connect()
}

/** All but the headers is the same, and of these all that were published, before others or (sorted) among them. */
function expectKept(properties: Buffer, isSorted = false): void {
  const before = 2 + BEFORE.length
  expect(properties.subarray(0, before)).toEqual(propertiesWith(ITEMS).subarray(0, before))
  if (!isSorted) {
    expect(properties.subarray(before + 4, before + 4 + ITEMS.length)).toEqual(ITEMS)
  }
  for (const each of ENTRIES) expect(properties.includes(each), each.toString('latin1')).toBe(true)
  expect(properties.subarray(-BEHIND.length)).toEqual(BEHIND)
}

const BCC = entry('BCC', 'A', long(bytes('S', long(bytes('other')))))

describe('properties of every type', () => {
  it('delivered, and delivered again', async () => {
    const client = await open()
    await declare(client, 'q')
    send(client, '', 'q', ITEMS)
    expect((await get(client, 'q')).properties).toEqual(propertiesWith(ITEMS))
    client.method(BASIC.reject, 1, { deliveryTag: 1, requeue: true })
    expect((await get(client, 'q')).properties).toEqual(propertiesWith(ITEMS))
  })

  it('in a dead letter', async () => {
    const client = await open()
    await declare(client, 'dead')
    await declare(client, 'q', {
      'x-dead-letter-exchange': '',
      'x-dead-letter-routing-key': 'dead'
    })
    send(client, '', 'q', ITEMS)
    await get(client, 'q')
    client.method(BASIC.reject, 1, { deliveryTag: 1, requeue: false })
    await later(20)
    expectKept((await get(client, 'dead')).properties, true)
  })

  it('with a delivery count', async () => {
    const client = await open()
    await declare(client, 'q', { 'x-delivery-limit': 5 })
    send(client, '', 'q', ITEMS)
    await get(client, 'q')
    client.method(BASIC.reject, 1, { deliveryTag: 1, requeue: true })
    expectKept((await get(client, 'q')).properties)
  })

  it('without their BCC', async () => {
    const client = await open()
    await declare(client, 'q')
    send(client, '', 'q', bytes(ITEMS, BCC))
    expect((await get(client, 'q')).properties).toEqual(propertiesWith(ITEMS))
  })

  it('held back for a while', async () => {
    const client = await open()
    const table = [['x-delayed-type', text('fanout')]] as const
    const values = { ...EXCHANGE_VALUES, exchange: 'e', type: 'x-delayed-message' }
    await client.call(EXCHANGE.declare, { ...values, arguments: table }, EXCHANGE.declareOk)
    await declare(client, 'q')
    await bind(client, 'q', 'e', '')
    send(client, 'e', '', bytes(ITEMS, entry('x-delay', 'I\0\0\0\0')))
    expectKept((await get(client, 'q')).properties)
  })

  it('a routing key that is no UTF-8, in a dead letter', async () => {
    const client = await open()
    await declareExchange(client, 'dlx', 'fanout')
    await declareExchange(client, 'e', 'fanout')
    await declare(client, 'dead')
    await bind(client, 'dead', 'dlx', '')
    await declare(client, 'q', { 'x-dead-letter-exchange': 'dlx', 'x-max-length': 0 })
    await bind(client, 'q', 'e', '')
    const key = bytes(`k${NO_UTF8}`)
    const method = bytes('\0\x3c\0\x28\0\0\x01e', key.length, key, 0)
    client.send(
      rawFrame(1, 1, method),
      rawFrame(2, 1, bytes('\0\x3c\0\0', Buffer.alloc(8), '\0\0'))
    )
    await later(20)
    client.method(BASIC.get, 1, { reserved: 0, queue: 'dead', noAck: true })
    const frame = await client.frame()
    expect(frame?.payload.includes(bytes(key.length, key))).toBe(true)
  })
})

describe('the letters of the 0-9-1 document', () => {
  it('L, which py-amqp writes for integers above 32 bits, and U are read', async () => {
    const client = await open()
    await declare(client, 'q')
    const items = bytes(entry('L', 'L\0\0\x01\0\0\0\0\0'), entry('U', 'U\xff\xfe'))
    send(client, '', 'q', items)
    expect((await get(client, 'q')).properties).toEqual(propertiesWith(items))
    const args = long(entry('x-message-ttl', 'L\0\0\0\0\0\0\x03\xe8'))
    client.send(rawFrame(1, 1, bytes('\0\x32\0\x0a\0\0\x01r\0', args)))
    await client.expect(QUEUE.declareOk)
    await declare(client, 'r', { 'x-message-ttl': 1_000 })
  })
})
