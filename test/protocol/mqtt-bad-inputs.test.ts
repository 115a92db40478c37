/** What each malformed or forbidden input costs its sender, and that it costs nobody else anything. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Credentials } from '../../src/auth/authenticator.ts'
import { Principal } from '../../src/core/principal.ts'
import { Gateway } from '../support/gateway.ts'
import { type Bytes, bytes, packet, type RawMqtt, text } from '../support/raw-mqtt.ts'

let gateway: Gateway
let witness: RawMqtt

const RULES = [
  { effect: 'deny', access: 'readwrite', filter: 'secret/#' },
  { effect: 'allow', access: 'readwrite', filter: '#' }
] as const

/** Anonymous may do everything; `bob` has rules; `mallory` is refused, `busy` has to wait. */
function authenticate({ username }: Credentials) {
  const name = username ?? ''
  if (name === 'mallory') return Promise.resolve({ ok: false, reason: 'bad-credentials' } as const)
  if (name === 'busy') return Promise.resolve({ ok: false, reason: 'busy' } as const)
  const isFree = name === ''
  const principal = new Principal(name, [], '/', [], isFree ? [] : RULES, isFree)
  return Promise.resolve({ ok: true, principal } as const)
}

beforeAll(async () => {
  gateway = await new Gateway({ authenticate }).start()
  witness = await gateway.dial()
  await witness.connect(4, { clientId: 'witness' })
})
afterAll(async () => {
  await witness.quiet()
  expect(gateway.mqtt.bugs).toBe(0)
  await gateway.close()
})

const hex = (buffer: Buffer) => buffer.toString('hex')
const A = text('a')
let count = 0

async function open(version: 4 | 5, options: object = {}): Promise<RawMqtt> {
  const raw = await gateway.dial()
  const connack = await raw.connect(version, { clientId: `c${count++}`, ...options })
  expect(connack[3]).toBe(0)
  return raw
}

/** What comes back before the close, in hexadecimal. */
async function answers(raw: RawMqtt, ...parts: Bytes[]): Promise<string[]> {
  raw.send(...parts)
  return (await raw.rest()).map(hex)
}

async function first(...parts: Bytes[]): Promise<string[]> {
  return await answers(await gateway.dial(), ...parts)
}

function connect(level: number, flags: number, ...payload: Bytes[]): Buffer {
  return packet(0x10, text('MQTT'), [level, flags, 0, 60], level === 5 ? '00' : '', ...payload)
}

describe('before CONNECT', () => {
  it.each([
    ['B01', bytes('10 ff ff ff ff 7f')],
    ['B03', bytes('10 ff ff ff 7f')],
    ['B09', Buffer.from('GET / HTTP/1.1\r\n\r\n')],
    ['B09, first byte', Buffer.from('G')],
    ['B10', Buffer.from('AMQP\0\0\x09\x01')],
    ['B10', bytes('16 03 01 02 00')],
    ['B13', packet(0x30, A)],
    ['B13', packet(0x82, '00 01', A, '00')],
    ['B13', bytes('c0 00')],
    ['B13', bytes('f0 00')]
  ])('%s closes, and nothing is sent', async (_id, input) => {
    expect(await first(input)).toEqual([])
  })

  it('at most 8 MiB are held for all together', async () => {
    const strangers: RawMqtt[] = []
    const chunk = Buffer.concat([bytes('10 f0 ff 03'), Buffer.alloc(60_000)])
    for (let i = 0; i < 180; i++) {
      const raw = await gateway.dial()
      raw.send(chunk)
      strangers.push(raw)
    }
    const closed = await Promise.race(strangers.slice(100).map(raw => raw.rest()))
    expect(closed).toEqual([])
    for (const raw of strangers) raw.destroy()
    await witness.quiet()
  })
})

