import { describe, expect, it } from 'vitest'
import { BrokerError } from '../../src/core/errors.ts'
import type { Binding, QueueTarget, TopicTarget } from '../../src/core/exchange.ts'
import type { FieldTable } from '../../src/core/field-table.ts'
import { Routes, routeAll } from '../../src/core/route-all.ts'
import { EXCHANGE_BINDING, QUEUE_BINDING, SUBSCRIPTION } from '../../src/core/target-kinds.ts'
import { exchange, int, route, text, VOID } from '../support/routing.ts'

const [q1, q2, q3]: QueueTarget[] = [{ id: 1 }, { id: 2 }, { id: 3 }] as const

describe('bindings', () => {
  it.each(['direct', 'fanout', 'topic', 'headers'] as const)(
    'of a %s exchange are the same with the same queue, key and arguments',
    kind => {
      const from = exchange(kind)
      const table: FieldTable = [
        ['a', int(1)],
        ['b', text('x')]
      ]
      expect(from.bind(q1!, 'k', table)).toBe(true)
      expect(from.bind(q1!, 'k', [table[1]!, table[0]!])).toBe(false)
      expect(from.bind(q1!, 'k')).toBe(true)
      expect(from.bind(q1!, 'k', [['a', { type: 'l', value: 1n }], table[1]!])).toBe(true)
      expect(from.bind(q1!, 'other', table)).toBe(true)
      expect(from.bind(q2!, 'k', table)).toBe(true)
      expect(from.bindingCount).toBe(5)
      expect(from.bindingsOf(q1!).map(binding => binding.key)).toEqual(['k', 'k', 'k', 'other'])
      expect(from.hasBinding(q1!, 'k', table)).toBe(true)
      expect(from.unbind(q1!, 'k', table)).toBe(true)
      expect(from.unbind(q1!, 'k', table)).toBe(false)
      expect(from.hasBinding(q1!, 'k', table)).toBe(false)
      expect(from.unbind(q3!, 'k', table)).toBe(false)
      expect(from.unbindAll(q1!).length).toBe(3)
      expect(from.unbindAll(q1!)).toEqual([])
      expect(from.bindingCount).toBe(1)
      expect(from.unbind(q2!, 'k', table)).toBe(true)
      expect([from.bindingCount, from.isBoundTo(q2!), from.bindingsOf(q2!)]).toEqual([0, false, []])
    }
  )

  it('show their key as declared, and its topic form in a topic exchange', () => {
    const from = exchange('topic')
    from.bind(q1!, 'a/b.*.#')
    const seen: Binding[] = []
    from.forEachBinding(binding => {
      seen.push(binding)
    })
    expect(seen.map(({ key, filter, kind, target }) => ({ key, filter, kind, target }))).toEqual([
      { key: 'a/b.*.#', filter: 'a.b/+/#', kind: QUEUE_BINDING, target: q1 }
    ])
    const direct = exchange('direct')
    direct.bind(from, 'k')
    const [binding] = direct.bindingsOf(from)
    expect([binding?.kind, binding?.exchange, binding?.queue]).toEqual([
      EXCHANGE_BINDING,
      from,
      null
    ])
  })

  it('with arguments that no headers exchange understands are refused and not kept', () => {
    for (const value of [text('some'), text(''), int(1), VOID]) {
      const from = exchange('headers')
      let error: unknown
      try {
        from.bind(q1!, '', [['x-match', value]])
      } catch (caught) {
        error = caught
      }
      expect(error).toBeInstanceOf(BrokerError)
      expect((error as BrokerError).code).toBe('argumentInvalid')
      expect([from.bindingCount, from.bindingsOf(q1!)]).toEqual([0, []])
    }
  })
})

