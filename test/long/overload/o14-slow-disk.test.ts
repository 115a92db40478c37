/** O14: a sync takes 500 ms, then the disk hangs for 5 s twice in a minute; then the broker is killed under load. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { OverloadRig, sleep, tell, until } from '../../support/overload.ts'
import { SlowDisk } from '../../support/slow-disk.ts'
import type { Swarm, SwarmReport } from '../../support/swarm.ts'

const PUBLISHERS = 200
const RATE = 10
const SYNC_MS = 500
const HANG_MS = 5_000
const BACKLOG = 20_000

let dataDir: string
let disk: SlowDisk
let rig: OverloadRig

beforeEach(async () => {
  dataDir = mkdtempSync(join(tmpdir(), 'motemq-overload-'))
  disk = new SlowDisk(dataDir)
  rig = await OverloadRig.start({ dataDir, env: disk.env })
})
afterEach(async () => {
  await rig.remove()
  disk.remove()
  rmSync(dataDir, { recursive: true, force: true })
})

interface Phase {
  readonly published: SwarmReport
  readonly seen: SwarmReport
  readonly ownLagMaxMs: number
  readonly aSync: number
}

async function measure(
  publishers: Swarm,
  witness: Swarm,
  load: string,
  during: () => Promise<void>
): Promise<Phase> {
  for (const swarm of [publishers, witness]) swarm.reset()
  rig.resetProbe()
  const before = disk.syncs
  await during()
  const syncs = disk.syncs - before
  const published = await publishers.report()
  const seen = await witness.report()
  const { lagMaxMs, ownLagMaxMs } = rig.probe()
  const aSync = published.acked / syncs
  tell('O14', `${PUBLISHERS} × ${RATE}/s QoS 1, ${load}`, {
    'ack p50 ms': published.ack.p50Ms,
    'ack p99 ms': published.ack.p99Ms,
    'messages a sync': aSync,
    'QoS 0 p50 ms': seen.delivery.p50Ms,
    'QoS 0 p99 ms': seen.delivery.p99Ms,
    'QoS 0 max ms': seen.delivery.maxMs,
    'lag max ms': lagMaxMs,
    'lag of its own ms': ownLagMaxMs
  })
  return { published, seen, ownLagMaxMs, aSync }
}

it('a disk of 500 ms a sync, and one that hangs, slow acknowledgements and nothing else', async () => {
  const subscriber = rig.swarm({
    clients: 1,
    prefix: 'backend',
    clean: false,
    retry: true,
    filter: 'in/+',
    subscriptionQos: 1
  })
  await subscriber.up(1, 10_000)
  // A lasting session that is away while its backlog gathers.
  const away = {
    clients: 1,
    prefix: 'away',
    clean: false,
    filter: 'back/+',
    subscriptionQos: 1
  } as const
  const first = rig.swarm(away)
  await first.up(1, 10_000)
  await first.end()
  const filler = rig.swarm({ clients: 20, prefix: 'fill', topic: 'back/%d', qos: 1, rate: 500 })
  await filler.up(20, 10_000)
  filler.publish()
  await until(async () => (await filler.report()).acked >= BACKLOG, 60_000, 'the backlog is there')
  filler.pause()

  const publishers = rig.swarm({
    clients: PUBLISHERS,
    prefix: 'device',
    topic: 'in/%d',
    qos: 1,
    rate: RATE,
    window: 200,
    source: '127.0.0.2'
  })
  await publishers.up(PUBLISHERS, 10_000)
  const witness = rig.witness()
  await witness.up(1, 10_000)
  publishers.publish()
  witness.publish()
  await sleep(2_000)
  const normal = await measure(publishers, witness, 'disk as it is', () => sleep(10_000))

  disk.syncMs = SYNC_MS
  await sleep(2_000)
  let drainedMs = 0
  const slow = await measure(publishers, witness, `sync ${SYNC_MS} ms`, async () => {
    const back = rig.swarm(away)
    await back.up(1, 10_000)
    const upAt = performance.now()
    await until(async () => (await back.report()).received >= BACKLOG, 60_000, 'backlog drained')
    drainedMs = performance.now() - upAt
    expect(await back.report()).toMatchObject({ gaps: 0, duplicates: 0 })
    await back.end()
    await sleep(20_000)
  })
  tell('O14', `backlog of ${BACKLOG} read meanwhile`, { 'after ms': drainedMs })

  disk.syncMs = 0
  await sleep(2_000)
  const hanging = await measure(publishers, witness, `a hang of ${HANG_MS / 1_000} s`, async () => {
    for (let round = 0; round < 2; round++) {
      await sleep(5_000)
      disk.hold(round === 0 ? 'syncs' : 'all')
      await sleep(HANG_MS)
      disk.goOn()
      await sleep(5_000)
    }
  })

  disk.syncMs = SYNC_MS
  await sleep(3_000)
  await rig.killBroker()
  const { acked } = await publishers.levels()
  disk.syncMs = 0
  await rig.startBroker()
  await subscriber.up(1, 10_000)
  await sleep(5_000)
  const { gaps, duplicates } = await subscriber.report()
  const { next } = await subscriber.levels()
  const lost = acked.filter((count, publisher) => (next[publisher] ?? 0) < count).length + gaps
  tell('O14', 'kill -9 meanwhile', {
    acknowledged: acked.reduce((total, count) => total + count),
    lost,
    'delivered again': duplicates
  })
  expect(lost).toBe(0)
  expect(slow.published.ack.p50Ms).toBeGreaterThan(SYNC_MS * 0.9)
  expect(slow.published.ack.p99Ms).toBeLessThan(SYNC_MS * 4)
  expect(slow.aSync).toBeGreaterThan(10 * normal.aSync)
  expect(hanging.published.ack.maxMs).toBeGreaterThan(HANG_MS * 0.9)
  for (const { seen, ownLagMaxMs } of [slow, hanging]) {
    expect(seen.received).toBeGreaterThanOrEqual(seen.sent - 1)
    expect(seen.delivery.maxMs).toBeLessThan(100)
    expect(ownLagMaxMs).toBeLessThan(100)
  }
})
