/** TLS with clients of others, as a gateway has it: certificates of `motemq certs`, files that change while it runs. */
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect as tlsConnect, type ConnectionOptions, type TLSSocket } from 'node:tls'
import { connect as tcpConnect } from 'node:net'
import amqplib from 'amqplib'
import { connectAsync, type IClientOptions, type MqttClient } from 'mqtt'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { Authority, type Made, selfSigned, writePair } from '../support/certs.ts'
import { runMotemq } from '../support/motemq-process.ts'
import { Program } from '../support/program.ts'

const PSK = '00112233445566778899aabbccddeeff'
/** CONNECT of MQTT 3.1.1, a clean session, no client id. */
const CONNECT = Buffer.from('100c00044d51545404020000' + '0000', 'hex')

const folder = mkdtempSync(join(tmpdir(), 'motemq-tls-'))
const data = join(folder, 'data')
const certs = join(data, 'certs')
const authority = new Authority()
const stranger = new Authority()
let program: Program
let ca = ''
const clients: MqttClient[] = []

const file = (name: string) => join(folder, name)
const put = (name: string, text: string) => {
  writeFileSync(file(`${name}.new`), text, { mode: 0o600 })
  renameSync(file(`${name}.new`), file(name))
}

function putServer(made: Made): void {
  put('server.key', made.key)
  put('server.crt', made.cert)
}

const PORTS = ['own', 'named', 'optional', 'psk', 'amqp', 'plain', 'second'] as const
const portOf = (which: (typeof PORTS)[number]) =>
  Number(new URL(program.urls[PORTS.indexOf(which)]!).port)

beforeAll(async () => {
  putServer(authority.server())
  put('ca.crt', authority.own.cert)
  put('crl.pem', authority.crl([]))
  put('psk', `lamp:${PSK}\n`)
  const own = `cert: ${file('server.crt')}, key: ${file('server.key')}`
  const checks = `ca: ${file('ca.crt')}, crl: ${file('crl.pem')}, useIdentity: cn`
  put(
    'motemq.yaml',
    `listeners:
  - mqtts://127.0.0.1:0
  - { url: "mqtts://127.0.0.1:0", tls: { ${own}, ${checks}, requireCert: true } }
  - { url: "mqtts://127.0.0.1:0", tls: { ${own}, ${checks} } }
  - { url: "mqtts://127.0.0.1:0", tls: { psk: ${file('psk')}, usePskIdentity: true } }
  - { url: "amqps://127.0.0.1:0", tls: { ${own} } }
  - mqtt://127.0.0.1:0
  - { url: "mqtts://127.0.0.1:0", tls: { ${own}, ${checks}, requireCert: true } }
`
  )
  const made = await runMotemq(['certs', 'init', '--data', data], { cwd: folder })
  expect(made.code).toBe(0)
  ca = readFileSync(join(certs, 'ca.crt'), 'utf8')
  program = await Program.start({
    dataDir: data,
    listen: [],
    flags: ['--config', file('motemq.yaml'), '--log-level', 'debug']
  })
})

afterEach(async () => {
  await Promise.all(clients.splice(0).map(client => client.endAsync(true)))
})

afterAll(async () => {
  await program.remove()
  rmSync(folder, { recursive: true, force: true })
})

async function open(
  which: (typeof PORTS)[number],
  options: IClientOptions = {}
): Promise<MqttClient> {
  const client = await connectAsync(`mqtts://localhost:${portOf(which)}`, {
    reconnectPeriod: 0,
    ca: authority.own.cert,
    ...options
  })
  client.on('error', () => undefined)
  clients.push(client)
  return client
}

/** What comes back on a CONNECT, in hexadecimal; '' when the connection ends without an answer. */
function answerOf(
  which: (typeof PORTS)[number],
  options: ConnectionOptions,
  packet: Buffer = CONNECT
): Promise<string> {
  return new Promise(resolve => {
    const socket = tlsConnect({
      host: '127.0.0.1',
      port: portOf(which),
      servername: 'localhost',
      rejectUnauthorized: false,
      ...options
    })
    let answer = ''
    socket.on('secureConnect', () => socket.write(packet))
    socket.on('data', chunk => {
      answer += chunk.toString('hex')
      socket.destroy()
    })
    socket.on('error', () => undefined)
    socket.on('close', () => resolve(answer))
  })
}

