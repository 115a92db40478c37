/** Compaction of a segment that cannot be emptied at once. */
import { expect, test, vi } from 'vitest'
import { openToy, ToyStore, turns } from '../support/sim-disk-store.ts'
import { SimulatedDisk } from '../support/simulated-disk.ts'

const MINUTE = 60_000

vi.setConfig({ testTimeout: 60_000 })

/** Keeps one message where it is, as if its block could not be read. */
class StubbornStore extends ToyStore {
  stubborn = 0
  asked = 0

  override compact(
    kind: number,
    buffer: Buffer,
    start: number,
    end: number,
    segment: number,
    offset: number
  ): boolean {
    const held = this.stubborn === 0 ? undefined : this.messages.get(this.stubborn)
    if (held?.segment !== segment || held.offset !== offset) {
      return super.compact(kind, buffer, start, end, segment, offset)
    }
    this.asked++
    return true
  }
}

test('a segment that could not be emptied is tried again, later and later', async () => {
  const store = new StubbornStore()
  const logged: { level: string; message: string; fields: Readonly<Record<string, unknown>> }[] = []
  const { journal, timers } = await openToy(new SimulatedDisk({ seed: 1 }), { store, logged })
  store.stubborn = 1
  let id = 0
  /** Enough of it that segments are left and most of them is dead. */
  const traffic = async () => {
    for (const last = id + 400; id < last; ) {
      store.put(++id, 8_000)
      if (id % 30 !== 0) store.settle(id)
      if (id % 10 === 0) await journal.flush()
    }
    await turns(50)
  }
  store.put(++id, 8_000)
  const { segment } = store.messages.get(1)!
  await traffic()
  await traffic()
  expect(store.asked).toBe(1)
  await traffic()
  expect(store.asked, 'not at once').toBe(1)
  timers.advance(MINUTE)
  await traffic()
  expect(store.asked).toBe(2)
  timers.advance(MINUTE)
  await traffic()
  expect(store.asked, 'after twice as long').toBe(2)
  store.stubborn = 0
  timers.advance(MINUTE)
  await traffic()
  expect(store.messages.get(1)!.segment).toBeGreaterThan(segment)
  expect(await store.read(1)).toBe('right')
  const told = logged.filter(({ message }) => message.includes('could not be emptied'))
  expect(told.map(({ fields }) => fields['waitMs'])).toEqual([MINUTE, 2 * MINUTE])
  await journal.close()
})
