/** O4: 2,000 publishers, 10 messages a second each, QoS 1 with a sync before each PUBACK, to one lasting session. */
import { afterEach, beforeEach, expect, it } from 'vitest'
import { OverloadRig, sleep, tell, until } from '../../support/overload.ts'

const PUBLISHERS = 2_000
const RATE = 10
const SECONDS = 20
/** Until everything is compiled. */
const WARM_SECONDS = 4

let rig: OverloadRig

beforeEach(async () => {
  rig = await OverloadRig.start()
})
afterEach(async () => {
  await rig.remove()
})

it(`${PUBLISHERS} publishers into one lasting session lose nothing and wait little`, async () => {
  const subscriber = rig.swarm({
    clients: 1,
    prefix: 'backend',
    clean: false,
    filter: 'in/+',
    subscriptionQos: 1,
    source: '127.0.0.3'
  })
  await subscriber.up(1, 10_000)
  const publishers = rig.swarm({
    clients: PUBLISHERS,
    prefix: 'device',
    topic: 'in/%d',
    qos: 1,
    rate: RATE,
    payloadBytes: 100,
    source: '127.0.0.2'
  })
  await publishers.up(PUBLISHERS, 30_000)
  publishers.publish()
  await sleep(WARM_SECONDS * 1_000)
  const cold = await publishers.report()
  publishers.reset()
  rig.resetProbe()
  const before = await rig.metrics()
  const cpu = rig.cpuSeconds()
  await new Promise(resolve => setTimeout(resolve, SECONDS * 1_000))
  publishers.pause()
  const cpuSeconds = rig.cpuSeconds() - cpu
  const after = await rig.metrics()
  const published = await publishers.report()
  await until(async () => (await publishers.report()).inFlight === 0, 30_000, 'all acknowledged')
  const { acked } = await publishers.levels()
  const total = acked.reduce((sum, count) => sum + count)
  await until(async () => (await subscriber.report()).received >= total, 30_000, 'all received')
  const received = await subscriber.report()
  const { lagMaxMs, ownLagMaxMs, rssMax } = rig.probe()
  const syncs = after.sum('journal_syncs_total') - before.sum('journal_syncs_total')
  tell('O4', `${PUBLISHERS} × ${RATE}/s QoS 1 → 1 lasting session`, {
    'acknowledged/s': published.acked / SECONDS,
    lost: received.gaps,
    duplicates: received.duplicates,
    'ack p50 ms': published.ack.p50Ms,
    'ack p99 ms': published.ack.p99Ms,
    'ack max ms': published.ack.maxMs,
    'ack p99 of the first seconds ms': cold.ack.p99Ms,
    'delivery p99 ms': received.delivery.p99Ms,
    'messages a sync': published.acked / syncs,
    'CPU µs a message': (cpuSeconds * 1e6) / published.acked,
    'lag max ms': lagMaxMs,
    'lag of its own ms': ownLagMaxMs,
    'RSS max MiB': rssMax / 2 ** 20
  })
  expect(received).toMatchObject({ gaps: 0, duplicates: 0, received: total })
  expect((await subscriber.levels()).next.slice(0, PUBLISHERS)).toEqual(acked)
  expect(published.sent).toBeGreaterThan(PUBLISHERS * RATE * SECONDS * 0.95)
  expect(published.ack.p99Ms).toBeLessThan(250)
})
