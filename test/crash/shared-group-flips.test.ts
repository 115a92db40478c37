import { afterEach, expect, it } from 'vitest'
import { wakeSession } from '../../src/broker/group-member.ts'
import { subscribe } from '../../src/broker/sessions.ts'
import { settle } from '../../src/broker/settle.ts'
import type { Queue } from '../../src/core/queue.ts'
import { Client, openRig, type Rig, turns } from '../support/broker-rig.ts'

const JOBS = '$share/g/x'
const KIB = 1024
const PHASE = 1_500

let rig: Rig

afterEach(async () => {
  await rig.close()
})

function join(client: Client): void {
  const options = { noLocal: false, retainAsPublished: false, retainHandling: 0, identifier: 0 }
  expect(subscribe(rig.broker, client.session!, JOBS, { qos: 1, ...options })).toBe(1)
}

const queue = (): Queue => rig.vhost.groups.get(JOBS)!.queue

/** PUBACK of some of what a client has. */
function acknowledge(client: Client, which: (sequence: number) => boolean): void {
  const { queue: own } = client.session!
  for (const sequence of own.openSequences()) {
    if (which(sequence)) settle(rig.broker, own, sequence)
  }
}

async function publishPhase(from: Client, first: number): Promise<void> {
  for (let i = first; i < first + PHASE; i++) {
    from.publish('x', `${i}`.padEnd(400), { qos: 1 })
    if (i % 100 === 0) await rig.flush()
  }
  await rig.flush()
}

/** It takes most of what waits, and keeps every fortieth. */
async function workOff(client: Client): Promise<void> {
  client.inflightMax = 100_000
  client.takes = true
  wakeSession(rig.broker, client.session!)
  for (let i = 0; i < 60; i++) {
    await turns(2)
    if (client.session!.queue.unackedCount > 2_500) client.takes = false
  }
  client.takes = false
  acknowledge(client, sequence => sequence % 40 !== 0)
}

it('a group that lasts, does not, and lasts again keeps what waits over spilling, compaction and a crash', async () => {
  rig = await openRig({
    limits: { memoryBytesMax: 64 * KIB, hotEntriesMax: 2_048 },
    journalLimits: {
      segmentBytes: 256 * KIB,
      reserveSegments: 1,
      yellowFreeBytes: 1,
      redFreeBytes: 1,
      checkpointBytes: 256 * KIB,
      deadBytesMax: 256 * KIB
    }
  })
  const passing = new Client(rig, 'b').open()
  passing.takes = false
  join(passing)
  const p = new Client(rig, 'p').open()
  const comes = () => {
    const lasting = new Client(rig, 'a').open({ expiry: 60, clean: true })
    lasting.takes = false
    join(lasting)
  }
  for (let round = 0; round < 5; round++) {
    comes()
    expect(queue().isDurable).toBe(true)
    await publishPhase(p, 2 * round * PHASE)
    new Client(rig, 'a').open({ clean: true })
    expect(queue().isDurable).toBe(false)
    await publishPhase(p, (2 * round + 1) * PHASE)
    if (round < 4) await workOff(passing)
    await rig.journal.checkpoint()
    await turns(200)
  }
  comes()
  await rig.flush()
  const had = queue().count
  expect(had).toBeGreaterThan(2 * PHASE)
  expect(rig.journal.stats.recordsCompacted).toBeGreaterThan(1_000)
  expect(rig.dropped('damaged')).toBe(0)
  rig = await rig.crash()
  expect(rig.recovery.damagedBatches).toBe(0)
  expect(queue().count).toBe(had)
  const again = new Client(rig, 'a').open({ expiry: 60 })
  for (let i = 0; i < 400 && queue().readyCount > 0; i++) {
    await turns(5)
    acknowledge(again, () => true)
    wakeSession(rig.broker, again.session!)
  }
  expect(new Set(again.payloads).size).toBe(had)
  expect(rig.dropped('damaged')).toBe(0)
})
