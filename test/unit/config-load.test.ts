import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type LoadedOptions, type LoadInput, loadOptions } from '../../src/config/load.ts'
import { ConfigError } from '../../src/config/mistake.ts'
import { printOptions } from '../../src/config/print.ts'

let directory = ''

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'motemq-config-'))
})
afterEach(() => {
  rmSync(directory, { recursive: true, force: true })
})

function load(
  text: string | Buffer | null,
  extra: Partial<Omit<LoadInput, 'directory'>> = {}
): Promise<LoadedOptions> {
  if (text !== null) writeFileSync(join(directory, 'c.yaml'), text)
  const config = text === null ? null : 'c.yaml'
  return loadOptions({ config, flags: new Map(), environment: {}, directory, ...extra })
}

async function mistakesOf(
  text: string | Buffer | null,
  extra: Partial<LoadInput> = {}
): Promise<readonly string[]> {
  const error = await load(text, extra).then(
    () => null,
    (failed: unknown) => failed
  )
  expect(error).toBeInstanceOf(ConfigError)
  return (error as ConfigError).mistakes
}

const HASH = `scrypt$32768$8$1$${'A'.repeat(22)}==$${'A'.repeat(43)}=`

const FORM = ' is not of the form client:ID=BYTES or listener:PORT=BYTES'
const PACKET_LIMITS = [
  ['esp=256', FORM],
  ['client:esp', FORM],
  ['client:=99', FORM],
  ['client:esp=1KiB', FORM],
  ['client:esp=1', ': 1 is less than 16, the least allowed'],
  ['listener:mqtt=256', ' names no port'],
  ['listener:65536=256', ' names no port'],
  ['listener:01884=256', ' names no port']
] as const