describe('CONNECT', () => {
  it.each([
    ['B15', packet(0x10, text('MQTTT'), '04 02 00 3c', A), []],
    ['B15', packet(0x10, text('mqtt'), '04 02 00 3c', A), []],
    ['B15', packet(0x10, text('MQIsdp'), '04 02 00 3c', A), []],
    ['B16', connect(0, 2, A), ['20020001']],
    ['B16', connect(3, 2, A), ['20020001']],
    ['B16', connect(6, 2, A), ['2003008400']],
    ['B16', connect(255, 2, A), ['2003008400']],
    ['B17', connect(4, 3, A), []],
    ['B17, version 5', connect(5, 3, A), ['2003008100']],
    ['B18', connect(4, 0x1e, A, A, A), []],
    ['B18, version 5', connect(5, 0x1e, A, '00', A, A), ['2003008100']],
    ['B20', connect(4, 0x42, A, A), []],
    ['B21', connect(4, 0, text('')), ['20020002']],
    ['B21, version 3.1', packet(0x10, text('MQIsdp'), '03 02 00 3c', text('')), ['20020002']],
    ['B22', connect(4, 2, text('a\0')), []],
    ['B22', connect(4, 2, text('x'.repeat(257))), ['20020002']],
    ['B22, version 5', connect(5, 2, text('x'.repeat(257))), ['2003008500']],
    ['B23', connect(4, 6, A, text('a/+'), A), []],
    ['B23', connect(4, 6, A, text(''), A), []],
    ['B23', connect(4, 6, A, text('$SYS/x'), A), ['20020005']],
    ['B23, version 5', connect(5, 6, A, '00', text('a/#'), A), ['2003009000']],
    ['B23, version 5', connect(5, 6, A, '00', text('$share/g/x'), A), ['2003008700']],
    ['B24', connect(4, 0x86, text('w'), text('secret/w'), A, text('bob')), ['20020005']],
    [
      'B24, version 5',
      connect(5, 0x86, text('w'), '00', text('secret/w'), A, text('bob')),
      ['2003008700']
    ],
    ['B28', packet(0x10, text('MQTT'), '05 02 00 3c 03 23 00 01', A), ['2003008100']],
    ['B29', packet(0x10, text('MQTT'), '05 02 00 3c 7f', A), ['2003008100']],
    ['B31', packet(0x10, text('MQTT'), '05 02 00 3c 04 16 00 01 00', A), ['2003008200']],
    ['B32', packet(0x10, text('MQTT'), '05 02 00 3c 06 15 00 03 4b 52 42', A), ['2003008c00']],
    ['B34', connect(4, 0x82, A, text(bytes('ff'))), []],
    ['bad password', connect(4, 0x82, A, text('mallory')), ['20020004']],
    ['bad password, version 5', connect(5, 0x82, A, text('mallory')), ['2003008600']],
    ['too many logins', connect(4, 0x82, A, text('busy')), ['20020003']],
    ['too many logins, version 5', connect(5, 0x82, A, text('busy')), ['2003008900']]
  ])('%s is answered, and closed', async (_id, input, expected) => {
    expect(await first(input)).toEqual(expected)
  })

  it('a second one ends the connection, and its will is published [B14]', async () => {
    await watch('will/14')
    const will = { topic: 'will/14', payload: Buffer.from('x'), qos: 0 as const, retain: false }
    expect(await answers(await open(4, { will }), connect(4, 2, A))).toEqual([])
    expect((await witness.next())[0]).toBe(0x30)
    expect(await answers(await open(5), connect(5, 2, A))).toEqual(['e00182'])
  })

  it('with the client id of another user is refused, the other stays [B37]', async () => {
    const victim = await open(4, { clientId: 'victim' })
    expect(await first(connect(4, 0x82, text('victim'), text('bob')))).toEqual(['20020002'])
    expect(await first(connect(5, 0x82, text('victim'), text('bob')))).toEqual(['2003008500'])
    await victim.quiet()
  })

  it('with a will without payload is taken, and the will is delivered [B62]', async () => {
    await watch('will/62')
    const raw = await gateway.dial()
    raw.send(connect(4, 6, text('empty'), text('will/62'), text('')))
    expect(hex(await raw.next())).toBe('20020000')
    raw.destroy()
    expect(hex(await witness.next())).toBe(hex(packet(0x30, text('will/62'))))
  })
})

async function watch(filter: string): Promise<void> {
  witness.send(packet(0x82, '00 01', text(filter), '00'))
  expect(hex(await witness.next())).toBe('9003000100')
}

