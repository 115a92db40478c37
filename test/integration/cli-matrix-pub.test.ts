/** `motemq pub` beside mosquitto_pub: the same flags, the same broker; what a witness gets is compared, and how they end. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { connectAsync, type MqttClient } from 'mqtt'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type CliOptions, type ProgramName, runCli } from '../support/cli-pair.ts'
import { Program } from '../support/program.ts'
import { requireProgram } from '../support/require.ts'

let program: Program
let folder: string
let witness: MqttClient

beforeAll(async () => {
  program = await Program.start()
  const url = `mqtt://127.0.0.1:${program.port('mqtt')}`
  witness = await connectAsync(url, { protocolVersion: 5 })
  witness.on('message', (topic, payload, packet) => {
    const { qos, retain, properties } = packet
    received.push(
      [topic, qos, retain, payload.toString('hex'), JSON.stringify(properties)].join('|')
    )
  })
  await witness.subscribeAsync(['p/#', 'w/#', 'ready/#'], { qos: 2, rap: true })
  folder = mkdtempSync(join(tmpdir(), 'motemq-cli-'))
  writeFileSync(join(folder, 'payload'), Buffer.from([0, 1, 2, 255, 10, 65]))
  writeFileSync(join(folder, 'empty'), '')
  mkdirSync(join(folder, 'config'))
  writeFileSync(join(folder, 'config', 'mosquitto_pub'), '# mine\n-m from the file\n-q 1\n-r\n')
})

afterAll(async () => {
  await witness.endAsync(true)
  await program.remove()
  rmSync(folder, { recursive: true, force: true })
})

const at = () => ['-h', '127.0.0.1', '-p', String(program.port('mqtt'))]

let received: string[] = []
let ends = 0

/** Publishes with one of the programs; what a subscriber with everything got of it, and how it ended. */
async function published(tool: ProgramName, flags: readonly string[], options: CliOptions = {}) {
  received = []
  const outcome = await runCli(tool, 'pub', flags, options)
  const end = `ready/${++ends}`
  await witness.publishAsync(end, 'end', { qos: 1 })
  while (!received.some(line => line.startsWith(end))) await setImmediate()
  const lines = received.filter(line => !line.startsWith('ready/'))
  return { lines, code: outcome.code, stdout: outcome.stdout, stderr: outcome.stderr }
}

/** What is a program's own. */
const neutral = (text: string) => text.replaceAll(/Client \S+ /g, 'Client X ')

interface Case {
  readonly flags: string[]
  readonly input?: string
}

