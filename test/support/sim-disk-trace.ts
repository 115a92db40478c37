/** Random traffic on a journal over a simulated disk, cut at any call, and what must be true afterwards. */
import { AWAITED, LAZY } from '../../src/journal/journal.ts'
import { type Random, seededRandom } from './random.ts'
import type { SimulatedDisk } from './simulated-disk.ts'
import { type OpenOptions, openToy, type TestTimers, ToyStore, turns } from './sim-disk-store.ts'

/** Turns without progress after which the power counts as gone. */
const QUIET_TURNS = 30

function bytesOf(random: Random): number {
  const kind = random()
  if (kind < 0.7) return 8 + Math.floor(random() * 300)
  if (kind < 0.93) return 8 + Math.floor(random() * 9000)
  if (kind < 0.98) return 20_000 + Math.floor(random() * 40_000)
  return 60_000 + Math.floor(random() * 90_000)
}

/** Usually the oldest, sometimes any; one in 16 messages stays, so that compaction has something to copy. */
function toSettle(store: ToyStore, random: Random): number {
  const isAny = random() < 0.1
  for (const id of store.messages.keys()) {
    if (id % 16 !== 0 && (!isAny || random() < 0.2)) return id
  }
  return 0
}

/** Puts and settles until `steps` are done or the disk is off; state and operations are the store's. */
export async function runTraffic(
  disk: SimulatedDisk,
  seed: number,
  steps: number,
  options: OpenOptions & { beforeTraffic?: (store: ToyStore) => void } = {}
): Promise<ToyStore> {
  const random = seededRandom(seed)
  const store = new ToyStore()
  const opening = openToy(disk, { ...options, store })
  const isOpen = await untilDone(opening, disk)
  if (isOpen === null) return store
  const { timers } = isOpen
  options.beforeTraffic?.(store)
  for (const id of store.messages.keys()) store.operations.push({ ticket: 0, id, isPut: true })
  let nextId = 1 + Math.max(0, ...store.messages.keys())
  for (let step = 0; step < steps && !disk.isOff && store.failures.length === 0; step++) {
    for (let i = Math.floor(random() * 8); i >= 0; i--) {
      const id = random() < 0.55 ? toSettle(store, random) : 0
      if (id > 0) store.settle(id, random() < 0.2 ? AWAITED : LAZY)
      else store.put(nextId++, bytesOf(random), random() < 0.7 ? AWAITED : LAZY)
    }
    const pause = random()
    if (pause < 0.1) timers.advance(60)
    // What nobody waits for is alone on its page when it is synced; what comes next must not touch it.
    if (pause > 0.88 && pause < 0.96) {
      await turns(6)
      store.put(nextId++, 100, LAZY)
      for (const ms of [60, 1000]) {
        timers.advance(ms)
        await turns(6)
      }
    }
    if (pause < 0.5) await turns(1 + Math.floor(random() * 3))
    if (pause > 0.97) await untilFlushed(store, disk, timers)
    for (let i = 0; store.isFull && !disk.isOff && i < 500; i++) await turns(1)
  }
  return store
}

async function untilFlushed(
  store: ToyStore,
  disk: SimulatedDisk,
  timers: TestTimers
): Promise<void> {
  try {
    await untilDone(store.journal.flush(), disk, timers)
  } catch (error) {
    if (!store.journal.failed) throw error
  }
}

/** The result, or null when the power went first. Time goes on while we wait. */
export async function untilDone<T>(
  work: Promise<T>,
  disk: SimulatedDisk,
  timers: TestTimers | null = null
): Promise<T | null> {
  let isDone = false
  let result: T | null = null
  let failure: unknown = null
  work.then(
    value => {
      isDone = true
      result = value
    },
    error => {
      isDone = true
      failure = error
    }
  )
  for (let quiet = 0; !isDone && (!disk.isOff || quiet < QUIET_TURNS); quiet++) {
    await turns(1)
    if (quiet % 20 === 19) timers?.advance(1000)
  }
  if (failure !== null && !disk.isOff) throw failure
  return result
}

/** What is wrong after a start, as sentences; none: all is well. */
export async function faultsAfter(
  before: ToyStore,
  disk: SimulatedDisk,
  options: OpenOptions = {}
): Promise<string[]> {
  const faults: string[] = []
  const { store, journal, recovery, timers } = await openToy(disk, options)
  if (journal.ticket < before.durable) {
    faults.push(`durable up to ${before.durable}, found up to ${journal.ticket}`)
  }
  if (recovery.damagedBatches > 0) faults.push(`${recovery.damagedBatches} batches damaged`)
  const wanted = before.idsAfter(journal.ticket)
  for (const id of wanted) if (!store.messages.has(id)) faults.push(`message ${id} is lost`)
  for (const id of store.messages.keys()) if (!wanted.has(id)) faults.push(`message ${id} is back`)
  for (const id of store.messages.keys()) {
    const state = await store.read(id)
    if (state !== 'right') faults.push(`message ${id} is ${state}`)
  }
  await untilDone(journal.close(), disk, timers)
  return faults
}
