/** mqtt.js against the started program: what an application sees. */
import { connect, connectAsync, type IClientOptions, type MqttClient } from 'mqtt'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { Program } from '../support/program.ts'

interface Got {
  readonly topic: string
  readonly text: string
  readonly qos: number
  readonly retain: boolean
}

let program: Program
const clients: MqttClient[] = []

async function open(options: IClientOptions = {}): Promise<MqttClient> {
  const url = program.url('mqtt').href
  const client = await connectAsync(url, { reconnectPeriod: 0, ...options })
  client.on('error', () => undefined)
  clients.push(client)
  return client
}

function collect(client: MqttClient): Got[] {
  const got: Got[] = []
  client.on('message', (topic, payload, { qos, retain }) => {
    got.push({ topic, text: String(payload), qos, retain })
  })
  return got
}

async function until(condition: () => boolean): Promise<void> {
  await expect.poll(condition, { timeout: 10_000, interval: 10 }).toBe(true)
}

beforeAll(async () => {
  program = await Program.start()
})

afterEach(async () => {
  await Promise.all(clients.splice(0).map(client => client.endAsync(true)))
})

afterAll(async () => {
  await program.remove()
})

describe.each([4, 5] as const)('mqtt.js at protocol version %i', protocolVersion => {
  it('shares a subscription: each message to one member', async () => {
    const topic = `js${protocolVersion}/share`
    const members = [await open({ protocolVersion }), await open({ protocolVersion: 4 })]
    const got = members.map(collect)
    for (const [at, member] of members.entries()) {
      const [grant] = await member.subscribeAsync(`$share/js/${topic}`, { qos: at === 0 ? 2 : 1 })
      expect(grant?.qos).toBe(at === 0 ? 2 : 1)
    }
    const publisher = await open({ protocolVersion })
    const all = Array.from({ length: 30 }, (_, number) => String(number))
    for (const text of all) {
      await publisher.publishAsync(topic, text, { qos: (Number(text) % 3) as 0 | 1 | 2 })
    }
    await until(() => got[0]!.length + got[1]!.length >= 30)
    expect(got.flatMap(list => list.map(({ text }) => text)).sort()).toEqual(all.sort())
    expect(got[1]!.every(({ qos }) => qos < 2)).toBe(true)
    expect(Math.min(...got.map(list => list.length))).toBeGreaterThan(5)
    await members[0]!.unsubscribeAsync(`$share/js/${topic}`)
    for (const text of ['x', 'y']) await publisher.publishAsync(topic, text, { qos: 1 })
    await until(() => got[1]!.filter(({ text }) => 'xy'.includes(text)).length === 2)
  })

  it.each([0, 1, 2] as const)('gets what was published at QoS %i, once', async qos => {
    const subscriber = await open({ protocolVersion })
    const got = collect(subscriber)
    const topic = `js${protocolVersion}/qos/${qos}`
    const [grant] = await subscriber.subscribeAsync(`js${protocolVersion}/+/${qos}`, { qos })
    expect(grant?.qos).toBe(qos)
    const publisher = await open({ protocolVersion })
    for (const text of ['a', 'b', 'c']) await publisher.publishAsync(topic, text, { qos })
    await until(() => got.length >= 3)
    expect(got).toEqual(['a', 'b', 'c'].map(text => ({ topic, text, qos, retain: false })))
  })

  it('gets a retained message when it subscribes, and none after it was deleted', async () => {
    const client = await open({ protocolVersion })
    const topic = `js${protocolVersion}/retained`
    await client.publishAsync(topic, 'kept', { qos: 1, retain: true })
    const first = await open({ protocolVersion })
    const got = collect(first)
    await first.subscribeAsync(topic, { qos: 1 })
    await until(() => got.length === 1)
    expect(got[0]).toEqual({ topic, text: 'kept', qos: 1, retain: true })
    await client.publishAsync(topic, '', { qos: 1, retain: true })
    const second = await open({ protocolVersion })
    const none = collect(second)
    await second.subscribeAsync(topic, { qos: 1 })
    await client.publishAsync(topic, 'live', { qos: 1 })
    await until(() => none.length > 0)
    expect(none.map(({ text }) => text)).toEqual(['live'])
  })

  it('has its will published when its connection breaks, and not when it says goodbye', async () => {
    const watcher = await open({ protocolVersion })
    const got = collect(watcher)
    const will = (name: string) => ({
      topic: `js${protocolVersion}/will/${name}`,
      payload: Buffer.from('gone'),
      qos: 1 as const,
      retain: false
    })
    await watcher.subscribeAsync(`js${protocolVersion}/will/#`, { qos: 1 })
    const polite = await open({ protocolVersion, will: will('polite') })
    await polite.endAsync()
    const lost = await open({ protocolVersion, will: will('lost') })
    lost.stream.destroy()
    await until(() => got.length > 0)
    expect(got.map(({ topic }) => topic)).toEqual([`js${protocolVersion}/will/lost`])
  })
})

describe('mqtt.js with a session that lasts', () => {
  it.each([4, 5] as const)(
    'gets, at version %i, what was published while it was away, over a kill -9',
    async protocolVersion => {
      const clientId = `js-lasting-${protocolVersion}`
      const topic = `js${protocolVersion}/away`
      const lasting: IClientOptions = { protocolVersion, clientId, clean: false }
      if (protocolVersion === 5) lasting.properties = { sessionExpiryInterval: 600 }
      const before = await open(lasting)
      await before.subscribeAsync(topic, { qos: 2 })
      await before.endAsync()
      const publisher = await open({ protocolVersion })
      for (const qos of [1, 2] as const)
        await publisher.publishAsync(topic, `first ${qos}`, { qos })
      await publisher.endAsync()
      await program.kill()
      await program.restart()
      const again = await open({ protocolVersion })
      await again.publishAsync(topic, 'second', { qos: 2 })
      // Messages may come with the CONNACK: the listener must be there before.
      const late = connect(program.url('mqtt').href, { ...lasting, reconnectPeriod: 0 })
      clients.push(late)
      const got = collect(late)
      await until(() => got.length >= 3)
      expect(got.map(({ text }) => text)).toEqual(['first 1', 'first 2', 'second'])
    }
  )

  it('comes back by itself after a kill, and goes on', async () => {
    const client = await open({ clientId: 'js-returns', clean: false, reconnectPeriod: 100 })
    const got = collect(client)
    await client.subscribeAsync('js/returns', { qos: 1 })
    await program.kill()
    await program.restart()
    await until(() => client.connected)
    await client.publishAsync('js/returns', 'here again', { qos: 1 })
    await until(() => got.length > 0)
    expect(got[0]?.text).toBe('here again')
  })
})
