/** PUBLISHes and flows that are wrong: cases B39 to B61. The floods among them stand in the integration tests. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { asUser } from '../support/bad-input-users.ts'
import { BadInputs, hex } from '../support/bad-inputs.ts'
import { type Bytes, bytes, packet, text } from '../support/raw-mqtt.ts'

let bad: BadInputs

beforeAll(async () => {
  bad = await BadInputs.start({ authenticate: asUser })
})
afterAll(async () => {
  await bad.close()
})

const A = text('a')
const VERSIONS = [3, 4, 5] as const
/** A PUBLISH of both kinds: version 5 has its properties between the topic (or identifier) and the payload. */
const both = (first: number, topic: Bytes, id: Bytes = '') => ({
  four: packet(first, topic, id),
  five: packet(first, topic, id, '00')
})
const only5 = (five: Buffer) => ({ four: null, five })
const slashes = (count: number) => text('/'.repeat(count))

/** Whatever closes the connection: version 5's reason, and what the log says. */
const CLOSES: [
  name: string,
  input: { four: Buffer | null; five: Buffer },
  code: number,
  reason: RegExp
][] = [
  ['B39: QoS 3', both(0x36, A, '00 01'), 0x81, /first byte 0x36/],
  ['B40: DUP with QoS 0', both(0x38, A), 0x81, /first byte 0x38/],
  ['B41: an empty topic', both(0x30, text('')), 0x82, /topic/],
  ['B42: the topic a/+', both(0x30, text('a/+')), 0x90, /topic/],
  ['B42: the topic #', both(0x30, text('#')), 0x90, /topic/],
  ['B42: a wildcard within a level', both(0x30, text('a+b')), 0x90, /topic/],
  ['B43: U+0000 in the topic', both(0x30, text('a\0b')), 0x81, /topic|U\+0000/],
  ['B43: invalid UTF-8 in the topic', both(0x30, text(bytes('61 ff'))), 0x81, /UTF-8/],
  ['B43: an overlong "/"', both(0x30, text(bytes('c0 af'))), 0x81, /UTF-8/],
  ['B43: a surrogate in the topic', both(0x30, text(bytes('ed a0 80'))), 0x81, /UTF-8/],
  ['B43: a character cut off', both(0x30, text(bytes('e2 82'))), 0x81, /UTF-8/],
  ['B45: 65,535 separators', both(0x30, slashes(65_535)), 0x90, /topic/],
  ['B45: 201 separators', both(0x30, slashes(201)), 0x90, /topic/],
  [
    'B46: a topic longer than its packet',
    both(0x30, '00 09 61'),
    0x81,
    /too short|property length/
  ],
  ['B46: a packet too short for a topic', both(0x30, '00'), 0x81, /too short|property length/],
  ['B47: packet identifier 0 with QoS 1', both(0x32, A, '00 00'), 0x81, /identifier/],
  ['B47: packet identifier 0 with QoS 2', both(0x34, A, '00 00'), 0x81, /identifier/],
  ['B47: no packet identifier', both(0x32, A), 0x81, /too short/],
  ['B48: Topic Alias 0', only5(packet(0x30, A, '03 23 00 00')), 0x94, /alias|0x23/i],
  [
    'B48: a Topic Alias over our maximum',
    only5(packet(0x30, A, '03 23 ff ff')),
    0x94,
    /alias|0x23/i
  ],
  ['B50: a Subscription Identifier', only5(packet(0x30, A, '02 0b 01')), 0x82, /property/],
  [
    'B56: a Response Topic with a wildcard',
    only5(packet(0x30, A, '06 08 00 03', Buffer.from('a/#'))),
    0x82,
    /response topic|0x8/i
  ]
]

