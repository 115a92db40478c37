/**
 * What is durable in a stream leaves the journal for the stream's own files, in batches: written there and synced,
 * then ended in its queue by one record. A crash between the two leaves it in both places, and the start ends
 * it again. So a stream pins no more of the journal than what came in the last seconds.
 */
import { NOTHING } from '../core/entries.ts'
import { messageBytesMax, writeMessage } from '../core/records/message.ts'
import { KIND } from '../core/records/kinds.ts'
import { writePurge } from '../core/records/settle.ts'
import type { Queue } from '../core/queue.ts'
import {
  type BlockWaiter,
  LAZY,
  type NewBlock,
  type Recovery,
  STREAM_HEADER_BYTES
} from '../journal/journal.ts'
import { DAMAGED, load, NOT_LOADED, view } from './bodies.ts'
import { append } from './append.ts'
import type { Broker, StreamMoves } from './broker.ts'
import { Stream, type StreamMover } from './stream.ts'

/** With so much waiting a stream's messages are moved at once ... */
const MOVE_BYTES = 256 * 1024
const MOVE_COUNT = 2_048
/** ... else after this, milliseconds: each move is a sync, and takes a page at least. */
const MOVE_IDLE_MS = 60_000
/** After one that failed, or found the disk full. */
const MOVE_RETRY_MS = 5_000
/** In one move. */
const BATCH_BYTES = 1024 * 1024
/** Of a file's block, unless one message alone is larger. */
const BLOCK_BYTES = 64 * 1024
/** A block has messages of so much time, milliseconds: who begins at a time begins at a block. */
const BLOCK_MS = 1_000
const SEGMENT_BYTES = 16 * 1024 * 1024
const SEGMENT_BYTES_MIN = 4 * 1024
/** Of the bytes that may be kept, a file has this part at most: what leaves, leaves by the file. */
const SEGMENTS_KEPT = 8
/** What waits for the files of all streams: publishers are held, then refused. */
const CROWDED_BYTES = 32 * 1024 * 1024
const WAITING_BYTES_MAX = 128 * 1024 * 1024
/** What an entry costs beside its payload. */
const ENTRY_BYTES = 64

const NONE: ReadonlySet<number> = new Set()

/** After replay, before anybody connects. */
export function startStreams(broker: Broker): void {
  for (const queue of broker.state.queues.values()) {
    if (queue.options.type !== 'stream' || queue.isSession) continue
    if (broker.streamFiles === null) throw new Error('there are streams, and no files of theirs')
    startStream(broker, queue).wake()
  }
  ;(broker.streams as Streams | null)?.count()
}

/** A queue that was declared, or replayed, as a stream. */
export function startStream(broker: Broker, queue: Queue): MovedStream {
  const streams = (broker.streams as Streams | null) ?? new Streams(broker)
  broker.streams = streams
  const log = broker.streamFiles!.logOf(queue.id)
  log.cutTornEnd((from, to) => {
    const waiting = queue.after(from - 1)
    return waiting !== NOTHING && waiting <= to
  })
  if (queue.nextSequence <= log.last) queue.nextSequence = log.last + 1
  const stream = new MovedStream(broker, queue, log, streams)
  streams.all.add(stream)
  queue.stream = stream
  return stream
}

/**
 * Files of streams that no queue is the owner of: a crash came while they were removed. They stay where records of
 * the journal were lost: it may be the queue that is missing.
 */
export async function removeOrphans(broker: Broker, recovery: Recovery): Promise<void> {
  const files = broker.streamFiles
  if (files === null) return
  const orphans = files.ids().filter(id => broker.state.queues.get(id)?.stream == null)
  if (orphans.length === 0) return
  if (recovery.damagedBatches + recovery.skippedRecords > 0) {
    const fields = { streams: orphans.length }
    broker.log.warn(fields, 'files of streams that are not known stay: records were lost')
    return
  }
  for (const id of orphans) await files.logOf(id).remove()
}

class MovedStream extends Stream {
  /** What the journal still has of it and the files as well is ended. */
  wake(): void {
    const { broker, queue, log } = this
    queue.mayExpire = false
    if (queue.after(0) !== NOTHING && queue.after(0) <= log.last) endMoved(broker, queue, log.last)
    this.onOptions()
  }

  /** Something durable is not in the files yet. */
  get isBehind(): boolean {
    const next = this.queue.after(this.log.last)
    return next !== NOTHING && next <= this.durable
  }

  get isMuch(): boolean {
    return this.waiting >= MOVE_BYTES || this.queue.readyCount >= MOVE_COUNT
  }

  /** In bytes: what waits for the files. */
  get waiting(): number {
    return this.queue.readyBytes + this.queue.readyCount * ENTRY_BYTES
  }

