/** Who becomes a WebSocket, and what the others are told. */
import { connect } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ACCEPT, RawWebSocket } from '../support/raw-web-socket.ts'
import { StagedGateway, type StagedOptions } from '../support/staged-gateway.ts'

let gateway: StagedGateway
beforeAll(async () => {
  gateway = new StagedGateway()
  await gateway.listen({ path: '/broker' })
})
afterAll(async () => {
  expect(gateway.mqtt.bugs).toBe(0)
  await gateway.close()
  expect(gateway.lobby.count).toBe(0)
  expect(gateway.sockets.preLoginBytes).toBe(0)
})

/** HTTP status and what became of the connection. */
async function statusOf(part: Parameters<StagedGateway['upgrade']>[0]): Promise<number> {
  const client = await gateway.upgrade(part)
  if (client.status === 101) client.destroy()
  else await client.closed()
  return client.status
}

describe('a WebSocket handshake', () => {
  it('is answered as RFC 6455 asks', async () => {
    const client = await gateway.upgrade()
    expect(client.status).toBe(101)
    expect(client.headers.get('sec-websocket-accept')).toBe(ACCEPT)
    expect(client.headers.get('upgrade')?.toLowerCase()).toBe('websocket')
    client.destroy()
  })

  it.each([
    ['/mqtt', 101],
    ['/ws', 101],
    ['/', 101],
    ['/mqtt?token=1', 101],
    ['/broker', 101],
    ['/mqtts', 404],
    ['/mqtt/', 404],
    ['/%6dqtt', 404],
    ['/../mqtt', 404],
    ['//mqtt', 404],
    ['', 404]
  ])('to %s gets %i', async (path, status) => {
    expect(await statusOf({ path: path === '' ? '/x' : path })).toBe(status)
  })

  it.each([
    ['mqtt', 'mqtt'],
    ['mqttv3.1', 'mqttv3.1'],
    ['mqttv3.1, mqtt', 'mqtt'],
    ['chat, mqtt', 'mqtt'],
    ['chat,mqttv3.1', 'mqttv3.1']
  ])(
    'B79 v3 [MQTT-6.0.0-3] [MQTT-6.0.0-4] v5 [MQTT-6.0.0-3] [MQTT-6.0.0-4]: of "%s" it is told %s',
    async (offered, told) => {
      const client = await gateway.upgrade({ headers: { 'Sec-WebSocket-Protocol': offered } })
      expect([client.status, client.headers.get('sec-websocket-protocol')]).toEqual([101, told])
      client.destroy()
    }
  )

  it.each([
    ['chat'],
    ['MQTT'],
    ['mqtt-v5'],
    [''],
    [null],
    ['mqtt mqtt'],
    ['mqtt,,mqtt'],
    ['mqtt,mqtt'],
    ['\x00mqtt']
  ])(
    'B79 with the subprotocol %j gets 400, and nothing it did not offer is told',
    async offered => {
      const client = await gateway.upgrade({ headers: { 'Sec-WebSocket-Protocol': offered } })
      expect([client.status, client.headers.get('sec-websocket-protocol')]).toEqual([
        400,
        undefined
      ])
      await client.closed()
    }
  )

  it('B79 with a thousand subprotocols, one of them known, is a WebSocket', async () => {
    const many = Array.from({ length: 1_000 }, (_, i) => `p${i}`).join(',')
    expect(await statusOf({ headers: { 'Sec-WebSocket-Protocol': `${many},mqtt` } })).toBe(101)
  })

  it('B81 negotiates no extension', async () => {
    const offered = 'permessage-deflate; client_max_window_bits, x-webkit-deflate-frame'
    const client = await gateway.upgrade({ headers: { 'Sec-WebSocket-Extensions': offered } })
    expect([client.status, client.headers.get('sec-websocket-extensions')]).toEqual([
      101,
      undefined
    ])
    client.destroy()
  })

  it.each([
    ['without a key', { 'Sec-WebSocket-Key': null }, 400],
    ['with a short key', { 'Sec-WebSocket-Key': 'abc' }, 400],
    ['of version 12', { 'Sec-WebSocket-Version': '12' }, 400],
    ['without a version', { 'Sec-WebSocket-Version': null }, 400],
    ['to something else', { Upgrade: 'h2c' }, 426],
    ['without Upgrade', { Upgrade: null, Connection: 'close' }, 426],
    ['with two lengths', { 'Content-Length': '1\r\nContent-Length: 2' }, 400]
  ])('%s is refused', async (_what, headers, status) => {
    expect(await statusOf({ headers })).toBe(status)
  })

  it.each([
    ['POST', 405],
    ['HEAD', 405],
    ['DELETE', 405]
  ])('by %s gets %i', async (method, status) => expect(await statusOf({ method })).toBe(status))

  it('B09 a plain GET gets 426, and 404 where nothing is', async () => {
    const headers = { Upgrade: null, Connection: null }
    expect(await statusOf({ headers })).toBe(426)
    expect(await statusOf({ headers, path: '/index.html' })).toBe(404)
  })

  it('answers one request a connection', async () => {
    const before = 'GET /x HTTP/1.1\r\nHost: a\r\n\r\n'
    const client = await gateway.upgrade({ before })
    expect(client.status).toBe(404)
    await client.closed()
  })

  it.each([
    ['MQTT', Buffer.from('101000044d5154540402003c000461626364', 'hex')],
    ['TLS', Buffer.from('16030100c8010000c40303', 'hex')],
    ['AMQP', Buffer.from('AMQP\0\0\x09\x01')]
  ])('B10 %s on this port gets 400', async (_what, before) => {
    const client = await gateway.upgrade({ before })
    expect(client.status).toBe(400)
    await client.closed()
  })
})

