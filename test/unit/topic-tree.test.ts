import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { filterMatches } from '../../src/core/topic.ts'
import { type TopicCursor, type TopicEntry, TopicTree } from '../../src/core/topic-tree.ts'

interface Value {
  n: number
}

function treeOf(topics: readonly string[]): TopicTree<Value> {
  const tree = new TopicTree<Value>()
  topics.forEach((topic, n) => {
    tree.set(topic, { n })
  })
  return tree
}

/** All pieces of at most `max`; `between` may change the tree. */
function collectAll(
  tree: TopicTree<Value>,
  filter: string,
  max: number,
  between: () => void = () => undefined
): string[] {
  const found: string[] = []
  let cursor: TopicCursor<Value> | null = null
  do {
    const piece: TopicEntry<Value>[] = []
    cursor = tree.collect(filter, cursor, max, piece)
    expect(piece.length).toBeLessThanOrEqual(max)
    found.push(...piece.map(entry => entry.topic))
    between()
  } while (cursor !== null)
  return found
}

const topics = fc
  .array(fc.constantFrom('a', 'b', 'c', '', '$x', '+'), { minLength: 1, maxLength: 4 })
  .map(levels => levels.join('/'))
const filters = fc
  .array(fc.constantFrom('a', 'b', '', '$x', '+', '+', '#'), { minLength: 1, maxLength: 4 })
  .map(levels => levels.join('/'))

describe('the topic tree', () => {
  it('keeps one value a topic and says what was there before', () => {
    const tree = new TopicTree<Value>()
    expect(tree.set('a/b', { n: 1 })).toBeNull()
    expect(tree.set('a/b', { n: 2 })).toEqual({ n: 1 })
    expect(tree.set('a', { n: 3 })).toBeNull()
    expect(tree.get('a/b')).toEqual({ n: 2 })
    expect(tree.get('a/c')).toBeNull()
    expect(tree.size).toBe(2)
    expect(tree.delete('a/c')).toBeNull()
    expect(tree.delete('a/b')).toEqual({ n: 2 })
    expect(tree.delete('a/b')).toBeNull()
    expect([tree.size, tree.get('a')?.n]).toEqual([1, 3])
  })

  it('finds what a filter matches, in pieces of any size, each topic once', () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(topics, { maxLength: 40 }),
        fc.uniqueArray(fc.nat(39)),
        filters,
        fc.integer({ min: 1, max: 5 }),
        (names, gone, filter, max) => {
          const tree = treeOf(names)
          const deleted = new Set(gone.map(index => names[index]))
          for (const topic of deleted) if (topic !== undefined) tree.delete(topic)
          const expected = names.filter(t => !deleted.has(t) && filterMatches(filter, t)).sort()
          expect(collectAll(tree, filter, max).sort()).toEqual(expected)
          const visited: string[] = []
          tree.matching(filter, (topic, value) => {
            expect(names[value.n]).toBe(topic)
            visited.push(topic)
            return true
          })
          expect(visited.sort()).toEqual(expected)
          expect([...tree.entries()].length).toBe(tree.size)
          // A node for each prefix of what is there, and none for what is gone.
          const prefixes = names
            .filter(topic => !deleted.has(topic))
            .flatMap(topic => topic.split('/').map((_, i, all) => all.slice(0, i + 1).join('/')))
          expect(tree.nodeCount).toBe(new Set(prefixes).size)
          expect(tree.nodes).toBe(tree.nodeCount)
        }
      ),
      { numRuns: 3_000 }
    )
  })

  it('misses nothing that stays, and gives nothing twice, while topics come and go', () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(topics, { minLength: 4, maxLength: 40 }),
        filters,
        fc.infiniteStream(topics),
        (names, filter, stream) => {
          const tree = treeOf(names)
          const touched = new Set<string>()
          let turn = 0
          const found = collectAll(tree, filter, 1, () => {
            if (turn++ > 30) return
            const topic = stream.next().value as string
            touched.add(topic)
            if (tree.delete(topic) === null) tree.set(topic, { n: -1 })
          })
          const stable = (topic: string) => !touched.has(topic)
          expect(found.filter(stable).sort()).toEqual(
            names.filter(topic => stable(topic) && filterMatches(filter, topic)).sort()
          )
          for (const topic of found) expect(filterMatches(filter, topic)).toBe(true)
        }
      ),
      { numRuns: 2_000 }
    )
  })

  it('shows the value of the moment of reading, null when it is gone', () => {
    const tree = treeOf(['a/1', 'a/2'])
    const out: TopicEntry<Value>[] = []
    tree.collect('a/+', null, 10, out)
    tree.set('a/1', { n: 7 })
    tree.delete('a/2')
    expect(out.map(entry => entry.value)).toEqual([{ n: 7 }, null])
  })

  it('stops a piece that finds nothing after a bounded walk', () => {
    const tree = treeOf(Array.from({ length: 5_000 }, (_, i) => `d/${i}/t`))
    const out: TopicEntry<Value>[] = []
    let cursor = tree.collect('d/+/none', null, 10, out)
    expect(cursor).not.toBeNull()
    let pieces = 1
    while (cursor !== null) {
      cursor = tree.collect('d/+/none', cursor, 10, out)
      pieces += 1
    }
    expect(out).toEqual([])
    expect(pieces).toBeGreaterThan(25)
    expect(pieces).toBeLessThan(40)
  })

  it('lets a visitor stop the walk and delete what it sees', () => {
    const tree = treeOf(['a/1', 'a/2', 'a/3'])
    let seen = 0
    tree.matching('#', topic => {
      tree.delete(topic)
      seen += 1
      return seen < 2
    })
    expect([seen, tree.size]).toEqual([2, 1])
  })

  it('refuses a cursor with another filter', () => {
    const tree = treeOf(['a/1', 'a/2', 'a/3'])
    const cursor = tree.collect('a/+', null, 1, [])
    expect(() => tree.collect('b/+', cursor, 1, [])).toThrow()
  })

  it('does not overflow on topics of hundreds of levels', () => {
    const topic = 'x/'.repeat(400)
    const tree = treeOf([topic])
    expect(collectAll(tree, '#', 1)).toEqual([topic])
    expect(collectAll(tree, '+/'.repeat(400), 1)).toEqual([topic])
    tree.delete(topic)
    expect(collectAll(tree, '#', 1)).toEqual([])
  })
})