  /** What was moved is not to be moved again. */
  async move(): Promise<void> {
    const { broker, queue, log, times } = this
    const { segmentBytesMax, bytesMax } = queue.options
    let segmentBytes = SEGMENT_BYTES
    if (bytesMax >= 0)
      segmentBytes = Math.min(segmentBytes, Math.max(BLOCK_BYTES, bytesMax / SEGMENTS_KEPT))
    if (segmentBytesMax >= 0) {
      segmentBytes = Math.min(segmentBytes, Math.max(SEGMENT_BYTES_MIN, segmentBytesMax))
    }
    const batch = new Batch(this, Math.min(BLOCK_BYTES, segmentBytes))
    await batch.gather()
    if (batch.blocks.length > 0) await log.append(batch.blocks, segmentBytes)
    if (queue.isDeleted) {
      await log.remove()
      return
    }
    const upTo = Math.max(batch.upTo, log.last)
    if (queue.after(0) !== NOTHING && queue.after(0) <= upTo) endMoved(broker, queue, upTo)
    times.forget(upTo)
    await this.trim()
  }

  async trim(): Promise<void> {
    const { bytesMax, maxAgeMs } = this.queue.options
    const oldest = maxAgeMs < 0 ? Number.NEGATIVE_INFINITY : this.broker.nowMs - maxAgeMs
    await this.log.trim(bytesMax, oldest)
  }
}

/** Ends what lies in the files. */
function endMoved(broker: Broker, queue: Queue, upTo: number): void {
  broker.state.purge(queue, upTo, NONE)
  if (broker.journal.failed) return
  writePurge(broker.writer, queue.id, upTo, NONE)
  append(broker, KIND.purge, LAZY)
}

/** The messages of one move, as blocks. */
class Batch implements BlockWaiter {
  readonly blocks: NewBlock[] = []
  /** The last that was gathered, or given up. */
  upTo = 0
  readonly #stream: MovedStream
  readonly #blockBytes: number
  #buffer: Buffer = Buffer.alloc(0)
  #at = 0
  #first = 0
  #count = 0
  #wallTime = 0
  #storeTime = 0
  #bytes = 0
  #isDamaged = false
  #onBlock: () => void = () => undefined

  constructor(stream: MovedStream, blockBytes: number) {
    this.#stream = stream
    this.#blockBytes = blockBytes
  }

  async gather(): Promise<void> {
    const { broker, queue, log, durable } = this.#stream
    let sequence = queue.after(log.last)
    while (sequence !== NOTHING && sequence <= durable && this.#bytes < BATCH_BYTES) {
      const { segment, offset } = queue
      const found = view(broker, segment, offset)
      if (found === NOT_LOADED && !this.#isDamaged) {
        await this.#load(segment, offset)
        if (queue.isDeleted) break
        sequence = queue.after(sequence - 1)
        continue
      }
      if (found === DAMAGED || found === NOT_LOADED) {
        broker.counters.dropFrom(queue, 'damaged')
        broker.log.error({ queue: queue.name, sequence }, 'a message is damaged on the disk')
      } else this.#add(sequence)
      this.#isDamaged = false
      this.upTo = sequence
      sequence = queue.after(sequence)
    }
    this.#endBlock()
  }

  #load(segment: number, offset: number): Promise<void> {
    return new Promise(resolve => {
      this.#onBlock = resolve
      load(this.#stream.broker, segment, offset, this)
    })
  }

  onBlock(_segment: number, _offset: number, ok: boolean): void {
    this.#isDamaged = !ok
    this.#onBlock()
  }

  /** The message that was viewed last. */
  #add(sequence: number): void {
    const { broker, times } = this.#stream
    const message = broker.stored
    const bytesMax = 4 + messageBytesMax(message)
    const mark = times.of(sequence)
    const wallTime = mark?.wallTime ?? broker.clock.wallMs()
    const isNext = sequence === this.#first + this.#count
    const isFull = this.#at + bytesMax > this.#buffer.length
    const span = wallTime - this.#wallTime
    if (!isNext || isFull || span >= BLOCK_MS || span < 0) {
      this.#endBlock()
      this.#buffer = Buffer.allocUnsafe(STREAM_HEADER_BYTES + Math.max(this.#blockBytes, bytesMax))
      this.#at = STREAM_HEADER_BYTES
      this.#first = sequence
      this.#wallTime = wallTime
      this.#storeTime = mark?.storeTime ?? broker.nowMs
    }
    const end = writeMessage(this.#buffer, this.#at + 4, message, 0, 0, '')
    this.#buffer.writeUInt32BE(end - this.#at - 4, this.#at)
    this.#bytes += end - this.#at
    this.#at = end
    this.#count++
  }

