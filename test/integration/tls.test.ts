/** TLS with clients of others: who is let in, as whom, and what is refused. */
import { connect as tcpConnect } from 'node:net'
import { connect, type ConnectionOptions } from 'node:tls'
import amqplib from 'amqplib'
import { connectAsync, type IClientOptions, type MqttClient } from 'mqtt'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { Authority, type Made, selfSigned } from '../support/certs.ts'
import {
  ACCEPTED,
  CONNECT,
  PSK,
  pskOptions,
  secure,
  sessionOf,
  TlsRig
} from '../support/tls-rig.ts'

const rig = new TlsRig()
const { authority } = rig
const stranger = new Authority()
const clients: MqttClient[] = []
const VERSIONS = ['TLSv1.2', 'TLSv1.3'] as const

beforeAll(() => rig.open())
afterEach(async () => {
  await Promise.all(clients.splice(0).map(client => client.endAsync(true)))
})
afterAll(() => rig.close())

async function open(url: string, options: IClientOptions = {}): Promise<MqttClient> {
  const client = await connectAsync(url, {
    reconnectPeriod: 0,
    ca: authority.own.cert,
    ...options
  })
  client.on('error', () => undefined)
  clients.push(client)
  return client
}

describe('a client over TLS', () => {
  it.each([
    ['mqtts', 'own', 4],
    ['mqtts', 'own', 5],
    ['wss', 'web', 4],
    ['wss', 'web', 5]
  ] as const)(
    'publishes and receives: %s on the port %s, MQTT version %i',
    async (scheme, port, protocolVersion) => {
      const ca = port === 'own' ? rig.ca : authority.own.cert
      const client = await open(`${scheme}://localhost:${rig.port(port)}`, { ca, protocolVersion })
      const got: string[] = []
      client.on('message', (_topic, payload) => got.push(String(payload)))
      await client.subscribeAsync('tls/#', { qos: 2 })
      const large = 'x'.repeat(1_000_000)
      for (const qos of [0, 1, 2] as const) await client.publishAsync('tls/a', `${qos}`, { qos })
      await client.publishAsync('tls/b', large, { qos: 1 })
      await expect.poll(() => got.length, { timeout: 10_000 }).toBe(4)
      expect(got.slice(0, 3)).toEqual(['0', '1', '2'])
      expect(got[3] === large).toBe(true)
    }
  )

  it.each([
    ['127.0.0.1', 'TLSv1.2'],
    ['127.0.0.1', 'TLSv1.3'],
    ['localhost', 'TLSv1.3']
  ] as const)(
    'knows the certificate of `motemq certs init` as %s with %s',
    async (host, version) => {
      const socket = await secure({
        ...{ host, port: rig.port('own'), ca: rig.ca, rejectUnauthorized: true },
        ...{ ALPNProtocols: ['mqtt'], minVersion: version, maxVersion: version }
      })
      const { authorized, alpnProtocol } = socket
      expect([authorized, socket.getProtocol(), alpnProtocol]).toEqual([true, version, 'mqtt'])
      socket.destroy()
    }
  )

  it.each(VERSIONS)(
    'gets the answer to what it sent before its last byte, with %s',
    async version => {
      const publish = Buffer.from('3206000174000161', 'hex')
      const socket = await secure({
        ...({ port: rig.port('own'), allowHalfOpen: true } as ConnectionOptions),
        ...{ minVersion: version, maxVersion: version }
      })
      let answer = ''
      socket.on('data', chunk => {
        answer += chunk.toString('hex')
      })
      socket.end(Buffer.concat([CONNECT, publish]))
      await new Promise(resolve => socket.on('close', resolve))
      expect(answer).toBe(`${ACCEPTED}40020001`)
    }
  )

  it('of AMQP declares, publishes and consumes', async () => {
    const url = `amqps://guest:guest@localhost:${rig.port('amqp')}`
    const connection = await amqplib.connect(url, { ca: [authority.own.cert] })
    const channel = await connection.createConfirmChannel()
    const { queue } = await channel.assertQueue('tls', { durable: true })
    channel.sendToQueue(queue, Buffer.from('hello'), { persistent: true })
    await channel.waitForConfirms()
    const message = await channel.get(queue, { noAck: true })
    expect(message !== false && String(message.content)).toBe('hello')
    await connection.close()
  })

  it('of HTTP reads the health', async () => {
    const socket = await secure({ port: rig.port('https') })
    socket.write('GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n')
    let answer = ''
    socket.on('data', chunk => {
      answer += String(chunk)
    })
    await new Promise(resolve => socket.on('close', resolve))
    expect(answer).toMatch(/^HTTP\/1\.1 (200|404) /)
  })

  it.each(VERSIONS)('comes back with its session in %s', async version => {
    const options = {
      ...{ port: rig.port('own'), servername: 'localhost' },
      ...{ minVersion: version, maxVersion: version }
    }
    const session = await sessionOf(options)
    const second = await secure({ ...options, session })
    expect(second.isSessionReused()).toBe(true)
    second.destroy()
  })

  it.each([
    'ECDHE-ECDSA-AES128-CCM',
    'ECDHE-ECDSA-AES128-GCM-SHA256',
    'ECDHE-ECDSA-CHACHA20-POLY1305'
  ])('may be a small device that knows %s only', async ciphers => {
    expect(await rig.answerOf('own', { ciphers, maxVersion: 'TLSv1.2' })).toBe(ACCEPTED)
  })
})

