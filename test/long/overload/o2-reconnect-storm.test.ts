/** O2: the broker is killed with 10,000 lasting sessions connected, and all come back. */
import { afterEach, beforeEach, expect, it } from 'vitest'
import { OverloadRig, sleep, tell, until } from '../../support/overload.ts'
import type { Swarm, SwarmReport } from '../../support/swarm.ts'

const SESSIONS = 10_000
const GENERATORS = 4

let rig: OverloadRig

beforeEach(async () => {
  rig = await OverloadRig.start({ wrapper: ['prlimit', '--nofile=20000'] })
})
afterEach(async () => {
  await rig.remove()
})

async function sum(swarms: readonly Swarm[], pick: (report: SwarmReport) => number) {
  const reports = await Promise.all(swarms.map(swarm => swarm.report()))
  return reports.reduce((total, report) => total + pick(report), 0)
}

it(`${SESSIONS} lasting sessions are back after a kill -9, with their subscriptions`, async () => {
  const each = SESSIONS / GENERATORS
  const swarms = Array.from({ length: GENERATORS }, (_, index) =>
    rig.swarm({
      clients: each,
      first: index * each,
      prefix: 'lasting-',
      source: `127.0.0.${index + 2}`,
      clean: false,
      retry: true,
      filter: 'own/%d',
      subscriptionQos: 1,
      topic: 'own/%d',
      qos: 1,
      rate: 0.2
    })
  )
  const startedAt = performance.now()
  for (const swarm of swarms) await swarm.up(each, 120_000)
  const firstMs = performance.now() - startedAt
  await sleep(3_000)
  const steady = rig.rss()

  await rig.killBroker()
  rig.resetProbe()
  const killedAt = performance.now()
  const readyMs = await rig.startBroker()
  await until(
    async () => (await sum(swarms, report => report.present)) >= SESSIONS,
    120_000,
    'all sessions are present'
  )
  const backMs = performance.now() - killedAt
  for (const swarm of swarms) await swarm.up(each, 10_000)
  const { rssMax, lagMaxMs, ownLagMaxMs } = rig.probe()
  const absent = await sum(swarms, report => report.absent)
  const connack = Math.max(
    ...(await Promise.all(swarms.map(swarm => swarm.report()))).map(({ connect }) => connect.p99Ms)
  )

  // Each publishes to itself: whose subscription is gone would hear nothing.
  for (const swarm of swarms) swarm.reset()
  for (const swarm of swarms) swarm.publish()
  await sleep(6_000)
  for (const swarm of swarms) swarm.pause()
  await sleep(2_000)
  const after = await Promise.all(swarms.map(swarm => swarm.report()))
  tell('O2', `kill -9 with ${SESSIONS} lasting sessions`, {
    'first connect s': firstMs / 1_000,
    'ready after ms': readyMs,
    'all back after s': backMs / 1_000,
    'CONNACK p99 ms': connack,
    'sessions lost': absent - SESSIONS,
    'RSS steady MiB': steady / 2 ** 20,
    'RSS peak MiB': rssMax / 2 ** 20,
    'RSS peak / steady': rssMax / steady,
    'lag max ms': lagMaxMs,
    'lag of its own ms': ownLagMaxMs
  })
  expect(absent).toBe(SESSIONS)
  for (const report of after) expect(report.leastReceived).toBeGreaterThan(0)
  expect(backMs).toBeLessThan(60_000)
  expect(rssMax / steady).toBeLessThanOrEqual(1.5)
})
