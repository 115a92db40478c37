import { describe, expect, it } from 'vitest'
import { AssertionError, assert, unreachable } from '../../src/lib/assert.ts'
import { ManualClock, systemClock } from '../../src/lib/clock.ts'
import { Gate, GateFullError } from '../../src/lib/gate.ts'

/** A task that ends when it is told to. */
class Task {
  readonly promise: Promise<string>
  resolve!: (value: string) => void
  reject!: (error: Error) => void
  isStarted = false

  constructor() {
    this.promise = new Promise((resolve, reject) => {
      this.resolve = resolve
      this.reject = reject
    })
  }

  run = (): Promise<string> => {
    this.isStarted = true
    return this.promise
  }
}

const turn = () => new Promise<void>(resolve => setImmediate(resolve))

describe('the gate', () => {
  it('lets so many run, keeps so many waiting in order, and refuses the rest at once', async () => {
    const gate = new Gate(2, 2)
    const tasks = Array.from({ length: 5 }, () => new Task())
    const results = tasks.map(task => gate.run(task.run))
    await expect(results[4]).rejects.toBeInstanceOf(GateFullError)
    expect(tasks.map(task => task.isStarted)).toEqual([true, true, false, false, false])
    expect([gate.running, gate.waiting]).toEqual([2, 2])
    tasks[1]?.resolve('one')
    await expect(results[1]).resolves.toBe('one')
    await turn()
    expect(tasks.map(task => task.isStarted)).toEqual([true, true, true, false, false])
    expect([gate.running, gate.waiting]).toEqual([2, 1])
    for (const task of tasks) task.resolve('done')
    await Promise.all(results.slice(0, 4))
    expect([gate.running, gate.waiting]).toEqual([0, 0])
  })

  it('goes on after a task that rejects or throws', async () => {
    const gate = new Gate(1, 2)
    const failing = new Task()
    const first = gate.run(failing.run)
    const second = gate.run(() => {
      throw new Error('thrown')
    })
    const third = gate.run(() => Promise.resolve('third'))
    failing.reject(new Error('rejected'))
    await expect(first).rejects.toThrow('rejected')
    await expect(second).rejects.toThrow('thrown')
    await expect(third).resolves.toBe('third')
    expect([gate.running, gate.waiting]).toEqual([0, 0])
  })

  it('gives a place that comes free to who waits, not to who comes', async () => {
    const gate = new Gate(1, 5)
    const order: string[] = []
    const task = new Task()
    const running = gate.run(task.run)
    const waiting = gate.run(async () => {
      order.push('waited')
    })
    task.resolve('')
    await running
    const late = gate.run(async () => {
      order.push('late')
    })
    await Promise.all([waiting, late])
    expect(order).toEqual(['waited', 'late'])
  })

  it('that lets nobody through cannot be made', () => {
    expect(() => new Gate(0, 1)).toThrow(RangeError)
    expect(() => new Gate(1, -1)).toThrow(RangeError)
  })
})

describe('clocks', () => {
  it('made for tests stand until they are moved, and only the wall clock jumps', () => {
    const clock = new ManualClock(5, 1_000)
    clock.advance(10)
    expect([clock.monotonicMs(), clock.wallMs()]).toEqual([15, 1_010])
    clock.setWall(0)
    expect([clock.monotonicMs(), clock.wallMs()]).toEqual([15, 0])
    expect(() => clock.advance(-1)).toThrow(RangeError)
  })

  it('of the system do not go back', () => {
    const before = systemClock.monotonicMs()
    expect(systemClock.monotonicMs()).toBeGreaterThanOrEqual(before)
    expect(Number.isSafeInteger(systemClock.wallMs())).toBe(true)
  })
})

describe('an assertion', () => {
  it('throws when it does not hold', () => {
    expect(() => assert(1 > 0, 'holds')).not.toThrow()
    expect(() => assert(0, 'does not')).toThrow(AssertionError)
    expect(() => unreachable(7 as never)).toThrow(AssertionError)
  })
})
