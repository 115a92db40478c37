/** Fixed headers and framing that are wrong: cases B01 to B11. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { BadInputs, connectBytes, hex } from '../support/bad-inputs.ts'
import { bytes, packet, type RawMqtt, text } from '../support/raw-mqtt.ts'

let bad: BadInputs

beforeAll(async () => {
  bad = await BadInputs.start()
})
afterAll(async () => {
  await bad.close()
})

const A = text('a')

describe('as the first thing that is sent', () => {
  it.each([
    ['B01: a Remaining Length of five bytes', bytes('10 ff ff ff ff 7f'), /remaining length/],
    ['B02: a Remaining Length that is longer than it must be', bytes('10 8c 00'), /not minimal/],
    ['B03: a CONNECT over 64 KiB', bytes('10 ff ff ff 7f'), /too large/],
    ['B06: packet type 0', bytes('00 00'), /unexpected first byte 0x00/],
    ['B06: packet type 15', bytes('f0 00'), /unexpected first byte 0xf0/],
    ['B09: an HTTP request', Buffer.from('GET / HTTP/1.1\r\n\r\n'), /unexpected first byte 0x47/],
    ['B09: its first byte', Buffer.from('G'), /unexpected first byte 0x47/],
    ['B10: the header of AMQP', Buffer.from('AMQP\0\0\x09\x01'), /unexpected first byte 0x41/],
    ['B10: the beginning of TLS', bytes('16 03 01 02 00'), /unexpected first byte 0x16/]
  ])('%s closes, and nothing is sent', async (_name, input, reason) => {
    await bad.around([reason], async () => {
      expect(await bad.first(input)).toEqual([])
    })
  })

  it('B03: at most 8 MiB are held for all together', async () => {
    const chunk = Buffer.concat([bytes('10 f0 ff 03'), Buffer.alloc(60_000)])
    const strangers: RawMqtt[] = []
    for (let i = 0; i < 180; i++) {
      const raw = await bad.dial()
      raw.send(chunk)
      strangers.push(raw)
    }
    expect(await Promise.race(strangers.slice(100).map(raw => raw.rest()))).toEqual([])
    const line = bad.gateway.lines.find(({ reason }) => `${reason}`.startsWith('too many bytes'))
    expect(line).toMatchObject({ msg: 'refused', reason: 'too many bytes before login' })
    await bad.witness.quiet()
    await bad.tidy()
  })

  it('B11: a CONNECT at a byte a second is cut off after 10 s', async () => {
    await bad.around([/no login in time/], async () => {
      const { gateway } = bad
      const raw = await bad.dial()
      await gateway.until(() => gateway.mqtt.count === 2)
      const connect = connectBytes(4, 2, A)
      for (let second = 0; second < 10; second++) {
        const read = gateway.sockets.bytesIn
        raw.send(connect.subarray(second, second + 1))
        await gateway.until(() => gateway.sockets.bytesIn > read)
        expect(gateway.mqtt.count).toBe(2)
        gateway.pass(1)
      }
      expect(await raw.rest()).toEqual([])
    })
  })
})

/** What it is, for 3.1.1 and 5 as far as it is wrong there, the DISCONNECT's reason, and the log's. */
const CASES: [name: string, four: string, five: string, code: number, reason: RegExp][] = [
  ['B01: a Remaining Length of five bytes', '30 ff ff ff ff 7f', '=', 0x81, /remaining length/],
  ['B02: a Remaining Length that is too long', '30 80 00', '=', 0x81, /not minimal/],
  ['B06: packet type 0', '00 00', '=', 0x81, /first byte 0x00/],
  ['B06: packet type 15', 'f0 00', '', 0, /first byte 0xf0/],
  ['B07: SUBSCRIBE with flags 0', '80 00', '=', 0x81, /first byte 0x80/],
  ['B07: SUBSCRIBE with flags 3', '83 00', '=', 0x81, /first byte 0x83/],
  ['B07: UNSUBSCRIBE with flags 0', 'a0 00', '=', 0x81, /first byte 0xa0/],
  ['B07: PUBREL with flags 0', '60 02 00 01', '=', 0x81, /first byte 0x60/],
  ['B07: DISCONNECT with flags 1', 'e1 00', '=', 0x81, /first byte 0xe1/],
  ['B07: PINGREQ with flags 5', 'c5 00', '=', 0x81, /first byte 0xc5/],
  ['B07: PUBACK with flags 2', '42 02 00 01', '=', 0x81, /first byte 0x42/],
  ['B07: PUBREC with flags 1', '51 02 00 01', '=', 0x81, /first byte 0x51/],
  ['B07: PUBCOMP with flags 8', '78 02 00 01', '=', 0x81, /first byte 0x78/],
  ['B08: CONNACK', '20 02 00 00', '20 03 00 00 00', 0x82, /first byte 0x20/],
  ['B08: SUBACK', '90 03 00 01 00', '90 04 00 01 00 00', 0x82, /first byte 0x90/],
  ['B08: UNSUBACK', 'b0 02 00 01', 'b0 04 00 01 00 00', 0x82, /first byte 0xb0/],
  ['B08: PINGRESP', 'd0 00', '=', 0x82, /first byte 0xd0/],
  ['B08: PINGREQ with a body', 'c0 01 00', '=', 0x81, /PINGREQ with a body/]
]

describe('from a client that is logged in', () => {
  it.each(CASES)('%s closes versions 3.1 and 3.1.1 without a word', async (name, four, ...rest) => {
    // 3.1 has no wrong flags but those of DISCONNECT.
    const isRight = name.startsWith('B07') && !name.includes('DISCONNECT')
    for (const version of isRight ? ([4] as const) : ([3, 4] as const)) {
      await bad.around([rest[2]], async () => {
        expect(await bad.answers(await bad.open(version), four)).toEqual([])
      })
    }
  })

  it.each(CASES.filter(([, , five]) => five !== ''))(
    '%s closes version 5 with the reason',
    async (_name, four, five, code, reason) => {
      await bad.around([reason], async () => {
        const input = five === '=' ? four : five
        const told = hex(packet(0xe0, [code]))
        expect(await bad.answers(await bad.open(5), input)).toEqual([told])
      })
    }
  )

  it('B04: a packet over the maximum is refused at its length, none of it is kept', async () => {
    const { mqttPacketBytesMax } = bad.gateway.broker.limits
    const body = mqttPacketBytesMax + 1 - 4
    const header = [0x30, (body & 127) | 128, ((body >> 7) & 127) | 128, body >> 14]
    for (const version of [3, 4] as const) {
      await bad.around([/packet too large/], async () => {
        expect(await bad.answers(await bad.open(version), header)).toEqual([])
      })
    }
    await bad.around([/packet too large/], async () => {
      expect(await bad.answers(await bad.open(5), header)).toEqual(['e00195'])
    })
  })

  it('B05: a packet that stops arriving is kept, as it is, until the keepalive ends it', async () => {
    for (const version of [3, 4, 5] as const) {
      await bad.around([/keepalive timeout/], async () => {
        const { gateway } = bad
        const raw = await bad.open(version, { keepalive: 5 })
        const read = gateway.sockets.bytesIn
        raw.send('30 80 20 01 02 03')
        await gateway.until(() => gateway.sockets.bytesIn === read + 6)
        gateway.pass(7)
        expect(gateway.mqtt.count).toBe(2)
        gateway.pass(1)
        expect((await raw.rest()).map(hex)).toEqual(version === 5 ? ['e0018d'] : [])
      })
    }
  })
})
