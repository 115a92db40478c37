import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { AdminServer } from '../../src/admin/http.ts'
import { json, type Route } from '../../src/admin/router.ts'
import { openAdminSocket } from '../../src/admin/socket.ts'
import { userRoutes } from '../../src/admin/users.ts'
import { Hasher } from '../../src/auth/password.ts'
import { StoredUsers } from '../../src/auth/users.ts'
import { connectToBroker, RemoteUsers } from '../../src/cli/remote-users.ts'
import type { User } from '../../src/core/principal.ts'
import { Admission } from '../../src/net/admission.ts'
import { type Listener, openListener } from '../../src/net/listener.ts'
import { listenAddress } from '../support/listen-address.ts'

let listener: Listener
let admin: AdminServer
const bugs: unknown[] = []
const gate = new Admission({ connectionsMax: 100, perSecond: 1e6, burst: 1e6 })

const ROUTES: Route[] = [
  { path: '/here', methods: { GET: () => json({ ok: true }) } },
  { path: '/echo', methods: { POST: async request => json(await request.readJson()) } },
  {
    path: '/bug',
    methods: {
      GET: () => {
        throw new TypeError('secret detail')
      }
    }
  }
]

beforeEach(async () => {
  bugs.length = 0
  admin = new AdminServer({
    routes: ROUTES,
    hosts: ['gateway.example'],
    onBug: error => bugs.push(error),
    requestTimeoutMs: 300
  })
  const address = listenAddress({ scheme: 'http', protocol: 'http' })
  listener = await openListener(address, {
    admission: gate,
    onConnection: ({ socket, release }) => admin.take(socket, release)
  })
})
afterEach(() => {
  listener.close()
  admin.close()
})

/** Sends bytes; resolves with all that came back until the server closed. */
function exchange(...pieces: string[]): Promise<string> {
  return new Promise(resolve => {
    const socket = connect(listener.port, '127.0.0.1')
    let answer = ''
    socket.on('data', chunk => {
      answer += String(chunk)
    })
    // A reset after the answer: the server did not read the rest.
    socket.on('error', () => undefined)
    socket.on('close', () => resolve(answer))
    for (const piece of pieces) socket.write(piece)
  })
}

const get = (path: string, headers = 'Host: localhost\r\n', method = 'GET') =>
  exchange(`${method} ${path} HTTP/1.1\r\n${headers}Connection: close\r\n\r\n`)

describe('the admin server', { timeout: 10_000 }, () => {
  it('answers over connections that a listener hands it', async () => {
    const answer = await get('/here')
    expect(answer).toMatch(/^HTTP\/1\.1 200 OK\r\n/)
    expect(answer).toContain('{"ok":true}')
    expect(answer).toContain("frame-ancestors 'none'")
  })

  it('gives the place of a connection back', async () => {
    await get('/here')
    await new Promise<void>(resolve => {
      const look = () => (gate.open === 0 ? resolve() : setImmediate(look))
      look()
    })
  })

  const hosts: [host: string, status: number][] = [
    ['localhost', 200],
    ['localhost:1234', 200],
    ['127.0.0.1:80', 200],
    ['[::1]:80', 200],
    ['Gateway.Example', 200],
    ['evil.example', 403],
    ['localhost.evil.example', 403],
    ['127.0.0.1.evil.example', 403],
    ['', 403]
  ]
  for (const [host, status] of hosts) {
    it(`answers ${status} to the Host "${host}"`, async () => {
      expect(await get('/here', `Host: ${host}\r\n`)).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `))
    })
  }

  const requests: [name: string, pieces: string[], status: number][] = [
    ['no Host', ['GET /here HTTP/1.1\r\nConnection: close\r\n\r\n'], 400],
    [
      'an unknown path',
      ['GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'],
      404
    ],
    [
      'a path traversal',
      ['GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'],
      404
    ],
    [
      'an encoded path traversal',
      ['GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'],
      404
    ],
    ['TRACE', ['TRACE /here HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'], 405],
    ['CONNECT', ['CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\n\r\n'], 405],
    [
      'headers of 64 KiB',
      [`GET /here HTTP/1.1\r\nHost: localhost\r\nX: ${'x'.repeat(65_536)}\r\n\r\n`],
      431
    ],
    [
      'a path of 8 KiB',
      [`GET /${'x'.repeat(8_192)} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`],
      414
    ],
    [
      'a body that says it is 100 MiB',
      ['POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 104857600\r\n\r\n{'],
      413
    ],
    [
      'a body in chunks that goes on and on',
      [
        'POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n',
        ...Array.from({ length: 40 }, () => `1000\r\n${'x'.repeat(4096)}\r\n`)
      ],
      413
    ],
    [
      'two lengths (smuggling)',
      [
        'POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}'
      ],
      400
    ],
    [
      'a body that is no JSON',
      [
        'POST /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 3\r\n\r\n{a}'
      ],
      400
    ],
    [
      'a body that never comes',
      ['POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n'],
      408
    ],
    ['headers that never end', ['GET /here HTTP/1.1\r\nHost: loc'], 408],
    ['what is no HTTP', ['\u0010\u000c\u0000\u0004MQTT\u0004\u0002\r\n\r\n'], 400]
  ]
  for (const [name, pieces, status] of requests) {
    it(`answers ${status} to ${name}, and closes`, async () => {
      expect(await exchange(...pieces)).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `))
      expect(bugs).toEqual([])
    })
  }

  it('answers 500 to a bug of ours, tells the log, and tells the peer nothing', async () => {
    const answer = await get('/bug')
    expect(answer).toMatch(/^HTTP\/1\.1 500 /)
    expect(answer).not.toContain('secret')
    expect(bugs).toHaveLength(1)
  })
})