/** Input, and the reason of version 5's DISCONNECT; `five` where version 5 writes it otherwise. */
const CLOSES: [id: string, four: Buffer | null, five: Buffer | null, reason: number][] = [
  ['B01', bytes('30 ff ff ff ff 7f'), bytes('30 ff ff ff ff 7f'), 0x81],
  ['B02', bytes('30 80 00'), bytes('30 80 00'), 0x81],
  ['B04', bytes('30 ff ff 7f'), bytes('30 ff ff ff 7f'), 0x95],
  ['B06', bytes('00 00'), bytes('00 00'), 0x81],
  ['B06', bytes('f0 00'), null, 0],
  ['B07', bytes('80 00'), bytes('80 00'), 0x81],
  ['B07, UNSUBSCRIBE', bytes('a0 00'), bytes('a0 00'), 0x81],
  ['B07, PUBREL', bytes('60 02 00 01'), bytes('60 02 00 01'), 0x81],
  ['B07, DISCONNECT', bytes('e1 00'), bytes('e1 00'), 0x81],
  ['B07, PINGREQ', bytes('c5 00'), bytes('c5 00'), 0x81],
  ['B08, CONNACK', bytes('20 02 00 00'), bytes('20 03 00 00 00'), 0x82],
  ['B08, SUBACK', bytes('90 03 00 01 00'), bytes('90 04 00 01 00 00'), 0x82],
  ['B08, UNSUBACK', bytes('b0 02 00 01'), bytes('b0 04 00 01 00 00'), 0x82],
  ['B08, PINGRESP', bytes('d0 00'), bytes('d0 00'), 0x82],
  ['B33', null, bytes('f0 00'), 0x82],
  ['B39', bytes('36 03 00 01 61'), bytes('36 04 00 01 61 00'), 0x81],
  ['B40', bytes('38 03 00 01 61'), bytes('38 04 00 01 61 00'), 0x81],
  ['B41', packet(0x30, text('')), packet(0x30, text(''), '00'), 0x82],
  ['B42', packet(0x30, text('a/+')), packet(0x30, text('a/+'), '00'), 0x90],
  ['B43', packet(0x30, text('\0')), packet(0x30, text(bytes('c0 af')), '00'), 0x81],
  ['B45', packet(0x30, text('/'.repeat(201))), packet(0x30, text('/'.repeat(201)), '00'), 0x90],
  ['B46', bytes('30 03 00 09 61'), bytes('30 03 00 09 61'), 0x81],
  ['B47', packet(0x32, A, '00 00'), packet(0x32, A, '00 00 00'), 0x81],
  ['B48', null, packet(0x30, A, '03 23 00 00'), 0x94],
  ['B48', null, packet(0x30, text(''), '03 23 00 05'), 0x94],
  ['B50', null, packet(0x30, A, '02 0b 01'), 0x82],
  ['B56', null, packet(0x30, A, '06 08 00 03', Buffer.from('a/#')), 0x82],
  ['B63', packet(0x82, '00 01'), packet(0x82, '00 01 00'), 0x82],
  ['B64', packet(0x82, '00 01', A, '03'), packet(0x82, '00 01 00', A, '03'), 0x81],
  ['B70', null, packet(0x82, '00 01 00', text('$share/g/a'), '04'), 0x82],
  ['B74', null, packet(0x82, '00 01 02 0b 00', A, '00'), 0x82],
  ['PINGREQ with a body', bytes('c0 01 00'), bytes('c0 01 00'), 0x81]
]

