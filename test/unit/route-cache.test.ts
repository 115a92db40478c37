/** What is remembered of routes, and how much of it. */
import { describe, expect, it } from 'vitest'
import { Exchange } from '../../src/core/exchange.ts'
import { Route, SessionTarget } from '../../src/core/route.ts'
import { RouteCache } from '../../src/core/route-cache.ts'
import { Queue } from '../../src/core/queue.ts'
import { sessionQueueOptions } from '../../src/core/queue-options.ts'
import { Session } from '../../src/core/session.ts'

const queue = new Queue(1, 'c', '/', sessionQueueOptions(false), true)
const session = new Session(1, 'c', '/', '', queue)

function topicExchange(): Exchange {
  return new Exchange({
    name: 'amq.topic',
    kind: 'topic',
    isDurable: true,
    isAutoDelete: false,
    isInternal: false
  })
}

function routeTo(count: number, exchange: Exchange): Route {
  const targets = Array.from({ length: count }, () => new SessionTarget(session))
  return new Route(targets, [], exchange.version)
}

function destinations(cache: RouteCache): number {
  let sum = 0
  for (const map of [cache.routes, cache.routesByAmqpKey]) {
    for (const route of map.values()) sum += route.sessions.length
  }
  return sum
}

describe('the cache of routes', () => {
  it('is bounded in routes, and the oldest go when others come again and again', () => {
    const cache = new RouteCache(topicExchange())
    const use = (key: string) => {
      if (cache.routes.has(key)) return
      cache.remember(cache.routes, key, routeTo(1, cache.exchange), 10)
    }
    for (let i = 0; i < 10; i++) use(`old/${i}`)
    for (let i = 0; i < 25; i++) use(`once/${i}`)
    expect(cache.routes.size).toBe(10)
    expect([...cache.routes.keys()].filter(key => key.startsWith('old/'))).toHaveLength(8)
    for (let i = 0; i < 10 * 100; i++) use(`new/${i % 10}`)
    expect([...cache.routes.keys()].sort()).toEqual(
      Array.from({ length: 10 }, (_, i) => `new/${i}`)
    )
  })

  it('finds some of the keys that come in turn, however many there are', () => {
    const cache = new RouteCache(topicExchange())
    let hits = 0
    for (let i = 0; i < 20_000; i++) {
      const key = `t/${i % 200}`
      if (cache.routes.has(key)) hits++
      else cache.remember(cache.routes, key, routeTo(1, cache.exchange), 100)
    }
    expect(hits).toBeGreaterThan(20_000 * 0.4)
  })

  it('is bounded in the characters of all keys together', () => {
    const cache = new RouteCache(topicExchange())
    const key = 'k'.repeat(2_000)
    for (let i = 0; i < 20; i++) {
      cache.remember(cache.routes, `${key}${i}`, routeTo(0, cache.exchange), 10)
    }
    expect(cache.routes.size).toBe(5)
  })

  it('is bounded in the destinations of all routes together', () => {
    const cache = new RouteCache(topicExchange())
    for (let i = 0; i < 1_000; i++) {
      const map = i % 3 === 0 ? cache.routesByAmqpKey : cache.routes
      cache.remember(map, `t/${i % 70}`, routeTo(i % 50, cache.exchange), 20)
      expect(destinations(cache)).toBeLessThanOrEqual((20 * 1_024) / 80)
      if (i % 7 === 0) cache.forget(`t/${i % 70}`)
      if (i % 11 === 0) cache.exchange.onExactChange?.('t/1')
    }
    expect(cache.routes.size + cache.routesByAmqpKey.size).toBeGreaterThan(2)
  })

  it('keeps a route that is larger than the bound alone', () => {
    const cache = new RouteCache(topicExchange())
    cache.remember(cache.routesByAmqpKey, 'a', routeTo(5, cache.exchange), 10)
    cache.remember(cache.routes, 'b', routeTo(5, cache.exchange), 10)
    cache.remember(cache.routes, 'c', routeTo(500, cache.exchange), 10)
    expect([...cache.routes.keys(), ...cache.routesByAmqpKey.keys()]).toEqual(['c'])
    for (let i = 0; i < 16; i++) cache.remember(cache.routes, 'd', routeTo(5, cache.exchange), 10)
    expect([...cache.routes.keys()]).toEqual(['d'])
  })

  it('holds nothing of an older version: no session that has ended stays in memory for it', () => {
    const cache = new RouteCache(topicExchange())
    for (let i = 0; i < 5; i++) {
      cache.remember(cache.routes, `t/${i}`, routeTo(1, cache.exchange), 10)
    }
    cache.exchange.version++
    cache.remember(cache.routes, 'new', routeTo(1, cache.exchange), 10)
    expect([...cache.routes.keys()]).toEqual(['new'])
  })

  it('keeps one object for all keys that lead to one session in the same way, and only for those', () => {
    const cache = new RouteCache(topicExchange())
    const remember = (key: string, change: (target: SessionTarget) => void = () => undefined) => {
      const target = new SessionTarget(session)
      change(target)
      cache.remember(cache.routes, key, new Route([target], [], cache.exchange.version), 100)
      return cache.routes.get(key)
    }
    const first = remember('a')
    expect(remember('b')).toBe(first)
    const others = [
      remember('c', target => {
        target.qos = 1
      }),
      remember('d', target => {
        target.retainAsPublished = true
      }),
      remember('e', target => {
        target.identifiers = [7]
      }),
      remember('f', target => {
        target.noLocal = []
      })
    ]
    expect(new Set([first, ...others]).size).toBe(5)
    expect(cache.routes.get('c')!.sessions[0]!.qos).toBe(1)
    expect(cache.routes.get('a')!.sessions[0]!.qos).toBe(0)
  })
})
