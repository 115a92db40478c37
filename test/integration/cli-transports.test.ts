/** `motemq pub` and `motemq sub` over every transport, beside Mosquitto's programs where those can. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { runCli } from '../support/cli-pair.ts'
import { runMotemq } from '../support/motemq-process.ts'
import { Program } from '../support/program.ts'
import { isAvailable } from '../support/require.ts'

const KEY = '00112233445566778899aabbccddeeff'
let program: Program
let folder: string
let data: string

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'motemq-transports-'))
  data = join(folder, 'data')
  const made = await runMotemq(['certs', 'init', '--data', data], { cwd: folder })
  const issued = await runMotemq(['certs', 'issue', 'lamp', '--data', data], { cwd: folder })
  expect([made.code, issued.code, made.stderr + issued.stderr]).toEqual([0, 0, ''])
  writeFileSync(join(folder, 'psk'), `lamp:${KEY}\n`, { mode: 0o600 })
  const config = join(folder, 'motemq.yaml')
  writeFileSync(
    config,
    `listeners:
  - url: mqtt://127.0.0.1:0
  - url: ws://127.0.0.1:0
  - url: wss://127.0.0.1:0
  - url: mqtt+unix://${folder}/mqtt.sock
  - url: mqtts://127.0.0.1:0
    tls: { requireCert: true }
  - url: mqtts://[::1]:0
    tls: { psk: ${join(folder, 'psk')} }
`
  )
  program = await Program.start({ dataDir: data, listen: [], flags: ['--config', config] })
})

afterAll(async () => {
  await program.remove()
  rmSync(folder, { recursive: true, force: true })
})

const ports = () => {
  const secure = program.urls.filter(url => url.startsWith('mqtts:')).map(url => new URL(url).port)
  return { certificates: secure[0]!, keys: secure[1]! }
}
const certs = (name: string) => join(data, 'certs', name)
const plain = () => ['-h', '127.0.0.1', '-p', String(program.port('mqtt'))]
const device = () => ['--cert', certs('devices/lamp.crt'), '--key', certs('devices/lamp.key')]

/** What `-L`, or the other flags, of each transport are. */
const transports: [name: string, flags: () => string[], isTheirs: boolean][] = [
  ['TCP', plain, true],
  ['a URL', () => ['-L', `mqtt://127.0.0.1:${program.port('mqtt')}`], false],
  ['a Unix socket', () => ['--unix', join(folder, 'mqtt.sock')], true],
  ['a Unix socket by its URL', () => ['-L', `mqtt+unix://${folder}/mqtt.sock`], false],
  ['a WebSocket', () => ['-L', `ws://127.0.0.1:${program.port('ws')}/mqtt`], false],
  [
    'a WebSocket over TLS',
    () => ['-L', `wss://127.0.0.1:${program.port('wss')}/mqtt`, '--cafile', certs('ca.crt')],
    false
  ],
  [
    'TLS with certificates of both',
    () => ['-h', '127.0.0.1', '-p', ports().certificates, '--cafile', certs('ca.crt'), ...device()],
    true
  ],
  [
    'TLS by a folder of authorities',
    () => [
      '-h',
      'localhost',
      '-p',
      ports().certificates,
      '--capath',
      join(data, 'certs'),
      ...device()
    ],
    false
  ],
  [
    'TLS 1.3',
    () => [
      '-h',
      '127.0.0.1',
      '-p',
      ports().certificates,
      '--cafile',
      certs('ca.crt'),
      ...device(),
      '--tls-version',
      'tlsv1.3'
    ],
    true
  ],
  [
    'TLS with a key of both',
    () => ['-h', '::1', '-p', ports().keys, '--psk', KEY, '--psk-identity', 'lamp'],
    true
  ]
]

describe('motemq pub and sub', () => {
  it.each(transports)('over %s', async (name, flags, isTheirs) => {
    const topic = `transports/${name.replaceAll(' ', '-')}`
    const sent = await runCli('motemq', 'pub', [
      ...flags(),
      '-t',
      topic,
      '-m',
      `by ${name}`,
      '-q',
      '2',
      '-r'
    ])
    expect(sent).toEqual({ code: 0, stdout: '', stderr: '' })
    const flagsOfSub = [...flags(), '-t', topic, '-C', '1', '-W', '10', '-v']
    const got = await runCli('motemq', 'sub', flagsOfSub)
    expect(got).toEqual({ code: 0, stdout: `${topic} by ${name}\n`, stderr: '' })
    if (isTheirs && isAvailable('mosquitto_sub')) {
      expect(await runCli('mosquitto', 'sub', flagsOfSub)).toEqual(got)
    }
  })

  const failures: [name: string, flags: () => string[], isTheirs: boolean][] = [
    [
      'no certificate of its own',
      () => ['-h', '127.0.0.1', '-p', ports().certificates, '--cafile', certs('ca.crt')],
      false
    ],
    [
      'an authority that signed nothing here',
      () => [
        '-h',
        '127.0.0.1',
        '-p',
        ports().certificates,
        '--cafile',
        '/etc/ssl/certs/ca-certificates.crt',
        ...device()
      ],
      true
    ],
    [
      'a wrong key',
      () => ['-h', '::1', '-p', ports().keys, '--psk', 'ff', '--psk-identity', 'lamp'],
      true
    ],
    ['TLS to a port without', () => [...plain(), '--cafile', certs('ca.crt')], false]
  ]
  it.each(failures)('fail with %s', async (_, flags, isTheirs) => {
    const words = [...flags(), '-t', 'a', '-m', 'x']
    const ours = await runCli('motemq', 'pub', words)
    expect(ours.code).not.toBe(0)
    expect(ours.stderr).not.toBe('')
    if (isTheirs && isAvailable('mosquitto_pub')) {
      // Theirs is 1 or 8, as the failure is met while it connects or behind that.
      expect((await runCli('mosquitto', 'pub', words)).code).not.toBe(0)
    }
  })

  it('take a server under another name with --insecure only', async () => {
    const flags = [
      '-h',
      '127.0.0.2',
      '-p',
      ports().certificates,
      '--cafile',
      certs('ca.crt'),
      ...device()
    ]
    const words = [...flags, '-t', 'a', '-m', 'x']
    // Nobody listens at that address, but the name is what the certificate is judged by.
    const relay = createServer(socket => {
      const broker = connect({ host: '127.0.0.1', port: Number(ports().certificates) })
      socket.on('error', () => undefined)
      broker.on('error', () => undefined)
      socket.pipe(broker).pipe(socket)
    })
    await new Promise<void>(resolve =>
      relay.listen(Number(ports().certificates), '127.0.0.2', resolve)
    )
    const strict = await runCli('motemq', 'pub', words)
    const lax = await runCli('motemq', 'pub', [...words, '--insecure'])
    relay.close()
    expect([strict.code === 0, lax.code]).toEqual([false, 0])
  })
})