const cases: [name: string, Case][] = [
  ['a message', { flags: ['-t', 'p/a', '-m', 'one'] }],
  ['an empty one', { flags: ['-t', 'p/a', '-n'] }],
  ['an empty text', { flags: ['-t', 'p/a', '-m', ''] }],
  ['text that is no ASCII', { flags: ['-t', 'p/ä', '-m', 'hällo €'] }],
  ['QoS 1', { flags: ['-t', 'p/a', '-m', 'one', '-q', '1'] }],
  ['QoS 2', { flags: ['-t', 'p/a', '-m', 'one', '-q', '2'] }],
  ['a retained message', { flags: ['-t', 'p/a', '-m', 'one', '-r'] }],
  ['MQTT 3.1', { flags: ['-t', 'p/a', '-m', 'one', '-V', '31', '-q', '2'] }],
  ['MQTT 3.1.1', { flags: ['-t', 'p/a', '-m', 'one', '-V', 'mqttv311', '-q', '2'] }],
  ['MQTT 5', { flags: ['-t', 'p/a', '-m', 'one', '-V', '5', '-q', '2'] }],
  ['the last of two topics', { flags: ['-t', 'p/a', '-t', 'p/b', '-m', 'one'] }],
  ['a message three times', { flags: ['-t', 'p/a', '-m', 'x', '--repeat', '3', '-q', '1'] }],
  [
    'a message three times, slowly',
    { flags: ['-t', 'p/a', '-m', 'x', '--repeat', '3', '--repeat-delay', '0.05', '-q', '2'] }
  ],
  [
    'many in a small window',
    { flags: ['-t', 'p/a', '-m', 'x', '--repeat', '200', '-q', '2', '-M', '2'] }
  ],
  ['lines', { flags: ['-t', 'p/a', '-l'], input: 'a\nb\n\nc' }],
  ['lines at QoS 1', { flags: ['-t', 'p/a', '-l', '-q', '1'], input: 'a\r\nb\n' }],
  [
    'many lines',
    {
      flags: ['-t', 'p/a', '-l', '-q', '1'],
      input: Array.from({ length: 500 }, (_, i) => `line ${i}`).join('\n')
    }
  ],
  ['no lines', { flags: ['-t', 'p/a', '-l'], input: '' }],
  ['all of standard input', { flags: ['-t', 'p/a', '-s'], input: 'a\nb\n' }],
  ['a large payload', { flags: ['-t', 'p/a', '-s', '-q', '1'], input: 'x'.repeat(60_000) }],
  ['a large payload at QoS 0', { flags: ['-t', 'p/a', '-s'], input: 'x'.repeat(60_000) }],
  ['with an id', { flags: ['-t', 'p/a', '-m', 'x', '-i', 'me'] }],
  ['with a prefix', { flags: ['-t', 'p/a', '-m', 'x', '-I', 'me'] }],
  ['with a session', { flags: ['-t', 'p/a', '-m', 'x', '-c', '-i', 'me', '-V', '5', '-x', '3'] }],
  [
    'with a will that is not sent',
    {
      flags: [
        '-t',
        'p/a',
        '-m',
        'x',
        '--will-topic',
        'w/a',
        '--will-payload',
        'gone',
        '--will-qos',
        '2',
        '--will-retain'
      ]
    }
  ],
  ['with -d', { flags: ['-t', 'p/a', '-m', 'x', '-d'] }],
  ['with -d at QoS 1', { flags: ['-t', 'p/a', '-m', 'x', '-d', '-q', '1'] }],
  ['with -d at QoS 2', { flags: ['-t', 'p/a', '-m', 'x', '-d', '-q', '2', '-i', 'me'] }],
  ['with -d thrice', { flags: ['-t', 'p/a', '-m', 'x', '-d', '--repeat', '3'] }],
  [
    'quietly',
    { flags: ['-t', 'p/a', '-m', 'x', '--quiet', '--nodelay', '-k', '30', '-A', '127.0.0.1'] }
  ],
  [
    'every property',
    {
      flags: [
        '-t',
        'p/a',
        '-m',
        'x',
        '-q',
        '1',
        ...[
          'content-type a/b',
          'response-topic r/t',
          'correlation-data c',
          'message-expiry-interval 600',
          'payload-format-indicator 1',
          'user-property k v',
          'user-property k w'
        ].flatMap(text => ['-D', 'publish', ...text.split(' ')])
      ]
    }
  ],
  [
    'properties of the connection',
    {
      flags: [
        '-t',
        'p/a',
        '-m',
        'x',
        '-D',
        'connect',
        'user-property',
        'a',
        'b',
        '--property',
        'CONNECT',
        'receive-maximum',
        '5',
        '-D',
        'disconnect',
        'user-property',
        'c',
        'd'
      ]
    }
  ],
  [
    'a property that is no number',
    { flags: ['-t', 'p/a', '-m', 'x', '-D', 'publish', 'message-expiry-interval', 'abc'] }
  ]
]

