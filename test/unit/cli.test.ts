import { describe, expect, it } from 'vitest'
import { endingOf } from '../../src/cli/exit.ts'
import { formatLine } from '../../src/cli/log.ts'
import { ConfigError } from '../../src/config/mistake.ts'
import { StartRefusedError } from '../../src/config/start-rules.ts'
import { BrokerError } from '../../src/core/errors.ts'
import { AssertionError } from '../../src/lib/assert.ts'
import { printable } from '../../src/lib/printable.ts'
import { suggest } from '../../src/lib/suggest.ts'
import { ListenError } from '../../src/net/listener.ts'

describe('how a command ends', () => {
  const table: [name: string, error: unknown, exitCode: number, lines: readonly string[]][] = [
    ['wrong configuration', new ConfigError(['a', 'b']), 2, ['a', 'b']],
    ['a start that the rules refuse', new StartRefusedError(['r']), 2, ['r']],
    ['a port in use', new ListenError('EADDRINUSE', 'in use', null), 1, ['in use']],
    ['a refused request', new BrokerError('notFound', 'no'), 1, ['no']],
    ['the system', Object.assign(new Error('EIO'), { code: 'EIO' }), 1, ['EIO']]
  ]
  for (const [name, error, exitCode, lines] of table) {
    it(`${name}: ${exitCode}`, () => expect(endingOf(error)).toEqual({ exitCode, lines }))
  }

  it('our bugs: 70, with their stack', () => {
    const wrongArgument = Object.assign(new TypeError('x'), { code: 'ERR_INVALID_ARG_TYPE' })
    for (const error of [new AssertionError('x'), new TypeError('x'), wrongArgument, 'x']) {
      const { exitCode, lines } = endingOf(error)
      expect(exitCode).toBe(70)
      expect(lines[0]).toMatch(/^this is a bug of Motemq: /)
    }
  })
})

describe('a line of the log for people', () => {
  const entry = {
    level: 'warn',
    time: '2026-01-02T03:04:05.678Z',
    msg: 'refused',
    clientId: 'lamp',
    reason: 'not authorized',
    count: 3
  }

  it('has time, level, text and fields', () => {
    expect(formatLine(JSON.stringify(entry), false)).toMatch(
      /^\d\d:\d\d:05\.678 warn {2}refused clientId=lamp reason="not authorized" count=3\n$/
    )
  })

  it('shows nothing that a terminal would obey', () => {
    const evil = '\u001b[2J\nINFO fake\u202e\u009b'
    const line = formatLine(JSON.stringify({ ...entry, clientId: evil, msg: evil }), false)
    expect(line.slice(0, -1)).toMatch(/^[\x20-\x7e]*$/)
    expect(printable(evil)).toBe('\\u001b[2J\\u000aINFO fake\\u202e\\u009b')
  })

  it('shows the stack of an error', () => {
    const line = formatLine(JSON.stringify({ ...entry, err: { stack: 'Error: x\n at y' } }), false)
    expect(line).toMatch(/\n {2}Error: x\n {3}at y\n$/)
  })
})

describe('suggest', () => {
  it('finds what was meant and nothing far off', () => {
    const known = ['listeners', 'limits', 'log', 'data']
    expect(suggest('listener', known)).toBe('listeners')
    expect(suggest('limts', known)).toBe('limits')
    expect(suggest('Log', known)).toBe('log')
    expect(suggest('foo', known)).toBeNull()
    expect(suggest('persistence', known)).toBeNull()
  })
})
