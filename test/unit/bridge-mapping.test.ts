import { describe, expect, it } from 'vitest'
import { Backoff } from '../../src/bridge/backoff.ts'
import { Mapping } from '../../src/bridge/mapping.ts'
import { capturesOf, parseTemplate } from '../../src/lib/template.ts'

const rule = (filter: string, exchange: string, key: string, headers = {}) => ({
  filter,
  exchange,
  key,
  headers
})

describe('a mapping', () => {
  it('sends to amq.topic with the key as AMQP writes it when there is no rule', () => {
    const mapping = new Mapping([])
    expect(mapping.targetOf('a/b.c/d', 'amq.topic')).toEqual({
      exchange: 'amq.topic',
      key: 'a.b/c.d',
      headers: []
    })
  })

  it('takes the first rule that matches', () => {
    const mapping = new Mapping([rule('a/b', 'x', 'one'), rule('a/#', 'y', 'two')])
    expect(mapping.targetOf('a/b', '').exchange).toBe('x')
    expect(mapping.targetOf('a/c', '').exchange).toBe('y')
    expect(mapping.targetOf('b', '').exchange).toBe('amq.topic')
  })

  it('fills captures, topic, key and exchange', () => {
    const filled = rule('s/+/#', 'x-{1}', '{1}.{2}.{key}', { all: '{topic} {exchange} {{1}}' })
    expect(new Mapping([filled]).targetOf('s/7/a/b', 'in')).toEqual({
      exchange: 'x-7',
      key: '7.a.b.s.7.a.b',
      headers: [['all', 's/7/a/b in {1}']]
    })
  })

  it('remembers a target by topic and exchange', () => {
    const mapping = new Mapping([rule('#', '{exchange}', '{key}')])
    expect(mapping.targetOf('a', 'one').exchange).toBe('one')
    expect(mapping.targetOf('a', 'two').exchange).toBe('two')
    expect(mapping.targetOf('a', 'one')).toBe(mapping.targetOf('a', 'one'))
  })
})

describe('captures', () => {
  it.each([
    ['a/+/c', 'a/b/c', ['b']],
    ['a/+/c', 'a/b/d', null],
    ['a/#', 'a', ['']],
    ['a/#', 'a/b/c', ['b/c']],
    ['+/#', 'a/b', ['a', 'b']],
    ['#', '$SYS/x', null],
    ['+', '', ['']],
    ['a/+', 'a', null],
    ['a', 'a/b', null]
  ])('of %s in %s', (filter, topic, captures) => {
    expect(capturesOf(filter, topic)).toEqual(captures)
  })
})

describe('a template', () => {
  it.each(['{', '}', '{x', '{X}', '{0}', '{}'])('that is none, %s, is told in a sentence', text => {
    expect(typeof parseTemplate(text)).toBe('string')
  })
})

describe('the pause before the next try', () => {
  it('doubles up to its bound, by chance at least half of it, and begins anew', () => {
    const longest = new Backoff(500, 8_000, () => 1)
    const pauses = Array.from({ length: 7 }, () => longest.next())
    expect(pauses).toEqual([500, 1_000, 2_000, 4_000, 8_000, 8_000, 8_000])
    longest.reset()
    expect(longest.next()).toBe(500)
    expect(new Backoff(500, 8_000, () => 0).next()).toBe(250)
    for (let i = 0; i < 2_000; i++) longest.next()
    expect(longest.next()).toBe(8_000)
  })
})
