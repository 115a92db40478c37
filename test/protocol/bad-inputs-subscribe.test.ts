/** SUBSCRIBEs that are wrong: cases B63 to B76. The floods among them stand in the integration tests. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Principal } from '../../src/core/principal.ts'
import { asUser } from '../support/bad-input-users.ts'
import { BadInputs, hex, type Version } from '../support/bad-inputs.ts'
import { bytes, packet, type RawMqtt, text } from '../support/raw-mqtt.ts'

let bad: BadInputs

beforeAll(async () => {
  bad = await BadInputs.start({ authenticate: asUser })
})
afterAll(async () => {
  await bad.close()
})

const A = text('a')
const VERSIONS = [3, 4, 5] as const

/** For 3.1.1 and 5; null: it means something else there. */
const CLOSES: [
  name: string,
  four: Buffer | null,
  five: Buffer | null,
  code: number,
  reason: RegExp
][] = [
  ['B63: no filter', packet(0x82, '00 01'), packet(0x82, '00 01 00'), 0x82, /without filters/],
  ['B64: QoS 3', packet(0x82, '00 01', A, '03'), packet(0x82, '00 01 00', A, '03'), 0x81, /QoS 3/],
  [
    'B64: reserved bits',
    packet(0x82, '00 01', A, '04'),
    packet(0x82, '00 01 00', A, '40'),
    0x81,
    /reserved option bits/
  ],
  ['B64: Retain Handling 3', null, packet(0x82, '00 01 00', A, '30'), 0x82, /retain handling/],
  [
    'B64: a filter without options',
    packet(0x82, '00 01', A),
    packet(0x82, '00 01 00', A),
    0x81,
    /options/
  ],
  [
    'B63: an UNSUBSCRIBE without filters',
    packet(0xa2, '00 01'),
    packet(0xa2, '00 01 00'),
    0x82,
    /without filters/
  ],
  [
    'B65: U+0000 in a filter',
    packet(0x82, '00 01', text('a\0'), '00'),
    packet(0x82, '00 01 00', text('a\0'), '00'),
    0x81,
    /U\+0000/
  ],
  [
    'B65: packet identifier 0',
    packet(0x82, '00 00', A, '00'),
    packet(0x82, '00 00 00', A, '00'),
    0x81,
    /identifier/
  ],
  [
    'B67: 1,001 filters in one packet',
    packet(0x82, '00 01', ...Array.from({ length: 1_001 }, () => bytes(A, '00'))),
    packet(0x82, '00 01 00', ...Array.from({ length: 1_001 }, () => bytes(A, '00'))),
    0x97,
    /too many filters/
  ],
  [
    'B70: No Local on a shared subscription',
    null,
    packet(0x82, '00 01 00', text('$share/g/a'), '04'),
    0x82,
    /no local/
  ],
  [
    'B74: Subscription Identifier 0',
    null,
    packet(0x82, '00 01 02 0b 00', A, '00'),
    0x82,
    /identifier|0xb/
  ]
]

/** Subscribes to all of them at once; the codes of the SUBACK. */
async function subscribe(raw: RawMqtt, version: Version, ...filters: string[]): Promise<number[]> {
  const list = filters.map(filter => bytes(text(filter), '00'))
  raw.send(packet(0x82, '00 01', version === 5 ? '00' : '', ...list))
  const suback = await raw.next()
  expect(suback[0]).toBe(0x90)
  return [...suback.subarray(suback.length - filters.length)]
}

/** 3.1 has no word for it: the QoS that was asked for, and nothing ever comes. */
const refused = (version: Version, code: number) => ({ 3: 0, 4: 0x80, 5: code })[version]

