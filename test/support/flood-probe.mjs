/**
 * Loaded into the broker's process with `--import`: whoever connects to the Unix socket in FLOOD_PROBE is told, as a
 * line of JSON, what is in memory after a collection, the processor time so far, and the longest turn of the event loop
 * since the last question, without the time in which something else ran on its core.
 */
import { openSync, readSync } from 'node:fs'
import { createServer } from 'node:net'
import { isMainThread } from 'node:worker_threads'

const TICK_MS = 5
const stat = Buffer.alloc(64)

function serve(path) {
  const schedule = openSync('/proc/self/schedstat', 'r')
  const waitedMs = () => {
    const length = readSync(schedule, stat, 0, stat.length, 0)
    return Number(stat.latin1Slice(0, length).split(' ')[1]) / 1e6
  }
  let turnMs = 0
  let ticked = performance.now()
  let waited = waitedMs()
  setInterval(() => {
    const now = performance.now()
    const wait = waitedMs()
    turnMs = Math.max(turnMs, now - ticked - TICK_MS - (wait - waited))
    ticked = now
    waited = wait
  }, TICK_MS).unref()
  const server = createServer(socket => {
    socket.on('error', () => undefined)
    const { user, system } = process.cpuUsage()
    const longest = turnMs
    global.gc()
    global.gc()
    const { rss, heapUsed, external } = process.memoryUsage()
    socket.end(
      `${JSON.stringify({ cpuMs: (user + system) / 1e3, turnMs: longest, rss, heapUsed, external })}\n`
    )
    // The collections are no turn of the broker's.
    ticked = performance.now()
    waited = waitedMs()
    turnMs = 0
  })
  server.listen(path)
  server.unref()
}

if (isMainThread && process.env.FLOOD_PROBE !== undefined) serve(process.env.FLOOD_PROBE)