  #endBlock(): void {
    if (this.#count === 0) return
    this.blocks.push({
      first: this.#first,
      count: this.#count,
      wallTime: this.#wallTime,
      storeTime: this.#storeTime,
      buffer: this.#buffer.subarray(0, this.#at)
    })
    this.#count = 0
  }
}

class Streams implements StreamMover, StreamMoves {
  isCrowded = false
  readonly all = new Set<MovedStream>()
  readonly #broker: Broker
  /** Something durable waits in them. */
  readonly #waiting = new Set<MovedStream>()
  /** Of all of them, in bytes; exact after each move. */
  #bytes = 0
  #running: Promise<void> | null = null
  #timer: NodeJS.Timeout | null = null
  /** The last move failed. */
  #isFailing = false
  #isClosing = false
  /** Little is moved, too. */
  #isAll = false

  constructor(broker: Broker) {
    this.#broker = broker
  }

  mayTake(bytes: number): boolean {
    if (this.#bytes > WAITING_BYTES_MAX) return false
    this.#bytes += bytes + ENTRY_BYTES
    if (!this.isCrowded && this.#bytes > CROWDED_BYTES && !this.#isFailing) this.#crowd(true)
    return true
  }

  #crowd(isCrowded: boolean): void {
    if (this.isCrowded === isCrowded) return
    this.isCrowded = isCrowded
    this.#broker.judgePause()
  }

  onDurable(stream: Stream): void {
    const moved = stream as MovedStream
    this.#waiting.add(moved)
    if (moved.isMuch || this.isCrowded) this.#run()
    else this.#runLater()
  }

  /** Its bounds may be others: what is beyond them goes with the next move. */
  onOptions(stream: Stream): void {
    this.#waiting.add(stream as MovedStream)
    this.#runLater()
  }

  /** Its files go when nothing can bring it back. */
  onEnd(stream: Stream, ticket: number): void {
    this.#waiting.delete(stream as MovedStream)
    this.all.delete(stream as MovedStream)
    const broker = this.#broker
    const onTurnEnd = (): void => {
      if (broker.journal.failed) return
      if (broker.journal.durableTicket < ticket) broker.untilDurable.add({ onTurnEnd })
      else void this.#remove(stream)
    }
    onTurnEnd()
  }

  async #remove(stream: Stream): Promise<void> {
    try {
      await stream.log.remove()
    } catch (err) {
      this.#broker.log.error({ err, queue: stream.queue.name }, 'files of a stream are left behind')
    }
  }

  #runLater(ms = MOVE_IDLE_MS): void {
    if (this.#timer !== null || this.#isClosing) return
    this.#timer = setTimeout(() => {
      this.#timer = null
      this.#run()
    }, ms).unref()
  }

  #run(): void {
    if (this.#isFailing && this.#timer !== null && !this.#isAll) return
    this.#running ??= this.#move().finally(() => {
      this.#running = null
    })
  }

  async #move(): Promise<void> {
    const later: MovedStream[] = []
    for (const stream of this.#waiting) {
      // The disk is full: nothing comes, and what is durable can be read where it is.
      if (this.#broker.diskAlarm) {
        this.#runLater(MOVE_RETRY_MS)
        return
      }
      this.#waiting.delete(stream)
      if (stream.queue.isDeleted) continue
      try {
        await stream.move()
        this.#isFailing = false
      } catch (err) {
        this.#failed(stream, err)
        return
      }
      this.count()
      if (stream.queue.isDeleted || !stream.isBehind) continue
      if (stream.isMuch || this.#isAll) this.#waiting.add(stream)
      else later.push(stream)
    }
    for (const stream of later) this.#waiting.add(stream)
    if (later.length > 0) this.#runLater()
  }

  #failed(stream: MovedStream, err: unknown): void {
    const { name } = stream.queue
    this.#broker.log.error({ err, queue: name }, 'a stream cannot be written: it is tried again')
    this.#isFailing = true
    this.#waiting.add(stream)
    // Nobody is held for what may last: publishers to streams are refused when too much waits.
    this.#crowd(false)
    this.#runLater(MOVE_RETRY_MS)
  }

  count(): void {
    let bytes = 0
    for (const stream of this.all) bytes += stream.waiting
    this.#bytes = bytes
    if (bytes < CROWDED_BYTES / 2) this.#crowd(false)
  }

  async flush(): Promise<void> {
    // What runs may have begun before the last messages were durable.
    await this.#running
    if (this.#broker.journal.failed) return
    this.#isAll = true
    this.#run()
    await this.#running
    this.#isAll = false
  }

  async close(): Promise<void> {
    this.#isClosing = true
    await this.flush()
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
    await this.#broker.streamFiles?.close()
  }
}