const ACCEPTED = '20020000'
const refusedBecause = (reason: string) =>
  program.waitForLog(line => line['msg'] === 'refused' && String(line['reason']).includes(reason))

describe('a client over TLS', () => {
  it.each([4, 5] as const)('of MQTT version %i publishes and receives', async protocolVersion => {
    const client = await open('own', { ca, protocolVersion })
    const got: string[] = []
    client.on('message', (_topic, payload) => got.push(String(payload)))
    await client.subscribeAsync('tls/#', { qos: 2 })
    const large = 'x'.repeat(1_000_000)
    for (const qos of [0, 1, 2] as const) await client.publishAsync('tls/a', `${qos}`, { qos })
    await client.publishAsync('tls/b', large, { qos: 1 })
    await expect.poll(() => got.length, { timeout: 10_000 }).toBe(4)
    expect(got.slice(0, 3)).toEqual(['0', '1', '2'])
    expect(got[3] === large).toBe(true)
  })

  it.each([
    ['127.0.0.1', 'TLSv1.2'],
    ['127.0.0.1', 'TLSv1.3'],
    ['localhost', 'TLSv1.3']
  ] as const)(
    'knows the certificate of `motemq certs init` as %s with %s',
    async (host, version) => {
      const socket = tlsConnect({
        host,
        port: portOf('own'),
        ca,
        ALPNProtocols: ['mqtt'],
        minVersion: version,
        maxVersion: version
      })
      await new Promise((resolve, reject) =>
        socket.on('secureConnect', resolve).on('error', reject)
      )
      expect([socket.authorized, socket.getProtocol(), socket.alpnProtocol]).toEqual([
        true,
        version,
        'mqtt'
      ])
      socket.destroy()
    }
  )

  it('gets the answer to what it sent before its last byte', async () => {
    const publish = Buffer.from('3206000174000161', 'hex')
    const answer = await new Promise<string>(resolve => {
      const socket = tlsConnect({
        port: portOf('own'),
        host: '127.0.0.1',
        rejectUnauthorized: false,
        allowHalfOpen: true
      } as ConnectionOptions)
      let text = ''
      socket.on('secureConnect', () => socket.end(Buffer.concat([CONNECT, publish])))
      socket.on('data', chunk => {
        text += chunk.toString('hex')
      })
      socket.on('error', () => undefined)
      socket.on('close', () => resolve(text))
    })
    expect(answer).toBe(`${ACCEPTED}40020001`)
  })

  it('of AMQP declares, publishes and consumes', async () => {
    const url = `amqps://guest:guest@localhost:${portOf('amqp')}`
    const connection = await amqplib.connect(url, { ca: [authority.own.cert] })
    const channel = await connection.createConfirmChannel()
    const { queue } = await channel.assertQueue('tls', { durable: true })
    channel.sendToQueue(queue, Buffer.from('hello'), { persistent: true })
    await channel.waitForConfirms()
    const message = await channel.get(queue, { noAck: true })
    expect(message !== false && String(message.content)).toBe('hello')
    await connection.close()
  })

  it.each(['TLSv1.2', 'TLSv1.3'] as const)('comes back with its session in %s', async version => {
    const options = {
      host: '127.0.0.1',
      port: portOf('own'),
      rejectUnauthorized: false,
      minVersion: version,
      maxVersion: version
    }
    const first = tlsConnect(options)
    const session = await new Promise<Buffer>(resolve => first.once('session', resolve))
    first.destroy()
    const second = tlsConnect({ ...options, session })
    await new Promise(resolve => second.once('secureConnect', resolve))
    expect(second.isSessionReused()).toBe(true)
    second.destroy()
  })
})

