/** Connections that a proxy makes for others: whose they are, and who may make them. */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import type { Credentials } from '../../src/auth/authenticator.ts'
import { ANYBODY } from '../support/gateway.ts'
import { headerOf } from '../support/proxy-header.ts'
import { packet, RawMqtt, text } from '../support/raw-mqtt.ts'
import { BINARY, frame, RawWebSocket } from '../support/raw-web-socket.ts'
import { StagedGateway, type StagedOptions } from '../support/staged-gateway.ts'

let gateway: StagedGateway
let logins: Credentials[]
afterEach(async () => {
  expect(gateway.mqtt.bugs).toBe(0)
  await gateway.close()
  expect(gateway.lobby.count).toBe(0)
  expect(gateway.sockets.preLoginBytes).toBe(0)
  await gateway.until(() => gateway.admission.open === 0)
})

const PROXIED = { scheme: 'mqtt', isWebSocket: false, proxyFrom: ['127.0.0.1'] }
const V1 = Buffer.from('PROXY TCP4 203.0.113.9 192.0.2.1 40000 1883\r\n')
const V2 = headerOf({ address: '203.0.113.9', port: 40_000, tlvs: Buffer.from([4, 0, 1, 0]) })
const LOGIN = packet(0x10, text('MQTT'), [4, 2, 0, 60], text('behind'))

async function start(part: object = PROXIED, options: StagedOptions = {}): Promise<number> {
  logins = []
  gateway = new StagedGateway({
    authenticate: credentials => {
      logins.push(credentials)
      return Promise.resolve({ ok: true, principal: ANYBODY } as const)
    },
    ...options
  })
  return (await gateway.listen(part)).port
}

async function dial(port: number): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true })
  socket.on('error', () => undefined)
  await once(socket, 'connect')
  return socket
}

async function answerTo(port: number, input: Buffer): Promise<string> {
  const raw = await RawMqtt.dial(port)
  raw.send(input)
  const answer = await raw.next()
  raw.destroy()
  return answer.toString('hex')
}

const peerOf = () => gateway.lines.find(line => line['msg'] === 'connected')?.['peer']

describe('behind a proxy', () => {
  it.each([
    ['version 1', V1],
    ['version 2', V2]
  ])(
    '%s: the peer in the log and at the login is the client, and nobody is local',
    async (_v, head) => {
      const port = await start()
      expect(await answerTo(port, Buffer.concat([head, LOGIN]))).toBe('20020000')
      expect(logins[0]).toMatchObject({ peer: '203.0.113.9', isLoopback: false })
      expect(peerOf()).toBe('203.0.113.9:40000')
    }
  )

  it.each([
    ['version 1', V1],
    ['version 2', V2]
  ])(
    '%s may come byte by byte, each in its segment, and the login behind it too',
    async (_v, head) => {
      const port = await start()
      const raw = await RawMqtt.dial(port)
      for (const byte of Buffer.concat([head, LOGIN])) {
        raw.send([byte])
        await new Promise(setImmediate)
      }
      expect((await raw.next()).toString('hex')).toBe('20020000')
      await raw.quiet()
      raw.destroy()
    }
  )

  it('much may come with the header, in one segment', async () => {
    const port = await start()
    const raw = await RawMqtt.dial(port)
    const pings = Buffer.from('c000'.repeat(2_000), 'hex')
    raw.send(V2, LOGIN, pings)
    await raw.next()
    for (let i = 0; i < 2_000; i++) expect((await raw.next()).toString('hex')).toBe('d000')
    raw.destroy()
  })

  it.each([
    ['version 1', Buffer.from('PROXY TCP4 127.0.0.1 127.0.0.1 4 5\r\n')],
    ['version 1, IPv6', Buffer.from('PROXY TCP6 ::1 ::1 4 5\r\n')],
    ['version 2', headerOf({ address: '127.0.0.1', port: 5 })],
    ['LOCAL', headerOf({ command: 0x20, family: 0, body: Buffer.alloc(0) })],
    ['UNKNOWN', Buffer.from('PROXY UNKNOWN\r\n')],
    ['a Unix socket', headerOf({ family: 0x31, body: Buffer.alloc(216) })]
  ])('a client that is said to be local (%s) is not trusted as one', async (_what, head) => {
    const port = await start()
    await answerTo(port, Buffer.concat([head, LOGIN]))
    expect(logins[0]?.isLoopback).toBe(false)
  })

  it.each([
    ['LOCAL', headerOf({ command: 0x20, address: '203.0.113.9', port: 5 })],
    ['UNKNOWN', Buffer.from('PROXY UNKNOWN 203.0.113.9 192.0.2.1 1 2\r\n')]
  ])('%s stands for the proxy itself', async (_what, head) => {
    const port = await start()
    await answerTo(port, Buffer.concat([head, LOGIN]))
    expect(logins[0]?.peer).toBe('127.0.0.1')
  })

  it('the listener that is open to everybody on purpose is so behind a proxy', async () => {
    const port = await start({ ...PROXIED, insecure: true })
    await answerTo(port, Buffer.concat([V1, LOGIN]))
    expect(logins[0]).toMatchObject({ peer: '203.0.113.9', isLoopback: true })
  })

  it.each([
    ['in segments', 1],
    ['in one', 0]
  ])('a WebSocket is as any other connection, %s', async (_how, pause) => {
    const port = await start({ proxyFrom: ['127.0.0.0/8'] })
    const client = await RawWebSocket.open({ port, before: V2, beforeMs: pause })
    expect(client.status).toBe(101)
    client.send(frame(BINARY, LOGIN))
    expect((await client.read(4)).toString('hex')).toBe('20020000')
    expect(logins[0]).toMatchObject({ peer: '203.0.113.9', isLoopback: false })
    expect(peerOf()).toBe('203.0.113.9:40000')
    client.destroy()
  })
})