describe('routing', () => {
  it('by a direct exchange compares the whole key, with no swap', () => {
    const from = exchange('direct')
    from.bind(q1!, 'a.b')
    from.bind(q2!, 'a/b')
    from.bind(q3!, '*')
    expect(route(from, 'a.b')).toEqual([1])
    expect(route(from, 'a/b')).toEqual([2])
    expect(route(from, 'c')).toEqual([])
  })

  it('by a fanout exchange ignores keys and gives one copy a queue', () => {
    const from = exchange('fanout')
    from.bind(q1!, 'a')
    from.bind(q1!, 'b')
    from.bind(q2!, 'c')
    expect(route(from, 'anything')).toEqual([1, 2])
  })

  it('by a topic exchange takes binding keys in AMQP form and keys in topic form', () => {
    const from = exchange('topic')
    from.bind(q1!, 'sensors.*.#')
    from.bind(q2!, 'sensors.#')
    from.bind(q3!, '#.temp')
    expect(route(from, 'sensors/1/temp')).toEqual([1, 2, 3])
    expect(route(from, 'sensors')).toEqual([2])
    expect(route(from, 'sensors.1/temp')).toEqual([3])
  })

  it('gives MQTT subscriptions beside the queues', () => {
    const from = exchange('topic')
    const subscription: TopicTarget = { kind: SUBSCRIPTION }
    expect(from.subscribe('a/+', subscription)).toBe(true)
    expect(from.subscribe('a/+', subscription)).toBe(false)
    from.subscribe('a/#', subscription)
    from.bind(q1!, 'a.b')
    const routes = new Routes()
    expect(routeAll(from, 'a/b', null, routes)).toBe(true)
    expect([routes.queues, routes.subscriptions]).toEqual([[q1], [subscription]])
    expect(from.bindingCount).toBe(1)
    expect(from.unsubscribe('a/+', subscription)).toBe(true)
    expect(from.unsubscribe('a/+', subscription)).toBe(false)
    routes.clear()
    expect(routes.isEmpty).toBe(true)
    expect(routeAll(from, 'a/c', null, routes)).toBe(true)
    expect(routes.subscriptions).toEqual([subscription])
  })

  it('goes through exchanges behind exchanges, in circles too, with one copy a queue', () => {
    const a = exchange('fanout', 'a')
    const b = exchange('direct', 'b')
    const c = exchange('fanout', 'c')
    a.bind(b, '')
    b.bind(c, 'k')
    c.bind(a, '')
    c.bind(c, '')
    for (const each of [a, b, c]) each.bind(q1!, 'k')
    c.bind(q2!, '')
    expect(route(a, 'k')).toEqual([1, 2])
    expect(route(a, 'other')).toEqual([1])
    expect(route(c, 'k')).toEqual([1, 2])
  })

  it('swaps the key between a topic exchange and the others', () => {
    const topic = exchange('topic')
    const direct = exchange('direct')
    topic.bind(direct, '#')
    direct.bind(topic, 'x.y')
    direct.bind(q1!, 'a.b/c')
    topic.bind(q2!, 'x.*')
    expect(route(topic, 'a/b.c')).toEqual([1])
    expect(route(direct, 'x.y')).toEqual([2])
    expect(route(topic, 'x/y')).toEqual([2])
  })

  it('asks the alternate only for what the exchange itself matched nothing of', () => {
    const main = exchange('direct', 'main')
    const alternate = exchange('fanout', 'alternate')
    const behind = exchange('direct', 'behind')
    alternate.bind(q2!, '')
    main.setAlternate(alternate)
    main.bind(q1!, 'k')
    main.bind(behind, 'dead end')
    expect(route(main, 'k')).toEqual([1])
    expect(route(main, 'unknown')).toEqual([2])
    // A binding matched, though nothing lies behind it.
    expect(route(main, 'dead end')).toEqual([])
    behind.setAlternate(alternate)
    expect(route(main, 'dead end')).toEqual([2])
  })

  it('ends a chain of alternates where it meets an exchange again', () => {
    const a = exchange('direct', 'a')
    const b = exchange('direct', 'b')
    a.setAlternate(b)
    b.setAlternate(a)
    expect(route(a, 'k')).toEqual([])
    const routes = new Routes()
    expect(routeAll(a, 'k', null, routes)).toBe(false)
  })

  it('takes all keys of CC and BCC, and the alternate only if none of them matched', () => {
    const from = exchange('direct')
    const topic = exchange('topic')
    const alternate = exchange('fanout')
    alternate.bind(q3!, '')
    from.setAlternate(alternate)
    from.bind(q1!, 'one')
    from.bind(q2!, 'two')
    from.bind(topic, 'one')
    topic.bind(q2!, 'other.key')
    const ids = (key: string, more: string[]) => {
      const routes = new Routes()
      routeAll(from, key, null, routes, more)
      return routes.queues.map(queue => queue.id).sort()
    }
    expect(ids('none', ['one'])).toEqual([1])
    expect(ids('one', ['other.key'])).toEqual([1, 2])
    expect(ids('one', ['two', 'one'])).toEqual([1, 2])
    expect(ids('none', ['none either'])).toEqual([3])
  })

  it('reaches thousands of queues, each once, and holds nothing afterwards', () => {
    const from = exchange('fanout')
    for (let id = 0; id < 3_000; id++) {
      const queue = { id }
      from.bind(queue, 'a')
      from.bind(queue, 'b')
    }
    const routes = new Routes()
    for (let turn = 0; turn < 2; turn++) {
      routes.clear()
      routeAll(from, '', null, routes)
      expect(routes.queues.length).toBe(3_000)
      expect(new Set(routes.queues).size).toBe(3_000)
    }
    expect([routes.matched.length, routes.visited.size]).toEqual([0, 0])
  })
})

