import { describe, expect, it } from 'vitest'
import type { Exchange, QueueTarget } from '../../src/core/exchange.ts'
import { Exchange as ExchangeClass } from '../../src/core/exchange.ts'
import type { FieldTable } from '../../src/core/field-table.ts'
import { checkHashArguments } from '../../src/core/pick-binding.ts'
import { exchange, int, route, text } from '../support/routing.ts'

const QUEUES: QueueTarget[] = Array.from({ length: 6 }, (_, i) => ({ id: 10 + i * 7 }))
const KEYS = Array.from({ length: 20_000 }, (_, i) => `device.${i}.temperature`)

/** By queue id, how many of the keys it gets; each goes to exactly one. */
function shares(from: Exchange, headers: (key: string) => FieldTable | null = () => null) {
  const counts = new Map<number, number>()
  for (const key of KEYS) {
    const ids = route(from, key, headers(key))
    expect(ids.length).toBe(1)
    counts.set(ids[0]!, (counts.get(ids[0]!) ?? 0) + 1)
  }
  return counts
}

describe('x-consistent-hash', () => {
  it('gives each key to one queue, always the same, in even shares', () => {
    const from = exchange('x-consistent-hash')
    for (const queue of QUEUES) from.bind(queue, '1')
    const again = exchange('x-consistent-hash', 'another name')
    for (const queue of [...QUEUES].reverse()) again.bind(queue, '1')
    for (const key of KEYS.slice(0, 500)) expect(route(from, key)).toEqual(route(again, key))
    for (const count of shares(from).values()) {
      expect(Math.abs(count / (KEYS.length / QUEUES.length) - 1)).toBeLessThan(0.06)
    }
  })

  it('gives shares by weight', () => {
    const from = exchange('x-consistent-hash')
    QUEUES.forEach((queue, i) => {
      from.bind(queue, String(i + 1))
    })
    const counts = shares(from)
    QUEUES.forEach(({ id }, i) => {
      const expected = (KEYS.length * (i + 1)) / 21
      expect(Math.abs(counts.get(id)! / expected - 1)).toBeLessThan(0.1)
    })
  })

  it('moves nothing but the share of the queue that comes or goes', () => {
    const from = exchange('x-consistent-hash')
    for (const queue of QUEUES) from.bind(queue, '2')
    const before = KEYS.map(key => route(from, key)[0])
    const gone = QUEUES[2]!
    from.unbindAll(gone)
    KEYS.forEach((key, i) => {
      const now = route(from, key)[0]
      if (before[i] === gone.id) expect(now).not.toBe(gone.id)
      else expect(now).toBe(before[i])
    })
    from.bind(gone, '2')
    expect(KEYS.map(key => route(from, key)[0])).toEqual(before)
  })

  it('hashes a header if told to, whatever the key', () => {
    const from = new ExchangeClass({
      name: 'h',
      kind: 'x-consistent-hash',
      arguments: [['hash-header', text('customer')]]
    })
    for (const queue of QUEUES) from.bind(queue, '1')
    const counts = shares(from, key => [['customer', text(key)]])
    expect(counts.size).toBe(QUEUES.length)
    const one = shares(from, () => [['customer', int(7)]])
    expect(one.size).toBe(1)
    expect(shares(from).size).toBe(1)
    expect(from.readsHeaders).toBe(true)
    expect(exchange('x-consistent-hash').readsHeaders).toBe(false)
  })

  it('refuses a binding key that is no weight, and arguments that make no sense', () => {
    const from = exchange('x-consistent-hash')
    for (const key of ['', '0', 'ten', '-1', '1.5', '12345678']) {
      expect(() => from.bind(QUEUES[0]!, key)).toThrow()
    }
    expect(from.bindingCount).toBe(0)
    const bad: FieldTable[] = [
      [['hash-header', int(1)]],
      [['hash-property', text('user_id')]],
      [
        ['hash-header', text('a')],
        ['hash-property', text('message_id')]
      ]
    ]
    for (const table of bad) expect(() => checkHashArguments(table)).toThrow()
    checkHashArguments([['hash-property', text('timestamp')]])
  })
})

describe('x-random', () => {
  it('gives each message to one queue, all about as often, in no order', () => {
    const from = exchange('x-random')
    expect(route(from, 'k')).toEqual([])
    for (const queue of QUEUES) from.bind(queue, '')
    for (const count of shares(from).values()) {
      expect(Math.abs(count / (KEYS.length / QUEUES.length) - 1)).toBeLessThan(0.1)
    }
    const row = KEYS.slice(0, 200).map(() => route(from, 'k')[0])
    expect(new Set(row).size).toBe(QUEUES.length)
    expect(row.slice(0, 100)).not.toEqual(row.slice(100))
  })
})
