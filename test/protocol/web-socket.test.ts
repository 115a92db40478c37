/** MQTT in WebSocket frames, well-formed and not. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Gateway } from '../support/gateway.ts'
import { bytes, packet, type RawMqtt, text } from '../support/raw-mqtt.ts'
import {
  BINARY,
  CLOSE,
  CONTINUATION,
  frame,
  PING,
  PONG,
  type RawWebSocket,
  TEXT
} from '../support/raw-web-socket.ts'
import { StagedGateway } from '../support/staged-gateway.ts'

let gateway: StagedGateway
/** Over TCP. */
let plain: RawMqtt
let count = 0

beforeAll(async () => {
  gateway = await new StagedGateway().start()
  await gateway.listen()
  plain = await gateway.dial()
  await plain.connect(4, { clientId: 'plain' })
})
afterAll(async () => {
  await plain.quiet()
  expect(gateway.mqtt.bugs).toBe(0)
  plain.destroy()
  await gateway.close()
  expect(gateway.sockets.preLoginBytes).toBe(0)
  expect(gateway.admission.open).toBe(0)
})

const CONNACK = '20020000'
const CONNACK_5 = 5

function connect(level = 4, flags = 2, ...payload: Uint8Array[]): Buffer {
  const properties = level === 5 ? '00' : ''
  const id = text(`w${count++}`)
  return packet(0x10, text('MQTT'), [level, flags, 0, 60], properties, id, ...payload)
}

const publish = (topic: string, payload: string | Uint8Array, first = 0x30) =>
  packet(first, text(topic), Buffer.from(payload as string))
const subscribe = (topic: string, qos = 0) => packet(0x82, '00 01', text(topic), [qos])
const PINGREQ = bytes('c0 00')

async function open(level = 4, flags = 2, ...payload: Uint8Array[]): Promise<RawWebSocket> {
  const client = await gateway.upgrade()
  client.send(frame(BINARY, connect(level, flags, ...payload)))
  await takeConnack(client, level)
  return client
}

async function takeConnack(client: RawWebSocket, level: number): Promise<void> {
  if (level !== CONNACK_5) {
    expect((await client.read(4)).toString('hex')).toBe(CONNACK)
    return
  }
  const head = await client.read(2)
  const body = await client.read(head[1]!)
  expect([head[0], body[1]]).toEqual([0x20, 0])
}

async function pings(client: RawWebSocket): Promise<void> {
  client.send(frame(BINARY, PINGREQ))
  expect((await client.read(2)).toString('hex')).toBe('d000')
}

/** The stranger's or the client's connection ends with this code. */
async function endsWith(client: RawWebSocket, code: number): Promise<void> {
  expect(await client.closeCode()).toBe(code)
  client.send(
    frame(CLOSE, [code >> 8, code & 255].length === 2 ? Buffer.from([code >> 8, code & 255]) : '')
  )
  await client.closed()
}

