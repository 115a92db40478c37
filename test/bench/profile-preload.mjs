/**
 * Loaded into the broker by profile.mjs (`node --import`): SIGUSR2 starts a CPU profile and a sample of all
 * allocations, the next SIGUSR2 writes both to the file in MOTEMQ_PROFILE.
 */
import { writeFileSync } from 'node:fs'
import inspector from 'node:inspector'

const session = new inspector.Session()
let isRunning = false

function post(method, parameters) {
  return new Promise((resolve, reject) => {
    session.post(method, parameters, (error, result) => (error ? reject(error) : resolve(result)))
  })
}

async function toggle() {
  if (!isRunning) {
    isRunning = true
    session.connect()
    await post('Profiler.enable')
    if (process.env.MOTEMQ_PROFILE_KIND === 'heap') {
      // What the collector has taken since counts too: it is the allocation that costs, not what is left.
      await post('HeapProfiler.startSampling', {
        samplingInterval: 4096,
        includeObjectsCollectedByMajorGC: true,
        includeObjectsCollectedByMinorGC: true
      })
    } else {
      await post('Profiler.setSamplingInterval', { interval: 250 })
      await post('Profiler.start')
    }
    return
  }
  const heap = process.env.MOTEMQ_PROFILE_KIND === 'heap'
  const { profile } = await post(heap ? 'HeapProfiler.stopSampling' : 'Profiler.stop')
  writeFileSync(process.env.MOTEMQ_PROFILE, JSON.stringify(profile))
}

process.on('SIGUSR2', () => void toggle())
