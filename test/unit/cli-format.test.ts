/** What needs no mosquitto_sub beside it; test/integration/cli-matrix-sub.test.ts compares the two. */
import { describe, expect, it } from 'vitest'
import { formatG, parseJson, printJson } from '../../src/cli/json-text.ts'
import { MessageFormat, type ShownMessage, writeVerbose } from '../../src/cli/message-format.ts'
import { strftime } from '../../src/cli/strftime.ts'
import { FlagMistake } from '../../src/cli/mosquitto-config.ts'
import { readClientFlags } from '../../src/cli/mosquitto-flags.ts'
import { sumUp, readDropped } from '../../src/cli/demo-sum.ts'
import { parseTarget } from '../../src/client/target.ts'
import { parseAmqpUrl } from '../../src/client/amqp-client.ts'

const message: ShownMessage = {
  topic: Buffer.from('a/b'),
  payload: Buffer.from('hello'),
  qos: 1,
  retain: true,
  packetId: 7,
  properties: [
    { id: 0x03, value: 'text' },
    { id: 0x26, value: ['k', 'v'] },
    { id: 0x02, value: 60 }
  ],
  at: { ms: 1_700_000_000_123, nanoseconds: 123_456_789 }
}
const write = (format: string, isPretty = false, shown = message) =>
  new MessageFormat(format, isPretty, () => undefined).write(shown).toString('latin1')

describe('the format of a message', () => {
  const table: [format: string, written: string][] = [
    ['%t %p', 'a/b hello'],
    ['%5t|%-5t|%.2t|%5.1t', '  a/b|a/b  |a/|    a'],
    ['%l %03l %-3l|', '5 005 5  |'],
    ['%q%r%m', '117'],
    ['%x %X', '68656c6c6f 68656C6C6F'],
    ['%C|%P|%E|%F|%6R|', 'text|k:v|60|||'],
    ['%%|@@|\\\\|\\n|@N', '%|@|\\|\n|123456789'],
    ['%U', '1700000000.123456789'],
    ['@s', '1700000000']
  ]
  it.each(table)('%s', (format, written) => expect(write(format)).toBe(written))

  it('is JSON with its properties', () => {
    expect(write('%j').replace(/"tst":"[^"]*"/, '"tst":""')).toBe(
      '{"tst":"","topic":"a/b","qos":1,"retain":1,"payloadlen":5,"mid":7,"properties":{"content-type":"text","user-properties":{"k":"v"},"message-expiry-interval":60},"payload":"hello"}'
    )
  })

  it('tells that a payload is no JSON, and writes nothing', () => {
    const bad: string[] = []
    const format = new MessageFormat('<%J>', false, topic => bad.push(topic))
    expect(format.write(message).toString()).toBe('<>')
    expect(bad).toEqual(['a/b'])
  })

  it.each(['%y', '%', '\\q', '\\', '@', '%--5t', '%5'])('refuses %s', format => {
    expect(() => new MessageFormat(format, false, () => undefined)).toThrow(FlagMistake)
  })

  it('is topic and payload with -v', () => {
    expect(writeVerbose(message).toString()).toBe('a/b hello')
    expect(writeVerbose({ ...message, payload: Buffer.alloc(0) }).toString()).toBe('a/b (null)')
  })
})

describe('JSON', () => {
  const again = (text: string) => {
    const node = parseJson(Buffer.from(text))
    return node === null ? null : printJson(node, -1)
  }
  const table: [text: string, printed: string | null][] = [
    ['{"b":1,"a":2,"a":3}', '{"b":1,"a":2,"a":3}'],
    ['{"1":0,"0":1}', '{"1":0,"0":1}'],
    [' [ 1 , 27.0 , -0.5 ] ', '[1,27,-0.5]'],
    ['12345678901234567890', '1.2345678901234567e+19'],
    ['1e-7', '1e-07'],
    ['0.30000000000000004', '0.3'],
    ['"\\u0041\\/\\n"', '"A/\\n"'],
    ['"\\ud800"', null],
    ['{"a":1} x', null],
    ['{"a"}', null],
    ['[1,]', null],
    ['nul', null],
    ['', null],
    [`${'['.repeat(1_001)}${']'.repeat(1_001)}`.repeat(2), null]
  ]
  it.each(table)('%s', (text, printed) => expect(again(text)).toBe(printed))

  it("writes numbers as C's %g", () => {
    expect([
      formatG(100_000, 6),
      formatG(1_000_000, 6),
      formatG(0.0001, 6),
      formatG(0.00001, 6)
    ]).toEqual(['100000', '1e+06', '0.0001', '1e-05'])
  })
})