describe('B80 v3 [MQTT-6.0.0-1] [MQTT-6.0.0-2] v5 [MQTT-6.0.0-1] [MQTT-6.0.0-2]: packets', () => {
  it('may come a byte a frame', async () => {
    const client = await gateway.upgrade()
    const all = Buffer.concat([connect(), subscribe('bytes'), publish('bytes', 'hello')])
    client.send(...[...all].map(byte => frame(BINARY, [byte] as unknown as Uint8Array)))
    const wanted = `${CONNACK}9003000100${publish('bytes', 'hello').toString('hex')}`
    expect((await client.read(wanted.length / 2)).toString('hex')).toBe(wanted)
    client.destroy()
  })

  it('may come two a frame, and more', async () => {
    const client = await gateway.upgrade()
    client.send(frame(BINARY, Buffer.concat([connect(), subscribe('two'), PINGREQ, PINGREQ])))
    const wanted = `${CONNACK}9003000100d000d000`
    expect((await client.read(wanted.length / 2)).toString('hex')).toBe(wanted)
    client.destroy()
  })

  it('may be cut anywhere over frames', async () => {
    const all = Buffer.concat([subscribe('cut'), publish('cut', 'x'.repeat(300))])
    const client = await open()
    for (let at = 0, size = 1; at < all.length; at += size, size = (size * 7) % 23) {
      client.send(frame(BINARY, all.subarray(at, at + size)))
    }
    const wanted = Buffer.concat([bytes('90 03 00 01 00'), publish('cut', 'x'.repeat(300))])
    expect(await client.read(wanted.length)).toEqual(wanted)
    client.destroy()
  })

  it('may be fragmented, with empty fragments and control frames between', async () => {
    const client = await open()
    const all = Buffer.concat([subscribe('frag'), publish('frag', 'y')])
    client.send(frame(BINARY, all.subarray(0, 3), { isFinal: false }))
    client.send(frame(PING, 'are you there'), frame(CONTINUATION, '', { isFinal: false }))
    for (const byte of all.subarray(3)) {
      client.send(frame(CONTINUATION, Buffer.from([byte]), { isFinal: false }), frame(PONG, 'x'))
    }
    client.send(frame(CONTINUATION, ''))
    const pong = await client.nextFrame()
    expect([pong?.opcode, String(pong?.payload)]).toEqual([PONG, 'are you there'])
    const wanted = `9003000100${publish('frag', 'y').toString('hex')}`
    expect((await client.read(wanted.length / 2)).toString('hex')).toBe(wanted)
    client.destroy()
  })

  it('may come a byte a segment, handshake included', async () => {
    const client = await open()
    for (const byte of frame(BINARY, PINGREQ)) {
      client.send(Buffer.from([byte]))
      await new Promise(setImmediate)
    }
    expect((await client.read(2)).toString('hex')).toBe('d000')
    client.destroy()
  })

  it('may come right behind the handshake, in the same segment', async () => {
    const client = await gateway.upgrade({ behind: frame(BINARY, connect()) })
    expect(client.status).toBe(101)
    expect((await client.read(4)).toString('hex')).toBe(CONNACK)
    client.destroy()
  })

  it('in empty messages are none', async () => {
    const client = await open()
    for (let i = 0; i < 100; i++) client.send(frame(BINARY))
    await pings(client)
    client.destroy()
  })

  it('as large as allowed pass in one message and in a thousand', async () => {
    const client = await open()
    client.send(frame(BINARY, subscribe('large')))
    await client.read(5)
    const size = gateway.broker.limits.mqttPacketBytesMax
    const large = publish('large', Buffer.alloc(size - 4 - 2 - 5, 7))
    expect(large.length).toBe(size)
    client.send(frame(BINARY, large))
    expect((await client.read(size)).equals(large)).toBe(true)
    const part = Math.ceil(size / 1_000)
    for (let at = 0; at < size; at += part) {
      const isFinal = at + part >= size
      const body = large.subarray(at, at + part)
      client.send(frame(at === 0 ? BINARY : CONTINUATION, body, { isFinal }))
    }
    expect((await client.read(size)).equals(large)).toBe(true)
    client.destroy()
  })

  it('go from a WebSocket to TCP and back', async () => {
    const client = await open(5)
    client.send(frame(BINARY, packet(0x82, '00 01 00', text('there'), [1])))
    await client.read(6)
    plain.send(subscribe('back', 1))
    await plain.next()
    client.send(frame(BINARY, packet(0x32, text('back'), '00 09 00', [1])))
    expect((await plain.next())[0]).toBe(0x32)
    plain.send('40 02 00 01')
    expect((await client.read(4)).toString('hex')).toMatch(/^400[24]0009/)
    client.destroy()
  })
})

