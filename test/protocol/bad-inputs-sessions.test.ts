/** Connections, sessions and identities under attack: cases B14 to B37 that need more than one packet. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { asUser } from '../support/bad-input-users.ts'
import { BadInputs, connectBytes, hex } from '../support/bad-inputs.ts'
import { bytes, packet, text } from '../support/raw-mqtt.ts'

let bad: BadInputs

beforeAll(async () => {
  bad = await BadInputs.start({ authenticate: asUser })
})
afterAll(async () => {
  await bad.close()
})

const A = text('a')
const VERSIONS = [3, 4, 5] as const

describe.each(VERSIONS)('in version %i', version => {
  it('B14: a second CONNECT ends the connection, and its will is published', async () => {
    const topic = `will/14/${version}`
    await bad.watch(topic)
    const will = { topic, payload: Buffer.from('x'), qos: 0 as const, retain: false }
    await bad.around([/first byte 0x10/], async () => {
      const raw = await bad.open(version, { will })
      const told = version === 5 ? ['e00182'] : []
      expect(await bad.answers(raw, connectBytes(version, 2, A))).toEqual(told)
      expect(hex(await bad.witness.next())).toBe(hex(packet(0x30, text(topic), '78')))
    })
  })

  it.each([
    '+',
    '#',
    'a/+/#',
    '../',
    '../../etc/passwd',
    '<script>alert(1)</script>',
    'a\r\nb',
    '\u0001\u001b[31m',
    '\u202e'
  ])('B22: the client id %j is taken, and shown escaped in the log', async clientId => {
    await bad.around([], async () => {
      const { lines } = bad.gateway
      await bad.open(version, { clientId })
      const line = lines.find(({ msg }) => msg === 'connected')
      expect(line).toMatchObject({ clientId, version })
      // One line of JSON: what would break it is escaped, what follows is no line of its own.
      expect(JSON.stringify(line)).not.toMatch(/[\u0000-\u001f]/)
    })
  })

  it.each(['+', '#', 'a/b', '../x'])(
    'B22: the client id %j as part of a rule widens nothing',
    async clientId => {
      await bad.around([/not authorized/, /not authorized/], async () => {
        const raw = await bad.open(version, { clientId, username: 'dora' })
        const none = version === 5 ? '00' : ''
        for (const filter of ['own/x/a', 'own/x/#']) {
          raw.send(packet(0x82, '00 01', none, text(filter), '00'))
          const suback = await raw.next()
          // 3.1 has no word for it.
          const told = { 3: 0, 4: 0x80, 5: 0x87 }[version]
          expect([suback[0], suback.at(-1)]).toEqual([0x90, told])
        }
      })
    }
  )

  it('B24: a will that was refused is never published', async () => {
    await bad.watch('secret/24')
    await bad.around([/not authorized|belongs to another/], async () => {
      const none = version === 5 ? '00' : ''
      const will = bytes(none, text('secret/24'), text('never'))
      await bad.first(connectBytes(version, 0x86, text('w'), will, text('bob')))
      await bad.witness.quiet()
    })
  })

  it('B26: keepalive 0 has no time-out, and 65,535 one of 98,302 s', async () => {
    await bad.around([/keepalive timeout/], async () => {
      const { gateway } = bad
      const forever = await bad.open(version, { keepalive: 0 })
      const long = await bad.open(version, { keepalive: 65_535 })
      gateway.pass(98_302)
      await forever.quiet()
      await long.quiet()
      gateway.pass(98_302)
      await forever.quiet()
      expect(gateway.mqtt.count).toBe(3)
      gateway.pass(1)
      await forever.quiet()
      expect((await long.rest()).map(hex)).toEqual(version === 5 ? ['e0018d'] : [])
    })
  })

  it('B34: a password is bytes, and compared as bytes', async () => {
    const login = (password: string) => {
      return connectBytes(version, 0xc2, A, text('binary'), text(bytes(password)))
    }
    await bad.around([/bad credentials/], async () => {
      const raw = await bad.dial()
      raw.send(login('00 ff 00'))
      expect([...(await raw.next())].slice(2, 4)).toEqual([0, 0])
      const refused = version === 5 ? '2003008600' : '20020004'
      expect(await bad.first(login('00 ef bf bd 00'))).toEqual([refused])
    })
  })

  it('B37: the client id of another user is refused, the other stays', async () => {
    await bad.around([/not authorized|belongs to another/], async () => {
      const victim = await bad.open(version, { clientId: 'victim' })
      const refused = version === 5 ? '2003008500' : '20020002'
      const thief = connectBytes(version, 0x82, text('victim'), text('bob'))
      expect(await bad.first(thief)).toEqual([refused])
      await victim.quiet()
    })
  })

  it('B62: a will without payload is delivered empty, and clears what is retained', async () => {
    const topic = `will/62/${version}`
    await bad.watch(topic)
    await bad.around([/connection lost/], async () => {
      const none = version === 5 ? '00' : ''
      bad.witness.send(packet(0x31, text(topic), '78'))
      expect(hex(await bad.witness.next())).toBe(hex(packet(0x30, text(topic), '78')))
      const raw = await bad.dial()
      const will = bytes(none, text(topic), text(''))
      raw.send(connectBytes(version, 0x26, text('empty'), will))
      expect([...(await raw.next())].slice(2, 4)).toEqual([0, 0])
      raw.destroy()
      expect(hex(await bad.witness.next())).toBe(hex(packet(0x30, text(topic))))
      expect(bad.gateway.broker.vhosts.get('/')!.retained.get(topic)).toBeNull()
    })
  })
})

describe('B26: with a longest keepalive', () => {
  it.each([0, 61])(
    'keepalive %i is refused in 3.1 and 3.1.1, and changed in 5',
    async keepalive => {
      const strict = await BadInputs.start({ limits: { maxKeepaliveSeconds: 60 } })
      const connect = (version: 3 | 4 | 5) => {
        const raw = connectBytes(version, 2, A)
        raw.writeUInt16BE(keepalive, version === 3 ? 12 : 10)
        return raw
      }
      for (const version of [3, 4] as const) {
        await strict.around([/keepalive too long/], async () => {
          expect(await strict.first(connect(version))).toEqual(['20020002'])
        })
      }
      await strict.around([], async () => {
        const raw = await strict.dial()
        raw.version = 5
        raw.send(connect(5))
        expect(await raw.read()).toMatchObject({
          reasonCode: 0,
          properties: { serverKeepAlive: 60 }
        })
      })
      await strict.close()
    }
  )
})

describe('in version 5', () => {
  it('a Maximum Packet Size that holds no CONNACK gets the close without a word', async () => {
    await bad.around([/over the Maximum Packet Size/], async () => {
      const raw = await bad.dial()
      raw.send(packet(0x10, text('MQTT'), '05 02 00 00', '05 27 00 00 00 04', text('tiny')))
      expect(await bad.answers(raw, packet(0x32, A, '00 01 00'))).toEqual([])
    })
  })

  it('B20: a password without a user name is legal', async () => {
    await bad.around([], async () => {
      const raw = await bad.dial()
      raw.send(connectBytes(5, 0x42, A, text('password')))
      expect([...(await raw.next())].slice(2, 4)).toEqual([0, 0])
    })
  })

  it('B33: AUTH without an enhanced authentication is a protocol error', async () => {
    for (const auth of ['f0 00', 'f0 02 18 00', 'f0 08 19 06 15 00 03 4b 52 42']) {
      await bad.around([/AUTH/], async () => {
        expect(await bad.answers(await bad.open(5), auth)).toEqual(['e00182'])
      })
    }
  })
})
