/** MQTT 5.0 §4.12 Enhanced authentication, with a method of two steps that the test makes up. */
import { describe, expect, it } from 'vitest'
import type { ExchangeStep } from '../../src/auth/authenticator.ts'
import { Principal } from '../../src/core/principal.ts'
import type { Gateway } from '../support/gateway.ts'
import { startGateway } from '../support/mqtt-moves.ts'
import {
  ackPacket,
  block,
  connectPacket,
  ending,
  ID,
  next,
  property,
  propertyOf,
  publishPacket,
  type Received,
  subscribePacket,
  unsubscribePacket
} from '../support/mqtt5-bytes.ts'
import { dialed, published, quiet, subscribed, subscriber } from '../support/mqtt5-moves.ts'
import { type Bytes, packet, type RawMqtt } from '../support/raw-mqtt.ts'

const METHOD = 'TWO-STEPS'
const PRINCIPAL = new Principal('', [], '/', [], [], true)

/** `hello`, the answer `who?`, then `me`, which is right. */
function step(data: Uint8Array): ExchangeStep {
  const said = Buffer.from(data).toString()
  if (said === 'hello') return { state: 'continue', data: Buffer.from('who?') }
  if (said === 'me') return { state: 'done', data: Buffer.from('welcome'), principal: PRINCIPAL }
  return { state: 'failed', reason: 'bad-credentials' }
}

async function start(): Promise<Gateway> {
  return await startGateway({ exchange: method => (method === METHOD ? { step } : null) })
}

const authPacket = (reason: number, data: string, method = METHOD, ...more: Bytes[]) =>
  packet(
    0xf0,
    [reason],
    block(property(ID.authenticationMethod, method), property(ID.authenticationData, data), ...more)
  )

const says = (received: Received) => [
  received.first,
  ...received.reasons,
  String(propertyOf(received, ID.authenticationMethod)),
  String(propertyOf(received, ID.authenticationData))
]

/** A CONNECT that begins an exchange, answered by the server's question. */
async function asked(gateway: Gateway, clientId = 'c', ...more: Bytes[]): Promise<RawMqtt> {
  const properties = [
    property(ID.authenticationMethod, METHOD),
    property(ID.authenticationData, 'hello'),
    ...more
  ]
  const raw = await dialed(gateway, connectPacket({ clientId, properties }))
  expect(says(await next(raw))).toEqual([0xf0, 0x18, METHOD, 'who?'])
  return raw
}

async function loggedIn(gateway: Gateway, clientId = 'c', ...more: Bytes[]): Promise<RawMqtt> {
  const raw = await asked(gateway, clientId, ...more)
  raw.send(authPacket(0x18, 'me'))
  expect(says(await next(raw))).toEqual([0x20, 0, METHOD, 'welcome'])
  return raw
}