describe('a client certificate', () => {
  const lamp = authority.issue('lamp')

  it('names the user, and a CONNECT without a user name is enough', async () => {
    expect(await rig.answerOf('named', lamp)).toBe(ACCEPTED)
    await rig.connected('lamp')
  })

  it('names the user of AMQP and of WebSocket too', async () => {
    await open(`wss://localhost:${rig.port('web')}`, authority.issue('browser'))
    await rig.connected('browser')
  })

  it('is not asked for where it is optional, but what is shown must be good', async () => {
    expect(await rig.answerOf('optional', {})).toBe(ACCEPTED)
    expect(await rig.answerOf('optional', lamp)).toBe(ACCEPTED)
    expect(await rig.answerOf('optional', stranger.issue('lamp'))).toBe('')
  })

  it('of one user does not let another one in', async () => {
    const connectAs = (name: string) => {
      const length = String.fromCharCode(0, name.length)
      const body = Buffer.from(`\0\x04MQTT\x04\x82\0\x3c\0\0${length}${name}`, 'latin1')
      return Buffer.concat([Buffer.from([0x10, body.length]), body])
    }
    expect(await rig.answerOf('named', lamp, connectAs('lamp'))).toBe(ACCEPTED)
    expect(await rig.answerOf('named', lamp, connectAs('door'))).toBe('20020005')
  })

  it.each<[string, Made | Record<string, never>, string]>([
    ['none', {}, 'shows no certificate'],
    [
      'that has expired',
      authority.issue('old', { fromDays: -9, untilDays: -1 }),
      '(old) has expired'
    ],
    ['that is not valid yet', authority.issue('new', { fromDays: 2 }), '(new) is not valid yet'],
    ['of another authority', stranger.issue('other'), '(other) was issued by nobody we know'],
    ['signed by itself', selfSigned('self'), '(self) cannot be checked'],
    ['of a server', authority.server(), '(localhost) is not one for clients'],
    ['with NUL in its name', authority.issue('lamp\0door'), 'names no user'],
    ['with + in its name', authority.issue('+'), 'names no user'],
    ['with # in its name', authority.issue('#'), 'names no user'],
    ['without a name', authority.issue(''), 'names no user']
  ])('B87 %s is refused before CONNECT', async (_name, made, reason) => {
    expect(await rig.answerOf('named', made)).toBe('')
    await rig.refusedBecause(reason)
  })

  it('B87 with a name in UTF-8 is that user, to the letter', async () => {
    expect(await rig.answerOf('named', authority.issue('Küche'))).toBe(ACCEPTED)
    await rig.connected('Küche')
  })

  it.each(VERSIONS)(
    'is remembered by a session of %s, but not of another listener',
    async version => {
      const bare = { minVersion: version, maxVersion: version }
      const session = await sessionOf({ ...bare, ...lamp, port: rig.port('named') })
      expect(await rig.answerOf('named', { ...bare, session })).toBe(ACCEPTED)
      // From where no certificate is needed, none is brought along.
      const anonymous = await sessionOf({ ...bare, port: rig.port('optional') })
      expect(await rig.answerOf('named', { ...bare, session: anonymous })).toBe('')
    }
  )
})

