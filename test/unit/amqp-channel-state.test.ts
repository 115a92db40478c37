import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ConfirmRing, type ConfirmSink } from '../../src/amqp/confirm-ring.ts'
import { Unacked } from '../../src/amqp/unacked.ts'

/** Keeps what a publisher believes: every number confirmed so far. */
class Publisher implements ConfirmSink {
  readonly frames: [number, boolean][] = []
  readonly confirmed = new Set<number>()

  onConfirm(sequence: number, multiple: boolean): void {
    this.frames.push([sequence, multiple])
    if (!multiple) this.confirmed.add(sequence)
    else for (let i = 1; i <= sequence; i++) this.confirmed.add(i)
  }
}

describe('confirms', () => {
  it('of one sync leave as one frame', () => {
    const ring = new ConfirmRing()
    const publisher = new Publisher()
    for (let ticket = 1; ticket <= 100; ticket++) ring.push(ticket)
    ring.release(40, publisher)
    ring.release(100, publisher)
    expect(publisher.frames).toEqual([
      [40, true],
      [100, true]
    ])
    expect(ring.isWaiting).toBe(false)
  })

  it('of a single message leave without multiple', () => {
    const ring = new ConfirmRing()
    const publisher = new Publisher()
    ring.push(5)
    ring.release(4, publisher)
    expect(publisher.frames).toEqual([])
    ring.release(5, publisher)
    expect(publisher.frames).toEqual([[1, false]])
  })

  it('that wait for nothing do not wait for those before them, nor speak for them', () => {
    const ring = new ConfirmRing()
    const publisher = new Publisher()
    ring.push(7)
    ring.push(0)
    ring.push(8)
    ring.push(0)
    ring.release(0, publisher)
    expect(publisher.frames).toEqual([
      [2, false],
      [4, false]
    ])
    ring.release(8, publisher)
    expect(publisher.frames.slice(2)).toEqual([[3, true]])
    expect(publisher.confirmed.size).toBe(4)
  })

  it('are sent once, and say nothing of a nacked number', () => {
    const ring = new ConfirmRing()
    const publisher = new Publisher()
    ring.push(1)
    expect(ring.skip()).toBe(2)
    ring.release(1, publisher)
    ring.release(1, publisher)
    expect(publisher.frames).toEqual([[1, false]])
    expect(ring.isWaiting).toBe(false)
  })

  it('never claim a number whose record is not durable, whatever is published and synced', () => {
    const step = fc.oneof(
      fc.constant('wait' as const),
      fc.constant('free' as const),
      fc.constant('nack' as const),
      fc.constant('release' as const),
      fc.record({ sync: fc.integer({ min: 1, max: 10 }) })
    )
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), steps => {
        const ring = new ConfirmRing()
        const publisher = new Publisher()
        const tickets: number[] = [0]
        const nacked = new Set<number>()
        let ticket = 0
        let durable = 0
        const check = (): void => {
          for (const sequence of publisher.confirmed) {
            if (!nacked.has(sequence)) expect(tickets[sequence]).toBeLessThanOrEqual(durable)
          }
        }
        for (const each of steps) {
          if (each === 'wait') {
            tickets.push(++ticket)
            ring.push(ticket)
          } else if (each === 'free') {
            tickets.push(0)
            ring.push(0)
          } else if (each === 'nack') {
            nacked.add(ring.skip())
            tickets.push(0)
          } else if (each === 'release') ring.release(durable, publisher)
          else {
            durable = Math.min(ticket, durable + each.sync)
            ring.release(durable, publisher)
          }
          check()
        }
        ring.release(ticket, publisher)
        for (let sequence = 1; sequence < tickets.length; sequence++) {
          expect(publisher.confirmed.has(sequence) || nacked.has(sequence)).toBe(true)
        }
        const alone = publisher.frames.filter(([, multiple]) => !multiple).map(([n]) => n)
        expect(new Set(alone).size).toBe(alone.length)
      })
    )
  })
})

describe('open deliveries', () => {
  it('behave as a sorted map from tag to delivery', () => {
    const action = fc.oneof(
      { weight: 4, arbitrary: fc.constant({ kind: 'push' as const, at: 0 }) },
      {
        weight: 3,
        arbitrary: fc.record({ kind: fc.constant('remove' as const), at: fc.nat(400) })
      },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant('upTo' as const), at: fc.nat(400) }) }
    )
    fc.assert(
      fc.property(fc.array(action, { maxLength: 400 }), actions => {
        const unacked = new Unacked()
        const model = new Map<number, number>()
        let tag = 0
        for (const { kind, at } of actions) {
          if (kind === 'push') {
            tag += 1 + (at % 3)
            unacked.push(tag, tag * 10, tag % 5)
            model.set(tag, tag * 10)
          } else if (kind === 'remove') {
            expect(unacked.has(at)).toBe(model.has(at))
            expect(unacked.remove(at)).toBe(model.has(at))
            if (model.delete(at))
              expect([unacked.sequence, unacked.holder]).toEqual([at * 10, at % 5])
          } else {
            for (const open of [...model.keys()].filter(each => each <= at)) {
              expect(unacked.removeFirst(at)).toBe(true)
              expect(unacked.sequence).toBe(open * 10)
              model.delete(open)
            }
            expect(unacked.removeFirst(at)).toBe(false)
          }
          expect(unacked.count).toBe(model.size)
        }
      })
    )
  })

  it('do not grow for one that stays open while a million others come and go', () => {
    const unacked = new Unacked()
    unacked.push(1, 1, 0)
    for (let tag = 2; tag < 1_000_000; tag++) {
      unacked.push(tag, tag, 0)
      if (!unacked.remove(tag)) throw new Error(`lost ${tag}`)
    }
    expect(unacked.count).toBe(1)
    expect(unacked.capacity).toBeLessThanOrEqual(64)
    expect(unacked.remove(1)).toBe(true)
  })
})
