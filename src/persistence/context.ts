/** What the parts of one persistence share, and how they append. */
import { ByteWriter } from '../lib/byte-writer.ts'
import { PAIR_BYTES_MAX, writePair } from '../core/records/settle.ts'
import type { Journal, Urgency } from '../journal/journal.ts'
import type { JournalLog } from '../journal/options.ts'
import { IndexCache } from './index-cache.ts'
import { Store } from './store.ts'

/** A writer that has grown beyond this is given up after its record. */
const KEPT_BYTES = 256 * 1024

export class Context {
  /** Set before replay begins. */
  journal!: Journal
  readonly store: Store
  readonly log: JournalLog
  /** Entries of all queues that are kept in memory, at most. */
  readonly hotEntriesMax: number
  readonly indexes = new IndexCache()
  writer = new ByteWriter()
  #packet = new ByteWriter()

  constructor(log: JournalLog, hotEntriesMax: number) {
    this.log = log
    this.hotEntriesMax = hotEntriesMax
    this.store = new Store({
      claim: (segment, bytes) => this.journal.claim(segment, bytes),
      release: (segment, bytes) => this.journal.release(segment, bytes)
    })
  }

  /** Another writer, empty, for a packet that is longer in the making than one record. */
  beginPacket(): ByteWriter {
    if (this.#packet.buffer.length > KEPT_BYTES) this.#packet = new ByteWriter()
    this.#packet.reset()
    return this.#packet
  }

  /** The writer, empty. */
  begin(): ByteWriter {
    if (this.writer.buffer.length > KEPT_BYTES) this.writer = new ByteWriter()
    this.writer.reset()
    return this.writer
  }

  /** Appends what stands in the writer. Returns the ticket; the journal has the position. */
  append(kind: number, urgency: Urgency): number {
    const { journal, writer } = this
    const at = journal.begin(writer.length)
    writer.buffer.copy(journal.buffer, at, 0, writer.length)
    return journal.end(kind, at + writer.length, urgency)
  }

  /** A record of a client's number and one more. */
  appendPair(kind: number, id: number, value: number, urgency: Urgency): number {
    const { journal } = this
    const at = journal.begin(PAIR_BYTES_MAX)
    return journal.end(kind, writePair(journal.buffer, at, id, value), urgency)
  }
}
