import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import mqtt from 'mqtt'
import { afterAll, describe, expect, test } from 'vitest'
import { freePort } from '../support/free-port.ts'

const AEDES = fileURLToPath(new URL('../support/persistence-aedes.mjs', import.meta.url))
const root = mkdtempSync(join(tmpdir(), 'motemq-aedes-'))
const children: ChildProcessByStdio<null, Readable, null>[] = []

afterAll(() => {
  for (const child of children) child.kill('SIGKILL')
  rmSync(root, { recursive: true, force: true })
})

interface RunningAedes {
  readonly child: ChildProcessByStdio<null, Readable, null>
  readonly stored: string[]
}

/** Starts a broker and waits until it listens. */
async function startAedes(folder: string, port: number, id: string): Promise<RunningAedes> {
  const child = spawn(process.execPath, [AEDES, folder, `${port}`, id], {
    stdio: ['ignore', 'pipe', 'inherit']
  })
  children.push(child)
  const stored: string[] = []
  let text = ''
  const isReady = new Promise<void>((resolve, reject) => {
    child.on('close', () => reject(new Error('the broker ended before it was ready')))
    child.stdout.on('data', (chunk: Buffer) => {
      text += String(chunk)
      const lines = text.split('\n')
      text = lines.pop() ?? ''
      for (const line of lines) {
        if (line === 'ready') resolve()
        else if (line.startsWith('stored ')) stored.push(line.slice(7))
      }
    })
  })
  await isReady
  return { child, stored }
}

async function endAedes({ child }: RunningAedes, signal: NodeJS.Signals): Promise<void> {
  const closed = once(child, 'close')
  child.kill(signal)
  await closed
}

function connected(client: mqtt.MqttClient): Promise<mqtt.IConnackPacket> {
  return new Promise(resolve => {
    client.once('connect', resolve)
  })
}

async function subscriber(
  port: number,
  clientId: string,
  received: string[],
  topics: readonly string[] = []
): Promise<{ client: mqtt.MqttClient; isPresent: boolean }> {
  const client = mqtt.connect({
    port,
    host: '127.0.0.1',
    clientId,
    clean: false,
    reconnectPeriod: 50
  })
  client.on('message', (_topic, payload) => {
    received.push(String(payload))
  })
  const connack = await connected(client)
  if (topics.length > 0) await client.subscribeAsync([...topics], { qos: 2 })
  return { client, isPresent: connack.sessionPresent }
}

async function eventually(what: () => boolean): Promise<void> {
  await expect.poll(what, { timeout: 30_000, interval: 50 }).toBe(true)
}

describe('Aedes on the journal, killed and started again,', () => {
  for (const sameId of [false, true]) {
    test(`${sameId ? 'with the same id' : 'with another id'} has lost nothing that it stored`, async () => {
      const port = await freePort()
      const folder = join(root, String(sameId))
      const first = await startAedes(folder, port, 'broker')
      const away: string[] = []
      const there: string[] = []
      const offline = await subscriber(port, 'away', away, ['q/#', 'w/#'])
      await offline.client.endAsync()
      const online = await subscriber(port, 'there', there, ['q/#'])
      const mourner = mqtt.connect({
        port,
        host: '127.0.0.1',
        clientId: 'mourned',
        reconnectPeriod: 0,
        will: { topic: 'w/mourned', payload: Buffer.from('will'), qos: 1, retain: false }
      })
      await connected(mourner)
      const publisher = mqtt.connect({
        port,
        host: '127.0.0.1',
        clientId: 'publisher',
        clean: false,
        reconnectPeriod: 50
      })
      await connected(publisher)
      const publishing: Promise<unknown>[] = []
      for (let i = 0; i < 400; i++) {
        const options = { qos: (1 + (i % 2)) as 1 | 2, retain: i % 20 < 2 }
        const topic = options.retain ? `q/retained/${i % 20}/${i % 2}` : `q/${i % 7}`
        publishing.push(publisher.publishAsync(topic, `${options.qos}:${i}`, options))
      }
      await eventually(() => first.stored.length > 150)
      await endAedes(first, 'SIGKILL')
      const second = await startAedes(folder, port, sameId ? 'broker' : 'other')
      await Promise.all(publishing)
      await eventually(() => second.stored.includes('will'))
      const stored = new Set([...first.stored, ...second.stored])
      // Not all 400: Aedes acknowledges QoS 1 before it stores.
      expect(stored.size).toBeGreaterThan(150)

      const back = await subscriber(port, 'away', away)
      expect(back.isPresent).toBe(true)
      await expect
        .poll(() => [...stored].filter(text => !away.includes(text)), { timeout: 30_000 })
        .toEqual([])
      const kept = [...stored].filter(text => text !== 'will')
      await expect
        .poll(() => kept.filter(text => !there.includes(text)), { timeout: 30_000 })
        .toEqual([])
      // It was away all the time, so each is sent to it once.
      const exactlyOnce = away.filter(text => text.startsWith('2:'))
      expect(new Set(exactlyOnce).size).toBe(exactlyOnce.length)

      const retained: string[] = []
      const late = mqtt.connect({ port, host: '127.0.0.1', clientId: 'late' })
      late.on('message', (_topic, payload, packet) => {
        if (packet.retain) retained.push(String(payload))
      })
      await connected(late)
      await late.subscribeAsync('q/retained/#', { qos: 1 })
      await eventually(() => retained.length === 2)
      // What was stored and not told of before the kill counts too.
      expect(retained.every(text => /^[12]:\d+$/.test(text))).toBe(true)
      for (const client of [back.client, online.client, publisher, mourner, late]) client.end(true)
      await endAedes(second, 'SIGTERM')
      // What was taken and acknowledged does not come again.
      const third = await startAedes(folder, port, sameId ? 'broker' : 'third')
      const again: string[] = []
      const last = await subscriber(port, 'away', again)
      expect(last.isPresent).toBe(true)
      await new Promise(resolve => setTimeout(resolve, 300))
      expect(again).toEqual([])
      last.client.end(true)
      await endAedes(third, 'SIGTERM')
    })
  }
})
