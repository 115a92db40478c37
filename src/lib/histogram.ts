/**
 * Counts of whole numbers in buckets that grow with them, as HdrHistogram's: exact up to 256, then within
 * one part in 128, whatever the size. Fixed memory, a few nanoseconds a value.
 */

/** 2^8 values in the first half-open range, 2^7 in each one behind it. */
const BITS = 8
const HALF = 1 << (BITS - 1)
/** Up to 2^40. */
const RANGES = 40 - BITS
const COUNTS = 2 * HALF + RANGES * HALF
const VALUE_MAX = 2 ** 40 - 1

export class Histogram {
  count: number
  max: number
  private readonly counts: Float64Array
  private sum: number

  constructor() {
    this.count = 0
    this.max = 0
    this.counts = new Float64Array(COUNTS)
    this.sum = 0
  }

  get mean(): number {
    return this.count === 0 ? 0 : this.sum / this.count
  }

  /** A whole number from 0; more than 2^40 counts as that. */
  record(value: number): void {
    if (value > VALUE_MAX) value = VALUE_MAX
    else if (value < 0) value = 0
    this.counts[indexOf(value)]!++
    this.count++
    this.sum += value
    if (value > this.max) this.max = value
  }

  /** The largest value of the bucket in which that share (0 to 1) of all values is reached; 0 when there are none. */
  quantile(share: number): number {
    const wanted = Math.max(1, Math.ceil(share * this.count))
    let seen = 0
    for (let i = 0; i < COUNTS; i++) {
      seen += this.counts[i]!
      if (seen >= wanted && this.count > 0) return Math.min(lastOf(i), this.max)
    }
    return 0
  }
}

function indexOf(value: number): number {
  if (value < 2 * HALF) return Math.floor(value)
  const range = Math.floor(Math.log2(value)) - BITS + 1
  const width = 2 ** range
  return 2 * HALF + (range - 1) * HALF + Math.floor(value / width) - HALF
}

/** The largest value that counts in a bucket. */
function lastOf(index: number): number {
  if (index < 2 * HALF) return index
  const range = Math.floor((index - 2 * HALF) / HALF) + 1
  const width = 2 ** range
  return (((index - 2 * HALF) % HALF) + HALF + 1) * width - 1
}
