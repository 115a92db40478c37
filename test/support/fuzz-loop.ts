/**
 * An event loop of our own: while it is installed, `setImmediate` and the timers of the code under test wait
 * here, and run when a test says so. So a whole conversation is one synchronous call, the same at every run, and
 * what is thrown in a callback reaches the caller.
 */

interface Timer {
  readonly dueAt: number
  readonly order: number
  readonly run: () => void
  unref(): Timer
  ref(): Timer
}

const REAL = {
  setImmediate: globalThis.setImmediate,
  setTimeout: globalThis.setTimeout,
  clearTimeout: globalThis.clearTimeout,
  setInterval: globalThis.setInterval,
  clearInterval: globalThis.clearInterval
}

export class FuzzLoop {
  nowMs = 0
  /** Callbacks that ran, of both kinds: what stands for time. */
  ran = 0
  #immediates: (() => void)[] = []
  readonly #timers = new Set<Timer>()
  #order = 0

  /** From here on to `uninstall` all callbacks of this thread wait here. */
  install(): void {
    const own = {
      setImmediate: (callback: (...args: unknown[]) => void, ...args: unknown[]) => {
        this.later(() => callback(...args))
      },
      setTimeout: (callback: (...args: unknown[]) => void, ms = 0, ...args: unknown[]) => {
        const timer: Timer = {
          dueAt: this.nowMs + ms,
          order: this.#order++,
          run: () => callback(...args),
          unref: () => timer,
          ref: () => timer
        }
        this.#timers.add(timer)
        return timer
      },
      clearTimeout: (timer: Timer) => this.#timers.delete(timer),
      // The servers' own ticks: a test calls them itself.
      setInterval: () => ({ unref: () => undefined }),
      clearInterval: () => undefined
    }
    Object.assign(globalThis, own)
  }

  uninstall(): void {
    Object.assign(globalThis, REAL)
  }

  later(callback: () => void): void {
    this.#immediates.push(callback)
  }

  get isIdle(): boolean {
    return this.#immediates.length === 0
  }

  /** Timers that wait. */
  get timers(): number {
    return this.#timers.size
  }

  /** What waited for the end of the turn runs. */
  turn(): void {
    const due = this.#immediates
    this.#immediates = []
    for (const callback of due) {
      this.ran++
      callback()
    }
  }

  /** Turns pass until nothing waits but for time. Throws when that takes more than `turnsMax`. */
  settle(turnsMax: number): void {
    for (let i = 0; !this.isIdle; i++) {
      if (i >= turnsMax) throw new Error(`work without end: ${turnsMax} turns and still some left`)
      this.turn()
    }
  }

  /** Time passes: what is due by then runs, in order. */
  pass(ms: number): void {
    const until = this.nowMs + ms
    for (let left = 1_000; left > 0; left--) {
      let first: Timer | null = null
      for (const timer of this.#timers) {
        if (timer.dueAt > until) continue
        if (first === null || timer.dueAt < first.dueAt) first = timer
        else if (timer.dueAt === first.dueAt && timer.order < first.order) first = timer
      }
      if (first === null) {
        this.nowMs = until
        return
      }
      this.#timers.delete(first)
      this.nowMs = Math.max(this.nowMs, first.dueAt)
      this.ran++
      first.run()
    }
    throw new Error('a timer without end')
  }

  /** Forgets what waits: after a failure. */
  clear(): void {
    this.#immediates = []
    this.#timers.clear()
  }

  /** A promise whose reactions run in this loop's next turn; what they throw and nobody takes is thrown there. */
  promise<T>(value: T): Promise<T> {
    const soon = new Soon()
    this.later(() => soon.settle(false, value))
    return soon as unknown as Promise<T>
  }
}

type Reaction = (value: never) => unknown

/** As much of a promise as the front-ends use, without microtasks. */
class Soon {
  readonly #next: ((isError: boolean, value: unknown) => void)[] = []

  settle(isError: boolean, value: unknown): void {
    if (isError && this.#next.length === 0) throw value
    for (const next of this.#next) next(isError, value)
  }

  // biome-ignore lint/suspicious/noThenProperty: it stands for a promise.
  then(onValue: Reaction | null, onError: Reaction | null = null): Soon {
    const chained = new Soon()
    this.#next.push((isError, value) => {
      const react = isError ? onError : onValue
      let result = value
      let isThrown = isError && react === null
      if (react !== null) {
        try {
          result = react(value as never)
        } catch (error) {
          result = error
          isThrown = true
        }
      }
      chained.settle(isThrown, result)
    })
    return chained
  }

  catch(onError: Reaction): Soon {
    return this.then(null, onError)
  }

  finally(react: () => void): Soon {
    const after = (isError: boolean) => (value: unknown) => {
      react()
      if (isError) throw value
      return value
    }
    return this.then(after(false), after(true))
  }
}
