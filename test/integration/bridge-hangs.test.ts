/**
 * Each way in which a far side can hang: the bridge says `stalled`, opens the link anew, and in the end everything is
 * there, in order, and what came twice has the same identifier.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer as createTcpServer, type AddressInfo, type LookupFunction } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Channel, type ChannelModel, connect } from 'amqplib'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { encodeProperties } from '../../src/amqp/properties.ts'
import { Bridges } from '../../src/bridge/bridges.ts'
import { AmqpLink } from '../../src/bridge/links/amqp.ts'
import type { BridgeSettings } from '../../src/bridge/settings.ts'
import { publish } from '../../src/broker/publish.ts'
import { OwnPublisher } from '../../src/broker/own-publisher.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { AmqpRelay, BASIC_ACK, EXCHANGE_DECLARE_OK, OPEN_OK } from '../support/amqp-relay.ts'
import { SETTINGS } from '../support/bridge-rig.ts'
import { messageOf, openRig, type Rig } from '../support/broker-rig.ts'
import { MotemqProcess } from '../support/motemq-process.ts'

let cwd = ''
let far: MotemqProcess
let farPort = 0
let client: ChannelModel
let channel: Channel
let relay: AmqpRelay
let rig: Rig
let bridges: Bridges
let lookup: LookupFunction | null
let published = 0

beforeAll(async () => {
  cwd = mkdtempSync(join(tmpdir(), 'motemq-bridge-'))
  far = new MotemqProcess(['--data', 'far', '--listen', 'amqp://127.0.0.1:0'], { cwd })
  farPort = Number(new URL((await far.ready())[0]!).port)
  client = await connect(`amqp://guest:guest@127.0.0.1:${farPort}`)
  channel = await client.createChannel()
})

afterAll(async () => {
  await client.close()
  await far.stop()
  rmSync(cwd, { recursive: true, force: true })
})

beforeEach(async () => {
  await channel.assertQueue('backend')
  await channel.bindQueue('backend', 'amq.topic', 'a.#')
  await channel.purgeQueue('backend')
  relay = await AmqpRelay.open(farPort)
  rig = await openRig()
  lookup = null
  published = 0
  bridges = new Bridges({
    broker: rig.broker,
    clock: systemClock,
    origin: '0123456789abcdef',
    random: Math.random,
    makeLink: (settings, owner) => new AmqpLink(settings, owner, encodeProperties, lookup)
  })
  bridges.start()
})

afterEach(async () => {
  await bridges.close()
  relay.close()
  await rig.close()
})

function bridge(changes: Partial<BridgeSettings> = {}): void {
  bridges.configure([
    {
      ...SETTINGS,
      url: `amqp://guest@127.0.0.1:${relay.port}`,
      password: 'guest',
      window: 100,
      stallMs: 400,
      retryMinMs: 20,
      retryMaxMs: 200,
      heartbeatSeconds: 1,
      ...changes
    }
  ])
}

const status = () => bridges.list()[0]!

async function until(what: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await what())) await new Promise(resolve => setTimeout(resolve, 20))
}

/** Numbered, each in its own message. */
async function send(count: number, padding = ''): Promise<void> {
  for (let i = 0; i < count; i++) {
    const message = messageOf('a/b', `${++published}${padding}`)
    message.qos = 1
    publish(rig.broker, message, new OwnPublisher(rig.vhost))
  }
  await rig.flush()
}

/** Everything has arrived, in order but for what was sent again, which has the identifier it had. */
async function expectAll(): Promise<void> {
  await until(() => status().messages === 0 && status().state === 'running')
  const numbers: number[] = []
  const byId = new Map<string, number>()
  for (;;) {
    const got = await channel.get('backend', { noAck: true })
    if (got === false) break
    const number = Number.parseInt(got.content.toString('utf8', 0, 20), 10)
    const id = String(got.properties.messageId)
    if (byId.has(id)) expect(byId.get(id)).toBe(number)
    else numbers.push(number)
    byId.set(id, number)
  }
  expect(numbers).toEqual(Array.from({ length: published }, (_, i) => i + 1))
}

async function expectStalled(): Promise<void> {
  await until(() => status().state === 'stalled')
  const { accepted } = relay
  await until(() => relay.accepted > accepted)
  expect(rig.lines.some(({ level, state }) => level === 50 && state === 'stalled')).toBe(true)
}

describe('a far side that', () => {
  it('takes everything and never confirms', async () => {
    relay.onFrame = (method, frame) => (method === BASIC_ACK ? null : frame)
    bridge()
    await send(50)
    await expectStalled()
    relay.mend()
    await expectAll()
  })

  it('confirms for a while and then no more, while its heartbeats go on', async () => {
    let acks = 0
    relay.onFrame = (method, frame) => (method === BASIC_ACK && ++acks > 3 ? null : frame)
    bridge({ window: 5, stallMs: 2_500 })
    await send(5)
    await until(() => status().confirmedTotal > 0)
    while (acks <= 3) await send(1)
    await expectStalled()
    expect(relay.heartbeats).toBeGreaterThan(0)
    relay.mend()
    await expectAll()
  })

  it('reads nothing any more, so that its window is shut', async () => {
    bridge({ window: 1_000 })
    await until(() => status().state === 'running')
    relay.isDeaf = true
    await send(100, ' '.repeat(100_000))
    await expectStalled()
    relay.mend()
    relay.cut()
    await expectAll()
  })

  it('is connected and says nothing to the greeting', async () => {
    relay.isSilent = true
    bridge()
    await send(5)
    await expectStalled()
    expect(status().lastError).toContain('did not open')
    relay.mend()
    await expectAll()
  })

  it('never answers to a declaration', async () => {
    relay.onFrame = (method, frame) => (method === EXCHANGE_DECLARE_OK ? null : frame)
    bridge()
    await send(5)
    await expectStalled()
    expect(status().lastError).toContain('declaring')
    relay.mend()
    await expectAll()
  })

  it('blocks whoever publishes, and says why', async () => {
    relay.onFrame = (method, frame) =>
      method === OPEN_OK ? Buffer.concat([frame, AmqpRelay.blocked('low on memory')]) : frame
    bridge()
    await send(5)
    await expectStalled()
    await until(() => status().lastError.includes('low on memory'))
    relay.mend()
    await expectAll()
  })

  it('accepts the connection and never ends the TLS handshake', async () => {
    const mute = createTcpServer(socket => socket.on('error', () => undefined).resume())
    await new Promise<void>(resolve => mute.listen(0, '127.0.0.1', resolve))
    bridge({ url: `amqps://guest@127.0.0.1:${(mute.address() as AddressInfo).port}` })
    await send(5)
    await until(() => status().state === 'stalled')
    expect(status().lastError).toContain('TLS')
    mute.close()
    bridge()
    await expectAll()
  })

  it('has a name that no name server answers for', async () => {
    lookup = () => undefined
    bridge({ url: `amqp://guest@far.invalid:${relay.port}` })
    await send(5)
    await until(() => status().state === 'stalled')
    lookup = null
    bridge()
    await expectAll()
  })

  it('is cut off again and again', async () => {
    bridge({ window: 7 })
    for (let i = 0; i < 20; i++) {
      await send(20)
      relay.cut()
    }
    await expectAll()
  })
})