describe('what is no binary message', () => {
  it.each([
    ['a text message', frame(TEXT, 'hello')],
    ['MQTT in a text message', frame(TEXT, connect())],
    ['text that is no UTF-8', frame(TEXT, Buffer.from([255, 254]))],
    ['an empty text', frame(TEXT)],
    [
      'fragmented text',
      Buffer.concat([frame(TEXT, 'a', { isFinal: false }), frame(CONTINUATION, 'b')])
    ]
  ])('B78 v3 [MQTT-6.0.0-1] v5 [MQTT-6.0.0-1]: %s is answered with 1003', async (_what, input) => {
    const stranger = await gateway.upgrade()
    stranger.send(input)
    await endsWith(stranger, 1003)
    const client = await open()
    client.send(input)
    await endsWith(client, 1003)
  })

  it('B78 what comes behind a text message in the same segment is not looked at', async () => {
    plain.send(subscribe('behind'))
    await plain.next()
    const client = await open()
    client.send(frame(TEXT, 'x'), frame(BINARY, publish('behind', 'text')))
    await endsWith(client, 1003)
    await plain.quiet()
  })

  it.each([
    ['an unmasked frame', frame(BINARY, PINGREQ, { isMasked: false }), 1002],
    ['a reserved bit', frame(BINARY, PINGREQ, { reserved: 4 }), 1002],
    ['the second reserved bit', frame(BINARY, PINGREQ, { reserved: 2 }), 1002],
    ['the third reserved bit', frame(BINARY, PINGREQ, { reserved: 1 }), 1002],
    ['opcode 3', frame(3, 'x'), 1002],
    ['opcode 7', frame(7), 1002],
    ['opcode 11', frame(11), 1002],
    ['opcode 15', frame(15), 1002],
    ['a continuation of nothing', frame(CONTINUATION, PINGREQ), 1002],
    [
      'a message within a message',
      Buffer.concat([frame(BINARY, 'a', { isFinal: false }), frame(BINARY, 'b')]),
      1002
    ],
    ['a fragmented ping', frame(PING, 'x', { isFinal: false }), 1002],
    ['a fragmented close', frame(CLOSE, '', { isFinal: false }), 1002],
    ['a ping of 126 bytes', frame(PING, 'x'.repeat(126)), 1002],
    ['a close of one byte', frame(CLOSE, 'x'), 1002],
    ['a close code that is none', frame(CLOSE, Buffer.from([3, 0xec])), 1002],
    ['a close reason that is no UTF-8', frame(CLOSE, Buffer.from([3, 232, 255])), 1007],
    ['a length of 2^63', Buffer.from('82ffffffffffffffffff01020304', 'hex'), 1009],
    ['a length of 16 MiB', frame(BINARY, 'x', { length: 2 ** 24 }), 1009],
    ['a ping with a reserved bit', frame(PING, 'x', { reserved: 4 }), 1002]
  ])('as %s ends the connection, of a client and of a stranger', async (_what, input, code) => {
    for (const peer of [await gateway.upgrade(), await open()]) {
      peer.send(input, frame(BINARY, PINGREQ))
      const told = await peer.closeCode()
      // UTF-8 is not looked at: the reason is nobody's business.
      if (code === 1007) expect([1007, 1000]).toContain(told)
      else expect(told).toBe(code)
      peer.send(frame(CLOSE, Buffer.from([3, 232])))
      await peer.closed()
    }
  })

  it('publishes the will', async () => {
    plain.send(subscribe('will/ws'))
    await plain.next()
    const client = await open(4, 6, text('will/ws'), text('gone'))
    client.send(frame(TEXT, 'x'))
    expect(await plain.next()).toEqual(publish('will/ws', 'gone'))
    client.destroy()
  })

  it('stands in the log', async () => {
    const client = await open()
    client.send(frame(TEXT, 'x'))
    await endsWith(client, 1003)
    const ended = () =>
      gateway.lines.some(
        line => line['msg'] === 'disconnected' && line['reason'] === 'WebSocket: a text message'
      )
    await gateway.until(ended)
    expect(gateway.lines.find(line => line['protocol'] === 'ws')?.['peer']).toMatch(
      /^127\.0\.0\.1:\d+$/
    )
  })
})