describe('a client certificate', () => {
  const lamp = authority.issue('lamp')

  it('names the user, and a CONNECT without a user name is enough', async () => {
    expect(await answerOf('named', lamp)).toBe(ACCEPTED)
    await program.waitForLog(line => line['msg'] === 'connected' && line['user'] === 'lamp')
  })

  it('is not asked for where it is optional, but what is shown must be good', async () => {
    expect(await answerOf('optional', {})).toBe(ACCEPTED)
    expect(await answerOf('optional', lamp)).toBe(ACCEPTED)
    expect(await answerOf('optional', stranger.issue('lamp'))).toBe('')
  })

  it('of one user does not let another one in', async () => {
    const connect = (name: string) => {
      const body = Buffer.from(
        `00044d5154540482003c0000${Buffer.from([0, name.length]).toString('hex')}${Buffer.from(name).toString('hex')}`,
        'hex'
      )
      return Buffer.concat([Buffer.from([0x10, body.length]), body])
    }
    expect(await answerOf('named', lamp, connect('lamp'))).toBe(ACCEPTED)
    expect(await answerOf('named', lamp, connect('door'))).toBe('20020005')
  })

  it.each<[string, Made | Record<string, never>, string]>([
    ['none', {}, 'shows no certificate'],
    ['that has expired', authority.issue('lamp', { fromDays: -9, untilDays: -1 }), 'has expired'],
    ['that is not valid yet', authority.issue('lamp', { fromDays: 2 }), 'not valid yet'],
    ['of another authority', stranger.issue('lamp'), 'issued by nobody we know'],
    ['signed by itself', selfSigned('lamp'), 'cannot be checked'],
    ['of a server', authority.server(), 'not one for clients'],
    ['with NUL in its name', authority.issue('lamp\0door'), 'names no user'],
    ['with + in its name', authority.issue('+'), 'names no user'],
    ['with # in its name', authority.issue('#'), 'names no user'],
    ['without a name', authority.issue(''), 'names no user']
  ])('%s is refused before CONNECT (B87)', async (_name, made, reason) => {
    expect(await answerOf('named', made)).toBe('')
    await refusedBecause(reason)
  })

  it('with a name in UTF-8 is that user, to the letter', async () => {
    expect(await answerOf('named', authority.issue('Küche'))).toBe(ACCEPTED)
    await program.waitForLog(line => line['msg'] === 'connected' && line['user'] === 'Küche')
  })

  it.each(['TLSv1.2', 'TLSv1.3'] as const)(
    'is remembered by a session of %s, but not of another listener',
    async version => {
      const options = {
        ...lamp,
        rejectUnauthorized: false,
        host: '127.0.0.1',
        minVersion: version,
        maxVersion: version
      }
      const first = tlsConnect({ ...options, port: portOf('named') })
      const session = await new Promise<Buffer>(resolve => first.once('session', resolve))
      first.destroy()
      const { cert: _cert, key: _key, ...bare } = options
      expect(await answerOf('named', { ...bare, session })).toBe(ACCEPTED)
      // From where no certificate is needed, none is brought along.
      const other = tlsConnect({ ...bare, port: portOf('optional') })
      const anonymous = await new Promise<Buffer>(resolve => other.once('session', resolve))
      other.destroy()
      expect(await answerOf('named', { ...bare, session: anonymous })).toBe('')
    }
  )
})

describe('a pre-shared key', () => {
  const key = (hex: string, identity: string): ConnectionOptions => ({
    ciphers: 'PSK-AES128-GCM-SHA256',
    maxVersion: 'TLSv1.2',
    checkServerIdentity: () => undefined,
    pskCallback: () => ({ psk: Buffer.from(hex, 'hex'), identity })
  })

  it('names the user', async () => {
    expect(await answerOf('psk', key(PSK, 'lamp'))).toBe(ACCEPTED)
  })

  it('that is wrong, or of nobody, is refused the same way', async () => {
    expect(await answerOf('psk', key(PSK.replace('0', '1'), 'lamp'))).toBe('')
    expect(await answerOf('psk', key(PSK, 'door'))).toBe('')
    expect(await answerOf('psk', { ciphers: 'DEFAULT' })).toBe('')
  })
})

