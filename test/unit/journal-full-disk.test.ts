/** A disk that somebody else fills at once, and kills on it: what is settled stays settled. */
import { describe, expect, test, vi } from 'vitest'
import { isFreePage, SLOT_NAME } from '../../src/journal/slots.ts'
import {
  dropSpares,
  FOLDER,
  openToy,
  SMALL_LIMITS,
  type ToyStore,
  turns
} from '../support/sim-disk-store.ts'
import { SimulatedDisk } from '../support/simulated-disk.ts'

const BYTES = 4_000
const LIMITS = { ...SMALL_LIMITS, reserveSegments: 3 }
/** What is read of one socket in a turn. */
const A_TURN = 16

const MAKING_TURNS = 60

vi.setConfig({ testTimeout: 60_000 })

type Toy = Awaited<ReturnType<typeof openToy>>

async function freeBytes(disk: SimulatedDisk): Promise<number> {
  return (await disk.space(FOLDER)).freeBytes
}

/** Publishes as fast as it is let, `before` messages before the disk is filled; until nobody may any more. */
async function flood(disk: SimulatedDisk, before: number): Promise<void> {
  const { store } = await openToy(disk, { limits: LIMITS })
  await turns(30)
  // New slots are made slowly: the prepared ones are taken as far as that goes.
  disk.intercept = (call, path) =>
    call === 'open' && !disk.has(path) ? { until: turns(MAKING_TURNS) } : null
  let id = 0
  for (let still = 0; still < 2 * MAKING_TURNS; ) {
    if (id >= before && (await freeBytes(disk)) > 0) disk.capacityBytes -= await freeBytes(disk)
    if (store.isFull || store.level === 'red') still++
    else for (let i = 0; i < A_TURN; i++) store.put(++id, BYTES)
    await turns(1)
  }
}

/** Everything that is due by now is written and synced. */
async function pass({ timers }: Toy): Promise<void> {
  for (let i = 0; i < 40; i++) {
    timers.advance(50)
    await turns(5)
  }
}

async function freeSlots(disk: SimulatedDisk): Promise<number> {
  const names = (await disk.list(FOLDER)).filter(name => SLOT_NAME.test(name))
  const pages = names.map(name => disk.bytesOf(`${FOLDER}/${name}`).subarray(0, 4096))
  return pages.filter(page => isFreePage(page, Buffer.alloc(8, 0xa5))).length
}

async function restart(disk: SimulatedDisk): Promise<[SimulatedDisk, Toy]> {
  const next = disk.restart()
  return [next, await openToy(next, { limits: LIMITS })]
}

function settleAll(store: ToyStore): void {
  for (const id of [...store.messages.keys()]) store.settle(id)
}

describe('a disk that is full at once', () => {
  test('keeps what is settled after a kill, wherever the flood was cut', async () => {
    for (let before = 200; before < 400; before += 20) {
      const seed = before
      let disk = new SimulatedDisk({ seed, capacityBytes: 16 * 2 ** 20 })
      await flood(disk, before)
      expect(await freeSlots(disk), `${before}`).toBeGreaterThan(0)
      let toy: Toy
      ;[disk, toy] = await restart(disk)
      expect(toy.store.messages.size, `${before}`).toBeGreaterThan(before / 2)
      settleAll(toy.store)
      await pass(toy)
      ;[disk, toy] = await restart(disk)
      expect(toy.store.messages.size, `${before}`).toBe(0)
    }
  })

  test('can be started on again and again: a start takes nothing of the reserve for good', async () => {
    let disk = new SimulatedDisk({ seed: 3, capacityBytes: 16 * 2 ** 20 })
    await flood(disk, 300)
    let toy: Toy
    for (let start = 1; start <= 24; start++) {
      ;[disk, toy] = await restart(disk)
      const { store } = toy
      const before = store.messages.size
      const [first] = store.messages.keys()
      store.settle(first!, 1)
      // The process dies as soon as that is on the disk.
      for (let i = 0; i < 200 && store.durable < store.journal.ticket; i++) await turns(1)
      expect(store.durable, `start ${start}`).toBe(store.journal.ticket)
      expect(store.messages.size).toBe(before - 1)
      ;[disk, toy] = await restart(disk)
      expect(toy.store.messages.size).toBe(before - 1)
    }
    ;[disk, toy] = await restart(disk)
    settleAll(toy.store)
    await pass(toy)
    ;[disk, toy] = await restart(disk)
    expect(toy.store.messages.size).toBe(0)
  })
})

describe('a start that goes on in the last segment', () => {
  test('erases what a crash left behind the end: later damage does not bring it back', async () => {
    const disk = new SimulatedDisk({ seed: 1 })
    const { store, journal, timers } = await openToy(disk)
    await turns(30)
    store.put(1, 100)
    await journal.flush()
    for (const id of [2, 3]) {
      store.put(id, 5_000, 0)
      timers.advance(30)
      await turns(5)
    }
    const path = disk.paths().find(each => disk.bytesOf(each).readUInt32LE(20) === 1) ?? ''
    const page = (store.messages.get(2)?.offset ?? 0) & ~4095
    const second = disk.restart()
    second.bytesOf(path).fill(0, page, page + 4096)
    dropSpares(second)
    const again = await openToy(second)
    expect([...again.store.messages.keys()]).toEqual([1])
    again.store.put(4, 100)
    await again.journal.flush()
    expect(again.store.messages.get(4)).toMatchObject({ segment: 1, offset: page + 69 })
    await turns(50)
    const third = second.restart()
    const { store: last, journal: lastJournal } = await openToy(third)
    last.put(5, 100)
    await lastJournal.flush()
    expect(lastJournal.segment).toBe(2)
    const fourth = third.restart()
    fourth.bytesOf(path).fill(0, page, page + 4096)
    const found = await openToy(fourth)
    expect(found.recovery.damagedBatches).toBe(1)
    expect(found.store.messages.has(5)).toBe(true)
    expect(found.store.messages.has(3)).toBe(false)
  })
})
