import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { filterMatches } from '../../src/core/topic.ts'
import { TopicTrie } from '../../src/core/topic-trie.ts'

const LEVELS = ['a', 'b', '', '$x', '*', 'é', '💧', 'a.b', 'a#']

const topics = fc
  .array(fc.constantFrom(...LEVELS), { minLength: 1, maxLength: 6 })
  .map(levels => levels.join('/'))
/** With `#` at any level, as binding keys have it. */
const filters = fc
  .array(fc.constantFrom(...LEVELS, '+', '+', '#', '#'), { minLength: 1, maxLength: 6 })
  .map(levels => levels.join('/'))
const values = fc.integer({ min: 0, max: 4 })

const commands = fc.array(
  fc.oneof(
    {
      weight: 5,
      arbitrary: fc.record({ verb: fc.constant('insert'), at: filters, value: values })
    },
    {
      weight: 2,
      arbitrary: fc.record({ verb: fc.constant('remove'), at: filters, value: values })
    },
    {
      weight: 2,
      arbitrary: fc.record({
        verb: fc.constant('remove some'),
        at: fc.constant(''),
        value: fc.nat()
      })
    },
    { weight: 4, arbitrary: fc.record({ verb: fc.constant('match'), at: topics, value: values }) }
  ),
  { maxLength: 80, size: 'max' }
)

/** Straight from the words of MQTT 5 §4.7, by recursion: neither the trie nor `filterMatches`. */
function matches(filter: string[], topic: string[]): boolean {
  const [level, ...rest] = filter
  if (level === undefined) return topic.length === 0
  if (level === '#') {
    return topic.length === 0
      ? matches(rest, topic)
      : matches(rest, topic) || matches(filter, topic.slice(1))
  }
  if (topic.length === 0) return false
  return (level === '+' || level === topic[0]) && matches(rest, topic.slice(1))
}

function matchesBySpecification(filter: string, topic: string): boolean {
  if (topic.startsWith('$') && /^[+#]/.test(filter)) return false
  return matches(filter.split('/'), topic.split('/'))
}

class NaiveTrie {
  readonly pairs: { filter: string; value: number }[] = []

  indexOf(filter: string, value: number): number {
    return this.pairs.findIndex(pair => pair.filter === filter && pair.value === value)
  }

  insert(filter: string, value: number): boolean {
    if (this.indexOf(filter, value) !== -1) return false
    this.pairs.push({ filter, value })
    return true
  }

  remove(filter: string, value: number): boolean {
    const index = this.indexOf(filter, value)
    if (index !== -1) this.pairs.splice(index, 1)
    return index !== -1
  }

  match(topic: string): number[] {
    return this.pairs
      .filter(pair => filterMatches(pair.filter, topic))
      .map(pair => pair.value)
      .sort()
  }
}

describe('the topic trie against a list of pairs', () => {
  it('filterMatches says what the specification says', () => {
    fc.assert(
      fc.property(filters, topics, (filter, topic) => {
        expect(filterMatches(filter, topic)).toBe(matchesBySpecification(filter, topic))
      }),
      { numRuns: 20_000 }
    )
  })

  it('every match, after any inserts and removals, gives what the list gives', () => {
    fc.assert(
      fc.property(commands, steps => {
        const trie = new TopicTrie<number>()
        const model = new NaiveTrie()
        for (const { verb, at, value } of steps) {
          if (verb === 'insert') {
            expect(trie.insert(at, value)).toBe(model.insert(at, value))
          } else if (verb === 'remove') {
            expect(trie.remove(at, value)).toBe(model.remove(at, value))
          } else if (verb === 'remove some' && model.pairs.length > 0) {
            const pair = model.pairs[value % model.pairs.length]!
            expect(trie.remove(pair.filter, pair.value)).toBe(true)
            model.remove(pair.filter, pair.value)
          } else if (verb === 'match') {
            const out: number[] = [-1]
            expect(trie.match(at, out)).toBe(out.length - 1)
            expect(out.slice(1).sort()).toEqual(model.match(at))
          }
          expect(trie.size).toBe(model.pairs.length)
        }
        const seen: string[] = []
        trie.forEach((filter, value) => {
          seen.push(`${value} ${filter}`)
        })
        expect(seen.sort()).toEqual(model.pairs.map(pair => `${pair.value} ${pair.filter}`).sort())
        for (const { filter, value } of [...model.pairs]) trie.remove(filter, value)
        expect(trie.size).toBe(0)
        expect(trie.nodeCount).toBe(0)
      }),
      { numRuns: 1_000 }
    )
  })
})