describe('an authentication', () => {
  it('goes on with AUTH of 0x18 both ways, the method in each, until CONNACK, v5 [MQTT-4.12.0-2] [MQTT-4.12.0-3] [MQTT-4.12.0-5] [MQTT-3.15.2-1] [MQTT-3.2.0-1]', async () => {
    const gateway = await start()
    const raw = await loggedIn(gateway)
    await subscribed(raw, 'a')
    await published(await loggedIn(gateway, 'other'), 'a', 'x')
    expect((await next(raw)).payload).toBe('x')
  })

  it('whose AUTH has another reason or another method is refused, v5 [MQTT-4.12.0-3] [MQTT-4.12.0-5] [MQTT-3.14.0-1]', async () => {
    const gateway = await start()
    for (const input of [
      authPacket(0x00, 'me'),
      authPacket(0x19, 'me'),
      authPacket(0x18, 'me', 'OTHER'),
      authPacket(0x18, 'me', METHOD.toLowerCase()),
      packet(0xf0, '18', block(property(ID.authenticationData, 'me')))
    ]) {
      const raw = await asked(gateway)
      raw.send(input)
      const firsts = await ending(raw)
      expect([[], ['2082']]).toContainEqual(firsts)
    }
    expect(gateway.broker.state.sessions.size).toBe(0)
  })

  it('that fails is told and closed, and what follows is not processed, v5 [MQTT-4.12.0-4] [MQTT-3.1.4-6] [MQTT-4.13.2-1]', async () => {
    const gateway = await start()
    const watcher = await subscriber(gateway, '#', 0, { clientId: 'watcher' })
    const raw = await asked(gateway)
    raw.send(authPacket(0x18, 'nobody'), authPacket(0x18, 'me'), publishPacket('a', 'x'))
    expect(await ending(raw)).toEqual(['2086'])
    await quiet(watcher)
  })

  it.each([
    ['CONNECT', connectPacket()],
    ['PUBLISH', publishPacket('a', 'x')],
    ['PUBLISH of QoS 1', publishPacket('a', 'x', { qos: 1, id: 1 })],
    ['PUBACK', ackPacket(0x40, 1)],
    ['PUBREL', ackPacket(0x62, 1)],
    ['SUBSCRIBE', subscribePacket(1, [['#', 0]])],
    ['UNSUBSCRIBE', unsubscribePacket(1, ['#'])],
    ['PINGREQ', packet(0xc0)],
    ['CONNACK', packet(0x20, '00 00 00')]
  ])(
    'knows nothing but AUTH and DISCONNECT before its CONNACK: not %s, v5 [MQTT-3.1.2-30] [MQTT-3.14.0-1] [MQTT-3.2.0-1]',
    async (_, input) => {
      const gateway = await start()
      const watcher = await subscriber(gateway, '#', 0, { clientId: 'watcher' })
      const raw = await asked(gateway)
      raw.send(input, authPacket(0x18, 'me'))
      const answers = await ending(raw)
      expect(answers.length).toBeLessThan(2)
      if (answers.length > 0) expect(answers[0]).toMatch(/^208[12]$/)
      await quiet(watcher)
      expect(gateway.broker.state.sessions.size).toBe(1)
    }
  )

  it('may be left by a DISCONNECT, v5 [MQTT-3.1.2-30]', async () => {
    const gateway = await start()
    const raw = await asked(gateway)
    raw.send('e0 00')
    expect(await ending(raw)).toEqual([])
    expect(gateway.broker.state.sessions.size).toBe(0)
  })

  it('has no AUTH larger than the client takes, v5 [MQTT-3.15.2-2] [MQTT-3.15.2-3] [MQTT-3.1.2-24]', async () => {
    const gateway = await start()
    for (let size = 8; size <= 80; size += 4) {
      const properties = [
        property(ID.authenticationMethod, METHOD),
        property(ID.authenticationData, 'hello'),
        property(ID.maximumPacketSize, size)
      ]
      const raw = await dialed(gateway, connectPacket({ properties }))
      raw.send(authPacket(0x18, 'me'))
      const answers: Buffer[] = []
      for (let i = 0; i < 2; i++) {
        const answer = await Promise.race([
          raw.next().catch(() => null),
          new Promise<null>(resolve => setTimeout(resolve, 50, null))
        ])
        if (answer === null) break
        answers.push(answer)
      }
      for (const answer of answers) expect(answer.length).toBeLessThanOrEqual(size)
      raw.destroy()
    }
  })
})

describe('a re-authentication', () => {
  it('begins with 0x19 and ends with 0x00, the method in each, v5 [MQTT-4.12.1-1] [MQTT-4.12.0-5]', async () => {
    const gateway = await start()
    const raw = await loggedIn(gateway)
    await subscribed(raw, 'a')
    for (let i = 0; i < 3; i++) {
      raw.send(authPacket(0x19, 'hello'))
      expect(says(await next(raw))).toEqual([0xf0, 0x18, METHOD, 'who?'])
      raw.send(publishPacket('a', 'between'))
      expect((await next(raw)).payload).toBe('between')
      raw.send(authPacket(0x18, 'me'))
      expect(says(await next(raw))).toEqual([0xf0, 0x00, METHOD, 'welcome'])
    }
    await quiet(raw)
  })

  it('of another method, out of turn, or without one in CONNECT is a protocol error [B33], v5 [MQTT-4.12.1-1] [MQTT-4.12.0-7]', async () => {
    const gateway = await start()
    for (const inputs of [
      [authPacket(0x19, 'hello', 'OTHER')],
      [authPacket(0x18, 'hello')],
      [authPacket(0x00, 'hello')],
      [authPacket(0x19, 'hello'), authPacket(0x19, 'hello')],
      [packet(0xf0, '19', block(property(ID.authenticationData, 'hello')))]
    ]) {
      const raw = await loggedIn(gateway)
      raw.send(...inputs)
      expect((await ending(raw)).at(-1)).toBe('e082')
    }
    const plain = await subscriber(gateway, 'a', 0, { clientId: 'plain' })
    plain.send(authPacket(0x19, 'hello'))
    expect(await ending(plain)).toEqual(['e082'])
  })

  it('that fails ends the connection with a DISCONNECT, v5 [MQTT-4.12.1-2] [MQTT-4.13.2-1]', async () => {
    const gateway = await start()
    for (const inputs of [
      [authPacket(0x19, 'nobody')],
      [authPacket(0x19, 'hello'), authPacket(0x18, 'nobody')]
    ]) {
      const raw = await loggedIn(gateway)
      raw.send(...inputs, publishPacket('a', ''), 'c0 00')
      const last = (await ending(raw)).at(-1)
      expect(last).toBe('e087')
    }
  })
})
