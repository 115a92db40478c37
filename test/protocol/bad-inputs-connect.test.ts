/** CONNECTs that are wrong: cases B13 to B37. The floods among them stand in the integration tests. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { BadInputs, connectAs, connectBytes, type Version } from '../support/bad-inputs.ts'
import { asUser } from '../support/bad-input-users.ts'
import { type Bytes, bytes, packet, text } from '../support/raw-mqtt.ts'

let bad: BadInputs

beforeAll(async () => {
  bad = await BadInputs.start({ authenticate: asUser })
})
afterAll(async () => {
  await bad.close()
})

const A = text('a')
/** Behind the client id: no will properties in version 5. */
const will = (version: Version, topic: Bytes, payload: Bytes = 'ff') =>
  bytes(version === 5 ? '00' : '', text(bytes(topic)), text(bytes(payload)))
const word = (value: string) => Buffer.from(value)
/** A version 5 CONNECT with these properties. */
const withProperties = (properties: Bytes, ...payload: Bytes[]) =>
  packet(0x10, text('MQTT'), [5, 2, 0, 60, bytes(properties).length], properties, ...payload)

describe('a first packet that is no CONNECT', () => {
  it.each([
    ['B13: PUBLISH', packet(0x30, A)],
    ['B13: SUBSCRIBE', packet(0x82, '00 01', A, '00')],
    ['B13: PINGREQ', bytes('c0 00')],
    ['B13: DISCONNECT', bytes('e0 00')],
    ['B13: AUTH', bytes('f0 00')]
  ])('%s closes, and nothing is sent', async (_name, input) => {
    await bad.around([/unexpected first byte/], async () => {
      expect(await bad.first(input)).toEqual([])
    })
  })
})

/** What versions 3.1 and 3.1.1, and what version 5 get, in hexadecimal; null: it is right there. */
type Case = [
  name: string,
  input: (version: Version) => Buffer,
  four: string[] | null,
  five: string[] | null,
  reason: RegExp
]

const CASES: Case[] = [
  ['B17: the reserved flag', v => connectBytes(v, 3, A), [], ['2003008100'], /reserved/],
  [
    'B18: will QoS 3',
    v => connectBytes(v, 0x1e, A, will(v, word('w'))),
    [],
    ['2003008100'],
    /will QoS 3/
  ],
  ['B18: a will QoS without a will', v => connectBytes(v, 0x0a, A), [], ['2003008100'], /will/],
  ['B18: will retain without a will', v => connectBytes(v, 0x22, A), [], ['2003008100'], /will/],
  [
    'B20: a password without a user name',
    v => connectBytes(v, 0x42, A, A),
    [],
    null,
    /password without user name/
  ],
  [
    'B22: U+0000 in the client id',
    v => connectBytes(v, 2, text('a\0')),
    [],
    ['2003008100'],
    /U\+0000/
  ],
  [
    'B22: U+D800 in the client id',
    v => connectBytes(v, 2, text(bytes('ed a0 80'))),
    [],
    ['2003008100'],
    /UTF-8/
  ],
  [
    'B22: a client id of 257 bytes',
    v => connectBytes(v, 2, text('x'.repeat(257))),
    ['20020002'],
    ['2003008500'],
    /client id too long/
  ],
  [
    'B22: a client id of 60,000 bytes',
    v => connectBytes(v, 2, text('x'.repeat(60_000))),
    ['20020002'],
    ['2003008500'],
    /client id too long/
  ],
  [
    'B22: a client id of 65,535 bytes, over 64 KiB in all',
    v => connectBytes(v, 2, text('x'.repeat(65_535))),
    [],
    [],
    /packet too large/
  ],
  [
    'B23: a will topic with a wildcard',
    v => connectBytes(v, 6, A, will(v, word('a/+'))),
    [],
    ['2003009000'],
    /will topic invalid/
  ],
  [
    'B23: an empty will topic',
    v => connectBytes(v, 6, A, will(v, '')),
    [],
    ['2003009000'],
    /will topic invalid/
  ],
  [
    'B23: U+0000 in the will topic',
    v => connectBytes(v, 6, A, will(v, word('a\0'))),
    [],
    ['2003008100'],
    /U\+0000/
  ],
  ...['$SYS/x', '$CONTROL/x', '$share/g/x'].map((topic): Case => {
    const input = (v: Version) => connectBytes(v, 6, A, will(v, word(topic)))
    return [`B23: the will topic ${topic}`, input, ['20020005'], ['2003008700'], /begins with \$/]
  }),
  [
    'B34: invalid UTF-8 in the user name',
    v => connectBytes(v, 0x82, A, text(bytes('ff'))),
    [],
    ['2003008100'],
    /UTF-8/
  ],
  [
    'B34: U+0000 in the user name',
    v => connectBytes(v, 0x82, A, text('a\0')),
    [],
    ['2003008100'],
    /U\+0000/
  ],
  [
    'B24: a will on a topic that is forbidden',
    v => connectBytes(v, 0x86, text('w'), will(v, word('secret/w')), text('bob')),
    ['20020005'],
    ['2003008700'],
    /not authorized|belongs to another/
  ],
  [
    'a wrong password',
    v => connectBytes(v, 0x82, A, text('mallory')),
    ['20020004'],
    ['2003008600'],
    /bad credentials/
  ],
  [
    'too many logins at once',
    v => connectBytes(v, 0x82, A, text('busy')),
    ['20020003'],
    ['2003008900'],
    /too many logins/
  ],
  ['a byte behind the end', v => connectBytes(v, 2, A, '00'), [], ['2003008100'], /trailing/]
]

