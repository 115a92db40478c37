/** Our own MQTT client against a server whose packets the test writes. */
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer as createHttpServer } from 'node:http'
import { connect as connectTcp, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createServer as createTlsServer } from 'node:tls'
import { createWebSocketStream, WebSocketServer } from 'ws'
import { afterEach, describe, expect, it } from 'vitest'
import {
  type ClientEnd,
  type ClientHandler,
  type ClientOptions,
  defaultOptions,
  NO_ROOM,
  QOS_NOT_SUPPORTED,
  RETAIN_NOT_SUPPORTED,
  TAKEN,
  TOO_LARGE
} from '../../src/client/client-options.ts'
import { MqttClient } from '../../src/client/mqtt-client.ts'
import type { Connack } from '../../src/client/packets.ts'
import { parseTarget } from '../../src/client/target.ts'
import { PLAIN } from '../../src/client/transport.ts'
import type { Message } from '../../src/core/message.ts'
import { Sockets } from '../../src/net/socket.ts'
import { FakePeer, FakeServer } from '../support/fake-server.ts'

const closers: (() => void)[] = []
afterEach(() => {
  for (const close of closers.splice(0)) close()
})

const NOTHING = Buffer.alloc(0)

class Owner implements ClientHandler {
  readonly client: MqttClient
  readonly connacks: Connack[] = []
  readonly messages: string[] = []
  readonly settled: [number, number][] = []
  readonly ends: [ClientEnd, number][] = []
  rooms = 0
  onEach: (message: Message) => void = () => undefined
  private changed: () => void = () => undefined

  constructor(url: string, options: Partial<ClientOptions> = {}) {
    const parsed = parseTarget(url)
    if (typeof parsed === 'string') throw new Error(parsed)
    const sockets = new Sockets({ outputBytesMax: 65_536, drainTimeoutMs: 30_000 })
    this.client = new MqttClient({ ...defaultOptions(parsed.target, sockets), ...options }, this)
    closers.push(() => this.client.abort())
    this.client.connect()
  }

  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>(resolve => (this.changed = resolve))
  }

  publish(qos: number, token: number, topic = 't', payload = Buffer.from(`m${token}`)): number {
    return this.client.publish(Buffer.from(topic), payload, qos, false, NOTHING, token)
  }

  onConnected(connack: Connack): void {
    this.connacks.push(connack)
    this.changed()
  }

  onMessage(message: Message, isRepeated: boolean): void {
    const payload = message.source.toString('utf8', message.payloadStart, message.payloadEnd)
    if (payload.length < 100)
      this.messages.push(`${message.key}=${payload}${isRepeated ? '!' : ''}`)
    this.onEach(message)
    this.changed()
  }

  onSettled(token: number, reason: number): void {
    this.settled.push([token, reason])
    this.changed()
  }

  onRoom(): void {
    this.rooms++
    this.changed()
  }

  onDisconnected(end: ClientEnd, retryMs: number): void {
    this.ends.push([end, retryMs])
    this.changed()
  }
}

const RECONNECT = { minMs: 1, maxMs: 5, fromStart: false }

async function pair(options: Partial<ClientOptions> = {}, properties: object = {}) {
  const server = new FakeServer()
  closers.push(() => server.close())
  const url = `mqtt://127.0.0.1:${await server.listen()}`
  const owner = new Owner(url, options)
  const peer = await server.peer(options.version ?? 5)
  const connect = await peer.greet(false, properties)
  await owner.until(() => owner.connacks.length === 1)
  return { server, owner, peer, connect }
}

