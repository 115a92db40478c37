/** O6: 200 clients that are sent to are stopped, and go on when their connections are gone. */
import { afterEach, expect, it } from 'vitest'
import { OverloadRig, sleep, tell, until } from '../../support/overload.ts'
import { beside, type ReaderReport, Readers } from '../../support/readers.ts'

const CLIENTS = 100
const KEEPALIVE_SECONDS = 10
/** Write-stall limit, and how late its watch and the poll here may be. */
const STALL_MS = 30_000
const LATE_MS = 4_000
const HEAVY_SECONDS = 8

let rig: OverloadRig

afterEach(async () => {
  await rig.remove()
})

it(`${2 * CLIENTS} stopped clients are closed in time, and find everything when they are back`, async () => {
  rig = await OverloadRig.start({ flags: ['--limits-hot-entries-max', '50000'] })
  const lasting = { protocol: 'mqtt', qos: 1, clean: false, filter: 'stall/#' } as const
  const spawn = beside(rig)
  const alive = {
    ...lasting,
    clients: CLIENTS,
    prefix: 'alive',
    keepaliveSeconds: KEEPALIVE_SECONDS
  }
  const silent = { ...lasting, clients: CLIENTS, prefix: 'silent' }
  const groups = [new Readers(spawn, alive), new Readers(spawn, silent)]
  for (const group of groups) await group.until(({ up }) => up === CLIENTS, 20_000)
  const swarm = (number: number, rate: number, payloadBytes: number) =>
    rig.swarm({
      clients: 1,
      first: number,
      prefix: 'pub',
      topic: `stall/${number}`,
      qos: 1,
      rate,
      payloadBytes
    })
  const heavy = swarm(1, 100, 10_240)
  const light = swarm(2, 100, 200)
  await heavy.up(1, 10_000)
  await light.up(1, 10_000)
  const publishers = 2
  light.publish()
  await sleep(1_000)
  rig.resetProbe()
  const rssBefore = rig.rss()
  for (const group of groups) group.child.kill('SIGSTOP')
  // Only now: what the kernel buffers for a peer grows with how well it reads.
  heavy.publish()
  const stoppedAt = performance.now()
  const open = async () => (await rig.metrics()).sum('connections') - publishers
  const pauseHeavy = setTimeout(() => heavy.pause(), HEAVY_SECONDS * 1_000)
  await until(async () => (await open()) <= CLIENTS, 60_000, 'those with a keepalive are closed')
  const keepaliveMs = performance.now() - stoppedAt
  await until(async () => (await open()) === 0, 90_000, 'those that take nothing are closed')
  const stallMs = performance.now() - stoppedAt
  clearTimeout(pauseHeavy)
  await sleep(3_000)
  light.pause()
  await sleep(1_000)
  const metrics = await rig.metrics()
  const waiting = metrics.sum('session_messages')
  const { rssMax } = rig.probe()
  const sent = (await heavy.report()).sent + (await light.report()).sent
  for (const group of groups) {
    group.child.kill('SIGCONT')
    await group.until(({ closed }) => closed === CLIENTS, 20_000)
    group.tell('again')
  }
  const isThere = ({ received }: ReaderReport) => received >= sent * CLIENTS
  const reports = [
    await groups[0]!.until(isThere, 120_000),
    await groups[1]!.until(isThere, 120_000)
  ]
  const dropped = (await rig.metrics()).sum('messages_dropped_total')
  tell('O6', `${2 * CLIENTS} stopped, 100 × 10 KiB/s and 100 × 200 B/s, QoS 1`, {
    [`keepalive ${KEEPALIVE_SECONDS} s: closed after s`]: keepaliveMs / 1_000,
    'no keepalive: closed after s': stallMs / 1_000,
    published: sent,
    'waiting for all': waiting,
    'received by all': reports.reduce((sum, { received }) => sum + received, 0),
    dropped,
    'out of order': reports.reduce((sum, { disorder }) => sum + disorder, 0),
    'RSS MiB before': rssBefore / 2 ** 20,
    'RSS max MiB': rssMax / 2 ** 20
  })
  expect(keepaliveMs).toBeLessThan(KEEPALIVE_SECONDS * 1_500 + LATE_MS)
  expect(stallMs).toBeLessThan(HEAVY_SECONDS * 1_000 + STALL_MS + LATE_MS)
  for (const { received, disorder, present } of reports) {
    expect(received).toBe(sent * CLIENTS)
    expect(disorder).toBe(0)
    expect(present).toBe(CLIENTS)
  }
  expect(dropped).toBe(0)
  // One output buffer each, beside what a broker with a backlog takes.
  expect(rssMax - rssBefore).toBeLessThan((2 * CLIENTS + 64) * 2 ** 20)
})
