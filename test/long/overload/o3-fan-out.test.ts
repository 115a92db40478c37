/** O3: one publisher, 100 messages a second, 5,000 subscribers. */
import { afterEach, beforeEach, expect, it } from 'vitest'
import { OverloadRig, sleep, tell } from '../../support/overload.ts'

const SUBSCRIBERS = 5_000
const RATE = 100
const SECONDS = 10

let rig: OverloadRig

beforeEach(async () => {
  rig = await OverloadRig.start()
})
afterEach(async () => {
  await rig.remove()
})

for (const qos of [0, 1] as const) {
  it(`a fan-out to ${SUBSCRIBERS} subscribers with QoS ${qos} starves nobody`, async () => {
    const subscribers = rig.swarm({
      clients: SUBSCRIBERS,
      prefix: 'sub',
      filter: 'fan/out',
      subscriptionQos: qos,
      source: '127.0.0.2'
    })
    const publisher = rig.swarm({ clients: 1, prefix: 'pub', topic: 'fan/out', qos, rate: RATE })
    await subscribers.up(SUBSCRIBERS, 60_000)
    await publisher.up(1, 10_000)
    await sleep(500)
    rig.resetProbe()
    const cpu = rig.cpuSeconds()
    publisher.publish()
    await sleep(SECONDS * 1_000)
    const during = await subscribers.report()
    publisher.pause()
    const { sent } = await publisher.report()
    const { lagMaxMs, ownLagMaxMs, gcMaxMs, rssMax } = rig.probe()
    await sleep(3_000)
    const after = await subscribers.report()
    tell('O3', `1 × ${RATE}/s → ${SUBSCRIBERS}, QoS ${qos}`, {
      'deliveries/s': during.received / SECONDS,
      'published/s': sent / SECONDS,
      'least of a subscriber': during.leastReceived,
      'most of a subscriber': during.mostReceived,
      'lag max ms': lagMaxMs,
      'lag of its own ms': ownLagMaxMs,
      'gc max ms': gcMaxMs,
      'delivery p50 ms': after.delivery.p50Ms,
      'delivery p99 ms': after.delivery.p99Ms,
      'CPU µs a delivery': ((rig.cpuSeconds() - cpu) * 1e6) / after.received,
      'RSS max MiB': rssMax / 2 ** 20
    })
    expect(during.mostReceived / during.leastReceived).toBeLessThanOrEqual(1.2)
    expect(ownLagMaxMs).toBeLessThan(100)
  })
}
