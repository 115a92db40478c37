import { crc32 } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import { AWAITED } from '../../src/journal/journal.ts'
import { isFreePage, SLOT_NAME } from '../../src/journal/slots.ts'
import { SimulatedDisk } from '../support/simulated-disk.ts'
import {
  FOLDER,
  openToy as openSmall,
  type OpenOptions,
  type ToyStore,
  turns
} from '../support/sim-disk-store.ts'

const PAGE = 4096
const SUPERBLOCK = `${FOLDER}/superblock`
const IDENTITY = `${FOLDER}/motemq.store`
const STORE = Buffer.alloc(8, 0xa5)

type Logged = { level: string; message: string; fields: Readonly<Record<string, unknown>> }[]

/** Without checkpoints that the tests did not ask for. */
function openToy(disk: SimulatedDisk, options: OpenOptions = {}) {
  return openSmall(disk, { ...options, limits: { checkpointBytes: 2 ** 30, ...options.limits } })
}

function newDisk(): SimulatedDisk {
  return new SimulatedDisk({ seed: 7 })
}

/** Each message in a batch, and so a page, of its own. */
async function putApart(store: ToyStore, ...ids: number[]): Promise<void> {
  for (const id of ids) {
    store.put(id, 100)
    await store.journal.flush()
  }
}

function pathOfSegment(disk: SimulatedDisk, number: number): string {
  for (let slot = 1; slot < 100; slot++) {
    const path = `${FOLDER}/segment-${String(slot).padStart(6, '0')}`
    if (!disk.has(path)) continue
    const bytes = disk.bytesOf(path)
    for (let at = 0; at < bytes.length; at += PAGE) {
      const isOurs = bytes.readUInt32LE(at + 4) === 0x424d_514d
      if (isOurs && bytes.readUInt32LE(at + 20) === number) return path
    }
  }
  throw new Error(`segment ${number} lies nowhere`)
}

function damage(disk: SimulatedDisk, store: ToyStore, id: number): void {
  const { segment, offset } = store.messages.get(id)!
  const bytes = disk.bytesOf(pathOfSegment(disk, segment))
  bytes[offset + 20] = bytes[offset + 20]! ^ 0xff
}

async function idsOf(disk: SimulatedDisk): Promise<number[]> {
  const { store } = await openToy(disk)
  const ids: number[] = []
  for (const id of store.messages.keys()) if ((await store.read(id)) === 'right') ids.push(id)
  return ids.sort((a, b) => a - b)
}