describe('another protocol', () => {
  it.each([
    ['MQTT', CONNECT],
    ['AMQP', Buffer.from('AMQP\x00\x00\x09\x01')],
    ['HTTP', Buffer.from('GET / HTTP/1.1\r\n\r\n')]
  ])('%s without TLS is closed on a listener with TLS (B10)', async (_name, bytes) => {
    const answer = await new Promise<string>(resolve => {
      const socket = tcpConnect(portOf('own'), '127.0.0.1', () => socket.write(bytes))
      let text = ''
      socket.on('data', chunk => {
        text += chunk.toString('hex')
      })
      socket.on('error', () => undefined)
      socket.on('close', () => resolve(text))
    })
    expect(answer).toBe('')
    await refusedBecause('does not speak TLS')
  })

  it('TLS is closed on a listener without TLS (B10)', async () => {
    expect(await answerOf('plain', {})).toBe('')
  })

  it('a version of TLS before 1.2 is refused (B86)', async () => {
    const old = {
      minVersion: 'TLSv1.1',
      maxVersion: 'TLSv1.1',
      ciphers: 'DEFAULT:@SECLEVEL=0'
    } as const
    expect(await answerOf('own', old)).toBe('')
    await refusedBecause('only older versions')
  })

  it('a weak cipher is refused (B86)', async () => {
    for (const ciphers of ['AES128-SHA', 'DHE-RSA-AES128-SHA', 'aNULL:eNULL']) {
      const weak = { maxVersion: 'TLSv1.2', ciphers: `${ciphers}:@SECLEVEL=0` } as const
      expect(await answerOf('own', weak)).toBe('')
    }
  })

  it('a second handshake ends the connection, and leaves nothing (B86)', async () => {
    const socket = tlsConnect({
      host: '127.0.0.1',
      port: portOf('own'),
      rejectUnauthorized: false,
      maxVersion: 'TLSv1.2'
    })
    socket.on('error', () => undefined)
    await new Promise(resolve => socket.once('secureConnect', resolve))
    const peer = `127.0.0.1:${socket.localPort}`
    const closed = new Promise<void>(resolve => socket.once('close', () => resolve()))
    socket.renegotiate({}, () => undefined)
    await closed
    await program.waitForLog(line => line['msg'] === 'refused' && line['peer'] === peer)
  })
})

