/** Listening on Unix sockets: the file, its rights, what a crash leaves behind, and the protocols on it. */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  statSync,
  writeFileSync
} from 'node:fs'
import { request } from 'node:http'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { MqttClient } from 'mqtt'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createWebSocketStream, WebSocket } from 'ws'
import { createBroker } from '../../src/index.ts'
import { Admission } from '../../src/net/admission.ts'
import { type Listener, openListener } from '../../src/net/listener.ts'
import { listenAddress } from '../support/listen-address.ts'

let folder: string
let path: string
const open: Listener[] = []
const OPTIONS = { protocolVersion: 5, reconnectPeriod: 0 } as const

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'mq-'))
  path = join(folder, 'm.sock')
})
afterEach(() => {
  for (const listener of open.splice(0)) listener.close()
  rmSync(folder, { recursive: true })
})

async function listen(part: object = {}): Promise<Listener> {
  const address = listenAddress({
    url: `mqtt+unix://${path}`,
    scheme: 'mqtt+unix',
    host: '',
    unixPath: path,
    ...part
  })
  const admission = new Admission({ connectionsMax: 10, perSecond: 100, burst: 100 })
  const onConnection = () => undefined
  const listener = await openListener(address, { admission, onConnection })
  open.push(listener)
  return listener
}

async function whyNot(part: object = {}): Promise<string> {
  return await listen(part).then(
    () => '',
    (error: unknown) => String((error as Error).message)
  )
}

describe('a Unix socket', () => {
  it.each([0o600, 0o660, 0o666, 0o777])('has the rights that it was given: %i', async mode => {
    const mask = process.umask(0o022)
    await listen({ mode })
    expect(process.umask(mask)).toBe(0o022)
    expect(statSync(path).mode & 0o777).toBe(mode)
  })

  it('is removed at the stop', async () => {
    const listener = await listen()
    expect([listener.url, listener.port]).toEqual([`mqtt+unix://${path}`, 0])
    listener.close()
    expect(existsSync(path)).toBe(false)
  })

  it('that a killed process left behind is removed at the start', async () => {
    const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => console.log('up'))`
    const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'ignore'] })
    await once(child.stdout, 'data')
    expect(await whyNot()).toMatch(/another program listens on it/)
    child.kill('SIGKILL')
    await once(child, 'exit')
    expect(lstatSync(path).isSocket()).toBe(true)
    expect(await whyNot()).toBe('')
    const socket = connect(path)
    await once(socket, 'connect')
    socket.destroy()
  })

  it('that somebody listens on is left alone', async () => {
    const other = createServer().listen(path)
    await once(other, 'listening')
    expect(await whyNot()).toBe(
      `cannot listen on mqtt+unix://${path}: another program listens on it`
    )
    const socket = connect(path)
    await once(socket, 'connect')
    socket.destroy()
    other.close()
  })

  it('takes no place where something else is', async () => {
    writeFileSync(path, 'precious')
    expect(await whyNot()).toMatch(/there is such a file, and it is no socket$/)
    expect(execFileSync('cat', [path]).toString()).toBe('precious')
    rmSync(path)
    mkdirSync(path)
    expect(await whyNot()).toMatch(/it is no socket$/)
  })

  it('says what is wrong with its path', async () => {
    const long = join(folder, 'x'.repeat(108 - folder.length - 1))
    expect(long).toHaveLength(108)
    expect(await whyNot({ unixPath: long })).toMatch(/at most 107 bytes, this one has 108$/)
    expect(await whyNot({ unixPath: long.slice(0, 107) })).toBe('')
    const missing = join(folder, 'none', 'm.sock')
    expect(await whyNot({ unixPath: missing })).toMatch(/there is no folder .*none$/)
    writeFileSync(path, '')
    expect(await whyNot({ unixPath: join(path, 'm.sock') })).toMatch(/there is no folder|ENOTDIR/)
  })
})

describe('a broker on Unix sockets', () => {
  let broker: ReturnType<typeof createBroker>
  const at = (name: string) => join(folder, name)

  beforeEach(async () => {
    broker = createBroker({
      data: at('data'),
      listeners: ['mqtt', 'ws', 'amqp', 'http'].map(
        name => `${name}+unix://${at(`${name}.sock`)}?mode=0600`
      )
    })
    await broker.start()
  })
  afterEach(async () => {
    await broker.stop()
    for (const name of ['mqtt', 'ws', 'amqp', 'http']) {
      expect(existsSync(at(`${name}.sock`)), name).toBe(false)
    }
  })

  it('serves MQTT, WebSocket, AMQP and HTTP, and its peers count as local', async () => {
    const client = new MqttClient(() => connect(at('mqtt.sock')), { ...OPTIONS })
    const url = `ws+unix:${at('ws.sock')}:/mqtt`
    const web = new MqttClient(() => createWebSocketStream(new WebSocket(url, 'mqtt')), {
      ...OPTIONS
    })
    for (const one of [client, web]) {
      await new Promise<void>(resolve => one.once('connect', () => resolve()))
    }
    await client.subscribeAsync('from/web', { qos: 1 })
    const got = new Promise<string>(resolve => {
      client.once('message', (_topic, payload) => resolve(String(payload)))
    })
    await web.publishAsync('from/web', 'hello', { qos: 1 })
    expect(await got).toBe('hello')

    const amqp = connect(at('amqp.sock'))
    amqp.write(Buffer.from('AMQP\0\0\x09\x01', 'latin1'))
    const [start] = (await once(amqp, 'data')) as [Buffer]
    // connection.start
    expect(start.subarray(0, 3).toString('hex')).toBe('010000')
    amqp.destroy()

    const answer = request({ socketPath: at('http.sock'), path: '/readyz' }).end()
    const [response] = await once(answer, 'response')
    expect(response.statusCode).toBe(200)
    response.resume()
    await Promise.all([client.endAsync(), web.endAsync()])
  })
})