describe('the version of an exchange', () => {
  it('rises with each change, or tells the one key that is concerned', () => {
    for (const kind of ['direct', 'fanout', 'topic', 'headers'] as const) {
      const from = exchange(kind)
      let version = from.version
      const hasRisen = () => {
        const before = version
        version = from.version
        return version > before
      }
      from.bind(q1!, 'a.b')
      expect(hasRisen()).toBe(true)
      from.bind(q1!, 'a.b')
      expect(hasRisen()).toBe(false)
      const told: string[] = []
      from.onExactChange = key => {
        told.push(key)
      }
      from.bind(q2!, 'a.b')
      from.unbind(q2!, 'a.b')
      const isExact = kind === 'topic' || kind === 'direct'
      const key = kind === 'topic' ? 'a/b' : 'a.b'
      expect(told).toEqual(isExact ? [key, key] : [])
      expect(hasRisen()).toBe(!isExact)
      from.bind(q2!, 'a.*')
      expect(hasRisen()).toBe(kind !== 'direct')
      from.setAlternate(exchange('fanout'))
      expect(hasRisen()).toBe(true)
    }
  })

  it('follows subscriptions in the same way', () => {
    const from = exchange('topic')
    const told: string[] = []
    from.onExactChange = topic => {
      told.push(topic)
    }
    const subscription: TopicTarget = { kind: SUBSCRIPTION }
    from.subscribe('a/b', subscription)
    from.unsubscribe('a/b', subscription)
    expect([told, from.version]).toEqual([['a/b', 'a/b'], 0])
    from.subscribe('a/+', subscription)
    from.unsubscribe('a/+', subscription)
    expect([told.length, from.version]).toEqual([2, 2])
  })

  it('rises in every exchange from which a route leads to the change, circles and all', () => {
    const a = exchange('topic', 'a')
    const b = exchange('direct', 'b')
    const c = exchange('fanout', 'c')
    const stranger = exchange('fanout', 'stranger')
    a.bind(b, '#')
    b.setAlternate(c)
    c.bind(a, '')
    expect(route(a, 'k')).toEqual([])
    const before = [a.version, b.version, stranger.version]
    c.bind(q1!, '')
    expect(a.version).toBeGreaterThan(before[0]!)
    expect(b.version).toBeGreaterThan(before[1]!)
    expect(stranger.version).toBe(before[2])
    expect([a.hasExchangeTargets, b.hasExchangeTargets, stranger.hasExchangeTargets]).toEqual([
      true,
      true,
      false
    ])
  })

  it('no longer follows what is unbound', () => {
    const a = exchange('fanout', 'a')
    const b = exchange('fanout', 'b')
    a.bind(b, 'x')
    a.bind(b, 'y')
    a.unbind(b, 'x')
    expect(b.upstreamExchanges).toEqual([a])
    a.unbind(b, 'y')
    expect([b.upstreamExchanges, a.hasExchangeTargets]).toEqual([[], false])
    const version = a.version
    b.bind(q1!, '')
    expect(a.version).toBe(version)
  })
})

describe('an exchange that goes', () => {
  it('takes all bindings with it, both ways, and itself as an alternate', () => {
    const source = exchange('fanout', 'source')
    const middle = exchange('topic', 'middle')
    const behind = exchange('direct', 'behind')
    const other = exchange('direct', 'other')
    source.bind(middle, 'a')
    source.bind(middle, 'b')
    source.bind(q1!, '')
    middle.bind(behind, '#')
    middle.bind(q2!, 'k')
    middle.bind(middle, 'loop')
    middle.setAlternate(other)
    other.setAlternate(middle)
    const removed = middle.detach()
    expect(removed.map(binding => [binding.source.name, binding.key]).sort()).toEqual([
      ['middle', '#'],
      ['middle', 'k'],
      ['middle', 'loop'],
      ['source', 'a'],
      ['source', 'b']
    ])
    expect([source.bindingCount, middle.bindingCount, middle.trie.size]).toEqual([1, 0, 0])
    expect([other.alternate, middle.alternate]).toEqual([null, null])
    for (const each of [middle, behind, other]) expect(each.upstreamExchanges).toEqual([])
    expect(route(source, '')).toEqual([1])
  })
})