describe('what the client publishes', () => {
  it('is settled by PUBACK and PUBCOMP, with their reasons', async () => {
    const { owner, peer } = await pair()
    expect([
      owner.publish(0, 1),
      owner.publish(1, 2),
      owner.publish(2, 3),
      owner.publish(2, 4)
    ]).toEqual([TAKEN, TAKEN, TAKEN, TAKEN])
    const [, one, two, three] = await peer.got('publish', 4)
    peer.send({ cmd: 'pubrec', messageId: two!.messageId!, reasonCode: 0 })
    await peer.got('pubrel')
    expect(owner.settled).toEqual([])
    peer.send({ cmd: 'pubcomp', messageId: two!.messageId!, reasonCode: 0 })
    peer.send({ cmd: 'puback', messageId: one!.messageId!, reasonCode: 0x10 })
    // Refused at its PUBREC: no PUBREL follows.
    peer.send({ cmd: 'pubrec', messageId: three!.messageId!, reasonCode: 0x87 })
    await owner.until(() => owner.settled.length === 3)
    expect(owner.settled).toEqual([
      [3, 0],
      [2, 0x10],
      [4, 0x87]
    ])
    expect(owner.client.unsettledCount).toBe(0)
    expect(peer.packets.filter(packet => packet.cmd === 'pubrel')).toHaveLength(1)
  })

  it('is sent again with DUP, in order, to a server that kept the session', async () => {
    const { server, owner, peer } = await pair({
      reconnect: RECONNECT,
      clientId: 'c',
      properties: [{ id: 0x11, value: 60 }]
    })
    for (let i = 1; i <= 3; i++) owner.publish(i === 2 ? 2 : 1, i)
    const sent = await peer.got('publish', 3)
    peer.send({ cmd: 'pubrec', messageId: sent[1]!.messageId!, reasonCode: 0 })
    await peer.got('pubrel')
    peer.stream.destroy()
    const next = await server.peer()
    expect(await next.greet(true)).toMatchObject({ clean: false, clientId: 'c' })
    const again = await next.got('publish', 2)
    expect(
      again.map(({ messageId, ...packet }) => [messageId, (packet as { dup: boolean }).dup])
    ).toEqual([
      [sent[0]!.messageId, true],
      [sent[2]!.messageId, true]
    ])
    expect((await next.got('pubrel'))[0]!.messageId).toBe(sent[1]!.messageId)
    next.send({ cmd: 'pubcomp', messageId: sent[1]!.messageId!, reasonCode: 0 })
    for (const { messageId } of again)
      next.send({ cmd: 'puback', messageId: messageId!, reasonCode: 0 })
    await owner.until(() => owner.settled.length === 3)
    expect(owner.settled.map(([token]) => token)).toEqual([2, 1, 3])
    expect(owner.ends[0]).toMatchObject([{ kind: 'lost' }, expect.any(Number)])
  })

  it('is a new message to a server that forgot the session, and done where that had taken it', async () => {
    const { server, owner, peer } = await pair({ reconnect: RECONNECT })
    owner.publish(2, 1)
    owner.publish(1, 2)
    const [first] = await peer.got('publish', 2)
    peer.send({ cmd: 'pubrec', messageId: first!.messageId!, reasonCode: 0 })
    await peer.got('pubrel')
    peer.stream.destroy()
    const next = await server.peer()
    await next.greet(false)
    expect((await next.got('publish'))[0]).toMatchObject({ dup: false })
    await owner.until(() => owner.settled.length === 1)
    expect(owner.settled).toEqual([[1, 0]])
  })

  it("keeps to the server's receive maximum, and tells when there is room", async () => {
    const { owner, peer } = await pair({}, { receiveMaximum: 2 })
    expect([1, 2, 3].map(token => owner.publish(1, token))).toEqual([TAKEN, TAKEN, NO_ROOM])
    // QoS 0 takes no part in it.
    expect(owner.publish(0, 4)).toBe(TAKEN)
    const [one] = await peer.got('publish', 3)
    peer.send({ cmd: 'puback', messageId: one!.messageId!, reasonCode: 0 })
    await owner.until(() => owner.rooms === 1)
    expect(owner.publish(1, 3)).toBe(TAKEN)
  })

  it('is refused where the server takes no such message', async () => {
    const { owner } = await pair(
      {},
      { maximumQoS: 1, retainAvailable: false, maximumPacketSize: 50 }
    )
    expect(owner.publish(2, 1)).toBe(QOS_NOT_SUPPORTED)
    expect(owner.client.publish(NOTHING, NOTHING, 0, true, NOTHING, 0)).toBe(RETAIN_NOT_SUPPORTED)
    expect(owner.publish(1, 1, 't', Buffer.alloc(50))).toBe(TOO_LARGE)
  })

  it('waits when the server does not read, and nothing grows', async () => {
    const { owner, peer } = await pair()
    peer.stream.pause()
    const payload = Buffer.alloc(20_000)
    let taken = 0
    while (owner.publish(0, 0, 't', payload) === TAKEN) {
      taken++
      if (taken % 50 === 0) await new Promise(resolve => setTimeout(resolve, 1))
    }
    expect(owner.client.pendingBytes).toBeLessThan(200_000)
    peer.stream.resume()
    await owner.until(() => owner.rooms === 1)
    await peer.got('publish', taken)
  })
})