describe('a config file', () => {
  const table: [name: string, text: string, mistakes: readonly (string | RegExp)[]][] = [
    [
      'with packet limits that are none is refused',
      `mqtt:\n  packetLimits: [${PACKET_LIMITS.map(([text]) => text).join(', ')}]\n`,
      PACKET_LIMITS.map(([text, why]) => `c.yaml:2: mqtt.packetLimits: "${text}"${why}`)
    ],
    [
      'with an unknown key is refused with a suggestion',
      'data: x\nlog:\n  levl: info\n',
      ['c.yaml:3: the key "levl" is not known; did you mean "level"?']
    ],
    [
      'with an unknown key unlike any other is refused',
      'persistence: true\n',
      ['c.yaml:1: the key "persistence" is not known']
    ],
    [
      'with a key twice is refused',
      'data: x\n\ndata: y\n',
      ['c.yaml:3: the key "data" stands here twice, first in line 1']
    ],
    [
      'with a value of the wrong type is refused',
      'data: 5\nqueueQos0: maybe\nlimits: 7\nlisteners: mqtt://127.0.0.1\n',
      [
        'c.yaml:1: data: 5 is no text; put it in quotes',
        'c.yaml:2: queueQos0: "maybe" is neither true nor false',
        'c.yaml:3: limits is 7; it is a map of keys',
        'c.yaml:4: listeners is "mqtt://127.0.0.1"; it is a list (lines that begin with "- ")'
      ]
    ],
    [
      'with a wrong unit is refused',
      'syncIdleMs: 1 MiB\nlimits:\n  mqttPacketBytesMax: 10s\n  retainedMax: 5 MB\n',
      [
        'c.yaml:1: syncIdleMs: "1 MiB" is no time; write a number of milliseconds, or a number with ms, s, min, h or d',
        'c.yaml:3: limits.mqttPacketBytesMax: "10s" is no size; write a number of bytes, or a number with KiB, MiB, GiB, kB, MB or GB',
        'c.yaml:4: limits.retainedMax: "5 MB" is no whole number; write a number'
      ]
    ],
    [
      'with a number out of its bounds is refused',
      'limits:\n  topicBytesMax: 65536\n  inflightMax: 0\n  queuesMax: -1\n  bindingsMax: 1.5\n  receiveMaximum: .inf\n',
      [
        'c.yaml:2: limits.topicBytesMax: 65536 is more than 65535, the most allowed',
        'c.yaml:3: limits.inflightMax: 0 is less than 1, the least allowed',
        'c.yaml:4: limits.queuesMax: -1 is less than 1, the least allowed',
        'c.yaml:5: limits.bindingsMax: 1.5 is not whole',
        'c.yaml:6: limits.receiveMaximum: Infinity is no whole number; write a number'
      ]
    ],
    [
      'with a key without a value is refused',
      'topics:\nusers:\ndata:\n',
      [
        'c.yaml:1: the key "topics" has no value; leave it out for the default',
        'c.yaml:2: the key "users" has no value; leave it out for the default',
        'c.yaml:3: the key "data" has no value; leave it out for the default'
      ]
    ],
    [
      'with a tab as indentation is refused',
      'log:\n\tlevel: info\n',
      [/^c\.yaml:\d+: no valid YAML: .*[Tt]abs/]
    ],
    ['that is no YAML is refused', 'data: [1, 2\n', [/^c\.yaml:\d+: no valid YAML: /]],
    [
      'that is a list is refused',
      '- data\n',
      ['c.yaml:1: the file is a list; it is a map of keys']
    ],
    ['with two documents is refused', 'data: x\n---\ndata: y\n', [/^c\.yaml:2: no valid YAML: /]],
    [
      'with listeners that are none is refused',
      'listeners:\n  - mqt://127.0.0.1\n  - url: mqtt://0.0.0.0:70000\n  - insecure: true\n  - coap://127.0.0.1\n  - url: mqtt://127.0.0.1\n    insecure: yes please\n',
      [
        'c.yaml:2: "mqt://127.0.0.1": mqt:// is not known; did you mean mqtt?',
        'c.yaml:3: "mqtt://0.0.0.0:70000": the port is no number from 0 to 65535',
        'c.yaml:4: this listener has no url',
        /^c\.yaml:5: "coap:.*coap:\/\/ is not known; known are mqtt, mqtts/,
        'c.yaml:7: insecure is "yes please", which is neither true nor false'
      ]
    ],
    [
      'with a listener twice is refused',
      'listeners: ["mqtt://127.0.0.1:1883", "mqtt://localhost"]\n',
      ['c.yaml:1: mqtt://127.0.0.1:1883 stands here again, first in c.yaml:1']
    ],
    [
      'with users that are none is refused',
      `users:\n  - name: ann\n    password: s3cret\n  - passwordHash: s3cret\n    name: ben\n  - tags: [x]\n  - name: ann\n  - name: "a\\tb"\n  - { name: ok, permissions: [{ read: "(" }] }\n`,
      [
        'c.yaml:3: a password does not stand in a file as plain text; write passwordHash with what `motemq users hash` prints',
        'c.yaml:4: passwordHash is no hash that this version knows; `motemq users hash` prints one (scrypt$...)',
        'c.yaml:6: this user has no name',
        'c.yaml:7: user "ann" stands here again, first in c.yaml:2',
        'c.yaml:8: the name "a\\tb" holds a control character',
        'c.yaml:9: "(" is no regular expression'
      ]
    ],
    [
      'with topic rules that are none is refused',
      'topics:\n  - { allow: all, filter: a }\n  - { allow: read, filter: "a#" }\n  - { allow: read }\n  - { filter: a }\n  - { allow: read, deny: write, filter: a }\n  - { alow: read, filter: a }\n',
      [
        'c.yaml:2: "all" is not one of read, write, readwrite',
        'c.yaml:3: "a#" is no topic filter',
        'c.yaml:4: this topic rule has no filter',
        'c.yaml:5: this topic rule says neither allow nor deny',
        'c.yaml:6: a topic rule says either allow or deny',
        'c.yaml:7: the key "alow" is not known; did you mean "allow"?',
        'c.yaml:7: this topic rule says neither allow nor deny'
      ]
    ],
    [
      'with queues that are none is refused',
      'queues:\n  - durable: true\n  - name: amq.q\n  - name: q\n    bindings: ["a/#/b", { key: k }]\n    arguments: { x-max-length: [1] }\n  - name: q\n',
      [
        'c.yaml:2: this queue has no name',
        'c.yaml:3: names that begin with "amq." are reserved',
        'c.yaml:5: "a/#/b" is no topic filter',
        'c.yaml:5: this binding has no exchange',
        'c.yaml:6: x-max-length is a list; it is a single value',
        'c.yaml:7: queue "q" of vhost "/" stands here again, first in c.yaml:4'
      ]
    ],
    [
      'whose options contradict each other is refused',
      'disk:\n  redFreeBytes: 2 GiB\n  yellowFreeBytes: 1 GiB\n',
      ['c.yaml:2: disk.redFreeBytes (2147483648) is more than disk.yellowFreeBytes (1073741824)']
    ]
  ]
  for (const [name, text, expected] of table) {
    it(name, async () => {
      const mistakes = await mistakesOf(text)
      expect(mistakes).toHaveLength(expected.length)
      for (const [i, mistake] of mistakes.entries()) {
        if (typeof expected[i] === 'string') expect(mistake).toBe(expected[i])
        else expect(mistake).toMatch(expected[i]!)
      }
    })
  }

  it('never shows what stands where a password hash should', async () => {
    const mistakes = await mistakesOf('users:\n  - { name: a, passwordHash: hunter2 }\n')
    expect(mistakes.join()).not.toContain('hunter2')
  })

  it('may begin with a byte order mark and end its lines with CRLF', async () => {
    const { options } = await load('\ufeffdata: x\r\nlog:\r\n  level: debug\r\n')
    expect(options.data).toBe(join(directory, 'x'))
    expect(options.log.level).toBe('debug')
  })

  it('counts lines that end with CRLF like the others', async () => {
    expect(await mistakesOf('\ufeffdata: x\r\n\r\nfoo: 1\r\n')).toEqual([
      'c.yaml:3: the key "foo" is not known'
    ])
  })

  it('of more than 1 MiB is refused', async () => {
    expect(await mistakesOf(`#${'x'.repeat(1024 * 1024)}`)).toEqual([
      'c.yaml: has 1048577 bytes; a config file has at most 1048576'
    ])
  })

  it('that is no text is refused', async () => {
    expect(await mistakesOf(Buffer.from([0x64, 0xff, 0xfe]))).toEqual(['c.yaml: is no UTF-8 text'])
    expect(await mistakesOf('data: x\nlog: \u0000\n')).toEqual([
      'c.yaml:2: holds a control character'
    ])
  })

  it('that nests without end is refused, and does not overflow the stack', async () => {
    for (const text of [
      '['.repeat(500_000),
      `data: ${'{a: '.repeat(100_000)}`,
      '- '.repeat(300_000)
    ]) {
      expect((await mistakesOf(text))[0]).toMatch(/nested too deeply/)
    }
  })

  it('may use anchors, but not without bound', async () => {
    const anchors = 'users:\n  - name: a\n    topics: &rules [{ allow: read, filter: a }]\n'
    const { options } = await load(`${anchors}  - name: b\n    topics: *rules\n`)
    expect(options.users[1]!.topics).toEqual([{ effect: 'allow', access: 'read', filter: 'a' }])
    const many = Array.from({ length: 150 }, (_, i) => `  - name: u${i}\n    topics: *rules\n`)
    expect((await mistakesOf(anchors + many.join('')))[0]).toMatch(/more than 100 uses of anchors/)
  })

  it('that is empty, or comments only, changes nothing', async () => {
    expect((await load('')).options.limits.queuesMax).toBe(1_000_000)
    expect((await load('# nothing\n')).options.log.level).toBe('info')
  })

  it('may give times and sizes with a unit', async () => {
    const { options } = await load(
      'syncIdleMs: 2s\nsessionExpirySecondsMax: 7d\nlimits:\n  mqttPacketBytesMax: 4 MiB\n  loginTimeoutMs: 15_000\n  outputBytesMax: 1.5MB\n'
    )
    expect(options.syncIdleMs).toBe(2_000)
    expect(options.sessionExpirySecondsMax).toBe(7 * 86_400)
    expect(options.limits.mqttPacketBytesMax).toBe(4 * 1024 * 1024)
    expect(options.limits.loginTimeoutMs).toBe(15_000)
    expect(options.limits.outputBytesMax).toBe(1_500_000)
  })

  it('declares users, rules, queues and listeners', async () => {
    const { options } = await load(`
users:
  - name: ann
    passwordHash: ${HASH}
    tags: [administrator]
    topics: [{ deny: write, filter: secret/# }]
    permissions: [{ configure: '^x', read: '.*' }]
topics: [{ allow: readwrite, filter: 'home/%u/#' }]
queues:
  - name: telemetry
    arguments: { x-max-length: 1000, x-overflow: drop-head }
    bindings: ['sensors/+/#', { exchange: amq.direct, key: k }]
listeners: [{ url: 'mqtt://0.0.0.0', insecure: true, vhost: field }]
`)
    expect(options.users).toEqual([
      {
        name: 'ann',
        passwordHash: HASH,
        scram: '',
        tags: ['administrator'],
        topics: [{ effect: 'deny', access: 'write', filter: 'secret/#' }],
        resources: [{ vhost: '/', configure: '^x', write: '', read: '.*' }]
      }
    ])
    expect(options.topics).toEqual([{ effect: 'allow', access: 'readwrite', filter: 'home/%u/#' }])
    expect(options.queues).toEqual([
      {
        name: 'telemetry',
        vhost: '/',
        durable: true,
        arguments: { 'x-max-length': 1000, 'x-overflow': 'drop-head' },
        bindings: [
          { kind: 'filter', filter: 'sensors/+/#' },
          { kind: 'exchange', exchange: 'amq.direct', key: 'k' }
        ]
      }
    ])
    expect(options.listeners).toMatchObject([
      { url: 'mqtt://0.0.0.0:1883', insecure: true, vhost: 'field', isLoopback: false }
    ])
  })
})

