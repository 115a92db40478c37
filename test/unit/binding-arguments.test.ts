import { describe, expect, it } from 'vitest'
import { fieldValuesMatch, HeadersMatch, tableIdentity } from '../../src/core/binding-arguments.ts'
import type { QueueTarget } from '../../src/core/exchange.ts'
import type { FieldTable, FieldValue } from '../../src/core/field-table.ts'
import { exchange, int, route, text, VOID } from '../support/routing.ts'

function matches(asked: FieldTable, headers: FieldTable | null): boolean {
  const from = exchange('headers')
  from.bind({ id: 1 }, '', asked)
  return route(from, '', headers).length === 1
}

const [_q1, _q2, _q3]: QueueTarget[] = [{ id: 1 }, { id: 2 }, { id: 3 }] as const

describe('a headers exchange', () => {
  const asked = (mode: string | null, ...fields: [string, FieldValue][]): FieldTable =>
    mode === null ? fields : [['x-match', text(mode)], ...fields]

  it('asks for all by default, for any if told so', () => {
    const both: [string, FieldValue][] = [
      ['a', int(1)],
      ['b', text('x')]
    ]
    const one: FieldTable = [['a', int(1)]]
    expect(matches(asked(null, ...both), both)).toBe(true)
    expect(matches(asked('all', ...both), one)).toBe(false)
    expect(matches(asked('any', ...both), one)).toBe(true)
    expect(matches(asked('any', ...both), [['a', int(2)]])).toBe(false)
    expect(matches(asked('any', ...both), null)).toBe(false)
    expect(matches(asked('all', ...both), [...both, ['c', VOID]])).toBe(true)
  })

  it('asked for nothing matches everything with all and nothing with any', () => {
    for (const headers of [null, [], [['a', int(1)]]] as (FieldTable | null)[]) {
      expect(matches([], headers)).toBe(true)
      expect(matches(asked('all-with-x'), headers)).toBe(true)
      expect(matches(asked('any'), headers)).toBe(false)
      expect(matches(asked('any-with-x'), headers)).toBe(false)
    }
  })

  it('does not look at x- headers unless it is told to', () => {
    const field: [string, FieldValue] = ['x-kind', text('k')]
    expect(matches(asked('all', field), null)).toBe(true)
    expect(matches(asked('any', field), [field])).toBe(false)
    expect(matches(asked('all-with-x', field), null)).toBe(false)
    expect(matches(asked('all-with-x', field), [field])).toBe(true)
    expect(matches(asked('any-with-x', field), [field])).toBe(true)
    expect(matches(asked('any-with-x'), [['x-match', text('any-with-x')]])).toBe(false)
  })

  it('takes a void value for presence', () => {
    expect(matches(asked('all', ['a', VOID]), [['a', int(5)]])).toBe(true)
    expect(matches(asked('all', ['a', VOID]), [['b', int(5)]])).toBe(false)
    expect(matches(asked('all', ['a', int(5)]), [['a', VOID]])).toBe(false)
  })

  it('counts the first of a repeated header', () => {
    const match = new HeadersMatch([['a', int(1)]])
    expect(match.matches(new Map([['a', int(1)]]))).toBe(true)
    const repeated: FieldTable = [
      ['a', int(2)],
      ['a', int(1)]
    ]
    expect(matches([['a', int(1)]], repeated)).toBe(false)
  })

  it('compares values strictly, whatever the width of their type', () => {
    const bytes = (...data: number[]): FieldValue => ({ type: 'x', value: Buffer.from(data) })
    const equal: [FieldValue, FieldValue][] = [
      [int(5), { type: 'b', value: 5 }],
      [int(5), { type: 'l', value: 5n }],
      [
        { type: 'l', value: 5n },
        { type: 'T', value: 5n }
      ],
      [
        { type: 'f', value: 0.5 },
        { type: 'd', value: 0.5 }
      ],
      [bytes(1, 2), bytes(1, 2)],
      [VOID, VOID],
      [
        { type: 'D', scale: 1, value: 5 },
        { type: 'D', scale: 1, value: 5 }
      ],
      [
        { type: 'A', value: [int(1)] },
        { type: 'A', value: [{ type: 's', value: 1 }] }
      ],
      [
        {
          type: 'F',
          value: [
            ['a', int(1)],
            ['b', VOID]
          ]
        },
        {
          type: 'F',
          value: [
            ['b', VOID],
            ['a', int(1)]
          ]
        }
      ]
    ]
    const different: [FieldValue, FieldValue][] = [
      [int(1), text('1')],
      [int(1), { type: 't', value: true }],
      [int(1), { type: 'd', value: 1 }],
      [
        { type: 'l', value: 2n ** 53n },
        { type: 'l', value: 2n ** 53n + 1n }
      ],
      [bytes(1), bytes(2)],
      [text('a'), text('A')],
      [text('a'), bytes(97)],
      [
        { type: 'D', scale: 1, value: 50 },
        { type: 'D', scale: 2, value: 500 }
      ],
      [
        { type: 'A', value: [int(1)] },
        { type: 'A', value: [int(1), int(2)] }
      ],
      [
        { type: 'A', value: [int(1)] },
        { type: 'A', value: [int(2)] }
      ],
      [
        { type: 'F', value: [['a', int(1)]] },
        { type: 'F', value: [['b', int(1)]] }
      ],
      [
        { type: 'F', value: [['a', int(1)]] },
        { type: 'F', value: [] }
      ]
    ]
    const isMatch = ([a, b]: [FieldValue, FieldValue]) => fieldValuesMatch(a, b)
    const swapped = ([a, b]: [FieldValue, FieldValue]) => fieldValuesMatch(b, a)
    expect(equal.filter(pair => !isMatch(pair) || !swapped(pair))).toEqual([])
    expect(different.filter(pair => isMatch(pair) || swapped(pair))).toEqual([])
  })
})

describe('the identity of a table', () => {
  it('differs whenever a name, type or value differs', () => {
    const tables: FieldTable[] = [
      [],
      [['a', int(1)]],
      [['a', { type: 'i', value: 1 }]],
      [['a', text('1')]],
      [['a', text("1'b")]],
      [['a', { type: 'x', value: Buffer.from('1') }]],
      [['a', { type: 'd', value: 0 }]],
      [['a', { type: 'd', value: -0 }]],
      [['a', { type: 't', value: true }]],
      [['a', VOID]],
      [['a', { type: 'A', value: [int(1), int(2)] }]],
      [['a', { type: 'A', value: [int(12)] }]],
      [['a', { type: 'A', value: [{ type: 'A', value: [int(1)] }, int(2)] }]],
      [['a', { type: 'F', value: [['b', int(1)]] }]],
      [
        ['a', { type: 'F', value: [] }],
        ['b', int(1)]
      ],
      [['a', { type: 'D', scale: 1, value: 23 }]],
      [['a', { type: 'D', scale: 12, value: 3 }]],
      [
        ['a', int(1)],
        ['a', int(1)]
      ]
    ]
    expect(new Set(tables.map(tableIdentity)).size).toBe(tables.length)
    expect(tableIdentity([])).toBe('')
  })
})
