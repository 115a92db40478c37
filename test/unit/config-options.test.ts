import { describe, expect, it } from 'vitest'
import { DEFAULT_LIMITS } from '../../src/core/limits.ts'
import { parseListenerUrl } from '../../src/config/listener-url.ts'
import { loadOptions } from '../../src/config/load.ts'
import { limitsOf, NAMED_OPTIONS } from '../../src/config/options.ts'
import { judgeStart } from '../../src/config/start-rules.ts'
import { isPasswordHash, isTopicFilter } from '../../src/config/structures.ts'

describe('options', () => {
  it('have the same limits as the core', async () => {
    const { options } = await loadOptions({
      config: null,
      flags: new Map(),
      environment: {},
      directory: '/nonexistent'
    })
    expect(limitsOf(options)).toEqual(DEFAULT_LIMITS)
  })

  it('have a flag and a variable each, all different', () => {
    for (const key of ['flag', 'variable'] as const) {
      const names = NAMED_OPTIONS.map(named => named[key]).filter(name => name !== '')
      expect(new Set(names).size).toBe(names.length)
    }
    const named = NAMED_OPTIONS.find(option => option.key === 'limits.topicBytesMax')!
    expect([named.flag, named.variable]).toEqual([
      '--limits-topic-bytes-max',
      'MOTEMQ_LIMITS_TOPIC_BYTES_MAX'
    ])
  })

  it('have defaults within their own bounds', () => {
    for (const { key, option } of NAMED_OPTIONS) {
      if (typeof option.defaultValue !== 'number') continue
      expect(option.defaultValue, key).toBeGreaterThanOrEqual(option.min)
      expect(option.defaultValue, key).toBeLessThanOrEqual(option.max)
    }
  })

  it('have no variable of a name that Kubernetes gives to services', () => {
    for (const { variable } of NAMED_OPTIONS) {
      expect(variable).not.toMatch(/^MOTEMQ_(PORT|SERVICE_)/)
    }
  })
})

