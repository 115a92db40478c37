import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Histogram } from '../../src/lib/histogram.ts'

describe('a histogram', () => {
  it('is exact for small numbers and within 1 % for large ones', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 2 ** 39 }), { minLength: 1, maxLength: 300 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (values, share) => {
          const histogram = new Histogram()
          for (const value of values) histogram.record(value)
          const sorted = [...values].sort((a, b) => a - b)
          const exact = sorted[Math.max(0, Math.ceil(share * values.length) - 1)]!
          const found = histogram.quantile(share)
          expect(found).toBeGreaterThanOrEqual(exact)
          expect(found - exact).toBeLessThanOrEqual(exact / 100)
          expect(histogram.max).toBe(sorted.at(-1))
        }
      )
    )
  })

  it('has an end, and answers 0 when it is empty', () => {
    const histogram = new Histogram()
    expect(histogram.quantile(0.5)).toBe(0)
    histogram.record(2 ** 50)
    histogram.record(-1)
    expect(histogram.quantile(1)).toBe(2 ** 40 - 1)
    expect(histogram.quantile(0)).toBe(0)
    expect(histogram.count).toBe(2)
  })
})
