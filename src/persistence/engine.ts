/** The life of a persistence's journal: opening, admission, waiting for the disk, closing. */
import { openJournal } from '../journal/log.ts'
import { AWAITED, LAZY, type Recovery } from '../journal/journal.ts'
import type { StoredClient } from './client.ts'
import { Context } from './context.ts'
import { PersistenceError } from './errors.ts'
import { Gate } from './gate.ts'
import { OWN } from './kinds.ts'
import {
  CACHE_BYTES,
  HOT_ENTRIES_MAX,
  HOT_ENTRIES_MIN,
  type PersistenceOptions,
  type PersistenceParts,
  warnOfErrors
} from './options.ts'
import { Owner } from './owner.ts'
import { writeClient } from './records.ts'
import { Spill } from './spill.ts'
import type { Store } from './store.ts'
import { writeText } from './values.ts'

/** Longer than anything that MQTT can carry, with room for what stands beside it. */
const RECORD_BYTES_MAX = 400 * 1024 * 1024

const RESOLVED = Promise.resolve()

export class Engine {
  readonly context: Context
  readonly spill: Spill
  readonly #options: PersistenceOptions
  readonly #parts: PersistenceParts
  readonly #gate = new Gate()
  #opening: Promise<void> | null = null
  #closing: Promise<void> | null = null
  #isOpen = false
  #failure: Error | null = null
  #flushing: Promise<void> | null = null

  constructor(options: PersistenceOptions, parts: PersistenceParts) {
    if (typeof options?.folder !== 'string' || options.folder === '') {
      throw new TypeError('a persistence needs a data folder: { folder: PATH }')
    }
    const { hotEntriesMax = HOT_ENTRIES_MAX } = options
    this.#options = options
    this.#parts = parts
    const log = options.log ?? warnOfErrors
    this.context = new Context(log, Math.max(HOT_ENTRIES_MIN, hotEntriesMax))
    this.spill = new Spill(this.context)
  }

  get store(): Store {
    return this.context.store
  }

  /** Opens the folder and replays it. Again: the same. Rejects with a JournalError: locked, foreign-folder, ... */
  open(): Promise<void> {
    if (this.#closing !== null) return Promise.reject(closedError())
    this.#opening ??= this.#open()
    return this.#opening
  }

  async #open(): Promise<void> {
    const { context } = this
    const { disk, clock, timers, random, limits } = this.#parts
    const owner = new Owner(context, this.#gate, error => this.#fail(error))
    const { recovery } = await openJournal({
      folder: this.#options.folder,
      kind: 'persistence',
      disk,
      clock,
      timers,
      random,
      owner,
      log: context.log,
      limits: { cacheBytes: this.#options.cacheBytes ?? CACHE_BYTES, ...limits },
      attach: journal => {
        context.journal = journal
      }
    })
    this.#isOpen = true
    this.#report(recovery)
    for (const client of [...this.store.clients.values()]) this.tidy(client)
    this.spill.noteAll(this.store.state.queues.values())
  }

  #report(recovery: Recovery): void {
    const { skippedRecords, damagedBatches } = recovery
    const isDamaged = skippedRecords > 0 || damagedBatches > 0
    this.context.log(isDamaged ? 'error' : 'info', 'the persistence is open', { ...recovery })
  }

  #fail(error: Error): void {
    this.#failure = error
    this.#gate.fail(failedError(error))
  }

  /** Throws unless calls may be made. */
  check(): void {
    if (!this.#isOpen || this.#closing !== null) throw closedError()
    if (this.#failure !== null || this.context.journal.failed) throw failedError(this.#failure)
  }

  /** Too much is on its way to the disk: what adds to it goes through `pass` first. */
  get mustWait(): boolean {
    return this.#gate.mustWait
  }

  pass(): Promise<void> {
    this.check()
    return this.#gate.pass()
  }

  /** Throws unless a record of so many bytes may be added. */
  checkRoom(bytes: number): void {
    this.check()
    const { journal } = this.context
    if (bytes > RECORD_BYTES_MAX) {
      throw new PersistenceError('not-storable', 'the packet is too large to be stored', { bytes })
    }
    if (journal.level === 'red' || !journal.hasRoomFor(bytes)) {
      const { folder } = this.#options
      throw new PersistenceError(
        'disk-full',
        `the disk is too full to store anything more; make room where ${folder} lies`,
        { folder, bytes }
      )
    }
  }

  /** Resolves when all that was appended so far is on the disk. What is called in one go waits for one promise. */
  durable(): Promise<void> {
    const { journal } = this.context
    if (journal.ticket <= journal.durableTicket && !journal.failed) return RESOLVED
    this.#flushing ??= this.#flush()
    return this.#flushing
  }

  async #flush(): Promise<void> {
    await RESOLVED
    this.#flushing = null
    const { journal } = this.context
    try {
      await journal.flush()
    } catch (error) {
      if (this.#failure !== null || journal.failed) throw failedError(this.#failure ?? error)
      throw closedError(error)
    }
  }

  /** What is kept of a client; made when there is nothing yet. */
  client(clientId: string): StoredClient {
    const known = this.store.clients.get(clientId)
    if (known !== undefined) return known
    const { context } = this
    const client = this.store.addClient(this.store.state.nextId, clientId)
    writeClient(context.begin(), client)
    context.append(OWN.client, LAZY)
    return client
  }

  /** Something of a client went: when that was the last, nothing is left of it. */
  tidy(client: StoredClient): void {
    if (client.isEnded || !client.isEmpty) return
    this.context.begin().varint(client.number)
    this.context.append(OWN.clientEnd, LAZY)
    this.store.endClient(client)
  }

  settle(client: StoredClient, kind: number, sequence: number): void {
    this.context.appendPair(kind, client.number, sequence, AWAITED)
    this.store.settle(client, sequence)
    this.tidy(client)
  }

  putCounter(brokerId: string, counter: number): void {
    const writer = this.context.begin()
    writeText(writer, brokerId)
    writer.varint(counter)
    this.context.append(OWN.counter, LAZY)
    this.store.setCounter(brokerId, counter)
  }

  /** Writes a checkpoint, syncs, unlocks. Idempotent; what was never opened has nothing to close. */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    if (this.#opening === null) return
    try {
      await this.#opening
    } catch {
      // Whoever opened it was told; nothing is open.
      return
    }
    this.#gate.fail(closedError())
    await this.context.journal.close()
  }
}

function closedError(cause?: unknown): PersistenceError {
  return new PersistenceError('closed', 'the persistence is not open', {}, cause)
}

function failedError(cause: unknown): PersistenceError {
  return new PersistenceError(
    'failed',
    'a write to the disk failed: nothing is stored any more until the process starts again',
    {},
    cause ?? undefined
  )
}