describe('a SUBSCRIBE', () => {
  it.each(CLOSES.filter(([, four]) => four !== null))(
    '%s closes versions 3.1 and 3.1.1',
    async (_name, four, _five, _code, reason) => {
      for (const version of [3, 4] as const) {
        await bad.around([reason], async () => {
          expect(await bad.answers(await bad.open(version), four!)).toEqual([])
        })
      }
    }
  )

  it.each(CLOSES.filter(([, , five]) => five !== null))(
    '%s closes version 5 with its reason',
    async (_name, _four, five, code, reason) => {
      await bad.around([reason], async () => {
        const told = hex(packet(0xe0, [code]))
        expect(await bad.answers(await bad.open(5), five!)).toEqual([told])
      })
    }
  )

  it.each([4, 5] as const)(
    'B65, B69: filters that are none are refused one by one in version %i',
    async version => {
      const wrong = ['a#', '#/a', 'a+/b', '', 'a/#/b', '++', 'a/b#']
      const shares = ['$share//x', '$share/g', '$share/g+/x', '$share/#/x', '$share/g/', '$share/']
      const filters = [...wrong, ...shares]
      // Ten lines a second are said.
      const reasons = filters.slice(0, 10).map(() => /no topic filter/)
      await bad.around(reasons, async () => {
        const raw = await bad.open(version)
        const codes = await subscribe(raw, version, ...filters)
        expect(codes).toEqual(filters.map(() => refused(version, 0x8f)))
        expect(await subscribe(raw, version, 'a')).toEqual([0])
      })
    }
  )

  it('B65: filters that are none close version 3.1, which has no word for it', async () => {
    for (const filter of ['a#', '#/a', 'a+/b', '', '$share//x']) {
      await bad.around([/no topic filter/, /no topic filter/], async () => {
        const raw = await bad.open(3)
        expect(await bad.answers(raw, packet(0x82, '00 01', text(filter), '00'))).toEqual([])
      })
    }
  })

  it.each(VERSIONS)('B71: a share is judged by its inner filter in version %i', async version => {
    const filters = ['$share/g/secret/#', '$share/g/secret/a', '$share/g/$SYS/#', '$SYS/#']
    const reasons = filters.map(() => /not authorized/)
    await bad.around(reasons, async () => {
      const raw = await bad.open(version, { username: 'bob' })
      const codes = await subscribe(raw, version, ...filters)
      expect(codes).toEqual(filters.map(() => refused(version, 0x87)))
    })
  })

  it.each(VERSIONS)(
    'B71: $queue is no share of ours, and nobody reads $ topics, in version %i',
    async version => {
      await bad.around([/not authorized/, /not authorized/], async () => {
        const raw = await bad.open(version, { username: 'bob' })
        const codes = await subscribe(raw, version, '$queue/secret/#', '$queue/a')
        expect(codes).toEqual([refused(version, 0x87), refused(version, 0x87)])
      })
    }
  )

  it.each(VERSIONS)(
    'B72: filters that cover more than is allowed bring only that, in version %i',
    async version => {
      const denied = /not authorized/
      await bad.around([denied, denied], async () => {
        const carl = await bad.open(version, { username: 'carl' })
        const granted = await subscribe(carl, version, '#', '+/+', 'secret/+', 'secret/a')
        expect(granted).toEqual([0, 0, 0, refused(version, 0x87)])
        const bob = await bad.open(version, { username: 'bob' })
        expect(await subscribe(bob, version, 'secret/+', '#')).toEqual([refused(version, 0x87), 0])
        const publisher = await bad.open(4)
        for (const topic of ['secret/a', 'secret/b', 'open/a']) {
          publisher.send(packet(0x31, text(topic), '01'))
        }
        await publisher.quiet()
        const topicOf = (found: Buffer) => found.subarray(4, 4 + found[3]!).toString()
        expect(topicOf(await carl.next())).toBe('secret/b')
        expect(topicOf(await carl.next())).toBe('open/a')
        await carl.quiet()
        expect(topicOf(await bob.next())).toBe('open/a')
        await bob.quiet()
        // Retained ones are judged too.
        expect(await subscribe(bob, version, '#')).toEqual([0])
        expect(topicOf(await bob.next())).toBe('open/a')
        await bob.quiet()
        for (const topic of ['secret/a', 'secret/b', 'open/a']) {
          publisher.send(packet(0x31, text(topic)))
        }
        await publisher.quiet()
      })
    }
  )

  it.each(VERSIONS)('B73: leading wildcards match no $ topic in version %i', async version => {
    await bad.around([], async () => {
      const raw = await bad.open(version)
      expect(await subscribe(raw, version, '#', '+/monitor', '+/#')).toEqual([0, 0, 0])
      bad.gateway.publishAsBroker('$SYS/monitor', 'x')
      await raw.quiet()
    })
  })

  it.each(VERSIONS)(
    'B76: what was never subscribed is unsubscribed in version %i',
    async version => {
      await bad.around([], async () => {
        const raw = await bad.open(version)
        raw.send(packet(0xa2, '00 09', version === 5 ? '00' : '', text('never'), text('nor/#')))
        const told = version === 5 ? 'b00500090011' + '11' : 'b0020009'
        expect(hex(await raw.next())).toBe(told)
      })
    }
  )
})

describe('B75: rights that are taken back', () => {
  const ALLOWED = new Principal('eve', [], '/', [], [], true)
  const RULES = [
    { effect: 'deny', access: 'readwrite', filter: 'secret/#' },
    { effect: 'allow', access: 'readwrite', filter: '#' }
  ] as const
  const DENIED = new Principal('eve', [], '/', [], RULES, false)

  it.each(VERSIONS)('hold at once for who is connected, in version %i', async version => {
    let now: Principal | null = ALLOWED
    const own = await BadInputs.start({
      authenticate: ({ username }) => {
        const anybody = new Principal('', [], '/', [], [], true)
        return Promise.resolve({ ok: true, principal: username === 'eve' ? now! : anybody })
      },
      principalOf: user => (user === 'eve' ? now : new Principal('', [], '/', [], [], true))
    })
    await own.around([/no longer authorized/], async () => {
      const eve = await own.open(version, { username: 'eve' })
      expect(await subscribe(eve, version, 'secret/#')).toEqual([0])
      own.witness.send(packet(0x30, text('secret/a'), '01'))
      expect((await eve.next()).at(-1)).toBe(1)
      now = DENIED
      own.gateway.permissionsChanged()
      own.witness.send(packet(0x31, text('secret/a'), '02'))
      await own.witness.quiet()
      await eve.quiet()
      // What is retained is not read either, nor may she publish there.
      expect(await subscribe(eve, version, '#')).toEqual([0])
      await eve.quiet()
      // The user is gone: so is the connection.
      now = null
      own.gateway.permissionsChanged()
      expect((await eve.rest()).map(hex)).toEqual(version === 5 ? ['e00187'] : [])
    })
    await own.close()
  })
})
