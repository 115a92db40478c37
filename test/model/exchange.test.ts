import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Exchange, type QueueTarget } from '../../src/core/exchange.ts'
import type { FieldTable, FieldValue } from '../../src/core/field-table.ts'
import { Routes, routeAll } from '../../src/core/route-all.ts'

/*
 * A few exchanges and queues, bound at random, against a list of bindings and the words of AMQP: keys
 * are compared in AMQP form, straight from the strings.
 */
const KINDS = ['direct', 'fanout', 'topic', 'headers', 'topic'] as const
const QUEUES: QueueTarget[] = [{ id: 0 }, { id: 1 }, { id: 2 }]

interface ModelBinding {
  source: number
  /** 0 to 4: an exchange; from 5: a queue. */
  target: number
  key: string
  table: FieldTable
}

const words = fc.constantFrom('a', 'b', '', '/', 'a/b')
const keys = fc.array(words, { minLength: 1, maxLength: 4 }).map(list => list.join('.'))
const bindingKeys = fc
  .array(fc.oneof(words, fc.constantFrom('*', '#')), { minLength: 1, maxLength: 4 })
  .map(list => list.join('.'))
const values = fc.constantFrom<FieldValue>(
  { type: 'I', value: 1 },
  { type: 'S', value: '1' },
  { type: 't', value: true }
)
const headers: fc.Arbitrary<FieldTable> = fc.uniqueArray(
  fc.tuple(fc.constantFrom('a', 'b', 'x-c'), values),
  { selector: ([name]) => name, maxLength: 3 }
)
const modes = fc.constantFrom('all', 'any', 'all-with-x', 'any-with-x')
const tables: fc.Arbitrary<FieldTable> = fc
  .tuple(headers, fc.option(modes, { nil: null }))
  .map(([fields, mode]) =>
    mode === null ? fields : [...fields, ['x-match', { type: 'S', value: mode }] as const]
  )
const bindings = fc.record({
  source: fc.nat(KINDS.length - 1),
  target: fc.nat(KINDS.length + QUEUES.length - 1),
  key: fc.oneof(bindingKeys, keys),
  table: fc.oneof({ weight: 3, arbitrary: fc.constant([]) }, { weight: 2, arbitrary: tables })
})
const steps = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: fc.record({ verb: fc.constant('bind' as const), binding: bindings }) },
    {
      weight: 2,
      arbitrary: fc.record({
        verb: fc.constant('unbind' as const),
        binding: bindings,
        at: fc.nat()
      })
    },
    {
      weight: 1,
      arbitrary: fc.record({ verb: fc.constant('unbind all' as const), target: fc.nat(7) })
    },
    {
      weight: 1,
      arbitrary: fc.record({
        verb: fc.constant('alternate' as const),
        of: fc.nat(4),
        is: fc.option(fc.nat(4), { nil: null })
      })
    },
    {
      weight: 4,
      arbitrary: fc.record({
        verb: fc.constant('publish' as const),
        to: fc.nat(4),
        key: keys,
        more: fc.option(fc.array(keys, { maxLength: 2 }), { nil: null }),
        headers
      })
    }
  ),
  { minLength: 15, maxLength: 60, size: 'max' }
)

function topicMatches(wanted: string[], key: string[]): boolean {
  const [word, ...rest] = wanted
  if (word === undefined) return key.length === 0
  if (word === '#') {
    return topicMatches(rest, key) || (key.length > 0 && topicMatches(wanted, key.slice(1)))
  }
  return key.length > 0 && (word === '*' || word === key[0]) && topicMatches(rest, key.slice(1))
}

function headersMatch(asked: FieldTable, given: FieldTable): boolean {
  const mode = String(asked.find(([name]) => name === 'x-match')?.[1].value ?? 'all')
  const wanted = asked.filter(
    ([name]) => name !== 'x-match' && (mode.endsWith('x') || !name.startsWith('x-'))
  )
  const found = ([name, value]: readonly [string, FieldValue]) =>
    given.some(header => header[0] === name && JSON.stringify(header[1]) === JSON.stringify(value))
  return mode.startsWith('all') ? wanted.every(found) : wanted.some(found)
}

class Model {
  bindings: ModelBinding[] = []
  readonly alternates: (number | null)[] = KINDS.map(() => null)

