import { describe, expect, it } from 'vitest'
import { filterMatches } from '../../src/core/topic.ts'
import { TopicTrie } from '../../src/core/topic-trie.ts'

function trieOf(...filters: string[]): TopicTrie<string> {
  const trie = new TopicTrie<string>()
  for (const filter of filters) trie.insert(filter, filter)
  return trie
}

function matches(trie: TopicTrie<string>, topic: string): string[] {
  const out: string[] = []
  trie.match(topic, out)
  return out.sort()
}

describe('the topic trie', () => {
  it('appends to what the caller has and says how many it added', () => {
    const out = ['before']
    expect(trieOf('a/b', 'a/+', '#', 'c').match('a/b', out)).toBe(3)
    expect(out[0]).toBe('before')
    expect(out.slice(1).sort()).toEqual(['#', 'a/+', 'a/b'])
  })

  it('gives a value once for each filter under which it stands', () => {
    const trie = new TopicTrie<string>()
    expect(trie.insert('a/+', 'v')).toBe(true)
    expect(trie.insert('a/#', 'v')).toBe(true)
    expect(trie.insert('a/b', 'v')).toBe(true)
    expect(trie.insert('a/b', 'v')).toBe(false)
    expect(trie.insert('a/#', 'v')).toBe(false)
    expect(matches(trie, 'a/b')).toEqual(['v', 'v', 'v'])
    expect(trie.size).toBe(3)
    expect(trie.wildcardSize).toBe(2)
  })

  it('hides $ topics from filters that begin with a wildcard, v5 [MQTT-4.7.2-1]', () => {
    const trie = trieOf('#', '+/x', '+/#', '#/x', '$SYS/#', '$SYS/x', '$SYS/+')
    expect(matches(trie, '$SYS/x')).toEqual(['$SYS/#', '$SYS/+', '$SYS/x'])
    expect(matches(trie, 'a/$SYS')).toEqual(['#', '+/#'])
  })

  it('knows whether a filter in it begins with $', () => {
    const trie = trieOf('a', '#', 'a/$SYS', '$SYS/#', '$SYS/x')
    trie.insert('$SYS/x', 'other')
    trie.insert('$SYS/x', 'other')
    expect(trie.dollarSize).toBe(3)
    for (const [filter, value] of [
      ['$SYS/x', 'other'],
      ['$SYS/x', 'nobody'],
      ['$SYS/x', '$SYS/x'],
      ['$SYS/#', '$SYS/#'],
      ['$SYS/#', '$SYS/#']
    ] as const) {
      trie.remove(filter, value)
    }
    expect(trie.dollarSize).toBe(0)
    expect(trie.size).toBe(3)
  })

  it('takes # for zero or more levels wherever it stands', () => {
    const trie = trieOf('a/#/z', '#/z', 'a/#', '#/#', 'a/#/#/z', '#/m/#')
    expect(matches(trie, 'a/z')).toEqual(['#/#', '#/z', 'a/#', 'a/#/#/z', 'a/#/z'])
    expect(matches(trie, 'a/m/m/z')).toEqual(['#/#', '#/m/#', '#/z', 'a/#', 'a/#/#/z', 'a/#/z'])
    expect(matches(trie, 'a')).toEqual(['#/#', 'a/#'])
  })

  it('takes levels that only look like wildcards as they are', () => {
    const trie = trieOf('a#/b', 'a+/+', '*', '')
    expect(matches(trie, 'a#/b')).toEqual(['a#/b'])
    expect(matches(trie, 'a+/b')).toEqual(['a+/+'])
    expect(matches(trie, 'ax/b')).toEqual([])
    expect(matches(trie, '*')).toEqual(['*'])
    expect(matches(trie, '')).toEqual([''])
  })

  it('matches keys whose levels are + and #, as AMQP allows them, as ordinary levels', () => {
    const trie = trieOf('a/+/c', 'a/b/c', '#')
    expect(matches(trie, 'a/+/c')).toEqual(['#', 'a/+/c'])
    expect(matches(trie, 'a/#')).toEqual(['#'])
  })

  it('keeps nothing of what was removed', () => {
    const filters = ['a/+/b/#', 'a/+', '+', '#', 'a/b/c', '+/#', '+/#/x']
    const trie = trieOf(...filters)
    expect(trie.remove('a/+', 'another value')).toBe(false)
    expect(trie.remove('a/+/b', 'a/+/b')).toBe(false)
    expect(trie.remove('x/y', 'x/y')).toBe(false)
    for (const filter of filters) {
      expect(trie.has(filter, filter)).toBe(true)
      expect(trie.remove(filter, filter)).toBe(true)
      expect(trie.has(filter, filter)).toBe(false)
      expect(trie.remove(filter, filter)).toBe(false)
    }
    expect([trie.size, trie.wildcardSize, trie.nodeCount]).toEqual([0, 0, 0])
    expect(matches(trie, 'a/b/c')).toEqual([])
  })

  it('keeps the parents that others need', () => {
    const trie = trieOf('a/+/b/#', 'a/+')
    trie.remove('a/+/b/#', 'a/+/b/#')
    expect(trie.nodeCount).toBe(2)
    expect(matches(trie, 'a/x')).toEqual(['a/+'])
  })

  it('holds thousands of values under one filter and finds each again', () => {
    const trie = new TopicTrie<number>()
    for (let i = 0; i < 5_000; i++) trie.insert('a/+', i)
    for (let i = 0; i < 5_000; i += 2) expect(trie.remove('a/+', i)).toBe(true)
    const out: number[] = []
    expect(trie.match('a/b', out)).toBe(2_500)
    expect(out.every(value => value % 2 === 1)).toBe(true)
    expect(new Set(out).size).toBe(2_500)
  })

  it('does not overflow on filters and topics of hundreds of levels', () => {
    const trie = trieOf('+/'.repeat(400), `${'#/'.repeat(400)}x`)
    expect(matches(trie, '/'.repeat(400))).toEqual(['+/'.repeat(400)])
    expect(matches(trie, `${'/'.repeat(400)}x`).length).toBe(1)
    let pairs = 0
    trie.forEach(() => {
      pairs += 1
    })
    expect(pairs).toBe(2)
  })

  it('visits each node at most once a level, whatever the filters (B68)', () => {
    const bombs = ['a/#', 'a/+/#', `${'#/'.repeat(60)}a`, `${'#/+/'.repeat(60)}z`, '#/a/#/a/#/b']
    for (let i = 1; i <= 60; i++) bombs.push(`${'+/'.repeat(i)}#`, `${'#/a/'.repeat(i)}#`)
    const trie = trieOf(...bombs)
    const topic = `a${'/a'.repeat(199)}`
    const expected = bombs.filter(filter => filterMatches(filter, topic)).sort()
    expect(matches(trie, topic)).toEqual(expected)
    expect(trie.visits).toBeLessThanOrEqual(trie.nodeCount * 201)
    // Descending anew for each `#` would take more visits than there are atoms.
    expect(trie.visits).toBeLessThan(200_000)
  })

  it('goes on when its marks start anew', () => {
    const trie = trieOf('a/#/b', '+/b', '#')
    ;(trie as unknown as { step: number }).step = 0x3fff_0000
    for (let i = 0; i < 3; i++) expect(matches(trie, 'a/b')).toEqual(['#', '+/b', 'a/#/b'])
    expect((trie as unknown as { step: number }).step).toBeLessThan(20)
  })
})