describe('B82: a request', () => {
  const many = Array.from({ length: 2_001 }, (_, i) => [`a${i}`, ''] as const)

  it.each([
    ['with 2,001 headers', Object.fromEntries(many), 431],
    ['with 101 small headers', Object.fromEntries(many.slice(0, 101)), 431],
    ['with 64 KiB in a header', { Cookie: 'x'.repeat(65_536) }, 431],
    ['with 32,000 times "b "', { 'Sec-WebSocket-Protocol': 'b '.repeat(32_000) }, 431],
    ['with 7,000 times "b "', { 'Sec-WebSocket-Protocol': 'b '.repeat(7_000) }, 400],
    ['with 7,000 times "b,"', { 'Sec-WebSocket-Protocol': 'b,'.repeat(7_000) }, 400]
  ])('%s is refused, and the loop goes on', async (_what, headers, status) => {
    expect(await statusOf({ headers })).toBe(status)
  })

  it('with ninety headers is fine', async () => {
    expect(await statusOf({ headers: Object.fromEntries(many.slice(0, 80)) })).toBe(101)
  })

  it('refused ones cost the broker less than five milliseconds each', async () => {
    const headers = { 'Sec-WebSocket-Protocol': 'b '.repeat(7_000) }
    await statusOf({ headers })
    const before = process.cpuUsage()
    for (let i = 0; i < 20; i++) await statusOf({ headers })
    const { user, system } = process.cpuUsage(before)
    // The client's own work is in it.
    expect((user + system) / 20 / 1_000).toBeLessThan(5)
  })
})

describe('B84: a page', () => {
  const local = [
    'http://localhost',
    'http://localhost:8080',
    'https://127.0.0.1',
    'http://[::1]:3000'
  ]
  const foreign = [
    'http://evil.example',
    'http://localhost.evil.example',
    'http://127.0.0.1.evil.example',
    'http://127.evil.example',
    'http://192.168.1.2',
    'http://user@localhost',
    'http://localhost, http://evil.example',
    'file://',
    'null',
    'localhost',
    ''
  ]

  it.each(local)('of %s may connect while there are no users', async Origin => {
    expect(await statusOf({ headers: { Origin } })).toBe(101)
  })

  it.each(foreign)('of %j gets 403 while there are no users', async Origin => {
    expect(await statusOf({ headers: { Origin } })).toBe(403)
  })

  async function statusWith(options: StagedOptions, part: object, Origin: string, more = {}) {
    const other = new StagedGateway(options)
    await other.listen(part)
    const client = await other.upgrade({ headers: { Origin, ...more } })
    await other.close()
    return client.status
  }

  it('of anywhere may connect when there are users', async () => {
    expect(await statusWith({ hasUsers: true }, {}, 'https://a.example')).toBe(101)
  })

  it('must be in the list when there is one, users or not', async () => {
    const origins = ['https://a.example', 'null']
    const hasUsers = true
    expect(await statusWith({ origins }, {}, 'https://A.example')).toBe(101)
    expect(await statusWith({ origins }, {}, 'null')).toBe(101)
    expect(await statusWith({ origins, hasUsers }, {}, 'https://b.example')).toBe(403)
    expect(await statusWith({ origins, hasUsers }, {}, 'http://localhost')).toBe(403)
    expect(await statusWith({ origins: ['*'] }, {}, 'https://b.example')).toBe(101)
  })

  it('is looked up in the list of its listener first', async () => {
    const part = { origins: ['https://own.example'] }
    expect(await statusWith({ origins: ['*'] }, part, 'https://own.example')).toBe(101)
    expect(await statusWith({ origins: ['*'] }, part, 'https://b.example')).toBe(403)
    expect(await statusWith({ origins: ['*'] }, { origins: [] }, 'https://b.example')).toBe(403)
  })
})

describe('a handshake that does not come to its end', () => {
  it('is dropped at the deadline of the login, dripping or silent', async () => {
    const slow = new StagedGateway({ deadlineMs: 1_000 })
    const { port } = await slow.listen()
    const silent = connect(port, '127.0.0.1')
    const dripping = connect(port, '127.0.0.1')
    dripping.write('GET /mqtt HTTP/1.1\r\nX: ')
    const timer = setInterval(() => dripping.write('x'), 100)
    await Promise.all(
      [silent, dripping].map(socket => {
        socket.on('error', () => undefined).resume()
        return new Promise<void>(resolve => socket.on('close', () => resolve()))
      })
    )
    clearInterval(timer)
    expect(slow.lobby.late).toBe(2)
    expect(slow.lobby.count).toBe(0)
    expect(slow.admission.open).toBe(0)
    expect(slow.refusals).toHaveLength(2)
    await slow.close()
  })

  it('gives its place back whenever it ends', async () => {
    const open = gateway.admission.open
    const { port } = await gateway.listen()
    for (const begin of ['', 'GET /mqtt HTTP/1.1\r\n', 'GET /x HTTP/1.1\r\n\r\n']) {
      const socket = connect(port, '127.0.0.1')
      await new Promise<void>(resolve => socket.on('connect', () => resolve()))
      if (begin !== '') socket.write(begin)
      await new Promise(resolve => setTimeout(resolve, 10))
      socket.destroy()
    }
    await gateway.until(() => gateway.admission.open === open)
    expect(gateway.lobby.count).toBe(0)
  })

  it('all answers together are ten lines a second in the log', async () => {
    const quiet = new StagedGateway()
    const { port } = await quiet.listen()
    for (let i = 0; i < 30; i++) await RawWebSocket.open({ port, path: '/x' })
    expect(quiet.lobby.refused).toBe(30)
    expect(quiet.refusals.length).toBeLessThan(30)
    expect(quiet.refusals.length).toBeGreaterThanOrEqual(10)
    await quiet.close()
  })
})
