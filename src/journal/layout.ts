/** The sizes that give the journal's files their shape; `batch.ts` says what lies in them. */
export const PAGE_BYTES = 4096
export const BLOCK_BYTES = 65_536
export const BLOCK_SHIFT = 16
export const BATCH_HEADER_BYTES = 64
export const RECORD_HEADER_BYTES = 5
/** A record with a longer body is a batch of its own. */
export const SMALL_RECORD_BYTES = 32_768
/** Bytes of the random name by which a store knows its own batches. */
export const STORE_BYTES = 8

export function roundUpToPage(bytes: number): number {
  return Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES
}
