import { describe, expect, it } from 'vitest'
import { Principal } from '../../src/core/principal.ts'
import type { GatewayOptions } from '../support/gateway.ts'
import {
  connectTo,
  hex,
  lasting,
  publish,
  startGateway,
  subscribe,
  subscribed
} from '../support/mqtt-moves.ts'
import { packet, type RawMqtt, text } from '../support/raw-mqtt.ts'

const READER = new Principal(
  'reader',
  [],
  '/',
  [],
  [{ effect: 'allow', access: 'read', filter: 'open/#' }],
  false
)
/** Whoever logs in may read `open/#` and publish nothing. */
const readersOnly: GatewayOptions = {
  authenticate: ({ username }) =>
    Promise.resolve(
      username === 'bad'
        ? ({ ok: false, reason: 'bad-credentials' } as const)
        : ({ ok: true, principal: READER } as const)
    )
}

const reasonString = (found: object) =>
  (found as { properties?: { reasonString?: string } }).properties?.reasonString

/** A CONNECT of version 5 with property bytes. */
async function connect5(raw: RawMqtt, properties: string, id = 'x'): Promise<void> {
  raw.version = 5
  const bytes = Buffer.from(properties.replaceAll(' ', ''), 'hex')
  raw.send(packet(0x10, text('MQTT'), '05 02 00 3c', [bytes.length], bytes, text(id)))
}

