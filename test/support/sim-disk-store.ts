/**
 * A toy owner of a journal: messages with a number, put and settled. Small enough to know at any time what
 * must be there: the state after a restart must be the state after some prefix of the operations, at least
 * as long as what was reported durable, and every message must be readable, byte by byte.
 */
import type { BlockWaiter, DiskLevel, Journal, JournalOwner } from '../../src/journal/journal.ts'
import { AWAITED, LAZY, type Urgency } from '../../src/journal/journal.ts'
import { openJournal } from '../../src/journal/log.ts'
import type { JournalLimits, JournalTimers } from '../../src/journal/options.ts'
import type { Disk } from '../../src/journal/disk.ts'
import { isFreePage, SLOT_NAME } from '../../src/journal/slots.ts'
import type { SimulatedDisk } from './simulated-disk.ts'

const PUT = 8
const SETTLE = 9
const OBJECTS = 10

export interface Message {
  segment: number
  offset: number
  bytes: number
}

interface Operation {
  ticket: number
  id: number
  isPut: boolean
}

const OBJECTS_A_STEP = 50

/** The body of a message follows from its number. */
export function fillBody(buffer: Buffer, start: number, id: number, bytes: number): void {
  buffer.writeUInt32LE(id, start)
  for (let i = 4; i < bytes; i++) buffer[start + i] = (id * 31 + i * 7 + (i >>> 8)) & 0xff
}

export function isBody(buffer: Buffer, start: number, end: number, id: number): boolean {
  if (buffer.readUInt32LE(start) !== id) return false
  for (let i = 4; i < end - start; i++) {
    if (buffer[start + i] !== ((id * 31 + i * 7 + (i >>> 8)) & 0xff)) return false
  }
  return true
}

export class ToyStore implements JournalOwner {
  journal!: Journal
  readonly messages = new Map<number, Message>()
  readonly operations: Operation[] = []
  durable = 0
  isFull = false
  fullCount = 0
  level: DiskLevel = 'green'
  levels: DiskLevel[] = []
  failures: Error[] = []
  durableAfterFailure = false
  #ids: number[] = []
  #next = 0

  put(id: number, bytes: number, urgency: Urgency = AWAITED): number {
    const { journal } = this
    const at = journal.begin(bytes)
    fillBody(journal.buffer, at, id, bytes)
    const ticket = journal.end(PUT, at + bytes, urgency)
    this.#place(id, journal.segment, journal.offset, bytes)
    this.operations.push({ ticket, id, isPut: true })
    return ticket
  }

  settle(id: number, urgency: Urgency = LAZY): number {
    const { journal } = this
    const at = journal.begin(4)
    journal.buffer.writeUInt32LE(id, at)
    const ticket = journal.end(SETTLE, at + 4, urgency)
    this.#forget(id)
    this.operations.push({ ticket, id, isPut: false })
    return ticket
  }

