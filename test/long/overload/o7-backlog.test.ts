/** O7: a million messages of 200 bytes wait, in a queue and for a session that is away. */
import { afterEach, expect, it } from 'vitest'
import { OverloadRig, sleep, tell, until } from '../../support/overload.ts'
import { beside, Readers } from '../../support/readers.ts'

const COUNT = 1_000_000
const BYTES = 200
const RSS_MAX = 64 * 2 ** 20

let rig: OverloadRig

afterEach(async () => {
  await rig.remove()
})

for (const protocol of ['amqp', 'mqtt'] as const) {
  const what = protocol === 'amqp' ? 'a queue' : 'an offline session'
  it(`${COUNT} messages in ${what} cost little memory, and come back soon and in order`, async () => {
    rig = await OverloadRig.start({
      flags: ['--limits-session-messages-max', '2000000', '--limits-session-bytes-max', '1GiB']
    })
    const options = {
      protocol,
      clients: 1,
      prefix: 'backlog',
      filter: 'back/log',
      qos: 1,
      clean: false
    } as const
    const first = new Readers(beside(rig), options)
    await first.until(({ up }) => up === 1, 20_000)
    first.tell('end')
    await sleep(1_000)
    const rssIdle = rig.rss()
    rig.resetProbe()
    const publisher = rig.swarm({
      clients: 1,
      prefix: 'pub',
      topic: 'back/log',
      qos: 1,
      rate: 60_000,
      window: 1_000,
      payloadBytes: BYTES
    })
    await publisher.up(1, 10_000)
    const name = protocol === 'amqp' ? 'messages_ready' : 'session_messages'
    const waiting = async () => (await rig.metrics()).sum(name)
    const filledFrom = performance.now()
    publisher.publish()
    await until(async () => (await publisher.report()).sent >= COUNT, 120_000, 'published')
    publisher.pause()
    const fillMs = performance.now() - filledFrom
    await sleep(1_000)
    const { sent } = await publisher.report()
    expect(await waiting()).toBe(sent)
    const { rssMax, lagMaxMs } = rig.probe()
    const rssFull = rig.rss()
    await publisher.end()
    await rig.killBroker()
    const startMs = await rig.startBroker()
    expect(await waiting()).toBe(sent)
    const rssStarted = rig.rss()
    const again = new Readers(beside(rig), options)
    const dialled = performance.now()
    await again.until(({ up, received }) => up === 1 || received > 0, 20_000)
    const upAt = performance.now()
    await again.until(({ received }) => received > 0, 20_000)
    const firstAt = performance.now()
    const report = await again.until(({ received }) => received >= sent, 180_000)
    const drainMs = performance.now() - firstAt
    tell('O7', `${COUNT} × ${BYTES} B in ${what}`, {
      'fill/s': (sent / fillMs) * 1_000,
      'RSS idle MiB': rssIdle / 2 ** 20,
      'RSS full MiB': rssFull / 2 ** 20,
      'RSS max MiB': rssMax / 2 ** 20,
      'RSS after the start MiB': rssStarted / 2 ** 20,
      'RSS max draining MiB': rig.probe().rssMax / 2 ** 20,
      'lag max ms': lagMaxMs,
      'start s': startMs / 1_000,
      'first after s': (firstAt - upAt) / 1_000,
      'dial s': (upAt - dialled) / 1_000,
      'drain/s': (sent / drainMs) * 1_000,
      'out of order': report.disorder
    })
    expect(report).toMatchObject({ received: sent, disorder: 0 })
    expect(rssFull - rssIdle).toBeLessThan(RSS_MAX)
    expect(startMs).toBeLessThan(10_000)
    expect(firstAt - upAt).toBeLessThan(1_000)
    expect((sent / drainMs) * 1_000).toBeGreaterThan(20_000)
  })
}
