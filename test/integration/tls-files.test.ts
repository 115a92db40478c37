/** The files of TLS: what a start says of them, and that they may change while the program runs. */
import { copyFileSync, mkdirSync, renameSync, symlinkSync, writeFileSync } from 'node:fs'
import { connect as tcpConnect } from 'node:net'
import { connect as tlsConnect } from 'node:tls'
import { connectAsync } from 'mqtt'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { writePair } from '../support/certs.ts'
import { runMotemq } from '../support/motemq-process.ts'
import { Program } from '../support/program.ts'
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

beforeAll(() => rig.open())
afterAll(() => rig.close())

/** Of the certificate that a listener shows now. */
async function serial(port = rig.port('amqp')): Promise<string> {
  const socket = await secure({ port })
  const { serialNumber } = socket.getPeerCertificate()
  socket.destroy()
  return serialNumber
}

describe('files that change while it runs', () => {
  it('are used from the next connection on, and nobody is dropped', async () => {
    const client = await connectAsync(`mqtts://localhost:${rig.port('optional')}`, {
      reconnectPeriod: 0,
      ca: authority.own.cert
    })
    let isClosed = false
    client.on('close', () => {
      isClosed = true
    })
    const before = await serial()
    rig.putServer(authority.server())
    await expect.poll(serial, { timeout: 10_000 }).not.toBe(before)
    await client.publishAsync('tls/still', 'here', { qos: 1 })
    expect(isClosed).toBe(false)
    await client.endAsync()
  })

  it('are not used while they are wrong, which is said once', async () => {
    const { program } = rig
    const mistakes = (text: string) =>
      program.logs.filter(line => String(line['mistake']).includes(text))
    const before = await serial()
    const next = authority.server()
    writeFileSync(rig.file('server.crt'), next.cert.slice(0, 200))
    await program.waitForLog(line => String(line['mistake']).includes('holds no certificate'))
    rig.put('server.crt', next.cert)
    await program.waitForLog(line => String(line['mistake']).includes('is not the key of'))
    expect(await serial()).toBe(before)
    rig.put('server.key', next.key)
    await expect.poll(serial, { timeout: 10_000 }).not.toBe(before)
    // Three kinds of listeners have these files, with what differs besides.
    expect(mistakes('holds no certificate').length).toBeLessThanOrEqual(3)
    expect(mistakes('is not the key of').length).toBeLessThanOrEqual(3)
  })

  it('may be links that are turned, as Kubernetes does it', async () => {
    const mounted = rig.file('mounted')
    mkdirSync(mounted)
    for (const version of ['one', 'two']) {
      writePair(`${mounted}/..${version}`, 'server', authority.server())
    }
    symlinkSync('..one', `${mounted}/..data`)
    for (const name of ['server.crt', 'server.key']) {
      symlinkSync(`..data/${name}`, `${mounted}/${name}`)
    }
    const words = ['--tls-cert', `${mounted}/server.crt`, '--tls-key', `${mounted}/server.key`]
    const other = await Program.start({ listen: ['mqtts://127.0.0.1:0'], flags: words })
    const look = () => serial(other.port('mqtts'))
    try {
      const before = await look()
      symlinkSync('..two', `${mounted}/..next`)
      renameSync(`${mounted}/..next`, `${mounted}/..data`)
      await expect.poll(look, { timeout: 10_000 }).not.toBe(before)
    } finally {
      await other.remove()
    }
  })

  it('B87 revoke a certificate, also for who has a session with it', async () => {
    const lost = authority.issue('lost')
    const session = await sessionOf({ ...lost, port: rig.port('named') })
    expect(await rig.answerOf('second', lost)).toBe(ACCEPTED)
    rig.put('crl.pem', authority.crl([lost]))
    await expect.poll(() => rig.answerOf('named', lost), { timeout: 10_000 }).toBe('')
    await rig.refusedBecause('is revoked')
    expect(await rig.answerOf('named', { session })).toBe('')
    expect(await rig.answerOf('named', authority.issue('lamp'))).toBe(ACCEPTED)
  })

  it('B87 let nobody in when the list of revoked certificates has expired', async () => {
    const lamp = authority.issue('lamp')
    rig.put('crl.pem', authority.crl([], -1))
    await expect.poll(() => rig.answerOf('named', lamp), { timeout: 10_000 }).toBe('')
    await rig.refusedBecause('the list of revoked certificates has expired')
    rig.put('crl.pem', authority.crl([]))
    await expect.poll(() => rig.answerOf('named', lamp), { timeout: 10_000 }).toBe(ACCEPTED)
  })

  it('take a pre-shared key away', async () => {
    rig.put('psk', `door:${PSK}\n`)
    const answer = () => rig.answerOf('psk', pskOptions(PSK, 'door'))
    await expect.poll(answer, { timeout: 10_000 }).toBe(ACCEPTED)
    expect(await rig.answerOf('psk', pskOptions(PSK, 'lamp'))).toBe('')
  })
})