  #place(id: number, segment: number, offset: number, bytes: number): void {
    this.#forget(id)
    this.messages.set(id, { segment, offset, bytes })
    this.journal.claim(segment, bytes)
  }

  #forget(id: number): boolean {
    const old = this.messages.get(id)
    if (old === undefined) return false
    this.journal.release(old.segment, old.bytes)
    return this.messages.delete(id)
  }

  apply(
    kind: number,
    buffer: Buffer,
    start: number,
    end: number,
    segment: number,
    offset: number
  ): boolean {
    if (kind === SETTLE) return this.#forget(buffer.readUInt32LE(start))
    if (kind === PUT) {
      this.#place(buffer.readUInt32LE(start), segment, offset, end - start)
      return true
    }
    if (kind !== OBJECTS) return false
    for (let at = start; at < end; at += 16) {
      const number = buffer.readUInt32LE(at + 4)
      const place = buffer.readUInt32LE(at + 8)
      this.#place(buffer.readUInt32LE(at), number, place, buffer.readUInt32LE(at + 12))
    }
    return true
  }

  checkpointStep(first: boolean): boolean {
    const { journal } = this
    if (first) {
      this.#ids = [...this.messages.keys()]
      this.#next = 0
    }
    const at = journal.begin(16 * OBJECTS_A_STEP)
    let end = at
    for (let i = 0; i < OBJECTS_A_STEP && this.#next < this.#ids.length; this.#next++) {
      const id = this.#ids[this.#next]!
      const message = this.messages.get(id)
      if (message === undefined) continue
      journal.buffer.writeUInt32LE(id, end)
      journal.buffer.writeUInt32LE(message.segment, end + 4)
      journal.buffer.writeUInt32LE(message.offset, end + 8)
      journal.buffer.writeUInt32LE(message.bytes, end + 12)
      end += 16
      i++
    }
    if (end === at) journal.abandon()
    else journal.end(OBJECTS, end, LAZY)
    return this.#next < this.#ids.length
  }

  compact(
    kind: number,
    buffer: Buffer,
    start: number,
    end: number,
    segment: number,
    offset: number
  ): boolean {
    if (kind !== PUT) return true
    const id = buffer.readUInt32LE(start)
    const message = this.messages.get(id)
    if (message?.segment !== segment || message.offset !== offset) return true
    const { journal } = this
    const at = journal.begin(end - start)
    buffer.copy(journal.buffer, at, start, end)
    journal.end(PUT, at + end - start, LAZY)
    this.#place(id, journal.segment, journal.offset, end - start)
    return true
  }

  onDurable(ticket: number): void {
    if (this.failures.length > 0) this.durableAfterFailure = true
    this.durable = ticket
  }

  onBackpressure(full: boolean): void {
    this.isFull = full
    if (full) this.fullCount++
  }

  onDiskLevel(level: DiskLevel): void {
    this.level = level
    this.levels.push(level)
  }

  onFailure(error: Error): void {
    this.failures.push(error)
  }

  /** What must be there after exactly the operations up to a ticket. */
  idsAfter(ticket: number): Set<number> {
    const ids = new Set<number>()
    for (const operation of this.operations) {
      if (operation.ticket > ticket) break
      if (operation.isPut) ids.add(operation.id)
      else ids.delete(operation.id)
    }
    return ids
  }

  /** Reads a message, from memory or from the disk, and compares every byte. */
  async read(id: number): Promise<'right' | 'wrong' | 'lost'> {
    const { segment, offset } = this.messages.get(id)!
    const { journal } = this
    if (!journal.view(segment, offset)) {
      const ok = await new Promise<boolean>(resolve => {
        const waiter: BlockWaiter = {
          onBlock: (number, place, isThere) => resolve(isThere && journal.view(number, place))
        }
        journal.load(segment, offset, waiter)
      })
      if (!ok || !journal.view(segment, offset)) return 'lost'
    }
    return isBody(journal.viewBuffer, journal.viewStart, journal.viewEnd, id) ? 'right' : 'wrong'
  }
}

/** Timers that run when the test says so. */
export class TestTimers implements JournalTimers {
  now = 0
  readonly armed = new Map<object, { at: number; callback: () => void }>()

  set(callback: () => void, milliseconds: number): object {
    const timer = {}
    this.armed.set(timer, { at: this.now + milliseconds, callback })
    return timer
  }

  clear(timer: unknown): void {
    this.armed.delete(timer as object)
  }

  advance(milliseconds: number): void {
    this.now += milliseconds
    for (const [timer, { at, callback }] of [...this.armed]) {
      if (at > this.now || !this.armed.delete(timer)) continue
      callback()
    }
  }
}

export const FOLDER = '/store'
const STORE = Buffer.alloc(8, 0xa5)

export interface OpenOptions {
  limits?: Partial<JournalLimits>
  timers?: TestTimers
  wallMs?: () => number
  logged?: { level: string; message: string; fields: Readonly<Record<string, unknown>> }[]
  store?: ToyStore
  folder?: string
}

export const SMALL_LIMITS: Partial<JournalLimits> = {
  segmentBytes: 256 * 1024,
  cacheBytes: 512 * 1024,
  checkpointBytes: 256 * 1024,
  deadBytesMax: 256 * 1024,
  reserveSegments: 2,
  yellowFreeBytes: 1,
  redFreeBytes: 1
}

export async function openToy(disk: Disk, options: OpenOptions = {}) {
  const store = options.store ?? new ToyStore()
  const timers = options.timers ?? new TestTimers()
  const { journal, recovery } = await openJournal({
    folder: options.folder ?? FOLDER,
    disk,
    owner: store,
    clock: { monotonicMs: () => timers.now, wallMs: options.wallMs ?? (() => 1000 + timers.now) },
    random: bytes => Buffer.alloc(bytes, 0xa5),
    limits: { ...SMALL_LIMITS, ...options.limits },
    timers,
    log: (level, message, fields) => options.logged?.push({ level, message, fields }),
    attach: opened => {
      store.journal = opened
    }
  })
  return { store, journal, recovery, timers }
}

/** Takes the prepared slots away, as a full disk has none: the next start goes on in the last segment. */
export function dropSpares(disk: SimulatedDisk): void {
  for (const path of disk.paths()) {
    if (SLOT_NAME.test(path.slice(FOLDER.length + 1)) && isFreePage(disk.bytesOf(path), STORE)) {
      disk.remove(path)
    }
  }
}

/** Lets everything that is ready run, for so many turns of the event loop. */
export async function turns(count = 10): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise<void>(resolve => setImmediate(resolve))
}
