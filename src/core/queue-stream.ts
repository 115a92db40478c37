/** What a queue that is a stream has beside its entries. */

/** The messages of a stream that have left for its files, and its readers: see broker/stream.ts. */
export interface QueueStream {
  /** Messages in all. */
  readonly count: number
  readonly bytes: number
  /** A message of so many bytes may come; false: it is refused. */
  mayTake(bytes: number): boolean
  /** One has come, by the record that the journal ended last. */
  onStored(): void
  onOptions(): void
  /** Its queue is gone, by the record of this ticket. */
  end(ticket: number): void
}
