/** O1: 19,000 clients connect in 20 seconds, or all at once, while 100 others are at work. */
import { afterEach, beforeEach, expect, it } from 'vitest'
import { OverloadRig, sleep, tell } from '../../support/overload.ts'

const CLIENTS = 19_000
const GENERATORS = 4
const ACTIVE = 100
const OPEN_FILES = 20_000

let rig: OverloadRig

beforeEach(async () => {
  rig = await OverloadRig.start({ wrapper: ['prlimit', `--nofile=${OPEN_FILES}`] })
})
afterEach(async () => {
  await rig.remove()
})

for (const seconds of [20, 0]) {
  const how = seconds === 0 ? 'at once' : `in ${seconds} s`
  it(`${CLIENTS} clients that connect ${how} come in, and those at work notice little`, async () => {
    const active = rig.witness({ clients: ACTIVE, rate: 2, qos: 1, subscriptionQos: 1 })
    await active.up(ACTIVE, 10_000)
    const alone = await active.publishFor(5_000)
    const rssBefore = rig.rss()
    active.reset()
    active.publish()
    rig.resetProbe()

    const each = CLIENTS / GENERATORS
    const startedAt = performance.now()
    const storm = Array.from({ length: GENERATORS }, (_, index) =>
      rig.swarm({
        clients: each,
        prefix: `storm-${index}-`,
        source: `127.0.0.${index + 2}`,
        connectRate: seconds === 0 ? 0 : each / seconds
      })
    )
    const reports = await Promise.all(storm.map(swarm => swarm.up(each, 60_000)))
    const tookMs = performance.now() - startedAt
    const { lagMaxMs, ownLagMaxMs, gcMaxMs, rssMax } = rig.probe()
    active.pause()
    await sleep(1_000)
    const during = await active.report()
    await sleep(4_000)
    const bytesEach = (rig.rss() - rssBefore) / CLIENTS
    const metrics = await rig.metrics()
    tell('O1', `${CLIENTS} clients ${how}, ${ACTIVE} active`, {
      'all in after s': tookMs / 1_000,
      'CONNACK p99 ms': Math.max(...reports.map(report => report.connect.p99Ms)),
      'active p99 ms': during.delivery.p99Ms,
      'active max ms': during.delivery.maxMs,
      'alone p99 ms': alone.delivery.p99Ms,
      'lag max ms': lagMaxMs,
      'lag of its own ms': ownLagMaxMs,
      'gc max ms': gcMaxMs,
      'RSS KiB a client': bytesEach / 1_024,
      'RSS max MiB': rssMax / 2 ** 20,
      delayed: metrics.sum('connections_delayed_total')
    })
    expect(metrics.sum('connections')).toBe(CLIENTS + ACTIVE)
    expect(metrics.sum('connections_refused_total')).toBe(0)
    for (const report of reports) expect(report).toMatchObject({ refused: 0, cut: 0 })
    expect(during.received).toBe(during.sent)
    expect(tookMs).toBeLessThan(40_000)
    expect(during.delivery.p99Ms).toBeLessThan(250)
    expect(ownLagMaxMs).toBeLessThan(200)
    expect(bytesEach).toBeLessThan(9 * 1_024)
  })
}