describe('what the client is sent', () => {
  const publish = (qos: 0 | 1 | 2, messageId: number, payload: string, dup = false) =>
    ({ cmd: 'publish', qos, messageId, topic: 't', payload, dup, retain: false }) as const

  it('is acknowledged, and at QoS 2 delivered once', async () => {
    const { owner, peer } = await pair()
    peer.send(publish(1, 1, 'a'))
    peer.send(publish(2, 2, 'b'))
    peer.send(publish(2, 2, 'b', true))
    await peer.got('pubrec', 2)
    expect((await peer.got('puback'))[0]).toMatchObject({ messageId: 1 })
    peer.send({ cmd: 'pubrel', messageId: 2 })
    await peer.got('pubcomp')
    peer.send(publish(2, 2, 'c', true))
    await owner.until(() => owner.messages.length === 3)
    expect(owner.messages).toEqual(['t=a', 't=b', 't=c!'])
  })

  it('is acknowledged by its owner with manualAcks, after a repeat too', async () => {
    const { owner, peer } = await pair({ manualAcks: true })
    peer.send(publish(1, 1, 'a'))
    peer.send(publish(2, 2, 'b'))
    peer.send(publish(2, 2, 'b', true))
    await owner.until(() => owner.messages.length === 2)
    peer.send({ cmd: 'pingresp' })
    expect(peer.packets.map(({ cmd }) => cmd)).toEqual(['connect'])
    owner.client.acknowledge(2, 0x80)
    owner.client.acknowledge(1)
    owner.client.acknowledge(1)
    expect((await peer.got('pubrec'))[0]).toMatchObject({ messageId: 2, reasonCode: 0x80 })
    expect(await peer.got('puback')).toHaveLength(1)
    // What was refused may come again under the same identifier.
    peer.send(publish(2, 2, 'c'))
    await owner.until(() => owner.messages.length === 3)
  })

  it('may name its topic by an alias, and several subscriptions', async () => {
    const { owner, peer } = await pair({ properties: [{ id: 0x22, value: 5 }] })
    const properties = { topicAlias: 3, subscriptionIdentifier: 1 }
    peer.send({ ...publish(0, 0, 'a'), topic: 'long/topic', properties } as never)
    peer.send({
      ...publish(0, 0, 'b'),
      topic: '',
      properties: { ...properties, messageExpiryInterval: 9 }
    } as never)
    await owner.until(() => owner.messages.length === 2)
    expect(owner.messages).toEqual(['long/topic=a', 'long/topic=b'])
    peer.send({ ...publish(0, 0, 'b'), topic: '', properties: { topicAlias: 4 } } as never)
    await owner.until(() => owner.ends.length === 1)
    expect(owner.ends[0]![0].kind).toBe('protocol')
  })

  it('stays in the server while the client is paused', async () => {
    const { owner, peer } = await pair()
    owner.onEach = () => owner.client.pause()
    const payload = 'x'.repeat(10_000)
    const total = 2_000
    let hasStopped = false
    for (let i = 0; i < total; i++) if (!peer.send(publish(0, 0, payload))) hasStopped = true
    await owner.until(() => owner.client.messagesIn > 0)
    expect(hasStopped).toBe(true)
    let before = -1
    while (owner.client.options.sockets.bytesIn !== before) {
      before = owner.client.options.sockets.bytesIn
      await new Promise(resolve => setTimeout(resolve, 100))
    }
    // One read at the most: the rest is in the kernel's buffers and the server's.
    expect(before).toBeLessThan(200_000)
    expect(owner.client.messagesIn).toBe(1)
    owner.onEach = () => undefined
    owner.client.resume()
    await owner.until(() => owner.client.messagesIn === total)
  })
})

