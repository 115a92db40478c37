/** All stages in one connection: PROXY header, TLS, WebSocket; and what a page may do with a browser's certificate. */
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect as connectTcp } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect, type ConnectionOptions, type TLSSocket } from 'node:tls'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Authority } from '../support/certs.ts'
import { Program } from '../support/program.ts'
import { BINARY, frame } from '../support/raw-web-socket.ts'

const authority = new Authority()
const device = authority.issue('panel')
const folder = mkdtempSync(join(tmpdir(), 'motemq-stages-'))
const file = (name: string) => join(folder, name)
const LOGIN = Buffer.from('101200044d5154540402003c0006737461676573', 'hex')
const HEAD = 'PROXY TCP4 203.0.113.9 192.0.2.1 40000 443\r\n'

let program: Program

beforeAll(async () => {
  const server = authority.server()
  writeFileSync(file('server.crt'), server.cert)
  writeFileSync(file('server.key'), server.key, { mode: 0o600 })
  writeFileSync(file('ca.crt'), authority.own.cert)
  const files = `cert: ${file('server.crt')}, key: ${file('server.key')}`
  const tls = `tls: { ${files}, ca: ${file('ca.crt')}, useIdentity: cn }`
  const proxied = `insecure: true, proxyProtocol: { from: [127.0.0.1] }, ${tls}`
  const lines = [
    `{ url: "mqtts://127.0.0.1:0", ${proxied} }`,
    `{ url: "wss://127.0.0.1:0", ${proxied} }`,
    `{ url: "wss://127.0.0.2:0", ${tls} }`
  ]
  writeFileSync(file('motemq.yaml'), `listeners:\n${lines.map(line => `  - ${line}\n`).join('')}`)
  program = await Program.start({
    dataDir: file('data'),
    listen: [],
    flags: ['--config', file('motemq.yaml')],
    env: { MOTEMQ_USER: 'admin', MOTEMQ_PASSWORD: 'secret' }
  })
})
afterAll(async () => {
  await program.remove()
  rmSync(folder, { recursive: true, force: true })
})

async function secure(at: number, head: string, more: ConnectionOptions = {}): Promise<TLSSocket> {
  const { hostname, port } = new URL(program.urls[at]!)
  const socket = connectTcp({ port: Number(port), host: hostname, localAddress: '127.0.0.1' })
  // The header and the hello leave together.
  socket.cork()
  socket.write(head)
  const secured = connect({ socket, servername: 'localhost', ca: authority.own.cert, ...more })
  setImmediate(() => socket.uncork())
  await once(secured, 'secureConnect')
  return secured
}

async function upgrade(socket: TLSSocket, headers: Readonly<Record<string, string>> = {}) {
  const all = {
    Host: 'localhost:15676',
    Connection: 'Upgrade',
    Upgrade: 'websocket',
    'Sec-WebSocket-Version': '13',
    'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
    'Sec-WebSocket-Protocol': 'mqtt',
    ...headers
  }
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`)
  socket.write(`GET /mqtt HTTP/1.1\r\n${lines.join('')}\r\n`)
  const [answer] = (await once(socket, 'data')) as [Buffer]
  return Number(answer.toString('latin1').split(' ')[1])
}

describe('behind a PROXY header', () => {
  it('MQTT over TLS is served, and the peer is who the header says', async () => {
    const socket = await secure(0, HEAD, device)
    socket.write(LOGIN)
    await once(socket, 'data')
    const isOf = (line: Readonly<Record<string, unknown>>) => line['peer'] === '203.0.113.9:40000'
    expect(await program.waitForLog(isOf)).toBeDefined()
    socket.destroy()
  })

  it('MQTT over WebSocket over TLS is served', async () => {
    const socket = await secure(1, HEAD.replace('40000', '40001'), device)
    expect(await upgrade(socket)).toBe(101)
    socket.write(frame(BINARY, LOGIN))
    const [answer] = (await once(socket, 'data')) as [Buffer]
    // A binary message with a CONNACK.
    expect(answer.subarray(0, 4).toString('hex')).toBe('82042002')
    const isOf = (line: Readonly<Record<string, unknown>>) => line['peer'] === '203.0.113.9:40001'
    expect(await program.waitForLog(isOf)).toBeDefined()
    socket.destroy()
  })

  it('a TLS hello without the header is refused', async () => {
    await expect(secure(1, '', device)).rejects.toThrow()
    const line = await program.waitForLog(log => String(log['reason']).startsWith('PROXY header'))
    expect(line['url']).toMatch(/^wss:/)
  })
})

describe('B84: with a certificate, a page', () => {
  it.each([
    ['https://evil.example', 403],
    ['https://localhost', 403],
    ['null', 403],
    ['https://localhost:15676', 101]
  ])('of %s gets %i', async (Origin, status) => {
    const socket = await secure(2, '', device)
    expect(await upgrade(socket, { Origin })).toBe(status)
    socket.destroy()
  })

  it('of anywhere may connect where none was shown: it needs a password', async () => {
    const socket = await secure(2, '')
    expect(await upgrade(socket, { Origin: 'https://evil.example' })).toBe(101)
    socket.destroy()
  })
})
