/**
 * Loaded into the broker's process with `--import`: four times a second it appends a line of JSON with what the event
 * loop and the memory did meanwhile to the file in OVERLOAD_PROBE. `lagMs` is the longest time the loop was late;
 * `waitMs` is how long its thread could have run and was not let, because something else ran on its core.
 */
import { openSync, readFileSync, writeSync } from 'node:fs'
import { monitorEventLoopDelay, PerformanceObserver } from 'node:perf_hooks'
import { isMainThread } from 'node:worker_threads'

const RESOLUTION_MS = 5
const PERIOD_MS = 250
const file = process.env['OVERLOAD_PROBE']

function waitedMs() {
  return Number(readFileSync('/proc/self/schedstat', 'latin1').split(' ')[1]) / 1e6
}

if (isMainThread && file !== undefined) {
  const descriptor = openSync(file, 'a')
  const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS })
  delay.enable()
  let gcMs = 0
  let waitedBefore = waitedMs()
  new PerformanceObserver(list => {
    for (const entry of list.getEntries()) gcMs = Math.max(gcMs, entry.duration)
  }).observe({ entryTypes: ['gc'] })
  setInterval(() => {
    const { rss, heapUsed, external } = process.memoryUsage()
    const lagMs = Math.max(0, delay.max / 1e6 - RESOLUTION_MS)
    const atMs = Number(process.hrtime.bigint() / 1_000_000n)
    const waited = waitedMs()
    const sample = { atMs, lagMs, waitMs: waited - waitedBefore, gcMs, rss, heapUsed, external }
    writeSync(descriptor, `${JSON.stringify(sample)}\n`)
    waitedBefore = waited
    delay.reset()
    gcMs = 0
  }, PERIOD_MS).unref()
}