describe('a start after damage', () => {
  test('cuts the torn last batch and stays with that', async () => {
    const disk = newDisk()
    const { store } = await openToy(disk)
    await putApart(store, 1, 2, 3)
    damage(disk, store, 3)
    const logged: Logged = []
    const crashed = disk.crash()
    const second = await openToy(crashed, { logged })
    expect(second.recovery).toMatchObject({ records: 2, damagedBatches: 0 })
    expect(second.recovery.cutBytes).toBeGreaterThan(100)
    expect(second.journal.ticket).toBe(2)
    expect(logged.filter(each => each.level === 'error')).toEqual([])
    await putApart(second.store, 4, 5)
    const third = await openToy(crashed.crash())
    expect(third.recovery).toMatchObject({ records: 4, damagedBatches: 0 })
    expect([...third.store.messages.keys()]).toEqual([1, 2, 4, 5])
  })

  test('says that a segment was cut short, for no crash does that, and keeps what is left', async () => {
    const disk = newDisk()
    const { store } = await openToy(disk)
    await putApart(store, 1, 2, 3, 4)
    const { segment, offset } = store.messages.get(3)!
    const crashed = disk.crash()
    const path = pathOfSegment(crashed, segment)
    crashed.put(path, Buffer.from(crashed.bytesOf(path).subarray(0, offset + 20)))
    const logged: Logged = []
    const second = await openToy(crashed, { logged })
    expect(second.recovery).toMatchObject({ records: 2, damagedBatches: 1 })
    expect(logged.map(({ level, fields }) => ({ level, fields }))).toContainEqual({
      level: 'error',
      fields: { name: path.slice(FOLDER.length + 1) }
    })
  })

  test('skips a damaged batch, keeps all that lies behind it, and says so', async () => {
    const disk = newDisk()
    const { store } = await openToy(disk)
    await putApart(store, 1, 2, 3, 4, 5)
    damage(disk, store, 2)
    damage(disk, store, 4)
    const logged: Logged = []
    const crashed = disk.crash()
    const second = await openToy(crashed, { logged })
    expect(second.recovery).toMatchObject({ records: 3, damagedBatches: 2 })
    expect([...second.store.messages.keys()]).toEqual([1, 3, 5])
    expect(logged.filter(each => each.level === 'error')).toHaveLength(2)
    const kept = await crashed.list(`${FOLDER}/quarantine`)
    expect(kept.filter(name => name.startsWith('damaged-'))).toHaveLength(2)
    await putApart(second.store, 6)
    expect(await idsOf(crashed.crash())).toEqual([1, 3, 5, 6])
  })

  test('finds a segment whose first page is zeros', async () => {
    const disk = newDisk()
    const { store } = await openToy(disk)
    await putApart(store, 1, 2, 3)
    disk.bytesOf(pathOfSegment(disk, 1)).fill(0, 0, PAGE)
    const second = await openToy(disk.crash())
    expect([...second.store.messages.keys()]).toEqual([2, 3])
  })

  test('takes what an earlier epoch lost for damage, by the tickets of the later one', async () => {
    const disk = newDisk()
    const { store } = await openToy(disk)
    await putApart(store, 1, 2, 3)
    const restarted = disk.restart()
    const second = await openToy(restarted)
    await putApart(second.store, 4)
    const later = restarted.restart()
    damage(later, store, 3)
    const third = await openToy(later)
    expect(third.recovery).toMatchObject({ records: 3, damagedBatches: 1 })
    expect([...third.store.messages.keys()]).toEqual([1, 2, 4])
  })

  test('does not take a batch that a payload brought along', async () => {
    const disk = newDisk()
    const { store, journal } = await openToy(disk)
    await putApart(store, 1)
    store.settle(1, AWAITED)
    await journal.flush()
    // A whole genuine batch of this store, at a page boundary inside of a large record.
    const genuine = Buffer.from(disk.bytesOf(pathOfSegment(disk, 1)).subarray(0, PAGE))
    const at = journal.begin(40_000)
    journal.buffer.fill(0, at, at + 40_000)
    genuine.copy(journal.buffer, PAGE * 2)
    journal.end(8, at + 40_000, AWAITED)
    const { segment, offset } = journal
    await journal.flush()
    await putApart(store, 3)
    const bytes = disk.bytesOf(pathOfSegment(disk, segment))
    expect(bytes.subarray(offset - 69 + PAGE * 2, offset - 69 + PAGE * 3).equals(genuine)).toBe(
      true
    )
    bytes[offset] = bytes[offset]! ^ 1
    const second = await openToy(disk.crash())
    expect(second.recovery.damagedBatches).toBe(1)
    expect([...second.store.messages.keys()]).toEqual([3])
  })

  test('does not bring back the old tail of a segment that is used again', async () => {
    const disk = newDisk()
    const { store, journal } = await openSmall(disk)
    let id = 0
    for (let i = 0; i < 200; i++) {
      store.put(++id, 8000)
      await journal.flush()
      if (id > 5) store.settle(id - 5)
      await turns(2)
    }
    await journal.flush()
    expect(journal.stats.segmentsRecycled).toBeGreaterThan(2)
    disk.bytesOf(SUPERBLOCK).fill(0)
    const again = await openToy(disk.crash())
    for (const live of store.messages.keys()) expect(await again.store.read(live)).toBe('right')
    expect([...again.store.messages.keys()]).toEqual([...store.messages.keys()])
    expect(again.recovery.damagedBatches).toBe(0)
  })

  test('marks each segment that is given back: what stood in it is not read at a start', async () => {
    const disk = newDisk()
    const { store, journal } = await openToy(disk)
    let id = 0
    for (let round = 0; round < 4; round++) {
      const first = id + 1
      for (let i = 0; i < 70; i++) {
        store.put(++id, 8000)
        await journal.flush()
      }
      await turns(40)
      for (let old = first; old <= id; old++) store.settle(old)
      await journal.checkpoint()
    }
    store.put(++id, 8000)
    await journal.flush()
    await turns(40)
    expect(journal.stats.segmentsRecycled).toBeGreaterThan(1)
    const names = (await disk.list(FOLDER)).filter(name => SLOT_NAME.test(name))
    const inUse = names.filter(
      name => !isFreePage(disk.bytesOf(`${FOLDER}/${name}`).subarray(0, PAGE), STORE)
    )
    expect(inUse).toHaveLength(journal.stats.segments)
  })

  test('does not take a batch of an earlier epoch behind one of a later', async () => {
    const disk = newDisk()
    const { store } = await openToy(disk)
    await putApart(store, 1, 2, 3)
    const batch = disk.bytesOf(pathOfSegment(disk, 1)).subarray(PAGE, 2 * PAGE)
    batch.writeUInt32LE(batch.readUInt32LE(16) + 1, 16)
    batch.writeUInt32LE(crc32(batch.subarray(4, batch.readUInt32LE(28))), 0)
    const again = await openToy(disk.crash())
    expect([...again.store.messages.keys()]).toEqual([1, 2])
  })

  test('counts and keeps aside records that make no sense', async () => {
    const disk = newDisk()
    const { store, journal } = await openToy(disk)
    await putApart(store, 1)
    const at = journal.begin(4)
    journal.buffer.writeUInt32LE(77, at)
    journal.end(9, at + 4, AWAITED)
    await journal.flush()
    const crashed = disk.crash()
    const again = await openToy(crashed)
    expect(again.recovery).toMatchObject({ records: 2, skippedRecords: 1 })
    expect(await crashed.list(`${FOLDER}/quarantine`)).toHaveLength(1)
  })

  test('loses one batch, not the start, to a page that cannot be read', async () => {
    const disk = newDisk()
    const { store } = await openToy(disk)
    await putApart(store, 1, 2, 3)
    const crashed = disk.crash()
    const path = pathOfSegment(crashed, 1)
    crashed.bytesOf(path).fill(0, PAGE, 2 * PAGE)
    crashed.intercept = (call, where, count) =>
      call === 'read' && where === path && count % 2 === 0 ? { code: 'EIO' } : null
    const again = await openToy(crashed)
    expect(again.recovery.isNew).toBe(false)
    expect(again.journal.failed).toBe(false)
  })

  test('reads a damaged block as lost, never as wrong', async () => {
    const disk = newDisk()
    const { store } = await openToy(disk, { limits: { cacheBytes: 65_536 } })
    for (let id = 1; id <= 200; id++) store.put(id, 3000)
    await store.journal.flush()
    await putApart(store, 201)
    store.put(202, 32_000) // needs another block: the first ones are evicted
    store.put(203, 32_000)
    await store.journal.flush()
    damage(disk, store, 1)
    expect(await store.read(1)).toBe('lost')
    expect(await store.read(200)).toBe('right')
    expect(store.journal.stats.damagedBatches).toBe(1)
  })

  test('reads a damaged large record as lost, never as wrong', async () => {
    const disk = newDisk()
    const { store } = await openToy(disk, { limits: { cacheBytes: 65_536 } })
    for (let id = 1; id <= 4; id++) store.put(id, 40_000)
    await store.journal.flush()
    store.put(5, 40_000)
    damage(disk, store, 1)
    expect(await store.read(1)).toBe('lost')
    expect(await store.read(2)).toBe('right')
  })
})

