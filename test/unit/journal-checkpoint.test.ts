/** When a checkpoint is due, and what its superblock alone still says. */
import { expect, test } from 'vitest'
import { SLOT_NAME } from '../../src/journal/slots.ts'
import { FOLDER, openToy, turns } from '../support/sim-disk-store.ts'
import { SimulatedDisk } from '../support/simulated-disk.ts'

const KIB = 1024
const LIMITS = { checkpointBytes: 256 * KIB }

test('a checkpoint is due after as much log as half of what is live, when that is more', async () => {
  const { store, journal } = await openToy(new SimulatedDisk({ seed: 7 }), { limits: LIMITS })
  const body = 8_000
  let id = 0
  const fill = async (bytes: number) => {
    for (const end = id + Math.ceil(bytes / body); id < end; ) {
      store.put(++id, body)
      await journal.flush()
      await turns(3)
    }
  }
  await fill(320 * KIB)
  expect(journal.stats.checkpoints).toBe(1)
  await fill(4_096 * KIB - journal.stats.liveBytes)
  await journal.checkpoint()
  const before = journal.stats.checkpoints
  // Pages are padded: bytes of log are at most 8192 / 8000 of the bodies, and the rest of a block.
  await fill(1_400 * KIB)
  expect(journal.stats.checkpoints).toBe(before)
  // What is written is live too: due at 4 MiB of it, not at 2.
  await fill(3_200 * KIB)
  expect(journal.stats.checkpoints).toBe(before + 1)
})

test('no number of a segment is given twice, though only the superblock remembers it', async () => {
  const disk = new SimulatedDisk({ seed: 7 })
  const { store, journal } = await openToy(disk, { limits: { checkpointBytes: 2 ** 30 } })
  for (let id = 1; id <= 60; id++) {
    store.put(id, 8_000)
    await journal.flush()
  }
  await journal.checkpoint()
  const last = journal.segment
  expect(last).toBeGreaterThan(1)
  const crashed = disk.crash()
  for (const name of await crashed.list(FOLDER)) {
    if (SLOT_NAME.test(name)) crashed.remove(`${FOLDER}/${name}`)
  }
  const again = await openToy(crashed)
  again.store.put(1_000, 100)
  expect(again.journal.segment).toBeGreaterThan(last)
})