describe('where options come from', () => {
  it('a flag goes before a variable, that before a file, that before the default', async () => {
    const text = 'syncIdleMs: 100\nqueueQos0: true\nlog: { level: debug }\n'
    const { options, sources } = await load(text, {
      environment: { MOTEMQ_SYNC_IDLE_MS: '200', MOTEMQ_LOG_LEVEL: 'warn' },
      flags: new Map([['syncIdleMs', '300']])
    })
    expect([options.syncIdleMs, options.log.level, options.queueQos0, options.vhost]).toEqual([
      300,
      'warn',
      true,
      '/'
    ])
    expect(sources.get('syncIdleMs')).toBe('flag --sync-idle-ms')
    expect(sources.get('log.level')).toBe('variable MOTEMQ_LOG_LEVEL')
    expect(sources.get('queueQos0')).toBe('c.yaml:2')
    expect(sources.get('vhost')).toBe('default')
  })

  it('any --listen replaces the default listeners and those of the file', async () => {
    const flags = new Map([['listeners', ['mqtt://127.0.0.1:0', 'amqp://127.0.0.1:0']]])
    const { options } = await load('listeners: ["http://127.0.0.1:1"]\n', { flags })
    expect(options.listeners.map(l => l.url)).toEqual(['mqtt://127.0.0.1:0', 'amqp://127.0.0.1:0'])
    const environment = { MOTEMQ_LISTEN: 'mqtt://127.0.0.1:1, mqtt://127.0.0.1:2' }
    const other = await load(null, { environment })
    expect(other.options.listeners.map(l => l.port)).toEqual([1, 2])
  })

  it('without any it listens on loopback only', async () => {
    const { options, files } = await load(null)
    expect(files).toEqual([])
    expect(options.listeners.map(l => l.url)).toEqual([
      'mqtt://127.0.0.1:1883',
      'mqtt://[::1]:1883',
      'amqp://127.0.0.1:5672',
      'amqp://[::1]:5672',
      'ws://127.0.0.1:15675',
      'ws://[::1]:15675',
      'http://127.0.0.1:15672',
      'http://[::1]:15672'
    ])
    expect(options.listeners.every(l => l.isLoopback)).toBe(true)
  })

  it('conf.d beside the file is merged by name: single values win late, lists add up', async () => {
    mkdirSync(join(directory, 'conf.d'))
    writeFileSync(join(directory, 'conf.d/20.yaml'), 'vhost: c\nusers: [{ name: b }]\n')
    writeFileSync(join(directory, 'conf.d/10.yaml'), 'vhost: b\nqueueQos0: true\n')
    writeFileSync(join(directory, 'conf.d/readme.txt'), 'not: [read')
    const { options, files } = await load('vhost: a\nusers: [{ name: a }]\n')
    expect(files).toEqual(['c.yaml', 'conf.d/10.yaml', 'conf.d/20.yaml'])
    expect(options.vhost).toBe('c')
    expect(options.queueQos0).toBe(true)
    expect(options.users.map(user => user.name)).toEqual(['a', 'b'])
    writeFileSync(join(directory, 'conf.d/30.yaml'), '\nusers: [{ name: a }]\nfoo: 1\n')
    expect(await mistakesOf('users: [{ name: a }]\n')).toEqual([
      'conf.d/30.yaml:2: user "a" stands here again, first in c.yaml:1',
      'conf.d/30.yaml:3: the key "foo" is not known'
    ])
  })

  it('--config goes before MOTEMQ_CONFIG, that before ./motemq.yaml', async () => {
    for (const name of ['motemq', 'env', 'flag']) {
      writeFileSync(join(directory, `${name}.yaml`), `vhost: ${name}\n`)
    }
    const environment = { MOTEMQ_CONFIG: 'env.yaml' }
    expect((await load(null)).options.vhost).toBe('motemq')
    expect((await load(null, { environment })).options.vhost).toBe('env')
    expect((await load(null, { environment, config: 'flag.yaml' })).options.vhost).toBe('flag')
  })

  it('a config file that is asked for and missing is a mistake', async () => {
    expect(await mistakesOf(null, { config: 'no.yaml' })).toEqual([
      '--config: there is no file no.yaml'
    ])
    expect(await mistakesOf(null, { environment: { MOTEMQ_CONFIG: 'no.yaml' } })).toEqual([
      'MOTEMQ_CONFIG: there is no file no.yaml'
    ])
  })

  it('mistakes of flags, variables and files are reported together', async () => {
    const mistakes = await mistakesOf('foo: 1\n', {
      environment: { MOTEMQ_LOG_LEVEL: 'loud', MOTEMQ_PASSWORD: 'x' },
      flags: new Map<string, string | string[]>([
        ['listeners', ['x', 'mqtt://127.0.0.1:1', 'mqtt://127.0.0.1:1']]
      ])
    })
    expect(mistakes).toEqual([
      'c.yaml:1: the key "foo" is not known',
      'MOTEMQ_LOG_LEVEL: "loud" is not one of fatal, error, warn, info, debug, trace, silent',
      '--listen: "x" is no URL such as mqtt://127.0.0.1:1883',
      '--listen: mqtt://127.0.0.1:1 is listed twice',
      'MOTEMQ_PASSWORD: is set without MOTEMQ_USER'
    ])
  })

  it('a variable that is not known is a warning, those that Kubernetes sets are nothing', async () => {
    const { warnings } = await load(null, {
      environment: {
        MOTEMQ_LOG_LEVL: 'info',
        MOTEMQ_PORT: 'tcp://10.0.0.1:1883',
        MOTEMQ_SERVICE_HOST: '10.0.0.1',
        MOTEMQ_TEST_REQUIRE: 'all'
      }
    })
    expect(warnings).toEqual([
      'the variable "MOTEMQ_LOG_LEVL" is not known and not used; did you mean MOTEMQ_LOG_LEVEL?'
    ])
  })

  it('systemd names the data folder', async () => {
    const environment = { STATE_DIRECTORY: '/var/lib/motemq:/x' }
    expect((await load(null, { environment })).options.data).toBe('/var/lib/motemq')
  })

  it('print shows values and sources, and no secret', async () => {
    const loaded = await load(
      `users: [{ name: ann, passwordHash: ${HASH} }]\nlog: { level: warn }\n`,
      {
        environment: { MOTEMQ_USER: 'first', MOTEMQ_PASSWORD: 'hunter2' },
        flags: new Map([['syncIdleMs', '50']])
      }
    )
    const text = printOptions(loaded)
    expect(text).toMatch(/^ {2}level: "warn" +# c\.yaml:2$/m)
    expect(text).toMatch(/^syncIdleMs: 50 +# flag --sync-idle-ms$/m)
    expect(text).toMatch(/^ {2}queuesMax: 1000000 +# default$/m)
    expect(text).not.toContain('hunter2')
    expect(text).not.toContain('scrypt')
  })
})
