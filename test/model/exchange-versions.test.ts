/** Routes that are remembered by an exchange's version, against routes made anew, while bindings come and go. */
import { describe, expect, it } from 'vitest'
import type { Exchange, QueueTarget } from '../../src/core/exchange.ts'
import { between, type Random, seededRandom } from '../support/random.ts'
import { exchange, route, text } from '../support/routing.ts'

const KEYS = ['a', 'b', 'c']
const PLAIN_KINDS = ['direct', 'fanout', 'topic'] as const
const KINDS = [...PLAIN_KINDS, 'headers'] as const
const QUEUES: QueueTarget[] = [1, 2, 3, 4].map(id => ({ id }))

/** As a front-end does it: headers are read only where an exchange on the way looks at them. */
class Remembered {
  readonly #routes = new Map<string, { version: number; ids: number[] }>()
  readonly #from: Exchange

  readonly #asks: boolean

  constructor(from: Exchange, asks: boolean) {
    this.#from = from
    this.#asks = asks
    from.onExactChange = key => {
      this.#routes.delete(key)
    }
  }

  route(key: string): number[] {
    const from = this.#from
    if (this.#asks && from.readsHeaders) return route(from, key, HEADERS)
    const known = this.#routes.get(key)
    if (known !== undefined && known.version === from.version) return known.ids
    const ids = route(from, key)
    this.#routes.set(key, { version: from.version, ids })
    return ids
  }
}

const HEADERS = [['h', text('x')]] as const satisfies Parameters<typeof route>[2]

const pick = <T>(random: Random, list: readonly T[]): T =>
  list[between(random, 0, list.length - 1)]!

function change(random: Random, exchanges: readonly Exchange[]): void {
  const from = pick(random, exchanges)
  const to = random() < 0.5 ? pick(random, QUEUES) : pick(random, exchanges)
  const key = pick(random, KEYS)
  const table = from.kind === 'headers' && random() < 0.5 ? [...HEADERS] : []
  const dice = random()
  if (dice < 0.5) from.bind(to, key, table)
  else if (dice < 0.75) from.unbind(to, key, table)
  else if (dice < 0.9) from.unbindAll(to)
  else if (dice < 0.97) from.setAlternate(random() < 0.5 ? null : pick(random, exchanges))
  else from.detach()
}

describe('a remembered route', () => {
  it.each([1, 2, 3, 4, 5, 6, 7, 8])('is the one that would be found now, seed %i', seed => {
    const random = seededRandom(seed)
    const hasHeaders = seed % 2 === 0
    const kinds = hasHeaders ? KINDS : PLAIN_KINDS
    const exchanges = Array.from({ length: 7 }, (_, i) => exchange(pick(random, kinds), `e${i}`))
    const caches = exchanges.map(each => new Remembered(each, hasHeaders))
    for (let step = 0; step < 2000; step++) {
      change(random, exchanges)
      // Not all of them each time: what nobody asked for in between must hold, too.
      for (const [i, cache] of caches.entries()) {
        if (random() < 0.7) continue
        const key = pick(random, KEYS)
        expect(cache.route(key), `step ${step}`).toEqual(route(exchanges[i]!, key, HEADERS))
      }
    }
  })
})
