/**
 * Loaded into the broker's process with `--import`: four times a second it appends a line of JSON with what the event
 * loop and the memory did meanwhile to the file in OVERLOAD_PROBE. `lagMs` is the longest time that a timer was late;
 * `ownLagMs` the same without the time in which its thread could have run and was not let, because something else ran
 * on its core.
 */
import { openSync, readSync, writeSync } from 'node:fs'
import { PerformanceObserver } from 'node:perf_hooks'
import { isMainThread } from 'node:worker_threads'

const TICK_MS = 5
const PERIOD_MS = 250
const file = process.env['OVERLOAD_PROBE']
const stat = Buffer.alloc(64)

/** Watches from now on; `report` takes a sample. */
function watch(report) {
  const schedule = openSync('/proc/self/schedstat', 'r')
  const waitedMs = () => {
    const length = readSync(schedule, stat, 0, stat.length, 0)
    return Number(stat.latin1Slice(0, length).split(' ')[1]) / 1e6
  }
  const worst = { lagMs: 0, ownLagMs: 0, gcMs: 0 }
  new PerformanceObserver(list => {
    for (const entry of list.getEntries()) worst.gcMs = Math.max(worst.gcMs, entry.duration)
  }).observe({ entryTypes: ['gc'] })
  let ticked = performance.now()
  let waited = waitedMs()
  let reported = ticked
  setInterval(() => {
    const now = performance.now()
    const wait = waitedMs()
    const late = Math.max(0, now - ticked - TICK_MS)
    worst.lagMs = Math.max(worst.lagMs, late)
    worst.ownLagMs = Math.max(worst.ownLagMs, late - (wait - waited))
    ticked = now
    waited = wait
    if (now - reported < PERIOD_MS) return
    reported = now
    const { rss, heapUsed, external } = process.memoryUsage()
    report({
      atMs: Number(process.hrtime.bigint() / 1_000_000n),
      ...worst,
      rss,
      heapUsed,
      external
    })
    worst.lagMs = worst.ownLagMs = worst.gcMs = 0
  }, TICK_MS).unref()
}

if (isMainThread && file !== undefined) {
  const descriptor = openSync(file, 'a')
  watch(sample => writeSync(descriptor, `${JSON.stringify(sample)}\n`))
}