describe('how a connection ends', () => {
  it.each([
    [
      'a refusal',
      { cmd: 'connack', sessionPresent: false, reasonCode: 0x87 },
      { kind: 'refused', code: 0x87 }
    ],
    ['no CONNACK first', { cmd: 'pingresp' }, { kind: 'protocol' }]
  ])('%s', async (_, packet, end) => {
    const server = new FakeServer()
    closers.push(() => server.close())
    const owner = new Owner(`mqtt://127.0.0.1:${await server.listen()}`)
    const peer = await server.peer()
    await peer.got('connect')
    peer.send(packet as never)
    await owner.until(() => owner.ends.length === 1)
    expect(owner.ends).toEqual([[expect.objectContaining(end), -1]])
  })

  it.each([
    ['a DISCONNECT', [0xe0, 1, 0x8b], { kind: 'dismissed', code: 0x8b }],
    ['a packet that only clients send', [0x82, 0], { kind: 'protocol' }],
    ['a SUBACK cut short', [0x90, 1, 0], { kind: 'protocol' }],
    ['a second CONNACK', [0x20, 3, 0, 0, 0], { kind: 'protocol' }],
    ['a PUBLISH with a wildcard', [0x30, 4, 0, 1, 0x23, 0], { kind: 'protocol' }],
    ['packet identifier 0', [0x40, 2, 0, 0], { kind: 'protocol' }],
    ['properties beyond their packet', [0x20, 3, 0, 0, 9], { kind: 'protocol' }]
  ])('%s', async (_, bytes, end) => {
    const { owner, peer } = await pair()
    const asked = owner.client.subscribe([{ filter: 'a', qos: 0, options: 0 }])
    peer.stream.write(Buffer.from(bytes))
    await owner.until(() => owner.ends.length === 1)
    expect(owner.ends).toEqual([[expect.objectContaining(end), -1]])
    expect(await asked).toBeNull()
    expect(owner.publish(0, 1)).toBe(NO_ROOM)
  })

  it('late, and the next one does not hear it', async () => {
    const server = new FakeServer(createServer({ allowHalfOpen: true }))
    closers.push(() => server.close())
    const owner = new Owner(`mqtt://127.0.0.1:${await server.listen()}`, { reconnect: RECONNECT })
    const old = await server.peer()
    await old.greet(false)
    await owner.until(() => owner.connacks.length === 1)
    old.stream.write(Buffer.from([0x82, 0]))
    const next = await server.peer()
    await next.greet(false)
    await owner.until(() => owner.connacks.length === 2)
    const gone = new Promise(resolve => old.stream.once('close', resolve))
    old.stream.end()
    await gone
    await new Promise(resolve => setTimeout(resolve, 20))
    expect(owner.client.isOpen).toBe(true)
    expect(owner.ends.map(([end]) => end.kind)).toEqual(['protocol'])
    next.stream.destroy()
  })

  it('no answer to a ping', async () => {
    const { owner, peer } = await pair({ keepaliveSeconds: 1 })
    await owner.until(() => owner.ends.length === 1)
    expect(owner.ends[0]![0].kind).toBe('timeout')
    expect(peer.packets.some(({ cmd }) => cmd === 'pingreq')).toBe(true)
  })

  it('no broker, and no CONNACK in time', async () => {
    const nobody = new Owner('mqtt://127.0.0.1:1')
    await nobody.until(() => nobody.ends.length === 1)
    expect(nobody.ends[0]).toEqual([
      expect.objectContaining({ kind: 'unreachable', errno: 'ECONNREFUSED' }),
      -1
    ])
    const server = new FakeServer()
    closers.push(() => server.close())
    const silent = new Owner(`mqtt://127.0.0.1:${await server.listen()}`, { connectTimeoutMs: 50 })
    await silent.until(() => silent.ends.length === 1)
    expect(silent.ends[0]![0].kind).toBe('timeout')
  })

  it('goes on trying, longer from time to time, until it is told to stop', async () => {
    const owner = new Owner('mqtt://127.0.0.1:1', {
      reconnect: { minMs: 2, maxMs: 8, fromStart: true },
      random: () => 1
    })
    await owner.until(() => owner.ends.length === 5)
    expect(owner.ends.map(([, retryMs]) => retryMs)).toEqual([2, 4, 8, 8, 8])
    owner.client.disconnect()
    expect(owner.ends.at(-1)).toMatchObject([{ kind: 'done' }, -1])
  })
})