describe('reason strings', () => {
  it('stand in CONNACK, PUBACK, PUBREC, SUBACK and DISCONNECT that refuse', async () => {
    const gateway = await startGateway(readersOnly)
    const refused = await gateway.dial()
    refused.version = 5
    refused.send(packet(0x10, text('MQTT'), '05 82 00 3c 00', text('x'), text('bad')))
    const connack = await refused.read()
    expect(connack).toMatchObject({ cmd: 'connack', reasonCode: 0x86 })
    expect(reasonString(connack)).toBe('bad credentials')
    const raw = await connectTo(gateway, 5, 'x')
    publish(raw, 0x32, 'open/a', 'x', 7)
    const puback = await raw.read()
    expect(puback).toMatchObject({ cmd: 'puback', messageId: 7, reasonCode: 0x87 })
    expect(reasonString(puback)).toBe('not authorized')
    publish(raw, 0x34, 'open/a', 'x', 8)
    const pubrec = await raw.read()
    expect(pubrec).toMatchObject({ cmd: 'pubrec', messageId: 8, reasonCode: 0x87 })
    expect(reasonString(pubrec)).toBe('not authorized')
    raw.send(packet(0x82, '00 09 00', text('open/a'), '00', text('closed'), '00'))
    const suback = await raw.read()
    expect(suback).toMatchObject({ cmd: 'suback', messageId: 9, granted: [0, 0x87] })
    expect(reasonString(suback)).toBe('not authorized')
    raw.send('f0 00')
    const disconnect = await raw.read()
    expect(disconnect).toMatchObject({ cmd: 'disconnect', reasonCode: 0x82 })
    expect(reasonString(disconnect)).toMatch(/AUTH/)
  })

  it('stand nowhere where nothing is refused', async () => {
    const gateway = await startGateway()
    const raw = await connectTo(gateway, 5, 'x')
    publish(raw, 0x32, 'nobody', 'x', 7)
    expect(hex(await raw.exact())).toBe('4003000710')
    subscribe(raw, 'a', 1)
    expect(hex(await raw.exact())).toBe('900400010001')
  })

  it('are left out where Request Problem Information is 0: v5 [MQTT-3.1.2-29]', async () => {
    const gateway = await startGateway(readersOnly)
    const raw = await gateway.dial()
    await connect5(raw, '17 00')
    await raw.next()
    publish(raw, 0x32, 'open/a', 'x', 7)
    expect(hex(await raw.exact())).toBe('4003000787')
    publish(raw, 0x34, 'open/a', 'x', 8)
    expect(hex(await raw.exact())).toBe('5003000887')
    subscribe(raw, 'closed', 0)
    expect(hex(await raw.exact())).toBe('900400010087')
    // In a DISCONNECT they may stand all the same.
    raw.send('f0 00')
    expect(reasonString(await raw.read())).toMatch(/AUTH/)
  })

  it('are left out where they do not fit the Maximum Packet Size: v5 [MQTT-3.2.2-19] [MQTT-3.4.2-2] [MQTT-3.5.2-2] [MQTT-3.9.2-1] [MQTT-3.14.2-3] [MQTT-3.1.2-24]', async () => {
    const gateway = await startGateway(readersOnly)
    const raw = await gateway.dial()
    // 0x48 bytes: room for our CONNACK.
    await connect5(raw, '27 00 00 00 48')
    expect((await raw.next())[0]).toBe(0x20)
    raw.destroy()
    const refused = await gateway.dial()
    refused.version = 5
    const max = '27 00 00 00 12'
    refused.send(packet(0x10, text('MQTT'), '05 82 00 3c 05', max, text('x'), text('bad')))
    expect(hex(await refused.exact())).toBe('2003008600')
    for (const [bytes, answers] of [
      [21, ['4003000787', '5003000887', '900400010087', 'e00182']],
      [22, ['4003000787', '5003000887', '900400010087', 'e00182']]
    ] as const) {
      const small = await gateway.dial()
      await connect5(small, `27 00 00 00 ${bytes.toString(16)}`, `s${bytes}`)
      expect((await small.next())[0]).toBe(0x20)
      publish(small, 0x32, 'open/a', 'x', 7)
      expect(hex(await small.exact())).toBe(answers[0])
      publish(small, 0x34, 'open/a', 'x', 8)
      expect(hex(await small.exact())).toBe(answers[1])
      subscribe(small, 'closed', 0)
      expect(hex(await small.exact())).toBe(answers[2])
      small.send('f0 00')
      expect(hex(await small.exact())).toBe(answers[3])
    }
    // One byte more, and the PUBACK's fits: 5 + 1 + 3 + 14.
    const fits = await gateway.dial()
    await connect5(fits, '27 00 00 00 17', 'fits')
    await fits.next()
    publish(fits, 0x32, 'open/a', 'x', 7)
    expect((await fits.exact()).length).toBe(0x17)
  })

  it('never reach version 3.1.1', async () => {
    const gateway = await startGateway(readersOnly)
    const raw = await connectTo(gateway, 4, 'x')
    publish(raw, 0x32, 'open/a', 'x', 7)
    expect(hex(await raw.exact())).toBe('40020007')
    subscribe(raw, 'closed', 0)
    expect(hex(await raw.exact())).toBe('9003000180')
  })

  it('say why when the answer waits behind others for the disk', async () => {
    const gateway = await startGateway({ limits: { retainedMax: 1 } })
    const subscriber = await connectTo(gateway, 4, 's', lasting)
    await subscribed(subscriber, 'a', 1)
    const raw = await connectTo(gateway, 5, 'p')
    gateway.journal.isAutomatic = false
    publish(raw, 0x33, 'a', 'x', 1)
    publish(raw, 0x33, 'b', 'x', 2)
    await raw.quiet()
    gateway.journal.sync()
    expect(hex(await raw.next())).toBe('40020001')
    const second = await raw.read()
    expect(second).toMatchObject({ cmd: 'puback', messageId: 2, reasonCode: 0x97 })
    expect(reasonString(second)).toBe('quota exceeded')
  })
})

describe('Response Information', () => {
  const mqtt = { responseInformation: 'responses/%c' }
  const given = async (properties: string, id = 'x', options: GatewayOptions = { mqtt }) => {
    const gateway = await startGateway(options)
    const raw = await gateway.dial()
    await connect5(raw, properties, id)
    const connack = (await raw.read()) as { properties?: { responseInformation?: string } }
    return connack.properties?.responseInformation
  }

  it('is told to who asks for it, with the client id', async () => {
    expect(await given('19 01')).toBe('responses/x')
    expect(await given('19 01', 'x', { mqtt: { responseInformation: 'r' } })).toBe('r')
  })

  it('is told to nobody else: v5 [MQTT-3.1.2-28]', async () => {
    expect(await given('19 00')).toBe(undefined)
    expect(await given('')).toBe(undefined)
    expect(await given('19 01', 'x', {})).toBe(undefined)
    // As part of a topic such an id would mean something else.
    expect(await given('19 01', 'a/#')).toBe(undefined)
  })
})

