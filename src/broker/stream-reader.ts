/** Who reads a stream, and where it stands. */
import type { StreamBlock, StreamPlace } from '../journal/journal.ts'
import type { Consumer } from './consumer.ts'

/** What gets the messages of a stream, each in its order; acknowledging gives credit and nothing more. */
export interface StreamReader extends Consumer {
  readonly cursor: StreamCursor
}

/** Where a consumer begins: RabbitMQ's `x-stream-offset`. */
export type StreamStart =
  | { readonly from: 'first' }
  | { readonly from: 'last' }
  | { readonly from: 'next' }
  | { readonly from: 'offset'; readonly offset: number }
  /** Wall time, milliseconds. */
  | { readonly from: 'time'; readonly time: number }

export class StreamCursor {
  readonly start: StreamStart
  /** The message that it gets next: its offset is one less. 0: where it begins is not known yet. */
  next = 0
  /** Something is read from the disk for it. */
  isLoading = false
  /** The block that was read for it, until it has gone on. */
  loaded: StreamBlock | null = null
  /** The block in which it stands, by its first message; 0 = none. */
  blockFirst = 0
  /** Where the next block may lie. */
  place: StreamPlace | null = null
  /** In the block: the message at `at`, which is `number`. */
  at = 0
  number = 0

  constructor(start: StreamStart) {
    this.start = start
  }

  enter(block: StreamBlock): void {
    this.blockFirst = block.first
    this.place = block.place
    this.at = block.start
    this.number = block.first
    // What is missing between two blocks was damaged.
    if (this.next < block.first) this.next = block.first
  }

  leave(block: StreamBlock): void {
    this.blockFirst = 0
    this.place = block.next
  }
}