describe('a PUBLISH', () => {
  it.each(CLOSES.filter(([, { four }]) => four !== null))(
    '%s closes versions 3.1 and 3.1.1',
    async (name, { four }, _code, reason) => {
      // 3.1 does not forbid DUP with QoS 0.
      for (const version of name.startsWith('B40') ? ([4] as const) : ([3, 4] as const)) {
        await bad.around([reason], async () => {
          expect(await bad.answers(await bad.open(version), four!)).toEqual([])
        })
      }
    }
  )

  it.each(CLOSES)('%s closes version 5 with its reason', async (_name, { five }, code, reason) => {
    await bad.around([reason], async () => {
      const told = hex(packet(0xe0, [code]))
      expect(await bad.answers(await bad.open(5), five)).toEqual([told])
    })
  })

  it.each(VERSIONS)('B45: 200 separators pass in version %i', async version => {
    await bad.around([], async () => {
      const raw = await bad.open(version)
      const none = version === 5 ? '00' : ''
      raw.send(packet(0x82, '00 01', none, slashes(200), '00'))
      expect((await raw.next()).at(-1)).toBe(0)
      raw.send(packet(0x30, slashes(200), none))
      expect((await raw.next())[0]).toBe(0x30)
    })
  })

  it.each(VERSIONS)('B61: topics that begin with $ take nothing in version %i', async version => {
    const topics = ['$SYS/x', '$share/g/x', '$CONTROL/x']
    const reasons = [...topics, ...topics, ...topics].map(() => /not authorized/)
    await bad.around(reasons, async () => {
      const raw = await bad.open(version)
      const [none, code] = version === 5 ? ['00', '87'] : ['', '']
      for (const topic of topics) {
        raw.send(packet(0x30, text(topic), none))
        raw.send(packet(0x33, text(topic), '00 01', none, 'ff'))
        expect(hex(await raw.next())).toBe(hex(packet(0x40, '00 01', code)))
        raw.send(packet(0x34, text(topic), '00 02', none))
        expect(hex(await raw.next())).toBe(hex(packet(0x50, '00 02', code)))
      }
      await raw.quiet()
      expect(bad.gateway.broker.vhosts.get('/')!.retained.count).toBe(0)
    })
  })

  it.each(VERSIONS)('on a forbidden topic is dropped and counted in version %i', async version => {
    const denied = /not authorized/
    await bad.around([denied, denied, denied], async () => {
      const raw = await bad.open(version, { username: 'bob' })
      const { dropped } = bad.gateway.broker.counters
      const before = dropped.get('not_authorized')!
      const [none, code] = version === 5 ? ['00', '87'] : ['', '']
      raw.send(packet(0x30, text('secret/a'), none))
      raw.send(packet(0x32, text('secret/a'), '00 01', none))
      expect(hex(await raw.next())).toBe(hex(packet(0x40, '00 01', code)))
      raw.send(packet(0x34, text('secret/a'), '00 02', none))
      expect(hex(await raw.next())).toBe(hex(packet(0x50, '00 02', code)))
      expect(dropped.get('not_authorized')! - before).toBe(3)
      const line = bad.gateway.lines.find(({ msg }) => msg === 'denied')
      expect(line).toMatchObject({ user: 'bob', action: 'publish', topic: 'secret/a' })
    })
  })
})