  indexOf(binding: ModelBinding): number {
    const text = (each: ModelBinding) =>
      JSON.stringify([each.source, each.target, each.key, [...each.table].sort()])
    return this.bindings.findIndex(each => text(each) === text(binding))
  }

  matching(exchange: number, published: string[], given: FieldTable): ModelBinding[] {
    return this.bindings.filter(({ source, key, table }) => {
      if (source !== exchange) return false
      if (KINDS[source] === 'fanout') return true
      if (KINDS[source] === 'headers') return headersMatch(table, given)
      return published.some(each =>
        KINDS[source] === 'direct' ? each === key : topicMatches(key.split('.'), each.split('.'))
      )
    })
  }

  route(to: number, published: string[], given: FieldTable, seen: Set<number>): Set<number> {
    const queues = new Set<number>()
    if (seen.has(to)) return queues
    seen.add(to)
    const matched = this.matching(to, published, given)
    const further = matched.length === 0 ? [this.alternates[to] ?? null] : []
    for (const { target } of matched) {
      if (target >= KINDS.length) queues.add(target - KINDS.length)
      else further.push(target)
    }
    for (const next of further) {
      if (next === null) continue
      for (const queue of this.route(next, published, given, seen)) queues.add(queue)
    }
    return queues
  }
}

const swap = (key: string) => key.replace(/[./]/g, unit => (unit === '.' ? '/' : '.'))

describe('exchanges against a list of bindings', () => {
  it('route every message, through any bindings, to the queues that the list gives', () => {
    let routed = 0
    fc.assert(
      fc.property(steps, sequence => {
        const model = new Model()
        const exchanges = KINDS.map((kind, i) => new Exchange({ name: `${i}`, kind }))
        const targetOf = (at: number) => exchanges[at] ?? QUEUES[at - KINDS.length]!
        // What was routed stays right until the version changes: as a cache of routes needs it.
        const cached = new Map<string, { version: number; queues: string }>()
        const routes = new Routes()
        for (const step of sequence) {
          if (step.verb === 'bind') {
            const { source, target, key, table } = step.binding
            const isNew = model.indexOf(step.binding) === -1
            expect(exchanges[source]!.bind(targetOf(target), key, table)).toBe(isNew)
            if (isNew) model.bindings.push(step.binding)
          } else if (step.verb === 'unbind') {
            const known = model.bindings[step.at % (model.bindings.length + 1)]
            const binding = known ?? step.binding
            const index = model.indexOf(binding)
            const { source, target, key, table } = binding
            expect(exchanges[source]!.unbind(targetOf(target), key, table)).toBe(index !== -1)
            if (index !== -1) model.bindings.splice(index, 1)
          } else if (step.verb === 'unbind all') {
            const target = targetOf(step.target)
            const removed = exchanges.flatMap(exchange => exchange.unbindAll(target))
            const left = model.bindings.filter(binding => binding.target !== step.target)
            expect(removed.length).toBe(model.bindings.length - left.length)
            model.bindings = left
          } else if (step.verb === 'alternate') {
            model.alternates[step.of] = step.is
            exchanges[step.of]!.setAlternate(step.is === null ? null : exchanges[step.is]!)
          } else {
            const from = exchanges[step.to]!
            const own = (key: string) => (from.kind === 'topic' ? swap(key) : key)
            routes.clear()
            const more = step.more?.map(own) ?? null
            const isRouted = routeAll(from, own(step.key), step.headers, routes, more)
            const all = [step.key, ...(step.more ?? [])]
            const expected = [...model.route(step.to, all, step.headers, new Set())].sort()
            expect(routes.queues.map(queue => queue.id).sort()).toEqual(expected)
            expect(isRouted).toBe(expected.length > 0)
            if (isRouted) routed += 1
            const id = JSON.stringify([step.to, all, step.headers])
            const remembered = cached.get(id)
            if (remembered?.version === from.version) {
              expect(remembered.queues).toBe(String(expected))
            }
            cached.set(id, { version: from.version, queues: String(expected) })
          }
          const count = exchanges.reduce((sum, exchange) => sum + exchange.bindingCount, 0)
          expect(count).toBe(model.bindings.length)
        }
      }),
      { numRuns: 600 }
    )
    // The test must not pass for want of matches.
    expect(routed).toBeGreaterThan(1_000)
  })
})
