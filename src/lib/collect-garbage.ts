/**
 * A full collection of garbage at our own wish. V8 collects when it allocates: a process whose clients
 * have left would keep what they held for as long as it is idle.
 */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

let collect: (() => void) | null = null

/** Stops the loop for some milliseconds for each 10 MB of live objects. */
export function collectGarbage(): void {
  if (collect === null) {
    // Only a context made while the flag is set has the function.
    setFlagsFromString('--expose-gc')
    collect = runInNewContext('gc') as () => void
    setFlagsFromString('--no-expose-gc')
  }
  collect()
}
