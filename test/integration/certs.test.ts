/** `motemq certs`, and what OpenSSL and mosquitto's programs make of it. */
import { X509Certificate } from 'node:crypto'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { runMotemq } from '../support/motemq-process.ts'
import { Program } from '../support/program.ts'
import { requireProgram } from '../support/require.ts'
import { run, start, startPython } from '../support/run.ts'

const folder = mkdtempSync(join(tmpdir(), 'motemq-certs-'))
const data = join(folder, 'data')
const certs = join(data, 'certs')
const at = (name: string) => join(certs, name)
const certOf = (name: string) => new X509Certificate(readFileSync(at(name)))

const motemq = (...words: string[]) =>
  runMotemq(['certs', ...words, '--data', data], { cwd: folder })

async function made(...words: string[]): Promise<string> {
  const { code, stdout, stderr } = await motemq(...words)
  expect([code, stderr]).toEqual([0, ''])
  return stdout
}

beforeAll(async () => {
  await made('init', '--host', 'gateway.example', '10.1.2.3')
  await made('issue', 'lamp', '--format', 'pem', 'c', 'micropython')
})

afterAll(() => rmSync(folder, { recursive: true, force: true }))

describe('motemq certs', () => {
  it('makes an authority and a certificate for every name and address of the machine', () => {
    const ca = certOf('ca.crt')
    const server = certOf('server.crt')
    expect([ca.ca, server.ca]).toEqual([true, false])
    expect(server.checkIssued(ca) && server.verify(ca.publicKey)).toBe(true)
    for (const host of ['localhost', 'gateway.example']) expect(server.checkHost(host)).toBe(host)
    for (const ip of ['127.0.0.1', '::1', '10.1.2.3']) expect(server.checkIP(ip)).toBe(ip)
    expect(server.serialNumber).toMatch(/^[4-7][0-9A-F]{31}$/)
  })

  it('keeps every file for its owner only', () => {
    const all = readdirSync(certs, { recursive: true, withFileTypes: true })
    const files = all.filter(entry => entry.isFile())
    expect(files.length).toBeGreaterThanOrEqual(9)
    for (const { parentPath, name } of files) {
      expect([name, statSync(join(parentPath, name)).mode & 0o777]).toEqual([name, 0o600])
    }
    expect(statSync(certs).mode & 0o777).toBe(0o700)
  })

  it('overwrites nothing that is there', async () => {
    const before = [readFileSync(at('server.key')), readFileSync(at('devices/lamp.key'))]
    for (const words of [['init'], ['issue', 'lamp']]) {
      const { code, stderr } = await motemq(...words)
      expect(code).toBe(1)
      expect(stderr).toMatch(/already.*renew/)
    }
    const after = [readFileSync(at('server.key')), readFileSync(at('devices/lamp.key'))]
    expect(after).toEqual(before)
  })

  it('takes only names that are a file’s and a user’s', async () => {
    for (const name of ['../x', 'a+b', '#', 'server', 'x'.repeat(65), '']) {
      expect((await motemq('issue', name)).code).toBe(1)
    }
    expect((await motemq('issue', 'a', '--format', 'jks')).code).toBe(2)
    expect((await motemq('issue', 'a', '--days', 'soon')).code).toBe(2)
  })

  it('writes a header for C and a module for MicroPython with the same certificate', async () => {
    const header = readFileSync(at('devices/lamp.h'), 'utf8')
    const lines = [...header.matchAll(/^ {2}"(.*)\\n";?$/gm)].map(([, line]) => line)
    const pem = [at('ca.crt'), at('devices/lamp.crt'), at('devices/lamp.key')]
    expect(lines.join('\n')).toBe(pem.map(file => readFileSync(file, 'utf8').trimEnd()).join('\n'))
    const text = readFileSync(at('devices/lamp.py'), 'utf8')
    const der = /^CERT = a2b_base64\(([^)]*)\)/m.exec(text)?.[1] ?? ''
    const bytes = Buffer.from(der.replaceAll(/[\s"]/g, ''), 'base64')
    expect(bytes).toEqual(certOf('devices/lamp.crt').raw)
  })

  it('lists what there is with its end', async () => {
    const text = await made('list')
    expect(text).toMatch(/^ca +authority +20\d\d-\d\d-\d\d +\d+ days left$/m)
    expect(text).toMatch(/^lamp +device/m)
    const { certificates } = JSON.parse(await made('list', '--json'))
    expect(certificates).toHaveLength(3)
  })

  it('renews with the same key what is named or expires soon', async () => {
    expect(await made('renew')).toContain('nothing expires within 30 days')
    const before = certOf('server.crt')
    expect(await made('renew', '--within', '900')).toMatch(/^renewed server, until/)
    const after = certOf('server.crt')
    expect(after.serialNumber).not.toBe(before.serialNumber)
    expect(after.publicKey.equals(before.publicKey)).toBe(true)
    expect(after.subjectAltName).toBe(before.subjectAltName)
    const key = readFileSync(at('devices/lamp.key'))
    await made('renew', 'lamp')
    expect(readFileSync(at('devices/lamp.key'))).toEqual(key)
    const bundle = readFileSync(at('devices/lamp.pem'), 'utf8')
    expect(bundle).toContain(readFileSync(at('devices/lamp.crt'), 'utf8'))
  })

  it('revokes a device with all certificates that it ever had', async () => {
    await made('issue', 'lost')
    const first = certOf('devices/lost.crt').serialNumber
    await made('renew', 'lost')
    const second = certOf('devices/lost.crt').serialNumber
    await made('issue', 'other')
    const third = certOf('devices/other.crt').serialNumber
    await made('issue', 'other', '--force')
    await made('revoke', 'lost')
    const { revoked } = JSON.parse(await made('list', '--json'))
    const serials = revoked.map((one: { serialNumber: string }) => one.serialNumber)
    expect(serials.sort()).toEqual([first, second, third].sort())
    expect(readdirSync(at('devices')).filter(name => name.startsWith('lost'))).toEqual([])
  })
})

requireProgram('openssl')('OpenSSL', () => {
  it('verifies the certificates strictly, for their purposes', async () => {
    const words = ['verify', '-x509_strict', '-CAfile', at('ca.crt')]
    const ok = async (purpose: string, name: string) =>
      (await start('openssl', [...words, '-purpose', purpose, at(name)]).result).code === 0
    expect(await ok('sslserver', 'server.crt')).toBe(true)
    expect(await ok('sslclient', 'devices/lamp.crt')).toBe(true)
    expect(await ok('sslclient', 'server.crt')).toBe(false)
    expect(await ok('sslserver', 'devices/lamp.crt')).toBe(false)
  })

  it('reads every extension as it is meant', async () => {
    const text = await run('openssl', ['x509', '-in', at('server.crt'), '-noout', '-text'])
    expect(text).toMatch(/Basic Constraints: critical\s+CA:FALSE/)
    expect(text).toMatch(/Key Usage: critical\s+Digital Signature\n/)
    expect(text).toMatch(/Extended Key Usage:\s+TLS Web Server Authentication\n/)
    expect(text).toMatch(/DNS:gateway\.example.*IP Address:10\.1\.2\.3/)
    expect(text).toMatch(/Subject Key Identifier[\s\S]*Authority Key Identifier/)
    const ca = await run('openssl', ['x509', '-in', at('ca.crt'), '-noout', '-text'])
    expect(ca).toMatch(/Basic Constraints: critical\s+CA:TRUE, pathlen:0/)
    expect(ca).toMatch(/Key Usage: critical\s+Certificate Sign, CRL Sign/)
  })

  it('verifies the list of revoked certificates', async () => {
    const words = ['crl', '-in', at('crl.pem'), '-CAfile', at('ca.crt'), '-noout']
    const { code, stderr } = await start('openssl', words).result
    expect([code, stderr]).toEqual([0, expect.stringContaining('verify OK')])
  })
})

describe('clients with these files', () => {
  let program: Program
  beforeAll(async () => {
    program = await Program.start({
      dataDir: data,
      listen: ['mqtts://127.0.0.1:0'],
      flags: ['--tls-require-cert', 'true', '--tls-use-identity', 'cn']
    })
  })
  afterAll(async () => {
    await program.stop()
  })
  const words = (name: string) => [
    ...['-h', 'localhost', '-p', String(program.port('mqtts')), '--cafile', at('ca.crt')],
    ...['--cert', at(`devices/${name}.crt`), '--key', at(`devices/${name}.key`)]
  ]

  requireProgram('mosquitto_pub')('mosquitto_pub', () => {
    it('is let in with a certificate of `motemq certs issue`', async () => {
      await run('mosquitto_pub', [...words('lamp'), '-t', 'a', '-m', 'x', '-q', '2'])
      const isLamp = (line: Readonly<Record<string, unknown>>) =>
        line['msg'] === 'connected' && line['user'] === 'lamp'
      await program.waitForLog(isLamp)
    })

    it('is not let in without one, nor with a revoked one', async () => {
      const bare = words('lamp').slice(0, 6)
      expect((await start('mosquitto_pub', [...bare, '-t', 'a', '-m', 'x']).result).code).not.toBe(
        0
      )
      await made('issue', 'thief')
      const all = [...words('thief'), '-t', 'a', '-m', 'x', '-q', '1']
      await run('mosquitto_pub', all)
      // Its files go with the revocation: copies are what a thief has.
      const copy = ['thief.crt', 'thief.key'].map(name => readFileSync(at(`devices/${name}`)))
      const { writePair } = await import('../support/certs.ts')
      const [cert = '', key = ''] = copy.map(String)
      const pair = writePair(folder, 'thief', { cert, key })
      await made('revoke', 'thief')
      const stolen = [...words('lamp').slice(0, 6), '--cert', pair.cert, '--key', pair.key]
      const attempt = async () =>
        (await start('mosquitto_pub', [...stolen, '-t', 'a', '-m', 'x', '-q', '1']).result).code
      await expect.poll(attempt, { timeout: 10_000 }).not.toBe(0)
    })
  })

  requireProgram('python3:paho.mqtt')('paho for Python', () => {
    it('publishes over mutual TLS', async () => {
      const script = `
import sys, ssl, paho.mqtt.client as m
port, ca, cert, key = sys.argv[1:]
c = m.Client()
c.tls_set(ca, cert, key, tls_version=ssl.PROTOCOL_TLS_CLIENT)
c.connect('localhost', int(port))
c.loop_start()
i = c.publish('a', 'x', qos=1)
i.wait_for_publish(10)
print(i.is_published())
c.disconnect()
`
      const files = [at('ca.crt'), at('devices/lamp.crt'), at('devices/lamp.key')]
      const args = [program.port('mqtts'), ...files]
      const { stdout, stderr } = await startPython(script, args).result
      expect([stdout.trim(), stderr]).toEqual(['True', ''])
    })
  })
})

requireProgram('mosquitto_pub')('mosquitto_pub with a pre-shared key', () => {
  it('is let in with its key and with no other', async () => {
    const psk = '00112233445566778899aabbccddeeff'
    const { writeFileSync } = await import('node:fs')
    writeFileSync(join(folder, 'psk'), `lamp:${psk}\n`, { mode: 0o600 })
    const program = await Program.start({
      listen: ['mqtts://127.0.0.1:0'],
      flags: ['--tls-psk', join(folder, 'psk'), '--tls-use-psk-identity', 'true']
    })
    const words = ['-h', 'localhost', '-p', String(program.port('mqtts')), '-t', 'a', '-m', 'x']
    const code = async (identity: string, key: string) =>
      (await start('mosquitto_pub', [...words, '--psk-identity', identity, '--psk', key]).result)
        .code
    try {
      expect(await code('lamp', psk)).toBe(0)
      expect(await code('lamp', psk.replace('0', '1'))).not.toBe(0)
      expect(await code('door', psk)).not.toBe(0)
      await program.waitForLog(line => line['msg'] === 'connected' && line['user'] === 'lamp')
    } finally {
      await program.remove()
    }
  })
})