describe('a start', () => {
  const refusal = (...words: string[]) => {
    const all = ['start', '--data', rig.file('other'), '--listen', 'mqtts://127.0.0.1:0', ...words]
    return runMotemq(all, { cwd: rig.folder })
  }

  it('without a certificate says how to make one', async () => {
    const { code, stderr } = await refusal()
    expect(code).toBe(2)
    expect(stderr).toMatch(/server\.crt \(the certificate\) does not exist; make one with `motemq/)
  })

  it('with a key that is not the certificate’s names both files', async () => {
    copyFileSync(rig.file('server.crt'), rig.file('a.crt'))
    rig.put('a.key', authority.server().key)
    const { code, stderr } = await refusal(
      ...['--tls-cert', rig.file('a.crt'), '--tls-key', rig.file('a.key')]
    )
    expect(code).toBe(2)
    expect(stderr.trim()).toMatch(/^motemq: .*a\.key is not the key of .*a\.crt$/)
  })

  it('with a mistake in the file of keys names its line', async () => {
    rig.put('bad-psk', `lamp:${PSK}\ndoor:xyz\n`)
    const { code, stderr } = await refusal('--tls-psk', rig.file('bad-psk'))
    expect(code).toBe(2)
    expect(stderr).toMatch(/bad-psk:2: the key is not written in pairs of hexadecimal digits/)
  })
})

describe('config check', () => {
  it('reads the files of TLS too', async () => {
    const check = (config: string) =>
      runMotemq(['config', 'check', '--config', rig.file(config)], { cwd: rig.folder })
    expect(await check('motemq.yaml')).toMatchObject({ code: 0 })
    const good = `listeners: ["mqtts://127.0.0.1"]\ntls: { cert: server.crt, key: server.key }\n`
    rig.put('good.yaml', good)
    expect(await check('good.yaml')).toMatchObject({ code: 0, stderr: '' })
    rig.put('bad.yaml', good.replace('server.key', 'ca.crt'))
    const { code, stderr } = await check('bad.yaml')
    expect([code, stderr]).toEqual([2, expect.stringContaining('ca.crt holds no private key')])
  })
})

describe('createBroker', () => {
  it('takes the files of TLS as its option', async () => {
    const { createBroker } = await import('../../src/index.ts')
    const broker = createBroker({
      data: rig.file('embedded'),
      listeners: ['mqtts://127.0.0.1:0'],
      tls: { cert: rig.file('server.crt'), key: rig.file('server.key') },
      log: 'error'
    })
    await broker.start()
    try {
      const [address] = broker.addresses
      expect(address?.scheme).toBe('mqtts')
      const url = `mqtts://localhost:${address?.port}`
      const client = await connectAsync(url, { reconnectPeriod: 0, ca: authority.own.cert })
      await client.endAsync()
    } finally {
      await broker.stop()
    }
  })
})

describe('TLS behind a proxy', () => {
  it.each([true, false])(
    'is read behind the PROXY header, in one piece with it: %s',
    async isOnePiece => {
      rig.put(
        'proxy.yaml',
        `listeners:
  - { url: "mqtts://127.0.0.1:0", proxyProtocol: { from: ["127.0.0.1"] } }
tls: { cert: ${rig.file('server.crt')}, key: ${rig.file('server.key')} }
users: [{ name: nobody }]
`
      )
      const program = await Program.start({
        listen: [],
        flags: ['--config', rig.file('proxy.yaml')]
      })
      try {
        const plain = tcpConnect(program.port('mqtts'), '127.0.0.1')
        await new Promise(resolve => plain.once('connect', resolve))
        if (isOnePiece) plain.cork()
        plain.write('PROXY TCP4 203.0.113.7 198.51.100.1 4711 8883\r\n')
        const socket = tlsConnect({ socket: plain, rejectUnauthorized: false })
        setTimeout(() => plain.uncork(), 50)
        socket.on('error', () => undefined)
        await new Promise(resolve => socket.once('secureConnect', resolve))
        const answer = new Promise<Buffer>(resolve => socket.once('data', resolve))
        socket.write(CONNECT)
        expect((await answer).toString('hex')).toBe('20020005')
        await program.waitForLog(
          line => line['msg'] === 'refused' && line['peer'] === '203.0.113.7:4711'
        )
        socket.destroy()
      } finally {
        await program.remove()
      }
    }
  )
})
