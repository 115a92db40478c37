/** O5: 50 subscribers that read one byte a second, and 10 MiB a second for them. */
import { afterEach, expect, it } from 'vitest'
import type { Metrics } from '../../support/metrics.ts'
import { OverloadRig, sleep, tell, until } from '../../support/overload.ts'
import { beside, Readers } from '../../support/readers.ts'
import type { Swarm } from '../../support/swarm.ts'

const SLOW = 50
const RATE = 1_000
const BYTES = 10_240
const SECONDS = 6
/** Until what the kernel and the broker buffer for them is full: so long they are 500 MiB/s of ordinary fan-out. */
const FILL_SECONDS = 4
const QUEUE_BYTES_MAX = 8 * 2 ** 20
const OUTPUT_BYTES_MAX = 2 ** 20

interface Kind {
  readonly name: string
  readonly protocol: 'mqtt' | 'amqp'
  readonly qos: 0 | 1
  readonly clean: boolean
}

const kinds: readonly Kind[] = [
  { name: 'QoS 0', protocol: 'mqtt', qos: 0, clean: true },
  { name: 'QoS 1, sessions that end', protocol: 'mqtt', qos: 1, clean: true },
  { name: 'QoS 1, sessions that last', protocol: 'mqtt', qos: 1, clean: false },
  { name: 'AMQP without prefetch', protocol: 'amqp', qos: 1, clean: true }
]

let rig: OverloadRig

afterEach(async () => {
  await rig.remove()
})

const REASONS = ['slow_consumer', 'closed', 'queue_full', 'session_ended', 'memory']
const drops = (metrics: Metrics) =>
  REASONS.reduce((sum, reason) => sum + metrics.sum('messages_dropped_total', { reason }), 0)

/** The witness' p99 while the publisher publishes. */
async function phase(witness: Swarm, publisher: Swarm, seconds = SECONDS): Promise<number> {
  witness.reset()
  publisher.publish()
  witness.publish()
  await sleep(seconds * 1_000)
  publisher.pause()
  witness.pause()
  await sleep(500)
  return (await witness.report()).delivery.p99Ms
}

for (const { name, protocol, qos, clean } of kinds) {
  it(`${SLOW} slow consumers (${name}) slow nobody else down, and every message is counted`, async () => {
    rig = await OverloadRig.start({
      flags: ['--limits-session-bytes-max', String(QUEUE_BYTES_MAX)]
    })
    const witness = rig.witness()
    // One that reads, of the same kind: what has to be stored is stored without the slow ones too.
    const same = { protocol, qos, clean, filter: 'slow/flood', queueBytesMax: QUEUE_BYTES_MAX }
    const reader = new Readers(beside(rig), { ...same, clients: 1, prefix: 'reader' })
    const publisher = rig.swarm({
      clients: 1,
      prefix: 'pub',
      topic: 'slow/flood',
      qos,
      rate: RATE,
      payloadBytes: BYTES
    })
    await reader.until(report => report.up === 1, 10_000)
    await publisher.up(1, 10_000)
    await witness.up(1, 10_000)
    await phase(witness, publisher, 1)
    const p99Without = await phase(witness, publisher)
    const before = (await publisher.report()).sent
    const dropsBefore = drops(await rig.metrics())
    const slow = new Readers(beside(rig), { ...same, clients: SLOW, prefix: 'slow' })
    await slow.until(report => report.up === SLOW, 20_000)
    slow.tell('slow')
    await sleep(200)
    rig.resetProbe()
    const p99Filling = await phase(witness, publisher, FILL_SECONDS)
    const lagFilling = rig.probe().lagMaxMs
    rig.resetProbe()
    const p99With = await phase(witness, publisher)
    const { rssMax, lagMaxMs } = rig.probe()
    const published = (await publisher.report()).sent - before
    const open = (await rig.metrics()).sum('connections')
    slow.tell('read')
    const missing = async () => {
      const { received } = await slow.report()
      return published * SLOW - received - (drops(await rig.metrics()) - dropsBefore)
    }
    await until(async () => (await missing()) <= 0, 60_000, 'everything received or counted')
    await sleep(500)
    const report = await slow.report()
    tell('O5', `${SLOW} × 1 B/s, ${RATE} × 10 KiB/s, ${name}`, {
      'witness p99 ms without': p99Without,
      'while they fill': p99Filling,
      'with them full': p99With,
      ratio: p99With / p99Without,
      'lag max ms filling': lagFilling,
      'lag max ms full': lagMaxMs,
      published,
      'received of all': report.received,
      'counted drops': drops(await rig.metrics()) - dropsBefore,
      neither: await missing(),
      'RSS max MiB': rssMax / 2 ** 20,
      connections: open
    })
    expect(await missing()).toBe(0)
    expect(report.disorder).toBe(0)
    expect(p99With).toBeLessThan(2 * p99Without)
    expect(rssMax).toBeLessThan((160 + (SLOW * OUTPUT_BYTES_MAX) / 2 ** 20) * 2 ** 20)
    // Everything that reads got everything.
    expect((await reader.report()).received).toBe((await publisher.report()).sent)
  })
}
