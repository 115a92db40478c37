/** The steps of opening: folder, lock, identity; then files, checkpoint, replay. */
import { join } from 'node:path'
import type { Disk } from './disk.ts'
import type { FilePool } from './file-pool.ts'
import { type FoundFiles, findFiles, storeOfBatches } from './found-files.ts'
import { assertOursOrEmpty, holdsLog, readIdentity, writeIdentity } from './identity.ts'
import type { JournalOwner, Recovery } from './journal.ts'
import { JournalError, systemCode } from './journal-error.ts'
import { BLOCK_BYTES, STORE_BYTES } from './layout.ts'
import {
  DEFAULT_LIMITS,
  type JournalLimits,
  type JournalLog,
  type JournalOptions,
  type JournalTimers,
  realTimers
} from './options.ts'
import { Quarantine } from './quarantine.ts'
import { Replay } from './recovery.ts'
import { SegmentTable } from './segment-table.ts'
import { sparesOf } from './slots.ts'
import type { StoreClock } from './store-clock.ts'
import {
  type Checkpoint,
  type FoundSuperblock,
  makeSuperblock,
  readSuperblock
} from './superblock.ts'
import { placeBehind, type TailPlace } from './tail-place.ts'

const SEGMENT_BYTES_MAX = 16 * 1024 * 1024
const SEGMENT_BYTES_MIN = 256 * 1024

/** A folder that is ours and locked. */
export interface Folder {
  path: string
  disk: Disk
  store: Buffer
  superblock: FoundSuperblock
  limits: JournalLimits
  segmentBytes: number
  segments: SegmentTable
  timers: JournalTimers
  log: JournalLog
  unlock(): Promise<void>
}

/** Makes the folder if need be, locks it, and finds out whose it is. */
export async function openFolder(options: JournalOptions): Promise<Folder> {
  const { disk, folder: path } = options
  const limits = { ...DEFAULT_LIMITS, ...options.limits }
  const log = options.log ?? (() => undefined)
  const unlock = await lockIt(options)
  try {
    const { store, superblock } = await identify(options, log)
    const segmentBytes = await chooseSegmentBytes(disk, path, limits)
    limits.checkpointBytes = await boundedByDisk(disk, path, limits.checkpointBytes, segmentBytes)
    limits.deadBytesMax = await boundedByDisk(disk, path, limits.deadBytesMax, segmentBytes)
    // What is on its way when the disk is found full must fit into the reserve, and leave some of it.
    // Half of a segment: with the rest of the last one it takes one slot of the reserve, never two.
    limits.pendingBytesMax = Math.min(limits.pendingBytesMax, segmentBytes / 2)
    const segments = new SegmentTable()
    const timers = options.timers ?? realTimers
    return { path, disk, store, superblock, limits, segmentBytes, segments, timers, log, unlock }
  } catch (error) {
    await unlock()
    throw asOpenError(error, path)
  }
}

function asOpenError(error: unknown, path: string): unknown {
  const code = systemCode(error)
  if (error instanceof JournalError || code === '') return error
  return new JournalError(
    'not-writable',
    `the data folder cannot be used (${code}): ${path}`,
    {
      folder: path,
      code
    },
    error
  )
}

async function lockIt(options: JournalOptions): Promise<() => Promise<void>> {
  const { disk, folder: path, kind = 'store', neighbours = [] } = options
  try {
    await disk.makeFolder(path)
    // Before anything is written: a folder that is not ours stays as it is.
    if ((await readIdentity(disk, path, kind)) === null) {
      assertOursOrEmpty(path, kind, await disk.list(path), neighbours)
    }
    return await disk.lock(path)
  } catch (error) {
    throw asOpenError(error, path)
  }
}

async function identify(
  options: JournalOptions,
  log: JournalLog
): Promise<{ store: Buffer; superblock: FoundSuperblock }> {
  const { disk, folder, kind = 'store' } = options
  const found = await readIdentity(disk, folder, kind)
  if (found instanceof Buffer) {
    await makeSuperblock(disk, folder)
    return { store: found, superblock: await readSuperblock(disk, folder, found) }
  }
  const superblock = await readSuperblock(disk, folder, null)
  const known = superblock.store ?? (await storeOfBatches(disk, folder))
  if (known === null && found === 'damaged' && holdsLog(await disk.list(folder))) {
    throw new JournalError(
      'damaged-identity',
      `the data folder's identity file is damaged, and neither the superblock nor a segment tells the store's name: ${folder}`,
      { folder }
    )
  }
  if (known !== null)
    log('error', 'the identity file was missing or damaged and is written anew', {})
  const store = known ?? options.random(STORE_BYTES)
  await writeIdentity(disk, folder, kind, store)
  await makeSuperblock(disk, folder)
  return { store, superblock }
}

async function chooseSegmentBytes(
  disk: Disk,
  path: string,
  limits: JournalLimits
): Promise<number> {
  if (limits.segmentBytes > 0) {
    return Math.max(4 * BLOCK_BYTES, Math.floor(limits.segmentBytes / BLOCK_BYTES) * BLOCK_BYTES)
  }
  const { totalBytes } = await disk.space(path)
  const bytes = Math.floor(totalBytes / 32 / BLOCK_BYTES) * BLOCK_BYTES
  return Math.min(SEGMENT_BYTES_MAX, Math.max(SEGMENT_BYTES_MIN, bytes))
}

