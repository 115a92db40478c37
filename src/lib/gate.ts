/** Lets at most so many tasks run at a time; the next ones wait in order, and at most so many. */
import { Ring } from './ring.ts'

/** As many tasks wait as may: nothing was started. */
export class GateFullError extends Error {
  constructor() {
    super('too many tasks are waiting')
    this.name = 'GateFullError'
  }
}

export class Gate {
  private readonly runningMax: number
  private readonly waitingMax: number
  private readonly queue: Ring<() => void>
  private count: number

  constructor(runningMax: number, waitingMax: number) {
    if (!(runningMax >= 1 && waitingMax >= 0)) throw new RangeError('a gate lets somebody through')
    this.runningMax = runningMax
    this.waitingMax = waitingMax
    this.queue = new Ring()
    this.count = 0
  }

  get running(): number {
    return this.count
  }

  get waiting(): number {
    return this.queue.length
  }

  /**
   * Runs `task` now or when its turn comes, and settles as it does. Rejects with a `GateFullError`, at
   * once, when too many wait. A task that throws or rejects frees its place like any other.
   */
  async run<T>(task: () => Promise<T>): Promise<T> {
    if (this.count < this.runningMax) this.count += 1
    else if (this.queue.length >= this.waitingMax) throw new GateFullError()
    // Whoever is done hands its place over: nobody can slip in between.
    else await new Promise<void>(resolve => this.queue.push(resolve))
    try {
      return await task()
    } finally {
      const next = this.queue.shift()
      if (next === undefined) this.count -= 1
      else next()
    }
  }
}
