/** Time comes in as an argument, so that tests own it. */
export interface Clock {
  /** Milliseconds since some moment; never goes back, whatever happens to the wall clock. */
  monotonicMs(): number
  /** Milliseconds since 1970 by the machine's clock, which may jump. */
  wallMs(): number
}

export const systemClock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now()
}

/** A clock that stands until it is moved. */
export class ManualClock implements Clock {
  private monotonic: number
  private wall: number

  constructor(monotonicMs = 0, wallMs = 0) {
    this.monotonic = monotonicMs
    this.wall = wallMs
  }

  monotonicMs(): number {
    return this.monotonic
  }

  wallMs(): number {
    return this.wall
  }

  /** Time passes: both clocks. */
  advance(ms: number): void {
    if (!(ms >= 0)) throw new RangeError('time does not go back')
    this.monotonic += ms
    this.wall += ms
  }

  /** Somebody sets the wall clock; no time passes. */
  setWall(ms: number): void {
    this.wall = ms
  }
}
