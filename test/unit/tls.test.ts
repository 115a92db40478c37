/** TLS without a socket: the configuration, the files, the first record, names in certificates. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { PeerCertificate } from 'node:tls'
import { X509Certificate } from 'node:crypto'
import { afterAll, describe, expect, it } from 'vitest'
import { parseListenerUrl } from '../../src/config/listener-url.ts'
import { judgeStart } from '../../src/config/start-rules.ts'
import { NO_TLS, tlsOfListeners } from '../../src/config/tls.ts'
import type { ListenerTls, TlsOption } from '../../src/config/tls-option.ts'
import { ClientHello } from '../../src/net/client-hello.ts'
import { readPskFile } from '../../src/net/psk-file.ts'
import { loadTls, type TlsSettings, TlsFilesError } from '../../src/net/tls-files.ts'
import { identityOf } from '../../src/net/tls-identity.ts'
import { Authority } from '../support/certs.ts'

function listener(url: string, tls: ListenerTls | null = null) {
  const parsed = parseListenerUrl(url, { tls })
  if (!parsed.ok) throw new Error(parsed.why)
  return parsed.listeners[0]!
}

function settingsOf(own: ListenerTls | null, all: Partial<TlsOption> = {}) {
  const one = listener('mqtts://0.0.0.0:8883', own)
  const { settings, mistakes } = tlsOfListeners([one], { ...NO_TLS, ...all }, '/d')
  return { settings: settings.get(one), mistakes }
}

describe('the files of a listener', () => {
  it('are those that `motemq certs init` makes when none are named', () => {
    const { settings } = settingsOf(null)
    expect(settings).toMatchObject({
      cert: '/d/certs/server.crt',
      key: '/d/certs/server.key',
      ca: '',
      crl: '',
      isDefaultCert: true
    })
  })

  it('add the authority, and its list of revoked ones if there is one, when certificates are asked for', () => {
    const { settings } = settingsOf({ requireCert: true })
    expect(settings).toMatchObject({
      ca: '/d/certs/ca.crt',
      crl: '/d/certs/crl.pem',
      isCrlOptional: true
    })
  })

  it('are its own before those of all', () => {
    const all = { cert: '/all.crt', key: '/all.key', ca: '/all-ca.crt' }
    expect(settingsOf({ cert: '/own.crt', key: '/own.key' }, all).settings).toMatchObject({
      cert: '/own.crt',
      key: '/own.key',
      ca: '/all-ca.crt'
    })
  })

  it('are a file of keys and no certificate where it names one', () => {
    const { settings } = settingsOf({ psk: '/psk' }, { cert: '/a.crt', key: '/a.key' })
    expect(settings).toMatchObject({ psk: '/psk', cert: '', key: '', ca: '' })
  })

  it.each<[ListenerTls | null, Partial<TlsOption>, RegExp]>([
    [{ psk: '/psk', cert: '/a.crt', key: '/a.key' }, {}, /either a certificate or pre-shared keys/],
    [null, { psk: '/psk', cert: '/a.crt', key: '/a.key' }, /either a certificate or pre-shared/],
    [{ cert: '/a.crt' }, {}, /tls.cert is given without tls.key/],
    [{ key: '/a.key' }, {}, /tls.key is given without tls.cert/],
    [{ crl: '/a.pem' }, {}, /tls.crl is given without tls.ca/]
  ])('that do not fit are named (%j, %j)', (own, all, text) => {
    expect(settingsOf(own, all).mistakes.join()).toMatch(text)
  })
})

describe('a listener beyond loopback', () => {
  const judge = (url: string, users: number, own: ListenerTls | null = null) =>
    judgeStart([listener(url, own)], users)

  it('with users starts with TLS and without a warning, and without TLS with one', () => {
    for (const url of ['mqtts://0.0.0.0', 'amqps://0.0.0.0', 'wss://0.0.0.0']) {
      expect(judge(url, 1)).toEqual({ refusals: [], warnings: [] })
    }
    expect(judge('mqtt://0.0.0.0', 1).warnings[0]).toContain('not encrypted')
  })

  it('without users is refused with TLS too, unless a certificate or a key names the user', () => {
    expect(judge('mqtts://0.0.0.0', 0).refusals).toHaveLength(1)
    expect(judge('mqtts://0.0.0.0', 0, { requireCert: true }).refusals).toHaveLength(1)
    const named = { requireCert: true, useIdentity: 'cn' } as const
    expect(judge('mqtts://0.0.0.0', 0, named)).toEqual({ refusals: [], warnings: [] })
    const optional = { useIdentity: 'cn' } as const
    expect(judge('mqtts://0.0.0.0', 0, optional).refusals).toHaveLength(1)
    const keys = { psk: '/psk', usePskIdentity: true }
    expect(judge('mqtts://0.0.0.0', 0, keys)).toEqual({ refusals: [], warnings: [] })
  })

  it('serves the admin API with users, TLS and client certificates only', () => {
    expect(judge('https://0.0.0.0', 1).refusals[0]).toContain('requireCert')
    expect(judge('https://0.0.0.0', 0, { requireCert: true }).refusals).toHaveLength(1)
    expect(judge('https://0.0.0.0', 1, { requireCert: true }).refusals).toEqual([])
    expect(judge('http://0.0.0.0', 1).refusals[0]).toContain('without TLS')
  })
})

describe('files', () => {
  const folder = mkdtempSync(join(tmpdir(), 'motemq-tls-'))
  afterAll(() => rmSync(folder, { recursive: true }))
  const authority = new Authority()
  const server = authority.server()
  const put = (name: string, text: string) => {
    const file = join(folder, name)
    writeFileSync(file, text, { mode: 0o600 })
    return file
  }
  const load = (settings: Partial<TlsSettings>) =>
    loadTls(
      {
        ...NO_TLS,
        cert: put('good.crt', server.cert),
        key: put('good.key', server.key),
        isDefaultCert: false,
        isCrlOptional: false,
        ...settings
      },
      Date.now()
    )
  const mistakesOf = (settings: Partial<TlsSettings>): string => {
    try {
      load(settings)
    } catch (error) {
      if (error instanceof TlsFilesError) return error.mistakes.join('\n')
      throw error
    }
    return ''
  }

  it('that fit give a context and no warning', () => {
    expect(load({}).warnings).toEqual([])
  })

  it('that do not fit are named in one line each', () => {
    const other = put('other.key', authority.server().key)
    expect(mistakesOf({ key: other })).toMatch(/other\.key is not the key of .*good\.crt$/)
    expect(mistakesOf({ cert: put('text.crt', 'hello') })).toMatch(/text\.crt holds no certificate/)
    expect(mistakesOf({ key: put('text.key', 'hello') })).toMatch(/text\.key holds no private key/)
    expect(mistakesOf({ key: join(folder, 'none') })).toMatch(/none \(the key\) does not exist$/)
    expect(mistakesOf({ ca: folder })).toMatch(/cannot be read \(EISDIR\)/)
    const ca = put('ca.crt', authority.own.cert)
    expect(mistakesOf({ ca, crl: put('bad.pem', 'x') })).toMatch(
      /bad\.pem holds no list of revoked/
    )
    expect(mistakesOf({ ca, crl: join(folder, 'none') })).toMatch(/does not exist/)
    expect(mistakesOf({ ca, crl: join(folder, 'none'), isCrlOptional: true })).toBe('')
    expect(mistakesOf({ ciphers: 'NO-SUCH' })).toMatch(/tls\.ciphers or .* cannot be used/)
    const missing = { cert: join(folder, 'none.crt'), isDefaultCert: true }
    expect(mistakesOf(missing)).toContain('motemq certs init')
  })

  it('that are half written are not taken', () => {
    const half = server.cert.slice(0, server.cert.length / 2)
    expect(mistakesOf({ cert: put('half.crt', half) })).toMatch(/half\.crt holds no certificate/)
    const halfKey = server.key.slice(0, server.key.length / 2)
    expect(mistakesOf({ key: put('half.key', halfKey) })).toMatch(/half\.key holds no private key/)
  })

  it('whose time is over, near, or not come are used with a warning', () => {
    const warning = (days: { fromDays?: number; untilDays: number }) => {
      const made = authority.server(days)
      const files = { cert: put('w.crt', made.cert), key: put('w.key', made.key) }
      return load(files).warnings.join()
    }
    expect(warning({ fromDays: -9, untilDays: -1 })).toContain('has expired')
    expect(warning({ untilDays: 3 })).toContain('expires on')
    expect(warning({ untilDays: 90 })).toBe('')
    expect(warning({ fromDays: 1, untilDays: 90 })).toContain('is the clock right?')
  })

  it('with a key that everybody can read are used with a warning', () => {
    const key = put('open.key', server.key)
    writeFileSync(key, server.key)
    rmSync(key)
    writeFileSync(key, server.key, { mode: 0o644 })
    expect(load({ key }).warnings.join()).toMatch(/open\.key can be read by everybody/)
  })
})

describe('a file of pre-shared keys', () => {
  it('has an identity and a key a line, as Mosquitto has it', () => {
    const text =
      '# comment\n\nlamp:00112233445566778899AABBCCDDEEFF\r\na:b:0011223344556677aabbccddeeff0011\n'
    const { keys, mistakes, warnings } = readPskFile('psk', text)
    expect([...keys.keys()]).toEqual(['lamp', 'a:b'])
    expect(keys.get('lamp')).toEqual(Buffer.from('00112233445566778899aabbccddeeff', 'hex'))
    expect([mistakes, warnings]).toEqual([[], []])
  })

  it.each([
    ['lamp', /psk:1: a line is/],
    [':00', /psk:1: a line is/],
    ['lamp:0', /pairs of hexadecimal/],
    ['lamp:xyz0', /pairs of hexadecimal/],
    ['lamp:', /pairs of hexadecimal/],
    [`${'x'.repeat(129)}:00`, /longer than 128/],
    ['lamp:00\nlamp:01', /psk:2: the identity lamp stands here again/]
  ])('with a mistake names the line: %s', (text, mistake) => {
    expect(readPskFile('psk', text).mistakes.join()).toMatch(mistake)
  })

  it('never shows a key', () => {
    const { mistakes } = readPskFile('psk', 'deadbeefdeadbeef\nlamp:deadbeefxx\n')
    expect(mistakes.join()).not.toContain('deadbeef')
  })
})

describe('the first record', () => {
  const hello = Buffer.concat([Buffer.from([22, 3, 1, 0, 4]), Buffer.alloc(4)])

  it('is whole when its last byte is there, however it comes', () => {
    const one = new ClientHello()
    expect(one.push(hello)).toBe('whole')
    const bytewise = new ClientHello()
    const states = [...hello].map(byte => bytewise.push(Buffer.from([byte])))
    expect(states.slice(0, -1).every(state => state === 'wait')).toBe(true)
    expect(states.at(-1)).toBe('whole')
    expect(bytewise.take()).toEqual(hello)
  })

  it('keeps what came behind it', () => {
    const long = new ClientHello()
    expect(long.push(Buffer.concat([hello, Buffer.from('more')]))).toBe('whole')
    expect(long.take().subarray(-4).toString()).toBe('more')
  })

  it.each([
    ['an MQTT CONNECT', [0x10, 12]],
    ['AMQP', [...Buffer.from('AMQP')]],
    ['HTTP', [...Buffer.from('GET /')]],
    ['SSLv2', [0x80, 0x2e, 1, 0, 2]],
    ['a record that is too long', [22, 3, 1, 0x40, 1]],
    ['an empty record', [22, 3, 1, 0, 0]],
    ['an alert', [21, 3, 1, 0, 2]],
    ['a version of its own', [22, 4, 1, 0, 4]]
  ])('is no TLS: %s', (_name, bytes) => {
    expect(new ClientHello().push(Buffer.from(bytes))).toBe('other')
  })

  it('does not keep thousands of single bytes apart', () => {
    const slow = new ClientHello()
    slow.push(Buffer.from([22, 3, 1, 0x40, 0]))
    for (let i = 0; i < 10_000; i++) slow.push(Buffer.from([i & 255]))
    expect(slow.take()).toHaveLength(10_005)
  })
})

describe('the name in a certificate', () => {
  const authority = new Authority()
  const legacy = (name: string, hosts: readonly string[] = []): PeerCertificate => {
    const { cert } = authority.issue(name, { hosts })
    return new X509Certificate(cert).toLegacyObject() as PeerCertificate
  }

  it.each(['lamp-1', 'Küche', 'a/b', 'x'.repeat(64)])('is taken as it is: %s', name => {
    expect(identityOf(legacy(name), 'cn')).toBe(name)
  })

  it.each(['', 'a\0b', 'a+b', '#', 'a\nb', 'a\u0085', 'x'.repeat(257)])(
    'is none when it could mean something else: %j',
    name => {
      expect(identityOf(legacy(name), 'cn')).toBe(null)
    }
  )

  it('is none where there are two', () => {
    const two = { subject: { CN: ['a', 'b'] } } as unknown as PeerCertificate
    expect(identityOf(two, 'cn')).toBe(null)
    expect(identityOf(legacy('x', ['a.example', 'b.example']), 'dns')).toBe(null)
  })

  it('may be a DNS name or a URI beside the subject', () => {
    expect(identityOf(legacy('x', ['lamp.example', '10.0.0.1']), 'dns')).toBe('lamp.example')
    expect(identityOf(legacy('x'), 'dns')).toBe(null)
    const uri = { subjectaltname: 'DNS:a, URI:urn:dev:1' } as PeerCertificate
    expect(identityOf(uri, 'uri')).toBe('urn:dev:1')
    const quoted = { subjectaltname: 'DNS:"a, URI:urn:dev:2", URI:"b\\u002c c"' } as PeerCertificate
    expect(identityOf(quoted, 'uri')).toBe('b, c')
  })
})