describe('a client that is logged in', () => {
  it.each(CLOSES.filter(([, four]) => four !== null))(
    '%s closes version 3.1.1, and nothing is sent',
    async (_id, four) => {
      expect(await answers(await open(4), four!)).toEqual([])
    }
  )

  it.each(CLOSES.filter(([, , five]) => five !== null))(
    '%s closes version 5 with the reason',
    async (_id, _four, five, reason) => {
      const disconnect = hex(packet(0xe0, [reason]))
      expect(await answers(await open(5), five!)).toEqual([disconnect])
    }
  )

  it('may not have more open than our receive maximum in version 5 [B51]', async () => {
    const raw = await open(5)
    const publishes: Buffer[] = []
    for (let id = 1; id <= 1001; id++) {
      publishes.push(packet(0x34, A, [id >> 8, id & 255], '00'))
    }
    const seen = await answers(raw, ...publishes)
    expect(seen.length).toBe(1001)
    expect(seen[0]).toBe('50020001')
    expect(seen.at(-1)).toBe('e00193')
  })

  it('may use every QoS 2 identifier in version 3.1.1, and the first again after its PUBREL', async () => {
    const raw = await open(4)
    for (let id = 1; id <= 65_535; id++) raw.socket.write(packet(0x34, A, [id >> 8, id & 255]))
    for (let id = 1; id <= 65_535; id++) expect((await raw.next())[0]).toBe(0x50)
    raw.send('62 02 00 01')
    expect(hex(await raw.next())).toBe('70020001')
  })

  it('publishes to $ topics for nothing [B61]', async () => {
    const four = await open(4)
    const five = await open(5)
    for (const topic of ['$SYS/x', '$share/g/x', '$CONTROL/x']) {
      four.send(packet(0x32, text(topic), '00 01'))
      expect(hex(await four.next())).toBe('40020001')
      five.send(packet(0x32, text(topic), '00 01 00'))
      expect(hex(await five.next())).toBe('4003000187')
    }
  })

  it('is told what it may not do, and is not closed', async () => {
    const four = await open(4, { username: 'bob' })
    const five = await open(5, { username: 'bob' })
    const before = gateway.broker.counters.dropped.get('not_authorized')!
    four.send(packet(0x32, text('secret/a'), '00 01'), packet(0x34, text('secret/a'), '00 02'))
    expect(hex(await four.next())).toBe('40020001')
    expect(hex(await four.next())).toBe('50020002')
    five.send(
      packet(0x32, text('secret/a'), '00 01 00'),
      packet(0x34, text('secret/a'), '00 02 00')
    )
    expect(hex(await five.next())).toBe('4003000187')
    expect(hex(await five.next())).toBe('5003000287')
    expect(gateway.broker.counters.dropped.get('not_authorized')! - before).toBe(4)
    four.send(packet(0x82, '00 03', text('secret/a'), '00'))
    expect(hex(await four.next())).toBe('9003000380')
    five.send(packet(0x82, '00 03 00', text('secret/a'), '00'))
    expect(hex(await five.next())).toBe(hex(packet(0x90, '00 03 00 87')))
  })

  it('gets 0x8F or 0x80 for filters that are none [B65, B69]', async () => {
    const filters = ['a#', '#/a', 'a+/b', '', '$share//x', '$share/g', '$share/g+/x', '$share/g/']
    const four = await open(4)
    const five = await open(5)
    const list = (options: string) => filters.map(filter => bytes(text(filter), options))
    four.send(packet(0x82, '00 01', ...list('00')))
    expect(hex(await four.next())).toBe(
      hex(
        packet(
          0x90,
          '00 01',
          filters.map(() => 0x80)
        )
      )
    )
    five.send(packet(0x82, '00 01 00', ...list('00')))
    expect(hex(await five.next())).toBe(
      hex(
        packet(
          0x90,
          '00 01 00',
          filters.map(() => 0x8f)
        )
      )
    )
  })

  it('is closed without a word when its Maximum Packet Size holds no CONNACK', async () => {
    const raw = await gateway.dial()
    const properties = '05 27 00 00 00 04'
    raw.send(packet(0x10, text('MQTT'), '05 02 00 00', properties, text('tiny')))
    raw.send(packet(0x32, A, '00 01 00'))
    expect(await raw.rest()).toEqual([])
  })

  it('is closed by the keepalive when it stops within a packet [B05]', async () => {
    const raw = await open(4, { keepalive: 5 })
    const before = gateway.sockets.bytesIn
    raw.send('30 80 20 01 02 03')
    while (gateway.sockets.bytesIn < before + 6) await new Promise(setImmediate)
    gateway.pass(9)
    expect(await raw.rest()).toEqual([])
  })
})
