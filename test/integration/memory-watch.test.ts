/** The watch over the memory of the process: red refuses and pauses, and it ends by itself. */
import amqp from 'amqplib'
import { afterEach, expect, it } from 'vitest'
import { readMetrics } from '../support/metrics.ts'
import { Program } from '../support/program.ts'
import { packet, RawMqtt, text } from '../support/raw-mqtt.ts'

const WILL_BYTES = 60_000
/** More than fills the room of `startFull`, a bounded number all the same. */
const CLIENTS_MAX = 1_500
/** Before their login all clients together may make the broker hold 8 MiB. */
const BATCH = 50
const ROOM_BYTES = 48_000_000
const RED = 0.8
const POLL = { timeout: 30_000, interval: 100 }

let program: Program | null = null
const clients: RawMqtt[] = []

afterEach(async () => {
  for (const client of clients.splice(0)) client.destroy()
  await program?.remove()
  program = null
})

/** Starts it with red `ROOM_BYTES` above what it needs when nobody is there. */
async function startAlmostFull(): Promise<Program> {
  const bare = await Program.start()
  program = bare
  const needed = (await readMetrics(bare)).sum('resident_memory_bytes')
  await bare.remove()
  const limit = Math.round((needed + ROOM_BYTES) / RED)
  program = await Program.start({ flags: ['--memory-limit-bytes', String(limit)] })
  expect((await readMetrics(program)).sum('memory_limit_bytes')).toBe(limit)
  return program
}

async function isRed(running: Program): Promise<boolean> {
  return (await readMetrics(running)).sum('memory_level', { level: 'red' }) === 1
}

async function dial(running: Program): Promise<RawMqtt> {
  const client = await RawMqtt.dial(running.port('mqtt'))
  clients.push(client)
  return client
}

/** Clients with large wills come until it is red. */
async function fill(running: Program): Promise<void> {
  const will = { topic: 'gone', payload: Buffer.alloc(WILL_BYTES), qos: 0 as const, retain: false }
  for (let count = 0; count < CLIENTS_MAX && !(await isRed(running)); count += BATCH) {
    const batch = Array.from({ length: BATCH }, (_, i) => `holder-${count + i}`)
    await Promise.all(
      batch.map(
        async clientId => await (await dial(running)).connect(4, { clientId, will, keepalive: 0 })
      )
    )
  }
  await expect.poll(() => isRed(running), POLL).toBe(true)
}

async function connack(running: Program, version: 4 | 5): Promise<string> {
  const client = await dial(running)
  const answer = await client.connect(version, { clientId: `late-${version}` })
  client.destroy()
  return answer.toString('hex')
}

it('refuses new clients and holds publishers while clients hold too much, until they leave', async () => {
  const running = await startAlmostFull()
  const subscriber = await dial(running)
  await subscriber.connect(4, { clientId: 'subscriber' })
  subscriber.send(packet(0x82, [0, 1], text('a'), [0]))
  await subscriber.next()
  const publisher = await dial(running)
  await publisher.connect(4, { clientId: 'publisher' })
  const backend = await amqp.connect(running.url('amqp').href)
  const channel = await backend.createConfirmChannel()
  const said: string[] = []
  backend.on('error', () => undefined)
  backend.on('blocked', reason => said.push(`blocked: ${reason}`))
  backend.on('unblocked', () => said.push('unblocked'))

  await fill(running)

  expect(await connack(running, 5)).toMatch(/^20..0089/)
  expect(await connack(running, 4)).toBe('20020003')
  await expect(amqp.connect(running.url('amqp').href)).rejects.toThrow('ConnectionClose')
  await subscriber.quiet()
  channel.publish('amq.topic', 'a', Buffer.from('from amqp'))
  await expect.poll(() => said, POLL).toEqual(['blocked: low on memory'])
  publisher.send(packet(0x32, text('b'), [0, 7], [1]))
  expect((await publisher.next()).toString('hex')).toBe('40020007')
  await subscriber.quiet()
  const connections = async () =>
    (await readMetrics(running)).sum('connections', { protocol: 'mqtt' })
  const before = await connections()
  publisher.destroy()
  await expect.poll(connections, POLL).toBe(before - 1)
  expect(await isRed(running)).toBe(true)

  for (const client of clients) if (client !== subscriber) client.destroy()

  await expect.poll(() => isRed(running), POLL).toBe(false)
  expect(await connack(running, 5)).toMatch(/^20..0000/)
  await channel.waitForConfirms()
  await expect.poll(() => said, POLL).toEqual(['blocked: low on memory', 'unblocked'])
  expect((await subscriber.read()).cmd).toBe('publish')
  const next = await dial(running)
  await next.connect(4, { clientId: 'publisher' })
  for (const id of [1, 2]) {
    next.send(packet(0x32, text('b'), [0, id], [1]))
    expect((await next.next()).toString('hex')).toBe(`4002000${id}`)
  }
  await backend.close()
})