describe('a flow', () => {
  it('B51: version 5 may not have more open than our Receive Maximum', async () => {
    await bad.around([/receive maximum exceeded/], async () => {
      const publishes = Array.from({ length: 1001 }, (_, i) => {
        return packet(0x34, A, [(i + 1) >> 8, (i + 1) & 255], '00')
      })
      const seen = await bad.answers(await bad.open(5), ...publishes)
      expect(seen.length).toBe(1001)
      expect(seen[0]).toBe('50020001')
      expect(seen.at(-1)).toBe('e00193')
    })
  })

  it.each([3, 4] as const)(
    'B51: version %i may have every identifier open, no pause, no close',
    async version => {
      await bad.around([], async () => {
        const raw = await bad.open(version)
        for (let id = 1; id <= 65_535; id++) raw.socket.write(packet(0x34, A, [id >> 8, id & 255]))
        for (let id = 1; id <= 65_535; id++) expect((await raw.next())[0]).toBe(0x50)
        raw.send('62 02 00 01')
        expect(hex(await raw.next())).toBe('70020001')
      })
    }
  )

  it.each(VERSIONS)('B53: a PUBREL of nothing is answered in version %i', async version => {
    await bad.around([], async () => {
      const raw = await bad.open(version)
      raw.send('62 02 00 07')
      expect(hex(await raw.next())).toBe(version === 5 ? '7003000792' : '70020007')
      await raw.quiet()
    })
  })

  it.each(VERSIONS)(
    'B54: acknowledgements of the wrong kind leave version %i as it was',
    async version => {
      await bad.around([], async () => {
        const raw = await bad.open(version)
        const none = version === 5 ? '00' : ''
        raw.send(packet(0x82, '00 01', none, A, '02'))
        expect((await raw.next()).at(-1)).toBe(2)
        const publisher = await bad.open(version)
        publisher.send(packet(0x32, A, '00 01', none), packet(0x34, A, '00 02', none))
        const one = await raw.next()
        const two = await raw.next()
        expect([one[0], two[0]]).toEqual([0x32, 0x34])
        const ids = [one, two].map(found => [found[5]!, found[6]!])
        const { counters } = bad.gateway.broker
        const before = counters.unexpectedAcks
        // A PUBREC for QoS 1, a PUBACK for QoS 2, a PUBCOMP too early, and one of each for nothing.
        raw.send(
          packet(0x50, ids[0]!),
          packet(0x40, ids[1]!),
          packet(0x70, ids[1]!),
          packet(0x40, '77 77'),
          packet(0x70, '77 77')
        )
        // Its receiver waits for a PUBREL; version 5's says that the identifier is not known (§4.3.3).
        const released = packet(0x62, ids[0]!, version === 5 ? '92' : '')
        expect(hex(await raw.next())).toBe(hex(released))
        await raw.quiet()
        expect(counters.unexpectedAcks - before).toBe(5)
        // Both deliveries are still open, and end as they should.
        raw.send(packet(0x40, ids[0]!), packet(0x50, ids[1]!))
        expect(hex(await raw.next())).toBe(hex(packet(0x62, ids[1]!)))
        raw.send(packet(0x70, ids[1]!))
        await raw.quiet()
        expect(counters.unexpectedAcks - before).toBe(5)
      })
    }
  )

  it('B57: a Payload Format Indicator that lies is passed through as it came', async () => {
    await bad.around([], async () => {
      const raw = await bad.open(5)
      raw.send(packet(0x82, '00 01 00', A, '00'))
      await raw.next()
      const lie = packet(0x30, A, '02 01 01', 'ff fe')
      raw.send(lie)
      expect(hex(await raw.next())).toBe(hex(lie))
    })
  })

  it('B58: a Message Expiry of 0 is for now only, one of 0xFFFFFFFF stays what it is', async () => {
    await bad.around([/client disconnected/], async () => {
      const options = { clientId: 'b58', clean: false, properties: { sessionExpiryInterval: 600 } }
      const subscriber = await bad.open(5, options)
      subscriber.send(packet(0x82, '00 01 00', A, '01'))
      expect((await subscriber.next()).at(-1)).toBe(1)
      const publisher = await bad.open(5)
      const send = async (expiry: string, payload: string) => {
        publisher.send(packet(0x32, A, '00 01', '05 02', expiry, payload))
        expect((await publisher.next())[0]).toBe(0x40)
      }
      await send('00 00 00 00', '01')
      const live = await subscriber.next()
      expect(live.at(-1)).toBe(1)
      subscriber.send(packet(0x40, live.subarray(5, 7)))
      await subscriber.quiet()
      subscriber.send('e0 00')
      await subscriber.rest()
      await send('00 00 00 00', '02')
      await send('ff ff ff ff', '03')
      bad.gateway.pass(1)
      const back = await bad.open(5, options)
      const waited = await back.next()
      expect(waited.at(-1)).toBe(3)
      expect(hex(waited)).toMatch(/02fffffffe03$/)
      await back.quiet()
    })
  })
})
