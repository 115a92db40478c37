/** Takes sealed batches to their file: those that stand behind each other go in one write. */
import type { Batch } from './batch.ts'
import type { DiskFile } from './disk.ts'
import type { JournalStats } from './journal.ts'
import { JournalError } from './journal-error.ts'

/** They stand behind each other in their segment: one write takes them all. */
export function isOneRun(batches: readonly Batch[]): boolean {
  for (let i = 1; i < batches.length; i++) {
    if (batches[i]!.offset !== batches[i - 1]!.offset + batches[i - 1]!.bytes) return false
  }
  return true
}

/** `isSynced`: each write is its own sync. A write that is cut short is an error, as nothing may stand behind a gap. */
export async function writeRuns(
  file: DiskFile,
  batches: readonly Batch[],
  isSynced: boolean,
  stats: JournalStats
): Promise<void> {
  let buffers: Buffer[] = []
  let from = 0
  let bytes = 0
  for (let i = 0; i < batches.length; i++) {
    const batch = batches[i]!
    if (bytes === 0) from = batch.offset
    buffers.push(batch.block.buffer.subarray(batch.start, batch.paddedEnd))
    bytes += batch.bytes
    if (batches[i + 1]?.offset === from + bytes) continue
    const count = await (isSynced ? file.writeSynced(buffers, from) : file.write(buffers, from))
    if (count !== bytes) {
      throw new JournalError('failed', 'a write was cut short', { wanted: bytes, written: count })
    }
    stats.bytesWritten += bytes
    buffers = []
    bytes = 0
  }
}