describe('a CONNECT', () => {
  it.each(CASES.filter(([, , four]) => four !== null))(
    '%s is refused in versions 3.1 and 3.1.1',
    async (name, input, four, _five, reason) => {
      // In 3.1 the reserved flag means nothing.
      for (const version of name.startsWith('B17') ? ([4] as const) : ([3, 4] as const)) {
        await bad.around([reason], async () => {
          expect(await bad.first(input(version))).toEqual(four)
        })
      }
    }
  )

  it.each(CASES.filter(([, , , five]) => five !== null))(
    '%s is refused in version 5',
    async (_name, input, _four, five, reason) => {
      await bad.around([reason], async () => {
        expect(await bad.first(input(5))).toEqual(five)
      })
    }
  )

  it.each([
    ['B15: the name MQTTT', 'MQTTT', 4, [], /protocol name/],
    ['B15: the name mqtt', 'mqtt', 4, [], /protocol name/],
    ['B15: the name MQIsdp with level 4', 'MQIsdp', 4, [], /protocol name/],
    ['B15: the name MQIsdp with level 5', 'MQIsdp', 5, [], /protocol name/],
    ['B16: level 0', 'MQTT', 0, ['20020001'], /protocol level/],
    ['B16: level 3 with the name of 3.1.1', 'MQTT', 3, ['20020001'], /protocol level/],
    ['B16: level 6', 'MQTT', 6, ['2003008400'], /protocol level/],
    ['B16: level 255', 'MQTT', 255, ['2003008400'], /protocol level/]
  ])('%s is refused', async (_name, protocol, level, expected, reason) => {
    await bad.around([reason], async () => {
      expect(await bad.first(connectAs(protocol, level, 2, A))).toEqual(expected)
    })
  })

  it.each([
    ['B21: in version 3.1.1 without clean session', connectBytes(4, 0, text(''))],
    ['B21: in version 3.1 without clean session', connectBytes(3, 0, text(''))],
    ['B21: in version 3.1 with clean session', connectBytes(3, 2, text(''))]
  ])('%s, an empty client id gets 0x02 and the close', async (_name, input) => {
    await bad.around([/empty client id/], async () => {
      expect(await bad.first(input)).toEqual(['20020002'])
    })
  })

  it('B21: an empty client id in version 5 is given one, whatever clean start says', async () => {
    await bad.around([], async () => {
      const raw = await bad.dial()
      raw.version = 5
      raw.send(connectBytes(5, 0, text('')))
      const connack = await raw.read()
      expect(connack).toMatchObject({ cmd: 'connack', reasonCode: 0, sessionPresent: false })
      const properties = 'properties' in connack ? connack.properties : {}
      expect(properties).toMatchObject({
        assignedClientIdentifier: expect.stringMatching(/^auto-/)
      })
    })
  })

  it.each([
    ['B28: a Topic Alias', withProperties('23 00 01', A), ['2003008100'], /property/],
    ['B28: an identifier that there is not, 0x7F', withProperties('7f', A), ['2003008100'], /prop/],
    [
      'B29: a property length beyond the packet',
      packet(0x10, text('MQTT'), '05 02 00 3c 7f', A),
      ['2003008100'],
      /property length beyond/
    ],
    [
      'B30: 65 user properties',
      packet(0x10, text('MQTT'), '05 02 00 3c c5 02', '26 00 00 00 00 '.repeat(65), A),
      ['2003009500'],
      /user properties/
    ],
    [
      'B31: Authentication Data without a method',
      withProperties('16 00 01 00', A),
      ['2003008200'],
      /method/
    ],
    [
      'B32: an authentication method that we do not know',
      withProperties('15 00 03 4b 52 42', A),
      ['2003008c00'],
      /unknown authentication method/
    ]
  ])('%s is refused in version 5', async (_name, input, expected, reason) => {
    await bad.around([reason], async () => {
      expect(await bad.first(input)).toEqual(expected)
    })
  })
})