describe('a listener URL', () => {
  const good: [url: string, found: readonly string[]][] = [
    ['mqtt://127.0.0.1:1883', ['mqtt://127.0.0.1:1883']],
    ['mqtt://127.0.0.1', ['mqtt://127.0.0.1:1883']],
    ['MQTT://127.0.0.1/', ['mqtt://127.0.0.1:1883']],
    ['amqp://[::1]', ['amqp://[::1]:5672']],
    ['amqp://[::]:0', ['amqp://[::]:0']],
    ['http://localhost', ['http://127.0.0.1:15672', 'http://[::1]:15672']],
    ['mqtt://localhost:0', ['mqtt://127.0.0.1:0']],
    ['metrics://127.0.0.1', ['metrics://127.0.0.1:15692']],
    ['mqtt://gateway.local:1', ['mqtt://gateway.local:1']],
    ['ws://localhost', ['ws://127.0.0.1:15675', 'ws://[::1]:15675']],
    ['ws://0.0.0.0:80/mqtt', ['ws://0.0.0.0:80']],
    ['mqtt+unix:///run/m.sock?mode=0600', ['mqtt+unix:///run/m.sock']],
    ['amqp+unix:///run/a%20b.sock', ['amqp+unix:///run/a%20b.sock']],
    ['http+unix:///run/h.sock', ['http+unix:///run/h.sock']],
    ['ws+unix:///run/w.sock', ['ws+unix:///run/w.sock']]
  ]
  for (const [url, found] of good) {
    it(`may be ${url}`, () => {
      const parsed = parseListenerUrl(url)
      expect(parsed.ok && parsed.listeners.map(listener => listener.url)).toEqual(found)
    })
  }

  const bad = [
    '',
    '1883',
    ':1883',
    '127.0.0.1:1883',
    'mqtt:127.0.0.1',
    'mqtt://',
    'mqtt://:1883',
    'mqtt://*:1883',
    'mqtt://127.0.0.1:',
    'mqtt://127.0.0.1:65536',
    'mqtt://127.0.0.1:-1',
    'mqtt://127.0.0.1:1e3',
    'mqtt://127.0.0.1/path',
    'mqtt://300.0.0.1',
    'mqtt://1.2.3',
    'mqtt://[::g]',
    'mqtt://::1:1883',
    'mqtt://user:pass@127.0.0.1',
    'mqtt://127.0.0.1?inscure=true',
    'mqtt://127.0.0.1#x',
    'tcp://127.0.0.1:1883',
    'mqtt+unix://run/m.sock',
    'mqtt+unix:///run/',
    'mqtt+unix:///run/m.sock?mode=0999',
    'mqtt+unix:///run/%00.sock',
    'mqtt+unix:///run/%zz.sock',
    'mqtt://127.0.0.1?mode=0660',
    'mqtt://127.0.0.1?origin=https://a.example',
    'ws://127.0.0.1?origin=https://a.example/path',
    'mqtt://127.0.0.1?proxyProtocol=10.0.0.0/33',
    'mqtt://127.0.0.1?proxyProtocol=proxy.example'
  ]
  for (const url of bad) {
    it(`may not be "${url}"`, () => expect(parseListenerUrl(url).ok).toBe(false))
  }

  it.each([
    ['mqtts://h', 8883],
    ['wss://h/mqtt', 15_676],
    ['amqps://h', 5_671],
    ['https://h', 15_671]
  ])('%s is one with TLS', (url, port) => {
    const parsed = parseListenerUrl(url)
    expect(parsed.ok && parsed.listeners[0]).toMatchObject({ port, isTls: true, tls: null })
  })

  it.each(['mqtt://h', 'ws://h', 'amqp://h', 'http://h', 'mqtt+unix:///h'])(
    '%s has no tls of its own',
    url => {
      const tls = { cert: '/server.crt', key: '/server.key' }
      const why = expect.stringContaining('has no TLS')
      expect(parseListenerUrl(url, { tls })).toMatchObject({ ok: false, why })
    }
  )

  it('says of its query what it does not know', () => {
    const parsed = parseListenerUrl('mqtt://0.0.0.0?insecure=true&vhost=field')
    expect(parsed.ok && parsed.listeners[0]).toMatchObject({ insecure: true, vhost: 'field' })
  })

  it('says of its query who may speak for others, and which pages may connect', () => {
    const parsed = parseListenerUrl(
      'ws://127.0.0.1?proxyProtocol=10.0.0.0/8&proxyProtocol=unix&origin=https://a.example'
    )
    expect(parsed.ok && parsed.listeners[0]).toMatchObject({
      proxyFrom: ['10.0.0.0/8', 'unix'],
      origins: ['https://a.example']
    })
  })

  it('names a Unix socket by its file, with its rights', () => {
    const parsed = parseListenerUrl('amqp+unix:///run/a%20b.sock?mode=600')
    expect(parsed.ok && parsed.listeners[0]).toMatchObject({
      unixPath: '/run/a b.sock',
      mode: 0o600,
      isLoopback: true,
      protocol: 'amqp'
    })
  })

  it('is loopback only for addresses of this machine', () => {
    const isLoopback = (url: string) => {
      const parsed = parseListenerUrl(url)
      return parsed.ok && parsed.listeners.every(listener => listener.isLoopback)
    }
    const local = ['127.0.0.1', '127.1.2.3', '[::1]', 'localhost', '[0:0:0:0:0:0:0:1]']
    for (const host of local) expect(isLoopback(`mqtt://${host}`), host).toBe(true)
    const other = ['0.0.0.0', '[::]', '192.168.1.2', '128.0.0.1', 'localhost.example.org', '[::2]']
    for (const host of other) expect(isLoopback(`mqtt://${host}`), host).toBe(false)
  })
})