describe('the end', () => {
  it('of a connection is the last packet, then the close frame with 1000', async () => {
    const client = await open(5)
    client.send(frame(BINARY, packet(0x30, text('a#'), '00')))
    expect(await client.closeCode()).toBe(1000)
    expect(client.unread.toString('hex')).toMatch(/^e0/)
    client.send(frame(CLOSE, Buffer.from([3, 232])))
    await client.closed()
  })

  it('of who sends too large a message is DISCONNECT 0x95 behind all answers, then 1009', async () => {
    const tooLarge = frame(BINARY, 'x', { length: 2 ** 24 })
    for (const [level, last] of [
      [5, /^d000e0..95/],
      [4, /^d000$/]
    ] as const) {
      const client = await open(level)
      client.send(frame(BINARY, PINGREQ), tooLarge, frame(BINARY, PINGREQ))
      expect(await client.closeCode()).toBe(1009)
      expect(client.unread.toString('hex')).toMatch(last)
      // Whoever does not answer the close is not waited for.
      await client.closed()
    }
  })

  it('of a refused login is its CONNACK, then the close frame', async () => {
    const client = await gateway.upgrade()
    client.send(frame(BINARY, packet(0x10, text('MQTT'), [4, 0, 0, 60], text(''))))
    expect(await client.closeCode()).toBe(1000)
    expect(client.unread.toString('hex')).toBe('20020002')
    client.destroy()
  })

  it('of a taken over session is DISCONNECT 0x8e, then the close frame', async () => {
    const id = text('twice')
    const login = packet(0x10, text('MQTT'), [5, 2, 0, 60, 0], id)
    const first = await gateway.upgrade()
    first.send(frame(BINARY, login))
    await takeConnack(first, 5)
    const second = await gateway.upgrade()
    second.send(frame(BINARY, login))
    await takeConnack(second, 5)
    expect(await first.closeCode()).toBe(1000)
    expect(first.unread.toString('hex')).toMatch(/^e0018e|^e0..8e/)
    first.destroy()
    second.destroy()
  })

  it('is an end without a will after DISCONNECT, and with one after a mere close', async () => {
    plain.send(subscribe('will/+'))
    await plain.next()
    const polite = await open(4, 6, text('will/a'), text('a'))
    polite.send(frame(BINARY, bytes('e0 00')), frame(CLOSE, Buffer.from([3, 232])))
    await polite.closed()
    await plain.quiet()
    const rude = await open(4, 6, text('will/b'), text('b'))
    rude.send(frame(CLOSE, Buffer.from([3, 232])))
    expect(await rude.closeCode()).toBe(1000)
    expect(await plain.next()).toEqual(publish('will/b', 'b'))
    const cut = await open(4, 6, text('will/c'), text('c'))
    cut.destroy()
    expect(await plain.next()).toEqual(publish('will/c', 'c'))
  })

  it('of one that answers no close frame is a second later', async () => {
    const client = await open(5)
    client.send(frame(BINARY, packet(0x30, text('a#'), '00')))
    expect(await client.closeCode()).toBe(1000)
    await client.closed()
  })

  it('of one that says close and stays comes all the same', async () => {
    const client = await open()
    const before = gateway.mqtt.count
    client.send(frame(CLOSE, Buffer.from([3, 232])))
    expect(await client.closeCode()).toBe(1000)
    await gateway.until(() => gateway.mqtt.count === before - 1)
    client.destroy()
  })

  it('comes by the keepalive, whatever WebSocket pings say', async () => {
    const client = await gateway.upgrade()
    client.send(frame(BINARY, packet(0x10, text('MQTT'), [4, 2, 0, 10], text('sleeper'))))
    await client.read(4)
    client.send(frame(PING, 'x'))
    expect((await client.nextFrame())?.opcode).toBe(PONG)
    plain.send(PINGREQ)
    await plain.next()
    gateway.pass(16)
    expect(await client.closeCode()).toBe(1000)
    client.destroy()
  })

  it('at a stop of the broker is 1001', async () => {
    const other = new StagedGateway()
    await other.listen()
    const client = await other.upgrade()
    client.send(frame(BINARY, packet(0x10, text('MQTT'), [5, 2, 0, 60, 0], text('last'))))
    await takeConnack(client, 5)
    other.webSockets.close()
    const closed = other.mqtt.close()
    expect(await client.closeCode()).toBe(1001)
    expect(client.unread.toString('hex')).toMatch(/^e0..?8b|^e0018b/)
    client.send(frame(CLOSE, Buffer.from([3, 233])))
    await closed
    await other.close()
  })
})

it('a TCP gateway closes at the first byte of an upgrade', async () => {
  const tcp = await new Gateway().start()
  const raw = await tcp.dial()
  raw.send(Buffer.from('GET /mqtt HTTP/1.1\r\nUpgrade: websocket\r\n\r\n'))
  expect(await raw.rest()).toEqual([])
  await tcp.close()
})