const mistakes: [name: string, flags: string[], input?: string][] = [
  ['no topic', ['-m', 'x']],
  ['no message', ['-t', 'a']],
  ['a wildcard', ['-t', 'a/#', '-m', 'x']],
  ['QoS 3', ['-t', 'a', '-m', 'x', '-q', '3']],
  ['an unknown flag', ['-t', 'a', '-m', 'x', '-Z']],
  ['a flag of sub', ['-t', 'a', '-m', 'x', '-v']],
  ['a word', ['-t', 'a', '-m', 'x', 'word']],
  ['two messages', ['-t', 'a', '-m', 'x', '-n']],
  ['the same twice', ['-t', 'a', '-m', 'x', '-m', 'y']],
  ['a file that is not there', ['-t', 'a', '-f', '/nonexistent']],
  ['nothing in standard input', ['-t', 'a', '-s'], ''],
  ['a socket that is not there', ['-t', 'a', '-m', 'x', '--unix', '/nonexistent']],
  ['a port beyond', ['-t', 'a', '-m', 'x', '-p', '99999']],
  ['a port without a broker', ['-t', 'a', '-m', 'x', '-p', '1']],
  ['a host that is not there', ['-t', 'a', '-m', 'x', '-h', 'nosuch.invalid']],
  ['a session without an id', ['-t', 'a', '-m', 'x', '-c']],
  ['a password alone', ['-t', 'a', '-m', 'x', '-P', 'y']],
  ['MQTT 6', ['-t', 'a', '-m', 'x', '-V', '6']],
  ['a keepalive of 1', ['-t', 'a', '-m', 'x', '-k', '1']],
  ['a keepalive of 65536', ['-t', 'a', '-m', 'x', '-k', '65536']],
  ['an unknown property', ['-t', 'a', '-m', 'x', '-D', 'publish', 'foo', 'bar']],
  ['half a property', ['-t', 'a', '-m', 'x', '-D', 'publish', 'content-type']],
  ['a property of an unknown packet', ['-t', 'a', '-m', 'x', '-D', 'foo', 'content-type', 'x']],
  ['a property of another packet', ['-t', 'a', '-m', 'x', '-D', 'subscribe', 'content-type', 'x']],
  ['a will without topic', ['-t', 'a', '-m', 'x', '--will-payload', 'x']],
  ['a will retained without topic', ['-t', 'a', '-m', 'x', '--will-retain']],
  ['a will to a wildcard', ['-t', 'a', '-m', 'x', '--will-topic', 'a/#']],
  ['a will of QoS 5', ['-t', 'a', '-m', 'x', '--will-qos', '5']],
  ['two ids', ['-t', 'a', '-m', 'x', '-i', 'a', '-I', 'b']],
  ['a flag without its value', ['-t', 'a', '-m', 'x', '-i']],
  ['0 times', ['-t', 'a', '-m', 'x', '--repeat', '0']],
  ['a delay below 0', ['-t', 'a', '-m', 'x', '--repeat-delay', '-1']],
  ['a window of 0', ['-t', 'a', '-m', 'x', '-M', '0']],
  ['another scheme', ['-L', 'foo://a/b', '-m', 'x']],
  ['an address that is not ours', ['-t', 'a', '-m', 'x', '-A', '192.0.2.1']],
  ['a key without identity', ['-t', 'a', '-m', 'x', '--psk', 'ab']],
  ['a certificate without key', ['-t', 'a', '-m', 'x', '--cert', 'x']],
  ['authorities that are not there', ['-t', 'a', '-m', 'x', '--cafile', '/nonexistent']],
  ['an unknown proxy', ['-t', 'a', '-m', 'x', '--proxy', 'foo']],
  ['its version', ['--version']],
  ['a quiet failure', ['-t', 'a', '-m', 'x', '--quiet', '-p', '1']]
]

requireProgram('mosquitto_pub')('motemq pub beside mosquitto_pub', () => {
  it.each(cases)('publishes %s', async (_, { flags, input }) => {
    const options = input === undefined ? {} : { input }
    const theirs = await published('mosquitto', [...at(), ...flags], options)
    const ours = await published('motemq', [...at(), ...flags], options)
    expect(ours.lines).toEqual(theirs.lines)
    expect(neutral(ours.stdout)).toBe(neutral(theirs.stdout))
    expect([ours.code, ours.stderr]).toEqual([theirs.code, theirs.stderr])
    expect(theirs.code).toBe(0)
  })

  it('publishes a file', async () => {
    const flags = [...at(), '-t', 'p/f', '-f', join(folder, 'payload'), '-q', '1']
    const theirs = await published('mosquitto', flags)
    const ours = await published('motemq', flags)
    expect(ours).toEqual(theirs)
    expect(ours.lines[0]).toContain('000102ff0a41')
    const empty = [...at(), '-t', 'unseen', '-f', join(folder, 'empty')]
    expect((await runCli('motemq', 'pub', empty)).code).toBe(
      (await runCli('mosquitto', 'pub', empty)).code
    )
  })

  it('takes its defaults from a file, and a URL', async () => {
    const env = { XDG_CONFIG_HOME: join(folder, 'config') }
    const url = ['-L', `mqtt://127.0.0.1:${program.port('mqtt')}/p/url`]
    const theirs = await published('mosquitto', url, { env })
    expect(await published('motemq', url, { env })).toEqual(theirs)
    expect(theirs.lines).toEqual([expect.stringContaining('p/url|1|true|66726f6d20')])
    const own = { env: { MOTEMQ_URL: url[1]! } }
    expect((await published('motemq', ['-m', 'by URL'], own)).lines).toEqual([
      expect.stringContaining('p/url|0|false|')
    ])
  })

  it.each(mistakes)('fails as it does: %s', async (_, flags, input = 'x') => {
    const theirs = await runCli('mosquitto', 'pub', [...at(), ...flags], { input })
    const ours = await runCli('motemq', 'pub', [...at(), ...flags], { input })
    expect(theirs.code).not.toBe(0)
    expect(ours.code).toBe(theirs.code)
    if (!flags.includes('--quiet') && !flags.includes('--version')) expect(ours.stderr).not.toBe('')
    if (flags.includes('--quiet')) expect(ours.stderr).toBe(theirs.stderr)
  })
})