describe('a pre-shared key', () => {
  it('names the user', async () => {
    expect(await rig.answerOf('psk', pskOptions(PSK, 'lamp'))).toBe(ACCEPTED)
  })

  it('lets a device with an old session in by its key, not by the session', async () => {
    const options = pskOptions(PSK, 'lamp')
    const session = await sessionOf({ ...options, port: rig.port('psk') })
    expect(await rig.answerOf('psk', { ...options, session })).toBe(ACCEPTED)
  })

  it('that is wrong, or of nobody, is refused the same way', async () => {
    expect(await rig.answerOf('psk', pskOptions(PSK.replace('0', '1'), 'lamp'))).toBe('')
    expect(await rig.answerOf('psk', pskOptions(PSK, 'door'))).toBe('')
    expect(await rig.answerOf('psk', { ciphers: 'DEFAULT' })).toBe('')
  })
})

describe('another protocol', () => {
  it.each([
    ['MQTT', CONNECT],
    ['AMQP', Buffer.from('AMQP\x00\x00\x09\x01')],
    ['HTTP', Buffer.from('GET / HTTP/1.1\r\n\r\n')]
  ])('B10 %s without TLS is closed on a listener with TLS', async (_name, bytes) => {
    const answer = await new Promise<string>(resolve => {
      const socket = tcpConnect(rig.port('own'), '127.0.0.1', () => socket.write(bytes))
      let text = ''
      socket.on('data', chunk => {
        text += chunk.toString('hex')
      })
      socket.on('error', () => undefined)
      socket.on('close', () => resolve(text))
    })
    expect(answer).toBe('')
    await rig.refusedBecause('does not speak TLS')
  })

  it('B10 TLS is closed on a listener without TLS', async () => {
    expect(await rig.answerOf('plain', {})).toBe('')
  })

  it('that ALPN asks for is refused, where it is not ours', async () => {
    expect(await rig.answerOf('own', { ALPNProtocols: ['h2'] })).toBe('')
    await rig.refusedBecause('another protocol (ALPN)')
  })

  it('B86 a version of TLS before 1.2 is refused', async () => {
    const ciphers = 'DEFAULT:@SECLEVEL=0'
    for (const version of ['TLSv1', 'TLSv1.1'] as const) {
      const old = { minVersion: version, maxVersion: version, ciphers }
      expect(await rig.answerOf('own', old)).toBe('')
    }
    await rig.refusedBecause('only older versions')
  })

  it('B86 a weak cipher is refused', async () => {
    for (const ciphers of ['AES128-SHA', 'DHE-RSA-AES128-SHA', 'ECDHE-ECDSA-AES128-SHA']) {
      const weak = { maxVersion: 'TLSv1.2', ciphers: `${ciphers}:@SECLEVEL=0` } as const
      expect(await rig.answerOf('own', weak)).toBe('')
    }
  })

  it('B86 a second handshake ends the connection, and leaves nothing', async () => {
    const socket = await secure({ port: rig.port('own'), maxVersion: 'TLSv1.2' })
    socket.on('error', () => undefined)
    const closed = new Promise<void>(resolve => socket.once('close', () => resolve()))
    socket.renegotiate({}, () => undefined)
    await closed
  })
})

it('a stop does not wait for a handshake that goes nowhere', async () => {
  const socket = connect({ host: '127.0.0.1', port: rig.port('own'), rejectUnauthorized: false })
  socket.on('error', () => undefined)
  const silent = tcpConnect(rig.port('own'), '127.0.0.1', () => silent.write(Buffer.from([22, 3])))
  silent.on('error', () => undefined)
  await new Promise(resolve => silent.once('connect', resolve))
  await rig.program.stop()
  silent.destroy()
  socket.destroy()
})
