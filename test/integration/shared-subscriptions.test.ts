/** Shared subscriptions of the started program: over kill -9, and its counters. */
import { afterEach, beforeEach, expect, it } from 'vitest'
import { type Metrics, readMetrics } from '../support/metrics.ts'
import { Program } from '../support/program.ts'
import { RawClient, type RawClientOptions } from '../support/raw-client.ts'

const JOBS = '$share/g/jobs/#'
const KILLS = 4

let program: Program
const clients: RawClient[] = []

beforeEach(async () => {
  program = await Program.start()
})

afterEach(async () => {
  for (const client of clients.splice(0)) client.destroy()
  await program.remove()
})

async function connected(clientId: string, options: Partial<RawClientOptions> = {}) {
  const client = new RawClient({ clientId, version: 5, ...options })
  client.onError = () => undefined
  clients.push(client)
  await client.connect(program.port('mqtt'))
  return client
}

function droppedOf(metrics: Metrics): number {
  const lines = metrics.text
    .split('\n')
    .filter(line => line.startsWith('motemq_messages_dropped_total'))
  return lines.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0)
}

it('loses nothing and doubles no QoS 2 over kill -9, v5 [MQTT-4.8.2-4] [MQTT-4.8.2-5]', async () => {
  const counts = new Map<string, number>()
  const members: RawClient[] = []
  for (const [at, version] of ([5, 4, 5] as const).entries()) {
    const member = await connected(`m${at}`, { version, ackDelayMs: at * 3 })
    member.onMessage = ({ payload }) => {
      const text = String(payload)
      counts.set(text, (counts.get(text) ?? 0) + 1)
    }
    await member.subscribe(JOBS, 2)
    members.push(member)
  }
  const publisher = await connected('p')
  const settled = new Set<string>()
  let number = 0
  for (let kill = 0; kill < KILLS; kill++) {
    const until = Date.now() + 250
    while (Date.now() < until) {
      for (let left = 20; left > 0 && publisher.openCount < 60; left--) {
        const qos = (1 + (number % 2)) as 1 | 2
        const text = `${qos}:${number++}`
        publisher.publish('jobs/x', Buffer.from(text), { qos, onSettled: () => settled.add(text) })
      }
      await new Promise(resolve => setTimeout(resolve, 2))
    }
    // One of them is away for a while with all that it has not acknowledged.
    const away = members[kill % 3]!
    if (kill % 2 === 0) away.destroy()
    await program.kill()
    await program.restart()
    for (const client of [publisher, ...members]) {
      if (client !== away) await client.connect(program.port('mqtt'))
    }
    await away.connect(program.port('mqtt'))
  }
  await expect.poll(() => publisher.openCount, { timeout: 20_000 }).toBe(0)
  await expect
    .poll(() => [...settled].filter(text => !counts.has(text)), { timeout: 20_000 })
    .toEqual([])
  for (const member of members) await member.pong()
  const doubled = [...counts].filter(([text, count]) => text.startsWith('2:') && count > 1)
  expect(doubled).toEqual([])
  expect(settled.size).toBeGreaterThan(100)
  const metrics = await readMetrics(program)
  expect(metrics.sum('messages_ready') + metrics.sum('messages_unacked')).toBe(0)
})

it('drops nothing that a member left unread when its session ended: another gets it', async () => {
  const stuck = await connected('stuck', { clean: true, version: 4 })
  await stuck.subscribe(JOBS, 1)
  stuck.pause()
  const publisher = await connected('p', { clean: true })
  const COUNT = 1_000
  // More than the kernel takes for a peer that does not read.
  for (let number = 0; number < COUNT; number++) {
    const payload = Buffer.alloc(8_000)
    payload.write(`${number} `)
    publisher.publish('jobs/x', payload, { qos: 1 })
    if (number % 20 === 19) await publisher.pong()
  }
  await expect.poll(() => publisher.openCount, { timeout: 20_000 }).toBe(0)
  const got = new Set<number>()
  const quick = await connected('quick', { clean: true })
  quick.onMessage = ({ payload }) => got.add(Number.parseInt(payload.toString('latin1', 0, 8), 10))
  await quick.subscribe(JOBS, 1)
  stuck.destroy()
  await expect.poll(() => got.size, { timeout: 20_000 }).toBe(COUNT)
  await quick.pong()
  const metrics = await readMetrics(program)
  expect(droppedOf(metrics)).toBe(0)
  expect(metrics.sum('messages_ready') + metrics.sum('messages_unacked')).toBe(0)
})

it('counts every message once: sent = delivered + waiting + dropped', async () => {
  const slow = await connected('slow', { ackDelayMs: 60_000 })
  await slow.subscribe(JOBS, 1)
  const quick = await connected('quick', { clean: true })
  await quick.subscribe(JOBS, 2)
  const publisher = await connected('p', { clean: true })
  const COUNT = 3_000
  for (let number = 0; number < COUNT; number++) {
    publisher.publish('jobs/x', Buffer.from(`${number}`), { qos: (number % 3) as 0 | 1 | 2 })
    if (number % 100 === 99) await publisher.pong()
  }
  await expect.poll(() => publisher.openCount, { timeout: 20_000 }).toBe(0)
  await quick.pong()
  const open = await readMetrics(program)
  expect(open.sum('messages_received_total')).toBe(COUNT)
  expect(open.sum('messages_sent_total') + droppedOf(open)).toBe(COUNT)
  await quick.end()
  await slow.end()
  for (let number = 0; number < 100; number++) {
    publisher.publish('jobs/x', Buffer.from('late'), { qos: 1 })
  }
  for (let number = 0; number < 10; number++) {
    publisher.publish('jobs/x', Buffer.from('late'), { qos: 0 })
  }
  await publisher.pong()
  await expect.poll(() => publisher.openCount, { timeout: 20_000 }).toBe(0)
  const waiting = await readMetrics(program)
  expect(waiting.sum('messages_ready')).toBe(100)
  expect(waiting.sum('messages_dropped_total', { reason: 'offline_qos0' })).toBe(10)
  expect(waiting.sum('messages_received_total')).toBe(COUNT + 110)
  const counted =
    waiting.sum('messages_sent_total') + waiting.sum('messages_ready') + droppedOf(waiting)
  expect(counted).toBe(COUNT + 110)
})
