import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { mayFilter, mayTopic } from '../../src/core/permissions.ts'
import { Principal, type TopicRule } from '../../src/core/principal.ts'
import { filterMatches } from '../../src/core/topic.ts'
import { coversFilter, intersectFilters } from '../../src/core/topic-filter-sets.ts'

/*
 * All topics of up to four levels over a small alphabet are the world: what a filter may bring is found
 * by asking for every one of them.
 */
const LEVELS = ['a', 'b', 'c', '$SYS', '']

function topicsOf(depth: number): string[] {
  if (depth === 1) return LEVELS
  return LEVELS.flatMap(level => topicsOf(depth - 1).map(rest => `${level}/${rest}`))
}

/** With the empty topic, which nobody can use: to filters it is one level like any other. */
const WORLD = [1, 2, 3, 4].flatMap(topicsOf)

const filters = fc
  .tuple(
    fc.array(fc.constantFrom('a', 'b', '+', '+', '$SYS', ''), { maxLength: 3 }),
    fc.constantFrom('#', '#', 'a', '+', '')
  )
  .map(([levels, last]) => [...levels, last].join('/'))
  .filter(filter => filter !== '')
const rules: fc.Arbitrary<TopicRule[]> = fc.array(
  fc.record({
    effect: fc.constantFrom('allow' as const, 'allow' as const, 'deny' as const),
    access: fc.constantFrom('read' as const, 'write' as const, 'readwrite' as const),
    filter: filters
  }),
  { maxLength: 5 }
)

function naive(who: Principal, access: 'read' | 'write', topic: string): boolean {
  const concerned = who.topics.filter(
    rule =>
      (rule.access === access || rule.access === 'readwrite') && filterMatches(rule.filter, topic)
  )
  if (concerned.some(rule => rule.effect === 'deny')) return false
  if (topic.startsWith('$')) {
    if (access === 'write' || (topic !== '$SYS' && !topic.startsWith('$SYS/'))) return false
    return concerned.length > 0 || who.isAdmin
  }
  return concerned.length > 0 || who.isUnrestricted
}

describe('permissions against every topic of a small world', () => {
  it('of a topic follow from the rules one by one', () => {
    fc.assert(
      fc.property(rules, fc.boolean(), fc.boolean(), (list, isFree, isAdmin) => {
        const tags = isAdmin ? ['administrator'] : []
        const who = new Principal('u', tags, '/', [], list, isFree)
        for (const topic of WORLD) {
          for (const access of ['read', 'write'] as const) {
            if (mayTopic(who, access, topic, 'c') !== naive(who, access, topic)) {
              expect([access, topic]).toBe('judged otherwise')
            }
          }
        }
      }),
      { numRuns: 300 }
    )
  })

  it('of a filter are certain when they are all or none', () => {
    const counts = { all: 0, some: 0, none: 0 }
    fc.assert(
      fc.property(rules, filters, fc.boolean(), fc.boolean(), (list, filter, isFree, isAdmin) => {
        const tags = isAdmin ? ['administrator'] : []
        const who = new Principal('u', tags, '/', [], list, isFree)
        const readable = WORLD.filter(topic => filterMatches(filter, topic)).map(topic =>
          naive(who, 'read', topic)
        )
        const verdict = mayFilter(who, filter, 'c')
        counts[verdict] += 1
        if (verdict === 'all') expect(readable).not.toContain(false)
        if (verdict === 'none') expect(readable).not.toContain(true)
        // One allow and no deny is decided exactly.
        const isSimple = list.length <= 1 && list.every(rule => rule.effect === 'allow')
        if (isSimple && verdict === 'some') expect(new Set(readable).size).toBe(2)
      }),
      { numRuns: 3_000 }
    )
    for (const count of Object.values(counts)) expect(count).toBeGreaterThan(100)
  })

  it('rest on filters as sets: what covers what, and what two have in common', () => {
    fc.assert(
      fc.property(filters, filters, (a, b) => {
        const common = intersectFilters(a, b)
        let isCovered = true
        for (const topic of WORLD) {
          const isInA = filterMatches(a, topic)
          const isInB = filterMatches(b, topic)
          if (isInB && !isInA) isCovered = false
          const isInCommon = common !== null && filterMatches(common, topic)
          if (isInCommon !== (isInA && isInB)) expect([common, topic]).toBe('judged otherwise')
        }
        expect(coversFilter(a, b)).toBe(isCovered)
      }),
      { numRuns: 3_000 }
    )
  })
})