describe('files that change while it runs', () => {
  const serialOf = (socket: TLSSocket) => socket.getPeerCertificate().serialNumber

  async function serial(): Promise<string> {
    const socket = tlsConnect({
      host: '127.0.0.1',
      port: portOf('amqp'),
      rejectUnauthorized: false
    })
    await new Promise((resolve, reject) => socket.on('secureConnect', resolve).on('error', reject))
    const found = serialOf(socket)
    socket.destroy()
    return found
  }

  it('are used from the next connection on, and nobody is dropped', async () => {
    const client = await open('optional')
    let isClosed = false
    client.on('close', () => {
      isClosed = true
    })
    const before = await serial()
    putServer(authority.server())
    await expect.poll(serial, { timeout: 10_000 }).not.toBe(before)
    await client.publishAsync('tls/still', 'here', { qos: 1 })
    expect(isClosed).toBe(false)
  })

  it('are not used while they are wrong, which is said once', async () => {
    const before = await serial()
    const next = authority.server()
    writeFileSync(file('server.crt'), next.cert.slice(0, 200))
    await program.waitForLog(line => String(line['mistake']).includes('holds no certificate'))
    put('server.crt', next.cert)
    await program.waitForLog(line => String(line['mistake']).includes('is not the key of'))
    expect(await serial()).toBe(before)
    put('server.key', next.key)
    await expect.poll(serial, { timeout: 10_000 }).not.toBe(before)
    const said = program.logs.filter(line =>
      String(line['mistake']).includes('holds no certificate')
    )
    // Three listeners have these files, with what differs besides.
    expect(said.length).toBeLessThanOrEqual(3)
  })

  it('may be links that are turned, as Kubernetes does it', async () => {
    for (const version of ['one', 'two'])
      writePair(file(`..${version}`), 'server', authority.server())
    mkdirSync(file('mounted'), { recursive: true })
    for (const version of ['one', 'two'])
      renameSync(file(`..${version}`), file(`mounted/..${version}`))
    symlinkSync('..one', file('mounted/..data'))
    for (const name of ['server.crt', 'server.key'])
      symlinkSync(`..data/${name}`, file(`mounted/${name}`))
    const words = [
      '--tls-cert',
      file('mounted/server.crt'),
      '--tls-key',
      file('mounted/server.key')
    ]
    const other = await Program.start({ listen: ['mqtts://127.0.0.1:0'], flags: words })
    const look = async () => {
      const socket = tlsConnect({
        host: '127.0.0.1',
        port: other.port('mqtts'),
        rejectUnauthorized: false
      })
      await new Promise((resolve, reject) =>
        socket.on('secureConnect', resolve).on('error', reject)
      )
      const found = serialOf(socket)
      socket.destroy()
      return found
    }
    try {
      const before = await look()
      symlinkSync('..two', file('mounted/..next'))
      renameSync(file('mounted/..next'), file('mounted/..data'))
      await expect.poll(look, { timeout: 10_000 }).not.toBe(before)
    } finally {
      await other.remove()
    }
  })

  it('revoke a certificate, also for who has a session with it', async () => {
    const lost = authority.issue('lost')
    const options = { ...lost, rejectUnauthorized: false, host: '127.0.0.1', port: portOf('named') }
    const first = tlsConnect(options)
    const session = await new Promise<Buffer>(resolve => first.once('session', resolve))
    first.destroy()
    expect(await answerOf('second', lost)).toBe(ACCEPTED)
    put('crl.pem', authority.crl([lost]))
    await expect.poll(() => answerOf('named', lost), { timeout: 10_000 }).toBe('')
    await refusedBecause('is revoked')
    expect(await answerOf('named', { session, rejectUnauthorized: false })).toBe('')
    expect(await answerOf('named', authority.issue('lamp'))).toBe(ACCEPTED)
  })

  it('take a pre-shared key away', async () => {
    const key = (identity: string): ConnectionOptions => ({
      ciphers: 'PSK-AES128-GCM-SHA256',
      maxVersion: 'TLSv1.2',
      checkServerIdentity: () => undefined,
      pskCallback: () => ({ psk: Buffer.from(PSK, 'hex'), identity })
    })
    put('psk', `door:${PSK}\n`)
    await expect.poll(() => answerOf('psk', key('door')), { timeout: 10_000 }).toBe(ACCEPTED)
    expect(await answerOf('psk', key('lamp'))).toBe('')
  })
})

describe('a start', () => {
  const refusal = async (...words: string[]) => {
    const all = ['start', '--data', file('other'), ...words]
    const { code, stderr } = await runMotemq(all, { cwd: folder })
    return { code, stderr }
  }

  it('without a certificate says how to make one', async () => {
    const { code, stderr } = await refusal('--listen', 'mqtts://127.0.0.1:0')
    expect(code).toBe(2)
    expect(stderr).toMatch(
      /server\.crt \(the certificate\) does not exist; make one with `motemq certs init`/
    )
  })

  it('with a key that is not the certificate’s names both files', async () => {
    copyFileSync(file('server.crt'), file('a.crt'))
    put('a.key', authority.server().key)
    const files = ['--tls-cert', file('a.crt'), '--tls-key', file('a.key')]
    const { code, stderr } = await refusal('--listen', 'mqtts://127.0.0.1:0', ...files)
    expect(code).toBe(2)
    expect(stderr.trim()).toMatch(/^motemq: .*a\.key is not the key of .*a\.crt$/)
  })
})
