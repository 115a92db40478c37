/** MQTT 3.1 (protocol name MQIsdp, level 3): where it differs from 3.1.1. */
import { describe, expect, it } from 'vitest'
import { connectAs, connectBytes } from '../support/bad-inputs.ts'
import { asUser } from '../support/bad-input-users.ts'
import type { Gateway } from '../support/gateway.ts'
import { connectTo, hex, publish, startGateway } from '../support/mqtt-moves.ts'
import { type Bytes, bytes, packet, type RawMqtt, text } from '../support/raw-mqtt.ts'

const A = text('a')

async function open(gateway: Gateway, ...input: Bytes[]): Promise<[string, RawMqtt]> {
  const raw = await gateway.dial()
  raw.send(...input)
  return [hex(await raw.next()), raw]
}

describe('CONNECT of MQTT 3.1', () => {
  it('is taken with the name MQIsdp and level 3, and no other pair of them', async () => {
    const gateway = await startGateway()
    expect((await open(gateway, connectBytes(3, 2, A)))[0]).toBe('20020000')
    const wrong: [string, number, string[]][] = [
      ['MQTT', 3, ['20020001']],
      ['MQIsdp', 4, []],
      ['MQIsdp', 2, []]
    ]
    for (const [name, level, told] of wrong) {
      const raw = await gateway.dial()
      raw.send(connectAs(name, level, 2, A))
      expect((await raw.rest()).map(hex)).toEqual(told)
    }
  })

  it('may have flags in its first byte, which mean nothing; those of later versions may not', async () => {
    const gateway = await startGateway()
    const flagged = (version: 3 | 4 | 5, first: number) => {
      const whole = connectBytes(version, 2, A)
      return bytes([first], whole.subarray(1))
    }
    for (const first of [0x11, 0x12, 0x14, 0x18, 0x1d]) {
      expect((await open(gateway, flagged(3, first)))[0]).toBe('20020000')
      for (const version of [4, 5] as const) {
        const raw = await gateway.dial()
        raw.send(flagged(version, first))
        expect(await raw.rest()).toEqual([])
      }
    }
  })

  it('takes client ids of 1 to 23 characters, and longer ones as Mosquitto does, but no empty one', async () => {
    const gateway = await startGateway()
    for (const length of [1, 23, 24, 256]) {
      const [connack] = await open(gateway, connectBytes(3, 2, text('x'.repeat(length))))
      expect(connack).toBe('20020000')
    }
    for (const flags of [0, 2]) {
      const raw = await gateway.dial()
      raw.send(connectBytes(3, flags, text('')))
      expect((await raw.rest()).map(hex)).toEqual(['20020002'])
    }
  })

  it('resumes a session without saying so: the byte is reserved', async () => {
    const gateway = await startGateway()
    const [, before] = await open(gateway, connectBytes(3, 0, text('old')))
    before.send(packet(0x82, '00 01', A, '01'))
    await before.next()
    before.destroy()
    const publisher = await connectTo(gateway, 4, 'publisher')
    publish(publisher, 0x32, 'a', 'x', 1)
    await publisher.next()
    const [connack, after] = await open(gateway, connectBytes(3, 0, text('old')))
    expect(connack).toBe('20020000')
    expect((await after.next())[0]).toBe(0x32)
  })

  it('may flag a user name and a password that are not there', async () => {
    const seen: unknown[] = []
    const gateway = await startGateway({
      authenticate: ({ username, password }) => {
        seen.push([username, password === null ? null : Buffer.from(password).toString()])
        return asUser({ username: null } as never)
      }
    })
    for (const [flags, ...payload] of [
      [0x82, A],
      [0xc2, A],
      [0xc2, A, text('user')],
      [0xc2, A, text('user'), text('pass')],
      [0xc6, A, text('will'), text('x'), text('user')]
    ] as const) {
      const [connack] = await open(gateway, connectBytes(3, flags, ...payload))
      expect(connack).toBe('20020000')
    }
    expect(seen).toEqual([
      [null, null],
      [null, null],
      ['user', null],
      ['user', 'pass'],
      ['user', null]
    ])
  })
})

describe('packets of MQTT 3.1', () => {
  it('carry DUP and QoS in any flags but those of PUBLISH and DISCONNECT', async () => {
    const gateway = await startGateway()
    const [, raw] = await open(gateway, connectBytes(3, 2, A))
    for (let flags = 0; flags < 16; flags++) {
      const head = (type: number, all: Buffer) => bytes([(type << 4) | flags], all.subarray(1))
      raw.send(head(8, packet(0x82, '00 01', A, '00')))
      expect(hex(await raw.next())).toBe('9003000100')
      raw.send(packet(0x34, text('b'), '00 02'))
      expect(hex(await raw.next())).toBe('50020002')
      raw.send(head(6, packet(0x62, '00 02')))
      expect(hex(await raw.next())).toBe('70020002')
      raw.send(head(10, packet(0xa2, '00 03', A)))
      expect(hex(await raw.next())).toBe('b0020003')
      raw.send(head(4, packet(0x40, '00 09')), head(7, packet(0x70, '00 09')))
      raw.send(head(12, bytes('c0 00')))
      expect(hex(await raw.next())).toBe('d000')
    }
    for (const [input, told] of [
      ['e1 00', []],
      ['36 03 00 01 61', []]
    ] as const) {
      const [, other] = await open(gateway, connectBytes(3, 2, text('other')))
      other.send(input)
      expect(await other.rest()).toEqual(told)
    }
  })

  it('SUBSCRIBE is granted the QoS that it asks for, whether it is allowed or not: nothing else can be said', async () => {
    const gateway = await startGateway({ authenticate: asUser })
    const [, raw] = await open(gateway, connectBytes(3, 0x82, text('old'), text('bob')))
    const list = ['a', 'secret/a', '$SYS/#'].map((filter, n) => bytes(text(filter), [n]))
    raw.send(packet(0x82, '00 01', ...list))
    expect(hex(await raw.next())).toBe('90050001000102')
    const publisher = await connectTo(gateway, 4, 'publisher')
    publish(publisher, 0x31, 'secret/a', 'x')
    await publisher.quiet()
    await raw.quiet()
    expect(gateway.lines.filter(({ msg }) => msg === 'denied').length).toBe(2)
  })

  it('a QoS 2 PUBLISH again, with or without DUP, is no second message', async () => {
    const gateway = await startGateway()
    const watcher = await connectTo(gateway, 4, 'watcher')
    watcher.send(packet(0x82, '00 01', A, '00'))
    await watcher.next()
    const [, raw] = await open(gateway, connectBytes(3, 2, text('old')))
    for (const first of [0x34, 0x3c, 0x34]) {
      raw.send(packet(first, A, '00 01', 'ff'))
      expect(hex(await raw.next())).toBe('50020001')
    }
    raw.send('6a 02 00 01')
    expect(hex(await raw.next())).toBe('70020001')
    expect((await watcher.next())[0]).toBe(0x30)
    await watcher.quiet()
  })

  it('a PUBLISH that is not allowed is acknowledged, and goes nowhere', async () => {
    const gateway = await startGateway({ authenticate: asUser })
    const [, raw] = await open(gateway, connectBytes(3, 0x82, text('old'), text('bob')))
    raw.send(packet(0x33, text('secret/a'), '00 01', 'ff'))
    expect(hex(await raw.next())).toBe('40020001')
    expect(gateway.broker.vhosts.get('/')!.retained.count).toBe(0)
  })
})