describe('a checkpoint', () => {
  async function checkpointed(disk: SimulatedDisk): Promise<ToyStore> {
    const { store, journal } = await openToy(disk)
    await putApart(store, 1, 2)
    await journal.checkpoint()
    await putApart(store, 3)
    store.settle(1)
    await journal.checkpoint()
    await putApart(store, 4)
    return store
  }

  test('shortens replay, while traffic went on', async () => {
    const disk = newDisk()
    const { store, journal } = await openToy(disk)
    for (let id = 1; id <= 300; id++) store.put(id, 50)
    const written = journal.checkpoint()
    for (let id = 301; id <= 310; id++) {
      store.put(id, 50)
      store.settle(id - 300)
      await turns(1)
    }
    await written
    await journal.flush()
    const again = await openToy(disk.crash())
    expect(again.recovery.usedCheckpoint).toBe(true)
    expect([...again.store.messages.keys()].sort((a, b) => a - b)).toEqual(
      [...store.messages.keys()].sort((a, b) => a - b)
    )
  })

  test.each([0, 65_536])('is not missed when the superblock slot at %i is bad', async slot => {
    const disk = newDisk()
    await checkpointed(disk)
    disk.bytesOf(SUPERBLOCK).fill(0xff, slot, slot + PAGE)
    const crashed = disk.crash()
    const again = await openToy(crashed)
    expect(again.recovery).toMatchObject({ usedCheckpoint: true, damagedBatches: 0 })
    expect([...again.store.messages.keys()].sort()).toEqual([2, 3, 4])
    await again.journal.close()
    expect(await idsOf(crashed.crash())).toEqual([2, 3, 4])
  })

  test('is done without when both superblock slots are bad, or the file is gone', async () => {
    for (const isGone of [false, true]) {
      const disk = newDisk()
      await checkpointed(disk)
      if (isGone) disk.remove(SUPERBLOCK)
      else disk.bytesOf(SUPERBLOCK).fill(0)
      const again = await openToy(disk.crash())
      expect(again.recovery).toMatchObject({ usedCheckpoint: false, damagedBatches: 0 })
      expect([...again.store.messages.keys()].sort()).toEqual([2, 3, 4])
    }
  })

  test('that is lost takes nothing with it: the one before has all that it needs', async () => {
    const disk = newDisk()
    const { store, journal } = await openToy(disk)
    let id = 0
    const fill = async () => {
      for (let i = 0; i < 70; i++) {
        store.put(++id, 8000)
        await journal.flush()
      }
      await turns(40)
    }
    await journal.checkpoint()
    await fill()
    for (let old = 1; old <= id; old++) store.settle(old)
    await fill()
    await journal.checkpoint()
    await fill()
    disk.bytesOf(SUPERBLOCK).fill(0, 0, PAGE) // the second one's slot
    const again = await openToy(disk.crash())
    expect(again.recovery).toMatchObject({ usedCheckpoint: true, damagedBatches: 0 })
    expect([...again.store.messages.keys()]).toEqual([...store.messages.keys()])
  })

  test('is passed over for the one before when its own records are damaged', async () => {
    const disk = newDisk()
    const { store, journal } = await openToy(disk)
    await putApart(store, 1, 2)
    await journal.checkpoint()
    await putApart(store, 3)
    await journal.checkpoint()
    const { segment, offset } = journal // of the end record
    await putApart(store, 4)
    const bytes = disk.bytesOf(pathOfSegment(disk, segment))
    bytes[offset] = bytes[offset]! ^ 1
    const logged: Logged = []
    const again = await openToy(disk.crash(), { logged })
    expect(again.recovery).toMatchObject({ usedCheckpoint: true, damagedBatches: 1 })
    expect([...again.store.messages.keys()].sort()).toEqual([1, 2, 3, 4])
  })
})

