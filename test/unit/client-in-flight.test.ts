import { describe, expect, it } from 'vitest'
import { InFlight, Unacked } from '../../src/client/in-flight.ts'

function inFlight(count: number): InFlight {
  const found = new InFlight()
  for (let i = 0; i < count; i++) {
    found.add(new Unacked(found.freeId(), 1 + (i % 2), i, Buffer.from([0x32, i])))
  }
  return found
}

function drain(found: InFlight, window: number): number[] {
  const sent: number[] = []
  for (;;) {
    const next = found.nextUnsent(window)
    if (next === null) return sent
    sent.push(next.token)
  }
}

describe('what a client has in flight', () => {
  it('is sent again in its order, with DUP when the server has the session', () => {
    const found = inFlight(4)
    expect(found.restart(true)).toEqual([])
    expect(drain(found, 10)).toEqual([0, 1, 2, 3])
    expect(found.get(1)!.packet[0]).toBe(0x3a)
  })

  it('is a new message to a server that has no session', () => {
    const found = inFlight(2)
    found.restart(true)
    found.restart(false)
    expect(found.get(1)!.packet[0]).toBe(0x32)
  })

  it('keeps to a smaller window than the last one', () => {
    const found = inFlight(5)
    found.restart(true)
    expect(drain(found, 2)).toEqual([0, 1])
    found.remove(1)
    expect(drain(found, 2)).toEqual([2])
    found.remove(2)
    found.remove(3)
    expect(drain(found, 2)).toEqual([3, 4])
  })

  it('forgets with the session what the server had taken, and says so', () => {
    const found = inFlight(2)
    const taken = found.get(2)!
    taken.isReleased = true
    expect(found.restart(true)).toEqual([taken])
    expect(found.count).toBe(2)
    expect(found.restart(false)).toEqual([taken])
    expect(found.count).toBe(1)
  })

  it('never gives an identifier twice, also beyond the last one', () => {
    const found = new InFlight()
    found.add(new Unacked(found.freeId(), 1, 0, Buffer.from([0x32])))
    found.reserve(2)
    for (let i = 0; i < 65_535; i++) expect([0, 1, 2]).not.toContain(found.freeId())
    found.release(2)
    found.remove(1)
    expect(found.freeId()).toBeGreaterThan(0)
  })
})