describe('the client reaches a broker', () => {
  async function talks(owner: Owner, peer: FakePeer): Promise<void> {
    await peer.greet(false)
    await owner.until(() => owner.connacks.length === 1)
    owner.publish(1, 1, 't', Buffer.alloc(100_000))
    const messageId = (await peer.got('publish'))[0]!.messageId!
    peer.send({ cmd: 'puback', messageId, reasonCode: 0 })
    await owner.until(() => owner.settled.length === 1)
    owner.client.disconnect()
    await peer.got('disconnect')
  }

  it('over a Unix socket', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'motemq-client-'))
    const server = new FakeServer()
    closers.push(
      () => server.close(),
      () => rmSync(folder, { recursive: true })
    )
    await server.listen(join(folder, 's'))
    const owner = new Owner(`mqtt+unix://${folder}/s`)
    await talks(owner, await server.peer())
  })

  it('over a WebSocket', async () => {
    const http = createHttpServer()
    const sockets = new WebSocketServer({ server: http, path: '/mqtt' })
    await new Promise<void>(resolve => http.listen(0, '127.0.0.1', resolve))
    closers.push(() => http.close())
    const { port } = http.address() as { port: number }
    const accepted = new Promise<FakePeer>(resolve => {
      sockets.on('connection', socket => {
        expect(socket.protocol).toBe('mqtt')
        resolve(new FakePeer(createWebSocketStream(socket)))
      })
    })
    const owner = new Owner(`ws://127.0.0.1:${port}`)
    await talks(owner, await accepted)
  })

  it('over TLS with a key that both know', async () => {
    const key = Buffer.from('0011223344556677', 'hex')
    const server = createTlsServer({
      pskCallback: (_, identity) => (identity === 'me' ? key : null),
      pskIdentityHint: '',
      ciphers: 'PSK'
    })
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    closers.push(() => server.close())
    const { port } = server.address() as { port: number }
    const accepted = new Promise<FakePeer>(resolve => {
      server.on('secureConnection', socket => resolve(new FakePeer(socket)))
    })
    const tls = {
      ca: null,
      cert: null,
      key: null,
      passphrase: null,
      insecure: false,
      ciphers: null,
      version: null,
      alpn: null,
      psk: { identity: 'me', key }
    }
    const transport = { ...PLAIN, tls }
    const owner = new Owner(`mqtts://127.0.0.1:${port}`, { transport })
    await talks(owner, await accepted)
    const psk = { identity: 'other', key }
    const stranger = new Owner(`mqtts://127.0.0.1:${port}`, {
      transport: { ...PLAIN, tls: { ...tls, psk } }
    })
    await stranger.until(() => stranger.ends.length === 1)
    expect(stranger.ends[0]![0].kind).toBe('unreachable')
  })

  it('through a SOCKS5 proxy with a login', async () => {
    const server = new FakeServer()
    const port = await server.listen()
    const proxy = createServer(socket => void serveSocks(socket))
    await new Promise<void>(resolve => proxy.listen(0, '127.0.0.1', resolve))
    closers.push(
      () => server.close(),
      () => proxy.close()
    )
    const at = proxy.address() as { port: number }
    const via = { host: '127.0.0.1', port: at.port, username: 'u', password: 'p' }
    const owner = new Owner(`mqtt://127.0.0.1:${port}`, { transport: { ...PLAIN, proxy: via } })
    await talks(owner, await server.peer())
    const wrong = new Owner(`mqtt://127.0.0.1:${port}`, {
      transport: { ...PLAIN, proxy: { ...via, password: 'x' } }
    })
    await wrong.until(() => wrong.ends.length === 1)
    expect(wrong.ends[0]![0]).toMatchObject({ kind: 'unreachable', errno: 'ECONNREFUSED' })
  })
})

/** RFC 1928 and 1929, for the user `u` with the password `p`. */
async function serveSocks(socket: Socket): Promise<void> {
  socket.on('error', () => undefined)
  const next = () => new Promise<Buffer>(resolve => socket.once('data', resolve))
  expect([...(await next())]).toEqual([5, 1, 2])
  socket.write(Buffer.from([5, 2]))
  const isRight = (await next()).equals(Buffer.from('\x01\x01u\x01p'))
  socket.write(Buffer.from([1, isRight ? 0 : 1]))
  if (!isRight) return
  const asked = await next()
  const name = asked.toString('utf8', 5, 5 + asked[4]!)
  const far = connectTcp({ host: name, port: asked.readUInt16BE(5 + asked[4]!) })
  socket.write(Buffer.from([5, 0, 0, 1, 0, 0, 0, 0, 0, 0]))
  socket.pipe(far).pipe(socket)
  socket.on('close', () => far.destroy())
}
