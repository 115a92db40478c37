/** Real clients over WebSockets, and through HAProxy, against the started program. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect as connectTcp } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connectAsync, type IClientOptions, type MqttClient } from 'mqtt'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { WebSocket } from 'ws'
import { freePort } from '../support/free-port.ts'
import { readMetrics } from '../support/metrics.ts'
import { Program } from '../support/program.ts'
import { findProgram, requireProgram } from '../support/require.ts'
import { startPython } from '../support/run.ts'

let program: Program
const clients: MqttClient[] = []

beforeAll(async () => {
  program = await Program.start({
    listen: [
      'ws://127.0.0.1:0',
      'mqtt://127.0.0.1:0',
      'http://127.0.0.1:0',
      'mqtt://127.0.0.2:0?proxyProtocol=127.0.0.1&insecure=true',
      'ws://127.0.0.2:0?proxyProtocol=127.0.0.1&insecure=true',
      'amqp://127.0.0.2:0?proxyProtocol=127.0.0.1',
      'http://127.0.0.2:0?proxyProtocol=127.0.0.1'
    ]
  })
})
afterEach(async () => {
  await Promise.all(clients.splice(0).map(client => client.endAsync(true)))
})
afterAll(async () => {
  await program.remove()
})

const urlOf = (start: string) => new URL(program.urls.find(url => url.startsWith(start))!)

async function open(options: IClientOptions = {}, path = '/mqtt'): Promise<MqttClient> {
  const { port } = urlOf('ws://127.0.0.1')
  const url = `ws://127.0.0.1:${port}${path}`
  const client = await connectAsync(url, { reconnectPeriod: 0, ...options })
  client.on('error', () => undefined)
  clients.push(client)
  return client
}

async function until(condition: () => boolean): Promise<void> {
  await expect.poll(condition, { timeout: 10_000, interval: 10 }).toBe(true)
}

describe.each([3, 4, 5] as const)('mqtt.js at protocol version %i', protocolVersion => {
  const options: IClientOptions =
    protocolVersion === 3 ? { protocolVersion, protocolId: 'MQIsdp' } : { protocolVersion }

  it.each([0, 1, 2] as const)('gets what was published at QoS %i, once and in order', async qos => {
    const subscriber = await open(options, qos === 1 ? '/ws' : '/')
    const got: string[] = []
    subscriber.on('message', (_topic, payload) => got.push(String(payload)))
    const topic = `web/${protocolVersion}/${qos}`
    await subscriber.subscribeAsync(topic, { qos })
    const publisher = await open(options)
    const texts = Array.from({ length: 200 }, (_, i) => `${i}`.padEnd(i * 20, '.'))
    await Promise.all(texts.map(text => publisher.publishAsync(topic, text, { qos })))
    await until(() => got.length >= texts.length)
    expect(got).toEqual(texts)
  })
})

it('a session lasts from one WebSocket to the next, and over TCP', async () => {
  const lasting = { clientId: 'roamer', protocolVersion: 4, clean: false } as const
  const first = await open(lasting)
  await first.subscribeAsync('roaming', { qos: 2 })
  await first.endAsync()
  const publisher = await open()
  for (let i = 0; i < 50; i++) await publisher.publishAsync('roaming', `${i}`, { qos: 2 })
  const got: string[] = []
  const again = await connectAsync(program.url('mqtt').href, { ...lasting, reconnectPeriod: 0 })
  again.on('message', (_topic, payload) => got.push(String(payload)))
  clients.push(again)
  await until(() => got.length >= 50)
  expect(got).toEqual(Array.from({ length: 50 }, (_, i) => `${i}`))
})

it('a thousand clients are served at once, and leave nothing behind', async () => {
  const { port } = urlOf('ws://127.0.0.1')
  const count = 1_000
  const received = new Set<number>()
  const sockets: WebSocket[] = []
  const opened = Array.from({ length: count }, async (_, i) => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/mqtt`, 'mqtt', {
      perMessageDeflate: false
    })
    sockets.push(socket)
    await once(socket, 'open')
    const id = Buffer.from(`t${i}`)
    const head = [0x10, 12 + id.length, 0, 4, 77, 81, 84, 84, 4, 2, 0, 0, 0, id.length]
    socket.send(
      Buffer.concat([Buffer.from(head), id, Buffer.from([0x82, 8, 0, 1, 0, 3, 97, 108, 108, 0])])
    )
    let bytes = 0
    await new Promise<void>((resolve, reject) => {
      socket.on('error', reject)
      socket.on('message', data => {
        bytes += (data as Buffer).length
        // CONNACK and SUBACK; then the PUBLISH.
        if (bytes >= 9) resolve()
        if (bytes >= 9 + 9) received.add(i)
      })
    })
  })
  await Promise.all(opened)
  const publisher = await open()
  await publisher.publishAsync('all', 'some')
  await until(() => received.size === count)
  const ends = sockets.map(socket => once(socket, 'close'))
  for (const socket of sockets) socket.close()
  await Promise.all(ends)
  // The publisher and who asks.
  await expect
    .poll(async () => (await readMetrics(program)).sum('sockets'), { timeout: 10_000 })
    .toBe(2)
})

const PAHO = `
import sys, threading
import paho.mqtt.client as mqtt
port, version = int(sys.argv[1]), int(sys.argv[2])
got, ready, done = [], threading.Event(), threading.Event()
client = mqtt.Client(client_id='paho-ws-%d' % version, protocol=version, transport='websockets')
client.ws_set_options(path='/mqtt')
topics = [('paho/ws/%d/%d' % (version, qos), qos) for qos in (0, 1, 2)]
def on_message(_c, _u, message):
    got.append('%s %d %d' % (message.topic, message.qos, len(message.payload)))
    if len(got) == 3: done.set()
client.on_connect = lambda *_: client.subscribe(topics)
client.on_subscribe = lambda *_: ready.set()
client.on_message = on_message
client.connect('127.0.0.1', port)
client.loop_start()
assert ready.wait(10), 'no SUBACK'
for topic, qos in topics: client.publish(topic, 'x' * 100000, qos).wait_for_publish(10)
assert done.wait(10), got
client.disconnect()
client.loop_stop()
print('\\n'.join(sorted(got)))
`

requireProgram('python3:paho.mqtt')('paho-mqtt over a WebSocket', () => {
  it.each([3, 4, 5])('at protocol version %i gets its own messages back', async version => {
    const { port } = urlOf('ws://127.0.0.1')
    const { code, stdout, stderr } = await startPython(PAHO, [Number(port), version]).result
    expect(stderr).toBe('')
    expect(code).toBe(0)
    const expected = [0, 1, 2].map(qos => `paho/ws/${version}/${qos} ${qos} 100000`)
    expect(stdout.trim().split('\n')).toEqual(expected)
  })
})

describe('a PROXY header and what it leads to, in one segment', () => {
  const head = 'PROXY TCP4 203.0.113.9 192.0.2.1 40000 80\r\n'

  async function answer(scheme: string, request: string): Promise<string> {
    const port = Number(urlOf(`${scheme}://127.0.0.2`).port)
    const socket = connectTcp({ port, host: '127.0.0.2', localAddress: '127.0.0.1' })
    socket.write(Buffer.from(head + request, 'latin1'))
    const [first] = (await once(socket, 'data')) as [Buffer]
    socket.destroy()
    return first.toString('latin1')
  }

  it('is served over HTTP', async () => {
    const request = 'GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'
    expect(await answer('http', request)).toMatch(/^HTTP\/1\.1 200 /)
  })

  it('is served over AMQP', async () => {
    // connection.start
    expect(await answer('amqp', 'AMQP\0\0\x09\x01')).toMatch(/^\x01\0\0/)
  })
})

requireProgram('haproxy')('HAProxy in front', () => {
  let folder: string
  let proxy: ChildProcess
  const ports: Record<string, number> = {}

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'haproxy-'))
    const back = { mqtt: urlOf('mqtt://127.0.0.2').port, ws: urlOf('ws://127.0.0.2').port }
    const sections: string[] = []
    for (const scheme of ['mqtt', 'ws'] as const) {
      for (const send of ['send-proxy', 'send-proxy-v2']) {
        const name = `${scheme}-${send}`
        ports[name] = await freePort()
        sections.push(`listen ${name}
  mode tcp
  bind 127.0.0.1:${ports[name]}
  server broker 127.0.0.2:${back[scheme]} ${send} source 127.0.0.1`)
      }
    }
    const file = join(folder, 'haproxy.cfg')
    writeFileSync(
      file,
      `defaults\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n${sections.join('\n')}\n`
    )
    proxy = spawn(findProgram('haproxy')!, ['-db', '-f', file], { stdio: 'ignore' })
    for (const port of Object.values(ports)) {
      while (!(await reaches(port))) await new Promise(resolve => setTimeout(resolve, 20))
    }
  })
  afterAll(async () => {
    const gone = once(proxy, 'exit')
    proxy.kill()
    await gone
    rmSync(folder, { recursive: true })
  })

  it.each(['mqtt-send-proxy', 'mqtt-send-proxy-v2', 'ws-send-proxy', 'ws-send-proxy-v2'])(
    '%s: clients come through, as who they are',
    async name => {
      const [scheme] = name.split('-')
      const url = `${scheme}://127.0.0.1:${ports[name]}`
      const client = await connectAsync(url, { clientId: name, reconnectPeriod: 0 })
      clients.push(client)
      const got = new Promise<string>(resolve => {
        client.on('message', (_topic, payload) => resolve(String(payload)))
      })
      await client.subscribeAsync(name)
      await client.publishAsync(name, 'through', { qos: 1 })
      expect(await got).toBe('through')
      const line = program.logs.find(log => log['msg'] === 'connected' && log['clientId'] === name)
      const stream = client.stream as { socket?: { localPort: number }; localPort?: number }
      expect(line?.['peer']).toMatch(/^127\.0\.0\.1:\d+$/)
      if (scheme === 'mqtt') expect(line?.['peer']).toBe(`127.0.0.1:${stream.localPort}`)
    }
  )
})

async function reaches(port: number): Promise<boolean> {
  const socket = connectTcp(port, '127.0.0.1')
  return await once(socket, 'connect').then(
    () => {
      socket.destroy()
      return true
    },
    () => false
  )
}