describe('parts of the time', () => {
  it('are those of C, a letter each', () => {
    const date = new Date(2024, 1, 29, 0, 5, 9)
    const letters = [...'YyCmdejHIklMSpPaAbBuwUWVGg']
    expect(letters.map(letter => strftime(letter, date))).toEqual([
      ...[
        '2024',
        '24',
        '20',
        '02',
        '29',
        '29',
        '060',
        '00',
        '12',
        ' 0',
        '12',
        '05',
        '09',
        'AM',
        'am'
      ],
      ...['Thu', 'Thursday', 'Feb', 'February', '4', '4', '08', '09', '09', '2024', '24']
    ])
    expect(strftime('q', date)).toBe('%q')
  })
})

describe('URLs', () => {
  it('say where a broker is, and who asks', () => {
    expect(parseTarget('mqtt://u:p%40@h/a/b')).toMatchObject({
      target: { transport: 'tcp', host: 'h', port: 1883 },
      username: 'u',
      password: 'p@',
      topic: 'a/b'
    })
    expect(parseTarget('mqtts://[::1]:1')).toMatchObject({
      target: { transport: 'tls', host: '::1', port: 1 }
    })
    expect(parseTarget('ws://h/x')).toMatchObject({
      target: { transport: 'ws', port: 80, path: '/x' },
      topic: ''
    })
    expect(parseTarget('wss://h')).toMatchObject({ target: { path: '/mqtt', port: 443 } })
    expect(parseTarget('mqtt+unix:///run/x.sock')).toMatchObject({
      target: { path: '/run/x.sock' }
    })
    for (const bad of ['h', 'foo://h', 'mqtt://', 'mqtt://h:0', 'mqtt://h:65536']) {
      expect(typeof parseTarget(bad)).toBe('string')
    }
    expect(parseAmqpUrl('amqp://a:b@h:1/v')).toEqual({
      isSecure: false,
      host: 'h',
      port: 1,
      username: 'a',
      password: 'b',
      vhost: 'v'
    })
    expect(parseAmqpUrl('amqp://h')).toMatchObject({ port: 5672, username: 'guest', vhost: '/' })
    expect(parseAmqpUrl('amqps://h')).toMatchObject({ isSecure: true, port: 5671 })
    expect(typeof parseAmqpUrl('http://h')).toBe('string')
  })

  it('of MOTEMQ_URL yields to any that is given', () => {
    const environment = { MOTEMQ_URL: 'mqtt://there:99', XDG_CONFIG_HOME: '/nonexistent' }
    const flags = (...words: string[]) => readClientFlags('sub', ['-t', 'a', ...words], environment)
    expect(flags().target).toMatchObject({ host: 'there', port: 99 })
    expect(flags('-h', 'here').target).toBeNull()
    expect(flags('-p', '1').target).toBeNull()
    expect(flags('-L', 'mqtt://other').target).toMatchObject({ host: 'other' })
  })
})

describe('the sum of the demo', () => {
  it('comes out even or says what is missing', () => {
    expect(sumUp({ published: 5, received: 3, waiting: 1, dropped: 1 })).toEqual({
      isEven: true,
      line: '5 published = 3 received + 1 waiting + 1 dropped'
    })
    expect(sumUp({ published: 5, received: 3, waiting: 1, dropped: 0 })).toEqual({
      isEven: false,
      line: '5 published ≠ 3 received + 1 waiting + 0 dropped: 1 lost'
    })
    expect(sumUp({ published: 1, received: 2, waiting: 0, dropped: null }).line).toContain(
      '1 too many'
    )
  })

  it('counts the drops that may be a queue’s', () => {
    const line = (reason: string, value: number) =>
      `motemq_messages_dropped_total{reason="${reason}"} ${value}\n`
    expect(
      readDropped(line('queue_full', 2) + line('slow_consumer', 50) + line('disk_alarm', 1))
    ).toBe(3)
  })
})