describe('refused, with one line in the log, is', () => {
  async function refusalOf(part: object, input: Buffer, isEnded = false): Promise<string> {
    const port = await start(part)
    const socket = await dial(port)
    const got: Buffer[] = []
    socket.on('data', chunk => got.push(chunk))
    socket.write(input)
    if (isEnded) socket.end()
    await once(socket, 'close')
    expect(Buffer.concat(got)).toHaveLength(0)
    expect(gateway.mqtt.count).toBe(0)
    expect(gateway.refusals).toHaveLength(1)
    expect(gateway.refusals[0]?.peer).toMatch(/^127\.0\.0\.1:\d+$/)
    return gateway.refusals[0]!.reason
  }

  it('a header from an address that is not named', async () => {
    const part = { ...PROXIED, proxyFrom: ['10.0.0.0/8', '::1'] }
    expect(await refusalOf(part, Buffer.concat([V1, LOGIN]))).toMatch(/not one of the addresses/)
  })

  it('a connection without a header', async () => {
    expect(await refusalOf(PROXIED, LOGIN)).toMatch(/does not begin/)
  })

  it('a TLS hello without a header', async () => {
    expect(await refusalOf(PROXIED, Buffer.from('1603010200', 'hex'))).toMatch(/does not begin/)
  })

  it('a malformed one', async () => {
    const head = Buffer.from('PROXY TCP4 1.2.3.4 5.6.7.8 9\r\n')
    expect(await refusalOf(PROXIED, Buffer.concat([head, LOGIN]))).toMatch(/^PROXY header: /)
  })

  it('one that is too long', async () => {
    const long = Buffer.from(`PROXY UNKNOWN ${'x'.repeat(200)}`)
    expect(await refusalOf(PROXIED, long)).toMatch(/longer than 107 bytes/)
    await gateway.close()
    const tlvs = Buffer.alloc(600)
    const head = headerOf({ address: '1.2.3.4', port: 1, tlvs })
    expect(await refusalOf(PROXIED, head)).toMatch(/longer than 536 bytes/)
  })

  it('one that is cut short by the end', async () => {
    expect(await refusalOf(PROXIED, V1.subarray(0, 20), true)).toMatch(/cut short/)
  })

  it('one that is not whole in time, dripping or silent', async () => {
    const port = await start(PROXIED, { deadlineMs: 1_000 })
    const silent = await dial(port)
    const dripping = await dial(port)
    let at = 0
    const timer = setInterval(() => dripping.write(V1.subarray(at, ++at)), 200)
    const ends = [once(silent.resume(), 'close'), once(dripping.resume(), 'close')]
    await Promise.all(ends)
    clearInterval(timer)
    expect(gateway.lobby.late).toBe(2)
    expect(gateway.refusals).toHaveLength(2)
  })
})

it('a header where none is expected ends the connection at its first byte', async () => {
  const port = await start({ ...PROXIED, proxyFrom: [] })
  const raw = await RawMqtt.dial(port)
  raw.send(V1, LOGIN)
  expect(await raw.rest()).toEqual([])
})

it('who guesses passwords through a proxy is slowed down by its own address', async () => {
  const port = await start()
  for (const address of ['203.0.113.9', '203.0.113.9', '198.51.100.7']) {
    await answerTo(
      port,
      Buffer.concat([headerOf({ address, port: 40_000 + logins.length }), LOGIN])
    )
  }
  expect(logins.map(login => login.peer)).toEqual(['203.0.113.9', '203.0.113.9', '198.51.100.7'])
})