/** On a small disk, what may gather is less: an eighth of it, two segments at least. */
async function boundedByDisk(
  disk: Disk,
  path: string,
  bytes: number,
  segmentBytes: number
): Promise<number> {
  const { totalBytes } = await disk.space(path)
  return Math.min(bytes, Math.max(2 * segmentBytes, totalBytes / 8))
}

export interface Recovered {
  recovery: Recovery
  lastTicket: number
  epoch: number
  checkpoints: Checkpoint[]
  lastCounter: number
  spares: string[]
  nextSlot: number
  /** Where to go on; null: in a fresh segment. */
  tail: TailPlace | null
  /** Bytes of log behind the begin of the newest checkpoint. */
  logBytes: number
}

/** Finds the files, replays them, and makes sure that what was replayed is durable. */
export async function recover(
  folder: Folder,
  owner: JournalOwner,
  clock: StoreClock,
  files: FilePool
): Promise<Recovered> {
  const startedAt = performance.now()
  const { disk, path, store, log, segments } = folder
  const quarantine = new Quarantine(disk, path, log)
  const found = await findFiles(disk, path, store, log)
  for (const segment of found.segments) segments.add(segment)
  const { checkpoints } = folder.superblock
  const knownTicket = checkpoints[0]?.end.ticket ?? 0
  const parts = { files, store, owner, clock, quarantine, log }
  const replay = new Replay(parts, found.segments, knownTicket)
  const good: Checkpoint[] = []
  for (const checkpoint of checkpoints) {
    if (good.length > 0 || (await replay.isGood(checkpoint))) good.push(checkpoint)
    else log('error', 'a checkpoint is damaged: replay begins at the one before', {})
    if (checkpoint.end.segment >= segments.nextNumber)
      segments.nextNumber = checkpoint.end.segment + 1
    clock.newestWall = Math.max(clock.newestWall, checkpoint.newestWall)
  }
  await replay.run(good[0] ?? null)
  const { recovery } = replay
  for (const name of found.cutShort) {
    // What stood behind its end may have been acknowledged: no torn tail ends like this.
    recovery.damagedBatches++
    log('error', 'a segment of the journal was cut short, what stood behind its end is lost', {
      name
    })
  }
  const newest = good[0]
  if (newest !== undefined) clock.seen(newest.storeTime, newest.wallTime)
  recovery.isNew = found.segments.length === 0 && checkpoints.length === 0
  clock.start()
  await syncTail(folder, files)
  const spares = await clearUp(folder, found, quarantine)
  const isWhole = spares.length >= sparesOf(folder.limits.reserveSegments)
  const tail = isWhole
    ? null
    : await placeBehind(replay.end, segments, folder.segmentBytes, files, store)
  recovery.tookMs = performance.now() - startedAt
  return {
    recovery,
    lastTicket: Math.max(replay.lastTicket, knownTicket),
    epoch: Math.max(found.epoch, replay.epoch, checkpoints[0]?.epoch ?? 0) + 1,
    checkpoints: good,
    lastCounter: good[0]?.counter ?? checkpoints[0]?.counter ?? 0,
    spares,
    tail,
    nextSlot: found.nextSlot,
    logBytes: bytesSince(segments, good[0])
  }
}

function bytesSince(segments: SegmentTable, checkpoint: Checkpoint | undefined): number {
  let bytes = 0
  for (const segment of segments.byNumber.values()) {
    if (checkpoint === undefined || segment.number > checkpoint.begin.segment)
      bytes += segment.bytes
  }
  return bytes
}

/** What was replayed may only be in the kernel's memory: a killed process leaves it there. */
async function syncTail(folder: Folder, files: FilePool): Promise<void> {
  let lastSlot = null
  for (const segment of folder.segments.byNumber.values()) {
    if (segment.isOwnFile) continue
    if (lastSlot === null || segment.number > lastSlot.number) lastSlot = segment
  }
  for (const segment of folder.segments.byNumber.values()) {
    if (segment !== lastSlot && !segment.isOwnFile) continue
    const file = await files.acquire(segment.name)
    await file.datasync()
    await files.release(segment.name)
  }
  await folder.disk.syncFolder(folder.path)
}

/**
 * Free slots of the right size become spares; what makes no sense is copied and given up. A killed process may
 * have left a slot that it was making in the kernel's memory only: it is synced before it is used (journal.md §4).
 */
async function clearUp(
  folder: Folder,
  found: FoundFiles,
  quarantine: Quarantine
): Promise<string[]> {
  const { disk, path, segmentBytes, log } = folder
  const spares: string[] = []
  for (const { name, head } of found.unknown) {
    // Only zeros: a crash came while it was being made.
    if (head.some(byte => byte !== 0)) {
      log('warn', 'a file of the journal holds nothing that is intact', { name })
      await quarantine.keep(`unknown-${name}`, head)
    }
    await disk.unlink(join(path, name))
  }
  for (const name of found.free) {
    const file = await disk.open(join(path, name), 'read')
    const bytes = await file.size()
    if (bytes === segmentBytes) await file.datasync()
    await file.close()
    if (bytes === segmentBytes) spares.push(name)
    else await disk.unlink(join(path, name))
  }
  return spares
}
