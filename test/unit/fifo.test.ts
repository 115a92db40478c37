import fc from 'fast-check'
import { expect, it } from 'vitest'
import { Fifo } from '../../src/lib/fifo.ts'

it('gives back what it took, in its order, whatever comes and goes', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: -3_000, max: 3_000 }), { maxLength: 30 }), steps => {
      const fifo = new Fifo<number>()
      const model: number[] = []
      let next = 0
      for (const step of steps) {
        for (let i = 0; i < step; i++) {
          fifo.push(next)
          model.push(next++)
        }
        for (let i = 0; i < -step; i++) {
          expect(fifo.peek()).toBe(model[0])
          expect(fifo.shift()).toBe(model.shift())
        }
        expect(fifo.size).toBe(model.length)
      }
      fifo.clear()
      expect([fifo.size, fifo.peek(), fifo.shift()]).toEqual([0, undefined, undefined])
    }),
    { numRuns: 30 }
  )
})
