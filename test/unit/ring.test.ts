import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ArraySet } from '../../src/lib/array-set.ts'
import { Ring } from '../../src/lib/ring.ts'

const commands = fc.array(
  fc.record({
    verb: fc.constantFrom('push', 'push', 'push', 'unshift', 'shift', 'pop', 'at', 'clear', 'many'),
    value: fc.nat(50)
  }),
  { maxLength: 150, size: 'max' }
)

describe('the ring', () => {
  it('does what an array does, while it grows and shrinks', () => {
    fc.assert(
      fc.property(commands, steps => {
        const ring = new Ring<number>()
        let model: number[] = []
        for (const { verb, value } of steps) {
          if (verb === 'push' || verb === 'unshift') {
            ring[verb](value)
            model[verb](value)
          } else if (verb === 'shift' || verb === 'pop') {
            expect(ring[verb]()).toBe(model[verb]())
          } else if (verb === 'at') {
            expect(ring.at(value - 5)).toBe(value < 5 ? undefined : model[value - 5])
          } else if (verb === 'clear' && value < 5) {
            ring.clear()
            model = []
          } else if (verb === 'many') {
            for (let i = 0; i < value; i++) expect(ring.shift()).toBe(model.shift())
          }
          expect(ring.length).toBe(model.length)
          expect(ring.peek()).toBe(model[0])
        }
        expect(Array.from({ length: ring.length }, (_, i) => ring.at(i))).toEqual(model)
      }),
      { numRuns: 500 }
    )
  })

  it('gives its memory back when it is emptied', () => {
    const ring = new Ring<number>()
    const capacity = () => (ring as unknown as { slots: unknown[] }).slots.length
    for (let i = 0; i < 10_000; i++) ring.push(i)
    expect(capacity()).toBeGreaterThanOrEqual(10_000)
    while (ring.shift() !== undefined);
    expect(capacity()).toBe(8)
  })
})

describe('the array set', () => {
  it('does what a set does, below and above the size from which it keeps an index', () => {
    const values = fc.nat(40)
    fc.assert(
      fc.property(
        values,
        fc.array(fc.tuple(fc.boolean(), values), { maxLength: 200, size: 'max' }),
        (first, steps) => {
          const set = new ArraySet(first)
          const model = new Set([first])
          for (const [isAdded, value] of steps) {
            if (isAdded) expect(set.add(value)).toBe(!model.has(value))
            else expect(set.delete(value)).toBe(model.has(value))
            if (isAdded) model.add(value)
            else model.delete(value)
            expect(set.has(value)).toBe(model.has(value))
            expect(set.size).toBe(model.size)
          }
          const ascending = (a: number, b: number) => a - b
          expect([...set.items].sort(ascending)).toEqual([...model].sort(ascending))
        }
      ),
      { numRuns: 500 }
    )
  })
})