describe('what CONNACK says we can', () => {
  it('is left out while we can all of it', async () => {
    const gateway = await startGateway()
    const raw = await gateway.dial()
    await connect5(raw, '')
    const { properties } = (await raw.read()) as { properties: object }
    expect(Object.keys(properties).filter(key => !key.startsWith('shared'))).toEqual([
      'receiveMaximum',
      'maximumPacketSize',
      'topicAliasMaximum'
    ])
  })

  it('is no retaining where nothing is retained: v5 [MQTT-3.2.2-13] [MQTT-3.2.2-14]', async () => {
    const gateway = await startGateway({ limits: { retainedMax: 0 } })
    for (const qos of [0, 1] as const) {
      const raw = await gateway.dial()
      await connect5(raw, '')
      expect(await raw.read()).toMatchObject({ properties: { retainAvailable: false } })
      publish(raw, 0x31 | (qos << 1), 'a', 'x', qos)
      expect(await raw.read()).toMatchObject({ cmd: 'disconnect', reasonCode: 0x9a })
    }
    const will = { topic: 'w', payload: Buffer.from('x'), qos: 0 as const, retain: true }
    const refused = await gateway.dial()
    expect((await refused.connect(5, { will }))[3]).toBe(0x9a)
    const four = await gateway.dial()
    expect((await four.connect(4, { will }))[3]).toBe(0)
  })

  it('is no wildcards where none are allowed', async () => {
    const gateway = await startGateway({ limits: { wildcardSubscriptionsMax: 0 } })
    const raw = await gateway.dial()
    await connect5(raw, '')
    expect(await raw.read()).toMatchObject({
      properties: { wildcardSubscriptionAvailable: false }
    })
    await subscribed(raw, 'a/b', 0)
    subscribe(raw, 'a/+', 0)
    expect(await raw.read()).toMatchObject({ cmd: 'disconnect', reasonCode: 0xa2 })
    const four = await connectTo(gateway, 4, 'four')
    subscribe(four, 'a/+', 0)
    expect((await four.next()).at(-1)).toBe(0x80)
  })
})

describe('MQTT 3.1', () => {
  const connect3 = async (raw: RawMqtt, id: string, flags = 2) => {
    raw.send(packet(0x10, text('MQIsdp'), '03', [flags], '00 3c', text(id)))
    return hex(await raw.next())
  }

  it('may have ids of more than 23 characters, and none of 0', async () => {
    const gateway = await startGateway()
    expect(await connect3(await gateway.dial(), 'x'.repeat(24))).toBe('20020000')
    expect(await connect3(await gateway.dial(), '')).toBe('20020002')
  })

  it('is told of a session that is there by no flag: the byte is reserved', async () => {
    const gateway = await startGateway()
    const first = await gateway.dial()
    expect(await connect3(first, 'old', 0)).toBe('20020000')
    await subscribed(first, 'a', 1)
    first.destroy()
    const publisher = await connectTo(gateway, 4, 'p')
    publish(publisher, 0x32, 'a', 'x', 1)
    await publisher.next()
    const second = await gateway.dial()
    expect(await connect3(second, 'old', 0)).toBe('20020000')
    expect((await second.next()).at(-1)).toBe('x'.charCodeAt(0))
  })

  it('is granted what it asked for where it may not subscribe: its SUBACK knows no failure', async () => {
    const gateway = await startGateway(readersOnly)
    const raw = await gateway.dial()
    await connect3(raw, 'old')
    raw.send(packet(0x82, '00 01', text('closed'), '01', text('open/a'), '02'))
    expect(hex(await raw.next())).toBe('900400010102')
  })
})
