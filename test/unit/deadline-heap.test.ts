import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Deadline, DeadlineHeap } from '../../src/lib/deadline-heap.ts'

const commands = fc.array(
  fc.record({
    verb: fc.constantFrom('set', 'set', 'clear', 'take', 'take all'),
    who: fc.nat(30),
    at: fc.nat(20)
  }),
  { maxLength: 200, size: 'max' }
)

describe('the deadline heap', () => {
  it('gives what is due in the order of deadlines, then of setting, after any changes', () => {
    fc.assert(
      fc.property(commands, steps => {
        const heap = new DeadlineHeap<number>()
        const deadlines = Array.from({ length: 31 }, (_, i) => new Deadline(i))
        let model: { who: number; at: number }[] = []
        // A stable sort: those with one deadline stay in the order of their setting.
        const sorted = () => [...model].sort((a, b) => a.at - b.at)
        const take = (now: number) => {
          const first = sorted()[0]
          const due = first !== undefined && first.at <= now ? first.who : null
          const taken = heap.takeDue(now)
          expect(taken === null ? null : taken.owner).toBe(due)
          if (due === null) return false
          expect(taken?.isSet).toBe(false)
          model = model.filter(item => item.who !== due)
          return true
        }
        for (const { verb, who, at } of steps) {
          if (verb === 'set') {
            heap.set(deadlines[who]!, at)
            model = [...model.filter(item => item.who !== who), { who, at }]
          } else if (verb === 'clear') {
            expect(heap.clear(deadlines[who]!)).toBe(model.some(item => item.who === who))
            model = model.filter(item => item.who !== who)
          } else if (verb === 'take') {
            take(at)
          } else {
            while (take(at));
          }
          expect(heap.size).toBe(model.length)
          expect(heap.next).toBe(sorted()[0]?.at ?? Number.POSITIVE_INFINITY)
          expect(heap.peek()?.owner).toBe(sorted()[0]?.who)
        }
        for (const deadline of deadlines) {
          expect(deadline.isSet).toBe(model.some(item => item.who === deadline.owner))
        }
      }),
      { numRuns: 200 }
    )
  })

  it('takes a deadline at its very moment and not before', () => {
    const heap = new DeadlineHeap<string>()
    const deadline = new Deadline('x')
    heap.set(deadline, 10)
    expect(heap.takeDue(9.99)).toBeNull()
    expect(heap.takeDue(10)).toBe(deadline)
    expect(heap.takeDue(10)).toBeNull()
    expect(heap.peek()).toBeNull()
  })

  it('does not touch a deadline that another heap holds, nor one that is no number', () => {
    const one = new DeadlineHeap<string>()
    const two = new DeadlineHeap<string>()
    const deadline = new Deadline('x')
    one.set(deadline, 1)
    expect(two.clear(deadline)).toBe(false)
    expect(() => two.set(deadline, 2)).toThrow(RangeError)
    expect(() => two.set(new Deadline('y'), Number.NaN)).toThrow(RangeError)
    expect([one.next, one.size, two.size]).toEqual([1, 1, 0])
  })
})