describe('compaction', () => {
  test('moves what lives on, gives segments back, and bounds the log', async () => {
    const disk = newDisk()
    const { store, journal } = await openSmall(disk)
    for (let id = 1; id <= 3000; id++) {
      store.put(id, 2000)
      if (id > 20 && (id - 20) % 50 !== 0) store.settle(id - 20)
      if (id % 10 === 0) await journal.flush()
    }
    await journal.flush()
    await turns(50)
    expect(journal.stats.recordsCompacted).toBeGreaterThan(10)
    const live = journal.stats.liveBytes
    expect(live).toBe([...store.messages.values()].reduce((sum, each) => sum + each.bytes, 0))
    expect(journal.stats.segments * 256 * 1024).toBeLessThan(3 * live + 2_500_000)
    for (const [id, { segment, offset }] of store.messages) {
      expect(await store.read(id), `message ${id} at ${segment}:${offset}`).toBe('right')
    }
    const again = await openToy(disk.crash())
    expect([...again.store.messages.keys()].sort()).toEqual([...store.messages.keys()].sort())
    expect(again.journal.stats.liveBytes).toBe(live)
  })
})

describe("a store's folder", () => {
  async function storeOnDisk(): Promise<SimulatedDisk> {
    const disk = newDisk()
    const { store, journal } = await openToy(disk)
    await putApart(store, 1, 2)
    await journal.close()
    return disk.restart()
  }

  test("is refused when it is somebody else's, and left as it is", async () => {
    const disk = newDisk()
    disk.put(`${FOLDER}/holiday.jpg`, Buffer.from('x'))
    await expect(openToy(disk)).rejects.toMatchObject({
      code: 'foreign-folder',
      fields: { name: 'holiday.jpg' }
    })
    expect(await disk.list(FOLDER)).toEqual(['holiday.jpg'])
  })

  test('is refused when a newer version wrote it', async () => {
    const disk = await storeOnDisk()
    disk.put(IDENTITY, Buffer.from('motemq store 2 something else\n'))
    await expect(openToy(disk)).rejects.toMatchObject({
      code: 'newer-format',
      fields: { format: 2 }
    })
  })

  test.each([
    ['empty', Buffer.alloc(0)],
    ['zeros', Buffer.alloc(64)],
    ['truncated', Buffer.from('motemq store 1 a5a5')],
    ['flipped', Buffer.from('motemq store 1 a5a5a5a5a5a5a5a4 00000000\n')]
  ])('keeps its data when the identity file is %s', async (_name, bytes) => {
    for (const hasSuperblock of [true, false]) {
      const disk = await storeOnDisk()
      disk.put(IDENTITY, bytes)
      if (!hasSuperblock) disk.remove(SUPERBLOCK)
      expect(await idsOf(disk)).toEqual([1, 2])
      expect(disk.bytesOf(IDENTITY).toString()).toContain(STORE.toString('hex'))
    }
  })

  test('keeps its data when the identity file is gone', async () => {
    const disk = await storeOnDisk()
    disk.remove(IDENTITY)
    expect(await idsOf(disk)).toEqual([1, 2])
  })

  test('is refused when its identity is of another store', async () => {
    const disk = await storeOnDisk()
    const other = newDisk()
    await openToy(other, { folder: '/other' })
    const line = `motemq store 1 ${'11'.repeat(8)}`
    disk.put(IDENTITY, Buffer.from(`${line} ${crc32(line).toString(16).padStart(8, '0')}\n`))
    disk.remove(SUPERBLOCK)
    await expect(openToy(disk)).rejects.toMatchObject({ code: 'damaged-identity' })
  })

  test('is refused while another instance has it', async () => {
    const disk = newDisk()
    await openToy(disk)
    await expect(openToy(disk)).rejects.toMatchObject({ code: 'locked' })
  })

  test('is refused with one sentence when it cannot be written', async () => {
    const disk = newDisk()
    disk.intercept = call => (call === 'open' ? { code: 'EROFS' } : null)
    await expect(openToy(disk)).rejects.toMatchObject({ code: 'not-writable' })
  })
})