describe('start rules', () => {
  const judge = (url: string, usersCount: number) => {
    const parsed = parseListenerUrl(url)
    if (!parsed.ok) throw new Error(parsed.why)
    return judgeStart(parsed.listeners, usersCount)
  }
  const table: [url: string, users: number, refused: string | null, warned: string | null][] = [
    ['mqtt://127.0.0.1', 0, null, null],
    ['mqtt://localhost', 1, null, null],
    ['http://[::1]', 0, null, null],
    [
      'mqtt://0.0.0.0',
      0,
      'mqtt://0.0.0.0:1883 would be open to everybody: there are no users yet; make the first with `motemq users add NAME`, or say insecure: true for this listener',
      null
    ],
    [
      'amqp://192.168.1.2',
      0,
      'amqp://192.168.1.2:5672 would be open to everybody: there are no users yet; make the first with `motemq users add NAME`, or say insecure: true for this listener',
      null
    ],
    [
      'mqtt://0.0.0.0?insecure=true',
      0,
      null,
      'mqtt://0.0.0.0:1883 is open to everybody who reaches it: no users, no TLS (insecure: true)'
    ],
    [
      'mqtt://0.0.0.0',
      1,
      null,
      'mqtt://0.0.0.0:1883 is not encrypted: passwords and messages can be read on the way'
    ],
    [
      'mqtt://0.0.0.0?insecure=true',
      1,
      null,
      'mqtt://0.0.0.0:1883 is not encrypted: passwords and messages can be read on the way'
    ],
    [
      'http://0.0.0.0',
      0,
      'http://0.0.0.0:15672 would open the admin API to the network without TLS; listen on 127.0.0.1 and reach it through a tunnel (ssh -L 15672:127.0.0.1:15672 HOST)',
      null
    ],
    [
      'http://0.0.0.0?insecure=true',
      5,
      'http://0.0.0.0:15672 would open the admin API to the network without TLS; listen on 127.0.0.1 and reach it through a tunnel (ssh -L 15672:127.0.0.1:15672 HOST)',
      null
    ],
    [
      'metrics://0.0.0.0',
      5,
      'metrics://0.0.0.0:15692 would show the metrics to everybody who reaches it; listen on 127.0.0.1, or say insecure: true for this listener',
      null
    ],
    [
      'metrics://0.0.0.0?insecure=true',
      0,
      null,
      'metrics://0.0.0.0:15692 shows the metrics to everybody who reaches it (insecure: true)'
    ]
  ]
  for (const [url, users, refused, warned] of table) {
    const outcome =
      refused === null ? (warned === null ? 'starts' : 'starts and warns') : 'is refused'
    it(`${url} with ${users} users ${outcome}`, () => {
      expect(judge(url, users)).toEqual({
        refusals: refused === null ? [] : [refused],
        warnings: warned === null ? [] : [warned]
      })
    })
  }
})

describe('texts in the file', () => {
  it('topic filters are judged as MQTT does', () => {
    for (const filter of ['a', '#', '+', 'a/#', '+/a', '/', 'a//b', '$SYS/#']) {
      expect(isTopicFilter(filter), filter).toBe(true)
    }
    for (const filter of ['', 'a#', '#/a', 'a/#/b', 'a+', '+a/b', 'a\u0000']) {
      expect(isTopicFilter(filter), filter).toBe(false)
    }
  })

  it('hashes that would cost too much are none', () => {
    const hash = (cost: string) => `scrypt$${cost}$${'A'.repeat(22)}==$${'A'.repeat(43)}=`
    expect(isPasswordHash(hash('32768$8$1'))).toBe(true)
    for (const cost of ['1048576$8$1', '32767$8$1', '32768$0$1', '32768$8$9', '0$8$1']) {
      expect(isPasswordHash(hash(cost)), cost).toBe(false)
    }
    expect(isPasswordHash('secret')).toBe(false)
  })
})
