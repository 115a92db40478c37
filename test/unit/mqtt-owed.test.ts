import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { OwedAcks } from '../../src/broker/owed.ts'

class Seen {
  readonly list: [number, number][] = []
  onOwed(a: number, b: number): void {
    this.list.push([a, b])
  }
}

describe('owed acknowledgements', () => {
  it('leave in their order, each not before its ticket nor before those ahead of it', () => {
    const step = fc.oneof(
      fc.record({ push: fc.integer({ min: 0, max: 50 }) }),
      fc.record({ release: fc.integer({ min: 0, max: 60 }) })
    )
    fc.assert(
      fc.property(fc.array(step, { maxLength: 300 }), steps => {
        const owed = new OwedAcks()
        const model: [ticket: number, a: number, b: number][] = []
        let next = 0
        for (const one of steps) {
          if ('push' in one) {
            owed.push(one.push, next, next + 1)
            model.push([one.push, next, next + 1])
            next++
          } else {
            const seen = new Seen()
            owed.release(one.release, seen)
            const expected: [number, number][] = []
            while (model.length > 0 && model[0]![0] <= one.release) {
              const [, a, b] = model.shift()!
              expected.push([a, b])
            }
            expect(seen.list).toEqual(expected)
          }
          expect(owed.count).toBe(model.length)
        }
      })
    )
  })

  it('keep tickets beyond 32 bits', () => {
    const owed = new OwedAcks()
    const seen = new Seen()
    owed.push(2 ** 40 + 1, 1, 65_535)
    owed.release(2 ** 40, seen)
    expect(seen.list).toEqual([])
    owed.release(2 ** 40 + 1, seen)
    expect(seen.list).toEqual([[1, 65_535]])
  })
})