describe('the admin socket', () => {
  let folder = ''
  const hasher = new Hasher()
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'motemq-admin-'))
  })
  afterEach(async () => {
    rmSync(folder, { recursive: true, force: true })
    await hasher.close()
  })

  async function serve(data: string) {
    const users = new Map<string, User>()
    const store = {
      users: () => users,
      hasVhost: () => true,
      hasCommonRules: false,
      isConfigured: () => false,
      putUser: async (user: User) => {
        users.set(user.name, user)
      },
      deleteUser: async (name: string) => {
        users.delete(name)
      }
    }
    const routes = userRoutes(new StoredUsers(store, hasher))
    return openAdminSocket(data, { routes, onBug: error => bugs.push(error) })
  }

  it('is for its owner only, and gone after close', async () => {
    const socket = await serve(folder)
    const path = join(folder, 'admin.sock')
    expect(statSync(path).mode & 0o777).toBe(0o600)
    await socket.close()
    await socket.close()
    expect(() => statSync(path)).toThrow()
    expect(await connectToBroker(folder)).toBeNull()
  })

  it('makes, changes, lists and removes users', async () => {
    const socket = await serve(folder)
    const users = (await connectToBroker(folder))!
    await users.add('a/ü b', Buffer.from([0xff, 0]), ['administrator'])
    expect(await users.list()).toEqual([
      { name: 'a/ü b', tags: ['administrator'], hasPassword: true, isConfigured: false }
    ])
    await expect(users.add('a/ü b', Buffer.from('x'), [])).rejects.toMatchObject({
      code: 'preconditionFailed'
    })
    await users.setPassword('a/ü b', Buffer.from('x'))
    await users.remove('a/ü b')
    await expect(users.remove('a/ü b')).rejects.toMatchObject({ code: 'notFound' })
    await expect(users.add('', Buffer.from('x'), [])).rejects.toMatchObject({
      code: 'argumentInvalid'
    })
    await socket.close()
  })

  it('works in a folder whose path is longer than a socket address', async () => {
    const { mkdir } = await import('node:fs/promises')
    const deep = join(folder, 'x'.repeat(100), 'y'.repeat(100))
    await mkdir(deep, { recursive: true })
    const socket = await serve(deep)
    expect(await new RemoteUsers(deep).list()).toEqual([])
    await socket.close()
  })

  it('takes the place of what a crash left behind', async () => {
    const { writeFile } = await import('node:fs/promises')
    await writeFile(join(folder, 'admin.sock'), '')
    const socket = await serve(folder)
    expect(await connectToBroker(folder)).not.toBeNull()
    await socket.close()
  })
})
