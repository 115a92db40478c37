import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { delayOf, withDelayDone } from '../../src/core/delay.ts'
import { DelayStore } from '../../src/core/delay-store.ts'
import type { FieldValue } from '../../src/core/field-table.ts'

type Entry = [dueAt: number, sequence: number, segment: number]

function all(store: DelayStore): Entry[] {
  const found: Entry[] = []
  let isThere = store.first()
  while (isThere) {
    found.push([store.dueAt, store.sequence, store.segment])
    isThere = store.after(store.dueAt, store.sequence)
  }
  return found
}

describe('a store of delayed messages', () => {
  it('does what a sorted list does', () => {
    const move = fc.record({
      what: fc.constantFrom('in', 'in', 'in', 'many', 'first', 'out', 'again', 'absent'),
      due: fc.integer({ min: 1, max: 400 }),
      pick: fc.nat()
    })
    fc.assert(
      fc.property(fc.array(move, { maxLength: 60 }), moves => {
        const store = new DelayStore(1, '/', 'e', true)
        let list: Entry[] = []
        const insert = (due: number): void => {
          const { nextSequence } = store
          expect(store.insert(due, nextSequence, nextSequence, 2, 3, 4)).toBe(true)
          list.push([due, nextSequence, nextSequence])
          list.sort((a, b) => a[0] - b[0] || a[1] - b[1])
        }
        for (const { what, due, pick } of moves) {
          const at = list.length === 0 ? -1 : pick % list.length
          if (what === 'in') insert(due)
          else if (what === 'many') for (let i = 0; i < 300; i++) insert(due + ((i * pick) % 97))
          else if (what === 'absent') expect(store.remove(due + 0.5, 1)).toBe(false)
          else if (at < 0) expect(store.first()).toBe(false)
          else if (what === 'first') {
            for (let left = pick % 200; left > 0 && list.length > 0; left--) {
              const [first, sequence] = list.shift()!
              expect(store.next).toBe(first)
              expect(store.remove(first, sequence)).toBe(true)
            }
          } else if (what === 'out') {
            const [[old, sequence, segment]] = list.splice(at, 1) as [Entry]
            expect(store.remove(old, sequence)).toBe(true)
            expect([store.segment, store.payloadBytes, store.flags]).toEqual([segment, 3, 4])
          } else {
            const [old, sequence, segment] = list[at]!
            expect(store.insert(old, sequence, segment + 1_000, 5, 3, 4)).toBe(false)
            expect(store.segment).toBe(segment)
            list = list.map(each =>
              each[1] === sequence ? [old, sequence, segment + 1_000] : each
            )
          }
        }
        expect(all(store)).toEqual(list)
        expect([store.count, store.bytes]).toEqual([list.length, list.length * 3])
        expect(store.next).toBe(list[0]?.[0] ?? Number.POSITIVE_INFINITY)
      }),
      { numRuns: 200 }
    )
  })

  it('keeps sequences that are larger than 32 bits, and delays of years', () => {
    const store = new DelayStore(1, '/', 'e', true)
    store.nextSequence = 2 ** 40
    expect(store.insert(Number.MAX_SAFE_INTEGER, 2 ** 40, 7, 8, 9, 10)).toBe(true)
    expect(store.nextSequence).toBe(2 ** 40 + 1)
    expect(store.find(Number.MAX_SAFE_INTEGER, 2 ** 40)).toBe(true)
  })
})

describe('x-delay', () => {
  const l = (value: bigint): FieldValue => ({ type: 'l', value })
  it.each([
    [{ type: 'I', value: 5000 }, 5000, { type: 'I', value: -5000 }],
    [{ type: 'b', value: 5 }, 5, { type: 'I', value: -5 }],
    [{ type: 'i', value: 4_000_000_000 }, 4_000_000_000, l(-4_000_000_000n)],
    [l(157_680_000_000n), 157_680_000_000, l(-157_680_000_000n)],
    [l(2n ** 62n), Number.MAX_SAFE_INTEGER, l(-(2n ** 62n))],
    [{ type: 'd', value: 1500.7 }, 1500, { type: 'd', value: -1500.7 }],
    [{ type: 'f', value: 2.5 }, 2, { type: 'f', value: -2.5 }],
    [{ type: 'D', scale: 1, value: 25 }, 2, { type: 'd', value: -2.5 }],
    [{ type: 'S', value: '250' }, 250, { type: 'S', value: '-250' }],
    [{ type: 'S', value: ' +7.9 ' }, 7, { type: 'S', value: '-7.9' }],
    [{ type: 'I', value: 0 }, 0, null],
    [{ type: 'I', value: -5 }, 0, null],
    [{ type: 'd', value: 0.9 }, 0, null],
    [{ type: 'd', value: Number.NaN }, 0, null],
    [{ type: 'S', value: 'soon' }, 0, null],
    [{ type: 'S', value: '-1' }, 0, null],
    [{ type: 'S', value: '' }, 0, null],
    [{ type: 't', value: true }, 0, null],
    [{ type: 'V', value: null }, 0, null]
  ] as [FieldValue, number, FieldValue | null][])(
    '%# delays, and is shown negated',
    (value, ms, shown) => {
      const headers = [['x-delay', value] as const]
      expect(delayOf(headers)).toBe(ms)
      const done = withDelayDone(headers)
      expect(done).toEqual(shown === null ? headers : [['x-delay', shown]])
      expect(delayOf(done)).toBe(0)
    }
  )

  it('that is missing delays nothing', () => {
    expect([delayOf(null), delayOf([])]).toEqual([0, 0])
  })
})
